//! What rows and their values add up to, and how that is spread over subjects.

use concordat_policy::ColumnType;
use concordat_protect::Spread;

/// What values add up to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Sum {
    Whole(i64),
    Number(f64),
}

impl Sum {
    pub(super) fn zero(kind: ColumnType) -> Self {
        if kind == ColumnType::Integer { Self::Whole(0) } else { Self::Number(0.0) }
    }

    /// Whole numbers wrap, as they do where rows are added up: who tells a sum sees that it is not what is spread over its contributors.
    /// `None` for numbers that come to none.
    pub(super) fn add(&mut self, other: Self) -> Option<()> {
        match (self, other) {
            (Self::Whole(one), Self::Whole(other)) => *one = one.wrapping_add(other),
            (Self::Number(one), other) => {
                *one += other.number();
                return one.is_finite().then_some(());
            }
            (Self::Whole(_), Self::Number(_)) => return None,
        }
        Some(())
    }

    #[expect(clippy::cast_precision_loss, reason = "a share of a sum")]
    pub(super) fn number(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Number(number) => number,
        }
    }
}

/// Rows, and their subjects.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counted {
    /// Subjects who have one.
    pub(super) singles: i64,
    /// Those who have more, and theirs.
    others: i64,
    of_others: i64,
    spread_of_others: Spread,
}

impl Counted {
    /// Adds one subject's.
    pub(super) fn add(&mut self, rows: i64) {
        if rows == 1 {
            self.singles += 1;
        } else if rows > 1 {
            self.others += 1;
            self.of_others += rows;
            self.spread_of_others.add(number(rows));
        }
    }

    pub(super) fn subjects(&self) -> i64 {
        self.singles + self.others
    }

    pub(super) fn rows(&self) -> i64 {
        self.singles + self.of_others
    }

    pub(super) fn spread(&self) -> Spread {
        let mut spread = Spread::of_ones(self.singles.unsigned_abs());
        spread.merge(&self.spread_of_others);
        spread
    }
}

/// What the values of a group add up to, and how that is spread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Total {
    pub(super) sum: Sum,
    pub(super) spread: Spread,
}

impl Total {
    /// Adds one subject's. `None` for numbers that come to none.
    pub(super) fn add(&mut self, own: Sum) -> Option<()> {
        self.spread.add(own.number());
        self.sum.add(own).filter(|()| self.spread.absolute.is_finite())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of rows, exact below 2^53")]
fn number(rows: i64) -> f64 {
    rows as f64
}
