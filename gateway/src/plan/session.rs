//! A session for one statement: a catalog that holds only what the permit allows, an allow-list of functions, and the settings
//! under which sorted, range-partitioned streams are merged rather than hashed.

use std::collections::BTreeMap;
use std::sync::Arc;

use concordat_policy::Permit;
use datafusion::catalog::{CatalogProvider as _, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider as _};
use datafusion::common::Result;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{SessionState, SessionStateDefaults};
use datafusion::prelude::SessionConfig;

use super::protect::QueryPlanner;
use super::release_table::ReleaseTable;
use super::shape::refuse;

/// The schema in which outcome views stand.
pub(crate) const VIEWS: &str = "views";

/// Scalar functions offered. Over subjects' rows fewer are (`expression.rs`).
const SCALARS: &[&str] = &[
    "abs",
    "ceil",
    "character_length",
    "coalesce",
    "date_part",
    "date_trunc",
    "floor",
    "greatest",
    "least",
    "lower",
    "nullif",
    "power",
    "round",
    "sqrt",
    "substr",
    "trunc",
    "upper",
    "btrim",
];

/// Aggregates offered. Over subjects' rows fewer are (`summarise/summary.rs`); `bit_or` carries the mask and is refused to statements, and
/// `grouping` is replaced by what it reads before a statement is walked.
const AGGREGATES: &[&str] = &["count", "sum", "avg", "min", "max", "bit_or", "grouping"];

/// The session in which one statement is planned.
pub(super) fn state(permit: &Permit, partitions: u32) -> Result<SessionState> {
    let mission = permit.mission().as_str();
    // Nothing runs in it: there is no memory.
    let runtime = crate::runtime(Arc::new(GreedyMemoryPool::new(0))).or_else(refuse)?;
    let scalars = SessionStateDefaults::default_scalar_functions().into_iter().filter(|f| SCALARS.contains(&f.name())).collect();
    let aggregates = SessionStateDefaults::default_aggregate_functions().into_iter().filter(|f| AGGREGATES.contains(&f.name())).collect();
    let state = SessionStateBuilder::new()
        .with_config(config(mission, partitions)?)
        .with_runtime_env(runtime)
        .with_query_planner(Arc::new(QueryPlanner))
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_scalar_functions(scalars)
        .with_aggregate_functions(aggregates)
        .build();
    state.catalog_list().register_catalog(mission.to_owned(), Arc::new(catalog(permit, partitions)?));
    Ok(state)
}

fn config(mission: &str, partitions: u32) -> Result<SessionConfig> {
    let partitions = usize::try_from(partitions).unwrap_or(2);
    let mut config = SessionConfig::new()
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(mission, VIEWS)
        .with_information_schema(false)
        // At one partition DataFusion falls back to a hash join.
        .with_target_partitions(partitions.max(2))
        .with_round_robin_repartition(false)
        .with_batch_size(16_384);
    let options = config.options_mut();
    for (name, value) in [
        // Runtime filters would hand one department's pseudonyms to another's scan. Assigning the field would not reach the
        // settings below it; the text form does.
        ("datafusion.optimizer.enable_dynamic_filter_pushdown", "false"),
        ("datafusion.optimizer.prefer_hash_join", "false"),
        ("datafusion.optimizer.subset_repartition_threshold", "1"),
        ("datafusion.sql_parser.map_string_types_to_utf8view", "false"),
    ] {
        options.set(name, value)?;
    }
    Ok(config)
}

fn catalog(permit: &Permit, partitions: u32) -> Result<MemoryCatalogProvider> {
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema(VIEWS, Arc::new(MemorySchemaProvider::new()))?;
    let mut schemas: BTreeMap<String, MemorySchemaProvider> = BTreeMap::new();
    for dataset in permit.datasets() {
        let name = &dataset.dataset.name;
        let schema = schemas.entry(name.department.to_string()).or_default();
        schema.register_table(name.dataset.to_string(), Arc::new(ReleaseTable::new(permit, dataset, partitions)))?;
    }
    for (department, schema) in schemas {
        catalog.register_schema(&department, Arc::new(schema))?;
    }
    Ok(catalog)
}
