//! The gateway's guard rails, between what agreements permit and what is planned: who may claim which purpose, when, from where.

use chrono::{DateTime, Utc};
use concordat_audit::Entry;
use concordat_guard::{Claim, ClaimGuard, Damage, Known, Loaded, Settings};
use concordat_operate::Fault;
use concordat_policy::{Permit, Refusal};
use miette::miette;

use crate::Gateway;
use crate::authenticate::{Caller, Circumstances};
use crate::estate::Estate;

/// Reads the guard rails.
///
/// # Errors
/// A report of everything wrong with them: a gateway does not start without those that it is told to have.
pub(crate) fn open(settings: Option<&Settings>, estate: &Estate) -> miette::Result<ClaimGuard> {
    ClaimGuard::open(settings, &known(estate)).map_err(|damage| {
        let lines: Vec<String> = damage.iter().map(|one| format!("{one}\n  remedy: {}", one.remedy)).collect();
        miette!(help = "nothing is answered under guard rails that cannot be read", "{}", lines.join("\n"))
    })
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

/// Reads them again and writes into the log what is in force from now on.
///
/// # Errors
/// The first thing wrong with them: what was in force stays so.
pub(crate) fn reload(gateway: &Gateway) -> Result<String, Fault> {
    let loaded = gateway.guard.reload(&known(&gateway.estate)).map_err(|damage| fault(&damage))?;
    let Some(loaded) = loaded else { return Ok("none".into()) };
    let (log, entry) = (gateway.log.clone(), in_force(Entry::new("guard_rails.loaded"), Some(&loaded)));
    tokio::spawn(async move {
        if let Err(e) = log.append(entry).await {
            tracing::error!(cause = %e, "the access log cannot be written; every call is refused");
        }
    });
    Ok(loaded.to_string())
}

/// Adds to an entry which guard rails are in force.
pub(crate) fn in_force(entry: Entry, loaded: Option<&Loaded>) -> Entry {
    match loaded {
        Some(Loaded { rails, digest, .. }) => entry.field("guard_rails", *rails).field("guard_rails_digest", digest.as_str()),
        None => entry,
    }
}

/// What is wrong, as one fault.
fn fault(damage: &[Damage]) -> Fault {
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
