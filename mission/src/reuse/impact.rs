//! What ends with an agreement: which datasets stay covered by another one of its mission, and which outcomes lose their measure.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use concordat_policy::{DatasetName, Name};
use serde::Serialize;

use super::{Agreement, Composition, Dataset, Place, text, texts};

/// What ends with an agreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Impact {
    /// The agreement.
    pub agreement: Name,
    /// Its mission.
    pub mission: Name,
    /// The first day without it.
    pub from: NaiveDate,
    /// Its datasets, and what else covers them.
    pub datasets: Vec<Covered>,
    /// The outcomes that rest on it.
    pub outcomes: Vec<Losing>,
    /// The views of the mission that nothing would answer: they need a dataset that no other agreement covers.
    pub views: BTreeSet<Place>,
}

/// A dataset of the agreement, and what else covers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Covered {
    /// The dataset.
    #[serde(serialize_with = "text")]
    pub dataset: DatasetName,
    /// Other agreements of the mission that name it.
    pub others: Vec<Other>,
}

/// Another agreement that names a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Other {
    /// The agreement.
    pub agreement: Name,
    /// Its first day.
    pub valid_from: NaiveDate,
    /// Its last.
    pub valid_until: NaiveDate,
    /// Whether every party has signed it.
    pub signed: bool,
    /// Whether it is signed, and in force on the first day without the one that ends.
    pub in_force: bool,
    /// The columns that the one that ends names and it does not.
    pub lacks: BTreeSet<String>,
}

/// An outcome that rests on the agreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Losing {
    /// The outcome.
    pub outcome: Name,
    /// Its title, for people.
    pub title: String,
    /// Its view.
    pub view: String,
    /// What it loses.
    pub loses: Loss,
    /// The datasets that it loses, or may lose.
    #[serde(serialize_with = "texts")]
    pub datasets: Vec<DatasetName>,
    /// Where it keeps all: the last day on which everything is covered by those agreements that are there now.
    pub kept_until: Option<NaiveDate>,
    /// The outputs of which nobody could tell any more whether they move it.
    pub outputs: Vec<Name>,
}

/// What an outcome loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Its measure, wholly: a dataset is covered by nothing else for its purpose.
    Measure,
    /// Perhaps its measure: what else covers a dataset lacks columns.
    Perhaps,
    /// Nothing: other agreements cover every dataset.
    Nothing,
}

impl Loss {
    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Measure => "its measure",
            Self::Perhaps => "perhaps its measure",
            Self::Nothing => "nothing",
        }
    }
}

impl Composition<'_> {
    /// What would be lost if an agreement ended: from `from` on, or from the day after its last. `None` where there is no such agreement.
    #[must_use]
    pub fn impact(&self, id: &Name, from: Option<NaiveDate>) -> Option<Impact> {
        let ending = self.agreements.iter().find(|agreement| agreement.id == *id)?;
        let from = from.or_else(|| ending.valid_until.succ_opt()).unwrap_or(ending.valid_until);
        let others = |dataset: &Dataset| -> Vec<Other> {
            self.covering(ending, dataset).map(|(agreement, other)| Other::of(agreement, other, dataset, from)).collect()
        };
        let datasets: Vec<Covered> =
            ending.datasets.iter().map(|dataset| Covered { dataset: dataset.name.clone(), others: others(dataset) }).collect();
        let lost: BTreeSet<&DatasetName> =
            datasets.iter().filter(|one| !one.others.iter().any(|other| other.in_force)).map(|one| &one.dataset).collect();
        let of_mission = self.views.iter().filter(|view| view.place.mission == ending.mission);
        let views = of_mission.filter(|view| self.used(&view.place).datasets.iter().any(|dataset| lost.contains(dataset)));
        let views = views.map(|view| view.place.clone()).collect();
        let outcomes = self.losing(ending, from);
        Some(Impact { agreement: ending.id.clone(), mission: ending.mission.clone(), from, datasets, outcomes, views })
    }

    /// Other agreements of the mission that name a dataset, under the same type of identifier.
    fn covering<'c>(&'c self, ending: &'c Agreement, dataset: &'c Dataset) -> impl Iterator<Item = (&'c Agreement, &'c Dataset)> {
        let others = self.agreements.iter().filter(|other| other.id != ending.id && other.mission == ending.mission);
        let named = others.filter_map(|other| Some((other, other.dataset(&dataset.name)?)));
        named.filter(|(_, other)| other.identifier == dataset.identifier)
    }

    fn losing(&self, ending: &Agreement, from: NaiveDate) -> Vec<Losing> {
        let mut losing = Vec::new();
        for mission in self.missions.iter().filter(|mission| mission.id == ending.mission) {
            for outcome in mission.outcomes.iter().filter(|outcome| ending.purposes.contains(&outcome.purpose)) {
                let used = self.used(&Place { mission: mission.id.clone(), name: outcome.view.clone() }).datasets;
                let needed: Vec<&Dataset> = ending.datasets.iter().filter(|dataset| used.contains(&dataset.name)).collect();
                let each: Vec<(&Dataset, Loss, Option<NaiveDate>)> = needed
                    .into_iter()
                    .map(|dataset| {
                        let covering = self.covering(ending, dataset).filter(|(other, _)| other.purposes.contains(&outcome.purpose));
                        let others: Vec<Other> = covering
                            .map(|(agreement, other)| Other::of(agreement, other, dataset, from))
                            .filter(|other| other.in_force)
                            .collect();
                        let whole = others.iter().filter(|other| other.lacks.is_empty()).map(|other| other.valid_until).max();
                        let loss = match (others.is_empty(), whole) {
                            (true, _) => Loss::Measure,
                            (false, None) => Loss::Perhaps,
                            (false, Some(_)) => Loss::Nothing,
                        };
                        (dataset, loss, whole)
                    })
                    .collect();
                let Some(loses) = each.iter().map(|(_, loss, _)| *loss).min() else { continue };
                let until = each.iter().filter_map(|(_, _, until)| *until).min();
                losing.push(Losing {
                    outcome: outcome.id.clone(),
                    title: outcome.title.clone(),
                    view: outcome.view.clone(),
                    loses,
                    datasets: each
                        .iter()
                        .filter(|(_, loss, _)| *loss != Loss::Nothing)
                        .map(|(dataset, _, _)| dataset.name.clone())
                        .collect(),
                    kept_until: until.filter(|_| loses == Loss::Nothing),
                    outputs: mission.outputs_of(outcome).filter(|_| loses != Loss::Nothing).map(|output| output.id.clone()).collect(),
                });
            }
        }
        losing
    }
}

impl Other {
    fn of(agreement: &Agreement, has: &Dataset, ending: &Dataset, from: NaiveDate) -> Self {
        let lacks = ending.columns.iter().filter(|column| !has.columns.iter().any(|other| other.name == column.name));
        Self {
            agreement: agreement.id.clone(),
            valid_from: agreement.valid_from,
            valid_until: agreement.valid_until,
            signed: agreement.signed,
            in_force: agreement.signed && (agreement.valid_from..=agreement.valid_until).contains(&from),
            lacks: lacks.map(|column| column.name.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{agreement, name, view};
    use super::*;
    use crate::mission::Mission;
    use crate::testing::{day, mission};

    const PEOPLE: &str = "a.people: region text, income number";

    fn of(missions: &[Mission], agreements: Vec<Agreement>) -> Composition<'_> {
        let views = vec![
            view("m", "v", &["joined"], &[]),
            view("m", "joined", &[], &["a.people", "b.claims"]),
            view("m", "alone", &[], &["b.claims"]),
        ];
        Composition { missions, views, agreements }
    }

    fn ending() -> Agreement {
        agreement("ending", "m", "2026-12-31", &[PEOPLE, "b.claims: amount number"])
    }

    fn told(others: Vec<Agreement>) -> (Impact, Losing) {
        let missions = [mission()];
        let composition = of(&missions, std::iter::once(ending()).chain(others).collect());
        let impact = composition.impact(&name("ending"), None).unwrap();
        let losing = impact.outcomes[0].clone();
        (impact, losing)
    }

    #[test]
    fn without_another_agreement_everything_is_lost_the_day_after() {
        let (impact, losing) = told(Vec::new());
        assert_eq!((impact.from, losing.loses, losing.kept_until), (day("2027-01-01"), Loss::Measure, None));
        assert_eq!(losing.datasets.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a.people", "b.claims"]);
        assert_eq!((losing.outputs, impact.views.len()), (vec![name("visits")], 3));
        let missions = [mission()];
        assert!(of(&missions, vec![ending()]).impact(&name("another"), None).is_none());
    }

    #[test]
    fn one_dataset_that_is_lost_is_the_whole_measure() {
        let (impact, losing) = told(vec![agreement("claims", "m", "2028-06-30", &["b.claims: amount number, more text"])]);
        assert_eq!((losing.loses, losing.datasets.len(), losing.datasets[0].to_string().as_str()), (Loss::Measure, 1, "a.people"));
        let views: Vec<String> = impact.views.iter().map(ToString::to_string).collect();
        assert_eq!(views, ["m/joined", "m/v"], "the third needs claims alone, and has them");
    }

    #[test]
    fn what_others_cover_is_kept_as_long_as_all_of_them_last() {
        let both = || {
            vec![agreement("claims", "m", "2028-06-30", &["b.claims: amount number"]), agreement("people", "m", "2027-03-31", &[PEOPLE])]
        };
        let (impact, losing) = told(both());
        assert_eq!((losing.loses, losing.kept_until, losing.outputs.len()), (Loss::Nothing, Some(day("2027-03-31")), 0));
        assert!(losing.datasets.is_empty() && impact.views.is_empty());
        let change = |change: fn(&mut Agreement)| {
            let mut others = both();
            change(&mut others[1]);
            told(others).1.loses
        };
        assert_eq!(change(|_| ()), Loss::Nothing);
        assert_eq!(change(|people| people.mission = name("n")), Loss::Measure, "another mission's agreement serves that mission");
        assert_eq!(change(|people| people.purposes.clear()), Loss::Measure, "it does not permit the outcome's purpose");
        assert_eq!(change(|people| people.valid_until = day("2026-12-31")), Loss::Measure, "it ends on the same day");
        assert_eq!(change(|people| people.valid_from = day("2027-01-02")), Loss::Measure, "it begins a day late");
        assert_eq!(change(|people| people.datasets[0].identifier = "nhs_number".into()), Loss::Measure, "its subjects are known otherwise");
        assert_eq!(change(|people| people.datasets[0].columns.truncate(1)), Loss::Perhaps, "it lacks a column");
        assert_eq!(change(|people| people.signed = false), Loss::Measure, "nobody is bound by it");
        let mut lacking = both();
        lacking[1].datasets[0].columns.truncate(1);
        let (impact, losing) = told(lacking);
        assert_eq!(impact.datasets[0].others[0].lacks, BTreeSet::from(["income".to_owned()]));
        assert_eq!((losing.datasets.len(), losing.kept_until, losing.outputs.len()), (1, None, 1));
    }

    #[test]
    fn an_agreement_that_ends_early_is_compared_with_what_is_in_force_then() {
        let missions = [mission()];
        let early = agreement("other", "m", "2026-09-30", &[PEOPLE, "b.claims: amount number"]);
        let composition = of(&missions, vec![ending(), early]);
        let at = |from| composition.impact(&name("ending"), from).unwrap().outcomes[0].loses;
        assert_eq!((at(Some(day("2026-06-01"))), at(None)), (Loss::Nothing, Loss::Measure));
    }

    #[test]
    fn what_the_agreement_does_not_permit_does_not_rest_on_it() {
        let missions = [mission()];
        let mut ending = ending();
        ending.purposes.clear();
        assert!(of(&missions, vec![ending]).impact(&name("ending"), None).unwrap().outcomes.is_empty());
    }
}
