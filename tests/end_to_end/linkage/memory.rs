//! What the gateway has: its whole memory and every file that it writes, searched for what it must never have. The same search finds
//! what it does have, so that finding nothing says something.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::AsArray as _;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use concordat_node::linkage::Keypair;
use concordat_policy::IdentifierType;
use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionContext};

use super::{BOTH, keys};
use crate::sandbox::Sandbox;

/// It looks like an identifier, and stands where the gateway keeps it for as long as it runs: in an agreement's title.
const PLANTED: &str = "QQ987654D";
/// Bytes that every pattern begins with, by which it is found.
const HEAD: usize = 8;
/// Bytes of memory that are read at a time.
const CHUNK: usize = 4 << 20;

/// What is searched for: bytes, and what they are.
#[derive(Default)]
struct Patterns {
    by_head: BTreeMap<[u8; HEAD], Vec<(Vec<u8>, &'static str)>>,
    /// Whether a pattern begins with three bytes: few places need more than this look.
    begins: Vec<bool>,
    longest: usize,
}

fn place(bytes: &[u8]) -> usize {
    (usize::from(bytes[0]) << 16) | (usize::from(bytes[1]) << 8) | usize::from(bytes[2])
}

impl Patterns {
    fn add(&mut self, bytes: &[u8], what: &'static str) {
        self.begins.resize(1 << 24, false);
        self.begins[place(bytes)] = true;
        self.longest = self.longest.max(bytes.len());
        self.by_head.entry(*bytes.first_chunk().unwrap()).or_default().push((bytes.to_vec(), what));
    }

    /// What of it stands in `bytes`, and how often.
    fn search(&self, bytes: &[u8], found: &mut BTreeMap<&'static str, usize>) {
        for at in 0..bytes.len().saturating_sub(HEAD - 1) {
            if !self.begins[place(&bytes[at..])] {
                continue;
            }
            let here = &bytes[at..];
            for (pattern, what) in self.by_head.get(here.first_chunk::<HEAD>().unwrap()).into_iter().flatten() {
                if here.starts_with(pattern) {
                    *found.entry(*what).or_default() += 1;
                }
            }
        }
    }
}

/// Identifiers as departments wrote them down, of those that identify somebody.
async fn written(sandbox: &Sandbox) -> BTreeSet<String> {
    let (session, mut all) = (SessionContext::new(), BTreeSet::new());
    for department in sandbox.layout.departments().unwrap() {
        let folder = sandbox.layout.node(&department);
        let config: toml::Value = toml::from_str(&fs::read_to_string(folder.join("node.toml")).unwrap()).unwrap();
        for dataset in config["dataset"].as_array().unwrap() {
            let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
            let path = folder.join(text(&dataset["source"])).display().to_string();
            let frame = match dataset["format"].as_str().unwrap() {
                "csv" => session.read_csv(path, CsvReadOptions::new()).await.unwrap(),
                _ => session.read_parquet(path, ParquetReadOptions::default()).await.unwrap(),
            };
            for batch in frame.collect().await.unwrap() {
                let column = cast(batch.column_by_name(&text(&dataset["identifier"]["column"])).unwrap(), &DataType::Utf8).unwrap();
                all.extend(column.as_string::<i32>().iter().flatten().map(str::to_owned));
            }
        }
    }
    let mut normal = String::new();
    all.retain(|text| IdentifierType::Nino.normalise(text, &mut normal));
    all
}

/// What the gateway must not have, and what it has.
async fn patterns(sandbox: &Sandbox) -> Patterns {
    let (mut patterns, mut normal) = (Patterns::default(), String::new());
    let written = written(sandbox).await;
    assert!(written.len() > 1_000 && written.iter().any(|text| text.contains(' ')), "{}", written.len());
    for text in written {
        assert!(IdentifierType::Nino.normalise(&text, &mut normal));
        patterns.add(text.as_bytes(), "an identifier");
        patterns.add(normal.as_bytes(), "an identifier");
        patterns.add(&text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>(), "an identifier");
    }
    let raw = |hex: &str| (0..32).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect::<Vec<_>>();
    let mut domains = 0;
    for department in sandbox.layout.departments().unwrap() {
        let own = fs::read_to_string(sandbox.layout.node(&department).join("keys/linkage.key")).unwrap();
        patterns.add(raw(own.trim()).as_slice(), "a department's private key");
        patterns.add(own.trim().as_bytes(), "a department's private key");
        patterns.add(&Keypair::from_hex(own.trim()).unwrap().public(), "a department's public key");
        for file in keys(sandbox, &department) {
            let text = fs::read_to_string(file).unwrap();
            let key = text.lines().nth(1).unwrap();
            patterns.add(raw(key).as_slice(), "a linkage key");
            patterns.add(key.as_bytes(), "a linkage key");
            domains += 1;
        }
    }
    assert!(domains >= 2, "the keys of domains are known");
    patterns.add(PLANTED.as_bytes(), "the planted value");
    patterns.add(b"gateway.started", "an entry of the log");
    patterns
}

/// Searches all memory that a process can write, and gives how many bytes that were.
fn memory(process: u32, patterns: &Patterns, found: &mut BTreeMap<&'static str, usize>) -> usize {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let (mut read, mut buffer) = (0, vec![0; CHUNK + patterns.longest]);
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw"))) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [mut at, to] = [from, to].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        while at < to {
            let most = buffer.len().min(usize::try_from(to - at).unwrap());
            // A region may have gone meanwhile.
            let Ok(got @ 1..) = memory.read_at(&mut buffer[..most], at) else { break };
            patterns.search(&buffer[..got], found);
            read += got;
            // What stands on a boundary is seen in the next chunk.
            at += got.min(CHUNK) as u64;
        }
    }
    read
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// The files that a process has open for writing, deleted ones too.
fn open_files(process: u32) -> Vec<PathBuf> {
    let mut open = Vec::new();
    for entry in fs::read_dir(format!("/proc/{process}/fd")).unwrap() {
        let entry = entry.unwrap();
        let (Ok(path), Ok(info)) =
            (fs::read_link(entry.path()), fs::read_to_string(format!("/proc/{process}/fdinfo/{}", entry.file_name().display())))
        else {
            continue;
        };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let writes = u32::from_str_radix(flags, 8).unwrap() & 0o3 != 0;
        if writes && path.is_absolute() && !path.starts_with("/dev") {
            open.push(path);
        }
    }
    open
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_keys_nor_identifiers_are_in_the_gateways_memory_or_files() {
    let plant = |federation: &mut concordat::federation::Federation| {
        let opportunity = federation.agreements.iter_mut().find(|agreement| agreement.id == "opportunity").unwrap();
        opportunity.title = format!("Measuring barriers to opportunity {PLANTED}");
    };
    let sandbox = Sandbox::with(2_000, plant, |_| {}).await;
    let client = Arc::new(sandbox.client().await);
    client.query(BOTH).await.unwrap();
    let patterns = patterns(&sandbox).await;
    let process = sandbox.running.process_id("gateway").unwrap();
    let (mut found, mut read) = (BTreeMap::new(), 0);
    for _ in 0..3 {
        // While a query runs, and after it.
        let running = tokio::spawn({
            let client = Arc::clone(&client);
            async move {
                for sql in
                    [BOTH, "SELECT count(*) AS n FROM dwp.claims", "SELECT region, count(*) AS n FROM dfe.attainment GROUP BY region"]
                {
                    client.query(sql).await.unwrap();
                }
            }
        });
        read += memory(process, &patterns, &mut found);
        running.await.unwrap();
        read += memory(process, &patterns, &mut found);
    }
    assert!(read > 16 << 20, "only {read} bytes of memory were read");
    assert!(found.get("the planted value").is_some_and(|times| *times > 0), "the search finds what is there: {found:?}");
    assert!(found.get("a department's public key").is_some_and(|times| *times > 0), "and bytes that are no text: {found:?}");
    for what in ["an identifier", "a linkage key", "a department's private key"] {
        assert_eq!(found.get(what), None, "{found:?}");
    }

    // The configuration is not written by the gateway; everything else in its folder is.
    let (gateway, mut all, mut found) = (sandbox.layout.gateway(), Vec::new(), BTreeMap::new());
    files(&gateway, &mut all);
    all.iter().for_each(|file| patterns.search(&fs::read(file).unwrap(), &mut found));
    assert!(found.contains_key("an entry of the log"), "the search finds what is there: {found:?}");
    for what in ["an identifier", "a linkage key", "a department's private key"] {
        assert_eq!(found.get(what), None, "{found:?}");
    }
    let folder = gateway.canonicalize().unwrap();
    let elsewhere: Vec<_> = open_files(process).into_iter().filter(|path| !path.starts_with(&folder)).collect();
    assert!(elsewhere.is_empty(), "nothing is spilled: {elsewhere:?}");
}

#[tokio::test]
async fn neither_program_leaves_a_core_dump() {
    let sandbox = Sandbox::start(100).await;
    for of in ["gateway", "dfe"] {
        let process = sandbox.running.process_id(of).unwrap();
        let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let bytes: Vec<u64> = core.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert!(bytes.len() == 2 && bytes.iter().all(|bytes| *bytes <= 1), "{of}: {core}");
    }
}
