//! Records that were read and checked and wait to be written: in a private file without a name, so that memory stays bounded,
//! the ledger's lock is held for the writing only, and nothing is left behind by a process that ends.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, Write as _};
use std::path::Path;

use concordat_policy::Name;
use concordat_policy::agreement::hex;
use concordat_policy::consent::Event;
use concordat_policy::identifier::MAX_BYTES;
use sha2::{Digest as _, Sha256};

use super::intake::{Intake, IntakeError};
use super::ledger::LedgerError;

/// What a record is about, but for the subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    /// The label of the identifiers' type.
    pub(super) identifier_type: String,
    pub(super) purpose: Name,
    pub(super) event: Event,
}

/// A record as it was written by people.
#[derive(Clone, Copy)]
pub(super) struct Raw<'a> {
    pub(super) identifier: &'a str,
    pub(super) identifier_type: &'a str,
    pub(super) purpose: &'a str,
    pub(super) event: &'a str,
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

    /// How many records wait.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Checks and takes one record.
    pub(super) fn take(&mut self, raw: Raw<'_>) -> Result<(), SpoolError> {
        let scope = self.scope(raw)?;
        if !self.intake.normalise(raw.identifier, raw.identifier_type, &mut self.normalised)? {
            return Err(IntakeError::Identifier(raw.identifier_type.to_owned()).into());
        }
        // At most MAX_BYTES, so the length is one byte.
        let length = u8::try_from(self.normalised.len()).map_err(io::Error::other)?;
        self.file.write_all(&scope.to_le_bytes())?;
        self.file.write_all(&[length])?;
        self.file.write_all(self.normalised.as_bytes())?;
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
        let number = u32::try_from(self.scopes.len()).map_err(io::Error::other)?;
        self.scopes.push(scope);
        self.known.insert(self.key.clone(), number);
        Ok(number)
    }

    /// Calls `each` with every record's identifier, in order, and with its scope where that differs from the one before.
    pub(super) fn read(&mut self, mut each: impl FnMut(Option<&Scope>, &str) -> Result<(), LedgerError>) -> Result<(), LedgerError> {
        let damaged = || LedgerError::File(io::Error::new(io::ErrorKind::InvalidData, "the waiting records cannot be read back"));
        self.file.flush()?;
        self.file.get_mut().rewind()?;
        let mut file = BufReader::with_capacity(1 << 18, self.file.get_ref());
        let (mut before, mut head, mut text) = (None, [0; 5], [0; MAX_BYTES]);
        for _ in 0..self.records {
            file.read_exact(&mut head)?;
            let [a, b, c, d, length] = head;
            let number = u32::from_le_bytes([a, b, c, d]);
            let text = text.get_mut(..usize::from(length)).ok_or_else(damaged)?;
            file.read_exact(text)?;
            let identifier = std::str::from_utf8(text).map_err(|_| damaged())?;
            let scope = self.scopes.get(number as usize).ok_or_else(damaged)?;
            each((before != Some(number)).then_some(scope), identifier)?;
            before = Some(number);
        }
        Ok(())
    }

    /// SHA-256 (hex) of what the records mean, in order.
    pub(super) fn digest(&mut self) -> Result<String, LedgerError> {
        let mut hasher = Sha256::new();
        let mut about = Vec::new();
        self.read(|scope, identifier| {
            if let Some(scope) = scope {
                about = crate::framing::framed(&[
                    scope.identifier_type.as_bytes(),
                    scope.purpose.as_str().as_bytes(),
                    scope.event.as_str().as_bytes(),
                ]);
            }
            hasher.update(&about);
            hasher.update(crate::framing::framed(&[identifier.as_bytes()]));
            Ok(())
        })?;
        Ok(hex(&hasher.finalize()))
    }
}
