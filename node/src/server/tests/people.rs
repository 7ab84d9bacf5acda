//! Receipts, corrections and erasures over the wire.

use concordat_policy::agreement::Fingerprint;
use concordat_proto::consent_receipt::ConsentReceipt;

use super::*;

type Ledger = ConsentLedgerClient<Channel>;

async fn ledger(running: &Running) -> Ledger {
    ConsentLedgerClient::new(running.connect(Some(&running.world.administrator)).await.unwrap())
}

fn record(identifier: &str, event: &str) -> v1::ConsentRecord {
    v1::ConsentRecord {
        identifier: identifier.into(),
        identifier_type: "nino".into(),
        purpose: "opportunity".into(),
        event: event.into(),
        ..Default::default()
    }
}

async fn shown(ledger: &mut Ledger, identifier: &str) -> v1::SubjectRecords {
    let ask = v1::ShowRequest { identifier_type: "nino".into(), identifiers: vec![identifier.into()], purpose: String::new() };
    let mut shown: Vec<_> = ledger.show(ask).await.unwrap().into_inner().try_collect().await.unwrap();
    shown.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_is_answered_with_a_receipt_and_times_are_kept() {
    let running = Running::new().await;
    let mut ledger = ledger(&running).await;
    let given = v1::ConsentRecord {
        expires_at: "2090-01-01T00:00:00Z".into(),
        capacity: "parent".into(),
        acted_by: "case 17".into(),
        ..record("AB100007A", "given")
    };
    let records = vec![given, record("AB100007A", "withdrawn")];
    let answer = ledger.record(v1::RecordRequest { records: records.clone(), ..Default::default() }).await.unwrap().into_inner();
    assert_eq!((answer.consent_version, answer.receipts.len()), (7, 2));
    let key = Fingerprint::of(running.node.signing.public_spki());
    let events: Vec<_> = answer.receipts.iter().map(|jws| ConsentReceipt::read(jws).unwrap()).collect();
    assert!(events.iter().all(|(_, signer)| *signer == key));
    assert_eq!(events[0].0.event[0].entity_id, "parent: case 17");
    assert_eq!((events[1].0.record_id.as_str(), events[1].0.event[0].event_state.as_str()), ("dfe:0:7", "withdrawn"));
    let kept = shown(&mut ledger, "AB100007A").await.records.remove(0);
    assert_eq!((kept.expires_at.as_str(), kept.capacity.as_str(), kept.acted_by.as_str()), ("2090-01-01T00:00:00Z", "parent", "case 17"));
    let bad = v1::ConsentRecord { expires_at: "2090-01-01".into(), ..record("AB100007A", "given") };
    let refused = ledger.record(v1::RecordRequest { records: vec![bad], ..Default::default() }).await.unwrap_err();
    assert!(code(&refused) == Some(Code::Invalid) && refused.message().contains("records[0]: expires_at is no time"), "{refused:?}");
    // Of many, on demand.
    let many = ledger
        .record(v1::RecordRequest { records: vec![record("AB100007A", "given"); 201], ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    assert!(many.receipts.is_empty());
    let ask = v1::ReceiptsRequest { identifier_type: "nino".into(), identifiers: vec!["AB100007A".into()], purpose: String::new() };
    let made: Vec<v1::SubjectReceipts> = ledger.receipts(ask).await.unwrap().into_inner().try_collect().await.unwrap();
    assert_eq!((made.len(), made[0].receipts.len()), (1, 200), "the last ones");
    let last = ConsentReceipt::read(made[0].receipts.last().unwrap()).unwrap().0;
    assert_eq!(last.record_id, format!("dfe:0:{}", many.consent_version));
    let log = running.world.log();
    assert!(log.contains("consent.receipted") && !log.contains("AB100007A") && !log.contains("case 17"));
}

#[tokio::test(flavor = "multi_thread")]
async fn corrections_and_erasures_are_the_departments_own_and_logged() {
    let running = Running::new().await;
    let mut ledger = ledger(&running).await;
    let correct = |identifier: &str, place| v1::CorrectRequest { identifier_type: "nino".into(), identifier: identifier.into(), place };
    // Of AB100002A: given at 2, withdrawn for the measure at 5.
    let other = ledger.correct(correct("AB100001A", 5)).await.unwrap_err();
    assert!(code(&other) == Some(Code::Invalid) && other.message().contains("no choice of this person"), "{other:?}");
    assert_eq!(ledger.correct(correct("ab100002a", 5)).await.unwrap().into_inner().consent_version, 6);
    let again = ledger.correct(correct("AB100002A", 5)).await.unwrap_err();
    assert!(again.message().contains("corrected before, at place 6"), "{again:?}");
    let told = shown(&mut ledger, "AB100002A").await;
    let history: Vec<_> = told.records.iter().map(|r| (r.place, r.event.as_str(), r.corrects, r.corrected_by)).collect();
    assert_eq!(history, [(2, "given", 0, 0), (5, "withdrawn", 0, 6), (6, "corrected", 5, 0)]);

    ledger.record(v1::RecordRequest { records: vec![record("AB100001A", "objected")], ..Default::default() }).await.unwrap();
    let erase = v1::EraseRequest { identifier_type: "nino".into(), identifiers: vec!["AB100001A".into(), "AB100008A".into()] };
    let erased = ledger.erase(erase).await.unwrap().into_inner();
    assert_eq!((erased.consent_version, erased.subjects), (9, 1));
    let left = shown(&mut ledger, "AB100001A").await;
    let history: Vec<_> = left.records.iter().map(|r| (r.place, r.event.as_str(), r.kept)).collect();
    assert_eq!(history, [(8, "erased", false), (9, "objected", true)]);
    let standing = left.standing.iter().find(|standing| standing.purpose == "opportunity").unwrap();
    assert_eq!((standing.under_consent, standing.honouring_objections), (false, false));
    let log = running.world.log();
    let events: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |event: &str| events.iter().filter(|entry| entry["event"] == event).count();
    assert_eq!((of("consent.corrected"), of("consent.erased"), of("consent.refused")), (1, 1, 2));
    assert!(!log.to_uppercase().contains("AB100001A"));
}

#[tokio::test(flavor = "multi_thread")]
async fn purposes_that_were_replaced_count_for_records_showing_and_erasure_too() {
    let running = Running::new().await;
    let mut ledger = ledger(&running).await;
    let objected = || v1::RecordRequest {
        records: vec![v1::ConsentRecord { purpose: "opportunity.later".into(), ..record("AB100001A", "objected") }],
        ..Default::default()
    };
    let unknown = ledger.record(objected()).await.unwrap_err();
    assert!(unknown.message().contains("the purpose is not in this department's purpose tree"), "{unknown:?}");
    let later = "},\n  { id = \"opportunity.later\", title = \"Later\", parent = \"opportunity\" },\n]";
    running.world.write("purposes.toml", &fixture::PURPOSES.replace("},\n]", later));
    running.node.reread().unwrap();
    assert_eq!(ledger.record(objected()).await.unwrap().into_inner().receipts.len(), 1);
    let standing = |shown: &v1::SubjectRecords| shown.standing.iter().any(|standing| standing.purpose == "opportunity.later");
    assert!(standing(&shown(&mut ledger, "AB100001A").await));
    let erase = v1::EraseRequest { identifier_type: "nino".into(), identifiers: vec!["AB100001A".into()] };
    ledger.erase(erase).await.unwrap();
    let left = shown(&mut ledger, "AB100001A").await;
    let kept = |r: &v1::KeptRecord| r.kept && r.event == "objected" && r.purpose == "opportunity.later";
    assert!(left.records.iter().any(kept), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_repeated_under_its_id_records_nothing_anew() {
    let running = Running::new().await;
    let mut ledger = ledger(&running).await;
    let call = |id: &str, event: &str| v1::RecordRequest { records: vec![record("AB100007A", event)], id: id.into() };
    let first = ledger.record(call("case-17", "given")).await.unwrap().into_inner();
    assert!(!first.recorded_before && first.receipts.len() == 1);
    let withdrawn = ledger.record(call("case-18", "withdrawn")).await.unwrap().into_inner();
    assert_eq!(withdrawn.consent_version, first.consent_version + 1);
    let again = ledger.record(call("case-17", "given")).await.unwrap().into_inner();
    assert_eq!((again.consent_version, again.recorded_before), (first.consent_version, true), "as the answer that was lost");
    let read = |answer: &v1::RecordResponse| ConsentReceipt::read(&answer.receipts[0]).unwrap().0.record_id;
    assert_eq!(read(&again), read(&first));
    assert_eq!(running.node.consent.ledger().version().unwrap(), withdrawn.consent_version, "the late 'given' does not count");
    let other = ledger.record(call("case-17", "objected")).await.unwrap_err();
    assert!(code(&other) == Some(Code::Invalid) && other.message().contains("other records were recorded under"), "{other:?}");
    let odd = ledger.record(call("case 17", "given")).await.unwrap_err();
    assert!(code(&odd) == Some(Code::Invalid) && odd.message().contains("a call's id"), "{odd:?}");
    // A record that was corrected since has no receipt any more, and nor has one of somebody erased.
    let both = |id: &str| v1::RecordRequest { records: vec![record("AB100007A", "given"), record("AB100008A", "objected")], id: id.into() };
    let made = ledger.record(both("case-19")).await.unwrap().into_inner();
    let correct = v1::CorrectRequest { identifier_type: "nino".into(), identifier: "AB100007A".into(), place: made.consent_version - 1 };
    ledger.correct(correct).await.unwrap();
    let corrected = ledger.record(both("case-19")).await.unwrap().into_inner();
    let empty = |answer: &v1::RecordResponse| answer.receipts.iter().map(String::is_empty).collect::<Vec<_>>();
    assert!(corrected.recorded_before && corrected.consent_version == made.consent_version);
    assert_eq!((empty(&made), empty(&corrected)), (vec![false, false], vec![true, false]));
    let erase = v1::EraseRequest { identifier_type: "nino".into(), identifiers: vec!["AB100008A".into()] };
    ledger.erase(erase).await.unwrap();
    let erased = ledger.record(both("case-19")).await.unwrap().into_inner();
    assert_eq!((erased.recorded_before, empty(&erased)), (true, vec![true, true]));
    assert!(shown(&mut ledger, "AB100008A").await.records.iter().all(|record| record.kept || record.event == "erased"));
    let withdrawn = ledger.record(call("case-20", "withdrawn")).await.unwrap().into_inner();
    // Without an id, each call records.
    ledger.record(call("", "given")).await.unwrap();
    let last = ledger.record(call("", "given")).await.unwrap().into_inner();
    assert_eq!((last.consent_version, last.recorded_before), (withdrawn.consent_version + 2, false));
    let log = running.world.log();
    let entries: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |entry: &&serde_json::Value| entry["event"] == "consent.recorded" && entry["request"] == "case-17";
    let before: Vec<bool> = entries.iter().filter(of).map(|entry| entry["recorded_before"] == true).collect();
    assert_eq!(before, [false, true]);
    let undone =
        entries.iter().filter(|entry| entry["request"] == "case-19").filter_map(|entry| entry["corrected_or_erased_since"].as_u64());
    assert_eq!(undone.collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_answered_again_when_its_purpose_has_gone() {
    let running = Running::new().await;
    let mut ledger = ledger(&running).await;
    let later = "},\n  { id = \"opportunity.later\", title = \"Later\", parent = \"opportunity\" },\n]";
    running.world.write("purposes.toml", &fixture::PURPOSES.replace("},\n]", later));
    running.node.reread().unwrap();
    let call = |id: &str, identifier: &str| v1::RecordRequest {
        records: vec![v1::ConsentRecord { purpose: "opportunity.later".into(), ..record(identifier, "given") }],
        id: id.into(),
    };
    let first = ledger.record(call("case-17", "AB100007A")).await.unwrap().into_inner();
    running.world.write("purposes.toml", fixture::PURPOSES);
    running.node.reread().unwrap();
    let again = ledger.record(call("case-17", "AB100007A")).await.unwrap().into_inner();
    assert_eq!((again.consent_version, again.recorded_before), (first.consent_version, true));
    let read = |answer: &v1::RecordResponse| {
        let receipt = ConsentReceipt::read(&answer.receipts[0]).unwrap().0;
        ConsentReceipt { issued_at: String::new(), ..receipt }
    };
    assert_eq!(read(&again), read(&first), "with the title that the purpose had");
    for (id, identifier) in [("case-17", "AB100008A"), ("case-18", "AB100007A"), ("", "AB100007A")] {
        let unknown = ledger.record(call(id, identifier)).await.unwrap_err();
        assert!(unknown.message().contains("the purpose is not in this department's purpose tree"), "{id} {identifier}: {unknown:?}");
    }
    assert_eq!(running.node.consent.ledger().version().unwrap(), first.consent_version);
    let log = running.world.log();
    let before = log.lines().filter(|line| line.contains("consent.recorded") && line.contains("\"recorded_before\":true")).count();
    assert_eq!(before, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_a_reader_held_up_is_finished_by_the_node_and_logged() {
    let running = Running::new().await;
    let mut ledger = ledger(&running).await;
    let reading = rusqlite::Connection::open(running.world.path("state/consent.sqlite")).unwrap();
    reading.execute_batch("BEGIN; SELECT count(*) FROM records").unwrap();
    let erase = v1::EraseRequest { identifier_type: "nino".into(), identifiers: vec!["AB100001A".into()] };
    let erased = ledger.erase(erase).await.unwrap().into_inner();
    assert!(!erased.wiped);
    let metric = || running.node.metrics.text().lines().any(|line| line.contains("consent_unwiped{") && line.ends_with(" 1"));
    assert!(metric());
    drop(reading);
    let finished = format!("\"consent_version\":{}", erased.consent_version);
    let logged = || running.world.log().lines().any(|line| line.contains("consent.wiped") && line.contains(&finished));
    let until = async {
        while !logged() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), until).await.expect("the erasure is finished");
    assert!(!metric());
}
