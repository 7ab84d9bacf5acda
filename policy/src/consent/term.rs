//! When a record speaks, and who may make it for somebody.

use super::Event;

/// When a record speaks, in Unix seconds. Most records have no times: they speak at once and do not expire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Term {
    effective_from: Option<i64>,
    expires_at: Option<i64>,
}

/// Why a record cannot have these times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TermError {
    /// A withdrawal that would wait or end.
    #[error("a withdrawal takes effect at once and does not expire: leave effective_from and expires_at empty")]
    Withdrawn,
    /// An objection that would end.
    #[error("an objection does not expire: it stands until a later given; leave expires_at empty")]
    Objected,
    /// It would never speak.
    #[error("expires_at is not after effective_from")]
    Empty,
}

impl Term {
    /// The times of a record of `event`.
    ///
    /// # Errors
    /// A [`TermError`].
    pub fn of(event: Event, effective_from: Option<i64>, expires_at: Option<i64>) -> Result<Self, TermError> {
        match event {
            Event::Withdrawn if effective_from.or(expires_at).is_some() => Err(TermError::Withdrawn),
            Event::Objected if expires_at.is_some() => Err(TermError::Objected),
            _ if effective_from.zip(expires_at).is_some_and(|(from, until)| from >= until) => Err(TermError::Empty),
            _ => Ok(Self { effective_from, expires_at }),
        }
    }

    /// From which moment on it speaks.
    #[must_use]
    pub fn effective_from(self) -> Option<i64> {
        self.effective_from
    }

    /// The first moment at which it has expired.
    #[must_use]
    pub fn expires_at(self) -> Option<i64> {
        self.expires_at
    }

    /// Whether it speaks at once and for good.
    #[must_use]
    pub fn is_plain(self) -> bool {
        self == Self::default()
    }

    /// Whether it has begun to speak at `now`.
    #[must_use]
    pub fn is_in_effect(self, now: i64) -> bool {
        self.effective_from.is_none_or(|from| from <= now)
    }

    /// Whether it is over at `now`.
    #[must_use]
    pub fn has_expired(self, now: i64) -> bool {
        self.expires_at.is_some_and(|until| until <= now)
    }
}

/// In which capacity somebody acts for a subject. The department sees to it that they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Capacity {
    /// With parental responsibility for a child.
    Parent,
    /// A guardian, or special guardian, of a child.
    Guardian,
    /// Under a lasting power of attorney.
    Attorney,
    /// A deputy whom a court has appointed.
    Deputy,
}

impl Capacity {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Parent, Self::Guardian, Self::Attorney, Self::Deputy];

    /// The capacity as it stands in files and the ledger.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parent => "parent",
            Self::Guardian => "guardian",
            Self::Attorney => "attorney",
            Self::Deputy => "deputy",
        }
    }

    /// The capacity that [`Capacity::as_str`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capacity| capacity.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::Event::{Given, Objected, Withdrawn};
    use super::*;

    #[test]
    fn which_times_a_record_may_have() {
        for (event, from, until, expected) in [
            (Given, None, None, Ok(())),
            (Given, Some(5), None, Ok(())),
            (Given, None, Some(5), Ok(())),
            (Given, Some(5), Some(6), Ok(())),
            (Given, Some(5), Some(5), Err(TermError::Empty)),
            (Given, Some(6), Some(5), Err(TermError::Empty)),
            (Objected, Some(5), None, Ok(())),
            (Objected, None, Some(5), Err(TermError::Objected)),
            (Withdrawn, Some(5), None, Err(TermError::Withdrawn)),
            (Withdrawn, None, Some(5), Err(TermError::Withdrawn)),
            (Withdrawn, None, None, Ok(())),
        ] {
            assert_eq!(Term::of(event, from, until).map(drop), expected, "{event:?} {from:?} {until:?}");
        }
    }

    /// The moment itself is in effect, and has expired.
    #[test]
    fn when_it_speaks_at_the_edges() {
        let term = Term::of(Given, Some(10), Some(20)).unwrap();
        let said: Vec<_> =
            [i64::MIN, 9, 10, 19, 20, i64::MAX].into_iter().map(|now| (term.is_in_effect(now), term.has_expired(now))).collect();
        assert_eq!(said, [(false, false), (false, false), (true, false), (true, false), (true, true), (true, true)]);
        let plain = Term::default();
        assert!([i64::MIN, 0, i64::MAX].into_iter().all(|now| plain.is_in_effect(now) && !plain.has_expired(now)));
    }
}
