//! `kill -9` while consent is recorded and imported, of commands here, of a node in [`node`], and of one in any of its calls in
//! [`calls`]: no acknowledged record is lost, and none is applied twice. A few seeded points; `CONCORDAT_KILLS` sets how many,
//! `CONCORDAT_KILLS_SEED` where.

mod call;
mod calls;
mod node;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chrono::Utc;
use concordat::federation::{Layout, make};
use concordat::sample::{Sample, federation};
use tempfile::TempDir;

use crate::sandbox::program;

/// Random numbers that are the same everywhere: splitmix64.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// A number that the environment sets, or another.
pub fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// Where the kills come from, told so that a run can be repeated.
fn seed() -> u64 {
    let seed = number("CONCORDAT_KILLS_SEED", 6);
    eprintln!("CONCORDAT_KILLS_SEED={seed}");
    seed
}

/// How often each of the identifiers that begin so stands in the ledger of DHSC.
fn recorded(layout: &Layout, prefix: &str) -> BTreeMap<String, u64> {
    let ledger = rusqlite::Connection::open(layout.node("dhsc").join("state/consent.sqlite")).unwrap();
    let sql = "SELECT identifier, count(*) FROM records WHERE identifier GLOB ?1 || '*' GROUP BY identifier";
    let mut statement = ledger.prepare(sql).unwrap();
    let rows = statement.query_map([prefix], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// A department's folder, whose node does not run.
struct Department {
    layout: Layout,
    folder: TempDir,
    random: Seeded,
}

impl Department {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let today = Utc::now().date_naive();
        let made = make(&federation(today), &folder.path().join("world"), today).unwrap();
        Sample::of(200).write(&made.layout).unwrap();
        Self { layout: made.layout, folder, random: Seeded(seed()) }
    }

    fn write(&self, name: &str, lines: impl Iterator<Item = String>) -> PathBuf {
        let path = self.folder.path().join(name);
        let mut out = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
        lines.for_each(|line| writeln!(out, "{line}").unwrap());
        out.into_inner().unwrap().sync_all().unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(["node", "consent"]).args(arguments).arg("--config").arg(self.layout.node("dhsc").join("node.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn record(&self, identifiers: &Path) -> Command {
        let what = ["record", "--identifier-type", "nino", "--purpose", "health", "--event", "withdrawn", "--identifiers"];
        let mut arguments = what.to_vec();
        arguments.push(identifiers.to_str().unwrap());
        self.command(&arguments)
    }

    fn import(&self, file: &Path) -> Command {
        self.command(&["import", file.to_str().unwrap()])
    }

    /// Kills a child somewhere between its start and a little beyond its usual end. Whether it had acknowledged its work.
    fn killed(&mut self, mut command: Command, usual: Duration) -> bool {
        let point = Duration::from_micros(self.random.below(u64::try_from(usual.as_micros()).unwrap() * 5 / 4 + 1));
        let mut child = command.spawn().unwrap();
        std::thread::sleep(point);
        // Of one that has ended there is nothing to kill.
        let _ = child.kill();
        child.wait().unwrap().success()
    }
}

fn timed(mut command: Command) -> Duration {
    let since = Instant::now();
    assert!(command.status().unwrap().success());
    since.elapsed()
}

#[test]
fn a_recording_that_is_killed_is_whole_or_absent_and_whole_where_it_was_acknowledged() {
    const BATCH: u64 = 40;
    let mut department = Department::new();
    let people = |batch: u64| (0..BATCH).map(move |number| format!("ZX{:06}A", batch * BATCH + number));
    let first = department.write("first.txt", people(0));
    let usual = timed(department.record(&first));
    let kills = number("CONCORDAT_KILLS", 4);
    let acknowledged: Vec<bool> = (1..=kills)
        .map(|batch| {
            let file = department.write("batch.txt", people(batch));
            let command = department.record(&file);
            department.killed(command, usual)
        })
        .collect();
    let last = department.write("last.txt", people(kills + 1));
    timed(department.record(&last));
    let recorded = recorded(&department.layout, "ZX");
    assert!(recorded.values().all(|times| *times == 1), "somebody's withdrawal was applied twice");
    for (batch, acknowledged) in (1..=kills).zip(acknowledged) {
        let found = people(batch).filter(|person| recorded.contains_key(person)).count() as u64;
        assert!(found == BATCH || (found == 0 && !acknowledged), "batch {batch}, acknowledged: {acknowledged}, has {found} of {BATCH}");
    }
    for batch in [0, kills + 1] {
        assert!(people(batch).all(|person| recorded.contains_key(&person)), "batch {batch} was acknowledged");
    }
}

#[test]
fn an_import_that_is_killed_and_repeated_is_applied_once() {
    const ROWS: u64 = 30_000;
    let mut department = Department::new();
    let letters = |round: u64| ["ZW", "ZX", "ZY", "ZJ"][(round % 4) as usize];
    let file = |department: &Department, round: u64| {
        // Of each round another file, also where the letters come again.
        let header = [format!("identifier,purpose,event,note{round}")].into_iter();
        let rows = (0..ROWS).map(move |number| format!("{}{number:06}A,health,given,", letters(round)));
        department.write(&format!("round{round}.csv"), header.chain(rows))
    };
    let mut usual = timed(department.import(&file(&department, 0)));
    for round in 1..=number("CONCORDAT_KILLS", 4) {
        let path = file(&department, round);
        let before = recorded(&department.layout, "Z");
        let command = department.import(&path);
        let acknowledged = department.killed(command, usual);
        let (killed, expected) = (recorded(&department.layout, "Z"), before.values().sum::<u64>());
        let found = killed.values().sum::<u64>() - expected;
        assert!(found == ROWS || (found == 0 && !acknowledged), "round {round}, acknowledged: {acknowledged}, has {found} of {ROWS}");
        let repeated = timed(department.import(&path));
        if found == 0 {
            usual = usual.max(repeated);
        }
        let after = recorded(&department.layout, "Z");
        assert_eq!(after.values().sum::<u64>(), expected + ROWS, "round {round}: once, whether or not the first one ended");
        let mut own = after.iter().filter(|(person, _)| person.starts_with(letters(round)));
        assert!(own.all(|(_, times)| *times == round / 4 + 1), "round {round}: each row as often as there were files with it");
    }
}
