use std::collections::BTreeSet;
use std::time::Duration;

use concordat_policy::disclosure::{Dominance, Perturbation};
use datafusion::arrow::array::{AsArray as _, FixedSizeBinaryArray, Float64Array, StringArray};
use datafusion::arrow::datatypes::{Field, Float64Type, Schema, UInt64Type};
use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};

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
    Box::new(Value { kind: Kind::Rows, column, contributors, contributed: vec![contributed], rests: Vec::new(), number: None })
}

/// A region, what is told of it, and what is not.
type Row = (String, [Option<f64>; 4], u64);

/// People, their number under a condition that all but `fail` meet, and what they contribute: sum and mean.
fn protected(rules: Disclosure, people: People<'_>, fail: u64, domain: &[&str]) -> Vec<Row> {
    protected_within(HOUR, rules, people, fail, domain)
}

fn protected_within(longest: Duration, rules: Disclosure, people: People<'_>, fail: u64, domain: &[&str]) -> Vec<Row> {
    let secret = Secret::new([3; 16]);
    let mut subject = 0u8;
    let mut contributed = |own: &[f64]| {
        let mut all = Contributed::default();
        for own in own {
            subject += 1;
            all.add(*own, &[subject; 16], Some(&secret));
        }
        all.bytes()
    };
    let counted: Vec<Vec<u8>> = people.iter().map(|(_, own)| contributed(&vec![1.0; own.len()])).collect();
    let added: Vec<Vec<u8>> = people.iter().map(|(_, own)| contributed(own)).collect();
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
    ];
    let groups = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap();
    let value = |kind, column, contributors, contributed| Value {
        kind,
        column,
        contributors,
        contributed: vec![contributed],
        rests: (column == 2).then_some(Rest { others: 7, contributed: Vec::new() }).into_iter().collect(),
        number: (kind == Kind::Mean).then(|| number_of(5, 5, 8)),
    };
    let values = vec![value(Kind::Rows, 1, 5, 8), value(Kind::Rows, 2, 6, 8), value(Kind::Sum, 3, 5, 9), value(Kind::Mean, 4, 5, 9)];
    let domain: Vec<_> = domain.iter().map(|region| Some(*region)).collect();
    let domain = (!domain.is_empty()).then(|| {
        let regions: ArrayRef = Arc::new(domain.into_iter().collect::<StringArray>());
        RecordBatch::try_from_iter_with_nullable([("k0", regions, true)]).unwrap()
    });
    let rule = Rule { keys: 1, sets: None, values, subjects: 5, minimum: 10, disclosure: rules, secret, domain, mask: "m".into() };
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
    assert!(sum % 10_000.0 == 0.0 && (sum - many.iter().sum::<f64>()).abs() <= 5000.0 && mean == sum / 105.0, "{sum} {mean}");
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
    let noise: BTreeSet<i64> = (20..70).map(|n| (counts(&[("N", &incomes(n))]) - n as f64) as i64).collect();
    assert!(noise.len() > 3 && noise.iter().all(|noise| (-6..=6).contains(noise)), "{noise:?}");
    let sums = |own: &[f64]| protected(rules.clone(), &[("N", own)], 0, &[])[0].1[2].unwrap() - own.iter().sum::<f64>();
    let rounded = 5_000.0;
    // Of its people, and of their contributions.
    assert!(sums(&many).abs() <= 12.0 * 1025.0 + rounded && sums(&more).abs() <= 12.0 * 1026.0 + rounded);
}

#[test]
fn a_sum_beside_its_count_or_mean_does_not_tell_what_noise_hides() {
    let rules = Disclosure { perturbation: Some(Perturbation { variance: 4, most: 6 }), ..exact() };
    let [Some(n), _, Some(sum), Some(mean)] = protected(rules, &[("N", &incomes(50))], 0, &[])[0].1 else { panic!("nothing is withheld") };
    // Six mean contributions, taken up to the next step; and that by the number as it is told.
    assert!(sum % 10_000.0 == 0.0 && mean == sum / n, "{sum} {mean} {n}");
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

/// What is told of it; `None` where it is withheld.
fn told(rules: Disclosure, group: &Group<'_>) -> Option<f64> {
    let secret = Secret::new([3; 16]);
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
        rests: group.rest.map(|_| Rest { others: 2, contributed: vec![3] }).into_iter().collect(),
        number: (group.kind == Kind::Mean).then(|| number_of(4, 1, 5)),
    };
    let (values, mask) = (vec![value], "m".to_owned());
    let rule = Rule { keys: 0, sets: None, values, subjects: 1, minimum: 10, disclosure: rules, secret, domain: None, mask };
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
                assert!((number - of(Kind::Rows, values)).abs() < 1e-6, "{number} under {rules:?}");
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
    let told = |rules: &Disclosure, own: &[&[f64]]| told(rules.clone(), &Group { kind: Kind::Sum, own, rest: None, values: &[] }).unwrap();
    let rounded = Disclosure { round_to: 5, ..exact() };
    for own in [[&people[..], &firms[..]], [&firms[..], &people[..]]] {
        assert_eq!(told(&rounded, &own), 6_000.0, "five firms have 1,500");
    }
    assert_eq!(told(&rounded, &[&people]), 6_500.0, "five people have 500");
    let noisy = Disclosure { perturbation: Some(Perturbation { variance: 4, most: 6 }), ..exact() };
    let several = (10..60).map(|n| told(&noisy, &[&people[..n], &firms[..10 + n % 11]]) - n as f64 * 100.0);
    // Of people alone it would be 600 and half a step of 1,000 at most.
    assert!(several.map(f64::abs).fold(0.0, f64::max) > 1_100.0);
}
