use concordat_policy::{Cause, Code};

use super::*;
use crate::testing::{folder, known, name, settings, told};

const RAILS: &str = r#"
@id("claims-by-night")
@advice("ask for claims between 6 and 22")
forbid(principal, action, resource == Dataset::"claims")
when { context.hour < 6 || context.hour >= 22 };

@id("one-organisation")
@advice("ask the department's data officer")
forbid(principal, action, resource)
when { context.purpose in Purpose::"opportunity" && context.agreement == Agreement::"one" }
unless { principal.organisation == "mission-unit" };
"#;

fn open(files: &[(&str, &str)]) -> Result<ReleaseGuard, String> {
    let folder = folder(files);
    ReleaseGuard::open(name("dwp"), Some(&settings(folder.path())), &known()).map_err(|damage| told(folder.path(), &damage))
}

#[test]
fn a_departments_forbids_stop_orders_and_name_it() {
    let guard = open(&[("own.cedar", RAILS)]).unwrap();
    let (mission, agreement) = (name("opportunity"), name("one"));
    let decide = |dataset: &str, purpose: &str, organisation: &str, now: &str| {
        let (dataset, purpose) = (name(dataset), name(purpose));
        let release = Release {
            organisation,
            issuer: "https://id.example",
            purpose: &purpose,
            mission: &mission,
            agreement: &agreement,
            dataset: &dataset,
            gateway: "sha256:00",
        };
        guard.decide(&release, now.parse().unwrap())
    };
    let (day, night) = ("2026-07-01T12:00:00Z", "2026-07-01T21:30:00Z");
    for (dataset, purpose, organisation, now, rail) in [
        ("claims", "opportunity.measure", "mission-unit", day, None),
        ("claims", "opportunity.measure", "mission-unit", night, Some("claims-by-night")),
        ("homes", "opportunity.measure", "mission-unit", night, None),
        ("homes", "opportunity.measure", "other", day, Some("one-organisation")),
        ("homes", "health", "other", day, None),
    ] {
        let outcome = decide(dataset, purpose, organisation, now);
        let found = outcome.as_ref().err().and_then(|refusal| match refusal.because.as_deref() {
            Some(Cause::Guard { rail: Some(rail), .. }) => Some(rail.id.as_str()),
            _ => None,
        });
        assert_eq!((found, outcome.is_ok()), (rail, rail.is_none()), "{dataset} {purpose} {organisation} {now}");
    }
    let refusal = decide("claims", "health", "mission-unit", night).unwrap_err();
    assert_eq!((refusal.code, refusal.department.as_deref()), (Code::Denied, Some("dwp")));
    assert_eq!(
        refusal.to_string(),
        "the guard rail 'claims-by-night' of 'dwp' (own.cedar) forbids this request (ask for claims between 6 and 22)"
    );
    assert_eq!(decide("absent", "health", "mission-unit", day).unwrap_err().code, Code::Internal);
}

#[test]
fn nothing_but_forbids_that_can_match_is_taken() {
    assert!(open(&[]).unwrap_err().contains("holds no *.cedar file"));
    assert!(open(&[("own.cedar", "")]).unwrap_err().contains("own.cedar: holds no guard rail"));
    for (text, says) in [
        ("@id(\"a\")\npermit(principal, action, resource);", "a department's guard rails only forbid"),
        ("@id(\"a\") @advice(\"b\")\nforbid(principal, action, resource == Dataset::\"clams\");", "name a dataset of this node"),
        ("@id(\"a\") @advice(\"b\")\nforbid(principal, action, resource) when { context.agreement == Agreement::\"two\" };", "holds"),
        ("@id(\"a\") @advice(\"b\")\nforbid(principal, action, resource) when { principal.roles.contains(\"x\") };", "own.cedar:2:"),
        ("@id(\"a\") @advice(\"b\")\nforbid(principal, action == Action::\"claim_purpose\", resource);", "own.cedar:"),
    ] {
        let found = open(&[("own.cedar", text)]).err().unwrap_or_else(|| panic!("taken: {text}"));
        assert!(found.contains(says), "{text}\n{found}");
    }
}

#[test]
fn an_error_of_evaluation_denies() {
    let guard = open(&[(
        "own.cedar",
        "@id(\"broken\") @advice(\"b\")\nforbid(principal, action, resource) when { context.hour * 9223372036854775807 > 0 };",
    )])
    .unwrap();
    let names = [name("health"), name("healthy-life"), name("one"), name("claims")];
    let [purpose, mission, agreement, dataset] = &names;
    let release = Release { organisation: "o", issuer: "i", purpose, mission, agreement, dataset, gateway: "g" };
    let refusal = guard.decide(&release, "2026-07-01T12:00:00Z".parse().unwrap()).unwrap_err();
    assert!(refusal.message.contains("'broken' of 'dwp'") && refusal.message.contains("cannot be evaluated"), "{refusal}");
}
