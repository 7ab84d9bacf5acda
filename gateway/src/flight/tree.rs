//! What a client's tree of objects shows: missions as catalogs, in each the schema `views` and a schema for each department,
//! with the outcome views and datasets that this user may use. What may not be used is not there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use concordat_policy::authorize::DatasetPermit;
use concordat_policy::column::{LINKED, SUBJECT};
use concordat_policy::{ColumnType, DatasetName, Name, Permit, Refusal, Use};
use concordat_proto::schema::{linked_field, subject_field, wire_type};
use futures::future::join_all;

use super::Known;
use crate::Gateway;
use crate::authenticate::Caller;
use crate::estate::View;
use crate::limits::Key;
use crate::pipeline;
use crate::plan::{Plan, VIEWS};

/// How long a department may take to say how fresh its data is; a tree does without.
const PATIENCE: Duration = Duration::from_millis(500);

/// One view or dataset.
pub(super) struct Object {
    pub(super) mission: Name,
    /// `views`, or the department.
    pub(super) schema: String,
    pub(super) name: String,
    /// `VIEW` or `TABLE`.
    pub(super) kind: &'static str,
    /// Its columns, with what there is to say of them and of it as metadata.
    pub(super) columns: SchemaRef,
}

/// The objects that a user may use, by mission, schema and name.
///
/// # Errors
/// The refusal of a purpose that contradicts the token's.
pub(super) async fn objects(gateway: &Gateway, known: &Known) -> Result<Vec<Object>, Refusal> {
    let permits = permits(gateway, known)?;
    let caller = Key::of_identity(&known.identity);
    let fresh = freshness(gateway, &permits).await;
    let estate = gateway.estate.now();
    let mut objects: BTreeMap<(Name, String, String), Object> = BTreeMap::new();
    for permit in &permits {
        for dataset in permit.datasets() {
            let object = dataset_object(permit, dataset, &fresh);
            objects.entry((object.mission.clone(), object.schema.clone(), object.name.clone())).or_insert(object);
        }
        for view in estate.views.iter().filter(|view| view.mission == *permit.mission()) {
            let key = (view.mission.clone(), VIEWS.to_owned(), view.name.clone());
            if !objects.contains_key(&key)
                && let Some(plan) = pipeline::view(gateway, permit, view, &caller).await
            {
                objects.insert(key, view_object(permit, view, &plan));
            }
        }
    }
    Ok(objects.into_values().collect())
}

/// What the user may use: under the declared purpose, or, where none is declared, under each that an agreement names.
fn permits(gateway: &Gateway, known: &Known) -> Result<Vec<Permit>, Refusal> {
    let estate = gateway.estate.now();
    let stated = known.session.mission.as_ref().or(known.identity.mission());
    let missions = estate.missions.iter().map(|m| &m.id).filter(|id| stated.is_none_or(|stated| stated == *id));
    let now = chrono::Utc::now();
    let permit = |caller: &Caller, mission: &Name| pipeline::authorized(&estate, &caller.in_mission(mission), now).ok();
    if known.identity.has_purpose() || known.session.purpose.is_some() {
        let caller = known.caller()?;
        return Ok(missions.filter_map(|mission| permit(&caller, mission)).collect());
    }
    let mut all = Vec::new();
    for mission in missions {
        let purposes: BTreeSet<&Name> = estate.agreements.iter().filter(|a| a.mission == *mission).flat_map(|a| &a.purposes).collect();
        for purpose in purposes {
            let caller = known.identity.clone().with_purpose((Some(purpose.clone()), Some(mission.clone())))?;
            all.extend(permit(&caller, mission));
        }
    }
    Ok(all)
}

/// When each dataset last changed, as far as its department says so at once. Unix seconds.
async fn freshness(gateway: &Gateway, permits: &[Permit]) -> HashMap<DatasetName, i64> {
    let departments: BTreeSet<Name> = permits.iter().flat_map(Permit::datasets).map(|d| d.dataset.name.department.clone()).collect();
    let asked = join_all(departments.into_iter().map(async |department| {
        let description = tokio::time::timeout(PATIENCE, gateway.fetcher.nodes.describe(&department)).await.ok()?.ok()?;
        let of = |d: &concordat_proto::v1::DatasetDescription| {
            Some((DatasetName::new(department.clone(), Name::parse(&d.name).ok()?), d.freshness))
        };
        Some(description.datasets.iter().filter_map(of).collect::<Vec<_>>())
    }));
    asked.await.into_iter().flatten().flatten().collect()
}

fn dataset_object(permit: &Permit, dataset: &DatasetPermit, fresh: &HashMap<DatasetName, i64>) -> Object {
    let rules = &dataset.dataset;
    let place = [permit.mission().as_str(), rules.name.department.as_str(), rules.name.dataset.as_str()];
    let subject = remarked(
        subject_field(),
        place,
        "pseudonym",
        &format!("pseudonym of the {}; uses: {}", rules.identifier, uses(&rules.subject_uses)),
    );
    let linked = rules.linked.iter().filter(|linked| !linked.uses.is_empty()).map(|linked| {
        let remarks = format!("pseudonym of the {}; uses: {}", linked.identifier, uses(&linked.uses));
        remarked(linked_field(), place, "pseudonym", &remarks)
    });
    let columns = rules.columns.iter().filter(|(_, rule)| !rule.uses.is_empty()).map(|(name, rule)| {
        let values = rule.values.as_ref().map(|values| format!("; values: {}", values.join(", "))).unwrap_or_default();
        let limit = rule.limit_in_words().map(|limit| format!("; {limit}")).unwrap_or_default();
        let coded = rule.coded.map(|coded| format!("; coded: {coded}")).unwrap_or_default();
        let title = rule.title.as_deref().unwrap_or(name);
        let field = Field::new(name, plain(rule.kind), true);
        remarked(field, place, &rule.kind.to_string(), &format!("{title}; uses: {}{limit}{coded}{values}", uses(&rule.uses)))
    });
    let mut about = HashMap::from([
        ("agreement".to_owned(), dataset.agreement.to_string()),
        ("identifier_type".to_owned(), rules.identifier.to_string()),
        ("minimum_subjects".to_owned(), dataset.minimum_subjects.to_string()),
    ]);
    about.extend(rules.max_data_age.map(|most| ("max_data_age".to_owned(), most.to_string())));
    if let Some(time) = fresh.get(&rules.name).and_then(|seconds| chrono::DateTime::from_timestamp(*seconds, 0)) {
        about.insert("freshness".to_owned(), time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
    }
    let columns = Schema::new_with_metadata(std::iter::once(subject).chain(linked).chain(columns).collect::<Vec<_>>(), about);
    Object {
        mission: permit.mission().clone(),
        schema: rules.name.department.to_string(),
        name: rules.name.dataset.to_string(),
        kind: "TABLE",
        columns: Arc::new(columns),
    }
}

fn view_object(permit: &Permit, view: &View, plan: &Plan) -> Object {
    let place = [permit.mission().as_str(), VIEWS, view.name.as_str()];
    let schema = plan.answer_schema();
    let columns = schema.fields().iter().map(|f| remarked(f.as_ref().clone(), place, &f.data_type().to_string(), ""));
    let about = [("title", view.title.clone()), ("unit", view.unit.clone()), ("agreements", plan.agreements(permit).join(", "))];
    let about = about.into_iter().filter(|(_, text)| !text.is_empty()).map(|(key, text)| (key.to_owned(), text)).collect();
    Object {
        mission: permit.mission().clone(),
        schema: VIEWS.to_owned(),
        name: view.name.clone(),
        kind: "VIEW",
        columns: Arc::new(Schema::new_with_metadata(columns.collect::<Vec<_>>(), about)),
    }
}

/// A field with the metadata that Flight SQL names.
fn remarked(field: Field, [mission, schema, table]: [&str; 3], kind: &str, remarks: &str) -> Field {
    let name = field.name().clone();
    let searchable = if name == SUBJECT || name == LINKED { "0" } else { "1" };
    let entries = [
        ("CATALOG_NAME", mission),
        ("SCHEMA_NAME", schema),
        ("TABLE_NAME", table),
        ("TYPE_NAME", kind),
        ("REMARKS", remarks),
        ("IS_READ_ONLY", "1"),
        ("IS_SEARCHABLE", searchable),
    ];
    let entries = entries.into_iter().filter(|(_, value)| !value.is_empty());
    field.with_metadata(entries.map(|(key, value)| (format!("ARROW:FLIGHT:SQL:{key}"), value.to_owned())).collect())
}

/// The type in which an answer shows a column: dictionaries are a matter between node and gateway.
fn plain(kind: ColumnType) -> DataType {
    match wire_type(kind) {
        DataType::Dictionary(_, value) => *value,
        other => other,
    }
}

fn uses(uses: &BTreeSet<Use>) -> String {
    uses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
