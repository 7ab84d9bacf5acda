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
//! the agreement does not let the dataset's subjects be counted, nor where the statement reads a link dataset: each count would have
//! to rest on enough subjects of both identifier types. `considered` is not told where choices that other parties recorded reach
//! the dataset: beside what was delivered it would tell how many these are. Exact numbers stand in the logs only.

use concordat_policy::authorize::DatasetPermit;
use concordat_policy::denominator::told;
use concordat_policy::{DatasetName, Use};
use serde_json::{Value, json};

use crate::fetch::Source;

/// What is told of one source. `strictest` is the statement's minimum, `link` the link dataset that it reads, if it reads one.
pub(crate) fn counts(source: &Source, permit: &DatasetPermit, strictest: u32, link: Option<&DatasetName>) -> Value {
    if let Some(link) = link {
        let why = format!("the statement reads the link dataset '{link}', through which a count could rest on few subjects");
        return json!({ "not_told": why });
    }
    if !permit.dataset.subject_uses.contains(&Use::Aggregate) {
        return json!({ "not_told": format!("agreement '{}' does not let its subjects be counted", permit.agreement) });
    }
    let mut rows = json!({ "rounded_to": permit.minimum_subjects });
    if let Some(department) = &source.denominators {
        rows = json!({
            "rounded_to": department.rounded_to,
            // By the agreement, never by who was removed: that nobody was is told of nobody either.
            "considered": department.considered.filter(|_| !permit.reached),
            "invalid_identifiers": department.invalid_identifiers,
            "withheld": department.withheld,
        });
        if permit.reached {
            insert(&mut rows, "considered_not_told", "choices recorded by other departments reach the data");
        }
    }
    let mut subjects = json!({ "rounded_to": strictest, "delivered": told(source.subjects, source.subjects, strictest) });
    if let Some(partners) = source.partners {
        insert(&mut subjects, "matched", told(partners, partners, strictest));
    }
    insert(&mut rows, "delivered", told(source.delivered, source.subjects, permit.minimum_subjects));
    json!({ "rows": rows, "subjects": subjects })
}

fn insert(object: &mut Value, key: &str, told: impl Into<Value>) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), told.into());
    }
}

#[cfg(test)]
mod tests {
    use concordat_policy::Agreement;
    use concordat_proto::receipt::Denominators;

    use super::*;
    use crate::plan::tests::{AGREEMENT, agreed, name};

    fn permit(agreement: &Agreement) -> DatasetPermit {
        DatasetPermit {
            agreement: agreement.id.clone(),
            agreement_digest: agreement.digest.clone(),
            minimum_subjects: agreement.minimum_subjects,
            disclosure: agreement.disclosure.clone(),
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
        let told = counts(&source(124, Some(77), Some(department)), &permit, 50, None);
        let rows = json!({ "rounded_to": 10, "considered": 280, "invalid_identifiers": null, "withheld": 20, "delivered": 250 });
        assert_eq!(told, json!({ "rows": rows, "subjects": { "rounded_to": 50, "delivered": 100, "matched": 100 } }));
        let few = counts(&source(9, Some(9), None), &permit, 10, None);
        let nothing = json!({ "rounded_to": 10, "delivered": null });
        assert_eq!(few, json!({ "rows": nothing, "subjects": { "rounded_to": 10, "delivered": null, "matched": null } }));
    }

    #[test]
    fn where_choices_reach_from_elsewhere_what_was_considered_is_not_told() {
        let department = Denominators { rounded_to: 10, considered: Some(280), invalid_identifiers: None, withheld: Some(20) };
        let permit = DatasetPermit { reached: true, ..permit(&agreed(AGREEMENT)) };
        let told = counts(&source(124, None, Some(department)), &permit, 10, None);
        let why = "choices recorded by other departments reach the data";
        let rows = json!({
            "rounded_to": 10, "considered": null, "considered_not_told": why,
            "invalid_identifiers": null, "withheld": 20, "delivered": 250,
        });
        assert_eq!(told["rows"], rows);
    }

    #[test]
    fn nothing_is_told_of_a_statement_that_reads_a_link_dataset() {
        let department = Denominators { rounded_to: 10, considered: Some(280), invalid_identifiers: None, withheld: Some(20) };
        let link = DatasetName::new(name("b"), name("links"));
        let told = counts(&source(124, Some(77), Some(department)), &permit(&agreed(AGREEMENT)), 10, Some(&link));
        let keys: Vec<&String> = told.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["not_told"]);
        assert!(told["not_told"].as_str().unwrap().contains("'b.links'"), "{told}");
    }

    #[test]
    fn what_is_not_known_or_not_permitted_is_not_told() {
        let told = counts(&source(124, None, None), &permit(&agreed(AGREEMENT)), 10, None);
        assert_eq!((told["subjects"].get("matched"), told["rows"].get("withheld")), (None, None));
        let agreement = AGREEMENT.replace("[\"join\", \"aggregate\", \"group_by\"]", "[\"join\"]");
        let told = counts(&source(124, Some(77), None), &permit(&agreed(&agreement)), 10, None);
        assert_eq!(told, json!({ "not_told": "agreement 'test' does not let its subjects be counted" }));
    }
}
