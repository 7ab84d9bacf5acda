//! What an agreement says of rows of single subjects, as terms. Where it is silent, what then holds is compared.

use super::list;
use super::turn::Measure;
use crate::column::{LINKED, SUBJECT};
use crate::row_level::{DEFAULT_ROWS_PER_DAY, RowLevel};
use crate::{Dataset, Use};

/// A term's name beneath its dataset, its words where the agreement has it, and its measure.
type Term = (&'static str, Option<String>, Measure);

/// The rules, taken apart by name, so that one that is added is not forgotten here. `minimum` is the agreement's least number of
/// subjects.
pub(super) fn terms(dataset: &Dataset, minimum: u32) -> [Term; 3] {
    let RowLevel { k, over, rows_per_day } = &dataset.row_level;
    let shown = shown(dataset);
    // Where no row is let out, nothing is wider or narrower by how rows would be.
    let measure = |measure: Measure| if shown.is_empty() { Measure::Words } else { measure };
    let counting = over.clone().filter(|over| shown.iter().any(|column| !over.contains(*column)));
    [
        ("k", k.map(|k| k.to_string()), measure(Measure::Least(k.unwrap_or(minimum).into()))),
        ("over", over.as_ref().map(list), measure(Measure::Compared(counting))),
        ("rows_per_day", rows_per_day.map(|rows| rows.to_string()), measure(Measure::Rows(rows_per_day.unwrap_or(DEFAULT_ROWS_PER_DAY)))),
    ]
}

/// What of single subjects may stand in answers. A pseudonym is among it, and never in `over`: it may be shown only where `over` is stated.
fn shown(dataset: &Dataset) -> Vec<&str> {
    let columns = dataset.columns.iter().map(|(name, rule)| (name.as_str(), &rule.uses));
    let linked = dataset.linked.iter().map(|linked| (LINKED, &linked.uses));
    let all = columns.chain([(SUBJECT, &dataset.subject_uses)]).chain(linked);
    all.filter(|(_, uses)| uses.contains(&Use::Output)).map(|(column, _)| column).collect()
}
