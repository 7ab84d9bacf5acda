//! Reading a log, also beside its running writer, with at most one bundle in memory.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::vec::IntoIter;

use crate::archive::{archived, of_log};
use crate::tail::{TAIL, number};
use crate::tile::{MAX_ENTRY, bundle_name, damaged, entries, widths};
use crate::tree::WIDTH;

/// The entries of the log in `folder` from `index` (from 0) on: each with its index, as the bytes that the tree was built over. First
/// those of bundles, then those of the tail, to the last one that is whole. Nothing is verified.
///
/// # Errors
/// An [`io::Error`] when there is no log; the iterator gives one when an entry is missing, and ends.
pub fn read(folder: &Path, index: u64) -> io::Result<Entries> {
    read_with(folder, &[], index)
}

/// As [`read`], with the archives to which entries were moved: those that are of this log count, and then no entry may be missing in
/// them. Without one, entries that were moved are passed over: [`crate::archive::archived`] tells how many.
///
/// # Errors
/// As [`read`]; when one of them is no archive.
pub fn read_with(folder: &Path, archives: &[PathBuf], index: u64) -> io::Result<Entries> {
    if !folder.join(TAIL).exists() && !folder.join("tile/entries").exists() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{} holds no log", folder.display())));
    }
    Ok(Entries { folder: folder.to_owned(), archives: of_log(folder, archives)?, next: index, source: Source::Unknown })
}

/// See [`read`].
#[derive(Debug)]
pub struct Entries {
    folder: PathBuf,
    archives: Vec<PathBuf>,
    next: u64,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Unknown,
    Bundle(IntoIter<Vec<u8>>),
    /// The line that was read already, and those after it.
    Tail(Option<Vec<u8>>, BufReader<File>),
    Ended,
}

impl Iterator for Entries {
    type Item = io::Result<(u64, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.entry() {
            Ok(entry) => {
                let index = self.next;
                self.next = self.next.saturating_add(1);
                Some(Ok((index, entry?)))
            }
            Err(error) => {
                self.source = Source::Ended;
                Some(Err(error))
            }
        }
    }
}

impl Entries {
    fn entry(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            match &mut self.source {
                Source::Ended => return Ok(None),
                Source::Unknown => self.source = self.locate()?,
                Source::Bundle(entries) => match entries.next() {
                    Some(entry) => return Ok(Some(entry)),
                    None => self.source = Source::Unknown,
                },
                Source::Tail(read, lines) => {
                    let Some(line) = read.take().map_or_else(|| line(lines), |read| Ok(Some(read)))? else {
                        self.source = Source::Ended;
                        continue;
                    };
                    match number(&line) {
                        Some(number) if number <= self.next => {}
                        Some(number) if number == self.next.saturating_add(1) => return Ok(Some(line)),
                        _ => return Err(missing(self.next, "in the tail, something else stands in its place")),
                    }
                }
            }
        }
    }

    /// Where the next entry is, or the first one that was not moved.
    fn locate(&mut self) -> io::Result<Source> {
        let lost = |index| missing(index, "neither its bundle nor the tail has it");
        match self.here()? {
            // An empty tail is the end only after the last entry that was moved.
            None | Some(Source::Ended) => {
                let moved = archived(&self.folder)?;
                if self.next >= moved {
                    return self.here()?.ok_or_else(|| lost(self.next));
                }
                if !self.archives.is_empty() {
                    return Err(missing(self.next, "it was moved to an archive, and none that is named has it"));
                }
                self.next = moved;
                self.here()?.ok_or_else(|| lost(moved))
            }
            Some(source) => Ok(source),
        }
    }

    /// Where the next entry is: in a full bundle, else in the tail, else in the partial bundle of a copy without one.
    fn here(&self) -> io::Result<Option<Source>> {
        let (index, skip) = (self.next / WIDTH, usize::try_from(self.next % WIDTH).unwrap_or(usize::MAX));
        let mut ended = None;
        // A writer may fill the bundle and replace the tail between the two looks, and an old bundle may be moved.
        for _ in 0..3 {
            for folder in std::iter::once(&self.folder).chain(&self.archives) {
                if folder.join(bundle_name(index, WIDTH)).exists() {
                    match bundle(folder, index, WIDTH, skip) {
                        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                        read => return read.map(Some),
                    }
                }
            }
            match File::open(self.folder.join(TAIL)) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    let widest = widths(&self.folder, &bundle_name(index, 1)).last().copied();
                    let widest = widest.filter(|width| self.next % WIDTH < *width);
                    return widest.map_or(Ok(Source::Ended), |width| bundle(&self.folder, index, width, skip)).map(Some);
                }
                opened => {
                    let mut lines = BufReader::new(opened?);
                    match line(&mut lines)? {
                        None => ended = Some(Source::Ended),
                        Some(first) if number(&first).is_none_or(|number| number <= self.next.saturating_add(1)) => {
                            return Ok(Some(Source::Tail(Some(first), lines)));
                        }
                        Some(_) => {}
                    }
                }
            }
        }
        Ok(ended)
    }
}

fn bundle(folder: &Path, index: u64, width: u64, skip: usize) -> io::Result<Source> {
    let mut entries = entries(folder, index, width)?;
    entries.drain(..skip.min(entries.len()));
    Ok(Source::Bundle(entries.into_iter()))
}

/// The next whole line.
fn line(lines: &mut BufReader<File>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    lines.by_ref().take(MAX_ENTRY as u64 + 1).read_until(b'\n', &mut line)?;
    Ok(line.pop_if(|last| *last == b'\n').map(|_| line))
}

fn missing(index: u64, why: &str) -> io::Error {
    damaged(format!("entry {} is missing: {why}", index.saturating_add(1)))
}
