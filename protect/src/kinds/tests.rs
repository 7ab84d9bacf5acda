use super::*;
use crate::testing::Random;

use microlp::{ComparisonOp, OptimizationDirection, Problem, Variable};

const MINIMUM: u64 = 10;

fn kinds(of: &[(u64, u64)]) -> Kinds {
    let mut kinds = Kinds::default();
    of.iter().for_each(|(row, number)| kinds.add(vec![*row], People { number: *number, keys: 0 }));
    kinds
}

const APART: Stand = Stand { within: false, around: false };
const SAME: Stand = Stand { within: true, around: true };

fn told_of(of: &[(u64, u64)], conditions: u32, stand: impl Fn(u32, u32) -> Stand) -> Vec<u32> {
    told(&[kinds(of)], &(0..conditions).collect::<Vec<_>>(), stand, |people| people.number >= MINIMUM, || true)
}

/// The same of people whose rows meet these.
fn told_of_rows(of: &[(&[u64], u64)], conditions: u32, stand: impl Fn(u32, u32) -> Stand) -> Vec<u32> {
    let mut kinds = Kinds::default();
    let somebody = of.iter().filter(|(_, number)| *number > 0);
    somebody.for_each(|(rows, number)| kinds.add(rows.to_vec(), People { number: *number, keys: 0 }));
    told(&[kinds], &(0..conditions).collect::<Vec<_>>(), stand, |people| people.number >= MINIMUM, || true)
}

/// Nobody is as few: which of the two it is does not show.
#[test]
fn two_conditions_differ_by_enough_each_way() {
    let (within, around) = (Stand { within: true, ..APART }, Stand { around: true, ..APART });
    for few in 0..MINIMUM {
        for (stand, of, expected) in [
            (APART, [50, few, 200, 300], vec![0]),
            (APART, [50, 200, few, 300], vec![0]),
            (APART, [50, 10, 10, few], vec![0, 1]),
            (within, [50, few, 200, 300], vec![0, 1]),
            (within, [50, 200, few, 300], vec![0]),
            (around, [50, 200, few, 300], vec![0, 1]),
            (around, [50, few, 200, 300], vec![0]),
            (SAME, [50, few, few, 300], vec![0, 1]),
        ] {
            let of: Vec<(u64, u64)> = (0..).zip(of).collect();
            assert_eq!(told_of(&of, 2, |_, _| stand), expected, "{stand:?} {of:?}");
        }
    }
}

/// Also where nobody can be: of opposites the second gives way, as the statement can choose who meets neither.
#[test]
fn who_meets_none_of_a_rows_conditions_are_enough() {
    for few in 0..MINIMUM {
        for (of, expected) in [
            (vec![(0b000, few), (0b001, 40), (0b010, 50), (0b100, 60)], vec![0, 1]),
            (vec![(0b00, few), (0b01, 40), (0b10, 50)], vec![0]),
            // A later one is told beside the first where the second gave way.
            (vec![(0b000, few), (0b001, 40), (0b101, 30), (0b010, 50), (0b110, 20)], vec![0, 2]),
        ] {
            assert_eq!(told_of(&of, 3, |_, _| APART), expected, "{of:?}");
        }
    }
    assert_eq!(told_of(&[(0b000, 10), (0b001, 40), (0b010, 50), (0b100, 60)], 3, |_, _| APART), [0, 1, 2]);
}

/// `A`, `B` and "A or B" tell of who meets both; four conditions of who meets them in some other way.
#[test]
fn what_several_conditions_tell_together_is_of_enough() {
    // The second of the pair holds wherever the first does.
    let within = |pairs: &'static [(u32, u32)]| {
        move |one: u32, other: u32| Stand { within: pairs.contains(&(one, other)), around: pairs.contains(&(other, one)) }
    };
    for few in [0, 1, 9, 10] {
        let told_where_enough = |all: Vec<u32>| if few < MINIMUM { all[..all.len() - 1].to_vec() } else { all };
        let or = [(0b000, 900), (0b101, 40), (0b110, 50), (0b111, few)];
        assert_eq!(told_of(&or, 3, within(&[(0, 2), (1, 2)])), told_where_enough(vec![0, 1, 2]), "{few}");
        // 0 + 1 - 2 - 3: twelve others meet the first two alone, but of no three it can be told.
        let four = [(0, 900), (0b0101, 40), (0b0110, 50), (0b1001, 30), (0b1010, 60), (0b1111, 80), (0b0011, few)];
        assert_eq!(told_of(&four, 4, |_, _| APART), told_where_enough(vec![0, 1, 2, 3]), "{few}");
        // With somebody for whom the sum is below zero there is no telling.
        let or = [(0b000, 900), (0b101, 40), (0b110, 50), (0b111, few), (0b100, 1)];
        assert_eq!(told_of(&or, 3, within(&[(0, 2), (1, 2)])), [0, 1, 2], "{few}");
    }
}

/// Rows that meet each of two conditions do not hide those that meet both, as counts add rows.
#[test]
fn few_who_have_a_row_that_meets_both_are_not_hidden_by_their_other_rows() {
    let within = |one: u32, other: u32| Stand { within: one < 2 && other == 2, around: one == 2 && other < 2 };
    for few in [0, 1, 9, 10] {
        let of: [(&[u64], u64); 4] = [(&[0b101, 0b110], 60), (&[0b101, 0b110, 0b111], few), (&[0b101], 60), (&[0], 60)];
        let expected = if few < MINIMUM { vec![0, 1] } else { vec![0, 1, 2] };
        assert_eq!(told_of_rows(&of, 3, within), expected, "{few}");
    }
}

/// Numbers of periods of the same people are told side by side, of nearly the same people not: whoever else has one row in each is not
/// among those by whom they differ.
#[test]
fn periods_of_the_same_people_are_told_side_by_side() {
    for (of_one, expected) in [(0, vec![0, 1]), (1, vec![0]), (9, vec![0]), (10, vec![0, 1])] {
        let of: [(&[u64], u64); 3] = [(&[0b01, 0b10], 50), (&[0b10], of_one), (&[0b00], 20)];
        assert_eq!(told_of_rows(&of, 2, |_, _| APART), expected, "{of_one}");
    }
    let people: Kinds = {
        let mut kinds = Kinds::default();
        kinds.add(vec![0b10, 0b01, 0b10], People { number: 5, keys: 3 });
        kinds.add(vec![0b01, 0b10], People { number: 1, keys: 1 });
        kinds
    };
    assert_eq!(people.iter().collect::<Vec<_>>(), [(&[0b01, 0b10][..], People { number: 6, keys: 4 })]);
    assert!(!people.all_meet(0) && kinds(&[(0b11, 4), (0b01, 2)]).all_meet(0));
}

/// Of a number that holds wherever others do, by what they say, the rest is its own, whatever is known of that.
#[test]
fn who_meets_none_is_the_rest_of_the_one_around() {
    let within = |one: u32, other: u32| Stand { within: (one, other) == (0, 1), around: (one, other) == (1, 0) };
    assert_eq!(told_of(&[(0b10, 50), (0b11, 60)], 2, within), [0, 1]);
    assert_eq!(told_of(&[(0b010, 50), (0b011, 60), (0b100, 30)], 3, within), [0, 1]);
}

#[test]
fn without_time_the_first_is_told() {
    let of = kinds(&[(0b00, 50), (0b01, 60), (0b10, 70)]);
    let told_in = |time: bool| told(std::slice::from_ref(&of), &[0, 1], |_, _| APART, |people| people.number >= MINIMUM, || time);
    assert_eq!((told_in(true), told_in(false)), (vec![0, 1], vec![0]));
}

/// Several numbers under one condition, of which some lack a few values, are not compared with each other, nor in one sum.
#[test]
fn numbers_under_the_same_condition_are_all_told() {
    let same = |one: u32, other: u32| if one / 2 == other / 2 { SAME } else { APART };
    let of = [(0, 900), (0b0011, 40), (0b0001, 3), (0b1100, 50), (0b0100, 2), (0b1111, 30)];
    assert_eq!(told_of(&of, 4, same), [0, 1, 2, 3]);
    assert_ne!(told_of(&of, 4, |_, _| APART), [0, 1, 2, 3]);
}

/// Said again, sum by sum with the number of all, of people drawn at random.
#[test]
fn what_is_told_is_told_by_no_sum_of_few() {
    arbtest::arbtest(|u| {
        let many: u32 = u.int_in_range(2..=5)?;
        let of: Vec<(u64, u64)> = (0..u.int_in_range(1..=12)?)
            .map(|_| Ok((u.int_in_range(0..=(1 << many) - 1)?, u.int_in_range(1..=25)?)))
            .collect::<arbtest::arbitrary::Result<_>>()?;
        let number = |is: &dyn Fn(u64) -> bool| of.iter().filter(|(kind, _)| is(*kind)).map(|(_, number)| number).sum::<u64>();
        let few = |told: &[u32]| {
            let all = told.iter().fold(0, |bits, one| bits | bit(*one));
            let apart = |one: u32, other: u32| number(&|kind| meets(kind, one) && !meets(kind, other)) >= MINIMUM;
            (told.len() > 1 && number(&|kind| kind & all == 0) < MINIMUM)
                || told.iter().any(|one| told.iter().any(|other| one != other && !apart(*one, *other)))
                || (0..3_u32.pow(many + 1)).any(|sum| {
                    let times = |place: u32| i64::from(sum / 3_u32.pow(place) % 3) - 1;
                    let of_kind = |kind: u64| times(many) + (0..many).filter(|one| meets(kind, *one)).map(times).sum::<i64>();
                    let conditions = (0..many).filter(|one| times(*one) != 0).collect::<Vec<_>>();
                    conditions.len() > 1
                        && conditions.iter().all(|one| told.contains(one))
                        && of.iter().all(|(kind, _)| of_kind(*kind) >= 0)
                        && number(&|kind| of_kind(kind) > 0) < MINIMUM
                })
        };
        let mut expected = Vec::new();
        for one in 0..many {
            expected.push(one);
            if few(&expected) {
                expected.pop();
            }
        }
        assert_eq!(told_of(&of, many, |_, _| APART), expected, "{of:?}");
        Ok(())
    });
}

/// Where more sums are possible than are looked at, a number is withheld rather than told unjudged.
#[test]
fn what_is_not_looked_at_is_withheld() {
    // Eight conditions, each with seven numbers that each lack another value, and everybody meets most: next to nothing is settled early.
    let same = |one: u32, other: u32| if one / 7 == other / 7 { SAME } else { APART };
    let mut random = Random(5);
    let of: Vec<(u64, u64)> = std::iter::once((0, 5_000))
        .chain((0..400).map(|_| {
            let met = random.below(256) | random.below(256);
            let kind =
                (0..56).filter(|number| met >> (number / 7) & 1 == 1 && random.below(8) > 0).fold(0, |kind, number| kind | bit(number));
            (kind, 1 + random.below(3))
        }))
        .collect();
    let begun = std::time::Instant::now();
    let told = told_of(&of, 56, same);
    println!("{} of 56 told in {:?}", told.len(), begun.elapsed());
    assert!(!told.is_empty() && begun.elapsed() < std::time::Duration::from_secs(20), "{told:?}");
    let sums = |left, looks| {
        let (conditions, same, settled) = (vec![0, 1, 2], vec![0; 3], vec![vec![(vec![0b111], People { number: 50, keys: 0 })]; 3]);
        Sums { conditions, same, settled, enough: &|_: People| true, left, looks }.are_enough()
    };
    assert!(sums(99, 99) && !sums(1, 99) && !sums(99, 1), "what is not looked at is not told");
}

#[test]
fn each_way_to_count_the_same_people_must_be_enough() {
    let (people, firms) = (kinds(&[(0b00, 50), (0b01, 90), (0b10, 90)]), kinds(&[(0b00, 20), (0b01, 2), (0b10, 12)]));
    let told_of = |kinds: &[Kinds]| told(kinds, &[0, 1], |_, _| APART, |people| people.number >= MINIMUM, || true);
    assert_eq!((told_of(std::slice::from_ref(&people)), told_of(&[people, firms]), told_of(&[])), (vec![0, 1], vec![0], vec![0, 1]));
}

#[test]
fn keys_of_a_difference_are_those_of_a_question_for_just_them() {
    let mut kinds = Kinds::default();
    kinds.add(vec![0b01], People { number: 9, keys: u64::MAX });
    kinds.add(vec![0b01], People { number: 2, keys: 4 });
    kinds.add(vec![0b11], People { number: 40, keys: 7 });
    let mut other = Kinds::default();
    other.add(vec![0b01], People { number: 1, keys: 1 });
    kinds.merge(&other);
    let asked = std::cell::RefCell::new(Vec::new());
    let enough = |people: People| {
        asked.borrow_mut().push(people);
        true
    };
    assert_eq!(told(&[kinds], &[0, 1], |_, _| APART, enough, || true), [0, 1]);
    assert!(asked.borrow().contains(&People { number: 12, keys: 4 }), "{asked:?}");
}

const REGIONS: usize = 10;
const FEW: usize = 3;
const COUNTRIES: usize = 100;
/// How numbers are told.
const BASE: u64 = 5;
/// One in nine, and three standard deviations of chance.
const MOST_FOUND: f64 = 1.0 / 9.0 + 0.055;

/// From where to where a region can be, for whoever knows sums of regions as they are told.
fn bounds(told: &[(Vec<usize>, u64)], few: impl Fn(usize) -> bool, target: usize) -> (f64, f64) {
    let end = |direction| {
        let mut problem = Problem::new(direction);
        let weight = |region| if region == target { 1.0 } else { 0.0 };
        let range = |region| if few(region) { (0.0, 9.0) } else { (10.0, 1e4) };
        let regions: Vec<Variable> = (0..REGIONS).map(|region| problem.add_var(weight(region), range(region))).collect();
        for (of, value) in told {
            let sum = || of.iter().map(|region| (regions[*region], 1.0));
            problem.add_constraint(sum(), ComparisonOp::Ge, *value as f64 - 2.0);
            problem.add_constraint(sum(), ComparisonOp::Le, *value as f64 + 2.0);
        }
        problem.solve().expect("the truth is a solution").into_solution().expect("without a limit").objective()
    };
    (end(OptimizationDirection::Minimize), end(OptimizationDirection::Maximize))
}

/// Game. Population: a hundred countries of ten regions, three of which have fewer people than the minimum. Knowledge: which these are, and
/// the table by regions, as it is told. Target: how many are in each of the three. Score: how many of them are told within a tenth, so exactly,
/// by one statement with so many numbers, each of a random half of the regions; guessing right without it is one in nine.
#[test]
fn one_statement_tells_little_more_of_few_than_guessing() {
    for (conditions, judged, most) in [(44, false, None), (8, false, None), (8, true, Some(MOST_FOUND))] {
        let (mut random, mut right, mut of, mut answered) = (Random(17), 0, 0, 0);
        for _ in 0..COUNTRIES {
            let few = |region: usize| region < FEW;
            let people: Vec<u64> =
                (0..REGIONS).map(|region| if few(region) { 1 + random.below(9) } else { 12 + random.below(70) }).collect();
            let halves: Vec<u64> = (0..conditions).map(|_| random.below(1 << REGIONS)).collect();
            let number = |half: u64| (0..REGIONS).filter(|region| half >> region & 1 == 1).map(|region| people[region]).sum::<u64>();
            let mut kinds = Kinds::default();
            for (region, number) in people.iter().enumerate() {
                let kind =
                    (0..).zip(&halves).filter(|(_, half)| **half >> region & 1 == 1).fold(0, |kind, (condition, _)| kind | bit(condition));
                kinds.add(vec![kind], People { number: *number, keys: 0 });
            }
            let all = (1 << REGIONS) - 1;
            let alone = |half: u64| number(half) >= MINIMUM && number(all & !half) >= MINIMUM;
            let would_be: Vec<u32> = (0..).zip(&halves).filter(|(_, half)| alone(**half)).map(|(condition, _)| condition).collect();
            let enough = |people: People| people.number >= MINIMUM;
            let shown = if judged { told(&[kinds], &would_be, |_, _| APART, enough, || true) } else { would_be };
            answered += shown.len();
            let rounded = |half: u64| (number(half) + BASE / 2) / BASE * BASE;
            let regions = |half: u64| (0..REGIONS).filter(|region| half >> region & 1 == 1).collect::<Vec<_>>();
            let table = (FEW..REGIONS).map(|region| 1 << region).chain([all]);
            let known: Vec<(Vec<usize>, u64)> =
                shown.iter().map(|one| halves[*one as usize]).chain(table).map(|half| (regions(half), rounded(half))).collect();
            for (target, number) in people.iter().enumerate().take(FEW) {
                let (from, to) = bounds(&known, few, target);
                of += 1;
                right += usize::from(((from + to) / 2.0).round() as u64 == *number);
            }
        }
        println!("{conditions} conditions, judged together {judged}: {answered} told; of {of} numbers of few {right} found");
        assert!(most.is_none_or(|most| (right as f64) < f64::from(of) * most), "{right} of {of}");
    }
}
