//! The department's own systems at the consent ledger.

use std::time::Duration;

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

fn part(id: &str, records: &[v1::ConsentRecord], total: u64) -> v1::ImportRequest {
    v1::ImportRequest { id: id.into(), records: records.to_vec(), total }
}

async fn import(ledger: &mut Ledger, parts: Vec<v1::ImportRequest>) -> Result<v1::ImportResponse, tonic::Status> {
    ledger.import(futures::stream::iter(parts)).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_imported_once_and_as_a_whole() {
    let running = Running::new().await;
    let mut ledger = ledger(&running).await;
    let (given, withdrawn) = (record("AB100007A", "given"), record("ab100007a", "withdrawn"));
    let (both, good) = ([given.clone(), withdrawn.clone()], std::slice::from_ref(&given));
    let version = || running.node.consent.ledger().version().unwrap();
    let before = version();
    let bad = [record("AB100007A", "maybe")];
    let unknown = [record("secret person", "given")];
    let refused: Vec<(Vec<v1::ImportRequest>, &str)> = vec![
        (vec![], "broke off or is empty"),
        (vec![part("a", &[], 0)], "broke off or is empty"),
        (vec![part("a", &both, 0)], "broke off"),
        (vec![part("a", &both, 3)], "broke off"),
        (vec![part("", &both, 2)], "names the import"),
        (vec![part("a b", &both, 2)], "names the import"),
        (vec![part("a", good, 0), part("b", good, 2)], "one id"),
        (vec![part("a", good, 1), part("", good, 2)], "follows the one"),
        (vec![part("a", &both, 0), part("", &bad, 3)], "record 3: the event is none of"),
        (vec![part("a", &unknown, 1)], "record 1: the identifier is not a valid nino"),
        (vec![part("a", &vec![given.clone(); 10_001], 10_001)], "at most 10,000"),
    ];
    for (parts, says) in refused {
        let status = import(&mut ledger, parts).await.unwrap_err();
        assert_eq!(code(&status), Some(Code::Invalid), "{says}: {status:?}");
        assert!(status.message().contains(says) && !status.message().contains("secret"), "{}", status.message());
    }
    assert_eq!(version(), before, "nothing of a refused stream is recorded");

    let parts = || vec![part("daily-1", good, 0), part("daily-1", std::slice::from_ref(&withdrawn), 2)];
    let answer = import(&mut ledger, parts()).await.unwrap();
    assert_eq!(answer, v1::ImportResponse { consent_version: before + 2, records: 2, imported_before: false, consent_generation: 0 });
    let again = import(&mut ledger, parts()).await.unwrap();
    assert_eq!(again, v1::ImportResponse { consent_version: before + 2, records: 2, imported_before: true, consent_generation: 0 });
    let other = import(&mut ledger, vec![part("daily-1", good, 1)]).await.unwrap_err();
    assert!(other.message().contains("with other records"), "{}", other.message());
    assert!(!import(&mut ledger, vec![part("daily-2", &both, 2)]).await.unwrap().imported_before);
    assert_eq!(version(), before + 4);
}

/// A caller that goes away looks to the server as one that has ended its stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_imports_nothing_and_makes_room_for_the_next() {
    let running = Running::new().await;
    let before = running.node.consent.ledger().version().unwrap();
    let leaving = ledger(&running).await;
    let begin = || {
        let (sender, receiver) = futures::channel::mpsc::unbounded();
        sender.unbounded_send(part("left", &[record("AB100007A", "given"), record("AB100001A", "withdrawn")], 0)).unwrap();
        let mut leaving = leaving.clone();
        (sender, tokio::spawn(async move { leaving.import(receiver).await }))
    };
    let (mut sender, mut call) = begin();
    let mut ledger = ledger(&running).await;
    // The other's import is under way once this one is told so.
    let waiting = || vec![part("next", &[record("AB100007A", "given")], 1)];
    loop {
        match import(&mut ledger, waiting()).await {
            Err(status) if code(&status) == Some(Code::LimitExceeded) => break,
            // Or it was told so itself, as this one was under way.
            Ok(_) if call.is_finished() => (sender, call) = begin(),
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            other => panic!("{other:?}"),
        }
    }
    let meanwhile = running.node.consent.ledger().version().unwrap();
    assert!(meanwhile <= before + 1);
    call.abort();
    let _ = call.await;
    drop(sender);
    loop {
        match import(&mut ledger, vec![part("after", &[record("AB100007A", "objected")], 1)]).await {
            Err(status) if code(&status) == Some(Code::LimitExceeded) => tokio::time::sleep(Duration::from_millis(5)).await,
            outcome => break assert_eq!(outcome.unwrap().consent_version, meanwhile + 1, "the caller that left imported nothing"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_stands_in_the_log_without_identifiers() {
    let running = Running::new().await;
    let mut ledger = ledger(&running).await;
    let ask = |identifiers: &[&str], purpose: &str| v1::ShowRequest {
        identifier_type: "nino".into(),
        identifiers: identifiers.iter().map(ToString::to_string).collect(),
        purpose: purpose.into(),
    };
    let shown: Vec<v1::SubjectRecords> =
        ledger.show(ask(&["ab100002a", "AB100007A"], "")).await.unwrap().into_inner().try_collect().await.unwrap();
    let events: Vec<_> = shown[0].records.iter().map(|r| (r.place, r.purpose.as_str(), r.event.as_str())).collect();
    assert_eq!(events, [(2, "opportunity", "given"), (5, "opportunity.measure", "withdrawn")]);
    let standing: Vec<_> =
        shown[0].standing.iter().map(|s| (s.purpose.as_str(), s.last, s.under_consent, s.honouring_objections)).collect();
    assert_eq!(standing, [("health", 0, false, true), ("opportunity", 2, true, true), ("opportunity.measure", 5, false, true)]);
    assert_eq!((shown[1].index, shown[1].records.len()), (1, 0));
    for (request, says) in [
        (ask(&[], ""), "1 to 1000"),
        (ask(&["AB100002A", "secret person"], ""), "identifier 2: the identifier is not a valid nino"),
        (ask(&["AB100002A"], "surprise"), "purpose tree"),
    ] {
        let status = ledger.show(request).await.map(drop).unwrap_err();
        assert!(code(&status) == Some(Code::Invalid) && status.message().contains(says), "{}", status.message());
    }
    let log = running.world.log();
    let entries: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shows: Vec<_> = entries.iter().filter(|entry| entry["event"] == "consent.shown").collect();
    assert_eq!((shows.len(), shows[0]["subjects"].as_array().unwrap().len()), (1, 2));
    assert_eq!(shows[0]["certificate"], running.world.administrator.fingerprint.as_str());
    assert!(!log.to_lowercase().contains("ab100002a") && !log.contains("secret person"));
    assert_eq!(entries.iter().filter(|entry| entry["event"] == "consent.refused").count(), 3);
}

/// What commands note beside the node is in its log before the next release.
#[tokio::test(flavor = "multi_thread")]
async fn notes_of_commands_move_to_the_log_once() {
    use crate::command::{ActingArgs, Command, ConsentCommand, EventArg, RecordArgs, ShowArgs, ShowOutput, TimeArgs, run};
    let running = Running::new().await;
    running.world.write("people.txt", "AB100002A\n");
    let (config, identifiers) = (running.world.path("node.toml"), running.world.path("people.txt"));
    let record = RecordArgs {
        config: config.clone(),
        identifier_type: "nino".into(),
        purpose: "health".into(),
        event: EventArg::Objected,
        times: TimeArgs::default(),
        acting: ActingArgs::default(),
        identifiers: identifiers.clone(),
    };
    run(Command::Consent(ConsentCommand::Record(record))).await.unwrap();
    let show = ShowArgs { config, identifier_type: "nino".into(), purpose: Some("health".into()), identifiers, output: ShowOutput::Json };
    run(Command::Consent(ConsentCommand::Show(show))).await.unwrap();
    let noted = || {
        let log = running.world.log();
        let entries: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        entries.into_iter().filter(|entry| entry["command"] == true).collect::<Vec<_>>()
    };
    assert!(noted().is_empty());
    for _ in 0..2 {
        running.node.caught_up().await.unwrap();
    }
    let notes = noted();
    let events: Vec<_> = notes.iter().map(|note| (note["event"].as_str().unwrap(), note["journal"].as_i64().unwrap())).collect();
    assert_eq!(events, [("consent.recorded", 1), ("consent.shown", 2)]);
    assert_eq!(
        (&notes[0]["records"], &notes[0]["consent_event"], &notes[0]["consent_version"]),
        (&1.into(), &"objected".into(), &6.into())
    );
    let expected = running
        .node
        .intake(&running.node.agreements.now())
        .ask("nino", std::iter::once("ab 10 00 02 a"), None)
        .unwrap()
        .digests(|bytes| running.node.log.digest(bytes));
    assert_eq!(notes[1]["subjects"], serde_json::json!(expected), "the digest that the node's own log would write");
    assert!(notes[1]["uid"].is_u64());
    // A restored ledger gives numbers out again: those notes are others.
    let ledger = running.node.consent.ledger();
    let note = |event: &'static str| ledger.note(&[crate::consent::journal::Note::new(event)]).unwrap();
    let connection = rusqlite::Connection::open(running.world.path("state/consent.sqlite")).unwrap();
    connection.execute_batch("DELETE FROM journal; DELETE FROM sqlite_sequence WHERE name = 'journal'; DELETE FROM journal_moved").unwrap();
    (0..3).for_each(|_| note("preview.made"));
    running.node.move_journal().await.unwrap();
    running.node.move_journal().await.unwrap();
    let numbers: Vec<_> = noted().iter().map(|note| note["journal"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 1, 2, 3]);
}
