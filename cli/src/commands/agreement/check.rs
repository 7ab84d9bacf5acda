//! `agreement check`: is the file sound, and who has signed it?

use std::fmt::Write as _;
use std::path::Path;

use chrono::{DateTime, SecondsFormat, Utc};
use concordat_policy::signature::Fault;
use concordat_policy::{Agreement, Basis, Signatures};

use super::files::{self, Gateway};
use crate::failure::{Failure, Result};
use crate::out;

/// What is said of a text in an inbox that is judged by what lies beside it.
pub(super) const OVERLOOKED: &str = "FAIL revoked keys and successions were not looked at: they do not lie in an inbox; at the gateway, add \
     --estate and --state as gateway.toml names them\n";

pub(super) fn check(path: &Path, gateway: Option<Gateway<'_>>, now: DateTime<Utc>) -> Result<()> {
    let agreement = files::agreement(path)?;
    let found = files::signatures(path, &agreement, gateway)?;
    let mut text = format!("ok   {}: agreement '{}', sha256 {}\n", path.display(), agreement.id, agreement.digest);
    remarks(&mut text, &agreement, now);
    text.push_str(&signatures(&agreement, &found, gateway, now));
    let overlooked = gateway.is_none() && files::in_an_inbox(path);
    if overlooked {
        text.push_str(OVERLOOKED);
    }
    out::result(&text)?;
    let lacking = found.lacking(&agreement, now).into_iter().filter(|(_, fault)| gateway.is_some() || *fault != Fault::Replaced);
    match lacking.count() {
        0 if overlooked => Err(Failure::new("revoked keys and successions were not looked at, so nobody can tell whether it is signed")
            .advice("at the gateway, add --estate and --state as gateway.toml names them; at a node: `concordat-node agreement review`")),
        0 => Ok(()),
        lacking => Err(Failure::new(format!("{lacking} of {} parties have not signed this text", agreement.parties.len()))
            .advice("each FAIL line names its remedy; nothing is shared under it before")),
    }
}

/// One line for each succession of a party's key, and for each party's signature. What was seen before a key was replaced, only the
/// programs know that saw it: a gateway, where one is named.
pub(super) fn signatures(agreement: &Agreement, found: &Signatures, gateway: Option<Gateway<'_>>, now: DateTime<Utc>) -> String {
    let mut text = String::new();
    for succession in found.seen().successions().iter().filter(|one| agreement.party(&one.department).is_some()) {
        let _ = writeln!(text, "ok   {succession}");
    }
    for party in &agreement.parties {
        let _ = match found.judge(agreement, &party.department, now) {
            Ok(at) => writeln!(text, "ok   signed by '{}' at {}", party.department, at.to_rfc3339_opts(SecondsFormat::Secs, true)),
            Err(fault @ Fault::Replaced) if gateway.is_none() => writeln!(
                text,
                "warn the signature of '{}' is made with a key that was replaced: it counts where it was seen before; elsewhere, {}",
                party.department,
                fault.remedy()
            ),
            Err(fault) => {
                let detail = if let Fault::Unreadable(cause) = &fault { format!(": {cause}") } else { String::new() };
                writeln!(text, "FAIL the signature of '{}' {fault}{detail}; {}", party.department, fault.remedy())
            }
        };
    }
    text
}

/// What is no mistake, and what its authors may have overlooked.
pub(super) fn remarks(text: &mut String, agreement: &Agreement, now: DateTime<Utc>) {
    let mut warn = |what: &str| {
        let _ = writeln!(text, "warn {what}");
    };
    if !agreement.in_force(now) {
        warn(&format!("it is not in force today: it runs from {} to {}", agreement.valid_from, agreement.valid_until));
    }
    if agreement.review_on.is_some_and(|day| day < now.date_naive()) {
        warn("the day of its review has passed");
    }
    if agreement.recipients.iter().all(|recipient| recipient.roles.is_empty()) {
        warn("nobody may receive answers: no recipient has a role");
    }
    if agreement.tells_differences() {
        warn(&format!(
            "numbers are told to the nearest {} and without noise, of people whom conditions or computed keys choose: two \
             statements that differ by one person tell what that person has; round_to = 5 or a perturbation hides most of it",
            agreement.disclosure.round_to
        ));
    }
    for dataset in &agreement.datasets {
        if dataset.subject_uses.is_empty() && dataset.columns.values().all(|rule| rule.uses.is_empty()) {
            warn(&format!("{} may not be used at all", dataset.name));
        }
        if matches!(&dataset.basis, Basis::Statutory { power, .. } if power == crate::commands::init::POWER_TO_BE_NAMED) {
            warn(&format!("nobody has named the power that lets {} be used", dataset.name));
        }
        for (column, _) in dataset.columns.iter().filter(|(_, rule)| rule.tells_quantiles()) {
            warn(&format!(
                "{}.{column}: conditions may compare it with any value, which tells its quantiles exactly; give it bands or a list: \
                 filter = \"bands\" with bands = [...], or filter = \"listed\" with values = [...]",
                dataset.name
            ));
        }
    }
}
