//! The consent index: for each identifier type and purpose, each subject's last records, in memory.
//!
//! Subjects stand in it by a keyed hash (128 bits, under a random key of this process), so that a core dump of the index alone
//! names nobody. An entry takes 29 bytes: five million subjects, some 245 MB of table.
//!
//! A release reads a [`Snapshot`], which never changes: the big table is shared, and records that arrive while some release
//! reads it go to a small table beside it, which is copied when it is shared too. When no release reads the big table, the
//! small one is folded into it.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use concordat_policy::Name;
use concordat_policy::consent::{Event, Latest};

use super::ledger::{LedgerError, Row};
use crate::pseudonym::{DomainKey, Pseudonym, Pseudonyms};

/// A subject's keyed hash. It is uniform already, so the table takes eight of its bytes as they are.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key(Pseudonym);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        // Keys are written by `write_u64`; anything else would still hash, only slowly.
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// The last places of each kind; 0 for none. Places beyond 32 bits are refused when they are loaded.
#[derive(Clone, Copy, Default)]
struct Packed {
    given: u32,
    withdrawn: u32,
    objected: u32,
}

impl Packed {
    fn record(&mut self, event: Event, place: u32) {
        let slot = match event {
            Event::Given => &mut self.given,
            Event::Withdrawn => &mut self.withdrawn,
            Event::Objected => &mut self.objected,
        };
        *slot = (*slot).max(place);
    }

    fn latest(self) -> Latest {
        let place = |place: u32| (place > 0).then_some(u64::from(place));
        Latest { given: place(self.given), withdrawn: place(self.withdrawn), objected: place(self.objected) }
    }
}

type Table = HashMap<Key, Packed, BuildHasherDefault<AsItIs>>;

/// The records of one identifier type and purpose. An entry of `recent` holds everything of its subject.
#[derive(Clone, Default)]
struct Shard {
    base: Arc<Table>,
    recent: Arc<Table>,
}

impl Shard {
    fn get(&self, key: &Key) -> Option<Packed> {
        let recent = if self.recent.is_empty() { None } else { self.recent.get(key) };
        recent.or_else(|| self.base.get(key)).copied()
    }

    fn record(&mut self, key: Key, event: Event, place: u32) {
        if let Some(base) = Arc::get_mut(&mut self.base) {
            if !self.recent.is_empty() {
                base.extend(self.recent.iter().map(|(key, packed)| (*key, *packed)));
                self.recent = Arc::default();
            }
            return base.entry(key).or_default().record(event, place);
        }
        let mut packed = self.get(&key).unwrap_or_default();
        packed.record(event, place);
        Arc::make_mut(&mut self.recent).insert(key, packed);
    }
}

type Shards = BTreeMap<String, BTreeMap<String, Shard>>;

/// The index.
pub(super) struct Index {
    version: u64,
    hasher: Arc<Pseudonyms>,
    // By identifier type, then purpose.
    shards: Shards,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Index(version {})", self.version)
    }
}

impl Index {
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let hasher = Pseudonyms::private(&DomainKey::random()?, "consent");
        Ok(Self { version: 0, hasher: Arc::new(hasher), shards: Shards::new() })
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn apply(&mut self, place: u64, row: Row<'_>) -> Result<(), LedgerError> {
        let short = u32::try_from(place).map_err(|_| LedgerError::Damaged(place))?;
        let key = Key(self.hasher.one(row.identifier));
        // Looked up before it is inserted, so that the common case copies no text.
        if let Some(shard) = self.shards.get_mut(row.identifier_type).and_then(|purposes| purposes.get_mut(row.purpose)) {
            shard.record(key, row.event, short);
        } else {
            let purposes = self.shards.entry(row.identifier_type.to_owned()).or_default();
            purposes.entry(row.purpose.to_owned()).or_default().record(key, row.event, short);
        }
        Ok(())
    }

    pub(super) fn advance(&mut self, version: u64) {
        self.version = version;
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot { version: self.version, hasher: Arc::clone(&self.hasher), shards: self.shards.clone() }
    }
}

/// One version of the index. Never changes.
#[derive(Clone)]
pub struct Snapshot {
    version: u64,
    hasher: Arc<Pseudonyms>,
    shards: Shards,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot(version {})", self.version)
    }
}

impl Snapshot {
    /// The place of the last record it holds.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The records about identifiers of the type `label` for any of `purposes`.
    pub fn view<'a>(&self, label: &str, purposes: impl Iterator<Item = &'a Name>) -> View {
        let of_type = self.shards.get(label);
        let shards = purposes.filter_map(|purpose| of_type?.get(purpose.as_str()).cloned()).collect();
        View { hasher: Arc::clone(&self.hasher), shards }
    }
}

/// What a release asks: each subject's last records over all relevant purposes.
#[derive(Clone)]
pub struct View {
    hasher: Arc<Pseudonyms>,
    shards: Vec<Shard>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "View({} purposes)", self.shards.len())
    }
}

impl View {
    /// Replaces the content of `out` by the last records of each identifier (normalised), in order. `scratch` is working space.
    pub fn latest<'a>(&self, identifiers: impl Iterator<Item = &'a str>, scratch: &mut Vec<Pseudonym>, out: &mut Vec<Latest>) {
        self.hasher.make(identifiers, scratch);
        out.clear();
        out.extend(scratch.iter().map(|hash| {
            let key = Key(*hash);
            self.shards.iter().filter_map(|shard| shard.get(&key)).fold(Latest::default(), |latest, packed| latest.and(packed.latest()))
        }));
    }
}
