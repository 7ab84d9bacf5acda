//! Files of a log's folder, read behind limits.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use super::{Finding, Kind};
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
