//! Times, guardians, corrections, erased people, and their receipts.

use concordat_policy::consent::{Term, history};
use concordat_proto::consent_receipt::ConsentReceipt;

use super::super::intake::Raw;
use super::super::ledger::{CorrectError, Kept};
use super::super::receipt::Receipts;
use super::super::show::{Asked, Shown};
use super::*;

const NINO: Raw<'static> = Raw {
    identifier: "",
    identifier_type: "nino",
    purpose: "opportunity",
    event: "given",
    effective_from: "",
    expires_at: "",
    capacity: "",
    acted_by: "",
};

impl Importing {
    fn records(&self, raws: &[Raw<'_>]) -> u64 {
        let records: Vec<Record> = raws.iter().map(|raw| self.intake.record(*raw, &mut String::new()).unwrap()).collect();
        self.consent.record(&records).unwrap()
    }

    fn ask(&self, identifiers: &[&str]) -> Asked {
        self.intake.ask("nino", identifiers.iter().copied(), None).unwrap()
    }

    fn shown(&self, identifier: &str) -> Shown {
        self.consent.show(&self.ask(&[identifier])).unwrap().remove(0)
    }

    fn erase(&self, identifiers: &[&str]) -> super::super::ledger::Erased {
        self.consent.erase(&self.ask(identifiers), &self.intake, None).unwrap()
    }

    /// The person's last records: as the running node sees them, and as one that has just started does.
    fn latest(&self, identifier: &str, now: i64) -> Vec<Event> {
        let fresh = Consent::open(&self.consent.state, name("dfe")).unwrap();
        let [running, started] = [&*self.consent, &fresh].map(|consent| {
            let snapshot = consent.catch_up().unwrap().snapshot.at(now);
            latest(&snapshot, identifier, &["opportunity.measure", "opportunity"])
        });
        assert_eq!(running, started);
        running
    }

    fn allowed(&self, identifier: &str) -> (bool, bool) {
        let shown = self.shown(identifier);
        let standing = shown.standing.iter().find(|standing| standing.purpose == name("opportunity")).unwrap();
        (standing.under_consent, standing.honouring_objections)
    }
}

#[test]
fn records_with_times_are_judged_at_the_moment_of_the_snapshot() {
    let importing = Importing::new();
    let moment = |text: &str| chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp();
    let (june, july) = ("2027-06-01T00:00:00Z", "2027-07-01T02:00:00+02:00");
    let a = Raw { identifier: "AB100001A", ..NINO };
    importing.records(&[
        Raw { event: "objected", ..a },
        Raw { effective_from: june, expires_at: july, ..a },
        Raw { event: "withdrawn", purpose: "health", ..a },
    ]);
    let (before, during, after) = (moment(june) - 1, moment(june), moment(july));
    assert_eq!(importing.latest("AB100001A", before), [Event::Objected]);
    assert_eq!(importing.latest("AB100001A", during), [Event::Objected, Event::Given]);
    assert_eq!(importing.latest("AB100001A", after - 1), [Event::Objected, Event::Given]);
    assert_eq!(importing.latest("AB100001A", after), [Event::Objected, Event::Withdrawn]);
    // Recorded later, it counts, whatever is to come.
    importing.records(&[Raw { event: "withdrawn", ..a }]);
    assert_eq!(importing.latest("AB100001A", during), [Event::Objected, Event::Given, Event::Withdrawn]);
    let shown = importing.shown("AB100001A");
    let term = Term::of(Event::Given, Some(during), Some(after)).unwrap();
    assert_eq!((shown.records.len(), shown.records[1].term()), (4, term));
}

#[tokio::test]
async fn files_may_say_when_records_count_and_who_acted() {
    let importing = Importing::new();
    let text = "acted_by,identifier,purpose,event,expires_at,effective_from,capacity\n\
                case 17,AB100001A,opportunity,given,2027-06-01T00:00:00Z,,parent\n\
                ,AB100002A,opportunity,objected,,2027-06-01T00:00:00Z,\n\
                ,AB100003A,opportunity,withdrawn,,,\n";
    importing.world.write("people.csv", text);
    assert_eq!(importing.import("people.csv", false).await.unwrap(), Imported::Now { records: 3, invalid: 0, first_invalid: vec![] });
    let kept = importing.shown("AB100001A").records.remove(0);
    let acting = kept.acting.clone().unwrap();
    assert_eq!((acting.capacity.as_str(), acting.by.as_str(), kept.term().expires_at()), ("parent", "case 17", Some(1_811_808_000)));
    assert!(!format!("{acting:?}").contains("case 17"));
    assert_eq!(importing.shown("AB100002A").records[0].term().effective_from(), Some(1_811_808_000));
    assert_eq!(importing.shown("AB100003A").records[0].term(), Term::default());
    for (row, problem) in [
        ("case 17,AB100001A,opportunity,given,,,", IntakeError::Capacity),
        (",AB100001A,opportunity,given,tomorrow,,", IntakeError::Time("expires_at")),
        (",AB100001A,opportunity,withdrawn,2027-06-01T00:00:00Z,,", concordat_policy::consent::TermError::Withdrawn.into()),
        // Somebody's record with something else wrong is not left out, whatever its identifier.
        (",broken,opportunity,given,tomorrow,,", IntakeError::Time("expires_at")),
    ] {
        let text = format!("acted_by,identifier,purpose,event,expires_at,effective_from,capacity\n{row}\n");
        assert_eq!(importing.malformed(&text, true).await, [(At::Line(2), RowProblem::Record(problem))], "{row}");
    }
}

#[test]
fn a_correction_takes_back_one_record_and_the_history_shows_both() {
    let importing = Importing::new();
    let (a, b) = (Raw { identifier: "AB100001A", ..NINO }, Raw { identifier: "AB100002A", ..NINO });
    importing.records(&[a, b, Raw { event: "withdrawn", ..a }, Raw { event: "objected", ..a }]);
    assert_eq!(importing.latest("AB100001A", 0), [Event::Given, Event::Withdrawn, Event::Objected]);
    let correct = |identifier: &str, place: u64| importing.consent.correct(&importing.ask(&[identifier]), place, None);
    assert_eq!(correct("AB100001A", 3).unwrap(), 5);
    assert_eq!(importing.latest("AB100001A", 0), [Event::Given, Event::Objected]);
    assert_eq!(correct("AB100001A", 4).unwrap(), 6);
    assert_eq!(importing.latest("AB100001A", 0), [Event::Given]);
    assert_eq!(importing.allowed("AB100001A"), (true, true));
    assert_eq!(importing.latest("AB100002A", 0), [Event::Given]);
    // Another's record, none, a correction, and one that was corrected.
    for (identifier, place) in [("AB100002A", 1), ("AB100001A", 2), ("AB100001A", 9), ("AB100001A", 0), ("AB100001A", 5), ("AB100003A", 1)]
    {
        assert!(matches!(correct(identifier, place), Err(CorrectError::Absent)), "{identifier} {place}");
    }
    assert!(matches!(correct("AB100001A", 3), Err(CorrectError::Corrected(5))));
    assert_eq!(importing.version(), 6, "nothing of these is recorded");
    let history: Vec<_> =
        importing.shown("AB100001A").records.iter().map(|kept| (kept.place, kept.event(), kept.corrects(), kept.corrected_by)).collect();
    let expected = [
        (1, "given", None, None),
        (3, "withdrawn", None, Some(5)),
        (4, "objected", None, Some(6)),
        (5, "corrected", Some(3), None),
        (6, "corrected", Some(4), None),
    ];
    assert_eq!(history, expected);
    // What is recorded afterwards counts as ever.
    importing.records(&[Raw { event: "withdrawn", ..a }]);
    assert_eq!(importing.latest("AB100001A", 0), [Event::Given, Event::Withdrawn]);
}

/// Everything that the files of the ledger hold.
fn bytes(importing: &Importing) -> Vec<u8> {
    let files = std::fs::read_dir(&importing.consent.state).unwrap().map(|entry| entry.unwrap().path());
    let ledger = files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("consent.sqlite"));
    ledger.flat_map(|path| std::fs::read(path).unwrap()).collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn of_the_erased_nothing_remains_but_what_holds_their_data_back() {
    let importing = Importing::new();
    let (a, b) = (Raw { identifier: "AB100001A", ..NINO }, Raw { identifier: "AB100002A", ..NINO });
    importing.records(&[
        Raw { capacity: "parent", acted_by: "case 17", ..a },
        b,
        Raw { event: "objected", purpose: "opportunity.measure", ..a },
        Raw { event: "withdrawn", purpose: "health", ..a },
    ]);
    assert_eq!(importing.latest("AB100001A", 0), [Event::Given, Event::Objected]);
    assert!(holds(&bytes(&importing), "AB100001A"));
    let erased = importing.erase(&["AB100001A", "AB100003A"]);
    assert_eq!((erased.version, erased.subjects, erased.wiped), (7, 1, true), "the erasure, an objection and a withdrawal");
    let ledger = bytes(&importing);
    assert!(!holds(&ledger, "AB100001A") && !holds(&ledger, "case 17") && holds(&ledger, "AB100002A"));
    assert_eq!(importing.latest("AB100001A", 0), [Event::Objected]);
    assert_eq!(importing.latest("AB100002A", 0), [Event::Given], "others stay as they were");
    let shown = importing.shown("AB100001A");
    let history: Vec<_> = shown.records.iter().map(|kept| (kept.place, kept.event(), kept.purpose.as_str(), kept.erased)).collect();
    assert_eq!(history, [(5, "erased", "", true), (6, "objected", "opportunity.measure", true), (7, "withdrawn", "health", true)]);
    let measure = shown.standing.iter().find(|standing| standing.purpose == name("opportunity.measure")).unwrap();
    assert_eq!((measure.under_consent, measure.honouring_objections), (false, false));

    // Erased again, nothing is written; and the person may come back.
    let again = importing.erase(&["AB100001A"]);
    assert_eq!((again.version, again.subjects, again.wiped), (7, 1, true));
    assert_eq!(importing.latest("AB100001A", 0), [Event::Objected]);
    importing.records(&[a]);
    assert_eq!(importing.latest("AB100001A", 0), [Event::Objected, Event::Given]);
    // What was kept can be wrong too; the identifier stays away with it.
    let places: Vec<u64> = importing.shown("AB100001A").records.iter().map(|kept| kept.place).collect();
    assert_eq!(places, [5, 6, 7, 8]);
    importing.consent.correct(&importing.ask(&["AB100001A"]), 6, None).unwrap();
    assert_eq!(importing.latest("AB100001A", 0), [Event::Given]);
    assert!(importing.shown("AB100001A").records.iter().any(|kept| kept.corrects() == Some(6) && kept.erased));
    // A record from before cannot be corrected back to life.
    let gone = importing.consent.correct(&importing.ask(&["AB100001A"]), 1, None);
    assert!(matches!(gone, Err(CorrectError::Absent)), "{gone:?}");
}

#[test]
fn an_erasure_that_is_repeated_writes_of_those_only_of_whom_something_came_since() {
    let importing = Importing::new();
    let (a, b) = ("AB100001A", "AB100002A");
    let written = |identifiers: &[&str]| {
        let before = importing.consent.ledger().version().unwrap();
        let erased = importing.erase(identifiers);
        assert_eq!((erased.subjects, erased.wiped), (identifiers.len(), true));
        erased.version - before
    };
    importing.records(&[Raw { identifier: a, event: "objected", ..NINO }, Raw { identifier: b, ..NINO }]);
    assert_eq!(written(&[a, b]), 3, "two erasures and an objection");
    assert_eq!(written(&[b, a]), 0);
    importing.records(&[Raw { identifier: b, event: "withdrawn", ..NINO }]);
    assert_eq!(written(&[a, b]), 2, "an erasure and a withdrawal");
    assert_eq!(written(&[a, b]), 0);
    assert_eq!((importing.allowed(a), importing.allowed(b)), ((false, false), (false, true)));
    // What was kept was wrong: it goes, and the correction with it.
    let kept = importing.shown(a).records.last().unwrap().place;
    importing.consent.correct(&importing.ask(&[a]), kept, None).unwrap();
    assert_eq!(written(&[a]), 1, "the erasure");
    assert_eq!(written(&[a]), 0);
    assert_eq!(importing.shown(a).records.len(), 1);
    assert_eq!(importing.allowed(a), (false, true));
}

/// Without the secret what was objected to would be forgotten: then nothing is released, and nothing recorded.
#[test]
fn another_secret_is_no_new_beginning_once_somebody_was_erased() {
    let importing = Importing::new();
    let state = importing.consent.state.clone();
    let secret = state.join("consent.secret");
    importing.records(&[Raw { identifier: "AB100001A", event: "objected", ..NINO }]);
    let kept = std::fs::read(&secret).unwrap();
    std::fs::remove_file(&secret).unwrap();
    let other = Consent::open(&state, name("dfe")).unwrap();
    assert_eq!(other.catch_up().unwrap().snapshot.version(), 1, "nobody was erased yet");
    std::fs::write(&secret, &kept).unwrap();
    importing.erase(&["AB100001A"]);
    let refusal = other.catch_up().unwrap_err();
    assert!(refusal.code == Code::Internal && refusal.operator.unwrap().contains("another secret"));
    std::fs::remove_file(&secret).unwrap();
    assert!(matches!(Consent::open(&state, name("dfe")), Err(LedgerError::Secret)));
    std::fs::write(&secret, &kept).unwrap();
    Consent::open(&state, name("dfe")).unwrap().catch_up().unwrap();
}

/// Whatever is recorded, corrected and erased, a node that runs and one that starts say the same, and so does the history.
#[test]
fn nodes_that_run_and_nodes_that_start_agree_with_the_history() {
    let importing = Importing::new();
    let people = ["AB100001A", "AB100002A", "AB100003A"];
    let times = ["", "2027-06-01T00:00:00Z", "2027-07-01T00:00:00Z"];
    arbtest::arbtest(|u| {
        for _ in 0..u.int_in_range(1..=6)? {
            let identifier = *u.choose(&people)?;
            let shown = importing.shown(identifier);
            match u.int_in_range(0..=9)? {
                0 => {
                    let before = importing.consent.ledger().version().unwrap();
                    assert!(importing.erase(&[identifier]).version >= before, "an erasure takes no place away");
                }
                1 | 2 if !shown.records.is_empty() => {
                    let place = shown.records[u.choose_index(shown.records.len())?].place;
                    let _ = importing.consent.correct(&importing.ask(&[identifier]), place, None);
                }
                _ => {
                    let event = *u.choose(&["given", "withdrawn", "objected"])?;
                    let (effective_from, expires_at) = match event {
                        "given" => (*u.choose(&times[..2])?, *u.choose(&[times[0], times[2]])?),
                        "objected" => (*u.choose(&times)?, ""),
                        _ => ("", ""),
                    };
                    let purpose = *u.choose(&["opportunity", "opportunity.measure", "health"])?;
                    importing.records(&[Raw { identifier, event, purpose, effective_from, expires_at, ..NINO }]);
                }
            }
        }
        for (identifier, now) in people.into_iter().flat_map(|identifier| [0, 1_811_808_000, 1_900_000_000].map(|now| (identifier, now))) {
            let events = importing.latest(identifier, now);
            let records = importing.shown(identifier).records;
            let spoken = history::speaking(records.iter().map(|kept: &Kept| (kept.place, kept.purpose.as_str(), kept.said)));
            let told = concordat_policy::consent::latest(&spoken, |purpose| purpose.starts_with("opportunity"), now);
            assert_eq!(events, order(told), "{identifier} at {now}: {records:?}");
        }
        Ok(())
    });
}

#[test]
fn receipts_are_made_with_the_records_and_on_demand() {
    let importing = Importing::new();
    let config = Config::load(&importing.world.path("node.toml")).unwrap();
    let receipts = || Receipts::new(&importing.consent, &config.signing);
    let raw = Raw { identifier: "ab 10 00 01 a", expires_at: "2027-06-01T00:00:00Z", capacity: "deputy", acted_by: "COP 3", ..NINO };
    let records = [importing.intake.record(raw, &mut String::new()).unwrap(), record("AB100002A", "opportunity.measure", Event::Objected)];
    let recorded = importing.consent.record_noted(&importing.intake, &records, None).unwrap();
    let made = receipts().of(&recorded).unwrap();
    let read = |jws: &String| {
        let (receipt, key) = ConsentReceipt::read(jws).unwrap();
        assert_eq!(key, concordat_policy::agreement::Fingerprint::of(config.signing.public_spki()));
        receipt
    };
    let (given, objected) = (read(&made[0]), read(&made[1]));
    let (event, purpose) = (&given.event[0], &given.pii_processing.purposes[0]);
    assert_eq!((given.record_id.as_str(), purpose.title.as_str(), purpose.lawful_basis.as_str()), ("dfe:0:1", "Opportunity", "consent"));
    assert_eq!((event.event_state.as_str(), event.entity_id.as_str()), ("given", "deputy: COP 3"));
    assert_eq!(
        (event.event_time.as_str(), event.validity_duration.as_deref()),
        (importing.shown("AB100001A").records[0].recorded_at.as_str(), Some("2027-06-01T00:00:00Z"))
    );
    let basis = &objected.pii_processing.purposes[0].lawful_basis;
    assert_eq!((basis.as_str(), objected.event[0].entity_id.as_str()), ("statutory", "pii_principal"));
    assert_ne!(given.pii_principal_id, objected.pii_principal_id);
    assert!(!serde_json::to_string(&given).unwrap().contains("AB100001A"));
    // On demand they say the same, but for when they were made, until a record is corrected.
    let again = receipts().on_demand(&importing.ask(&["AB100001A", "AB100002A", "AB100003A"])).unwrap();
    let (first, second) = (read(&again[0][0]), read(&again[1][0]));
    assert_eq!(ConsentReceipt { issued_at: String::new(), ..first }, ConsentReceipt { issued_at: String::new(), ..given });
    assert_eq!(ConsentReceipt { issued_at: String::new(), ..second }, ConsentReceipt { issued_at: String::new(), ..objected });
    assert!(again[2].is_empty());
    importing.consent.correct(&importing.ask(&["AB100001A"]), 1, None).unwrap();
    assert!(receipts().on_demand(&importing.ask(&["AB100001A"])).unwrap()[0].is_empty());
}

#[test]
fn a_repeated_call_has_no_receipt_of_what_was_corrected_or_erased_since() {
    let importing = Importing::new();
    let config = Config::load(&importing.world.path("node.toml")).unwrap();
    let receipts = Receipts::new(&importing.consent, &config.signing);
    let records = [("AB100001A", Event::Given), ("AB100002A", Event::Given), ("AB100003A", Event::Objected)]
        .map(|(identifier, event)| record(identifier, "opportunity", event));
    let once = || importing.consent.record_once(&importing.intake, &records, ("call-1", [].as_slice())).unwrap().unwrap();
    let empty = |recorded: &Recorded| receipts.of(recorded).unwrap().iter().map(String::is_empty).collect::<Vec<_>>();
    let (before, made) = once();
    assert_eq!((before, empty(&made)), (false, vec![false; 3]));
    importing.consent.correct(&importing.ask(&["AB100001A"]), 1, None).unwrap();
    importing.erase(&["AB100003A"]);
    // What others of the same people say changes nothing of it.
    importing.records(&[Raw { identifier: "AB100002A", event: "withdrawn", ..NINO }, Raw { identifier: "AB100003A", ..NINO }]);
    let (before, again) = once();
    assert_eq!((before, &again, again.count(), empty(&again)), (true, &made, 3, vec![true, false, true]));
}

/// What is kept of imports so that they are not repeated tells nobody who was in them, once somebody was erased.
#[tokio::test]
async fn an_erasure_leaves_no_hash_that_tells_who_was_imported() {
    let importing = Importing::new();
    importing.world.write("AB100001A.csv", "identifier,purpose,event\nAB100001A,opportunity,given\n");
    let import = async || importing.import("AB100001A.csv", false).await.unwrap();
    assert_ne!(import().await, Imported::Before);
    let (id, stream) = ("stream-1", || {
        let mut stream = super::super::import::StreamImport::new(Arc::clone(&importing.consent), importing.intake.clone()).unwrap();
        let record = concordat_proto::v1::ConsentRecord {
            identifier: "AB100001A".into(),
            identifier_type: "nino".into(),
            purpose: "opportunity".into(),
            event: "objected".into(),
            ..Default::default()
        };
        stream.take(&record).unwrap();
        stream
    });
    assert!(!stream().finish(id).unwrap().0);
    let kept = || {
        let ledger = rusqlite::Connection::open(importing.consent.state.join("consent.sqlite")).unwrap();
        let mut statement = ledger.prepare("SELECT digest, file FROM imports ORDER BY digest").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<Vec<(String, String)>, _>>().unwrap()
    };
    let file = hex(&<Sha256 as sha2::Digest>::digest(std::fs::read(importing.world.path("AB100001A.csv")).unwrap()));
    assert_eq!(kept()[0], (file.clone(), "AB100001A.csv".to_owned()), "before, the ledger names everybody anyway");
    for _ in 0..2 {
        importing.erase(&["AB100001A"]);
        let ledger = bytes(&importing);
        assert!(!holds(&ledger, &file) && !holds(&ledger, "AB100001A"));
        let kept = kept();
        assert!(kept[0].0.starts_with("keyed:") && kept[0].1.is_empty(), "{kept:?}");
        assert_eq!((kept.len(), kept[1].0.as_str()), (2, "stream:stream-1"));
        // Neither comes again: what was given before would count after the objection.
        let version = importing.version();
        assert_eq!(import().await, Imported::Before);
        assert!(stream().finish(id).unwrap().0);
        assert_eq!(importing.version(), version);
    }
}
