//! Consent at scale: imports, memory, loading and lookups of the consent ledger and index, each against a named peer in the
//! same run. `BENCH_SUBJECTS` sets how many people (default 5,000,000; each has 1.45 records on average).
//!
//! - Imports: against the same rows, already normalised and in memory, inserted by plain rusqlite in one transaction into the
//!   same table under the same settings of durability.
//! - Withdrawals: how long one takes until it is acknowledged, on an idle ledger and beside 100 releases a second, each of which
//!   catches up and looks 20,000 people up. `BENCH_WITHDRAWALS` sets how many (default 1,000).
//! - What the gateway is told of whose choices reach other departments' data: bytes and time, of 1,000 changes and of everybody.
//! - Memory, loading, lookups: against `std::collections::HashMap`, one for each purpose, keyed by the same keyed hash with a
//!   hasher that takes it as it is, holding the last place of each kind of record.
//!
//! Fails where a bar is missed: a withdrawal beside releases over 50 ms in the 99th percentile, 1,000 changes over 100 kB.
//! `BENCH_ONLY=changes` imports one file and measures the changes alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, reason = "a benchmark")]
#![allow(missing_docs, reason = "a benchmark")]

#[path = "consent/changes.rs"]
mod changes;
#[path = "consent/withdrawals.rs"]
mod withdrawals;

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use concordat_node::consent::import::{Imported, Options, import};
use concordat_node::consent::intake::Intake;
use concordat_node::consent::{Consent, View};
use concordat_node::pseudonym::{DomainKey, Pseudonym, Pseudonyms};
use concordat_policy::consent::{Event, Latest};
use concordat_policy::{IdentifierType, LinkageDomain, Name, PurposeTree};
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
    status("RssAnon:")
}

/// The most bytes that this process has held, with what it maps.
fn most_memory() -> f64 {
    status("VmHWM:")
}

fn status(of: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(of)).unwrap();
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
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();
    assert!(["", "changes"].contains(&only.as_str()), "BENCH_ONLY is 'changes', or not set");
    let (folder, began) = (tempfile::tempdir().unwrap(), Instant::now());
    let at = |file: &str| folder.path().join(file);
    let count = csv(&at("consent.csv"), subjects);
    println!("{subjects} subjects, {count} records");
    let mut missed = Vec::new();
    if only.is_empty() {
        parquet(&at("consent.parquet"), subjects);
        imports(folder.path(), subjects, count).await;
        index(&at("csv"), subjects);
        missed.extend(withdrawals::measure(&at("csv"), subjects));
    } else {
        import_of("csv", folder.path(), count).await;
    }
    missed.extend(changes::measure(&at("csv"), subjects));
    println!("{:.0} s in all, at most {:.0} MB of memory", began.elapsed().as_secs_f64(), most_memory() / 1e6);
    assert!(missed.is_empty(), "{}", missed.join("; "));
}

/// Whether a bar is kept, in the same words everywhere.
fn kept(kept: bool) -> &'static str {
    if kept { "kept" } else { "MISSED" }
}

async fn imports(folder: &Path, subjects: usize, count: usize) {
    let rows: Vec<_> = records(subjects).collect();
    let plain = plain_inserts(&folder.join("plain.sqlite"), &rows);
    drop(rows);
    std::fs::remove_file(folder.join("plain.sqlite")).unwrap();
    println!("plain rusqlite inserts: {plain:.1} s, {:.0} records/s", count as f64 / plain);
    for format in ["csv", "parquet"] {
        let seconds = import_of(format, folder, count).await;
        println!("import of {format}: {:.2} × plain inserts", plain / seconds);
    }
}

/// Imports the file of this format into a ledger of its own. How many seconds it took.
async fn import_of(format: &str, folder: &Path, count: usize) -> f64 {
    let state = folder.join(format);
    std::fs::create_dir(&state).unwrap();
    let consent = Arc::new(Consent::open(&state, name("dhsc")).unwrap());
    let intake = Intake::of(std::iter::once(IdentifierType::Nino), PurposeTree::parse(TREE).unwrap());
    let since = Instant::now();
    let imported = import(consent, intake, folder.join(format!("consent.{format}")), Options::default()).await.unwrap();
    let seconds = since.elapsed().as_secs_f64();
    assert_eq!(imported, Imported::Now { records: count as u64, invalid: 0, first_invalid: vec![] });
    println!("import of {format}: {seconds:.1} s, {:.0} records/s", count as f64 / seconds);
    seconds
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
