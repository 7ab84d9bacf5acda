//! Who is missing from the number: what an answer says of the rows and subjects behind each of its sources.
//!
//! | count | of | who counted |
//! |---|---|---|
//! | `considered` | rows that met the conditions which the order and the agreement state | the department |
//! | `invalid_identifiers`, `withheld` | of these, rows without a valid identifier; of subjects whose choices withhold them | the department |
//! | `delivered` | rows, and distinct subjects, that came | the gateway |
//! | `matched` | distinct subjects that found a partner in the statement's joins, after all of its conditions | `Tally` |
//!
//! All are told by the rule of [`concordat_policy::denominator`]: rounded, and null where they rest on fewer subjects than the minimum:
//! the agreement's for what its department counted, the strictest one of the statement for the rest. Nothing is told where
//! the agreement does not let the dataset's subjects be counted. Exact numbers stand in the logs only.

use concordat_policy::Use;
use concordat_policy::authorize::DatasetPermit;
use concordat_policy::denominator::told;
use concordat_proto::receipt::Denominators;
use serde_json::{Value, json};

use crate::fetch::Source;

/// What is told of one source. `strictest` is the statement's minimum.
pub(crate) fn counts(source: &Source, permit: &DatasetPermit, strictest: u32) -> Value {
    if !permit.dataset.subject_uses.contains(&Use::Aggregate) {
        return json!({ "not_told": format!("agreement '{}' does not let its subjects be counted", permit.agreement) });
    }
    let mut rows = json!({ "rounded_to": permit.minimum_subjects });
    if let Some(department) = &source.denominators {
        rows = json!({
            "rounded_to": department.rounded_to,
            "considered": considered(source, department),
            "invalid_identifiers": department.invalid_identifiers,
            "withheld": department.withheld,
        });
    }
    let mut subjects = json!({ "rounded_to": strictest, "delivered": told(source.subjects, source.subjects, strictest) });
    if let Some(partners) = source.partners {
        insert(&mut subjects, "matched", told(partners, partners, strictest));
    }
    insert(&mut rows, "delivered", told(source.delivered, source.subjects, permit.minimum_subjects));
    json!({ "rows": rows, "subjects": subjects })
}

/// Without the rows that were removed here: whoever withdrew elsewhere stands in no number.
fn considered(source: &Source, department: &Denominators) -> Option<u64> {
    let rows = department.considered?;
    if source.removed == 0 {
        return Some(rows);
    }
    told(rows.saturating_sub(source.removed), source.subjects, department.rounded_to)
}

fn insert(object: &mut Value, key: &str, count: Option<u64>) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), count.into());
    }
}

#[cfg(test)]
mod tests {
    use concordat_policy::{Agreement, DatasetName};

    use super::*;
    use crate::plan::tests::{AGREEMENT, agreed, name};

    fn permit(agreement: &Agreement) -> DatasetPermit {
        DatasetPermit {
            agreement: agreement.id.clone(),
            agreement_digest: agreement.digest.clone(),
            minimum_subjects: agreement.minimum_subjects,
            linkage: agreement.linkage.clone(),
            reached: false,
            dataset: agreement.dataset(&DatasetName::new(name("a"), name("people"))).unwrap().clone(),
        }
    }

    /// A source with two rows of each subject.
    fn source(subjects: u64, partners: Option<u64>, denominators: Option<Denominators>) -> Source {
        Source {
            department: "a".into(),
            dataset: "people".into(),
            consent_version: 1,
            consent_generation: 0,
            freshness: 0,
            counts: None,
            rows: 2 * subjects,
            removed: 0,
            delivered: 2 * subjects,
            subjects,
            partners,
            denominators,
        }
    }

    #[test]
    fn counts_are_rounded_and_few_are_null() {
        let permit = permit(&agreed(AGREEMENT));
        let department = Denominators { rounded_to: 10, considered: Some(280), invalid_identifiers: None, withheld: Some(20) };
        let told = counts(&source(124, Some(77), Some(department)), &permit, 50);
        let rows = json!({ "rounded_to": 10, "considered": 280, "invalid_identifiers": null, "withheld": 20, "delivered": 250 });
        assert_eq!(told, json!({ "rows": rows, "subjects": { "rounded_to": 50, "delivered": 100, "matched": 100 } }));
        let few = counts(&source(9, Some(9), None), &permit, 10);
        let nothing = json!({ "rounded_to": 10, "delivered": null });
        assert_eq!(few, json!({ "rows": nothing, "subjects": { "rounded_to": 10, "delivered": null, "matched": null } }));
    }

    #[test]
    fn whoever_was_removed_was_never_considered() {
        let department = Denominators { rounded_to: 10, considered: Some(280), invalid_identifiers: None, withheld: Some(20) };
        let considered = |removed, subjects| {
            let source = Source { removed, ..source(subjects, None, Some(department)) };
            counts(&source, &permit(&agreed(AGREEMENT)), 10)["rows"]["considered"].clone()
        };
        assert_eq!([considered(0, 124), considered(3, 124), considered(7, 124)], [json!(280), json!(280), json!(270)]);
        assert_eq!(considered(271, 9), Value::Null);
    }

    #[test]
    fn what_is_not_known_or_not_permitted_is_not_told() {
        let told = counts(&source(124, None, None), &permit(&agreed(AGREEMENT)), 10);
        assert_eq!((told["subjects"].get("matched"), told["rows"].get("withheld")), (None, None));
        let agreement = AGREEMENT.replace("[\"join\", \"aggregate\", \"group_by\"]", "[\"join\"]");
        let told = counts(&source(124, Some(77), None), &permit(&agreed(&agreement)), 10);
        assert_eq!(told, json!({ "not_told": "agreement 'test' does not let its subjects be counted" }));
    }
}
