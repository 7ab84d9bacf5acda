//! `kill -9` while consent is recorded and imported, of commands here, of a node in [`node`], and of one in any of its calls in
//! [`calls`]: no acknowledged record is lost, and none is applied twice. A few seeded points; `CONCORDAT_KILLS` sets how many,
//! `CONCORDAT_KILLS_SEED` where.
//!
//! Commands are killed beside the running node and while it is stopped, by turns. After each, answers are those of the oracle.

mod asked;
mod call;
mod calls;
mod node;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use concordat::federation::Layout;
use tempfile::TempDir;

use self::asked::{DEPARTMENT, PURPOSE, compare, people, stands, world};
use crate::sandbox::{Sandbox, program};

/// Random numbers that are the same everywhere: splitmix64.
pub struct Seeded(pub u64);

impl Seeded {
    pub fn below(&mut self, end: u64) -> u64 {
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
pub fn seed() -> u64 {
    let seed = number("CONCORDAT_KILLS_SEED", 6);
    eprintln!("CONCORDAT_KILLS_SEED={seed}");
    seed
}

/// How often each of the identifiers that begin so stands in the department's ledger, after a place.
fn recorded(layout: &Layout, prefix: &str, after: u64) -> BTreeMap<String, u64> {
    let ledger = rusqlite::Connection::open(layout.node(DEPARTMENT).join("state/consent.sqlite")).unwrap();
    let sql = "SELECT identifier, count(*) FROM records WHERE identifier GLOB ?1 || '*' AND place > ?2 GROUP BY identifier";
    let mut statement = ledger.prepare(sql).unwrap();
    let counts = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()));
    let rows = statement.query_map(rusqlite::params![prefix, after.cast_signed()], counts).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// A department whose administrators run commands.
struct Department {
    sandbox: Sandbox,
    folder: TempDir,
    random: Seeded,
    /// Who may still withdraw.
    people: Vec<String>,
    /// Who has withdrawn.
    gone: Vec<String>,
    /// The ledger's version at first, and after everything that was made.
    base: u64,
    version: u64,
}

impl Department {
    async fn new() -> Self {
        let sandbox = world().await;
        let mut people = people(&sandbox).await;
        // Strangers' identifiers begin so.
        people.retain(|person| !person.starts_with('Z'));
        let base = stands(&sandbox).await;
        let folder = tempfile::tempdir().unwrap();
        Self { sandbox, folder, random: Seeded(seed()), people, gone: Vec::new(), base, version: base }
    }

    /// Some of whom the department has data: answers tell of their withdrawal.
    fn some(&mut self) -> Vec<String> {
        self.people.split_off(self.people.len() - KNOWN)
    }

    /// How often each of the strangers whose identifiers begin so was recorded.
    fn recorded(&self, prefix: &str) -> BTreeMap<String, u64> {
        recorded(&self.sandbox.layout, prefix, self.base)
    }

    /// These people's withdrawals were recorded, and as many records in all.
    fn made(&mut self, people: Vec<String>, records: u64) {
        self.gone.extend(people);
        self.version += records;
    }

    /// Answers say what was made, and nothing else.
    async fn agrees(&self, when: &str) {
        assert_eq!(stands(&self.sandbox).await, self.version, "{when}: not each record once");
        compare(&self.sandbox, &[(DEPARTMENT, "withdrawn", self.gone.clone())], when).await;
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
        command.args(["node", "consent"]).args(arguments).arg("--config").arg(self.sandbox.layout.node(DEPARTMENT).join("node.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn record(&self, identifiers: &Path) -> Command {
        let what = ["record", "--identifier-type", "nino", "--purpose", PURPOSE, "--event", "withdrawn", "--identifiers"];
        let mut arguments = what.to_vec();
        arguments.push(identifiers.to_str().unwrap());
        self.command(&arguments)
    }

    fn import(&self, file: &Path) -> Command {
        self.command(&["import", file.to_str().unwrap()])
    }

    /// Kills a command somewhere between its start and a little beyond its usual end, where `stopped` while the node is stopped. Whether
    /// it had acknowledged its work.
    async fn killed(&mut self, mut command: Command, usual: Duration, stopped: bool) -> bool {
        if stopped {
            self.sandbox.running.kill(DEPARTMENT);
        }
        let point = Duration::from_micros(self.random.below(u64::try_from(usual.as_micros()).unwrap() * 5 / 4 + 1));
        let mut child = command.spawn().unwrap();
        tokio::time::sleep(point).await;
        // Of one that has ended there is nothing to kill.
        let _ = child.kill();
        let acknowledged = child.wait().unwrap().success();
        if stopped {
            self.sandbox.running.restart_node(DEPARTMENT).await.unwrap();
        }
        acknowledged
    }
}

/// People with data in a batch or a file.
const KNOWN: usize = 4;

fn timed(mut command: Command) -> Duration {
    let since = Instant::now();
    assert!(command.status().unwrap().success());
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_that_is_killed_is_whole_or_absent_and_whole_where_it_was_acknowledged() {
    const STRANGERS: u64 = 36;
    let mut department = Department::new().await;
    let strangers = |batch: u64| (0..STRANGERS).map(move |number| format!("ZX{:06}A", batch * STRANGERS + number));
    let (kills, mut usual, mut whole, mut absent) = (number("CONCORDAT_KILLS", 4), Duration::ZERO, Vec::new(), Vec::new());
    // The first and the last are not killed.
    for batch in 0..=kills + 1 {
        let people = department.some();
        let file = department.write("batch.txt", strangers(batch).chain(people.clone()));
        let command = department.record(&file);
        let acknowledged = if (1..=kills).contains(&batch) {
            department.killed(command, usual, batch % 2 == 1).await
        } else {
            usual = timed(command);
            true
        };
        let recorded = department.recorded("ZX");
        let when = format!("batch {batch}, acknowledged: {acknowledged}");
        absent.push((batch, people));
        // One that was killed after SQLite had written it and before it told the others' index of it is there when the first one opens
        // the ledger anew, which is at the latest when the node does.
        for (of, people) in std::mem::take(&mut absent) {
            let found = strangers(of).filter(|person| recorded.contains_key(person)).count() as u64;
            let may_be_absent = of != batch || !acknowledged;
            assert!(found == STRANGERS || (found == 0 && may_be_absent), "{when}, has {found} of the {STRANGERS} of batch {of}");
            if found == STRANGERS {
                department.made(people, STRANGERS + KNOWN as u64);
                whole.push(of);
                if of != batch {
                    eprintln!("batch {of} was found with batch {batch}");
                }
            } else {
                absent.push((of, people));
            }
        }
        department.agrees(&when).await;
    }
    let recorded = department.recorded("ZX");
    assert!(recorded.values().all(|times| *times == 1), "somebody's withdrawal was applied twice");
    assert!(whole.into_iter().flat_map(strangers).all(|person| recorded.contains_key(&person)), "what was recorded is lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_is_killed_and_repeated_is_applied_once() {
    const ROWS: u64 = 30_000;
    const RECORDS: u64 = ROWS + KNOWN as u64;
    let mut department = Department::new().await;
    let letters = |round: u64| ["ZW", "ZX", "ZY", "ZJ"][(round % 4) as usize];
    let file = |department: &Department, round: u64, people: &[String]| {
        // Of each round another file, also where the letters come again.
        let header = [format!("identifier,purpose,event,note{round}")].into_iter();
        let known: Vec<String> = people.iter().map(|person| format!("{person},{PURPOSE},withdrawn,")).collect();
        let rows = (0..ROWS).map(move |number| format!("{}{number:06}A,health,given,", letters(round)));
        department.write(&format!("round{round}.csv"), header.chain(known).chain(rows))
    };
    let people = department.some();
    let mut usual = timed(department.import(&file(&department, 0, &people)));
    department.made(people, RECORDS);
    for round in 1..=number("CONCORDAT_KILLS", 4) {
        let people = department.some();
        let path = file(&department, round, &people);
        let expected = department.recorded("Z").values().sum::<u64>();
        let command = department.import(&path);
        let acknowledged = department.killed(command, usual, round % 2 == 1).await;
        let found = department.recorded("Z").values().sum::<u64>() - expected;
        let when = format!("round {round}, acknowledged: {acknowledged}");
        assert!(found == ROWS || (found == 0 && !acknowledged), "{when}, has {found} of {ROWS}");
        if found == ROWS {
            department.made(people.clone(), RECORDS);
        }
        department.agrees(&when).await;
        let repeated = timed(department.import(&path));
        if found == 0 {
            department.made(people, RECORDS);
            usual = usual.max(repeated);
        }
        department.agrees(&format!("{when}, and repeated")).await;
        let after = department.recorded("Z");
        assert_eq!(after.values().sum::<u64>(), expected + ROWS, "{when}: once, whether or not the first one ended");
        let mut own = after.iter().filter(|(person, _)| person.starts_with(letters(round)));
        assert!(own.all(|(_, times)| *times == round / 4 + 1), "{when}: each row as often as there were files with it");
    }
}
