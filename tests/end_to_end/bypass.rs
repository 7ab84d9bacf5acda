//! Every class of attempt to use a column as the agreement forbids, through the real gateway, each written several ways; and what is
//! permitted right beside it.
//!
//! The sample's agreement, and one thing more: of one column subjects' own values may be put out, so that an attempt has something
//! to stand behind.
//!
//! `CONCORDAT_BYPASS_SEED` is the seed of the first way in which each attempt is written anew, `CONCORDAT_BYPASS_WAYS` how many there
//! are.

mod neighbours;
mod table;

use concordat::client::Client;
use concordat::failure::Failure;
use concordat::federation::Federation;
use concordat::federation::describe::View;
use concordat::parameters::Parameters;
use concordat_policy::{Code, Use};

use self::neighbours::{PERMITTED, WITH_PARAMETERS};
use self::table::ATTEMPTS;
use crate::sandbox::Sandbox;

/// A view of subjects' rows, over another, that only summaries may be made of.
const MARKS: [(&str, &str); 2] = [
    (
        "pupils",
        "SELECT a.subject AS person, a.attainment8 AS mark, c.months_claiming AS months FROM dfe.attainment a JOIN dwp.claims c ON a.subject = c.subject",
    ),
    ("marks", "SELECT mark, months FROM views.pupils"),
];

fn describe(federation: &mut Federation) {
    federation.limits.caller_requests_per_minute = Some(60_000);
    let dataset = federation.agreements[0].datasets.iter_mut().find(|d| d.department == "dsit").unwrap();
    let column = dataset.columns.iter_mut().find(|(name, _)| name == "gigabit").unwrap();
    column.1.push(Use::Output);
    for (name, sql) in MARKS {
        let text = format!("-- mission: opportunity\n-- title: For the tests\n-- unit: persons\n-- description: Rows of subjects\n{sql}\n");
        federation.views.push(View { name: name.into(), text });
    }
}

/// What is wrong with how an attempt ended; nothing where it was refused as it should be.
fn wrong<T>(outcome: Result<T, Failure>, code: Code, says: &str, owner: &str) -> Option<String> {
    let Err(failure) = outcome else { return Some("answered".into()) };
    let text = format!("{} {}", failure.message, failure.advice.clone().unwrap_or_default());
    let owned = owner.is_empty() || failure.department.as_deref() == Some(owner);
    let logged = failure.query_id.is_some();
    let good = failure.code == Some(code) && text.contains(says) && owned && logged;
    (!good).then(|| format!("{failure:?}"))
}

#[tokio::test]
async fn every_attempt_is_refused_with_its_cause_and_owner_and_its_neighbours_are_answered() {
    let sandbox = Sandbox::with(300, describe, |_| {}).await;
    let client = sandbox.client().await;
    let (seed, ways) = (number("CONCORDAT_BYPASS_SEED", 1), number("CONCORDAT_BYPASS_WAYS", 2));
    let mut failed = Vec::new();
    let attempts = ATTEMPTS.iter().flat_map(|(code, says, owner, all)| all.iter().map(move |sql| (*sql, *code, *says, *owner)));
    for (sql, code, says, owner) in attempts {
        let ways = (seed..seed + ways).filter(|_| !says.is_empty()).map(|way| anew(sql, &mut Random(way)));
        for written in std::iter::once(sql.to_owned()).chain(ways) {
            if let Some(how) = wrong(client.query(&written).await, code, says, owner) {
                failed.push(format!("{written}\n  (of {sql})\n  {how}"));
            }
        }
    }
    for (sql, values, code, says, owner) in WITH_PARAMETERS {
        if let Some(how) = wrong(with(&client, sql, values).await, *code, says, owner) {
            failed.push(format!("{sql} with {values:?}\n  {how}"));
        }
    }
    for (sql, code, says) in long() {
        if let Some(how) = wrong(client.query(&sql).await, code, says, "") {
            failed.push(format!("{}…\n  {how}", sql.chars().take(80).collect::<String>()));
        }
    }
    for sql in PERMITTED {
        if let Err(failure) = client.query(sql).await {
            failed.push(format!("permitted: {sql}\n  {failure:?}"));
        }
    }
    let values = (0..2_000).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let listed = format!("SELECT count(*) AS n FROM dfe.attainment WHERE cohort_year IN ({values})");
    let injected = with(&client, "SELECT count(*) AS n FROM dfe.attainment WHERE region = $x", &["x=' OR months_claiming > 3 --"]).await;
    for (what, outcome) in [("a long list", client.query(&listed).await), ("a value that looks like SQL", injected)] {
        if let Err(failure) = outcome {
            failed.push(format!("permitted: {what}\n  {failure:?}"));
        }
    }
    assert!(failed.is_empty(), "{} went wrong:\n{}", failed.len(), failed.join("\n"));
}

async fn with(client: &Client, sql: &str, values: &[&str]) -> Result<concordat::client::Answer, Failure> {
    client.query_with(sql, &Parameters::parse(values)?).await
}

/// Deep and long statements.
fn long() -> Vec<(String, Code, &'static str)> {
    let nested = |depth: usize, what: &str| format!("{}{what}{}", "(".repeat(depth), ")".repeat(depth));
    let values = (0..2_000).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let forbidden = "months_claiming may not be used for filter";
    vec![
        (format!("SELECT {} AS s FROM dfe.attainment", nested(8, "attainment8")), Code::Denied, "attainment8 may not be used for output"),
        (format!("SELECT {} AS s FROM dfe.attainment", nested(5_000, "attainment8")), Code::LimitExceeded, "operators"),
        (format!("SELECT count(*) AS n FROM dwp.claims WHERE {}", nested(5, "months_claiming > 3")), Code::Denied, forbidden),
        (
            format!("SELECT count(*) AS n FROM dwp.claims WHERE {} months_claiming > 3", "NOT ".repeat(2_000)),
            Code::LimitExceeded,
            "operators",
        ),
        (format!("SELECT count(*) AS n FROM dwp.claims WHERE months_claiming IN ({values})"), Code::Denied, forbidden),
        (
            format!("SELECT count(*) AS n FROM dwp.claims WHERE claiming OR {}", vec!["months_claiming = 3"; 60].join(" OR ")),
            Code::Denied,
            forbidden,
        ),
        (format!("SELECT attainment8 /* {} */ FROM dfe.attainment", "x".repeat(40_000)), Code::LimitExceeded, "32 KiB"),
        (format!("SELECT attainment8 /* {} */ FROM dfe.attainment", "x".repeat(20_000)), Code::Denied, "may not be used for output"),
    ]
}

/// The same statement, written another way: case, comments, lines, a semicolon, another query around it.
fn anew(sql: &str, random: &mut Random) -> String {
    let mut sql = sql.to_owned();
    // A line comment would take the rest of the statement with it; names in quotes and literals stay as they are.
    let plain = !sql.contains(['"', '\'', '-', '/']) && sql.is_ascii();
    if plain && random.one_in(2) {
        sql = sql.chars().map(|c| if random.one_in(2) { c.to_ascii_uppercase() } else { c }).collect();
    }
    if plain {
        let gaps = ["  ", "\n", "\t", " /* region */ ", " -- region\n", "/**/ /**/"];
        sql = sql.split(' ').collect::<Vec<_>>().join(gaps[random.below(gaps.len())]);
    }
    let rows = sql.to_ascii_uppercase();
    // Nothing but a SELECT can stand in FROM, where its order means nothing.
    let wraps = (rows.starts_with("SELECT") || rows.starts_with("WITH ")) && !rows.contains("ORDER") && !rows.contains("INTO");
    if wraps && !rows.contains(';') && !rows.contains("SELECT *") && !rows.contains(".*") && !rows.contains("--") {
        match random.below(4) {
            0 => sql = format!("SELECT * FROM ({sql}) AS around"),
            1 => sql = format!("WITH around AS ({sql}) SELECT * FROM around"),
            2 => sql = format!("SELECT * FROM (SELECT * FROM ({sql}) AS inside) AS around"),
            _ => {}
        }
    }
    if random.one_in(3) { format!("{sql}\n;") } else { sql }
}

/// Numbers that are the same everywhere: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(end).unwrap()).unwrap()
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}
