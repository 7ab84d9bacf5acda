//! Imports consent records, all of them or nothing: from a CSV or Parquet file ([`rows`](super::rows)), or from a stream of the
//! department's own systems ([`StreamImport`]).
//!
//! ```text
//! rows ─▶ check, normalise ─▶ spool (private, bounded memory) ─▶ one transaction of the ledger
//! ```
//!
//! - A file is imported once (by its SHA-256), a stream once by the name that its sender gave it: repeating an import would
//!   put older choices behind newer ones.
//! - One malformed row and nothing of the file is recorded; the first ones are named with their line, and all are counted.
//! - An identifier that is invalid is malformed too: a withdrawal with a slip of the pen must not vanish silently. Who knows that
//!   a file holds rows that are about nobody has them left out with `skip_invalid`: no row of a source can match them. They are
//!   counted, and the first ones named by their lines.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use concordat_policy::agreement::hex;
use sha2::{Digest as _, Sha256};

use super::Consent;
use super::intake::{Intake, IntakeError, Raw};
use super::journal::Note;
use super::ledger::{LedgerError, Written};
use super::rows::{self, At, FileError, Form, RowError};
use super::spool::{Spool, SpoolError};

/// Why a file was not imported; nothing of it was recorded. Holds no identifier.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] FileError),
    /// Rows of it.
    #[error("{0}: {1}")]
    Malformed(PathBuf, Malformed),
    /// A file that changed while it was read.
    #[error("{0}: the file changed while it was read")]
    Changed(PathBuf),
    /// The ledger, or the records that wait for it.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Work that was stopped.
    #[error("the import was stopped; nothing was recorded")]
    Stopped,
}

/// Why a row was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowProblem {
    /// It is no record.
    #[error(transparent)]
    Row(#[from] RowError),
    /// It is a record that cannot be taken.
    #[error(transparent)]
    Record(#[from] IntakeError),
}

/// How many rows are named.
const NAMED: usize = 10;

/// Rows that were not taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Malformed {
    /// The first ones.
    pub first: Vec<(At, RowProblem)>,
    /// All of them.
    pub count: u64,
    /// Those among them whose identifier is invalid and nothing else.
    pub invalid_identifiers: u64,
}

impl Malformed {
    fn add(&mut self, at: At, problem: RowProblem) {
        self.count += 1;
        self.invalid_identifiers += u64::from(matches!(problem, RowProblem::Record(IntakeError::Identifier(_))));
        if self.first.len() < NAMED {
            self.first.push((at, problem));
        }
    }

    /// What to do about them.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        if self.count == self.invalid_identifiers {
            "correct the identifiers; or, if those rows are about nobody, leave them out: --skip-invalid, or skip_invalid = true in [consent]"
        } else {
            "correct the file; nothing of it was recorded"
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} malformed row(s), so nothing of the file was recorded", self.count)?;
        for (at, problem) in &self.first {
            write!(f, "\n  {at}: {problem}")?;
        }
        match self.count.saturating_sub(self.first.len() as u64) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imported {
    /// It had been imported before; nothing was changed.
    Before,
    /// Records added, and records left out for invalid identifiers.
    Now {
        /// Added.
        records: u64,
        /// Left out.
        invalid: u64,
        /// Where the first of those stand.
        first_invalid: Vec<At>,
    },
}

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Rows that were read and checked.
    Checked(u64),
    /// Records that were written, of how many.
    Written(u64, u64),
}

/// How a file is imported.
#[derive(Default)]
pub struct Options {
    /// Leave out rows with invalid identifiers, instead of refusing the file.
    pub skip_invalid: bool,
    /// Whether a command does so beside the node: then it is noted for the node's log.
    pub by_command: bool,
    /// Is told how far it is, every 16,384 rows.
    pub progress: Option<Box<dyn FnMut(Step) + Send>>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Options(skip_invalid {}, by_command {})", self.skip_invalid, self.by_command)
    }
}

/// Imports `path`.
///
/// # Errors
/// [`ImportError`].
pub async fn import(consent: Arc<Consent>, intake: Intake, path: PathBuf, options: Options) -> Result<Imported, ImportError> {
    tokio::task::spawn_blocking(move || import_file(&consent, intake, &path, options)).await.map_err(|_| ImportError::Stopped)?
}

fn import_file(consent: &Consent, intake: Intake, path: &Path, mut options: Options) -> Result<Imported, ImportError> {
    let unreadable = |e: io::Error| ImportError::File(path.to_owned(), e.into());
    let mut file = File::open(path).map_err(unreadable)?;
    let before = file.metadata().map_err(unreadable)?;
    let digest = digest(&mut file).map_err(unreadable)?;
    if consent.imported(&digest)? {
        return Ok(Imported::Before);
    }
    let mut told = |step| options.progress.as_mut().map_or((), |progress| progress(step));
    let mut checked = check(consent, intake, path, &file, options.skip_invalid, &mut told)?;
    if changed(&before, &file.metadata().map_err(unreadable)?) {
        return Err(ImportError::Changed(path.to_owned()));
    }
    let (name, records) = (path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(), checked.spool.records());
    let note = Note::new("consent.imported").field("records", records).field("invalid_identifiers", checked.invalid);
    let note = options.by_command.then_some(note);
    let keyed = consent.secret.file(&digest);
    let names = [digest.as_str(), keyed.as_str()];
    let written = consent.write_import(&names, &name, &mut checked.spool, note.as_ref(), |count| told(Step::Written(count, records)))?;
    Ok(match written {
        Written::Before { .. } => Imported::Before,
        Written::Now { .. } => Imported::Now { records, invalid: checked.invalid, first_invalid: checked.first_invalid },
    })
}

/// A file's records.
struct Checked {
    spool: Spool,
    invalid: u64,
    first_invalid: Vec<At>,
}

/// Reads and checks every row.
fn check(
    consent: &Consent,
    intake: Intake,
    path: &Path,
    file: &File,
    skip_invalid: bool,
    told: &mut impl FnMut(Step),
) -> Result<Checked, ImportError> {
    let form = if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("parquet")) { Form::Parquet } else { Form::Csv };
    let only_type = intake.only_type().map(ToOwned::to_owned);
    let spool = Spool::new(&consent.state, intake).map_err(LedgerError::from)?;
    let mut checked = Checked { spool, invalid: 0, first_invalid: Vec::new() };
    let (mut malformed, mut rows) = (Malformed::default(), 0u64);
    let read = rows::read(file, form, only_type.as_deref(), |at, raw| {
        rows += 1;
        if rows.is_multiple_of(1 << 14) {
            told(Step::Checked(rows));
        }
        match raw.map(|raw| checked.spool.take(raw)) {
            Ok(Ok(())) => {}
            Ok(Err(SpoolError::File(e))) => return Err(Broken::Spool(e)),
            Ok(Err(SpoolError::Record(IntakeError::Identifier(_)))) if skip_invalid => {
                checked.invalid += 1;
                if checked.first_invalid.len() < NAMED {
                    checked.first_invalid.push(at);
                }
            }
            Ok(Err(SpoolError::Record(problem))) => malformed.add(at, problem.into()),
            Err(problem) => malformed.add(at, problem.into()),
        }
        Ok(())
    });
    match read {
        Err(Broken::File(e)) => Err(ImportError::File(path.to_owned(), e)),
        Err(Broken::Spool(e)) => Err(LedgerError::from(e).into()),
        Ok(()) if malformed.count > 0 => Err(ImportError::Malformed(path.to_owned(), malformed)),
        Ok(()) => Ok(checked),
    }
}

/// What stops reading.
enum Broken {
    File(FileError),
    Spool(io::Error),
}

impl From<FileError> for Broken {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

fn changed(before: &Metadata, after: &Metadata) -> bool {
    before.len() != after.len() || before.modified().ok() != after.modified().ok()
}

/// SHA-256 (hex) of the whole file, which is then at its start again.
fn digest(file: &mut File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            file.rewind()?;
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
}

/// The most records of one stream.
pub const MAX_STREAM: u64 = 10_000_000;

/// Why a stream was not imported; nothing of it was recorded. Holds no identifier.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// A record, counted from 1 over the whole stream.
    #[error("record {0}: {1}; nothing was recorded")]
    Record(u64, IntakeError),
    /// Too many.
    #[error("a stream holds at most {MAX_STREAM} records; nothing was recorded")]
    Long,
    /// A name that was used for something else.
    #[error("an import of this id was made before, with other records; nothing was recorded")]
    Differs,
    /// The ledger, or the records that wait for it.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The records of one stream, until it has ended. Dropped before that, nothing of it is left.
pub(crate) struct StreamImport {
    consent: Arc<Consent>,
    spool: Spool,
}

impl StreamImport {
    /// Blocks.
    pub(crate) fn new(consent: Arc<Consent>, intake: Intake) -> Result<Self, StreamError> {
        let spool = Spool::new(&consent.state, intake).map_err(LedgerError::from)?;
        Ok(Self { consent, spool })
    }

    /// Takes the next record. Blocks.
    pub(crate) fn take(&mut self, record: &concordat_proto::v1::ConsentRecord) -> Result<(), StreamError> {
        let place = self.spool.records() + 1;
        if place > MAX_STREAM {
            return Err(StreamError::Long);
        }
        self.spool.take(Raw::from(record)).map_err(|e| match e {
            SpoolError::Record(problem) => StreamError::Record(place, problem),
            SpoolError::File(e) => LedgerError::from(e).into(),
        })
    }

    pub(crate) fn records(&self) -> u64 {
        self.spool.records()
    }

    /// Writes everything under the name `id`, once. Whether it was written before, and the version. Blocks.
    pub(crate) fn finish(mut self, id: &str) -> Result<(bool, u64), StreamError> {
        // Keyed: a stream may be of one person.
        let (name, digest) = (format!("stream:{id}"), self.consent.secret.records(&self.spool.digest()?));
        match self.consent.write_import(&[name.as_str()], &digest, &mut self.spool, None, |_| ())? {
            Written::Now { version } => Ok((false, version)),
            Written::Before { description } if description == digest => Ok((true, self.consent.ledger().version()?)),
            Written::Before { .. } => Err(StreamError::Differs),
        }
    }
}
