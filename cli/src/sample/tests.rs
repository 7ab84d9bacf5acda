use std::collections::BTreeSet;
use std::path::PathBuf;

use concordat_policy::IdentifierType;
use sha2::{Digest as _, Sha256};

use super::*;

fn digest_of_everything(layout: &Layout) -> Vec<u8> {
    let mut files = Vec::new();
    let mut folders = vec![layout.folder().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    let what = "five datasets about people, one of them in four files, three with firms, five files of consent records, five notes";
    assert_eq!(files.len(), 5 + 3 + 3 + 5 + 5, "{what}");
    let mut digest = Sha256::new();
    for file in files {
        digest.update(std::fs::read(file).unwrap());
    }
    digest.finalize().to_vec()
}

#[test]
fn the_same_sample_has_the_same_bytes() {
    let digest = || {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        Sample::of(3_000).write(&layout).unwrap();
        digest_of_everything(&layout)
    };
    assert_eq!(digest(), digest());
}

#[test]
fn departments_overlap_by_seventy_to_eighty_per_cent() {
    let sample = Sample::of(30_000);
    let members: Vec<BTreeSet<u64>> = (0..5)
        .map(|part| (0..sample.people).filter(|i| recorded(&sample, &Person::of(sample.seed, *i, sample.people), *i, part)).collect())
        .collect();
    for a in &members {
        for b in &members {
            let share = a.intersection(b).count() as f64 / a.len() as f64;
            assert!(a == b || (0.70..=0.80).contains(&share), "{share}");
        }
    }
}

#[test]
fn one_identifier_in_a_hundred_identifies_nobody_and_the_tiny_region_is_complete() {
    let sample = Sample::of(30_000);
    let mut out = String::new();
    let (mut rows, mut invalid, mut tiny) = (0.0, 0.0, 0);
    for index in 0..sample.people {
        let person = Person::of(sample.seed, index, sample.people);
        if recorded(&sample, &person, index, 3) {
            rows += 1.0;
            let valid = write::identifier(&sample, &person, index, 3).is_some_and(|id| IdentifierType::Nino.normalise(&id, &mut out));
            invalid += if valid { 0.0 } else { 1.0 };
            tiny += i32::from(person.always_recorded);
        }
    }
    assert!((0.007..=0.013).contains(&(invalid / rows)), "{invalid} of {rows}");
    assert_eq!(tiny, 9);
    assert!(sample.somebody().is_some());
}

#[test]
fn disadvantage_lowers_attainment() {
    let people: Vec<Person> = (0..20_000).map(|i| Person::of(1, i, 20_000)).collect();
    let average = |meals: bool| {
        let scores: Vec<f64> = people.iter().filter(|p| p.free_school_meals == meals).filter_map(|p| p.attainment8).collect();
        scores.iter().sum::<f64>() / scores.len() as f64
    };
    let share = people.iter().filter(|p| p.free_school_meals).count();
    assert!(average(false) - average(true) > 5.0);
    assert!((2_000..6_000).contains(&share), "{share} of 20,000");
}
