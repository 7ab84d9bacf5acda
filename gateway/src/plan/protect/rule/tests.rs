use std::collections::BTreeSet;
use std::time::Duration;

use concordat_policy::disclosure::{Dominance, Perturbation};
use concordat_protect::kinds::{self, Kinds};
use concordat_protect::noise::{Noise, record_key};
use datafusion::arrow::array::{AsArray as _, BinaryArray, FixedSizeBinaryArray, Float64Array, StringArray};
use datafusion::arrow::datatypes::{Field, Float64Type, Schema, UInt64Type};
use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};
use datafusion::prelude::col;

use super::super::super::kinds::bytes;
use super::super::bounds::Waiting;
use super::*;

/// Regions, each with what every one of its people contributes.
type People<'a> = &'a [(&'a str, &'a [f64])];

const HOUR: Duration = Duration::from_secs(3_600);

fn within(longest: Duration) -> (Bounds, Waiting) {
    let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
    Bounds::of(longest, &pool)
}

fn exact() -> Disclosure {
    Disclosure {
        dominance: BTreeSet::new(),
        p_percent: 0,
        round_to: 1,
        complement: Telling::Shown,
        margins: Margins::Open,
        ..Disclosure::default()
    }
}

/// A mean's number of values, and where it stands.
fn number_of(column: usize, contributors: usize, contributed: usize) -> Box<Value> {
    Box::new(Value {
        kind: Kind::Rows,
        column,
        contributors,
        contributed: vec![contributed],
        through: Vec::new(),
        rests: Vec::new(),
        number: None,
        condition: None,
        whole: true,
    })
}

fn left_over(others: usize, contributed: Vec<usize>) -> Rest {
    Rest { others, contributed, could: Vec::new(), chosen: Vec::new() }
}

/// A region, what is told of it, and what is not.
type Row = (String, [Option<f64>; 4], u64);

/// People, their number under a condition that all but `fail` meet, and what they contribute: sum and mean.
fn protected(rules: Disclosure, people: People<'_>, fail: u64, domain: &[&str]) -> Vec<Row> {
    protected_within(HOUR, rules, people, fail, domain)
}

fn protected_within(longest: Duration, rules: Disclosure, people: People<'_>, fail: u64, domain: &[&str]) -> Vec<Row> {
    let secret = Secret::new([3; 16]);
    // Nobody is in two regions.
    let contributed = |region: usize, own: &[f64]| {
        let mut all = Contributed::default();
        for (place, own) in own.iter().enumerate() {
            all.add(*own, &(region * 1_000 + place).to_le_bytes(), Some(&secret));
        }
        all.bytes()
    };
    let of_each = |own: &dyn Fn(&[f64]) -> Vec<f64>| -> Vec<Vec<u8>> {
        people.iter().enumerate().map(|(region, (_, all))| contributed(region, &own(all))).collect()
    };
    let counted = of_each(&|all| vec![1.0; all.len()]);
    let chosen = of_each(&|all| vec![1.0; all.len().saturating_sub(usize::try_from(fail).unwrap())]);
    let added = of_each(&<[f64]>::to_vec);
    let number = |own: &&[f64]| i64::try_from(own.len()).unwrap();
    let all: ArrayRef = Arc::new(people.iter().map(|(_, own)| number(own)).collect::<Int64Array>());
    let some: ArrayRef = Arc::new(people.iter().map(|(_, own)| number(own) - i64::try_from(fail).unwrap()).collect::<Int64Array>());
    let bytes = |of: &[Vec<u8>]| Arc::new(FixedSizeBinaryArray::try_from_iter(of.iter()).unwrap()) as ArrayRef;
    let sum = |own: &[f64]| own.iter().sum::<f64>();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("region", Arc::new(people.iter().map(|(region, _)| Some(*region)).collect::<StringArray>())),
        ("persons", all.clone()),
        ("some", some.clone()),
        ("sum", Arc::new(people.iter().map(|(_, own)| sum(own)).collect::<Float64Array>())),
        ("mean", Arc::new(people.iter().map(|(_, own)| sum(own)).collect::<Float64Array>())),
        ("all", all),
        ("chosen", some),
        ("others", Arc::new(people.iter().map(|_| i64::try_from(fail).unwrap()).collect::<Int64Array>())),
        ("counted", bytes(&counted)),
        ("added", bytes(&added)),
        ("counted of chosen", bytes(&chosen)),
    ];
    let groups = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap();
    let value = |kind, column, contributors, contributed| Value {
        kind,
        column,
        contributors,
        contributed: vec![contributed],
        through: Vec::new(),
        rests: (column == 2).then(|| left_over(7, Vec::new())).into_iter().collect(),
        number: (kind == Kind::Mean).then(|| number_of(5, 5, 8)),
        condition: None,
        whole: kind.counted(),
    };
    let values = vec![value(Kind::Rows, 1, 5, 8), value(Kind::Rows, 2, 6, 10), value(Kind::Sum, 3, 5, 9), value(Kind::Mean, 4, 5, 9)];
    let domain: Vec<_> = domain.iter().map(|region| Some(*region)).collect();
    let domain = (!domain.is_empty()).then(|| {
        let regions: ArrayRef = Arc::new(domain.into_iter().collect::<StringArray>());
        RecordBatch::try_from_iter_with_nullable([("k0", regions, true)]).unwrap()
    });
    let (known, kinds, mask) = (Vec::new(), Vec::new(), "m".into());
    let rule = Rule { keys: 1, sets: None, values, subjects: 5, known, kinds, minimum: 10, disclosure: rules, secret, domain, mask };
    let fields =
        groups.schema().fields().iter().take(5).cloned().chain([Arc::new(Field::new("m", DataType::UInt64, false))]).collect::<Vec<_>>();
    let told = rule.apply(&groups, Arc::new(Schema::new(fields)), &within(longest).0).unwrap();
    let masks = told.column(5).as_primitive::<UInt64Type>();
    let number = |column: usize, row: usize| {
        let column = cast(told.column(column), &DataType::Float64).unwrap();
        let column = column.as_primitive::<Float64Type>();
        column.is_valid(row).then(|| column.value(row))
    };
    let regions = told.column(0).as_string::<i32>();
    (0..told.num_rows())
        .map(|row| (regions.value(row).into(), [1, 2, 3, 4].map(|column| number(column, row)), masks.value(row) >> 1))
        .collect()
}

fn incomes(n: usize) -> Vec<f64> {
    (0..n).map(|i| 1000.0 + i as f64).collect()
}

#[test]
fn exact_numbers_of_enough_people_and_every_published_group() {
    let (many, few) = (incomes(12), incomes(9));
    let told = protected(exact(), &[("N", &many), ("S", &few), ("?", &few)], 3, &["N", "S", "W"]);
    let sum = many.iter().sum::<f64>();
    let shown: Vec<(&str, [Option<f64>; 4], u64)> = told.iter().map(|(region, values, mask)| (region.as_str(), *values, *mask)).collect();
    assert_eq!(
        shown,
        [("N", [Some(12.0), None, Some(sum), Some(sum / 12.0)], 0b10), ("S", [None; 4], 0b1111), ("W", [None; 4], 0b1111)],
        "nine of them met the condition"
    );
}

#[test]
fn sums_and_means_are_rounded_as_coarsely_as_counts() {
    let (many, ones) = (incomes(103), vec![1.0; 103]);
    let rules = Disclosure { round_to: 5, ..exact() };
    assert_eq!(protected(rules.clone(), &[("N", &ones)], 2, &[])[0].1, [Some(105.0), Some(100.0), Some(105.0), Some(1.0)]);
    let [_, _, Some(sum), Some(mean)] = protected(rules, &[("N", &many)], 2, &[])[0].1 else { panic!("nothing is withheld") };
    // Of a mean of 1,051 five contributions would be missed at 50, taken up to the next step.
    assert!(mean % 100.0 == 0.0 && sum == mean * 105.0, "{sum} {mean}");
    assert!((mean - many.iter().sum::<f64>() / 103.0).abs() <= 50.0, "{mean}");
}

#[test]
fn one_rule_withholds_where_the_others_would_tell() {
    let many = incomes(40);
    let firm: Vec<f64> = std::iter::once(1e6).chain(incomes(39)).collect();
    let few: Vec<f64> = [vec![5.0; 9], vec![0.0; 31]].concat();
    let zeros = |rules| protected(rules, &[("N", &many)], 0, &["N", "W"])[1].clone();
    for (rules, people, fail, mask) in [
        (Disclosure { dominance: [Dominance { largest: 1, share: 80 }].into(), ..exact() }, &firm, 10, 0b1100),
        (Disclosure { dominance: [Dominance { largest: 1, share: 80 }].into(), ..exact() }, &many, 10, 0),
        (Disclosure { p_percent: 10, ..exact() }, &firm, 10, 0b1100),
        // Few have anything of it.
        (exact(), &few, 10, 0b1100),
        (Disclosure { complement: Telling::Withheld, ..exact() }, &many, 9, 0b10),
        (Disclosure { complement: Telling::Withheld, ..exact() }, &many, 0, 0b10),
        (Disclosure { complement: Telling::Withheld, ..exact() }, &many, 10, 0),
        (Disclosure { homogeneous: Telling::Withheld, ..exact() }, &vec![7.0; 40], 10, 0b1100),
        (Disclosure { homogeneous: Telling::Withheld, ..exact() }, &many, 10, 0),
    ] {
        assert_eq!(protected(rules.clone(), &[("N", people)], fail, &[])[0].2, mask, "{rules:?}");
    }
    assert_eq!(zeros(exact()), ("W".into(), [None; 4], 0b1111));
    assert_eq!(zeros(Disclosure { zeros: Telling::Shown, ..exact() }), ("W".into(), [Some(0.0), Some(0.0), None, None], 0));
}

#[test]
fn a_withheld_value_cannot_be_had_from_the_total() {
    let (small, twenty, thirty) = (incomes(4), incomes(20), incomes(30));
    let regions: People<'_> = &[("N", &small), ("S", &twenty), ("W", &thirty)];
    let withheld = |rules| protected(rules, regions, 0, &["N", "S", "W"]).iter().filter(|(_, values, _)| values[0].is_none()).count();
    assert_eq!(withheld(exact()), 1);
    assert_eq!(withheld(Disclosure { margins: Margins::Protected, ..exact() }), 2);
    assert_eq!(withheld(Disclosure { margins: Margins::Protected, round_to: 5, ..exact() }), 1, "rounding hides it already");
}

/// Which others are withheld does not depend on whether there is anybody in a small group, or whether there is one that is not shown.
#[test]
fn what_else_is_withheld_tells_nothing_of_a_small_group() {
    let (twenty, thirty) = (incomes(20), incomes(30));
    for (round_to, domain) in [(1, vec!["N", "S", "W"]), (5, vec!["N", "S", "W"]), (1, vec![]), (5, vec![])] {
        let rules = Disclosure { margins: Margins::Protected, round_to, ..exact() };
        let masks = |few: &[f64]| -> Vec<(String, u64)> {
            let all: [(&str, &[f64]); 3] = [("N", few), ("S", &twenty), ("W", &thirty)];
            let told = protected(rules.clone(), if few.is_empty() { &all[1..] } else { &all }, 0, &domain);
            told.into_iter().map(|(region, _, mask)| (region, mask)).collect::<BTreeSet<_>>().into_iter().collect()
        };
        let nobody = masks(&[]);
        assert!(nobody.iter().any(|(_, mask)| *mask == 0), "{nobody:?}");
        for few in 1..10 {
            assert_eq!(masks(&incomes(few)), nobody, "{few} of few, rounded to {round_to}, of {domain:?}");
        }
    }
}

#[test]
fn without_time_all_is_withheld_and_only_where_totals_are_taken_to_be_known() {
    let (twenty, thirty) = (incomes(20), incomes(30));
    let withheld = |margins| {
        let rules = Disclosure { margins, round_to: 5, ..exact() };
        let told = protected_within(Duration::ZERO, rules, &[("S", &twenty), ("W", &thirty)], 2, &["S", "W"]);
        told.into_iter().map(|(_, values, mask)| (values.iter().all(Option::is_none), mask)).collect::<Vec<_>>()
    };
    assert_eq!(withheld(Margins::Protected), [(true, 0b1111); 2]);
    assert_eq!(withheld(Margins::Open), [(false, 0); 2]);
}

#[test]
fn the_same_people_get_the_same_noise_and_others_another() {
    let rules = Disclosure { perturbation: Some(Perturbation { variance: 4, most: 6 }), ..exact() };
    let counts = |people: People<'_>| protected(rules.clone(), people, 0, &[])[0].1[0].unwrap();
    let (many, more) = (incomes(50), incomes(51));
    assert!((0..20).all(|_| counts(&[("N", &many)]) == counts(&[("elsewhere", &many)])), "asking again tells nothing");
    let noise: BTreeSet<i64> = (22..72).map(|n| (counts(&[("N", &incomes(n))]) - n as f64) as i64).collect();
    assert!(noise.len() > 3 && noise.iter().all(|noise| (-6..=6).contains(noise)), "{noise:?}");
    let sums = |own: &[f64]| protected(rules.clone(), &[("N", own)], 0, &[])[0].1[2].unwrap() - own.iter().sum::<f64>();
    // Of its people, of the two largest of their contributions, and half of 200 for each.
    let most = 1.2 * (6.0 + 6.5 + 6.5) * 1_050.0 + 5_700.0;
    assert!(sums(&many).abs() <= most && sums(&more).abs() <= most);
}

#[test]
fn a_sum_beside_its_count_or_mean_does_not_tell_what_noise_hides() {
    let rules = Disclosure { perturbation: Some(Perturbation { variance: 4, most: 6 }), ..exact() };
    let [Some(n), _, Some(sum), Some(mean)] = protected(rules, &[("N", &incomes(50))], 0, &[])[0].1 else { panic!("nothing is withheld") };
    // A mean of which six contributions less would be missed, taken up to the next step; times the number as it is told.
    assert!(mean % 200.0 == 0.0 && sum == mean * n, "{sum} {mean} {n}");
}

/// One group: who contributes what, of one identifier type or of two, what a condition leaves over, and of a mean how many values each
/// has. The same places in these lists are the same people.
struct Group<'a> {
    kind: Kind,
    own: &'a [&'a [f64]],
    rest: Option<&'a [f64]>,
    values: &'a [f64],
}

const NOISY: Perturbation = Perturbation { variance: 4, most: 6 };

/// Without values.
fn ruled(disclosure: Disclosure) -> Rule {
    let (values, known, kinds, secret, mask) = (Vec::new(), Vec::new(), Vec::new(), Secret::new([3; 16]), "m".to_owned());
    Rule { keys: 0, sets: None, values, subjects: 1, known, kinds, minimum: 10, disclosure, secret, domain: None, mask }
}

/// What is told of it; `None` where it is withheld.
fn told(rules: Disclosure, group: &Group<'_>) -> Option<f64> {
    let secret = ruled(rules.clone()).secret;
    let contributed = |own: &[f64], way: u8| {
        let mut all = Contributed::default();
        own.iter().zip(0_u8..).for_each(|(own, subject)| all.add(*own, &[subject, way], Some(&secret)));
        Arc::new(FixedSizeBinaryArray::try_from_iter([all.bytes()].iter()).unwrap()) as ArrayRef
    };
    let number = |n: usize| Arc::new(Int64Array::from(vec![i64::try_from(n).unwrap()])) as ArrayRef;
    let total = |own: &[f64]| own.iter().sum::<f64>();
    let own: Vec<ArrayRef> = group.own.iter().zip(0_u8..).map(|(own, way)| contributed(own, way)).collect();
    let exact: ArrayRef = match group.kind {
        Kind::Sum | Kind::Mean => Arc::new(Float64Array::from(vec![total(group.own[0])])),
        Kind::Subjects | Kind::Rows => number(total(group.own[0]) as usize),
    };
    let rest = group.rest.unwrap_or_default();
    let mut columns = vec![exact, number(group.own[0].len()), number(rest.len()), contributed(rest, 0)];
    columns.extend([number(total(group.values) as usize), contributed(group.values, 0)]);
    columns.extend(own);
    let names = (0..columns.len()).map(|name| name.to_string());
    let groups = RecordBatch::try_from_iter_with_nullable(names.zip(columns).map(|(name, column)| (name, column, true))).unwrap();
    let value = Value {
        kind: group.kind,
        column: 0,
        contributors: 1,
        contributed: (6..6 + group.own.len()).collect(),
        through: Vec::new(),
        rests: group.rest.map(|_| left_over(2, vec![3])).into_iter().collect(),
        number: (group.kind == Kind::Mean).then(|| number_of(4, 1, 5)),
        condition: None,
        whole: group.kind.counted(),
    };
    let rule = Rule { values: vec![value], ..ruled(rules) };
    let fields = vec![groups.schema().field(0).clone(), Field::new("m", DataType::UInt64, false)];
    let told = rule.apply(&groups, Arc::new(Schema::new(fields)), &within(HOUR).0).unwrap();
    let told = cast(told.column(0), &DataType::Float64).unwrap();
    let told = told.as_primitive::<Float64Type>();
    told.is_valid(0).then(|| told.value(0))
}

/// A value of many alike is withheld where what a condition leaves over would be.
#[test]
fn the_rest_is_judged_as_the_value_is() {
    let (many, giant) = (incomes(40), std::iter::once(1e6).chain(incomes(39)).collect::<Vec<_>>());
    let (few, nothing): (&[f64], &[f64]) = (&many[..9], &[0.0; 40]);
    let some_add = [vec![5.0; 9], vec![0.0; 31]].concat();
    let judged = Disclosure { complement: Telling::Withheld, ..exact() };
    let dominance = Disclosure { dominance: [Dominance { largest: 1, share: 80 }].into(), ..judged.clone() };
    let homogeneous = Disclosure { homogeneous: Telling::Withheld, ..judged.clone() };
    let zeros = Disclosure { zeros: Telling::Shown, ..judged.clone() };
    for kind in [Kind::Sum, Kind::Mean] {
        for (rules, rest, shown) in [
            (&judged, &many[..], true),
            (&judged, few, false),
            (&judged, &[][..], false),
            (&judged, &some_add[..], false),
            (&judged, nothing, false),
            (&zeros, nothing, true),
            (&zeros, &[][..], false),
            (&dominance, &giant[..], false),
            (&dominance, &many[..], true),
            (&Disclosure { p_percent: 10, ..judged.clone() }, &giant[..], false),
            (&homogeneous, &[7.0; 40][..], false),
            (&exact(), &giant[..], true),
            (&exact(), &[][..], true),
        ] {
            let group = Group { kind, own: &[&many], rest: Some(rest), values: &[1.0; 40] };
            assert_eq!(told(rules.clone(), &group).is_some(), shown, "{kind:?} beside {rest:?} under {rules:?}");
        }
    }
    // Nor the rest of a number of rows, of which one person has nearly all.
    let rows: Vec<f64> = std::iter::once(500.0).chain(vec![1.0; 39]).collect();
    let counted = |rest: &[f64]| told(dominance.clone(), &Group { kind: Kind::Rows, own: &[&[1.0; 40]], rest: Some(rest), values: &[] });
    assert_eq!((counted(&rows), counted(&[1.0; 40][..])), (None, Some(40.0)));
}

/// A mean tells its number of values beside its sum.
#[test]
fn a_mean_is_withheld_where_one_person_has_nearly_all_of_its_values() {
    let (many, mut values) = (incomes(40), vec![1.0; 40]);
    let rules = Disclosure { dominance: [Dominance { largest: 1, share: 80 }].into(), ..exact() };
    let mean = |values: &[f64]| told(rules.clone(), &Group { kind: Kind::Mean, own: &[&many], rest: None, values });
    assert_eq!(mean(&values), Some(many.iter().sum::<f64>() / 40.0));
    values[0] = 500.0;
    assert_eq!(mean(&values), None);
}

/// With noise, with rounding and with both: a sum by its mean is the number as a count tells it.
#[test]
fn a_sum_by_its_mean_is_the_told_number_of_values() {
    let (values, even): (Vec<f64>, Vec<f64>) = ((1..=40).map(|n| f64::from(1 + n % 3)).collect(), vec![1.0; 40]);
    for (round_to, perturbation) in [(5, None), (1, Some(NOISY)), (5, Some(NOISY))] {
        let rules = Disclosure { round_to, perturbation, ..exact() };
        for values in [&values, &even] {
            for scale in [1.0, 3.0, 1e6] {
                let own: Vec<f64> = incomes(40).iter().map(|own| own * scale).collect();
                let of = |kind, own: &[f64]| told(rules.clone(), &Group { kind, own: &[own], rest: None, values }).unwrap();
                let number = of(Kind::Sum, &own) / of(Kind::Mean, &own);
                // A number of rows is told as a whole one.
                assert!((number - of(Kind::Rows, values)).abs() < 0.5 + 1e-6, "{number} under {rules:?}");
            }
        }
    }
}

/// The same people and contributions get the same noise; another contribution of one of them another; who adds nothing none.
#[test]
fn noise_is_of_people_and_of_their_contributions() {
    let rules = Disclosure { perturbation: Some(NOISY), ..exact() };
    let noise = |kind, own: &[f64]| {
        let exact = own.iter().sum::<f64>();
        told(rules.clone(), &Group { kind, own: &[own], rest: None, values: &[] }).unwrap() - exact
    };
    let ones = vec![1.0; 40];
    let with_nobody = [ones.clone(), vec![0.0; 7]].concat();
    assert_eq!(noise(Kind::Rows, &ones), noise(Kind::Rows, &with_nobody), "who contributes nothing makes no other noise");
    assert_eq!(noise(Kind::Rows, &ones), noise(Kind::Subjects, &ones), "a row each is as good as a person each");
    // One of them counted with a little more each time: of steps of 10,000 the same, or two, would be met without another noise.
    let evenly = Disclosure { perturbation: Some(Perturbation { variance: 14, most: 6 }), ..exact() };
    let coded = |more: i32| {
        let mut own = incomes(40);
        own[7] += f64::from(more) / 100.0;
        told(evenly.clone(), &Group { kind: Kind::Sum, own: &[&own], rest: None, values: &[] }).unwrap()
    };
    let sums: BTreeSet<i64> = (0..60).map(|more| coded(more) as i64).collect();
    assert!(sums.len() > 1 && coded(7) == coded(7), "noise cancels: {sums:?}");
}

/// By the identifier type by which a value is told most coarsely, and with the noise of both.
#[test]
fn through_a_link_dataset_the_coarser_unit_and_both_noises_count() {
    let (people, firms): (Vec<f64>, Vec<f64>) = (vec![100.0; 63], vec![300.0; 21]);
    let told = |rules: &Disclosure, kind: Kind, own: &[&[f64]]| told(rules.clone(), &Group { kind, own, rest: None, values: &[] }).unwrap();
    let rounded = Disclosure { round_to: 5, ..exact() };
    for own in [[&people[..], &firms[..]], [&firms[..], &people[..]]] {
        assert_eq!(told(&rounded, Kind::Sum, &own), 6_000.0, "five firms have 1,500");
    }
    assert_eq!(told(&rounded, Kind::Sum, &[&people]), 6_500.0, "five people have 500");
    // Rows as people are: in units of firms, each choice of rows would tell another number of people.
    let rows = |each: f64| {
        let own = [vec![each; 63], vec![3.0 * each; 21]];
        told(&rounded, Kind::Rows, &[&own[0], &own[1]])
    };
    assert_eq!([rows(1.0), rows(2.0), rows(7.0)], [65.0, 130.0, 455.0]);
    let noisy = Disclosure { perturbation: Some(Perturbation { variance: 14, most: 6 }), ..exact() };
    let several = (22..60).map(|n| told(&noisy, Kind::Sum, &[&people[..n], &people[..n]]) / 100.0 - n as f64);
    // Of one type alone it would be six at most.
    assert!(several.map(f64::abs).fold(0.0, f64::max) > 6.5);
}

/// What all have alike is told as that times their number: no number of rows tells another number of people.
#[test]
fn rows_that_all_have_alike_tell_no_more_than_how_many_they_are() {
    let rules = Disclosure { round_to: 5, ..exact() };
    let rows = |people: usize, each: f64| {
        told(rules.clone(), &Group { kind: Kind::Rows, own: &[&vec![each; people]], rest: None, values: &[] }).unwrap()
    };
    for people in 13..120 {
        let nearest = (people + 2) / 5 * 5;
        assert!((1..=12).all(|each| rows(people, f64::from(each)) == rows(nearest, f64::from(each))), "{people}");
    }
    assert_eq!([rows(33, 1.0), rows(33, 2.0), rows(33, 12.0)], [35.0, 70.0, 420.0]);
}

/// Under noise: what is told is at least as much over the minimum as the largest noise, what rests on fewer never is, and the rest
/// of a condition, and a group's key, alike.
#[test]
fn under_noise_the_noisy_number_decides_whether_there_are_enough() {
    let rules = Disclosure { perturbation: Some(NOISY), ..exact() };
    let of = |people: usize| told(rules.clone(), &Group { kind: Kind::Subjects, own: &[&vec![1.0; people]], rest: None, values: &[] });
    let told: Vec<Option<f64>> = (0..60).map(of).collect();
    assert!(told.iter().flatten().all(|told| *told >= 16.0), "{told:?}");
    assert!(told[..10].iter().all(Option::is_none) && told[22..].iter().all(Option::is_some), "{told:?}");
    assert!(told[10..22].iter().any(Option::is_none) && told[10..22].iter().any(Option::is_some), "{told:?}");

    let rule = ruled(Disclosure { complement: Telling::Withheld, ..rules });
    let contributed = |people: std::ops::Range<u8>| {
        let mut all = Contributed::default();
        people.for_each(|subject| all.add(1.0, &[subject, 0], Some(&rule.secret)));
        all
    };
    let noise = Noise::new(NOISY);
    for all in 0..60 {
        // Of whom the last are left over: as if they were asked for themselves.
        let left = rule.rest_enough(Some(&noise), &[contributed(0..100)], &[contributed(all..100)]);
        assert_eq!(left, rule.enough(Some(&noise), &contributed(0..all)), "{all} are left over");
        assert_eq!(left, told[usize::from(all)].is_some());
    }
    assert!(!rule.rest_enough(Some(&noise), &[contributed(0..100)], &[contributed(0..100)]), "an empty rest is few");

    // Firms too, where there are any; without noise exact numbers are compared.
    for firms in 0..60 {
        let few = firms > 0 && !rule.enough(Some(&noise), &contributed(0..firms));
        assert_eq!(rule.few_through(Some(&noise), &[contributed(0..firms)]), few, "{firms}");
        assert!(!rule.few_through(None, &[contributed(0..firms)]));
    }
}

/// Game. Population: ten firms, of which one has a thousand people and the others one each. Target: how many the one has, by the number of
/// people of all ten.
#[test]
fn a_number_of_people_does_not_tell_how_many_one_firm_has() {
    let rule = ruled(Disclosure { round_to: 5, ..Disclosure::default() });
    let firms = |people: &[f64]| {
        let mut all = Contributed::default();
        people.iter().for_each(|own| all.add(*own, &[0; 16], None));
        [all]
    };
    let one: Vec<f64> = [vec![1_000.0], vec![1.0; 9]].concat();
    assert!(rule.uneven(10, &firms(&one)) && !rule.uneven(10, &firms(&[25.0; 10])) && !rule.uneven(1_000, &[]));
    let open = ruled(exact());
    assert!(!open.uneven(10, &firms(&one)), "where no rule asks for it");
}

/// Of two numbers the later gives way where they differ by a few people, or leave a few over; also with noise, where the agreement asks for
/// it.
#[test]
fn numbers_under_two_conditions_neither_differ_by_few_nor_leave_few_over() {
    let judged = Disclosure { complement: Telling::Withheld, ..exact() };
    let noisy = Disclosure { perturbation: Some(NOISY), ..judged.clone() };
    let told_within = |longest: Duration, plain: bool, rules: &Disclosure, kinds: [u8; 4]| -> u64 {
        let rule = ruled(rules.clone());
        let subjects = |kind: usize| (0..kinds[kind]).map(move |place| [u8::try_from(kind).unwrap(), place]);
        let counted = counted_kinds(&rule, kinds);
        let number = |meets: &[usize]| -> ArrayRef {
            Arc::new(Int64Array::from(vec![meets.iter().map(|kind| i64::from(kinds[*kind])).sum::<i64>()]))
        };
        let contributed = |meets: &[usize]| {
            let mut all = Contributed::default();
            meets.iter().flat_map(|kind| subjects(*kind)).for_each(|subject| all.add(1.0, &subject, Some(&rule.secret)));
            Arc::new(FixedSizeBinaryArray::try_from_iter([all.bytes()].iter()).unwrap()) as ArrayRef
        };
        let columns = vec![
            number(&[1, 3]),
            number(&[2, 3]),
            contributed(&[1, 3]),
            contributed(&[2, 3]),
            Arc::new(BinaryArray::from_vec(vec![&counted])) as ArrayRef,
        ];
        let names = (0..columns.len()).map(|name| name.to_string());
        let groups = RecordBatch::try_from_iter_with_nullable(names.zip(columns).map(|(name, column)| (name, column, true))).unwrap();
        let value = |column: usize| {
            let name = col(column.to_string());
            let condition = if plain && column == 0 { Some(Condition::plain(name)) } else { Condition::new([name].iter(), Vec::new()) };
            let (contributed, through, rests) = (vec![2 + column], Vec::new(), Vec::new());
            Value { kind: Kind::Rows, column, contributors: column, contributed, through, rests, number: None, condition, whole: true }
        };
        let rule = Rule { values: vec![value(0), value(1)], kinds: vec![4], ..rule };
        let mut fields: Vec<_> = groups.schema().fields().iter().take(2).cloned().collect();
        fields.push(Arc::new(Field::new("m", DataType::UInt64, false)));
        let told = rule.apply(&groups, Arc::new(Schema::new(fields)), &within(longest).0).unwrap();
        told.column(2).as_primitive::<UInt64Type>().value(0)
    };
    let told = |rules: &Disclosure, kinds: [u8; 4]| told_within(HOUR, false, rules, kinds);
    for few in [0, 1, 9] {
        for (kinds, mask) in
            [([60, 60, 60, 60], 0), ([60, few, 60, 60], 0b10), ([60, 60, few, 60], 0b10), ([few, 60, 60, 60], 0b10), ([60, 60, 60, few], 0)]
        {
            assert_eq!(told(&judged, kinds), mask, "{kinds:?}");
            assert_eq!(told(&noisy, kinds), mask, "{kinds:?}");
            assert_eq!(told(&Disclosure { complement: Telling::Shown, ..judged.clone() }, kinds), 0, "{kinds:?}");
        }
    }
    // Without time the later is withheld, where they are compared.
    assert_eq!(told_within(Duration::ZERO, false, &judged, [60; 4]), 0b10);
    assert_eq!(told_within(Duration::ZERO, false, &Disclosure { complement: Telling::Shown, ..judged.clone() }, [60; 4]), 0);
    // Values that some lack give way to a condition, and those that nobody lacks are as rows.
    for (kinds, mask) in [([60; 4], 0), ([60, 9, 60, 60], 0b01), ([60, 60, 0, 60], 0b01), ([0, 60, 0, 60], 0), ([0, 60, 1, 60], 0b01)] {
        assert_eq!(told_within(HOUR, true, &judged, kinds), mask, "{kinds:?}");
    }
    // With noise as a question for just these is answered.
    let differ: Vec<bool> = (10..22).map(|few| told(&noisy, [60, few, 60, 60]) == 0).collect();
    assert!(differ.contains(&true) && differ.contains(&false), "{differ:?}");
}

/// So many people of each kind, as the aggregate finds them.
fn counted_kinds(rule: &Rule, kinds: [u8; 4]) -> Vec<u8> {
    let mut found = Kinds::default();
    for (kind, people) in (0_u8..).zip(kinds) {
        for place in 0..people {
            found.add(vec![u64::from(kind)], kinds::People { number: 1, keys: record_key(&rule.secret, &[kind, place]) });
        }
    }
    bytes(&found)
}
