//! Disclosure rules of an agreement, beside the least number of subjects (`minimum_subjects`): what must not be told by a number
//! that rests on enough people. What they mean for a value is said in `protect/`; here is what is agreed, and which of several
//! agreements' rules counts: of each, the strictest.
//!
//! Source of the rules and their names: Hundepool et al., *Statistical Disclosure Control* (Wiley, 2012), chapters 4 and 5.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::decision::{Rule, Whose};

/// The rules. The default is what is in force where an agreement says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Disclosure {
    /// (n, k) rules: a sum, mean or number of rows is withheld of which the `largest` contributors make more than `share` percent. All of them hold.
    #[serde(deserialize_with = "one_dominance")]
    pub dominance: BTreeSet<Dominance>,
    /// The p % rule: a sum, mean or number of rows is withheld of which the second largest contributor could estimate the largest within so many
    /// percent. 0 to 100; 0 for no such rule.
    pub p_percent: u32,
    /// Counts of subjects are rounded to multiples of it; any other number is told as such a count times its mean, and that as coarsely in
    /// proportion. 1 to 100; 1 for none.
    pub round_to: u32,
    /// Whether a condition inside an aggregate may be met by all of a group, or by all but fewer than the minimum.
    pub complement: Telling,
    /// Whether a sum or mean may be told of contributors who all have the same value.
    pub homogeneous: Telling,
    /// Whether a value on which nobody stands is told as such, apart from what rests on a few.
    pub zeros: Telling,
    /// Whether totals over a result's keys are taken to be known, so that no withheld value can be worked out from them.
    pub margins: Margins,
    /// Noise, of what kind; `None` for none.
    pub perturbation: Option<Perturbation>,
}

impl Default for Disclosure {
    fn default() -> Self {
        Self {
            dominance: BTreeSet::from([Dominance { largest: 2, share: 90 }]),
            p_percent: 10,
            round_to: 5,
            complement: Telling::Withheld,
            homogeneous: Telling::Shown,
            zeros: Telling::Withheld,
            margins: Margins::Protected,
            perturbation: None,
        }
    }
}

impl Disclosure {
    /// Of each rule the strictest.
    #[must_use]
    pub fn strictest(&self, other: &Self) -> Self {
        let perturbation = match (self.perturbation, other.perturbation) {
            (Some(one), Some(other)) => Some(Perturbation { variance: one.variance.max(other.variance), most: one.most.max(other.most) }),
            (one, other) => one.or(other),
        };
        Self {
            dominance: self.dominance.union(&other.dominance).copied().collect(),
            p_percent: self.p_percent.max(other.p_percent),
            round_to: self.round_to.max(other.round_to),
            complement: self.complement.max(other.complement),
            homogeneous: self.homogeneous.max(other.homogeneous),
            zeros: self.zeros.max(other.zeros),
            margins: self.margins.max(other.margins),
            perturbation,
        }
    }

    /// The rules in force, each in words for people.
    #[must_use]
    pub fn in_words(&self) -> Vec<String> {
        Rule::disclosed(self, true, |_| Whose::default()).iter().map(Rule::says).collect()
    }

    /// What an agreement might have ruled and does not, in words for people.
    #[must_use]
    pub fn not_ruled(&self) -> Vec<&'static str> {
        let off = [
            (self.dominance.iter().all(|rule| rule.share >= 100), "dominance"),
            (self.p_percent == 0, "p %"),
            (self.homogeneous == Telling::Shown, "contributors of one value"),
            (self.round_to <= 1, "rounding"),
            (self.perturbation.is_none(), "noise"),
            (self.complement == Telling::Shown, "complements"),
            (self.margins == Margins::Open, "totals"),
        ];
        off.into_iter().filter_map(|(off, what)| off.then_some(what)).collect()
    }
}

/// An (n, k) rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dominance {
    /// How many of the largest contributors: 1 to [`MOST_LARGEST`].
    pub largest: u32,
    /// More than so many percent of the total absolute value: 1 to 100; 100 never is.
    pub share: u32,
}

/// The most contributors that an (n, k) rule looks at.
pub const MOST_LARGEST: u32 = 5;

/// Whether something is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Telling {
    /// It is.
    Shown,
    /// It is not.
    Withheld,
}

impl Telling {
    /// As documents write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shown => "shown",
            Self::Withheld => "withheld",
        }
    }
}

/// What is taken to be known of totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Margins {
    /// Nothing.
    Open,
    /// All of them: other values are withheld until none can be worked out within 10 %.
    Protected,
}

impl Margins {
    /// As documents write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Protected => "protected",
        }
    }
}

/// Cell-key noise on counts and, in units of a mean contribution, on sums; where contributions differ, there also that of what they are, in
/// units of the largest. A number is told from as much over the minimum on as the largest noise. `protect/src/noise.rs` has the method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Perturbation {
    /// The variance of the noise of a count, in subjects squared: 1 to [`Self::highest_variance`].
    pub variance: u32,
    /// The largest noise: [`LEAST_MOST`] to [`MOST_MOST`].
    pub most: u32,
}

/// The smallest bound of noise whose variance is a whole number.
pub const LEAST_MOST: u32 = 2;

/// The largest bound of noise.
pub const MOST_MOST: u32 = 20;

impl Perturbation {
    /// The variance where every whole number within the bound is as likely: `most` × (`most` + 1) / 3, rounded down.
    #[must_use]
    pub fn highest_variance(&self) -> u32 {
        self.most.saturating_mul(self.most.saturating_add(1)) / 3
    }
}

fn one_dominance<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<Dominance>, D::Error> {
    Dominance::deserialize(deserializer).map(|rule| BTreeSet::from([rule]))
}

#[cfg(test)]
mod tests;
