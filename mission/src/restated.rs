//! What a mission's file said once and says otherwise now, or not at all: by the snapshots, which state what it said when they were taken.
//!
//! A file is edited, and keeps no past. What was promised by it and measured since is not forgotten for that: it is told wherever the
//! outcome, or the mission, is.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use concordat_policy::Name;
use serde::Serialize;

use crate::mission::{Mission, Outcome, Point};
use crate::snapshot::{Aim, Snapshot};

/// An outcome of a mission that was measured, and that the mission's file does not have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unstated {
    /// Its name then.
    pub outcome: Name,
    /// The number of its first snapshot.
    pub first: u64,
    /// The number of its last.
    pub last: u64,
    /// When that was taken.
    pub on: NaiveDate,
    /// Where it was to stand.
    pub target: Point,
}

impl Unstated {
    /// In a sentence, without its end.
    #[must_use]
    pub fn says(&self) -> String {
        let Self { outcome, first, last, on, target } = self;
        let which = if first == last { format!("snapshot {last}") } else { format!("snapshots {first} to {last}") };
        format!(
            "measured before, and stated no more: '{outcome}', {which}, the last of {on}, its target then {} by {}",
            target.value, target.on
        )
    }
}

/// The outcomes of a mission that snapshots are of, superseded ones too, and that its file does not have: removed, or called otherwise.
#[must_use]
pub fn unstated(mission: &Mission, snapshots: &[Snapshot]) -> Vec<Unstated> {
    let mut unstated: BTreeMap<&Name, Unstated> = BTreeMap::new();
    for Snapshot { number, taken, .. } in snapshots.iter().filter(|one| one.taken.mission == mission.id) {
        if mission.outcomes.iter().all(|outcome| outcome.id != taken.outcome) {
            let first = unstated.get(&taken.outcome).map_or(*number, |before| before.first);
            let (outcome, on, target) = (taken.outcome.clone(), taken.taken_at.date_naive(), taken.aim.target);
            unstated.insert(&taken.outcome, Unstated { outcome, first, last: *number, on, target });
        }
    }
    unstated.into_values().collect()
}

/// Each other path that a snapshot of the outcome states, by the first that does; superseded ones and those of another definition too.
pub(crate) fn paths<'s>(mission: &Mission, outcome: &Outcome, snapshots: &'s [Snapshot]) -> Vec<&'s Snapshot> {
    let now = Aim::of(mission, outcome);
    let mut said: Vec<&Snapshot> = Vec::new();
    for one in of(mission, outcome, snapshots).filter(|one| !one.taken.aim.same_path(&now)) {
        if !said.iter().any(|other| other.taken.aim.same_path(&one.taken.aim)) {
            said.push(one);
        }
    }
    said
}

/// What was changed of an outcome since it was measured, a clause each.
pub(crate) fn restated(mission: &Mission, outcome: &Outcome, definition: &str, snapshots: &[Snapshot]) -> Vec<String> {
    let now = Aim::of(mission, outcome);
    let last = |other: &dyn Fn(&Snapshot) -> bool| of(mission, outcome, snapshots).filter(|one| other(one)).last().map(|one| one.number);
    let path = last(&|one| !one.taken.aim.same_path(&now)).map(|number| format!("the path was changed after snapshot {number}"));
    let measure = last(&|one| one.taken.definition != definition)
        .map(|number| format!("what it measures, or what kind of number that is, was changed after snapshot {number}"));
    let mut gone: BTreeMap<&str, u64> = BTreeMap::new();
    for one in of(mission, outcome, snapshots) {
        let lost = one
            .taken
            .aim
            .breakdowns
            .iter()
            .filter(|before| !outcome.breakdowns.iter().any(|now| now.by == before.by && now.row == before.row));
        gone.extend(lost.map(|breakdown| (breakdown.title.as_str(), one.number)));
    }
    let gone = gone.into_iter().map(|(title, number)| format!("the breakdown '{title}' was taken out after snapshot {number}"));
    path.into_iter().chain(measure).chain(gone).collect()
}

fn of<'s>(mission: &Mission, outcome: &Outcome, snapshots: &'s [Snapshot]) -> impl Iterator<Item = &'s Snapshot> {
    snapshots.iter().filter(move |one| one.taken.mission == mission.id && one.taken.outcome == outcome.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{day, mission, snapshot};

    #[test]
    fn an_outcome_that_was_taken_out_or_renamed_is_told_by_its_snapshots() {
        let mut mission = mission();
        let all = [snapshot(1, "2026-04-10", None, 0.5), snapshot(2, "2026-05-10", None, 0.5)];
        assert_eq!(unstated(&mission, &all), []);
        mission.outcomes[0].id = Name::parse("less").unwrap();
        let found = unstated(&mission, &all);
        assert_eq!((found.len(), found[0].first, found[0].last, found[0].on), (1, 1, 2, day("2026-05-10")));
        assert!(found[0].says().contains("'fewer', snapshots 1 to 2, the last of 2026-05-10, its target then 0.4 by 2028-12-26"));
        mission.id = Name::parse("another").unwrap();
        assert_eq!(unstated(&mission, &all), [], "of another mission");
    }

    #[test]
    fn what_was_changed_is_told_of_superseded_snapshots_and_other_definitions_too() {
        let mission = mission();
        let outcome = &mission.outcomes[0];
        let mut all = [snapshot(1, "2026-04-10", None, 0.5), snapshot(2, "2026-05-10", None, 0.5), snapshot(3, "2026-06-10", None, 0.5)];
        let told = |all: &[Snapshot]| restated(&mission, outcome, "d", all).join("; ");
        assert_eq!((told(&all), paths(&mission, outcome, &all)), (String::new(), Vec::new()));
        all[1].taken.aim.target.value = 0.3;
        all[2].taken.supersedes = Some(2);
        assert_eq!(told(&all), "the path was changed after snapshot 2");
        assert_eq!(paths(&mission, outcome, &all).iter().map(|one| one.number).collect::<Vec<_>>(), [2]);
        all[0].taken.definition = "another".into();
        all[0].taken.aim.breakdowns = outcome.breakdowns.clone();
        all[0].taken.aim.breakdowns[0].by = vec!["age".into()];
        let said = told(&all);
        for expected in
            ["after snapshot 2; what it measures", "changed after snapshot 1; the breakdown 'By region' was taken out after snapshot 1"]
        {
            assert!(said.contains(expected), "{said}");
        }
    }
}
