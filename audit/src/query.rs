//! The entries of one query: found by the index, and else by the time in its id, a UUID of version 7, so that only the entries of that time
//! are read, and not the whole log.

use std::io;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::facts::{ENDS, time_of};
use crate::index::SearchError;
use crate::integrate::Shared;
use crate::proved::Proved;

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

/// What is found of a query.
#[derive(Debug, Clone, PartialEq)]
pub enum Sought {
    /// It has ended.
    Ended(Query),
    /// There is no such query, or it has not ended; and if there was one, its entries are here.
    Unknown,
    /// It is none of these: entries of the time in its id were moved to an archive, all up to this number.
    Moved(u64),
}

impl Sought {
    /// Of a log in which nothing was found.
    pub(crate) fn nothing(log: &Shared, id: &str) -> io::Result<Self> {
        let moved = log.moved()?;
        let kept = if moved == 0 { None } else { log.proved().read(moved, |number| log.leaf(number))?.next().transpose()? };
        let begin = kept.and_then(|(_, entry)| time_of(&entry));
        // Its id was made before its first entry was.
        let is_before = time_in(id).is_some_and(|made| begin.is_none_or(|begin| made <= begin));
        Ok(if moved > 0 && is_before { Self::Moved(moved) } else { Self::Unknown })
    }
}

/// The entries of one query, as they come one after the other.
pub(crate) struct Parts<'i> {
    id: &'i str,
    opened: Option<Value>,
}

impl<'i> Parts<'i> {
    pub(crate) fn of(id: &'i str) -> Self {
        Self { id, opened: None }
    }

    /// The query, where the entry at `index` ends it.
    pub(crate) fn take(&mut self, index: u64, entry: &[u8]) -> Option<Query> {
        // Most entries are others', and need not be parsed.
        std::str::from_utf8(entry).ok().filter(|text| text.contains(self.id))?;
        let entry = serde_json::from_slice::<Value>(entry).ok()?;
        if entry.get("query_id")?.as_str()? != self.id {
            return None;
        }
        match entry.get("event")?.as_str()? {
            "query.opened" => self.opened = Some(entry),
            event if ENDS.contains(&event) => {
                return Some(Query { opened: self.opened.take()?, closed: entry, number: index.saturating_add(1) });
            }
            _ => {}
        }
        None
    }

    /// Reads on from an entry to the last one that was acknowledged, under a checkpoint or not.
    pub(crate) fn read(&mut self, log: &Shared, begin: u64, deadline: Instant) -> Result<Option<Query>, SearchError> {
        let made = time_in(self.id);
        for entry in log.proved().read(begin, |number| log.leaf(number))? {
            let (index, bytes) = entry?;
            if let Some(found) = self.take(index, &bytes) {
                return Ok(Some(found));
            }
            if !index.is_multiple_of(LOOK) {
                continue;
            }
            if Instant::now() >= deadline {
                return Err(SearchError::Deadline);
            }
            if made.zip(time_of(&bytes)).is_some_and(|(made, time)| time > made + LONGEST) {
                return Ok(None);
            }
        }
        Ok(None)
    }
}

/// Finds it without an index. An id that is none has no entries.
pub(crate) fn find(log: &Shared, id: &str, deadline: Instant) -> Result<Option<Query>, SearchError> {
    let Some(made) = time_in(id) else { return Ok(None) };
    Parts::of(id).read(log, first_since(&log.proved(), made - SLACK)?, deadline)
}

/// The first entry under a checkpoint that is not older than `since`, as far as their times ascend.
fn first_since(log: &Proved, since: DateTime<Utc>) -> io::Result<u64> {
    let (mut low, mut high) = (0, log.size());
    while low < high {
        let middle = low + (high - low) / 2;
        // What was moved is older than the first that was not.
        let read = log.read(middle, |_| None)?.next().transpose()?;
        match read.and_then(|(_, bytes)| time_of(&bytes)) {
            Some(time) if time < since => low = middle.saturating_add(1),
            _ => high = middle,
        }
    }
    Ok(low)
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
    use crate::index::Index;
    use crate::index::tests::{FILE, caught_up};
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

    /// By the index, and without it.
    fn sought(index: &Index, id: &str) -> Sought {
        let deadline = Instant::now() + std::time::Duration::from_secs(60);
        let by_index = index.query(id, deadline).unwrap();
        let log = &index.log.shared;
        let plain = find(log, id, deadline).unwrap().map_or_else(|| Sought::nothing(log, id).unwrap(), Sought::Ended);
        assert_eq!(by_index, plain, "{id}");
        by_index
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_query_is_found_among_others_and_only_once_it_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), "concordat/gateway").unwrap();
        let index = Index::open(&log).unwrap();
        let [one, other, early] = [id(TimeDelta::zero(), 1), id(TimeDelta::zero(), 2), id(TimeDelta::hours(1), 3)];
        for i in 0..600 {
            log.append(Entry::new("other").field("i", i)).await.unwrap();
        }
        log.append(Entry::new("query.opened").query(&one).field("caller", "a")).await.unwrap();
        log.append(Entry::new("query.opened").query(&other)).await.unwrap();
        log.append(Entry::new("log.read").query(&one)).await.unwrap();
        log.append(Entry::new("caller.refused").field("reason", one.as_str())).await.unwrap();
        assert_eq!(sought(&index, &one), Sought::Unknown);
        let number = log.append(Entry::new("query.closed").query(&one).field("facts", 7)).await.unwrap();
        log.append(Entry::new("answer.collected").query(&one)).await.unwrap();
        // At once, before a checkpoint covers it; with one half in the index; and when it has everything.
        for round in 0..3 {
            let Sought::Ended(found) = sought(&index, &one) else { panic!("round {round}") };
            assert_eq!((found.number, &found.opened["caller"], &found.closed["facts"]), (number, &"a".into(), &7.into()));
            for absent in [&other, &early, &"0".repeat(36), &id(TimeDelta::hours(-1), 1)] {
                assert_eq!(sought(&index, absent), Sought::Unknown, "{absent}");
            }
            caught_up(&index);
        }
        assert_eq!(first_since(&log.shared.proved(), Utc::now() + TimeDelta::hours(1)).unwrap(), log.size());
        let late = index.query(&early, Instant::now());
        assert!(matches!(late, Ok(Sought::Unknown)), "the index has everything: nothing is read through: {late:?}");
        index.shared.usable.store(false, std::sync::atomic::Ordering::Release);
        assert!(matches!(find(&log.shared, &early, Instant::now()), Err(SearchError::Deadline)));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_moved_to_an_archive_is_told_apart_from_what_never_was() {
        let (folder, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let log = Log::open(folder.path(), "concordat/gateway").unwrap();
        let index = Index::open(&log).unwrap();
        let [early, between] = [id(TimeDelta::zero(), 1), id(TimeDelta::zero(), 2)];
        log.append(Entry::new("query.opened").query(&early)).await.unwrap();
        log.append(Entry::new("query.closed").query(&early)).await.unwrap();
        log.append(Entry::new("query.opened").query(&between)).await.unwrap();
        for i in 0..300 {
            log.append(Entry::new("other").field("i", i)).await.unwrap();
        }
        // What ends it stays, and who asked is gone.
        log.append(Entry::new("query.closed").query(&between)).await.unwrap();
        caught_up(&index);
        let (late, other) = (id(TimeDelta::zero(), 3), id(TimeDelta::hours(1), 4));
        assert_eq!(sought(&index, &other), Sought::Unknown, "nothing was moved yet");
        crate::archive::archive(folder.path(), to.path(), Utc::now() + TimeDelta::hours(1)).unwrap().unwrap();
        log.append(Entry::new("query.opened").query(&late)).await.unwrap();
        let number = log.append(Entry::new("query.refused").query(&late)).await.unwrap();
        for _ in 0..2 {
            for moved in [&early, &between, &other] {
                assert_eq!(sought(&index, moved), Sought::Moved(256), "{moved}");
            }
            assert!(matches!(sought(&index, &late), Sought::Ended(found) if found.number == number));
            for unknown in ["no id", &id(TimeDelta::zero(), 5)] {
                assert_eq!(sought(&index, unknown), Sought::Unknown, "{unknown}");
            }
            caught_up(&index);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_index_that_is_not_what_the_log_says_names_no_entry() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), "concordat/gateway").unwrap();
        let index = Index::open(&log).unwrap();
        let one = id(TimeDelta::zero(), 1);
        log.append(Entry::new("query.opened").query(&one)).await.unwrap();
        let number = log.append(Entry::new("query.closed").query(&one)).await.unwrap();
        log.append(Entry::new("other")).await.unwrap();
        caught_up(&index);
        let edit =
            "UPDATE entries SET event = 'query.closed', query_id = (SELECT query_id FROM entries WHERE position = 0) WHERE position = 2";
        rusqlite::Connection::open(folder.path().join(FILE)).unwrap().execute(edit, []).unwrap();
        assert!(matches!(sought(&index, &one), Sought::Ended(found) if found.number == number));
    }
}
