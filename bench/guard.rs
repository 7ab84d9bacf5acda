//! What a decision by a thousand guard rails costs, and beside it, in the same run, the same rules written by hand in Rust and
//! evaluated one after the other.
//!
//! Two layouts of rails: `of purposes`, each rail's scope naming one of 200 purposes, as a large estate has them, and `of all`, where
//! every rail concerns every request and must be evaluated, at a microsecond each. Fails where the first is over the bar, 200 µs in the
//! 99th percentile. Criterion times each; then each decision of a run is timed by itself, for the percentiles. `cargo bench -p concordat-guard --bench guard`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout, reason = "a benchmark")]
#![allow(missing_docs, reason = "a benchmark")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use chrono::{DateTime, Timelike as _, Utc};
use concordat_guard::{Claim, ClaimGuard, Known, Settings};
use concordat_policy::{Name, PurposeTree};
use criterion::Criterion;

const RAILS: usize = 1_000;
const PURPOSES: usize = 200;
/// Decisions that are timed one by one.
const TIMED: usize = 50_000;
/// The bar, for the 99th percentile.
const BAR: Duration = Duration::from_micros(200);

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A tree of areas with purposes below.
fn tree() -> PurposeTree {
    let mut text = String::new();
    for area in 0..10 {
        writeln!(text, "[[purpose]]\nid = \"area{area}\"\ntitle = \"A\"").unwrap();
    }
    for number in 0..PURPOSES - 10 {
        writeln!(text, "[[purpose]]\nid = \"p{number}\"\ntitle = \"P\"\nparent = \"area{}\"", number % 10).unwrap();
    }
    PurposeTree::parse(&text).unwrap()
}

/// One rail for people: who may not claim the purpose at this hour, from there. The same rule as text and as data.
struct Rule {
    scope: Option<String>,
    organisation: String,
    role: String,
    from: i64,
}

fn rules(of_purposes: bool) -> Vec<Rule> {
    let rule = |number: usize| Rule {
        scope: of_purposes.then(|| format!("p{}", number % (PURPOSES - 10))),
        organisation: format!("unit-{}", number % 50),
        role: format!("role-{}", number % 7),
        from: 18 + i64::try_from(number % 6).unwrap(),
    };
    (0..RAILS - 1).map(rule).collect()
}

fn cedar(rules: &[Rule]) -> String {
    let mut text = String::from("@id(\"analysts\")\npermit(principal, action, resource) when { principal.roles.contains(\"analyst\") };\n");
    for (number, Rule { scope, organisation, role, from }) in rules.iter().enumerate() {
        let scope = scope.as_ref().map_or_else(|| "resource".to_owned(), |purpose| format!("resource in Purpose::\"{purpose}\""));
        writeln!(
            text,
            "@id(\"rail-{number}\") @advice(\"ask later\")\nforbid(principal, action, {scope})\n\
             when {{ principal.organisation == \"{organisation}\" && principal.roles.contains(\"{role}\") && context.hour >= {from} }};"
        )
        .unwrap();
    }
    text
}

/// The peer: the same rules, one after the other.
fn by_hand(rules: &[Rule], tree: &PurposeTree, claim: &Claim<'_>, now: DateTime<Utc>) -> bool {
    let hour = i64::from(now.hour());
    let within: BTreeSet<&str> = tree.ancestry(claim.purpose).map(|purpose| purpose.id.as_str()).collect();
    let forbids = |rule: &Rule| {
        rule.scope.as_deref().is_none_or(|scope| within.contains(scope))
            && claim.organisation == rule.organisation
            && claim.roles.contains(&rule.role)
            && hour >= rule.from
    };
    claim.roles.contains("analyst") && !rules.iter().any(forbids)
}

/// The 50th, 99th and 99.9th percentile.
fn percentiles(mut decide: impl FnMut(usize) -> bool) -> [Duration; 3] {
    let mut times: Vec<Duration> = (0..TIMED)
        .map(|number| {
            let began = Instant::now();
            black_box(decide(number));
            began.elapsed()
        })
        .collect();
    times.sort();
    [500, 990, 999].map(|of_thousand| times[TIMED * of_thousand / 1_000])
}

fn main() {
    // `cargo test --all-targets` starts benchmarks too; only `cargo bench` measures.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let mut criterion = Criterion::default().configure_from_args().sample_size(50);
    let (tree, now) = (tree(), "2026-07-01T12:00:00Z".parse::<DateTime<Utc>>().unwrap());
    let known = Known { purposes: tree.clone(), missions: [name("m")].into(), ..Known::default() };
    let settings: Settings = toml::from_str("policies = 'guard'\ntime_zone = 'UTC'").unwrap();
    let (roles, mission) = (BTreeSet::from(["analyst".to_owned(), "role-3".to_owned()]), name("m"));
    let purposes: Vec<Name> = (0..PURPOSES - 10).map(|number| name(&format!("p{number}"))).collect();
    let claim = |number: usize| Claim {
        organisation: "unit-17",
        roles: &roles,
        issuer: "https://id.example",
        training_until: Some(now),
        purpose: &purposes[number % purposes.len()],
        mission: &mission,
        address: Some(IpAddr::from([10, 1, 2, 3])),
    };
    println!("{RAILS} guard rails, {PURPOSES} purposes, {TIMED} decisions timed; bar: p99 of {BAR:?} of purposes");
    let mut missed = None;
    for (what, of_purposes) in [("of purposes", true), ("of all", false)] {
        let rules = rules(of_purposes);
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("guard")).unwrap();
        std::fs::write(folder.path().join("guard/rails.cedar"), cedar(&rules)).unwrap();
        let guard = ClaimGuard::open(Some(&settings.clone().under(folder.path())), &known).unwrap();
        let began = Instant::now();
        guard.reload(&known).unwrap();
        println!("{what}: read, validated and laid out in {:?}", began.elapsed());
        for number in 0..purposes.len() {
            assert_eq!(guard.decide(&claim(number), now).is_ok(), by_hand(&rules, &tree, &claim(number), now), "the peer decides alike");
        }
        let mut group = criterion.benchmark_group(format!("guard rails {what}"));
        let mut number = 0;
        let mut next = move || {
            number += 1;
            number
        };
        group.bench_function("Concordat", |bencher| bencher.iter(|| guard.decide(&claim(next()), now).is_ok()));
        group.bench_function("by hand", |bencher| bencher.iter(|| by_hand(&rules, &tree, &claim(next()), now)));
        group.finish();
        let own = percentiles(|number| guard.decide(&claim(number), now).is_ok());
        let hand = percentiles(|number| by_hand(&rules, &tree, &claim(number), now));
        for (who, [median, p99, p999]) in [("Concordat", own), ("by hand", hand)] {
            println!("{what}, {who}: p50 {median:?}, p99 {p99:?}, p99.9 {p999:?}");
        }
        let p99 = own[1];
        if of_purposes {
            println!("{what}: bar of {BAR:?} {}", if p99 <= BAR { "kept" } else { "MISSED" });
            missed = (p99 > BAR).then_some(p99);
        }
    }
    criterion.final_summary();
    assert!(missed.is_none(), "{RAILS} guard rails of purposes: the 99th percentile is {missed:?}, over {BAR:?}");
}
