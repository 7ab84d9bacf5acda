use std::collections::BTreeSet;

use concordat_policy::disclosure::{Dominance, Perturbation};
use concordat_protect::noise::record_key;
use datafusion::arrow::array::{FixedSizeBinaryArray, StringArray};
use datafusion::arrow::datatypes::{Field, Schema};

use super::*;

/// Regions, each with what every one of its people contributes.
type People<'a> = &'a [(&'a str, &'a [f64])];

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

/// People, their number under a condition that all but `fail` meet, and what they contribute: sum and mean.
fn protected(rules: Disclosure, people: People<'_>, fail: u64, domain: &[&str]) -> Vec<(String, [Option<f64>; 4], u64)> {
    let secret = Secret::new([3; 16]);
    let mut subject = 0u8;
    let mut contributed = |own: &[f64]| {
        let mut all = Contributed::default();
        for own in own {
            subject += 1;
            all.spread.add(*own);
            all.keys = all.keys.wrapping_add(record_key(&secret, &[subject; 16]));
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
        ("mean", Arc::new(people.iter().map(|(_, own)| sum(own) / own.len() as f64).collect::<Float64Array>())),
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
        others: (column == 2).then_some(7),
        contributed: vec![contributed],
        number: (kind == Kind::Mean).then_some(5),
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
    let told = rule.apply(&groups, Arc::new(Schema::new(fields))).unwrap();
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
    assert!(sum % 10_000.0 == 0.0 && (sum - many.iter().sum::<f64>()).abs() <= 5000.0 && mean % 100.0 == 0.0, "{sum} {mean}");
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
    assert!(sums(&many).abs() <= 6.0 * 1025.0 + rounded && sums(&more).abs() <= 6.0 * 1026.0 + rounded);
}

#[test]
fn a_sum_beside_its_count_or_mean_does_not_tell_what_noise_hides() {
    let rules = Disclosure { perturbation: Some(Perturbation { variance: 4, most: 6 }), ..exact() };
    let [Some(_), _, Some(sum), Some(mean)] = protected(rules, &[("N", &incomes(50))], 0, &[])[0].1 else { panic!("nothing is withheld") };
    // Six mean contributions, and a fiftieth of that, taken up to the next steps.
    assert!(sum % 10_000.0 == 0.0 && mean % 200.0 == 0.0, "{sum} {mean}");
}
