//! `check`: everything that keeps a node from serving, found without starting it.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{SecondsFormat, Utc};
use concordat_audit::witness as audit;
use concordat_operate::Fault;
use concordat_operate::check::Report;
use concordat_operate::server::unix_now;
use concordat_policy::signature::Fault as SignatureFault;

use super::suspend;
use crate::config::{Config, Findings, Paths};
use crate::consent::ledger::look;
use crate::datasets::Datasets;
use crate::linkage;
use crate::witness::{self, GATEWAY_LOG, log_of};

/// How far clocks may differ, in seconds.
const CLOCKS: i64 = 30;

/// Checks what `path` names.
pub(crate) async fn check(path: &Path) -> Report {
    let mut report = Report::default();
    // Without the paths, the configuration's own findings below say why there are none.
    if let Ok(paths) = Paths::read(path) {
        report.identity("certificate", &paths.tls, unix_now());
        for (what, folder) in [("state", &paths.state), ("spill", &paths.spill), ("log folder", &paths.log)] {
            report.folder(what, folder);
        }
        report.log(&paths.log, &log_of(&paths.department), &paths.state);
        clock(&mut report, &paths.log);
        suspend::check(&mut report, &paths);
        ledger(&mut report, &paths.state);
        witness(&mut report, &paths.state);
    }
    match Config::load(path) {
        Ok(config) => sound(&mut report, &config).await,
        Err(findings) => found(&mut report, "configuration", &findings),
    }
    report
}

async fn sound(report: &mut Report, config: &Config) {
    let (department, agreements) = (&config.department, config.agreements.len());
    report.ok(format!("configuration of '{department}': {agreements} agreement(s), keys as in the agreements"));
    let now = Utc::now();
    for succession in config.signatures.seen().successions().iter() {
        report.ok(succession.to_string());
    }
    for agreement in &config.agreements {
        if let Ok(at) = config.signatures.judge(agreement, department, now) {
            report.ok(format!(
                "agreement '{}': signed by this department at {}",
                agreement.id,
                at.to_rfc3339_opts(SecondsFormat::Secs, true)
            ));
        }
    }
    for (agreement, fault) in config.unsigned(now) {
        let detail = if let SignatureFault::Unreadable(cause) = &fault { format!(": {cause}") } else { String::new() };
        let cause = format!("this department's own signature {fault}{detail}, so nothing is released under it");
        let sign = format!("`concordat-node agreement sign {}` shows what would be signed and asks", agreement.id);
        let remedy = if fault.signing_helps() { sign.as_str() } else { fault.remedy() };
        report.fail(format!("agreement '{}'", agreement.id), &cause, remedy);
    }
    match linkage::kept(&config.state, &config.at_rest) {
        Ok(kept) => report.ok(format!("linkage keys: {} of domains, {}", kept.len(), config.at_rest.title())),
        Err(e) => {
            report.fail("linkage keys", &e.to_string(), "correct [keys.at_rest], or restore the file; without its key a domain is lost")
        }
    }
    if let (Some(folder), Some(loaded)) = (config.guard.folder(), config.guard.loaded()) {
        report.ok(format!("guard rails {}: {loaded}", folder.display()));
    }
    for warning in &config.warnings {
        report.warn("configuration", warning, "correct it when the agreement or the dataset next changes");
    }
    match Datasets::open(config).await {
        Ok(datasets) => {
            report.ok(format!("datasets: {} can be read as declared", datasets.iter().count()));
            for warning in &datasets.warnings {
                report.warn("database", warning, "GRANT SELECT ON the table to a role of its own, and name that in `url`");
            }
        }
        Err(findings) => found(report, "dataset", &findings),
    }
}

fn found(report: &mut Report, what: &str, findings: &Findings) {
    for finding in &findings.findings {
        report.fault(what, &Fault::new(finding.place(), finding.cause(), finding.remedy()));
    }
}

fn ledger(report: &mut Report, state: &Path) {
    let what = "consent ledger";
    match look(state) {
        Ok(None) => report.ok("consent ledger: holds nothing of people who were erased but what holds their data back"),
        Ok(Some(version)) => report.warn(
            what,
            &format!("its file still holds older copies of people erased up to version {version}"),
            "the running node wipes them once nobody reads the ledger: start it, or end what reads the file, such as a backup",
        ),
        Err(e) => report.fail(what, &e.to_string(), "restore the newest ledger, or correct the folder's permissions"),
    }
}

/// The key by which others know this department's witness, and what it cosigned last.
fn witness(report: &mut Report, state: &Path) {
    let folder = witness::folder(state);
    let remedy = "restore state/witness from a copy: begun anew, it would cosign another history of the gateway's log";
    match audit::public(&folder) {
        Ok(None) => report.ok("witness of the gateway's log: not begun"),
        Ok(Some(key)) => {
            report.ok(format!("witness of the gateway's log: {key}"));
            match audit::known(&folder, GATEWAY_LOG) {
                Ok(None) => report.ok("the gateway's log: not seen yet"),
                Ok(Some((key, latest))) => report.ok(format!("the gateway's log: {} entries cosigned, of {key}", latest.size)),
                Err(e) => report.fail("witness", &e.to_string(), remedy),
            }
        }
        Err(e) => report.fail("witness", &e.to_string(), remedy),
    }
}

/// A log that was written in the future tells of a clock that goes back.
fn clock(report: &mut Report, log: &Path) {
    let written = std::fs::metadata(log.join("tail")).and_then(|m| m.modified()).unwrap_or(UNIX_EPOCH);
    let ahead = written.duration_since(SystemTime::now()).map_or(0, |ahead| i64::try_from(ahead.as_secs()).unwrap_or(i64::MAX));
    if ahead > CLOCKS {
        report.fail(
            "clock",
            &format!("the log was last written {ahead} s in the future"),
            "correct this machine's clock (NTP): orders and receipts live for seconds",
        );
    } else {
        report.ok("clock: not behind the log; the gateway's check compares it with its own");
    }
}
