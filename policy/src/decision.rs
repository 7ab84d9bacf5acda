//! A permitted statement in a form that a log may keep: which tables under which agreement, which uses of which columns, which
//! rules. What `explain` says before a query and what `why` says of it later are the words of this module.

mod rule;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::rule::{Rule, Whose};
use crate::{Basis, ColumnUses, Dataset, Name, Permit};

/// Why the law lets a table be used, without the text of a power or of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BasisKind {
    /// Consent.
    Consent,
    /// A power.
    Statutory,
    /// A power, and a subject's objection is honoured.
    StatutoryHonouringObjections,
}

impl From<&Basis> for BasisKind {
    fn from(basis: &Basis) -> Self {
        match basis {
            Basis::Consent { .. } => Self::Consent,
            Basis::Statutory { honours_objections: true, .. } => Self::StatutoryHonouringObjections,
            Basis::Statutory { honours_objections: false, .. } => Self::Statutory,
        }
    }
}

impl BasisKind {
    /// The word that the log and programs use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consent => "consent",
            Self::Statutory => "statutory",
            Self::StatutoryHonouringObjections => "statutory_honouring_objections",
        }
    }
}

impl fmt::Display for BasisKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Consent => "people agreed",
            Self::Statutory => "a power of the law; objections are not honoured",
            Self::StatutoryHonouringObjections => "a power of the law; objections are honoured",
        })
    }
}

/// One table that a statement reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// `department.dataset`.
    pub dataset: String,
    /// The agreement that permits it.
    pub agreement: Name,
    /// Why the law allows it.
    pub basis: BasisKind,
    /// Which rows the agreement is about, in words; `None` for every row. A log's entry is bounded, so it is never long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<String>,
    /// Which of the columns that are used are coded and how, in words; `None` for none. Bounded like `rows`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coded: Option<String>,
}

/// What an answer states of the rules that were at work, for people. All depend on the statement alone, never on the data: they say what
/// rule was at work, not that it met anybody.
#[must_use]
pub fn stated(rules: &[Rule], tables: &[Table], minimum: u32) -> Vec<String> {
    let mut said = Vec::new();
    if rules.iter().any(|rule| matches!(rule, Rule::SmallGroupsLeftOut)) {
        said.push(format!(
            "groups of fewer than {minimum} distinct subjects whose keys are in no published list, if there are any, are left out, of totals too"
        ));
    }
    if rules.iter().any(|rule| matches!(rule, Rule::ConditionsOnWithheld)) {
        said.push(
            "a condition on a withheld value is neither true nor false: such rows are not in the answer, nor in its totals".to_owned(),
        );
    }
    // What an analyst needs for an interval around a value.
    let exactness = |rule: &&Rule| matches!(rule, Rule::Rounded { .. } | Rule::Perturbed { .. });
    said.extend(rules.iter().filter(exactness).map(Rule::says));
    let few = rules.iter().filter(|rule| matches!(rule, Rule::RowsOfFewLeftOut { .. }));
    said.extend(few.map(ToString::to_string));
    let coded = tables.iter().filter_map(|table| Some((&table.dataset, table.coded.as_ref()?)));
    said.extend(coded.map(|(dataset, coded)| format!("values of {dataset} are coded at their department: {coded}")));
    said
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} under the agreement '{}': {}", self.dataset, self.agreement, self.basis)?;
        self.rows.iter().try_for_each(|rows| write!(f, "; only rows where {rows}"))?;
        self.coded.iter().try_for_each(|coded| write!(f, "; coded: {coded}"))
    }
}

/// The longest words about rows.
const MAX_WORDS: usize = 500;

fn rows_in_brief(dataset: &Dataset) -> Option<String> {
    let words = dataset.rows_in_words()?;
    Some(if words.len() > MAX_WORDS { "a condition holds, which the agreement states in full".into() } else { words })
}

/// `income below 0 as 0, above 100000 as 100000` for each column that is used and coded.
fn coded_in_brief(dataset: &Dataset, uses: &ColumnUses) -> Option<String> {
    let used: BTreeSet<&str> = uses.iter().filter(|(of, ..)| **of == dataset.name).map(|(_, column, _)| column).collect();
    let coded = dataset.columns.iter().filter(|(column, _)| used.contains(column.as_str()));
    let words: Vec<String> = coded.filter_map(|(column, rule)| Some(format!("{column} {}", rule.coded?))).collect();
    let words = words.join("; ");
    Some(if words.len() > MAX_WORDS { "columns are, as the agreement states in full".into() } else { words })
        .filter(|words| !words.is_empty())
}

/// What was permitted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Decision {
    /// The tables, by name.
    pub tables: Vec<Table>,
    /// `department.dataset.column: use` for each use made.
    pub columns: Vec<String>,
    /// The rules that apply.
    pub rules: Vec<Rule>,
}

impl Decision {
    /// The tables and uses of `uses` under `permit`, and the rules: `minimum` is the strictest that applied, 0 for none; `magnitudes`
    /// says whether sums or means are among the numbers.
    #[must_use]
    pub fn of(permit: &Permit, uses: &ColumnUses, minimum: u32, magnitudes: bool) -> Self {
        let read: Vec<_> = uses.datasets().filter_map(|dataset| permit.dataset(dataset)).collect();
        let tables = read.iter().map(|permit| Table {
            dataset: permit.dataset.name.to_string(),
            agreement: permit.agreement.clone(),
            basis: BasisKind::from(&permit.dataset.basis),
            rows: rows_in_brief(&permit.dataset),
            coded: coded_in_brief(&permit.dataset, uses),
        });
        let mut rules = Vec::new();
        if minimum > 0 {
            let strictest = read.iter().copied().filter(|permit| permit.minimum_subjects == minimum);
            rules.push(Rule::MinimumSubjects { subjects: minimum, whose: Whose::of(strictest) });
            let strictest = permit.disclosure(uses.datasets());
            rules.extend(Rule::disclosed(&strictest, magnitudes, |states| {
                Whose::of(read.iter().copied().filter(|permit| states(&permit.disclosure)))
            }));
        }
        let columns = uses.iter().map(|(dataset, column, used)| format!("{dataset}.{column}: {used}")).collect();
        Self { tables: tables.collect(), columns, rules }
    }

    /// The uses of a table's columns: column, use.
    pub fn uses_of<'d>(&'d self, table: &'d Table) -> impl Iterator<Item = (&'d str, &'d str)> {
        let of = |used: &'d str| {
            used.strip_prefix(table.dataset.as_str())?.strip_prefix('.')?.split_once(": ").filter(|(column, _)| !column.contains('.'))
        };
        self.columns.iter().filter_map(move |used| of(used))
    }

    /// The decision in lines for people: each table with its uses, then the rules.
    #[must_use]
    pub fn in_words(&self, purpose: &str, mission: &str) -> Vec<String> {
        let mut lines = vec![format!("permitted for the purpose '{purpose}' in the mission '{mission}'")];
        for table in &self.tables {
            lines.push(table.to_string());
            lines.extend(self.uses_of(table).map(|(column, used)| format!("  {column}: {used}")));
        }
        lines.extend(self.rules.iter().map(|rule| format!("rule: {rule}")));
        lines
    }
}

/// A denial in lines for people: what and why, then whose rule it is.
#[must_use]
pub fn denied_in_words(purpose: &str, says: &str, owner: Option<&str>) -> Vec<String> {
    let whose = owner.filter(|owner| !owner.is_empty()).map(|owner| format!("whose rule: {owner}"));
    std::iter::once(format!("denied for the purpose '{purpose}': {says}")).chain(whose).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Agreement;
    use crate::testing::{AGREEMENT, name};

    #[test]
    fn what_is_said_of_rows_is_bounded() {
        let with = |condition: &str| {
            let text = AGREEMENT.replacen("[dataset.columns]", &format!("rows = [{condition}]\n[dataset.columns]"), 1);
            rows_in_brief(&Agreement::parse(&text).unwrap().datasets[0])
        };
        assert_eq!(with(""), None);
        assert_eq!(with("{ column = \"region\", is = \"N\" }").as_deref(), Some("region is \"N\""));
        let long = format!("{{ column = \"secret\", is = \"{}\" }}", "x".repeat(MAX_WORDS));
        assert_eq!(with(&long).as_deref(), Some("a condition holds, which the agreement states in full"));
    }

    #[test]
    fn only_columns_that_are_used_are_said_to_be_coded() {
        let text = AGREEMENT.replace("amount = {", "amount = { coded = { at_most = 9 },");
        let dataset = &Agreement::parse(&text).unwrap().datasets[1];
        let mut uses = ColumnUses::default();
        uses.touch(&dataset.name);
        assert_eq!(coded_in_brief(dataset, &uses), None);
        uses.add(&dataset.name, "amount", crate::Use::Filter);
        assert_eq!(coded_in_brief(dataset, &uses).as_deref(), Some("amount above 9 as 9"));
    }

    #[test]
    fn it_reads_as_tables_uses_and_rules() {
        let table = |dataset: &str, basis| Table { dataset: dataset.into(), agreement: name("one"), basis, rows: None, coded: None };
        let decision = Decision {
            tables: vec![table("dfe.attainment", BasisKind::StatutoryHonouringObjections), table("dfe.attainments", BasisKind::Consent)],
            columns: vec!["dfe.attainment.region: group_by".into(), "dfe.attainments.subject: join".into()],
            rules: vec![
                Rule::MinimumSubjects { subjects: 10, whose: Whose { agreements: vec![name("one")], departments: vec![name("dfe")] } },
                Rule::SmallGroupsLeftOut,
            ],
        };
        let mut words = decision.in_words("p", "m");
        assert_eq!(words.remove(0), "permitted for the purpose 'p' in the mission 'm'");
        assert_eq!(words[0], "dfe.attainment under the agreement 'one': a power of the law; objections are honoured");
        assert_eq!((words[1].as_str(), words[3].as_str()), ("  region: group_by", "  subject: join"));
        assert!(words[4].contains("fewer than 10") && words[4].ends_with("agreement one for dfe"), "{words:?}");
        assert_eq!(words.len(), 6);
        let narrowed = Table { rows: Some("year is at least 2020".into()), ..table("dfe.attainment", BasisKind::Consent) };
        assert!(narrowed.to_string().ends_with("people agreed; only rows where year is at least 2020"), "{narrowed}");
        let coded = Table { coded: Some("income above 9 as 9".into()), ..narrowed };
        assert!(coded.to_string().ends_with("at least 2020; coded: income above 9 as 9"), "{coded}");
    }
}
