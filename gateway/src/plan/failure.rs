//! DataFusion's errors as refusals. Its texts can hold schema, literals and values, so they go nowhere: the caller gets our
//! sentence, the operator the kind of error.

use concordat_policy::{Cause, Code, Refusal};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, SchemaError};

/// The refusal behind an error of planning or execution.
pub(crate) fn refusal_of(error: DataFusionError) -> Refusal {
    match find(&error) {
        Some(refusal) => refusal,
        None => classify(&error),
    }
}

/// The refusal of what may not be used or does not exist.
pub(super) fn hidden() -> Refusal {
    Refusal::because(Code::Denied, Cause::Hidden { column: None })
        .advice("`concordat catalogue` lists what may be used; datasets are written department.dataset")
}

/// The refusal behind an error of resolving names and types. What DataFusion calls internal there comes from the statement.
pub(super) fn refusal_of_statement(error: DataFusionError) -> Refusal {
    let refusal = refusal_of(error);
    if refusal.code != Code::Internal {
        return refusal;
    }
    Refusal { code: Code::Invalid, message: "the statement cannot be planned".into(), ..refusal }
        .advice("check that the types on both sides of each operator fit; if they do, quote the query id to the operator")
}

/// A refusal of our own that travelled inside the error.
fn find(error: &DataFusionError) -> Option<Refusal> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(refusal) = error.downcast_ref::<Refusal>() {
            return Some(refusal.clone());
        }
        next = match error.downcast_ref::<DataFusionError>() {
            Some(DataFusionError::External(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner)) => Some(inner.as_ref()),
            Some(DataFusionError::Shared(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::Collection(all)) => return all.iter().find_map(find),
            Some(DataFusionError::ArrowError(inner, _)) => match inner.as_ref() {
                ArrowError::ExternalError(inner) => Some(inner.as_ref()),
                _ => None,
            },
            _ => error.source(),
        };
    }
    None
}

fn classify(error: &DataFusionError) -> Refusal {
    let operator = kind(error.find_root());
    let refusal = match error.find_root() {
        DataFusionError::SQL(parser, _) => {
            let place = parser.to_string();
            let place = place
                .rsplit_once(" at ")
                .map(|(_, place)| format!(" at {}", place.trim()))
                .filter(|p| p.len() < 40 && p.starts_with(" at Line"));
            Refusal::new(Code::Invalid, format!("the SQL does not parse{}", place.unwrap_or_default()))
                .advice("one SELECT is expected; check the place named")
        }
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { field, .. } => Refusal::because(Code::Denied, Cause::Hidden { column: Some(field.flat_name()) })
                .advice("`concordat catalogue` lists columns and their permitted uses"),
            SchemaError::AmbiguousReference { field } => {
                Refusal::new(Code::Invalid, format!("the column '{}' could be of several datasets", field.name))
                    .advice("write which: dataset_alias.column")
            }
            _ => {
                Refusal::new(Code::Invalid, "two columns of the result have the same name").advice("give one of them another name with AS")
            }
        },
        DataFusionError::Plan(text) => plan_sentence(text),
        DataFusionError::NotImplemented(_) => Refusal::new(Code::Invalid, "the statement uses something that is not offered")
            .advice("the README lists the SQL that the gateway takes"),
        DataFusionError::ResourcesExhausted(_) => Refusal::new(Code::LimitExceeded, "the query needs more memory than one query may use")
            .advice("narrow it: fewer groups, fewer columns, or a WHERE clause"),
        _ => return Refusal::internal(format!("DataFusion: {operator}")),
    };
    refusal.operator(format!("DataFusion: {operator}"))
}

/// What kind of error it was. Its text can hold literals of the statement and values of rows, so not even the operator's
/// diagnostics get it; the query id leads to the statement's digest.
fn kind(error: &DataFusionError) -> &'static str {
    match error {
        DataFusionError::ArrowError(..) => "an Arrow kernel failed",
        DataFusionError::SQL(..) => "the parser failed",
        DataFusionError::NotImplemented(_) => "not implemented",
        DataFusionError::Internal(_) => "an internal invariant failed",
        DataFusionError::Plan(_) => "planning failed",
        DataFusionError::Configuration(_) => "a setting was wrong",
        DataFusionError::SchemaError(..) => "a column did not resolve",
        DataFusionError::Execution(_) => "execution failed",
        DataFusionError::ExecutionJoin(_) => "a task panicked or was stopped",
        DataFusionError::ResourcesExhausted(_) => "the memory limit was reached",
        _ => "another error",
    }
}

fn plan_sentence(text: &str) -> Refusal {
    if text.starts_with("table '")
        || text.contains("not found") && text.contains("table")
        || text.contains("failed to resolve schema")
        || text.contains("failed to resolve catalog")
    {
        return hidden();
    }
    if let Some(name) = text.strip_prefix("Invalid function '").and_then(|t| t.split('\'').next()) {
        return Refusal::new(Code::Invalid, format!("the function {name} is not offered"))
            .advice("the README lists the SQL that the gateway takes");
    }
    if text.contains("must be in GROUP BY")
        || text.contains("must appear in the GROUP BY")
        || text.contains("could not be resolved from available columns")
    {
        return Refusal::new(Code::Invalid, "a selected column is neither summarised nor a key of the groups")
            .advice("add it to GROUP BY, or put it into an aggregate");
    }
    Refusal::new(Code::Invalid, "the statement's parts do not fit together: types, names or numbers of columns")
        .advice("check the types of compared columns with `concordat catalogue`")
}
