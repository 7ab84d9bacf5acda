//! What a receipt states beside its record: the ledger's generation, how the purpose was called, and what the department told people,
//! all as it was when the record was made. The ledger keeps each such text once, under a number that its records bear, so that a receipt
//! says the same whenever it is made: after a backup was acknowledged, a purpose renamed or a notice rewritten.

use std::collections::BTreeMap;

use concordat_policy::agreement::hex;
use concordat_policy::consent::Event;
use concordat_policy::{Name, PurposeTree};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::ledger::LedgerError;
use super::receipt::Notice;

pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS stated (
        number INTEGER PRIMARY KEY,
        digest TEXT NOT NULL UNIQUE,
        text TEXT NOT NULL
    ) STRICT;";

/// What is stated, of a purpose and an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stated {
    pub(super) generation: u32,
    pub(super) title: String,
    pub(super) controller: String,
    pub(super) contact: Option<String>,
    pub(super) privacy_notice: Option<String>,
    pub(super) jurisdiction: String,
    pub(super) withdrawal: String,
    pub(super) rights: String,
}

impl Stated {
    /// Reads the text that is kept under a number; `None` where there is none.
    pub(super) fn read(connection: &Connection, number: i64) -> Result<Option<Self>, LedgerError> {
        let mut select = connection.prepare_cached("SELECT text FROM stated WHERE number = ?1")?;
        let text = select.query_row(params![number], |row| row.get::<_, String>(0)).optional()?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Keeps the text, once. Its number.
    fn keep(&self, connection: &Connection) -> Result<i64, LedgerError> {
        let text = serde_json::to_string(self).map_err(std::io::Error::other)?;
        let digest = hex(&Sha256::digest(text.as_bytes()));
        let mut insert = connection.prepare_cached("INSERT INTO stated (digest, text) VALUES (?1, ?2) ON CONFLICT (digest) DO NOTHING")?;
        insert.execute(params![digest, text])?;
        let mut select = connection.prepare_cached("SELECT number FROM stated WHERE digest = ?1")?;
        Ok(select.query_row(params![digest], |row| row.get(0))?)
    }
}

/// What holds when something is written.
#[derive(Debug)]
pub(super) struct Present<'a> {
    /// The highest version that was seen: a ledger that is behind it is not written.
    pub(super) least: u64,
    pub(super) generation: u32,
    pub(super) department: &'a Name,
    pub(super) purposes: &'a PurposeTree,
    pub(super) notice: &'a Notice,
}

impl Present<'_> {
    fn stated(&self, purpose: &str, event: Event) -> Stated {
        let Notice { controller, contact, privacy_notice, jurisdiction, withdrawal } = self.notice;
        let controller = controller.as_deref().unwrap_or(self.department.as_str());
        let title = self.purposes.iter().find(|known| known.id.as_str() == purpose).map(|known| known.title.as_str());
        let tell = || format!("Tell {controller} that you take it back: it counts for every use that begins afterwards.");
        Stated {
            generation: self.generation,
            title: title.unwrap_or(purpose).to_owned(),
            controller: controller.to_owned(),
            contact: contact.clone(),
            privacy_notice: privacy_notice.clone(),
            jurisdiction: jurisdiction.clone().unwrap_or_else(|| "GB".to_owned()),
            withdrawal: withdrawal.clone().unwrap_or_else(tell),
            rights: rights(event).to_owned(),
        }
    }
}

fn rights(event: Event) -> &'static str {
    match event {
        Event::Given => "You may take consent back at any time (UK GDPR Art. 7(3)), ask for your data, and have it corrected or erased.",
        Event::Withdrawn => "You have taken consent back (UK GDPR Art. 7(3)). You may give it again.",
        Event::Objected => "You have objected (UK GDPR Art. 21). You may take the objection back by giving consent.",
    }
}

/// The numbers of what is stated of one writing's records.
pub(super) struct Numbers<'a> {
    present: &'a Present<'a>,
    /// By event and purpose.
    known: BTreeMap<&'static str, BTreeMap<String, i64>>,
}

impl<'a> Numbers<'a> {
    pub(super) fn new(present: &'a Present<'a>) -> Self {
        Self { present, known: BTreeMap::new() }
    }

    pub(super) fn purposes(&self) -> &'a PurposeTree {
        self.present.purposes
    }

    pub(super) fn of(&mut self, connection: &Connection, purpose: &str, event: Event) -> Result<i64, LedgerError> {
        let of_event = self.known.entry(event.as_str()).or_default();
        if let Some(number) = of_event.get(purpose) {
            return Ok(*number);
        }
        let number = self.present.stated(purpose, event).keep(connection)?;
        of_event.insert(purpose.to_owned(), number);
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_kept_once_and_a_number_never_says_another() {
        let (department, purposes) = (Name::parse("dfe").unwrap(), PurposeTree::default());
        let (plain, named) = (Notice::default(), Notice { controller: Some("Department for Education".into()), ..Notice::default() });
        let present = |generation, notice| Present { least: 0, generation, department: &department, purposes: &purposes, notice };
        let ledger = Connection::open_in_memory().unwrap();
        ledger.execute_batch(SCHEMA).unwrap();
        let number = |present: &Present<'_>, purpose: &str, event| Numbers::new(present).of(&ledger, purpose, event).unwrap();
        let first = number(&present(0, &plain), "p", Event::Given);
        let others = [
            number(&present(1, &plain), "p", Event::Given),
            number(&present(0, &named), "p", Event::Given),
            number(&present(0, &plain), "q", Event::Given),
            number(&present(0, &plain), "p", Event::Withdrawn),
        ];
        assert!(!others.contains(&first));
        assert_eq!(number(&present(0, &plain), "p", Event::Given), first, "what held before is what it was");
        let read = |number| Stated::read(&ledger, number).unwrap();
        assert_eq!(read(first), Some(present(0, &plain).stated("p", Event::Given)));
        assert_eq!(read(others[1]).unwrap().controller, "Department for Education");
        let kept: i64 = ledger.query_row("SELECT count(*) FROM stated", [], |row| row.get(0)).unwrap();
        assert_eq!((kept, read(99)), (5, None));
        ledger.execute("UPDATE stated SET text = '{}' WHERE number = ?1", params![first]).unwrap();
        assert_eq!(read(first), None, "a damaged text is none");
    }
}
