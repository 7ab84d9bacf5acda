//! Callers in access logs: by commitment, opened by who may read the store, and erased.

use std::fs;
use std::path::Path;

use concordat::failure::LOCAL;
use serde_json::Value;

use crate::commands::{Ran, command};
use crate::sandbox::{Sandbox, until};

const ONE: &str = "SELECT region, count(*) AS n FROM dfe.attainment GROUP BY region";

fn audit(arguments: &[&str]) -> Ran {
    command(["audit"].iter().chain(arguments)).output().unwrap().into()
}

fn lines(ran: &Ran) -> Vec<Value> {
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    ran.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whether a file of the log that holds entries or hashes has these bytes.
fn holds(path: &Path, needle: &[u8]) -> bool {
    match path.is_dir() {
        true => fs::read_dir(path).unwrap().any(|entry| holds(&entry.unwrap().path(), needle)),
        // Partial tiles go while the log grows.
        false => fs::read(path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle)),
    }
}

#[tokio::test]
async fn a_caller_is_a_commitment_that_the_store_opens_until_it_is_erased() {
    let sandbox = Sandbox::start(1_000).await;
    sandbox.query(ONE).await.unwrap();
    let person = |of: &str, event: &str| {
        let found = sandbox.log(of).into_iter().rfind(|e| e["event"] == event && e["caller"] == "analyst-1");
        found.unwrap_or_else(|| panic!("no {event} of the caller at {of}"))["person"].as_str().unwrap().to_owned()
    };
    let (asked, released) = (person("gateway", "query.opened"), person("dfe", "release.intended"));
    assert_ne!(asked, released, "two logs cannot be joined by their callers");
    let log = sandbox.layout.gateway().join("log");
    for log in [&log, &sandbox.layout.node("dfe").join("log")] {
        for part in ["tile", "tail"] {
            assert!(!holds(&log.join(part), b"analyst-1"), "{}", log.join(part).display());
        }
    }
    let log = log.to_str().unwrap();

    let told = lines(&audit(&["person", "--log", log, "--subject", "analyst-1", "--output", "json"]));
    assert!(told.len() == 1 && told[0]["person"] == asked.as_str(), "{told:?}");
    let told = lines(&audit(&["who", &asked[..12], "--log", log, "--output", "json"]));
    assert_eq!(told[0]["subject"], "analyst-1");
    let list = ["list", "--log", log, "--person", &asked[..12], "--output", "json"];
    let listed = lines(&audit(&list));
    assert!(listed.iter().any(|e| e["event"] == "query.opened"), "{listed:?}");
    assert!(listed.iter().any(|e| e["event"] == "query.closed"), "what ends a query has its caller: {listed:?}");
    assert!(listed.iter().all(|e| e["caller"] == "analyst-1"), "{listed:?}");
    let unknown = audit(&["who", "0123456789ab", "--log", log]);
    assert!(unknown.exit == i32::from(LOCAL) && unknown.stderr.contains("each log has its own"), "{}", unknown.stderr);
    // Who reads the log without its store sees commitments.
    let copy = tempfile::tempdir().unwrap();
    fs::copy(Path::new(log).join("tail"), copy.path().join("tail")).unwrap();
    let sealed = audit(&["list", "--log", copy.path().to_str().unwrap(), "--event", "query.opened"]);
    assert!(sealed.exit == 0 && sealed.text().contains(&format!("{}…", &asked[..12])), "{}", sealed.text());
    assert!(!sealed.text().contains("analyst-1"), "{}", sealed.text());

    let erased = audit(&["erase-person", &asked, "--log", log]);
    assert!(erased.exit == 0 && erased.text().contains("person.erased"), "{} {}", erased.text(), erased.stderr);
    until("the log tells of it", || sandbox.log("gateway").iter().any(|e| e["event"] == "person.erased" && e["person"] == asked.as_str()))
        .await;
    let listed = lines(&audit(&list));
    assert!(!listed.is_empty() && listed.iter().all(|e| e.get("caller").is_none() && e["person"] == asked.as_str()), "{listed:?}");
    assert!(listed.iter().all(|e| e["event"] == "person.erased" || e["organisation"] == "mission-unit"), "{listed:?}");
    let again = audit(&["erase-person", &asked, "--log", log]);
    assert!(again.exit == i32::from(LOCAL) && again.stderr.contains("no person"), "{}", again.stderr);
    assert_eq!(person("dfe", "release.intended"), released, "the department's log is its own");

    // The same caller is somebody new, without a restart.
    sandbox.query(ONE).await.unwrap();
    assert_ne!(person("gateway", "query.opened"), asked);
}
