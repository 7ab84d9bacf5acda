//! What receipts state later, and what is finished later.

use concordat_policy::PurposeTree;
use concordat_proto::consent_receipt::ConsentReceipt;

use super::super::receipt::{Notice, Receipts};
use super::*;
use crate::fixture::PURPOSES;

impl Importing {
    fn receipts(&self) -> Result<Vec<ConsentReceipt>, Refusal> {
        let config = Config::load(&self.world.path("node.toml")).unwrap();
        let asked = self.intake.ask("nino", std::iter::once("AB100001A"), None).unwrap();
        let made = Receipts::new(&self.consent, &config.signing).on_demand(&asked)?.remove(0);
        let read = |jws: String| ConsentReceipt { issued_at: String::new(), ..ConsentReceipt::read(&jws).unwrap().0 };
        Ok(made.into_iter().map(read).collect())
    }

    fn record_by(&self, intake: &Intake) {
        self.consent.record_noted(intake, &[record("AB100001A", "opportunity", Event::Given)], None).unwrap();
    }
}

#[test]
fn a_receipt_states_what_held_when_its_record_was_made() {
    let importing = Importing::new();
    importing.record_by(&importing.intake);
    let first = importing.receipts().unwrap();
    let (id, title) =
        (|receipt: &ConsentReceipt| receipt.record_id.clone(), |r: &ConsentReceipt| r.pii_processing.purposes[0].title.clone());
    assert_eq!((id(&first[0]), title(&first[0])), ("dfe:0:1".to_owned(), "Opportunity".to_owned()));
    assert_eq!(importing.consent.acknowledge_restore(&importing.consent.loss().unwrap(), 0).unwrap(), 1);
    assert_eq!(importing.receipts().unwrap(), first, "a backup that was acknowledged since");
    let renamed = PurposeTree::parse(&PURPOSES.replace("\"Opportunity\"", "\"Chances\"")).unwrap();
    importing.record_by(&importing.intake.under(&renamed));
    let later = importing.receipts().unwrap();
    assert_eq!(later[0], first[0], "a purpose that was renamed since");
    assert_eq!((id(&later[1]), title(&later[1])), ("dfe:1:2".to_owned(), "Chances".to_owned()));
    let gone = Intake::of(std::iter::empty(), PurposeTree::default());
    importing.record_by(&gone.telling(Notice { controller: Some("Department for Education".into()), ..Notice::default() }));
    let last = importing.receipts().unwrap();
    assert_eq!(last[..2], later[..], "a notice that was written since, a purpose that is gone");
    assert_eq!((title(&last[2]), last[2].party_identification[0].party_name.as_str()), ("opportunity".into(), "Department for Education"));
}

#[tokio::test]
async fn what_an_import_stated_is_kept_once_for_all_its_records() {
    let importing = Importing::new();
    importing.import("consent.csv", true).await.unwrap();
    let ledger = rusqlite::Connection::open(importing.consent.state.join("consent.sqlite")).unwrap();
    let count = |sql: &str| ledger.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM records WHERE stated IS NULL"), 0);
    assert_eq!(count("SELECT count(*) FROM stated"), count("SELECT count(DISTINCT purpose || event) FROM records"));
    assert_eq!(importing.receipts().unwrap()[0].pii_processing.purposes[0].title, "Opportunity");
}

#[test]
fn without_what_it_stated_no_receipt_is_made_and_an_older_ledger_is_not_used() {
    let importing = Importing::new();
    importing.record_by(&importing.intake);
    let ledger = rusqlite::Connection::open(importing.consent.state.join("consent.sqlite")).unwrap();
    for lost in ["UPDATE stated SET text = ''", "DELETE FROM stated", "UPDATE records SET stated = NULL"] {
        ledger.execute(lost, []).unwrap();
        let refusal = importing.receipts().unwrap_err();
        assert_eq!(refusal.code, Code::NodeRefused, "{lost}");
        assert!(refusal.message.contains("the record at place 1 stated is not in the consent ledger"), "{refusal}");
    }
    ledger.execute("ALTER TABLE records DROP COLUMN stated", []).unwrap();
    assert!(matches!(Consent::open(&importing.consent.state, name("dfe")), Err(LedgerError::Older)));
    assert!(matches!(super::super::ledger::look(&importing.consent.state), Err(LedgerError::Older)));
}

/// Whoever reads the ledger while somebody is erased keeps older copies of them in its file, until the node has finished it.
#[test]
fn an_erasure_that_a_reader_held_up_is_finished_later() {
    let importing = Importing::new();
    let (state, look) = (importing.consent.state.clone(), super::super::ledger::look);
    assert_eq!(look(&tempfile::tempdir().unwrap().path().join("absent")).unwrap(), None);
    importing.record_by(&importing.intake);
    let holds = || {
        let files = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path());
        let ledger = files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("consent.sqlite"));
        ledger.flat_map(|path| std::fs::read(path).unwrap()).collect::<Vec<u8>>().windows(9).any(|window| window == b"AB100001A")
    };
    let reading = importing.consent.ledger().reading().unwrap();
    let asked = importing.intake.ask("nino", std::iter::once("AB100001A"), None).unwrap();
    let erased = importing.consent.erase(&asked, &importing.intake, None).unwrap();
    assert_eq!((erased.wiped, holds(), look(&state).unwrap()), (false, true, Some(erased.version)));
    assert_eq!(importing.consent.wipe().unwrap(), None, "it is still read");
    drop(reading);
    // Whoever opens the ledger next, as a node that starts does, knows of it.
    let next = Consent::open(&state, name("dfe")).unwrap();
    assert_eq!(next.unwiped().unwrap(), Some(erased.version));
    assert_eq!(next.wipe().unwrap(), Some(erased.version));
    assert_eq!((holds(), look(&state).unwrap(), next.wipe().unwrap()), (false, None, None));
}
