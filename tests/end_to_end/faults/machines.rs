//! Faults of a machine: clocks that are off, disks that are full, certificates that expire, a gateway that restarts beneath
//! detached queries.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use concordat::federation::{Layout, node_server_name};
use concordat_policy::Code;

use super::matrix::signal;
use super::proxy::Proxy;
use crate::sandbox::{Sandbox, program, refused, until};

const ONE: &str = "SELECT count(DISTINCT subject) AS n FROM dwp.claims WHERE claiming";
const OTHER: &str = "SELECT region, count(*) AS n FROM dfe.attainment GROUP BY region";

/// Starts DWP's node, and nothing else, by way of `prelude`: shell.
fn wrapped(layout: &Layout, prelude: &str) {
    let script = format!("#!/bin/bash\ncase \"$*\" in *nodes/dwp/*) {prelude};; esac\nexec {} \"$@\"\n", program().display());
    let path = layout.folder().join("program");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The library that gives a process another clock; `tests/run` installs it.
fn faketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketimeMT.so.1")));
    let found = folders.chain([PathBuf::from("/usr/lib/faketime/libfaketimeMT.so.1")]).find(|path| path.exists());
    found.expect("install faketime: apt-get install faketime")
}

/// A world in which DWP's clock is off by what a file says.
async fn with_clock() -> (Sandbox, PathBuf) {
    let mut file = PathBuf::new();
    let layout = |layout: &Layout| {
        file = layout.folder().join("clock");
        set_clock(&file, 0);
        let preload = faketime();
        wrapped(
            layout,
            &format!(
                "export LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE={} FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1",
                preload.display(),
                file.display()
            ),
        );
    };
    let sandbox = Sandbox::with(300, |_| {}, layout).await;
    (sandbox, file)
}

fn set_clock(file: &Path, seconds: i64) {
    std::fs::write(file, format!("{seconds:+}\n")).unwrap();
}

#[tokio::test]
async fn a_clock_that_is_off_by_31_seconds_is_named_and_30_are_allowed() {
    let (mut sandbox, clock) = with_clock().await;
    sandbox.query(OTHER).await.unwrap();
    for (seconds, says) in [(31, "'dwp' is 31 s ahead of"), (-31, "'dwp' is 31 s behind")] {
        set_clock(&clock, seconds);
        // What the gateway was told of the clock is believed for half a minute; a new one asks.
        sandbox.running.restart_gateway().await.unwrap();
        sandbox.query(OTHER).await.unwrap();
        let failure = refused(sandbox.query(ONE).await, Code::NodeRefused, says);
        assert_eq!(failure.department.as_deref(), Some("dwp"));
        assert!(
            failure.message.contains("the other departments'") && failure.message.contains("the department must correct"),
            "{failure:?}"
        );
        let departments = sandbox.client().await.departments().await.unwrap();
        assert!(departments.iter().any(|d| d.id == "dwp" && !d.reachable && d.fault.contains("31 s")));
        // The second in which a clock is read belongs to either side.
        set_clock(&clock, seconds.signum() * 29);
        sandbox.query(ONE).await.unwrap();
    }
}

#[tokio::test]
async fn a_clock_that_leaps_inside_a_query_ends_in_an_answer_or_names_the_department() {
    let (mut sandbox, clock) = with_clock().await;
    let proxy = Proxy::before(&mut sandbox, "dwp").await;
    sandbox.query(ONE).await.unwrap();
    proxy.passed();
    sandbox.query(ONE).await.unwrap();
    let bytes = proxy.passed();
    for leap in [31, -31] {
        for (place, after) in [("the order", 0), ("the stream", bytes / 2)] {
            let client = sandbox.client().await;
            proxy.hold_after(after);
            let query = tokio::spawn(async move { client.query(ONE).await });
            proxy.held().await;
            set_clock(&clock, leap);
            proxy.heal();
            match query.await.unwrap() {
                Ok(answer) => assert_eq!(answer.batches.iter().map(|b| b.num_rows()).sum::<usize>(), 1, "{leap} at {place}"),
                Err(failure) => {
                    assert!(matches!(failure.code, Some(Code::NodeFaulty | Code::NodeRefused)), "{leap} at {place}: {failure:?}");
                    assert_eq!(failure.department.as_deref(), Some("dwp"));
                    assert!(failure.message.contains("clock"), "{leap} at {place}: {failure:?}");
                }
            }
            set_clock(&clock, 0);
            sandbox.query(ONE).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_node_without_room_to_sort_refuses_and_goes_on_when_there_is_room() {
    let tight = |layout: &Layout| {
        // As soon as the file is there, no file may grow beyond 128 KiB: the spilled rows do, the log does not.
        let flag = layout.folder().join("full");
        wrapped(layout, &format!("if [ -e {} ]; then trap '' XFSZ; ulimit -f 128; fi", flag.display()));
    };
    let small = |federation: &mut concordat::federation::Federation| {
        federation.departments.iter_mut().filter(|d| d.id == "dwp").for_each(|d| d.release_memory_mib = Some(1));
    };
    let mut sandbox = Sandbox::with(60_000, small, tight).await;
    let query = "SELECT count(DISTINCT subject) AS n, avg(months_claiming) AS m FROM dwp.claims";
    sandbox.query(query).await.unwrap();
    sandbox.running.kill("dwp");
    let flag = sandbox.layout.folder().join("full");
    std::fs::write(&flag, "").unwrap();
    sandbox.running.restart_node("dwp").await.unwrap();
    let failure = refused(sandbox.query(query).await, Code::NodeRefused, "no room on its disk");
    assert_eq!(failure.department.as_deref(), Some("dwp"));
    sandbox.query(OTHER).await.unwrap();
    assert_eq!(std::fs::read_dir(sandbox.layout.node("dwp").join("spill")).unwrap().count(), 0, "what was spilled is gone");
    sandbox.running.kill("dwp");
    std::fs::remove_file(&flag).unwrap();
    sandbox.running.restart_node("dwp").await.unwrap();
    sandbox.query(query).await.unwrap();
}

/// A server's certificate of DWP's node that is valid for so many seconds, and its key.
fn short_lived(layout: &Layout, seconds: u64) -> (String, String) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let read = |name: &str| std::fs::read_to_string(layout.ca().join(name)).unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.distinguished_name.push(DnType::CommonName, "Concordat: private authority for trying out");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let issuer = Issuer::new(ca, KeyPair::from_pem(&read("ca.key.pem")).unwrap());
    let mut params = CertificateParams::new(vec![node_server_name("dwp")]).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now.as_secs() + seconds);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn a_certificate_that_expires_while_its_node_serves_is_named_and_renewed() {
    let mut sandbox = Sandbox::with(300, |_| {}, |layout| replace(layout, &short_lived(layout, 8))).await;
    let proxy = Proxy::before(&mut sandbox, "dwp").await;
    sandbox.query(ONE).await.unwrap();
    let folder = sandbox.layout.node("dwp");
    tokio::time::sleep(Duration::from_secs(9)).await;
    // Who was let in stays; the next connection is refused.
    sandbox.query(ONE).await.unwrap();
    proxy.cut();
    tokio::time::sleep(Duration::from_millis(50)).await;
    proxy.heal();
    let failure = refused(sandbox.query(ONE).await, Code::NodeUnavailable, "certificate");
    assert_eq!(failure.department.as_deref(), Some("dwp"));
    sandbox.query(OTHER).await.unwrap();
    replace(&sandbox.layout, &short_lived(&sandbox.layout, 3_600));
    signal(&sandbox, "dwp", "HUP");
    until("the node has its new certificate", || {
        std::fs::read_to_string(folder.join("stderr.log")).unwrap().matches("reloaded what=\"server certificate\"").count() > 0
    })
    .await;
    let since = std::time::Instant::now();
    while let Err(failure) = sandbox.query(ONE).await {
        assert!(since.elapsed() < Duration::from_secs(5), "{failure:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn replace(layout: &Layout, (certificate, key): &(String, String)) {
    let folder = layout.node("dwp").join("tls");
    std::fs::write(folder.join("node.key.pem"), key).unwrap();
    std::fs::write(folder.join("node.pem"), certificate).unwrap();
}

#[tokio::test]
async fn detached_queries_that_a_restart_lost_are_said_to_be_lost() {
    let mut sandbox = Sandbox::start(300).await;
    let id = sandbox.client().await.detach(ONE).await.unwrap();
    let client = sandbox.client().await;
    client.result(&id).await.unwrap();
    sandbox.running.restart_gateway().await.unwrap();
    let client = sandbox.client().await;
    refused(client.detached(&id, 0).await, Code::Denied, "the gateway has restarted");
    // Of this run, an id that never was looks like one of somebody else's.
    let mut other = client.detach(ONE).await.unwrap();
    other.replace_range(20.., "000000000000");
    refused(client.detached(&other, 0).await, Code::Denied, "no detached query of yours");
}
