//! An entry as the index has it, as a row and as the bytes that are sealed.

use rusqlite::Row;

use crate::facts::{Asker, Facts, Names};
use crate::filter::Ruling;
use crate::tree::Hash;

/// In the order in which [`Indexed`] reads them.
pub(super) const COLUMNS: &str =
    "position, leaf, time, event, query_id, organisation, person, purpose, departments, datasets, decision, code";

/// An entry as the index has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Indexed {
    /// Its place, from 0.
    pub(crate) position: u64,
    pub(crate) leaf: Hash,
    /// With who asked, where it ends a query.
    pub(crate) facts: Facts,
}

impl Indexed {
    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let decision: Option<String> = row.get(10)?;
        let facts = Facts {
            time: row.get(2)?,
            event: row.get(3)?,
            query_id: row.get(4)?,
            asker: Asker { organisation: row.get(5)?, person: row.get(6)?, purpose: row.get(7)? },
            departments: Names(row.get(8)?),
            datasets: Names(row.get(9)?),
            decision: decision.and_then(|text| [Ruling::Permit, Ruling::Deny].into_iter().find(|ruling| ruling.as_str() == text)),
            code: row.get(11)?,
        };
        Ok(Self { position: position(row, 0)?, leaf: row.get(1)?, facts })
    }

    /// All of it, each part after its length.
    pub(super) fn framed(&self) -> Vec<u8> {
        let Facts { time, event, query_id, asker, departments, datasets, decision, code } = &self.facts;
        let mut framed = self.position.to_be_bytes().to_vec();
        framed.extend(self.leaf);
        let texts = [
            event.as_deref(),
            query_id.as_deref(),
            asker.organisation.as_deref(),
            asker.person.as_deref(),
            asker.purpose.as_deref(),
            Some(departments.0.as_str()),
            Some(datasets.0.as_str()),
            decision.map(Ruling::as_str),
            code.as_deref(),
        ];
        let time = time.map(i64::to_be_bytes);
        for part in texts.into_iter().map(|text| text.map(str::as_bytes)).chain([time.as_ref().map(<[u8; 8]>::as_slice)]) {
            framed.push(u8::from(part.is_some()));
            framed.extend((part.map_or(0, <[u8]>::len) as u64).to_be_bytes());
            framed.extend(part.unwrap_or_default());
        }
        framed
    }
}

/// As SQLite has numbers; a log of more entries than these there is not.
pub(super) fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn position(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}
