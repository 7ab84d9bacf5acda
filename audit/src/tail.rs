//! The tail: entries that are durable and may not be in a full bundle yet, as lines. Appended to and synced; replaced by what is left
//! when bundles that cover its beginning are durable.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;

use serde_json::Value;

use crate::disk::Disk;
use crate::tile::{MAX_ENTRY, damaged};

/// The name of the tail in the folder.
pub(crate) const TAIL: &str = "tail";

/// The open tail.
#[derive(Debug)]
pub(crate) struct Tail {
    disk: Disk,
    file: File,
    /// The number of the first entry that is in it, or would be.
    first: u64,
    /// Of every line in it, in bytes.
    lengths: VecDeque<u64>,
    /// Bytes that are known to be whole lines.
    length: u64,
}

impl Tail {
    /// Opens (or creates) the tail of a log whose checkpoint covers `size` entries, and reads it. A torn last line, left by a crash
    /// before its entry was acknowledged, is kept as evidence in a file of its own and cut off; where it is `known` which entry was
    /// acknowledged last, so is all after it.
    pub(crate) fn open(disk: &Disk, size: u64, known: Option<u64>) -> io::Result<(Self, Vec<Vec<u8>>)> {
        let path = disk.path(TAIL);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        disk.settle(&disk.folder)?;
        let bytes = file.metadata()?.len();
        let (mut entries, mut lengths, mut length) = (Vec::new(), VecDeque::new(), 0);
        let mut first = None;
        let mut lines = BufReader::new((&mut file).take(bytes));
        loop {
            let next = first.unwrap_or(size + 1) + entries.len() as u64;
            let mut line = Vec::new();
            lines.by_ref().take(MAX_ENTRY as u64 + 1).read_until(b'\n', &mut line)?;
            let whole = line.last() == Some(&b'\n');
            let beyond = known.is_some_and(|known| next > known);
            if line.is_empty() || beyond || (!whole && line.len() <= MAX_ENTRY) {
                break;
            }
            let read = line.len() as u64;
            line.pop();
            let number = number(&line).filter(|number| whole && (first.is_none() || *number == next));
            let number =
                number.ok_or_else(|| damaged(format!("entry {next} in the tail is not what was written: the tail was changed")))?;
            first.get_or_insert(number);
            entries.push(line);
            lengths.push_back(read);
            length += read;
        }
        let mut tail = Self { disk: disk.clone(), file, first: first.unwrap_or(size + 1), lengths, length };
        if let Some(known) = known.filter(|known| *known != tail.last()) {
            return Err(damaged(format!("the tail ends at entry {}, and entry {known} was acknowledged: entries were lost", tail.last())));
        }
        if length < bytes {
            tail.keep_torn()?;
        }
        tail.file.seek(SeekFrom::Start(length))?;
        Ok((tail, entries))
    }

    /// The number of the first entry that it holds, or would.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The number of the last entry.
    pub(crate) fn last(&self) -> u64 {
        (self.first + self.lengths.len() as u64).saturating_sub(1)
    }

    /// Writes entries and waits until they are on stable storage. After an error, [`Tail::cut_back`] or reopen it.
    pub(crate) fn append(&mut self, entries: &[Vec<u8>]) -> io::Result<()> {
        let mut lines = Vec::with_capacity(entries.iter().map(|entry| entry.len() + 1).sum());
        for entry in entries {
            lines.extend(entry);
            lines.push(b'\n');
        }
        self.disk.append(&mut self.file, &lines)?;
        self.length += lines.len() as u64;
        self.lengths.extend(entries.iter().map(|entry| entry.len() as u64 + 1));
        Ok(())
    }

    /// Removes what a failed append may have left behind, so that an entry that was refused is never found later.
    pub(crate) fn cut_back(&mut self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.file.sync_all()?;
        self.file.seek(SeekFrom::Start(self.length))?;
        Ok(())
    }

    /// Replaces the tail by its entries after `covered`. After an error it must be reopened: either of the two may be there.
    pub(crate) fn forget(&mut self, covered: u64) -> io::Result<()> {
        let gone = usize::try_from((covered + 1).saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.lengths.len());
        let start: u64 = self.lengths.range(..gone).sum();
        let mut left = Vec::new();
        self.file.seek(SeekFrom::Start(start))?;
        (&mut self.file).take(self.length - start).read_to_end(&mut left)?;
        let (new, mut file) = self.disk.write_new(TAIL, &left)?;
        self.disk.replace(&new, TAIL)?;
        file.seek(SeekFrom::End(0))?;
        self.file = file;
        self.lengths.drain(..gone);
        self.first += gone as u64;
        self.length -= start;
        Ok(())
    }

    fn keep_torn(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.length))?;
        let mut torn = Vec::new();
        (&mut self.file).take(MAX_ENTRY as u64 * 64).read_to_end(&mut torn)?;
        self.disk.publish(&[(format!("torn-after-{}", self.last()), torn)])?;
        self.cut_back()
    }
}

/// The number that an entry says it has.
pub(crate) fn number(entry: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(entry).ok()?.get("entry")?.as_u64()
}
