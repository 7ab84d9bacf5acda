//! Records that were read and checked and wait to be written: in a private file without a name, so that memory stays bounded,
//! the ledger's lock is held for the writing only, and nothing is left behind by a process that ends.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, Write as _};
use std::path::Path;

use concordat_policy::Name;
use concordat_policy::agreement::hex;
use concordat_policy::consent::{Capacity, Event, Term};
use concordat_policy::identifier::MAX_BYTES;
use sha2::{Digest as _, Sha256};

use super::intake::{Intake, IntakeError, Raw};
use super::ledger::{Acting, Details, LedgerError};

/// In a waiting record's head, beside its scope: details follow.
const DETAILED: u32 = 1 << 31;

/// What a record is about, but for the subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    /// The label of the identifiers' type.
    pub(super) identifier_type: String,
    pub(super) purpose: Name,
    pub(super) event: Event,
}

/// Why a record was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpoolError {
    #[error(transparent)]
    Record(#[from] IntakeError),
    #[error(transparent)]
    File(#[from] io::Error),
}

/// The waiting records, in order.
pub(super) struct Spool {
    intake: Intake,
    file: BufWriter<File>,
    scopes: Vec<Scope>,
    /// The numbers of scopes by how people write them.
    known: HashMap<String, u32>,
    records: u64,
    key: String,
    normalised: String,
}

impl Spool {
    /// An empty one, on the disk of the folder `state`.
    pub(super) fn new(state: &Path, intake: Intake) -> io::Result<Self> {
        Ok(Self {
            intake,
            file: BufWriter::with_capacity(1 << 18, tempfile::tempfile_in(state)?),
            scopes: Vec::new(),
            known: HashMap::new(),
            records: 0,
            key: String::new(),
            normalised: String::new(),
        })
    }

    pub(super) fn intake(&self) -> &Intake {
        &self.intake
    }

    /// How many records wait.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Checks and takes one record.
    pub(super) fn take(&mut self, raw: Raw<'_>) -> Result<(), SpoolError> {
        let scope = self.scope(raw)?;
        let event = self.scopes.get(scope as usize).map(|scope| scope.event).ok_or_else(|| io::Error::other("a scope is gone"))?;
        let details = Intake::details(event, &raw)?;
        if !self.intake.normalise(raw.identifier, raw.identifier_type, &mut self.normalised)? {
            return Err(IntakeError::Identifier(raw.identifier_type.to_owned()).into());
        }
        let plain = details == Details::default();
        // At most MAX_BYTES, so the length is one byte.
        let length = u8::try_from(self.normalised.len()).map_err(io::Error::other)?;
        self.file.write_all(&(if plain { scope } else { scope | DETAILED }).to_le_bytes())?;
        self.file.write_all(&[length])?;
        self.file.write_all(self.normalised.as_bytes())?;
        if !plain {
            let bytes = written(&details);
            self.file.write_all(&u16::try_from(bytes.len()).map_err(io::Error::other)?.to_le_bytes())?;
            self.file.write_all(&bytes)?;
        }
        self.records += 1;
        Ok(())
    }

    fn scope(&mut self, raw: Raw<'_>) -> Result<u32, SpoolError> {
        self.key.clear();
        for part in [raw.identifier_type, raw.purpose, raw.event] {
            self.key.push_str(part);
            self.key.push('\n');
        }
        if let Some(known) = self.known.get(&self.key) {
            return Ok(*known);
        }
        let scope = self.intake.scope(raw.identifier_type, raw.purpose, raw.event)?;
        let number = u32::try_from(self.scopes.len()).ok().filter(|number| number & DETAILED == 0);
        let number = number.ok_or_else(|| io::Error::other("too many purposes"))?;
        self.scopes.push(scope);
        self.known.insert(self.key.clone(), number);
        Ok(number)
    }

    /// Calls `each` with every record's identifier and details, in order, and with its scope where that differs from the one before.
    pub(super) fn read(
        &mut self,
        mut each: impl FnMut(Option<&Scope>, &str, &Details) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let damaged = || LedgerError::File(io::Error::new(io::ErrorKind::InvalidData, "the waiting records cannot be read back"));
        self.file.flush()?;
        self.file.get_mut().rewind()?;
        let mut file = BufReader::with_capacity(1 << 18, self.file.get_ref());
        let (mut before, mut head, mut text, plain) = (None, [0; 5], [0; MAX_BYTES], Details::default());
        for _ in 0..self.records {
            file.read_exact(&mut head)?;
            let [a, b, c, d, length] = head;
            let number = u32::from_le_bytes([a, b, c, d]);
            let (number, detailed) = (number & !DETAILED, number & DETAILED != 0);
            let text = text.get_mut(..usize::from(length)).ok_or_else(damaged)?;
            file.read_exact(text)?;
            let identifier = std::str::from_utf8(text).map_err(|_| damaged())?;
            let scope = self.scopes.get(number as usize).ok_or_else(damaged)?;
            let details = if detailed { Some(details(&mut file, scope.event)?.ok_or_else(damaged)?) } else { None };
            each((before != Some(number)).then_some(scope), identifier, details.as_ref().unwrap_or(&plain))?;
            before = Some(number);
        }
        Ok(())
    }

    /// SHA-256 (hex) of what the records mean, in order.
    pub(super) fn digest(&mut self) -> Result<String, LedgerError> {
        let mut hasher = Sha256::new();
        let mut about = Vec::new();
        self.read(|scope, identifier, details| {
            if let Some(scope) = scope {
                about = crate::framing::framed(&[
                    scope.identifier_type.as_bytes(),
                    scope.purpose.as_str().as_bytes(),
                    scope.event.as_str().as_bytes(),
                ]);
            }
            hasher.update(&about);
            let details = if *details == Details::default() { Vec::new() } else { written(details) };
            hasher.update(crate::framing::framed(&[identifier.as_bytes(), &details]));
            Ok(())
        })?;
        Ok(hex(&hasher.finalize()))
    }
}

/// No time.
const NEVER: i64 = i64::MIN;

/// Details as they wait: two times, the capacity by its number from 1, and who acted.
pub(super) fn written(details: &Details) -> Vec<u8> {
    let mut bytes = Vec::new();
    for time in [details.term.effective_from(), details.term.expires_at()] {
        bytes.extend_from_slice(&time.unwrap_or(NEVER).to_le_bytes());
    }
    if let Some(acting) = &details.acting {
        let numbered = (1..).zip(Capacity::ALL).find(|(_, capacity)| *capacity == acting.capacity);
        bytes.push(numbered.map_or(0, |(number, _)| number));
        bytes.extend_from_slice(acting.by.as_bytes());
    }
    bytes
}

/// What [`written`] wrote; `None` where it did not.
fn details(file: &mut impl io::Read, event: Event) -> io::Result<Option<Details>> {
    let (mut length, mut from, mut until) = ([0; 2], [0; 8], [0; 8]);
    file.read_exact(&mut length)?;
    file.read_exact(&mut from)?;
    file.read_exact(&mut until)?;
    let Some(rest) = usize::from(u16::from_le_bytes(length)).checked_sub(16) else { return Ok(None) };
    let mut acting = vec![0; rest];
    file.read_exact(&mut acting)?;
    let time = |bytes| Some(i64::from_le_bytes(bytes)).filter(|time| *time != NEVER);
    let Ok(term) = Term::of(event, time(from), time(until)) else { return Ok(None) };
    let Some((number, by)) = acting.split_first() else { return Ok(Some(Details { term, acting: None })) };
    let capacity = usize::from(*number).checked_sub(1).and_then(|at| Capacity::ALL.get(at).copied());
    let by = std::str::from_utf8(by).ok().map(str::to_owned);
    Ok(capacity.zip(by).map(|(capacity, by)| Details { term, acting: Some(Acting { capacity, by }) }))
}
