//! Release orders: verified here, once, completely, and consumed once.
//!
//! A [`VerifiedOrder`] is proof that the order came from the pinned gateway over its own connection, is fresh, says what its
//! request says, and asks for no more than this department's own copy of the agreement permits and its guard rails leave. Only
//! [`Verifier::verify`] builds one, and a release starts from nothing else. Consuming the order ([`Consumed`]) comes after, so that
//! a refused order leaves no trace that could be filled with garbage by strangers.

mod consumed;
mod typing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use concordat_policy::agreement::{Dataset, Fingerprint};
use concordat_policy::coded::Coded;
use concordat_policy::column::LINKED;
use concordat_policy::{Agreement, Basis, Cause, Code, ColumnType, DatasetName, LinkageDomain, Name, Predicate, Refusal, Use, consent};
use concordat_proto::grouped::{Grouping, few};
use concordat_proto::order::Order;
use concordat_proto::token::VerifyingKey;
use concordat_proto::version::{GROUPS, spoken_with, too_far_apart};
use concordat_proto::{MAX_RELEASE_REQUEST, predicate, v1};
use prost::Message as _;

pub use self::consumed::{Consumed, ConsumedError};
use crate::agreements::Current;
use crate::datasets::Selection;
use crate::guard;

/// The most columns in one request.
const MAX_COLUMNS: usize = 256;

/// An order that passed every check.
#[derive(Debug)]
#[expect(
    clippy::manual_non_exhaustive,
    reason = "the attribute binds other crates only; this crate's other modules must not build one either"
)]
pub struct VerifiedOrder {
    /// The order's identifier, consumed once.
    pub id: String,
    /// The version of the contract in which it is answered.
    pub contract_version: u32,
    /// When it expires, Unix seconds.
    pub expires: i64,
    /// The query it belongs to.
    pub query_id: String,
    /// The caller, as the issuer names it.
    pub caller: String,
    /// The caller's organisation.
    pub organisation: String,
    /// Who issued the caller's token.
    pub caller_issuer: String,
    /// The linkage domain.
    pub domain: LinkageDomain,
    /// The purposes whose consent records count, of the tree by which the order was verified.
    pub relevant: Vec<Name>,
    /// The department's own copy of the agreement.
    pub agreement: Agreement,
    /// The dataset's own name.
    pub dataset: Name,
    /// Why the law allows it.
    pub basis: Basis,
    /// Whether it is a link dataset under this agreement: then both subjects' choices count, whichever is released.
    pub links: bool,
    /// Whether the pseudonym of a link dataset's second identifier is released, beside the subject's.
    pub linked: bool,
    /// The columns to release, in order.
    pub columns: Vec<(String, ColumnType)>,
    /// Whether bodies of batches may be dense.
    pub dense: bool,
    /// By what they are grouped, where groups are released in the place of rows.
    pub grouping: Option<Arc<Grouping>>,
    /// The rows that are asked for; `None` means all.
    pub predicate: Option<Predicate>,
    /// What every row must meet beside that, by the department's own copy of the agreement.
    pub condition: Option<Predicate>,
    /// The types of the columns that both read.
    pub predicate_types: BTreeMap<String, ColumnType>,
    /// The columns that are coded, by the department's own copy of the agreement.
    pub coded: BTreeMap<String, Coded>,
    /// Into how many parts the release is split.
    pub partitions: u32,
    /// The gateway's entry that opened the query, as it says; 0 where it does not.
    pub opened_by: u64,
    /// The gateway's certificate.
    pub certificate: Fingerprint,
    /// The request's exact bytes, for the log's keyed digest.
    pub request: Vec<u8>,
    /// The digest of the department's guard rails that let it pass; `None` where there are none.
    pub guard_rails: Option<String>,
    // Keeps every other module from building one.
    _proof: (),
}

/// What orders under one agreement, in one linkage domain, can be about: all that a snapshot of a dataset holds. Of no order in
/// particular: no caller, no condition of its own, and nothing is released by it.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) agreement: Agreement,
    pub(crate) dataset: Name,
    pub(crate) domain: LinkageDomain,
    pub(crate) relevant: Vec<Name>,
    pub(crate) basis: Basis,
    /// As in [`VerifiedOrder`].
    pub(crate) links: bool,
    /// The columns that an order may name or have a condition about.
    pub(crate) columns: Vec<(String, ColumnType)>,
    condition: Option<Predicate>,
    types: BTreeMap<String, ColumnType>,
    coded: BTreeMap<String, Coded>,
}

impl Recipe {
    /// What the source is read for.
    pub(crate) fn selection(&self) -> Selection {
        Selection {
            dataset: self.dataset.clone(),
            linked: self.links,
            columns: self.columns.clone(),
            condition: self.condition.clone(),
            predicate: None,
            predicate_types: self.types.clone(),
            coded: self.coded.clone(),
        }
    }
}

impl VerifiedOrder {
    /// What all orders like this one can be about.
    pub(crate) fn recipe(&self, department: &Name) -> Recipe {
        let read = self.condition.iter().flat_map(Predicate::columns);
        Recipe {
            agreement: self.agreement.clone(),
            dataset: self.dataset.clone(),
            domain: self.domain.clone(),
            relevant: self.relevant.clone(),
            basis: self.basis.clone(),
            links: self.links,
            columns: self.keepable(department),
            condition: self.condition.clone(),
            types: read.filter_map(|column| Some((column.to_owned(), *self.predicate_types.get(column)?))).collect(),
            coded: self.coded.clone(),
        }
    }

    /// What the source is read for.
    #[must_use]
    pub fn selection(&self) -> Selection {
        Selection {
            dataset: self.dataset.clone(),
            linked: self.links,
            columns: self.columns.clone(),
            condition: self.condition.clone(),
            predicate: self.predicate.clone(),
            predicate_types: self.predicate_types.clone(),
            coded: self.coded.clone(),
        }
    }

    /// The columns that an order under this agreement may name or have a condition about, in their order.
    fn keepable(&self, department: &Name) -> Vec<(String, ColumnType)> {
        let dataset = self.agreement.dataset(&DatasetName::new(department.clone(), self.dataset.clone()));
        let columns = dataset.iter().flat_map(|dataset| &dataset.columns);
        let columns = columns.filter(|(_, rule)| rule.crosses_the_wire() || rule.uses.contains(&Use::Filter));
        columns.map(|(name, rule)| (name.clone(), rule.kind)).collect()
    }
}

/// What orders are verified against.
#[derive(Debug)]
pub struct Verifier {
    /// The department's agreements.
    pub agreements: Arc<Current>,
    /// The key that signs orders.
    pub key: VerifyingKey,
    /// The datasets that the node declares.
    pub datasets: BTreeSet<Name>,
}

impl Verifier {
    /// Verifies an order that arrived over a connection authenticated by `certificate`, one of the gateway's.
    ///
    /// # Errors
    /// A [`Refusal`]: [`Code::Unauthenticated`] for the order itself, [`Code::Invalid`] for a request that cannot be understood,
    /// [`Code::Denied`] for one that the agreement does not permit, or a guard rail of the department forbids.
    pub fn verify(&self, wire: &v1::ReleaseOrder, certificate: &Fingerprint, now: DateTime<Utc>) -> Result<VerifiedOrder, Refusal> {
        if wire.request.len() > MAX_RELEASE_REQUEST {
            return Err(self.invalid("the release request is longer than 64 KiB"));
        }
        let department = self.agreements.department();
        let order = Order::verify(&wire.order, &wire.request, department, certificate, &self.key, now).map_err(|reason| {
            Refusal::new(Code::Unauthenticated, format!("the release order is not valid: {}", reason.hint()))
                .department(department)
                .operator(reason)
        })?;
        let request = v1::ReleaseRequest::decode(wire.request.as_slice())
            .map_err(|e| self.invalid("the release request cannot be read").operator(e))?;
        let spoken = self.agree(&order, &request)?;
        let agreements = self.agreements.now();
        let agreement = agreements.find(&request.agreement, &request.agreement_digest, now)?;
        let domain = agreements.domain(agreement, request.domain.as_ref(), now)?;
        let dataset = self.dataset(agreement, &request)?;
        let (linked, columns) = self.columns(agreement, dataset, &request.columns)?;
        let grouping = self.grouping(agreement, dataset, &request, (linked, &columns))?;
        let predicate = self.predicate(agreement, dataset, request.predicate.as_ref())?;
        if request.basis() != v1::Basis::from(&dataset.basis) {
            return Err(self.agreements.denied(format!("the agreement states another lawful basis of '{}' than the order", dataset.name)));
        }
        if !(2..=64).contains(&request.partitions) {
            return Err(self.invalid("a release has 2 to 64 partitions"));
        }
        if i64::try_from(request.log_entry).is_err() {
            return Err(self.invalid("no access log has the entry that is said to have opened the query"));
        }
        let condition = dataset.row_condition();
        let read = condition.iter().chain(&predicate).flat_map(Predicate::columns);
        let predicate_types = read.filter_map(|column| Some((column.to_owned(), dataset.columns.get(column)?.kind))).collect();
        let verified = VerifiedOrder {
            id: order.jti,
            contract_version: spoken,
            expires: order.exp,
            query_id: order.query_id,
            caller: order.sub,
            caller_issuer: order.caller_issuer,
            organisation: order.organisation,
            relevant: consent::relevant(agreements.purposes(), &domain.purpose).cloned().collect(),
            domain,
            agreement: agreement.clone(),
            dataset: dataset.name.dataset.clone(),
            basis: dataset.basis.clone(),
            links: dataset.linked.is_some(),
            linked,
            columns,
            dense: request.dense && grouping.is_none(),
            grouping,
            predicate,
            condition,
            predicate_types,
            coded: dataset.coded(),
            partitions: request.partitions,
            opened_by: request.log_entry,
            certificate: certificate.clone(),
            request: wire.request.clone(),
            guard_rails: None,
            _proof: (),
        };
        let guard = agreements.guard().fixed();
        guard::decide(&guard, &verified, now)?;
        Ok(VerifiedOrder { guard_rails: guard.loaded().map(|rails| rails.digest), ..verified })
    }

    /// The signed claims must say what the request says. Returns the contract version in which to answer.
    fn agree(&self, order: &Order, request: &v1::ReleaseRequest) -> Result<u32, Refusal> {
        let spoken = spoken_with(request.contract_version).ok_or_else(|| {
            too_far_apart("this department's node", "the gateway", request.contract_version).department(self.agreements.department())
        })?;
        let domain = request.domain.as_ref().ok_or_else(|| self.invalid("the request names no linkage domain"))?;
        let alike = [
            (order.mission.as_str(), domain.mission.as_str()),
            (order.purpose.as_str(), domain.purpose.as_str()),
            (order.agreement.as_str(), request.agreement.as_str()),
            (order.agreement_digest.as_str(), request.agreement_digest.as_str()),
            (order.query_id.as_str(), request.query_id.as_str()),
        ];
        if alike.iter().any(|(claim, field)| claim != field) || !(1..=128).contains(&order.query_id.len()) {
            return Err(self.invalid("the order's claims and the request contradict each other"));
        }
        Ok(spoken)
    }

    fn dataset<'a>(&self, agreement: &'a Agreement, request: &v1::ReleaseRequest) -> Result<&'a Dataset, Refusal> {
        let named = Name::parse(&request.dataset).ok().map(|dataset| DatasetName::new(self.agreements.department().clone(), dataset));
        named
            .and_then(|name| agreement.dataset(&name))
            .filter(|dataset| self.datasets.contains(&dataset.name.dataset))
            .ok_or_else(|| self.agreements.denied(format!("the agreement '{}' names no such dataset of this department", agreement.id)))
            .and_then(|dataset| {
                if dataset.subject_uses.is_empty() && request.columns.is_empty() {
                    let cause = format!("agreement '{}' permits no use of the subjects of '{}'", agreement.id, dataset.name);
                    return Err(self.agreements.denied(cause).advice("an order without columns asks for them alone"));
                }
                Ok(dataset)
            })
    }

    /// The columns, and whether the second pseudonym of a link dataset stands before them.
    fn columns(&self, agreement: &Agreement, dataset: &Dataset, columns: &[String]) -> Result<(bool, Vec<(String, ColumnType)>), Refusal> {
        if columns.len() > MAX_COLUMNS || columns.iter().collect::<BTreeSet<_>>().len() != columns.len() {
            return Err(self.invalid("a release names at most 256 columns, each once"));
        }
        let (linked, columns) = match columns.split_first() {
            Some((first, rest)) if first == LINKED && dataset.is_link() => (true, rest),
            _ => (false, columns),
        };
        let columns = columns
            .iter()
            .map(|column| match dataset.columns.get(column) {
                Some(rule) if rule.crosses_the_wire() => Ok((column.clone(), rule.kind)),
                Some(_) => Err(self
                    .agreements
                    .denied(format!(
                        "{}.{column} never leaves this department: agreement '{}' permits no use that needs it elsewhere",
                        dataset.name, agreement.id
                    ))
                    .advice("a column with the use 'filter' may stand in the order's predicate")),
                None => Err(self.agreements.denied(format!("the agreement '{}' names no such column of '{}'", agreement.id, dataset.name))),
            })
            .collect::<Result<_, _>>()?;
        Ok((linked, columns))
    }

    /// By what rows are grouped. Not where other parties' people object to their use: without a pseudonym, none of them could be removed.
    fn grouping(
        &self,
        agreement: &Agreement,
        dataset: &Dataset,
        request: &v1::ReleaseRequest,
        (linked, columns): (bool, &[(String, ColumnType)]),
    ) -> Result<Option<Arc<Grouping>>, Refusal> {
        let Some(wire) = &request.grouping else { return Ok(None) };
        if request.contract_version < GROUPS {
            return Err(self.invalid("groups can be ordered since contract version 2"));
        }
        if linked {
            return Err(self.invalid("groups have no second pseudonym"));
        }
        if let Some(other) = agreement.reaching(dataset).next() {
            let cause = format!(
                "choices that '{other}' recorded reach '{}' under agreement '{}', and groups leave nobody out",
                dataset.name, agreement.id
            );
            return Err(self.agreements.denied(cause).advice("order rows"));
        }
        let grouping = Grouping::of(wire, columns).map_err(|e| self.invalid(e))?;
        let rules: Option<Vec<_>> = grouping.keys().map(|key| dataset.columns.get(key)).collect();
        if !rules.is_some_and(few) {
            return Err(self.invalid("rows are grouped by columns whose published values have few combinations"));
        }
        Ok(Some(Arc::new(grouping)))
    }

    fn predicate(&self, agreement: &Agreement, dataset: &Dataset, wire: Option<&v1::Predicate>) -> Result<Option<Predicate>, Refusal> {
        let Some(wire) = wire else { return Ok(None) };
        let predicate = predicate::parse(wire).map_err(|e| self.invalid(e.to_string()))?;
        for column in predicate.columns() {
            let Some(rule) = dataset.columns.get(column) else {
                return Err(self.agreements.denied(format!("the agreement '{}' names no such column of '{}'", agreement.id, dataset.name)));
            };
            if !rule.uses.contains(&Use::Filter) {
                let uses = rule.uses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                return Err(self
                    .agreements
                    .denied(format!(
                        "{}.{column} may not be used for filter: agreement '{}' does not permit it",
                        dataset.name, agreement.id
                    ))
                    .advice(if uses.is_empty() {
                        "the agreement permits no use of this column".into()
                    } else {
                        format!("permitted uses: {uses}")
                    }));
            }
        }
        typing::check(&predicate, |column| dataset.columns.get(column).map(|rule| rule.kind)).map_err(|cause| self.invalid(cause))?;
        let beyond = predicate.beyond_limits(&dataset.columns);
        if let Some((column, rule)) = beyond.and_then(|column| dataset.columns.get_key_value(column)) {
            let (dataset, column, agreement) = (dataset.name.clone(), column.clone(), agreement.id.clone());
            let cause = Cause::Unlisted { dataset, column, agreement, limit: rule.filter.unwrap_or_default() };
            return Err(self.agreements.denied(cause.to_string()).advice(rule.comparable()));
        }
        Ok(Some(predicate))
    }

    fn invalid(&self, cause: impl Into<String>) -> Refusal {
        Refusal::new(Code::Invalid, cause).department(self.agreements.department())
    }
}

#[cfg(test)]
pub(crate) mod tests;
