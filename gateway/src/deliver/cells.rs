//! What became of each cell, for callers who ask: after each column of values that passed `Protect`, or are computed from such, a column
//! of texts, `persons_status` after `persons`.
//!
//! | text | the cell |
//! |---|---|
//! | `told` | as it was computed |
//! | `rounded`, `noisy`, `rounded and noisy` | as the rules in force tell numbers |
//! | `withheld: …, or …` | null, for one of these reasons |
//!
//! Every reason that can be the cause under the rules in force is named, and not which it was: that a value is withheld because few
//! contributors make nearly all of it would tell that it rests on enough of them. What is said is made of the mask and of what was planned, and of
//! no value.

use std::sync::Arc;

use arrow::array::{Array as _, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use concordat_policy::decision::Rule;
use concordat_policy::{Code, Decision, Refusal};
use concordat_proto::answer::AnswerDigest;
use concordat_proto::status::{CELLS, STATUS_OF};

use crate::plan::Plan;

/// The one value of the header.
const STATUS: &str = "status";

/// Whether a caller asks what became of each cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cells(bool);

impl Cells {
    /// Reads the header.
    ///
    /// # Errors
    /// [`Code::Invalid`].
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        if text == STATUS {
            return Ok(Self(true));
        }
        Err(Refusal::new(Code::Invalid, format!("the header {CELLS} holds something else than '{STATUS}'"))
            .advice(format!("write '{STATUS}' for the status of each cell, or leave the header out")))
    }

    /// The answer's columns as the caller asks for them.
    ///
    /// # Errors
    /// [`Code::Invalid`] where a status would have the name of another column, or a column is of a type that no answer has.
    pub(crate) fn schema(self, plan: &Plan) -> Result<SchemaRef, Refusal> {
        let answer = plan.answer_schema();
        AnswerDigest::of(&answer).map_err(|e| {
            Refusal::new(Code::Invalid, e.to_string()).advice("ask for its parts, each as a column of its own, or CAST it to text")
        })?;
        if self.0 { with_status(&answer, plan.values()) } else { Ok(answer) }
    }
}

/// The columns with a status after each that is one of values.
fn with_status(answer: &SchemaRef, values: &[bool]) -> Result<SchemaRef, Refusal> {
    let mut fields = Vec::new();
    for (place, field) in answer.fields().iter().enumerate() {
        fields.push(field.clone());
        if !values.get(place).is_some_and(|is_value| *is_value) {
            continue;
        }
        let name = format!("{}_{STATUS}", field.name());
        if answer.column_with_name(&name).is_some() {
            let message = format!("the answer has a column '{name}', as the status of '{}' would be called", field.name());
            return Err(Refusal::new(Code::Invalid, message).advice("give one of them another name with AS, or do not ask for cells"));
        }
        let of = [(STATUS_OF.to_owned(), field.name().clone())].into();
        fields.push(Arc::new(Field::new(name, DataType::Utf8, false).with_metadata(of)));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// What is said of cells, and of which columns.
pub(super) struct Statuses {
    of: Vec<bool>,
    told: &'static str,
    withheld: String,
}

impl Statuses {
    /// Of an answer with these columns.
    pub(super) fn of(answer: &Schema, decision: &Decision) -> Self {
        let mut of: Vec<bool> = Vec::new();
        for field in answer.fields() {
            match of.last_mut() {
                Some(last) if field.metadata().contains_key(STATUS_OF) => *last = true,
                _ => of.push(false),
            }
        }
        let (rounded, noisy) = decision.rules.iter().fold((false, false), |(rounded, noisy), rule| {
            (rounded || matches!(rule, Rule::Rounded { .. }), noisy || matches!(rule, Rule::Perturbed { .. }))
        });
        let told = match (rounded, noisy) {
            (true, true) => "rounded and noisy",
            (true, false) => "rounded",
            (false, true) => "noisy",
            (false, false) => "told",
        };
        let reasons: Vec<String> = decision.rules.iter().filter_map(Rule::reason).collect();
        Self { of, told, withheld: format!("withheld: {}", reasons.join(", or ")) }
    }

    /// The statuses of the column at `place`, if they were asked for. A row without a mask has all of its values withheld.
    pub(super) fn column(&self, place: usize, mask: Option<&UInt64Array>, rows: usize) -> Option<StringArray> {
        let bit = u32::try_from(place).ok().and_then(|place| 1u64.checked_shl(place)).unwrap_or_default();
        let withheld = |row: usize| mask.is_none_or(|mask| mask.is_null(row) || mask.value(row) & bit != 0);
        self.of.get(place)?.then(|| (0..rows).map(|row| Some(if withheld(row) { self.withheld.as_str() } else { self.told })).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use concordat_policy::decision::Whose;

    fn schema(names: &[&str]) -> SchemaRef {
        Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect::<Vec<_>>()))
    }

    fn decided(rules: Vec<Rule>) -> Decision {
        Decision { rules, ..Decision::default() }
    }

    fn minimum() -> Rule {
        Rule::MinimumSubjects { subjects: 10, whose: Whose::default() }
    }

    #[test]
    fn each_value_has_its_status_beside_it_and_nothing_else_has() {
        let answer = with_status(&schema(&["region", "n", "mean", "withheld"]), &[false, true, true]).unwrap();
        let names: Vec<&str> = answer.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["region", "n", "n_status", "mean", "mean_status", "withheld"]);
        assert_eq!(Statuses::of(&answer, &decided(vec![minimum()])).of, [false, true, true, false]);
        let taken = with_status(&schema(&["n", "n_status", "withheld"]), &[true, false]).unwrap_err();
        assert!(taken.code == Code::Invalid && taken.message.contains("'n_status'") && taken.advice.is_some(), "{taken:?}");
    }

    #[test]
    fn a_status_says_what_the_mask_says_and_every_reason_that_can_be() {
        let largest = Rule::Dominance { largest: 2, share: 90, whose: Whose::default() };
        let rounded = Rule::Rounded { to: 5, whose: Whose::default() };
        let noisy = Rule::Perturbed { variance: 2, most: 4, whose: Whose::default() };
        let answer = with_status(&schema(&["region", "n", "mean", "withheld"]), &[false, true, true]).unwrap();
        let mask = UInt64Array::from(vec![Some(0), Some(0b10), Some(0b110), None]);
        for (rules, told, reasons) in [
            (vec![minimum()], "told", "fewer than 10 distinct subjects"),
            (
                vec![minimum(), largest, rounded.clone()],
                "rounded",
                "fewer than 10 distinct subjects, or its 2 largest contributors make more than 90 % of it",
            ),
            (
                vec![minimum(), noisy.clone()],
                "noisy",
                "fewer than 10 distinct subjects, or with noise it rests on less than 4 subjects over the minimum",
            ),
            (
                vec![minimum(), rounded, noisy, Rule::SmallGroupsLeftOut],
                "rounded and noisy",
                "fewer than 10 distinct subjects, or with noise it rests on less than 4 subjects over the minimum",
            ),
        ] {
            let statuses = Statuses::of(&answer, &decided(rules));
            let said = |place| statuses.column(place, Some(&mask), 4).map(|column| column.iter().flatten().map(str::to_owned).collect());
            let withheld = format!("withheld: {reasons}");
            let of = |bits: [bool; 4]| Some(bits.map(|bit| if bit { withheld.clone() } else { told.to_owned() }).to_vec());
            assert_eq!(said(0), None::<Vec<String>>);
            assert_eq!((said(1), said(2)), (of([false, true, true, true]), of([false, false, true, true])));
            assert_eq!(said(3), None);
        }
    }

    #[test]
    fn the_header_is_read_strictly() {
        assert_eq!(Cells::parse("status"), Ok(Cells(true)));
        assert!(["", "Status", "true", "status,status"].iter().all(|text| Cells::parse(text).is_err_and(|e| e.code == Code::Invalid)));
    }
}
