//! Refusals that whoever is refused can repeat at will: unknown tokens, certificates, tickets, too many requests. The first of each source
//! and minute are recorded one by one; what comes beyond that is counted, and the counts are recorded once a minute. So a
//! flood costs bounded memory and a bounded log, and the log still tells exactly how many there were. Who has proved who they are is
//! counted apart from those who have not: a flood from many addresses hides nobody that is known.
//!
//! ```text
//! caller.refused.aggregate  count, first, last, reasons {kind: reason: count} of one source
//! ```
//!
//! Counts that are not recorded yet are lost with a process that is killed; draining records them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use crate::{Entry, Log, LogError, Unlogged};

/// The length of a source's window.
const WINDOW: Duration = Duration::from_secs(60);
/// Sources that are told apart, of those that are proven and of those that are not.
const SOURCES: usize = 4_096;
/// Refusals that are recorded one by one in a minute, of all proven sources together and of all that are not.
const SINGLE_OF_ALL: u32 = 1_000;
/// Reasons that are told apart in one window, and how long each may be.
const REASONS: usize = 16;
const REASON_BYTES: usize = 120;

/// Who is refused, as far as that is known.
pub trait Source: Clone + Eq + Hash {
    /// All sources beyond those that are told apart.
    fn others() -> Self;

    /// Whether it proved who it is, by a token or a certificate that is expected.
    fn proven(&self) -> bool;

    /// How many of its refusals are recorded one by one in a minute.
    fn single(&self) -> u32;

    /// The entry with the source's fields.
    fn describe(&self, entry: Entry) -> Entry;
}

/// What a peer's address tells of who it is: of IPv6 the /64 network, which is what one subscriber has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
            address => Self(address),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(network) => write!(f, "{network}/64"),
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

/// The refusals of sources that are proven, or of those that are not.
#[derive(Debug)]
struct Class<S> {
    windows: HashMap<S, Window>,
    /// When the minute of [`SINGLE_OF_ALL`] began, and how many there were.
    single: Option<(Instant, u32)>,
}

impl<S> Default for Class<S> {
    fn default() -> Self {
        Self { windows: HashMap::new(), single: None }
    }
}

/// The windows.
#[derive(Debug)]
pub struct Refusals<S> {
    proven: Mutex<Class<S>>,
    unproven: Mutex<Class<S>>,
    /// Counts that are to be recorded.
    counted: Unlogged,
}

impl<S> Default for Refusals<S> {
    fn default() -> Self {
        Self { proven: Mutex::default(), unproven: Mutex::default(), counted: Unlogged::default() }
    }
}

impl<S: Source> Refusals<S> {
    /// Notes a refusal of this kind. `true`: record it on its own, now. `false`: it is counted, and will be recorded with others.
    pub fn note(&self, source: &S, kind: &'static str, reason: &str, (at, time): (Instant, DateTime<Utc>)) -> bool {
        let class = if source.proven() { &self.proven } else { &self.unproven };
        let mut class = class.lock().unwrap_or_else(PoisonError::into_inner);
        let Class { windows, single } = &mut *class;
        let known = windows.contains_key(source);
        let source = if known || windows.len() < SOURCES { source.clone() } else { S::others() };
        let fresh = || Window { since: at, single: 0, count: 0, first: time, last: time, reasons: BTreeMap::new() };
        let window = windows.entry(source.clone()).or_insert_with(fresh);
        if window.count == 0 && at.saturating_duration_since(window.since) >= WINDOW {
            *window = fresh();
        }
        if window.count == 0 && window.single < source.single() && single_left(single, at) {
            window.single += 1;
            return true;
        }
        window.add(kind, reason, time);
        false
    }

    /// Records the counts of windows that have ended; of all windows when `drain`. While the log cannot be written, refusals are counted
    /// on.
    ///
    /// # Errors
    /// [`LogError`]; what is not recorded stays for the next call.
    pub async fn record(&self, log: &Log, at: Instant, drain: bool) -> Result<(), LogError> {
        // What is left over goes first, so that what waits stays bounded.
        self.counted.write(log).await?;
        self.counted.add(self.ended(at, drain));
        self.counted.write(log).await
    }

    /// The entries of windows that have ended.
    fn ended(&self, at: Instant, drain: bool) -> Vec<Entry> {
        let ended = [&self.proven, &self.unproven].into_iter().flat_map(|class| {
            let mut class = class.lock().unwrap_or_else(PoisonError::into_inner);
            let (ended, open): (HashMap<_, _>, HashMap<_, _>) =
                class.windows.drain().partition(|(_, w)| drain || at.saturating_duration_since(w.since) >= WINDOW);
            class.windows = open;
            ended
        });
        ended.filter(|(_, w)| w.count > 0).map(|(source, window)| window.entry(&source)).collect()
    }
}

fn single_left(single: &mut Option<(Instant, u32)>, at: Instant) -> bool {
    let (since, count) = single.filter(|(since, _)| at.saturating_duration_since(*since) < WINDOW).unwrap_or((at, 0));
    *single = Some((since, count.saturating_add(1)));
    count < SINGLE_OF_ALL
}

impl Window {
    fn add(&mut self, kind: &'static str, reason: &str, time: DateTime<Utc>) {
        if self.count == 0 {
            self.first = time;
        }
        self.count += 1;
        self.last = time;
        let known: usize = self.reasons.values().map(BTreeMap::len).sum();
        let reason: String = reason.chars().take(REASON_BYTES).collect();
        let of_kind = self.reasons.entry(kind).or_default();
        let reason = if of_kind.contains_key(&reason) || known < REASONS { reason } else { "other".into() };
        *of_kind.entry(reason).or_default() += 1;
    }

    fn entry(self, source: &impl Source) -> Entry {
        let time = |t: DateTime<Utc>| t.to_rfc3339_opts(SecondsFormat::Millis, true);
        let reasons: Map<String, Value> = self.reasons.into_iter().map(|(kind, reasons)| (kind.to_owned(), json!(reasons))).collect();
        source
            .describe(Entry::new("caller.refused.aggregate"))
            .field("count", self.count)
            .field("first", time(self.first))
            .field("last", time(self.last))
            .field("reasons", reasons)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINGLE: u32 = 100;

    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    enum Peer {
        Of(Network),
        Known(u32),
        Others,
    }

    impl Source for Peer {
        fn others() -> Self {
            Self::Others
        }

        fn proven(&self) -> bool {
            matches!(self, Self::Known(_))
        }

        fn single(&self) -> u32 {
            if *self == Self::Others { 0 } else { SINGLE }
        }

        fn describe(&self, entry: Entry) -> Entry {
            match self {
                Self::Of(network) => entry.field("source", network.to_string()),
                Self::Known(person) => entry.field("person", *person),
                Self::Others => entry.field("source", "others"),
            }
        }
    }

    fn address(last: u8) -> Peer {
        Peer::Of(IpAddr::from([192, 0, 2, last]).into())
    }

    fn counted(entries: &[Entry]) -> u64 {
        entries.iter().map(|e| e.get("count").and_then(Value::as_u64).unwrap()).sum()
    }

    #[test]
    fn the_first_stand_alone_and_the_rest_are_counted_exactly() {
        let refusals = Refusals::default();
        let (start, time) = (Instant::now(), Utc::now());
        let note = |i: u32| refusals.note(&address(1), "denied", if i.is_multiple_of(2) { "a" } else { "b" }, (start, time));
        assert_eq!((0..20_000).filter(|i| note(*i)).count(), SINGLE as usize);
        assert!(refusals.note(&address(2), "denied", "a", (start, time)), "another source is not affected");
        assert!(refusals.ended(start, false).is_empty(), "the minute is not over");
        let entries = refusals.ended(start + WINDOW, false);
        assert_eq!((entries.len(), counted(&entries)), (1, 20_000 - u64::from(SINGLE)));
        assert_eq!(entries[0].get("source").unwrap(), "192.0.2.1");
        assert_eq!(entries[0].get("reasons").unwrap()["denied"]["a"], 9_950);
        assert!(refusals.note(&address(1), "denied", "a", (start + WINDOW, time)), "a new minute begins");
        assert!(refusals.ended(start + WINDOW, true).is_empty());
    }

    #[test]
    fn sources_and_reasons_are_bounded_and_nothing_is_lost() {
        let refusals = Refusals::default();
        let (start, time) = (Instant::now(), Utc::now());
        let mut single = 0u64;
        for i in 0..20_000u32 {
            let source = Peer::Of(IpAddr::from((0x0a00_0000 + i).to_be_bytes()).into());
            single += u64::from(refusals.note(&source, "denied", &format!("reason {i}{}", "x".repeat(500)), (start, time)));
        }
        for i in 0..500 {
            single += u64::from(refusals.note(&address(9), "denied", &format!("reason {i}"), (start, time)));
        }
        assert!(refusals.unproven.lock().unwrap().windows.len() <= SOURCES + 1);
        let entries = refusals.ended(start, true);
        assert_eq!(single + counted(&entries), 20_500);
        assert!(single <= u64::from(SINGLE_OF_ALL));
        for entry in &entries {
            assert!(entry.get("reasons").unwrap()["denied"].as_object().unwrap().len() <= REASONS + 1);
        }
        assert!(refusals.unproven.lock().unwrap().windows.is_empty());
    }

    #[test]
    fn a_flood_from_many_addresses_hides_nobody_who_is_known() {
        let refusals = Refusals::default();
        let (start, time) = (Instant::now(), Utc::now());
        for i in 0..20_000u32 {
            let source = Peer::Of(IpAddr::from((0x0a00_0000 + i).to_be_bytes()).into());
            refusals.note(&source, "denied", "a", (start, time));
        }
        assert!(!refusals.note(&address(1), "denied", "a", (start, time)), "what is left for single entries is used up");
        assert_eq!((0..SINGLE + 7).filter(|_| refusals.note(&Peer::Known(5), "denied", "a", (start, time))).count(), SINGLE as usize);
        let entries = refusals.ended(start, true);
        let known: Vec<&Entry> = entries.iter().filter(|entry| entry.get("person").is_some()).collect();
        assert!(known.len() == 1 && known[0].get("count").and_then(Value::as_u64) == Some(7), "{known:?}");
        // Nor does a flood of those who are known touch the rest.
        for i in 0..20_000 {
            refusals.note(&Peer::Known(i), "denied", "a", (start + WINDOW, time));
        }
        assert!(refusals.proven.lock().unwrap().windows.len() <= SOURCES + 1);
        assert!(refusals.note(&address(1), "denied", "a", (start + WINDOW, time)));
    }

    #[test]
    fn an_entry_of_the_most_and_longest_reasons_fits() {
        let refusals = Refusals::default();
        let now = (Instant::now(), Utc::now());
        for i in 0..1_000 {
            // Of four bytes each.
            refusals.note(&Peer::Others, "denied", &format!("{i} {}", "\u{1f600}".repeat(500)), now);
        }
        let [entry] = refusals.ended(now.0, true).try_into().unwrap();
        assert!(Value::Object(entry.fields.clone()).to_string().len() < 16_384);
    }

    #[test]
    fn networks_of_ipv6_are_one_source() {
        let of = |text: &str| Network::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(
            (of("::ffff:192.0.2.1").to_string(), of("2001:db8:1:2::9").to_string()),
            ("192.0.2.1".into(), "2001:db8:1:2::/64".into())
        );
    }

    #[tokio::test]
    async fn counts_are_recorded_when_their_minute_ends_and_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), "concordat/test/node").unwrap();
        let refusals = Refusals::default();
        let (start, time) = (Instant::now(), Utc::now());
        for _ in 0..SINGLE + 7 {
            refusals.note(&address(1), "denied", "a", (start, time));
        }
        let counts = || {
            let entries = crate::read(folder.path(), 0).unwrap().map(|entry| entry.unwrap().1);
            entries.map(|entry| serde_json::from_slice::<Value>(&entry).unwrap()["count"].as_u64().unwrap()).collect::<Vec<_>>()
        };
        refusals.record(&log, start, false).await.unwrap();
        assert!(counts().is_empty());
        refusals.record(&log, start + WINDOW, false).await.unwrap();
        assert_eq!(counts(), [7]);
        for _ in 0..SINGLE + 2 {
            refusals.note(&address(1), "denied", "a", (start + WINDOW, time));
        }
        refusals.record(&log, start + WINDOW, true).await.unwrap();
        assert_eq!(counts(), [7, 2]);
    }
}
