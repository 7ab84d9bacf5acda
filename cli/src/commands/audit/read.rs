//! The entries of a log on disk, which may be being written, one after the other.

use std::path::{Path, PathBuf};

use clap::Args;
use concordat_audit::archive::{archived, is_told, of_log};
pub(super) use concordat_audit::facts::time;
use concordat_audit::filter::READ;
use concordat_audit::read_with;
use serde_json::Value;

use super::inert::inert;
use super::persons::Names;
use crate::failure::{Failure, Result};
use crate::out;

/// Where old entries of the logs that are read were moved.
#[derive(Debug, Default, Args)]
pub(crate) struct Archives {
    /// An archive to which entries of a log were moved; of which log it is, it says itself
    #[arg(long = "archive", value_name = "FOLDER")]
    folders: Vec<PathBuf>,
}

impl Archives {
    pub(super) fn folders(&self) -> &[PathBuf] {
        &self.folders
    }
}

/// The entries from `index` (from 0) on, each with its index. Nothing is verified; what is no JSON object is a failure, and what was moved
/// to an archive that is not named is said to be left out.
pub(crate) fn entries(log: &Path, archives: &Archives, index: u64) -> Result<impl Iterator<Item = Result<(u64, Value)>> + use<>> {
    let folder = log.to_owned();
    let read = read_with(log, &archives.folders, index).map_err(|e| unreadable(log, e))?;
    let mut first = Some(index);
    Ok(read.map(move |entry| {
        let (index, bytes) = entry.map_err(|e| unreadable(&folder, e))?;
        if first.take().is_some_and(|first| index > first) {
            out::progress(&left_out(&folder, index));
        }
        let entry = serde_json::from_slice::<Value>(&bytes).ok().filter(Value::is_object);
        let damaged = || unreadable(&folder, format!("entry {} is not what a log writes", index.saturating_add(1)));
        Ok((index, entry.ok_or_else(damaged)?))
    }))
}

/// What is said of the log's first entries where they are not there: that they were moved, only the log itself can tell.
fn left_out(log: &Path, moved: u64) -> String {
    let is_told = is_told(log, moved).unwrap_or_default();
    let (log, moved) = (log.display(), out::thousands(moved));
    if is_told {
        return format!("the first {moved} entries of {log} were moved to an archive and are left out: name it with --archive");
    }
    format!("the first {moved} entries of {log} are not there, and the log does not tell of an archive: `concordat audit verify` says more")
}

/// How many of the log's entries, from the first on, were moved to an archive, where none of it is named; else none.
pub(crate) fn moved(log: &Path, archives: &Archives) -> Result<u64> {
    let named = of_log(log, &archives.folders).map_err(|e| unreadable(log, e))?;
    if named.is_empty() { archived(log).map_err(|e| unreadable(log, e)) } else { Ok(0) }
}

fn unreadable(log: &Path, cause: impl std::fmt::Display) -> Failure {
    Failure::file("read", log, inert(&cause.to_string()))
        .advice("is it the folder `log` of a gateway or node, and may you read it? If so, ask who runs it why it is damaged")
}

/// The entries of one query, in order, with their callers' names where this reader may open them. Who read of it later is no part of it.
pub(crate) fn of_query(log: &Path, archives: &Archives, query_id: &str) -> Result<Vec<Value>> {
    let (mut found, names) = (Vec::new(), Names::of(log));
    for entry in entries(log, archives, 0)? {
        let (_, entry) = entry?;
        if text(&entry, "query_id") == Some(query_id) && text(&entry, "event") != Some(READ) {
            found.push(names.name(entry));
        }
    }
    Ok(found)
}

/// A field that is a text.
pub(super) fn text<'a>(entry: &'a Value, field: &str) -> Option<&'a str> {
    entry.get(field).and_then(Value::as_str)
}

/// `DEPARTMENT=FOLDER`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodeLog {
    pub(super) department: String,
    pub(super) folder: PathBuf,
}

impl std::str::FromStr for NodeLog {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parts = text.split_once('=').filter(|(department, folder)| !department.is_empty() && !folder.is_empty());
        let (department, folder) = parts.ok_or("write DEPARTMENT=FOLDER, for example dfe=/srv/dfe/log")?;
        Ok(Self { department: department.to_owned(), folder: folder.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bundles that are gone, and a file that says so: nobody moved them.
    #[test]
    fn that_entries_were_moved_is_said_only_where_the_log_tells_it() {
        let world = tempfile::tempdir().unwrap();
        let (log, to) = (world.path().join("log"), world.path().join("archive"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let open = concordat_audit::Log::open(&log, "concordat/gateway").unwrap();
            for _ in 0..300 {
                open.append(concordat_audit::Entry::new("query.opened")).await.unwrap();
            }
            assert!(open.settle(std::time::Duration::from_secs(10)));
        });
        while concordat_audit::is_written(&log) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(left_out(&log, 256).contains("does not tell of an archive"));
        let later = chrono::Utc::now() + chrono::TimeDelta::days(1);
        concordat_audit::archive::archive(&log, &to, later).unwrap().unwrap();
        assert!(left_out(&log, 256).contains("were moved to an archive"));
    }
}
