//! The gateway's own gRPC service: catalogue, departments, relay of linkage keys, detached queries.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::sql::Any;
use concordat_policy::authorize::DatasetPermit;
use concordat_policy::column::SUBJECT;
use concordat_policy::{Code, LinkageDomain, Name, Permit, Refusal};
use concordat_proto::v1::gateway_server::Gateway as GatewayService;
use concordat_proto::v1::{
    CancelDetachedRequest, CancelDetachedResponse, CatalogueRequest, CatalogueResponse, Column, Dataset, DepartmentStatus,
    DepartmentsRequest, DepartmentsResponse, DetachRequest, DetachResponse, DetachedRequest, DetachedResponse, DetachedState,
    DetachedTicket, RelayRequest, RelayResponse, View,
};
use futures::future::join_all;
use prost::Message as _;
use serde_json::Value;
use tonic::{Request, Response, Status};

use crate::Gateway;
use crate::detached::{Progress, State};
use crate::pipeline::{Origin, authenticate, open, permit, refused_as, refused_unopened};
use crate::record::{Intent, Opened};

/// The role that may administer the gateway.
const ADMINISTRATOR: &str = "administrator";
/// The longest that a question for a detached query's state waits for its end.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// The type of the message in a ticket for a detached query's answer.
pub(crate) const DETACHED_TICKET: &str = "type.googleapis.com/concordat.v1.DetachedTicket";

/// The service.
pub(crate) struct Service {
    pub(crate) gateway: Arc<Gateway>,
}

impl Service {
    /// Authenticates, logs, authorizes, works, logs.
    async fn run<T>(
        &self,
        from: Origin<'_>,
        intent: Intent,
        work: impl AsyncFnOnce(&Permit, &Opened) -> Result<T, Refusal>,
    ) -> Result<Response<T>, Status> {
        let caller = authenticate(&self.gateway, &from).await.map_err(|r| r.status())?;
        let opened = open(&self.gateway, caller, intent, "").await.map_err(|r| r.status())?;
        let refused = refused_as(&opened);
        let outcome = match permit(&self.gateway, &opened) {
            Ok(permit) => work(&permit, &opened).await,
            Err(refusal) => Err(refusal),
        };
        let (_, value) = opened.finish(outcome, Value::Null).await.map_err(|r| refused(r).status())?;
        Ok(Response::new(value))
    }

    async fn relay(&self, permit: &Permit, opened: &Opened) -> Result<RelayResponse, Refusal> {
        if !opened.caller.roles.contains(ADMINISTRATOR) {
            return Err(
                Refusal::new(Code::Denied, "only the role 'administrator' may do this").advice("queries bring the keys by themselves")
            );
        }
        let ids: BTreeSet<&Name> = permit.datasets().map(|d| &d.agreement).collect();
        let mut served = BTreeSet::new();
        self.gateway.fetcher.relay.forget().await;
        for agreement in self.gateway.estate.agreements.iter().filter(|a| ids.contains(&a.id)) {
            let domain =
                LinkageDomain::at(permit.mission().clone(), permit.purpose().clone(), agreement.linkage.epoch_days, chrono::Utc::now())
                    .ok_or_else(|| Refusal::internal("no linkage domain at this time"))?;
            let parties: Vec<Name> = agreement.parties.iter().map(|p| p.department.clone()).collect();
            self.gateway.fetcher.relay.ensure(&self.gateway.fetcher.nodes, agreement, &domain, &parties).await?;
            served.extend(parties.into_iter().map(|p| p.to_string()));
        }
        Ok(RelayResponse { departments: served.into_iter().collect() })
    }

    async fn departments_of(&self, permit: &Permit) -> DepartmentsResponse {
        let concerned: BTreeSet<&Name> = permit.datasets().map(|d| &d.dataset.name.department).collect();
        let concerned = self.gateway.estate.departments.iter().filter(|d| concerned.contains(&d.id));
        let departments = join_all(concerned.map(async |department| {
            let described = self.gateway.fetcher.nodes.describe_now(&department.id).await;
            let fault = described.as_ref().err().map(ToString::to_string).unwrap_or_default();
            let description = described.ok();
            DepartmentStatus {
                id: department.id.to_string(),
                title: department.title.clone(),
                reachable: description.is_some(),
                fault,
                consent_version: description.as_ref().map_or(0, |d| d.consent_version),
                freshness: description.map_or(0, |d| d.datasets.iter().map(|d| d.freshness).min().unwrap_or(0)),
            }
        }));
        DepartmentsResponse { departments: departments.await }
    }

    fn catalogue_of(&self, permit: &Permit) -> CatalogueResponse {
        let estate = &self.gateway.estate;
        let views = estate.views.iter().filter(|v| v.mission == *permit.mission());
        CatalogueResponse {
            mission: permit.mission().to_string(),
            mission_title: estate.mission(permit.mission()).map(|m| m.title.clone()).unwrap_or_default(),
            views: views.map(|v| View { name: v.name.clone(), title: v.title.clone(), unit: v.unit.clone(), sql: v.sql.clone() }).collect(),
            datasets: permit.datasets().map(dataset).collect(),
        }
    }
}

fn dataset(permit: &DatasetPermit) -> Dataset {
    let uses = |uses: &BTreeSet<concordat_policy::Use>| uses.iter().map(ToString::to_string).collect();
    let subject = Column {
        name: SUBJECT.into(),
        r#type: "pseudonym".into(),
        title: format!("pseudonym of the {}", permit.dataset.identifier),
        uses: uses(&permit.dataset.subject_uses),
        values: Vec::new(),
    };
    let columns = permit.dataset.columns.iter().filter(|(_, rule)| !rule.uses.is_empty()).map(|(name, rule)| Column {
        name: name.clone(),
        r#type: rule.kind.to_string(),
        title: rule.title.clone().unwrap_or_default(),
        uses: uses(&rule.uses),
        values: rule.values.clone().unwrap_or_default(),
    });
    Dataset {
        name: permit.dataset.name.to_string(),
        agreement: permit.agreement.to_string(),
        identifier_type: permit.dataset.identifier.to_string(),
        columns: std::iter::once(subject).chain(columns).collect(),
    }
}

#[tonic::async_trait]
impl GatewayService for Service {
    async fn catalogue(&self, request: Request<CatalogueRequest>) -> Result<Response<CatalogueResponse>, Status> {
        self.run(Origin::of(&request), Intent::Catalogue, async |permit, _| Ok(self.catalogue_of(permit))).await
    }

    async fn departments(&self, request: Request<DepartmentsRequest>) -> Result<Response<DepartmentsResponse>, Status> {
        self.run(Origin::of(&request), Intent::Departments, async |permit, _| Ok(self.departments_of(permit).await)).await
    }

    async fn relay_linkage_keys(&self, request: Request<RelayRequest>) -> Result<Response<RelayResponse>, Status> {
        self.run(Origin::of(&request), Intent::Relay, async |permit, opened| self.relay(permit, opened).await).await
    }

    async fn detach(&self, request: Request<DetachRequest>) -> Result<Response<DetachResponse>, Status> {
        let statement = request.get_ref().statement.as_str().into();
        self.run(Origin::of(&request), Intent::Detach, async |_, opened| {
            self.gateway.detach(opened.caller.clone(), statement).map(|id| DetachResponse { id })
        })
        .await
    }

    async fn detached(&self, request: Request<DetachedRequest>) -> Result<Response<DetachedResponse>, Status> {
        let caller = authenticate(&self.gateway, &Origin::of(&request)).await.map_err(|r| r.status())?;
        let DetachedRequest { id, wait_seconds } = request.into_inner();
        let wait = MAX_WAIT.min(Duration::from_secs(wait_seconds.into()));
        match self.gateway.detached.state(&id, &caller, wait).await {
            Ok(state) => Ok(Response::new(told(id, state))),
            Err(refusal) => Err(refused_unopened(&self.gateway, &caller, refusal).await.status()),
        }
    }

    async fn cancel_detached(&self, request: Request<CancelDetachedRequest>) -> Result<Response<CancelDetachedResponse>, Status> {
        let id = request.get_ref().id.clone();
        self.run(Origin::of(&request), Intent::CancelDetached, async |_, opened| {
            self.gateway.detached.cancel(&id, &opened.caller).map(|()| CancelDetachedResponse {})
        })
        .await
    }
}

/// What a query's owner is told of it.
fn told(id: String, state: State) -> DetachedResponse {
    let mut told = DetachedResponse {
        since: state.since.timestamp(),
        lapses: state.lapses.map_or(0, |at| at.timestamp()),
        ..DetachedResponse::default()
    };
    let at = match state.progress {
        Progress::Queued => DetachedState::Queued,
        Progress::Running => DetachedState::Running,
        Progress::Done(_) => {
            let ticket = DetachedTicket { id };
            let ticket = Any { type_url: DETACHED_TICKET.into(), value: ticket.encode_to_vec().into() };
            told.ticket = ticket.encode_to_vec();
            DetachedState::Done
        }
        Progress::Refused(refusal, query_id) => {
            told.code = refusal.code.as_str().into();
            told.message = refusal.to_string();
            told.department = refusal.department.unwrap_or_default();
            told.query_id = query_id.unwrap_or_default();
            DetachedState::Refused
        }
    };
    told.set_state(at);
    told
}
