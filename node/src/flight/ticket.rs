//! Tickets: the node's own signed promise of one partition, to one client certificate, for a minute.

use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Code, Name, Refusal};
use concordat_proto::order::Confirmation;
use concordat_proto::token::{self, Expected};
use serde::{Deserialize, Serialize};

use super::own_name;
use crate::node::Node;
use crate::release::{Release, TICKET_SECONDS};

const TYPE: &str = "concordat-ticket+jwt";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    aud: String,
    /// The order that the release answers.
    sub: String,
    nbf: i64,
    exp: i64,
    partition: u32,
    /// The agreement it is released under, and its text: a ticket whose release has ended is still told why.
    agreement: Name,
    agreement_digest: String,
    cnf: Confirmation,
}

/// What a valid ticket is for.
pub(super) struct Ticket {
    pub(super) order: String,
    pub(super) partition: u32,
    pub(super) agreement: Name,
    pub(super) agreement_digest: String,
}

/// A ticket for one partition.
pub(super) fn sign(node: &Node, release: &Release, partition: u32, now: i64) -> Result<String, String> {
    let claims = Claims {
        iss: own_name(node),
        aud: own_name(node),
        sub: release.order.id.clone(),
        nbf: now,
        exp: now.saturating_add_unsigned(TICKET_SECONDS),
        partition,
        agreement: release.order.agreement.id.clone(),
        agreement_digest: release.order.agreement.digest.clone(),
        cnf: Confirmation { thumbprints: vec![release.order.certificate.to_string()] },
    };
    node.signing.sign(TYPE, None, &claims)
}

/// What a ticket names that `certificate` presents.
pub(super) fn verify(node: &Node, ticket: &[u8], certificate: &Fingerprint, now: i64) -> Result<Ticket, Refusal> {
    let name = own_name(node);
    let expected = Expected { typ: TYPE, issuer: &name, audience: &name, max_lifetime: TICKET_SECONDS.cast_signed() };
    let refusal = |hint: &str| Refusal::new(Code::Unauthenticated, format!("the ticket is not valid: {hint}")).department(&node.department);
    let text = std::str::from_utf8(ticket).map_err(|_| refusal("it is not a signed JWT"))?;
    let claims: Claims = token::verify(text, &node.verifying, &expected, now).map_err(|reason| refusal(reason.hint()).operator(reason))?;
    if claims.cnf.thumbprints.iter().any(|thumbprint| thumbprint == certificate.as_str()) {
        let Claims { sub: order, partition, agreement, agreement_digest, .. } = claims;
        return Ok(Ticket { order, partition, agreement, agreement_digest });
    }
    Err(refusal("it was made for another client certificate"))
}
