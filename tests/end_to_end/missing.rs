//! Who is missing from the number: denominators beside every answer, and the linkage report, against plain evaluators.

use arrow::array::AsArray as _;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use concordat::federation::{Federation, Layout};
use concordat_policy::Use;
use serde_json::{Value, json};

use crate::commands::run;
use crate::consent::record;
use crate::oracle::{Cell, Oracle, rows};
use crate::reach::reaching;
use crate::sandbox::Sandbox;

const MINIMUM: u64 = 10;

/// As callers are told a count: to the nearest ten, and not at all below ten.
fn told(count: u64) -> Value {
    if count < MINIMUM { Value::Null } else { json!((count + 5) / 10 * 10) }
}

/// What an answer says of one source.
fn counts(sources: &Value, department: &str) -> Value {
    sources.as_array().unwrap().iter().find(|s| s["department"] == department).unwrap()["counts"].clone()
}

/// The exact numbers of a department's last release, from its own log: considered, invalid, withheld, released.
fn released(sandbox: &Sandbox, department: &str) -> [u64; 4] {
    let entry = sandbox.log(department).into_iter().rfind(|entry| entry["event"] == "release.completed").unwrap();
    let number = |key: &str| entry[key].as_u64().unwrap_or_else(|| panic!("{key}: {entry}"));
    let [invalid, withheld, left] = ["release_invalid_identifiers", "release_without_consent", "release_rows"].map(number);
    [invalid + withheld + left, invalid, withheld, left]
}

/// The only number of the oracle's answer.
async fn number(oracle: &Oracle, sql: &str) -> u64 {
    let row = rows(&oracle.query(sql).await, 0).into_values().next().unwrap();
    let Cell::Number(number) = row[0].1 else { panic!("{row:?}") };
    number as u64
}

/// What the gateway's log says of the sources of its last answer.
fn logged(sandbox: &Sandbox, department: &str) -> (u64, u64) {
    let closed = sandbox.log("gateway").into_iter().rfind(|entry| entry["event"] == "query.closed").unwrap();
    let source = closed["facts"]["sources"].as_array().unwrap().iter().find(|s| s["department"] == department).unwrap().clone();
    (source["subjects"].as_u64().unwrap(), source["matched"].as_u64().unwrap())
}

#[tokio::test]
async fn every_answer_says_what_became_of_the_rows_and_who_found_a_partner() {
    let sandbox = Sandbox::start(20_000).await;
    let oracle = Oracle::over(&sandbox.layout).await;
    let partners =
        number(&oracle, "SELECT count(DISTINCT a.subject) AS n FROM dfe.attainment a JOIN dwp.claims c ON c.subject = a.subject").await;
    let claims = number(&oracle, "SELECT count(*) AS n FROM dwp.claims").await;
    for sql in [
        "SELECT a.region, count(DISTINCT a.subject) AS n FROM dfe.attainment a JOIN dwp.claims c ON c.subject = a.subject GROUP BY a.region",
        "SELECT count(*) AS n FROM dfe.attainment a LEFT JOIN dwp.claims c ON c.subject = a.subject",
        "SELECT count(*) AS n FROM dfe.attainment a RIGHT JOIN dwp.claims c ON c.subject = a.subject",
        "SELECT count(*) AS n FROM dfe.attainment a FULL JOIN dwp.claims c ON c.subject = a.subject",
        "SELECT count(*) AS n FROM (SELECT a.subject, c.months_claiming FROM dfe.attainment a LEFT JOIN dwp.claims c ON c.subject = a.subject) AS t",
    ] {
        let answer = sandbox.query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        for department in ["dfe", "dwp"] {
            let [_, invalid, withheld, left] = released(&sandbox, department);
            assert!(invalid > MINIMUM && withheld > MINIMUM, "{department}: policy leaves people out");
            let mut subjects = counts(&answer.summary["sources"], department)["subjects"].clone();
            // The same text, and nothing, stand in several rows, and count once.
            let different = subjects["invalid_identifiers"].take().as_u64().unwrap();
            assert!(different.is_multiple_of(MINIMUM) && different > 0 && different < invalid, "{department}: {different} of {invalid}");
            let sum = different + [withheld, left].map(|count| told(count).as_u64().unwrap()).iter().sum::<u64>();
            let expected = json!({
                "rounded_to": MINIMUM, "considered": sum, "invalid_identifiers": null, "withheld": told(withheld), "delivered": told(left),
                "matched": told(partners),
            });
            assert_eq!(subjects, expected, "{sql}");
            assert_eq!(logged(&sandbox, department), (left, partners), "{sql}");
        }
        assert_eq!(released(&sandbox, "dwp")[3], claims);
    }
    // A dataset alone has no partners; one that is read twice has two numbers, and neither is told as the other.
    let alone = sandbox.query("SELECT count(*) AS n FROM dfe.attainment").await.unwrap();
    assert_eq!(counts(&alone.summary["sources"], "dfe")["subjects"].get("matched"), None);
    let twice = "SELECT count(*) AS n FROM dfe.attainment a JOIN dwp.claims c ON c.subject = a.subject";
    let twice = sandbox.query(&format!("SELECT x.n - y.n AS d FROM ({twice}) x CROSS JOIN ({twice} WHERE c.claiming) y")).await.unwrap();
    assert_eq!(counts(&twice.summary["sources"], "dfe")["subjects"].get("matched"), None);
}

#[tokio::test]
async fn who_withdrew_is_neither_delivered_nor_matched_and_few_are_not_told() {
    let sandbox = Sandbox::start(3_000).await;
    let sql = "SELECT count(*) AS n FROM dfe.attainment a JOIN dhsc.health h ON h.subject = a.subject";
    sandbox.query(sql).await.unwrap();
    let (before, matched) = logged(&sandbox, "dhsc");
    let [considered, _, withheld, _] = released(&sandbox, "dhsc");
    record(&sandbox, "dhsc", "opportunity", "withdrawn", &sandbox.sample.somebody().unwrap());
    sandbox.query(sql).await.unwrap();
    assert_eq!(logged(&sandbox, "dhsc"), (before - 1, matched - 1));
    let after = released(&sandbox, "dhsc");
    assert_eq!((after[0], after[2]), (considered, withheld + 1), "withheld, and nothing else");
    // Nine people live there; that there are any is not told either.
    for place in ["Isles of Scilly", "Nowhere"] {
        let answer = sandbox.query(&format!("{sql} WHERE a.region = '{place}'")).await.unwrap();
        let few = counts(&answer.summary["sources"], "dfe")["subjects"].clone();
        for count in ["considered", "invalid_identifiers", "delivered", "matched"] {
            assert_eq!(few.get(count), Some(&Value::Null), "{place}: {few}");
        }
    }
    // Of many, those who are withheld are told of as a whole only: a condition would describe them.
    let alone = "SELECT count(*) AS n FROM dfe.attainment a";
    for (sql, told) in [(alone.to_owned(), true), (format!("{alone} WHERE a.region <> 'Nowhere'"), false)] {
        let many = counts(&sandbox.query(&sql).await.unwrap().summary["sources"], "dfe")["subjects"].clone();
        let number = |count: &str| many.get(count).is_some_and(Value::is_u64);
        assert_eq!((number("withheld"), number("considered"), number("delivered")), (told, told, true), "{sql}: {many}");
        assert_eq!(many["considered_not_told"].is_string(), !told, "{sql}: {many}");
    }
}

#[tokio::test]
async fn people_and_files_are_told_who_is_missing() {
    let sandbox = Sandbox::start(2_000).await;
    let table = run(&sandbox, &["query", "--view", "coverage"]);
    assert!(table.exit == 0, "{}", table.stderr);
    for said in ["dfe.attainment: 1,", "subjects considered", "withheld by people's choices", "with a partner (to the nearest 10)"] {
        assert!(table.stderr.contains(said), "'{said}' is not in {}", table.stderr);
    }
    let json = run(&sandbox, &["query", "--view", "coverage", "--output", "json"]).json();
    assert!(counts(&json["answer"]["sources"], "dfe")["subjects"]["considered"].as_u64().unwrap() > 1_000, "{json}");
}

/// One value of the column, as the report must show it.
#[derive(Debug)]
struct Line {
    subjects: u64,
    matched: u64,
    unmatched: u64,
}

#[tokio::test]
async fn a_linkage_report_equals_a_plain_evaluator() {
    let sandbox = Sandbox::start(20_000).await;
    let oracle = Oracle::over(&sandbox.layout).await;
    let plain = "SELECT a.region, count(DISTINCT a.subject) AS s, count(DISTINCT CASE WHEN c.subject IS NOT NULL AND h.subject IS NOT NULL \
                 AND p.subject IS NOT NULL AND b.subject IS NOT NULL THEN a.subject END) AS m FROM dfe.attainment a \
                 LEFT JOIN dwp.claims c ON c.subject = a.subject LEFT JOIN dhsc.health h ON h.subject = a.subject \
                 LEFT JOIN dbt.apprenticeships p ON p.subject = a.subject LEFT JOIN dsit.connectivity b ON b.subject = a.subject GROUP BY a.region";
    let mut expected = Vec::new();
    for row in rows(&oracle.query(plain).await, 1).into_values() {
        let [(_, Cell::Text(region)), (_, Cell::Number(subjects)), (_, Cell::Number(matched))] = &row[..] else { panic!("{row:?}") };
        let (subjects, matched) = (*subjects as u64, *matched as u64);
        expected.push((region.clone(), Line { subjects, matched, unmatched: subjects - matched }));
    }
    let shown = |line: &Line| line.matched >= MINIMUM && line.unmatched >= MINIMUM;
    let total = |of: fn(&Line) -> u64| expected.iter().filter(|(_, line)| shown(line)).map(|(_, line)| of(line)).sum::<u64>() as f64;
    let (matched, unmatched) = (total(|line| line.matched), total(|line| line.unmatched));
    let report = run(&sandbox, &["linkage", "report", "opportunity_by_region", "--by", "region", "--output", "json"]).json();
    let reported = report["rows"].as_array().unwrap();
    let mut compared = 0;
    for (region, line) in &expected {
        let row = reported.iter().find(|row| row["region"] == *region).unwrap_or_else(|| panic!("{region} is missing: {report}"));
        let near = |key: &str, number: f64| (row[key].as_f64().unwrap_or_else(|| panic!("{key}: {row}")) - number).abs() < 1e-9;
        if !shown(line) {
            for key in ["match_rate", "share_of_matched", "share_of_unmatched", "difference"] {
                assert_eq!(row[key], Value::Null, "{region}: {row}");
            }
            continue;
        }
        let (m, u) = (line.matched as f64, line.unmatched as f64);
        assert_eq!(row["subjects"], line.subjects, "{region}");
        assert!(near("match_rate", m / (m + u)) && near("share_of_matched", m / matched), "{row} {line:?}");
        assert!(near("share_of_unmatched", u / unmatched) && near("difference", m / matched - u / unmatched), "{row} {line:?}");
        compared += 1;
    }
    assert!(compared >= 8 && reported.iter().any(|row| row["region"] == "Isles of Scilly"), "{report}");
    // A query like any other: in the log, for its purpose, and refused where the agreement permits no such use.
    let log = sandbox.log("gateway");
    let closed = log.iter().rfind(|entry| entry["event"] == "query.closed").unwrap();
    assert_eq!(closed["facts"]["minimum_subjects"], MINIMUM, "{closed}");
    for (by, says) in [("attainment8", "may be grouped by"), ("absent", "choose one of")] {
        let refused = run(&sandbox, &["linkage", "report", "opportunity_by_region", "--by", by]);
        assert!(refused.exit != 0 && refused.stderr.contains(says), "{by}: {}", refused.stderr);
    }
}

/// A view through a link dataset. Of five firms one is in no market.
const MARKETS: &str = "-- mission: strong-economy
-- title: Apprentices in firms, by market
SELECT m.market, count(DISTINCT l.subject) AS firms, count(DISTINCT p.subject) AS apprentices
FROM dbt.apprenticeships p
JOIN dwp.employers e ON e.subject = p.subject
JOIN dbt.loans l ON l.subject = e.linked_subject
JOIN dsit.markets m ON m.subject = l.subject
GROUP BY m.market
";

/// From firms and from people: the column, its dataset's subject and that of the other kind, and the datasets joined to it.
const LINKED_REPORTS: [(&str, &str, &str, &str); 2] = [
    (
        "dbt.loans.sector",
        "l.subject",
        "e.subject",
        "dbt.loans l LEFT JOIN dwp.employers e ON e.linked_subject = l.subject LEFT JOIN dbt.apprenticeships p ON p.subject = e.subject \
         LEFT JOIN dsit.markets m ON m.subject = l.subject",
    ),
    (
        "dbt.apprenticeships.sector",
        "p.subject",
        "e.linked_subject",
        "dbt.apprenticeships p LEFT JOIN dwp.employers e ON e.subject = p.subject LEFT JOIN dbt.loans l ON l.subject = e.linked_subject \
         LEFT JOIN dsit.markets m ON m.subject = e.linked_subject",
    ),
];

/// Whoever is linked to several is found where one of them is in every other dataset.
#[tokio::test]
async fn a_linkage_report_through_a_link_dataset_equals_a_plain_evaluator() {
    let grouped = |federation: &mut Federation| {
        let economy = federation.agreements.iter_mut().find(|agreement| agreement.id == "strong-economy").unwrap();
        let apprenticeships = economy.datasets.iter_mut().find(|dataset| dataset.dataset == "apprenticeships").unwrap();
        apprenticeships.columns.push(("sector".into(), vec![Use::GroupBy]));
    };
    let view = |layout: &Layout| std::fs::write(layout.estate().join("views/markets_of_apprentices.sql"), MARKETS).unwrap();
    let sandbox = Sandbox::with(20_000, grouped, view).await;
    let oracle = Oracle::for_purposes(&sandbox.layout, &["economy", "economy.measure"]).await;
    for (by, subject, other, joined) in LINKED_REPORTS {
        let of = by.trim_end_matches(".sector");
        let alias = &subject[..1];
        let found = ["e", "p", "l", "m"].map(|alias| format!("{alias}.subject IS NOT NULL")).join(" AND ");
        let plain = format!(
            "SELECT {alias}.sector, count(DISTINCT {subject}) AS s, count(DISTINCT CASE WHEN {found} THEN {subject} END) AS m, \
             count(DISTINCT CASE WHEN {found} THEN {other} END) AS o FROM {joined} GROUP BY {alias}.sector"
        );
        let mut expected = Vec::new();
        for row in rows(&oracle.query(&plain).await, 1).into_values() {
            let [(_, Cell::Text(sector)), (_, Cell::Number(s)), (_, Cell::Number(m)), (_, Cell::Number(o))] = &row[..] else { continue };
            let (subjects, matched) = (*s as u64, *m as u64);
            expected.push((sector.clone(), Line { subjects, matched, unmatched: subjects - matched }, *o as u64));
        }
        // Of those who were found, few of either kind are few.
        let shown = |line: &Line, others: u64| line.matched.min(others) >= MINIMUM && line.unmatched >= MINIMUM;
        let told: Vec<&Line> = expected.iter().filter(|(_, line, others)| shown(line, *others)).map(|(_, line, _)| line).collect();
        let matched = told.iter().map(|line| line.matched).sum::<u64>() as f64;
        let unmatched = told.iter().map(|line| line.unmatched).sum::<u64>() as f64;
        let arguments = ["linkage", "report", "markets_of_apprentices", "--by", by, "--purpose", "economy.measure", "--output", "json"];
        let report = run(&sandbox, &arguments).json();
        let reported = report["rows"].as_array().unwrap_or_else(|| panic!("{of}: {report}"));
        let mut compared = 0;
        for (sector, line, others) in &expected {
            let row = reported.iter().find(|row| row["sector"] == *sector).unwrap_or_else(|| panic!("{of}: {sector} is missing: {report}"));
            let near = |key: &str, number: f64| (row[key].as_f64().unwrap_or_else(|| panic!("{key}: {row}")) - number).abs() < 1e-9;
            if !shown(line, *others) {
                assert!(row["match_rate"].is_null() && row["difference"].is_null(), "{of}: {row} {line:?}");
                continue;
            }
            let (m, u) = (line.matched as f64, line.unmatched as f64);
            assert_eq!(row["subjects"], line.subjects, "{of}: {sector}");
            assert!(near("match_rate", m / (m + u)) && near("share_of_matched", m / matched), "{of}: {row} {line:?}");
            assert!(near("share_of_unmatched", u / unmatched) && near("difference", m / matched - u / unmatched), "{of}: {row} {line:?}");
            compared += 1;
        }
        assert!(compared >= 5, "{of}: {report}");
    }
    // Firms have people of whom some are found, so that it matters how they count.
    let both = "SELECT count(*) AS n FROM (SELECT e.linked_subject FROM dwp.employers e LEFT JOIN dbt.apprenticeships p \
                ON p.subject = e.subject GROUP BY e.linked_subject HAVING count(p.subject) > 0 AND count(*) > count(p.subject)) t";
    assert!(number(&oracle, both).await > MINIMUM, "no firm would be both found and not found");
}

/// One person's objection, and a statement whose sources are looked at before and after it.
struct Case {
    purpose: &'static str,
    /// Where it is recorded.
    at: &'static str,
    /// Who, in the oracle.
    who: &'static str,
    sql: &'static str,
    /// A dataset that loses the person.
    loses: &'static str,
}

const fn case(purpose: &'static str, at: &'static str, who: &'static str, sql: &'static str, loses: &'static str) -> Case {
    Case { purpose, at, who, sql, loses }
}

const MANY: &str = "SELECT count(*) AS n FROM dfe.attainment";
const FEW: &str = "SELECT count(*) AS n FROM dfe.attainment WHERE region = 'Isles of Scilly'";
const JOINED: &str = "SELECT count(*) AS n FROM dfe.attainment a JOIN dwp.claims c ON c.subject = a.subject";
const LINK: &str = "SELECT count(*) AS n FROM dwp.employers";
const THROUGH: &str = "SELECT count(*) AS n FROM dbt.apprenticeships p JOIN dwp.employers e ON e.subject = p.subject";
const PUPIL: &str = "SELECT subject FROM dfe.attainment WHERE region = 'London'";
const ISLANDER: &str = "SELECT subject FROM dfe.attainment WHERE region = 'Isles of Scilly'";
const CLAIMANT: &str =
    "SELECT a.subject AS subject FROM dfe.attainment a JOIN dwp.claims c ON c.subject = a.subject WHERE a.region = 'North West'";
const EMPLOYED: &str = "SELECT e.subject AS subject FROM dbt.apprenticeships p JOIN dwp.employers e ON e.subject = p.subject";

/// Few or many, alone, joined or through a link dataset × recorded at the data's own department and at another.
const CASES: &[Case] = &[
    case("opportunity", "dfe", ISLANDER, FEW, "attainment"),
    case("opportunity", "dhsc", ISLANDER, FEW, "attainment"),
    case("opportunity", "dfe", PUPIL, MANY, "attainment"),
    case("opportunity", "dhsc", PUPIL, MANY, "attainment"),
    case("opportunity", "dwp", CLAIMANT, JOINED, "claims"),
    case("opportunity", "dsit", CLAIMANT, JOINED, "claims"),
    case("economy", "dwp", EMPLOYED, LINK, "employers"),
    case("economy", "dbt", EMPLOYED, LINK, "employers"),
    case("economy", "dwp", EMPLOYED, THROUGH, "employers"),
    case("economy", "dsit", EMPLOYED, THROUGH, "employers"),
];

/// What callers are told of the sources, and how many subjects of the dataset `loses` came, by the log.
async fn told_of(sandbox: &Sandbox, case: &Case) -> (Vec<Value>, u64) {
    let client = sandbox.client_with(|c| c.purpose = Some(format!("{}.measure", case.purpose))).await;
    // Whoever has the choice is asked anew, be it read or not.
    let answer = client.at_least(&[format!("{}=0", case.at)]).query(case.sql).await.unwrap_or_else(|e| panic!("{}: {e:?}", case.sql));
    let closed = sandbox.log("gateway").into_iter().rfind(|entry| entry["event"] == "query.closed").unwrap();
    let came = closed["facts"]["sources"].as_array().unwrap().iter().find(|source| source["dataset"] == case.loses).unwrap();
    let told = answer.summary["sources"].as_array().unwrap().iter().map(|source| source["counts"].clone()).collect();
    (told, came["subjects"].as_u64().unwrap())
}

/// What is null stays null, what is said in words stays as it is, and no count moves by more than a step.
fn within_a_step(before: &Value, after: &Value, step: u64, of: &str) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            assert!(before.keys().eq(after.keys()), "{of}: {before:?} {after:?}");
            let step = before.get("rounded_to").and_then(Value::as_u64).unwrap_or(step);
            before.iter().zip(after.values()).for_each(|((key, before), after)| within_a_step(before, after, step, &format!("{of} {key}")));
        }
        (Value::Number(before), Value::Number(after)) => {
            let moved = before.as_u64().unwrap().abs_diff(after.as_u64().unwrap());
            assert!(moved <= step, "{of}: {before} {after}");
        }
        _ => assert_eq!(before, after, "{of}"),
    }
}

#[tokio::test]
async fn one_persons_choice_shows_in_nothing_that_callers_are_told() {
    let everywhere = |layout: &Layout| ["opportunity", "strong-economy"].iter().for_each(|agreement| reaching(layout, agreement, "15m"));
    let sandbox = Sandbox::with(3_000, |_| {}, everywhere).await;
    let oracle = Oracle::reached(&sandbox.layout, &[]).await;
    for (place, case) in CASES.iter().enumerate() {
        // Everybody once.
        let somebody = oracle.query(&format!("{} ORDER BY subject LIMIT 1 OFFSET {place}", case.who)).await;
        let somebody = cast(somebody[0].column(0), &DataType::Utf8).unwrap().as_string::<i32>().value(0).to_owned();
        let (before, came) = told_of(&sandbox, case).await;
        record(&sandbox, case.at, case.purpose, "objected", &somebody);
        let (after, come) = told_of(&sandbox, case).await;
        let of = format!("{} recorded at {}", case.sql, case.at);
        assert_eq!(come, came - 1, "{of}: the objection counts");
        assert_eq!(before.len(), after.len(), "{of}");
        before.iter().zip(&after).for_each(|(before, after)| within_a_step(before, after, 0, &of));
        for told in &after {
            assert_eq!((told["not_told"].is_string(), &told["subjects"]["considered"]), (false, &Value::Null), "{of}: {told}");
            assert!(case.sql != FEW || told["subjects"]["delivered"].is_null(), "{of}: {told}");
        }
    }
}
