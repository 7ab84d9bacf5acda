//! Games about what one number tells: few people, one person with many rows, one who makes nearly all of a sum, equal values.

use super::people::OFFICES;
use super::world::{Score, World, all_told, answer, number};
use crate::oracle::{Cell, rows};

/// What is asked of one office; every form is of the people who stand in it.
const FORMS: [&str; 6] =
    ["count(*)", "count(DISTINCT p.subject)", "count(p.amount)", "sum(p.amount)", "avg(p.amount)", "count(*) FILTER (WHERE p.paid)"];

/// Each form of an office by itself, then beside all others.
fn about(office: &str, form: &str) -> String {
    format!("SELECT {form} AS v FROM games.payments p WHERE p.office = '{office}'")
}

/// Population: offices of nobody, 4, 9, 10 and 11 people beside large ones.
/// Knowledge: the offices' names, which are published.
/// Target: any number of an office of fewer than ten people; whether an office has nobody.
/// Score: numbers told of the former, and rows by which an office of nobody differs from one of nine. Of 10 and 11, that they are told
/// apart.
pub async fn small_cells(world: &World) -> Score {
    let (mut right, mut of, mut ten, mut plenty) = (0, 0, Vec::new(), 0);
    for office in ["nobody", "rows", "nine", "ten", "eleven", "plenty"] {
        let alone = all_told(&world.plain, FORMS.iter().map(|form| about(office, form)).collect()).await;
        let shown = alone.iter().flatten().flatten().count();
        match office {
            "plenty" => plenty = shown,
            "ten" | "eleven" => ten.push(alone[0][0]),
            _ => (right, of) = (right + shown, of + FORMS.len()),
        }
    }
    let columns = FORMS.iter().zip('a'..).map(|(form, name)| format!("{form} AS {name}")).collect::<Vec<_>>().join(", ");
    let sql = format!("SELECT p.office, {columns} FROM games.payments p GROUP BY p.office");
    let table = rows(&answer(&world.plain, &sql).await.batches, 1);
    let row = |office: &str| table.values().find(|row| row[0].1 == Cell::Text(office.into())).unwrap_or_else(|| panic!("no row {office}"));
    for office in ["nobody", "rows", "nine"] {
        right += row(office)[1..=FORMS.len()].iter().filter(|(_, cell)| *cell != Cell::Null).count();
        of += FORMS.len();
    }
    right += usize::from(row("nobody")[1..] != row("nine")[1..]) + usize::from(ten[0] != ten[1]);
    let kept = table.values().flat_map(|row| &row[1..=FORMS.len()]).filter(|(_, cell)| *cell != Cell::Null).count();
    assert!(plenty > 0 && table.len() == OFFICES.len(), "{table:?}");
    Score::none("small cells", right, of + 2, format!("{kept} of {} cells of the table kept", FORMS.len() * OFFICES.len()))
}

/// Population: an office of four people, one of whom has fifty rows.
/// Knowledge: that he is there.
/// Target: any number of the office. Score: numbers told.
pub async fn fifty_rows(world: &World) -> Score {
    let asked = FORMS.iter().map(|form| about("rows", form)).collect::<Vec<_>>();
    let (of, told) = (asked.len(), all_told(&world.plain, asked).await);
    Score::none("one person with 50 rows", told.iter().flatten().flatten().count(), of, "rows do not stand for people".into())
}

/// Population: an office of thirteen people, twelve of whom have one row.
/// Knowledge: that, and the office's count of people and of rows.
/// Target: how many rows the thirteenth has, within 10 %. Score: whether rows less the twelve tell it.
/// The dominance rules judge rows as they judge money: with four in five of them he is below both, which know nothing of what is known
/// of the twelve.
pub async fn rows_of_one(world: &World) -> Score {
    let told = all_told(&world.plain, vec![about("crowd", "count(*)")]).await[0][0];
    let right = told.is_some_and(|rows| (rows - 12.0 - 50.0).abs() <= 5.0);
    Score { game: "how many rows one person has".into(), right: right.into(), of: 1, base: 0, most: None, note: format!("told {told:?}") }
}

/// Population: offices of thirty, where one makes 95 %, two make 92 %, or two of opposite sign outweigh all others.
/// Knowledge: which offices those are, and that of two the second knows himself.
/// Target: the largest contribution, within 10 %, from a sum or mean. Score: sums and means told of those offices.
pub async fn dominance(world: &World) -> Score {
    let (mut right, mut of) = (0, 0);
    for office in ["one giant", "two giants", "opposite"] {
        let conditional = format!("sum(CASE WHEN p.office = '{office}' THEN p.amount ELSE 0 END)");
        let asked = [about(office, FORMS[3]), about(office, FORMS[4]), format!("SELECT {conditional} AS v FROM games.payments p")];
        of += asked.len();
        right += all_told(&world.plain, asked.into()).await.iter().flatten().flatten().count();
    }
    let honest = all_told(&world.plain, vec![about("plenty", FORMS[3]), about("plenty", FORMS[4])]).await;
    assert!(honest.iter().flatten().all(Option::is_some), "sums of many alike are told: {honest:?}");
    Score::none("dominance", right, of, "sum and mean of 200 alike are told".into())
}

/// Population: an office of twenty who all were paid the same, and have all paid.
/// Knowledge: that somebody is in that office.
/// Target: what he was paid; whether he has paid. Score: means and sums told where the agreement withholds those of one value, and
/// counts told of a condition that all of a group meet.
pub async fn one_value(world: &World) -> Score {
    let strict = all_told(&world.strict, vec![about("same", FORMS[3]), about("same", FORMS[4])]).await;
    let met = all_told(&world.plain, vec![about("same", FORMS[5])]).await;
    let grouped = "SELECT p.office, count(*) FILTER (WHERE p.paid) AS v FROM games.payments p GROUP BY p.office";
    let table = rows(&answer(&world.plain, grouped).await.batches, 1);
    let same = table.values().find(|row| row[0].1 == Cell::Text("same".into())).unwrap();
    let right = strict.iter().chain(&met).flatten().flatten().count() + usize::from(number(&same[1].1).is_some());
    let honest = all_told(&world.strict, vec![about("plenty", FORMS[4]), about("plenty", FORMS[5])]).await;
    assert!(honest.iter().flatten().all(Option::is_some), "of different values all is told: {honest:?}");
    Score::none("groups of one value", right, 4, "mean and share of 200 different ones are told".into())
}
