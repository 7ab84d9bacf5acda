//! One column asked alone and beside another: two statements about the same groups, whose answers the attacker puts together.
//!
//! Population: tables of five groups, of which a quarter are of few; each group has incomes of its own
//! level, and in one of eight somebody makes nearly all. Knowledge: how many people each group has, exactly, and the total, asked
//! for by itself. Target: the sum of each group that a rule withholds. Score: tables in which one is held within a tenth by both answers
//! together; and those in which one of them tells all that the other withholds for the sake of totals.
//!
//! Written apart from the protector: of one key the bounds are the total without what the others are at most, or at least.

use concordat_policy::Disclosure;

use super::*;
use crate::primary::{self, Reason};
use crate::units::{Coarseness, Parts, Shift};
use crate::{Behind, Spread};

const GROUPS: usize = 5;
const MINIMUM: u32 = 10;

/// What each person of a group has.
type Group = Vec<f64>;

/// By which rule about single values it is.
fn reason(own: &Spread) -> Option<Reason> {
    primary::withheld(MINIMUM, &Disclosure::default(), &Behind { subjects: own.nonzero, spread: Some(*own) })
}

fn withheld(own: &Spread) -> bool {
    reason(own).is_some()
}

fn spread(own: &[f64]) -> Spread {
    let mut spread = Spread::default();
    own.iter().for_each(|own| spread.add(*own));
    spread
}

/// How many people each group has.
fn sizes(random: &mut Random) -> Vec<u64> {
    (0..GROUPS).map(|_| if random.below(4) == 0 { 1 + random.below(9) } else { 12 + random.below(60) }).collect()
}

fn draw(sizes: &[u64], random: &mut Random) -> Vec<Group> {
    let mut group = |many: &u64| -> Group {
        let level = [1.0, 3.0, 10.0, 30.0][usize::try_from(random.below(4)).unwrap()];
        let mut own: Group = (0..*many).map(|_| level * (20.0 + random.below(40_000) as f64 / 1_000.0)).collect();
        if random.below(8) == 0 {
            own[0] = 10.0 * own.iter().sum::<f64>();
        }
        own
    };
    sizes.iter().map(&mut group).collect()
}

/// What is told of a sum, rounded by a base; `None` for the sum as it is.
fn parts(own: &Spread, base: u32) -> Option<Parts> {
    Parts::new(Coarseness { base, of_mean: base }, own, own.absolute, Shift::default()).filter(|_| base > 1)
}

/// A column's cells, as `Protect` makes them: numbers, or sums.
fn column(groups: &[Group], base: u32, counted: bool) -> Values {
    let all: Vec<Spread> = groups.iter().map(|own| if counted { spread(&vec![1.0; own.len()]) } else { spread(own) }).collect();
    let half = |own: &Spread| match parts(own, base) {
        None => 0.0,
        Some(_) if counted => f64::from(base) / 2.0,
        Some(parts) => parts.half(),
    };
    let cell = |own: &Spread| {
        let told = parts(own, base);
        let (value, least) = told.map_or((own.absolute, own.absolute), |told| (told.value(), told.least()));
        match reason(own) {
            Some(Reason::Few) => Cell::Few,
            Some(_) => Cell::Large { value: own.absolute },
            None => Cell::Told { value, half: half(own), least: least.min(value) },
        }
    };
    let told = || all.iter().filter(|own| !withheld(own));
    let (size, people) = told().fold((0.0, 0.0), |(size, people), own| (size + own.absolute, people + own.nonzero as f64));
    let few = all.iter().filter(|own| reason(own) == Some(Reason::Few)).map(|own| own.absolute);
    let finest = told().map(half).fold(f64::INFINITY, f64::min);
    let column = Column {
        whole: counted,
        few: most_of_few(9.0 * size / f64::max(people, 1.0), few),
        half: if finest.is_finite() { finest } else { 0.0 },
    };
    Values { column, cells: all.iter().map(cell).collect(), counted }
}

/// Between which bounds a sum is that is told, for whoever knows how many have a part of it.
fn bounds(own: &Spread, base: u32) -> (f64, f64) {
    let people = own.nonzero as f64;
    parts(own, base)
        .map_or((own.absolute, own.absolute), |told| (people * (told.each - told.unit / 2.0), people * (told.each + told.unit / 2.0)))
}

#[test]
fn a_column_alone_and_beside_another_tell_no_more_than_alone() {
    for (base, tables) in [(1, 600), (5, 1_200)] {
        let (mut random, mut pinned, mut undone, mut targets, mut told, mut large) = (Random(11), 0, 0, 0, 0, 0);
        for _ in 0..tables {
            let sizes = sizes(&mut random);
            let (groups, others) = (draw(&sizes, &mut random), draw(&sizes, &mut random));
            let (numbers, others, sums) = (column(&groups, base, true), column(&others, base, false), column(&groups, base, false));
            let statement = |columns: &[Values]| protect_all(&one_key(5), columns, &forever).unwrap().all;
            let (alone, beside) = (statement(std::slice::from_ref(&sums)), statement(&[numbers, others, sums]));
            let all: Vec<Spread> = groups.iter().map(|own| spread(own)).collect();
            let told_by = |also: &[bool], group: usize| !withheld(&all[group]) && !also[group];
            let known = |group: usize| (told_by(&alone, group) || told_by(&beside, group)).then(|| bounds(&all[group], base));
            let (from, to) = bounds(&spread(&groups.concat()), base);
            large += all.iter().filter(|own| !withheld(own)).count();
            told += (0..GROUPS).filter(|group| told_by(&beside, *group)).count();
            let held = |target: usize| {
                let others = || (0..GROUPS).filter(move |group| *group != target).map(known);
                let least: f64 = others().map(|known| known.map_or(0.0, |(from, _)| from)).sum();
                let most: f64 = others().map(|known| known.map_or(f64::INFINITY, |(_, to)| to)).sum();
                let value = all[target].absolute;
                from - most > 0.9 * value && to - least < 1.1 * value
            };
            let of: Vec<usize> = (0..GROUPS).filter(|group| withheld(&all[*group])).collect();
            targets += usize::from(!of.is_empty());
            undone += usize::from(alone.contains(&true) && (0..GROUPS).all(|group| !alone[group] || told_by(&beside, group)));
            pinned += usize::from(of.into_iter().any(held));
        }
        println!(
            "base {base}: of {targets} tables with a withheld sum {pinned} tell one, {undone} all partners; {told} of {large} sums told beside others"
        );
        assert!(targets > tables / 2 && pinned == 0 && undone == 0, "base {base}: {pinned} and {undone} of {targets}");
        // Not by withholding everything.
        assert!(told * 10 > large * 3, "base {base}: {told} of {large}");
    }
}
