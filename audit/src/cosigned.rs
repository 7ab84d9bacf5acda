//! Cosignatures on the log's checkpoints. While witnesses look at one, the log may publish the next: so the latest cosigned checkpoint
//! is kept beside the latest one.

use std::fs;
use std::io;

use crate::integrate::Shared;
use crate::key::Signed;

/// The latest checkpoint that has cosignatures.
pub(crate) const COSIGNED: &str = "checkpoint.cosigned";

/// The longest checkpoint with its signatures, in bytes.
const LONGEST: usize = 64 << 10;

/// New lines for a checkpoint.
pub(crate) struct Cosigned<'a> {
    pub(crate) signed: Signed,
    pub(crate) checkpoint: &'a str,
    pub(crate) lines: &'a str,
}

/// Whether all of a text are whole signature lines.
pub(crate) fn are_signatures(lines: &str) -> bool {
    let control = lines.chars().any(|c| c.is_control() && c != '\n');
    !control && lines.ends_with('\n') && lines.lines().all(|line| line.strip_prefix("— ").is_some_and(|rest| rest.split(' ').count() == 2))
}

/// Puts them where they belong, on the disk first.
pub(crate) fn add(shared: &Shared, new: &Cosigned<'_>) -> io::Result<()> {
    shared.replace(|latest| {
        let mut files = Vec::new();
        let same = |text: &str| shared.key.read(text).as_ref() == Some(&new.signed);
        let kept = fs::read_to_string(shared.disk.path(COSIGNED)).ok();
        let older = kept.as_deref().and_then(|kept| shared.key.read(kept)).is_some_and(|kept| kept.size > new.signed.size);
        if !older {
            let before = kept.as_deref().filter(|kept| same(kept)).unwrap_or(new.checkpoint);
            files.push((COSIGNED.to_owned(), join(before, new.lines)?.into_bytes()));
        }
        let latest = if same(latest) { Some(join(latest, new.lines)?) } else { None };
        Ok((files, latest))
    })
}

/// A note with those lines that it does not have yet.
fn join(note: &str, lines: &str) -> io::Result<String> {
    let mut joined = note.to_owned();
    for line in lines.lines().filter(|line| !note.lines().any(|has| has == *line)) {
        joined.push_str(line);
        joined.push('\n');
    }
    if joined.len() > LONGEST { Err(io::Error::other("a checkpoint with more cosignatures than it may have")) } else { Ok(joined) }
}
