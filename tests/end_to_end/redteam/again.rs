//! Games about asking the same again, in the same words and in others.
//!
//! Population: the 120 people of `returns`. Knowledge: nothing. Target: the exact number of people who owe in four areas.

use super::people::people;
use super::world::{Score, World, all_told};

/// How often the question is repeated.
const REPEATED: usize = 1_000;
/// The first four areas.
const AMONG: &str = "area IN ('a1', 'a2', 'a3', 'a4')";

/// Conditions that are always true, of everybody.
const ALWAYS: &[&str] = &[
    "1 = 1",
    "TRUE",
    "NOT FALSE",
    "(owes OR NOT owes)",
    "owes IS NOT NULL",
    "(area = 'a1' OR area <> 'a1')",
    "area IN ('a1', 'a2', 'a3', 'a4', 'a5', 'a6')",
    "NOT (band = 'b1' AND band = 'b2')",
    "area <> 'nowhere'",
    "income >= 0",
];

fn plainly() -> String {
    format!("SELECT count(*) AS n FROM games.returns WHERE owes AND {AMONG}")
}

/// Score: tautologies, in WHERE and in FILTER, that change an answer. A FILTER that all meet may be withheld.
pub async fn tautologies(world: &World) -> Score {
    let (mut right, mut of, mut note) = (0, 0, String::new());
    for (rules, client) in [("plain", &world.plain), ("noise", &world.noise)] {
        let base = all_told(client, vec![plainly()]).await[0][0];
        assert!(base.is_some(), "the question itself is answered");
        let conditions = ALWAYS.iter().map(|always| format!("{} AND {always}", plainly())).collect::<Vec<_>>();
        let filters = ALWAYS
            .iter()
            .map(|always| format!("SELECT count(*) FILTER (WHERE {always}) AS n FROM games.returns WHERE owes AND {AMONG}"))
            .collect::<Vec<_>>();
        of += conditions.len() + filters.len();
        right += all_told(client, conditions).await.iter().filter(|told| told[0] != base).count();
        right += all_told(client, filters).await.iter().filter(|told| told[0].is_some() && told[0] != base).count();
        note += &format!("{rules}: {base:?} ");
    }
    Score::none("tautologies", right, of, note)
}

/// Score: answers beyond the first that differ, over a thousand repetitions and rewordings under noise: what is always the same cannot be
/// averaged away.
pub async fn averaging(world: &World) -> Score {
    let wordings = [
        plainly(),
        format!("SELECT count(DISTINCT r.subject) AS n FROM games.returns r WHERE r.owes AND r.{AMONG}"),
        format!("SELECT count(r.income) AS n FROM games.returns r WHERE {AMONG} AND owes"),
        "SELECT count(*) AS n FROM games.returns WHERE owes AND (area = 'a4' OR area = 'a3' OR area = 'a2' OR area = 'a1')".into(),
        "SELECT count(*) AS n FROM games.returns WHERE owes AND area NOT IN ('a5', 'a6')".into(),
        "SELECT count(*) AS n FROM games.returns WHERE owes = TRUE AND NOT (area = 'a5' OR area = 'a6')".into(),
        format!("SELECT count(*) FILTER (WHERE owes AND {AMONG}) AS n FROM games.returns"),
        format!("SELECT sum(CASE WHEN owes AND {AMONG} THEN 1 ELSE 0 END) AS n FROM games.returns"),
        format!("SELECT count(*) AS n FROM (SELECT * FROM games.returns) t WHERE t.owes AND t.{AMONG}"),
    ];
    let again = |place: usize| format!("{} -- once more: {place}", wordings[place % wordings.len()]);
    let told = all_told(&world.noise, (0..REPEATED).map(again).collect()).await;
    let mut answers: Vec<f64> = told.iter().filter_map(|told| told[0]).collect();
    assert_eq!(answers.len(), REPEATED, "every wording is answered");
    let exact = people().iter().filter(|person| person.owes && person.area < 4).count() as f64;
    let mean = answers.iter().sum::<f64>() / answers.len() as f64;
    let variance = answers.iter().map(|answer| (answer - mean).powi(2)).sum::<f64>() / answers.len() as f64;
    let once = answers[0];
    answers.sort_by(f64::total_cmp);
    answers.dedup();
    let note = format!("variance {variance}; the mean is off by {}, one answer by {}", (mean - exact).abs(), (once - exact).abs());
    Score::none("averaging over repetitions and rewordings", answers.len() - 1, REPEATED, note)
}
