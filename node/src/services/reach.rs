//! Whose choices, recorded here, reach other parties' data: told to the gateway, under pseudonyms, where an agreement that this
//! department has signed says so.
//!
//! ```text
//! request ─▶ caller ─▶ own agreement says so ─▶ consent ─▶ key ─▶ changes ─▶ log: reach.sent ─▶ messages ─▶ statement
//! ```

use std::sync::Arc;

use chrono::Utc;
use concordat_audit::Entry;
use concordat_policy::agreement::{Fingerprint, WithdrawalReach, hex};
use concordat_policy::consent::relevant;
use concordat_policy::{Agreement, Basis, Code, Dataset, IdentifierType, LinkageDomain, Name, Refusal};
use concordat_proto::order::ID_BYTES;
use concordat_proto::peer::Peer;
use concordat_proto::reach::{Changes, Statement};
use concordat_proto::receipt::{AUDIENCE, LIFETIME, Receipt, Standing};
use concordat_proto::v1;
use futures::TryStreamExt as _;
use futures::stream::{self, BoxStream};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::Control;
use crate::agreements::Agreements;
use crate::consent::reach::{Kind, Since, identifiers};
use crate::framing::framed;
use crate::node::status;
use crate::pseudonym::{DomainKey, Pseudonyms};
use crate::release::blocking;

/// Whole lists, which read the whole ledger, are made one at a time.
#[derive(Debug, Clone)]
pub(super) struct Turn(Arc<Semaphore>);

impl Default for Turn {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// A request that the department's own agreement permits.
struct Permitted {
    request: v1::ReachRequest,
    agreements: Arc<Agreements>,
    agreement: Agreement,
    domain: LinkageDomain,
    basis: Basis,
    /// Of the data that is reached, each type once.
    identifiers: Vec<IdentifierType>,
    /// Whose records speak.
    relevant: Vec<Name>,
    certificate: Fingerprint,
}

impl Permitted {
    /// From where on the gateway is told what changed by these rules; nothing where it gets the whole list.
    fn since(&self, standing: Standing, now: i64, rules: &str) -> Option<Standing> {
        let since = Standing { generation: self.request.since_generation, version: self.request.since_version };
        let known = since.version > 0 && since.generation == standing.generation && since <= standing;
        // A clock that was set back makes a moment the future's.
        let moment = (1..=now).contains(&self.request.since_moment);
        (known && moment && self.request.since_rules == rules).then_some(since)
    }
}

/// What decides whom the department tells and under which pseudonyms, beside its ledger: a list that was made under another key is
/// not followed by changes. A value under the key, of which nobody learns the key.
fn rules(identifiers: &[IdentifierType], relevant: &[Name], key: &DomainKey) -> String {
    let labels = identifiers.iter().map(IdentifierType::label);
    let check = hex(&Pseudonyms::private(key, "reach rules").one("check"));
    let texts: Vec<String> = labels.chain([String::new()]).chain(relevant.iter().map(ToString::to_string)).chain([check]).collect();
    hex(&Sha256::digest(framed(&texts.iter().map(String::as_bytes).collect::<Vec<_>>())))
}

impl Control {
    fn permitted(&self, request: v1::ReachRequest, certificate: Option<Fingerprint>) -> Result<Permitted, Refusal> {
        let certificate = self.node.callers.gateway(certificate)?;
        let invalid = |cause: &str| Refusal::new(Code::Invalid, cause).department(&self.node.department);
        if !ID_BYTES.contains(&request.id.len()) {
            return Err(invalid("this is no identifier of a request"));
        }
        let (now, agreements) = (Utc::now(), self.node.agreements.now());
        let agreement = agreements.find(&request.agreement, &request.agreement_digest, now)?.clone();
        if agreement.withdrawals != WithdrawalReach::AllParties {
            return Err(agreements
                .denied(format!("the agreement '{}' does not say that withdrawals reach other parties' data", agreement.id))
                .advice("the parties must agree on withdrawals = \"all_parties\""));
        }
        let domain = agreements.domain(&agreement, request.domain.as_ref(), now)?;
        let of_basis = |dataset: &&Dataset| v1::Basis::from(&dataset.basis) == request.basis();
        let reached: Vec<&Dataset> = agreement.reached_from(&self.node.department).filter(of_basis).collect();
        let Some(basis) = reached.first().map(|dataset| dataset.basis.clone()) else {
            return Err(agreements.denied(format!("no choice reaches other parties' data on that basis under '{}'", agreement.id)));
        };
        let identifiers = identifiers(reached.into_iter());
        let relevant = relevant(agreements.purposes(), &domain.purpose).cloned().collect();
        Ok(Permitted { request, agreements, agreement, domain, basis, identifiers, relevant, certificate })
    }

    async fn changed(&self, permitted: Permitted, turn: &Turn) -> Result<(Changes, String), Refusal> {
        let node = &self.node;
        node.log_replaced().await?;
        // Whatever was acknowledged before the request came is in it.
        let (snapshot, standing) = node.caught_up().await?;
        let judged_at = snapshot.now();
        let (linkage, consent) = (Arc::clone(&node.linkage), Arc::clone(&node.consent));
        let (key, rules, since, permitted) = blocking(move || {
            let key = linkage.key(&permitted.agreements, &permitted.agreement, &permitted.domain, Utc::now())?;
            let rules = rules(&permitted.identifiers, &permitted.relevant, &key);
            let since = match permitted.since(standing, judged_at, &rules) {
                Some(since) if consent.follows(since.version).map_err(Refusal::internal)? => Some(since),
                _ => None,
            };
            Ok((key, rules, since, permitted))
        })
        .await?;
        let turn = Arc::clone(&turn.0);
        let _turn = if since.is_none() { Some(turn.acquire_owned().await.map_err(Refusal::internal)?) } else { None };
        let consent = Arc::clone(&node.consent);
        let (changes, permitted) = blocking(move || {
            let kind = |identifier: &IdentifierType| Kind {
                label: identifier.label(),
                pseudonyms: Pseudonyms::derive(&key, &permitted.domain, identifier),
                view: snapshot.view(&identifier.label(), permitted.relevant.iter()),
            };
            let kinds = permitted.identifiers.iter().map(kind).collect();
            let since = since.map(|since| Since { version: since.version, moment: permitted.request.since_moment });
            let changes = consent.reach(since, judged_at, &permitted.basis, &permitted.relevant, kinds).map_err(Refusal::internal)?;
            Ok((changes, permitted))
        })
        .await?;
        // What tells of nobody is not logged: it is asked with every query.
        if !changes.added.is_empty() || !changes.removed.is_empty() {
            let (domain, agreement) = (&permitted.domain, &permitted.agreement);
            let entry = Entry::new("reach.sent")
                .field("request", permitted.request.id.as_str())
                .field("mission", domain.mission.as_str())
                .field("purpose", domain.purpose.as_str())
                .field("epoch", domain.epoch)
                .field("agreement", agreement.id.as_str())
                .field("agreement_digest", agreement.digest.as_str())
                .field("basis", permitted.request.basis().as_str_name())
                .field("since", since.map(|since| since.version))
                .field("consent_version", standing.version)
                .field("consent_generation", standing.generation)
                .field("added", changes.added.len())
                .field("removed", changes.removed.len())
                .field("certificate", permitted.certificate.as_str());
            node.log(entry).await?;
        }
        let now = Utc::now().timestamp();
        let statement = Statement {
            iss: Receipt::issuer(&node.department),
            sub: permitted.request.id.clone(),
            aud: AUDIENCE.into(),
            nbf: now,
            exp: now.saturating_add(LIFETIME),
            domain: permitted.domain.to_string(),
            agreement_digest: permitted.agreement.digest.clone(),
            basis: permitted.request.basis,
            since,
            standing,
            judged_at,
            rules,
            changes_sha256: changes.digest(),
        };
        let statement = statement.sign(&node.signing).map_err(Refusal::internal)?;
        Ok((changes, statement))
    }
}

#[tonic::async_trait]
impl v1::consent_reach_server::ConsentReach for Control {
    type ChangesStream = BoxStream<'static, Result<v1::ReachChanges, Status>>;

    async fn changes(&self, request: Request<v1::ReachRequest>) -> Result<Response<Self::ChangesStream>, Status> {
        let peer = Peer::of(&request);
        let permitted = self.permitted(request.into_inner(), peer.certificate.clone());
        let (control, known) = (self.clone(), peer.clone());
        // Answered at once: a whole list takes as long as the ledger is.
        let answer = permitted.map(|permitted| {
            let changed = async move {
                match control.changed(permitted, &control.reach).await {
                    Ok((changes, statement)) => Ok(stream::iter(changes.messages(statement).map(Ok::<_, Status>))),
                    Err(refusal) => Err(status(&control.node.refused("reach.refused", refusal, &known, None).await, None)),
                }
            };
            Box::pin(stream::once(changed).try_flatten()) as Self::ChangesStream
        });
        self.answer("reach.refused", &peer, answer).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_by_other_types_purposes_or_keys_is_told_anew() {
        let names = |texts: &[&str]| texts.iter().map(|text| Name::parse(text).unwrap()).collect::<Vec<_>>();
        let (one, other) = (DomainKey::new([1; 32]), DomainKey::new([2; 32]));
        let all = [
            rules(&[IdentifierType::Nino], &names(&["o"]), &one),
            rules(&[IdentifierType::Nino], &names(&["o"]), &other),
            rules(&[IdentifierType::Nino], &names(&["o", "p"]), &one),
            rules(&[], &names(&["o"]), &one),
        ];
        for (at, rules) in all.iter().enumerate() {
            assert!(!all.iter().take(at).any(|earlier| earlier == rules), "{at}");
        }
    }
}
