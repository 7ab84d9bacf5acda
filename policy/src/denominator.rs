//! Denominators: how many rows or subjects stand behind an answer, as its caller is told.
//!
//! A number is told where as many distinct subjects stand behind it as the agreement asks of any number (`minimum_subjects`), and
//! then to the nearest multiple of that minimum; else it is said to rest on fewer. Nobody and a few look alike. The rounding
//! is there because some denominators count people whose data is not used (withheld rows): a single one of them must not show
//! in the difference of two answers.
//!
//! Of rows with two subjects, through a link dataset, `subjects` are those of the identifier type of which there are fewer. What is
//! withheld is not told there: one firm's choice moves it by all of its people, and no rounding to the minimum hides that.

/// A count as callers are told it; `None` where fewer than `minimum` distinct subjects stand behind it. `subjects` may stop at
/// `minimum`.
#[must_use]
pub fn told(count: u64, subjects: u64, minimum: u32) -> Option<u64> {
    let minimum = u64::from(minimum.max(1));
    (subjects >= minimum).then(|| count.saturating_add(minimum / 2) / minimum * minimum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_not_told_and_more_are_rounded() {
        for (count, subjects, minimum, expected) in [
            (0, 0, 10, None),
            (9, 9, 10, None),
            (500, 9, 10, None),
            (10, 10, 10, Some(10)),
            (14, 10, 10, Some(10)),
            (15, 10, 10, Some(20)),
            (1_234, 10, 10, Some(1_230)),
            (4, 3, 3, Some(3)),
            (7, 7, 0, Some(7)),
        ] {
            assert_eq!(told(count, subjects, minimum), expected, "{count} rows of {subjects} subjects, at least {minimum}");
        }
    }

    /// Somebody more or less changes what is told by one step at most, and mostly not at all.
    #[test]
    fn one_subject_moves_it_by_one_step_at_most() {
        arbtest::arbtest(|u| {
            let (count, minimum) = (u64::from(u.arbitrary::<u32>()?), u.int_in_range(3..=1_000)?);
            let [fewer, more] = [count, count + 1].map(|count| told(count, count, minimum));
            match (fewer, more) {
                (Some(fewer), Some(more)) => assert!(more == fewer || more == fewer + u64::from(minimum)),
                (None, Some(more)) => assert_eq!(more, u64::from(minimum)),
                (None, None) => assert!(count + 1 < u64::from(minimum)),
                (Some(_), None) => panic!("fewer are told where more are not"),
            }
            assert!([fewer, more].into_iter().flatten().all(|told| told.is_multiple_of(u64::from(minimum))));
            Ok(())
        });
    }
}
