//! Whom the gateway takes a caller for, for which purposes that caller may use data, and of which datasets the caller may know.
//!
//! Only what the caller may use, or may know of, is named: a purpose that nobody agreed on and one that others may use look the
//! same, absent.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use concordat_policy::{Name, authorize};
use concordat_proto::v1::{KnownDataset, UsablePurpose, WhoAmIResponse};

use crate::authenticate::Identity;
use crate::estate::Estate;
use crate::pipeline::authorized;

/// What there is to say to the bearer of a token.
pub(crate) fn introduce(estate: &Estate, identity: &Identity, now: DateTime<Utc>) -> WhoAmIResponse {
    let missions: BTreeSet<&Name> = estate.agreements.iter().map(|agreement| &agreement.mission).collect();
    let purposes = estate.purposes.iter().filter_map(|purpose| {
        let usable =
            |mission: &Name| identity.claiming(&purpose.id, mission).is_some_and(|caller| authorized(estate, &caller, now).is_ok());
        let missions: Vec<String> = missions.iter().filter(|mission| usable(mission)).map(ToString::to_string).collect();
        (!missions.is_empty()).then(|| UsablePurpose { id: purpose.id.to_string(), title: purpose.title.clone(), missions })
    });
    let known = authorize::known_to(identity.organisation(), &estate.agreements, &estate.signatures, now).into_iter().map(|dataset| {
        let department = estate.departments.iter().find(|department| department.id == dataset.department);
        KnownDataset {
            dataset: dataset.to_string(),
            department_title: department.map(|department| department.title.clone()).unwrap_or_default(),
            contact: department.and_then(|department| department.contact.clone()).unwrap_or_default(),
        }
    });
    WhoAmIResponse {
        issuer: identity.issuer().to_owned(),
        subject: identity.subject().to_owned(),
        organisation: identity.organisation().to_owned(),
        roles: identity.roles().iter().cloned().collect(),
        bound_purpose: identity.bound().map(ToString::to_string).unwrap_or_default(),
        expires: identity.expires(),
        purposes: purposes.collect(),
        known: known.collect(),
    }
}
