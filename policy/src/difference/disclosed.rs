//! The disclosure rules as terms.

use super::turn::Measure;
use crate::disclosure::{Disclosure, Dominance, Margins, Perturbation, Telling};

/// A term's name, its words where the agreement has it, and its measure.
type Term = (&'static str, Option<String>, Measure);

/// The rules, taken apart by name, so that one that is added is not forgotten here.
pub(super) fn terms(disclosure: &Disclosure) -> Vec<Term> {
    let Disclosure { dominance, p_percent, round_to, complement, homogeneous, zeros, margins, perturbation } = disclosure;
    let least = |n: u32| Measure::Least(n.into());
    let told = |name, telling: Telling| (name, Some(telling.as_str().to_owned()), least((telling == Telling::Withheld).into()));
    let noise = perturbation.map(|Perturbation { variance, most }| format!("variance {variance}, at most {most}"));
    let size = perturbation.map_or(Vec::new(), |Perturbation { variance, most }| vec![variance.into(), most.into()]);
    vec![
        of_dominance(dominance.iter().filter(|rule| rule.share < 100)),
        ("disclosure: p_percent", Some(p_percent.to_string()), least(*p_percent)),
        ("disclosure: round_to", Some(round_to.to_string()), least(*round_to)),
        told("disclosure: complement", *complement),
        told("disclosure: homogeneous", *homogeneous),
        told("disclosure: zeros", *zeros),
        ("disclosure: margins", Some(margins.as_str().to_owned()), least((*margins == Margins::Protected).into())),
        ("disclosure: perturbation", noise, Measure::LeastOfEach(size)),
    ]
}

/// More contributors make a share more easily, and a smaller one.
fn of_dominance<'d>(rules: impl Iterator<Item = &'d Dominance>) -> Term {
    let rules: Vec<_> = rules.collect();
    let words = |rule: &&Dominance| format!("the {} largest make at most {} %", rule.largest, rule.share);
    let words = rules.iter().map(words).collect::<Vec<_>>().join(", and ");
    let measure = match rules.as_slice() {
        [one] => Measure::LeastOfEach(vec![one.largest.into(), u64::from(100_u32.saturating_sub(one.share))]),
        _ => Measure::Words,
    };
    ("disclosure: dominance", Some(words).filter(|words| !words.is_empty()), measure)
}
