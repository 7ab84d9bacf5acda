//! One moment of the ledger: everything that is read through it is of one version, whatever is recorded, corrected or erased
//! meanwhile. A connection of its own, so that nobody waits for the reading of five million records.

use std::collections::BTreeMap;

use concordat_policy::consent::{Capacity, Event, Said, Term};
use rusqlite::{Connection, params};

use super::record::{Acting, CORRECTED, ERASED, Kept, Made, Row, Step, Subject};
use super::{Ledger, LedgerError, connect, same_secret, version};
use crate::consent::stated::Stated;

/// The ledger at one version.
pub(in crate::consent) struct Reading {
    connection: Connection,
    version: u64,
}

impl Ledger {
    /// Begins to read.
    pub(in crate::consent) fn reading(&self) -> Result<Reading, LedgerError> {
        let connection = connect(&self.path)?;
        // Ends with the connection.
        connection.execute_batch("BEGIN")?;
        let version = version(&connection)?;
        same_secret(&connection, &self.secret)?;
        Ok(Reading { connection, version })
    }
}

impl Reading {
    pub(in crate::consent) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Calls `each` for every record after place `from`, in order. A correction is told as what speaks after it.
    pub(in crate::consent) fn since(&self, from: u64, mut each: impl FnMut(Row<'_>) -> Result<(), LedgerError>) -> Result<(), LedgerError> {
        let mut statement = self.connection.prepare(
            "SELECT place, identifier_type, identifier, erased, purpose, event, effective_from, expires_at, speaking, sealed
             FROM records WHERE place > ?1 ORDER BY place",
        )?;
        let mut rows = statement.query(params![from.cast_signed()])?;
        while let Some(row) = rows.next()? {
            let place = row.get::<_, i64>(0)?.cast_unsigned();
            let Some(subject) = subject(row, place, 2, 3)? else { continue };
            let text = |column: usize| row.get_ref(column)?.as_str().map_err(|_| LedgerError::Damaged(place));
            let (identifier_type, event) = (text(1)?, text(5)?);
            // Nothing of it where nobody can be told of.
            let sealed = row.get_ref(9)?.as_blob_or_null().map_err(|_| LedgerError::Damaged(place))?.filter(|sealed| !sealed.is_empty());
            let mut tell = |step: Step<'_>| each(Row { identifier_type, subject, sealed, step });
            match event {
                ERASED => tell(Step::Forget)?,
                CORRECTED => {
                    tell(Step::Forget)?;
                    let speaking = serde_json::from_str::<Vec<u64>>(text(8)?).map_err(|_| LedgerError::Damaged(place))?;
                    speaking.into_iter().try_for_each(|place| self.again(place, &mut tell))?;
                }
                event => {
                    let (event, term) = choice(place, event, row.get(6)?, row.get(7)?)?;
                    tell(Step::Choice { purpose: text(4)?, event, term })?;
                }
            }
        }
        Ok(())
    }

    /// Whether after place `from` somebody was erased, or corrected when erased, who may have been told of before, and of whose
    /// identifier nothing is kept.
    pub(in crate::consent) fn nameless(&self, from: u64) -> Result<bool, LedgerError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM records WHERE place > ?1 AND erased IS NOT NULL AND sealed IS NULL)";
        Ok(self.connection.query_row(sql, params![from.cast_signed()], |row| row.get(0))?)
    }

    /// Calls `each` for everybody of whom a choice took effect or expired after the moment `from` until the moment `now`, Unix seconds.
    pub(in crate::consent) fn turned(&self, from: i64, now: i64, mut each: impl FnMut(&str, Subject<'_>)) -> Result<(), LedgerError> {
        for time in ["effective_from", "expires_at"] {
            let sql = format!("SELECT place, identifier_type, identifier, erased FROM records WHERE {time} > ?1 AND {time} <= ?2");
            let mut statement = self.connection.prepare(&sql)?;
            let mut rows = statement.query(params![from, now])?;
            while let Some(row) = rows.next()? {
                let place = row.get::<_, i64>(0)?.cast_unsigned();
                let Some(subject) = subject(row, place, 2, 3)? else { continue };
                each(row.get_ref(1)?.as_str().map_err(|_| LedgerError::Damaged(place))?, subject);
            }
        }
        Ok(())
    }

    /// Tells one earlier choice again.
    fn again(&self, place: u64, tell: &mut impl FnMut(Step<'_>) -> Result<(), LedgerError>) -> Result<(), LedgerError> {
        let sql = "SELECT purpose, event, effective_from, expires_at FROM records WHERE place = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![place.cast_signed()])?;
        let row = rows.next()?.ok_or(LedgerError::Damaged(place))?;
        let text = |column: usize| row.get_ref(column)?.as_str().map_err(|_| LedgerError::Damaged(place));
        let (event, term) = choice(place, text(1)?, row.get(2)?, row.get(3)?)?;
        tell(Step::Choice { purpose: text(0)?, event, term })
    }

    /// Calls `each` with every record after place `from` about identifiers of that type, in order; it keeps those it looks for.
    /// Reads all of them: the ledger is in the order of places only.
    pub(in crate::consent) fn about(
        &self,
        identifier_type: &str,
        from: u64,
        mut each: impl FnMut(Subject<'_>, &dyn Fn() -> Result<Kept, LedgerError>) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        about(&self.connection, identifier_type, from, &mut each)
    }
}

/// As [`Reading::about`], through any connection.
pub(super) fn about(
    connection: &Connection,
    identifier_type: &str,
    from: u64,
    each: &mut impl FnMut(Subject<'_>, &dyn Fn() -> Result<Kept, LedgerError>) -> Result<(), LedgerError>,
) -> Result<(), LedgerError> {
    let corrected = corrections(connection)?;
    let mut statement =
        connection.prepare(&format!("SELECT {COLUMNS} FROM records WHERE identifier_type = ?1 AND place > ?2 ORDER BY place"))?;
    let mut rows = statement.query(params![identifier_type, from.cast_signed()])?;
    while let Some(row) = rows.next()? {
        let place = row.get::<_, i64>(2)?.cast_unsigned();
        let Some(subject) = subject(row, place, 0, 1)? else { continue };
        each(subject, &|| kept(row, place, subject, corrected.get(&place).copied()))?;
    }
    Ok(())
}

/// What [`subject`] and [`kept`] read of a record.
const COLUMNS: &str =
    "identifier, erased, place, purpose, event, recorded_at, effective_from, expires_at, capacity, acted_by, corrects, stated";

fn kept(row: &rusqlite::Row<'_>, place: u64, subject: Subject<'_>, corrected_by: Option<u64>) -> Result<Kept, LedgerError> {
    let said = match row.get_ref(4)?.as_str().map_err(|_| LedgerError::Damaged(place))? {
        ERASED => Said::Erased,
        CORRECTED => Said::Corrected(row.get::<_, Option<i64>>(10)?.ok_or(LedgerError::Damaged(place))?.cast_unsigned()),
        event => {
            let (event, term) = choice(place, event, row.get(6)?, row.get(7)?)?;
            Said::Choice(event, term)
        }
    };
    let acting = match (row.get::<_, Option<String>>(8)?, row.get(9)?) {
        (None, None) => None,
        (Some(capacity), Some(by)) => Some(Acting { capacity: Capacity::parse(&capacity).ok_or(LedgerError::Damaged(place))?, by }),
        _ => return Err(LedgerError::Damaged(place)),
    };
    let erased = matches!(subject, Subject::Erased(_));
    Ok(Kept { place, purpose: row.get(3)?, said, acting, recorded_at: row.get(5)?, corrected_by, erased, stated: row.get(11)? })
}

impl Ledger {
    /// What stands at the places `first` to `last`, in order: of what type the identifier is, whose, and the record; `None` where it says
    /// nothing any more, because it was corrected since or its person was erased.
    pub(in crate::consent) fn made(&self, first: u64, last: u64) -> Result<Vec<Option<Made>>, LedgerError> {
        let connection = self.reader();
        let mut corrected = connection.prepare_cached("SELECT 1 FROM records WHERE corrects = ?1")?;
        let columns = format!("SELECT {COLUMNS}, identifier_type FROM records WHERE place >= ?1 AND place <= ?2 ORDER BY place");
        let mut statement = connection.prepare_cached(&columns)?;
        let mut rows = statement.query(params![first.cast_signed(), last.cast_signed()])?;
        let mut made = Vec::new();
        while let Some(row) = rows.next()? {
            let place = row.get::<_, i64>(2)?.cast_unsigned();
            let found = match subject(row, place, 0, 1)? {
                Some(whose @ Subject::Identifier(identifier)) if !corrected.exists(params![place.cast_signed()])? => {
                    let kept = kept(row, place, whose, None)?;
                    Some(Made { identifier_type: row.get(12)?, identifier: identifier.to_owned(), kept })
                }
                _ => None,
            };
            made.push(found);
        }
        Ok(made)
    }

    /// What the receipt of a record states beside it.
    pub(in crate::consent) fn stated(&self, kept: &Kept) -> Result<Stated, LedgerError> {
        let stated = kept.stated.map(|number| Stated::read(&self.reader(), number)).transpose()?;
        stated.flatten().ok_or(LedgerError::Unstated(kept.place))
    }
}

/// The places that were corrected, and by which. Few: an index of its own finds them.
fn corrections(connection: &Connection) -> Result<BTreeMap<u64, u64>, LedgerError> {
    let mut statement = connection.prepare_cached("SELECT corrects, place FROM records WHERE corrects IS NOT NULL")?;
    let places = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned())))?;
    Ok(places.collect::<Result<_, _>>()?)
}

/// Whom a row is about; nobody, where its identifier was erased. What is no text is damage: the record may be somebody's withdrawal.
fn subject<'a>(row: &'a rusqlite::Row<'_>, place: u64, identifier: usize, erased: usize) -> Result<Option<Subject<'a>>, LedgerError> {
    let text = |column: usize| row.get_ref(column)?.as_str_or_null().map_err(|_| LedgerError::Damaged(place));
    Ok(match text(identifier)? {
        Some(identifier) => Some(Subject::Identifier(identifier)),
        None => text(erased)?.map(Subject::Erased),
    })
}

fn choice(place: u64, event: &str, from: Option<i64>, until: Option<i64>) -> Result<(Event, Term), LedgerError> {
    let event = Event::parse(event).ok_or(LedgerError::Damaged(place))?;
    Ok((event, Term::of(event, from, until).map_err(|_| LedgerError::Damaged(place))?))
}
