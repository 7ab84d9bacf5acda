//! Changes as they arrive from a node, whose every byte is hostile until it has been checked.

use super::{Changes, Pseudonym};
use crate::v1;

/// The longest statement, in bytes.
const MAX_STATEMENT: usize = 8 << 10;

/// Why a message was refused. The texts are fixed: nothing that a node sent stands in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReachError {
    /// No whole number of pseudonyms.
    #[error("bytes that are no whole number of pseudonyms")]
    Ragged,
    /// Not ascending, or one twice.
    #[error("pseudonyms that do not ascend")]
    Order,
    /// Added after others were removed.
    #[error("pseudonyms that are added after others were removed")]
    AddedLate,
    /// Added and removed at once.
    #[error("a pseudonym that is both added and removed")]
    Both,
    /// More than are taken.
    #[error("more than {0} pseudonyms")]
    TooMany(usize),
    /// A message that holds nothing.
    #[error("a message without pseudonyms or statement")]
    Empty,
    /// A statement beside pseudonyms, or one that is too long.
    #[error("a statement beside pseudonyms, or of more than {} KiB", MAX_STATEMENT >> 10)]
    Statement,
    /// Anything after the statement.
    #[error("a message after the statement")]
    AfterTheEnd,
}

/// A stream of changes, read message by message.
#[derive(Debug)]
pub struct Reading {
    most: usize,
    changes: Changes,
    ended: bool,
}

impl Reading {
    /// Takes `most` pseudonyms, added and removed together.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, changes: Changes::default(), ended: false }
    }

    /// Takes the next message. The statement, if it is the last one.
    ///
    /// # Errors
    /// A [`ReachError`]: then nothing of the stream may be used.
    pub fn take(&mut self, message: v1::ReachChanges) -> Result<Option<String>, ReachError> {
        let v1::ReachChanges { added, removed, statement } = message;
        if self.ended {
            return Err(ReachError::AfterTheEnd);
        }
        if !statement.is_empty() {
            if !added.is_empty() || !removed.is_empty() || statement.len() > MAX_STATEMENT {
                return Err(ReachError::Statement);
            }
            self.ended = true;
            return Ok(Some(statement));
        }
        if added.is_empty() && removed.is_empty() {
            return Err(ReachError::Empty);
        }
        if !added.is_empty() && !self.changes.removed.is_empty() {
            return Err(ReachError::AddedLate);
        }
        let room = self.most.saturating_sub(self.changes.added.len() + self.changes.removed.len());
        if (added.len() + removed.len()).div_ceil(size_of::<Pseudonym>()) > room {
            return Err(ReachError::TooMany(self.most));
        }
        append(&mut self.changes.added, &added)?;
        append(&mut self.changes.removed, &removed)?;
        Ok(None)
    }

    /// All that was read.
    ///
    /// # Errors
    /// [`ReachError::Both`].
    pub fn changes(self) -> Result<Changes, ReachError> {
        let mut removed = self.changes.removed.iter().peekable();
        for added in &self.changes.added {
            while removed.next_if(|removed| *removed < added).is_some() {}
            if removed.peek() == Some(&added) {
                return Err(ReachError::Both);
            }
        }
        Ok(self.changes)
    }
}

/// Appends pseudonyms that are greater than all before.
fn append(to: &mut Vec<Pseudonym>, bytes: &[u8]) -> Result<(), ReachError> {
    let (pseudonyms, rest) = bytes.as_chunks::<{ size_of::<Pseudonym>() }>();
    if !rest.is_empty() {
        return Err(ReachError::Ragged);
    }
    let before = to.last().into_iter().chain(pseudonyms);
    if before.zip(if to.is_empty() { pseudonyms.get(1..).unwrap_or_default() } else { pseudonyms }).any(|(before, next)| before >= next) {
        return Err(ReachError::Order);
    }
    to.extend_from_slice(pseudonyms);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(added: &[u8], removed: &[u8]) -> v1::ReachChanges {
        let all = |of: &[u8]| of.iter().flat_map(|n| [*n; 16]).collect();
        v1::ReachChanges { added: all(added), removed: all(removed), statement: String::new() }
    }

    fn read(parts: Vec<v1::ReachChanges>) -> Result<Changes, ReachError> {
        let mut reading = Reading::new(6);
        for part in parts {
            reading.take(part)?;
        }
        reading.changes()
    }

    #[test]
    fn only_what_ascends_within_bounds_is_taken() {
        let end = || v1::ReachChanges { statement: "s".into(), ..Default::default() };
        let taken = read(vec![part(&[1, 3], &[]), part(&[4], &[2]), part(&[], &[5, 9]), end()]).unwrap();
        assert_eq!((taken.added.len(), taken.removed.len()), (3, 3));
        let ragged = |extra: usize| v1::ReachChanges { added: vec![7; 16 + extra], ..Default::default() };
        let refused = [
            (vec![part(&[2, 1], &[])], ReachError::Order),
            (vec![part(&[1, 1], &[])], ReachError::Order),
            (vec![part(&[1], &[]), part(&[1], &[])], ReachError::Order),
            (vec![part(&[2], &[]), part(&[1, 3], &[])], ReachError::Order),
            (vec![part(&[], &[2]), part(&[], &[1])], ReachError::Order),
            (vec![part(&[1], &[2]), part(&[3], &[])], ReachError::AddedLate),
            (vec![part(&[1, 2], &[2])], ReachError::Both),
            (vec![part(&[5], &[]), part(&[], &[1, 5, 6])], ReachError::Both),
            (vec![part(&[1, 2, 3, 4], &[5, 6, 7])], ReachError::TooMany(6)),
            (vec![part(&[1, 2, 3, 4, 5, 6], &[]), part(&[7], &[])], ReachError::TooMany(6)),
            (vec![ragged(1)], ReachError::Ragged),
            (vec![ragged(15)], ReachError::Ragged),
            (vec![part(&[], &[])], ReachError::Empty),
            (vec![end(), part(&[1], &[])], ReachError::AfterTheEnd),
            (vec![end(), end()], ReachError::AfterTheEnd),
            (vec![v1::ReachChanges { statement: "s".into(), ..part(&[1], &[]) }], ReachError::Statement),
            (vec![v1::ReachChanges { statement: "s".repeat(MAX_STATEMENT + 1), ..Default::default() }], ReachError::Statement),
        ];
        for (parts, error) in refused {
            assert_eq!(read(parts.clone()), Err(error), "{parts:?}");
        }
    }
}
