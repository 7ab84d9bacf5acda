//! Denominators: how many subjects stand behind an answer, or are missing from it, as its caller is told. They tell nothing of these
//! subjects that a count of them in the answer would not.
//!
//! - **Subjects, never rows.** One person with four hundred payments moves a count of rows by four hundred, and the difference of two
//!   days' answers would tell that he objected, and how many payments he has. He moves a count of subjects by one.
//! - **Few are not told**: fewer than the minimum of subjects are null. What is rounded to zero is null too, so that nobody and a few
//!   look alike.
//! - **Rounded twice.** First to the agreement's `round_to`, as the answer's counts are; what comes of it to the *unit*, the least
//!   multiple of `round_to` that is not below the minimum. What is told is so a function of the rounded count. Rounded to the unit at
//!   once it would not be: 15 is told as 15 to the nearest 5 and as 20 to the nearest 10, and both together say 15 to 17.
//! - **Nothing where noise is asked for.** A count in the answer then carries noise, and one beside it without noise undoes that, however
//!   coarse its unit: a coarse unit only has fewer edges. Whoever finds an edge, by adding people he knows until the number moves,
//!   adds his target next and sees whether it counts, while the noisy count would drown it. No unit is large enough to prevent that.
//!
//! Through a link dataset a number rests on subjects of two identifier types: it is told where there are enough of the type of which
//! there are fewer. What is withheld is not told there: one firm's choice moves it by all of its people, and no unit hides that.

use crate::Disclosure;

/// Of what a number is that is not told because of a link dataset: stands in what the gateway says instead, and is looked for there.
pub const OF_LINK_DATASET: &str = "of a link dataset";

/// How counts are told under an agreement's rules, or the strictest of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grain {
    minimum: u32,
    /// What a count in the answer is rounded to.
    round_to: u32,
    /// A multiple of it.
    unit: u32,
}

impl Grain {
    /// That of these rules; `None` where they ask for noise, and nothing is told.
    #[must_use]
    pub fn of(minimum_subjects: u32, disclosure: &Disclosure) -> Option<Self> {
        let (minimum, round_to) = (minimum_subjects.max(1), disclosure.round_to.max(1));
        disclosure.perturbation.is_none().then(|| Self { minimum, round_to, unit: round_to }.at_least(minimum))
    }

    /// The same, with a unit that is not below `unit`: a multiple of its own.
    #[must_use]
    pub fn at_least(self, unit: u32) -> Self {
        Self { unit: self.unit.saturating_mul(unit.div_ceil(self.unit).max(1)), ..self }
    }

    /// To whose multiples counts are rounded.
    #[must_use]
    pub fn unit(self) -> u32 {
        self.unit
    }

    /// A count as callers are told it, behind which so many distinct subjects stand; `None` where they are too few.
    #[must_use]
    pub fn told(self, count: u64, subjects: u64) -> Option<u64> {
        let told = nearest(nearest(count, self.round_to), self.unit);
        (subjects >= u64::from(self.minimum) && told > 0).then_some(told)
    }
}

/// The nearest multiple, halves up.
fn nearest(count: u64, unit: u32) -> u64 {
    let unit = u64::from(unit);
    count.saturating_add(unit / 2) / unit * unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disclosure::Perturbation;

    fn grain(minimum: u32, round_to: u32) -> Grain {
        Grain::of(minimum, &Disclosure { round_to, ..Disclosure::default() }).unwrap()
    }

    #[test]
    fn few_are_not_told_and_more_are_rounded() {
        for (count, subjects, minimum, round_to, expected) in [
            (0, 0, 10, 1, None),
            (9, 9, 10, 1, None),
            (500, 9, 10, 1, None),
            (10, 10, 10, 1, Some(10)),
            (14, 10, 10, 1, Some(10)),
            (15, 10, 10, 1, Some(20)),
            (1_234, 1_234, 10, 1, Some(1_230)),
            (4, 3, 3, 1, Some(3)),
            (7, 7, 0, 0, Some(7)),
            // First to 5, then to 10: 13 to 17 are all told as 15 is.
            (12, 12, 10, 5, Some(10)),
            (13, 13, 10, 5, Some(20)),
            (17, 17, 10, 5, Some(20)),
            (1_234, 1_234, 10, 100, Some(1_200)),
            // Rounded to zero they look like a few.
            (49, 49, 10, 100, None),
            (50, 50, 10, 100, Some(100)),
            (u64::MAX, u64::MAX, 10, 1, Some(u64::MAX - 5)),
        ] {
            let of = format!("{count} of {subjects} subjects, at least {minimum}, rounded to {round_to}");
            assert_eq!(grain(minimum, round_to).told(count, subjects), expected, "{of}");
        }
    }

    #[test]
    fn the_unit_is_the_least_multiple_of_what_counts_are_rounded_to_that_is_not_below_the_minimum() {
        for (minimum, round_to, unit) in
            [(10, 1, 10), (10, 5, 10), (11, 5, 15), (10, 10, 10), (10, 100, 100), (3, 2, 4), (0, 0, 1), (u32::MAX, 100, u32::MAX)]
        {
            assert_eq!(grain(minimum, round_to).unit(), unit, "{minimum} and {round_to}");
        }
        for (coarser, unit) in [(0, 15), (15, 15), (16, 30), (2_048, 2_055)] {
            assert_eq!(grain(11, 5).at_least(coarser).unit(), unit, "{coarser}");
        }
    }

    #[test]
    fn under_noise_nothing_is_told() {
        let noisy = Disclosure { perturbation: Some(Perturbation { variance: 1, most: 2 }), ..Disclosure::default() };
        assert_eq!(Grain::of(10, &noisy), None);
        assert_eq!(Grain::of(10, &Disclosure::default().strictest(&noisy)), None);
    }

    /// Somebody more or less changes what is told by one step at most, and mostly not at all.
    #[test]
    fn one_subject_moves_it_by_one_step_at_most() {
        arbtest::arbtest(|u| {
            let count = u64::from(u.arbitrary::<u32>()?);
            let grain = grain(u.int_in_range(3..=1_000)?, u.int_in_range(1..=100)?);
            let unit = u64::from(grain.unit());
            let [fewer, more] = [count, count + 1].map(|count| grain.told(count, count));
            match (fewer, more) {
                (Some(fewer), Some(more)) => assert!(more == fewer || more == fewer + unit),
                (None, Some(more)) => assert_eq!(more, unit),
                (None, None) => assert!(count < unit),
                (Some(_), None) => panic!("fewer are told where more are not"),
            }
            assert!([fewer, more].into_iter().flatten().all(|told| told.is_multiple_of(unit)));
            Ok(())
        });
    }

    /// Beside the count as the answer has it, nothing is learned.
    #[test]
    fn counts_that_an_answer_tells_alike_are_told_alike() {
        arbtest::arbtest(|u| {
            let (minimum, round_to) = (u.int_in_range(3..=1_000)?, u.int_in_range(1..=100)?);
            let grain = grain(minimum, round_to).at_least(u.int_in_range(0..=5_000)?);
            let [one, other] = [u.int_in_range(0..=99_u64)?, u.int_in_range(0..=99)?].map(|more| u64::from(minimum) + more);
            if nearest(one, round_to) == nearest(other, round_to) {
                assert_eq!(grain.told(one, one), grain.told(other, other), "{one} {other} {grain:?}");
            }
            Ok(())
        });
    }
}
