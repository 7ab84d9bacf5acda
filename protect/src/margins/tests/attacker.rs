//! The attacker, written apart from the protector: unknown are the finest rows' values themselves, and everything known is an inequality
//! over them.

use std::collections::BTreeSet;

use microlp::{ComparisonOp, OptimizationDirection, Problem, Variable};

/// A table and what is told of it.
pub(super) struct Told {
    pub(super) keys: Vec<Vec<Option<u32>>>,
    /// Consistent: totals are the sums of their parts.
    pub(super) truth: Vec<f64>,
    /// The unit that values are rounded to; 0 for none.
    pub(super) unit: f64,
    /// Whether values may be negative.
    pub(super) signed: bool,
    /// Whether all are whole numbers.
    pub(super) whole: bool,
    /// Totals of less are withheld too.
    pub(super) minimum: f64,
    /// Rows that are in the result.
    pub(super) shown: Vec<bool>,
    /// Withheld for being of few, or not shown.
    pub(super) few: Vec<bool>,
    /// Withheld by a rule.
    pub(super) primary: Vec<bool>,
    /// Withheld at all.
    pub(super) withheld: Vec<bool>,
}

/// Between which bounds the sum of these finest rows is.
struct Known {
    /// The keys that all of them have.
    keys: Vec<Option<u32>>,
    low: f64,
    high: f64,
    /// Not told, but taken to be known.
    assumed: bool,
}

impl Told {
    fn finest(&self) -> Vec<usize> {
        (0..self.keys.len()).filter(|row| self.keys[*row].iter().all(Option::is_some)).collect()
    }

    fn covers(total: &[Option<u32>], part: &[Option<u32>]) -> bool {
        (0..total.len()).all(|key| total[key].is_none_or(|value| part[key] == Some(value)))
    }

    fn under(&self, total: &[Option<u32>]) -> Vec<usize> {
        self.finest().into_iter().filter(|row| Self::covers(total, &self.keys[*row])).collect()
    }

    fn rounded(&self, value: f64) -> f64 {
        (value / self.unit).abs().add_half_and_cut() * self.unit * value.signum()
    }

    /// What is rounded to the same: for whole numbers, found by trying.
    fn interval(&self, value: f64) -> (f64, f64) {
        if self.unit == 0.0 {
            return (value, value);
        }
        let rounded = self.rounded(value);
        if self.whole {
            let range = (rounded - self.unit) as i64..=(rounded + self.unit) as i64;
            let same: Vec<i64> = range.filter(|number| (self.signed || *number >= 0) && self.rounded(*number as f64) == rounded).collect();
            return (same[0] as f64, same[same.len() - 1] as f64);
        }
        (rounded - self.unit / 2.0, rounded + self.unit / 2.0)
    }

    /// How far a value must be from what can be worked out.
    fn far(&self, value: f64) -> f64 {
        if self.whole { (value.abs() / 10.0).ceil().max(1.0) } else { value.abs() / 10.0 }
    }

    /// What is known of which finest rows' sums. He asks for every total that the result does not have, and is told it as values are, unless
    /// it is of few, or has one value that another rule withholds and else only such as are of few: the same rule withholds it.
    fn known(&self, withheld: &[bool]) -> Vec<Known> {
        let mut known = Vec::new();
        let mut totals = BTreeSet::new();
        for keys in (0..self.keys.len()).filter(|row| self.shown[*row]).map(|row| &self.keys[row]) {
            for over in 0..1 << keys.len() {
                totals.insert((0..keys.len()).map(|key| if over >> key & 1 == 1 { None } else { keys[key] }).collect::<Vec<_>>());
            }
        }
        for total in totals {
            let rows = self.under(&total);
            let sum: f64 = rows.iter().map(|row| self.truth[*row]).sum();
            let mut large = rows.iter().filter(|row| !self.few[**row]);
            let same = large.next().is_none_or(|row| self.primary[*row]) && large.next().is_none();
            let (low, high) = self.interval(sum);
            match self.keys.iter().position(|keys| *keys == total) {
                Some(row) if withheld[row] => {}
                Some(_) => known.push(Known { keys: total, low, high, assumed: false }),
                None if sum.abs() < self.minimum || same => {}
                None => known.push(Known { keys: total, low, high, assumed: true }),
            }
        }
        known
    }

    /// Whether a value is far enough from what is known of it, below and above.
    pub(super) fn sides(&self, target: usize, (low, high): (f64, f64)) -> [bool; 2] {
        let (value, far) = (self.truth[target], self.far(self.truth[target]));
        if value == 0.0 {
            return [high > 0.0 || low < 0.0; 2];
        }
        [low <= value - far + 1e-4, high >= value + far - 1e-4]
    }

    /// The bounds that can be worked out of a withheld value; `assuming` the totals that are not told, or from what is told alone. Groups that
    /// are not shown may be beside every row that is, with another value of some of its keys.
    pub(super) fn bounds(&self, target: usize, withheld: &[bool], assuming: bool) -> (f64, f64) {
        let known: Vec<Known> = self.known(withheld).into_iter().filter(|known| assuming || !known.assumed).collect();
        let mut places: Vec<Vec<Option<u32>>> = self.finest().into_iter().map(|row| self.keys[row].clone()).collect();
        let visible: Vec<_> = (0..self.keys.len()).filter(|row| self.shown[*row]).map(|row| self.keys[row].clone()).collect();
        for keys in visible.iter().filter(|keys| keys.iter().all(Option::is_some)) {
            for other in 1..1 << keys.len() {
                let outside: Vec<_> = (0..keys.len()).map(|key| if other >> key & 1 == 1 { Some(u32::MAX) } else { keys[key] }).collect();
                if !places.contains(&outside) {
                    places.push(outside);
                }
            }
        }
        let solve = |direction| {
            let mut problem = Problem::new(direction);
            let variables: Vec<(&Vec<Option<u32>>, Variable)> = places
                .iter()
                .map(|keys| {
                    let mine = if Self::covers(&self.keys[target], keys) { 1.0 } else { 0.0 };
                    (keys, problem.add_var(mine, (if self.signed { -1e9 } else { 0.0 }, 1e9)))
                })
                .collect();
            for Known { keys: total, low, high, .. } in &known {
                let sum = || variables.iter().filter(|(keys, _)| Self::covers(total, keys)).map(|(_, variable)| (*variable, 1.0));
                problem.add_constraint(sum(), ComparisonOp::Ge, *low);
                problem.add_constraint(sum(), ComparisonOp::Le, *high);
            }
            problem.solve().expect("the truth is a solution").into_solution().expect("without a limit").objective()
        };
        (solve(OptimizationDirection::Minimize), solve(OptimizationDirection::Maximize))
    }
}

trait Rounding {
    fn add_half_and_cut(self) -> Self;
}

impl Rounding for f64 {
    fn add_half_and_cut(self) -> Self {
        (self + 0.5).floor()
    }
}
