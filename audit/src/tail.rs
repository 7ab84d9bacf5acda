//! The tail: entries that are durable and may not be in a full bundle yet, as lines. Appended to and synced; replaced by what is left
//! when bundles that cover its beginning are durable.
//!
//! What a crash leaves at its end is mended where nothing that was acknowledged can be lost by it, and is a damage otherwise:
//!
//! | the end | |
//! |---|---|
//! | an entry to its last brace, without the end of its line | it is ended: it may have been acknowledged |
//! | the beginning of an entry, or zeros for what was never written | it was not acknowledged: kept as evidence, and cut off |
//! | anything else, also within | somebody or something changed the tail |

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;

use serde_json::Value;

use crate::disk::{Disk, which};
use crate::tile::{MAX_ENTRY, damaged, damaged_but};
use crate::tree::WIDTH;

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
    /// What is to be mended.
    end: End,
}

/// How the file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    /// The last entry lacks the end of its line.
    Unended,
    /// After whole lines there is more, which nobody was told of.
    Torn,
}

impl Tail {
    /// Opens (or creates) the tail of a log whose checkpoint covers `size` entries, and reads it; nothing is changed before [`Tail::mend`].
    /// Where it is `known` which entry was acknowledged last, all after it is torn.
    pub(crate) fn open(disk: &Disk, size: u64, known: Option<u64>) -> io::Result<(Self, Vec<Vec<u8>>)> {
        let path = disk.path(TAIL);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        disk.settle(&disk.folder)?;
        let bytes = file.metadata()?.len();
        let (mut entries, mut lengths, mut length) = (Vec::new(), VecDeque::new(), 0);
        let (mut first, mut end) = (None, End::Whole);
        let mut lines = BufReader::new((&mut file).take(bytes));
        loop {
            let next = first.unwrap_or(size + 1) + entries.len() as u64;
            let mut line = Vec::new();
            lines.by_ref().take(MAX_ENTRY as u64 + 1).read_until(b'\n', &mut line)?;
            if line.is_empty() {
                break;
            }
            // The first line says itself where the tail begins.
            if first.is_some() && known.is_some_and(|known| next > known) {
                end = End::Torn;
                break;
            }
            let line_number = entries.len() as u64 + 1;
            // A tail whose first line says nothing begins where the last full bundle ends, or before.
            let is_beyond = next > size && (first.is_some() || size.is_multiple_of(WIDTH));
            let changed = || {
                if is_beyond {
                    return added(disk, next, line_number, "it is not what was written: something was added, or changed");
                }
                damaged(format!("entry {next} in the tail is not what was written: the tail was changed"))
            };
            let whole = line.pop_if(|last| *last == b'\n').is_some();
            if !whole {
                line.truncate(line.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1)));
                if line.len() > MAX_ENTRY || !are_zeros(&mut lines)? {
                    return Err(changed());
                }
            }
            let number = number(&line).filter(|number| first.is_none() || *number == next);
            if !whole && number.is_none() && is_beginning(&line) {
                end = End::Torn;
                break;
            }
            let number = number.ok_or_else(changed)?;
            if known.is_some_and(|known| number > known) {
                end = End::Torn;
                break;
            }
            let read = line.len() as u64 + 1;
            first.get_or_insert(number);
            entries.push(line);
            lengths.push_back(read);
            length += read;
            if !whole {
                end = End::Unended;
                break;
            }
        }
        let tail = Self { disk: disk.clone(), file, first: first.unwrap_or(size + 1), lengths, length, end };
        if let Some(known) = known.filter(|known| *known != tail.last()) {
            return Err(damaged(format!("the tail ends at entry {}, and entry {known} was acknowledged: entries were lost", tail.last())));
        }
        Ok((tail, entries))
    }

    /// Mends its end, so that entries can follow.
    pub(crate) fn mend(&mut self) -> io::Result<()> {
        match self.end {
            End::Whole => {}
            End::Unended => {
                // Zeros may stand where the end should.
                self.file.set_len(self.length.saturating_sub(1))?;
                self.file.seek(SeekFrom::End(0))?;
                self.disk.append(&mut self.file, b"\n")?;
            }
            End::Torn => self.keep_torn()?,
        }
        self.end = End::Whole;
        self.file.seek(SeekFrom::Start(self.length))?;
        Ok(())
    }

    /// The number of the first entry that it holds, or would.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The number of the last entry.
    pub(crate) fn last(&self) -> u64 {
        (self.first + self.lengths.len() as u64).saturating_sub(1)
    }

    /// That the file is the one in the folder, and as long as it was left: looked at before each write, for two calls of the system. What
    /// somebody else did to it is read where it is opened anew.
    pub(crate) fn is_as_it_was_left(&self) -> io::Result<()> {
        let open = self.file.metadata()?;
        let length = open.len();
        let is_there = which(fs::metadata(self.disk.path(TAIL))) == which(Ok(open));
        if is_there && length == self.length {
            return Ok(());
        }
        let what = if is_there { format!("it has {length} bytes and was left with {}", self.length) } else { "it was moved away".into() };
        Err(damaged(format!("the tail was changed while the log is open: {what}")))
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

/// That the entry in this line of the tail, which no checkpoint covers, is not the log's own, and how to go on without it.
pub(crate) fn added(disk: &Disk, number: u64, line: u64, why: &str) -> io::Error {
    let (left, tail) = (line.saturating_sub(1), disk.path(TAIL));
    damaged_but(
        format!("entry {number}, in line {line} of the tail, is under no checkpoint, and {why}"),
        format!(
            "keep a copy of the folder as evidence, then take this line and all after it out of {}: only its first {left} line(s) stay; \
             nothing is to be restored. Where an earlier version of this program wrote them and was killed, start that one once more \
             instead, and stop it",
            tail.display()
        ),
    )
}

/// Whether a line is the beginning of an entry: JSON that is good so far. Of one that was never written nothing is there.
fn is_beginning(line: &[u8]) -> bool {
    let is_cut = || serde_json::from_slice::<serde::de::IgnoredAny>(line).is_err_and(|e| e.is_eof());
    line.first().is_none_or(|first| *first == b'{' && is_cut())
}

/// Whether nothing follows but zeros, which stand where a file had grown and was not written yet.
fn are_zeros(rest: &mut impl io::BufRead) -> io::Result<bool> {
    loop {
        let more = rest.fill_buf()?;
        if more.is_empty() || more.iter().any(|byte| *byte != 0) {
            return Ok(more.is_empty());
        }
        let length = more.len();
        rest.consume(length);
    }
}

/// The number that an entry says it has.
pub(crate) fn number(entry: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(entry).ok()?.get("entry")?.as_u64()
}
