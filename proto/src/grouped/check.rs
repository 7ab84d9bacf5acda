//! What is checked of groups that a node made.

use arrow::array::{Array as _, ArrayRef, AsArray as _, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use concordat_protect::Spread;
use concordat_protect::behind::SPREAD_BYTES;

use super::{Grouping, ROWS, SUBJECTS, contributors, spread, sum, values};
use crate::receipt::Grouped;

/// Checks one partition's groups as they come: no group states what no rows could add up to, and all together are what the receipt
/// says. That they are the rows' is the department's word, as its rows are.
#[derive(Debug)]
pub struct Check {
    grouping: Grouping,
    rows: u64,
    // The most subjects of one group: there are no fewer in all. And their sum: there are no more.
    fewest: u64,
    most: u64,
}

/// One row's numbers of a column, which are no lower than 0.
struct Counts<'a>(&'a Int64Array);

impl Counts<'_> {
    fn at(&self, row: usize) -> Option<u64> {
        self.0.is_valid(row).then(|| self.0.value(row)).and_then(|number| u64::try_from(number).ok())
    }
}

fn counts<'a>(batch: &'a RecordBatch, name: &str) -> Option<Counts<'a>> {
    batch.column_by_name(name)?.as_primitive_opt::<Int64Type>().map(Counts)
}

fn spread_at(column: &ArrayRef, row: usize) -> Option<Spread> {
    let bytes: &[u8; SPREAD_BYTES] = column.as_fixed_size_binary_opt()?.value(row).try_into().ok()?;
    Some(Spread::from_bytes(bytes))
}

impl Check {
    /// Of groups by `grouping`.
    #[must_use]
    pub fn new(grouping: Grouping) -> Self {
        Self { grouping, rows: 0, fewest: 0, most: 0 }
    }

    /// Whether groups can be of any rows: `None` where they cannot.
    #[must_use]
    pub fn check(&mut self, batch: &RecordBatch) -> Option<()> {
        let (subjects, rows, of_rows) = (counts(batch, SUBJECTS)?, counts(batch, ROWS)?, batch.column_by_name(&spread(ROWS))?);
        for row in 0..batch.num_rows() {
            let (subjects, rows) = (subjects.at(row)?, rows.at(row)?);
            let spread = spread_at(of_rows, row)?;
            // Each subject of a group has a row in it.
            if subjects == 0 || rows < subjects || !spread.can_be_of(subjects) || spread.nonzero != subjects || spread.lowest < 1.0 {
                return None;
            }
            self.rows = self.rows.checked_add(rows)?;
            self.fewest = self.fewest.max(subjects);
            self.most = self.most.checked_add(subjects)?;
        }
        for (name, _) in &self.grouping.values {
            let (own, people) = (counts(batch, &values(name))?, counts(batch, &contributors(name))?);
            let of_values = batch.column_by_name(&spread(&values(name)))?;
            for row in 0..batch.num_rows() {
                let (own, people, spread) = (own.at(row)?, people.at(row)?, spread_at(of_values, row)?);
                let beyond = own > rows.at(row)? || people > subjects.at(row)? || people > own || (people == 0) != (own == 0);
                if beyond || !spread.can_be_of(people) || spread.nonzero != people || spread.lowest < 1.0 {
                    return None;
                }
            }
        }
        for (name, _, as_number) in self.grouping.summed() {
            let (field, people) = (sum(name, as_number), counts(batch, &contributors(name))?);
            let (sums, of_sums) = (batch.column_by_name(&field)?, batch.column_by_name(&spread(&field))?);
            for row in 0..batch.num_rows() {
                let people = people.at(row)?;
                if sums.is_null(row) != (people == 0) || !spread_at(of_sums, row)?.can_be_of(people) {
                    return None;
                }
            }
        }
        Some(())
    }

    /// Whether the groups that came are what a receipt says.
    #[must_use]
    pub fn is(&self, made_of: Grouped) -> bool {
        made_of.rows == self.rows && (self.fewest..=self.most).contains(&made_of.subjects)
    }
}
