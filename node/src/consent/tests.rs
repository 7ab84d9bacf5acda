//! Catch-up, versions, imports and restored backups.

mod linearizable;
mod people;
mod reaching;
mod receipts;

use concordat_policy::consent::{Event, Latest};

use super::import::{ImportError, Imported, Options, RowProblem, import};
use super::intake::{Intake, IntakeError};
use super::ledger::Details;
use super::rows::{At, FileError, RowError};
use super::*;
use crate::config::Config;
use crate::fixture::{World, name};

fn record(identifier: &str, purpose: &str, event: Event) -> Record {
    let details = Details::default();
    Record { identifier_type: "nino".into(), identifier: identifier.into(), purpose: name(purpose), event, details }
}

/// The events of a subject's last records, in the order in which they were made; what has expired stands as withdrawn.
fn latest(snapshot: &Snapshot, identifier: &str, purposes: &[&str]) -> Vec<Event> {
    let purposes: Vec<Name> = purposes.iter().map(|p| name(p)).collect();
    let mut out = Vec::new();
    snapshot.view("nino", purposes.iter()).latest(std::iter::once(identifier), &mut Vec::new(), &mut out);
    order(out[0])
}

pub(crate) fn order(latest: Latest) -> Vec<Event> {
    let Latest { given, expired, withdrawn, objected } = latest;
    let mut events = [(given, Event::Given), (expired, Event::Withdrawn), (withdrawn, Event::Withdrawn), (objected, Event::Objected)];
    events.sort_by_key(|(place, _)| *place);
    events.into_iter().filter(|(place, _)| place.is_some()).map(|(_, event)| event).collect()
}

/// It may be somebody's objection: the ledger is not used without it.
#[test]
fn a_record_whose_identifier_is_damaged_is_not_taken_for_an_erased_one() {
    let state = tempfile::tempdir().unwrap();
    Consent::open(state.path(), name("dfe")).unwrap().record(&[record("A", "p", Event::Objected), record("B", "p", Event::Given)]).unwrap();
    let file = rusqlite::Connection::open(state.path().join("consent.sqlite")).unwrap();
    file.execute("UPDATE records SET identifier = CAST(x'ff' AS TEXT) WHERE place = 1", []).unwrap();
    let refusal = Consent::open(state.path(), name("dfe")).unwrap().catch_up().unwrap_err();
    assert!(refusal.operator.as_deref().is_some_and(|cause| cause.contains("damaged record at place 1")), "{refusal:?}");
}

#[test]
fn records_of_other_processes_are_honoured_and_snapshots_never_change() {
    let state = tempfile::tempdir().unwrap();
    let node = Consent::open(state.path(), name("dfe")).unwrap();
    let other = Consent::open(state.path(), name("dfe")).unwrap();
    assert_eq!(other.record(&[record("A", "p", Event::Given), record("B", "p", Event::Given)]).unwrap(), 2);
    let first = node.catch_up().unwrap().snapshot;
    assert_eq!(first.version(), 2);
    assert_eq!(other.record(&[record("A", "p", Event::Withdrawn), record("A", "q", Event::Objected)]).unwrap(), 4);
    let second = node.catch_up().unwrap();
    assert_eq!((second.from, second.snapshot.version()), (2, 4));
    assert_eq!(latest(&first, "A", &["p", "q"]), [Event::Given]);
    assert_eq!(latest(&second.snapshot, "A", &["p", "q"]), [Event::Given, Event::Withdrawn, Event::Objected]);
    assert_eq!(latest(&second.snapshot, "A", &["p"]), [Event::Given, Event::Withdrawn]);
    assert_eq!(latest(&second.snapshot, "A", &["q"]), [Event::Objected]);
    assert_eq!(latest(&second.snapshot, "B", &["p"]), [Event::Given]);
    assert_eq!(latest(&second.snapshot, "C", &["p"]), []);
    assert_eq!(latest(&first, "A", &["p", "q"]), [Event::Given], "still");
    drop((first, second));
    other.record(&[record("B", "p", Event::Withdrawn)]).unwrap();
    let third = node.catch_up().unwrap().snapshot;
    assert_eq!(latest(&third, "A", &["p", "q"]), [Event::Given, Event::Withdrawn, Event::Objected]);
    assert_eq!(latest(&third, "B", &["p"]), [Event::Given, Event::Withdrawn]);
}

#[test]
fn a_restored_backup_stops_releases_also_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let backup = tempfile::tempdir().unwrap();
    {
        let consent = Consent::open(state.path(), name("dfe")).unwrap();
        consent.record(&[record("A", "p", Event::Given)]).unwrap();
    }
    std::fs::copy(state.path().join("consent.sqlite"), backup.path().join("consent.sqlite")).unwrap();
    {
        let consent = Consent::open(state.path(), name("dfe")).unwrap();
        consent.record(&[record("A", "p", Event::Withdrawn)]).unwrap();
        consent.catch_up().unwrap();
    }
    for stale in ["consent.sqlite-wal", "consent.sqlite-shm"] {
        let _ = std::fs::remove_file(state.path().join(stale));
    }
    std::fs::copy(backup.path().join("consent.sqlite"), state.path().join("consent.sqlite")).unwrap();
    let consent = Consent::open(state.path(), name("dfe")).unwrap();
    let refusal = consent.catch_up().unwrap_err();
    assert_eq!(refusal.code, Code::NodeRefused);
    assert!(refusal.operator.unwrap().contains("version 1, and version 2 was seen"));
    // Other records must not fill the gap: the lost withdrawal would be forgotten without a word.
    assert!(matches!(consent.record(&[record("B", "p", Event::Given)]), Err(LedgerError::Behind)));
    assert_eq!(consent.catch_up().unwrap_err().code, Code::NodeRefused);
    // Once the loss is accepted, the lost record can be entered again.
    assert_eq!(consent.acknowledge_restore(&consent.loss().unwrap(), 0).unwrap(), 1);
    consent.record(&[record("A", "p", Event::Withdrawn)]).unwrap();
    let caught_up = consent.catch_up().unwrap();
    assert_eq!((caught_up.generation, caught_up.snapshot.version()), (1, 2));
    assert_eq!(latest(&caught_up.snapshot, "A", &["p"]), [Event::Given, Event::Withdrawn]);
}

struct Importing {
    world: World,
    intake: Intake,
    consent: Arc<Consent>,
    _state: tempfile::TempDir,
}

impl Importing {
    fn new() -> Self {
        let world = World::new();
        let intake = Intake::new(&Config::load(&world.path("node.toml")).unwrap());
        let state = tempfile::tempdir().unwrap();
        let consent = Arc::new(Consent::open(state.path(), name("dfe")).unwrap());
        Self { world, intake, consent, _state: state }
    }

    async fn import(&self, file: &str, skip_invalid: bool) -> Result<Imported, ImportError> {
        let options = Options { skip_invalid, ..Options::default() };
        import(Arc::clone(&self.consent), self.intake.clone(), self.world.path(file), options).await
    }

    /// Imports `text` and expects it to be refused, row by row.
    async fn malformed(&self, text: &str, skip_invalid: bool) -> Vec<(At, RowProblem)> {
        self.world.write("bad.csv", text);
        match self.import("bad.csv", skip_invalid).await {
            Err(ImportError::Malformed(_, rows)) => {
                assert_eq!(rows.count, rows.first.len() as u64);
                rows.first
            }
            other => panic!("{other:?}"),
        }
    }

    fn version(&self) -> u64 {
        self.consent.catch_up().unwrap().snapshot.version()
    }
}

#[tokio::test]
async fn a_file_is_imported_once_and_as_a_whole() {
    let importing = Importing::new();
    let invalid = IntakeError::Identifier("nino".into());
    match importing.import("consent.csv", false).await {
        Err(ImportError::Malformed(path, rows)) => {
            assert_eq!(rows.first, [(At::Line(6), invalid.clone().into())]);
            let said = ImportError::Malformed(path, rows).to_string();
            assert!(said.contains("line 6: the identifier is not a valid nino") && !said.contains("broken"), "{said}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(importing.version(), 0);
    let imported = Imported::Now { records: 5, invalid: 1, first_invalid: vec![At::Line(6)] };
    assert_eq!(importing.import("consent.csv", true).await.unwrap(), imported);
    assert_eq!(importing.import("consent.csv", true).await.unwrap(), Imported::Before);
    let snapshot = importing.consent.catch_up().unwrap().snapshot;
    assert_eq!(latest(&snapshot, "AB100002A", &["opportunity.measure", "opportunity"]), [Event::Given, Event::Withdrawn]);

    // Whatever is wrong with one row, and whether or not invalid identifiers are left out, nothing of the file is recorded.
    let good = "AB100001A,opportunity,withdrawn";
    for (row, problem) in [
        ("AB100001A,opportunity,maybe", RowProblem::Record(IntakeError::Event)),
        ("AB100001A,opportunity,", IntakeError::Event.into()),
        ("AB100001A,surprise,given", IntakeError::Purpose.into()),
        ("AB100001A,opportunity", RowError::Fields(2, 3).into()),
        ("AB100001A,opportunity,given,x", RowError::Fields(4, 3).into()),
        ("AB100001A,opportunity,\"given", RowError::Quote.into()),
        ("\"AB100001A\"x,opportunity,given", RowError::Quote.into()),
        (&format!("{},opportunity,given", "9".repeat(70_000)), RowError::Long.into()),
    ] {
        let text = format!("identifier,purpose,event\r\n{good}\r\n\r\n{row}\r\n{good}");
        for skip in [false, true] {
            assert_eq!(importing.malformed(&text, skip).await, [(At::Line(4), problem.clone())], "{row}");
        }
    }
    let many = format!("identifier,purpose,event\n,opportunity,withdrawn\n{good}\nAB100001A,x,given\n");
    let both = [(At::Line(2), invalid.into()), (At::Line(4), IntakeError::Purpose.into())];
    assert_eq!(importing.malformed(&many, false).await, both);
    assert_eq!(importing.malformed(&many, true).await, both[1..]);

    std::fs::write(importing.world.path("latin.csv"), b"identifier,purpose,event\nAB100001A,opportunity,given\xe9\n").unwrap();
    let latin = importing.import("latin.csv", true).await.unwrap_err();
    assert!(matches!(&latin, ImportError::Malformed(_, rows) if rows.first == [(At::Line(2), RowError::Text.into())]), "{latin}");
    for (header, cause) in [
        ("identifier,event", FileError::Column("purpose").to_string()),
        ("identifier,purpose,event,event", FileError::Twice("event").to_string()),
        ("", FileError::Column("identifier").to_string()),
        ("\"identifier,purpose,event", FileError::Header(RowError::Quote).to_string()),
    ] {
        importing.world.write("bad.csv", &format!("{header}\nAB100001A,opportunity,given\n"));
        let error = importing.import("bad.csv", true).await.unwrap_err();
        assert!(matches!(&error, ImportError::File(_, said) if said.to_string() == cause), "{error}");
    }
    assert_eq!(importing.version(), 5, "nothing of a bad file is recorded");
}

#[tokio::test]
async fn files_are_read_as_people_write_them() {
    let importing = Importing::new();
    let text = "\u{feff}note,event,identifier,purpose\n\"a, \"\"b\"\"\",given,\"ab 10 00 01 a\",opportunity\r\n,objected,AB100002A,\"opportunity\"";
    importing.world.write("odd.csv", text);
    assert_eq!(importing.import("odd.csv", false).await.unwrap(), Imported::Now { records: 2, invalid: 0, first_invalid: vec![] });
    let snapshot = importing.consent.catch_up().unwrap().snapshot;
    assert_eq!(latest(&snapshot, "AB100001A", &["opportunity"]), [Event::Given]);
    assert_eq!(latest(&snapshot, "AB100002A", &["opportunity"]), [Event::Objected]);
}

#[tokio::test]
async fn parquet_is_read_in_order_and_its_records_are_numbered() {
    use arrow::array::{ArrayRef, DictionaryArray, StringArray, StringViewArray};
    use arrow::datatypes::Int32Type;
    let importing = Importing::new();
    let write = |file: &str, identifiers: Vec<Option<&str>>, events: Vec<&str>| {
        let purposes = vec!["opportunity"; events.len()];
        let columns: [(&str, ArrayRef); 4] = [
            ("extra", Arc::new(arrow::array::Int64Array::from(vec![1; events.len()]))),
            ("event", Arc::new(events.into_iter().collect::<DictionaryArray<Int32Type>>())),
            ("identifier", Arc::new(StringArray::from(identifiers))),
            ("purpose", Arc::new(StringViewArray::from(purposes))),
        ];
        let batch = arrow::array::RecordBatch::try_from_iter(columns).unwrap();
        let file = std::fs::File::create(importing.world.path(file)).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    };
    write("a.parquet", vec![Some("AB100001A"), None, Some("ab100001a")], vec!["given", "given", "withdrawn"]);
    let refused = importing.import("a.parquet", false).await.unwrap_err();
    assert!(matches!(&refused, ImportError::Malformed(_, rows) if rows.first[0].0 == At::Record(2)), "{refused}");
    let imported = Imported::Now { records: 2, invalid: 1, first_invalid: vec![At::Record(2)] };
    assert_eq!(importing.import("a.parquet", true).await.unwrap(), imported);
    assert_eq!(latest(&importing.consent.catch_up().unwrap().snapshot, "AB100001A", &["opportunity"]), [Event::Given, Event::Withdrawn]);
    write("b.parquet", vec![Some("AB100001A"); 3], vec!["given", "given", "perhaps"]);
    let refused = importing.import("b.parquet", true).await.unwrap_err();
    assert!(matches!(&refused, ImportError::Malformed(_, rows) if rows.first == [(At::Record(3), IntakeError::Event.into())]), "{refused}");
    std::fs::write(importing.world.path("c.parquet"), "PAR1 and nothing else").unwrap();
    let refused = importing.import("c.parquet", true).await.unwrap_err();
    assert!(matches!(&refused, ImportError::File(_, FileError::Parquet)), "{refused}");
    assert_eq!(importing.version(), 2);
}

#[test]
fn what_the_ledger_holds_of_somebody_is_shown_with_its_meaning() {
    let importing = Importing::new();
    let records = [
        record("AB100001A", "opportunity", Event::Given),
        record("AB100002A", "opportunity", Event::Objected),
        record("AB100001A", "opportunity.measure", Event::Withdrawn),
        record("AB100001A", "health", Event::Given),
    ];
    importing.consent.record(&records).unwrap();
    let asked = importing.intake.ask("nino", ["ab100001a", "AB100003A", "AB100001A"].into_iter(), Some("opportunity.measure")).unwrap();
    let shown = importing.consent.show(&asked).unwrap();
    let events: Vec<_> = shown[0].records.iter().map(|kept| (kept.place, kept.purpose.as_str(), kept.event())).collect();
    assert_eq!(events, [(1, "opportunity", "given"), (3, "opportunity.measure", "withdrawn")]);
    assert_eq!(shown[0].standing.len(), 1);
    let standing = &shown[0].standing[0];
    assert_eq!((standing.last, standing.under_consent, standing.honouring_objections), (Some(3), false, true));
    assert_eq!((&shown[1].records[..], shown[1].standing[0].last, shown[1].standing[0].under_consent), (&[][..], None, false));
    assert_eq!(shown[2], shown[0], "whoever is asked for twice is shown twice");
    // Digests tell people apart and hold nothing of them.
    let digests = asked.digests(concordat_policy::agreement::hex);
    assert!(digests[0] == digests[2] && digests[0] != digests[1]);
    let asked = importing.intake.ask("nino", std::iter::once("AB100002A"), None).unwrap();
    let shown = importing.consent.show(&asked).unwrap();
    let wide = shown[0].standing.iter().find(|standing| standing.purpose == name("opportunity")).unwrap();
    assert_eq!((wide.last, wide.under_consent, wide.honouring_objections), (Some(2), false, false));
    let bad = importing.intake.ask("nino", ["AB100001A", "x"].into_iter(), None).unwrap_err();
    assert_eq!(bad.to_string(), "identifier 2: the identifier is not a valid nino");
    assert!(importing.intake.ask("nino", std::iter::empty(), None).is_err());
    assert!(importing.intake.ask("nino", std::iter::repeat_n("AB100001A", 1001), None).is_err());
    assert!(importing.intake.ask("upn", std::iter::once("AB100001A"), None).is_err());
    assert!(importing.intake.ask("nino", std::iter::once("AB100001A"), Some("surprise")).is_err());
}
