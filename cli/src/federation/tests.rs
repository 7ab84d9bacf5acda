use std::os::unix::fs::PermissionsExt as _;

use concordat_mission::snapshot::definition;
use concordat_mission::{Mission, Outcome};
use concordat_policy::disclosure::{Dominance, Margins, Perturbation, Telling};
use concordat_policy::{Agreement, Disclosure, PurposeTree};
use concordat_proto::signature::files;
use concordat_proto::token::{Bearer, BearerType, Begins, VerifyingKey, verify_bearer};

use super::*;

fn today() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 3, 1).unwrap()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_sample_federation_parses_and_every_party_has_its_own_copies() {
    let folder = tempfile::tempdir().unwrap();
    let made = make(&crate::sample::federation(today()), folder.path(), today()).unwrap();
    let tree = PurposeTree::parse(&read(&made.layout.estate().join("purposes.toml"))).unwrap();
    assert!(tree.iter().any(|purpose| purpose.retired));
    assert_eq!(made.layout.departments().unwrap(), ["dbt", "dfe", "dhsc", "dsit", "dwp"]);
    for (id, parties) in [("opportunity", 5), ("healthy-life", 2)] {
        let text = read(&made.layout.estate().join(format!("agreements/{id}.toml")));
        let agreement = Agreement::parse(&text).unwrap();
        assert_eq!(agreement.parties.len(), parties);
        assert!(agreement.purposes.iter().all(|purpose| tree.active(purpose).is_some()));
        for party in &agreement.parties {
            let node = made.layout.node(party.department.as_str());
            let copy = node.join(format!("agreements/{id}.toml"));
            assert_eq!(read(&copy), text);
            for signer in &agreement.parties {
                let statement = files::find(&copy, &signer.department).unwrap();
                statement.judge(&agreement, &signer.department, &Default::default(), &Default::default(), chrono::Utc::now()).unwrap();
            }
            assert_eq!(PurposeTree::parse(&read(&node.join("purposes.toml"))).unwrap(), tree);
            let keys = made.fingerprints.get(party.department.as_str()).unwrap();
            assert_eq!((&keys.signing, &keys.linkage), (&party.signing_key, &party.linkage_key));
        }
    }
    for file in ["gateway/gateway.toml", "nodes/dfe/node.toml", "estate/departments.toml", "estate/missions.toml", "client/client.toml"] {
        toml::from_str::<toml::Table>(&read(&folder.path().join(file))).unwrap_or_else(|e| panic!("{file}: {e}"));
    }
}

#[test]
fn the_samples_missions_fit_its_estate() {
    let folder = tempfile::tempdir().unwrap();
    let made = make(&crate::sample::federation(today()), folder.path(), today()).unwrap();
    let estate = made.layout.estate();
    let read_estate = || crate::run::estate(&estate, &made.layout.gateway().join("state")).unwrap();
    let (known, objects) = read_estate();
    let missions = objects.sound;
    let outcomes: Vec<String> =
        missions.iter().flat_map(|mission| mission.outcomes.iter().map(|outcome| format!("{}/{}", mission.id, outcome.id))).collect();
    assert_eq!(outcomes, ["opportunity/fewer-on-benefits", "opportunity/more-complete", "strong-economy/more-sell-abroad"]);
    assert!(missions.iter().all(|mission| known.missions.iter().any(|declared| declared.id == mission.id)));
    for (file, from, to, says) in [
        ("missions/opportunity.toml", "column = \"share_claiming\"", "column = \"share\"", "no column 'share'"),
        ("missions/opportunity.toml", "view = \"claims_by_region\"", "view = \"firms_selling_abroad\"", "not one of the mission's"),
        ("missions/strong-economy.toml", "\"economy.measure\"", "\"opportunity.measure\"", "no agreement of the mission permits it"),
        ("missions/strong-economy.toml", "\"dsit\"", "\"dsi\"", "the department 'dsi'"),
        ("missions/strong-economy.toml", "\"strong-economy\"", "\"opportunity\"", "the title of the mission"),
        ("views/claims_by_region.sql", "AS share_claiming", "", "has no name"),
    ] {
        let path = estate.join(file);
        let text = read(&path);
        assert!(text.contains(from), "{from}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
        let (_, objects) = read_estate();
        let [wrong] = objects.wrong.as_slice() else { panic!("{says}: {:?}", objects.wrong) };
        assert!(wrong.to_string().contains(says) && wrong.to_string().contains("remedy"), "{says}: {wrong}");
        assert_eq!(objects.sound.len(), 1, "the other mission loses nothing: {says}");
        std::fs::write(&path, text).unwrap();
    }
    // A view that the outcome's view uses is part of what it measures.
    let of = |name: &str| estate.join(format!("views/{name}.sql"));
    let text = read(&of("claims_by_region"));
    std::fs::write(of("claims_inside"), &text).unwrap();
    let outer = "-- mission: opportunity\n-- title: Claims\nSELECT region, total, persons, share_claiming FROM claims_inside\n";
    std::fs::write(of("claims_by_region"), outer).unwrap();
    let outcome = &missions[0].outcomes[0];
    let measured = || definition(outcome, &read_estate().0.statements(&missions[0].id, &outcome.view));
    let before = measured();
    std::fs::write(of("claims_inside"), text.replace("WHEN c.claiming", "WHEN NOT c.claiming")).unwrap();
    assert_ne!(measured(), before);
    // A template is no view, and what is made of it is one, with the value in its place.
    let select = read(&of("claims_inside")).replacen("WHEN NOT c.claiming", "WHEN c.claiming AND a.region = $region", 1);
    let select: Vec<&str> = select.lines().filter(|line| !line.starts_with("--")).collect();
    let head = "-- mission: opportunity\n-- title: Claims\n";
    std::fs::write(of("claims_of"), format!("{head}-- parameter: region text\n{}\n", select.join("\n"))).unwrap();
    std::fs::write(of("claims_of_london"), format!("{head}-- of: claims_of\n-- with: region = 'London'\n")).unwrap();
    let (known, objects) = read_estate();
    assert!(objects.wrong.is_empty(), "{:?}", objects.wrong);
    assert!(known.views.iter().all(|view| view.name != "claims_of") && known.templates[0].views == ["claims_of_london"]);
    let view = known.views.iter().find(|view| view.name == "claims_of_london").unwrap();
    assert!(view.sql.contains("a.region = 'London'") && !view.sql.contains('$'), "{}", view.sql);
    std::fs::write(of("claims_of_all"), format!("{head}{}\n", select.join("\n"))).unwrap();
    let wrong = read_estate().1.wrong;
    assert!(wrong.len() == 1 && wrong[0].to_string().contains("'$region' is a parameter that no"), "{wrong:?}");
    std::fs::remove_file(of("claims_of_all")).unwrap();
    // An agreement whose file is wrong is told, and is the matter of its own missions.
    let path = estate.join("agreements/opportunity.toml");
    let text = read(&path);
    std::fs::write(&path, text.replacen("id = ", "id : ", 1)).unwrap();
    let (known, objects) = read_estate();
    assert!(objects.agreements_left_out == 1 && objects.wrong[0].to_string().contains("opportunity.toml"), "{:?}", objects.wrong);
    assert!(known.agreements.iter().all(|agreement| agreement.id.as_str() != "opportunity") && objects.sound.len() == 1);
    assert!(
        concordat_gateway::estate::Estate::load(&estate, &made.layout.gateway().join("state")).is_err(),
        "a gateway plans nothing by it"
    );
    std::fs::write(&path, text).unwrap();
    // Without its agreement a mission's outcomes are not measured any more, and can be told; the other's are as they were.
    std::fs::remove_file(estate.join("agreements/opportunity.toml")).unwrap();
    let (known, objects) = read_estate();
    assert_eq!((objects.sound.len(), objects.unsound.len()), (1, 1), "{:?}", objects.wrong);
    let covered = |mission: &Mission, outcome: &Outcome| {
        let covered = known.covered(mission, outcome, chrono::Utc::now());
        assert!(!covered.is_empty());
        covered.iter().filter(|one| one.by.is_none()).count()
    };
    assert_eq!(covered(&missions[0], outcome), 2);
    assert_eq!(covered(&missions[1], &missions[1].outcomes[0]), 0);
    let of_another = Mission { owner: "another-unit".into(), ..missions[1].clone() };
    assert!(covered(&of_another, &of_another.outcomes[0]) > 0, "its agreements answer nobody else");
    std::fs::remove_dir_all(estate.join("missions")).unwrap();
    assert!(read_estate().1.sound.is_empty(), "an estate may have none");
}

/// What an agreement says of disclosure is what its document says, and a document says what differs only.
#[test]
fn disclosure_rules_are_written_as_described() {
    let default = Disclosure::default();
    let dominance = |rules: &[(u32, u32)]| rules.iter().map(|(largest, share)| Dominance { largest: *largest, share: *share }).collect();
    let described = |disclosure: &Disclosure| {
        let mut federation = crate::sample::federation(today());
        federation.agreements.iter_mut().for_each(|agreement| agreement.disclosure = disclosure.clone());
        let folder = tempfile::tempdir().unwrap();
        make(&federation, folder.path(), today()).map(|made| read(&made.layout.estate().join("agreements/opportunity.toml")))
    };
    assert!(!described(&default).unwrap().contains("disclosure"), "the default goes without saying");
    for disclosure in [
        Disclosure { round_to: 1, ..default.clone() },
        Disclosure { dominance: dominance(&[(3, 85)]), homogeneous: Telling::Withheld, ..default.clone() },
        Disclosure { perturbation: Some(Perturbation { variance: 2, most: 5 }), ..default.clone() },
        Disclosure { p_percent: 0, complement: Telling::Shown, zeros: Telling::Shown, margins: Margins::Open, ..default.clone() },
    ] {
        let text = described(&disclosure).unwrap();
        assert_eq!(Agreement::parse(&text).unwrap().disclosure, disclosure, "{text}");
    }
    for rules in [dominance(&[]), dominance(&[(1, 50), (2, 90)])] {
        let failure = described(&Disclosure { dominance: rules, ..default.clone() }).unwrap_err();
        assert!(failure.message.contains("dominance rules"), "{failure}");
    }
}

#[test]
fn secrets_are_their_owners_only() {
    let folder = tempfile::tempdir().unwrap();
    make(&crate::sample::federation(today()), folder.path(), today()).unwrap();
    let mut folders = vec![folder.path().to_owned()];
    let mut secrets = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.contains(".key") {
                secrets += 1;
                assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
            }
        }
    }
    assert_eq!(secrets, 1 + 1 + 3 + 5 * 5, "authority, issuer, gateway, and five of each node");
}

#[test]
fn the_key_set_verifies_the_issuers_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let federation = crate::sample::federation(today());
    let made = make(&federation, folder.path(), today()).unwrap();
    let now = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let token = made.issuer.token(&federation.caller, 10, now).unwrap();
    let set: serde_json::Value = serde_json::from_str(&read(&folder.path().join("issuer/jwks.json"))).unwrap();
    assert_eq!(set["keys"][0]["kid"], made.issuer.key_id.as_str());
    let spki = made.issuer.key.public_spki();
    let bearer =
        Bearer { issuer: issuer::ISSUER, audience: issuer::AUDIENCE, max_lifetime: 3600, kind: BearerType::Jwt, begins: Begins::NotBefore };
    let key = VerifyingKey::ed25519_spki(spki).unwrap();
    let claims = verify_bearer(&token, &key, &bearer, 1_800_000_000).unwrap();
    assert_eq!(claims["organisation"], federation.caller.organisation.as_str());
    assert!(make(&federation, folder.path(), today()).is_err(), "a federation is never overwritten");
}

#[test]
fn an_agreement_with_a_party_that_has_no_node_is_not_adopted() {
    let folder = tempfile::tempdir().unwrap();
    let made = make(&crate::sample::federation(today()), folder.path(), today()).unwrap();
    let text = read(&made.layout.estate().join("agreements/opportunity.toml"))
        .replace("\"dbt\"", "\"dft\"")
        .replace("id = \"opportunity\"", "id = \"other\"");
    let failure = adopt(&made.layout, &text).unwrap_err();
    assert!(failure.message.contains("dft"), "{failure}");
    assert!(!made.layout.estate().join("agreements/other.toml").exists());
    assert!(adopt(&made.layout, "id = 1").is_err());
    // A party whose key is not its node's cannot be made to sign.
    let keys = made.fingerprints.get("dwp").unwrap();
    let text = read(&made.layout.estate().join("agreements/healthy-life.toml"));
    let text = text.replace(keys.signing.as_str(), keys.linkage.as_str()).replace("id = \"healthy-life\"", "id = \"other\"");
    let failure = adopt(&made.layout, &text).unwrap_err();
    assert!(failure.message.contains("another signing key of 'dwp'"), "{failure}");
    assert!(!made.layout.estate().join("agreements/other.toml").exists());
}
