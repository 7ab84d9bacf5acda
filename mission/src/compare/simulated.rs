//! Worlds whose effect is known, told as a gateway tells them: how often the interval holds the effect, and how wide it is.
//!
//! A world has groups of people, some with an output. Each group has its own level, its own shocks that wear off slowly, and shares shocks
//! with all others; persons answer by chance. What is told is rounded to multiples of 5 and withheld under 10 persons.

use serde_json::{Value, json};

use super::*;
use crate::interval::Precision;
use crate::mission::OutputStatus;
use crate::snapshot::Cell;
use crate::testing::{day, mission, snapshot};

/// SplitMix64 (Steele, Lea and Flood, 2014): the same worlds in every run.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Between 0 and 1, neither included.
    fn uniform(&mut self) -> f64 {
        (f64::from(u32::try_from(self.next() >> 32).unwrap()) + 0.5) / 4_294_967_296.0
    }

    /// By Box and Muller.
    pub(super) fn normal(&mut self) -> f64 {
        let (radius, angle) = ((-2.0 * self.uniform().ln()).sqrt(), 2.0 * std::f64::consts::PI * self.uniform());
        radius * angle.cos()
    }

    /// How many of so many persons, each for itself; of many by the normal distribution that is near it.
    fn of(&mut self, persons: f64, chance: f64) -> f64 {
        if persons > 60.0 {
            let spread = (persons * chance * (1.0 - chance)).sqrt();
            return (persons * chance + spread * self.normal()).round().clamp(0.0, persons);
        }
        let (mut hits, mut person) = (0.0, 0.0);
        while person < persons {
            hits += f64::from(u8::from(self.uniform() < chance));
            person += 1.0;
        }
        hits
    }
}

/// What a world is like.
#[derive(Clone, Copy)]
struct World {
    with: u32,
    without: u32,
    /// The middle of the groups' sizes, and their spread as a factor's logarithm.
    persons: f64,
    spread: f64,
    /// How many more groups there are on each side of about ten persons.
    tiny: u32,
    /// A group's own shocks; they wear off by a third a month.
    shock: f64,
    /// How much more the side with the output rises a month, before and after.
    drift: f64,
    effect: f64,
}

const PLAIN: World = World { with: 5, without: 9, persons: 3_000.0, spread: 0.5, tiny: 0, shock: 0.01, drift: 0.0, effect: -0.06 };
const MONTHS: u32 = 12;
const BEGAN: &str = "2027-01-01";

impl World {
    /// Twelve months of it, the output beginning with the seventh.
    fn told(self, random: &mut Random, template: &Snapshot) -> (BTreeSet<String>, Vec<Snapshot>) {
        let mut groups: Vec<(String, bool, f64, f64, f64)> = Vec::new();
        for number in 0..self.with + self.without + 2 * self.tiny {
            let tiny = number >= self.with + self.without;
            let with = if tiny { number % 2 == 0 } else { number < self.with };
            let persons = if tiny {
                if random.uniform() < 0.5 { 10.0 } else { 15.0 }
            } else {
                (self.persons * (self.spread * random.normal()).exp()).round().max(12.0)
            };
            groups.push((format!("g{number}"), with, persons, 0.4 + 0.05 * random.normal(), self.shock * random.normal()));
        }
        let snapshots = (0..MONTHS).map(|month| {
            let common = 0.01 * random.normal() - 0.002 * f64::from(month);
            let rows = groups.iter_mut().map(|(name, with, persons, level, shock)| {
                *shock = *shock * 2.0 / 3.0 + self.shock * (5.0_f64 / 9.0).sqrt() * random.normal();
                let output = if *with { self.drift * f64::from(month) + if month >= MONTHS / 2 { self.effect } else { 0.0 } } else { 0.0 };
                let here = (*persons + (0.02 * *persons).max(1.0) * random.normal()).round().max(0.0);
                let hits = random.of(here, (*level + *shock + common + output).clamp(0.01, 0.99));
                row(name, here, hits)
            });
            let rows: Vec<Vec<Cell>> = rows.collect();
            let (year, of_year) = if month < 6 { (2026, month + 7) } else { (2027, month - 5) };
            let mut one = template.clone();
            one.number = u64::from(month) + 1;
            one.taken.taken_at = day(&format!("{year}-{of_year:02}-15")).and_hms_opt(12, 0, 0).unwrap().and_utc();
            one.taken.stated.sources.iter_mut().for_each(|source| source.freshness = one.taken.taken_at);
            one.taken.rows.extend(rows);
            one
        });
        let snapshots = snapshots.collect();
        (groups.iter().filter(|group| group.1).map(|group| group.0.clone()).collect(), snapshots)
    }
}

/// A group's row as it is told.
fn row(name: &str, persons: f64, hits: f64) -> Vec<Cell> {
    let key = |value: Value| Cell { value, status: None };
    let told = |value: f64| Cell { value: json!(value), status: Some("rounded".into()) };
    let withheld = || Cell { value: Value::Null, status: Some("withheld: fewer than 10 distinct subjects".into()) };
    let nearest = |value: f64| (value / 5.0).round() * 5.0;
    let (persons_told, share) =
        if persons < 10.0 { (withheld(), withheld()) } else { (told(nearest(persons)), told(nearest(hits) / nearest(persons))) };
    vec![key(json!(name)), key(json!(0)), persons_told, share]
}

fn template() -> Snapshot {
    let mut template = snapshot(1, "2026-07-15", None, 0.4);
    template.taken.stated.precision = Precision { round_to: 5, noise: None };
    template
}

/// Compares what is told of so many worlds; of which so many are refused.
fn compared(world: World, seed: u64, worlds: usize) -> (Vec<Comparison>, Vec<Vec<Refused>>) {
    let (mut random, template, mission) = (Random::seeded(seed), template(), mission());
    let (mut compared, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..worlds {
        let (with, snapshots) = world.told(&mut random, &template);
        match compare(&question(&mission, with), &snapshots) {
            Ok(comparison) => compared.push(comparison),
            Err(why) => refused.push(why),
        }
    }
    (compared, refused)
}

fn question(mission: &Mission, with: BTreeSet<String>) -> Question<'_> {
    Question {
        mission,
        outcome: &mission.outcomes[0],
        definition: "d",
        by: "region",
        with,
        without: BTreeSet::new(),
        output: None,
        began: day(BEGAN),
        until: None,
        changed_hands: Vec::new(),
    }
}

/// The part of comparisons of which something holds.
fn part(of: &[Comparison], holds: impl Fn(&Comparison) -> bool) -> f64 {
    let holding = u32::try_from(of.iter().filter(|one| holds(one)).count()).unwrap();
    f64::from(holding) / f64::from(u32::try_from(of.len()).unwrap())
}

fn holds(interval: Interval, value: f64) -> bool {
    interval.low <= value && value <= interval.high
}

fn median_width(of: &[Comparison]) -> f64 {
    let mut widths: Vec<f64> = of.iter().map(|one| one.interval.high - one.interval.low).collect();
    widths.sort_by(f64::total_cmp);
    widths[widths.len() / 2]
}

/// The stated coverage, in worlds of several kinds; and that an interval is narrow enough to tell something.
#[test]
fn at_95_percent_93_of_100_intervals_hold_the_effect_and_7_at_most_see_one_that_is_not() {
    // The last: at most how wide half of the intervals are, in units of the effect of 0.06.
    let mut by_chance = 0.0;
    for (seed, name, world, widest) in [
        (1, "plain", PLAIN, 0.8),
        (2, "few groups", World { with: 3, without: 4, ..PLAIN }, 1.5),
        (3, "uneven groups", World { with: 8, without: 12, spread: 1.0, ..PLAIN }, 0.8),
        (4, "tiny groups, withheld or not", World { with: 6, without: 10, tiny: 1, ..PLAIN }, 0.8),
        (5, "small groups, roughly rounded", World { with: 8, without: 10, persons: 200.0, spread: 0.2, ..PLAIN }, 3.5),
        (6, "strong shocks", World { with: 8, without: 10, shock: 0.03, ..PLAIN }, 1.5),
    ] {
        let (with_effect, refused) = compared(world, seed, 100);
        let (without_effect, _) = compared(World { effect: 0.0, ..world }, seed + 100, 100);
        let held = part(&with_effect, |one| holds(one.interval, world.effect));
        let seen = part(&without_effect, |one| !holds(one.interval, 0.0));
        let width = median_width(&with_effect) / world.effect.abs();
        let chance = part(&with_effect, |one| (one.effect - world.effect).abs() <= one.chance);
        let refused = refused.len();
        println!(
            "{name}: held {held:.3}, by chance's part alone {chance:.3}; seen wrongly {seen:.3}; median width {width:.2}; refused {refused}"
        );
        assert!(refused <= 10 && without_effect.len() >= 90, "{name}: {refused} refused");
        let left_out = part(&with_effect, |one| !one.left_out.is_empty());
        assert!(if world.tiny > 0 { (0.3..1.0).contains(&left_out) } else { left_out <= 0.0 }, "{name}: groups are left out in {left_out}");
        assert!(held >= 0.93, "{name}: {held} of intervals hold the effect");
        by_chance += chance / 6.0;
        assert!(seen <= 0.07, "{name}: {seen} see an effect that is not there");
        assert!(width <= widest, "{name}: half of the intervals are wider than {width} effects");
    }
    // What rounding adds is on the safe side; without it, chance's part is near its own 95 %.
    assert!((0.92..=0.98).contains(&by_chance), "{by_chance} hold it by chance's part alone");
}

/// What the interval is made of is needed: neither rounding's bounds nor a guess without chance's degrees would hold the effect as often.
#[test]
fn bounds_alone_hold_it_too_seldom_and_an_effect_is_found() {
    let (compared, _) = compared(PLAIN, 9, 100);
    let bounds_alone = part(&compared, |one| holds(one.rounding, PLAIN.effect));
    let one_error = part(&compared, |one| (one.effect - PLAIN.effect).abs() <= one.chance / 3.0);
    assert!(bounds_alone < 0.8 && one_error < 0.9, "{bounds_alone} {one_error}");
    let found = part(&compared, |one| one.finding == Finding::Better);
    assert!(found > 0.8, "an effect of 6 points is found in {found} of plain worlds");
}

#[test]
fn sides_that_were_on_different_ways_before_are_not_trusted() {
    let (drifting, _) = compared(World { drift: -0.015, effect: 0.0, ..PLAIN }, 11, 100);
    let caught = part(&drifting, |one| one.finding == Finding::NotToBeTrusted);
    let believed = part(&drifting, |one| one.finding == Finding::Better && one.check.verdict == CheckVerdict::Alike);
    assert!(caught > 0.85 && believed < 0.02, "{caught} {believed}");
    let (alike, _) = compared(PLAIN, 12, 100);
    let wronged = part(&alike, |one| one.finding == Finding::NotToBeTrusted);
    assert!(wronged < 0.07, "{wronged}");
}

#[test]
fn which_way_is_better_says_what_was_found() {
    let [up, down] = [(0.01, 0.02), (-0.02, -0.01)].map(|(low, high)| Interval { low, high });
    for (direction, effect, check, expected) in [
        (Direction::Up, up, CheckVerdict::Alike, Finding::Better),
        (Direction::Up, down, CheckVerdict::Unclear, Finding::Worse),
        (Direction::Down, up, CheckVerdict::Alike, Finding::Worse),
        (Direction::Down, down, CheckVerdict::Unclear, Finding::Better),
        (Direction::Down, Interval { low: -0.02, high: 0.0 }, CheckVerdict::Alike, Finding::Unclear),
        (Direction::Up, Interval { low: 0.0, high: 0.0 }, CheckVerdict::Alike, Finding::Unclear),
        (Direction::Up, up, CheckVerdict::Apart, Finding::NotToBeTrusted),
    ] {
        assert_eq!(finding(direction, effect, check), expected, "{direction:?} {effect:?} {check:?}");
    }
}

fn one() -> (BTreeSet<String>, Vec<Snapshot>) {
    PLAIN.told(&mut Random::seeded(21), &template())
}

fn refusal(question: &Question<'_>, snapshots: &[Snapshot]) -> String {
    let refused = compare(question, snapshots).unwrap_err();
    refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_is_asked_wrongly_is_refused_with_its_reason() {
    let (mission, (with, snapshots)) = (mission(), one());
    let good = question(&mission, with.clone());
    assert!(compare(&good, &snapshots).is_ok());
    let named = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    for (wrong, says) in [
        (Question { by: "age", ..good.clone() }, "by the column 'age' alone"),
        (Question { with: BTreeSet::new(), ..good.clone() }, "no group with the output is named"),
        (Question { with: named(&["g0", "g1", "Mars"]), ..good.clone() }, "no row is of 'Mars'"),
        (Question { without: named(&["g0", "g7", "g8", "g9"]), ..good.clone() }, "'g0' is named on both sides"),
        (Question { with: named(&["g0", "g1"]), ..good.clone() }, "2 groups with the output and 12 without"),
        (Question { without: named(&["g7", "g8"]), ..good.clone() }, "5 groups with the output and 2 without"),
        (Question { began: day("2026-10-01"), ..good.clone() }, "3 snapshots before the output began and 9 after"),
        (Question { began: day("2027-06-01"), ..good.clone() }, "11 snapshots before the output began and 1 after"),
        (Question { until: Some(day("2027-02-14")), ..good.clone() }, "6 snapshots before the output began and 1 after"),
        (Question { definition: "another", ..good.clone() }, "0 snapshots before"),
        (Question { changed_hands: vec![("g0".into(), day("2027-03-01"))], ..good.clone() }, "'g0' got or lost the output on 2027-03-01"),
    ] {
        let said = refusal(&wrong, &snapshots);
        assert!(said.contains(says), "{says}: {said}");
    }
    // A group that was not named is left out, and one that changed after the last snapshot changed nothing.
    let others = ["g8", "g9"].map(|group| (group.to_owned(), day("2027-03-01"))).to_vec();
    let left_out = compare(&Question { changed_hands: others, ..good.clone() }, &snapshots).unwrap();
    assert_eq!((left_out.without.groups.len(), left_out.left_out[1].what.as_str()), (7, "g9"));
    assert!(left_out.cannot_show.iter().any(|said| said.contains("g9")), "{:?}", left_out.cannot_show);
    let later = Question { changed_hands: vec![("g0".into(), day("2027-07-01"))], ..good };
    assert!(compare(&later, &snapshots).is_ok());
}

/// Sets a cell of a group's row from a snapshot on.
fn set(snapshots: &mut [Snapshot], from: usize, group: &str, cell: &Cell) {
    for one in &mut snapshots[from..] {
        let row = one.taken.rows.iter_mut().find(|row| row[0].value == json!(group)).unwrap();
        row[3] = cell.clone();
    }
}

#[test]
fn what_is_withheld_is_left_out_or_keeps_all_from_being_compared() {
    let mission = mission();
    let withheld = Cell { value: Value::Null, status: Some("withheld: few".into()) };
    let (with, mut snapshots) = one();
    let question = question(&mission, with);
    set(&mut snapshots, 8, "g10", &withheld);
    let told = compare(&question, &snapshots).unwrap();
    assert_eq!((told.without.groups.len(), told.left_out[0].why.contains("not told in 4 of 12")), (8, true), "{:?}", told.left_out);
    set(&mut snapshots, 8, "g11", &withheld);
    assert!(refusal(&question, &snapshots).contains("2 of 9 groups of a side"));
    // One of five on the other side is a fifth, and as much as may be.
    let (_, mut snapshots) = one();
    set(&mut snapshots, 0, "g0", &withheld);
    assert_eq!(compare(&question, &snapshots).unwrap().with.groups.len(), 4);
    // A number is withheld where it is small: it must not be left out for that.
    let mut counting = mission.clone();
    counting.outcomes[0].kind = crate::mission::Kind::Count;
    let (_, mut snapshots) = one();
    let of_number = Question { mission: &counting, outcome: &counting.outcomes[0], ..question.clone() };
    let equal = compare(&of_number, &snapshots).unwrap();
    assert!(!equal.weighted && equal.cannot_show.iter().any(|said| said.starts_with("Size:")));
    set(&mut snapshots, 8, "g10", &withheld);
    assert!(refusal(&of_number, &snapshots).contains("would leave out how far it fell"));
}

#[test]
fn only_protected_cells_of_groups_that_stay_are_compared() {
    let (mission, (with, snapshots)) = (mission(), one());
    let question = question(&mission, with);
    let mut open = snapshots.clone();
    open[3].taken.columns[3].protected = false;
    assert!(refusal(&question, &open).contains("snapshot 4 is not protected"));
    let gone = |group: &str| {
        let mut gone = snapshots.clone();
        gone[11].taken.rows.retain(|row| row[0].value != json!(group));
        gone
    };
    assert!(refusal(&question, &gone("g0")).contains("'g0' has 0 rows in snapshot 12"));
    assert_eq!(compare(&question, &gone("g9")).unwrap().left_out[0].what, "g9", "of all others, it is left out");
    let mut twice = snapshots.clone();
    let again = twice[2].taken.rows[1].clone();
    twice[2].taken.rows.push(again);
    assert!(refusal(&question, &twice).contains("'g0' has 2 rows in snapshot 3"));
}

#[test]
fn a_snapshot_of_data_from_both_times_is_on_neither_side() {
    let (mission, (with, mut snapshots)) = (mission(), one());
    let question = question(&mission, with);
    // Another department's data comes a month later; a third's never changed.
    for number in 0..snapshots.len() {
        let late = snapshots[number.saturating_sub(1)].taken.taken_at;
        let first = snapshots[0].taken.taken_at;
        let sources = &mut snapshots[number].taken.stated.sources;
        let (mut other, mut areas) = (sources[0].clone(), sources[0].clone());
        (other.department, other.freshness) = ("b".into(), late);
        (areas.dataset, areas.freshness) = ("areas".into(), first);
        sources.extend([other, areas]);
    }
    let told = compare(&question, &snapshots).unwrap();
    assert_eq!((told.before.len(), told.after.len(), told.not_used.len()), (6, 5, 1), "{:?}", told.not_used);
    assert!(told.not_used[0].what == "snapshot 7" && told.not_used[0].why.contains("part of its data"), "{:?}", told.not_used);
    assert!(told.cannot_show.iter().any(|said| said.contains("a.areas")), "{:?}", told.cannot_show);
    // A table of areas that changed once: of no day by the outcome's word, and said to have changed.
    let later = snapshots[8].taken.taken_at;
    snapshots[8..].iter_mut().for_each(|one| one.taken.stated.sources[2].freshness = later);
    let of_both = compare(&question, &snapshots).unwrap().after.len();
    assert_eq!(of_both, 4, "what nobody said stands is older than the output");
    let mut mission = mission.clone();
    mission.outcomes[0].standing = vec!["a.areas".into()];
    let question = Question { mission: &mission, outcome: &mission.outcomes[0], ..question.clone() };
    let told = compare(&question, &snapshots).unwrap();
    assert_eq!((told.before.len(), told.after.len()), (6, 5));
    assert!(told.cannot_show.iter().any(|said| said.contains("did change") && said.contains("a.areas")), "{:?}", told.cannot_show);
}

#[test]
fn superseded_snapshots_do_not_count_and_the_numbers_say_which_do() {
    let (mission, (with, mut snapshots)) = (mission(), one());
    let question = question(&mission, with);
    let plain = compare(&question, &snapshots).unwrap();
    assert_eq!((plain.before, plain.after), ((1..=6).collect::<Vec<_>>(), (7..=12).collect::<Vec<_>>()));
    let mut corrected = snapshots[0].clone();
    (corrected.number, corrected.taken.supersedes) = (13, Some(1));
    snapshots.push(corrected);
    assert_eq!(compare(&question, &snapshots).unwrap().before, [13, 2, 3, 4, 5, 6]);
}

/// By hand: three groups a side of 100 persons each, told exactly.
#[test]
fn a_comparison_by_hand() {
    let mission = mission();
    let exact = |name: &str, share: f64| -> Vec<Cell> {
        serde_json::from_value(json!([
            { "value": name }, { "value": 0 }, { "value": 100, "status": "told" }, { "value": share, "status": "told" },
        ]))
        .unwrap()
    };
    let snapshots: Vec<Snapshot> = (0..6_u32)
        .map(|month| {
            let after = if month >= 4 { 1.0 } else { 0.0 };
            let mut one = snapshot(u64::from(month) + 1, &format!("2026-{:02}-15", month + 7), None, 0.5);
            let changes = [("a", 0.10), ("b", 0.20), ("c", 0.30), ("x", 0.0), ("y", 0.01), ("z", 0.02)];
            one.taken.rows.extend(changes.map(|(name, change)| exact(name, 0.5 - change * after)));
            one
        })
        .collect();
    let with = ["a", "b", "c"].map(str::to_owned).into();
    let told = compare(&Question { began: day("2026-11-01"), ..question(&mission, with) }, &snapshots).unwrap();
    // Changes of −0.2 and −0.01 on average; squares of 0.02 and 0.0002 by two, by three. Of 2.04 degrees: t is 4.303 at 2 and 3.182 at 3.
    let by_hand = 4.237_1 * ((0.02 / 6.0) + (0.0002 / 6.0_f64)).sqrt();
    assert!((told.effect + 0.19).abs() < 1e-9 && (told.chance - by_hand).abs() < 1e-4 && (told.degrees - 2.04).abs() < 1e-3, "{told:?}");
    assert!((told.with.before - 0.5).abs() < 1e-9 && (told.with.after - 0.3).abs() < 1e-9 && (told.without.after - 0.49).abs() < 1e-9);
    assert_eq!((told.finding, told.check.verdict, told.check.difference), (Finding::Unclear, CheckVerdict::Alike, 0.0));
    assert!(told.says.contains("-0.1900") && told.says.contains("no sign that it makes none"), "{}", told.says);
    assert!(told.cannot_show.len() >= 6 && told.cannot_show[0].starts_with("Cause"), "{:?}", told.cannot_show);
}

#[test]
fn who_asks_chose_the_groups_and_the_day_and_a_day_that_differs_is_said() {
    let (mut random, template, mission) = (Random::seeded(1), template(), mission());
    let (with, snapshots) = PLAIN.told(&mut random, &template);
    let said = |output: Option<&crate::mission::Output>| {
        compare(&Question { output, ..question(&mission, with.clone()) }, &snapshots).unwrap().cannot_show.join("\n")
    };
    assert!(said(None).contains("whoever asks chose the groups and the day"));
    let mut output = mission.outputs[0].clone();
    output.since = day(BEGAN);
    assert!(!said(Some(&output)).contains("The day:") && !said(Some(&output)).contains("should move"));
    (output.since, output.outcomes) = (day("2026-05-01"), Vec::new());
    let said = said(Some(&output));
    assert!(said.contains("'visits' running since 2026-05-01") && said.contains("does not say that 'visits' should move"), "{said}");
}

#[test]
fn the_day_on_which_an_output_was_stopped_or_changed_is_not_its_first() {
    let (mission, (with, snapshots)) = (mission(), one());
    let mut output = mission.outputs[0].clone();
    output.since = day("2027-04-01");
    assert_eq!((output.began(), output.stopped()), (Some(output.since), None));
    let asked = |output: &Output| compare(&Question { output: Some(output), ..question(&mission, with.clone()) }, &snapshots);
    let all = asked(&output).unwrap().after;
    output.status = OutputStatus::Changed;
    assert_eq!(output.began(), None);
    let changed = asked(&output).unwrap();
    assert!(changed.after == all && changed.cannot_show.join("\n").contains("'visits' changed since 2027-04-01, and not when it began"));
    // Nothing that is after the stop is with the output.
    output.status = OutputStatus::Stopped;
    assert_eq!((output.began(), output.stopped()), (None, Some(output.since)));
    let stopped = asked(&output).unwrap();
    assert!(stopped.after.len() < all.len() && all.starts_with(&stopped.after), "{:?}", stopped.after);
    assert!(stopped.not_used.iter().all(|left| left.why.contains("after the output was stopped")) && !stopped.not_used.is_empty());
    assert!(stopped.cannot_show.join("\n").contains("'visits' stopped since 2027-04-01, and not when it began"));
    output.since = day(BEGAN);
    let refused = asked(&output).unwrap_err();
    assert!(refused[0].to_string().contains("nothing after 2027-01-01 is with it"), "{refused:?}");
}
