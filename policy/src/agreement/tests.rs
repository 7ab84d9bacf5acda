//! What a document may say, and what it means.

use super::*;

const GOOD: &str = crate::testing::AGREEMENT;

#[test]
fn a_good_document_is_read_and_its_digest_is_of_its_bytes() {
    let agreement = Agreement::parse(GOOD).unwrap();
    assert_eq!((agreement.datasets.len(), agreement.minimum_subjects, agreement.linkage.epoch_days), (2, 10, 90));
    assert_eq!(agreement.max_unwitnessed.to_string(), "4 hours");
    let stated = Agreement::parse(&GOOD.replacen("id = \"one\"", "id = \"one\"\nmax_unwitnessed = \"90s\"", 1)).unwrap();
    assert_eq!(stated.max_unwitnessed.to_string(), "90 seconds");
    assert_ne!(Agreement::parse(&format!("{GOOD}\n")).unwrap().digest, agreement.digest, "a byte more is another agreement");
}

#[test]
fn the_draft_explains_every_field_and_permits_nothing() {
    let draft = Agreement::parse(DRAFT).unwrap();
    assert!(draft.recipients.iter().all(|recipient| recipient.roles.is_empty()));
    for dataset in &draft.datasets {
        assert!(dataset.subject_uses.is_empty() && dataset.columns.values().all(|rule| rule.uses.is_empty()), "{}", dataset.name);
    }
    let conditions = DRAFT.replace("# rows = [", "rows = [").replace("#   {", "  {").replace("# ]", "]");
    assert_eq!(Agreement::parse(&conditions).unwrap().datasets[0].rows.len(), 2, "what it shows can be written");
    let linked = Agreement::parse(&DRAFT.replace("# linked = {", "linked = {")).unwrap();
    assert!(linked.datasets[0].linked.is_some() && !linked.datasets[0].is_link(), "and that permits nothing either");
    assert!(draft.valid_until < NaiveDate::from_ymd_opt(2001, 1, 1).unwrap());
    let fields = "id title mission purposes valid_from valid_until review_on benefits minimum_subjects limits requests_per_minute \
                  objective retention impact_assessment contact \
                  concurrent_queries rows_per_day releases_per_day withdrawals max_consent_age max_unwitnessed linkage keyholder epoch_days rotation party department signing_key linkage_key recipient \
                  organisation roles dataset name identifier type pattern uses basis power honours_objections consent_text columns \
                  disclosure dominance largest share p_percent round_to complement homogeneous zeros margins perturbation variance most \
                  classification values rows is is_not is_in at_least at_most more_than less_than max_data_age known_to linked listed bands coded row_level over";
    assert_eq!(draft.disclosure, Disclosure::default(), "and says what an agreement means that says nothing of it");
    let uncommented = ["objective = ", "retention = ", "impact_assessment = ", "contact = ", "perturbation = "];
    let told = uncommented.iter().fold(DRAFT.to_owned(), |text, field| text.replacen(&format!("# {field}"), field, 1));
    let told = Agreement::parse(&told).unwrap();
    let own = [&told.objective, &told.retention, &told.impact_assessment, &told.parties[0].contact];
    assert!(own.into_iter().all(Option::is_some) && told.disclosure.perturbation.is_some(), "{told:?}");
    for field in fields.split_whitespace() {
        assert!(DRAFT.contains(field), "{field} is not explained");
    }
}

#[test]
fn disclosure_rules_at_their_bounds_are_taken() {
    for rules in [
        "dominance = { largest = 1, share = 1 }, p_percent = 0, round_to = 1",
        "dominance = { largest = 5, share = 100 }, p_percent = 100, round_to = 100",
        "perturbation = { variance = 2, most = 2 }",
        "perturbation = { variance = 140, most = 20 }",
    ] {
        let text = GOOD.replacen("id = \"one\"", &format!("id = \"one\"\ndisclosure = {{ {rules} }}"), 1);
        let read = Agreement::parse(&text).unwrap_or_else(|problems| panic!("{rules}: {problems:?}"));
        assert_ne!(read.disclosure, Disclosure::default(), "{rules}");
    }
    assert_eq!(Agreement::parse(GOOD).unwrap().disclosure, Disclosure::default());
}

#[test]
fn exact_numbers_of_people_whom_conditions_or_keys_choose_tell_differences() {
    let ruled = |rules: &str| GOOD.replacen("id = \"one\"", &format!("id = \"one\"\ndisclosure = {{ {rules} }}"), 1);
    for (text, tells) in [
        (GOOD.to_owned(), false),
        (ruled("round_to = 1"), true),
        (ruled("round_to = 4"), true),
        (ruled("round_to = 5"), false),
        (ruled("round_to = 1, perturbation = { variance = 2, most = 5 }"), false),
        (ruled("round_to = 1").replace("\"filter\"", "\"aggregate\""), true),
        (ruled("round_to = 1").replace("\"filter\"", "\"aggregate\"").replace("\"group_by\"", "\"aggregate\""), false),
    ] {
        assert_eq!(Agreement::parse(&text).unwrap_or_else(|e| panic!("{text}: {e:?}")).tells_differences(), tells, "{text}");
    }
}

#[test]
fn no_two_parties_have_a_key_in_common() {
    let (zeros, ones) = ("0".repeat(64), "1".repeat(64));
    for kind in ["signing_key", "linkage_key"] {
        let text = GOOD.replace(&format!("{kind} = \"sha256:{ones}"), &format!("{kind} = \"sha256:{zeros}"));
        assert_ne!(text, GOOD);
        let problems = Agreement::parse(&text).unwrap_err();
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert!(problem.cause.contains("'dfe' and 'dwp' state the same key") && problem.line(&text) == 11, "{problem:?}");
    }
}

#[test]
fn who_reaches_a_dataset() {
    let reaching = |terms: &str, dataset: usize| {
        let agreement = Agreement::parse(&GOOD.replacen("id = \"one\"", &format!("id = \"one\"\n{terms}"), 1)).unwrap();
        agreement.reaching(&agreement.datasets[dataset]).map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(reaching("", 1), [""; 0], "only where the agreement says so");
    assert_eq!(reaching("withdrawals = \"own_department\"", 1), [""; 0]);
    assert_eq!(reaching("withdrawals = \"all_parties\"", 0), ["dwp"], "never its owner: its node has applied them");
    assert_eq!(reaching("withdrawals = \"all_parties\"\nmax_consent_age = \"1h\"", 1), ["dfe"]);
    let unused =
        DRAFT.replace("# linked = {", "linked = {").replacen("# withdrawals = \"own_department\"", "withdrawals = \"all_parties\"", 1);
    let problems = Agreement::parse(&unused).unwrap_err();
    assert!(problems.iter().any(|problem| problem.cause.contains("linked: who withdrew elsewhere")), "{problems:?}");
    let ignores = GOOD.replacen("id = \"one\"", "id = \"one\"\nwithdrawals = \"all_parties\"", 1);
    let ignores = Agreement::parse(&ignores.replacen("power = ", "honours_objections = false\npower = ", 1)).unwrap();
    assert_eq!(ignores.reaching(&ignores.datasets[0]).count(), 0, "a basis that honours no choice honours none from elsewhere");
    assert_eq!(ignores.max_consent_age.to_string(), "15 minutes");
    for agreement in [&ignores, &Agreement::parse(GOOD).unwrap()] {
        for party in &agreement.parties {
            let reached = agreement.reached_from(&party.department).map(|dataset| &dataset.name);
            let reaching = |dataset: &&Dataset| agreement.reaching(dataset).any(|department| *department == party.department);
            assert!(reached.eq(agreement.datasets.iter().filter(reaching).map(|dataset| &dataset.name)), "the two say the same");
        }
    }
}

#[test]
fn each_mistake_is_named_with_its_line_and_remedy() {
    for (from, to, line, cause) in [
        ("id = \"one\"", "id = \"revoked\"", 1, "no agreement is called 'revoked'"),
        ("valid_until = \"2026-12-31\"", "valid_until = \"2025-12-31\"", 6, "ends before it begins"),
        ("purposes = [\"opportunity.measure\"]", "purposes = []", 4, "without a purpose"),
        ("id = \"one\"", "id = \"one\"\nreview_on = \"2027-01-01\"", 2, "is reviewed when"),
        ("keyholder = \"dfe\"", "keyholder = \"hmrc\"", 7, "is not a party"),
        ("keyholder = \"dfe\"", "keyholder = \"dfe\", epoch_days = 0", 7, "epoch"),
        ("keyholder = \"dfe\"", "keyholder = \"dfe\", rotation = -1", 7, "invalid value"),
        ("id = \"one\"", "id = \"one\"\nminimum_subjects = 2", 2, "least allowed"),
        ("id = \"one\"", "id = \"Öne\"", 1, "a name is"),
        ("id = \"one\"", "id = \"one\"\nsurprise = 1", 2, "unknown field"),
        ("id = \"one\"", "id = \"one\"\nwithdrawals = \"every_department\"", 2, "expected `own_department` or `all_parties`"),
        ("id = \"one\"", "id = \"one\"\nwithdrawals = \"all_parties\"\nmax_consent_age = \"2d\"", 3, "a term is 1 second"),
        ("id = \"one\"", "id = \"one\"\nmax_consent_age = \"5m\"", 2, "says nothing unless withdrawals reach"),
        ("id = \"one\"", "id = \"one\"\nmax_unwitnessed = \"0s\"", 2, "a term is 1 second"),
        ("id = \"one\"", "id = \"one\"\nmax_unwitnessed = \"25h\"", 2, "a term is 1 second"),
        ("id = \"one\"", "id = \"one\"\nmax_unwitnessed = 4", 2, "invalid type"),
        ("consent_text = \"May we?\"", "consent_text = \"May we?\"\nmax_data_age = \"1w\"", 39, "an age is 1 second"),
        ("id = \"one\"", "id = \"one\"\nlimits = { releases_per_day = 0 }", 2, "a limit of 0"),
        ("id = \"one\"", "id = \"one\"\ndisclosure.dominance = { largest = 0, share = 90 }", 2, "the largest 1 to 5 contributors, not 0"),
        ("id = \"one\"", "id = \"one\"\ndisclosure.dominance = { largest = 6, share = 90 }", 2, "the largest 1 to 5 contributors, not 6"),
        ("id = \"one\"", "id = \"one\"\ndisclosure.dominance = { largest = 2, share = 0 }", 2, "1 to 100 percent, not 0"),
        ("id = \"one\"", "id = \"one\"\ndisclosure.dominance = { largest = 2, share = 101 }", 2, "1 to 100 percent, not 101"),
        ("id = \"one\"", "id = \"one\"\ndisclosure.dominance = { largest = 2 }", 2, "missing field `share`"),
        ("id = \"one\"", "id = \"one\"\ndisclosure.p_percent = 101", 2, "p_percent is 101"),
        ("id = \"one\"", "id = \"one\"\ndisclosure.round_to = 0", 2, "rounded to multiples of 0"),
        ("id = \"one\"", "id = \"one\"\ndisclosure.round_to = 101", 2, "rounded to multiples of 101"),
        ("id = \"one\"", "id = \"one\"\ndisclosure.margins = \"shown\"", 2, "expected `open` or `protected`"),
        ("id = \"one\"", "id = \"one\"\ndisclosure.zeros = \"open\"", 2, "expected `shown` or `withheld`"),
        ("id = \"one\"", "id = \"one\"\ndisclosure.minimum = 10", 2, "unknown field"),
        ("id = \"one\"", "id = \"one\"\ndisclosure.perturbation = { variance = 1, most = 1 }", 2, "at most 2 to 20 subjects, not 1"),
        ("id = \"one\"", "id = \"one\"\ndisclosure.perturbation = { variance = 1, most = 21 }", 2, "at most 2 to 20 subjects, not 21"),
        ("id = \"one\"", "id = \"one\"\ndisclosure.perturbation = { variance = 0, most = 5 }", 2, "a variance of 1 to 10, not 0"),
        ("id = \"one\"", "id = \"one\"\ndisclosure.perturbation = { variance = 11, most = 5 }", 2, "a variance of 1 to 10, not 11"),
        ("signing_key = \"sha256:0", "signing_key = \"sha1:0", 11, "fingerprint"),
        ("department = \"dwp\"\nname", "department = \"hmrc\"\nname", 34, "not a party"),
        ("type = \"nino\", uses = [\"join\"]", "type = \"passport\", uses = [\"join\"]", 36, "unknown identifier type"),
        ("type = \"nino\", uses = [\"join\"]", "type = \"nino\", uses = [\"filter\"]", 35, "cannot be filtered"),
        ("consent_text = \"May we?\"", "power = \"DEA\"", 35, "lawful basis"),
        (", values = [\"N\", \"S\"]", "", 29, "published list of values"),
        ("uses = [\"filter\"] }", "uses = [\"filter\", \"join\"] }", 40, "only the pseudonym joins"),
        ("uses = [\"filter\"] }", "uses = [\"filter\"], filter = \"listed\" }", 40, "needs the column's published list"),
        ("uses = [\"filter\"] }", "uses = [\"filter\"], filter = \"listed\", values = [] }", 40, "values of the column's type"),
        ("uses = [\"filter\"] }", "uses = [\"filter\"], filter = \"listed\", values = [\"1\", \"x\"] }", 40, "values of the column's type"),
        ("uses = [\"group_by\", \"filter\"]", "uses = [\"group_by\"], filter = \"listed\"", 29, "which the column does not have"),
        ("type = \"integer\", classification", "type = \"boolean\", filter = \"listed\", classification", 40, "has two values"),
        ("uses = [\"filter\"] }", "uses = [\"filter\"], filter = \"ranges\" }", 40, "unknown variant"),
        ("uses = [\"filter\"] }", "uses = [\"filter\"], bands = [\"1\", \"2\"] }", 40, "without filter = \"bands\""),
        ("uses = [\"filter\"] }", "uses = [\"filter\"], filter = \"bands\" }", 40, "2 to 64 thresholds"),
        ("uses = [\"filter\"] }", "uses = [\"filter\"], filter = \"bands\", bands = [\"1\"] }", 40, "2 to 64 thresholds"),
        ("uses = [\"filter\"] }", "uses = [\"filter\"], filter = \"bands\", bands = [\"1\", \"2.5\"] }", 40, "not of the column's type"),
        ("uses = [\"filter\"] }", "uses = [\"filter\"], filter = \"bands\", bands = [\"1\", \"1\"] }", 40, "do not ascend"),
        ("uses = [\"filter\"] }", "uses = [\"filter\"], filter = \"bands\", bands = [\"2\", \"1\"] }", 40, "do not ascend"),
        ("uses = [\"filter\"] }", "uses = [], filter = \"bands\", bands = [\"1\", \"2\"] }", 40, "which the column does not have"),
        (
            "type = \"integer\", classification",
            "type = \"boolean\", filter = \"bands\", bands = [\"0\", \"1\"], classification",
            40,
            "only numbers and dates",
        ),
        ("amount = {", "subject = {", 0, "reserved"),
        ("amount = {", "linked_subject = {", 0, "reserved"),
        ("consent_text = \"May we?\"", "consent_text = \"May we?\"\nlinked = { type = \"nino\" }", 35, "of one type"),
        (
            "consent_text = \"May we?\"",
            "consent_text = \"May we?\"\nlinked = { type = \"upn\", uses = [\"output\"] }",
            35,
            "only be joined on",
        ),
        ("amount = {", "\"Amount x\" = {", 40, "a column's name"),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let text = GOOD.replacen(from, to, 1);
        let problems = Agreement::parse(&text).unwrap_err();
        let problem = problems.iter().find(|p| p.cause.contains(cause)).unwrap_or_else(|| panic!("{cause}: {problems:?}"));
        assert!(!problem.remedy.is_empty());
        if line > 0 {
            assert_eq!(problem.line(&text), line, "{cause}: {problem:?}");
        }
    }
}
