//! `check` finds what is wrong, with cause and remedy, and goes on.

use std::path::Path;
use std::process::Command;

use chrono::{Days, Utc};
use concordat::federation::{Authority, GATEWAY_SERVER_NAME};

use crate::sandbox::{Sandbox, program};

/// Whether nothing failed, and the lines.
fn check(kind: &str, folder: &Path) -> (bool, Vec<String>) {
    let done = Command::new(program()).args([kind, "check", "--config"]).arg(folder.join(format!("{kind}.toml"))).output().unwrap();
    let lines = String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect();
    (done.status.success(), lines)
}

/// The failures; each must have a cause and a remedy.
#[track_caller]
fn failures(lines: &[String]) -> Vec<&String> {
    for line in lines {
        assert!(["ok  ", "warn", "FAIL"].iter().any(|mark| line.starts_with(mark)), "{line}");
    }
    let failed: Vec<_> = lines.iter().filter(|l| l.starts_with("FAIL")).collect();
    assert!(failed.iter().all(|l| l.contains(": ") && l.contains("; ")), "{failed:#?}");
    failed
}

#[track_caller]
fn finds(lines: &[String], all: &[&str]) {
    let failed = failures(lines);
    assert!(failed.iter().any(|line| all.iter().all(|part| line.contains(part))), "{all:?} is not in {lines:#?}");
}

#[tokio::test]
async fn checks_pass_where_all_is_well_and_find_each_thing_that_is_not() {
    let mut sandbox = Sandbox::start(300).await;
    let (gateway, dfe) = (sandbox.layout.gateway(), sandbox.layout.node("dfe"));
    for (kind, folder) in [("gateway", &gateway), ("node", &dfe)] {
        let (good, lines) = check(kind, folder);
        assert!(good && failures(&lines).is_empty(), "{lines:#?}");
        assert!(lines.iter().any(|l| l.starts_with("warn") && l.contains("a running program holds it")), "{lines:#?}");
    }
    let lines = check("gateway", &gateway).1;
    for said in [
        "department 'dwp': clocks agree",
        "department 'dwp': holds our agreement",
        "agreement 'opportunity': signed by all of its 5 parties",
        "issuer 'https://issuer.example.internal': 1 key(s)",
        "valid until",
    ] {
        assert!(lines.iter().any(|l| l.starts_with("ok") && l.contains(said)), "{said}: {lines:#?}");
    }

    // All at once: a node that is gone, another agreement, an expired certificate, another's key.
    sandbox.running.kill("dwp");
    let agreement = sandbox.layout.estate().join("agreements/opportunity.toml");
    let text = std::fs::read_to_string(&agreement).unwrap();
    std::fs::write(&agreement, format!("# another copy\n{text}")).unwrap();
    let old = Authority::open(&sandbox.layout, Utc::now().date_naive() - Days::new(800)).unwrap();
    let expired = old.server("gateway", &[GATEWAY_SERVER_NAME]).unwrap();
    std::fs::write(gateway.join("tls/gateway.pem"), &expired.certificate).unwrap();
    std::fs::write(gateway.join("tls/gateway.key.pem"), &expired.key).unwrap();
    let (good, lines) = check("gateway", &gateway);
    assert!(!good);
    finds(&lines, &["gateway.pem", "expired on", "renew it"]);
    finds(&lines, &["department 'dwp'", "start its node"]);
    finds(&lines, &["is not ours", "compare both files"]);
    finds(&lines, &["agreement 'opportunity'", "the signature of 'dfe' signs another text", "a new signature of every party"]);

    let other = sandbox.authority.server("gateway", &[GATEWAY_SERVER_NAME]).unwrap();
    std::fs::write(gateway.join("tls/gateway.key.pem"), &other.key).unwrap();
    finds(&check("gateway", &gateway).1, &["gateway.key.pem", "is not the key of", "use the private key"]);
    std::fs::remove_file(gateway.join("tls/client.key.pem")).unwrap();
    let (good, lines) = check("gateway", &gateway);
    assert!(!good && failures(&lines).len() >= 2, "{lines:#?}");
    finds(&lines, &["client.key.pem", "cannot be read", "correct the path"]);

    let source = dfe.join("data").join(source(&dfe));
    if source.is_dir() {
        std::fs::remove_dir_all(source).unwrap()
    } else {
        std::fs::remove_file(source).unwrap()
    }
    std::fs::remove_file(dfe.join("tls/ca.pem")).unwrap();
    let (good, lines) = check("node", &dfe);
    assert!(!good);
    finds(&lines, &["ca.pem", "cannot be read"]);
}

/// One of a node's data files.
fn source(node: &Path) -> std::ffi::OsString {
    std::fs::read_dir(node.join("data")).unwrap().next().unwrap().unwrap().file_name()
}
