//! Whether a term that differs lets more be done, or less. In doubt it is neither.

use std::collections::BTreeSet;
use std::fmt;

/// Which way a term went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// More may be done than before.
    Wider,
    /// Less may be done.
    Narrower,
    /// Something else, or some more and some less.
    Other,
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wider => "wider",
            Self::Narrower => "narrower",
            Self::Other => "other",
        })
    }
}

/// How a term is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Measure {
    /// By its words: a difference is another.
    Words,
    /// More is wider. Without the term there is no bound.
    Most(u64),
    /// The same, of what the term `of` is about.
    MostOf { of: String, most: u64 },
    /// More is narrower.
    Least(u64),
    /// More of each is narrower. Without the term there is none.
    LeastOfEach(Vec<u64>),
    /// Each is permitted: more of them is wider. Without the term there is none.
    AnyOf(BTreeSet<String>),
    /// Each must hold: more of them is narrower. Without the term nothing need hold of what the term `of` is about.
    AllOf { of: String, tests: BTreeSet<String> },
    /// Each is permitted: more of them is wider. Without the term everything is that what the term `of` is about lets be done.
    OnlyOf { of: String, those: BTreeSet<String> },
    /// So many rows of single subjects a day: more is wider.
    Rows(u64),
    /// The columns by which rows of single subjects are compared: more is narrower. `None` is all.
    Compared(Option<BTreeSet<String>>),
    /// A legal power; under one and the same, objections that are not honoured are wider.
    Power { power: String, honours: bool },
}

impl Measure {
    pub(super) fn any_of<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> Self {
        Self::AnyOf(items.into_iter().map(|item| item.to_string()).collect())
    }
}

impl Turn {
    /// From one measure of a term to another; `None` where the agreement does not have the term.
    pub(super) fn between(before: Option<&Measure>, after: Option<&Measure>) -> Self {
        let none = BTreeSet::new();
        match (before, after) {
            (Some(Measure::Most(before)), Some(Measure::Most(after))) => Self::of(after > before, after < before),
            (Some(Measure::MostOf { most: before, .. }), Some(Measure::MostOf { most: after, .. })) => {
                Self::of(after > before, after < before)
            }
            (None, Some(Measure::Most(_) | Measure::MostOf { .. })) => Self::Narrower,
            (Some(Measure::Most(_) | Measure::MostOf { .. }), None) => Self::Wider,
            (Some(Measure::Least(before)), Some(Measure::Least(after))) => Self::of(after < before, after > before),
            (Some(Measure::LeastOfEach(before)), Some(Measure::LeastOfEach(after))) => {
                let pairs = || before.iter().zip(after);
                Self::of(pairs().any(|(before, after)| after < before), pairs().any(|(before, after)| after > before))
            }
            (None, Some(Measure::LeastOfEach(_))) => Self::Narrower,
            (Some(Measure::LeastOfEach(_)), None) => Self::Wider,
            (Some(Measure::AnyOf(before)), Some(Measure::AnyOf(after))) => Self::sets(before, after),
            (None, Some(Measure::AnyOf(after))) => Self::sets(&none, after),
            (Some(Measure::AnyOf(before)), None) => Self::sets(before, &none),
            (Some(Measure::AllOf { tests: before, .. }), Some(Measure::AllOf { tests: after, .. })) => Self::sets(after, before),
            (None, Some(Measure::AllOf { tests: after, .. })) => Self::sets(after, &none),
            (Some(Measure::AllOf { tests: before, .. }), None) => Self::sets(&none, before),
            (Some(Measure::OnlyOf { those: before, .. }), Some(Measure::OnlyOf { those: after, .. })) => Self::sets(before, after),
            (None, Some(Measure::OnlyOf { .. })) => Self::Narrower,
            (Some(Measure::OnlyOf { .. }), None) => Self::Wider,
            (Some(Measure::Rows(before)), Some(Measure::Rows(after))) => Self::of(after > before, after < before),
            (Some(Measure::Compared(before)), Some(Measure::Compared(after))) => match (before, after) {
                (Some(before), Some(after)) => Self::sets(after, before),
                (before, after) => Self::of(before.is_none() && after.is_some(), before.is_some() && after.is_none()),
            },
            (Some(Measure::Power { power: one, honours: before }), Some(Measure::Power { power: other, honours: after }))
                if one == other =>
            {
                Self::of(*before && !after, !before && *after)
            }
            _ => Self::Other,
        }
    }

    fn of(wider: bool, narrower: bool) -> Self {
        match (wider, narrower) {
            (true, false) => Self::Wider,
            (false, true) => Self::Narrower,
            _ => Self::Other,
        }
    }

    fn sets(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Self {
        Self::of(after.is_superset(before) && after != before, after.is_subset(before) && after != before)
    }
}
