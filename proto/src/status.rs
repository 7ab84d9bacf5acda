//! Codes, gRPC statuses, exit codes and SQLSTATEs: the one table. `concordat errors` prints it.
//!
//! | code | gRPC status | exit code | SQLSTATE | meaning |
//! |---|---|---|---|---|
//! | `unauthenticated` | UNAUTHENTICATED | 10 | 28000 | no valid token, certificate or signature |
//! | `denied` | PERMISSION_DENIED | 11 | 42501 | not permitted, or not there: the two look the same |
//! | `invalid` | INVALID_ARGUMENT | 12 | 42000 | the request is not one that the service understands and takes |
//! | `disclosure` | FAILED_PRECONDITION | 13 | YD001 | a person's value could reach the answer |
//! | `replayed` | ALREADY_EXISTS | 14 | 55000 | an order, ticket or key was used before |
//! | `node_unavailable` | UNAVAILABLE | 15 | HV00N | a department's node cannot be reached |
//! | `node_timeout` | DEADLINE_EXCEEDED | 16 | HYT00 | a department's node did not answer in time |
//! | `node_faulty` | DATA_LOSS | 17 | HV000 | a department's node answered with what it did not sign or agree |
//! | `node_refused` | ABORTED | 18 | HV00L | a department's node refused the order |
//! | `limit_exceeded` | RESOURCE_EXHAUSTED | 19 | 53400 | a stated limit of memory, rows, time, size or number was reached |
//! | `log_unavailable` | UNAVAILABLE | 20 | 58030 | the access log cannot be written, so nothing may leave |
//! | `internal` | INTERNAL | 21 | XX000 | a fault of the service |
//! | `not_offered` | UNIMPLEMENTED | 22 | 0A000 | an operation of the protocol that the service does not have |
//! | `cancelled` | CANCELLED | 23 | 57014 | the caller cancelled, or left before the answer began |
//! | `outdated` | FAILED_PRECONDITION | 24 | YD002 | a department's consent records or data, as new as they must be, are not to be had |
//! | `unwitnessed` | FAILED_PRECONDITION | 25 | YD003 | too few witnesses have seen the access log for longer than an agreement allows |
//!
//! The code itself, the SQLSTATE, the department and the query id travel as metadata, so that nobody parses sentences. Flight SQL
//! has no field for a SQLSTATE, and ADBC's driver leaves its own at `00000`; it hands every metadata entry on as a detail of the
//! error, so that [`SQLSTATE`] can be read there. SQLSTATEs are those of ISO/IEC 9075 where it has one (28, 42, 0A, HV, HY), else
//! PostgreSQL's (53, 55, 57, 58, XX); the class YD, of the range that the standard leaves to implementations, is ours.

use concordat_policy::{Code, Refusal};
use tonic::{Status, metadata::MetadataValue};

/// Metadata: the code.
pub const CODE: &str = "x-concordat-code";
/// Metadata: the SQLSTATE of the code.
pub const SQLSTATE: &str = "x-concordat-sqlstate";
/// Metadata: the department whose rule or fault it is.
pub const DEPARTMENT: &str = "x-concordat-department";
/// Metadata: the query id that also stands in the log.
pub const QUERY_ID: &str = "x-concordat-query-id";
/// Request metadata: the purpose of the request.
pub const PURPOSE: &str = "x-concordat-purpose";
/// Request metadata: the least version of departments' consent ledgers on which an answer may rest, `dfe=12,dwp=1.4`:
/// `department=version`, or `department=generation.version` after a restored backup.
pub const AT_LEAST: &str = "x-concordat-at-least";
/// Request metadata: `status` adds to the answer what became of each cell.
pub const CELLS: &str = "x-concordat-cells";
/// Metadata of an answer's column: the column of whose cells it tells the status.
pub const STATUS_OF: &str = "concordat.status_of";
/// Request metadata: the mission of the request, where the purpose leads to several.
pub const MISSION: &str = "x-concordat-mission";

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The code.
    pub code: Code,
    /// Its gRPC status.
    pub grpc: tonic::Code,
    /// The CLI's exit code.
    pub exit: u8,
    /// Its SQLSTATE.
    pub sqlstate: &'static str,
    /// What it means, in a few words.
    pub meaning: &'static str,
}

/// The line of `code`.
#[must_use]
pub const fn row(code: Code) -> Row {
    let (grpc, exit, sqlstate, meaning) = match code {
        Code::Unauthenticated => (tonic::Code::Unauthenticated, 10, "28000", "no valid token, certificate or signature"),
        Code::Denied => (tonic::Code::PermissionDenied, 11, "42501", "not permitted, or not there: the two look the same"),
        Code::Invalid => (tonic::Code::InvalidArgument, 12, "42000", "the request is not one that the service understands and takes"),
        Code::Disclosure => (tonic::Code::FailedPrecondition, 13, "YD001", "a person's value could reach the answer"),
        Code::Replayed => (tonic::Code::AlreadyExists, 14, "55000", "an order, ticket or key was used before"),
        Code::NodeUnavailable => (tonic::Code::Unavailable, 15, "HV00N", "a department's node cannot be reached"),
        Code::NodeTimeout => (tonic::Code::DeadlineExceeded, 16, "HYT00", "a department's node did not answer in time"),
        Code::NodeFaulty => (tonic::Code::DataLoss, 17, "HV000", "a department's node answered with what it did not sign or agree"),
        Code::NodeRefused => (tonic::Code::Aborted, 18, "HV00L", "a department's node refused the order"),
        Code::LimitExceeded => {
            (tonic::Code::ResourceExhausted, 19, "53400", "a stated limit of memory, rows, time, size or number was reached")
        }
        Code::LogUnavailable => (tonic::Code::Unavailable, 20, "58030", "the access log cannot be written, so nothing may leave"),
        Code::Internal => (tonic::Code::Internal, 21, "XX000", "a fault of the service"),
        Code::NotOffered => (tonic::Code::Unimplemented, 22, "0A000", "an operation of the protocol that the service does not have"),
        Code::Outdated => (
            tonic::Code::FailedPrecondition,
            24,
            "YD002",
            "a department's consent records or data, as new as they must be, are not to be had",
        ),
        Code::Unwitnessed => {
            (tonic::Code::FailedPrecondition, 25, "YD003", "too few witnesses have seen the access log for longer than an agreement allows")
        }
        Code::Cancelled => (tonic::Code::Cancelled, 23, "57014", "the caller cancelled, or left before the answer began"),
    };
    Row { code, grpc, exit, sqlstate, meaning }
}

/// The whole table, by exit code.
#[must_use]
pub fn table() -> Vec<Row> {
    let mut rows: Vec<Row> = Code::ALL.into_iter().map(row).collect();
    rows.sort_by_key(|row| row.exit);
    rows
}

/// The CLI's exit code.
#[must_use]
pub fn exit_code(code: Code) -> u8 {
    row(code).exit
}

/// A gRPC status as its specification writes it: `PERMISSION_DENIED`.
#[must_use]
pub fn grpc_name(code: tonic::Code) -> String {
    let name = format!("{code:?}");
    let words = name.char_indices().map(|(at, c)| if at > 0 && c.is_ascii_uppercase() { format!("_{c}") } else { c.to_string() });
    words.collect::<String>().to_ascii_uppercase()
}

/// The status a caller gets. The operator's sentence stays behind: log it first.
#[must_use]
pub fn to_status(refusal: &Refusal, query_id: Option<&str>) -> Status {
    let row = row(refusal.code);
    let mut status = Status::new(row.grpc, refusal.to_string());
    let metadata = status.metadata_mut();
    metadata.insert(CODE, MetadataValue::from_static(refusal.code.as_str()));
    metadata.insert(SQLSTATE, MetadataValue::from_static(row.sqlstate));
    for (key, value) in [(DEPARTMENT, refusal.department.as_deref()), (QUERY_ID, query_id)] {
        if let Some(value) = value.and_then(|v| MetadataValue::try_from(v).ok()) {
            metadata.insert(key, value);
        }
    }
    status
}

/// The refusal that a status carries, for statuses of our own services; a foreign status has no code and gives `None`.
#[must_use]
pub fn from_status(status: &Status) -> Option<Refusal> {
    let text = |key| status.metadata().get(key).and_then(|v| v.to_str().ok());
    let mut refusal = Refusal::new(Code::parse(text(CODE)?)?, status.message());
    refusal.department = text(DEPARTMENT).map(str::to_owned);
    Some(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_survives_the_wire_and_has_its_own_exit_code_and_sqlstate() {
        let (mut exits, mut states) = (BTreeSet::new(), BTreeSet::new());
        for code in Code::ALL {
            let sent = Refusal::new(code, "what and why").department("dfe").operator("secret");
            let status = to_status(&sent, Some("q1"));
            let received = from_status(&status).unwrap();
            assert_eq!((received.code, received.department.as_deref()), (code, Some("dfe")));
            assert_eq!(status.metadata().get(SQLSTATE).unwrap(), row(code).sqlstate);
            assert!(!format!("{status:?}").contains("secret"));
            assert!(exits.insert(exit_code(code)));
            let state = row(code).sqlstate;
            assert!(state.len() == 5 && state.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()) && states.insert(state));
        }
        assert_eq!(from_status(&Status::internal("foreign")), None);
    }

    /// The table of this module's documentation is the table of the code, line by line.
    #[test]
    fn the_documented_table_is_the_one_in_force() {
        let documented: Vec<&str> = include_str!("status.rs").lines().filter(|line| line.starts_with("//! | `")).collect();
        let in_force: Vec<String> = table()
            .iter()
            .map(|row| {
                let code = row.code.as_str();
                format!("//! | `{code}` | {} | {} | {} | {} |", grpc_name(row.grpc), row.exit, row.sqlstate, row.meaning)
            })
            .collect();
        assert_eq!(documented, in_force);
    }
}
