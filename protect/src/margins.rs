//! Secondary suppression: which values are withheld beside those that must be, so that none of these can be worked out from totals.
//!
//! ```text
//!             urban  rural  total                          urban  rural  total
//!     north      4     60     64    4 = 64 − 60    →  north    ·      ·     64     a withheld value without partners is
//!     south     80     75    155                      south    ·      ·    155     undone by the totals
//! ```
//!
//! Which ones they are is told, and must not tell what a small group holds. So it is decided from what is public, or nearly:
//!
//! | a value that is | enters as |
//! |---|---|
//! | told | what is told of it, known to half its unit by whoever knows how many contribute; of which a part may go that is surely there |
//! | withheld for being of few, of nobody, or of a published group that is absent | [`Cell::Few`]: nothing else, and alike |
//! | in a group that is not shown | nothing: whether or not there is one, one of few is assumed in every line |
//! | withheld by another rule | its size, taken up to a power of two |
//!
//! What the attacker is taken to know
//! - Of every value that is told, the interval that is rounded to it; of whole numbers, that they are whole.
//! - That values are not negative, where none that is told is.
//! - That a total is the sum of its parts, along every key. A total that the result does not have may be asked for: it is known to half the
//!   unit that it would have ([`Column::half`]), or exactly where nothing is rounded. The total over a hidden value is not known.
//!
//! What is kept: by linear programming over that, a withheld value x is not held within 0.9 x and 1.1 x, and of whole numbers not within less
//! than one on both sides. Where nothing is rounded neither bound is closer. Where values are, their roundings can add up so that one bound is
//! closer, of one value in twenty at most in the tests; and if all of them go the same way as far as they can, that nobody is in a group can
//! show. What whole numbers could be is judged by linear programming, which takes more of them for possible than are.
//!
//! How: for every withheld value, upwards and downwards, differences are looked for that fit all of the above and by which the value is that
//! far away: a *proof*. It must hold whatever the values of few are: another of them may rise in it, and never falls (there may be nobody).
//! First by swaps (`swap.rs`); then a linear program looks for the cheapest values to withhold so that there is one (cost: their size
//! for each unit that they could give, so that few are lost; none, if it can). What turns out not to be needed is told again. In the end every proof is checked by plain
//! arithmetic, not believed.
//!
//! What cannot be kept: where totals that the result does not have tell a withheld value even if all rows are withheld. That is so
//! where one of them has nothing beside it that could be less, or not enough: all its parts are withheld then. Here as there, the smallest of
//! such totals are taken not to be known, and the value is protected from everything else. A question for these totals must protect
//! them; one withheld value and nothing else is withheld there by the same rule. Of three keys or more that is not enough: what others tell
//! of these totals holds some values, and the whole table is withheld instead. Where a proof is not found even so, the solver fails, or time
//! is up, the whole table is withheld: a refusal would tell of it.
//!
//! What the pattern still tells: to a power of two the size of the largest of few in a column of sums, where that is more than as many typical
//! contributors would have, and of each value that another rule withholds; nearly what is told of a value that is withheld in addition.
//!
//! Several columns: what each of them withholds for itself depends on no other, so that no two statements, of which one has a column more,
//! tell more than each column alone does ([`protect_all`]). Beside each other they withhold more.
//!
//! Earlier results: a total that was asked for before, or will be, is taken to be known already, and each answer depends on nothing that was
//! asked before. What is not kept together: a total that is withheld itself, as one contributor makes nearly all of it. The table of such
//! totals withholds another one with it, and a table of their parts can tell that one (`tests/earlier.rs` says how often). Nor are results
//! of other people, of whom a condition chooses some. Both are for a memory of what was told: to withhold whole tables of two keys there,
//! as those of three are, would keep the first, and leave nothing of a table in which one sum is nearly all of its row's.
//!
//! What it does not do: it knows nothing of the rule by which a value is withheld. Who is told that a value is of fewer subjects than the
//! minimum has an upper bound on it. Nor does it know which groups cannot be, as where codes are nested: one of few is assumed there too.
//!
//! Sources: Hundepool et al., *Statistical Disclosure Control* (Wiley, 2012), chapter 4; Kelly, Golden and Assad, *Cell suppression:
//! disclosure protection for sensitive tabular data* (Networks 22, 1992); Fischetti and Salazar, *Models and algorithms for the
//! two-dimensional cell suppression problem in statistical disclosure control* (Mathematical Programming 84, 1999); Repsilber, the hypercube
//! method, as in Giessing and Repsilber, *Tools and strategies to protect multiple tables with the GHQUAR cell suppression engine* (2002);
//! Kenthapadi, Mishra and Nissim, *Simulatable auditing* (PODS 2005): a decision that rests on what is known tells nothing.

mod prove;
mod swap;
mod table;
#[cfg(test)]
mod tests;

use std::time::Duration;

use table::Table;

/// The most cells of a table, with the totals that the result does not have.
pub const MOST_CELLS: usize = 1_000;

/// The most keys of such a table.
pub const MOST_KEYS: usize = 4;

/// What a proof's numbers take for each cell and sum of a table, by a generous estimate.
const BYTES: usize = 8;

/// A row's value in one column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell {
    /// It is told.
    Told {
        /// As it is told.
        value: f64,
        /// Half of how closely it is known, of a sum to whoever has numbers and sums together and knows how many contribute; 0 where it is
        /// told exactly. Noise counts for nothing.
        half: f64,
        /// The least that it can be, for whoever knows only what is told.
        least: f64,
    },
    /// It is withheld, and may be anything from nothing to [`Column::few`].
    Few,
    /// It is withheld by a rule that asks how much it is.
    Large {
        /// Exactly, or as it would be told.
        value: f64,
    },
}

/// What is public of all values of a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Column {
    /// Whether they are whole numbers.
    pub whole: bool,
    /// The most that a value of few could be: [`most_of_few`].
    pub few: f64,
    /// Half the unit that a total would be rounded to; 0 where none is.
    pub half: f64,
}

/// The most that a value of few could be: `typical`, that of as many typical contributors as are few, unless one has more, and then the next
/// power of two.
#[must_use]
pub fn most_of_few(typical: f64, values: impl IntoIterator<Item = f64>) -> f64 {
    let most = values.into_iter().map(f64::abs).fold(0.0, f64::max);
    if most <= typical { typical } else { coarse(most) }
}

/// The least power of two that is not below a size.
fn coarse(size: f64) -> f64 {
    if size <= 0.0 {
        return 0.0;
    }
    let power = size.log2().ceil().exp2();
    if power < size { power * 2.0 } else { power }
}

/// A table in which a value is withheld is too large to say what else must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// Its cells.
    #[error("{asked} cells or more with all totals, of {allowed} that can be protected against being worked out from totals")]
    Cells {
        /// As many at least.
        asked: usize,
        /// [`MOST_CELLS`].
        allowed: usize,
    },
    /// Its keys.
    #[error("{asked} keys, of {allowed} over which values can be protected against being worked out from totals")]
    Keys {
        /// So many.
        asked: usize,
        /// [`MOST_KEYS`].
        allowed: usize,
    },
}

/// Which rows' values of one column are withheld in addition. `keys` are their places: of each key its value's number, `None` for the
/// total over it. Rows that are not shown are not among them. `left` is how much longer it may take: when that is nothing, all are. A table that
/// contradicts itself (the same place twice, numbers that are none) is withheld.
///
/// # Errors
/// The table is larger than can be judged, whether or not something is withheld.
pub fn protect(keys: &[Vec<Option<u32>>], column: &Column, cells: &[Cell], left: &dyn Fn() -> Duration) -> Result<Vec<bool>, TooLarge> {
    withhold(keys, column, cells, left, prove::SOLVED)
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    /// What is public of its values.
    pub column: Column,
    /// They themselves, in the order of the rows.
    pub cells: Vec<Cell>,
    /// Whether they are numbers of subjects or rows.
    pub counted: bool,
}

/// The rows of which values are withheld in addition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Also {
    /// Of which numbers of subjects and rows are.
    pub numbers: Vec<bool>,
    /// Of which sums and means are, all of those too.
    pub all: Vec<bool>,
}

/// The same of all columns of a result: a number is withheld for the sake of any number of its row, as whoever asks for numbers alone is
/// told them, and a sum or mean for the sake of any value.
///
/// # Errors
/// As [`protect`].
pub fn protect_all(keys: &[Vec<Option<u32>>], columns: &[Values], left: &dyn Fn() -> Duration) -> Result<Also, TooLarge> {
    let mut also = Also { numbers: vec![false; keys.len()], all: vec![false; keys.len()] };
    for Values { column, cells, counted } in columns {
        let own = protect(keys, column, cells, left)?;
        let add = |to: &mut Vec<bool>| to.iter_mut().zip(&own).for_each(|(also, own)| *also |= own);
        add(&mut also.all);
        if *counted {
            add(&mut also.numbers);
        }
    }
    Ok(also)
}

/// How much memory [`protect`] takes at most, in bytes, by its cells and their sums.
///
/// # Errors
/// As there.
pub fn memory(keys: &[Vec<Option<u32>>]) -> Result<usize, TooLarge> {
    let column = Column { whole: true, few: 1.0, half: 0.0 };
    let table = Table::new(keys, &column, &vec![Cell::Few; keys.len()], &|| Duration::ZERO)?;
    Ok(table.map_or(0, |table| table.places.len().saturating_mul(table.sums.len()).saturating_mul(BYTES)))
}

fn withhold(
    keys: &[Vec<Option<u32>>],
    column: &Column,
    cells: &[Cell],
    left: &dyn Fn() -> Duration,
    solved: usize,
) -> Result<Vec<bool>, TooLarge> {
    // Its size is judged first: that something is withheld must not show in a refusal.
    let table = Table::new(keys, column, cells, left)?.filter(|_| cells.iter().any(|cell| matches!(cell, Cell::Told { .. })));
    let told = match table {
        Some(mut table) => prove::protect(&mut table, solved).map(|()| table.told()).unwrap_or_default(),
        None => Vec::new(),
    };
    let told = told.into_iter().chain(std::iter::repeat(false));
    Ok(cells.iter().zip(told).map(|(cell, told)| matches!(cell, Cell::Told { .. }) && !told).collect())
}
