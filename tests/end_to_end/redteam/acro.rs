//! The primary rules, beside `acro`'s judgement of the same contributions: `acro/README.md` says how the cases were made and where the
//! two differ.

use std::collections::BTreeSet;

use concordat_policy::Disclosure;
use concordat_policy::disclosure::Dominance;
use concordat_protect::primary::withheld;
use concordat_protect::{Behind, Spread};
use serde::Deserialize;

#[derive(Deserialize)]
struct Made {
    threshold: u32,
    nk: Dominance,
    p_percent: u32,
    cases: Vec<Case>,
}

/// What each contributes, and which rules `acro` says the cell breaks.
#[derive(Deserialize)]
struct Case {
    name: String,
    contributions: Vec<f64>,
    threshold: bool,
    nk: bool,
    p_percent: bool,
}

#[test]
fn the_primary_rules_agree_with_acro() {
    let made: Made = serde_json::from_str(include_str!("acro/cases.json")).unwrap();
    let none = Disclosure { dominance: BTreeSet::new(), p_percent: 0, ..Disclosure::default() };
    let by_nk = Disclosure { dominance: BTreeSet::from([made.nk]), ..none.clone() };
    let by_p = Disclosure { p_percent: made.p_percent, ..none.clone() };
    let mut broken = [0; 3];
    for case in &made.cases {
        let mut spread = Spread::default();
        case.contributions.iter().for_each(|own| spread.add(*own));
        let behind = Behind { subjects: case.contributions.len() as u64, spread: Some(spread) };
        // One rule at a time: with a minimum of none, few are not withheld before the others are looked at.
        for (place, (rule, own, acros)) in [
            ("minimum", withheld(made.threshold, &none, &behind).is_some(), case.threshold),
            ("(n, k)", withheld(0, &by_nk, &behind).is_some(), case.nk),
            ("p %", withheld(0, &by_p, &behind).is_some(), case.p_percent),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(own, acros, "{rule} of {}: {:?}", case.name, case.contributions);
            broken[place] += usize::from(acros);
        }
    }
    assert!(
        broken.iter().all(|broken| (10..made.cases.len() - 10).contains(broken)),
        "each rule is broken by some and kept by some: {broken:?}"
    );
}
