//! Codes, gRPC statuses and exit codes: the one table.
//!
//! | code | gRPC status | exit code of the CLI |
//! |---|---|---|
//! | `unauthenticated` | UNAUTHENTICATED | 10 |
//! | `denied` | PERMISSION_DENIED | 11 |
//! | `invalid` | INVALID_ARGUMENT | 12 |
//! | `disclosure` | FAILED_PRECONDITION | 13 |
//! | `replayed` | ALREADY_EXISTS | 14 |
//! | `node_unavailable` | UNAVAILABLE | 15 |
//! | `node_timeout` | DEADLINE_EXCEEDED | 16 |
//! | `node_faulty` | DATA_LOSS | 17 |
//! | `node_refused` | ABORTED | 18 |
//! | `limit_exceeded` | RESOURCE_EXHAUSTED | 19 |
//! | `log_unavailable` | UNAVAILABLE | 20 |
//! | `internal` | INTERNAL | 21 |
//! | `unsupported` | UNIMPLEMENTED | 22 |
//! | `cancelled` | CANCELLED | 23 |
//!
//! The code itself, the department and the query id travel as metadata, so that nobody parses sentences.

use concordat_policy::{Code, Refusal};
use tonic::{Status, metadata::MetadataValue};

/// Metadata: the code.
pub const CODE: &str = "x-concordat-code";
/// Metadata: the department whose rule or fault it is.
pub const DEPARTMENT: &str = "x-concordat-department";
/// Metadata: the query id that also stands in the log.
pub const QUERY_ID: &str = "x-concordat-query-id";
/// Request metadata: the purpose of the request.
pub const PURPOSE: &str = "x-concordat-purpose";
/// Request metadata: the mission of the request, where the purpose leads to several.
pub const MISSION: &str = "x-concordat-mission";

const fn row(code: Code) -> (tonic::Code, u8) {
    match code {
        Code::Unauthenticated => (tonic::Code::Unauthenticated, 10),
        Code::Denied => (tonic::Code::PermissionDenied, 11),
        Code::Invalid => (tonic::Code::InvalidArgument, 12),
        Code::Disclosure => (tonic::Code::FailedPrecondition, 13),
        Code::Replayed => (tonic::Code::AlreadyExists, 14),
        Code::NodeUnavailable => (tonic::Code::Unavailable, 15),
        Code::NodeTimeout => (tonic::Code::DeadlineExceeded, 16),
        Code::NodeFaulty => (tonic::Code::DataLoss, 17),
        Code::NodeRefused => (tonic::Code::Aborted, 18),
        Code::LimitExceeded => (tonic::Code::ResourceExhausted, 19),
        Code::LogUnavailable => (tonic::Code::Unavailable, 20),
        Code::Internal => (tonic::Code::Internal, 21),
        Code::Unsupported => (tonic::Code::Unimplemented, 22),
        Code::Cancelled => (tonic::Code::Cancelled, 23),
    }
}

/// The CLI's exit code.
#[must_use]
pub fn exit_code(code: Code) -> u8 {
    row(code).1
}

/// The status a caller gets. The operator's sentence stays behind: log it first.
#[must_use]
pub fn to_status(refusal: &Refusal, query_id: Option<&str>) -> Status {
    let mut status = Status::new(row(refusal.code).0, refusal.to_string());
    let metadata = status.metadata_mut();
    metadata.insert(CODE, MetadataValue::from_static(refusal.code.as_str()));
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

    #[test]
    fn every_code_survives_the_wire_and_has_its_own_exit_code() {
        let mut exits = std::collections::BTreeSet::new();
        for code in Code::ALL {
            let sent = Refusal::new(code, "what and why").department("dfe").operator("secret");
            let status = to_status(&sent, Some("q1"));
            let received = from_status(&status).unwrap();
            assert_eq!((received.code, received.department.as_deref()), (code, Some("dfe")));
            assert!(!format!("{status:?}").contains("secret"));
            assert!(exits.insert(exit_code(code)));
        }
        assert_eq!(from_status(&Status::internal("foreign")), None);
    }
}
