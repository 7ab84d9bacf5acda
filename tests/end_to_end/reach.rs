//! Withdrawals and objections that reach the other parties' data: who is removed, from what, from when on, and what happens where a
//! department cannot be asked.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use arrow::array::AsArray as _;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use concordat::client::{Answer, Client};
use concordat::federation::{Layout, sign_again};
use concordat_policy::Code;

use crate::commands::{Ran, command};
use crate::consent::{consent, record};
use crate::faults::proxy::Proxy;
use crate::joins::STATEMENTS;
use crate::oracle::{Cell, Oracle, agree, rows};
use crate::sandbox::{Sandbox, refused};

const HEALTH: &str = "SELECT count(*) AS n FROM dhsc.health";
const THREE: &str = "SELECT count(DISTINCT a.subject) AS n, count(h.subject) AS h, count(c.subject) AS c FROM dfe.attainment a \
                     LEFT JOIN dhsc.health h ON h.subject = a.subject LEFT JOIN dwp.claims c ON c.subject = a.subject";
pub const PARTIES: [&str; 5] = ["dbt", "dfe", "dhsc", "dsit", "dwp"];

/// Has every copy of an agreement say that withdrawals reach all parties' data.
pub fn reaching(layout: &Layout, agreement: &str, age: &str) {
    let folders = PARTIES.iter().map(|department| layout.node(department)).chain([layout.estate()]);
    let copies = folders.map(|folder| folder.join(format!("agreements/{agreement}.toml"))).filter(|copy| copy.exists());
    for copy in copies {
        let text = std::fs::read_to_string(&copy).unwrap();
        let terms = format!("withdrawals = \"all_parties\"\nmax_consent_age = \"{age}\"\n\n[linkage]\n");
        assert!(text.contains("[linkage]\n"));
        std::fs::write(&copy, text.replacen("[linkage]\n", &terms, 1)).unwrap();
        sign_again(layout, &copy).unwrap();
    }
}

async fn world(people: u64, age: &str) -> Sandbox {
    Sandbox::with(people, |_| {}, |layout| reaching(layout, "opportunity", age)).await
}

/// A client for whom every department is asked anew, be it read or not.
async fn strict(sandbox: &Sandbox) -> Client {
    sandbox.client().await.at_least(&PARTIES.map(|department| format!("{department}=0")))
}

fn counts(answer: &Answer) -> Vec<f64> {
    let row = rows(&answer.batches, 0).into_values().next().unwrap();
    let numbers = row.into_iter().filter(|(name, _)| name != "withheld");
    numbers.map(|(name, cell)| if let Cell::Number(n) = cell { n } else { panic!("{name}: {cell:?}") }).collect()
}

/// Of each department on whose ledger an answer rests: its version, and whether it was asked without being read.
fn applied(answer: &Answer) -> BTreeMap<String, (u64, bool)> {
    let of = answer.summary["consent"].as_array().unwrap().iter();
    of.map(|of| (of["department"].as_str().unwrap().to_owned(), (of["consent_version"].as_u64().unwrap(), of["as_of"].is_i64()))).collect()
}

async fn every_join_agrees(sandbox: &Sandbox, oracle: &Oracle) {
    let client = strict(sandbox).await;
    for (name, keys, sql) in STATEMENTS {
        let answer = client.query(sql).await.unwrap_or_else(|e| panic!("{name}: {e:?}"));
        let compared = agree(&answer, &oracle.query(sql).await, *keys);
        assert!(compared > 0, "{name}: nothing was compared");
    }
}

/// Data on consent and under a power × every kind of join × recorded at the data's own department and at another × withdrawn, objected,
/// and undone: whole lists first, changes of them later.
#[tokio::test]
async fn answers_equal_plain_datafusion_without_those_who_withdrew_elsewhere() {
    let sandbox = world(20_000, "15m").await;
    let alone = Oracle::over(&sandbox.layout).await;
    let reached = Oracle::reached(&sandbox.layout, &[]).await;
    assert!(reached.left_out > alone.left_out + 500, "{} and {}", reached.left_out, alone.left_out);
    every_join_agrees(&sandbox, &reached).await;

    let known = "SELECT DISTINCT h.subject FROM dhsc.health h JOIN dfe.attainment a ON a.subject = h.subject \
                 JOIN dwp.claims c ON c.subject = h.subject ORDER BY h.subject LIMIT 800";
    let known = reached.query(known).await;
    let known: Vec<String> = known
        .iter()
        .flat_map(|batch| {
            let subjects = cast(batch.column(0), &DataType::Utf8).unwrap();
            subjects.as_string::<i32>().iter().map(|subject| subject.unwrap().to_owned()).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(known.len(), 800);
    let later = [
        ("dwp", "withdrawn", known[..200].to_vec()),
        ("dfe", "objected", known[200..400].to_vec()),
        ("dhsc", "withdrawn", known[400..500].to_vec()),
        ("dhsc", "objected", known[500..600].to_vec()),
        ("dsit", "objected", known[600..800].to_vec()),
        ("dsit", "given", known[700..800].to_vec()),
    ];
    for (department, event, identifiers) in &later {
        record(&sandbox, department, "opportunity", event, &identifiers.join("\n"));
    }
    let more = Oracle::reached(&sandbox.layout, &later).await;
    assert!(more.left_out > reached.left_out + 1_000, "{} and {}", more.left_out, reached.left_out);
    every_join_agrees(&sandbox, &more).await;
    // Who is removed at the gateway was released by a node that does not know of it.
    let log = sandbox.log("gateway");
    assert!(!log.iter().any(|entry| entry.to_string().contains("removed")), "no removal is counted");
    for department in PARTIES {
        let own = sandbox.log(department).into_iter().filter(|entry| entry["event"] == "reach.sent").collect::<Vec<_>>();
        assert!(own.iter().any(|entry| entry["since"].is_null()), "{department} sent whole lists");
        let changed = own.iter().filter(|entry| !entry["since"].is_null()).map(|entry| entry["added"].as_u64().unwrap());
        let most = changed.max();
        let recorded = later.iter().any(|(of, ..)| *of == department);
        assert!(
            if recorded { most.is_some_and(|most| (1..=200).contains(&most)) } else { most.is_none() },
            "{department} sent changes only"
        );
    }
}

#[tokio::test]
async fn a_choice_counts_in_the_next_query_wherever_it_reaches_and_the_answer_says_by_which_versions() {
    let sandbox = world(3_000, "15m").await;
    let somebody = sandbox.sample.somebody().unwrap();
    let before = sandbox.query(THREE).await.unwrap();
    let [n, h, c] = counts(&before)[..] else { panic!("{before:?}") };
    let first = applied(&before);
    assert_eq!(first.keys().map(String::as_str).collect::<Vec<_>>(), PARTIES, "all parties were asked");
    let unread: Vec<&str> = first.iter().filter(|(_, (_, unread))| *unread).map(|(department, _)| department.as_str()).collect();
    assert_eq!(unread, ["dbt", "dsit"]);
    for (department, event, expected, why) in [
        ("dwp", "withdrawn", [n, h - 1.0, c], "a withdrawal reaches data that are used on consent, and none under a power"),
        ("dwp", "given", [n, h, c], "it is undone where it was recorded"),
        ("dhsc", "objected", [n - 1.0, h - 1.0, c - 1.0], "an objection reaches data under a power that honours them"),
        ("dwp", "given", [n - 1.0, h - 1.0, c - 1.0], "and is not undone elsewhere"),
        ("dhsc", "given", [n, h, c], "but where it was recorded"),
        ("dfe", "objected", [n - 1.0, h - 1.0, c - 1.0], "whichever side of the join it was recorded on"),
        ("dfe", "given", [n, h, c], "and back"),
    ] {
        record(&sandbox, department, "opportunity", event, &somebody);
        let answer = sandbox.query(THREE).await.unwrap();
        assert_eq!(counts(&answer), expected, "{event} at {department}: {why}");
    }
    let after = applied(&sandbox.query(THREE).await.unwrap());
    assert_eq!((after["dwp"].0, after["dfe"].0, after["dhsc"].0), (first["dwp"].0 + 3, first["dfe"].0 + 2, first["dhsc"].0 + 2));
    let log = sandbox.log("gateway");
    let facts = log.iter().rev().find(|entry| entry["event"] == "query.closed").unwrap()["facts"].clone();
    assert_eq!(facts["consent"].as_array().unwrap().len(), 5, "{facts}");
}

#[tokio::test]
async fn whoever_is_erased_stays_withheld_elsewhere_also_by_a_gateway_that_knows_no_list() {
    let mut sandbox = world(3_000, "15m").await;
    let somebody = sandbox.sample.somebody().unwrap();
    let before = counts(&sandbox.query(THREE).await.unwrap());
    let withheld: Vec<f64> = before.iter().map(|n| n - 1.0).collect();
    record(&sandbox, "dhsc", "opportunity", "objected", &somebody);
    assert_eq!(counts(&sandbox.query(THREE).await.unwrap()), withheld);
    let erased = consent(&sandbox, "dhsc", &["erase", "--yes"], &somebody);
    assert!(erased.status.success(), "{erased:?}");
    assert_eq!(counts(&sandbox.query(THREE).await.unwrap()), withheld, "by what changed");
    sandbox.running.restart_gateway().await.unwrap();
    assert_eq!(counts(&sandbox.query(THREE).await.unwrap()), withheld, "by the whole list");
}

#[tokio::test]
async fn an_answer_may_be_asked_for_that_rests_on_a_version_at_least() {
    let sandbox = world(1_000, "15m").await;
    let somebody = sandbox.sample.somebody().unwrap();
    let before = sandbox.query(HEALTH).await.unwrap();
    let (n, version) = (counts(&before)[0], applied(&before)["dwp"].0);
    record(&sandbox, "dwp", "opportunity", "withdrawn", &somebody);
    assert_eq!(counts(&sandbox.query(HEALTH).await.unwrap()), [n], "DWP is not read, and was asked less than fifteen minutes ago");
    let of_version = |version: u64| format!("dwp={version}");
    let demanding = sandbox.client().await.at_least(&[of_version(version + 1)]);
    let answer = demanding.query(HEALTH).await.unwrap();
    assert_eq!((counts(&answer), applied(&answer)["dwp"].0), (vec![n - 1.0], version + 1));
    // What cannot be had is refused, whether the department is read or not, and whoever waits for the answer.
    for sql in [HEALTH, "SELECT count(*) AS n FROM dwp.claims"] {
        let beyond = sandbox.client().await.at_least(&[of_version(version + 2)]);
        let failure = refused(beyond.query(sql).await, Code::Outdated, &format!("version {} of the consent ledger of 'dwp'", version + 1));
        assert_eq!(failure.department.as_deref(), Some("dwp"));
        let id = beyond.detach(sql).await.unwrap();
        refused(beyond.result(&id).await, Code::Outdated, "dwp");
        let kept = demanding.detach(sql).await.unwrap();
        demanding.result(&kept).await.unwrap();
        refused(beyond.result(&kept).await, Code::Outdated, "dwp");
    }
    // Said when the answer is announced, it counts when the ticket is redeemed.
    let beyond = sandbox.client().await.at_least(&[of_version(version + 2)]);
    let ticket = beyond.flight_info(HEALTH).await.unwrap().endpoint.remove(0).ticket.unwrap();
    refused(sandbox.client().await.collect(ticket).await, Code::Outdated, "dwp");
    let strange = sandbox.client().await.at_least(&["hmrc=1".to_owned()]);
    refused(strange.query(HEALTH).await, Code::Invalid, "does not rest on a consent ledger of 'hmrc'");
    let folder = sandbox.layout.folder().to_str().unwrap().to_owned();
    let asked = |least: &str| -> Ran {
        let arguments = ["query", "--folder", &folder, "--purpose", "opportunity.measure", "--at-least", least, "--sql", HEALTH];
        command(arguments).output().unwrap().into()
    };
    let answered = asked(&of_version(version + 1));
    assert_eq!(answered.exit, 0, "{}", answered.stderr);
    assert!(answered.stderr.contains("also without people who withdrew or objected at: dbt, dfe, dsit, dwp"), "{}", answered.stderr);
    let outdated = asked(&of_version(version + 2));
    assert!(outdated.exit == 24 && outdated.stderr.contains("at least"), "{}", outdated.stderr);
    assert_ne!(asked("dwp").exit, 0);
}

#[tokio::test]
async fn a_department_that_is_not_read_may_be_away_for_as_long_as_the_agreement_says() {
    let mut sandbox = world(500, "3s").await;
    let proxy = Proxy::before(&mut sandbox, "dwp").await;
    let n = counts(&sandbox.query(HEALTH).await.unwrap());
    proxy.cut();
    assert_eq!(counts(&sandbox.query(HEALTH).await.unwrap()), n, "what it told is three seconds old at most");
    let since = Instant::now();
    let failure = loop {
        match sandbox.query(HEALTH).await {
            Err(failure) => break failure,
            Ok(_) => assert!(since.elapsed() < Duration::from_secs(10), "what it told is used for ever"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((failure.code, failure.department.as_deref()), (Some(Code::Outdated), Some("dwp")), "{failure:?}");
    assert!(failure.message.contains("more than 3 seconds old") && failure.message.contains("(try again later"), "{failure:?}");
    refused(sandbox.query("SELECT count(*) AS n FROM dwp.claims").await, Code::NodeUnavailable, "dwp");
    // Another agreement, in which nothing reaches, goes on without it.
    sandbox.client_with(|c| c.purpose = Some("health.prevention".into())).await.query(HEALTH).await.unwrap();
    proxy.heal();
    let since = Instant::now();
    while let Err(failure) = sandbox.query(HEALTH).await {
        assert!(since.elapsed() < Duration::from_secs(20), "{failure:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_department_that_suspends_the_agreement_tells_nobody_of_its_people() {
    let sandbox = world(500, "15m").await;
    sandbox.query(HEALTH).await.unwrap();
    let config = sandbox.layout.node("dwp").join("node.toml");
    let suspended: Ran = command(["node", "suspend", "opportunity", "--config", config.to_str().unwrap(), "--reason", "complaint 17"])
        .output()
        .unwrap()
        .into();
    assert_eq!(suspended.exit, 0, "{}", suspended.stderr);
    let failure = refused(strict(&sandbox).await.query(HEALTH).await, Code::NodeRefused, "suspended");
    assert_eq!(failure.department.as_deref(), Some("dwp"));
}
