//! The files of linkage keys: one per domain, mode 0600 in a folder of mode 0700, durable before the key is used; encrypted where
//! the configuration says so ([`AtRest`]).
//!
//! A file's name is the SHA-256 of its domain. It holds the domain, so that a renamed file is noticed, the key in hex, the day on which
//! the domain's epoch ends, and, one a line, who may have been given it: departments, each with the fingerprint of its linkage key at that
//! time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use chrono::NaiveDate;
use concordat_policy::agreement::{Fingerprint, hex};
use concordat_policy::{LinkageDomain, Name};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::agreements::Members;
use crate::at_rest::{AtRest, AtRestError};
use crate::private;
use crate::pseudonym::DomainKey;

/// Under which keys of domains are encrypted.
const LABEL: &str = "linkage key of a domain";

/// Why a linkage key could not be read or kept. For the operator.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder.
    #[error("linkage keys: {0}")]
    File(#[from] io::Error),
    /// A file that holds something else.
    #[error("the linkage key file {0} is damaged or belongs to another domain")]
    Damaged(PathBuf),
    /// Encryption.
    #[error("the linkage key file {0} {1}")]
    AtRest(PathBuf, AtRestError),
    /// No randomness.
    #[error("the operating system gives no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

/// A key, who may have been given it, and the first day on which its domain is over.
#[derive(PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) key: DomainKey,
    pub(super) given: Members,
    pub(super) end: NaiveDate,
}

/// What there is to say of one key.
#[derive(Debug)]
pub struct Shown {
    /// `mission/purpose/epoch` and, after the first, `.rotation`.
    pub domain: String,
    /// Who may have been given it.
    pub given: Members,
    /// The first day after its epoch.
    pub end: NaiveDate,
    /// When its file was written last.
    pub written: SystemTime,
}

#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
    at_rest: AtRest,
    // One writer at a time, so that a domain never gets two keys.
    writing: Mutex<()>,
}

impl Store {
    /// Opens the folder, and makes it where there is none.
    pub(super) fn open(folder: &Path, at_rest: AtRest) -> Result<Self, StoreError> {
        private::folder(folder)?;
        Ok(Self::at(folder, at_rest))
    }

    /// The same without making anything: nothing is kept in a folder that is not there.
    pub(super) fn at(folder: &Path, at_rest: AtRest) -> Self {
        Self { folder: folder.to_owned(), at_rest, writing: Mutex::new(()) }
    }

    pub(super) fn key(&self, domain: &LinkageDomain) -> Result<Option<Kept>, StoreError> {
        let path = self.path(domain);
        let text = match fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let text = self.at_rest.open(LABEL, &text).map_err(|e| StoreError::AtRest(path.clone(), e))?;
        let (named, kept) = parsed(&text).ok_or_else(|| StoreError::Damaged(path.clone()))?;
        if named == domain.to_string() { Ok(Some(kept)) } else { Err(StoreError::Damaged(path)) }
    }

    /// The key of a domain; a new one, for `members` and until `end`, where none is known.
    pub(super) fn key_or_new(&self, domain: &LinkageDomain, members: &Members, end: NaiveDate) -> Result<Kept, StoreError> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = self.key(domain)? {
            return Ok(kept);
        }
        let kept = Kept { key: DomainKey::random()?, given: members.clone(), end };
        self.write(domain, &kept)?;
        Ok(kept)
    }

    /// Keeps a key. Gives back what is kept: another key, unchanged, where one is known.
    pub(super) fn keep(&self, domain: &LinkageDomain, new: Kept) -> Result<Kept, StoreError> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = self.key(domain)? {
            return Ok(kept);
        }
        self.write(domain, &new)?;
        Ok(new)
    }

    /// Notes that `members` may be given the key too, before they are.
    pub(super) fn give(&self, domain: &LinkageDomain, members: &Members) -> Result<(), StoreError> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match self.key(domain)? {
            Some(Kept { key, given, end }) if !members.is_subset(&given) => {
                self.write(domain, &Kept { key, given: given.union(members).cloned().collect(), end })
            }
            _ => Ok(()),
        }
    }

    /// Every key, by the names of domains.
    pub(super) fn list(&self) -> Result<Vec<Shown>, StoreError> {
        let mut shown = Vec::new();
        for path in self.files()? {
            let text = Zeroizing::new(fs::read_to_string(&path)?);
            let text = self.at_rest.open(LABEL, &text).map_err(|e| StoreError::AtRest(path.clone(), e))?;
            let (domain, kept) = parsed(&text).ok_or_else(|| StoreError::Damaged(path.clone()))?;
            let Kept { given, end, .. } = kept;
            shown.push(Shown { domain: domain.to_owned(), given, end, written: fs::metadata(&path)?.modified()? });
        }
        shown.sort_by(|one, other| one.domain.cmp(&other.domain));
        Ok(shown)
    }

    /// Removes the keys of domains that have ended. Gives how many that were.
    pub(super) fn forget(&self, ended: impl Fn(&LinkageDomain, NaiveDate) -> bool) -> Result<usize, StoreError> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        for Shown { domain, end, .. } in self.list()? {
            let Some(domain) = read(&domain).filter(|domain| ended(domain, end)) else { continue };
            fs::remove_file(self.path(&domain))?;
            count += 1;
        }
        Ok(count)
    }

    /// Writes anew what lies there in clear, or as `before` kept it. Gives how many files that were.
    pub(super) fn protect(&self, before: &AtRest) -> Result<usize, StoreError> {
        let mut count = 0;
        for path in self.files()? {
            let text = Zeroizing::new(fs::read_to_string(&path)?);
            let renewed = self.at_rest.renewed(before, LABEL, &text).map_err(|e| StoreError::AtRest(path.clone(), e))?;
            if let Some(renewed) = renewed {
                private::replace(&path, renewed.as_bytes())?;
                count += 1;
            }
        }
        Ok(count)
    }

    fn files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        };
        let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
        Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "key")).collect())
    }

    fn write(&self, domain: &LinkageDomain, kept: &Kept) -> Result<(), StoreError> {
        let path = self.path(domain);
        let hexed = Zeroizing::new(hex(kept.key.bytes()));
        let mut text = Zeroizing::new(format!("{domain}\n{}\n{}\n", hexed.as_str(), kept.end));
        kept.given.iter().for_each(|(department, key)| text.push_str(&format!("{department} {key}\n")));
        let sealed = self.at_rest.seal(LABEL, &text).map_err(|e| StoreError::AtRest(path.clone(), e))?;
        private::replace(&path, sealed.as_bytes())?;
        Ok(())
    }

    fn path(&self, domain: &LinkageDomain) -> PathBuf {
        self.folder.join(format!("{}.key", hex(&Sha256::digest(domain.to_string()))))
    }
}

/// A domain as [`LinkageDomain`] is written.
fn read(text: &str) -> Option<LinkageDomain> {
    let (rest, number) = text.rsplit_once('/')?;
    let (mission, purpose) = rest.split_once('/')?;
    let (epoch, rotation) = number.split_once('.').unwrap_or((number, "0"));
    Some(LinkageDomain {
        mission: Name::parse(mission).ok()?,
        purpose: Name::parse(purpose).ok()?,
        epoch: epoch.parse().ok()?,
        rotation: rotation.parse().ok()?,
    })
}

/// The domain and what is kept of it. A file that names nobody who may hold the key is damaged: nothing would be known of who does.
fn parsed(text: &str) -> Option<(&str, Kept)> {
    let mut lines = text.lines();
    let domain = lines.next()?;
    let key = DomainKey::new(unhex(lines.next()?)?);
    let end = lines.next()?.parse().ok()?;
    let member = |line: &str| {
        let (department, key) = line.split_once(' ')?;
        Some((Name::parse(department).ok()?, Fingerprint::try_from(key.to_owned()).ok()?))
    };
    let given = lines.map(member).collect::<Option<Members>>().filter(|given| !given.is_empty())?;
    Some((domain, Kept { key, given, end }))
}

/// 32 bytes from 64 hex digits.
pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}
