//! `check`: everything that keeps a gateway from answering, found without starting it.

use std::path::Path;

use chrono::{DateTime, Utc};
use concordat_audit::witness::{Keys, public};
use concordat_guard::ClaimGuard;
use concordat_operate::check::Report;
use concordat_operate::server::unix_now;
use concordat_policy::Agreement;
use concordat_policy::signature::Fault;
use concordat_proto::signature::offer::Texts;
use concordat_proto::v1::Description;
use futures::future::join_all;

use crate::config::{Config, Paths};
use crate::estate::{Estate, forgotten};
use crate::fetch::{Ledgers, Nodes};
use crate::guard;
use crate::issuers::Issuers;
use crate::witness;
use crate::witnessed::Quorum;

/// Checks what `path` names.
pub(super) async fn check(path: &Path) -> Report {
    let mut report = Report::default();
    // Without the paths, the configuration's own finding below says why there are none.
    if let Some(paths) = Paths::read(path) {
        if let Some(identity) = report.identity("certificate towards callers", &paths.server_tls, unix_now())
            && identity.own().is_ok_and(|own| own.names.is_empty())
        {
            report.fail("certificate towards callers", "it names no server", "have it issued for the name that clients connect to");
        }
        report.identity("certificate towards nodes", &paths.client_tls, unix_now());
        report.folder("state", &paths.state);
        report.folder("log folder", &paths.log);
        report.log(&paths.log, witness::LOG, &paths.state);
        witnesses(&mut report, &paths.state);
    }
    match Config::load(path) {
        Err(e) => unusable(&mut report, "configuration", &e),
        Ok(config) => {
            report.ok(format!("configuration {}", path.display()));
            match Issuers::load(&config.issuers) {
                Ok(known) => issuers(&mut report, &known).await,
                Err(e) => unusable(&mut report, "issuers", &e),
            }
            match Estate::load(&config.estate, &config.state) {
                Ok(estate) => {
                    for cause in forgotten(&config.estate, &config.state) {
                        report.warn("revoked keys", &cause, "list it again, or reinstate it");
                    }
                    guard_rails(&mut report, &config, &estate);
                    match estate.objects(&config.estate) {
                        Ok(missions) => {
                            missions.iter().for_each(|one| report.ok(format!("mission '{}': {} outcomes", one.id, one.outcomes.len())))
                        }
                        Err(e) => unusable(&mut report, "missions", &e),
                    }
                    signatures(&mut report, &estate, chrono::Utc::now());
                    match Quorum::of(config.quorum, &estate, config.witnesses.len()) {
                        Ok(quorum) => report.ok(format!("witnesses: {quorum}")),
                        Err(e) => report.fail("witnesses", &e.to_string(), "correct quorum in [witnesses], or leave it out"),
                    }
                    waiting(&mut report, &config.state);
                    departments(&mut report, &config, &estate).await;
                }
                Err(e) => unusable(&mut report, "estate", &e),
            }
        }
    }
    report
}

/// The key by which nodes know this gateway's witness, and those of the departments' witnesses.
fn witnesses(report: &mut Report, state: &Path) {
    let folder = witness::folder(state);
    let remedy = "restore state/witness from a copy: begun anew, it would cosign other histories of the nodes' logs";
    match public(&folder) {
        Ok(None) => report.ok("witness of the nodes' logs: not begun"),
        Ok(Some(key)) => report.ok(format!("witness of the nodes' logs: {key}")),
        Err(e) => report.fail("witness", &e.to_string(), remedy),
    }
    match Keys::at(&folder).all() {
        Ok(keys) => keys.values().for_each(|key| report.ok(format!("witness of this gateway's log: {key}"))),
        Err(e) => report.fail("witnesses of this gateway's log", &e.to_string(), remedy),
    }
}

/// Fetches every issuer's keys, as the gateway would.
async fn issuers(report: &mut Report, issuers: &Issuers) {
    issuers.refresh().await;
    for state in issuers.state() {
        let what = format!("issuer '{}'", state.issuer);
        match state.fault {
            None if state.keys == 0 => report.fail(&what, "it has no key that may be used, so its tokens are refused", "ask its operator"),
            None => report.ok(format!("{what}: {} key(s)", state.keys)),
            Some(cause) => report.fail(&what, &cause.to_string(), "correct [[issuer]], or make the issuer reachable from here"),
        }
    }
}

fn unusable(report: &mut Report, what: &str, error: &miette::Report) {
    let remedy = error.help().map_or_else(|| "correct what is named".to_owned(), |help| help.to_string());
    report.fail(what, &error.to_string(), &remedy);
}

/// Everything that is wrong with the guard rails, each where it stands.
fn guard_rails(report: &mut Report, config: &Config, estate: &Estate) {
    match ClaimGuard::open(config.guard.as_ref(), &guard::known(estate)) {
        Ok(guard) => {
            if let (Some(folder), Some(loaded)) = (guard.folder(), guard.loaded()) {
                report.ok(format!("guard rails {}: {loaded}", folder.display()));
            }
        }
        Err(damage) => {
            for one in damage {
                report.fail(format!("guard rails {}", one.place()), &one.cause, &one.remedy);
            }
        }
    }
}

/// Whether every party has signed our copy of each agreement.
fn signatures(report: &mut Report, estate: &Estate, now: DateTime<Utc>) {
    for succession in estate.signatures.seen().successions().iter() {
        report.ok(succession.to_string());
    }
    for agreement in &estate.agreements {
        let what = format!("agreement '{}'", agreement.id);
        let lacking = estate.signatures.lacking(agreement, now);
        if lacking.is_empty() {
            report.ok(format!("{what}: signed by all of its {} parties", agreement.parties.len()));
        }
        for (department, fault) in lacking {
            let cause = match &fault {
                Fault::Unreadable(cause) => format!("the signature of '{department}' {fault}: {cause}"),
                _ => format!("the signature of '{department}' {fault}, so nothing is asked under it"),
            };
            report.fail(&what, &cause, fault.remedy());
        }
    }
}

/// What passed by on its way between departments, for the operator to put into the estate.
fn waiting(report: &mut Report, state: &Path) {
    let folder = state.join("inbox");
    match Texts::at(folder.clone()).held() {
        Err(e) => report.fail(folder.display(), &format!("cannot be read: {e}"), "run this as the gateway's user"),
        Ok(held) => {
            for one in held {
                report.ok(format!("waits for its signatures, and for you: {}", one.file.display()));
            }
            for broken in Texts::at(folder).unreadable().unwrap_or_default() {
                report.warn(broken.display(), "cannot be read as an agreement", "take the folder away");
            }
        }
    }
}

/// Asks every department's node what it says of itself.
async fn departments(report: &mut Report, config: &Config, estate: &Estate) {
    let (departments, agreements, views) = (&estate.departments, &estate.agreements, &estate.views);
    report.ok(format!("estate: {} department(s), {} agreement(s), {} view(s)", departments.len(), agreements.len(), views.len()));
    let ledgers = match Ledgers::open(&config.state, None) {
        Ok(ledgers) => ledgers,
        Err(e) => return report.fail("state/ledgers.json", &e.to_string(), "repair it from a copy"),
    };
    let nodes = match Nodes::new(departments, config.client_tls.clone(), ledgers) {
        Ok(nodes) => nodes,
        Err(fault) => return report.fault("nodes", &fault),
    };
    let described = join_all(departments.iter().map(async |d| (d, nodes.describe_now(&d.id).await))).await;
    for (department, described) in described {
        let id = department.id.as_str();
        match described {
            Ok(description) => judge(report, id, &description, agreements),
            Err(refusal) => report.fail(
                format!("department '{id}' at {}", department.address),
                &refusal.operator.unwrap_or(refusal.message),
                "do what is named; else start its node, correct its address and server_name in departments.toml, or have its operator pin this gateway's certificate",
            ),
        }
    }
}

/// Compares a node's clock and agreements with ours.
fn judge(report: &mut Report, id: &str, description: &Description, agreements: &[Agreement]) {
    let what = format!("department '{id}'");
    report.ok(format!("{what}: answers, contract version {}", description.contract_version));
    // Who describes itself has passed: its clock, its contract version, its consent ledger.
    match description.time {
        0 => report.warn(&what, "its node does not tell its clock", "bring it to this gateway's version"),
        _ => report.ok(format!("{what}: clocks agree")),
    }
    for agreement in agreements.iter().filter(|a| a.parties.iter().any(|p| p.department.as_str() == id)) {
        match description.agreements.iter().find(|held| held.id == agreement.id.as_str()) {
            None => report.fail(
                &what,
                &format!("its node does not hold agreement '{}'", agreement.id),
                "its operator must put the signed file into the node's agreements folder",
            ),
            Some(held) if held.digest != agreement.digest => report.fail(
                &what,
                &format!("its copy of agreement '{}' is not ours", agreement.id),
                "compare both files with the signed one; orders under it are refused",
            ),
            Some(held) if !held.in_force => {
                report.warn(
                    &what,
                    &format!("agreement '{}' is not in force there", agreement.id),
                    "see its validity, or ask whether the department has signed it, or suspended it",
                );
            }
            Some(_) => report.ok(format!("{what}: holds our agreement '{}'", agreement.id)),
        }
    }
}
