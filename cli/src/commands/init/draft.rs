//! The drafts that `init` leaves to people: an agreement that permits nothing, and a view.

use std::fmt::Write as _;
use std::path::Path;

use chrono::{Days, NaiveDate};
use concordat_policy::{Basis, ColumnType};

use super::{Init, POWER_TO_BE_NAMED};
use crate::failure::Result;
use crate::federation::describe::{AgreedDataset, Agreement, Column, Dataset, Department, Federation};
use crate::federation::{Made, agreement_text as text_of};

/// An agreement over every dataset in which nothing may be used.
pub(super) fn agreement(init: &Init, federation: &Federation, today: NaiveDate) -> Agreement {
    let datasets = federation.departments.iter().flat_map(|department| {
        department.datasets.iter().map(|dataset| AgreedDataset {
            department: department.id.clone(),
            dataset: dataset.name.clone(),
            basis: Basis::Statutory { power: POWER_TO_BE_NAMED.into(), honours_objections: true },
            subject_uses: Vec::new(),
            linked_uses: Vec::new(),
            columns: dataset.columns.iter().map(|column| (column.name.clone(), Vec::new())).collect(),
        })
    });
    Agreement {
        id: init.mission.to_string(),
        title: format!("{}: draft", init.mission),
        mission: init.mission.to_string(),
        purposes: vec![init.purpose.to_string()],
        valid_from: today - Days::new(1),
        valid_until: today + Days::new(365),
        minimum_subjects: 10,
        disclosure: Default::default(),
        keyholder: federation.departments.first().map(|department| department.id.clone()).unwrap_or_default(),
        epoch_days: 90,
        limits: Default::default(),
        recipients: vec![(init.organisation.clone(), vec![init.role.clone()])],
        datasets: datasets.collect(),
    }
}

/// The agreement's document, with what there is to decide at its head.
pub(super) fn agreement_text(federation: &Federation, made: &Made, folder: &Path) -> Result<String> {
    let folder = folder.display();
    let mut text = format!(
        "# DRAFT: as it stands, nothing may be used. Decide, and write down:
#
# - for each dataset, why the law allows it: `power` names it; or instead
#       basis = \"consent\"
#       consent_text = \"what people were asked\"
# - for each identifier, uses = [\"join\", \"aggregate\"] if its people may be joined with other datasets' and counted;
# - for each column, its uses: \"group_by\" (needs a list of values), \"aggregate\" (count, sum, avg), \"filter\" (WHERE).
#   A column with \"filter\" alone never leaves its department. Delete the columns that nobody needs;
# - what numbers must not tell: minimum_subjects, and the rules of [disclosure], which are in force although they do not stand here;
#   `concordat agreement new` writes a document that explains each;
# - for each column, whether it is public, personal or special (UK GDPR Art. 9); `init` cannot know and writes personal.
#
# Read it as people do before they sign: concordat agreement show {folder}/agreement.toml
# Then: concordat adopt {folder} {folder}/agreement.toml

"
    );
    for agreement in &federation.agreements {
        text.push_str(&text_of(agreement, &federation.departments, &made.fingerprints)?);
    }
    Ok(text)
}

/// A view that counts the people in all datasets, by the first short list of values there is.
pub(super) fn view(init: &Init, federation: &Federation, today: NaiveDate) -> String {
    let datasets: Vec<(&Department, &Dataset)> =
        federation.departments.iter().flat_map(|department| department.datasets.iter().map(move |dataset| (department, dataset))).collect();
    let named: Vec<(String, &Department, &Dataset)> =
        datasets.iter().zip(1..).map(|((department, dataset), n)| (format!("d{n}"), *department, *dataset)).collect();
    let code = named.iter().find_map(|(alias, _, dataset)| {
        let column = dataset.columns.iter().find(|column| column.kind == ColumnType::Text && column.values.is_some())?;
        Some(format!("{alias}.{}", column.name))
    });
    let average = named.iter().find_map(|(alias, _, dataset)| {
        let column = dataset.columns.iter().find(|column| is_measure(column))?;
        Some((format!("{alias}.{}", column.name), column.name.clone()))
    });
    let mut text = format!(
        "-- mission: {}\n-- title: The first joined view\n-- unit: persons known to every department\n-- description: Drafted by `concordat init` on {today}; the agreement must permit each use.\nSELECT\n",
        init.mission
    );
    let mut outputs: Vec<String> = code.iter().cloned().collect();
    outputs.push("count(DISTINCT d1.subject) AS persons".into());
    outputs.extend(average.map(|(column, name)| format!("avg({column}) AS average_{name}")));
    let _ = write!(text, "  {}", outputs.join(",\n  "));
    for (alias, department, dataset) in &named {
        let table = format!("{}.{} {alias}", department.id, dataset.name);
        let _ = if alias == "d1" { write!(text, "\nFROM {table}") } else { write!(text, "\nJOIN {table} ON {alias}.subject = d1.subject") };
    }
    if let Some(code) = code {
        let _ = write!(text, "\nGROUP BY {code}\nORDER BY {code}");
    }
    text.push('\n');
    text
}

fn is_measure(column: &Column) -> bool {
    matches!(column.kind, ColumnType::Number | ColumnType::Integer) && column.values.is_none()
}
