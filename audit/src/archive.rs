//! Moves a log's old entries to an archive: another folder, in which no file changes once it is there.
//!
//! ```text
//! copied, synced, read back ─▶ manifest ─▶ the log tells of it, under a checkpoint ─▶ `archived` in its folder ─▶ removed from the log
//! ```
//!
//! It may be killed at any point and repeated: an entry is removed when it is in the archive for good, and never before. What an earlier run
//! left there is made durable before it counts. Only full bundles move; tiles stay, and with them every proof. The writer reads no full
//! bundle, so it may go on meanwhile, and is who tells of the archive; of a log that nobody writes, this does.
//!
//! | name in the archive | what |
//! |---|---|
//! | `tile/entries/<index>` | the entries, as they were in the log |
//! | `manifest/<first>-<last>` | the log's signed checkpoint when these entries were moved, over them and more |
//! | `log.vkey` | whose entries they are |
//! | `lock`, `new/` | held while something is moved; files in the making |

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::checkpoint::{SignedCheckpoint, decimal};
use crate::disk::{Disk, which};
use crate::facts::time_of;
use crate::key::PUBLIC;
use crate::note::{MAX_NOTE, VerifierKey};
use crate::persons;
use crate::proof::verify_inclusion;
use crate::proved::Proved;
use crate::recover::CHECKPOINT;
use crate::tile::{Tiles, bundle_name, damaged, unbundle};
use crate::tree::{Hashes as _, WIDTH, inclusion, leaf_hash};
use crate::{Log, is_written};

/// The file of a log that says how many entries, from the first on, were moved.
pub(crate) const ARCHIVED: &str = "archived";

/// Which entries were moved, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// The first one.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

/// Moves the full bundles at the log's beginning whose entries are all older than `before` to the archive `to`, which is made where there
/// is none. `None` where there is nothing to move.
///
/// # Errors
/// When an entry is not what the log's checkpoint signs, the archive is of another log or holds something else, or a file cannot be read
/// or written. What was not moved yet stays in the log: repeat it.
pub fn archive(folder: &Path, to: &Path, before: DateTime<Utc>) -> io::Result<Option<Moved>> {
    run(&Disk::at(folder), &Disk::at(to), before)
}

/// How many entries, from the first on, were moved from the log in `folder`; all of them in full bundles. Whatever the folder says, no
/// entry was whose bundle is there, nor one after it.
///
/// # Errors
/// When what the folder says cannot be read.
pub fn archived(folder: &Path) -> io::Result<u64> {
    match said(folder)? {
        0 => Ok(0),
        said => Ok(first_bundle(folder)?.map_or(said, |first| said.min(first.saturating_mul(WIDTH)))),
    }
}

/// What the folder says of that.
fn said(folder: &Path) -> io::Result<u64> {
    let text = match fs::read_to_string(folder.join(ARCHIVED)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        read => read?,
    };
    let count = decimal(text.trim_end()).filter(|count| count.is_multiple_of(WIDTH));
    count.ok_or_else(|| damaged(format!("'{ARCHIVED}' does not say how many entries were moved: it was changed")))
}

/// The index of the first full bundle that is there. Names of one length are in one folder, or in folders side by side, and those of a
/// longer one come after them.
fn first_bundle(folder: &Path) -> io::Result<Option<u64>> {
    let mut folders = vec![(0, folder.join("tile/entries"))];
    while !folders.is_empty() {
        let mut inner = Vec::new();
        for (above, folder) in folders {
            let names = match fs::read_dir(&folder) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                read => read?,
            };
            let mut first = None;
            for name in names {
                let name = name?.file_name();
                let Some(name) = name.to_str() else { continue };
                let digits = |text: &str| decimal_of_three(text).and_then(|digits| digits.checked_add(u64::checked_mul(above, 1000)?));
                if let Some(index) = digits(name) {
                    first = Some(first.map_or(index, |first: u64| first.min(index)));
                } else if let Some(index) = name.strip_prefix('x').and_then(digits) {
                    inner.push((index, folder.join(name)));
                }
            }
            if first.is_some() {
                return Ok(first);
            }
        }
        inner.sort();
        folders = inner;
    }
    Ok(None)
}

fn decimal_of_three(text: &str) -> Option<u64> {
    (text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Those of `archives` that are of the log in `folder`.
///
/// # Errors
/// When one of them is no archive.
pub fn of_log(folder: &Path, archives: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    if archives.is_empty() {
        return Ok(Vec::new());
    }
    let key = fs::read_to_string(folder.join(PUBLIC))?;
    let mut of_this = Vec::new();
    for archive in archives {
        let none = |e: io::Error| io::Error::new(e.kind(), format!("{} is no archive of a log: {e}", archive.display()));
        if fs::read_to_string(archive.join(PUBLIC)).map_err(none)? == key {
            of_this.push(archive.clone());
        }
    }
    Ok(of_this)
}

/// The tree that a signed checkpoint stands for.
struct Signed {
    note: Vec<u8>,
    checkpoint: SignedCheckpoint,
}

impl Signed {
    fn read(log: &Disk) -> io::Result<(Self, String)> {
        let key = fs::read_to_string(log.path(PUBLIC))?;
        let verifier = VerifierKey::parse(key.trim_end()).map_err(|e| damaged(format!("{PUBLIC}: {e}")))?;
        let mut note = Vec::new();
        File::open(log.path(CHECKPOINT))?.take(MAX_NOTE as u64 + 1).read_to_end(&mut note)?;
        let checkpoint = SignedCheckpoint::open(&note, &verifier).map_err(|e| damaged(format!("{CHECKPOINT}: {e}")))?;
        Ok((Self { note, checkpoint }, key))
    }

    /// That a full bundle is what was signed: its leaves are its tile's, and the path of the first one leads over all the others.
    fn proves(&self, log: &Disk, index: u64, entries: &[Vec<u8>]) -> io::Result<()> {
        let (signed, tiles, first) = (self.checkpoint.checkpoint(), Tiles::of(&log.folder), index.saturating_mul(WIDTH));
        let leaves = tiles.hashes(0, first, usize::try_from(WIDTH).unwrap_or_default())?;
        let changed =
            |at: u64| damaged(format!("entry {} is not what the log signed: nothing is moved", first.saturating_add(at).saturating_add(1)));
        if entries.len() as u64 != WIDTH {
            return Err(changed(entries.len() as u64));
        }
        if let Some(at) = entries.iter().zip(&leaves).position(|(entry, leaf)| leaf_hash(entry) != *leaf) {
            return Err(changed(at as u64));
        }
        let (path, leaf) = (inclusion(&tiles, first, signed.size)?, leaves.first().copied().unwrap_or_default());
        verify_inclusion(first, signed.size, &leaf, &path, &signed.root).map_err(|_| changed(0))
    }
}

fn run(log: &Disk, to: &Disk, before: DateTime<Utc>) -> io::Result<Option<Moved>> {
    let (signed, key) = Signed::read(log)?;
    let _lock = to.lock().map_err(|e| io::Error::new(e.kind(), format!("the archive: {e}")))?;
    apart(&log.folder, &to.folder)?;
    to.prepare()?;
    publish_once(to, PUBLIC, key.as_bytes())?;
    let mut bundles = Vec::new();
    for index in 0..signed.checkpoint.checkpoint().size / WIDTH {
        let name = bundle_name(index, WIDTH);
        let bytes = match fs::read(log.path(&name)) {
            // It was moved before.
            Err(e) if e.kind() == io::ErrorKind::NotFound && bundles.is_empty() => continue,
            read => read?,
        };
        let entries = unbundle(&bytes).ok_or_else(|| damaged(format!("{name} does not hold whole entries: it was cut or changed")))?;
        if !entries.iter().all(|entry| time_of(entry).is_some_and(|time| time < before)) {
            break;
        }
        signed.proves(log, index, &entries)?;
        publish_once(to, &name, &bytes)?;
        bundles.push((index, name));
    }
    let (Some((first, _)), Some((last, _))) = (bundles.first(), bundles.last()) else { return Ok(None) };
    let moved = Moved { first: first.saturating_mul(WIDTH).saturating_add(1), last: last.saturating_add(1).saturating_mul(WIDTH) };
    let manifest = format!("manifest/{:012}-{:012}", moved.first, moved.last);
    if !to.path(&manifest).exists() {
        to.publish(&[(manifest.clone(), signed.note.clone())])?;
    }
    // Whoever put them there, and whether they were durable then.
    let copied: Vec<String> = bundles.iter().map(|(_, name)| name.clone()).chain([manifest, PUBLIC.to_owned()]).collect();
    to.secure(&copied)?;
    tell(log, &signed, moved)?;
    log.make_room()?;
    log.publish(&[(ARCHIVED.to_owned(), format!("{}\n", moved.last.max(said(&log.folder)?)).into_bytes())])?;
    let mut folders = BTreeSet::new();
    for (_, name) in &bundles {
        let path = log.path(name);
        if which(fs::metadata(&path)) == which(fs::metadata(to.path(name))) {
            return Err(io::Error::other(format!("{name} of the log and of the archive are one file: nothing more is removed")));
        }
        log.remove(&path)?;
        folders.extend(path.parent().map(Path::to_owned));
    }
    folders.iter().try_for_each(|folder| log.settle(folder))?;
    Ok(Some(moved))
}

/// How long the log's writer has to tell of an archive.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(5);

/// Has the log tell, under a checkpoint, that entries were moved: without that, entries that are not there were taken away.
fn tell(log: &Disk, signed: &Signed, moved: Moved) -> io::Result<()> {
    if told(&log.folder, moved.last, moved.last)? {
        return Ok(());
    }
    let from = signed.checkpoint.checkpoint().size;
    persons::leave_for(&log.folder, "log.archived", &json!({ "first": moved.first, "last": moved.last }))?;
    // Whoever writes the log finds it there; where nobody does, it is opened for that.
    let own = if is_written(&log.folder) { None } else { Some(Log::on(log.clone(), &signed.checkpoint.checkpoint().origin, None)?) };
    let since = Instant::now();
    let outcome = loop {
        if told(&log.folder, moved.last, from)? {
            break Ok(());
        }
        if own.as_ref().is_some_and(Log::is_failing) || since.elapsed() > PATIENCE {
            let why = "the log does not tell of the archive: its program stopped, or cannot write it. Nothing is removed yet; repeat it";
            break Err(io::Error::other(why));
        }
        std::thread::sleep(LOOK);
        let _ = own.as_ref().is_none_or(|own| own.settle(20 * LOOK));
    };
    let is_own = own.is_some();
    drop(own);
    // Its threads end by themselves.
    while is_own && is_written(&log.folder) && since.elapsed() < 2 * PATIENCE {
        std::thread::sleep(LOOK);
    }
    outcome
}

/// Whether the log in `folder` itself tells, under its checkpoint, that its entries up to `last` were moved. Without that, entries that are
/// not there were taken away.
///
/// # Errors
/// When the log cannot be read, or is not what it signed.
pub fn is_told(folder: &Path, last: u64) -> io::Result<bool> {
    told(folder, last, last)
}

/// Whether an entry from `from` on (from 0), under the latest checkpoint, tells that all up to `last` were moved.
fn told(folder: &Path, last: u64, from: u64) -> io::Result<bool> {
    tells(&Proved::under(folder, Signed::read(&Disk::at(folder))?.0.checkpoint.checkpoint())?, last, from)
}

/// Whether an entry of the log from `from` on tells that.
pub(crate) fn tells(log: &Proved, last: u64, from: u64) -> io::Result<bool> {
    if from >= log.size() {
        return Ok(false);
    }
    for read in log.read(from, |_| None)? {
        if up_to(&read?.1).is_some_and(|moved| moved >= last) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Up to which entry this one tells that entries were moved.
fn up_to(entry: &[u8]) -> Option<u64> {
    std::str::from_utf8(entry).ok().filter(|text| text.contains("log.archived"))?;
    let entry = serde_json::from_slice::<Value>(entry).ok()?;
    (entry.get("event")?.as_str()? == "log.archived").then(|| entry.get("last")?.as_u64())?
}

/// Puts a file into the archive for good, unless it is there already, and reads it back.
fn publish_once(to: &Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    if !to.path(name).exists() {
        to.publish(&[(name.to_owned(), bytes.to_vec())])?;
    }
    if fs::read(to.path(name))? == bytes {
        return Ok(());
    }
    let other = format!("{name} is in the archive already and says something else: is it the archive of another log?");
    Err(io::Error::new(io::ErrorKind::AlreadyExists, other))
}

/// That the archive is not the log itself.
fn apart(log: &Path, to: &Path) -> io::Result<()> {
    let (of_log, of_archive) = (fs::canonicalize(log)?, fs::canonicalize(to)?);
    let nested = of_log.starts_with(&of_archive) || of_archive.starts_with(&of_log);
    if nested {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the archive must be another folder than the log, and neither in the other",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
