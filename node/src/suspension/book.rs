//! The file behind the kill switch, `state/suspensions`: what is suspended or ended, and the changes that the access log may not have yet.
//!
//! Its first line is the SHA-256 of the rest, so that a file that was cut, mixed or edited is noticed; changes are numbered, and
//! `suspensions-logged` beside the access log holds the number of the last one that is in it, so that a file that is gone, or came
//! back with a backup of the whole state folder, is noticed too. Only commands write the former, under a lock; only the node
//! writes the latter.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{SecondsFormat, Utc};
use concordat_policy::Name;
use concordat_policy::agreement::Fingerprint;
use serde::{Deserialize, Serialize};

use super::person::Person;
use crate::private;

/// What to do about a file that cannot be relied on.
pub(crate) const REMEDY: &str =
    "`concordat-node suspend` without an agreement begins a new file, in which each is suspended; then resume one by one what may go on";

const FORMAT: u32 = 1;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Book {
    format: u32,
    /// The number of the last change.
    pub(crate) last: u64,
    /// What is suspended now.
    pub(crate) suspended: Vec<Suspension>,
    /// Changes, in order; those that the log has are left out when the next one is made.
    pub(crate) changes: Vec<Change>,
}

/// One thing that is suspended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Suspension {
    /// The agreement; `None` is everything.
    pub(crate) agreement: Option<Name>,
    /// RFC 3339, UTC.
    pub(crate) since: String,
    pub(crate) by: Person,
    pub(crate) reason: Option<String>,
    /// For good: it is never resumed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) ended: bool,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Act {
    Suspended,
    Resumed,
    /// Suspended for good.
    Ended,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    /// From 1, without gaps as long as no damaged file was replaced.
    pub(crate) number: u64,
    pub(crate) at: String,
    pub(crate) act: Act,
    pub(crate) agreement: Option<Name>,
    pub(crate) by: Person,
    pub(crate) reason_given: bool,
    #[serde(default)]
    pub(crate) replaced_damaged_file: bool,
}

/// Why the file cannot be relied on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    #[error("{0} cannot be read: {1}")]
    Unreadable(PathBuf, io::Error),
    #[error("{0} is damaged")]
    Damaged(PathBuf),
    #[error("{0} is gone, though something was suspended or resumed before")]
    Gone(PathBuf),
    #[error("{0} is an old copy: it ends with change {1}, and change {2} was seen")]
    Old(PathBuf, u64, u64),
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The number of the change.
    Changed(u64),
    /// It was so already.
    Unchanged,
}

/// Where the two files are.
#[derive(Debug, Clone)]
pub struct Folders {
    /// The folder of state.
    pub state: PathBuf,
    /// The folder of the access log.
    pub log: PathBuf,
}

impl Folders {
    /// The folders of a node.
    #[must_use]
    pub fn new(state: &Path, log: &Path) -> Self {
        Self { state: state.to_owned(), log: log.to_owned() }
    }

    fn book(&self) -> PathBuf {
        self.state.join("suspensions")
    }

    fn logged(&self) -> PathBuf {
        self.log.join("suspensions-logged")
    }
}

impl Book {
    fn new() -> Self {
        Self { format: FORMAT, last: 0, suspended: Vec::new(), changes: Vec::new() }
    }

    /// The suspension of exactly this.
    pub(crate) fn suspension(&self, agreement: Option<&Name>) -> Option<&Suspension> {
        self.suspended.iter().find(|suspension| suspension.agreement.as_ref() == agreement)
    }

    /// Suspends, resumes or ends; `None` is everything. What has ended stays so.
    fn act(&mut self, act: Act, agreement: Option<&Name>, by: &Person, reason: Option<&str>) -> Outcome {
        match (act, self.suspension(agreement).map(|suspension| suspension.ended)) {
            (_, Some(true)) | (Act::Suspended, Some(false)) | (Act::Resumed, None) => return Outcome::Unchanged,
            (Act::Suspended | Act::Ended, None) => {}
            (Act::Resumed | Act::Ended, Some(false)) => self.suspended.retain(|suspension| suspension.agreement.as_ref() != agreement),
        }
        self.last += 1;
        let (at, agreement, by) = (Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true), agreement.cloned(), by.clone());
        if act != Act::Resumed {
            let (reason, ended) = (reason.map(str::to_owned), act == Act::Ended);
            self.suspended.push(Suspension { agreement: agreement.clone(), since: at.clone(), by: by.clone(), reason, ended });
        }
        let reason_given = reason.is_some();
        self.changes.push(Change { number: self.last, at, act, agreement, by, reason_given, replaced_damaged_file: false });
        Outcome::Changed(self.last)
    }

    fn write(&self, folders: &Folders) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        private::replace(&folders.book(), format!("{}\n{text}\n", Fingerprint::of(text.as_bytes())).as_bytes())
    }

    fn parse(text: &str) -> Option<Self> {
        let (sum, rest) = text.split_once('\n')?;
        let rest = rest.strip_suffix('\n')?;
        let book: Self = serde_json::from_str(rest).ok()?;
        (Fingerprint::of(rest.as_bytes()).as_str() == sum && book.format == FORMAT).then_some(book)
    }
}

/// What the file says; it must not end before the change `seen`, nor before what the log has. Blocks.
pub(crate) fn read(folders: &Folders, seen: u64) -> Result<Book, Damage> {
    let (path, seen) = (folders.book(), seen.max(logged(folders)?));
    let book = match fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && seen == 0 => Book::new(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Damage::Gone(path)),
        Err(e) => return Err(Damage::Unreadable(path, e)),
        Ok(bytes) => match std::str::from_utf8(&bytes).ok().and_then(Book::parse) {
            Some(book) => book,
            None => return Err(Damage::Damaged(path)),
        },
    };
    if book.last < seen { Err(Damage::Old(path, book.last, seen)) } else { Ok(book) }
}

/// The last change that is in the access log; 0 when there is none. Blocks.
pub(crate) fn logged(folders: &Folders) -> Result<u64, Damage> {
    let path = folders.logged();
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| Damage::Damaged(path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(Damage::Unreadable(path, e)),
    }
}

/// Notes that the access log has every change up to `number`. Blocks until that is durable.
pub(crate) fn note_logged(folders: &Folders, number: u64) -> io::Result<()> {
    private::replace(&folders.logged(), format!("{number}\n").as_bytes())
}

/// Why a command could not change anything.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("{0}")]
    Damage(#[from] Damage),
    #[error("the state folder cannot be written: {0}")]
    File(#[from] io::Error),
}

/// What a command wants.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) act: Act,
    /// `None` is everything.
    pub(crate) agreement: Option<&'a Name>,
    pub(crate) by: &'a Person,
    pub(crate) reason: Option<&'a str>,
    /// Every agreement that the department holds; `None` where that cannot be told.
    pub(crate) held: Option<&'a BTreeSet<Name>>,
}

/// Suspends, resumes or ends, durably, and gives back what is suspended then. Suspending everything also works where the file cannot
/// be relied on: it begins a new one, in which each held agreement is suspended by itself too, and keeps the old beside it. While
/// nobody can tell which those are, the old one stays, and with it everything is suspended. Blocks.
pub(crate) fn change(folders: &Folders, wanted: &Wanted<'_>) -> Result<(Outcome, Book), ChangeError> {
    let state = folders.state.as_path();
    private::folder(state)?;
    // Commands wait for one another; a lock on the folder leaves no file of the wrong owner behind.
    let folder = File::open(state)?;
    folder.lock()?;
    let mut book = match (read(folders, 0), wanted.held) {
        (Ok(book), _) => book,
        (Err(damage), Some(held)) if wanted.act == Act::Suspended && wanted.agreement.is_none() => {
            return Ok(begin_anew(folders, &damage, wanted, held)?);
        }
        (Err(damage), _) => return Err(damage.into()),
    };
    let logged = logged(folders)?;
    book.changes.retain(|change| change.number > logged);
    let outcome = book.act(wanted.act, wanted.agreement, wanted.by, wanted.reason);
    if outcome != Outcome::Unchanged {
        book.write(folders)?;
    }
    Ok((outcome, book))
}

fn begin_anew(folders: &Folders, damage: &Damage, wanted: &Wanted<'_>, held: &BTreeSet<Name>) -> io::Result<(Outcome, Book)> {
    // Beyond every number that was counted before, whatever is left of the files.
    let beyond = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?.as_secs();
    if let Damage::Damaged(bad) | Damage::Unreadable(bad, _) | Damage::Old(bad, ..) = damage {
        let mut kept = bad.as_os_str().to_owned();
        kept.push(format!(".damaged-{beyond}"));
        // A second name, so that there is no moment without the file.
        fs::hard_link(bad, PathBuf::from(kept))?;
    }
    let mut book = Book { last: beyond, ..Book::new() };
    for agreement in std::iter::once(None).chain(held.iter().map(Some)) {
        book.act(Act::Suspended, agreement, wanted.by, wanted.reason);
    }
    book.changes.iter_mut().for_each(|change| change.replaced_damaged_file = true);
    book.write(folders)?;
    if logged(folders).is_err() {
        note_logged(folders, 0)?;
    }
    Ok((Outcome::Changed(book.last), book))
}
