//! Between which bounds a number lies that is told coarsely: interval arithmetic over what the gateway states of its rules.
//!
//! | kind | told as | bounds |
//! |---|---|---|
//! | count | nearest multiple of `round_to`, with noise of at most `most` | ± (half a step + `most`) |
//! | share, mean | the told sum by the told number of values | quotient of the bounds of both |
//!
//! A sum is told as the told number of those who contribute times what each has in the mean, and that mean to multiples of
//! `step(base × mean / told number)`, which is 2.5 times as much at most (`protect/src/units.rs`, `noise.rs`). So it is off by as much as its
//! number is, in told means, and by half a step for each who contributes. Of a share everybody has one: there only the number is coarse. How
//! many contribute, and how much in the mean, is not told beside it: they are taken as the most that they can be, at most the largest that the
//! outcome states.
//!
//! The bounds hold for certain, given the outcome's own word on `largest` and on `counted` (through a link dataset, where sums are told by the
//! other type's subjects, a share's too: state a mean, and the most that one of those has): they are no confidence intervals, and wider than
//! those would be. They say nothing of who is missing from the data.

use serde::{Deserialize, Serialize};

use crate::mission::{Kind, Outcome};
use crate::snapshot::{Cell, Taken};

/// Half of what a step can be at most of what it was taken up from: from just above 2 to 5.
const HALF_STEP: f64 = 2.5 / 2.0;

/// How coarsely an answer tells numbers, as the gateway states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Precision {
    /// Counts are multiples of it; 1: not rounded.
    pub round_to: u32,
    /// The noise on a count; none where it is not perturbed.
    #[serde(default)]
    pub noise: Option<Noise>,
}

/// Noise on a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noise {
    /// Its variance.
    pub variance: u32,
    /// The most, by size.
    pub most: u32,
}

/// Bounds between which a value lies, both included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The lower one.
    pub low: f64,
    /// The upper one.
    pub high: f64,
}

impl Interval {
    /// A value that is exact.
    #[must_use]
    pub fn exact(value: f64) -> Self {
        Self { low: value, high: value }
    }

    /// A value, give or take.
    #[must_use]
    pub fn around(value: f64, by: f64) -> Self {
        Self { low: value - by, high: value + by }
    }

    /// For people: both bounds, or one number where they look the same.
    #[must_use]
    pub fn in_words(self) -> String {
        let (low, high) = (short(self.low), short(self.high));
        if low == high { low } else { format!("{low} to {high}") }
    }

    /// The same, within bounds that its value cannot leave.
    #[must_use]
    pub fn within(self, low: f64, high: f64) -> Self {
        Self { low: self.low.clamp(low, high), high: self.high.clamp(low, high) }
    }

    /// `weight` times it.
    #[must_use]
    pub fn times(self, weight: f64) -> Self {
        let (one, other) = (self.low * weight, self.high * weight);
        Self { low: one.min(other), high: one.max(other) }
    }

    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { low: self.low + other.low, high: self.high + other.high }
    }

    /// It less another.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.plus(other.times(-1.0))
    }

    /// By a positive one.
    fn by(self, number: Self) -> Self {
        let low = if self.low < 0.0 { self.low / number.low } else { self.low / number.high };
        let high = if self.high < 0.0 { self.high / number.high } else { self.high / number.low };
        Self { low, high }
    }
}

/// A value for people: four digits after the point of what is small, none of what is large.
#[must_use]
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size < 10.0 => format!("{value:.4}"),
        size if size < 1_000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Between which bounds the measure of a row lies; `None` where it, or what is needed to tell, is withheld or absent.
#[must_use]
pub fn of_row(outcome: &Outcome, taken: &Taken, row: &[Cell]) -> Option<Interval> {
    let measure = taken.cell(row, &outcome.column)?;
    let value = measure.number()?;
    if measure.status.as_deref() == Some("told") {
        return Some(Interval::exact(value));
    }
    let number = |counted: &String| taken.cell(row, counted).and_then(Cell::number);
    let precision = &taken.stated.precision;
    match &outcome.kind {
        Kind::Count => Some(count(value, precision)),
        Kind::Share { counted } => mean(value, number(counted)?, of_ones(precision), precision).map(|share| share.within(0.0, 1.0)),
        Kind::Mean { counted, largest } => {
            let sum = of_sum(*largest, taken.stated.minimum_subjects, precision);
            mean(value, number(counted)?, sum, precision).map(|mean| mean.within(-largest, *largest))
        }
    }
}

/// Between which bounds a number of subjects lies that is told as `value`.
#[must_use]
pub fn count(value: f64, precision: &Precision) -> Interval {
    let told = Interval::around(value, half_step(precision) + most(precision));
    Interval { low: told.low.max(0.0), high: told.high }
}

/// The same of a mean of so many values, whose sum is told give or take `off`.
fn mean(value: f64, number: f64, off: f64, precision: &Precision) -> Option<Interval> {
    if number < 1.0 {
        return None;
    }
    let behind = count(number, precision);
    // A value stands behind the mean, or it would not be told.
    Some(Interval::around(value * number, off).by(Interval { low: behind.low.max(1.0), high: behind.high.max(1.0) }))
}

/// How far a told number of ones can be from the truth.
fn of_ones(precision: &Precision) -> f64 {
    half_step(precision) + 2.0 * most(precision)
}

/// The same of a sum of values, each at most `largest` by size. Under noise as many as `minimum` have some.
fn of_sum(largest: f64, minimum: u32, precision: &Precision) -> f64 {
    let number = half_step(precision) + most(precision);
    if number <= 0.0 {
        return 0.0;
    }
    let base = f64::from(precision.round_to).max(most(precision));
    // Of the two largest contributions, each with half a unit of its own beside the most.
    let noise = if precision.noise.is_some() { 2.0 * most(precision) + 1.0 } else { 0.0 };
    // In largest contributions: half a step of each who contributes, at most the told number and what that is off by.
    let steps = HALF_STEP * (base + number);
    let told_mean = 1.0 + HALF_STEP + noise / f64::from(minimum.max(1));
    largest * (number * told_mean + steps + noise)
}

fn half_step(precision: &Precision) -> f64 {
    if precision.round_to > 1 { f64::from(precision.round_to) / 2.0 } else { 0.0 }
}

fn most(precision: &Precision) -> f64 {
    precision.noise.map_or(0.0, |noise| f64::from(noise.most))
}

#[cfg(test)]
mod tests {
    use concordat_protect::Spread;
    use concordat_protect::units::{Coarseness, Parts, Shift};

    use super::*;

    fn precision(round_to: u32, most: u32) -> Precision {
        Precision { round_to, noise: (most > 0).then_some(Noise { variance: 1, most }) }
    }

    #[test]
    fn counts_lie_within_half_a_step_and_the_most_noise() {
        for (value, round_to, most, low, high) in [
            (100.0, 1, 0, 100.0, 100.0),
            (100.0, 5, 0, 97.5, 102.5),
            (100.0, 5, 4, 93.5, 106.5),
            (100.0, 1, 4, 96.0, 104.0),
            (0.0, 5, 0, 0.0, 2.5),
        ] {
            assert_eq!(count(value, &precision(round_to, most)), Interval { low, high }, "{value} {round_to} {most}");
        }
    }

    #[test]
    fn a_share_by_hand() {
        // 25 % of 1,000, to multiples of 5: a sum of 247.5 to 252.5 by 997.5 to 1,002.5.
        let of = |precision: &Precision| mean(0.25, 1_000.0, of_ones(precision), precision);
        let share = of(&precision(5, 0)).unwrap();
        assert!((share.low - 247.5 / 1_002.5).abs() < 1e-12 && (share.high - 252.5 / 997.5).abs() < 1e-12, "{share:?}");
        assert_eq!(mean(0.25, 0.0, 2.5, &precision(5, 0)), None);
        assert_eq!(of(&precision(1, 0)), Some(Interval::exact(0.25)));
    }

    /// What is told of the mean of these values, and of their number: by the gateway's own rule, with noise at will.
    fn told(values: &[f64], precision: &Precision, people: i64, sum: f64) -> (f64, f64) {
        let coarseness =
            Coarseness { base: precision.round_to, of_mean: precision.round_to.max(precision.noise.map_or(0, |noise| noise.most)) };
        let spread = |values: &[f64]| {
            let mut spread = Spread::default();
            values.iter().for_each(|value| spread.add(*value));
            spread
        };
        let (of, ones) = (spread(values), spread(&vec![1.0; values.len()]));
        let exact: f64 = values.iter().sum();
        let parts = Parts::new(coarseness, &of, exact, Shift { people, sum });
        let number = Parts::new(coarseness, &ones, values.len() as f64, Shift { people, sum: 0.0 });
        let tell = |parts: &Option<Parts>, exact: f64| parts.map_or(exact, |parts| parts.value());
        let told_number = tell(&number, values.len() as f64);
        let mean = match (parts, number) {
            (Some(sum), Some(number)) => sum.by(&number),
            _ => tell(&parts, exact) / told_number.max(1.0),
        };
        (mean, told_number)
    }

    /// Where a step is most of what it can be: 5 times 9.74 by 240 is a little more than 0.2, and is taken up to 0.5.
    #[test]
    fn a_mean_that_is_told_most_coarsely() {
        let values: Vec<f64> = (0..240).map(|one| if one % 2 == 0 { 9.48 } else { 10.0 }).collect();
        let (told, number) = told(&values, &precision(5, 0), 0, 0.0);
        assert_eq!((told, number), (9.5, 240.0));
        let bounds = mean(told, number, of_sum(10.0, 10, &precision(5, 0)), &precision(5, 0)).unwrap();
        assert!(bounds.low <= 9.74 && 9.74 <= bounds.high, "{bounds:?}");
    }

    /// Whatever the truth, told as the gateway tells it, the bounds hold it.
    #[test]
    fn the_truth_lies_between_the_bounds() {
        arbtest::arbtest(|u| {
            let round_to = u.int_in_range(1..=100_u32)?;
            let most = if u.arbitrary()? { u.int_in_range(2..=20_u32)? } else { 0 };
            let precision = precision(round_to, most);
            let largest = f64::from(u.int_in_range(1..=1_000_u32)?) / 10.0;
            let people = u.int_in_range(10..=400_usize)?;
            let (lowest, are_ones) = (u.int_in_range(-100..=100_i32)?, u.ratio(1, 4)?);
            let value = |u: &mut arbtest::arbitrary::Unstructured<'_>| -> arbtest::arbitrary::Result<f64> {
                if are_ones {
                    return Ok(f64::from(u8::from(u.arbitrary::<bool>()?)));
                }
                Ok(largest * f64::from(u.int_in_range(lowest..=100)?) / 100.0)
            };
            let values = (0..people).map(|_| value(u)).collect::<arbtest::arbitrary::Result<Vec<f64>>>()?;
            let contributing = values.iter().filter(|value| **value != 0.0).count();
            if contributing < 10 {
                return Ok(());
            }
            let shift = i64::from(u.int_in_range(0..=2 * most)?) - i64::from(most);
            let most = f64::from(most);
            let even = values.iter().filter(|value| **value != 0.0).all(|value| *value == values.iter().copied().fold(0.0, f64::max));
            let own =
                if most > 0.0 && !even { (2.0 * most + 1.0) * largest * f64::from(u.int_in_range(-100..=100_i32)?) / 100.0 } else { 0.0 };
            let (mean_told, number) = told(&values, &precision, shift, own);
            if number < 1.0 {
                return Ok(());
            }
            let off = if are_ones { of_ones(&precision) } else { of_sum(largest, 10, &precision) };
            let (bounds, truth) = (mean(mean_told, number, off, &precision).unwrap(), values.iter().sum::<f64>() / people as f64);
            assert!(
                bounds.low <= truth + 1e-9 && truth <= bounds.high + 1e-9,
                "{truth} is not in {bounds:?}, told as {mean_told} of {number}"
            );
            let behind = count(number, &precision);
            assert!(behind.low <= people as f64 && people as f64 <= behind.high);
            Ok(())
        })
        .budget_ms(3_000);
    }
}
