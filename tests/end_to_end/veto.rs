//! What a department decides alone: it suspends, previews and resumes beside its running node, and the whole federation keeps to it.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use concordat_policy::Code;
use serde_json::Value;

use crate::oracle::rows;
use crate::sandbox::{Sandbox, program, refused, until};

const BOTH: &str =
    "SELECT a.region, avg(c.months_claiming) AS m FROM dfe.attainment a JOIN dwp.claims c ON a.subject = c.subject GROUP BY a.region";
const ONE: &str = "SELECT region, count(*) AS n FROM dfe.attainment GROUP BY region";

/// `concordat node …` with a node's configuration.
fn node(folder: &Path, args: &[&str]) -> Output {
    Command::new(program()).arg("node").args(args).arg("--config").arg(folder.join("node.toml")).output().unwrap()
}

#[track_caller]
fn done(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    out.into_owned()
}

fn events(sandbox: &Sandbox, department: &str, event: &str) -> Vec<Value> {
    sandbox.log(department).into_iter().filter(|entry| entry["event"] == event).collect()
}

#[tokio::test]
async fn a_suspension_counts_at_once_outlives_the_node_and_ends_when_it_is_lifted() {
    let mut sandbox = Sandbox::start(500).await;
    let dwp = sandbox.layout.node("dwp");
    let before = sandbox.query(BOTH).await.unwrap();
    let told = done(&node(&dwp, &["suspend", "opportunity", "--reason", "complaint seventeen"]));
    assert!(told.contains("The running node keeps to it") && told.contains("complaint seventeen"), "{told}");
    // The command waited until the node had it in its log.
    let [entry] = events(&sandbox, "dwp", "agreement.suspended").try_into().unwrap();
    assert_eq!((&entry["agreement"], &entry["reason_given"], &entry["everything"]), (&"opportunity".into(), &true.into(), &false.into()));
    assert!(entry["user"].is_string() && entry["uid"].is_u64() && !entry.to_string().contains("seventeen"), "{entry}");

    let failure = refused(sandbox.query(BOTH).await, Code::NodeRefused, "has suspended the agreement 'opportunity'");
    assert_eq!(failure.department.as_deref(), Some("dwp"));
    assert!(!format!("{failure:?}").contains("seventeen"));
    sandbox.query(ONE).await.unwrap();
    let order = events(&sandbox, "dwp", "order.refused").pop().unwrap();
    assert!(order["reason"].as_str().unwrap().contains("has suspended") && order["query_id"].is_string(), "{order}");
    let check = node(&dwp, &["check"]);
    assert!(done(&check).contains("warn suspensions: agreement 'opportunity' since"), "{check:?}");

    // Lifting something else lifts nothing.
    assert!(done(&node(&dwp, &["resume"])).contains("everything is not suspended by itself"));
    let unknown = node(&dwp, &["resume", "oportunity"]);
    let text = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(
        !unknown.status.success()
            && text.contains("holds no agreement 'oportunity'")
            && text.contains("it holds: healthy-life, opportunity"),
        "{text}"
    );

    sandbox.running.kill("dwp");
    sandbox.running.restart_node("dwp").await.unwrap();
    refused(sandbox.query(BOTH).await, Code::NodeRefused, "has suspended the agreement 'opportunity'");
    assert!(done(&node(&dwp, &["resume", "opportunity"])).contains("Nothing is suspended now"));
    let after = sandbox.query(BOTH).await.unwrap();
    assert_eq!(rows(&after.batches, 1), rows(&before.batches, 1));

    // Also without a node; it learns of it, and so does its log, when it starts.
    sandbox.running.kill("dwp");
    assert!(done(&node(&dwp, &["suspend"])).contains("No node runs here"));
    sandbox.running.restart_node("dwp").await.unwrap();
    let entry = events(&sandbox, "dwp", "agreement.suspended").pop().unwrap();
    assert_eq!((&entry["everything"], &entry["reason_given"], &entry["change"]), (&true.into(), &false.into(), &3.into()));
    refused(sandbox.query(BOTH).await, Code::NodeRefused, "has suspended the agreement 'opportunity', as every other");

    // A file that cannot be relied on suspends everything, too, until somebody begins anew.
    std::fs::write(dwp.join("state/suspensions"), "rubbish").unwrap();
    refused(sandbox.query(BOTH).await, Code::NodeRefused, "record of suspensions cannot be relied on");
    let refused_resume = node(&dwp, &["resume"]);
    assert!(!refused_resume.status.success() && String::from_utf8_lossy(&refused_resume.stderr).contains("begins a new file"));
    done(&node(&dwp, &["suspend"]));
    done(&node(&dwp, &["resume"]));
    refused(sandbox.query(BOTH).await, Code::NodeRefused, "has suspended the agreement 'opportunity'");
    done(&node(&dwp, &["resume", "opportunity"]));
    sandbox.query(BOTH).await.unwrap();
}

#[tokio::test]
async fn queries_under_way_are_whole_or_refused_and_none_begins_after() {
    let sandbox = Arc::new(Sandbox::start(100_000).await);
    let whole = rows(&sandbox.query(BOTH).await.unwrap().batches, 1);
    let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let asking = (0..2).map(|_| {
        let (sandbox, stop, answers) = (Arc::clone(&sandbox), Arc::clone(&stop), Arc::clone(&answers));
        tokio::spawn(async move {
            let mut outcomes = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                let began = Instant::now();
                let outcome = sandbox.query(BOTH).await;
                answers.fetch_add(usize::from(outcome.is_ok()), Ordering::SeqCst);
                let refused = outcome.is_err();
                outcomes.push((began, Instant::now(), outcome));
                if refused {
                    // Refusals are fast, and a caller's requests are counted.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            outcomes
        })
    });
    let asking: Vec<_> = asking.collect();
    let dwp = sandbox.layout.node("dwp");
    until("both asked more than once", || answers.load(Ordering::SeqCst) > 3).await;
    let told = tokio::task::spawn_blocking(move || done(&node(&dwp, &["suspend", "opportunity"]))).await.unwrap();
    let suspended = Instant::now();
    assert!(told.contains("has cut what was under way"), "{told}");
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    stop.store(true, Ordering::SeqCst);
    let (mut answered, mut refusals) = (0, 0);
    for asker in asking {
        for (began, ended, outcome) in asker.await.unwrap() {
            match outcome {
                Ok(answer) => {
                    answered += 1;
                    assert_eq!(rows(&answer.batches, 1), whole, "a smaller answer");
                    assert!(began < suspended, "answered after the suspension");
                    assert!(ended < suspended + Duration::from_secs(2), "a release went on for {:?}", ended - suspended);
                }
                Err(failure) => {
                    refusals += 1;
                    let failure = refused::<()>(Err(failure), Code::NodeRefused, "has suspended the agreement 'opportunity'");
                    assert_eq!(failure.department.as_deref(), Some("dwp"));
                }
            }
        }
    }
    assert!(answered > 0 && refusals > 0, "{answered} answered, {refusals} refused");
}

#[tokio::test]
async fn a_preview_counts_what_a_release_then_gives_and_is_in_the_log() {
    let mut sandbox = Sandbox::start(3_000).await;
    // Consent at DHSC, objections at DfE, invalid identifiers in both.
    for (department, query) in [
        ("dhsc", "SELECT count(*) AS n FROM dhsc.health h JOIN dfe.attainment a ON a.subject = h.subject"),
        ("dfe", "SELECT count(*) AS n FROM dfe.attainment"),
    ] {
        sandbox.query(query).await.unwrap();
        let folder = sandbox.layout.node(department);
        let preview = |purpose: &str| {
            let shown = node(&folder, &["preview", "--agreement", "opportunity", "--purpose", purpose, "--output", "json"]);
            serde_json::from_str::<Value>(&done(&shown)).unwrap()
        };
        let shown = preview("opportunity.measure");
        let counts = &shown["datasets"][0]["purposes"][0];
        let release = events(&sandbox, department, "release.completed").pop().unwrap();
        for (shown, logged) in [
            ("rows", "release_rows"),
            ("without_consent", "release_without_consent"),
            ("invalid_identifiers", "release_invalid_identifiers"),
        ] {
            assert_eq!(counts[shown], release[logged], "{department} {shown}: {counts} {release}");
        }
        assert!(counts["rows"].as_u64() > Some(1_000) && counts["invalid_identifiers"].as_u64() > Some(0), "{counts}");
        let [made] = events(&sandbox, department, "preview.made").try_into().unwrap();
        assert_eq!((&made["agreement"], &made["datasets"][0]["rows"]), (&"opportunity".into(), &counts["rows"]));
        assert!(made["user"].is_string() && made["journal"].is_i64(), "{made}");
        let released = events(&sandbox, department, "release.intended").len();
        preview("opportunity.measure");
        assert_eq!(events(&sandbox, department, "release.intended").len(), released, "nothing was released");
    }
    let dhsc = sandbox.layout.node("dhsc");
    let shown = done(&node(&dhsc, &["preview", "--agreement", "opportunity"]));
    let gateway: toml::Value = toml::from_str(&std::fs::read_to_string(dhsc.join("node.toml")).unwrap()).unwrap();
    for expected in [
        gateway["gateway"]["certificates"][0].as_str().unwrap(),
        "mission-unit (analyst)",
        "by consent",
        "opportunity.measure",
        "Nothing was sent.",
    ] {
        assert!(shown.contains(expected), "{expected} is not in:\n{shown}");
    }
    // What was looked at without a node is in the log of the next.
    sandbox.running.kill("dhsc");
    let before = events(&sandbox, "dhsc", "preview.made").len();
    done(&node(&dhsc, &["suspend"]));
    assert!(done(&node(&dhsc, &["preview", "--agreement", "opportunity"])).contains("SUSPENDED by this department"));
    sandbox.running.restart_node("dhsc").await.unwrap();
    until("the preview is in the log", || events(&sandbox, "dhsc", "preview.made").len() == before + 1).await;
}

#[tokio::test]
async fn a_node_made_from_files_says_what_remains() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let rows = (0..30).fold(String::from("NINO,Region,Name\n"), |text, n| text + &format!("AB{n:06}C,North,Alice {n}\n"));
    std::fs::write(data.join("pupils.csv"), rows).unwrap();
    let out = folder.path().join("node");
    let made =
        Command::new(program()).args(["node", "init", "--department", "dfe", "--from"]).arg(&data).arg("--out").arg(&out).output().unwrap();
    let told = done(&made);
    assert!(told.contains("identified by 'NINO' (nino)") && told.contains("30 of 30 row(s)"), "{told}");
    let text = std::fs::read_to_string(out.join("node.toml")).unwrap();
    assert!(text.contains("region = { type = \"text\", classification = \"personal\", source = \"Region\" }"), "{text}");
    for secret in ["AB0000", "Alice"] {
        assert!(!told.contains(secret) && !text.contains(secret));
    }
    let check = node(&out, &["check"]);
    assert!(!check.status.success());
    let report = String::from_utf8_lossy(&check.stdout).into_owned();
    let failures: Vec<&str> = report.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert_eq!(failures.len(), 4, "{report}");
    for expected in ["tls/node.pem", "no gateway may call this node", "gateway-order.spki", "states no purpose"] {
        assert!(failures.iter().any(|line| line.contains(expected)), "{expected}: {report}");
    }
    let password = Command::new(program())
        .args(["node", "init", "--department", "dfe", "--from", "postgresql://u:secret@host/db", "--out"])
        .arg(folder.path().join("other"))
        .output()
        .unwrap();
    assert!(!password.status.success() && !format!("{password:?}").contains("secret"), "{password:?}");
}
