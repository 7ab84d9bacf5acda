//! Which of several agreements' rules counts.

use super::*;
use crate::testing::AGREEMENT;
use crate::{Agreement, Problem};

fn disclosure(u: &mut arbtest::arbitrary::Unstructured<'_>) -> arbtest::arbitrary::Result<Disclosure> {
    let telling = |withheld: bool| if withheld { Telling::Withheld } else { Telling::Shown };
    let dominance = Dominance { largest: u.int_in_range(1..=MOST_LARGEST)?, share: u.int_in_range(1..=100)? };
    let most = u.int_in_range(LEAST_MOST..=MOST_MOST)?;
    let highest = Perturbation { variance: 1, most }.highest_variance();
    let noise = Perturbation { variance: u.int_in_range(1..=highest)?, most };
    Ok(Disclosure {
        dominance: BTreeSet::from([dominance]),
        p_percent: u.int_in_range(0..=100)?,
        round_to: u.int_in_range(1..=100)?,
        complement: telling(u.arbitrary()?),
        homogeneous: telling(u.arbitrary()?),
        zeros: telling(u.arbitrary()?),
        margins: if u.arbitrary()? { Margins::Protected } else { Margins::Open },
        perturbation: u.arbitrary::<bool>()?.then_some(noise),
    })
}

/// Whether `one` lets nothing be told that `other` withholds, said here once more by the meaning of each rule.
fn as_strict(one: &Disclosure, other: &Disclosure) -> bool {
    let withholds = |one: Telling, other: Telling| one == Telling::Withheld || other == Telling::Shown;
    other.dominance.iter().all(|rule| one.dominance.contains(rule))
        && one.p_percent >= other.p_percent
        && one.round_to >= other.round_to
        && withholds(one.complement, other.complement)
        && withholds(one.homogeneous, other.homogeneous)
        && withholds(one.zeros, other.zeros)
        && (one.margins == Margins::Protected || other.margins == Margins::Open)
        && other
            .perturbation
            .is_none_or(|noise| one.perturbation.is_some_and(|own| own.variance >= noise.variance && own.most >= noise.most))
}

#[test]
fn the_strictest_is_commutative_associative_idempotent_and_undercuts_nobody() {
    arbtest::arbtest(|u| {
        let (a, b, c) = (disclosure(u)?, disclosure(u)?, disclosure(u)?);
        let both = a.strictest(&b);
        assert_eq!(both, b.strictest(&a));
        assert_eq!(both.strictest(&c), a.strictest(&b.strictest(&c)));
        assert_eq!(a.strictest(&a), a);
        assert!(as_strict(&both, &a) && as_strict(&both, &b), "{both:?} of {a:?} and {b:?}");
        assert!(both.perturbation.is_none_or(|noise| noise.variance <= noise.highest_variance()), "it can be made: {both:?}");
        Ok(())
    });
}

#[test]
fn a_rule_that_one_of_two_has_counts_for_both() {
    let read = |rules: &str| {
        let text = AGREEMENT.replacen("id = \"one\"", &format!("id = \"one\"\ndisclosure = {{ {rules} }}"), 1);
        Agreement::parse(&text).map(|agreement| agreement.disclosure)
    };
    let default = Disclosure::default();
    for (rules, strictest) in [
        ("round_to = 1", default.clone()),
        ("margins = \"open\", complement = \"shown\", p_percent = 0", default.clone()),
        ("homogeneous = \"withheld\"", Disclosure { homogeneous: Telling::Withheld, ..default.clone() }),
        (
            "perturbation = { variance = 2, most = 5 }",
            Disclosure { perturbation: Some(Perturbation { variance: 2, most: 5 }), ..default.clone() },
        ),
        (
            "dominance = { largest = 1, share = 60 }",
            Disclosure {
                dominance: BTreeSet::from([Dominance { largest: 1, share: 60 }, Dominance { largest: 2, share: 90 }]),
                ..default.clone()
            },
        ),
    ] {
        let read = read(rules).unwrap_or_else(|problems: Vec<Problem>| panic!("{rules}: {problems:?}"));
        assert_eq!(default.strictest(&read), strictest, "{rules}");
    }
}

#[test]
fn each_rule_is_either_told_or_said_to_be_absent() {
    assert_eq!(Disclosure::default().not_ruled(), ["contributors of one value", "noise"]);
    arbtest::arbtest(|u| {
        let disclosure = disclosure(u)?;
        let (told, absent) = (disclosure.in_words(), disclosure.not_ruled());
        // Seven rules; that nobody stands behind a number is told beside them.
        assert_eq!(told.len() + absent.len(), 7 + usize::from(disclosure.zeros == Telling::Shown), "{told:?} {absent:?}");
        Ok(())
    });
}
