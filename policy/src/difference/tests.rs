//! What a change of an agreement is told as.

use super::*;
use crate::testing::AGREEMENT;

fn between(old: &str, new: &str) -> Difference {
    difference(&Agreement::parse(old).unwrap(), &Agreement::parse(new).unwrap())
}

fn reversed(turn: Turn) -> Turn {
    match turn {
        Turn::Wider => Turn::Narrower,
        Turn::Narrower => Turn::Wider,
        Turn::Other => Turn::Other,
    }
}

#[test]
fn only_meaning_counts() {
    assert!(between(AGREEMENT, &format!("# a comment\n{AGREEMENT}")).is_empty());
    let reordered = AGREEMENT.replace("[\"group_by\", \"filter\"]", "[ \"filter\",\"group_by\" ]");
    assert_ne!(reordered, AGREEMENT);
    assert_eq!(between(AGREEMENT, &reordered).to_string(), "Both say the same.\n");
}

#[test]
fn uses_and_terms_are_told_by_dataset_and_column() {
    let new = AGREEMENT
        .replace("[\"group_by\", \"filter\"]", "[\"filter\", \"output\"]")
        .replace("[\"join\"]", "[\"join\", \"aggregate\"]")
        .replace("secret = {", "hidden = {")
        .replace("valid_until = \"2026-12-31\"", "valid_until = \"2027-12-31\"\nreview_on = \"2026-07-01\"")
        .replace("roles = [\"analyst\"]", "roles = [\"analyst\", \"visitor\"]")
        .replace("consent_text = \"May we?\"", "consent_text = \"May we, please?\"");
    insta::assert_snapshot!(between(AGREEMENT, &new).to_string(), @r#"
    No longer permitted (narrower):
      dfe.attainment.region: group_by
    Newly permitted (wider):
      dfe.attainment.region: output
      dwp.claims.subject: aggregate
    Terms:
      dfe.attainment.hidden: classification: "special" is new (other)
      dfe.attainment.hidden: type: "text" is new (other)
      dfe.attainment.secret: classification: "special" is gone (other)
      dfe.attainment.secret: type: "text" is gone (other)
      dwp.claims: basis: "consent: May we?" became "consent: May we, please?" (other)
      recipient mission-unit: roles: "analyst" became "analyst, visitor" (wider)
      review_on: "2026-07-01" is new (other)
      valid_until: "2026-12-31" became "2027-12-31" (wider)
    "#);
    let back = between(&new, AGREEMENT);
    assert_eq!((back.newly.len(), back.no_longer.len()), (1, 2), "the reverse, reversed");
}

#[test]
fn disclosure_rules_read_as_they_are_written() {
    let with = |rules: &str| AGREEMENT.replacen("mission = \"m\"", &format!("mission = \"m\"\ndisclosure = {{ {rules} }}"), 1);
    insta::assert_snapshot!(between(AGREEMENT, &with("dominance = { largest = 1, share = 100 }, margins = \"open\", round_to = 3")), @r#"
    Terms:
      disclosure: dominance: "the 2 largest make at most 90 %" is gone (wider)
      disclosure: margins: "protected" became "open" (wider)
      disclosure: round_to: "5" became "3" (wider)
    "#);
    insta::assert_snapshot!(between(AGREEMENT, &with("dominance = { largest = 3, share = 85 }, perturbation = { variance = 2, most = 5 }")), @r#"
    Terms:
      disclosure: dominance: "the 2 largest make at most 90 %" became "the 3 largest make at most 85 %" (narrower)
      disclosure: perturbation: "variance 2, at most 5" is new (narrower)
    "#);
}

#[test]
fn conditions_on_rows_are_told_by_column() {
    let with = |rows: &str| AGREEMENT.replace("[dataset.columns]\namount", &format!("rows = [{rows}]\n[dataset.columns]\namount"));
    let (one, two) = ("{ column = \"amount\", at_least = 1 }", "{ column = \"amount\", less_than = 9 }");
    insta::assert_snapshot!(between(AGREEMENT, &with(one)), @r#"
    Terms:
      dwp.claims.amount: rows only where it: "is at least 1" is new (narrower)
    "#);
    insta::assert_snapshot!(between(&with(&format!("{one}, {two}")), &with(two)), @r#"
    Terms:
      dwp.claims.amount: rows only where it: "is at least 1, and is less than 9" became "is less than 9" (wider)
    "#);
}

#[test]
fn a_limit_of_what_a_column_is_compared_with_narrows() {
    let listed = AGREEMENT.replace("uses = [\"group_by\", \"filter\"]", "uses = [\"group_by\", \"filter\"], filter = \"listed\"");
    insta::assert_snapshot!(between(AGREEMENT, &listed), @r#"
    Terms:
      dfe.attainment.region: filter: "listed" is new (narrower)
    "#);
    insta::assert_snapshot!(between(&listed, AGREEMENT), @r#"
    Terms:
      dfe.attainment.region: filter: "listed" is gone (wider)
    "#);
    let with = |limit: &str| AGREEMENT.replace("amount = {", &format!("amount = {{ {limit},"));
    let bands = |bands: &str| with(&format!("filter = \"bands\", bands = [{bands}]"));
    let (two, three, others) = (bands("\"10\", \"20\""), bands("\"10\", \"20\", \"30\""), bands("\"10\", \"25\""));
    insta::assert_snapshot!(between(AGREEMENT, &two), @r#"
    Terms:
      dwp.claims.amount: filter: "bands at 10, 20" is new (narrower)
    "#);
    insta::assert_snapshot!(between(&two, AGREEMENT), @r#"
    Terms:
      dwp.claims.amount: filter: "bands at 10, 20" is gone (wider)
    "#);
    insta::assert_snapshot!(between(&two, &three), @r#"
    Terms:
      dwp.claims.amount: filter: "bands at 10, 20" became "bands at 10, 20, 30" (wider)
    "#);
    insta::assert_snapshot!(between(&three, &two), @r#"
    Terms:
      dwp.claims.amount: filter: "bands at 10, 20, 30" became "bands at 10, 20" (narrower)
    "#);
    insta::assert_snapshot!(between(&two, &others), @r#"
    Terms:
      dwp.claims.amount: filter: "bands at 10, 20" became "bands at 10, 25" (other)
    "#);
}

#[test]
fn a_bound_of_a_column_narrows() {
    let with = |coded: &str| AGREEMENT.replace("amount = {", &format!("amount = {{ coded = {coded},"));
    let (one, both, other) = (with("{ at_most = 9 }"), with("{ at_least = 0, at_most = 9 }"), with("{ at_most = 8 }"));
    insta::assert_snapshot!(between(AGREEMENT, &one), @r#"
    Terms:
      dwp.claims.amount: coded: "above 9 as 9" is new (narrower)
    "#);
    insta::assert_snapshot!(between(&both, &one), @r#"
    Terms:
      dwp.claims.amount: coded: "below 0 as 0, above 9 as 9" became "above 9 as 9" (wider)
    "#);
    insta::assert_snapshot!(between(&one, &other), @r#"
    Terms:
      dwp.claims.amount: coded: "above 9 as 9" became "above 8 as 8" (other)
    "#);
}

#[test]
fn how_far_a_withdrawal_reaches_is_wider_or_narrower() {
    let reaching = AGREEMENT.replacen("mission = \"m\"", "mission = \"m\"\nwithdrawals = \"all_parties\"", 1);
    insta::assert_snapshot!(between(&reaching, AGREEMENT), @r#"
    Terms:
      max_consent_age: "15 minutes" is gone (wider)
      withdrawals: "all_parties" became "own_department" (wider)
    "#);
    insta::assert_snapshot!(between(AGREEMENT, &reaching), @r#"
    Terms:
      max_consent_age: "15 minutes" is new (narrower)
      withdrawals: "own_department" became "all_parties" (narrower)
    "#);
}

#[test]
fn a_log_that_may_go_unseen_for_longer_is_wider() {
    let with = |time: &str| AGREEMENT.replacen("mission = \"m\"", &format!("mission = \"m\"\nmax_unwitnessed = \"{time}\""), 1);
    insta::assert_snapshot!(between(AGREEMENT, &with("5h")), @r#"
    Terms:
      max_unwitnessed: "4 hours" became "5 hours" (wider)
    "#);
    insta::assert_snapshot!(between(AGREEMENT, &with("90s")), @r#"
    Terms:
      max_unwitnessed: "4 hours" became "90 seconds" (narrower)
    "#);
    insta::assert_snapshot!(between(AGREEMENT, &with("240m")), @"Both say the same.");
}

#[test]
fn rules_of_single_rows_are_told() {
    let output = AGREEMENT.replace("\"group_by\", \"filter\"", "\"group_by\", \"filter\", \"output\"");
    let with = |row_level: &str| output.replacen("[dataset.columns]\n", &format!("row_level = {row_level}\n[dataset.columns]\n"), 1);
    insta::assert_snapshot!(between(&with("{ k = 5 }"), &with("{ k = 4, over = [\"region\"], rows_per_day = 9 }")), @r#"
    Terms:
      dfe.attainment: row_level k: "5" became "4" (wider)
      dfe.attainment: row_level over: "region" is new (other)
      dfe.attainment: row_level rows_per_day: "9" is new (narrower)
    "#);
    let told = between(AGREEMENT, &with("{ k = 20, rows_per_day = 9 }"));
    assert!(told.terms.iter().all(|term| term.turn == Turn::Other), "rows are let out that were not, whatever their rules: {told}");
}

#[test]
fn where_rules_of_single_rows_are_silent_the_defaults_are_compared() {
    // Two columns may be shown, and in the second text the pseudonym.
    let two = AGREEMENT.replace("\"group_by\", \"filter\"", "\"output\"").replacen("uses = [\"aggregate\"]", "uses = [\"output\"]", 1);
    let named = two.replacen("uses = [\"aggregate\", \"join\"]", "uses = [\"output\"]", 1);
    let with = |text: &str, rules: &str| match rules {
        "" => text.to_owned(),
        rules => text.replacen("[dataset.columns]\n", &format!("row_level = {{ {rules} }}\n[dataset.columns]\n"), 1),
    };
    let both = "over = [\"region\", \"score\"]";
    for (text, old, new, turn) in [
        (&two, "", "k = 9", Turn::Wider),
        (&two, "", "k = 11", Turn::Narrower),
        (&two, "", "k = 10", Turn::Other),
        (&two, "", "over = [\"region\"]", Turn::Wider),
        (&two, "over = [\"region\"]", both, Turn::Narrower),
        (&two, "over = [\"region\"]", "over = [\"score\"]", Turn::Other),
        (&two, "", both, Turn::Other),
        // Where `over` is stated, the pseudonym may be shown.
        (&named, "", both, Turn::Wider),
        (&two, "", "rows_per_day = 10001", Turn::Wider),
        (&two, "", "rows_per_day = 9999", Turn::Narrower),
        (&two, "", "rows_per_day = 10000", Turn::Other),
    ] {
        let (old, new) = (with(text, old), with(text, new));
        for (old, new, turn) in [(&old, &new, turn), (&new, &old, reversed(turn))] {
            let said = between(old, new);
            let [term] = said.terms.as_slice() else { panic!("{said}") };
            assert_eq!(term.turn, turn, "{said}");
        }
    }
    let fewer = with(&two, "k = 10").replacen("mission = \"m\"", "mission = \"m\"\nminimum_subjects = 11", 1);
    insta::assert_snapshot!(between(&fewer, &two), @r#"
    Terms:
      dfe.attainment: row_level k: "10" is gone (other)
      minimum_subjects: "11" became "10" (wider)
    "#);
}

#[test]
fn each_term_says_whether_more_may_be_done_by_it_or_less() {
    let with = |extra: &str| AGREEMENT.replacen("mission = \"m\"", &format!("mission = \"m\"\n{extra}"), 1);
    let ruled = |rules: &str| with(&format!("disclosure = {{ {rules} }}"));
    let changed = |from: &str, to: &str| {
        assert!(AGREEMENT.contains(from), "{from}");
        AGREEMENT.replacen(from, to, 1)
    };
    let dataset = |extra: &str| changed("[dataset.columns]\n", &format!("{extra}\n[dataset.columns]\n"));
    let amount = "[dataset.columns]\namount";
    for (name, old, new, turn) in [
        ("purposes", AGREEMENT.into(), changed("[\"opportunity.measure\"]", "[\"opportunity.measure\", \"b\"]"), Turn::Wider),
        ("purposes", AGREEMENT.into(), changed("[\"opportunity.measure\"]", "[\"b\"]"), Turn::Other),
        ("valid_from", AGREEMENT.into(), changed("2026-01-01", "2025-12-31"), Turn::Wider),
        ("valid_until", AGREEMENT.into(), changed("2026-12-31", "2026-12-30"), Turn::Narrower),
        ("minimum_subjects", AGREEMENT.into(), with("minimum_subjects = 11"), Turn::Narrower),
        ("disclosure: round_to", AGREEMENT.into(), ruled("round_to = 10"), Turn::Narrower),
        ("disclosure: p_percent", AGREEMENT.into(), ruled("p_percent = 0"), Turn::Wider),
        ("disclosure: complement", AGREEMENT.into(), ruled("complement = \"shown\""), Turn::Wider),
        ("disclosure: homogeneous", AGREEMENT.into(), ruled("homogeneous = \"withheld\""), Turn::Narrower),
        ("disclosure: zeros", AGREEMENT.into(), ruled("zeros = \"shown\""), Turn::Wider),
        ("disclosure: margins", AGREEMENT.into(), ruled("margins = \"open\""), Turn::Wider),
        ("disclosure: dominance", AGREEMENT.into(), ruled("dominance = { largest = 2, share = 80 }"), Turn::Narrower),
        ("disclosure: dominance", AGREEMENT.into(), ruled("dominance = { largest = 1, share = 90 }"), Turn::Wider),
        ("disclosure: dominance", AGREEMENT.into(), ruled("dominance = { largest = 1, share = 80 }"), Turn::Other),
        ("disclosure: dominance", AGREEMENT.into(), ruled("dominance = { largest = 3, share = 100 }"), Turn::Wider),
        ("disclosure: perturbation", AGREEMENT.into(), ruled("perturbation = { variance = 2, most = 5 }"), Turn::Narrower),
        (
            "disclosure: perturbation",
            ruled("perturbation = { variance = 2, most = 5 }"),
            ruled("perturbation = { variance = 3, most = 4 }"),
            Turn::Other,
        ),
        ("rows_per_day", AGREEMENT.into(), with("limits = { rows_per_day = 7 }"), Turn::Narrower),
        ("requests_per_minute", with("limits = { requests_per_minute = 7 }"), with("limits = { requests_per_minute = 8 }"), Turn::Wider),
        ("epoch_days", AGREEMENT.into(), changed("keyholder = \"dfe\"", "keyholder = \"dfe\", epoch_days = 91"), Turn::Wider),
        ("keyholder", AGREEMENT.into(), changed("keyholder = \"dfe\"", "keyholder = \"dwp\""), Turn::Other),
        ("title", AGREEMENT.into(), changed("For the tests", "Of the tests"), Turn::Other),
        ("objective", AGREEMENT.into(), with("objective = \"o\""), Turn::Other),
        ("retention", with("retention = \"a year\""), with("retention = \"for ever\""), Turn::Other),
        ("impact_assessment", AGREEMENT.into(), with("impact_assessment = \"DPIA 7\""), Turn::Other),
        (
            "party dwp: contact",
            AGREEMENT.into(),
            changed("signing_key = \"sha256:1", "contact = \"c\"\nsigning_key = \"sha256:1"),
            Turn::Other,
        ),
        ("party dwp: signing_key", AGREEMENT.into(), changed("signing_key = \"sha256:1", "signing_key = \"sha256:2"), Turn::Other),
        ("recipient mission-unit: roles", AGREEMENT.into(), changed("[\"analyst\"]", "[]"), Turn::Narrower),
        ("recipient x: roles", AGREEMENT.into(), format!("{AGREEMENT}[[recipient]]\norganisation = \"x\"\nroles = [\"a\"]\n"), Turn::Wider),
        ("dfe.attainment: known_to", AGREEMENT.into(), dataset("known_to = [\"x\"]"), Turn::Wider),
        ("dfe.attainment: max_data_age", AGREEMENT.into(), dataset("max_data_age = \"31d\""), Turn::Narrower),
        ("dfe.attainment: max_data_age", dataset("max_data_age = \"36h\""), dataset("max_data_age = \"2d\""), Turn::Wider),
        ("dfe.attainment: basis", AGREEMENT.into(), changed("s.35\"", "s.35\"\nhonours_objections = false"), Turn::Wider),
        ("dfe.attainment: basis", AGREEMENT.into(), changed("s.35", "s.36"), Turn::Other),
        ("dfe.attainment.region: values", AGREEMENT.into(), changed("\"S\"]", "\"S\", \"W\"]"), Turn::Other),
        (
            "dwp.claims.amount: rows only where it",
            changed(amount, &format!("rows = [{{ column = \"amount\", at_least = 1 }}]\n{amount}")),
            changed(amount, &format!("rows = [{{ column = \"amount\", at_least = 2 }}]\n{amount}")),
            Turn::Other,
        ),
    ] {
        let said = between(&old, &new);
        let [term] = said.terms.as_slice() else { panic!("{name}: {said}") };
        assert_eq!((term.name.as_str(), term.turn), (name, turn), "{said}");
        assert_eq!(between(&new, &old).terms[0].turn, reversed(turn), "{name}, the reverse");
    }
}

#[test]
fn an_agreement_that_is_gone_permits_nothing_more() {
    let less = AGREEMENT.get(..AGREEMENT.rfind("[[dataset]]").unwrap()).unwrap();
    let difference = between(AGREEMENT, less);
    assert!(difference.newly.is_empty());
    let rows = AGREEMENT.replace("[dataset.columns]\namount", "rows = [{ column = \"amount\", at_least = 1 }]\n[dataset.columns]\namount");
    assert!(between(&rows, less).terms.iter().all(|term| term.turn == Turn::Other), "a condition that is gone with its dataset");
    let aged = AGREEMENT.replace("[dataset.columns]\namount", "max_data_age = \"1d\"\n[dataset.columns]\namount");
    assert!(between(&aged, less).terms.iter().all(|term| term.turn == Turn::Other), "and an age");
    assert_eq!(difference.no_longer.keys().collect::<Vec<_>>(), ["dwp.claims.amount", "dwp.claims.subject"]);
}

#[test]
fn a_second_identifier_is_a_term_of_its_own_and_its_uses_are_told() {
    let new =
        AGREEMENT.replace("consent_text = \"May we?\"", "consent_text = \"May we?\"\nlinked = { type = \"uprn\", uses = [\"join\"] }");
    insta::assert_snapshot!(between(AGREEMENT, &new).to_string(), @r#"
    Newly permitted (wider):
      dwp.claims.linked_subject: join
    Terms:
      dwp.claims: linked: "Uprn" is new (other)
    "#);
}
