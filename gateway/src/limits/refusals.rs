//! Refusals without an entry of their own to close: unknown tokens, unknown tickets, too many requests. The first of each source
//! and minute are recorded one by one; what comes beyond that is counted, and the counts are recorded once a minute. So a
//! flood costs bounded memory and a bounded log, and the log still tells exactly how many there were.
//!
//! ```text
//! caller.refused            one refusal
//! caller.refused.aggregate  count, first, last, reasons {code: reason: count} of one source
//! ```
//!
//! Counts that are not recorded yet are lost with a process that is killed; draining records them.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use concordat_audit::Entry;
use concordat_policy::Refusal;
use serde_json::{Map, Value, json};

use super::Key;

/// Refusals of one source and minute that are recorded one by one.
const SINGLE: u32 = 100;
/// The length of a source's window.
const WINDOW: Duration = Duration::from_secs(60);
/// Sources that are told apart.
const SOURCES: usize = 4_096;
/// Refusals that are recorded one by one in a minute, of all sources together.
const SINGLE_OF_ALL: u32 = 1_000;
/// Reasons that are told apart in one window, and how long each may be.
const REASONS: usize = 16;
const REASON_BYTES: usize = 120;

/// Who is refused, as far as that is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// A peer's address, of IPv6 its /64 network: what one subscriber has.
    Address(IpAddr),
    /// A connection without an address.
    Unknown,
    /// An authenticated caller.
    Caller(Key),
    /// All sources beyond [`SOURCES`].
    Others,
}

impl Source {
    /// The source behind a peer's address.
    pub(crate) fn of(peer: Option<IpAddr>) -> Self {
        match peer.map(|p| p.to_canonical()) {
            None => Self::Unknown,
            Some(IpAddr::V4(address)) => Self::Address(address.into()),
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                Self::Address(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
        }
    }

    /// The source's fields in an entry.
    pub(crate) fn describe(&self, entry: Entry) -> Entry {
        match self {
            Self::Address(IpAddr::V6(network)) => entry.field("source", format!("{network}/64")),
            Self::Address(address) => entry.field("source", address.to_string()),
            Self::Unknown => entry.field("source", "unknown"),
            Self::Others => entry.field("source", "others"),
            // Which of their tokens does not matter: limits are a user's.
            Self::Caller(key) => entry.by(&key.issuer, &key.subject, None).field("organisation", key.organisation.as_str()),
        }
    }
}

/// Counts of one source.
#[derive(Debug)]
struct Window {
    since: Instant,
    single: u32,
    count: u64,
    first: DateTime<Utc>,
    last: DateTime<Utc>,
    reasons: BTreeMap<&'static str, BTreeMap<String, u64>>,
}

/// The windows.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    windows: Mutex<HashMap<Source, Window>>,
    /// When the minute of [`SINGLE_OF_ALL`] began, and how many there were.
    single: Mutex<Option<(Instant, u32)>>,
}

impl Refusals {
    /// Notes a refusal. `true`: record it on its own, now. `false`: it is counted, and will be recorded with others.
    pub(crate) fn note(&self, source: &Source, refusal: &Refusal, at: Instant, time: DateTime<Utc>) -> bool {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let known = windows.contains_key(source);
        let source = if known || windows.len() < SOURCES { source.clone() } else { Source::Others };
        let fresh = || Window { since: at, single: 0, count: 0, first: time, last: time, reasons: BTreeMap::new() };
        let window = windows.entry(source.clone()).or_insert_with(fresh);
        if window.count == 0 && at.saturating_duration_since(window.since) >= WINDOW {
            *window = fresh();
        }
        if window.count == 0 && window.single < SINGLE && source != Source::Others && self.single_left(at) {
            window.single += 1;
            return true;
        }
        window.add(refusal, time);
        false
    }

    fn single_left(&self, at: Instant) -> bool {
        let mut single = self.single.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = single.filter(|(since, _)| at.saturating_duration_since(*since) < WINDOW).unwrap_or((at, 0));
        *single = Some((since, count.saturating_add(1)));
        count < SINGLE_OF_ALL
    }

    /// The entries of windows that have ended; of all windows when `drain`.
    pub(crate) fn ended(&self, at: Instant, drain: bool) -> Vec<Entry> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let (ended, open): (HashMap<_, _>, HashMap<_, _>) =
            windows.drain().partition(|(_, w)| drain || at.saturating_duration_since(w.since) >= WINDOW);
        *windows = open;
        drop(windows);
        ended.into_iter().filter(|(_, w)| w.count > 0).map(|(source, window)| window.entry(&source)).collect()
    }
}

impl Window {
    fn add(&mut self, refusal: &Refusal, time: DateTime<Utc>) {
        if self.count == 0 {
            self.first = time;
        }
        self.count += 1;
        self.last = time;
        let kinds: usize = self.reasons.values().map(BTreeMap::len).sum();
        let reason: String = reason(refusal).chars().take(REASON_BYTES).collect();
        let of_code = self.reasons.entry(refusal.code.as_str()).or_default();
        let reason = if of_code.contains_key(&reason) || kinds < REASONS { reason } else { "other".into() };
        *of_code.entry(reason).or_default() += 1;
    }

    fn entry(self, source: &Source) -> Entry {
        let time = |t: DateTime<Utc>| t.to_rfc3339_opts(SecondsFormat::Millis, true);
        let reasons: Map<String, Value> = self.reasons.into_iter().map(|(code, reasons)| (code.to_owned(), json!(reasons))).collect();
        source
            .describe(Entry::new("caller.refused.aggregate"))
            .field("count", self.count)
            .field("first", time(self.first))
            .field("last", time(self.last))
            .field("reasons", reasons)
    }
}

/// Why, for the log: never what a caller sent.
pub(crate) fn reason(refusal: &Refusal) -> &str {
    // The sentences of refusals without an entry are fixed: none repeats what the caller wrote.
    refusal.operator.as_deref().unwrap_or(&refusal.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use concordat_policy::Code;

    fn refusal(reason: &str) -> Refusal {
        Refusal::new(Code::Unauthenticated, "no").operator(reason)
    }

    fn address(last: u8) -> Source {
        Source::of(Some(IpAddr::from([192, 0, 2, last])))
    }

    fn counted(entries: &[Entry]) -> u64 {
        entries.iter().map(|e| e.get("count").and_then(Value::as_u64).unwrap()).sum()
    }

    #[test]
    fn the_first_stand_alone_and_the_rest_are_counted_exactly() {
        let refusals = Refusals::default();
        let (start, time) = (Instant::now(), Utc::now());
        let single = (0..20_000).filter(|i| refusals.note(&address(1), &refusal(if i % 2 == 0 { "a" } else { "b" }), start, time)).count();
        assert_eq!(single, SINGLE as usize);
        assert!(refusals.note(&address(2), &refusal("a"), start, time), "another source is not affected");
        assert!(refusals.ended(start, false).is_empty(), "the minute is not over");
        let entries = refusals.ended(start + WINDOW, false);
        assert_eq!((entries.len(), counted(&entries)), (1, 20_000 - u64::from(SINGLE)));
        assert_eq!(entries[0].get("source").unwrap(), "192.0.2.1");
        assert_eq!(entries[0].get("reasons").unwrap()["unauthenticated"]["a"], 9_950);
        assert!(refusals.note(&address(1), &refusal("a"), start + WINDOW, time), "a new minute begins");
        assert!(refusals.ended(start + WINDOW, true).is_empty());
    }

    #[test]
    fn sources_and_reasons_are_bounded_and_nothing_is_lost() {
        let refusals = Refusals::default();
        let (start, time) = (Instant::now(), Utc::now());
        let mut single = 0u64;
        for i in 0..20_000u32 {
            let source = Source::of(Some(IpAddr::from((0x0a00_0000 + i).to_be_bytes())));
            single += u64::from(refusals.note(&source, &refusal(&format!("reason {i}{}", "x".repeat(500))), start, time));
        }
        for i in 0..500 {
            single += u64::from(refusals.note(&address(9), &refusal(&format!("reason {i}")), start, time));
        }
        assert!(refusals.windows.lock().unwrap().len() <= SOURCES + 1);
        let entries = refusals.ended(start, true);
        assert_eq!(single + counted(&entries), 20_500);
        assert!(single <= u64::from(SINGLE_OF_ALL));
        for entry in &entries {
            assert!(entry.get("reasons").unwrap()["unauthenticated"].as_object().unwrap().len() <= REASONS + 1);
        }
        assert!(refusals.windows.lock().unwrap().is_empty());
    }

    #[test]
    fn networks_of_ipv6_are_one_source() {
        let of = |text: &str| Source::of(Some(text.parse().unwrap()));
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), address(1));
        let entry = of("2001:db8:1:2::9").describe(Entry::new("x"));
        assert_eq!(entry.get("source").unwrap(), "2001:db8:1:2::/64");
    }
}
