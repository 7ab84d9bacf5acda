//! Games about results of the same data that were told before: the attacker asks for several groupings and puts them together.
//!
//! Population: the people of `tables`, by area, sector and grade; some groups have fewer than ten, in some one person makes nearly all of
//! the incomes.
//! Knowledge: the rules, every area, sector and grade that there is, and from the means and numbers how far each sum can be from the truth.
//! Target: each group of any grouping that has fewer than ten people, and the incomes of each in which one makes nearly all, within 10 %.
//! Score: groups that are told, or that linear programming over everything told pins down so far.

use std::collections::{BTreeMap, BTreeSet};

use concordat::client::Client;

use super::linear::Known;
use super::margins::sum_and_step;
use super::people::{AREAS, GRADES, SECTORS, cells, grade};
use super::world::{Score, World, answer, number};
use crate::oracle::{Cell, rows};

const KEYS: [&str; 3] = ["area", "sector", "grade"];
/// The base of rounding of counts.
const BASE: f64 = 5.0;
/// Sums are compared in thousands: a solver's numbers are not to be too far from one.
const THOUSAND: f64 = 1_000.0;

/// Each grouping, as bits of its keys.
const GROUPINGS: [u8; 8] = [0b111, 0b011, 0b101, 0b110, 0b001, 0b010, 0b100, 0];
/// Several at once.
const AT_ONCE: [&str; 3] =
    ["ROLLUP (area, sector, grade)", "ROLLUP (grade, sector, area)", "GROUPING SETS ((area, sector), (sector, grade), (area))"];

/// Of area, sector and grade one, or all of them.
type Group = [Option<usize>; 3];
/// Count and sum as told.
type Told = (Option<f64>, Option<f64>);

/// What is attacked: of people's incomes a value, as an answer tells it with its step, and whether it is a target. A number is asked for by
/// itself: where its sum is withheld, it would be too.
struct Attack {
    select: &'static str,
    told: fn(&Told) -> Option<(f64, f64)>,
    value: fn(&[f64]) -> f64,
    target: fn(&[f64]) -> bool,
}

const COUNTS: Attack = Attack {
    select: "count(*) AS n",
    told: |(n, _)| n.map(|n| (n, BASE)),
    value: |incomes| incomes.len() as f64,
    target: |incomes| (1..10).contains(&incomes.len()),
};
const SUMS: Attack =
    Attack { select: "count(*) AS n, sum(income) AS s", told: sum_and_step, value: |incomes| incomes.iter().sum(), target: dominated };

/// The second largest could tell the largest within 10 %.
fn dominated(incomes: &[f64]) -> bool {
    let mut incomes = incomes.to_vec();
    incomes.sort_by(|one, other| other.total_cmp(one));
    incomes.len() >= 10 && incomes.iter().skip(2).sum::<f64>() < 0.1 * incomes[0]
}

/// By these keys, of whom a condition chooses; the other keys are named as totals.
fn grouped(select: &str, keys: u8, condition: &str) -> String {
    let has = |key: &usize| keys >> *key & 1 == 1;
    let named: Vec<String> = (0..3).map(|key| if has(&key) { KEYS[key].into() } else { format!("'all' AS {}", KEYS[key]) }).collect();
    let by: Vec<&str> = (0..3).filter(has).map(|key| KEYS[key]).collect();
    let by = if by.is_empty() { String::new() } else { format!(" GROUP BY {}", by.join(", ")) };
    format!("SELECT {}, {select} FROM games.tables{condition}{by}", named.join(", "))
}

fn statements(select: &str) -> Vec<String> {
    let at_once = AT_ONCE.iter().map(|by| format!("SELECT area, sector, grade, {select} FROM games.tables GROUP BY {by}"));
    GROUPINGS.iter().map(|keys| grouped(select, *keys, "")).chain(at_once).collect()
}

/// Score: statements that are answered otherwise for what was asked before, by the same analyst or by another.
pub async fn in_any_order(world: &World) -> Score {
    let statements = statements(SUMS.select);
    let mut answers: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let forth = statements.iter().map(|sql| (&world.plain, sql));
    let back = statements.iter().rev().zip([&world.second, &world.plain].into_iter().cycle()).map(|(sql, client)| (client, sql));
    for (client, sql) in forth.chain(back) {
        answers.entry(sql).or_default().insert(format!("{:?}", rows(&answer(client, sql).await.batches, 3)));
    }
    let different = answers.values().filter(|told| told.len() > 1).count();
    Score::none("earlier results, in any order", different, statements.len(), "of one analyst, then of two who take turns".into())
}

/// Score: as above, from all groupings together.
pub async fn of_all_groupings(world: &World) -> Vec<Score> {
    let mut scores = Vec::new();
    for (game, attack) in [("earlier results: counts", COUNTS), ("earlier results: sums", SUMS)] {
        let mut told = BTreeMap::new();
        for sql in statements(attack.select) {
            told.extend(groups(&world.plain, &sql, [None; 3]).await);
        }
        scores.push(attack.score(game, &told, Some(0)));
    }
    scores
}

/// Each group by area and sector by a statement of its own, `WHERE area = … AND sector = …`, beside the totals: none of these results has
/// another group that could be withheld for the sake of totals. Score: as above. Numbers are hidden by rounding alone even so. Sums of
/// which one person makes nearly all are not: what stops that is a ledger of what was asked before.
pub async fn one_by_one(world: &World) -> Vec<Score> {
    let mut scores = Vec::new();
    let each = |select: &'static str| (0..AREAS).flat_map(move |area| (0..SECTORS).map(move |sector| (select, area, sector)));
    for (game, attack, most) in
        [("earlier results, one by one: counts", COUNTS, Some(0)), ("earlier results, one by one: sums", SUMS, None)]
    {
        let mut told = BTreeMap::new();
        for (select, area, sector) in each(attack.select) {
            let condition = format!(" WHERE area = 'a{}' AND sector = 's{}'", area + 1, sector + 1);
            told.extend(groups(&world.plain, &grouped(select, 0, &condition), [Some(area), Some(sector), None]).await);
        }
        for keys in [0b001, 0b010, 0] {
            told.extend(groups(&world.plain, &grouped(attack.select, keys, ""), [None; 3]).await);
        }
        scores.push(attack.score(game, &told, most));
    }
    scores
}

/// What a statement tells of each group of those whom its WHERE chooses.
async fn groups(client: &Client, sql: &str, chosen: Group) -> BTreeMap<Group, Told> {
    let of = |row: &Vec<(String, Cell)>| {
        let key = |key: usize| place(&row[key].1).or(chosen[key]);
        let value = |name: &str| row.iter().find(|(of, _)| of == name).and_then(|(_, cell)| number(cell));
        ([key(0), key(1), key(2)], (value("n"), value("s")))
    };
    rows(&answer(client, sql).await.batches, 3).values().map(of).collect()
}

/// The incomes of everybody, by group of all keys.
fn exact() -> BTreeMap<[usize; 3], Vec<f64>> {
    let mut exact: BTreeMap<[usize; 3], Vec<f64>> = BTreeMap::new();
    for (area, sectors) in cells().iter().enumerate() {
        for (sector, incomes) in sectors.iter().enumerate() {
            (0..GRADES).for_each(|grade| drop(exact.insert([area, sector, grade], Vec::new())));
            for (place, income) in incomes.iter().enumerate() {
                exact.entry([area, sector, grade(place)]).or_default().push(income / THOUSAND);
            }
        }
    }
    exact
}

impl Attack {
    fn score(&self, game: &str, told: &BTreeMap<Group, Told>, most: Option<usize>) -> Score {
        let exact = exact();
        let covers = |group: &Group, cell: &[usize; 3]| group.iter().zip(cell).all(|(key, value)| key.is_none_or(|key| key == *value));
        let under =
            |group: &Group| (0..).zip(exact.keys()).filter(|(_, cell)| covers(group, cell)).map(|(at, _)| at).collect::<Vec<usize>>();
        let incomes =
            |group: &Group| exact.iter().filter(|(cell, _)| covers(group, cell)).flat_map(|(_, of)| of.clone()).collect::<Vec<f64>>();
        let mut known = Known::new(vec![f64::INFINITY; exact.len()]);
        let known_groups: Vec<(&Group, (f64, f64))> = told.iter().filter_map(|(group, row)| Some((group, (self.told)(row)?))).collect();
        known_groups.iter().for_each(|(group, (value, step))| known.told(under(group), *value, *step));
        assert!(!known_groups.is_empty(), "{game}: something is told");
        let (mut right, mut of, mut narrowest) = (0, 0, f64::INFINITY);
        for (group, row) in told {
            let incomes = incomes(group);
            if !(self.target)(&incomes) {
                continue;
            }
            of += 1;
            // A group that is told at all is found.
            if (self.told)(row).is_some() {
                right += 1;
                continue;
            }
            let exact = (self.value)(&incomes);
            let (from, to) = known.bounds_of_sum(&under(group)).unwrap_or_else(|| panic!("{game}: a program that can always be solved"));
            narrowest = narrowest.min((to - from) / exact);
            right += usize::from(from >= 0.9 * exact && to <= 1.1 * exact);
        }
        assert!(of > 0, "{game}: there are targets");
        let note = format!("the narrowest is as wide as {narrowest:.2} of it; {} of {} groups told", known_groups.len(), told.len());
        Score { game: game.into(), right, of, base: 0, most, note }
    }
}

/// The number of an area, sector or grade; `None` for a total.
fn place(cell: &Cell) -> Option<usize> {
    match cell {
        Cell::Text(code) if code != "all" => Some(code[1..].parse::<usize>().unwrap() - 1),
        _ => None,
    }
}
