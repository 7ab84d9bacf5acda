use super::*;

mod attacker;
mod beside;
mod earlier;
mod kept;

use crate::rounding::to_unit;
use crate::testing::Random;
use attacker::Told;

type Keys = Vec<Option<u32>>;

/// Counts as they are told where `half` is half of what they are rounded to: few, told, or `Large`.
fn counts(values: &[(f64, Is)], half: f64) -> Vec<Cell> {
    let cell = |(value, is): &(f64, Is)| match is {
        Is::Told => Cell::Told { value: to_unit(*value, half * 2.0), half, least: least(*value, half) },
        Is::Few => Cell::Few,
        Is::Large => Cell::Large { value: *value },
    };
    values.iter().map(cell).collect()
}

/// What is rounded to the same as a value is not less.
fn least(value: f64, half: f64) -> f64 {
    to_unit(value, half * 2.0) - half
}

#[derive(Clone, Copy, PartialEq)]
enum Is {
    Told,
    Few,
    Large,
}
use Is::Told as Shown;
use Is::{Few, Large};

fn column(half: f64) -> Column {
    Column { whole: true, few: 9.0, half }
}

fn forever() -> Duration {
    Duration::MAX
}

/// Of counts.
fn also(keys: &[Keys], cells: &[Cell], half: f64) -> Result<Vec<bool>, TooLarge> {
    protect(keys, &column(half), cells, &forever)
}

fn one_key(cells: u32) -> Vec<Keys> {
    (0..cells).map(|key| vec![Some(key)]).collect()
}

fn two_keys(rows: u32, columns: u32) -> Vec<Keys> {
    (0..rows).flat_map(|row| (0..columns).map(move |column| vec![Some(row), Some(column)])).collect()
}

/// Withheld in addition: ×.
fn drawn(extra: &[bool], cells: &[Cell]) -> String {
    extra
        .iter()
        .zip(cells)
        .map(|(extra, cell)| {
            if *extra {
                '×'
            } else if !matches!(cell, Cell::Told { .. }) {
                '·'
            } else {
                'o'
            }
        })
        .collect()
}

#[test]
fn one_withheld_value_takes_the_cheapest_partners() {
    for (keys, values, half, expected) in [
        // The grand total is known.
        (one_key(3), vec![(4.0, Few), (60.0, Shown), (30.0, Shown)], 0.0, "·o×"),
        // Two of few are no partners: there may be nobody in either.
        (one_key(3), vec![(4.0, Few), (60.0, Shown), (3.0, Few)], 0.0, "·×·"),
        // Rows' and columns' totals are known: a rectangle.
        (two_keys(2, 3), [(4.0, Few), (60.0, Shown), (30.0, Shown), (80.0, Shown), (75.0, Shown), (20.0, Shown)].to_vec(), 0.0, "·×××o×"),
        // A partner must be able to give as much as it takes: the smallest cannot.
        (one_key(3), vec![(100.0, Large), (5.0, Shown), (90.0, Shown)], 0.0, "·o×"),
        // Alone: the same rule withholds the total.
        (one_key(1), vec![(4.0, Few)], 0.0, "·"),
        // Rounded to 5, neighbours hide it.
        (one_key(4), vec![(7.0, Few), (61.0, Shown), (38.0, Shown), (44.0, Shown)], 2.5, "·ooo"),
        // Hardly so where it is large: of 60, 7 each way.
        (one_key(2), vec![(60.0, Large), (61.0, Shown)], 2.5, "·×"),
        // No total without keys.
        (vec![vec![]], vec![(4.0, Few)], 0.0, "·"),
        // Its total is a row, and gives way where that is cheaper.
        ([one_key(2), vec![vec![None]]].concat(), vec![(4.0, Few), (30.0, Shown), (34.0, Shown)], 0.0, "·×o"),
        ([one_key(1), vec![vec![None]]].concat(), vec![(4.0, Few), (4.0, Shown)], 0.0, "·×"),
        // Ten elevenths of what is known: all is withheld.
        (one_key(3), vec![(100.0, Large), (1.0, Shown), (2.0, Shown)], 0.0, "·××"),
        // A group of few that is not shown may be anywhere: of exact numbers one is withheld for it.
        (one_key(3), vec![(40.0, Shown), (60.0, Shown), (30.0, Shown)], 0.0, "oo×"),
        // Rounding hides it.
        (one_key(3), vec![(40.0, Shown), (60.0, Shown), (30.0, Shown)], 2.5, "ooo"),
        (two_keys(2, 2), vec![(40.0, Shown), (60.0, Shown), (30.0, Shown), (25.0, Shown)], 2.5, "oooo"),
    ] {
        let cells = counts(&values, half);
        let values: Vec<f64> = values.iter().map(|(value, _)| *value).collect();
        assert_eq!(drawn(&also(&keys, &cells, half).unwrap(), &cells), expected, "{values:?}, {half}");
    }
}

#[test]
fn ten_regions_rounded_to_5_need_no_partner() {
    let mut values: Vec<(f64, Is)> = (0..10).map(|region| (f64::from(57 + region * 13), Shown)).collect();
    assert_eq!(also(&one_key(10), &counts(&values, 2.5), 2.5), Ok(vec![false; 10]));
    values[3] = (7.0, Few);
    assert_eq!(also(&one_key(10), &counts(&values, 2.5), 2.5), Ok(vec![false; 10]));
}

#[test]
fn without_time_everything_is_withheld() {
    let cells = counts(&[(4.0, Few), (60.0, Shown), (30.0, Shown)], 2.5);
    let calls = std::cell::Cell::new(0);
    let left = |after: u32| {
        let (calls, cells) = (&calls, &cells);
        calls.set(0);
        let left = || {
            calls.set(calls.get() + 1);
            if calls.get() > after { Duration::ZERO } else { Duration::MAX }
        };
        drawn(&protect(&one_key(3), &column(2.5), cells, &left).unwrap(), cells)
    };
    assert_eq!((left(0), left(1), left(1_000)), ("·××".into(), "·××".into(), "·oo".into()));
    assert!(calls.get() < 1_000);
    // A solver that is cut short.
    let large = two_keys(28, 28);
    let mut random = Random(5);
    let values: Vec<(f64, Is)> = large.iter().map(|_| random.below(60) as f64).map(|n| (n, if n < 10.0 { Few } else { Shown })).collect();
    let cells = counts(&values, 0.0);
    let start = std::time::Instant::now();
    let left = || Duration::from_millis(100).saturating_sub(start.elapsed());
    assert!(!drawn(&protect(&large, &column(0.0), &cells, &left).unwrap(), &cells).contains('o'));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn memory_is_that_of_cells_and_their_sums() {
    // Three rows, one of few beside them, and their total: one sum.
    assert_eq!(memory(&one_key(3)), Ok(5 * BYTES));
    assert!(memory(&two_keys(29, 29)).unwrap() < 1 << 25);
    assert!(memory(&two_keys(40, 40)).is_err());
}

#[test]
fn the_most_of_few_is_typical_or_a_power_of_two() {
    for (typical, values, expected) in [
        (9.0, vec![], 9.0),
        (9.0, vec![0.0, 4.0, 9.0], 9.0),
        (9.0, vec![12.0, 3.0], 16.0),
        (9.0, vec![-16.0], 16.0),
        (0.0, vec![0.3], 0.5),
        (0.0, vec![], 0.0),
    ] {
        assert_eq!(most_of_few(typical, values.clone()), expected, "{typical} {values:?}");
    }
}

#[test]
fn what_cannot_be_judged_is_withheld() {
    let cells = counts(&[(4.0, Few), (60.0, Shown), (30.0, Shown)], 0.0);
    let keys = one_key(3);
    let with = |change: &dyn Fn(&mut Vec<Keys>, &mut Vec<Cell>)| {
        let (mut keys, mut cells) = (keys.clone(), cells.clone());
        change(&mut keys, &mut cells);
        drawn(&also(&keys, &cells, 0.0).unwrap(), &cells)
    };
    assert_eq!(with(&|keys, _| keys[2] = vec![Some(1)]), "·××");
    assert_eq!(with(&|keys, _| keys[2] = vec![Some(2), None]), "·××");
    assert_eq!(with(&|keys, _| drop(keys.pop())), "·××");
    assert_eq!(with(&|_, cells| cells[1] = Cell::Told { value: f64::NAN, half: 0.0, least: 0.0 }), "·××");
    assert_eq!(with(&|_, cells| cells[1] = Cell::Told { value: 60.0, half: f64::INFINITY, least: 0.0 }), "·××");
    assert_eq!(with(&|_, cells| cells[1] = Cell::Told { value: 60.0, half: 2.5, least: 61.0 }), "·××");
    assert_eq!(with(&|_, cells| cells[1] = Cell::Told { value: 60.0, half: -1.0, least: 60.0 }), "·××");
}

#[test]
fn a_table_that_is_too_large_is_refused_whatever_is_withheld() {
    let large = two_keys(40, 40);
    let mut values = vec![(50.0, Shown); large.len()];
    for is in [Shown, Few] {
        values[0].1 = is;
        assert_eq!(also(&large, &counts(&values, 0.0), 0.0), Err(TooLarge::Cells { asked: 1_600, allowed: MOST_CELLS }));
    }
    // With its totals.
    let nearly = two_keys(31, 32);
    assert_eq!(also(&nearly, &counts(&values[..nearly.len()], 0.0), 0.0), Err(TooLarge::Cells { asked: 1_056, allowed: MOST_CELLS }));
    let deep = vec![vec![Some(0); 5]];
    assert_eq!(also(&deep, &counts(&values[..1], 0.0), 0.0), Err(TooLarge::Keys { asked: 5, allowed: MOST_KEYS }));
}

/// Distinct people of a total are fewer than those of its parts together: that is no contradiction.
#[test]
fn totals_need_not_add_up() {
    let keys = [one_key(3), vec![vec![None]]].concat();
    let cells = counts(&[(4.0, Few), (60.0, Shown), (30.0, Shown), (71.0, Shown)], 0.0);
    assert_eq!(drawn(&also(&keys, &cells, 0.0).unwrap(), &cells), "·o×o");
}

#[test]
fn separate_groupings_know_their_common_total() {
    // GROUPING SETS ((a), (b)): no cell of both is known.
    let keys: Vec<Keys> = vec![vec![Some(0), None], vec![Some(1), None], vec![Some(2), None], vec![None, Some(0)], vec![None, Some(1)]];
    let cells = counts(&[(4.0, Few), (60.0, Shown), (30.0, Shown), (50.0, Shown), (44.0, Shown)], 0.0);
    assert_eq!(drawn(&also(&keys, &cells, 0.0).unwrap(), &cells), "·o×o×");
}

/// Sizes of keys, the largest value, in how many parts a whole is told (1: whole numbers), of how many cells one is absent (0: none),
/// whether there are negative values.
#[derive(Clone)]
struct Shape {
    sizes: Vec<u32>,
    largest: u64,
    parts: f64,
    absent: u64,
    signed: bool,
}

impl Shape {
    /// A table with some of its totals, in which what is below `minimum` is withheld, and here and there one more. Groups of few with other
    /// keys are not shown.
    fn table(&self, random: &mut Random, minimum: f64, unit: f64) -> Told {
        let mut keys: Vec<Keys> = vec![vec![]];
        for size in &self.sizes {
            keys = keys.iter().flat_map(|head| (0..=*size).map(move |key| [head.as_slice(), &[Some(key)]].concat())).collect();
        }
        let outside = |keys: &Keys| keys.iter().zip(&self.sizes).any(|(key, size)| *key == Some(*size));
        keys.retain(|keys| if outside(keys) { random.below(4) == 0 } else { self.absent == 0 || random.below(self.absent) > 0 });
        let lowest = if self.signed { self.largest as f64 / 2.0 } else { 0.0 };
        let value = |random: &mut Random, keys: &Keys| match outside(keys) {
            true => random.below(minimum as u64) as f64,
            false => (random.below(self.largest) as f64 - lowest) / self.parts,
        };
        let mut truth: Vec<f64> = keys.iter().map(|keys| value(random, keys)).collect();
        let finest = keys.clone();
        for totals in 1..1_u32 << self.sizes.len() {
            if random.below(3) > 0 {
                continue;
            }
            let total = |keys: &Keys| -> Keys { (0..keys.len()).map(|key| keys[key].filter(|_| totals >> key & 1 == 0)).collect() };
            for row in finest.iter().filter(|keys| !outside(keys)).map(total).collect::<std::collections::BTreeSet<_>>() {
                truth.push(finest.iter().zip(&truth).filter(|(keys, _)| total(keys) == row).map(|(_, value)| value).sum());
                keys.push(row);
            }
        }
        let shown: Vec<bool> = keys.iter().map(|keys| !outside(keys)).collect();
        let few: Vec<bool> = truth.iter().zip(&shown).map(|(value, shown)| value.abs() < minimum || !shown).collect();
        let primary: Vec<bool> = few.iter().map(|few| *few || random.below(25) == 0).collect();
        Told { withheld: primary.clone(), keys, truth, unit, signed: self.signed, whole: self.parts == 1.0, minimum, shown, few, primary }
    }
}

/// Protects it; `None` where everything is withheld.
fn protected(mut told: Told, solved: usize) -> Option<Told> {
    let extra = pattern(&told, solved);
    assert_eq!(extra, pattern(&told, solved), "deterministic");
    let mut extra = extra.into_iter();
    for row in (0..told.keys.len()).filter(|row| told.shown[*row]) {
        let extra = extra.next().unwrap();
        assert!(!(extra && told.primary[row]), "in addition");
        told.withheld[row] = extra || told.primary[row];
    }
    told.withheld.iter().any(|withheld| !withheld).then_some(told)
}

/// Which of the rows that are shown are withheld in addition.
fn pattern(told: &Told, solved: usize) -> Vec<bool> {
    let half = told.unit / 2.0;
    let shown: Vec<usize> = (0..told.keys.len()).filter(|row| told.shown[*row]).collect();
    let cell = |row: &usize| match (told.few[*row], told.primary[*row]) {
        (true, _) => Cell::Few,
        (_, true) => Cell::Large { value: told.truth[*row] },
        _ => Cell::Told { value: to_unit(told.truth[*row], told.unit), half, least: least(told.truth[*row], half) },
    };
    let cells: Vec<Cell> = shown.iter().map(cell).collect();
    let keys: Vec<Keys> = shown.iter().map(|row| told.keys[*row].clone()).collect();
    let few = (0..told.keys.len()).filter(|row| told.few[*row]).map(|row| told.truth[row]);
    let column = Column { whole: told.whole, few: most_of_few(told.minimum - 1.0, few), half };
    withhold(&keys, &column, &cells, &forever, solved).unwrap()
}

const SHAPES: [(f64, u64, f64, u64, bool); 9] = [
    (0.0, 60, 1.0, 0, false),
    (5.0, 60, 1.0, 0, false),
    (10.0, 90, 1.0, 4, false),
    (0.0, 90, 1.0, 4, false),
    (0.0, 6_000, 64.0, 0, false),
    (2.0, 6_000, 64.0, 5, false),
    (0.0, 120, 1.0, 0, true),
    (5.0, 120, 1.0, 3, true),
    (0.0, 12_000, 64.0, 3, true),
];

#[test]
fn an_attacker_with_a_solver_pins_nothing_down() {
    let mut random = Random(1);
    for (sizes, tables) in [(vec![6], 30), (vec![4, 5], 20), (vec![3, 3, 3], 6)] {
        for (unit, largest, parts, absent, signed) in SHAPES {
            let shape = Shape { sizes: sizes.clone(), largest, parts, absent, signed };
            for solved in [prove::SOLVED, 0] {
                attack(&shape, unit, solved, tables, &mut random);
            }
        }
    }
}

/// Nothing is held on both sides, where anything is told at all; where nothing is rounded, on neither.
fn attack(shape: &Shape, unit: f64, solved: usize, tables: usize, random: &mut Random) {
    let (mut cells, mut primary, mut kept, mut targets, mut nearer, mut hopeless) = (0, 0, 0, 0, 0, 0);
    for _ in 0..tables {
        let told = shape.table(random, 10.0, unit);
        cells += told.shown.iter().filter(|shown| **shown).count();
        primary += (0..told.keys.len()).filter(|row| told.shown[*row] && told.primary[*row]).count();
        let Some(told) = protected(told, solved) else { continue };
        kept += told.withheld.iter().filter(|withheld| !**withheld).count();
        for target in (0..told.keys.len()).filter(|row| told.primary[*row]) {
            targets += 1;
            let sides = |withheld: &[bool]| told.sides(target, told.bounds(target, withheld, true));
            let found = sides(&told.withheld);
            nearer += usize::from(found != [true, true]);
            if found == [false, false] || found != [true, true] && unit == 0.0 {
                hopeless += 1;
                let whatever = sides(&vec![true; told.keys.len()]);
                assert_ne!(whatever, [true, true], "{:?}: {:?} {:?} {:?}", told.keys[target], told.keys, told.truth, told.withheld);
            }
        }
    }
    let Shape { sizes, parts, absent, signed, .. } = shape;
    println!(
        "{sizes:?}, unit {unit}, 1/{absent} absent, parts of {parts}, signed {signed}, {solved}: of {cells} cells {primary} withheld by rule, \
         {kept} told; of {targets} one bound of {nearer} is near; {hopeless} are told by totals whatever is withheld"
    );
    assert!(unit == 0.0 || nearer * 20 <= targets, "one in twenty at most");
}

/// Any values below the minimum in place of those of few, and of groups that are not shown; and other such groups.
#[test]
fn the_pattern_tells_nothing_of_few() {
    let mut random = Random(3);
    for (sizes, tables) in [(vec![6], 30), (vec![4, 5], 20), (vec![3, 3, 3], 3)] {
        for (unit, parts) in [(0.0, 1.0), (5.0, 1.0), (2.0, 64.0)] {
            let shape = Shape { sizes: sizes.clone(), largest: (60.0 * parts) as u64, parts, absent: 4, signed: false };
            for _ in 0..tables {
                let mut told = shape.table(&mut random, 10.0, unit);
                let before = pattern(&told, prove::SOLVED);
                for row in (0..told.keys.len()).filter(|row| told.few[*row]) {
                    told.truth[row] = random.below(10) as f64;
                }
                assert_eq!(pattern(&told, prove::SOLVED), before, "other values: {:?}", told.keys);
                for list in [&mut told.few, &mut told.primary, &mut told.withheld] {
                    let shown = list.iter().zip(&told.shown).filter(|(_, shown)| **shown).map(|(is, _)| *is).collect();
                    *list = shown;
                }
                let shown = |row: &usize| told.shown[*row];
                let rows: Vec<usize> = (0..told.keys.len()).filter(shown).collect();
                told.keys = rows.iter().map(|row| told.keys[*row].clone()).collect();
                told.truth = rows.iter().map(|row| told.truth[*row]).collect();
                told.shown = vec![true; rows.len()];
                assert_eq!(pattern(&told, prove::SOLVED), before, "none that is not shown: {:?}", told.keys);
            }
        }
    }
}

/// What a column withholds for itself it withholds beside any other, and numbers for the sake of numbers alone.
#[test]
fn no_column_withholds_less_for_what_stands_beside_it() {
    let keys = one_key(4);
    let numbers = counts(&[(4.0, Few), (60.0, Shown), (30.0, Shown), (70.0, Shown)], 0.0);
    let sums = counts(&[(40.0, Few), (200.0, Shown), (900.0, Shown), (900.0, Shown)], 0.0);
    let values = |cells: &[Cell], counted| Values { column: column(0.0), cells: cells.to_vec(), counted };
    let (numbers, sums) = (values(&numbers, true), values(&sums, false));
    let of = |columns: &[Values]| protect_all(&keys, columns, &forever).unwrap();
    let [number, sum] = [of(std::slice::from_ref(&numbers)), of(std::slice::from_ref(&sums))];
    assert_eq!((&number.all, &sum.all), (&vec![false, false, true, false], &vec![false, true, false, false]));
    assert_eq!((&number.numbers, &sum.numbers), (&number.all, &vec![false; 4]));
    for both in [of(&[numbers.clone(), sums.clone()]), of(&[sums, numbers])] {
        assert_eq!((both.numbers, both.all), (number.numbers.clone(), vec![false, true, true, false]));
    }
}
