use super::*;

mod attacker;

use attacker::Told;

type Keys = Vec<Option<u32>>;

fn counts(values: &[(f64, bool)], half: f64) -> Vec<Cell> {
    values.iter().map(|(value, withheld)| Cell { value: *value, half, nonnegative: true, withheld: *withheld }).collect()
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
            } else if cell.withheld {
                '·'
            } else {
                'o'
            }
        })
        .collect()
}

#[test]
fn one_withheld_value_takes_the_cheapest_partners() {
    let x = true;
    for (keys, values, half, expected) in [
        // The grand total is known.
        (one_key(3), vec![(4.0, x), (60.0, false), (30.0, false)], 0.0, "·o×"),
        // Two protect one another.
        (one_key(3), vec![(4.0, x), (60.0, false), (3.0, x)], 0.0, "·o·"),
        // Rows' and columns' totals are known: a rectangle.
        (two_keys(2, 3), [(4.0, x), (60.0, false), (30.0, false), (80.0, false), (75.0, false), (20.0, false)].to_vec(), 0.0, "·o××o×"),
        // A partner must be able to give as much as it takes: the smallest cannot.
        (one_key(3), vec![(100.0, x), (5.0, false), (90.0, false)], 0.0, "·o×"),
        // Alone: the same rule withholds the total.
        (one_key(1), vec![(4.0, x)], 0.0, "·"),
        // Rounded to 5, neighbours hide it.
        (one_key(4), vec![(7.0, x), (61.0, false), (38.0, false), (44.0, false)], 2.5, "·ooo"),
        // Hardly so where it is large: of 30, 3 each way.
        (one_key(2), vec![(30.0, x), (61.0, false)], 2.5, "·×"),
        // No total without keys.
        (vec![vec![]], vec![(4.0, x)], 0.0, "·"),
        // Its total is a row, and gives way where that is cheaper.
        ([one_key(2), vec![vec![None]]].concat(), vec![(4.0, x), (30.0, false), (34.0, false)], 0.0, "·×o"),
        ([one_key(1), vec![vec![None]]].concat(), vec![(4.0, x), (4.0, false)], 0.0, "·×"),
        // Ten elevenths of what is known: all is withheld.
        (one_key(3), vec![(100.0, x), (1.0, false), (2.0, false)], 0.0, "·××"),
    ] {
        let cells = counts(&values, half);
        assert_eq!(drawn(&protect(&keys, &cells).unwrap(), &cells), expected, "{values:?}, {half}");
    }
}

#[test]
fn ten_regions_rounded_to_5_need_no_partner() {
    let mut values: Vec<(f64, bool)> = (0..10).map(|region| (f64::from(57 + region * 13), false)).collect();
    values[3] = (7.0, true);
    assert_eq!(protect(&one_key(10), &counts(&values, 2.5)), Ok(vec![false; 10]));
}

#[test]
fn what_cannot_be_judged_is_withheld() {
    let cells = counts(&[(4.0, true), (60.0, false), (30.0, false)], 0.0);
    let keys = one_key(3);
    let with = |change: &dyn Fn(&mut Vec<Keys>, &mut Vec<Cell>)| {
        let (mut keys, mut cells) = (keys.clone(), cells.clone());
        change(&mut keys, &mut cells);
        drawn(&protect(&keys, &cells).unwrap(), &cells)
    };
    assert_eq!(with(&|keys, _| keys[2] = vec![Some(1)]), "·××");
    assert_eq!(with(&|keys, _| keys[2] = vec![Some(2), None]), "·××");
    assert_eq!(with(&|keys, _| drop(keys.pop())), "·××");
    assert_eq!(with(&|_, cells| cells[1].value = f64::NAN), "·××");
    assert_eq!(with(&|_, cells| cells[1].half = f64::INFINITY), "·××");
    assert_eq!(with(&|_, cells| cells[1].half = -1.0), "·××");
}

#[test]
fn a_table_that_is_too_large_is_refused_whatever_is_withheld() {
    let large = two_keys(40, 40);
    let mut values = vec![(50.0, false); large.len()];
    for withheld in [false, true] {
        values[0].1 = withheld;
        assert_eq!(protect(&large, &counts(&values, 0.0)), Err(TooLarge::Cells { asked: 1_600, allowed: MOST_CELLS }));
    }
    // With its totals.
    let nearly = two_keys(31, 32);
    assert_eq!(protect(&nearly, &counts(&values[..nearly.len()], 0.0)), Err(TooLarge::Cells { asked: 1_056, allowed: MOST_CELLS }));
    let deep = vec![vec![Some(0); 5]];
    assert_eq!(protect(&deep, &counts(&values[..1], 0.0)), Err(TooLarge::Keys { asked: 5, allowed: MOST_KEYS }));
}

/// Distinct people of a total are fewer than those of its parts together: that is no contradiction.
#[test]
fn totals_need_not_add_up() {
    let keys = [one_key(3), vec![vec![None]]].concat();
    let cells = counts(&[(4.0, true), (60.0, false), (30.0, false), (71.0, false)], 0.0);
    assert_eq!(drawn(&protect(&keys, &cells).unwrap(), &cells), "·o×o");
}

#[test]
fn separate_groupings_know_their_common_total() {
    // GROUPING SETS ((a), (b)): no cell of both is known.
    let keys: Vec<Keys> = vec![vec![Some(0), None], vec![Some(1), None], vec![Some(2), None], vec![None, Some(0)], vec![None, Some(1)]];
    let cells = counts(&[(4.0, true), (60.0, false), (30.0, false), (50.0, false), (44.0, false)], 0.0);
    assert_eq!(drawn(&protect(&keys, &cells).unwrap(), &cells), "·o×oo");
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
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
    /// A table with some of its totals, in which what is below `minimum` is withheld, and here and there one more.
    fn table(&self, random: &mut Random, minimum: f64, unit: f64) -> Told {
        let mut keys: Vec<Keys> = vec![vec![]];
        for size in &self.sizes {
            keys = keys.iter().flat_map(|head| (0..*size).map(move |key| [head.as_slice(), &[Some(key)]].concat())).collect();
        }
        keys.retain(|_| self.absent == 0 || random.below(self.absent) > 0);
        let lowest = if self.signed { self.largest as f64 / 2.0 } else { 0.0 };
        let mut truth: Vec<f64> = keys.iter().map(|_| (random.below(self.largest) as f64 - lowest) / self.parts).collect();
        let finest = keys.clone();
        for totals in 1..1_u32 << self.sizes.len() {
            if random.below(3) > 0 {
                continue;
            }
            let total = |keys: &Keys| -> Keys { (0..keys.len()).map(|key| keys[key].filter(|_| totals >> key & 1 == 0)).collect() };
            for row in finest.iter().map(total).collect::<std::collections::BTreeSet<_>>() {
                truth.push(finest.iter().zip(&truth).filter(|(keys, _)| total(keys) == row).map(|(_, value)| value).sum());
                keys.push(row);
            }
        }
        let primary: Vec<bool> = truth.iter().map(|value| value.abs() < minimum || random.below(25) == 0).collect();
        Told { withheld: primary.clone(), keys, truth, unit, signed: self.signed, primary }
    }
}

/// Protects it; `None` where everything is withheld.
fn protected(mut told: Told, solved: usize) -> Option<Told> {
    let cells: Vec<Cell> = (told.truth.iter().zip(&told.primary))
        .map(|(value, withheld)| Cell { value: *value, half: told.unit / 2.0, nonnegative: !told.signed, withheld: *withheld })
        .collect();
    let extra = withhold(&told.keys, &cells, solved).unwrap();
    assert_eq!(extra, withhold(&told.keys, &cells, solved).unwrap(), "deterministic");
    assert!(extra.iter().zip(&told.primary).all(|(extra, primary)| !(*extra && *primary)), "in addition");
    told.withheld = extra.iter().zip(&told.primary).map(|(extra, primary)| *extra || *primary).collect();
    told.withheld.iter().any(|withheld| !withheld).then_some(told)
}

#[test]
fn an_attacker_with_a_solver_pins_nothing_down() {
    let mut random = Random(1);
    for (sizes, tables) in [(vec![6], 30), (vec![4, 5], 20), (vec![3, 3, 3], 6)] {
        for (unit, largest, parts, absent, signed) in [
            (0.0, 60, 1.0, 0, false),
            (5.0, 60, 1.0, 0, false),
            (10.0, 90, 1.0, 4, false),
            (0.0, 90, 1.0, 4, false),
            (0.0, 6_000, 64.0, 0, false),
            (2.0, 6_000, 64.0, 5, false),
            (0.0, 120, 1.0, 0, true),
            (5.0, 120, 1.0, 3, true),
            (0.0, 12_000, 64.0, 3, true),
        ] {
            let shape = Shape { sizes: sizes.clone(), largest, parts, absent, signed };
            for solved in [prove::SOLVED, 0] {
                attack(&shape, unit, solved, tables, &mut random);
            }
        }
    }
}

fn attack(shape: &Shape, unit: f64, solved: usize, tables: usize, random: &mut Random) {
    let (mut cells, mut primary, mut kept, mut hopeless) = (0, 0, 0, 0);
    for _ in 0..tables {
        let told = shape.table(random, 10.0, unit);
        cells += told.keys.len();
        primary += told.primary.iter().filter(|primary| **primary).count();
        let Some(told) = protected(told, solved) else { continue };
        kept += told.withheld.iter().filter(|withheld| !**withheld).count();
        for target in (0..told.keys.len()).filter(|row| told.primary[*row]) {
            let (value, far) = (told.truth[target], told.far(told.truth[target]));
            let wide = |withheld: &[bool], assuming| {
                let (low, high) = told.bounds(target, withheld, assuming);
                let below = value == 0.0 || low <= value - far + 1e-4;
                below && if value != 0.0 { high >= value + far - 1e-4 } else { high > 0.0 }
            };
            if !wide(&told.withheld, true) {
                hopeless += 1;
                let all = vec![true; told.keys.len()];
                assert!(!wide(&all, true), "{value}: {:?} {:?} {:?}", told.keys, told.truth, told.withheld);
                assert!(wide(&told.withheld, false), "from what is told alone: {value}: {:?} {:?}", told.keys, told.withheld);
            }
            told.check_parts(target);
        }
    }
    let Shape { sizes, parts, absent, signed, .. } = shape;
    println!(
        "{sizes:?}, unit {unit}, 1/{absent} absent, parts of {parts}, signed {signed}, {solved}: of {cells} cells {primary} withheld by rule, \
         {kept} told; {hopeless} are told by totals whatever is withheld"
    );
}

#[test]
fn going_through_all_tables_pins_nothing_down() {
    let mut random = Random(2);
    for (sizes, tables, largest) in [(vec![4], 80, 14), (vec![2, 3], 60, 12), (vec![3, 3], 20, 8), (vec![2, 2, 2], 40, 8)] {
        for unit in [0.0, 5.0] {
            let shape = Shape { sizes: sizes.clone(), largest, parts: 1.0, absent: 0, signed: false };
            for _ in 0..tables {
                let Some(told) = protected(shape.table(&mut random, 3.0, unit), prove::SOLVED) else { continue };
                let possible = told.possible();
                for target in (0..told.keys.len()).filter(|row| told.primary[*row] && told.keys[*row].iter().all(Option::is_some)) {
                    let (value, possible) = (told.truth[target], &possible[target]);
                    let (low, high) = (*possible.first().unwrap() as f64, *possible.last().unwrap() as f64);
                    let wide = low <= value * 0.9 && high >= (value * 1.1).max(1.0);
                    let whatever = || {
                        let (low, high) = told.bounds(target, &vec![true; told.keys.len()], true);
                        low > value * 0.9 || high < (value * 1.1).max(value + 1.0)
                    };
                    assert!(
                        wide || sizes.len() == 3 && possible.len() > 1 || whatever(),
                        "{value} is in {possible:?}: {:?} {:?}",
                        told.keys,
                        told.truth
                    );
                }
            }
        }
    }
}
