//! Who rests on what in an estate: views, datasets and agreements as plain names.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use concordat_mission::Mission;
use concordat_mission::reuse::{self, Column, Composition, Place};
use concordat_policy::{Agreement, Dataset, DatasetName, Name};

use super::Estate;
use crate::plan;

impl Estate {
    /// The estate's views, datasets and agreements beside `missions`, which are its own. Whether agreements are signed is as of `now`.
    #[must_use]
    pub fn composition<'m>(&self, missions: &'m [Mission], now: DateTime<Utc>) -> Composition<'m> {
        Composition {
            missions,
            views: self.views.iter().map(|view| view_names(&view.mission, &view.name, &view.sql)).collect(),
            agreements: self.agreements.iter().map(|agreement| self.agreed(agreement, missions, now)).collect(),
        }
    }

    /// The texts of a view of a mission and of every view that it uses, by name; none of what the estate does not have.
    #[must_use]
    pub fn statements(&self, mission: &Name, view: &str) -> BTreeMap<String, String> {
        let own = || self.views.iter().filter(|one| one.mission == *mission);
        let used = self.used(mission, view);
        let wanted = own().filter(|one| one.name == view || used.views.contains(&one.name));
        wanted.map(|one| (one.name.clone(), one.sql.clone())).collect()
    }

    /// What a view of a mission uses, itself or through others.
    fn used(&self, mission: &Name, view: &str) -> reuse::Used {
        let own = self.views.iter().filter(|one| one.mission == *mission);
        let names: Vec<reuse::View> = own.map(|one| view_names(&one.mission, &one.name, &one.sql)).collect();
        reuse::used(&names, &Place { mission: mission.clone(), name: view.to_owned() })
    }

    /// Each dataset of a view with the agreement of the mission, of those that permit the purpose and every party signed, that covers
    /// it longest; none where there is no such agreement.
    #[must_use]
    pub fn covered(&self, mission: &Name, view: &str, purpose: &Name, now: DateTime<Utc>) -> Vec<(DatasetName, Option<&Agreement>)> {
        let permits = |one: &&Agreement| one.mission == *mission && one.purposes.iter().any(|agreed| self.purposes.covers(agreed, purpose));
        let signed: Vec<&Agreement> =
            self.agreements.iter().filter(permits).filter(|one| self.signatures.lacking(one, now).is_empty()).collect();
        let of = |dataset: DatasetName| {
            let naming = signed.iter().filter(|one| one.datasets.iter().any(|agreed| agreed.name == dataset));
            let longest = naming.max_by_key(|one| one.valid_until).copied();
            (dataset, longest)
        };
        self.used(mission, view).datasets.into_iter().map(of).collect()
    }

    fn agreed(&self, agreement: &Agreement, missions: &[Mission], now: DateTime<Utc>) -> reuse::Agreement {
        let purposes = missions.iter().flat_map(|mission| &mission.outcomes).map(|outcome| &outcome.purpose);
        let permits = |purpose: &&Name| agreement.purposes.iter().any(|agreed| self.purposes.covers(agreed, purpose));
        reuse::Agreement {
            id: agreement.id.clone(),
            mission: agreement.mission.clone(),
            purposes: purposes.filter(permits).cloned().collect(),
            valid_from: agreement.valid_from,
            valid_until: agreement.valid_until,
            signed: self.signatures.lacking(agreement, now).is_empty(),
            datasets: agreement.datasets.iter().map(dataset).collect(),
        }
    }
}

/// What a view's statement names itself; nothing where it does not parse, as an estate's always do.
#[must_use]
pub fn view_names(mission: &Name, name: &str, sql: &str) -> reuse::View {
    let (mut views, mut datasets) = (BTreeSet::new(), BTreeSet::new());
    for (schema, table) in plan::tables(sql).unwrap_or_default() {
        match schema.as_deref() {
            None | Some(plan::VIEWS) => {
                views.insert(table);
            }
            Some(schema) => {
                let name = Name::parse(schema).and_then(|department| Ok(DatasetName::new(department, Name::parse(&table)?)));
                datasets.extend(name.ok());
            }
        }
    }
    reuse::View { place: Place { mission: mission.clone(), name: name.to_owned() }, views, datasets }
}

fn dataset(dataset: &Dataset) -> reuse::Dataset {
    let column = |(name, rule): (&String, &concordat_policy::ColumnRule)| Column {
        name: name.clone(),
        title: rule.title.clone(),
        kind: rule.kind.to_string(),
    };
    reuse::Dataset {
        name: dataset.name.clone(),
        identifier: dataset.identifier.label(),
        columns: dataset.columns.iter().map(column).collect(),
    }
}
