//! Statements and what becomes of them, on an agreement with every kind of column.

mod agreements;
mod counted;
mod grouped;
mod refused;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Agreement, Code, Name, Permit, PurposeTree, Refusal, Signatures, authorize};
use concordat_protect::noise::Secret;
use concordat_proto::signature;
use concordat_proto::token::SigningKey;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::displayable;

use super::{Engine, Plan};
use crate::estate::View;
use crate::fetch::leaves;

pub(crate) const AGREEMENT: &str = r#"
id = "test"
title = "Test"
mission = "m"
purposes = ["p"]
valid_from = "2026-01-01"
valid_until = "2026-12-31"
linkage = { keyholder = "a" }
[[party]]
department = "a"
signing_key = "SIGNING KEY OF a"
linkage_key = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
[[party]]
department = "b"
signing_key = "SIGNING KEY OF b"
linkage_key = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
[[recipient]]
organisation = "unit"
roles = ["analyst"]
[[dataset]]
department = "a"
name = "people"
identifier = { type = "nino", uses = ["join", "aggregate", "group_by"] }
basis = "statutory"
power = "test"
[dataset.columns]
region = { type = "text", classification = "personal", uses = ["group_by", "filter"], values = ["N", "S", "E"] }
flag = { type = "boolean", classification = "personal", uses = ["group_by", "filter", "aggregate"] }
score = { type = "number", classification = "personal", uses = ["aggregate"] }
age = { type = "integer", classification = "personal", uses = ["filter"] }
year = { type = "integer", classification = "personal", uses = ["output", "filter"] }
secret = { type = "text", classification = "special" }
[[dataset]]
department = "b"
name = "claims"
identifier = { type = "nino", uses = ["join", "aggregate"] }
basis = "statutory"
power = "test"
[dataset.columns]
amount = { type = "integer", classification = "personal", uses = ["aggregate", "filter"] }
open = { type = "boolean", classification = "personal", uses = ["filter", "aggregate"] }
[[dataset]]
department = "b"
name = "homes"
identifier = { type = "uprn", uses = ["join", "aggregate"] }
basis = "statutory"
power = "test"
[dataset.columns]
speed = { type = "number", classification = "personal", uses = ["aggregate"] }
[[dataset]]
department = "b"
name = "links"
identifier = { type = "nino", uses = ["join", "aggregate"] }
linked = { type = "uprn", uses = ["join", "aggregate"] }
basis = "statutory"
power = "test"
"#;

/// A party's key: a fixed seed in the fixed prefix of RFC 8410.
pub(crate) fn key(department: &str) -> SigningKey {
    let prefix: [u8; 16] = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    SigningKey::from_pkcs8(&[&prefix[..], &[department.as_bytes()[0]; 32]].concat()).unwrap()
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// An agreement with its parties' keys in it.
pub(crate) fn agreed(text: &str) -> Agreement {
    let with = |text: String, party| text.replace(&format!("SIGNING KEY OF {party}"), Fingerprint::of(key(party).public_spki()).as_str());
    Agreement::parse(&["a", "b"].into_iter().fold(text.to_owned(), with)).unwrap()
}

/// The parties' signatures of `agreement`, but for those of `without`.
pub(crate) fn sign(signatures: &mut Signatures, agreement: &Agreement, without: &[&str]) {
    for party in agreement.parties.iter().filter(|party| !without.contains(&party.department.as_str())) {
        let content = signature::sign(agreement, &party.department, &key(party.department.as_str()), now()).unwrap();
        signatures.add(&agreement.id, &party.department, signature::read(content.as_bytes()));
    }
}

pub(crate) fn now() -> DateTime<Utc> {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

pub(super) fn permitted(agreements: &[Agreement], signatures: &Signatures) -> Result<Permit, Refusal> {
    let purposes = PurposeTree::parse(r#"purpose = [{ id = "p", title = "P" }]"#).unwrap();
    let caller = concordat_policy::Caller {
        subject: "u".into(),
        organisation: "unit".into(),
        roles: ["analyst".to_owned()].into(),
        purpose: name("p"),
    };
    authorize(&caller, None, agreements, signatures, &purposes, now())
}

pub(crate) fn engine() -> Engine {
    Engine { partitions: 2, runtime: Arc::new(RuntimeEnv::default()), noise: Secret::new([7; 16]) }
}

/// What an agreement that every party signed permits.
pub(crate) fn permitted_by(agreement: &Agreement) -> Permit {
    let mut signatures = Signatures::default();
    sign(&mut signatures, agreement, &[]);
    permitted(std::slice::from_ref(agreement), &signatures).unwrap()
}

async fn planned(sql: &str) -> Result<Plan, Refusal> {
    planned_under(permitted_by(&agreed(AGREEMENT)), sql).await
}

pub(crate) async fn planned_under(permit: Permit, sql: &str) -> Result<Plan, Refusal> {
    let view = |name: &str, sql: &str| View {
        name: name.into(),
        mission: permit.mission().clone(),
        title: String::new(),
        unit: String::new(),
        description: String::new(),
        sql: sql.into(),
    };
    let views = [
        view("by_region", "SELECT region, count(*) AS persons, avg(score) AS mean FROM a.people GROUP BY region"),
        view("joined", "SELECT p.subject, p.region, p.score, c.amount FROM a.people p JOIN b.claims c ON p.subject = c.subject"),
        view("ordered", "SELECT region, avg(score) AS mean FROM a.people GROUP BY region ORDER BY region DESC"),
        view("circle", "SELECT * FROM views.circle"),
    ];
    Plan::new(&permit, &sql.into(), &views, engine()).await
}

#[tokio::test]
async fn permitted_statements_plan() {
    for sql in [
        "SELECT count(*) FROM a.people",
        "SELECT region, count(DISTINCT subject) AS persons, avg(score) FROM a.people GROUP BY region HAVING count(*) > 20 ORDER BY persons DESC LIMIT 3",
        "SELECT p.region, avg(c.amount) FILTER (WHERE c.open) FROM a.people p JOIN b.claims c ON p.subject = c.subject WHERE p.age > 18 GROUP BY p.region",
        "SELECT p.region, avg(CASE WHEN c.open THEN 1.0 ELSE 0.0 END) FROM a.people p LEFT JOIN b.claims c ON p.subject = c.subject GROUP BY 1",
        "SELECT count(*) FROM a.people p FULL JOIN b.claims c ON p.subject = c.subject",
        "SELECT count(*) FROM a.people p RIGHT JOIN b.claims c USING (subject)".replace("RIGHT ", "").as_str(),
        "SELECT count(*) FROM a.people WHERE subject IN (SELECT subject FROM b.claims WHERE amount > 3)",
        "SELECT count(*) FROM a.people WHERE subject NOT IN (SELECT subject FROM b.claims)",
        "SELECT count(*) FROM a.people p WHERE EXISTS (SELECT 1 FROM b.claims c WHERE c.subject = p.subject AND c.open)",
        "SELECT count(*) FROM a.people p WHERE NOT EXISTS (SELECT * FROM b.claims c WHERE p.subject = c.subject)",
        "SELECT count(*) FROM a.people p LEFT JOIN b.claims c ON p.subject = c.subject WHERE c.subject IS NULL",
        "SELECT region, flag, sum(score) / count(score) FROM a.people GROUP BY region, flag",
        "SELECT DISTINCT region FROM a.people",
        "SELECT avg(total) FROM (SELECT p.subject, sum(c.amount) AS total FROM a.people p JOIN b.claims c ON p.subject = c.subject GROUP BY p.subject) AS t",
        "SELECT * FROM views.by_region WHERE mean > 3",
        "SELECT max(persons) FROM by_region",
        "SELECT region, avg(amount) FROM views.joined GROUP BY region",
        "SELECT region, count(*) FROM a.people GROUP BY region UNION ALL SELECT 'all', count(*) FROM a.people",
        "WITH x AS (SELECT region, count(*) AS n FROM a.people GROUP BY region) SELECT l.region, l.n - r.n FROM x l JOIN x r ON l.region = r.region",
        "SELECT region, count(*) FROM a.people GROUP BY region HAVING avg(score) > (SELECT avg(score) FROM a.people)",
        "SELECT count(*) FILTER (WHERE flag IS NOT TRUE), count(*) FILTER (WHERE NOT (flag IS TRUE)) FROM a.people",
        "SELECT count(*) FROM a.people x LEFT JOIN b.claims y ON x.subject = y.subject AND y.open",
        "SELECT year FROM a.people WHERE age < 20 ORDER BY year LIMIT 5",
        // A summary as a value beside summaries, and in the key of a group.
        "SELECT coalesce((SELECT count(*) FROM b.claims), 0) AS k, count(*) FROM a.people GROUP BY coalesce((SELECT count(*) FROM b.claims), 0)",
        "SELECT CASE WHEN coalesce(persons, 0) < 20 THEN 'few' ELSE 'many' END AS k, count(*) FROM by_region GROUP BY 1",
        "SELECT coalesce(persons, 0) AS k, count(*) FROM by_region GROUP BY ROLLUP (coalesce(persons, 0))",
        "SELECT max(n - m) FROM (SELECT region, count(*) AS n, (SELECT count(*) FROM b.claims) AS m FROM a.people GROUP BY region) t",
        "SELECT 1 + 1",
        // Groups and their totals.
        "SELECT region, flag, grouping(region, flag) AS g, count(*), avg(score) FROM a.people GROUP BY ROLLUP (region, flag) HAVING count(*) > 20 OR grouping(flag) = 1 ORDER BY g",
        "SELECT region, flag, count(DISTINCT subject), sum(score) FROM a.people GROUP BY CUBE (region, flag)",
        "SELECT region, flag, grouping(flag, region), count(*) FROM a.people GROUP BY GROUPING SETS ((region, flag), (flag), (), (flag))",
        "SELECT flag, region, count(*) FROM a.people GROUP BY flag, ROLLUP (flag, region)",
        "SELECT p.region, avg(c.amount) FILTER (WHERE c.open), sum(CASE WHEN c.open THEN 1 ELSE 0 END) FROM a.people p LEFT JOIN b.claims c ON p.subject = c.subject GROUP BY ROLLUP (p.region)",
        "SELECT p.region, count(c.subject) FROM a.people p FULL JOIN b.claims c ON p.subject = c.subject GROUP BY ROLLUP (p.region)",
        "SELECT p.region, count(*) FILTER (WHERE p.flag), sum(CASE WHEN c.open THEN c.amount END) FILTER (WHERE p.flag), avg(CASE WHEN c.open THEN 1.0 ELSE 0.0 END) FILTER (WHERE p.flag) FROM a.people p FULL JOIN b.claims c ON p.subject = c.subject GROUP BY p.region",
        "SELECT p.region, avg(c.amount) FILTER (WHERE c.open) FROM a.people p FULL JOIN b.claims c ON p.subject = c.subject GROUP BY ROLLUP (p.region)",
        "SELECT count(DISTINCT p.subject) FILTER (WHERE p.flag), count(p.flag) FILTER (WHERE p.flag), count(c.amount) FILTER (WHERE p.flag) FROM a.people p LEFT JOIN b.claims c ON p.subject = c.subject",
        "SELECT count(DISTINCT l.linked_subject) FILTER (WHERE p.flag), avg(CASE WHEN p.flag THEN h.speed ELSE 0 END) FILTER (WHERE p.region = 'N') FROM a.people p JOIN b.links l ON p.subject = l.subject JOIN b.homes h ON l.linked_subject = h.subject",
        "SELECT avg(t.n) FROM (SELECT subject, region, count(*) AS n FROM a.people GROUP BY subject, region) t GROUP BY ROLLUP (t.region)",
        "SELECT region FROM a.people GROUP BY ROLLUP (region)",
        "SELECT count(*) FROM a.people GROUP BY GROUPING SETS (())",
        "SELECT coalesce(region, 'all'), persons FROM (SELECT region, count(*) AS persons FROM a.people GROUP BY ROLLUP (region)) t WHERE persons > 30",
        "SELECT region, grouping(region), sum(persons), max(mean) FROM views.by_region GROUP BY ROLLUP (region)",
        "SELECT grouping(region), region FROM a.people GROUP BY region",
        "SELECT count(*) & 3 FROM a.people",
        "SELECT p.region, count(DISTINCT p.subject), count(DISTINCT h.subject), avg(h.speed) FROM a.people p JOIN b.links l ON p.subject = l.subject JOIN b.homes h ON l.linked_subject = h.subject GROUP BY CUBE (p.region)",
        // Through a link dataset.
        "SELECT count(*) FROM b.links",
        "SELECT p.region, count(DISTINCT p.subject), count(DISTINCT h.subject), avg(h.speed) FROM a.people p JOIN b.links l ON p.subject = l.subject JOIN b.homes h ON l.linked_subject = h.subject GROUP BY p.region",
        "SELECT count(*), count(DISTINCT l.linked_subject) FROM a.people p LEFT JOIN b.links l ON p.subject = l.subject LEFT JOIN b.homes h ON h.subject = l.linked_subject",
        "SELECT count(p.subject) FROM b.homes h JOIN b.links l ON l.linked_subject = h.subject LEFT JOIN a.people p ON p.subject = l.subject WHERE p.age > 3",
        "SELECT count(*) FROM b.links l RIGHT JOIN b.homes h ON l.linked_subject = h.subject",
        // As linkage reports ask.
        "WITH t AS (SELECT p.region, count(DISTINCT p.subject) AS s, count(DISTINCT p.subject) FILTER (WHERE l.subject IS NOT NULL AND h.subject IS NOT NULL) AS m FROM a.people p LEFT JOIN b.links l ON l.subject = p.subject LEFT JOIN b.homes h ON h.subject = l.linked_subject GROUP BY p.region) SELECT region, s, CASE WHEN s - m >= 10 THEN m END FROM t",
        "SELECT count(DISTINCT h.subject), count(DISTINCT h.subject) FILTER (WHERE l.subject IS NOT NULL AND p.subject IS NOT NULL) FROM b.homes h LEFT JOIN b.links l ON l.linked_subject = h.subject LEFT JOIN a.people p ON p.subject = l.subject",
    ] {
        let plan = planned(sql).await.unwrap_or_else(|refusal| panic!("{sql}\n{refusal:?}"));
        // Another plan of the same does the same, and shares nothing that a run changes.
        let again = Plan::of(plan.made(), Arc::default()).await.unwrap();
        assert_eq!(shown(&again), shown(&plan), "{sql}");
        let [own, others] = [&plan, &again].map(|plan| leaves(plan.physical()).unwrap());
        assert!(own.len() == others.len() && own.iter().all(|spec| !others.iter().any(|other| Arc::ptr_eq(spec, other))), "{sql}");
        assert_eq!(plan.tallies.len(), again.tallies.len(), "{sql}");
        for tally in plan.tallies.iter().chain(&again.tallies) {
            assert!(Arc::strong_count(tally) > 1, "what counts is in the plan: {sql}");
        }
        assert!(plan.tallies.iter().all(|tally| !again.tallies.iter().any(|other| Arc::ptr_eq(tally, other))), "{sql}");
    }
}

fn shown(plan: &Plan) -> String {
    displayable(plan.physical().as_ref()).indent(false).to_string()
}

#[test]
fn views_and_datasets_that_a_statement_names_are_told_as_far_as_they_may_be_used() {
    let permit = permitted_by(&agreed(AGREEMENT));
    let view = |name: &str, mission: &Name, sql: &str| View {
        name: name.into(),
        mission: mission.clone(),
        title: String::new(),
        unit: String::new(),
        description: String::new(),
        sql: sql.into(),
    };
    let views = [
        view("upper", permit.mission(), "SELECT l.region FROM views.lower l JOIN b.homes h ON l.subject = h.subject"),
        view("lower", permit.mission(), "SELECT p.* FROM a.people p, views.upper"),
        view("elsewhere", &name("other"), "SELECT * FROM b.links"),
    ];
    for (sql, expected) in [
        ("SELECT secret FROM a.people", vec!["a.people"]),
        ("SELECT count(*) FROM b.claims c JOIN a.people p ON c.subject = p.subject, a.nothing, x.people", vec!["a.people", "b.claims"]),
        (
            "WITH x AS (SELECT subject FROM b.claims) SELECT count(*) FROM x WHERE subject IN (SELECT subject FROM views.upper)",
            vec!["a.people", "b.claims", "b.homes"],
        ),
        ("SELECT * FROM lower", vec!["a.people", "b.homes"]),
        ("SELECT * FROM views.elsewhere", vec![]),
        ("SELECT FROM a.people WHERE", vec![]),
        ("DROP TABLE a.people", vec![]),
    ] {
        let itself = match sql {
            "SELECT * FROM lower" => vec!["lower"],
            _ if sql.contains("views.upper") => vec!["upper"],
            _ => vec![],
        };
        let (named, datasets) = super::named(sql, &permit, &views);
        assert_eq!(named, itself, "{sql}");
        assert_eq!(datasets, expected, "{sql}");
    }
}

#[tokio::test]
async fn sorted_streams_are_merged_and_protect_stands_above_the_aggregate() {
    let sql = "SELECT p.region, count(DISTINCT p.subject) AS persons, avg(c.amount) AS mean FROM a.people p JOIN b.claims c ON p.subject = c.subject WHERE p.age > 18 AND c.amount < 9 GROUP BY p.region HAVING count(*) > 20";
    let plan = planned(sql).await.unwrap();
    let shown = shown(&plan);
    insta::assert_snapshot!(shown);
}

#[tokio::test]
async fn a_views_order_reaches_who_reads_it() {
    let plan = planned("SELECT * FROM views.ordered").await.unwrap();
    let shown = shown(&plan);
    assert!(shown.contains("SortExec: expr=[region@0 DESC]"), "{shown}");
}

#[tokio::test]
async fn order_by_stays_above_protect() {
    let plan = planned("SELECT region, flag, count(*) AS n FROM a.people GROUP BY region, flag ORDER BY region, flag").await.unwrap();
    let shown = shown(&plan);
    let (sort, protect) = (shown.find("SortExec"), shown.find("ProtectExec"));
    assert!(sort.is_some() && sort < protect, "{shown}");
}
