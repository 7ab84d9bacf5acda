//! Games about what stands beside an answer: who is missing from the number; and about rows that a department invents.

use std::collections::BTreeMap;

use concordat::client::{Answer, Client};
use serde_json::Value;

use super::people::{payer, payments};
use super::world::{GAMES, STALLS, Score, World, answer, number};
use crate::consent::record;
use crate::oracle::rows;

/// How many people object before the game begins: one more is not at the edge of a step.
const OBJECTED: usize = 13;

/// Every number that is told of the sources, by where it stands.
async fn beside(client: &Client, sql: &str) -> BTreeMap<String, u64> {
    fn walk(value: &Value, at: &str, found: &mut BTreeMap<String, u64>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(key, value)| walk(value, &format!("{at} {key}"), found)),
            Value::Number(number) => {
                found.insert(at.to_owned(), number.as_u64().unwrap());
            }
            _ => {}
        }
    }
    let mut found = BTreeMap::new();
    for source in answer(client, sql).await.summary["sources"].as_array().unwrap() {
        walk(&source["counts"], source["dataset"].as_str().unwrap(), &mut found);
    }
    found
}

/// Population: some 500 people of `payments`, thirteen of whom have objected; one of the others has fifty rows of some 600.
/// Knowledge: that he has fifty, and what an answer says of its sources.
/// Target: whether he objects between two identical questions. Score: numbers beside the answer that move.
/// Plays last: whoever objected is in no other game any more.
pub async fn an_objection(world: &World) -> Score {
    let sql = "SELECT count(DISTINCT p.subject) AS n FROM games.payments p";
    let plenty = payments().into_iter().filter(|(_, office, ..)| *office == "plenty");
    let objecting: Vec<String> = plenty.take(OBJECTED).map(|(person, ..)| payer(person)).collect();
    let crowd = || payments().into_iter().filter(|(_, office, ..)| *office == "crowd").map(|(person, ..)| person);
    let many = crowd().max_by_key(|person| crowd().filter(|other| other == person).count()).unwrap();
    record(&world.sandbox, GAMES, GAMES, "objected", &objecting.join("\n"));
    let before = beside(&world.plain, sql).await;
    record(&world.sandbox, GAMES, GAMES, "objected", &payer(many));
    let after = beside(&world.plain, sql).await;
    let (of, withheld) = (before.len(), before.get("payments subjects withheld"));
    assert!(withheld.is_some_and(|withheld| *withheld > 0) && before.keys().eq(after.keys()), "{before:?} {after:?}");
    let moved = before.iter().filter(|(at, told)| after.get(*at) != Some(told)).count();
    Score::none("an objection beside the answer", moved, of, format!("{before:?}"))
}

/// Population: that of `payments`, under noise.
/// Knowledge: that what is told beside an answer would have none.
/// Target: how many people stand in an office, exactly. Score: numbers told of sources beside noisy counts.
pub async fn beside_noise(world: &World) -> Score {
    let (mut right, mut answered) = (0, 0);
    let offices = ["one giant", "opposite", "plenty", "others"];
    for office in offices {
        let sql = format!("SELECT count(DISTINCT p.subject) AS n FROM games.payments p WHERE p.office = '{office}'");
        let told = answer(&world.noise, &sql).await;
        answered += rows(&told.batches, 0).values().filter(|row| number(&row[0].1).is_some()).count();
        let counts = &told.summary["sources"][0]["counts"];
        assert!(counts["not_told"].as_str().is_some_and(|why| why.contains("'games-noise' asks for noise")), "{counts}");
        right += beside(&world.noise, &sql).await.len();
    }
    assert!(answered > 0, "no count is told");
    Score::none("denominators beside noise", right, offices.len(), format!("{answered} noisy counts told"))
}

/// Statements about the people of an office, over what another department says of them: inner, left and full joins.
fn lifted(office: &str) -> Vec<String> {
    let [games, stalls] = ["games.payments p", "stalls.invented i"];
    let on = "ON i.subject = p.subject";
    let of = |column: &str| format!("{column} = '{office}'");
    let (paid, said, either) = (of("p.office"), of("i.office"), format!("{} OR {}", of("p.office"), of("i.office")));
    vec![
        format!("SELECT count(p.amount) AS n, avg(p.amount) AS m FROM {games} JOIN {stalls} {on} WHERE {paid}"),
        format!("SELECT count(*) AS n, sum(p.amount) AS s FROM {games} JOIN {stalls} {on} WHERE {said}"),
        format!("SELECT count(*) AS n, avg(p.amount) AS m FROM {games} LEFT JOIN {stalls} {on} WHERE {paid}"),
        format!("SELECT count(p.amount) AS n, sum(p.amount) AS s FROM {stalls} LEFT JOIN {games} {on} WHERE {said}"),
        format!("SELECT count(p.amount) FILTER (WHERE {said}) AS n FROM {games} FULL JOIN {stalls} {on}"),
        format!("SELECT sum(p.amount) FILTER (WHERE {said}) AS s FROM {games} FULL JOIN {stalls} {on}"),
        format!("SELECT count(*) FILTER (WHERE {either}) AS n FROM {games} FULL JOIN {stalls} {on}"),
    ]
}

/// Population: an office of nine people, of whom a department says that forty more, who are nobody, are in it.
/// Knowledge: which these are.
/// Target: any number of the nine. Score: numbers told. Of an office of two hundred, who exist, the same is told in inner and left joins.
pub async fn invented_rows(world: &World) -> Score {
    let (mut right, mut of, mut honest) = (0, 0, Vec::new());
    for (lifted, plenty) in lifted("nine").into_iter().zip(lifted("plenty")) {
        let told = |outcome: Result<Answer, _>| {
            // A refusal tells nothing of them either: it does not depend on who there is.
            let row = outcome.ok().and_then(|answer| rows(&answer.batches, 0).into_values().next()).unwrap_or_default();
            let values = row.iter().filter(|(name, _)| name != "withheld").map(|(_, cell)| number(cell).is_some());
            values.collect::<Vec<_>>()
        };
        let told_of_few = told(world.plain.query(&lifted).await);
        right += told_of_few.iter().filter(|told| **told).count();
        of += told_of_few.len();
        honest.push(told(world.plain.query(&plenty).await));
    }
    assert!(honest.iter().take(4).all(|told| told.iter().any(|told| *told)), "of many something is told: {honest:?}");
    Score::none("rows that a department invents", right, of, format!("of two hundred: {honest:?}; the inventor is '{STALLS}'"))
}
