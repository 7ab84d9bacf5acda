//! `concordat catalogue`: what the caller may use for the declared purpose, searched by any word that stands in it.

mod find;

use std::collections::BTreeMap;

use chrono::DateTime;
use clap::Args;
use concordat_gateway::estate::view_names;
use concordat_mission::reuse::Composition;
use concordat_policy::Name;
use concordat_proto::v1::{Agreement, CatalogueResponse, Column, Dataset};
use serde_json::{Value, json};

use self::find::found;
use super::Output;
use super::target::Target;
use crate::failure::Result;
use crate::out;
use crate::table::Table;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat catalogue                              everything that you may use
  concordat catalogue attainment                   where the word stands: views, datasets, columns, titles, codes
  concordat catalogue 'isles of scilly'            which column has this value, and whom to ask about it
  concordat catalogue --purpose health.prevention --output json

Lists only what your organisation, your roles and the declared purpose may use. With TERM, only what holds it, whatever its case and
accents, and the whole value lists of the columns found. Beside a dataset stand the views that read it. A column's uses say what SQL may
do with it: group_by (GROUP BY), aggregate (count, sum, avg), filter (WHERE), join (ON). With filter alone, it never leaves its
department. Numbers that rest on fewer people than an agreement's minimum are withheld; the other rules that protect numbers stand with
the agreements that have them.")]
pub(crate) struct Catalogue {
    /// A word to look for in names, titles, values, units and agreements
    term: Option<String>,
    /// How to print the list
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(catalogue: Catalogue) -> Result<()> {
    let whole = catalogue.target.connect().await?.catalogue().await?;
    let uses = uses(&whole);
    let term = catalogue.term.as_deref().map(str::trim).filter(|term| !term.is_empty());
    let shown = match term {
        Some(term) => found(whole, term),
        None => whole,
    };
    match (catalogue.output, term) {
        (Output::Json, _) => out::result(&format!("{}\n", to_json(&shown, &uses))),
        (Output::Table, Some(term)) if shown.views.is_empty() && shown.datasets.is_empty() => {
            out::progress(&format!(
                "nothing that you may use for this purpose holds '{term}': `concordat catalogue` lists everything; with --purpose, what another purpose may use"
            ));
            Ok(())
        }
        (Output::Table, _) => out::result(&text(&shown, &uses, term.is_some())),
    }
}

/// Datasets by name, each with the views that read it, themselves or through others.
type Uses = BTreeMap<String, Vec<String>>;

/// Of the views that the caller may use, as `mission reuse` works it out of an estate.
fn uses(catalogue: &CatalogueResponse) -> Uses {
    let Ok(mission) = Name::parse(&catalogue.mission) else { return Uses::new() };
    let views = catalogue.views.iter().map(|view| view_names(&mission, &view.name, &view.sql)).collect();
    let reuse = Composition { missions: &[], views, agreements: Vec::new() }.reuse();
    reuse.datasets.into_iter().map(|of| (of.dataset.to_string(), of.views.into_iter().map(|view| view.name).collect())).collect()
}

fn text(catalogue: &CatalogueResponse, uses: &Uses, with_values: bool) -> String {
    let mut parts = vec![heading(catalogue)];
    let mut add = |titles: &[&str], rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            parts.push(Table::of(titles, rows).text(out::colour()));
        }
    };
    add(
        &["view", "title", "one row counts"],
        catalogue.views.iter().map(|v| vec![v.name.clone(), v.title.clone(), v.unit.clone()]).collect(),
    );
    let datasets = catalogue.datasets.iter().map(|dataset| dataset_row(dataset, uses)).collect();
    add(&["dataset", "agreement", "identifier", "minimum", "data of", "read by views"], datasets);
    add(&["column", "type", "uses", "meaning"], columns(catalogue).map(|(d, c)| column_row(d, c)).collect());
    add(&["agreement", "title", "in force until", "log unwitnessed for at most"], catalogue.agreements.iter().map(agreement_row).collect());
    add(&["rule for numbers", "of the agreements"], rule_rows(&catalogue.agreements));
    add(
        &["department", "title", "who to ask"],
        catalogue.departments.iter().map(|d| vec![d.id.clone(), d.title.clone(), d.contact.clone()]).collect(),
    );
    if with_values {
        parts.extend(columns(catalogue).filter(|(_, c)| c.values.len() > FEW).map(|(d, c)| {
            let values: String = c.values.iter().map(|value| format!("  {value}\n")).collect();
            format!("values of {}.{}\n{values}", d.name, c.name)
        }));
    }
    parts.join("\n")
}

fn heading(catalogue: &CatalogueResponse) -> String {
    let goal = if catalogue.mission_goal.is_empty() { String::new() } else { format!("  {}\n", catalogue.mission_goal) };
    format!("Mission {}: {}\n{goal}", catalogue.mission, catalogue.mission_title)
}

fn columns(catalogue: &CatalogueResponse) -> impl Iterator<Item = (&Dataset, &Column)> {
    catalogue.datasets.iter().flat_map(|dataset| dataset.columns.iter().map(move |column| (dataset, column)))
}

fn dataset_row(dataset: &Dataset, uses: &Uses) -> Vec<String> {
    vec![
        dataset.name.clone(),
        dataset.agreement.clone(),
        dataset.identifier_type.clone(),
        dataset.minimum_subjects.to_string(),
        age(dataset),
        uses.get(&dataset.name).map(|views| views.join(", ")).unwrap_or_default(),
    ]
}

fn agreement_row(agreement: &Agreement) -> Vec<String> {
    let Agreement { id, title, valid_until, max_unwitnessed, .. } = agreement;
    [id, title, valid_until, max_unwitnessed].map(String::clone).to_vec()
}

/// Each rule once, with the agreements that have it.
fn rule_rows(agreements: &[Agreement]) -> Vec<Vec<String>> {
    let mut rules: Vec<(&str, Vec<&str>)> = Vec::new();
    for Agreement { id, disclosure, .. } in agreements {
        for rule in disclosure {
            match rules.iter_mut().find(|(known, _)| *known == rule.as_str()) {
                Some((_, of)) => of.push(id.as_str()),
                None => rules.push((rule.as_str(), vec![id.as_str()])),
            }
        }
    }
    rules.into_iter().map(|(rule, of)| vec![rule.to_owned(), of.join(", ")]).collect()
}

fn column_row(dataset: &Dataset, column: &Column) -> Vec<String> {
    vec![format!("{}.{}", dataset.name, column.name), column.r#type.clone(), column.uses.join(", "), meaning(column)]
}

/// When its data last changed, and how old it may be.
fn age(dataset: &Dataset) -> String {
    let most = Some(&dataset.max_data_age).filter(|most| !most.is_empty()).map(|most| format!("at most {most} old"));
    freshness(dataset).into_iter().chain(most).collect::<Vec<_>>().join(", ")
}

/// When the dataset's source last changed, where its node said so.
fn freshness(dataset: &Dataset) -> Option<String> {
    let time = DateTime::from_timestamp(dataset.freshness, 0).filter(|_| dataset.freshness > 0)?;
    Some(time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// The most values that stand beside a column's title.
const FEW: usize = 5;

/// The column's title, for a short list its values, how conditions may compare it where that is limited, and how it is coded.
fn meaning(column: &Column) -> String {
    let values = match column.values.as_slice() {
        [] => String::new(),
        values if values.len() <= FEW => format!("({})", values.join(" | ")),
        values => format!("({} values)", values.len()),
    };
    let limit = match column.filter.as_str() {
        "" => String::new(),
        "bands" => format!("(filter only by < and >= with {})", column.bands.join(" | ")),
        _ => "(filter only by its listed values)".to_owned(),
    };
    let coded = if column.coded.is_empty() { String::new() } else { format!("({})", column.coded) };
    let parts = [column.title.as_str(), &values, &limit, &coded];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn to_json(catalogue: &CatalogueResponse, uses: &Uses) -> Value {
    let views = catalogue
        .views
        .iter()
        .map(|v| json!({ "name": v.name, "title": v.title, "unit": v.unit, "description": v.description, "sql": v.sql }));
    let datasets = catalogue.datasets.iter().map(|d| {
        let columns = d.columns.iter().map(|c| {
            let classification = Some(&c.classification).filter(|c| !c.is_empty());
            let coded = Some(&c.coded).filter(|coded| !coded.is_empty());
            let limit = Some(&c.filter).filter(|limit| !limit.is_empty());
            json!({
                "name": c.name, "type": c.r#type, "title": c.title, "uses": c.uses, "values": c.values,
                "classification": classification, "coded": coded, "filter": limit, "bands": c.bands,
            })
        });
        json!({
            "name": d.name, "agreement": d.agreement, "identifier_type": d.identifier_type, "minimum_subjects": d.minimum_subjects,
            "freshness": freshness(d), "max_data_age": Some(&d.max_data_age).filter(|most| !most.is_empty()),
            "views": uses.get(&d.name).map(Vec::as_slice).unwrap_or_default(),
            "columns": columns.collect::<Vec<_>>(),
        })
    });
    let agreements = catalogue.agreements.iter().map(|a| {
        let (until, minimum) = (&a.valid_until, a.minimum_subjects);
        json!({
            "id": a.id, "title": a.title, "valid_until": until, "minimum_subjects": minimum, "disclosure": a.disclosure,
            "max_unwitnessed": a.max_unwitnessed,
        })
    });
    let departments = catalogue
        .departments
        .iter()
        .map(|d| json!({ "id": d.id, "title": d.title, "contact": Some(&d.contact).filter(|contact| !contact.is_empty()) }));
    json!({
        "mission": { "id": catalogue.mission, "title": catalogue.mission_title, "goal": catalogue.mission_goal },
        "views": views.collect::<Vec<_>>(),
        "datasets": datasets.collect::<Vec<_>>(),
        "agreements": agreements.collect::<Vec<_>>(),
        "departments": departments.collect::<Vec<_>>(),
    })
}
