//! What benchmarks share: the processes of a sandbox, their files, processor time and memory.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use concordat::federation::Layout;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Of the sample's people, the share that each department records.
const RECORDED: f64 = 0.703;
/// Whose data is asked for.
pub const DEPARTMENTS: [&str; 5] = ["dfe", "dwp", "dhsc", "dbt", "dsit"];

/// The sample's people, of whom each department records so many rows.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few million")]
pub fn people(rows: u32) -> u64 {
    (f64::from(rows) / RECORDED).ceil() as u64
}

/// One department's dataset of people, as its node reads it.
pub struct File {
    pub department: String,
    pub table: String,
    pub format: String,
    /// A file, or a folder of them.
    pub path: PathBuf,
    /// In SQL, from the file's names to the views'.
    pub columns: String,
    /// Which rows have an identifier.
    pub condition: String,
}

pub fn files(layout: &Layout) -> Vec<File> {
    let mut files = Vec::new();
    for department in layout.departments().unwrap() {
        let folder = layout.node(&department);
        let config: toml::Value = toml::from_str(&std::fs::read_to_string(folder.join("node.toml")).unwrap()).unwrap();
        for dataset in config["dataset"].as_array().unwrap() {
            let text = |key: &str| dataset[key].as_str().unwrap();
            let columns = dataset["columns"].as_table().unwrap().iter();
            let columns =
                columns.map(|(name, column)| (name.clone(), column.get("source").and_then(|s| s.as_str()).unwrap_or(name).to_owned()));
            let identifier = dataset["identifier"]["column"].as_str().unwrap();
            let columns = columns.chain([("subject".to_owned(), identifier.to_owned())]);
            files.push(File {
                department: department.clone(),
                table: text("name").to_owned(),
                format: text("format").to_owned(),
                path: folder.join(text("source")),
                columns: columns.map(|(name, source)| format!("\"{source}\" AS {name}")).collect::<Vec<_>>().join(", "),
                // The sample's placeholder would join everybody who has it with everybody else: 2,000 people to the fifth power.
                condition: format!("\"{identifier}\" <> 'UNKNOWN'"),
            });
        }
    }
    files
}

/// Gives a file, or each of a folder, another time of change.
pub fn touch(path: &Path) {
    if path.is_dir() {
        return std::fs::read_dir(path).unwrap().for_each(|entry| touch(&entry.unwrap().path()));
    }
    let file = std::fs::File::options().append(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::now()).unwrap();
}

/// Bytes of a file, or of all in a folder.
pub fn size(path: &Path) -> u64 {
    if path.is_dir() {
        return std::fs::read_dir(path).unwrap().map(|entry| size(&entry.unwrap().path())).sum();
    }
    path.metadata().unwrap().len()
}

/// Gateway and nodes tell their metrics: the bytes of releases, and how many snapshots are kept.
pub fn watched(layout: &Layout) {
    let nodes = DEPARTMENTS.iter().map(|department| layout.node(department).join("node.toml"));
    for path in nodes.chain([layout.gateway().join("gateway.toml")]) {
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{text}\n[operations]\nlisten = \"127.0.0.1:0\"\n")).unwrap();
    }
}

/// Waits until every node that a question reads from keeps a snapshot.
pub async fn snapshots(layout: &Layout, question: &str) {
    let since = Instant::now();
    let read: Vec<_> = DEPARTMENTS.iter().filter(|department| question.contains(&format!(" {department}."))).collect();
    assert!(!read.is_empty(), "a question of no department");
    for department in read {
        while metric(&layout.node(department), "concordat_snapshots").await < 1.0 {
            assert!(since.elapsed() < Duration::from_secs(300), "no snapshot was made");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Bytes that the nodes released to the gateway so far, as the gateway's metrics state them.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
pub async fn moved(layout: &Layout) -> u64 {
    metric(&layout.gateway(), "concordat_release_bytes_total").await as u64
}

/// The sum of a metric of the program whose folder this is.
async fn metric(folder: &Path, name: &str) -> f64 {
    let address = std::fs::read_to_string(folder.join("state/operations-address")).unwrap();
    let mut stream = TcpStream::connect(address.trim()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: program\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let own = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
    own.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Processor time that a process has used, in seconds: of the kernel's clock, which ticks a hundred times a second.
pub fn busy(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let ticks = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap());
    ticks.sum::<f64>() / 100.0
}

/// The memory that a process has, in KiB.
pub fn resident(process: u32) -> u64 {
    status(process, "VmRSS")
}

/// The most that it had since it began or since [`forget_peak`], in KiB.
pub fn peak(process: u32) -> u64 {
    status(process, "VmHWM")
}

/// Has the kernel measure a process's peak from now on.
pub fn forget_peak(process: u32) {
    std::fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
}

fn status(process: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
