//! Joins through a link dataset equal plain DataFusion over the same files; both subjects' choices count; no number rests on few
//! subjects of either kind; identifiers stay where they are.

use std::io::Write as _;
use std::process::{Command, Stdio};

use arrow::array::AsArray as _;
use concordat::client::Answer;
use concordat_policy::Code;
use serde_json::{Value, json};

use crate::oracle::{Cell, Oracle, agree, rows};
use crate::sandbox::{Sandbox, program, refused};

const PURPOSES: [&str; 2] = ["economy", "economy.measure"];

/// Statements that both engines take: name, number of key columns, SQL. `n` counts the kind of subject of which there are fewer.
const STATEMENTS: &[(&str, usize, &str)] = &[
    (
        "firms and markets",
        2,
        "SELECT l.sector, l.supported, count(DISTINCT l.subject) AS n, avg(l.loan_thousands) AS a, avg(m.abroad_share) AS s FROM dbt.loans l JOIN dsit.markets m ON m.subject = l.subject GROUP BY l.sector, l.supported",
    ),
    (
        "a link alone",
        0,
        "SELECT count(DISTINCT e.linked_subject) AS n, count(DISTINCT e.subject) AS people, count(*) AS pairs FROM dwp.employers e",
    ),
    (
        "inner through a link",
        2,
        "SELECT l.sector, l.supported, count(DISTINCT l.subject) AS n, count(DISTINCT p.subject) AS people, count(*) AS pairs, avg(l.jobs) AS jobs, avg(CASE WHEN p.completed THEN 1.0 ELSE 0.0 END) AS done FROM dbt.apprenticeships p JOIN dwp.employers e ON e.subject = p.subject JOIN dbt.loans l ON l.subject = e.linked_subject WHERE p.started GROUP BY l.sector, l.supported",
    ),
    (
        "from the firms",
        1,
        "SELECT l.sector, count(DISTINCT l.subject) AS n, count(DISTINCT p.subject) AS people, sum(l.jobs) AS jobs FROM dbt.loans l JOIN dwp.employers e ON e.linked_subject = l.subject JOIN dbt.apprenticeships p ON p.subject = e.subject GROUP BY l.sector",
    ),
    (
        "totals through a link",
        2,
        "SELECT l.sector, grouping(l.sector) AS g, count(DISTINCT l.subject) AS n, count(DISTINCT p.subject) AS people, count(*) AS pairs, avg(l.jobs) AS jobs FROM dbt.apprenticeships p JOIN dwp.employers e ON e.subject = p.subject JOIN dbt.loans l ON l.subject = e.linked_subject GROUP BY ROLLUP (l.sector)",
    ),
    (
        "left through a link",
        0,
        "SELECT count(DISTINCT l.subject) AS n, count(DISTINCT p.subject) AS people, count(e.subject) AS employed, count(*) AS c, avg(l.jobs) AS jobs FROM dbt.apprenticeships p LEFT JOIN dwp.employers e ON e.subject = p.subject LEFT JOIN dbt.loans l ON l.subject = e.linked_subject",
    ),
    (
        "right through a link",
        1,
        "SELECT l.sector, count(DISTINCT l.subject) AS n, count(e.subject) AS employed, count(*) AS c FROM dwp.employers e RIGHT JOIN dbt.loans l ON l.subject = e.linked_subject GROUP BY l.sector",
    ),
    (
        "four datasets",
        1,
        "SELECT m.market, count(DISTINCT l.subject) AS n, count(DISTINCT p.subject) AS people, avg(l.jobs) AS jobs FROM dbt.apprenticeships p JOIN dwp.employers e ON e.subject = p.subject JOIN dbt.loans l ON l.subject = e.linked_subject JOIN dsit.markets m ON m.subject = l.subject GROUP BY m.market",
    ),
];

async fn ask(sandbox: &Sandbox, sql: &str) -> Answer {
    let client = sandbox.client_with(|c| c.purpose = Some("economy.measure".into())).await;
    client.query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"))
}

/// The first number of an answer.
fn first(answer: &Answer) -> f64 {
    let row = rows(&answer.batches, 0).into_values().next().unwrap();
    if let Cell::Number(number) = row[0].1 { number } else { panic!("{row:?}") }
}

/// Records an objection at DWP.
fn object(sandbox: &Sandbox, kind: &str, identifier: &str) {
    let config = sandbox.layout.node("dwp").join("node.toml");
    let arguments = ["--identifier-type", kind, "--purpose", "economy", "--event", "objected", "--identifiers", "-", "--config"];
    let mut child = Command::new(program())
        .args(["node", "consent", "record"])
        .args(arguments)
        .arg(config)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{identifier}").unwrap();
    assert!(child.wait().unwrap().success(), "{kind}");
}

#[tokio::test]
async fn answers_through_a_link_dataset_equal_plain_datafusion() {
    let sandbox = Sandbox::start(20_000).await;
    let oracle = Oracle::for_purposes(&sandbox.layout, &PURPOSES).await;
    for (name, keys, sql) in STATEMENTS {
        let compared = agree(&ask(&sandbox, sql).await, &oracle.query(sql).await, *keys);
        assert!(compared > 0, "{name}: nothing was compared");
    }
    // Who found a partner is counted of people and of firms: exactly for the log, rounded for callers, as there are enough of both.
    let answer = ask(&sandbox, STATEMENTS[2].2).await;
    let closed = sandbox.log("gateway").into_iter().rfind(|entry| entry["event"] == "query.closed").unwrap();
    for (dataset, column) in [("apprenticeships", "p.subject"), ("employers", "e.subject"), ("loans", "l.subject")] {
        let sql = format!(
            "SELECT count(DISTINCT {column}) AS n FROM dbt.apprenticeships p JOIN dwp.employers e ON e.subject = p.subject \
             JOIN dbt.loans l ON l.subject = e.linked_subject WHERE p.started"
        );
        let row = rows(&oracle.query(&sql).await, 0).into_values().next().unwrap();
        let Cell::Number(exact) = row[0].1 else { panic!("{row:?}") };
        let logged = source(&closed["facts"]["sources"], dataset);
        assert_eq!(logged["matched"].as_f64(), Some(exact), "{dataset}: {closed}");
        let told = source(&answer.summary["sources"], dataset)["counts"].clone();
        let rounded = |exact: u64| json!((exact + 5) / 10 * 10);
        let subjects = logged["subjects"].as_u64().unwrap();
        assert_eq!(told["subjects"]["matched"], rounded(exact as u64), "{dataset}: {told}");
        let told = &told["subjects"];
        assert_eq!(told["delivered"], rounded(subjects), "{dataset}: {told}");
        // What a department leaves out of a link dataset would show a firm's choice by its number of people, and of those who started,
        // a condition, who objected.
        let untold = dataset != "loans";
        assert_eq!((told.get("withheld").is_none(), told["considered"].is_null()), (untold, untold), "{dataset}: {told}");
        assert_eq!(told["considered_not_told"].is_string(), untold, "{dataset}: {told}");
    }
}

/// One of the sources of an answer or of a log's entry.
fn source(sources: &Value, dataset: &str) -> Value {
    sources.as_array().unwrap().iter().find(|source| source["dataset"] == dataset).unwrap().clone()
}

#[tokio::test]
async fn many_people_of_few_firms_are_few() {
    let sandbox = Sandbox::start(600).await;
    let oracle = Oracle::for_purposes(&sandbox.layout, &PURPOSES).await;
    let sql = "SELECT l.sector, count(DISTINCT p.subject) AS people, count(DISTINCT l.subject) AS firms, avg(l.jobs) AS jobs FROM dbt.apprenticeships p JOIN dwp.employers e ON e.subject = p.subject JOIN dbt.loans l ON l.subject = e.linked_subject GROUP BY l.sector";
    let (answered, expected) = (rows(&ask(&sandbox, sql).await.batches, 1), rows(&oracle.query(sql).await, 1));
    let number = |cell: &Cell| if let Cell::Number(number) = cell { *number } else { panic!("{cell:?}") };
    let mut seen = 0;
    for (sector, row) in expected.iter().filter(|(_, row)| number(&row[1].1) >= 10.0 && number(&row[2].1) < 10.0) {
        let shown = answered.get(sector).unwrap_or_else(|| panic!("{sector} is in the published list: {answered:?}"));
        assert!(shown[1..4].iter().all(|(_, cell)| *cell == Cell::Null), "{sector}: {row:?} {shown:?}");
        // Nor is anything told of who found a partner there, people or firms; what came from the datasets rests on all sectors.
        let (_, Cell::Text(name)) = &row[0] else { panic!("{row:?}") };
        let one = ask(&sandbox, &sql.replace(" GROUP BY", &format!(" WHERE l.sector = '{name}' GROUP BY"))).await;
        for dataset in ["apprenticeships", "employers", "loans"] {
            let told = source(&one.summary["sources"], dataset)["counts"].clone();
            assert!(told["subjects"].get("matched").is_some_and(Value::is_null), "{name}, {dataset}: {told}");
        }
        seen += 1;
    }
    assert!(seen > 0, "no sector has many people and few firms: {expected:?}");
}

#[tokio::test]
async fn either_subjects_objection_withholds_the_pair_and_neither_is_ever_shown() {
    let sandbox = Sandbox::start(3_000).await;
    let oracle = Oracle::for_purposes(&sandbox.layout, &PURPOSES).await;
    let pairs = "SELECT count(*) AS pairs FROM dwp.employers";
    let all = first(&ask(&sandbox, pairs).await);
    let one = oracle.query("SELECT subject, linked_subject FROM dwp.employers ORDER BY subject LIMIT 1").await;
    let of = |column: usize| one[0].column(column).as_string::<i32>().value(0).to_owned();
    let (person, firm) = (of(0), of(1));
    let count = oracle.query(&format!("SELECT count(*) AS n FROM dwp.employers WHERE linked_subject = '{firm}'")).await;
    let Cell::Number(of_firm) = rows(&count, 0).into_values().next().unwrap()[0].1 else { panic!("no number") };
    object(&sandbox, "nino", &person);
    assert_eq!(first(&ask(&sandbox, pairs).await), all - 1.0, "the person's own pair");
    object(&sandbox, "company_number", firm.trim_start_matches('0'));
    assert_eq!(first(&ask(&sandbox, pairs).await), all - of_firm, "and every pair of the firm, that one among them");
    // Pseudonyms of the two kinds never match, and none is put out.
    let client = sandbox.client_with(|c| c.purpose = Some("economy.measure".into())).await;
    let crossed = "SELECT count(*) AS n FROM dbt.apprenticeships p JOIN dbt.loans l ON l.subject = p.subject";
    refused(client.query(crossed).await, Code::Invalid, "never match");
    for column in ["subject", "linked_subject"] {
        refused(client.query(&format!("SELECT {column} FROM dwp.employers")).await, Code::Denied, "output");
    }
    let subquery = "SELECT count(*) AS n FROM dbt.apprenticeships WHERE subject IN (SELECT subject FROM dwp.employers)";
    refused(client.query(subquery).await, Code::Disclosure, "link dataset");
    for of in ["gateway", "dwp", "dbt"] {
        let log = format!("{:?}", sandbox.log(of));
        assert!(!log.contains(&person) && !log.contains(&firm), "{of}'s log holds an identifier");
    }
}
