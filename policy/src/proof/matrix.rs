//! The matrix of role, purpose, dataset and column use for a small estate, for a policy officer to read in a change.
//!
//! The estate is written out here rather than taken from the demo, whose texts are made by the command line when it starts,
//! with keys of that moment: this crate cannot reach them, and need not.

use std::fmt::Write as _;

use super::compare::{dataset, decide};
use super::evaluator::{self, Agreement, Answer, Ask, Basis, Dataset, Disclosure, Party, Purpose, Recipient, Says, World};
use super::world::{self, USES, use_of};
use crate::column::SUBJECT;
use crate::{Cause, ColumnUses};

const ROLES: [(&str, &str); 4] =
    [("opportunity-unit", "analyst"), ("opportunity-unit", "lead"), ("health-unit", "analyst"), ("press-office", "analyst")];

/// Three departments. One agreement for the outcome of a mission, one that only leads may use, one for health, one that `nhs`
/// has not signed, one that has ended.
fn estate() -> World {
    let purpose = |id: &str, parent: Option<&str>, retired| Purpose { id: id.into(), parent: parent.map(Into::into), retired };
    let purposes = vec![
        purpose("opportunity", None, false),
        purpose("opportunity.measure", Some("opportunity"), false),
        purpose("opportunity.measure.region", Some("opportunity.measure"), false),
        purpose("opportunity.pilot", Some("opportunity"), true),
        purpose("health", None, false),
        purpose("health.waiting", Some("health"), false),
    ];
    let dataset = |department: &str, name: &str, basis, columns: &[(&str, &[&'static str])]| Dataset {
        department: department.into(),
        name: name.into(),
        basis,
        known_to: Vec::new(),
        columns: columns.iter().map(|(column, uses)| ((*column).to_owned(), uses.to_vec())).collect(),
    };
    let attainment = dataset(
        "dfe",
        "attainment",
        Basis::PowerHonouringObjections,
        &[(SUBJECT, &["join", "aggregate"]), ("region", &["group_by", "filter"]), ("score", &["aggregate"]), ("school", &[])],
    );
    let claims =
        dataset("dwp", "claims", Basis::Consent, &[(SUBJECT, &["join"]), ("started", &["filter"]), ("amount", &["aggregate", "filter"])]);
    let vacancies = dataset(
        "dwp",
        "vacancies",
        Basis::Power,
        &[(SUBJECT, &["output", "join"]), ("region", &["output", "group_by", "aggregate", "filter"])],
    );
    let waits = dataset("nhs", "waits", Basis::Consent, &[(SUBJECT, &["join", "aggregate", "group_by"]), ("weeks", &["aggregate"])]);
    let stays = dataset("nhs", "stays", Basis::Consent, &[(SUBJECT, &["join"]), ("nights", &["aggregate"])]);
    let agreement = |document, id: &str, mission: &str, purposes: &[&str], recipients: &[(&str, &str)], datasets: &[&Dataset]| {
        let mut parties: Vec<Party> = Vec::new();
        for dataset in datasets {
            if parties.iter().all(|party| party.department != dataset.department) {
                parties.push(Party { department: dataset.department.clone(), key: format!("key of {}", dataset.department) });
            }
        }
        let recipient =
            |(organisation, role): &(&str, &str)| Recipient { organisation: (*organisation).into(), roles: vec![(*role).into()] };
        Agreement {
            document,
            id: id.into(),
            mission: mission.into(),
            purposes: purposes.iter().map(|purpose| (*purpose).to_owned()).collect(),
            first_day: "2026-01-01".into(),
            last_day: "2026-12-31".into(),
            minimum_subjects: 10,
            disclosure: Disclosure { dominance: vec![(2, 90)], round_to: 1, ..Disclosure::default() },
            parties,
            recipients: recipients.iter().map(recipient).collect(),
            datasets: datasets.iter().map(|dataset| (*dataset).clone()).collect(),
        }
    };
    let unit = [("opportunity-unit", "analyst"), ("opportunity-unit", "lead")];
    let mut ended = agreement(4, "ended", "opportunity", &["opportunity"], &[("press-office", "analyst")], &[&attainment, &claims]);
    ended.last_day = "2026-05-31".into();
    let agreements = vec![
        agreement(0, "outcome", "opportunity", &["opportunity.measure"], &unit, &[&attainment, &claims]),
        agreement(1, "vacancies", "opportunity", &["opportunity"], &unit[1..], &[&vacancies]),
        agreement(2, "waiting", "health", &["health.waiting"], &[("health-unit", "analyst")], &[&waits, &claims]),
        agreement(3, "stays", "health", &["health"], &[("health-unit", "analyst")], &[&stays]),
        ended,
    ];
    let signed = agreements.iter().flat_map(|agreement| agreement.parties.iter().map(move |party| world::signature(agreement, party)));
    let mut signatures: Vec<_> = signed.collect();
    for signature in signatures.iter_mut().filter(|signature| signature.beside == "stays") {
        signature.says = Says::Nothing("does not verify: it was altered, or made up");
    }
    World { purposes, agreements, signatures, ..World::default() }
}

fn ask(organisation: &str, role: &str, purpose: &str) -> Ask {
    Ask {
        organisation: organisation.into(),
        roles: vec![role.into()],
        purpose: purpose.into(),
        mission: None,
        day: "2026-06-01".into(),
        millisecond: 1_780_315_200_000,
        reads: Vec::new(),
        does: Vec::new(),
    }
}

#[test]
fn role_by_purpose_by_dataset_by_use() {
    let world = estate();
    let read = world::read(&world);
    let noon = chrono::DateTime::from_timestamp_millis(ask("", "", "c").millisecond).unwrap();
    assert_eq!(noon.to_rfc3339(), "2026-06-01T12:00:00+00:00");
    let mut names: Vec<(&str, &Dataset)> = Vec::new();
    for of in world.agreements.iter().flat_map(|agreement| &agreement.datasets) {
        if names.iter().all(|(_, known)| (&known.department, &known.name) != (&of.department, &of.name)) {
            names.push((of.department.as_str(), of));
        }
    }
    let mut text = String::from(
        "On 2026-06-01, at noon. o = output, g = group_by, a = aggregate, f = filter, j = join; - = not permitted.\n\
         The last purpose of each caller is written with a Cyrillic first letter.\n",
    );
    for (organisation, role) in ROLES {
        for purpose in world.purposes.iter().map(|purpose| purpose.id.as_str()).chain(["оpportunity.measure"]) {
            let start = ask(organisation, role, purpose);
            let _ = writeln!(text, "\n{organisation}, {role}, for {purpose}");
            let permit = match decide(&start, &read) {
                None => {
                    text.push_str("  not a name\n");
                    continue;
                }
                Some(Err(refusal)) => {
                    let _ = writeln!(text, "  {}: {}", refusal.code.as_str(), refusal.message);
                    continue;
                }
                Some(Ok((permit, _))) => permit,
            };
            for (department, of) in &names {
                let name = dataset(department, &of.name);
                let mut touched = ColumnUses::default();
                touched.touch(&name);
                if let Err(refusal) = permit.judge(&touched) {
                    let hidden = matches!(refusal.because.as_deref(), Some(Cause::Hidden { .. }));
                    let told = if hidden { "(nothing is told of it)" } else { &refusal.message };
                    let _ = writeln!(text, "  {:<16} {told}", name.to_string());
                    continue;
                }
                for (column, _) in &of.columns {
                    let mut cell = String::new();
                    for used in USES {
                        let mut uses = ColumnUses::default();
                        uses.add(&name, column, use_of(used));
                        let may = permit.judge(&uses).is_ok();
                        cell.push(if may { used.chars().next().unwrap() } else { '-' });
                        // The plain evaluator has the same matrix.
                        let mut one = start.clone();
                        one.does.push(((*department).into(), of.name.clone(), column.clone(), used));
                        assert_eq!(matches!(evaluator::answer(&world, &one), Answer::Permitted { .. }), may, "{one:?}");
                    }
                    let _ = writeln!(text, "  {:<16} {column:<8} {cell}", name.to_string());
                }
            }
        }
    }
    insta::assert_snapshot!(text);
}
