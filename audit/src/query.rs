//! The entries of one query. Its id is a UUID of version 7 and begins with the time at which it was made, so that only the entries of
//! that time are read, and not the whole log.

use std::io;
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

/// How far a clock may have been set back while the log went on.
const SLACK: TimeDelta = TimeDelta::minutes(2);

/// No query takes longer from its beginning to its end.
const LONGEST: TimeDelta = TimeDelta::hours(49);

/// How often it is looked whether the search has gone too far, in entries.
const LOOK: u64 = 256;

/// What opened a query, and what closed it: `query.closed`, `query.refused` or `query.explained`.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The entry that opened it.
    pub opened: Value,
    /// The entry that closed it.
    pub closed: Value,
    /// The number of the latter.
    pub number: u64,
}

/// Finds them in a log of which `size` entries are under a checkpoint. An id that is none has no entries.
pub(crate) fn find(folder: &Path, size: u64, id: &str) -> io::Result<Option<Query>> {
    let Some(made) = time_in(id) else { return Ok(None) };
    let begin = first_since(folder, size, made - SLACK)?;
    let mut opened: Option<Value> = None;
    for entry in crate::read(folder, begin)? {
        let (index, bytes) = entry?;
        let has = std::str::from_utf8(&bytes).is_ok_and(|text| text.contains(id));
        if !has {
            if index.is_multiple_of(LOOK) && time(&bytes).is_some_and(|time| time > made + LONGEST) {
                return Ok(None);
            }
            continue;
        }
        let Ok(entry) = serde_json::from_slice::<Value>(&bytes) else { continue };
        if entry.get("query_id").and_then(Value::as_str) != Some(id) {
            continue;
        }
        match entry.get("event").and_then(Value::as_str) {
            Some("query.opened") => opened = Some(entry),
            Some("query.closed" | "query.refused" | "query.explained") => {
                return Ok(opened.map(|opened| Query { opened, closed: entry, number: index.saturating_add(1) }));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// The first of `size` entries that is not older than `since`, as far as their times ascend.
fn first_since(folder: &Path, size: u64, since: DateTime<Utc>) -> io::Result<u64> {
    let (mut low, mut high) = (0, size);
    while low < high {
        let middle = low + (high - low) / 2;
        let read = crate::read(folder, middle)?.next().transpose()?;
        match read.and_then(|(_, bytes)| time(&bytes)) {
            Some(time) if time < since => low = middle.saturating_add(1),
            _ => high = middle,
        }
    }
    Ok(low)
}

/// When an entry was made.
fn time(entry: &[u8]) -> Option<DateTime<Utc>> {
    let entry = serde_json::from_slice::<Value>(entry).ok()?;
    DateTime::parse_from_rfc3339(entry.get("time")?.as_str()?).ok().map(|time| time.to_utc())
}

/// When a UUID of version 7 was made (RFC 9562, section 5.7); `None` for anything else.
fn time_in(id: &str) -> Option<DateTime<Utc>> {
    let form = id.len() == 36
        && id.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            14 => b == b'7',
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        });
    let digits = id.get(..8).filter(|_| form)?.to_owned() + id.get(9..13)?;
    DateTime::from_timestamp_millis(i64::from_str_radix(&digits, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Entry, Log};

    fn id(ago: TimeDelta, last: u8) -> String {
        let digits = format!("{:012x}", (Utc::now() - ago).timestamp_millis());
        format!("{}-{}-7abc-8def-0123456789{last:02x}", &digits[..8], &digits[8..])
    }

    #[test]
    fn only_ids_of_version_7_have_a_time() {
        let at = time_in("018bcfe5-6800-7abc-8def-012345678901").unwrap();
        assert_eq!(at.timestamp(), 1_700_000_000);
        for id in [
            "",
            "018bcfe5-6800-4abc-8def-012345678901",
            "018BCFE5-6800-7abc-8def-012345678901",
            "018bcfe5-6800-7abc-8def-01234567890",
            "018bcfe5x6800-7abc-8def-012345678901",
            "018bcfe5-6800-7abc-8def-0123456789é",
        ] {
            assert_eq!(time_in(id), None, "{id}");
        }
    }

    #[tokio::test]
    async fn a_query_is_found_among_others_and_only_once_it_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), "concordat/gateway").unwrap();
        let [one, other, early] = [id(TimeDelta::zero(), 1), id(TimeDelta::zero(), 2), id(TimeDelta::hours(1), 3)];
        for i in 0..600 {
            log.append(Entry::new("other").field("i", i)).await.unwrap();
        }
        log.append(Entry::new("query.opened").query(&one).field("caller", "a")).await.unwrap();
        log.append(Entry::new("query.opened").query(&other)).await.unwrap();
        log.append(Entry::new("log.read").query(&one)).await.unwrap();
        log.append(Entry::new("caller.refused").field("reason", one.as_str())).await.unwrap();
        assert_eq!(log.query(&one).unwrap(), None);
        let number = log.append(Entry::new("query.closed").query(&one).field("facts", 7)).await.unwrap();
        log.append(Entry::new("answer.collected").query(&one)).await.unwrap();
        let found = log.query(&one).unwrap().unwrap();
        assert_eq!((found.number, &found.opened["caller"], &found.closed["facts"]), (number, &"a".into(), &7.into()));
        for absent in [&other, &early, &"0".repeat(36), &id(TimeDelta::hours(-1), 1)] {
            assert_eq!(log.query(absent).unwrap(), None, "{absent}");
        }
        assert_eq!(first_since(folder.path(), log.size(), Utc::now() + TimeDelta::hours(1)).unwrap(), log.size());
    }
}
