//! Earlier results about the same people: the attacker asks several questions, each of which is protected by itself, and puts all answers
//! together. What he was told before or after changes no answer, so their order is of no matter.
//!
//! Written apart from the protector: unknown are the values of the finest groups and how many contribute to them, and everything told is an
//! inequality over both. He asks for numbers and sums, and knows to which step each mean was rounded: with each number that he takes to be
//! possible he knows a sum to half a step of each mean.

use std::collections::{BTreeMap, BTreeSet};

use concordat_policy::Disclosure;
use microlp::{ComparisonOp, OptimizationDirection, Problem, Variable};

use super::*;
use crate::primary::{self, Reason};
use crate::units::{Coarseness, Parts, Shift};
use crate::{Behind, Spread};

const MINIMUM: u32 = 10;
const BASE: u32 = 5;

/// A group: of each of three keys its value, `None` where it is a total over the key.
type Group = [Option<u32>; 3];

/// What each person has, by group of all keys.
struct People(BTreeMap<[u32; 3], Vec<f64>>);

/// What is told of a group.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Told(Parts),
    Withheld,
    Also,
}

/// A value as it is told.
fn told_as(spread: &Spread) -> Parts {
    let parts = Parts::new(Coarseness { base: BASE, of_mean: BASE }, spread, spread.absolute, Shift::default());
    parts.unwrap_or(Parts { people: 0, each: 0.0, unit: 0.0, base: BASE })
}

/// Half of how closely it is known, by itself. That each has one row everybody knows.
fn half(parts: &Parts, whole: bool) -> f64 {
    if whole { f64::from(BASE) / 2.0 } else { parts.half() }
}

impl People {
    /// By two keys some groups are of few; `own` draws what a person has, by his place in his group of two keys and a number of that.
    fn draw(sizes: [u32; 3], random: &mut Random, own: impl Fn(usize, u64, &mut Random) -> f64) -> Self {
        let [first, second, third] = sizes;
        let mut people: BTreeMap<[u32; 3], Vec<f64>> = BTreeMap::new();
        for (one, other) in (0..first).flat_map(|one| (0..second).map(move |other| (one, other))) {
            (0..third).for_each(|third| drop(people.insert([one, other, third], Vec::new())));
            let number = if random.below(4) == 0 { random.below(10) } else { 12 + random.below(100) };
            let kind = random.below(1_000);
            for place in 0..number as usize {
                // Unevenly.
                let third = (random.below(u64::from(third)) * random.below(3) / 2) as u32;
                people.get_mut(&[one, other, third]).unwrap().push(own(place, kind, random));
            }
        }
        Self(people)
    }

    fn under(&self, group: &Group) -> Vec<usize> {
        let covers = |cell: &[u32; 3]| group.iter().zip(cell).all(|(key, value)| key.is_none_or(|key| key == *value));
        (0..).zip(self.0.keys()).filter(|(_, cell)| covers(cell)).map(|(place, _)| place).collect()
    }

    fn spread(&self, group: &Group) -> Spread {
        let all: Vec<&Vec<f64>> = self.0.values().collect();
        let mut spread = Spread::default();
        self.under(group).into_iter().flat_map(|place| all[place]).for_each(|own| spread.add(*own));
        spread
    }

    fn groups(&self, set: u8) -> BTreeSet<Group> {
        let of = |cell: &[u32; 3]| std::array::from_fn(|key| (set >> key & 1 == 1).then_some(cell[key]));
        self.0.keys().map(of).collect()
    }

    fn withheld(&self, group: &Group) -> Option<Reason> {
        let spread = self.spread(group);
        primary::withheld(MINIMUM, &Disclosure::default(), &Behind { subjects: spread.nonzero, spread: Some(spread) })
    }

    /// What a statement with these grouping sets is answered, protected as `Protect` does it. A set is the bits of its keys.
    fn ask(&self, sets: &[u8], whole: bool) -> Vec<(Group, Answer)> {
        let keys = sets.iter().fold(0, |keys, set| keys | set);
        let groups: Vec<Group> = sets.iter().flat_map(|set| self.groups(*set)).collect();
        let spreads: Vec<Spread> = groups.iter().map(|group| self.spread(group)).collect();
        let reasons: Vec<Option<Reason>> = groups.iter().map(|group| self.withheld(group)).collect();
        let cell = |(spread, reason): (&Spread, &Option<Reason>)| {
            let parts = told_as(spread);
            match reason {
                Some(Reason::Few) => Cell::Few,
                Some(_) => Cell::Large { value: parts.value() },
                None => {
                    let ones = Parts { each: 1.0, unit: 0.0, ..parts };
                    let least = if whole { ones.least() } else { parts.least() };
                    Cell::Told { value: parts.value(), half: half(&parts, whole), least }
                }
            }
        };
        let cells: Vec<Cell> = spreads.iter().zip(&reasons).map(cell).collect();
        let told = || spreads.iter().zip(&reasons).filter(|(_, reason)| reason.is_none()).map(|(spread, _)| spread);
        let (size, number) = told().fold((0.0, 0.0), |(size, number), of| (size + of.absolute, number + of.nonzero as f64));
        let few = spreads.iter().zip(&reasons).filter(|(_, reason)| **reason == Some(Reason::Few)).map(|(spread, _)| spread.absolute);
        let finest = told().map(|spread| half(&told_as(spread), whole)).fold(f64::INFINITY, f64::min);
        let finest = if finest.is_finite() { finest } else { 0.0 };
        let column = Column { whole, few: most_of_few(9.0 * size / f64::max(number, 1.0), few), half: finest };
        let place = |group: &Group| -> Keys { (0..3).filter(|key| keys >> key & 1 == 1).map(|key| group[key]).collect() };
        let also = match keys {
            0 => vec![false; groups.len()],
            _ => protect(&groups.iter().map(place).collect::<Vec<_>>(), &column, &cells, &forever).unwrap(),
        };
        let answer = |(place, also): (usize, bool)| match (reasons[place], also) {
            (Some(_), _) => Answer::Withheld,
            (None, true) => Answer::Also,
            (None, false) => Answer::Told(told_as(&spreads[place])),
        };
        groups.iter().copied().zip(also.into_iter().enumerate().map(answer)).collect()
    }

    /// The same people, of whom each counts once.
    fn ones(&self) -> Self {
        Self(self.0.iter().map(|(cell, own)| (*cell, vec![1.0; own.len()])).collect())
    }

    /// From where to where what a group has can be, by sums and by numbers that are told.
    fn bounds(&self, target: &Group, sums: &[(Group, Parts)], numbers: &[(Group, Parts)], whole: bool) -> (f64, f64) {
        let mine: BTreeSet<usize> = self.under(target).into_iter().collect();
        let solve = |direction| {
            let mut problem = Problem::new(direction);
            let weight = |place: usize, is: bool| if is && mine.contains(&place) { 1.0 } else { 0.0 };
            let own: Vec<Variable> = (0..self.0.len()).map(|place| problem.add_var(weight(place, !whole), (0.0, 1e6))).collect();
            let people: Vec<Variable> = (0..self.0.len()).map(|place| problem.add_var(weight(place, whole), (0.0, 1e6))).collect();
            for (group, told) in numbers {
                // Of 5, two below and two above are rounded to it.
                let (number, half) = (told.people as f64, f64::from(BASE / 2));
                let sum = || self.under(group).into_iter().map(|place| (people[place], 1.0));
                problem.add_constraint(sum(), ComparisonOp::Ge, number - half);
                problem.add_constraint(sum(), ComparisonOp::Le, number + half);
            }
            for (group, told) in sums {
                let sum = |each: f64| {
                    let parts = self.under(group).into_iter();
                    parts.flat_map(|place| [(own[place], 1.0), (people[place], -each)]).collect::<Vec<_>>()
                };
                problem.add_constraint(sum(told.each - told.unit / 2.0), ComparisonOp::Ge, 0.0);
                problem.add_constraint(sum(told.each + told.unit / 2.0), ComparisonOp::Le, 0.0);
            }
            problem.solve().expect("the truth is a solution").into_solution().expect("without a limit").objective()
        };
        (solve(OptimizationDirection::Minimize), solve(OptimizationDirection::Maximize))
    }
}

/// Groups that a rule withholds; of how many of them one bound is nearer than a tenth, and of how many both are.
#[derive(Default)]
struct Found {
    targets: usize,
    nearer: usize,
    held: usize,
}

impl Found {
    fn attack(&mut self, people: &People, statements: &[&[u8]], whole: bool) {
        let (mut told, mut withheld) = (Vec::new(), BTreeSet::new());
        for (group, answer) in statements.iter().flat_map(|sets| people.ask(sets, whole)) {
            match answer {
                Answer::Told(parts) => told.push((group, parts)),
                Answer::Withheld => drop(withheld.insert(group)),
                Answer::Also => {}
            }
        }
        assert!(!told.is_empty());
        // Beside sums he asks how many they are, of groups too whose sums are withheld.
        let ones = people.ones();
        let of_ones = statements.iter().filter(|_| !whole).flat_map(|sets| ones.ask(sets, true));
        let numbers = of_ones.filter_map(|(group, answer)| if let Answer::Told(parts) = answer { Some((group, parts)) } else { None });
        let (sums, numbers) = if whole { (Vec::new(), told) } else { (told.clone(), told.into_iter().chain(numbers).collect()) };
        for target in withheld {
            let value = people.spread(&target).absolute;
            let far = if whole { (value / 10.0).ceil().max(1.0) } else { value / 10.0 };
            let (low, high) = people.bounds(&target, &sums, &numbers, whole);
            // That nobody is in it can show only as a bound above.
            let near = [value == 0.0 || low > value - far + 1e-4, high < value + far - 1e-4 || value == 0.0 && high < 1e-4];
            // Others of a total have so little that they hide nothing, whatever is withheld.
            let hidden = |total: &Group| people.spread(total).absolute - value >= most_of_few(0.0, [value]) / 10.0;
            if totals(&target).iter().any(|total| people.withheld(total).is_none() && !hidden(total)) {
                continue;
            }
            self.targets += 1;
            self.nearer += usize::from(near[1] || value > 0.0 && near[0]);
            self.held += usize::from(near == [true, true]);
        }
    }
}

/// The totals that a group is a part of.
fn totals(group: &Group) -> BTreeSet<Group> {
    let over = |keys: u8| std::array::from_fn(|key| group[key].filter(|_| keys >> key & 1 == 0));
    (1..8).map(over).filter(|total: &Group| total != group).collect()
}

/// Statements, and of how many populations.
const GAMES: [(&str, usize, &[&[u8]]); 5] = [
    ("a table and its totals", 40, &[&[0b011], &[0b001], &[0b010], &[0]]),
    ("two of three keys", 20, &[&[0b011], &[0b101], &[0b110]]),
    ("all", 3, &[&[0b111], &[0b011], &[0b101], &[0b110], &[0b001], &[0b010], &[0b100], &[0]]),
    ("from coarse to fine", 3, &[&[0], &[0b001], &[0b010], &[0b011], &[0b101], &[0b111]]),
    ("rollups", 3, &[&[0b111, 0b011, 0b001, 0], &[0b111, 0b110, 0b100, 0], &[0b101, 0b001, 0]]),
];

/// Of counts; of incomes that are alike; of incomes of which somebody has nearly all here and there; of much or little, by group, so that
/// totals are told more finely than some of their parts are, and than is assumed of them. Where somebody has nearly all of a total too,
/// which a coarser table withholds with another, a finer one can tell of that other: one in twenty is held at most.
#[test]
fn several_results_hold_hardly_anything_together() {
    for (game, populations, statements) in GAMES {
        for kind in ["counts", "incomes", "giants", "much or little"] {
            let own = |place: usize, group: u64, random: &mut Random| match kind {
                "counts" => 1.0,
                "giants" if place == 0 && group < 120 => 30_000.0,
                "much or little" => 10_f64.powi((group % 5) as i32 - 2) * (1.0 + random.below(100) as f64 / 100.0),
                _ => 20.0 + random.below(40_000) as f64 / 1_000.0,
            };
            let (mut random, mut found) = (Random(7), Found::default());
            for _ in 0..populations {
                found.attack(&People::draw([3, 4, 3], &mut random, own), statements, kind == "counts");
            }
            let Found { targets, nearer, held } = found;
            println!("{game}, {kind}: of {targets} one bound of {nearer} is near, both of {held}");
            let most_held = if kind == "giants" { targets / 20 } else { 0 };
            let enough = targets > 0 && held <= most_held && nearer * 20 <= targets;
            assert!(enough, "{game}, {kind}: one bound of {nearer} is near, both of {held}, of {targets}");
        }
    }
}
