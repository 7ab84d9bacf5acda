//! What each leaf of a plan asks of its node: the typed request, and whether the requests of one plan can be ordered together, as
//! far as that is known before any node is asked.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use concordat_policy::{Agreement, Code, LinkageDomain, Name, Refusal};
use concordat_proto::version::GROUPS;
use concordat_proto::{CONTRACT_VERSION, MAX_RELEASE_REQUEST, predicate, v1};
use prost::Message as _;

use super::{agreement, domain};
use crate::plan::ReleaseSpec;

/// The most releases that one statement may order of one department.
const MAX_RELEASES: usize = 4;
/// As long as a query's id is.
const ANY_QUERY: &str = "00000000-0000-0000-0000-000000000000";

/// The request of one leaf, in the words of contract version `spoken`, in the epoch of `now`. It does not state the log's entry, nor whether
/// bodies may be dense.
///
/// # Errors
/// [`Code::Internal`] where there is no linkage domain at this time.
pub(crate) fn request(spec: &ReleaseSpec, query_id: &str, spoken: u32, now: DateTime<Utc>) -> Result<v1::ReleaseRequest, Refusal> {
    Ok(v1::ReleaseRequest {
        contract_version: spoken,
        query_id: query_id.to_owned(),
        domain: Some((&domain(spec, now)?).into()),
        agreement: spec.permit.agreement.to_string(),
        agreement_digest: spec.permit.agreement_digest.clone(),
        dataset: spec.dataset().dataset.to_string(),
        columns: spec.columns.clone(),
        predicate: spec.predicate.as_ref().map(predicate::to_wire),
        partitions: spec.partitions,
        basis: v1::Basis::from(&spec.permit.dataset.basis).into(),
        log_entry: 0,
        dense: false,
        grouping: spec.grouping.as_ref().filter(|_| spoken >= GROUPS).map(|grouping| grouping.to_wire()),
    })
}

/// The request's bytes.
///
/// # Errors
/// [`Code::LimitExceeded`] when there are too many.
pub(super) fn encoded(request: &v1::ReleaseRequest) -> Result<Vec<u8>, Refusal> {
    let bytes = request.encode_to_vec();
    if bytes.len() > MAX_RELEASE_REQUEST {
        return Err(
            Refusal::new(Code::LimitExceeded, "the statement's conditions are too long for a release order").advice("shorten the IN lists")
        );
    }
    Ok(bytes)
}

/// Whether orders for all of `specs` could be placed.
///
/// # Errors
/// [`Code::LimitExceeded`] for too many of one department, or one that is too long; [`Code::Invalid`] where pseudonyms would
/// never match.
pub(crate) fn orderable(specs: &[Arc<ReleaseSpec>], agreements: &[Agreement]) -> Result<(), Refusal> {
    let now = Utc::now();
    let mut first: Option<(&Name, LinkageDomain)> = None;
    for spec in specs {
        let department = &spec.dataset().department;
        if specs.iter().filter(|s| s.dataset().department == *department).count() > MAX_RELEASES {
            return Err(Refusal::new(
                Code::LimitExceeded,
                format!("the statement reads datasets of '{department}' more than {MAX_RELEASES} times"),
            )
            .department(department)
            .advice("read each dataset once, and use CASE or FILTER (WHERE …)"));
        }
        let (keyholder, domain) = (&agreement(agreements, &spec.permit.agreement)?.linkage.keyholder, domain(spec, now)?);
        match &first {
            Some((other, linked)) if *other != keyholder || *linked != domain => {
                return Err(Refusal::new(
                    Code::Invalid,
                    "datasets of agreements with different keyholders, epochs or rotations cannot be joined: their pseudonyms never match",
                )
                .advice("the parties must agree on one keyholder, epoch_days and rotation for the mission"));
            }
            Some(_) => {}
            None => first = Some((keyholder, domain)),
        }
        encoded(&v1::ReleaseRequest { log_entry: u64::MAX, dense: true, ..request(spec, ANY_QUERY, CONTRACT_VERSION, now)? })?;
    }
    Ok(())
}
