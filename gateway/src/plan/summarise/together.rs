//! Which values of a row are compared by whom they tell of together (`concordat_protect::kinds`): those that choose among rows, where they
//! do so in different ways. Of others nothing more is computed.

use std::collections::HashSet;

use concordat_policy::Disclosure;
use concordat_policy::disclosure::Telling;
use datafusion::common::Result;
use datafusion::logical_expr::{Expr, Operator, binary_expr, when};
use datafusion::prelude::lit;

use super::super::protect::Condition;
use super::levels::decided;
use super::summary::{Measure, Summary};

/// The column of the inner level that says what a subject's rows meet.
pub(in crate::plan) const MET: &str = "__met";

/// They, and where each stands; none where there is nothing to compare.
pub(super) fn compared<'a>(summaries: &'a [Summary], rules: &Disclosure) -> Vec<(usize, &'a Summary)> {
    let choosing = || summaries.iter().enumerate().filter(|(_, summary)| summary.chooses.is_some());
    let ways: HashSet<&[Expr]> = choosing().filter_map(|(_, summary)| summary.chooses.as_ref()).map(Condition::chosen_by).collect();
    if ways.len() < 2 || rules.complement == Telling::Shown { Vec::new() } else { choosing().collect() }
}

/// Of one row, which of them are of it: of the value at place n bit n.
pub(super) fn rows_meet(compared: &[(usize, &Summary)]) -> Result<Option<Expr>> {
    let mut all = None;
    for (place, summary) in compared {
        let there = summary.argument.clone().is_not_null();
        let meets = summary.filter.iter().chain(&summary.condition).cloned().fold(there, Expr::and);
        let one = when(decided(meets)?, lit(bit(*place))).otherwise(lit(0u64))?;
        all = Some(all.map_or(one.clone(), |all| binary_expr(all, Operator::BitwiseOr, one)));
    }
    Ok(all)
}

/// Those that count each person once.
pub(super) fn of_people(compared: &[(usize, &Summary)]) -> u64 {
    let people = compared.iter().filter(|(_, summary)| summary.measure == Measure::Subjects);
    people.fold(0, |bits, (place, _)| bits | bit(*place))
}

fn bit(place: usize) -> u64 {
    u32::try_from(place).ok().and_then(|place| 1u64.checked_shl(place)).unwrap_or(0)
}
