//! The attacker, written apart from the protector: unknown are the finest rows' values themselves, and everything known is an inequality
//! over them. Whole tables of few numbers he goes through one by one.

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
    /// Withheld by a rule.
    pub(super) primary: Vec<bool>,
    /// Withheld at all.
    pub(super) withheld: Vec<bool>,
}

/// Between which bounds the sum of these finest rows is.
struct Known {
    rows: Vec<usize>,
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

    pub(super) fn under(&self, total: &[Option<u32>]) -> Vec<usize> {
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
        if self.truth.iter().all(|value| value.fract() == 0.0) {
            let range = (rounded - self.unit) as i64..=(rounded + self.unit) as i64;
            let same: Vec<i64> = range.filter(|number| (self.signed || *number >= 0) && self.rounded(*number as f64) == rounded).collect();
            return (same[0] as f64, same[same.len() - 1] as f64);
        }
        (rounded - self.unit / 2.0, rounded + self.unit / 2.0)
    }

    /// How far a value must be from what can be worked out.
    pub(super) fn far(&self, value: f64) -> f64 {
        if self.truth.iter().all(|value| value.fract() == 0.0) { (value.abs() / 10.0).ceil().max(1.0) } else { value.abs() / 10.0 }
    }

    fn known(&self, withheld: &[bool]) -> Vec<Known> {
        let mut known = Vec::new();
        let mut totals = BTreeSet::new();
        for keys in &self.keys {
            for over in 0..1 << keys.len() {
                totals.insert((0..keys.len()).map(|key| if over >> key & 1 == 1 { None } else { keys[key] }).collect::<Vec<_>>());
            }
        }
        for total in totals {
            let rows = self.under(&total);
            let sum = rows.iter().map(|row| self.truth[*row]).sum();
            match self.keys.iter().position(|keys| *keys == total) {
                Some(row) if withheld[row] => {}
                Some(_) => {
                    let (low, high) = self.interval(sum);
                    known.push(Known { rows, low, high, assumed: false });
                }
                // One withheld value and nothing else: the same rule withholds it.
                None if rows.len() == 1 && self.primary[rows[0]] => {}
                None => known.push(Known { rows, low: sum, high: sum, assumed: true }),
            }
        }
        known
    }

    /// A total that no row has and that is one withheld value nearly alone tells it: its other parts must not be told too.
    pub(super) fn check_parts(&self, target: usize) {
        let (value, mine) = (self.truth[target], self.under(&self.keys[target]));
        let least = value + self.far(value) * (1.0 - 1e-4);
        let known = self.known(&self.withheld);
        let alone = |known: &&Known| !self.signed && known.assumed && mine.iter().all(|row| known.rows.contains(row)) && known.high < least;
        for row in known.iter().filter(alone).flat_map(|known| &known.rows).filter(|_| self.keys[target].iter().all(Option::is_some)) {
            assert!(self.withheld[*row], "a part of a total that is one value nearly");
        }
    }

    /// The bounds that can be worked out of a withheld value; `assuming` the totals that are not told, or from what is told alone.
    pub(super) fn bounds(&self, target: usize, withheld: &[bool], assuming: bool) -> (f64, f64) {
        let known: Vec<Known> = self.known(withheld).into_iter().filter(|known| assuming || !known.assumed).collect();
        let solve = |direction| {
            let mut problem = Problem::new(direction);
            let mine = self.under(&self.keys[target]);
            let variables: Vec<(usize, Variable)> = (self.finest().into_iter())
                .map(|row| (row, problem.add_var(if mine.contains(&row) { 1.0 } else { 0.0 }, (if self.signed { -1e9 } else { 0.0 }, 1e9))))
                .collect();
            for Known { rows, low, high, .. } in &known {
                let sum = || variables.iter().filter(|(row, _)| rows.contains(row)).map(|(_, variable)| (*variable, 1.0));
                problem.add_constraint(sum(), ComparisonOp::Ge, *low);
                problem.add_constraint(sum(), ComparisonOp::Le, *high);
            }
            problem.solve().expect("the truth is a solution").into_solution().expect("without a limit").objective()
        };
        (solve(OptimizationDirection::Minimize), solve(OptimizationDirection::Maximize))
    }

    /// Of every finest row the values that it has in all tables of whole numbers that could be the truth.
    pub(super) fn possible(&self) -> Vec<BTreeSet<i64>> {
        let (known, finest) = (self.known(&self.withheld), self.finest());
        let mut possible = vec![BTreeSet::new(); self.keys.len()];
        let mut table = vec![0; self.keys.len()];
        go_through(&known, &finest, 0, &mut table, &mut possible);
        possible
    }
}

/// What an unknown number may be at most where nothing bounds it.
const MOST: i64 = 40;

fn go_through(known: &[Known], finest: &[usize], place: usize, table: &mut [i64], possible: &mut [BTreeSet<i64>]) {
    let sum = |table: &[i64], known: &Known| known.rows.iter().map(|row| table[*row]).sum::<i64>() as f64;
    let Some(&row) = finest.get(place) else {
        if known.iter().all(|known| sum(table, known) >= known.low) {
            finest.iter().for_each(|row| {
                possible[*row].insert(table[*row]);
            });
        }
        return;
    };
    for value in 0..=MOST {
        table[row] = value;
        let over = known.iter().any(|known| sum(table, known) > known.high);
        let rest: BTreeSet<usize> = finest[place + 1..].iter().copied().collect();
        let complete = |known: &&Known| !known.rows.iter().any(|row| rest.contains(row));
        let short = known.iter().filter(complete).any(|known| sum(table, known) < known.low);
        if over {
            break;
        }
        if !short {
            go_through(known, finest, place + 1, table, possible);
        }
    }
    table[row] = 0;
}

trait Rounding {
    fn add_half_and_cut(self) -> Self;
}

impl Rounding for f64 {
    fn add_half_and_cut(self) -> Self {
        (self + 0.5).floor()
    }
}
