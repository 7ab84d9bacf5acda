//! Secondary suppression: which values are withheld beside those that must be, so that none of these can be worked out from totals.
//!
//! ```text
//!             urban  rural  total                          urban  rural  total
//!     north      4     60     64    4 = 64 − 60    →  north    ·      ·     64     a withheld value without partners is
//!     south     80     75    155                      south    ·      ·    155     undone by the totals
//! ```
//!
//! What the attacker is taken to know
//! - Of every value that is told, the interval that is rounded to it; of counts and other whole numbers, that they are whole.
//! - That values are not negative, where they are not.
//! - That a total is the sum of its parts, along every key. A total that the result does not have is known exactly, as a later question
//!   may ask for it: the grand total, and those over every combination of keys. Except where it is one withheld value and nothing else:
//!   it has the same contributors, and the same rule withholds it.
//!
//! What is kept: by linear programming over that, a withheld value x lies between no closer bounds than 0.9 x and 1.1 x, and of whole
//! numbers one less and one more at least (of a zero: from 0 to 1, or to a tenth of the smallest size in the table).
//!
//! How: for every withheld value, upwards and downwards, other numbers are looked for that fit all of the above and in which the value is
//! that far away: a *proof*. First by swaps (`swap.rs`); then a linear program looks for the cheapest values to withhold so that there is
//! one (cost: their size, so that few subjects are lost; none, if it can). What turns out not to be needed is told again. In the end every
//! proof is checked by plain arithmetic, not believed.
//!
//! What cannot be kept: where totals that the result does not have tell a withheld value even if all rows are withheld. That is so
//! where one of them consists of it to more than ten elevenths: all its parts are withheld then. Here as there, the smallest of
//! such totals are taken not to be known, and the value is protected from everything else. A question for these totals must protect
//! them. Where a proof is not found even so, or the solver fails, the whole table is withheld.
//!
//! How long, of up to 1,000 cells: typical tables a few hundredths of a second to some tenths; the worst that were found, of which four
//! fifths are withheld by rule, one to three seconds (two keys, dense; three keys, sparse).
//!
//! What it does not do: it knows nothing of the rule by which a value is withheld. Who is told that a value is of fewer subjects than the
//! minimum has an upper bound on it.
//!
//! Sources: Hundepool et al., *Statistical Disclosure Control* (Wiley, 2012), chapter 4; Kelly, Golden and Assad, *Cell suppression:
//! disclosure protection for sensitive tabular data* (Networks 22, 1992); Fischetti and Salazar, *Models and algorithms for the
//! two-dimensional cell suppression problem in statistical disclosure control* (Mathematical Programming 84, 1999); Repsilber, the hypercube
//! method, as in Giessing and Repsilber, *Tools and strategies to protect multiple tables with the GHQUAR cell suppression engine* (2002).

mod prove;
mod swap;
mod table;
#[cfg(test)]
mod tests;

use table::Table;

/// The most cells of a table, with the totals that the result does not have.
pub const MOST_CELLS: usize = 1_000;

/// The most keys of such a table.
pub const MOST_KEYS: usize = 4;

/// A row's value in one column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// What it is, exactly.
    pub value: f64,
    /// Half the unit that it is rounded to (`rounding::to_unit`); 0 where it is told exactly. Noise counts for nothing.
    pub half: f64,
    /// Whether it is known not to be negative.
    pub nonnegative: bool,
    /// Whether it is withheld already.
    pub withheld: bool,
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
/// total over it. A table that contradicts itself (the same place twice, numbers that are none) is withheld.
///
/// # Errors
/// The table is larger than can be judged, whether or not something is withheld.
pub fn protect(keys: &[Vec<Option<u32>>], cells: &[Cell]) -> Result<Vec<bool>, TooLarge> {
    withhold(keys, cells, prove::SOLVED)
}

fn withhold(keys: &[Vec<Option<u32>>], cells: &[Cell], solved: usize) -> Result<Vec<bool>, TooLarge> {
    // Its size is judged first: that something is withheld must not show in a refusal.
    let table = Table::new(keys, cells)?;
    if cells.iter().all(|cell| !cell.withheld) {
        return Ok(vec![false; cells.len()]);
    }
    let told = match table {
        Some(mut table) => prove::protect(&mut table, solved).map(|()| table.told()).unwrap_or_default(),
        None => Vec::new(),
    };
    let told = told.into_iter().chain(std::iter::repeat(false));
    Ok(cells.iter().zip(told).map(|(cell, told)| !cell.withheld && !told).collect())
}
