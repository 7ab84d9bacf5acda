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
//! the agreement does not let the dataset's subjects be counted. `considered` is not told where choices that other parties recorded
//! reach the dataset: beside what was delivered it would tell how many these are. Exact numbers stand in the logs only.
//!
//! Through a link dataset a count of one type of subjects can rest on few of the other: of a thousand people who work for one firm.
//! So there a number is told where enough subjects of *both* types stand behind it:
//! - What is counted of a dataset before it is joined rests on its own subjects alone, and is told as in every other statement.
//! - `matched`, and of the link dataset what was delivered, are told where both types are enough. It is what `count` shows of the
//!   same rows under the same minimum, rounded.
//! - Of the link dataset neither `considered` nor `withheld` nor `invalid_identifiers` is told, nor stated by its department. The
//!   attack: rounding hides a choice that moves a count by one, but one firm's objection withholds a thousand pairs. Whoever asks
//!   every day would see `withheld` rise by a thousand, or what was delivered fall and `considered` stay, and know which firm
//!   objected: there is only one of that size. `invalid_identifiers` would have to be counted of both types, and is not.
//!
//! As with cells, a total beside its parts can tell a part that was withheld; secondary suppression has its place in `Protect`.

use concordat_policy::Use;
use concordat_policy::authorize::DatasetPermit;
use concordat_policy::denominator::told;
use serde_json::{Value, json};

use crate::fetch::Source;

/// What is told of one source. `strictest` is the statement's minimum; `through_link` says whether it reads a link dataset.
pub(crate) fn counts(source: &Source, permit: &DatasetPermit, strictest: u32, through_link: bool) -> Value {
    if !permit.dataset.subject_uses.contains(&Use::Aggregate) {
        return json!({ "not_told": format!("agreement '{}' does not let its subjects be counted", permit.agreement) });
    }
    let behind = match (&permit.dataset.linked, source.others) {
        (None, _) => source.subjects,
        (Some(_), Some(others)) => source.subjects.min(others),
        (Some(_), None) => {
            return json!({ "not_told": "the statement reads one pseudonym of a link dataset, and counts rest on the subjects of both" });
        }
    };
    let mut rows = json!({ "rounded_to": permit.minimum_subjects });
    if permit.dataset.linked.is_some() {
        let why = "one subject's choice can withhold many rows of a link dataset, and would show";
        insert(&mut rows, "considered", Value::Null);
        insert(&mut rows, "considered_not_told", why);
    } else if let Some(department) = &source.denominators {
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
    let mut subjects = json!({ "rounded_to": strictest, "delivered": told(source.subjects, behind, strictest) });
    if let Some(partners) = source.partners {
        // Where it is not known who else stands behind it, nobody does.
        let others = if through_link { partners.others.unwrap_or(0) } else { partners.subjects };
        insert(&mut subjects, "matched", told(partners.subjects, partners.subjects.min(others), strictest));
    }
    insert(&mut rows, "delivered", told(source.delivered, behind, permit.minimum_subjects));
    json!({ "rows": rows, "subjects": subjects })
}

fn insert(object: &mut Value, key: &str, told: impl Into<Value>) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), told.into());
    }
}

#[cfg(test)]
mod tests {
    use concordat_policy::{Agreement, DatasetName};
    use concordat_proto::receipt::Denominators;

    use super::*;
    use crate::plan::Matched;
    use crate::plan::tests::{AGREEMENT, agreed, name};

    fn permit(agreement: &Agreement) -> DatasetPermit {
        of(agreement, "a", "people")
    }

    fn of(agreement: &Agreement, department: &str, dataset: &str) -> DatasetPermit {
        DatasetPermit {
            agreement: agreement.id.clone(),
            agreement_digest: agreement.digest.clone(),
            minimum_subjects: agreement.minimum_subjects,
            disclosure: agreement.disclosure.clone(),
            linkage: agreement.linkage.clone(),
            reached: false,
            dataset: agreement.dataset(&DatasetName::new(name(department), name(dataset))).unwrap().clone(),
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
            others: None,
            partners: partners.map(|subjects| Matched { subjects, others: None }),
            denominators,
        }
    }

    #[test]
    fn counts_are_rounded_and_few_are_null() {
        let permit = permit(&agreed(AGREEMENT));
        let department = Denominators { rounded_to: 10, considered: Some(280), invalid_identifiers: None, withheld: Some(20) };
        let told = counts(&source(124, Some(77), Some(department)), &permit, 50, false);
        let rows = json!({ "rounded_to": 10, "considered": 280, "invalid_identifiers": null, "withheld": 20, "delivered": 250 });
        assert_eq!(told, json!({ "rows": rows, "subjects": { "rounded_to": 50, "delivered": 100, "matched": 100 } }));
        let few = counts(&source(9, Some(9), None), &permit, 10, false);
        let nothing = json!({ "rounded_to": 10, "delivered": null });
        assert_eq!(few, json!({ "rows": nothing, "subjects": { "rounded_to": 10, "delivered": null, "matched": null } }));
    }

    #[test]
    fn where_choices_reach_from_elsewhere_what_was_considered_is_not_told() {
        let department = Denominators { rounded_to: 10, considered: Some(280), invalid_identifiers: None, withheld: Some(20) };
        let permit = DatasetPermit { reached: true, ..permit(&agreed(AGREEMENT)) };
        let told = counts(&source(124, None, Some(department)), &permit, 10, false);
        let why = "choices recorded by other departments reach the data";
        let rows = json!({
            "rounded_to": 10, "considered": null, "considered_not_told": why,
            "invalid_identifiers": null, "withheld": 20, "delivered": 250,
        });
        assert_eq!(told["rows"], rows);
    }

    #[test]
    fn through_a_link_dataset_both_types_of_subjects_are_enough_or_nothing_is_told() {
        let agreement = agreed(AGREEMENT);
        let department = Denominators { rounded_to: 10, considered: Some(280), invalid_identifiers: None, withheld: Some(20) };
        // Before it is joined a dataset is as in other statements; who found a partner rests on homes too.
        let people = |others| {
            let partners = Some(Matched { subjects: 77, others });
            counts(&Source { partners, ..source(124, None, Some(department)) }, &permit(&agreement), 10, true)
        };
        for (others, matched) in [(None, Value::Null), (Some(9), Value::Null), (Some(10), json!(80)), (Some(5_000), json!(80))] {
            let rows = json!({ "rounded_to": 10, "considered": 280, "invalid_identifiers": null, "withheld": 20, "delivered": 250 });
            let subjects = json!({ "rounded_to": 10, "delivered": 120, "matched": matched });
            assert_eq!(people(others), json!({ "rows": rows, "subjects": subjects }), "{others:?}");
        }
        // Of the link dataset itself, what came of both. Whatever its department states of the rest is not handed on.
        let links = |subjects, others| {
            let partners = Some(Matched { subjects, others });
            counts(&Source { others, partners, ..source(subjects, None, Some(department)) }, &of(&agreement, "b", "links"), 10, true)
        };
        let told = |rows: Value, subjects: Value| {
            let why = "one subject's choice can withhold many rows of a link dataset, and would show";
            json!({
                "rows": { "rounded_to": 10, "considered": null, "considered_not_told": why, "delivered": rows },
                "subjects": { "rounded_to": 10, "delivered": subjects, "matched": subjects },
            })
        };
        assert_eq!(links(124, Some(30)), told(json!(250), json!(120)));
        for (subjects, others) in [(124, 9), (9, 124), (0, 0)] {
            assert_eq!(links(subjects, Some(others)), told(Value::Null, Value::Null), "{subjects} and {others}");
        }
        assert!(links(124, None)["not_told"].as_str().unwrap().contains("one pseudonym of a link dataset"));
    }

    #[test]
    fn what_is_not_known_or_not_permitted_is_not_told() {
        let told = counts(&source(124, None, None), &permit(&agreed(AGREEMENT)), 10, false);
        assert_eq!((told["subjects"].get("matched"), told["rows"].get("withheld")), (None, None));
        let agreement = AGREEMENT.replace("[\"join\", \"aggregate\", \"group_by\"]", "[\"join\"]");
        let told = counts(&source(124, Some(77), None), &permit(&agreed(&agreement)), 10, false);
        assert_eq!(told, json!({ "not_told": "agreement 'test' does not let its subjects be counted" }));
    }
}
