//! A person's history, as people live it: consent that ends or begins later, a guardian, a slip that is corrected, an erasure,
//! and the receipts of all this.

use std::process::Output;

use chrono::{Days, SecondsFormat, Utc};
use serde_json::Value;

use crate::commands::command;
use crate::consent::{consent, counts};
use crate::sandbox::Sandbox;

/// A time so many days from now.
fn day(days: i64) -> String {
    let whole = Days::new(days.unsigned_abs());
    let now = Utc::now();
    let time = if days < 0 { now.checked_sub_days(whole) } else { now.checked_add_days(whole) };
    time.unwrap().to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[track_caller]
fn lines(done: &Output) -> Vec<Value> {
    assert!(done.status.success(), "{done:?}");
    String::from_utf8_lossy(&done.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn verify(file: &std::path::Path, signer: &[&str]) -> Output {
    let file = file.to_str().unwrap();
    command(["consent", "verify-receipt", file].iter().chain(signer).copied()).output().unwrap()
}

#[tokio::test]
async fn what_a_person_said_counts_from_when_until_when_and_as_it_was_corrected() {
    let sandbox = Sandbox::start(1_000).await;
    let somebody = sandbox.sample.somebody().unwrap();
    let at = |arguments: &[&str]| consent(&sandbox, "dhsc", arguments, &somebody);
    let (_, k, version) = counts(&sandbox).await;
    let (past, future) = (day(-1), day(30));
    let given = ["record", "--purpose", "opportunity", "--event", "given"];
    let with = |more: &[&'static str], value: &str| {
        let arguments: Vec<&str> = given.iter().chain(more).copied().chain([value]).collect();
        lines(&at(&arguments))
    };
    with(&["--expires-at"], &future);
    assert_eq!(counts(&sandbox).await.1, k, "it has not ended");
    with(&["--expires-at"], &past);
    assert_eq!(counts(&sandbox).await.1, k - 1.0, "the last word has ended, whatever was said before it");
    with(&["--effective-from"], &future);
    assert_eq!(counts(&sandbox).await.1, k - 1.0, "what is to come does not count yet");
    let receipt = with(&["--capacity", "attorney", "--acted-by"], "LPA 3");
    assert_eq!(receipt[0]["consent_receipt"]["event"][0]["entity_id"], "attorney: LPA 3");
    assert_eq!(counts(&sandbox).await.1, k, "who acts for somebody is heard");
    // A withdrawal by mistake, which is then taken back.
    lines(&at(&["withdraw", "--purpose", "opportunity"]));
    let (_, withdrawn, last) = counts(&sandbox).await;
    assert_eq!((withdrawn, last), (k - 1.0, version + 5));
    let corrected = at(&["correct", "--place", &last.to_string()]);
    assert!(corrected.status.success(), "{corrected:?}");
    assert_eq!(counts(&sandbox).await.1, k);
    let shown = lines(&at(&["show", "--output", "json"])).remove(0);
    let records = shown["records"].as_array().unwrap();
    let of = |place: u64| records.iter().find(|record| record["place"] == place).unwrap();
    assert_eq!((&of(last)["event"], &of(last)["corrected_by"]), (&"withdrawn".into(), &(last + 1).into()));
    assert_eq!((&of(last + 1)["event"], &of(last + 1)["corrects"]), (&"corrected".into(), &last.into()));
    assert_eq!(of(last - 1)["acted_by"], "LPA 3");
    let text = String::from_utf8(at(&["show"]).stdout).unwrap();
    assert!(text.contains("by LPA 3 (attorney)") && text.contains("wrong: corrected at"), "{text}");
    for (arguments, says) in [
        (vec!["correct", "--place", "0"], "no choice of this person"),
        (vec!["record", "--purpose", "opportunity", "--event", "objected", "--expires-at", &future], "an objection does not expire"),
        (vec!["record", "--purpose", "opportunity", "--event", "given", "--expires-at", "tomorrow"], "no time in whole seconds"),
        (vec!["withdraw", "--purpose", "opportunity", "--capacity", "friend", "--acted-by", "x"], "parent, guardian, attorney or deputy"),
    ] {
        let refused = at(&arguments);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        // Without the line breaks of a terminal.
        let said = said.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        assert!(!refused.status.success() && said.contains(says), "{said}");
    }
}

#[tokio::test]
async fn an_erased_person_who_had_objected_stays_withheld() {
    let sandbox = Sandbox::start(1_000).await;
    let somebody = sandbox.sample.somebody().unwrap();
    let (n, k, _) = counts(&sandbox).await;
    lines(&consent(&sandbox, "dfe", &["record", "--purpose", "opportunity", "--event", "objected"], &somebody));
    assert_eq!(counts(&sandbox).await.0, n - 1.0);
    let refused = consent(&sandbox, "dfe", &["erase"], &somebody);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("add --yes"), "{refused:?}");
    for department in ["dfe", "dhsc"] {
        let erased = consent(&sandbox, department, &["erase", "--yes"], &somebody);
        assert!(erased.status.success() && String::from_utf8_lossy(&erased.stderr).contains("1 erased"), "{erased:?}");
    }
    let (after, linked, _) = counts(&sandbox).await;
    assert_eq!((after, linked), (n - 1.0, k - 1.0), "the objection holds on, and nothing that was given remains");
    for department in ["dfe", "dhsc"] {
        let node = sandbox.layout.node(department);
        for file in ["consent.sqlite", "consent.sqlite-wal"] {
            let bytes = std::fs::read(node.join("state").join(file)).unwrap_or_default();
            assert!(!bytes.windows(somebody.len()).any(|window| window == somebody.as_bytes()), "{department}'s {file} still names them");
        }
        assert!(sandbox.log(department).iter().all(|entry| !entry.to_string().contains(&somebody)));
    }
    // They may come back.
    lines(&consent(&sandbox, "dfe", &["record", "--purpose", "opportunity", "--event", "given"], &somebody));
    assert_eq!(counts(&sandbox).await.0, n);
}

#[tokio::test]
async fn a_receipt_is_verified_by_whoever_knows_the_department() {
    let sandbox = Sandbox::start(500).await;
    let somebody = sandbox.sample.somebody().unwrap();
    let made = consent(&sandbox, "dhsc", &["withdraw", "--purpose", "opportunity"], &somebody);
    let receipt = lines(&made).remove(0);
    let file = sandbox.layout.folder().join("receipt.json");
    std::fs::write(&file, &made.stdout).unwrap();
    let agreement = sandbox.copy("dwp", "opportunity");
    let party = ["--agreement", agreement.to_str().unwrap()];
    let valid = verify(&file, &party);
    let said = String::from_utf8_lossy(&valid.stdout).into_owned();
    assert!(valid.status.success() && said.starts_with("valid: withdrawn for 'opportunity'") && said.contains("at 'dhsc'"), "{valid:?}");
    assert!(!String::from_utf8_lossy(&made.stdout).contains(&somebody));
    // What was imported has receipts on demand; they are of the same person.
    let imported = lines(&consent(&sandbox, "dhsc", &["receipt", "--purpose", "opportunity"], &somebody));
    assert!(imported.len() >= 2, "given in the imported file, then withdrawn");
    let principal = |receipt: &Value| receipt["consent_receipt"]["pii_principal_id"].clone();
    assert!(imported.iter().all(|other| principal(other) == principal(&receipt)));
    let refused = |text: String, signer: &[&str], says: &str| {
        std::fs::write(&file, text).unwrap();
        let refused = verify(&file, signer);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(says), "{says}: {said}");
    };
    let text = receipt.to_string();
    refused(text.replace("\"withdrawn\"", "\"given\""), &party, "not what was signed");
    refused(text.replace("\"jws\":\"e", "\"jws\":\"f"), &party, "altered");
    let stranger = format!("sha256:{}", "0".repeat(64));
    refused(text.clone(), &["--key", &stranger], "not the department's");
    refused(text, &[], "--key");
    refused(String::new(), &party, "holds no consent receipt");
}
