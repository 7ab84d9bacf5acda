//! Games about several conditions in one row, whose numbers are added and taken from each other.
//!
//! Population of all: a group of fewer people than the minimum among larger ones. Knowledge of all: which it is. Target of all: how many
//! are in it. Numbers are told exactly, so that a statement all of whose numbers are told tells it. Score: statements that do.

use super::people::{COUNTRIES, SMALL, WHOLE_DAY, payments, regions};
use super::world::{Score, World, all_told};

/// The office of nine people whose numbers another department's stand beside.
const OF_OFFICES: &str = "FROM stalls.invented i LEFT JOIN games.payments p ON i.subject = p.subject";

/// A statement of one row, how often each of its numbers is added, and what comes of that.
struct Attack {
    sql: String,
    times: &'static [f64],
    target: usize,
}

/// `nullif` takes the small group out of both of two conditions of which else everybody meets one.
pub async fn opposites(world: &World) -> Score {
    let attack = |country: usize, small: usize, target: usize| {
        let [a, b] = ["=", "<>"].map(|is| format!("count(*) FILTER (WHERE nullif(region, 'r{small}') {is} 'r{}')", SMALL + 1));
        let sql = format!("SELECT count(*) AS n, {a} AS a, {b} AS b FROM games.countries WHERE country = 'k{country}'");
        Attack { sql, times: &[1.0, -1.0, -1.0], target }
    };
    score(world, "who meets neither of opposites", of_each(attack)).await
}

/// Two conditions and "one or the other", each with the small group.
pub async fn three(world: &World) -> Score {
    let attack = |country: usize, small: usize, target: usize| {
        let [one, other] = [SMALL + 1, SMALL + 2];
        let n = |list: &str| format!("count(*) FILTER (WHERE region IN ({list}))");
        let [a, b, c] = [format!("'r{one}', 'r{small}'"), format!("'r{other}', 'r{small}'"), format!("'r{one}', 'r{other}', 'r{small}'")]
            .map(|list| n(&list));
        let sql = format!("SELECT {a} AS a, {b} AS b, {c} AS c FROM games.countries WHERE country = 'k{country}'");
        Attack { sql, times: &[1.0, 1.0, -1.0], target }
    };
    let honest =
        (SMALL + 1..SMALL + 4).map(|region| format!("count(*) FILTER (WHERE region = 'r{region}') AS r{region}")).collect::<Vec<_>>();
    let honest = format!("SELECT {} FROM games.countries WHERE country = 'k1'", honest.join(", "));
    let honest = all_told(&world.exact, vec![honest]).await;
    assert!(honest[0].iter().all(Option::is_some), "numbers of large regions are told: {honest:?}");
    score(world, "two conditions and either", of_each(attack)).await
}

/// People who found a partner beside those of them whom a FILTER chooses, and beside a condition that reads another column.
pub async fn partners(world: &World) -> Score {
    let [there, chosen] = ["p.subject IS NOT NULL", "p.office <> 'nine'"];
    let rows = format!("count(*) FILTER (WHERE {chosen})");
    let pairs = [
        ("count(DISTINCT p.subject)".to_owned(), format!("count(DISTINCT p.subject) FILTER (WHERE {chosen})")),
        (format!("count(*) FILTER (WHERE {there})"), rows.clone()),
        ("count(DISTINCT p.subject)".to_owned(), rows.clone()),
        ("count(p.amount)".to_owned(), rows),
        ("count(p.amount)".to_owned(), format!("count(*) FILTER (WHERE p.amount IS NOT NULL AND {chosen})")),
    ];
    let attacks =
        pairs.map(|(all, some)| Attack { sql: format!("SELECT {all} AS a, {some} AS b {OF_OFFICES}"), times: &[1.0, -1.0], target: 9 });
    let attacks: Vec<Attack> = attacks.into_iter().chain([without_partner()]).collect();
    let half = "FILTER (WHERE p.amount < 100)";
    let honest = [
        format!("count(DISTINCT p.subject) {half} AS n"),
        format!("count(DISTINCT p.subject) AS n, count(p.amount) AS v, count(*) {half} AS k, avg(p.amount) {half} AS m"),
    ];
    let honest = all_told(&world.exact, honest.map(|select| format!("SELECT {select} {OF_OFFICES}")).into()).await;
    assert!(honest.iter().flatten().all(Option::is_some), "a FILTER that chooses half of those who found a partner is told: {honest:?}");
    score(world, "a FILTER on who found a partner", attacks).await
}

/// Of a full join, all rows beside those that have a value of one side's, which a few have none of.
fn without_partner() -> Attack {
    let mut amounts: Vec<f64> =
        payments().into_iter().filter(|(_, office, ..)| *office == "plenty").map(|(_, _, amount, _)| amount).collect();
    amounts.sort_by(f64::total_cmp);
    let most = amounts[amounts.len() - 5];
    let target = amounts.iter().filter(|amount| **amount >= most).count();
    assert!((1..10).contains(&target), "{target} have the largest amounts");
    let of = "WHERE office = 'plenty'";
    let sql = format!(
        "SELECT count(*) AS a, count(p.amount) AS b FROM (SELECT subject FROM stalls.invented {of}) i \
         FULL JOIN (SELECT subject, amount FROM games.payments {of} AND amount < {most}) p ON i.subject = p.subject"
    );
    Attack { sql, times: &[1.0, -1.0], target }
}

/// People with several rows, of which each meets one of two conditions, and a few who have one more that meets both. Of it alone nothing is
/// told; the numbers of both, which nearly the same people have, are.
pub async fn rows_of_one(world: &World) -> Score {
    let sql = |of: &dyn Fn(&str) -> String| {
        let [a, b, c] = ["early", "late", "early OR late"].map(of);
        format!("SELECT {a} AS a, {b} AS b, {c} AS c FROM games.turns")
    };
    let rows = |condition: &str| format!("count(*) FILTER (WHERE {condition})");
    let attacks = vec![Attack { sql: sql(&rows), times: &[1.0, 1.0, -1.0], target: WHOLE_DAY }];
    let people = |condition: &str| format!("count(DISTINCT subject) FILTER (WHERE {condition})");
    let honest = all_told(&world.exact, vec![sql(&people), sql(&rows)]).await;
    assert!(honest[0].iter().all(Option::is_some), "sixty people have both: {honest:?}");
    assert!(honest[1][..2].iter().all(Option::is_some), "early and late turns are told side by side: {honest:?}");
    score(world, "rows of one that meet both", attacks).await
}

/// A number of values, of which nobody has any who is not chosen by the FILTER of another, but a few.
pub async fn values_that_some_lack(world: &World) -> Score {
    let chosen = "NOT (early AND late)";
    let sql = format!("SELECT count(hours) AS a, count(*) FILTER (WHERE hours IS NOT NULL AND {chosen}) AS b FROM games.turns");
    let attacks = vec![
        Attack { sql, times: &[1.0, -1.0], target: WHOLE_DAY },
        Attack {
            sql: "SELECT count(*) AS n, count(hours) AS a, count(*) FILTER (WHERE hours = 8 OR hours IS NULL) AS b FROM games.turns".into(),
            times: &[-1.0, 1.0, 1.0],
            target: WHOLE_DAY,
        },
    ];
    let honest = vec!["SELECT count(hours) AS a, count(hours) FILTER (WHERE early) AS b, avg(hours) AS m FROM games.turns".to_owned()];
    let honest = all_told(&world.exact, honest).await;
    assert!(honest[0].iter().all(Option::is_some), "values that half have under a condition are told beside all: {honest:?}");
    score(world, "values that some lack", attacks).await
}

/// On each small region of each country.
fn of_each(attack: impl Fn(usize, usize, usize) -> Attack) -> Vec<Attack> {
    let regions = regions();
    let all = (0..COUNTRIES).flat_map(|country| (0..SMALL).map(move |small| (country, small)));
    all.map(|(country, small)| attack(country + 1, small + 1, regions[country][small])).collect()
}

async fn score(world: &World, game: &str, attacks: Vec<Attack>) -> Score {
    let told = all_told(&world.exact, attacks.iter().map(|attack| attack.sql.clone()).collect()).await;
    assert!(told.iter().all(|row| row.iter().any(Option::is_some)), "{game}: a statement tells nothing: {told:?}");
    let sum = |(attack, row): (&Attack, &Vec<Option<f64>>)| -> Option<f64> {
        row.iter().zip(attack.times).map(|(value, times)| value.map(|value| value * times)).sum()
    };
    let right = attacks.iter().zip(&told).filter(|(attack, row)| sum((attack, row)) == Some(attack.target as f64)).count();
    let (values, all) = (told.iter().flatten().flatten().count(), told.iter().flatten().count());
    Score::none(game, right, attacks.len(), format!("{values} of {all} numbers told"))
}
