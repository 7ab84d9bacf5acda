//! The disclosure rules of an agreement's document.

use concordat_policy::Disclosure;
use concordat_policy::disclosure::{Dominance, Perturbation};

use super::{quoted, table};
use crate::failure::{Failure, Result};
use crate::federation::describe::Agreement;

/// The table of what is not as it would be if the document said nothing.
///
/// # Errors
/// When there is not one dominance rule: a document states one.
pub(super) fn disclosure(agreement: &Agreement) -> Result<String> {
    let stated = lines(agreement, &agreement.disclosure)?;
    let default = lines(agreement, &Disclosure::default())?;
    let differing: Vec<String> = stated.into_iter().filter(|line| !default.contains(line)).collect();
    Ok(table("disclosure", &differing))
}

/// Every rule as its line.
fn lines(agreement: &Agreement, rules: &Disclosure) -> Result<Vec<String>> {
    let Disclosure { dominance, p_percent, round_to, complement, homogeneous, zeros, margins, perturbation } = rules;
    let dominance: Vec<&Dominance> = dominance.iter().collect();
    let [Dominance { largest, share }] = dominance.as_slice() else {
        return Err(Failure::new(format!(
            "agreement '{}' has {} dominance rules, and its document states one",
            agreement.id,
            dominance.len()
        ))
        .advice("describe one; with share = 100 it withholds nothing"));
    };
    let mut lines = vec![
        format!("dominance = {{ largest = {largest}, share = {share} }}\n"),
        format!("p_percent = {p_percent}\n"),
        format!("round_to = {round_to}\n"),
        format!("complement = {}\n", quoted(complement.as_str())),
        format!("homogeneous = {}\n", quoted(homogeneous.as_str())),
        format!("zeros = {}\n", quoted(zeros.as_str())),
        format!("margins = {}\n", quoted(margins.as_str())),
    ];
    lines
        .extend(perturbation.map(|Perturbation { variance, most }| format!("perturbation = {{ variance = {variance}, most = {most} }}\n")));
    Ok(lines)
}
