//! Statements and what becomes of them, on an agreement with every kind of column.

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
pub(super) fn permitted_by(agreement: &Agreement) -> Permit {
    let mut signatures = Signatures::default();
    sign(&mut signatures, agreement, &[]);
    permitted(std::slice::from_ref(agreement), &signatures).unwrap()
}

async fn planned(sql: &str) -> Result<Plan, Refusal> {
    planned_under(permitted_by(&agreed(AGREEMENT)), sql).await
}

pub(super) async fn planned_under(permit: Permit, sql: &str) -> Result<Plan, Refusal> {
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
async fn nobody_is_counted_where_the_agreement_permits_no_count() {
    let of_claims = "name = \"claims\"\nidentifier = { type = \"nino\", uses = ";
    let under = |uses: &str| {
        let agreement = agreed(&AGREEMENT.replace(&format!("{of_claims}[\"join\", \"aggregate\"]"), &format!("{of_claims}{uses}")));
        let mut signatures = Signatures::default();
        sign(&mut signatures, &agreement, &[]);
        permitted(&[agreement], &signatures).unwrap()
    };
    for sql in [
        "SELECT count(*) FROM b.claims",
        "SELECT count(CASE WHEN TRUE THEN 1 END) FROM b.claims",
        "SELECT sum(CASE WHEN 1 = 1 THEN 1 ELSE 0 END) FROM b.claims",
        "SELECT sum(CASE WHEN TRUE THEN 1 ELSE 0 END) FROM b.claims WHERE open",
        "SELECT DISTINCT 1 FROM b.claims",
        "SELECT 'x' AS k FROM b.claims GROUP BY 1",
        "SELECT sum(t.n) FROM (SELECT subject, count(*) AS n FROM b.claims GROUP BY subject) AS t",
        "SELECT count(t.n) FROM (SELECT subject, count(*) AS n FROM b.claims GROUP BY subject) AS t",
    ] {
        let Err(refusal) = planned_under(under("[\"join\", \"group_by\"]"), sql).await else { panic!("{sql}: planned") };
        assert_eq!(refusal.code, Code::Denied, "{sql}: {refusal:?}");
        assert!(refusal.message.contains("b.claims.subject may not be used for aggregate"), "{sql}: {refusal:?}");
        if let Err(refusal) = planned_under(under("[\"join\", \"group_by\", \"aggregate\"]"), sql).await {
            panic!("{sql}: {refusal:?}");
        }
    }
    planned_under(under("[\"join\"]"), "SELECT sum(amount) FROM b.claims").await.unwrap();
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
        // A summary as a value beside summaries.
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
        if let Err(refusal) = planned(sql).await {
            panic!("{sql}\n{refusal:?}");
        }
    }
}

#[tokio::test]
async fn the_rest_is_refused_with_its_code() {
    use Code::{Denied, Disclosure, Invalid, LimitExceeded};
    let deep = format!("SELECT count(*) FROM a.people WHERE {}", vec!["age = 1"; 2500].join(" OR "));
    let wide = format!("SELECT count(*) FROM a.people GROUP BY region, CUBE ({})", vec!["flag"; 40].join(", "));
    for (sql, code, says) in [
        // Not there, or not for this caller: one sentence.
        ("SELECT count(*) FROM a.absent", Denied, "may not be used"),
        ("SELECT count(*) FROM c.people", Denied, "may not be used"),
        ("SELECT count(*) FROM '/etc/passwd'", Denied, "may not be used"),
        ("SELECT count(*) FROM information_schema.tables", Denied, "may not be used"),
        ("SELECT sum(absent) FROM a.people", Denied, "absent"),
        ("SELECT count(secret) FROM a.people", Denied, "secret"),
        // Uses that the agreement does not permit.
        ("SELECT region FROM a.people", Denied, "a.people.region may not be used for output"),
        ("SELECT * FROM a.people", Denied, ""),
        ("SELECT score FROM a.people", Denied, "output"),
        ("SELECT count(*) FROM a.people WHERE score > 3", Denied, "filter"),
        ("SELECT score, count(*) FROM a.people GROUP BY score", Denied, "group_by"),
        ("SELECT avg(age) FROM a.people", Denied, "aggregate"),
        ("SELECT sum(CASE WHEN score > 3 THEN 1 ELSE 0 END) FROM a.people", Denied, "filter"),
        ("SELECT count(*) FILTER (WHERE score > 3) FROM a.people", Denied, "filter"),
        ("SELECT subject FROM a.people", Denied, "output"),
        ("SELECT subject, count(*) FROM b.claims GROUP BY subject", Denied, ""),
        // A column that may only filter never leaves its department.
        ("SELECT count(*) FROM a.people WHERE coalesce(age, 1) > 18", Denied, "at its department"),
        ("SELECT count(*) FILTER (WHERE age > 3) FROM a.people", Denied, "at its department"),
        // One subject's value must not get a weight of its own, or a way out.
        ("SELECT sum(score * 2) FROM a.people", Disclosure, "takes a column"),
        ("SELECT sum(CASE WHEN flag THEN score ELSE 1000 END) FROM a.people", Disclosure, "takes a column"),
        ("SELECT sum(CASE WHEN flag THEN 1 WHEN region = 'N' THEN 1000 END) FROM a.people", Disclosure, "takes a column"),
        ("SELECT sum(v) FROM (SELECT CASE WHEN flag THEN score ELSE 0 END AS v FROM a.people) t", Disclosure, "takes a column"),
        // Nor choose how it is rounded, or whom a cast leaves out.
        ("SELECT sum(CASE WHEN flag THEN 0.96 END) FROM a.people", Disclosure, "counts each row as 1 or 100"),
        ("SELECT sum(w) FROM (SELECT subject, max(0.96) AS w FROM a.people GROUP BY subject) t", Disclosure, "takes a column"),
        ("SELECT count(CASE WHEN flag THEN 1 ELSE 0 END) FROM a.people", Disclosure, "takes a column"),
        ("SELECT count(CAST(score AS TINYINT)) FROM a.people", Disclosure, "a cast inside an aggregate"),
        ("SELECT sum(CASE WHEN flag THEN CAST(score AS SMALLINT) END) FROM a.people", Disclosure, "a cast inside an aggregate"),
        ("SELECT sum(CAST(CASE WHEN flag THEN score END AS SMALLINT)) FROM a.people", Disclosure, "a cast inside an aggregate"),
        ("SELECT max(score) FROM a.people", Disclosure, "max"),
        ("SELECT min(amount) FROM b.claims", Disclosure, "min"),
        ("SELECT count(DISTINCT score) FROM a.people", Disclosure, "counts subjects"),
        ("SELECT avg(score) FROM (SELECT score FROM a.people ORDER BY year LIMIT 1) t", Disclosure, "LIMIT"),
        ("SELECT count(*) FROM a.people WHERE EXISTS (SELECT 1 FROM b.claims WHERE amount > 3)", Disclosure, "same subject"),
        ("SELECT count(*) FROM a.people WHERE region IN (SELECT region FROM a.people WHERE age = 3)", Disclosure, "pseudonyms"),
        ("SELECT count(*) FROM a.people WHERE age = (SELECT amount FROM b.claims LIMIT 1)", Disclosure, "summary"),
        ("SELECT count(*) FROM a.people p JOIN b.claims c ON p.age = c.amount", Disclosure, "pseudonym"),
        ("SELECT count(*) FROM a.people p, b.claims c", Disclosure, "pseudonym"),
        ("SELECT count(*) FROM a.people WHERE subject = x'00'", Invalid, "cast"),
        ("SELECT count(*) FROM a.people WHERE 1 / age > 0", Disclosure, "arithmetic"),
        ("SELECT count(*) FROM a.people WHERE CASE WHEN flag THEN year / CAST(0.4 AS BIGINT) > 1 ELSE true END", Disclosure, "arithmetic"),
        ("SELECT count(*) FROM a.people WHERE year % 2 = 0", Disclosure, "arithmetic"),
        ("SELECT count(*) FROM a.people WHERE -year > 0", Disclosure, "arithmetic"),
        ("SELECT count(*) FROM a.people WHERE CAST(year AS DECIMAL(38, 0)) > 1", Invalid, "cast"),
        ("SELECT count(*) FROM a.people WHERE region || region = 'NN'", Invalid, "||"),
        (
            "SELECT avg(m) FROM (SELECT subject, max(CAST(score AS DECIMAL(1, 0))) AS m FROM a.people GROUP BY subject) t",
            Disclosure,
            "takes a column",
        ),
        (
            "SELECT avg(m) FROM (SELECT subject, max(CAST(region AS DOUBLE)) AS m FROM a.people GROUP BY subject) t",
            Disclosure,
            "takes a column",
        ),
        // Rows of chosen people must not count several times.
        ("SELECT count(*) FROM a.people x JOIN a.people y ON x.subject = y.subject", Disclosure, "joined with itself"),
        ("SELECT count(*) FROM a.people x FULL JOIN b.claims y ON x.subject = y.subject AND x.region <> 'N'", Disclosure, "outer join"),
        ("SELECT count(*) FROM a.people x LEFT JOIN b.claims y ON x.subject = y.subject AND x.flag", Disclosure, "outer join"),
        ("SELECT count(*) FROM a.people x RIGHT JOIN b.claims y ON x.subject = y.subject AND y.open", Disclosure, "outer join"),
        ("SELECT avg(score) FROM a.people WHERE subject IN (SELECT subject FROM a.people LIMIT 10)", Disclosure, "LIMIT"),
        // A subquery that would be left as it stands, without Protect.
        ("SELECT sum(n - n + (SELECT sum(amount) FROM b.claims)) FROM (SELECT count(*) AS n FROM a.people) t", Invalid, "subquery inside"),
        (
            "SELECT count(*) FILTER (WHERE n > (SELECT sum(amount) FROM b.claims)) FROM (SELECT count(*) AS n FROM a.people) t",
            Invalid,
            "subquery inside",
        ),
        (
            "SELECT count(*) FROM (SELECT count(*) AS n FROM a.people) t GROUP BY n + (SELECT sum(amount) FROM b.claims)",
            Invalid,
            "subquery inside",
        ),
        ("SELECT * FROM (VALUES ((SELECT sum(amount) FROM b.claims))) t", Invalid, ""),
        ("SELECT year FROM a.people LIMIT (SELECT sum(amount) FROM b.claims)", Invalid, ""),
        // Whether, or how often, somebody is in another dataset, beside a column that may be put out.
        (
            "SELECT p.year, c.subject IS NULL FROM a.people p LEFT JOIN b.claims c ON p.subject = c.subject",
            Denied,
            "b.claims.subject may not be used for output",
        ),
        (
            "SELECT p.year, t.n FROM a.people p JOIN (SELECT subject, count(*) AS n FROM b.claims GROUP BY subject) t ON p.subject = t.subject",
            Denied,
            "b.claims.subject may not be used for output",
        ),
        ("SELECT year FROM a.people ORDER BY score", Denied, "a.people.score may not be used for output"),
        // A literal that does not fit is the statement's mistake.
        ("SELECT count(*) FROM a.people WHERE year > 'x'", Invalid, "literal"),
        ("SELECT count(*) FROM a.people WHERE year IN ('2020', 'x')", Invalid, "literal"),
        ("SELECT count(*) FROM a.people TABLESAMPLE (10 PERCENT)", Invalid, "TABLESAMPLE"),
        ("SELECT concat('a', 'b')", Invalid, "concat"),
        ("SELECT n, count(*) FROM (SELECT subject, count(*) AS n FROM a.people GROUP BY subject) t GROUP BY n", Disclosure, "key"),
        ("SELECT 1 FROM a.people", Disclosure, "exact number"),
        ("SELECT score FROM a.people UNION ALL SELECT score FROM a.people", Disclosure, "UNION"),
        ("SELECT p.score FROM a.people p JOIN views.by_region r ON p.region = r.region", Disclosure, "summaries"),
        ("SELECT p.subject FROM a.people p FULL JOIN b.claims c ON p.subject = c.subject GROUP BY p.subject", Disclosure, "outer join"),
        // A link dataset could make many of one.
        ("SELECT count(*) FROM a.people WHERE subject IN (SELECT subject FROM b.links)", Disclosure, "link dataset"),
        ("SELECT count(*) FROM a.people p WHERE EXISTS (SELECT 1 FROM b.links l WHERE l.subject = p.subject)", Disclosure, "link dataset"),
        ("SELECT count(*) FROM b.homes h FULL JOIN b.links l ON l.linked_subject = h.subject", Disclosure, "link dataset"),
        ("SELECT count(*) FROM b.homes h LEFT SEMI JOIN b.links l ON l.linked_subject = h.subject", Disclosure, "link dataset"),
        ("SELECT avg(n) FROM (SELECT l.subject, count(*) AS n FROM b.links l GROUP BY l.subject) t", Disclosure, "link dataset"),
        ("SELECT linked_subject FROM b.links", Denied, "b.links.linked_subject may not be used for output"),
        ("SELECT count(*) FROM b.links WHERE linked_subject = subject", Disclosure, "pseudonym"),
        ("SELECT count(*) FROM a.people p JOIN b.links l ON p.subject = l.linked_subject", Invalid, "never match"),
        // Not offered.
        ("SELECT count(*) FROM a.people p JOIN b.homes h ON p.subject = h.subject", Invalid, "never match"),
        ("SELECT count(*) FROM a.people p FULL JOIN b.claims c USING (subject)", Invalid, "USING"),
        ("SELECT sum(score) OVER () FROM a.people", Invalid, "OVER"),
        ("SELECT rank() OVER (ORDER BY persons) FROM by_region", Invalid, ""),
        ("SELECT region, count(*) FROM a.people GROUP BY region WITH ROLLUP", Invalid, "WITH ROLLUP"),
        ("SELECT region, count(*) FROM a.people GROUP BY ROLLUP (region, subject)", Disclosure, "pseudonym"),
        ("SELECT count(*) FROM a.people GROUP BY GROUPING SETS ((), (subject))", Disclosure, "pseudonym"),
        (
            "SELECT region, count(*) FROM a.people GROUP BY GROUPING SETS ((region), (score))",
            Denied,
            "a.people.score may not be used for group_by",
        ),
        ("SELECT region, max(score) FROM a.people GROUP BY ROLLUP (region)", Disclosure, "max"),
        ("SELECT grouping(score), count(*) FROM a.people GROUP BY ROLLUP (region)", Invalid, ""),
        ("SELECT n, count(*) FROM (SELECT subject, count(*) AS n FROM a.people GROUP BY subject) t GROUP BY CUBE (n)", Disclosure, "key"),
        ("SELECT count(*) FROM a.people WHERE year & 1 = 1", Invalid, "single subjects' values the operator &"),
        ("SELECT count(*) FROM a.people GROUP BY region, CUBE (flag, year, age, score, secret, region)", LimitExceeded, "32 grouping sets"),
        (wide.as_str(), LimitExceeded, "32 grouping sets"),
        ("WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM r) SELECT * FROM r", Invalid, ""),
        ("SELECT * FROM generate_series(1, 10)", Denied, ""),
        ("SELECT * FROM circle", Invalid, "views"),
        ("SELECT median(score) FROM a.people", Invalid, "median"),
        ("SELECT version()", Invalid, "version"),
        ("SELECT count(*) FROM a.people WHERE age = $1", Invalid, ""),
        ("SELECT region, count(*) FROM a.people", Invalid, "GROUP BY"),
        (deep.as_str(), LimitExceeded, "operators"),
    ] {
        match planned(sql).await {
            Ok(_) => panic!("planned: {sql}"),
            Err(refusal) => {
                assert_eq!(refusal.code, code, "{sql}\n{refusal:?}");
                assert!(refusal.to_string().contains(says), "{sql}\n{refusal:?}");
            }
        }
    }
}

/// Wherever a condition stands, a column of listed filters is compared with its listed values, or not at all.
#[tokio::test]
async fn a_filter_of_listed_values_compares_with_those_alone() {
    let text = AGREEMENT
        .replace("[\"group_by\", \"filter\"], values", "[\"group_by\", \"filter\"], filter = \"listed\", values")
        .replace("uses = [\"output\", \"filter\"]", "uses = [\"output\", \"filter\"], filter = \"listed\", values = [\"2020\", \"2021\"]");
    let agreement = agreed(&text);
    let mut signatures = Signatures::default();
    sign(&mut signatures, &agreement, &[]);
    let permit = permitted(&[agreement], &signatures).unwrap();
    for sql in [
        "SELECT count(*) FROM a.people WHERE region = 'N'",
        "SELECT count(*) FROM a.people WHERE 'N' <> region",
        "SELECT count(*) FROM a.people WHERE region NOT IN ('N', 'S') OR region IS NULL",
        "SELECT count(*) FROM a.people WHERE (region = 'N') IS NOT TRUE",
        "SELECT count(*) FROM a.people WHERE NOT (year = 2020 AND age > 18)",
        "SELECT count(*) FILTER (WHERE region = 'N' AND year IN (2020, 2021)) FROM a.people",
        "SELECT sum(CASE WHEN region = 'N' THEN 1 ELSE 0 END) FROM a.people",
        "SELECT count(*) FROM (SELECT region AS r FROM a.people) t WHERE r = 'N'",
        "SELECT count(*) FROM a.people p JOIN b.claims c ON p.subject = c.subject AND (p.region = 'N' OR c.open)",
        "SELECT region, count(*) FROM a.people GROUP BY region HAVING region > 'E'",
    ] {
        planned_under(permit.clone(), sql).await.unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"));
    }
    for sql in [
        "SELECT count(*) FROM a.people WHERE region = 'X'",
        "SELECT count(*) FROM a.people WHERE region IN ('N', 'X')",
        "SELECT count(*) FROM a.people WHERE region < 'N'",
        "SELECT count(*) FROM a.people WHERE region BETWEEN 'N' AND 'S'",
        "SELECT count(*) FROM a.people WHERE CASE WHEN region = 'N' THEN flag ELSE true END",
        "SELECT count(*) FILTER (WHERE region > 'N') FROM a.people",
        "SELECT sum(CASE WHEN region > 'N' THEN 1 ELSE 0 END) FROM a.people",
        "SELECT count(*) FROM (SELECT CASE WHEN region > 'N' THEN flag END AS x FROM a.people) t WHERE x IS NULL",
        "SELECT count(*) FROM a.people p JOIN b.claims c ON p.subject = c.subject AND p.region > 'N'",
        "SELECT count(*) FROM b.claims c WHERE EXISTS (SELECT 1 FROM a.people p WHERE p.subject = c.subject AND p.region > 'N')",
    ] {
        let refusal = planned_under(permit.clone(), sql).await.err().unwrap_or_else(|| panic!("planned: {sql}"));
        let says = "a.people.region may be used for filter only by comparison with its listed values: agreement 'test' limits it";
        assert!(refusal.code == Code::Denied && refusal.message == says, "{sql}\n{refusal:?}");
        assert_eq!(refusal.department.as_deref(), Some("a"), "{sql}");
    }
    for sql in [
        "SELECT count(*) FROM a.people WHERE year > 2020",
        "SELECT count(*) FROM a.people WHERE coalesce(year, 2020) = 2020",
        "SELECT count(*) FROM (SELECT coalesce(year, 2020) AS year FROM a.people) t WHERE year = 2020",
        "SELECT count(*) FROM (SELECT subject, max(year) AS year FROM a.people GROUP BY subject) t WHERE year = 2020",
        "SELECT count(*) FROM a.people p JOIN b.claims c ON p.subject = c.subject AND p.year = c.amount",
    ] {
        let refusal = planned_under(permit.clone(), sql).await.err().unwrap_or_else(|| panic!("planned: {sql}"));
        assert!(refusal.message.starts_with("a.people.year may be used for filter only by comparison"), "{sql}\n{refusal:?}");
    }
    // Whatever the planner makes of functions of texts, none is planned.
    for sql in [
        "SELECT count(*) FROM a.people WHERE region LIKE 'N%'",
        "SELECT count(*) FROM a.people WHERE upper(region) = 'N'",
        "SELECT count(*) FROM (SELECT lower(region) AS region FROM a.people) t WHERE region = 'N'",
    ] {
        assert!(planned_under(permit.clone(), sql).await.is_err(), "planned: {sql}");
    }
}

#[tokio::test]
async fn each_party_must_have_signed() {
    let one = agreed(AGREEMENT);
    for missing in ["a", "b"] {
        let mut signatures = Signatures::default();
        sign(&mut signatures, &one, &[missing]);
        let refusal = permitted(std::slice::from_ref(&one), &signatures).unwrap_err();
        let says = format!("the agreement 'test' does not bind: the signature of '{missing}' is missing");
        assert!(refusal.code == Code::Denied && refusal.message == says, "{refusal:?}");
        assert_eq!(refusal.department.as_deref(), Some(missing));
    }
    // Beside an agreement that is signed, one that is not: its own dataset is refused by name, also where a view reads it.
    let two = AGREEMENT.replace("id = \"test\"", "id = \"two\"").replace("name = \"people\"", "name = \"pupils\"");
    let two = agreed(&two);
    let signed = agreed(AGREEMENT.split("[[dataset]]\ndepartment = \"b\"").next().unwrap());
    let mut signatures = Signatures::default();
    sign(&mut signatures, &signed, &[]);
    sign(&mut signatures, &two, &["b"]);
    let permit = permitted(&[signed, two], &signatures).unwrap();
    planned_under(permit.clone(), "SELECT count(*) FROM a.people").await.unwrap();
    for sql in
        ["SELECT count(*) FROM a.pupils", "SELECT count(*) FROM b.claims", "SELECT region, avg(amount) FROM views.joined GROUP BY region"]
    {
        let refusal = planned_under(permit.clone(), sql).await.err().unwrap_or_else(|| panic!("planned: {sql}"));
        assert!(refusal.code == Code::Denied && refusal.message.contains("'two' does not bind: the signature of 'b'"), "{refusal:?}");
    }
}

/// What is said of the answer's rules holds for each of its numbers.
#[tokio::test]
async fn the_strictest_rules_of_a_statement_protect_every_number_of_it() {
    let (head, datasets) = AGREEMENT.split_once("[[dataset]]").unwrap();
    let (people, of_b) = datasets.split_once("[[dataset]]").unwrap();
    let lenient = agreed(&format!("{head}[[dataset]]{people}"));
    let strict = head.replace("id = \"test\"", "id = \"strict\"\nminimum_subjects = 20");
    let strict = agreed(&format!("{strict}[[dataset]]{of_b}"));
    let mut signatures = Signatures::default();
    [&lenient, &strict].into_iter().for_each(|agreement| sign(&mut signatures, agreement, &[]));
    let permit = permitted(&[lenient, strict], &signatures).unwrap();
    for (sql, minima) in [
        ("SELECT count(*) FROM a.people", vec![10]),
        ("SELECT region, count(*) FROM a.people GROUP BY region UNION ALL SELECT 'all', count(*) FROM b.claims", vec![20, 20]),
        ("SELECT count(*) FROM a.people WHERE subject IN (SELECT subject FROM b.claims)", vec![20]),
    ] {
        let plan = planned_under(permit.clone(), sql).await.unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"));
        let shown = displayable(plan.physical().as_ref()).indent(false).to_string();
        let found = shown.lines().filter_map(|line| line.split_once("ProtectExec: minimum_subjects=")?.1.trim().parse().ok());
        assert_eq!((found.collect::<Vec<u32>>(), plan.minimum()), (minima.clone(), minima[0]), "{sql}\n{shown}");
    }
}

#[tokio::test]
async fn sentences_hold_no_literal() {
    for sql in [
        "SELECT count(*) FROM a.people WHERE age = 'AB123456C'",
        "SELECT 'AB123456C' + region FROM a.people",
        "SELECT count(*) FROM a.people WHERE region LIKE 'AB123456C' + 1",
    ] {
        let refusal = planned(sql).await.err().unwrap_or_else(|| panic!("planned: {sql}"));
        assert!(!format!("{refusal:?}").contains("AB123456C"), "{refusal:?}");
    }
}

#[tokio::test]
async fn sorted_streams_are_merged_and_protect_stands_above_the_aggregate() {
    let sql = "SELECT p.region, count(DISTINCT p.subject) AS persons, avg(c.amount) AS mean FROM a.people p JOIN b.claims c ON p.subject = c.subject WHERE p.age > 18 AND c.amount < 9 GROUP BY p.region HAVING count(*) > 20";
    let plan = planned(sql).await.unwrap();
    let shown = displayable(plan.physical().as_ref()).indent(false).to_string();
    insta::assert_snapshot!(shown);
}

/// Each number rests on as many people as homes, and who is counted as matched is counted below the aggregate.
#[tokio::test]
async fn through_a_link_dataset_the_subjects_of_both_types_are_counted() {
    let sql = "SELECT count(DISTINCT h.subject) AS homes, avg(h.speed) AS mean FROM a.people p JOIN b.links l ON p.subject = l.subject JOIN b.homes h ON l.linked_subject = h.subject";
    let plan = planned(sql).await.unwrap();
    let shown = displayable(plan.physical().as_ref()).indent(false).to_string();
    for part in ["count(DISTINCT", "__o", "TallyExec: a.people, b.links, b.homes", "columns=[\"linked_subject\"]"] {
        assert!(shown.contains(part), "'{part}' is not in {shown}");
    }
    assert!(plan.matched().is_empty(), "nothing was read yet");
    // The group's own two and those of each value, in every stage: where one were not DISTINCT, people would pass for homes.
    let outer: Vec<&str> = shown.lines().filter(|line| line.contains("AggregateExec") && line.contains("__tc1_o")).collect();
    let distinct = outer.iter().map(|line| (line.matches("count(").count(), line.matches("count(DISTINCT").count()));
    assert!(!outer.is_empty() && distinct.clone().all(|counts| counts == (6, 6)), "{shown}");
}

/// What a full join's condition leaves over, and a key of it, are counted for each department that could fill them up.
#[tokio::test]
async fn of_a_full_join_each_department_is_counted() {
    let from = "FROM a.people p FULL JOIN b.claims c ON p.subject = c.subject";
    for (select, group, counted) in [
        ("count(*) FILTER (WHERE p.flag)", "", vec!["__tv0_0__d_a_people", "__tw0_0__d_b_claims", "__td0__d_a_people"]),
        ("sum(c.amount) FILTER (WHERE p.flag)", "", vec!["__tv0_0__d_a_people", "__tv0_0__d_b_claims"]),
        ("p.region, count(*)", "GROUP BY p.region", vec!["__tu__d_a_people"]),
        ("coalesce(p.flag, c.subject IS NULL) AS k, count(p.score)", "GROUP BY 1", vec!["__tu__d_a_people", "__tu__d_b_claims"]),
    ] {
        let plan = planned(&format!("SELECT {select} {from} {group}")).await.unwrap();
        let shown = displayable(plan.physical().as_ref()).indent(false).to_string();
        for part in counted {
            assert!(shown.contains(part), "{select}: '{part}' is not in {shown}");
        }
    }
    // Of other joins nothing more is counted, and of one department's condition nothing that no other could fill up.
    for sql in [
        format!("SELECT p.region, avg(c.amount) FILTER (WHERE c.open) {} GROUP BY p.region", from.replace("FULL", "LEFT")),
        format!("SELECT avg(c.amount) FILTER (WHERE c.open) {from}"),
    ] {
        let plan = planned(&sql).await.unwrap();
        let shown = displayable(plan.physical().as_ref()).indent(false).to_string();
        assert!(shown.contains("__tv0_0") && !shown.contains("__d_"), "{sql}: {shown}");
    }
}

/// A CASE under a FILTER leaves over what the group has and what the FILTER chose, a mean with ELSE 0 also other values.
#[tokio::test]
async fn each_condition_leaves_a_rest_of_its_own() {
    for (aggregate, rests) in [
        ("count(*)", 0),
        ("sum(score)", 0),
        ("count(score)", 0),
        ("count(*) FILTER (WHERE flag)", 1),
        ("sum(CASE WHEN flag THEN score END)", 1),
        ("avg(CASE WHEN flag THEN score ELSE 0 END)", 1),
        ("sum(CASE WHEN flag THEN score END) FILTER (WHERE region = 'N')", 2),
        ("avg(CASE WHEN flag THEN score END) FILTER (WHERE region = 'N')", 2),
        ("avg(CASE WHEN flag THEN score ELSE 0 END) FILTER (WHERE region = 'N')", 3),
    ] {
        let plan = planned(&format!("SELECT {aggregate} FROM a.people")).await.unwrap();
        let shown = displayable(plan.physical().as_ref()).indent(false).to_string();
        let found = (0..4).filter(|rest| shown.contains(&format!("as __r0_{rest}"))).count();
        assert_eq!(found, rests, "{aggregate}: {shown}");
    }
}

#[tokio::test]
async fn more_keys_than_totals_can_be_protected_over_are_refused_before_anything_is_read() {
    let by = |keys: &str| format!("SELECT {keys}, count(*) FROM a.people GROUP BY {keys}");
    let four = "region, flag, region IS NULL, flag IS NULL";
    planned(&by(four)).await.unwrap();
    let Err(refusal) = planned(&by(&format!("{four}, NOT flag"))).await else { panic!("planned") };
    assert_eq!(refusal.code, Code::LimitExceeded, "{refusal:?}");
    assert!(refusal.message.contains("more than 4 keys") && refusal.advice.is_some(), "{refusal:?}");
}

/// Groups and totals of millions of subjects are made in the memory of one, and each subject counts once in each of them.
#[tokio::test]
async fn totals_are_made_of_sorted_streams() {
    let sql = "SELECT p.region, p.flag, grouping(p.flag) AS g, count(*), avg(c.amount) FROM a.people p JOIN b.claims c ON p.subject = c.subject GROUP BY CUBE (p.region, p.flag)";
    let plan = planned(sql).await.unwrap();
    let shown = displayable(plan.physical().as_ref()).indent(false).to_string();
    let lines: Vec<&str> = shown.lines().map(str::trim_start).collect();
    let place = |starts: &str| lines.iter().position(|line| line.starts_with(starts)).unwrap_or_else(|| panic!("{starts}: {shown}"));
    let (protect, expand, tally) = (place("ProtectExec"), place("ExpandExec: sets=4"), place("TallyExec"));
    assert!(protect < expand && expand < tally, "{shown}");
    // Right above and right below, a subject's rows are put together as they come.
    for (line, keys) in [(lines[expand - 1], "__k0, __k1, __k2, __s"), (lines[expand + 1], "__k0, __k1, __s")] {
        let by = line.split("gby=[").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or_default();
        let names: Vec<&str> = by.split(", ").filter_map(|key| key.split(" as ").nth(1)).collect();
        assert_eq!(names.join(", "), keys, "{shown}");
        assert!(line.contains("mode=SinglePartitioned") && line.contains("ordering_mode=PartiallySorted"), "{line}\n{shown}");
    }
    assert!(!lines[expand..].iter().any(|line| line.starts_with("RepartitionExec")), "{shown}");
}

#[tokio::test]
async fn a_views_order_reaches_who_reads_it() {
    let plan = planned("SELECT * FROM views.ordered").await.unwrap();
    let shown = displayable(plan.physical().as_ref()).indent(false).to_string();
    assert!(shown.contains("SortExec: expr=[region@0 DESC]"), "{shown}");
}

#[tokio::test]
async fn order_by_stays_above_protect() {
    let plan = planned("SELECT region, flag, count(*) AS n FROM a.people GROUP BY region, flag ORDER BY region, flag").await.unwrap();
    let shown = displayable(plan.physical().as_ref()).indent(false).to_string();
    let (sort, protect) = (shown.find("SortExec"), shown.find("ProtectExec"));
    assert!(sort.is_some() && sort < protect, "{shown}");
}
