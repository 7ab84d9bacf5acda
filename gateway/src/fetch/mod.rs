//! Fetching releases: an order per leaf of the plan, the sorted streams that answer it, and the receipts without which nothing
//! that came is used. Beside them, the lists of those whose choices reach from one department to another's data ([`reach`]).

mod clocks;
mod courier;
mod distance;
mod expected;
mod flight;
mod keys;
mod ledgers;
mod nodes;
mod reach;
mod recovery;
mod release;
mod request;
mod sent;
mod shown;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use concordat_audit::witness::{Moment, Owed};
use concordat_policy::{Agreement, Code, LinkageDomain, Name, Refusal, Signatures, witnessed};
use concordat_proto::order::{Confirmation, ISSUER, MAX_LIFETIME, NO_LINKAGE_KEY, Order, digest};
use concordat_proto::token::SigningKey;
use concordat_proto::v1;
use concordat_proto::version::GIVES_BACK;
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::physical_plan::ExecutionPlan;
use futures::future::{try_join, try_join_all};
use prost::Message as _;

use crate::authenticate::Caller;
use crate::observe::Observed;
use crate::plan::{ReleaseExec, ReleaseSpec};
use crate::witness::log_of;
pub(crate) use courier::Courier;
use expected::Expected;
pub(crate) use keys::Relay;
pub(crate) use ledgers::Ledgers;
pub(crate) use nodes::{Nodes, failed, faulty, timeout};
pub(crate) use reach::{Applied, Awaited, List, Lists};
pub(crate) use release::{Placed, Source};
use request::encoded;
pub(crate) use request::{orderable, request};

/// How long a node that waits for this gateway's log is waited for: a round, and the pause after trouble.
const SHOWN: Duration = Duration::from_secs(10);

/// What fetching needs of the gateway.
pub(crate) struct Fetcher {
    pub(crate) nodes: Nodes,
    pub(crate) relay: Relay,
    pub(crate) lists: Lists,
    /// The checkpoints that nodes owe for the receipts that they signed.
    pub(crate) owed: Arc<Owed>,
    pub(crate) order_key: SigningKey,
    /// The most rows of one release.
    pub(crate) most_rows: u64,
    /// The most subjects on one list.
    pub(crate) most_reached: usize,
    pub(crate) observed: Observed,
}

/// For whom and why an order is placed.
pub(crate) struct Errand<'a> {
    pub(crate) query_id: &'a str,
    /// The entry of the log that opened the query.
    pub(crate) opened_by: u64,
    pub(crate) caller: &'a Caller,
    /// What was recorded before counts.
    pub(crate) started: Instant,
    pub(crate) awaited: &'a Awaited,
    pub(crate) agreements: &'a [Agreement],
    pub(crate) signatures: &'a Signatures,
    /// The moment whose epoch counts for every order: pseudonyms of two would never match.
    pub(crate) now: DateTime<Utc>,
}

impl Fetcher {
    /// Places one order for each leaf of `plan`, which is [`orderable`], after the departments concerned hold the linkage key, and
    /// fetches who is to be removed from what comes: where the ledgers of that stood. All or none: if one node refuses, the others'
    /// orders are given back.
    ///
    /// # Errors
    /// Refusals that name the department.
    pub(crate) async fn place(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        errand: &Errand<'_>,
    ) -> Result<(Vec<Arc<ReleaseSpec>>, Vec<Applied>), Refusal> {
        let specs = leaves(plan)?;
        self.share_keys(&specs, errand).await?;
        let orders = try_join_all(specs.iter().map(|spec| self.order(spec, errand)));
        let (_, applied) = try_join(orders, self.withhold(&specs, errand)).await?;
        Ok((specs, applied))
    }

    async fn share_keys(&self, specs: &[Arc<ReleaseSpec>], errand: &Errand<'_>) -> Result<(), Refusal> {
        let mut by_agreement: BTreeMap<&Name, (&ReleaseSpec, Vec<Name>)> = BTreeMap::new();
        for spec in specs {
            by_agreement.entry(&spec.permit.agreement).or_insert_with(|| (spec, Vec::new())).1.push(spec.dataset().department.clone());
        }
        for (id, (spec, departments)) in by_agreement {
            let agreement = agreement(errand.agreements, id)?;
            self.same_text(agreement, &departments).await?;
            // Also to those whose lists are used: pseudonyms of two keys never match.
            let tell = specs.iter().filter(|spec| spec.permit.agreement == *id).flat_map(|spec| agreement.reaching(&spec.permit.dataset));
            let concerned: BTreeSet<Name> = departments.iter().chain(tell).cloned().collect();
            let concerned: Vec<Name> = concerned.into_iter().collect();
            self.relay.ensure(&self.nodes, agreement, &domain(spec, errand.now)?, &concerned).await?;
        }
        Ok(())
    }

    /// That every department concerned holds the agreement's text that counts here: under another one it may be in another linkage
    /// domain. Names all that do not.
    async fn same_text(&self, agreement: &Agreement, departments: &[Name]) -> Result<(), Refusal> {
        let apart = |held: &v1::HeldAgreement| held.id == agreement.id.as_str() && held.digest != agreement.digest;
        let others = departments.iter().map(async |department| {
            // What it said a moment ago may be over.
            let other = self.nodes.describe(department).await?.agreements.iter().any(apart)
                && self.nodes.describe_now(department).await?.agreements.iter().any(apart);
            Ok::<_, Refusal>(other.then_some(department))
        });
        let others: BTreeSet<&Name> = try_join_all(others).await?.into_iter().flatten().collect();
        let Some(first) = others.first() else { return Ok(()) };
        let named = others.iter().map(|department| format!("'{department}'")).collect::<Vec<_>>().join(", ");
        let cause = format!("the agreement '{}' is held in another text than the one in the request by {named}", agreement.id);
        Err(Refusal::new(Code::NodeRefused, cause)
            .department(first)
            .advice("whoever is behind must take the parties' newest text, signed: departments and gateway change over together"))
    }

    /// That a node shows the log of which its receipts speak. One that was away until now is waited for.
    async fn follows(&self, department: &Name, agreement: &Agreement) -> Result<(), Refusal> {
        let log = log_of(department);
        if self.owed.paid(&log, agreement.max_unwitnessed.duration(), SHOWN).await {
            return Ok(());
        }
        let now = Moment::now();
        witnessed::follows(agreement, department, self.owed.overdue(&log, now), now.wall.into())
    }

    /// Places an order. A node that was away, or a gateway that was, leaves checkpoints that the node still waits for: it is shown the one
    /// that covers this query, and asked once more.
    async fn order(&self, spec: &Arc<ReleaseSpec>, errand: &Errand<'_>) -> Result<(), Refusal> {
        let department = &spec.dataset().department;
        self.follows(department, agreement(errand.agreements, &spec.permit.agreement)?).await?;
        let ordered = self.ordered(spec, errand).await;
        let waits = ordered.as_ref().is_err_and(|refusal| refusal.code == Code::Unwitnessed);
        if waits && self.nodes.shown.until(department, errand.opened_by, SHOWN).await {
            return self.ordered(spec, errand).await;
        }
        ordered
    }

    async fn ordered(&self, spec: &Arc<ReleaseSpec>, errand: &Errand<'_>) -> Result<(), Refusal> {
        let department = &spec.dataset().department;
        let agreement = agreement(errand.agreements, &spec.permit.agreement)?;
        let key = self.nodes.signing_key(department, agreement, errand.signatures).await?;
        let spoken = self.nodes.spoken(department).await?;
        let jti = uuid::Uuid::now_v7().to_string();
        let domain = domain(spec, errand.now)?;
        let dense = spec.grouping.is_none() && self.nodes.is_far(department);
        let command = self.signed(spec, errand, &domain, &jti, (spoken, dense))?;
        // Whatever was seen or said before the order is placed, its answer must not be older, and its log longer.
        let log_seen = self.owed.seen(&log_of(department));
        let (ledger, described) = (self.nodes.ledgers.seen(department), self.nodes.standing(department).await?);
        // One client for order and tickets: both are bound to the certificate of its connection.
        let node = self.nodes.flight(department)?;
        let mut sent = self.nodes.sent(department, &node, (spoken >= GIVES_BACK).then(|| jti.clone()))?;
        let info = self.nodes.order(department, node.order(command)).await;
        if info.as_ref().is_err_and(|refusal| matches!(refusal.code, Code::NodeRefused | Code::Unwitnessed | Code::Outdated)) {
            sent.settle();
        }
        if info.as_ref().is_err_and(|refusal| refusal.message.contains(NO_LINKAGE_KEY)) {
            self.relay.forget_under(&spec.permit.agreement_digest);
        }
        let info = info?;
        let expected = Expected {
            department: department.clone(),
            dataset: spec.dataset().dataset.clone(),
            query_id: errand.query_id.to_owned(),
            mission: domain.mission,
            purpose: domain.purpose,
            spoken,
            jti,
            agreement: spec.permit.agreement.clone(),
            agreement_digest: spec.permit.agreement_digest.clone(),
            max_data_age: spec.permit.dataset.max_data_age,
            asked: errand.now,
            conditional: spec.predicate.is_some(),
            key,
            schema: spec.rows.clone(),
            grouping: spec.grouping.clone(),
            dense,
            partitions: spec.partitions,
            most_rows: self.most_rows,
            observed: self.observed.clone(),
            ledgers: self.nodes.ledgers.clone(),
            owed: self.owed.clone(),
            log_seen,
            described,
            ledger,
        };
        spec.place(Placed::new(expected, &info, node, sent)?)
    }

    fn signed(
        &self,
        spec: &ReleaseSpec,
        errand: &Errand<'_>,
        domain: &LinkageDomain,
        jti: &str,
        (spoken, dense): (u32, bool),
    ) -> Result<Vec<u8>, Refusal> {
        let request = request(spec, errand.query_id, spoken, errand.now)?;
        let request = encoded(&v1::ReleaseRequest { log_entry: errand.opened_by, dense, ..request })?;
        let now = Utc::now().timestamp();
        let order = Order {
            iss: ISSUER.into(),
            sub: errand.caller.subject.clone(),
            aud: Order::audience(&spec.dataset().department),
            nbf: now,
            exp: now + MAX_LIFETIME,
            jti: jti.to_owned(),
            request_sha256: digest(&request),
            query_id: errand.query_id.to_owned(),
            caller_issuer: errand.caller.issuer().to_owned(),
            organisation: errand.caller.organisation.clone(),
            mission: domain.mission.clone(),
            purpose: domain.purpose.clone(),
            agreement: spec.permit.agreement.clone(),
            agreement_digest: spec.permit.agreement_digest.clone(),
            cnf: Confirmation { thumbprints: self.nodes.certificates().iter().map(ToString::to_string).collect() },
        };
        let order = order.sign(&self.order_key).map_err(Refusal::internal)?;
        Ok(v1::ReleaseOrder { order, request }.encode_to_vec())
    }
}

/// The releases that a plan reads.
pub(crate) fn leaves(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<Arc<ReleaseSpec>>, Refusal> {
    let mut specs: Vec<Arc<ReleaseSpec>> = Vec::new();
    plan.apply(|node| {
        if let Some(release) = node.downcast_ref::<ReleaseExec>()
            && !specs.iter().any(|s| Arc::ptr_eq(s, release.spec()))
        {
            specs.push(release.spec().clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(Refusal::internal)?;
    Ok(specs)
}

fn agreement<'a>(agreements: &'a [Agreement], id: &Name) -> Result<&'a Agreement, Refusal> {
    agreements.iter().find(|a| a.id == *id).ok_or_else(|| Refusal::internal(format!("agreement '{id}' is not in the estate")))
}

fn domain(spec: &ReleaseSpec, now: DateTime<Utc>) -> Result<LinkageDomain, Refusal> {
    spec.domain(now).ok_or_else(|| Refusal::internal("no linkage domain at this time"))
}
