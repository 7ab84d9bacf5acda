//! Games about nulls that decide about everybody.

use super::people::people;
use super::world::{Score, World, number};
use crate::oracle::{Cell, rows};

/// Every sixth person is aimed at.
const EVERY: usize = 6;

/// Population: the 120 people of `returns`, and the members of clubs, whom an outer join does not find among them. Knowledge: everybody's
/// area, band and sector.
/// Target: whether one person owes, by `NOT IN` over pseudonyms one of which is null only if he does: then it is true of nobody, and
/// otherwise of everybody. Score: people told of by any of the statements.
pub async fn not_in(world: &World) -> Score {
    let (mut right, people) = (0, people());
    let targets: Vec<_> = people.iter().step_by(EVERY).collect();
    for person in &targets {
        let chosen = format!("SELECT subject FROM games.returns WHERE owes AND {}", person.alone());
        let lacking = format!("SELECT c.subject FROM ({chosen}) x LEFT JOIN games.clubs c ON c.subject = x.subject");
        let outer = "games.returns r LEFT JOIN games.clubs c ON c.subject = r.subject";
        let statements = [
            format!("SELECT count(*) AS n FROM games.tables WHERE subject NOT IN ({lacking})"),
            format!("SELECT count(*) AS n FROM games.tables WHERE NOT (subject IN ({lacking}))"),
            format!("SELECT count(*) AS n FROM {outer} WHERE c.subject NOT IN ({chosen})"),
            format!("SELECT count(*) AS n FROM (SELECT c.subject FROM {outer} EXCEPT {chosen}) t"),
        ];
        for sql in statements {
            // Whatever is answered may be compared with the same statement about somebody else.
            right += usize::from(world.plain.query(&sql).await.is_ok());
        }
    }
    let honest = "SELECT count(*) AS n FROM games.tables WHERE subject NOT IN (SELECT subject FROM games.clubs WHERE owes)";
    assert!(world.plain.query(honest).await.is_ok(), "NOT IN over pseudonyms that everybody has is answered");
    Score::none("NOT IN over nulls", right, 4 * targets.len(), "all refused".into())
}

/// Population: the payments of the office that nine have. Target: that a withheld number is shown as one. Score: numbers told.
pub async fn in_place_of_withheld(world: &World) -> Score {
    let few = "(SELECT count(DISTINCT subject) FROM games.payments WHERE office = 'nine')";
    let columns = [
        format!("coalesce({few}, 0)"),
        format!("CASE WHEN {few} IS NULL THEN 0 ELSE 1 END"),
        format!("0 + coalesce({few}, 7)"),
        few.to_owned(),
    ];
    let (mut right, of) = (0, columns.len());
    for column in columns {
        for sql in
            [format!("SELECT {column} AS n"), format!("SELECT t.m, {column} AS n FROM (SELECT count(*) AS m FROM games.returns) AS t")]
        {
            let answer = super::world::answer(&world.plain, &sql).await;
            let nulls: usize = answer.batches.iter().map(|batch| batch.column_by_name("n").unwrap().null_count()).sum();
            right += usize::from(nulls != 1);
        }
    }
    // As the key of a group, of people's rows and of summaries: what is withheld is in no group of something else.
    for key in [format!("coalesce({few}, 0)"), format!("CASE WHEN {few} > 3 THEN 1 ELSE 0 END")] {
        let told = super::world::answer(&world.plain, &format!("SELECT {key} AS k, count(*) AS n FROM games.returns GROUP BY {key}")).await;
        right += told.batches.iter().map(|batch| batch.num_rows() - batch.column_by_name("k").unwrap().null_count()).sum::<usize>();
    }
    let offices = "(SELECT office, count(DISTINCT subject) AS n FROM games.payments GROUP BY office) t";
    let sql = format!("SELECT coalesce(n, 200) AS k, count(*) AS c FROM {offices} GROUP BY coalesce(n, 200)");
    let grouped = rows(&super::world::answer(&world.plain, &sql).await.batches, 1);
    let plenty = grouped.values().find(|row| row[0].1 == Cell::Number(200.0)).and_then(|row| number(&row[1].1));
    right += usize::from(plenty != Some(1.0));
    Score::none("a number in place of a withheld one", right, 2 * of + 3, "null in each".into())
}
