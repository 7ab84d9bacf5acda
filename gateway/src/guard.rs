//! The gateway's guard rails, between what agreements permit and what is planned: who may claim which purpose, when, from where.

use chrono::{DateTime, Utc};
use concordat_audit::Entry;
use concordat_guard::{Claim, ClaimGuard, Damage, Known, Loaded, Settings};
use concordat_operate::Fault;
use concordat_policy::{Permit, Refusal};
use miette::miette;

use crate::authenticate::{Caller, Circumstances};
use crate::estate::Estate;

/// The estate with the guard rails that are to be, read for its own names.
///
/// # Errors
/// Everything wrong with them.
pub(crate) fn guarded(estate: Estate, settings: Option<&Settings>) -> Result<Estate, Vec<Damage>> {
    let guard = ClaimGuard::open(settings, &known(&estate))?;
    Ok(Estate { guard, ..estate })
}

/// Decides whether the caller may claim the purpose, for which an agreement gave `permit`.
///
/// # Errors
/// [`concordat_policy::Code::Denied`], naming the guard rail.
pub(crate) fn decide(guard: &ClaimGuard, caller: &Caller, permit: &Permit, now: DateTime<Utc>) -> Result<(), Refusal> {
    let Circumstances { training_until, address } = caller.circumstances();
    let claim = Claim {
        organisation: &caller.organisation,
        roles: &caller.roles,
        issuer: caller.issuer(),
        training_until,
        purpose: permit.purpose(),
        mission: permit.mission(),
        address,
    };
    guard.decide(&claim, now)
}

/// What the log is told of guard rails that were read again: nothing where they are the same.
pub(crate) fn replaced(before: Option<&Loaded>, now: Option<&Loaded>) -> Option<Entry> {
    (before != now).then(|| in_force(Entry::new("guard_rails.loaded"), now))
}

/// Adds to an entry which guard rails are in force.
pub(crate) fn in_force(entry: Entry, loaded: Option<&Loaded>) -> Entry {
    match loaded {
        Some(Loaded { rails, digest, .. }) => entry.field("guard_rails", *rails).field("guard_rails_digest", digest.as_str()),
        None => entry,
    }
}

/// Everything that is wrong: a gateway does not start without the guard rails that it is told to have.
pub(crate) fn report(damage: &[Damage]) -> miette::Report {
    let lines: Vec<String> = damage.iter().map(|one| format!("{one}\n  remedy: {}", one.remedy)).collect();
    miette!(help = "nothing is answered under guard rails that cannot be read", "{}", lines.join("\n"))
}

/// What is wrong, as one fault.
pub(crate) fn fault(damage: &[Damage]) -> Fault {
    let one = Damage::first_of(damage);
    Fault::new(one.place(), one.cause, one.remedy)
}

/// The names that guard rails may speak of.
pub(crate) fn known(estate: &Estate) -> Known {
    Known {
        purposes: estate.purposes.clone(),
        missions: estate.missions.iter().map(|mission| mission.id.clone()).collect(),
        ..Known::default()
    }
}
