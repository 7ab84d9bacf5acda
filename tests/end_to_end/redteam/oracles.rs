//! Games about what an answer tells besides its numbers: conditions that aim at one person, HAVING and ORDER BY, aggregates that carry
//! single values, errors, and time.

use std::time::{Duration, Instant};

use concordat_policy::Code;

use super::people::{cells, people};
use super::world::{Score, World, all_told, answer, number};
use crate::oracle::{Cell, rows};

/// Every sixth person is aimed at.
const EVERY: usize = 6;
/// Runs with and runs without the person, alternating.
const RUNS: usize = 25;
/// How many times longer the one median may be than the other. Generous: a busy machine is no leak.
const LONGER: f64 = 3.0;

/// Population: the 120 people of `returns`. Knowledge: everybody's area, band and sector.
/// Target: one person's income, or whether he owes, by a condition inside an aggregate that he alone meets or fails.
/// Score: numbers told.
pub async fn aiming(world: &World) -> Score {
    let aimed = |alone: String| {
        let columns = [
            format!("sum(CASE WHEN {alone} THEN income ELSE 0 END) AS a"),
            format!("avg(income) FILTER (WHERE {alone}) AS b"),
            format!("count(*) FILTER (WHERE owes AND {alone}) AS c"),
            format!("sum(income) FILTER (WHERE NOT ({alone})) AS d"),
            format!("sum(CASE WHEN NOT ({alone}) THEN income END) AS e"),
            format!("count(*) FILTER (WHERE NOT ({alone})) AS f"),
        ];
        format!("SELECT {} FROM games.returns", columns.join(", "))
    };
    let statements: Vec<String> = people().iter().step_by(EVERY).map(|person| aimed(person.alone())).collect();
    let told = all_told(&world.plain, statements).await;
    let (right, of) = (told.iter().flatten().flatten().count(), told.iter().map(Vec::len).sum());
    let honest = all_told(&world.plain, vec!["SELECT avg(income) FILTER (WHERE owes) AS m FROM games.returns".into()]).await;
    assert!(honest[0][0].is_some(), "the mean income of those who owe is told");
    Score::none("CASE and FILTER that aim at one person", right, of, "a mean under an ordinary condition is told".into())
}

const BY_CELL: &str = "SELECT area, sector, count(*) AS n FROM games.tables GROUP BY area, sector";

/// Population: the thirty cells of `tables`. Knowledge: none.
/// Target: the exact number of people of a cell, by asking for each number which cells have it.
/// Score: cells that answer to their exact number, where that is no multiple of five.
pub async fn having(world: &World) -> Score {
    let exact: Vec<usize> = cells().iter().flatten().map(Vec::len).collect();
    let most = exact.iter().max().copied().unwrap_or_default();
    let (mut right, mut at_fives) = (0, 0);
    for count in 1..=most {
        let answered = answer(&world.plain, &format!("{BY_CELL} HAVING count(*) = {count}")).await;
        let met: usize = answered.batches.iter().map(arrow::array::RecordBatch::num_rows).sum();
        *if count % 5 == 0 { &mut at_fives } else { &mut right } += met;
    }
    assert!(at_fives > 0, "HAVING sees what is told");
    let of = exact.iter().filter(|count| **count % 5 != 0).count();
    Score::none("HAVING as an oracle", right, of, format!("{at_fives} cells answer to the number that is told of them"))
}

/// Population and knowledge as above.
/// Target: which of two cells of which the same is told has more people. Score: pairs that ORDER BY puts in their exact order, beside
/// half of them.
pub async fn order(world: &World) -> Score {
    let (mut right, mut of) = (0, 0);
    for direction in ["ASC", "DESC"] {
        let sql = format!("{BY_CELL} ORDER BY count(*) {direction}");
        let mut ordered: Vec<(Option<f64>, usize)> = Vec::new();
        for batch in &answer(&world.plain, &sql).await.batches {
            // One row at a time, as `rows` sorts by key.
            for place in 0..batch.num_rows() {
                let row = rows(&[batch.slice(place, 1)], 2).into_values().next().unwrap();
                let code =
                    |cell: &Cell| if let Cell::Text(code) = cell { code[1..].parse::<usize>().unwrap() - 1 } else { panic!("{cell:?}") };
                ordered.push((number(&row[2].1), cells()[code(&row[0].1)][code(&row[1].1)].len()));
            }
        }
        for (place, (told, first)) in ordered.iter().enumerate() {
            for (other, second) in &ordered[place + 1..] {
                if told == other && first != second {
                    of += 1;
                    right += usize::from((first < second) == (direction == "ASC"));
                }
            }
        }
    }
    assert!(of > 20, "there are pairs to order: {of}");
    // A fifth more than half: the order of the codes, which is as good as any, is not quite at random.
    Score {
        game: "ORDER BY as an oracle".into(),
        right,
        of,
        base: of / 2,
        most: Some(of / 5),
        note: "pairs of cells of which the same is told".into(),
    }
}

/// Population: the 120 people of `returns`. Knowledge: none. Target: anybody's income.
/// Score: statements answered whose value is one person's, or a list of several.
pub async fn smuggling(world: &World) -> Score {
    let mut statements: Vec<String> = [
        "min(income)",
        "max(income)",
        "median(income)",
        "array_agg(income)",
        "string_agg(ward, ',')",
        "first_value(income)",
        "last_value(income ORDER BY income)",
        "nth_value(income, 1)",
        "approx_percentile_cont(income, 0.5)",
        "approx_distinct(income)",
        "stddev(income)",
        "var(income)",
        "sum(DISTINCT income)",
        "avg(income * income)",
        "sum(income) OVER ()",
        "count(DISTINCT income)",
        "bit_or(CAST(income AS BIGINT))",
    ]
    .iter()
    .map(|aggregate| format!("SELECT {aggregate} AS v FROM games.returns"))
    .collect();
    statements.extend([
        "SELECT max(t.v) AS v FROM (SELECT r.subject, sum(r.income) AS v FROM games.returns r GROUP BY r.subject) t".to_owned(),
        "SELECT t.v, count(*) AS n FROM (SELECT r.subject, sum(r.income) AS v FROM games.returns r GROUP BY r.subject) t GROUP BY t.v"
            .into(),
        "SELECT income FROM games.returns ORDER BY income DESC LIMIT 1".into(),
        "SELECT avg(t.income) AS v FROM (SELECT * FROM games.returns ORDER BY income DESC LIMIT 1) t".into(),
    ]);
    let (mut right, of) = (0, statements.len());
    for sql in statements {
        match world.plain.query(&sql).await {
            Ok(_) => right += 1,
            Err(failure) => assert!(matches!(failure.code, Some(Code::Denied | Code::Disclosure | Code::Invalid)), "{sql}: {failure:?}"),
        }
    }
    Score::none("min, max and lists", right, of, "all refused".into())
}

/// Conditions and values over one side of `sides`, where `SIDE` stands.
const FAILING: &[&str] = &[
    "SELECT count(*) AS v FROM games.sides WHERE side = 'SIDE' AND CAST(reference AS BIGINT) > 5",
    "SELECT count(*) AS v FROM games.sides WHERE side = 'SIDE' AND CAST(reference AS DATE) > DATE '2020-01-01'",
    "SELECT count(*) FILTER (WHERE CAST(reference AS INT) > 110) AS v FROM games.sides WHERE side = 'SIDE'",
    "SELECT avg(CASE WHEN CAST(reference AS BIGINT) > 110 THEN 1.0 ELSE 0.0 END) AS v FROM games.sides WHERE side = 'SIDE'",
    "SELECT sum(CAST(reference AS BIGINT)) AS v FROM games.sides WHERE side = 'SIDE'",
    "SELECT count(*) AS v FROM games.sides WHERE side = 'SIDE' AND CAST(amount AS INT) > 3",
    "SELECT sum(CAST(amount AS BIGINT)) AS v FROM games.sides WHERE side = 'SIDE'",
    "SELECT count(*) AS v FROM games.sides WHERE side = 'SIDE' AND 1 / (amount - 7.5) > 0",
    "SELECT count(*) AS v FROM games.sides WHERE side = 'SIDE' AND 1 % CAST(amount AS BIGINT) = 0",
    "SELECT count(*) AS v FROM games.sides WHERE side = 'SIDE' AND amount * amount * amount > 1",
    "SELECT count(*) AS v FROM games.sides WHERE side = 'SIDE' AND reference ~ '^(x+)+9$'",
    "SELECT count(*) AS v FROM games.sides WHERE side = 'SIDE' AND regexp_like(reference, '(x+x+)+y')",
    "SELECT count(*) AS v FROM games.sides WHERE side = 'SIDE' AND date_part('year', CAST(reference AS DATE)) = 2020",
    "SELECT sum(amount) AS v, avg(amount) AS w FROM games.sides WHERE side = 'SIDE'",
];

/// Population: two sides of thirty alike, one of which has one person more, whose reference is no number and whose amount no whole
/// number can hold. Knowledge: that such a person may be there.
/// Target: on which side. Score: statements that end otherwise, answered or refused, for the one side than for the other.
pub async fn errors(world: &World) -> Score {
    let (mut right, mut answered) = (0, 0);
    for statement in FAILING {
        let mut ends = Vec::new();
        for side in ["eastern", "western"] {
            ends.push(match world.plain.query(&statement.replace("SIDE", side)).await {
                Ok(answer) => format!("answered {}", answer.schema),
                Err(failure) => format!("{:?} {} {:?}", failure.code, failure.message, failure.advice).replace(side, "SIDE"),
            });
        }
        answered += usize::from(ends[0].starts_with("answered"));
        right += usize::from(ends[0] != ends[1]);
    }
    Score::none("errors as an oracle", right, FAILING.len(), format!("{answered} answered, the others refused"))
}

/// Population as above. Knowledge: how long each side's answer took, 25 times each, in turns.
/// Target: on which side the person is. Score: none; the medians are reported.
pub async fn time(world: &World) -> Score {
    let mut took: [Vec<Duration>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        for (side, took) in ["eastern", "western"].into_iter().zip(&mut took) {
            let sql = format!("SELECT count(*) AS n, avg(amount) AS m FROM games.sides WHERE side = '{side}'");
            let begun = Instant::now();
            answer(&world.plain, &sql).await;
            took.push(begun.elapsed());
        }
    }
    let told = took.each_mut().map(|took| {
        took.sort();
        let at = |percent: usize| took[took.len() * percent / 100].as_secs_f64() * 1_000.0;
        (at(50), format!("{:.1} ms ({:.1} to {:.1})", at(50), at(10), at(90)))
    });
    let [(with, shown_with), (without, shown_without)] = told;
    let apart = with.max(without) / with.min(without);
    let note = format!("medians with the person {shown_with}, without {shown_without}");
    Score::none("time", usize::from(apart > LONGER), 1, note)
}
