//! Who is missing from the number: what an answer says of the subjects behind each of its sources. Distinct subjects, never rows.
//!
//! | count | of | who counted |
//! |---|---|---|
//! | `invalid_identifiers` | different texts in the place of an identifier that are none | the department |
//! | `withheld` | subjects whose own choices withhold them | the department |
//! | `delivered` | subjects that came | the gateway |
//! | `considered` | the sum of these three, as they are told | nobody |
//! | `matched` | subjects that found a partner in the statement's joins, after all of its conditions | `Tally` |
//!
//! All are told by the rule of [`concordat_policy::denominator`]: rounded, null where they are too few, and not at all under noise. The
//! department applies its agreement's rules to what it counted, the gateway the strictest ones of the statement to all, so that an
//! answer has one unit. `considered` tells nothing beside the others, nor lets one that is null be worked out. Nothing is told where the
//! agreement does not let the dataset's subjects be counted. `considered` is not told where choices that other parties recorded reach
//! the dataset: those whom they remove are in none of the three. Exact numbers stand in the logs only.
//!
//! Under a condition that the department applied, neither `withheld` nor `considered` is told. The attack: of forty people who objected,
//! twelve meet "income over 50,000"; condition by condition that describes just those who asked to be left out.
//!
//! Through a link dataset a count of one type of subjects can rest on few of the other: of a thousand people who work for one firm.
//! So there a number is told where enough subjects of *both* types stand behind it:
//! - What is counted of a dataset before it is joined rests on its own subjects alone, and is told as in every other statement.
//! - `matched`, and of the link dataset what was delivered, are told where both types are enough. It is what `count` shows of the
//!   same subjects under the same minimum, rounded.
//! - Of the link dataset neither `considered` nor `withheld` nor `invalid_identifiers` is told, nor stated by its department. The
//!   attack: rounding hides a choice that moves a count by one, but one firm's objection withholds a thousand people. Whoever asks
//!   every day would see `withheld` rise by a thousand, or what was delivered fall and `considered` stay, and know which firm
//!   objected: there is only one of that size. `invalid_identifiers` would have to be counted of both types, and is not.

use concordat_policy::Use;
use concordat_policy::authorize::DatasetPermit;
use concordat_policy::denominator::{Grain, OF_LINK_DATASET};
use serde_json::{Value, json};

use crate::fetch::Source;

/// What is told of one source: in the statement's grain, or why nothing is. `through_link` says whether the statement reads a link
/// dataset.
pub(crate) fn counts(source: &Source, permit: &DatasetPermit, grain: Result<Grain, &str>, through_link: bool) -> Value {
    if !permit.dataset.subject_uses.contains(&Use::Aggregate) {
        return json!({ "not_told": format!("agreement '{}' does not let its subjects be counted", permit.agreement) });
    }
    let grain = match grain {
        Ok(grain) => grain,
        Err(why) => return json!({ "not_told": why }),
    };
    let behind = match (&permit.dataset.linked, source.others) {
        (None, _) => source.subjects,
        (Some(_), Some(others)) => source.subjects.min(others),
        (Some(_), None) => {
            let why = format!("the statement reads one pseudonym {OF_LINK_DATASET}, and counts rest on the subjects of both");
            return json!({ "not_told": why });
        }
    };
    let department = source.denominators.filter(|_| permit.dataset.linked.is_none());
    // Its numbers are multiples of a unit of its own, which may be the coarser.
    let grain = department.map_or(grain, |department| grain.at_least(department.rounded_to));
    let delivered = grain.told(source.subjects, behind);
    let mut subjects = json!({ "rounded_to": grain.unit(), "delivered": delivered });
    let not_considered = if permit.dataset.linked.is_some() {
        Some(format!("one subject's choice can withhold many rows {OF_LINK_DATASET}, and would show"))
    } else if source.conditional {
        Some("how many meet a condition and are withheld would say who they are".to_owned())
    } else {
        // By the agreement, never by who was removed: that nobody was is told of nobody either.
        permit.reached.then(|| "choices recorded by other departments reach the data".to_owned())
    };
    if let Some(department) = department {
        let again = |told: Option<u64>| told.and_then(|told| grain.told(told, told));
        let withheld = department.withheld.filter(|_| !source.conditional);
        let [invalid, withheld] = [department.invalid_identifiers, withheld].map(again);
        insert(&mut subjects, "invalid_identifiers", invalid);
        if !source.conditional {
            insert(&mut subjects, "withheld", withheld);
        }
        let told = [delivered, invalid, withheld].into_iter().flatten().reduce(u64::saturating_add);
        insert(&mut subjects, "considered", told.filter(|_| not_considered.is_none()));
    }
    if let Some(why) = not_considered {
        insert(&mut subjects, "considered", Value::Null);
        insert(&mut subjects, "considered_not_told", why);
    }
    if let Some(partners) = source.partners {
        // Where it is not known who else stands behind it, nobody does.
        let others = if through_link { partners.others.unwrap_or(0) } else { partners.subjects };
        insert(&mut subjects, "matched", grain.told(partners.subjects, partners.subjects.min(others)));
    }
    json!({ "subjects": subjects })
}

fn insert(object: &mut Value, key: &str, told: impl Into<Value>) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), told.into());
    }
}

#[cfg(test)]
mod tests {
    use concordat_policy::{Agreement, DatasetName, Disclosure};
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
            max_unwitnessed: agreement.max_unwitnessed,
            linkage: agreement.linkage.clone(),
            reached: false,
            dataset: agreement.dataset(&DatasetName::new(name(department), name(dataset))).unwrap().clone(),
        }
    }

    fn grain(minimum: u32, round_to: u32) -> Result<Grain, &'static str> {
        Ok(Grain::of(minimum, &Disclosure { round_to, ..Disclosure::default() }).unwrap())
    }

    /// What a department tells.
    const STATED: Denominators = Denominators { rounded_to: 10, invalid_identifiers: None, withheld: Some(20) };

    /// A source with two rows of each subject.
    fn source(subjects: u64, partners: Option<u64>, denominators: Option<Denominators>) -> Source {
        Source {
            department: "a".into(),
            dataset: "people".into(),
            order: "o".into(),
            agreement_digest: "d".into(),
            consent_version: 1,
            consent_generation: 0,
            freshness: 0,
            counts: None,
            rows: 2 * subjects,
            subjects,
            others: None,
            partners: partners.map(|subjects| Matched { subjects, others: None }),
            denominators,
            conditional: false,
        }
    }

    #[test]
    fn counts_are_of_subjects_rounded_and_few_are_null() {
        let permit = permit(&agreed(AGREEMENT));
        let told = |source: &Source, grain| counts(source, &permit, grain, false)["subjects"].clone();
        let sample = source(124, Some(77), Some(STATED));
        let expected =
            json!({ "rounded_to": 10, "considered": 140, "invalid_identifiers": null, "withheld": 20, "delivered": 120, "matched": 80 });
        assert_eq!(told(&sample, grain(10, 1)), expected);
        // The strictest rules of the statement, for what the department counted too.
        let expected =
            json!({ "rounded_to": 50, "considered": 100, "invalid_identifiers": null, "withheld": null, "delivered": 100, "matched": 100 });
        assert_eq!(told(&sample, grain(10, 50)), expected);
        // A department that counted coarsely.
        let coarse = Denominators { rounded_to: 2_050, invalid_identifiers: Some(2_050), withheld: Some(600_650) };
        let expected = json!({
            "rounded_to": 2_050, "considered": 4_602_250, "invalid_identifiers": 2_050, "withheld": 600_650, "delivered": 3_999_550,
        });
        assert_eq!(told(&source(4_000_000, None, Some(coarse)), grain(10, 5)), expected);
        let few = json!({ "rounded_to": 10, "delivered": null, "matched": null });
        assert_eq!(told(&source(9, Some(9), None), grain(10, 1)), few);
        let nobody = Denominators { withheld: None, ..STATED };
        assert_eq!(told(&source(9, None, Some(nobody)), grain(10, 1))["considered"], Value::Null);
    }

    #[test]
    fn where_noise_is_asked_for_nothing_is_told() {
        let told = counts(&source(124, Some(77), Some(STATED)), &permit(&agreed(AGREEMENT)), Err("why"), false);
        assert_eq!(told, json!({ "not_told": "why" }));
    }

    #[test]
    fn under_a_condition_those_who_are_withheld_are_not_described() {
        // Whatever the department states.
        let source = Source { conditional: true, ..source(124, None, Some(STATED)) };
        let told = counts(&source, &permit(&agreed(AGREEMENT)), grain(10, 1), false);
        let why = "how many meet a condition and are withheld would say who they are";
        let expected =
            json!({ "rounded_to": 10, "considered": null, "considered_not_told": why, "invalid_identifiers": null, "delivered": 120 });
        assert_eq!(told["subjects"], expected);
    }

    #[test]
    fn where_choices_reach_from_elsewhere_what_was_considered_is_not_told() {
        let permit = DatasetPermit { reached: true, ..permit(&agreed(AGREEMENT)) };
        let told = counts(&source(124, None, Some(STATED)), &permit, grain(10, 1), false);
        let why = "choices recorded by other departments reach the data";
        let subjects = json!({
            "rounded_to": 10, "considered": null, "considered_not_told": why,
            "invalid_identifiers": null, "withheld": 20, "delivered": 120,
        });
        assert_eq!(told, json!({ "subjects": subjects }));
    }

    #[test]
    fn through_a_link_dataset_both_types_of_subjects_are_enough_or_nothing_is_told() {
        let agreement = agreed(AGREEMENT);
        // Before it is joined a dataset is as in other statements; who found a partner rests on homes too.
        let people = |others| {
            let partners = Some(Matched { subjects: 77, others });
            counts(&Source { partners, ..source(124, None, Some(STATED)) }, &permit(&agreement), grain(10, 1), true)
        };
        for (others, matched) in [(None, Value::Null), (Some(9), Value::Null), (Some(10), json!(80)), (Some(5_000), json!(80))] {
            let subjects = json!({
                "rounded_to": 10, "considered": 140, "invalid_identifiers": null, "withheld": 20, "delivered": 120, "matched": matched,
            });
            assert_eq!(people(others), json!({ "subjects": subjects }), "{others:?}");
        }
        // Of the link dataset itself, what came of both. Whatever its department states of the rest is not handed on.
        let links = |subjects, others| {
            let partners = Some(Matched { subjects, others });
            let source = Source { others, partners, ..source(subjects, None, Some(STATED)) };
            counts(&source, &of(&agreement, "b", "links"), grain(10, 1), true)
        };
        let told = |subjects: Value| {
            let why = "one subject's choice can withhold many rows of a link dataset, and would show";
            json!({ "subjects": {
                "rounded_to": 10, "considered": null, "considered_not_told": why, "delivered": subjects, "matched": subjects,
            } })
        };
        assert_eq!(links(124, Some(30)), told(json!(120)));
        for (subjects, others) in [(124, 9), (9, 124), (0, 0)] {
            assert_eq!(links(subjects, Some(others)), told(Value::Null), "{subjects} and {others}");
        }
        assert!(links(124, None)["not_told"].as_str().unwrap().contains("one pseudonym of a link dataset"));
    }

    #[test]
    fn what_is_not_known_or_not_permitted_is_not_told() {
        let told = counts(&source(124, None, None), &permit(&agreed(AGREEMENT)), grain(10, 1), false);
        assert_eq!(told, json!({ "subjects": { "rounded_to": 10, "delivered": 120 } }));
        let agreement = AGREEMENT.replace("[\"join\", \"aggregate\", \"group_by\"]", "[\"join\"]");
        let told = counts(&source(124, Some(77), None), &permit(&agreed(&agreement)), grain(10, 1), false);
        assert_eq!(told, json!({ "not_told": "agreement 'test' does not let its subjects be counted" }));
    }
}
