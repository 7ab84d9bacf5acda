//! Whom the gateway takes a caller for, and for which purposes that caller may use data.
//!
//! Only what the caller may use is named: a purpose that nobody agreed on and one that others may use look the same, absent.

use std::collections::BTreeSet;

use concordat_policy::Name;
use concordat_proto::v1::{UsablePurpose, WhoAmIResponse};

use crate::Gateway;
use crate::authenticate::Identity;
use crate::pipeline::authorized;

/// What there is to say to the bearer of a token.
pub(crate) fn introduce(gateway: &Gateway, identity: &Identity) -> WhoAmIResponse {
    let estate = &gateway.estate;
    let missions: BTreeSet<&Name> = estate.agreements.iter().map(|agreement| &agreement.mission).collect();
    let purposes = estate.purposes.iter().filter_map(|purpose| {
        let usable = |mission: &Name| identity.claiming(&purpose.id, mission).is_some_and(|caller| authorized(gateway, &caller).is_ok());
        let missions: Vec<String> = missions.iter().filter(|mission| usable(mission)).map(ToString::to_string).collect();
        (!missions.is_empty()).then(|| UsablePurpose { id: purpose.id.to_string(), title: purpose.title.clone(), missions })
    });
    WhoAmIResponse {
        issuer: identity.issuer().to_owned(),
        subject: identity.subject().to_owned(),
        organisation: identity.organisation().to_owned(),
        roles: identity.roles().iter().cloned().collect(),
        bound_purpose: identity.bound().map(ToString::to_string).unwrap_or_default(),
        expires: identity.expires(),
        purposes: purposes.collect(),
    }
}
