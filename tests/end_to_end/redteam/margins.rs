//! Games about tables with totals.
//!
//! Population: the people of `tables`, in thirty cells by area and sector; some cells have fewer than ten, in some one person makes
//! nearly all of the incomes.
//! Knowledge: the rules, and the totals by area, by sector and of all, which the attacker is told too.
//! Target: each cell of fewer than ten people, and the incomes of each in which one makes nearly all, within 10 %.
//! Score: cells that are told, or that linear programming over everything told pins down so far: of incomes over what each cell has and how
//! many people together, as each told sum is a told mean for as many as there can be.
//!
//! Another is about which cells are withheld: each cell of fewer than ten people is one target, and the attacker asks the same question in two
//! worlds, that with its people and that without. He is right where other cells are withheld in the one than in the other.

use std::collections::BTreeMap;

use super::linear::Known;
use super::people::{AREAS, SECTORS, cells};
use super::world::{Score, World, answer, number};
use crate::oracle::{Cell, rows};

/// Share of the cells, and of the people in them, that an honest analyst keeps at least.
const CELLS_KEPT: f64 = 0.35;
const PEOPLE_KEPT: f64 = 0.35;
/// The base of rounding of counts.
const BASE: f64 = 5.0;

/// Sums are compared in thousands: a solver's numbers are not to be too far from one.
const THOUSAND: f64 = 1_000.0;

/// Whether the attacker puts numbers of people and sums together.
#[derive(Clone, Copy)]
enum Joint {
    Yes,
    No,
}

/// Area and sector, of which a total lacks one or both.
type Key = (Option<usize>, Option<usize>);
/// Count and sum as told.
type Told = (Option<f64>, Option<f64>);

/// The table, and its totals by statements of their own.
const SEPARATE: [&str; 4] = [
    "SELECT area, sector, count(*) AS n, sum(income) AS s FROM games.tables GROUP BY area, sector",
    "SELECT area, 'all' AS sector, count(*) AS n, sum(income) AS s FROM games.tables GROUP BY area",
    "SELECT 'all' AS area, sector, count(*) AS n, sum(income) AS s FROM games.tables GROUP BY sector",
    "SELECT 'all' AS area, 'all' AS sector, count(*) AS n, sum(income) AS s FROM games.tables",
];
/// Both in one.
const ROLLED_UP: [&str; 2] = [
    "SELECT area, sector, count(*) AS n, sum(income) AS s FROM games.tables GROUP BY ROLLUP (area, sector)",
    "SELECT 'all' AS area, sector, count(*) AS n, sum(income) AS s FROM games.tables GROUP BY sector",
];

pub async fn separate_totals(world: &World) -> Vec<Score> {
    play(world, "margins, by separate statements", &SEPARATE).await
}

pub async fn rolled_up(world: &World) -> Vec<Score> {
    play(world, "margins, by ROLLUP", &ROLLED_UP).await
}

pub async fn two_worlds(world: &World) -> Score {
    let with_all = withheld(world, &[]).await;
    let cells: Vec<Vec<f64>> = cells().into_iter().flatten().collect();
    let lacks = |place: usize, income: &f64| cells.iter().enumerate().all(|(other, incomes)| other == place || !incomes.contains(income));
    let small = |(place, incomes): &(usize, &Vec<f64>)| incomes.len() < 10 && incomes.iter().all(|income| lacks(*place, income));
    let (mut right, mut of) = (0, 0);
    for (_, incomes) in cells.iter().enumerate().filter(small) {
        of += 1;
        right += usize::from(withheld(world, incomes).await != with_all);
    }
    assert!(of > 0, "there are small cells");
    let told = with_all.values().filter(|withheld| !**withheld).count();
    Score::none("margins, two worlds", right, of, format!("{told} of {} cells are told in both", with_all.len()))
}

/// Which cells' counts are withheld where nobody has these incomes.
async fn withheld(world: &World, without: &[f64]) -> BTreeMap<String, bool> {
    let conditions: String = without.iter().map(|income| format!(" AND income <> {income:.2}")).collect();
    let sql = format!("SELECT area, sector, count(*) AS n FROM games.tables WHERE income <> 0.25{conditions} GROUP BY area, sector");
    let told = rows(&answer(&world.plain, &sql).await.batches, 2);
    told.into_iter().map(|(key, row)| (key, number(&row[2].1).is_none())).collect()
}

async fn play(world: &World, game: &str, statements: &[&str]) -> Vec<Score> {
    let mut told: BTreeMap<Key, Told> = BTreeMap::new();
    for sql in statements {
        for row in rows(&answer(&world.plain, sql).await.batches, 2).values() {
            told.insert((place(&row[0].1), place(&row[1].1)), (number(&row[2].1), number(&row[3].1)));
        }
    }
    let exact = cells();
    let inside: Vec<Key> = (0..AREAS).flat_map(|area| (0..SECTORS).map(move |sector| (Some(area), Some(sector)))).collect();
    let kept: Vec<&Key> = inside.iter().filter(|key| told.get(*key).is_some_and(|(n, _)| n.is_some())).collect();
    let people = |key: &Key| exact[key.0.unwrap()][key.1.unwrap()].len() as f64;
    let (kept_people, all_people): (f64, f64) = (kept.iter().map(|key| people(key)).sum(), inside.iter().map(people).sum());
    let error = kept.iter().map(|key| (told[*key].0.unwrap() - people(key)).abs()).sum::<f64>() / kept.len().max(1) as f64;
    let (cells, share) = (kept.len() as f64 / inside.len() as f64, kept_people / all_people);
    let note = format!("{:.0} % of cells and {:.0} % of people kept, counts off by {error:.1}", 100.0 * cells, 100.0 * share);
    assert!(cells >= CELLS_KEPT && share >= PEOPLE_KEPT, "{game}: {note}");
    let small = |key: &Key| people(key) < 10.0;
    let giant = |key: &Key| key.0 == key.1;
    let sums = |key: &Key| exact[key.0.unwrap()][key.1.unwrap()].iter().sum::<f64>() / THOUSAND;
    vec![
        pinned(&format!("{game}: counts"), &inside, &told, |(n, _)| n.map(|n| (n, BASE)), small, people, (Joint::No, &note)),
        pinned(&format!("{game}: sums"), &inside, &told, sum_and_step, giant, sums, (Joint::Yes, &note)),
    ]
}

/// The mean of a sum's people and the step to which it is rounded, in thousands, as [`sum_and_step`] works it out.
fn mean_and_step((n, s): &Told) -> Option<(f64, f64)> {
    let ((n, s), (_, width)) = ((*n, *s), sum_and_step(&(*n, *s))?);
    let (n, mean) = (n?, s? / n?.max(1.0) / THOUSAND);
    // Of the width: people times the step, and a base of means and of half steps.
    Some((mean, (width - BASE * mean) / (n + BASE / 2.0)))
}

/// A sum and how wide the interval is that it is in, in thousands. The attacker works that out from the rules: the number is within half the
/// base, and the mean within half a step, the least of 1, 2 and 5 times powers of ten that is not below the base times the mean by the number.
pub fn sum_and_step((n, s): &Told) -> Option<(f64, f64)> {
    let (n, s) = ((*n)?, (*s)?);
    let step = |mean: f64| {
        let raw = BASE * mean / n.max(BASE);
        let power = 10_f64.powf(raw.log10().floor());
        [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power).find(|step| *step >= raw).unwrap_or(10.0 * power)
    };
    let mean = s / n.max(1.0);
    // By the exact mean, which may be half a step more.
    let step = step(mean + step(mean) / 2.0);
    let reach = n * step / 2.0 + BASE / 2.0 * (mean + step / 2.0);
    Some((s / THOUSAND, 2.0 * reach / THOUSAND))
}

fn pinned(
    game: &str,
    inside: &[Key],
    told: &BTreeMap<Key, Told>,
    value: impl Fn(&Told) -> Option<(f64, f64)>,
    target: impl Fn(&Key) -> bool,
    exact: impl Fn(&Key) -> f64,
    (joint, note): (Joint, &str),
) -> Score {
    // What each cell has, and how many people.
    let mut known = Known::new(vec![f64::INFINITY; 2 * inside.len()]);
    let within = |total: &Key, cell: &Key| (total.0.is_none() || total.0 == cell.0) && (total.1.is_none() || total.1 == cell.1);
    for (key, row) in told {
        let of: Vec<usize> = (0..inside.len()).filter(|place| within(key, &inside[*place])).collect();
        if let Some((value, step)) = value(row) {
            known.told(of.clone(), value, step);
        }
        if let (Joint::Yes, Some(number)) = (joint, row.0) {
            known.told(of.iter().map(|place| place + inside.len()).collect(), number, BASE);
        }
        if let (Joint::Yes, Some((mean, step))) = (joint, mean_and_step(row)) {
            let terms = |each: f64| of.iter().flat_map(|place| [(*place, 1.0), (place + inside.len(), -each)]).collect();
            known.between(terms(mean - step / 2.0), 0.0, f64::INFINITY);
            known.between(terms(mean + step / 2.0), f64::NEG_INFINITY, 0.0);
        }
    }
    let (mut right, mut of, mut narrowest) = (0, 0, f64::INFINITY);
    for (place, key) in inside.iter().enumerate().filter(|(_, key)| target(key)) {
        let exact = exact(key);
        of += 1;
        // A cell that is told at all is found.
        if told.get(key).and_then(&value).is_some() {
            right += 1;
            continue;
        }
        let (from, to) = known.bounds(place).unwrap_or_else(|| panic!("{game}: a program that can always be solved"));
        narrowest = narrowest.min((to - from) / exact);
        right += usize::from(from >= 0.9 * exact && to <= 1.1 * exact);
    }
    assert!(of > 0, "{game}: there are targets");
    Score::none(game, right, of, format!("the narrowest is as wide as {narrowest:.2} of it; {note}"))
}

/// The number of an area or sector; `None` for a total.
fn place(cell: &Cell) -> Option<usize> {
    match cell {
        Cell::Text(code) if code != "all" => Some(code[1..].parse::<usize>().unwrap() - 1),
        _ => None,
    }
}
