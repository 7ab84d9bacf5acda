//! Between which bounds a number lies that is told coarsely: interval arithmetic over what the gateway states of its rules.
//!
//! | kind | told as | bounds |
//! |---|---|---|
//! | count | nearest multiple of `round_to`, with noise of at most `most` | ± (half a step + `most`) |
//! | share, mean | the told sum by the told number of values | quotient of the bounds of both |
//!
//! A sum is rounded in units of `round_to` times the mean of its contributions, taken up to the next 1, 2 or 5 times a power of ten; the mean
//! contribution is not told, and at most the largest that the outcome states (1 for a share). Under noise the base of that unit is at least
//! `most`, and a sum's noise at most twice `most` contributions (`protect/src/rounding.rs`, `noise.rs`; README, rules of disclosure).
//!
//! The bounds hold for certain, given the outcome's own word on `largest` and on `counted`: they are no confidence intervals, and wider than
//! those would be. They say nothing of who is missing from the data.

use serde::{Deserialize, Serialize};

use crate::mission::{Kind, Outcome};
use crate::snapshot::{Cell, Taken};

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
        Kind::Share { counted } => mean(value, number(counted)?, 1.0, precision).map(|share| share.within(0.0, 1.0)),
        Kind::Mean { counted, largest } => mean(value, number(counted)?, *largest, precision).map(|mean| mean.within(-largest, *largest)),
    }
}

/// Between which bounds a number of subjects lies that is told as `value`.
#[must_use]
pub fn count(value: f64, precision: &Precision) -> Interval {
    let told = Interval::around(value, half_step(precision) + most(precision));
    Interval { low: told.low.max(0.0), high: told.high }
}

/// The same of a mean of so many values, each at most `largest` by size.
fn mean(value: f64, number: f64, largest: f64, precision: &Precision) -> Option<Interval> {
    if number < 1.0 {
        return None;
    }
    let noise = most(precision);
    let base = f64::from(precision.round_to).max(noise);
    let unit = if base > 1.0 { step(base * largest) } else { 0.0 };
    let sum = Interval::around(value * number, unit / 2.0 + 2.0 * noise * largest);
    let behind = count(number, precision);
    // A value stands behind the mean, or it would not be told.
    Some(sum.by(Interval { low: behind.low.max(1.0), high: behind.high.max(1.0) }))
}

fn half_step(precision: &Precision) -> f64 {
    if precision.round_to > 1 { f64::from(precision.round_to) / 2.0 } else { 0.0 }
}

fn most(precision: &Precision) -> f64 {
    precision.noise.map_or(0.0, |noise| f64::from(noise.most))
}

/// The least of 1, 2 and 5 times powers of ten that is not below `raw`, which is positive.
fn step(raw: f64) -> f64 {
    let power = 10.0_f64.powf(raw.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    // What is a step but for the last bit is that step.
    steps.into_iter().find(|step| *step >= raw * (1.0 - 1e-12)).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
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
    fn steps_are_one_two_and_five() {
        for (raw, expected) in
            [(1.0, 1.0), (1.1, 2.0), (2.0, 2.0), (3.0, 5.0), (5.0, 5.0), (5.01, 10.0), (450.0, 500.0), (0.3, 0.5), (10.0, 10.0)]
        {
            assert!((step(raw) - expected).abs() < 1e-9, "{raw}: {}", step(raw));
        }
    }

    #[test]
    fn a_share_by_hand() {
        // 25 % of 1,000, to multiples of 5: a sum of 247.5 to 252.5 by 997.5 to 1,002.5.
        let share = mean(0.25, 1_000.0, 1.0, &precision(5, 0)).unwrap();
        assert!((share.low - 247.5 / 1_002.5).abs() < 1e-12 && (share.high - 252.5 / 997.5).abs() < 1e-12, "{share:?}");
        assert_eq!(mean(0.25, 0.0, 1.0, &precision(5, 0)), None);
        assert_eq!(mean(0.25, 1_000.0, 1.0, &precision(1, 0)), Some(Interval::exact(0.25)));
    }

    /// Whatever the truth, told as the gateway tells it, the bounds hold it.
    #[test]
    fn the_truth_lies_between_the_bounds() {
        arbtest::arbtest(|u| {
            let round_to = u.int_in_range(1..=100_u32)?;
            let most = if u.arbitrary()? { u.int_in_range(2..=20_u32)? } else { 0 };
            let precision = precision(round_to, most);
            let largest = f64::from(u.int_in_range(1..=1_000_u32)?) / 10.0;
            let people = u.int_in_range(10..=5_000_u32)?;
            // Their contributions, none beyond the largest.
            let (mut sum, mut absolute, mut nonzero) = (0.0, 0.0, 0.0);
            for _ in 0..people.min(60) {
                let times = f64::from(people) / f64::from(people.min(60));
                let value = largest * f64::from(u.int_in_range(-100..=100_i32)?) / 100.0;
                sum += value * times;
                absolute += value.abs() * times;
                nonzero += if value == 0.0 { 0.0 } else { times };
            }
            let truth = sum / f64::from(people);
            let off = |u: &mut arbtest::arbitrary::Unstructured<'_>, by: f64| -> arbtest::arbitrary::Result<f64> {
                Ok(by * f64::from(u.int_in_range(-100..=100_i32)?) / 100.0)
            };
            let nearest = |value: f64, unit: f64| if unit > 0.0 { (value / unit).round() * unit } else { value };
            let step_of_count = if round_to > 1 { f64::from(round_to) } else { 0.0 };
            let number = nearest(f64::from(people) + off(u, f64::from(most))?, step_of_count);
            let base = f64::from(round_to.max(most));
            let contribution = if nonzero > 0.0 { absolute / nonzero } else { 0.0 };
            let unit = if base > 1.0 && contribution > 0.0 { step(base * contribution) } else { 0.0 };
            let told = nearest(sum + off(u, 2.0 * f64::from(most) * contribution)?, unit);
            if number >= 1.0 {
                let bounds = mean(told / number, number, largest, &precision).unwrap();
                assert!(bounds.low <= truth + 1e-9 && truth <= bounds.high + 1e-9, "{truth} is not in {bounds:?}");
                assert!({
                    let n = count(number, &precision);
                    n.low <= f64::from(people) && f64::from(people) <= n.high
                });
            }
            Ok(())
        });
    }
}
