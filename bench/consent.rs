//! Consent at scale: imports, memory, loading and lookups of the consent ledger and index, each against a named peer in the
//! same run. `BENCH_SUBJECTS` sets how many people (default 5,000,000; each has 1.45 records on average).
//!
//! - Imports: against the same rows, already normalised and in memory, inserted by plain rusqlite in one transaction into the
//!   same table under the same settings of durability.
//! - Withdrawals: how long one takes until it is acknowledged, on an idle ledger and beside 100 releases a second, each of which
//!   catches up and looks 20,000 people up. `BENCH_WITHDRAWALS` sets how many (default 1,000).
//! - What the gateway is told of whose choices reach other departments' data: bytes and time, of 1,000 records and of all.
//! - Memory, loading, lookups: against `std::collections::HashMap`, one for each purpose, keyed by the same keyed hash with a
//!   hasher that takes it as it is, holding the last place of each kind of record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, reason = "a benchmark")]
#![allow(missing_docs, reason = "a benchmark")]

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use concordat_node::consent::import::{Imported, Options, import};
use concordat_node::consent::intake::{Intake, Raw};
use concordat_node::consent::reach::{Kind, Since};
use concordat_node::consent::{Consent, View};
use concordat_node::pseudonym::{DomainKey, Pseudonym, Pseudonyms};
use concordat_policy::consent::{Event, Latest};
use concordat_policy::{Basis, IdentifierType, LinkageDomain, Name, PurposeTree};
use rusqlite::{Connection, params};

const PURPOSES: [&str; 3] = ["opportunity", "opportunity.measure", "health"];
const TREE: &str = r#"purpose = [
  { id = "opportunity", title = "Opportunity" },
  { id = "opportunity.measure", title = "Measure", parent = "opportunity" },
  { id = "health", title = "Health" },
]"#;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A valid NINO.
fn nino(number: usize) -> String {
    const LETTERS: &[u8] = b"ABCEGHJKLMNPRSTWXYZ";
    let prefix = number / 1_000_000;
    let (first, second) = (LETTERS[prefix / LETTERS.len()], LETTERS[prefix % LETTERS.len()]);
    format!("{}{}{:06}A", char::from(first), char::from(second), number % 1_000_000)
}

/// Somebody's choices: purpose and event.
fn choices(subject: usize) -> impl Iterator<Item = (usize, Event)> {
    let lot = subject.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    [
        (true, 0, Event::Given),
        (lot % 100 < 3, 1, Event::Withdrawn),
        (lot % 100 == 3 || lot % 100 == 4, 0, Event::Objected),
        ((lot >> 8) % 10 < 4, 2, Event::Given),
    ]
    .into_iter()
    .filter(|(made, ..)| *made)
    .map(|(_, purpose, event)| (purpose, event))
}

fn records(subjects: usize) -> impl Iterator<Item = (String, usize, Event)> {
    (0..subjects).flat_map(|subject| choices(subject).map(move |(purpose, event)| (nino(subject), purpose, event)))
}

fn csv(path: &Path, subjects: usize) -> usize {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    writeln!(out, "identifier,purpose,event").unwrap();
    let mut count = 0;
    for (identifier, purpose, event) in records(subjects) {
        // As people write them: every tenth in groups and small letters.
        if count % 10 == 0 {
            let [a, b, c, d, e] = [0, 2, 4, 6, 8].map(|at| identifier[at..(at + 2).min(9)].to_lowercase());
            writeln!(out, "{a} {b} {c} {d} {e},{},{}", PURPOSES[purpose], event.as_str()).unwrap();
        } else {
            writeln!(out, "{identifier},{},{}", PURPOSES[purpose], event.as_str()).unwrap();
        }
        count += 1;
    }
    out.into_inner().unwrap().sync_all().unwrap();
    count
}

fn parquet(path: &Path, subjects: usize) {
    let mut writer = None;
    let mut records = records(subjects).peekable();
    while records.peek().is_some() {
        let part: Vec<_> = records.by_ref().take(65_536).collect();
        let column = |text: &dyn Fn(&(String, usize, Event)) -> String| {
            Arc::new(part.iter().map(|r| Some(text(r))).collect::<StringArray>()) as ArrayRef
        };
        let batch = RecordBatch::try_from_iter([
            ("identifier", column(&|r| r.0.clone())),
            ("purpose", column(&|r| PURPOSES[r.1].into())),
            ("event", column(&|r| r.2.as_str().into())),
        ])
        .unwrap();
        let writer =
            writer.get_or_insert_with(|| parquet::arrow::ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap());
        writer.write(&batch).unwrap();
    }
    writer.unwrap().close().unwrap();
}

/// Inserts the same rows as an import does, without reading, checking or normalising anything.
fn plain_inserts(path: &Path, rows: &[(String, usize, Event)]) -> f64 {
    let mut connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.pragma_update(None, "synchronous", "FULL").unwrap();
    connection
        .execute_batch(
            "CREATE TABLE records (place INTEGER PRIMARY KEY AUTOINCREMENT, identifier_type TEXT NOT NULL, identifier TEXT, erased TEXT,
             purpose TEXT NOT NULL, event TEXT NOT NULL CHECK (event IN ('given', 'withdrawn', 'objected', 'corrected', 'erased')),
             recorded_at TEXT NOT NULL, effective_from INTEGER, expires_at INTEGER, capacity TEXT, acted_by TEXT, corrects INTEGER,
             speaking TEXT) STRICT;
             CREATE INDEX corrections ON records (corrects) WHERE corrects IS NOT NULL",
        )
        .unwrap();
    let since = Instant::now();
    let transaction = connection.transaction().unwrap();
    let sql = "INSERT INTO records (identifier_type, identifier, purpose, event, recorded_at) VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut statement = transaction.prepare(sql).unwrap();
    for (identifier, purpose, event) in rows {
        statement.execute(params!["nino", identifier, PURPOSES[*purpose], event.as_str(), "2026-01-01T00:00:00.000Z"]).unwrap();
    }
    drop(statement);
    transaction.commit().unwrap();
    since.elapsed().as_secs_f64()
}

/// Bytes of this process's own memory.
fn memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}

#[derive(PartialEq, Eq)]
struct Key(Pseudonym);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from_le_bytes(self.0[..8].try_into().unwrap()));
    }
}

#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!()
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

type Map = HashMap<Key, [u32; 3], BuildHasherDefault<AsItIs>>;

struct Maps {
    hasher: Pseudonyms,
    by_purpose: HashMap<String, Map>,
}

impl Maps {
    fn load(ledger: &Path) -> Self {
        let domain = LinkageDomain { mission: name("m"), purpose: name("p"), epoch: 1, rotation: 0 };
        let hasher = Pseudonyms::derive(&DomainKey::random().unwrap(), &domain, &IdentifierType::Nino);
        let mut by_purpose: HashMap<String, Map> = HashMap::new();
        let connection = Connection::open(ledger).unwrap();
        let mut statement = connection.prepare("SELECT place, identifier, purpose, event FROM records ORDER BY place").unwrap();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let text = |column: usize| row.get_ref(column).unwrap().as_str().unwrap();
            let (key, event) = (Key(hasher.one(text(1))), Event::parse(text(3)).unwrap());
            if !by_purpose.contains_key(text(2)) {
                by_purpose.insert(text(2).to_owned(), Map::default());
            }
            by_purpose.get_mut(text(2)).unwrap().entry(key).or_default()[event as usize] = row.get(0).unwrap();
        }
        Self { hasher, by_purpose }
    }

    fn latest<'a>(
        &self,
        purposes: &[&str],
        identifiers: impl Iterator<Item = &'a str>,
        scratch: &mut Vec<Pseudonym>,
        out: &mut Vec<Latest>,
    ) {
        self.hasher.make(identifiers, scratch);
        out.clear();
        let maps: Vec<&Map> = purposes.iter().map(|purpose| &self.by_purpose[*purpose]).collect();
        let place = |place: u32| (place > 0).then_some(u64::from(place));
        out.extend(scratch.iter().map(|hash| {
            maps.iter().filter_map(|map| map.get(&Key(*hash))).fold(Latest::default(), |latest, [given, withdrawn, objected]| {
                latest.and(Latest { given: place(*given), expired: None, withdrawn: place(*withdrawn), objected: place(*objected) })
            })
        }));
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let since = Instant::now();
    let done = work();
    (done, since.elapsed().as_secs_f64())
}

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` starts benchmarks too; only `cargo bench` measures.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let subjects: usize = std::env::var("BENCH_SUBJECTS").unwrap_or_else(|_| "5000000".into()).parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |file: &str| folder.path().join(file);
    let count = csv(&at("consent.csv"), subjects);
    parquet(&at("consent.parquet"), subjects);
    println!("{subjects} subjects, {count} records");
    imports(folder.path(), subjects, count).await;
    index(&at("csv"), subjects);
    withdrawals(&at("csv"), subjects);
    changes(&at("csv"));
}

async fn imports(folder: &Path, subjects: usize, count: usize) {
    let rate = |seconds: f64| count as f64 / seconds;
    let rows: Vec<_> = records(subjects).collect();
    let plain = plain_inserts(&folder.join("plain.sqlite"), &rows);
    drop(rows);
    std::fs::remove_file(folder.join("plain.sqlite")).unwrap();
    println!("plain rusqlite inserts: {:.1} s, {:.0} records/s", plain, rate(plain));
    for format in ["csv", "parquet"] {
        let state = folder.join(format);
        std::fs::create_dir(&state).unwrap();
        let consent = Arc::new(Consent::open(&state, name("dhsc")).unwrap());
        let intake = Intake::of(std::iter::once(IdentifierType::Nino), PurposeTree::parse(TREE).unwrap());
        let since = Instant::now();
        let imported = import(consent, intake, folder.join(format!("consent.{format}")), Options::default()).await.unwrap();
        let seconds = since.elapsed().as_secs_f64();
        assert_eq!(imported, Imported::Now { records: count as u64, invalid: 0, first_invalid: vec![] });
        println!("import of {format}: {seconds:.1} s, {:.0} records/s, {:.2} × plain inserts", rate(seconds), plain / seconds);
    }
}

fn index(state: &Path, subjects: usize) {
    let before = memory();
    let (maps, seconds) = timed(|| Maps::load(&state.join("consent.sqlite")));
    println!("hash tables: loaded in {seconds:.1} s, {:.1} bytes a subject (measured)", (memory() - before) / subjects as f64);
    let consent = Consent::open(state, name("dhsc")).unwrap();
    let before = memory();
    let (snapshot, own) = timed(|| consent.catch_up().unwrap().snapshot);
    let measured = (memory() - before) / subjects as f64;
    assert_eq!(snapshot.subjects(), subjects);
    let counted = snapshot.bytes() as f64 / subjects as f64;
    println!(
        "index: loaded in {own:.1} s ({:.2} × hash tables), {measured:.1} bytes a subject (measured; {counted:.1} counted)",
        seconds / own
    );

    // A release asks in the order of its source, which knows nothing of the ledger's; one in eleven has no record.
    let asked = 2_000_000;
    let everybody = subjects + subjects / 10;
    let identifiers: Vec<String> = (0..asked).map(|at: usize| nino(at.wrapping_mul(0x9e37_79b1) % everybody)).collect();
    let purposes = [name("opportunity.measure"), name("opportunity")];
    let view = snapshot.view("nino", purposes.iter());
    let (mut own, mut old) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        own.push(timed(|| lookups(&identifiers, |part, scratch, out| from_index(&view, part, scratch, out))));
        let texts = ["opportunity.measure", "opportunity"];
        old.push(timed(|| lookups(&identifiers, |part, scratch, out| maps.latest(&texts, part.iter().map(String::as_str), scratch, out))));
    }
    assert!(own.iter().all(|(allowed, _)| *allowed == old[0].0), "both say the same");
    let median = |runs: &mut Vec<(usize, f64)>| {
        runs.sort_by(|a, b| a.1.total_cmp(&b.1));
        asked as f64 / runs[runs.len() / 2].1
    };
    let (own, old) = (median(&mut own), median(&mut old));
    println!("lookups: index {own:.0}/s, hash tables {old:.0}/s: {:.2} ×", own / old);
}

fn from_index(view: &View, part: &[String], scratch: &mut Vec<Pseudonym>, out: &mut Vec<Latest>) {
    view.latest(part.iter().map(String::as_str), scratch, out);
}

/// Looks everybody up, a batch of a scan at a time. How many have agreed.
fn lookups(identifiers: &[String], mut latest: impl FnMut(&[String], &mut Vec<Pseudonym>, &mut Vec<Latest>)) -> usize {
    let (mut scratch, mut out, mut agreed) = (Vec::new(), Vec::new(), 0);
    for part in identifiers.chunks(32_768) {
        latest(part, &mut scratch, &mut out);
        agreed += out.iter().filter(|l| l.given > l.withdrawn && l.given > l.objected).count();
    }
    agreed
}

/// Releases a second, of what they do with the ledger.
const RELEASES: u32 = 100;
/// People whom one of them looks up.
const PEOPLE: usize = 20_000;
/// What a withdrawal may take at most in the 99th percentile.
const BAR: Duration = Duration::from_millis(50);

fn withdrawals(state: &Path, subjects: usize) {
    let count: usize = std::env::var("BENCH_WITHDRAWALS").unwrap_or_else(|_| "1000".into()).parse().unwrap();
    let consent = Consent::open(state, name("dhsc")).unwrap();
    consent.catch_up().unwrap();
    let idle = acknowledged(&consent, subjects, count);
    let (ended, released) = (AtomicBool::new(false), AtomicU64::new(0));
    let began = Instant::now();
    let beside = std::thread::scope(|scope| {
        // Two take turns, so that one that is late does not hold the next one up.
        for turn in 0..2u32 {
            let (consent, ended, released) = (&consent, &ended, &released);
            scope.spawn(move || {
                let identifiers: Vec<String> = (0..PEOPLE).map(|at| nino(at.wrapping_mul(0x9e37_79b1) % subjects)).collect();
                let purposes = [name("opportunity.measure"), name("opportunity")];
                let (mut scratch, mut out) = (Vec::new(), Vec::new());
                for release in (turn..).step_by(2) {
                    std::thread::sleep((Duration::from_secs(1) / RELEASES * release).saturating_sub(began.elapsed()));
                    if ended.load(Ordering::Relaxed) {
                        break;
                    }
                    let view = consent.catch_up().unwrap().snapshot.view("nino", purposes.iter());
                    view.latest(identifiers.iter().map(String::as_str), &mut scratch, &mut out);
                    released.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let beside = acknowledged(&consent, subjects, count);
        ended.store(true, Ordering::Relaxed);
        beside
    });
    let rate = released.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    let told = |what: &str, [half, most]: [Duration; 2]| {
        println!("withdrawal acknowledged, {what}: p50 {:.2} ms, p99 {:.2} ms", half.as_secs_f64() * 1e3, most.as_secs_f64() * 1e3);
    };
    told("idle", idle);
    told(&format!("beside {rate:.0} releases a second"), beside);
    let [half, most] = [0, 1].map(|at| beside[at].as_secs_f64() / idle[at].as_secs_f64());
    let within = if beside[1] <= BAR { "within" } else { "OVER" };
    println!("beside releases against idle: p50 {half:.2} ×, p99 {most:.2} ×; p99 is {within} {} ms", BAR.as_millis());
}

/// What the gateway is told of whose choices reach other departments' data: of 1,000 records, and from nothing.
fn changes(state: &Path) {
    let consent = Consent::open(state, name("dhsc")).unwrap();
    let basis = Basis::Consent { text: "I agree".into() };
    let relevant = [name("opportunity.measure"), name("opportunity")];
    let domain = LinkageDomain { mission: name("m"), purpose: name("opportunity.measure"), epoch: 1, rotation: 0 };
    let snapshot = consent.catch_up().unwrap().snapshot;
    let told = |what: &str, since: Option<Since>| {
        let pseudonyms = Pseudonyms::derive(&DomainKey::new([7; 32]), &domain, &IdentifierType::Nino);
        let kind = Kind { label: "nino".into(), pseudonyms, view: snapshot.view("nino", relevant.iter()) };
        let began = Instant::now();
        let changes = consent.reach(since, snapshot.now(), &basis, &relevant, vec![kind]).unwrap();
        let people = changes.added.len() + changes.removed.len();
        println!("told of {what}: {people} people, {:.1} kB, made in {:.2} s", people as f64 * 0.016, began.elapsed().as_secs_f64());
    };
    let last = snapshot.version();
    told("the last 1,000 records", Some(Since { version: last.saturating_sub(1_000), moment: snapshot.now() }));
    told(&format!("all {last} records"), None);
}

/// Withdraws for so many people, one after the other: how long half of them took at most, and 99 in a hundred.
fn acknowledged(consent: &Consent, subjects: usize, count: usize) -> [Duration; 2] {
    let intake = Intake::of(std::iter::once(IdentifierType::Nino), PurposeTree::parse(TREE).unwrap());
    let mut scratch = String::new();
    let mut took: Vec<Duration> = (0..count)
        .map(|at| {
            let identifier = nino(at * 7 % subjects);
            let raw =
                Raw { identifier: &identifier, identifier_type: "nino", purpose: "opportunity", event: "withdrawn", ..Raw::default() };
            let since = Instant::now();
            let record = intake.record(raw, &mut scratch).unwrap();
            consent.record(&[record]).unwrap();
            // As people come: not all at once.
            let took = since.elapsed();
            std::thread::sleep(Duration::from_millis(2));
            took
        })
        .collect();
    took.sort_unstable();
    [took[count / 2], took[count * 99 / 100]]
}
