//! Files of a log's folder, read behind limits.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::{Finding, Kind};
use crate::checkpoint::{SignedCheckpoint, decimal};
use crate::note::VerifierKey;

/// The longest note, in bytes.
pub(crate) const NOTE: u64 = 64 << 10;

/// The longest tile.
pub(crate) const TILE: u64 = 256 * 32;

/// The longest bundle.
pub(crate) const BUNDLE: u64 = 256 * (2 + 65_535);

/// The bytes of a file, if it is there.
pub(crate) fn optional(folder: &Path, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Finding> {
    let unread = |e: io::Error| Finding::new(Kind::Missing, None, format!("{name} cannot be read: {e}"));
    let file = match File::open(folder.join(name)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(unread)?,
    };
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() as u64 > limit {
        return Err(Finding::new(Kind::Form, None, format!("{name} is longer than {limit} bytes")));
    }
    Ok(Some(bytes))
}

/// The bytes of a file.
pub(crate) fn required(folder: &Path, name: &str, limit: u64) -> Result<Vec<u8>, Finding> {
    optional(folder, name, limit)?.ok_or_else(|| Finding::new(Kind::Missing, None, format!("{name} is missing")))
}

/// The key that the folder itself names.
pub(crate) fn own_key(folder: &Path) -> Result<VerifierKey, Finding> {
    let bytes = required(folder, "log.vkey", NOTE)?;
    let text = String::from_utf8_lossy(&bytes);
    VerifierKey::parse(text.trim_end()).map_err(|e| Finding::new(Kind::Form, None, format!("log.vkey: {e}")))
}

/// The most checkpoints that one archive may have.
const MANIFESTS: usize = 10_000;

/// Where the entries of a log are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) archives: &'a [PathBuf],
    /// How many entries, from the first on, the folder says were moved.
    pub(crate) moved: u64,
}

/// How many entries, from the first on, the folder says were moved.
pub(crate) fn moved(folder: &Path) -> Result<u64, Finding> {
    let Some(bytes) = optional(folder, "archived", NOTE)? else { return Ok(0) };
    let count = std::str::from_utf8(&bytes).ok().and_then(|text| decimal(text.trim_end())).filter(|count| count.is_multiple_of(256));
    count.ok_or_else(|| Finding::new(Kind::Form, None, "'archived' does not say how many entries were moved"))
}

/// The bytes of a full bundle, from the log or an archive of it; `None` where it was moved and no archive is named.
pub(crate) fn full_bundle(places: &Places<'_>, index: u64) -> Result<Option<Vec<u8>>, Finding> {
    let name = path("entries", index);
    for folder in std::iter::once(places.folder).chain(places.archives.iter().map(PathBuf::as_path)) {
        if let Some(bytes) = optional(folder, &name, BUNDLE)? {
            return Ok(Some(bytes));
        }
    }
    if places.archives.is_empty() && index.saturating_add(1).saturating_mul(256) <= places.moved {
        return Ok(None);
    }
    let archives = if places.archives.is_empty() { "" } else { " and in no archive that is named" };
    Err(Finding::new(Kind::Missing, None, format!("{name} is missing{archives}")))
}

/// The checkpoints that the log had signed when entries were moved to its archives.
pub(crate) fn manifests(archives: &[PathBuf], key: &VerifierKey) -> Result<Vec<SignedCheckpoint>, Finding> {
    let mut found = Vec::new();
    for archive in archives {
        let told = archive.display();
        if own_key(archive).map_err(|f| Finding { what: format!("the archive {told}: {}", f.what), ..f })? != *key {
            return Err(Finding::new(Kind::Form, None, format!("the archive {told} is of another log")));
        }
        let unread = |e: io::Error| Finding::new(Kind::Missing, None, format!("the archive {told} has no manifest: {e}"));
        for name in fs::read_dir(archive.join("manifest")).map_err(unread)?.take(MANIFESTS) {
            let name = format!("manifest/{}", name.map_err(unread)?.file_name().display());
            let manifest = SignedCheckpoint::open(&required(archive, &name, NOTE)?, key);
            found.push(manifest.map_err(|e| Finding::new(Kind::Checkpoint, None, format!("the archive {told}, {name}: {e}")))?);
        }
    }
    Ok(found)
}

/// The bytes of a tile or bundle of `width`, or of one that is wider.
pub(crate) fn wide(folder: &Path, kind: &str, index: u64, width: u64, limit: u64) -> Result<Vec<u8>, Finding> {
    let full = path(kind, index);
    let partial = format!("{full}.p");
    if width < 256
        && let Some(bytes) = optional(folder, &format!("{partial}/{width}"), limit)?
    {
        return Ok(bytes);
    }
    if let Some(bytes) = optional(folder, &full, limit)? {
        return Ok(bytes);
    }
    let names = fs::read_dir(folder.join(&partial)).into_iter().flatten().flatten();
    let widths = names.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok());
    let wider = widths.filter(|found| *found > width && *found < 256).min();
    let missing = || Finding::new(Kind::Missing, None, format!("{full} is missing, and no partial one has {width} entries"));
    wider.map(|wider| required(folder, &format!("{partial}/{wider}"), limit)).ok_or_else(missing)?
}

/// The path of a full tile: thousands in folders of their own.
fn path(kind: &str, index: u64) -> String {
    let mut digits = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        digits = format!("x{:03}/{digits}", rest % 1000);
        rest /= 1000;
    }
    format!("tile/{kind}/{digits}")
}
