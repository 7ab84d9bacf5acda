//! The file behind the log: opened under a lock, its end made whole, appended to and synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The longest line, in bytes.
pub(crate) const MAX_LINE: usize = 65_535;

/// An open log file.
#[derive(Debug)]
pub(crate) struct LogFile {
    file: File,
    /// Bytes that are known to be whole lines.
    length: u64,
    /// The number of the last entry.
    pub(crate) last: u64,
}

pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join("log.jsonl")
}

impl LogFile {
    /// Opens (or creates) the log in `folder`. A torn last line, left by a crash before its entry was acknowledged, is kept
    /// as evidence in a file of its own and cut off.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let path = path(folder);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        file.try_lock().map_err(|e| io::Error::other(format!("another process writes this log: {e}")))?;
        let size = file.metadata()?.len();
        let (length, last) = whole_lines(&mut file, size)?;
        if length < size {
            file.seek(SeekFrom::Start(length))?;
            let mut torn = Vec::new();
            (&mut file).take(MAX_LINE as u64 * 64).read_to_end(&mut torn)?;
            fs::write(folder.join(format!("torn-after-{last}")), &torn)?;
            file.set_len(length)?;
            file.sync_all()?;
        }
        File::open(folder)?.sync_all()?;
        file.seek(SeekFrom::Start(length))?;
        Ok(Self { file, length, last })
    }

    /// Writes whole lines and waits until they are on stable storage. After an error the file must be reopened.
    pub(crate) fn append(&mut self, lines: &[u8], entries: u64) -> io::Result<()> {
        self.file.write_all(lines)?;
        self.file.sync_data()?;
        self.length += lines.len() as u64;
        self.last += entries;
        Ok(())
    }

    /// Removes what a failed append may have left behind, so that an entry that was refused is never found later.
    pub(crate) fn cut_back(&mut self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.file.sync_all()?;
        self.file.seek(SeekFrom::Start(self.length))?;
        Ok(())
    }
}

/// The length of the whole lines at the file's start, and the last entry's number.
fn whole_lines(file: &mut File, size: u64) -> io::Result<(u64, u64)> {
    let window = size.min(2 * MAX_LINE as u64 + 2);
    file.seek(SeekFrom::Start(size - window))?;
    let mut tail = vec![0; usize::try_from(window).map_err(io::Error::other)?];
    file.read_exact(&mut tail)?;
    let Some(end) = tail.iter().rposition(|b| *b == b'\n') else {
        return if size == window { Ok((0, 0)) } else { Err(io::Error::other("the log's end holds no whole line: it was damaged")) };
    };
    let before = tail.get(..end).unwrap_or_default();
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1);
    let line: serde_json::Value = serde_json::from_slice(before.get(start..).unwrap_or_default())
        .map_err(|_| io::Error::other("the log's last whole line is not an entry: it was damaged"))?;
    let last =
        line.get("entry").and_then(serde_json::Value::as_u64).ok_or_else(|| io::Error::other("the log's last line has no number"))?;
    Ok((size - window + end as u64 + 1, last))
}
