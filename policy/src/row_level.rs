//! Rows of single subjects in answers: only where a column has the use `output`, and then only rows that enough subjects share
//! (k-anonymity), and only so many a day.
//!
//! ```toml
//! row_level = { k = 5, over = ["region", "age_band"], rows_per_day = 10000 }
//! ```
//! `over` names the columns by which somebody could be recognised; they count whether or not an answer shows them. Without it, all columns of the dataset that stand in the answer
//! count as such: a department that says nothing gets the strictest reading. k-anonymity does not keep two answers from being compared;
//! that is what the quota bounds.
//!
//! Source: Samarati, "Protecting respondents' identities in microdata release" (IEEE TKDE, 2001).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::agreement::FLOOR_OF_MINIMUM_SUBJECTS;
use crate::authorize::DatasetPermit;
use crate::{ColumnRule, Use};

/// How many rows a day where nothing is stated.
pub const DEFAULT_ROWS_PER_DAY: u64 = 10_000;

/// What an agreement says of rows of single subjects of a dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowLevel {
    /// How many distinct subjects share each row that is shown; absent means the agreement's `minimum_subjects`.
    #[serde(default)]
    pub k: Option<u32>,
    /// The columns whose values they share; absent means all of the dataset's that stand in the answer.
    #[serde(default)]
    pub over: Option<BTreeSet<String>>,
    /// How many rows answers may hold in all, per UTC day; absent means [`DEFAULT_ROWS_PER_DAY`].
    #[serde(default)]
    pub rows_per_day: Option<u64>,
}

impl RowLevel {
    /// Whether somebody could be recognised by a column's values.
    #[must_use]
    pub fn is_over(&self, column: &str) -> bool {
        self.over.as_ref().is_none_or(|over| over.contains(column))
    }

    /// For people, where `minimum` is the agreement's least number of subjects.
    #[must_use]
    pub fn in_words(&self, minimum: u32) -> String {
        let shared =
            self.over.as_ref().map_or_else(|| "every value shown".into(), |over| over.iter().cloned().collect::<Vec<_>>().join(", "));
        let (k, most) = (self.k.unwrap_or(minimum), self.rows_per_day.unwrap_or(DEFAULT_ROWS_PER_DAY));
        format!("rows of single subjects only where at least {k} share {shared}, and at most {most} of them a day")
    }

    /// What is wrong with it in a dataset with these columns, and what to do. `out` says that its pseudonym may be put out.
    pub(crate) fn faults(&self, columns: &BTreeMap<String, ColumnRule>, out: bool) -> Vec<(String, &'static str)> {
        if *self == Self::default() {
            return Vec::new();
        }
        let mut faults = Vec::new();
        if !out && columns.values().all(|rule| !rule.uses.contains(&Use::Output)) {
            faults.push(("no column has the use 'output', so it says nothing".into(), "leave row_level out, or permit a column's output"));
        }
        if self.k.is_some_and(|k| k < FLOOR_OF_MINIMUM_SUBJECTS) {
            faults.push((format!("k is less than {FLOOR_OF_MINIMUM_SUBJECTS}, the least allowed"), "raise it"));
        }
        if self.rows_per_day == Some(0) {
            faults.push(("0 rows a day permit nothing".into(), "remove the use 'output', or raise it"));
        }
        let over = self.over.iter().flatten();
        let unknown = over.filter(|column| columns.get(*column).is_none_or(|rule| !rule.uses.contains(&Use::Output)));
        faults.extend(unknown.map(|column| {
            let cause = format!("over names '{column}', which is no column with the use 'output'");
            (cause, "name the columns that answers may show and by which somebody could be recognised")
        }));
        if self.over.as_ref().is_some_and(BTreeSet::is_empty) {
            faults.push(("over names no column".into(), "name at least one, or leave it out: then all columns count"));
        }
        faults
    }
}

impl DatasetPermit {
    /// How many distinct subjects share each row of its subjects that is shown.
    #[must_use]
    pub fn row_level_k(&self) -> u32 {
        self.dataset.row_level.k.unwrap_or(self.minimum_subjects)
    }

    /// How many such rows answers may hold, per UTC day.
    #[must_use]
    pub fn row_level_rows_per_day(&self) -> u64 {
        self.dataset.row_level.rows_per_day.unwrap_or(DEFAULT_ROWS_PER_DAY)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::AGREEMENT;
    use crate::{Agreement, Problem};

    fn with(row_level: &str, output: bool) -> Result<Agreement, Vec<Problem>> {
        let text = AGREEMENT.replacen("[dataset.columns]\n", &format!("row_level = {row_level}\n[dataset.columns]\n"), 1);
        Agreement::parse(&if output { text.replace("\"group_by\", \"filter\"", "\"group_by\", \"filter\", \"output\"") } else { text })
    }

    #[test]
    fn what_is_not_stated_is_read_strictly() {
        let stated = with("{ k = 5, over = [\"region\"], rows_per_day = 7 }", true).unwrap().datasets.remove(0).row_level;
        assert!(stated.is_over("region") && !stated.is_over("score"));
        assert_eq!(stated.in_words(10), "rows of single subjects only where at least 5 share region, and at most 7 of them a day");
        let silent = Agreement::parse(AGREEMENT).unwrap().datasets.remove(0).row_level;
        assert!(silent.is_over("region") && silent.is_over("score"));
        let words = "rows of single subjects only where at least 10 share every value shown, and at most 10000 of them a day";
        assert_eq!(silent.in_words(10), words);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (row_level, output, cause) in [
            ("{ k = 5 }", false, "says nothing"),
            ("{ k = 2 }", true, "k is less than 3"),
            ("{ rows_per_day = 0 }", true, "0 rows a day"),
            ("{ over = [] }", true, "over names no column"),
            ("{ over = [\"region\", \"score\"] }", true, "over names 'score', which is no column with the use 'output'"),
            ("{ over = [\"absent\"] }", true, "over names 'absent'"),
            ("{ rows = 3 }", true, "unknown field"),
        ] {
            let problems = with(row_level, output).unwrap_err();
            assert!(
                problems.iter().any(|problem| problem.cause.contains(cause) && !problem.remedy.is_empty()),
                "{row_level}: {problems:?}"
            );
        }
    }
}
