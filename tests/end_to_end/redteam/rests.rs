//! Games about what a told number leaves over: those whom a condition does not choose, and those of the other department of a full join.

use super::people::{AREAS, UNITS};
use super::world::{Score, World, all_told, answer};

/// Population: the offices `plenty` and `others` of many alike, and `one giant` of thirty, one of whom makes 95 %.
/// Knowledge: which office that is.
/// Target: what the giant makes. Score: statements that tell both a sum or mean and the part of it that leaves over his office alone.
pub async fn dominated(world: &World) -> Score {
    let (both, plenty) = ("p.office IN ('plenty', 'one giant')", "p.office = 'plenty'");
    let all = "p.office IN ('plenty', 'one giant', 'others')";
    let parts = [
        ("sum(p.amount)", format!("sum(p.amount) FILTER (WHERE {plenty})")),
        ("avg(p.amount)", format!("avg(p.amount) FILTER (WHERE {plenty})")),
        ("sum(p.amount)", format!("sum(CASE WHEN {plenty} THEN p.amount ELSE 0 END)")),
        ("avg(p.amount)", format!("avg(CASE WHEN {plenty} THEN p.amount END)")),
    ];
    let beside = |from: &str| -> Vec<String> {
        parts.iter().map(|(whole, part)| format!("SELECT {whole} AS a, {part} AS b FROM games.payments p WHERE {from}")).collect()
    };
    let mut statements = beside(both);
    // A CASE under a FILTER leaves over what the FILTER chose: of the whole group more is left.
    for measure in ["sum", "avg"] {
        for otherwise in ["", " ELSE 0"] {
            let case = format!("{measure}(CASE WHEN {plenty} THEN p.amount{otherwise} END) FILTER (WHERE {both})");
            let whole = format!("{measure}(p.amount) FILTER (WHERE {both})");
            statements.push(format!("SELECT {whole} AS a, {case} AS b FROM games.payments p WHERE {all}"));
        }
    }
    let of = statements.len();
    let told = all_told(&world.plain, statements).await;
    let right = told.iter().filter(|row| row.iter().all(Option::is_some)).count();
    let honest = all_told(&world.plain, beside("p.office IN ('plenty', 'others')")).await;
    assert!(honest.iter().flatten().all(Option::is_some), "of many alike both parts are told: {honest:?}");
    Score::none("a dominated rest", right, of, "both parts of 350 alike are told".into())
}

/// Population: the people of `returns`, and as many others as another dataset has, all of whom could be made up.
/// Knowledge: everybody's area, band and sector. The attacker owns `tables`.
/// Target: areas in which `returns` has five people, and what a condition that all but one of its people meet counts.
/// Score: groups and numbers told.
pub async fn made_up(world: &World) -> Score {
    let from = "FROM games.returns r FULL JOIN games.tables t ON r.subject = t.subject";
    let few = "(r.band = 'b1' OR t.income > 0)";
    let groups = |condition: &str| format!("SELECT coalesce(r.area, t.area) AS area, count(*) AS n {from} WHERE {condition} GROUP BY 1");
    let shown = |answer: concordat::client::Answer| answer.batches.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>();
    let lifted = shown(answer(&world.plain, &groups(few)).await);
    let honest = shown(answer(&world.plain, &groups("(r.income > 0 OR t.income > 0)")).await);
    assert_eq!(honest, AREAS, "areas with twenty people of each are shown");
    let alone = "r.area = 'a1' AND r.band = 'b1' AND r.sector = 's1'";
    let filled = [
        format!("SELECT count(*) FILTER (WHERE NOT ({alone})) AS v {from}"),
        format!("SELECT count(DISTINCT coalesce(r.subject, t.subject)) FILTER (WHERE NOT ({alone})) AS v {from}"),
        format!("SELECT sum(CASE WHEN NOT ({alone}) THEN 1 ELSE 0 END) AS v {from}"),
    ];
    let of = AREAS + filled.len();
    let filled = all_told(&world.plain, filled.into()).await.iter().flatten().flatten().count();
    let half = all_told(&world.plain, vec![format!("SELECT count(*) FILTER (WHERE r.band IN ('b1', 'b2')) AS v {from}")]).await;
    assert!(half[0][0].is_some(), "what leaves over half of them is told");
    Score::none("subjects that another made up", lifted + filled, of, format!("{honest} areas of enough people of each are shown"))
}

/// Population: thirty people, whose units are more together than 64 bits hold, and thirty who have a few.
/// Knowledge: none. Target: a number that is not the sum of what they have.
/// Score: sums told of the first. A mean, which is not of whole numbers, is told.
pub async fn too_large(world: &World) -> Score {
    let of = |value: &str, size: &str| format!("SELECT {value} AS v FROM games.units WHERE size = '{size}'");
    let asked = [of("sum(units)", "large"), of("avg(units)", "large"), of("sum(units)", "small")];
    let told = all_told(&world.plain, asked.into()).await;
    let expected = UNITS.iter().find(|(size, _)| *size == "large").map(|(_, units)| *units as f64).unwrap();
    assert!(told[1][0].is_some_and(|mean| (mean / expected - 1.0).abs() < 0.2) && told[2][0].is_some(), "{told:?}");
    Score::none("sums beyond 64 bits", usize::from(told[0][0].is_some()), 1, "their mean is told".into())
}
