//! Who rests on what in an estate: views, datasets and agreements as plain names.

use std::collections::BTreeSet;

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
