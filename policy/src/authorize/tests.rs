use super::*;
use crate::signature::Fault;
use crate::testing::{AGREEMENT, name, signed};

/// [`super::authorize`], as if every party had signed every agreement.
fn authorize(
    caller: &Caller,
    mission: Option<&Name>,
    agreements: &[Agreement],
    purposes: &PurposeTree,
    now: DateTime<Utc>,
) -> Result<Permit, Refusal> {
    let signatures = signed(&agreements.iter().collect::<Vec<_>>());
    super::authorize(caller, mission, agreements, &signatures, purposes, now)
}

fn tree() -> PurposeTree {
    PurposeTree::parse(
        r#"purpose = [
          { id = "opportunity", title = "O" },
          { id = "opportunity.measure", title = "M", parent = "opportunity" },
          { id = "opportunity.measure.region", title = "R", parent = "opportunity.measure" },
          { id = "opportunity.old", title = "X", parent = "opportunity.measure", retired = true },
          { id = "health", title = "H" },
        ]"#,
    )
    .unwrap()
}

fn caller(organisation: &str, role: &str, purpose: &str) -> Caller {
    Caller { subject: "u".into(), organisation: organisation.into(), roles: [role.to_owned()].into(), purpose: name(purpose) }
}

fn now() -> DateTime<Utc> {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

/// The whole matrix, as a policy officer would read it.
#[test]
fn organisation_by_role_by_purpose() {
    let agreements = [Agreement::parse(AGREEMENT).unwrap()];
    let mut matrix = String::new();
    for organisation in ["mission-unit", "other-unit"] {
        for role in ["analyst", "visitor"] {
            for purpose in ["opportunity", "opportunity.measure", "opportunity.measure.region", "opportunity.old", "health", "unknown"] {
                let decision = authorize(&caller(organisation, role, purpose), None, &agreements, &tree(), now());
                let word = decision.map_or_else(
                    |r| r.code.as_str().to_owned(),
                    |p| p.datasets().map(|d| d.dataset.name.to_string()).collect::<Vec<_>>().join(" "),
                );
                matrix.push_str(&format!("{organisation:<13} {role:<8} {purpose:<27} {word}\n"));
            }
        }
    }
    insta::assert_snapshot!(matrix, @r"
    mission-unit  analyst  opportunity                 denied
    mission-unit  analyst  opportunity.measure         dfe.attainment dwp.claims
    mission-unit  analyst  opportunity.measure.region  dfe.attainment dwp.claims
    mission-unit  analyst  opportunity.old             denied
    mission-unit  analyst  health                      denied
    mission-unit  analyst  unknown                     denied
    mission-unit  visitor  opportunity                 denied
    mission-unit  visitor  opportunity.measure         denied
    mission-unit  visitor  opportunity.measure.region  denied
    mission-unit  visitor  opportunity.old             denied
    mission-unit  visitor  health                      denied
    mission-unit  visitor  unknown                     denied
    other-unit    analyst  opportunity                 denied
    other-unit    analyst  opportunity.measure         denied
    other-unit    analyst  opportunity.measure.region  denied
    other-unit    analyst  opportunity.old             denied
    other-unit    analyst  health                      denied
    other-unit    analyst  unknown                     denied
    other-unit    visitor  opportunity                 denied
    other-unit    visitor  opportunity.measure         denied
    other-unit    visitor  opportunity.measure.region  denied
    other-unit    visitor  opportunity.old             denied
    other-unit    visitor  health                      denied
    other-unit    visitor  unknown                     denied
    ");
}

#[test]
fn no_agreement_denies_and_dates_are_whole_days() {
    let good = caller("mission-unit", "analyst", "opportunity.measure");
    assert_eq!(authorize(&good, None, &[], &tree(), now()).unwrap_err().code, Code::Denied);
    let agreements = [Agreement::parse(AGREEMENT).unwrap()];
    for (at, permitted) in
        [("2025-12-31T23:59:59Z", false), ("2026-01-01T00:00:00Z", true), ("2026-12-31T23:59:59Z", true), ("2027-01-01T00:00:00Z", false)]
    {
        assert_eq!(authorize(&good, None, &agreements, &tree(), at.parse().unwrap()).is_ok(), permitted, "{at}");
    }
    assert_eq!(authorize(&good, Some(&name("elsewhere")), &agreements, &tree(), now()).unwrap_err().code, Code::Denied);
    assert_eq!(authorize(&good, None, &agreements, &PurposeTree::default(), now()).unwrap_err().code, Code::Denied);
}

#[test]
fn ambiguity_refuses() {
    let good = caller("mission-unit", "analyst", "opportunity.measure");
    let one = Agreement::parse(AGREEMENT).unwrap();
    let same_mission = Agreement::parse(&AGREEMENT.replace("id = \"one\"", "id = \"two\"")).unwrap();
    let refusal = authorize(&good, None, &[one.clone(), same_mission], &tree(), now()).unwrap_err();
    assert!(refusal.code == Code::Invalid && refusal.message.contains("two agreements"), "{refusal}");
    let other_mission = AGREEMENT.replace("mission = \"m\"", "mission = \"n\"").replace("id = \"one\"", "id = \"three\"");
    let other_mission = Agreement::parse(&other_mission).unwrap();
    let both = [one, other_mission];
    assert_eq!(authorize(&good, None, &both, &tree(), now()).unwrap_err().code, Code::Invalid);
    assert_eq!(authorize(&good, Some(&name("n")), &both, &tree(), now()).unwrap().mission(), &name("n"));
}

#[test]
fn an_agreement_that_a_party_has_not_signed_permits_nothing_and_says_whose_signature_it_lacks() {
    let good = caller("mission-unit", "analyst", "opportunity.measure");
    let one = Agreement::parse(AGREEMENT).unwrap();
    let ask = |caller: &Caller, agreements: &[Agreement], signatures: &Signatures| {
        super::authorize(caller, None, agreements, signatures, &tree(), now())
    };
    let refusal = ask(&good, std::slice::from_ref(&one), &Signatures::default()).unwrap_err();
    assert_eq!(refusal.code, Code::Denied);
    assert!(refusal.message.contains("'one' does not bind: the signature of 'dfe' is missing; the signature of 'dwp' is missing"));
    for party in ["dfe", "dwp"] {
        let mut signatures = signed(&[&one]);
        signatures.add(&one.id, &name(party), Err(Fault::Forged));
        let refusal = ask(&good, std::slice::from_ref(&one), &signatures).unwrap_err();
        assert_eq!((refusal.code, refusal.department.as_deref()), (Code::Denied, Some(party)));
        // Who could not use it anyway learns nothing of it.
        let stranger = caller("other-unit", "analyst", "opportunity.measure");
        let told = ask(&stranger, std::slice::from_ref(&one), &signatures).unwrap_err();
        assert_eq!(told, ask(&stranger, &[], &signatures).unwrap_err());
    }
    // Beside one that is signed: its own datasets only are refused, and it makes nothing ambiguous.
    let text = AGREEMENT.replace("id = \"one\"", "id = \"two\"").replace("name = \"claims\"", "name = \"homes\"");
    let two = Agreement::parse(&text).unwrap();
    let elsewhere = Agreement::parse(&text.replace("mission = \"m\"", "mission = \"n\"").replace("\"two\"", "\"three\"")).unwrap();
    let permit = ask(&good, &[one.clone(), two, elsewhere], &signed(&[&one])).unwrap();
    assert_eq!(permit.datasets().map(|d| d.agreement.as_str()).collect::<BTreeSet<_>>(), ["one"].into());
    let homes = DatasetName::new(name("dwp"), name("homes"));
    let mut uses = ColumnUses::default();
    uses.add(&homes, SUBJECT, Use::Join);
    let refusal = permit.judge(&uses).unwrap_err();
    assert!(permit.dataset(&homes).is_none() && refusal.message.contains("the agreement 'two' does not bind"), "{refusal}");
    assert!(permit.told(&DatasetName::new(name("dwp"), name("claims"))).is_none());
}

#[test]
fn an_organisation_that_may_know_of_a_dataset_is_told_that_it_exists_and_no_more() {
    let one = Agreement::parse(AGREEMENT).unwrap();
    let other = |known: &str| {
        let text = AGREEMENT.replace("id = \"one\"", "id = \"two\"").replace("\"opportunity.measure\"", "\"health\"");
        Agreement::parse(&text.replace("name = \"claims\"", &format!("name = \"homes\"\nknown_to = [{known}]"))).unwrap()
    };
    let homes = DatasetName::new(name("dwp"), name("homes"));
    let told = |agreements: &[Agreement], signatures: &Signatures, now| {
        let good = caller("mission-unit", "analyst", "opportunity.measure");
        let permit = super::authorize(&good, None, agreements, signatures, &tree(), now).unwrap();
        let mut uses = ColumnUses::default();
        uses.add(&homes, "amount", Use::Filter);
        permit.judge(&uses).unwrap_err()
    };
    let all = [one.clone(), other("\"mission-unit\"")];
    let refusal = told(&all, &signed(&[&all[0], &all[1]]), now());
    assert_eq!(refusal.message, "dwp.homes exists, and no agreement lets you use it for this purpose");
    assert_eq!((refusal.code, refusal.department.as_deref()), (Code::Denied, Some("dwp")));
    assert_eq!(known_to("mission-unit", &all, &signed(&[&all[0], &all[1]]), now()), [&homes].into());
    // Not by an agreement that does not bind, nor by one that names somebody else.
    for (known, signatures) in [("\"mission-unit\"", signed(&[&one])), ("\"other-unit\"", signed(&[&one, &other("\"other-unit\"")]))] {
        let refusal = told(&[one.clone(), other(known)], &signatures, now());
        assert_eq!(refusal.because.as_deref(), Some(&Cause::Hidden { column: None }), "{known}");
        assert!(known_to("mission-unit", &[one.clone(), other(known)], &signatures, now()).is_empty());
    }
    assert!(known_to("mission-unit", &all, &signed(&[&all[0], &all[1]]), "2027-01-01T00:00:00Z".parse().unwrap()).is_empty());
}

/// Every single use, against the agreement's text; and a permission that is taken away never widens what is allowed.
#[test]
fn judging_follows_the_agreement_and_less_never_allows_more() {
    let uses = [Use::Output, Use::GroupBy, Use::Aggregate, Use::Filter, Use::Join];
    let permit = |text: &str| {
        let agreements = [Agreement::parse(text).unwrap()];
        authorize(&caller("mission-unit", "analyst", "opportunity.measure"), None, &agreements, &tree(), now()).unwrap()
    };
    let allowed = |permit: &Permit| {
        let mut found = BTreeSet::new();
        for (department, dataset) in [("dfe", "attainment"), ("dwp", "claims"), ("hmrc", "income")] {
            for column in ["subject", "region", "score", "secret", "amount", "absent"] {
                for used in uses {
                    let mut request = ColumnUses::default();
                    request.add(&DatasetName::new(name(department), name(dataset)), column, used);
                    if permit.judge(&request).is_ok() {
                        found.insert(format!("{department}.{dataset}.{column}: {used}"));
                    }
                }
            }
        }
        found
    };
    let whole = allowed(&permit(AGREEMENT));
    insta::assert_snapshot!(whole.iter().cloned().collect::<Vec<_>>().join("\n"), @r"
    dfe.attainment.region: filter
    dfe.attainment.region: group_by
    dfe.attainment.score: aggregate
    dfe.attainment.subject: aggregate
    dfe.attainment.subject: join
    dwp.claims.amount: filter
    dwp.claims.subject: join
    ");
    for (with, without) in [
        ("[\"aggregate\", \"join\"]", "[\"join\"]"),
        ("[\"group_by\", \"filter\"]", "[\"filter\"]"),
        ("uses = [\"aggregate\"] }", "uses = [] }"),
        ("uses = [\"filter\"] }", "uses = [] }"),
        ("uses = [\"join\"] }", "uses = [] }"),
    ] {
        assert!(AGREEMENT.contains(with), "{with}");
        let less = AGREEMENT.replacen(with, without, 1);
        let less = allowed(&permit(&less));
        assert!(less.is_subset(&whole) && less != whole, "without {with}");
    }
}

#[test]
fn a_refusal_names_column_use_department_and_agreement() {
    let agreements = [Agreement::parse(AGREEMENT).unwrap()];
    let permit = authorize(&caller("mission-unit", "analyst", "opportunity.measure"), None, &agreements, &tree(), now()).unwrap();
    let mut request = ColumnUses::default();
    request.add(&DatasetName::new(name("dwp"), name("claims")), "amount", Use::Aggregate);
    let refusal = permit.judge(&request).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "dwp.claims.amount may not be used for aggregate: agreement 'one' does not permit it (permitted uses: filter)"
    );
    assert_eq!(refusal.department.as_deref(), Some("dwp"));
    assert_eq!(permit.minimum_subjects([&DatasetName::new(name("x"), name("y"))]), u32::MAX, "an unknown dataset is the strictest");
}
