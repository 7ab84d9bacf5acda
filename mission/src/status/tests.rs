use serde_json::json;

use super::*;
use crate::interval::Precision;
use crate::testing::{day, mission, snapshot};

fn of(snapshots: &[Snapshot], today: &str) -> OutcomeStatus {
    let mission = mission();
    status(&mission, &mission.outcomes[0], "d", snapshots, day(today))
}

#[test]
fn the_rule_at_its_edges() {
    use Verdict::{AtRisk, NotEnoughData, OffTrack, OnTrack};
    let (just, e) = (1e-6, 0.5);
    for (low, high, expected) in [
        // Exact values.
        (e, e, OnTrack),
        (1.2, 1.2, OnTrack),
        (e - just, e - just, AtRisk),
        (e - MARGIN, e - MARGIN, AtRisk),
        (e - MARGIN - just, e - MARGIN - just, OffTrack),
        (-3.0, -3.0, OffTrack),
        // On the path at one end.
        (e, e + 0.4, OnTrack),
        (e - just, e + 0.4, AtRisk),
        (e - MARGIN, e, AtRisk),
        (e - MARGIN - just, e, NotEnoughData),
        (e - MARGIN - just, e - just, AtRisk),
        // Behind at the other.
        (-1.0, e - MARGIN - just, OffTrack),
        (-1.0, e - MARGIN, AtRisk),
        (-1.0, e - just, AtRisk),
        (-1.0, 2.0, NotEnoughData),
    ] {
        assert_eq!(verdict(Interval { low, high }, e), expected, "{low} to {high}");
    }
    assert_eq!(verdict(Interval::exact(0.0), 0.0), OnTrack, "on the first day nothing is to be done yet");
    assert_eq!(verdict(Interval::exact(1.0), 1.0), OnTrack, "reached on the last");
}

#[test]
fn the_path_is_straight_from_baseline_to_target() {
    let mission = mission();
    let outcome = &mission.outcomes[0];
    for (on, part) in [("2020-01-01", 0.0), ("2026-04-01", 0.0), ("2027-08-14", 0.5), ("2028-12-26", 1.0), ("2040-01-01", 1.0)] {
        assert!((expected(outcome, day(on)) - part).abs() < 1e-12, "{on}");
    }
    for (value, part) in [(0.5, 0.0), (0.45, 0.5), (0.4, 1.0), (0.55, -0.5), (0.3, 2.0)] {
        let done = progress(outcome, Interval::exact(value));
        assert!((done.low - part).abs() < 1e-9 && (done.high - part).abs() < 1e-9, "{value}: {done:?}");
    }
    // Less is better: the upper bound of the value is the lower one of progress.
    let done = progress(outcome, Interval { low: 0.44, high: 0.46 });
    assert!((done.low - 0.4).abs() < 1e-9 && (done.high - 0.6).abs() < 1e-9);
}

#[test]
fn the_newest_data_decides_and_must_be_fresh() {
    // Half of the way should be done on 14 August 2027.
    let half = |value| snapshot(1, "2027-08-14", None, value);
    for (value, today, expected) in [
        (0.45, "2027-08-14", Verdict::OnTrack),
        (0.455, "2027-08-14", Verdict::AtRisk),
        (0.47, "2027-08-14", Verdict::OffTrack),
        (0.45, "2027-09-28", Verdict::OnTrack),
        (0.45, "2027-09-29", Verdict::NotEnoughData),
    ] {
        let told = of(&[half(value)], today);
        assert_eq!(told.verdict, expected, "{value} on {today}: {}", told.because);
    }
    assert_eq!(of(&[], "2027-08-14").verdict, Verdict::NotEnoughData);
    // What was taken later of older data is not the newest.
    let mut late = snapshot(2, "2027-08-20", None, 0.6);
    late.taken.stated.sources[0].freshness = "2027-01-01T00:00:00Z".parse().unwrap();
    let told = of(&[half(0.45), late], "2027-08-21");
    assert_eq!((told.verdict, told.history.len(), told.latest.map(|latest| latest.snapshot)), (Verdict::OnTrack, 2, Some(1)));
}

/// A table of areas that nobody changes: snapshots are of the days of what does change, and too old only where nobody said that it
/// stays.
#[test]
fn data_that_never_changes_neither_dates_a_snapshot_nor_makes_it_old_where_the_outcome_says_so() {
    let with_areas = |number, on: &str, value| {
        let mut one = snapshot(number, on, None, value);
        let mut areas = one.taken.stated.sources[0].clone();
        (areas.dataset, areas.freshness) = ("areas".into(), "2020-01-01T00:00:00Z".parse().unwrap());
        one.taken.stated.sources.push(areas);
        one
    };
    let snapshots = [with_areas(1, "2027-07-14", 0.46), with_areas(2, "2027-08-14", 0.45)];
    let told = of(&snapshots, "2027-08-14");
    assert_eq!((told.history.len(), told.verdict), (2, Verdict::NotEnoughData), "{}", told.because);
    assert!(told.because.contains("the oldest source"), "{}", told.because);
    let mut mission = mission();
    mission.outcomes[0].standing = vec!["a.areas".into()];
    let told = status(&mission, &mission.outcomes[0], "d", &snapshots, day("2027-08-14"));
    assert_eq!((told.verdict, told.days_old, told.history.len()), (Verdict::OnTrack, Some(0), 2), "{}", told.because);
    // What does change is not fresher for it.
    let late = status(&mission, &mission.outcomes[0], "d", &snapshots, day("2027-09-29"));
    assert_eq!((late.verdict, late.days_old), (Verdict::NotEnoughData, Some(46)));
}

#[test]
fn what_ended_is_not_on_track_however_its_last_figure_stood() {
    let told = of(&[snapshot(1, "2027-08-14", None, 0.45)], "2027-08-14");
    assert_eq!(told.verdict, Verdict::OnTrack);
    let ended = told.ended("the agreement 'a' ended on 2027-08-01");
    assert_eq!((ended.verdict, ended.history.len()), (Verdict::Ended, 1));
    assert!(ended.because.contains("'a' ended") && ended.because.contains("2027-08-14"), "{}", ended.because);
    assert_eq!(of(&[], "2027-08-14").ended("x").verdict, Verdict::NotEnoughData);
}

#[test]
fn what_is_withheld_is_not_carried_forward() {
    let mut withheld = snapshot(2, "2027-08-14", None, 0.45);
    withheld.taken.rows[0][3] = Cell { value: json!(null), status: Some("withheld: fewer than 10 distinct subjects".into()) };
    let told = of(&[snapshot(1, "2027-07-14", None, 0.4), withheld], "2027-08-14");
    assert_eq!((told.verdict, told.progress), (Verdict::NotEnoughData, None));
    assert!(told.because.contains("fewer than 10 distinct subjects"), "{}", told.because);
    // Without the number behind it, nobody knows how coarse a share is.
    let mut coarse = snapshot(1, "2027-08-14", None, 0.45);
    coarse.taken.rows[0][2] = Cell { value: json!(null), status: Some("withheld: x".into()) };
    coarse.taken.rows[0][3].status = Some("rounded".into());
    assert_eq!(of(&[coarse], "2027-08-14").verdict, Verdict::NotEnoughData);
}

#[test]
fn coarse_numbers_are_too_coarse_to_tell() {
    let of_persons = |persons: u32| {
        let mut rounded = snapshot(1, "2027-08-14", None, 0.452);
        rounded.taken.stated.precision = Precision { round_to: 5, noise: None };
        rounded.taken.rows[0][2] = Cell { value: json!(persons), status: Some("rounded".into()) };
        rounded.taken.rows[0][3].status = Some("rounded".into());
        of(&[rounded], "2027-08-14")
    };
    assert_eq!(of_persons(100_000).verdict, Verdict::AtRisk);
    let few = of_persons(200);
    assert!(few.verdict == Verdict::NotEnoughData && few.because.contains("too coarse"), "{}", few.because);
}

#[test]
fn superseded_snapshots_and_other_definitions_do_not_count() {
    let mut corrected = snapshot(2, "2027-08-14", None, 0.45);
    corrected.taken.supersedes = Some(1);
    let mut other = snapshot(3, "2027-08-15", None, 0.9);
    other.taken.definition = "e".into();
    let told = of(&[snapshot(1, "2027-08-14", None, 0.9), corrected, other], "2027-08-15");
    assert_eq!((told.verdict, told.history.len(), told.of_another_definition), (Verdict::OnTrack, 1, vec![3]));
}

#[test]
fn a_trend_is_told_where_the_bounds_leave_no_doubt() {
    let falling: Vec<Snapshot> =
        (0..4_u32).map(|n| snapshot(u64::from(n) + 1, &format!("2026-0{}-01", n + 4), None, 0.5 - 0.01 * f64::from(n))).collect();
    let trend = of(&falling, "2026-07-01").trend.unwrap();
    assert_eq!((trend.way, trend.snapshots), (Way::Better, 4));
    // 0.03 in 91 days, on a straight line but for months' lengths.
    assert!((trend.per_year.low + 0.03 * 365.0 / 91.0).abs() < 0.002 && trend.per_year.high - trend.per_year.low < 1e-9, "{trend:?}");
    let rising: Vec<Snapshot> = falling
        .iter()
        .enumerate()
        .map(|(n, one)| snapshot(one.number, &one.taken.taken_at.date_naive().to_string(), None, 0.5 + 0.01 * n as f64))
        .collect();
    assert_eq!(of(&rising, "2026-07-01").trend.unwrap().way, Way::Worse);
    let coarse: Vec<Snapshot> = falling
        .into_iter()
        .map(|mut one| {
            one.taken.stated.precision.round_to = 50;
            one.taken.rows[0].iter_mut().skip(2).for_each(|cell| cell.status = Some("rounded".into()));
            one
        })
        .collect();
    let unclear = of(&coarse, "2026-07-01").trend.unwrap();
    assert!(unclear.way == Way::Unclear && unclear.per_year.low < 0.0 && unclear.per_year.high > 0.0, "{unclear:?}");
    let of_days = |days: &[&str]| {
        let number = |n: usize| u64::try_from(n).unwrap() + 1;
        let all: Vec<Snapshot> = days.iter().enumerate().map(|(n, on)| snapshot(number(n), on, None, 0.5 - 0.01 * n as f64)).collect();
        of(&all, "2026-07-01").trend.is_some()
    };
    assert!(of_days(&["2026-04-01", "2026-05-01", "2026-06-01", "2026-06-30"]));
    assert!(!of_days(&["2026-04-01", "2026-05-01", "2026-06-01", "2026-06-29"]), "89 days");
    assert!(!of_days(&["2026-04-01", "2026-06-01", "2026-06-30"]) && !of_days(&["2026-06-29", "2026-06-30"]));
}

/// A snapshot with regions.
fn by_region(number: u64, on: &str, whole: f64, regions: &[(&str, Option<f64>)]) -> Snapshot {
    let mut one = snapshot(number, on, None, whole);
    for (region, share) in regions {
        let status = if share.is_some() { "told" } else { "withheld: few" };
        let row = json!([
            { "value": region }, { "value": 0 }, { "value": 100, "status": "told" }, { "value": share, "status": status },
        ]);
        one.taken.rows.push(serde_json::from_value(row).unwrap());
    }
    one
}

#[test]
fn breakdowns_say_what_the_headline_hides() {
    let first = by_region(1, "2026-04-01", 0.50, &[("North", Some(0.52)), ("South", Some(0.48)), ("Isles", None)]);
    let last = by_region(2, "2026-07-01", 0.47, &[("North", Some(0.53)), ("South", Some(0.44)), ("Isles", None), ("West", Some(0.475))]);
    let told = of(&[first.clone(), last], "2026-07-01");
    let breakdown = &told.breakdowns[0];
    let flags: Vec<(&str, bool, bool)> =
        breakdown.groups.iter().map(|group| (group.keys[0].as_str(), group.behind, group.fell_back)).collect();
    // North is 0.06 worse, more than a tenth of the way of 0.1; West is 0.005 worse.
    assert_eq!(flags, [("North", true, true), ("South", false, false), ("Isles", false, false), ("West", false, false)]);
    let gap = breakdown.gap.unwrap();
    assert!((gap.low - 0.09).abs() < 1e-9 && (gap.high - 0.09).abs() < 1e-9, "{gap:?}");
    let hidden = told.hidden().join("\n");
    assert!(
        hidden.contains("behind the headline: North") && hidden.contains("not told: Isles") && hidden.contains("fell back"),
        "{hidden}"
    );
    // Where the headline did not come on, it hides no falling back.
    let same = by_region(2, "2026-07-01", 0.50, &[("North", Some(0.53))]);
    assert!(!of(&[first, same], "2026-07-01").breakdowns[0].groups[0].fell_back);
}

#[test]
fn a_gap_holds_every_pair_that_the_best_and_the_worst_can_be() {
    let groups = |bounds: &[(f64, f64)]| -> Vec<Group> {
        let measured = |(low, high): &(f64, f64)| Measured {
            snapshot: 1,
            as_of: day("2026-04-01"),
            oldest: day("2026-04-01"),
            value: Some((low + high) / 2.0),
            interval: Some(Interval { low: *low, high: *high }),
            untold: None,
        };
        let group = |bounds| Group { keys: Vec::new(), measured: measured(bounds), behind: false, fell_back: false };
        bounds.iter().map(group).collect()
    };
    for (bounds, low, high) in [
        (&[(0.2, 0.2), (0.5, 0.5)][..], 0.3, 0.3),
        // The widest group's middle is neither the best nor the worst.
        (&[(0.1, 0.9), (0.45, 0.46), (0.54, 0.55)], 0.08, 0.8),
        (&[(0.1, 0.3), (0.2, 0.4)], 0.0, 0.3),
    ] {
        let gap = gap(&groups(bounds)).unwrap();
        assert!((gap.low - low).abs() < 1e-9 && (gap.high - high).abs() < 1e-9, "{bounds:?}: {gap:?}");
    }
    assert_eq!(gap(&groups(&[(0.1, 0.2)])), None);
}

#[test]
fn of_a_day_one_is_drawn_and_all_are_told_and_rows_alike_tell_nothing() {
    let told = of(&[snapshot(1, "2026-04-01", None, 0.5), snapshot(2, "2026-04-01", None, 0.49)], "2026-04-02");
    let numbers = |all: &[Measured]| all.iter().map(|one| one.snapshot).collect::<Vec<_>>();
    assert_eq!((numbers(&told.history), numbers(&told.same_day)), (vec![2], vec![1]));
    let twice = by_region(1, "2026-04-01", 0.5, &[("North", Some(0.4)), ("North", Some(0.6)), ("South", Some(0.5))]);
    let told = of(&[twice], "2026-04-02");
    let values: Vec<Option<f64>> = told.breakdowns[0].groups.iter().map(|group| group.measured.value).collect();
    assert_eq!(values, [None, None, Some(0.5)]);
}
