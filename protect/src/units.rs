//! In which units a value is told: what each of its contributors has in the mean, times the number of them as a count tells it.
//!
//! ```text
//! told number = contributors, with noise, to a multiple of the base
//! told mean   = sum / contributors, to a multiple of  step(base × mean size / told number)
//! told value  = told mean × told number
//! ```
//! `step` takes up to the next 1, 2 or 5 times a power of ten. So every value is told to one part in so many as its number is: by a base
//! of 5, of 100 people to 5 % at best, and never more finely.
//!
//! Why not to a multiple of a unit of its own: each column, and each choice of rows, would have another unit, and of what somebody knows of
//! everybody (one row a month, one vote each) each would tell the number of people with steps in another place. Three months tell it to
//! multiples of 20/3 people, seven to 50/7, and a few of them together exactly. By this rule what all have alike, however much it is, is
//! told as that, to the nearest step, times the told number, and tells of how many they are nothing but that. Of what they have unevenly it tells in addition
//! their mean, no more finely than as if one in so many as the base were to be missed.
//!
//! The mean alone decides the step, not the largest contribution: a unit that follows one person tells that he is there.
//!
//! A mean is what is told of its sum by what is told of the number of its values: it tells no more than those two. Where all who have
//! something have one value each, the told numbers cancel, and the told mean is left: what all have alike shows as it is only where it is a
//! multiple of the step.
//!
//! What remains: who knows a sum exactly from elsewhere, or can give one person as many rows as he likes, can divide it by the told mean. That
//! bounds the number of people no more closely than half a base, but several such sums together do. And whoever weighs more than others (many rows beside their one) still shows, by the
//! mean, that he is among those who were counted; how much he weighs, noise hides ([`crate::noise`]), rounding does not.
//!
//! Source: Hundepool et al., *Statistical Disclosure Control* (Wiley, 2012), chapter 5: conventional rounding, and why consistent tables
//! should not be rounded cell by cell in units of their own.

use crate::Spread;
use crate::rounding::{step, to_unit, whole_to_unit};

/// How coarsely, and with which noise.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Coarseness {
    /// Numbers of subjects are told to multiples of it; not rounded at 1 or less.
    pub base: u32,
    /// What one step of a mean may hide, in subjects; at 1 or less a mean is told as it is. Not less than the base.
    pub of_mean: u32,
}

/// Noise of one value.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Shift {
    /// Of the number of its contributors, in subjects.
    pub people: i64,
    /// Of what they contribute, in its own unit.
    pub sum: f64,
}

/// What is told of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parts {
    /// Its contributors, as a count of them is told.
    pub people: i64,
    /// What each of them has in the mean, as it is told.
    pub each: f64,
    /// To multiples of what that was rounded; 0 where it was not.
    pub unit: f64,
    /// To multiples of what they were; 1 or less where they were not.
    pub base: u32,
}

impl Parts {
    /// Of a sum that is spread over its contributors like this. `None` where it is told as it is: nothing is rounded and there is no
    /// noise, or nobody contributes.
    #[must_use]
    pub fn new(coarseness: Coarseness, spread: &Spread, sum: f64, shift: Shift) -> Option<Self> {
        let Coarseness { base, of_mean } = coarseness;
        if base.max(of_mean) <= 1 || spread.nonzero == 0 {
            return None;
        }
        let number = i64::try_from(spread.nonzero).unwrap_or(i64::MAX);
        let people = whole_to_unit(number.saturating_add(shift.people).max(0), f64::from(base));
        #[expect(clippy::cast_precision_loss, reason = "numbers of people, exact below 2^53, and steps are coarse")]
        let (exact, told) = (spread.nonzero as f64, people as f64);
        let of_mean = f64::from(of_mean.max(base));
        // By what is told of their number, never by how many they are.
        let unit = step(of_mean * (spread.absolute / exact) / told.max(of_mean));
        Some(Self { people, each: to_unit((sum + shift.sum) / exact, unit), unit, base })
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> f64 {
        // Zero has no sign: it would tell on which side the sum is.
        self.number() * self.each + 0.0
    }

    /// The same of whole numbers, the nearest of which is told.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "saturates, and is rounded to far more than one")]
    pub fn whole(&self) -> i64 {
        self.value().round() as i64
    }

    /// The mean of a sum told like this, by a number of values told like that. A number that is told as nothing counts as one.
    #[must_use]
    pub fn by(&self, number: &Self) -> f64 {
        // Where both are of the same people, exactly what each of them has.
        self.number() / number.number().max(1.0) * (self.each / if number.each > 0.0 { number.each } else { 1.0 }) + 0.0
    }

    /// Half of how closely the sum is known to whoever knows exactly how many contribute, by counts that he puts together for example: half a
    /// step of each mean. Noise is left aside.
    #[must_use]
    pub fn half(&self) -> f64 {
        self.number() * self.unit / 2.0
    }

    /// The least that a sum which is not negative can be for whoever knows only what is told: so many fewer as are rounded up, and half a
    /// step less of each. Noise is left aside.
    #[must_use]
    pub fn least(&self) -> f64 {
        let fewest = self.people.saturating_sub(i64::from(if self.base > 1 { self.base / 2 } else { 0 })).max(0);
        #[expect(clippy::cast_precision_loss, reason = "a number of people, exact below 2^53")]
        let fewest = fewest as f64;
        fewest * (self.each - self.unit / 2.0).max(0.0)
    }

    /// How far the value can be from the truth for whoever knows only what is told, noise left aside: half a step of each mean, and half a
    /// base of such means.
    #[must_use]
    pub fn reach(&self) -> f64 {
        let number = if self.base > 1 { f64::from(self.base) / 2.0 } else { 0.0 };
        self.half() + number * (self.each.abs() + self.unit / 2.0)
    }

    #[expect(clippy::cast_precision_loss, reason = "a number of people, exact below 2^53")]
    fn number(&self) -> f64 {
        self.people as f64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const FIVE: Coarseness = Coarseness { base: 5, of_mean: 5 };

    fn spread(own: impl IntoIterator<Item = f64>) -> (Spread, f64) {
        let (mut spread, mut sum) = (Spread::default(), 0.0);
        for own in own {
            spread.add(own);
            sum += own;
        }
        (spread, sum)
    }

    fn parts(coarseness: Coarseness, own: impl IntoIterator<Item = f64>) -> Parts {
        let (spread, sum) = spread(own);
        Parts::new(coarseness, &spread, sum, Shift::default()).unwrap()
    }

    fn alike(each: f64, people: usize) -> impl Iterator<Item = f64> {
        std::iter::repeat_n(each, people)
    }

    #[test]
    fn values_are_told_numbers_of_told_means() {
        for (own, coarseness, value, whole) in [
            (alike(1.0, 103).collect::<Vec<_>>(), FIVE, 105.0, 105),
            (alike(1.0, 102).collect(), FIVE, 100.0, 100),
            (alike(100.0, 103).collect(), FIVE, 10_500.0, 10_500),
            (alike(12.0, 33).collect(), FIVE, 420.0, 420),
            (alike(-3.0, 30).collect(), FIVE, -90.0, -90),
            // A third of ones: who has nothing is not among them.
            ([alike(1.0, 33).collect::<Vec<_>>(), vec![0.0; 67]].concat(), FIVE, 35.0, 35),
            ((0..40).map(|place| 1_000.0 + f64::from(place)).collect(), FIVE, 40_000.0, 40_000),
            // A noise of counts alone.
            (alike(2.0, 33).collect(), Coarseness { base: 1, of_mean: 6 }, 66.0, 66),
            (alike(0.1, 30).collect(), FIVE, 3.0, 3),
        ] {
            let told = parts(coarseness, own.iter().copied());
            assert!((told.value() - value).abs() < 1e-9 && told.whole() == whole, "{told:?} for {value}");
        }
        let (some, sum) = spread([5.0; 20]);
        assert_eq!(Parts::new(Coarseness { base: 1, of_mean: 1 }, &some, sum, Shift::default()), None);
        assert_eq!(Parts::new(FIVE, &spread([0.0; 20]).0, 0.0, Shift::default()), None);
        let shift = Shift { people: 7, sum: 20.0 };
        assert_eq!(Parts::new(FIVE, &some, sum, shift).unwrap(), Parts { people: 25, each: 6.0, unit: 1.0, base: 5 });
        let fewer = Parts::new(FIVE, &some, sum, Shift { people: -30, sum: 0.0 }).unwrap();
        assert_eq!((fewer.people, fewer.value().to_string()), (0, "0".to_owned()), "never less than nobody, and no sign");
    }

    #[test]
    fn a_mean_is_a_told_sum_by_a_told_number() {
        let mean = |own: &[f64], values: &[f64]| parts(FIVE, own.iter().copied()).by(&parts(FIVE, values.iter().copied()));
        assert_eq!(mean(&[3.0; 41], &[1.0; 41]), 3.0);
        assert_eq!(mean(&[3.0; 41], &[2.0; 41]), 1.5);
        let half = [vec![1.0; 52], vec![0.0; 48]].concat();
        assert_eq!(mean(&half, &[1.0; 100]), 0.5);
        assert_eq!(parts(FIVE, [3.0; 41]).by(&Parts { people: 0, each: 1.0, unit: 0.0, base: 5 }), 120.0);
    }

    /// The attack of the review: everybody has as many rows as the question asks for. Each number of rows is an interval for how many people
    /// there are; together they leave one.
    #[test]
    fn rows_that_everybody_has_alike_do_not_tell_how_many_people_there_are() {
        // As it was: rows to multiples of a unit of their own.
        let by_rows = |people: usize, rows: u32| {
            let unit = step(5.0 * f64::from(rows));
            to_unit(people as f64 * f64::from(rows), unit)
        };
        let by_people = |people: usize, rows: u32| parts(FIVE, alike(f64::from(rows), people)).value();
        let pinned = |told: &dyn Fn(usize, u32) -> f64| {
            let all: Vec<Vec<u64>> =
                (0..300).map(|n| (1..=12).map(|rows| if n == 0 { 0 } else { told(n, rows).to_bits() }).collect()).collect();
            (10..290).filter(|n| all.iter().filter(|other| **other == all[*n]).count() == 1).count()
        };
        assert!(pinned(&by_rows) > 150, "{} of 280 told exactly before", pinned(&by_rows));
        assert_eq!(pinned(&by_people), 0);
        // Not even two that round to the same are told apart, by any number of rows.
        for people in 10..290 {
            let nearest = (people + 2) / 5 * 5;
            assert!((1..=400).all(|rows| by_people(people, rows) == by_people(nearest, rows)), "{people}");
        }
    }

    /// What remains: the attacker gives a few people, of whom he knows how many rows they have, up to twelve rows beside one row of each
    /// other, one more with each question. As it was, one such person told all. The README states these numbers.
    #[test]
    fn a_few_with_more_rows_than_the_others_still_tell_something() {
        let pinned = |few: usize, told: &dyn Fn(usize, usize) -> (f64, i64)| {
            let all: Vec<Vec<(u64, i64)>> = (10..130)
                .map(|n| (0..=few * 11).map(|more| told(n, more)).map(|(value, number)| (value.to_bits(), number)).collect())
                .collect();
            (20..120).filter(|n| all.iter().filter(|other| **other == all[*n - 10]).count() == 1).count()
        };
        let own = |n: usize, more: usize| (0..n).map(move |place| 1.0 + (if place == 0 { more } else { 0 }) as f64);
        // Only their sum and number count, so that one has all of what the few have more.
        let by_people = |n: usize, more: usize| {
            let told = parts(FIVE, own(n, more));
            (told.each, told.people)
        };
        let by_rows = |n: usize, more: usize| {
            let rows = (n + more) as f64;
            (to_unit(rows, step(5.0 * rows / n as f64)), 0)
        };
        assert_eq!(pinned(1, &by_rows), 100);
        let found = [0, 1, 3, 5].map(|few| pinned(few, &by_people));
        println!("by nobody, one, three and five who have more: {found:?} of 100");
        // One who has up to so many rows.
        let up_to = |rows: usize| {
            let told = |n| -> Vec<(u64, i64)> { (0..rows).map(|more| by_people(n, more)).map(|(each, n)| (each.to_bits(), n)).collect() };
            let all: Vec<Vec<(u64, i64)>> = (10..130).map(told).collect();
            (10..110).filter(|n| all.iter().filter(|other| **other == all[*n]).count() == 1).count()
        };
        let more = [25, 50, 100].map(up_to);
        println!("by one who has up to 25, 50 and 100 rows: {more:?} of 100");
        assert!((25..45).contains(&more[0]) && (75..90).contains(&more[1]) && more[2] > 90, "{more:?}");
        assert!(found[0] == 0 && found[1] <= 10 && found[2] <= 60 && found[3] > 70, "{found:?}");
    }

    /// Where they have different numbers of rows, each more than another's: the sets of people that fit what is told are as many as by a count.
    #[test]
    fn columns_of_different_sizes_tell_means_and_no_numbers() {
        // Attacker: knows what everybody has in each of thirty columns but for the number of people, who are a repeated pattern.
        let pattern = |column: usize, person: usize| 1.0 + ((person * 7 + column * 3) % 4) as f64;
        let told = |people: usize| -> Vec<u64> {
            (0..30).map(|column| parts(FIVE, (0..people).map(|person| pattern(column, person))).value().to_bits()).collect()
        };
        // The pattern has a period of four: whole periods have the same means.
        for periods in 3..60 {
            let (one, other) = (4 * periods, 4 * periods + 4);
            if (one + 2) / 5 == (other + 2) / 5 {
                assert_eq!(told(one), told(other), "{one} {other}");
            }
        }
        let numbers: BTreeSet<i64> = (10..200).map(|people| parts(FIVE, (0..people).map(|person| pattern(0, person))).people).collect();
        assert!(numbers.iter().all(|number| number % 5 == 0));
    }

    /// Never more finely than the number: half a base of mean contributions, and no more than six times that.
    #[test]
    fn a_value_is_as_coarse_as_its_number() {
        arbtest::arbtest(|u| {
            let own: Vec<i32> = u.arbitrary()?;
            let own: Vec<f64> = own.into_iter().map(|own| f64::from(own) / 64.0).collect();
            let base = u.int_in_range(2..=100)?;
            let (spread, sum) = spread(own);
            let Some(told) = Parts::new(Coarseness { base, of_mean: base }, &spread, sum, Shift::default()) else { return Ok(()) };
            assert!(told.people % i64::from(base) == 0);
            assert!((told.value() - sum).abs() <= told.reach() * (1.0 + 1e-9) + 1e-9, "{sum}: {told:?}");
            // Who knows the number knows no more than half a step of each.
            let exact = spread.nonzero as f64;
            assert!((told.each * exact - sum).abs() <= exact * told.unit / 2.0 * (1.0 + 1e-9) + 1e-9, "{sum}: {told:?}");
            assert!(told.half() <= told.reach());
            assert!(spread.absolute > sum || told.least() <= sum * (1.0 + 1e-9) + 1e-9, "{sum}: {told:?}");
            let (mean, number) = (spread.absolute / spread.nonzero as f64, told.people as f64);
            let finest = f64::from(base) * mean / number.max(f64::from(base));
            assert!(told.unit >= finest * (1.0 - 1e-9) && told.unit <= finest * 2.5 * (1.0 + 1e-9), "{told:?} for {mean}");
            assert!((told.each / told.unit - (told.each / told.unit).round()).abs() < 1e-6 * (1.0 + (told.each / told.unit).abs()));
            Ok(())
        });
    }
}
