use std::path::Path;

use chrono::Utc;
use concordat_policy::signature::Fault;
use concordat_proto::signature::files as lying;

use super::*;
use crate::failure::LOCAL;
use crate::federation::{Layout, make};

/// The sample federation's folder, with nodes' keys and signed agreements.
fn federation(folder: &Path) -> Layout {
    let today = Utc::now().date_naive();
    make(&crate::sample::federation(today), &folder.join("world"), today).unwrap().layout
}

fn check_of(file: &Path) -> Agreement {
    Agreement::Check(Check { file: file.to_owned(), estate: None, state: None })
}

fn lacking(file: &Path) -> Vec<(String, Fault)> {
    let agreement = files::agreement(file).unwrap();
    let signatures = files::signatures(file, &agreement, None).unwrap();
    signatures.lacking(&agreement, Utc::now()).into_iter().map(|(department, fault)| (department.to_string(), fault)).collect()
}

#[test]
fn a_draft_is_sound_permits_nothing_and_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new.toml");
    let new = || New { file: file.clone(), id: name("fairness").unwrap() };
    run(Agreement::New(new())).unwrap();
    let agreement = files::agreement(&file).unwrap();
    assert_eq!(agreement.id.as_str(), "fairness");
    assert!(!agreement.in_force(Utc::now()));
    run(Agreement::Show(File { file: file.clone() })).unwrap();
    let failure = run(check_of(&file)).unwrap_err();
    assert!(failure.exit == LOCAL && failure.message.contains("2 of 2 parties have not signed"), "{failure:?}");
    assert!(run(Agreement::New(new())).is_err(), "nothing is written over");
    std::fs::write(&file, "id = \"a\"\nsurprise = 1\n").unwrap();
    let failure = run(check_of(&file)).unwrap_err();
    assert!(failure.message.contains("new.toml:2: unknown field"), "{failure:?}");
}

/// A column of what has an order that conditions may compare with anything is named, and how to mend it; the sample has none.
#[test]
fn columns_that_tell_their_quantiles_are_named_and_the_sample_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let layout = federation(folder.path());
    let remarks = |agreement: &concordat_policy::Agreement| {
        let mut text = String::new();
        check::remarks(&mut text, agreement, Utc::now());
        text
    };
    for id in ["opportunity", "healthy-life", "strong-economy"] {
        let agreement = files::agreement(&layout.estate().join(format!("agreements/{id}.toml"))).unwrap();
        assert_eq!(remarks(&agreement), "", "{id}");
    }
    let text = std::fs::read_to_string(layout.estate().join("agreements/opportunity.toml")).unwrap();
    for (column, first) in [("dfe.attainment.attainment8", "20"), ("dwp.claims.claim_started", "2022-01-01")] {
        let (before, rest) = text.split_once(&format!("filter = \"bands\", bands = [\"{first}\"")).unwrap();
        let (_, after) = rest.split_once("], ").unwrap();
        let agreement = concordat_policy::Agreement::parse(&format!("{before}{after}")).unwrap();
        let says = format!(
            "warn {column}: conditions may compare it with any value, which tells its quantiles exactly; give it bands or a list: \
             filter = \"bands\" with bands = [...], or filter = \"listed\" with values = [...]\n"
        );
        assert_eq!(remarks(&agreement), says);
    }
}

/// So is an agreement that tells exact numbers of whomever conditions or computed keys choose.
#[test]
fn an_agreement_that_tells_differences_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut agreement = files::agreement(&federation(folder.path()).estate().join("agreements/opportunity.toml")).unwrap();
    agreement.disclosure.round_to = 4;
    let mut text = String::new();
    check::remarks(&mut text, &agreement, Utc::now());
    assert!(
        text.starts_with("warn numbers are told to the nearest 4 and without noise") && text.contains("round_to = 5 or a perturb"),
        "{text}"
    );
}

#[test]
fn signing_a_changed_text_anew_makes_it_bind_again() {
    let folder = tempfile::tempdir().unwrap();
    let layout = federation(folder.path());
    let file = layout.estate().join("agreements/healthy-life.toml");
    run(check_of(&file)).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}# a remark\n")).unwrap();
    assert_eq!(lacking(&file), [("dhsc".into(), Fault::Text), ("dwp".into(), Fault::Text)]);
    let sign = |department: &str, of: &str| {
        let key = layout.node(of).join("keys/signing.key.pem");
        run(Agreement::Sign(Sign { file: file.clone(), key, department: name(department).unwrap(), yes: true }))
    };
    let failure = sign("dwp", "dhsc").unwrap_err();
    assert!(failure.message.contains("the agreement names sha256:"), "{failure:?}");
    sign("dwp", "dwp").unwrap();
    assert_eq!(lacking(&file), [("dhsc".into(), Fault::Text)]);
    sign("dhsc", "dhsc").unwrap();
    run(check_of(&file)).unwrap();

    // A revoked key, and a list of them that cannot be read.
    let key = files::agreement(&file).unwrap().party(&name("dwp").unwrap()).unwrap().signing_key.clone();
    let list = layout.estate().join("agreements").join(lying::REVOKED);
    std::fs::write(&list, format!("[[key]]\nfingerprint = \"{key}\"\nreason = \"lost\"\nsince = \"2026-05-01T10:00:00Z\"\n")).unwrap();
    assert_eq!(lacking(&file), [("dwp".into(), Fault::Revoked)]);
    std::fs::write(&list, "rubbish").unwrap();
    assert!(run(check_of(&file)).unwrap_err().message.contains("revoked.toml:1"));
}

#[test]
fn signatures_of_one_agreement_do_not_sign_another() {
    let folder = tempfile::tempdir().unwrap();
    let agreements = federation(folder.path()).estate().join("agreements");
    let file = agreements.join("healthy-life.toml");
    for department in ["dhsc", "dwp"] {
        let department = name(department).unwrap();
        std::fs::copy(lying::beside(&agreements.join("opportunity.toml"), &department), lying::beside(&file, &department)).unwrap();
    }
    assert_eq!(lacking(&file), [("dhsc".into(), Fault::Agreement), ("dwp".into(), Fault::Agreement)]);
    std::fs::write(lying::beside(&file, &name("dwp").unwrap()), "A".repeat(5000)).unwrap();
    std::fs::remove_file(lying::beside(&file, &name("dhsc").unwrap())).unwrap();
    let found = lacking(&file);
    assert_eq!(found[0], ("dhsc".into(), Fault::Missing));
    assert!(matches!(&found[1].1, Fault::Malformed(cause) if cause.contains("4 KiB")), "{found:?}");
}

/// Neither the list of revoked keys nor a succession lies in an inbox.
#[test]
fn what_waits_in_an_inbox_passes_by_the_gateways_lists_alone() {
    let folder = tempfile::tempdir().unwrap();
    let layout = federation(folder.path());
    let (estate, state) = (layout.estate(), folder.path().join("state"));
    let waits = state.join("inbox/healthy-life-0123456789abcdef");
    std::fs::create_dir_all(&waits).unwrap();
    let (placed, file) = (estate.join("agreements/healthy-life.toml"), waits.join("healthy-life.toml"));
    std::fs::copy(&placed, &file).unwrap();
    for department in ["dhsc", "dwp"] {
        let department = name(department).unwrap();
        std::fs::copy(lying::beside(&placed, &department), lying::beside(&file, &department)).unwrap();
    }
    let alone = run(check_of(&file)).unwrap_err();
    assert!(alone.exit == LOCAL && alone.message.contains("were not looked at"), "{alone:?}");
    let check =
        |state: &Path| run(Agreement::Check(Check { file: file.clone(), estate: Some(estate.clone()), state: Some(state.to_owned()) }));
    check(&state).unwrap();
    assert!(check(&folder.path().join("elsewhere")).unwrap_err().message.contains("is no folder"));
    // The gateway has seen the key revoked, and its list is gone.
    let key = files::agreement(&file).unwrap().party(&name("dwp").unwrap()).unwrap().signing_key.clone();
    let list = format!("[[key]]\nfingerprint = \"{key}\"\nreason = \"lost\"\nsince = \"2026-05-01T10:00:00Z\"\n");
    std::fs::write(state.join(lying::REVOKED), list).unwrap();
    assert!(check(&state).unwrap_err().message.contains("1 of 2 parties have not signed"));
}
