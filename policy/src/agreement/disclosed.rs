//! Whether the disclosure rules of a document can be kept as they are written.

use crate::Problem;
use crate::disclosure::{Disclosure, Dominance, LEAST_MOST, MOST_LARGEST, MOST_MOST, Perturbation};

/// The coarsest rounding.
const MOST_ROUNDING: u32 = 100;

pub(super) fn problems(disclosure: &Disclosure) -> Vec<Problem> {
    let Disclosure { dominance, p_percent, round_to, complement: _, homogeneous: _, zeros: _, margins: _, perturbation } = disclosure;
    let mut problems: Vec<Problem> = dominance.iter().flat_map(of_dominance).collect();
    if *p_percent > 100 {
        let remedy = "write 0 to 100: 10 is the default, 0 is no such rule";
        problems.push(Problem::at("p_percent", format!("p_percent is {p_percent}, which is more than all"), remedy));
    }
    if !(1..=MOST_ROUNDING).contains(round_to) {
        let remedy = "write 1 to 100: 5 is the default, 1 is no rounding";
        problems.push(Problem::at("round_to", format!("nothing is rounded to multiples of {round_to}"), remedy));
    }
    problems.extend(perturbation.as_ref().and_then(of_perturbation));
    problems
}

fn of_dominance(rule: &Dominance) -> Vec<Problem> {
    let Dominance { largest, share } = *rule;
    let mut problems = Vec::new();
    if !(1..=MOST_LARGEST).contains(&largest) {
        let cause = format!("a dominance rule looks at the largest 1 to {MOST_LARGEST} contributors, not {largest}");
        problems.push(Problem::at("dominance", cause, "write largest = 2, the default, unless there is a reason"));
    }
    if !(1..=100).contains(&share) {
        let cause = format!("a dominance rule's share is 1 to 100 percent, not {share}");
        problems.push(Problem::at("dominance", cause, "write share = 90, the default, or share = 100 for no such rule"));
    }
    problems
}

fn of_perturbation(noise: &Perturbation) -> Option<Problem> {
    let Perturbation { variance, most } = *noise;
    if !(LEAST_MOST..=MOST_MOST).contains(&most) {
        let cause = format!("noise is at most {LEAST_MOST} to {MOST_MOST} subjects, not {most}");
        return Some(Problem::at("perturbation", cause, "write most = 5, for example, or leave perturbation out"));
    }
    // That of whole numbers of which none is likelier than another: no noise within the bound that falls off varies more.
    let highest = noise.highest_variance();
    (!(1..=highest).contains(&variance)).then(|| {
        let cause = format!("noise of at most {most} subjects has a variance of 1 to {highest}, not {variance}");
        Problem::at("perturbation", cause, "change variance, or raise most")
    })
}
