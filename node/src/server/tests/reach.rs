//! Whose choices reach other parties' data: to whom it is told, under which agreement, and what a change costs.

use concordat_policy::consent::Event;
use concordat_policy::{Agreement, IdentifierType, LinkageDomain};
use concordat_proto::reach::{Changes, Pseudonym, Reading, Statement};
use concordat_proto::receipt::Standing;
use concordat_proto::v1::consent_reach_client::ConsentReachClient;

use super::*;
use crate::consent::ledger::{Details, Record};
use crate::pseudonym::Pseudonyms;

const CONSENT: i32 = v1::Basis::Consent as i32;
const HONOURING: i32 = v1::Basis::StatutoryHonouringObjections as i32;

/// Another department's data on consent, beside its data under a power.
const PENSIONS: &str = r#"
[[dataset]]
department = "dwp"
name = "pensions"
identifier = { type = "nino", uses = ["join"] }
basis = "consent"
consent_text = "May we?"
"#;

fn reaching(world: &World) {
    let file = "agreements/opportunity.toml";
    world.replace(file, "mission = ", "withdrawals = \"all_parties\"\nmission = ");
    world.write(file, &(std::fs::read_to_string(world.path(file)).unwrap() + PENSIONS));
    world.resign();
}

fn agreement(running: &Running) -> Agreement {
    Agreement::parse(&std::fs::read_to_string(running.world.path("agreements/opportunity.toml")).unwrap()).unwrap()
}

fn domain(running: &Running) -> LinkageDomain {
    LinkageDomain::at(name("opportunity"), name("opportunity.measure"), &agreement(running).linkage, Utc::now()).unwrap()
}

fn request(running: &Running, basis: i32, since: Option<&Statement>) -> v1::ReachRequest {
    let standing = since.map(|since| since.standing).unwrap_or_default();
    v1::ReachRequest {
        id: "request-1".into(),
        domain: Some(v1::Domain::from(&domain(running))),
        agreement: "opportunity-2026".into(),
        agreement_digest: agreement(running).digest,
        basis,
        since_generation: standing.generation,
        since_version: standing.version,
        since_rules: since.map(|since| since.rules.clone()).unwrap_or_default(),
        since_moment: since.map(|since| since.judged_at).unwrap_or_default(),
    }
}

/// What is told, what is stated of it, and how many bytes it took.
async fn told(running: &Running, request: v1::ReachRequest) -> Result<(Changes, Statement, usize), tonic::Status> {
    let mut stream = ConsentReachClient::new(running.gateway().await).changes(request).await?.into_inner();
    let (mut reading, mut token, mut bytes) = (Reading::new(1_000_000), None, 0);
    while let Some(message) = stream.message().await? {
        bytes += message.encoded_len();
        token = reading.take(message).unwrap().or(token);
    }
    let changes = reading.changes().unwrap();
    let statement = Statement::verify(&token.unwrap(), &name("dfe"), &running.node.verifying, Utc::now().timestamp()).unwrap();
    assert_eq!((statement.sub.as_str(), &statement.domain), ("request-1", &domain(running).to_string()));
    assert_eq!((&statement.changes_sha256, &statement.agreement_digest), (&changes.digest(), &agreement(running).digest));
    Ok((changes, statement, bytes))
}

/// Records choices, as the department's own systems do.
fn record(running: &Running, records: &[(&str, &str, Event)]) {
    let record = |(identifier, purpose, event): &(&str, &str, Event)| Record {
        identifier_type: "nino".into(),
        identifier: (*identifier).to_owned(),
        purpose: name(purpose),
        event: *event,
        details: Details::default(),
    };
    running.node.consent.record(&records.iter().map(record).collect::<Vec<_>>()).unwrap();
}

/// The pseudonyms of some people, ascending.
fn pseudonyms(running: &Running, identifiers: &[&str]) -> Vec<Pseudonym> {
    let key = running.node.linkage.key(&running.node.agreements.now(), &agreement(running), &domain(running), Utc::now()).unwrap();
    let maker = Pseudonyms::derive(&key, &domain(running), &IdentifierType::Nino);
    let mut all: Vec<Pseudonym> = identifiers.iter().map(|identifier| maker.one(identifier)).collect();
    all.sort_unstable();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn first_the_whole_list_is_told_then_what_changed() {
    let running = Running::with(reaching).await;
    let own = |identifiers: &[&str]| pseudonyms(&running, identifiers);
    let (changes, consent, _) = told(&running, request(&running, CONSENT, None)).await.unwrap();
    assert_eq!(
        (&changes.added, changes.removed.len()),
        (&own(&["AB100002A"]), 0),
        "who withdrew, and nobody who only agreed or is unknown"
    );
    assert_eq!((consent.since, consent.standing), (None, Standing { generation: 0, version: 5 }));
    let (changes, honouring, _) = told(&running, request(&running, HONOURING, None)).await.unwrap();
    assert_eq!(changes, Changes::default(), "a withdrawal does not reach data under a power");

    record(&running, &[("AB100003A", "opportunity", Event::Objected)]);
    for (basis, since) in [(CONSENT, &consent), (HONOURING, &honouring)] {
        let (changes, statement, _) = told(&running, request(&running, basis, Some(since))).await.unwrap();
        assert_eq!(changes, Changes { added: own(&["AB100003A"]), removed: Vec::new() }, "an objection reaches both");
        assert_eq!((statement.since, statement.standing.version), (Some(since.standing), 6));
    }
    record(
        &running,
        &[
            ("AB100002A", "opportunity", Event::Given),
            ("AB100009A", "opportunity", Event::Given),
            ("AB100004A", "health", Event::Withdrawn),
            ("AB100001A", "opportunity.measure", Event::Withdrawn),
        ],
    );
    let (changes, later, _) = told(&running, request(&running, CONSENT, Some(&consent))).await.unwrap();
    assert_eq!(changes, Changes { added: own(&["AB100001A", "AB100003A"]), removed: own(&["AB100002A"]) });
    let (changes, same, bytes) = told(&running, request(&running, CONSENT, Some(&later))).await.unwrap();
    assert!(changes == Changes::default() && same.standing == later.standing && bytes < 2_000, "{bytes}");

    // Of another generation, of the future, or by other rules, everything is told anew.
    let whole = own(&["AB100001A", "AB100003A"]);
    let changed: [fn(&mut v1::ReachRequest); 3] =
        [|r| r.since_generation = 1, |r| r.since_version += 1, |r| r.since_rules = "other".into()];
    for change in changed {
        let mut request = request(&running, CONSENT, Some(&later));
        change(&mut request);
        let (changes, statement, _) = told(&running, request).await.unwrap();
        assert_eq!((statement.since, changes), (None, Changes { added: whole.clone(), removed: Vec::new() }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_changes_are_told_in_kilobytes_and_the_log_names_nobody() {
    let running = Running::with(reaching).await;
    let (_, first, _) = told(&running, request(&running, CONSENT, None)).await.unwrap();
    let people: Vec<String> = (0..1_000).map(|n| format!("ZX{n:06}A")).collect();
    let records: Vec<_> = people.iter().map(|person| (person.as_str(), "opportunity", Event::Withdrawn)).collect();
    record(&running, &records);
    let (changes, last, bytes) = told(&running, request(&running, CONSENT, Some(&first))).await.unwrap();
    assert_eq!(changes.added, pseudonyms(&running, &people.iter().map(String::as_str).collect::<Vec<_>>()));
    assert!(bytes < 18_000, "{bytes} bytes");
    told(&running, request(&running, CONSENT, Some(&last))).await.unwrap();
    let log = running.world.log();
    let sent: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|entry: &serde_json::Value| entry["event"] == "reach.sent")
        .collect();
    let told: Vec<_> =
        sent.iter().map(|entry| (entry["since"].as_u64(), entry["added"].as_u64(), entry["consent_version"].as_u64())).collect();
    assert_eq!(told, [(None, Some(1), Some(5)), (Some(5), Some(1_000), Some(1_005))], "what tells of nobody is not logged");
    assert!(!log.contains("ZX000") && !log.contains("AB100002A"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_a_signed_agreement_says_is_told_and_only_to_the_gateway() {
    let running = Running::new().await;
    let silent = told(&running, request(&running, CONSENT, None)).await.unwrap_err();
    assert_eq!(code(&silent), Some(Code::Denied));
    assert!(silent.message().contains("does not say that withdrawals reach"), "{}", silent.message());

    let running = Running::with(reaching).await;
    let mut administrator = ConsentReachClient::new(running.connect(Some(&running.world.administrator)).await.unwrap());
    let status = administrator.changes(request(&running, CONSENT, None)).await.unwrap_err();
    assert_eq!(code(&status), Some(Code::Unauthenticated));
    type Change = fn(&mut v1::ReachRequest);
    let refused: [(Change, Code, &str); 8] = [
        (|r| r.id = "short".into(), Code::Invalid, "no identifier of a request"),
        (|r| r.agreement = "another".into(), Code::Denied, "no agreement of that name"),
        (|r| r.agreement_digest = "0".repeat(64), Code::Denied, "another text"),
        (|r| r.domain = None, Code::Invalid, "no linkage domain"),
        (|r| r.domain.as_mut().unwrap().purpose = "health".into(), Code::Denied, "does not cover the purpose"),
        (|r| r.domain.as_mut().unwrap().epoch -= 1, Code::Denied, "epoch is not the current one"),
        (|r| r.basis = v1::Basis::Statutory.into(), Code::Denied, "no choice reaches"),
        (|r| r.basis = 77, Code::Denied, "no choice reaches"),
    ];
    for (change, expected, says) in refused {
        let mut request = request(&running, CONSENT, None);
        change(&mut request);
        let status = told(&running, request).await.unwrap_err();
        assert_eq!(code(&status), Some(expected), "{says}: {}", status.message());
        assert!(status.message().contains(says), "{says}: {}", status.message());
    }
    let running = Running::with(|world| {
        reaching(world);
        world.unsign();
    })
    .await;
    let status = told(&running, request(&running, CONSENT, None)).await.unwrap_err();
    assert!(code(&status) == Some(Code::Denied) && status.message().contains("its own signature is missing"), "{}", status.message());
    let log = running.world.log();
    assert!(log.contains("reach.refused") && !log.contains("reach.sent"));
}
