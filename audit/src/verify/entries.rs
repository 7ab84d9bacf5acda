//! What entries say of themselves, and the tail.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;

use chrono::{DateTime, FixedOffset, TimeDelta};
use serde_json::Value;

use super::{Finding, Kind, tree};
use crate::proof::{Hash, leaf_hash};

/// The longest entry, in bytes.
const ENTRY: u64 = 65_535;

/// What the entries so far said.
#[derive(Debug, Default)]
pub(crate) struct Said {
    count: u64,
    /// Those that were passed over: first and last of each stretch.
    unread: Vec<(u64, u64)>,
    /// Up to which entry those read tell that entries were moved.
    archived: u64,
    latest: Option<DateTime<FixedOffset>>,
}

impl Said {
    /// Passes over entries that were moved to an archive.
    pub(crate) fn pass_over(&mut self, count: u64) {
        let first = self.count.saturating_add(1);
        self.count = self.count.saturating_add(count);
        match self.unread.last_mut().filter(|(_, last)| last.saturating_add(1) == first) {
            Some((_, last)) => *last = self.count,
            None => self.unread.push((first, self.count)),
        }
    }

    /// How many were passed over.
    pub(crate) fn unread(&self) -> u64 {
        self.unread.iter().map(|(first, last)| last.saturating_sub(*first).saturating_add(1)).sum()
    }

    /// That the log itself tells of the archive to which what was passed over was moved: nobody who cannot write entries can say so. A later
    /// entry tells of all before it, as entries are moved from the first one on.
    pub(crate) fn is_archived(&self) -> Result<(), Finding> {
        let Some((first, last)) = self.unread.iter().find(|(_, last)| *last > self.archived) else { return Ok(()) };
        let first = self.archived.saturating_add(1).max(*first);
        let what =
            format!("entries {first} to {last} are not here, and the log does not tell that they were moved to an archive (log.archived)");
        Err(Finding::new(Kind::Missing, first, what))
    }

    /// Takes the next entry.
    pub(crate) fn next(&mut self, entry: &[u8]) -> Result<(), Finding> {
        let number = self.count.saturating_add(1);
        let bad = |kind, why: &str| Finding::new(kind, number, format!("entry {number} {why}"));
        let Ok(Value::Object(said)) = serde_json::from_slice::<Value>(entry) else {
            return Err(bad(Kind::Form, "is not a JSON object"));
        };
        if said.get("entry").and_then(Value::as_u64) != Some(number) {
            return Err(bad(Kind::Number, "does not have its number: entries were removed, added or moved"));
        }
        let time = said.get("time").and_then(Value::as_str).and_then(|time| DateTime::parse_from_rfc3339(time).ok());
        let time = time.ok_or_else(|| bad(Kind::Form, "has no time"))?;
        if self.latest.is_some_and(|latest| latest.signed_duration_since(time) > TimeDelta::seconds(30)) {
            return Err(bad(Kind::Time, "is more than 30 s older than one before it"));
        }
        if said.get("event").and_then(Value::as_str) == Some("log.archived") {
            let last = said.get("last").and_then(Value::as_u64).filter(|last| *last < number);
            self.archived = self.archived.max(last.unwrap_or_default());
        }
        self.latest = self.latest.max(Some(time));
        self.count = number;
        Ok(())
    }
}

/// Goes through the tail: what the tree covers is the same there, and what is beyond continues the log. Returns how many entries are
/// beyond, and whether it ends within a line.
pub(crate) fn tail(folder: &Path, size: u64, said: &mut Said) -> Result<(u64, bool), Finding> {
    let bad = |number: u64, why: &str| Finding::new(Kind::Tail, number, format!("entry {number} in the tail: {why}"));
    let file = File::open(folder.join("tail"));
    let file = file.map_err(|e| Finding::new(Kind::Missing, size.saturating_add(1), format!("the tail cannot be read: {e}")))?;
    let mut kept: Option<(u64, Vec<Hash>)> = None;
    let (mut lines, mut expected, mut torn) = (BufReader::new(file), None, false);
    loop {
        let mut line = Vec::new();
        let next = expected.unwrap_or(size.saturating_add(1));
        let read = lines.by_ref().take(ENTRY.saturating_add(1)).read_until(b'\n', &mut line);
        read.map_err(|e| bad(next, &format!("it cannot be read: {e}")))?;
        if line.is_empty() {
            break;
        }
        let ended = line.pop_if(|end| *end == b'\n').is_some();
        if !ended {
            match end_of(line, &mut lines).map_err(|e| bad(next, &format!("it cannot be read: {e}")))? {
                End::Entry(whole) => line = whole,
                End::Torn => {
                    torn = true;
                    break;
                }
                End::Other => return Err(bad(next, "it is neither an entry nor what a crash leaves of one")),
            }
        }
        let value = serde_json::from_slice::<Value>(&line).ok();
        let number = value.as_ref().and_then(|value| value.get("entry")?.as_u64());
        let number = number.filter(|number| expected.is_none_or(|expected| expected == *number) && *number > 0);
        let number = number.ok_or_else(|| bad(next, "it does not follow the one before it"))?;
        if expected.is_none() && number > size.saturating_add(1) {
            return Err(bad(size.saturating_add(1), "it is missing"));
        }
        expected = Some(number.saturating_add(1));
        if number > size {
            said.next(&line)?;
            continue;
        }
        let index = number.saturating_sub(1) / 256;
        let leaves = match kept.take().filter(|(at, _)| *at == index) {
            Some((_, leaves)) => leaves,
            None => tree::tile(folder, 0, index, size.saturating_sub(index.saturating_mul(256)).min(256))?,
        };
        let at = usize::try_from(number.saturating_sub(1) % 256).unwrap_or(usize::MAX);
        if leaves.get(at) != Some(&leaf_hash(&line)) {
            return Err(bad(number, "it is not what the tree was built over"));
        }
        kept = Some((index, leaves));
    }
    let end = expected.unwrap_or(1).saturating_sub(1);
    if end < size && !(expected.is_none() && !torn && size.is_multiple_of(256)) {
        return Err(bad(end.max(size / 256 * 256).saturating_add(1), "the tail ends before it"));
    }
    Ok((end.saturating_sub(size), torn))
}

/// What a line without an end is.
enum End {
    /// A whole entry.
    Entry(Vec<u8>),
    /// The beginning of one, or nothing but the zeros of a file that had grown.
    Torn,
    Other,
}

fn end_of(mut line: Vec<u8>, rest: &mut impl BufRead) -> std::io::Result<End> {
    while line.pop_if(|byte| *byte == 0).is_some() {}
    let mut zeros = true;
    loop {
        let more = rest.fill_buf()?;
        if more.is_empty() {
            break;
        }
        zeros &= more.iter().all(|byte| *byte == 0);
        let length = more.len();
        rest.consume(length);
    }
    if !zeros || line.len() as u64 > ENTRY {
        return Ok(End::Other);
    }
    match serde_json::from_slice::<Value>(&line) {
        Ok(Value::Object(_)) => Ok(End::Entry(line)),
        Err(e) if e.is_eof() && line.first().is_none_or(|first| *first == b'{') => Ok(End::Torn),
        _ => Ok(End::Other),
    }
}
