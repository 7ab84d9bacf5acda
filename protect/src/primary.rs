//! Primary rules: what must not be told of one value, whatever else is told.
//!
//! Source: Hundepool et al., *Statistical Disclosure Control* (Wiley, 2012), chapter 4. With x1 ≥ x2 ≥ … the absolute contributions and X
//! their sum: the (n, k) rule withholds where x1 + … + xn > k % of X; the p % rule where X − x1 − x2 < p % of x1, as then the second
//! largest contributor, who knows himself, could estimate the largest that closely. Negative contributions count by their size, as in
//! τ-Argus. A number that cannot be judged is withheld.
//!
//! A value of those whom a condition chose tells, beside the value of all, that of the rest. So the rest is judged as if it were
//! told: by its number, and by how its part of the value is spread over it. An empty rest is few: that all of a group met a condition and
//! that all but a few did look alike.

use concordat_policy::Disclosure;
use concordat_policy::disclosure::Telling;

use crate::{Behind, Spread};

/// Why a value is withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Too few subjects contribute to it.
    Few,
    /// What its condition leaves over would be withheld.
    Complement,
    /// One or a few contributors make nearly all of it.
    Dominated,
    /// All contributors have the same value.
    Homogeneous,
}

/// The first rule that withholds a value of which `behind` stands behind; `None` where it may be told.
#[must_use]
pub fn withheld(minimum: u32, rules: &Disclosure, behind: &Behind) -> Option<Reason> {
    let told_as_nobody = behind.subjects == 0 && rules.zeros == Telling::Shown;
    if behind.subjects < u64::from(minimum) && !told_as_nobody {
        return Some(Reason::Few);
    }
    spread_withheld(rules, behind)
}

/// Whether a value is withheld for the sake of those whom its condition could have chosen and did not, of whom `rest` is known.
#[must_use]
pub fn rest_withheld(minimum: u32, rules: &Disclosure, rest: &Behind) -> Option<Reason> {
    let withheld = rest.subjects < u64::from(minimum) || spread_withheld(rules, rest).is_some();
    (rules.complement == Telling::Withheld && withheld).then_some(Reason::Complement)
}

fn spread_withheld(rules: &Disclosure, behind: &Behind) -> Option<Reason> {
    let spread = behind.spread.as_ref()?;
    if dominated(rules, spread) {
        return Some(Reason::Dominated);
    }
    #[expect(clippy::float_cmp, reason = "the same value is meant, not nearly the same")]
    let same = spread.lowest == spread.highest;
    (same && rules.homogeneous == Telling::Withheld).then_some(Reason::Homogeneous)
}

fn dominated(rules: &Disclosure, spread: &Spread) -> bool {
    let [first, second, ..] = spread.largest;
    // A hundred times as much is what is compared.
    let can_be_judged = (spread.absolute * 100.0).is_finite() && spread.largest.iter().all(|size| size.is_finite());
    if !can_be_judged {
        return true;
    }
    if spread.absolute == 0.0 {
        return false;
    }
    let by_n_k = rules.dominance.iter().filter(|rule| rule.share < 100).any(|rule| {
        let largest: f64 = spread.largest.iter().take(rule.largest as usize).sum();
        largest * 100.0 > f64::from(rule.share) * spread.absolute
    });
    let by_p = rules.p_percent > 0 && (spread.absolute - first - second) * 100.0 < f64::from(rules.p_percent) * first;
    by_n_k || by_p
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use concordat_policy::disclosure::Dominance;

    use super::*;

    fn spread(contributions: &[f64]) -> Option<Spread> {
        let mut spread = Spread::default();
        contributions.iter().for_each(|own| spread.add(*own));
        Some(spread)
    }

    fn plain() -> Disclosure {
        Disclosure { dominance: BTreeSet::new(), p_percent: 0, complement: Telling::Shown, ..Disclosure::default() }
    }

    #[test]
    fn few_subjects() {
        let shown = Disclosure { zeros: Telling::Shown, ..plain() };
        for (subjects, rules, expected) in [
            (9, plain(), Some(Reason::Few)),
            (10, plain(), None),
            (11, plain(), None),
            (0, plain(), Some(Reason::Few)),
            (0, shown.clone(), None),
            (1, shown, Some(Reason::Few)),
        ] {
            assert_eq!(withheld(10, &rules, &Behind { subjects, ..Behind::default() }), expected, "{subjects} subjects");
        }
    }

    #[test]
    fn all_and_all_but_a_few_look_alike() {
        let withholding = Disclosure { complement: Telling::Withheld, ..plain() };
        // That there is nobody is told of who was chosen, not of who was not.
        let shown = Disclosure { zeros: Telling::Shown, ..withholding.clone() };
        for (subjects, expected) in [(0, true), (1, true), (9, true), (10, false), (40, false)] {
            let rest = Behind { subjects, spread: None };
            for rules in [&withholding, &shown] {
                assert_eq!(rest_withheld(10, rules, &rest), expected.then_some(Reason::Complement), "{subjects} not chosen");
            }
            assert_eq!(rest_withheld(10, &plain(), &rest), None);
        }
    }

    #[test]
    fn a_rest_is_judged_as_if_it_were_told() {
        let giant: Vec<f64> = std::iter::once(1e6).chain(vec![1.0; 39]).collect();
        let (dominance, homogeneous) = (BTreeSet::from([Dominance { largest: 2, share: 90 }]), Telling::Withheld);
        let withholding = Disclosure { complement: Telling::Withheld, ..plain() };
        for (rules, contributions, expected) in [
            (Disclosure { dominance: dominance.clone(), ..withholding.clone() }, &giant, true),
            (Disclosure { dominance: dominance.clone(), ..withholding.clone() }, &vec![1.0; 40], false),
            (Disclosure { dominance, ..plain() }, &giant, false),
            (Disclosure { p_percent: 10, ..withholding.clone() }, &giant, true),
            (Disclosure { homogeneous, ..withholding.clone() }, &vec![7.0; 40], true),
            (Disclosure { homogeneous, ..withholding }, &giant, false),
        ] {
            let rest = Behind { subjects: 40, spread: spread(contributions) };
            assert_eq!(rest_withheld(10, &rules, &rest), expected.then_some(Reason::Complement), "{rules:?}");
        }
    }

    #[test]
    fn dominance() {
        let (n1k50, n2k90) = (Dominance { largest: 1, share: 50 }, Dominance { largest: 2, share: 90 });
        let (n5k99, all) = (Dominance { largest: 5, share: 99 }, Dominance { largest: 5, share: 100 });
        for (rules, p_percent, contributions, expected) in [
            (vec![n2k90], 0, vec![50.0, 40.0, 10.0], false),
            (vec![n2k90], 0, vec![50.0, 41.0, 9.0], true),
            (vec![n1k50, n2k90], 0, vec![51.0, 30.0, 19.0], true),
            (vec![n2k90], 0, vec![-50.0, 41.0, -9.0], true),
            // Sizes count: a sum of nothing has contributors too.
            (vec![n2k90], 0, vec![-50.0, 50.0], true),
            (vec![n5k99], 0, vec![1.0; 6], false),
            (vec![all], 0, vec![1.0], false),
            (vec![], 10, vec![100.0, 50.0, 10.0], false),
            (vec![], 10, vec![100.0, 50.0, 9.0], true),
            (vec![], 10, vec![100.0, 50.0, -4.0, -6.0], false),
            (vec![], 10, vec![100.0, 100.0], true),
            (vec![], 10, vec![7.0], true),
            (vec![], 0, vec![7.0], false),
            (vec![n2k90], 10, vec![0.0; 12], false),
            (vec![n2k90], 10, vec![], false),
            (vec![], 0, vec![f64::INFINITY, 1.0], true),
            (vec![], 0, vec![f64::NAN, 1.0], true),
            (vec![n2k90], 10, vec![1e308; 3], true),
        ] {
            let rules = Disclosure { dominance: rules.into_iter().collect(), p_percent, ..plain() };
            let behind = Behind { subjects: 20, spread: spread(&contributions) };
            let expected = expected.then_some(Reason::Dominated);
            assert_eq!(withheld(10, &rules, &behind), expected, "{contributions:?} under {rules:?}");
        }
    }

    #[test]
    fn homogeneous_groups() {
        let withholding = Disclosure { homogeneous: Telling::Withheld, ..plain() };
        for (contributions, expected) in
            [(vec![3.0; 20], Some(Reason::Homogeneous)), (vec![0.0; 20], Some(Reason::Homogeneous)), (vec![3.0, 3.5], None), (vec![], None)]
        {
            let behind = Behind { subjects: 20, spread: spread(&contributions) };
            assert_eq!(withheld(10, &withholding, &behind), expected, "{contributions:?}");
            assert_eq!(withheld(10, &plain(), &behind), None);
        }
    }

    /// A contributor less, or a stricter rule, never lets a value be told that was not.
    #[test]
    fn stricter_rules_withhold_more() {
        arbtest::arbtest(|u| {
            let contributions: Vec<i16> = u.arbitrary()?;
            let contributions: Vec<f64> = contributions.into_iter().map(f64::from).collect();
            let rules = |u: &mut arbtest::arbitrary::Unstructured<'_>| -> arbtest::arbitrary::Result<Disclosure> {
                let rule = Dominance { largest: u.int_in_range(1..=5)?, share: u.int_in_range(1..=100)? };
                let telling = |shown| if shown { Telling::Shown } else { Telling::Withheld };
                Ok(Disclosure {
                    dominance: BTreeSet::from([rule]),
                    p_percent: u.int_in_range(0..=100)?,
                    complement: telling(u.arbitrary()?),
                    homogeneous: telling(u.arbitrary()?),
                    zeros: telling(u.arbitrary()?),
                    ..Disclosure::default()
                })
            };
            let (one, other) = (rules(u)?, rules(u)?);
            let minimum = u.int_in_range(1..=20)?;
            let subjects = contributions.len() as u64;
            let behind = Behind { subjects, spread: spread(&contributions) };
            for judge in [withheld, rest_withheld] {
                if judge(minimum, &one, &behind).is_some() {
                    assert!(judge(minimum, &one.strictest(&other), &behind).is_some());
                    assert!(judge(minimum + 1, &one, &behind).is_some());
                }
            }
            Ok(())
        });
    }
}
