//! Games about the units in which numbers are told: of rows that everybody has alike, of one who has far more than others, of numbers at the
//! edge of the minimum under noise, and of people through a link dataset.

use std::collections::BTreeMap;

use concordat::client::Client;

use super::people::{EDGES, GIANTS, MONTHS, OF_ONE_FIRM, TOWNS, edge, giants, residents};
use super::world::{Score, World, all_told, answer, number};
use crate::oracle::{Cell, rows};

/// What is told of each value of a code.
async fn by_code(client: &Client, sql: &str) -> BTreeMap<String, Option<f64>> {
    let told = rows(&answer(client, sql).await.batches, 1);
    let of = |row: Vec<(String, Cell)>| match &row[0].1 {
        Cell::Text(code) => (code.clone(), number(&row[1].1)),
        other => panic!("{other:?} is no code"),
    };
    told.into_values().map(of).collect()
}

/// The least of 1, 2 and 5 times powers of ten that is not below it.
fn step(raw: f64) -> f64 {
    let power = 10_f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power).find(|step| *step >= raw * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

/// What is told of the rows of so many people who have so many each, by the public rule: a told mean times a told number.
fn by_the_rule(people: usize, each: usize) -> f64 {
    let nearest = |value: f64, unit: f64| (value / unit).round() * unit;
    let number = nearest(people as f64, 5.0);
    (number * nearest(each as f64, step(5.0 * each as f64 / number.max(5.0)))).round()
}

/// Population: twenty towns of 20 to 49 people, each of whom has a row in `months` for every month.
/// Knowledge: that they have, and the rules. Target: how many people live in a town, exactly, by the number of rows of one month, of two, and
/// so on: where these were rounded each in a unit of its own, each would tell the number of people within another interval, and all together
/// exactly. Score: towns of which one number alone gives all that was told, and it is right, beside taking the rounded number for the exact one.
pub async fn rows_that_all_have_alike(world: &World) -> Score {
    let mut told: BTreeMap<String, Vec<(usize, f64)>> = BTreeMap::new();
    for months in 1..=MONTHS {
        let chosen = (1..=months).map(|month| format!("'m{month}'")).collect::<Vec<_>>().join(", ");
        let sql = format!("SELECT town, count(*) AS n FROM games.months WHERE month IN ({chosen}) GROUP BY town");
        for (town, rows) in by_code(&world.plain, &sql).await {
            told.entry(town).or_default().extend(rows.map(|rows| (months, rows)));
        }
    }
    let (mut right, mut base, mut answered) = (0, 0, 0);
    for (town, people) in residents().into_iter().enumerate() {
        let told = &told[&format!("t{}", town + 1)];
        let Some((_, one)) = told.first().filter(|(months, _)| *months == 1) else { continue };
        let fits = |n: &usize| told.iter().all(|(months, rows)| (by_the_rule(*n, *months) - rows).abs() < 0.5);
        let candidates: Vec<usize> = (10..100).filter(fits).collect();
        assert!(candidates.contains(&people), "numbers of rows are not told by the rule: {people}, {told:?}");
        let guess = if let [only] = candidates[..] { only as f64 } else { *one };
        right += usize::from(guess == people as f64);
        base += usize::from(*one == people as f64);
        answered += told.len();
    }
    assert!(answered >= TOWNS * MONTHS * 3 / 4, "{answered} numbers of rows are told");
    let note = format!("{answered} of {} numbers told", TOWNS * MONTHS);
    Score { game: "rows that all have alike".into(), right, of: TOWNS, base, most: Some(0), note }
}

/// Population: 24 groups of forty people who have about 100 and one who has 12,000 to 20,000: four in five of the whole, just below what the
/// rules about dominance withhold. Knowledge: that all others have less than 1,000.
/// Target: what that one has, within 10 %, by two sums of which the second leaves him out. Score: groups in which that is right: with
/// noise few, without it what rounding lets through.
pub async fn one_giant(world: &World) -> Vec<Score> {
    let mut scores = Vec::new();
    for (rules, client, most) in [("with noise", &world.noise, Some(GIANTS / 4)), ("without noise", &world.plain, None)] {
        let all = by_code(client, "SELECT circle, sum(amount) AS n FROM games.giants GROUP BY circle").await;
        let less = by_code(client, "SELECT circle, sum(amount) AS n FROM games.giants WHERE amount < 1000 GROUP BY circle").await;
        let (mut right, mut answered) = (0, 0);
        for (circle, giant) in giants().into_iter().enumerate() {
            let circle = format!("g{}", circle + 1);
            let (Some(all), Some(less)) = (all[&circle], less[&circle]) else { continue };
            answered += 1;
            right += usize::from(((all - less) / giant - 1.0).abs() <= 0.1);
        }
        assert!(answered > GIANTS / 2, "{answered} pairs of sums are told {rules}");
        let note = format!("{answered} pairs of sums told");
        scores.push(Score { game: format!("what one giant has, {rules}"), right, of: GIANTS, base: 0, most, note });
    }
    scores
}

/// Population: forty groups, every second of nine people, the others of ten. Knowledge: that each is of one or the other.
/// Target: which, under noise, by whether its number is told. Score: groups rightly told, beside guessing.
pub async fn edges_under_noise(world: &World) -> Score {
    let told = by_code(&world.noise, "SELECT edge, count(DISTINCT subject) AS n FROM games.edges GROUP BY edge").await;
    let (mut right, mut shown) = (0, 0);
    for place in 0..EDGES {
        let is_told = told.get(&format!("e{}", place + 1)).copied().flatten().is_some();
        shown += usize::from(is_told);
        right += usize::from(is_told == (edge(place) >= 10));
    }
    let honest = by_code(&world.noise, "SELECT office, count(DISTINCT subject) AS n FROM games.payments GROUP BY office").await;
    assert!(honest["plenty"].is_some() && honest["others"].is_some(), "large numbers are told: {honest:?}");
    let note = format!("{shown} of {EDGES} told");
    Score { game: "nine or ten, under noise".into(), right, of: EDGES, base: EDGES / 2, most: Some(3), note }
}

/// Population: a place of ten firms, of which one has 300 people and the others one each, one of twelve firms of 25 each, and an office of
/// 150 people of whom thirty work for three firms and the others for none.
/// Knowledge: all of that but how many work for the one, and for the three. Target: those, by the number of people of all ten, and by that
/// of the office less those who work for none. Score: targets told.
pub async fn through_firms(world: &World) -> Score {
    // Each by itself: beside one another, a number that a rule withholds takes another with it.
    let place = |place: &str| format!("SELECT count(DISTINCT subject) AS n FROM games.jobs WHERE place = '{place}'");
    let places = all_told(&world.plain, vec![place("one firm"), place("alike")]).await;
    let one = places[0][0].is_some_and(|people| ((people - 9.0) / OF_ONE_FIRM as f64 - 1.0).abs() <= 0.1);
    assert!(places[1][0].is_some(), "people of firms that are alike are counted: {places:?}");
    let of = |condition: &str| {
        let joined = "games.payments p LEFT JOIN games.jobs j ON j.subject = p.subject";
        format!("SELECT count(DISTINCT p.subject) AS n FROM {joined} WHERE p.office = 'others'{condition}")
    };
    let told = all_told(&world.plain, vec![of(""), of(" AND j.subject IS NULL")]).await;
    let three = told.iter().all(|told| told[0].is_some());
    let note = format!("{told:?} of all and of those without a firm; of firms that are alike {:?} people", places[1]);
    Score::none("people through firms", usize::from(one) + usize::from(three), 2, note)
}
