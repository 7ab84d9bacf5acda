//! The gateway's own gRPC service: catalogue, departments, who the caller is, relay of linkage keys, detached queries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::sql::Any;
use concordat_policy::authorize::DatasetPermit;
use concordat_policy::column::{LINKED, SUBJECT};
use concordat_policy::{Code, DatasetName, LinkageDomain, Name, Permit, Refusal};
use concordat_proto::status::to_status;
use concordat_proto::v1::gateway_server::Gateway as GatewayService;
use concordat_proto::v1::{
    Agreement, CancelDetachedRequest, CancelDetachedResponse, CatalogueRequest, CatalogueResponse, Column, Dataset, Department,
    DepartmentStatus, DepartmentsRequest, DepartmentsResponse, DetachRequest, DetachResponse, DetachedRequest, DetachedResponse,
    DetachedState, DetachedTicket, ExplainRequest, ExplainResponse, RelayRequest, RelayResponse, View, WhoAmIRequest, WhoAmIResponse,
};
use datafusion::common::ScalarValue;
use futures::future::join_all;
use prost::Message as _;
use serde_json::{Value, json};
use tonic::{Request, Response, Status};

use crate::Gateway;
use crate::detached::{Progress, State};
use crate::explain;
use crate::introduce::introduce;
use crate::limits::Key;
use crate::pipeline::{self, Origin, authenticate, identify, open, permit, refused_as, refused_unopened};
use crate::plan::Statement;
use crate::record::{Intent, Opened, introduced};

/// The role that may administer the gateway.
const ADMINISTRATOR: &str = "administrator";
/// The longest that a question for a detached query's state waits for its end.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// The type of the message in a ticket for a detached query's answer.
pub(crate) const DETACHED_TICKET: &str = "type.googleapis.com/concordat.v1.DetachedTicket";

/// How long the catalogue waits for nodes that are to say how fresh their data is.
const PATIENCE: Duration = Duration::from_secs(2);

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
        statement: &Statement,
        work: impl AsyncFnOnce(&Permit, &Opened) -> Result<(T, Value), Refusal>,
    ) -> Result<Response<T>, Status> {
        let caller = authenticate(&self.gateway, &from).await.map_err(|r| r.status())?;
        let opened = open(&self.gateway, caller, intent, statement).await.map_err(|r| r.status())?;
        let refused = refused_as(&opened);
        let outcome = match permit(&self.gateway, &opened) {
            Ok(permit) => work(&permit, &opened).await,
            Err(refusal) => Err(refusal),
        };
        let facts = outcome.as_ref().map_or(Value::Null, |(_, facts)| facts.clone());
        let (_, (value, _)) = opened.finish(outcome, facts).await.map_err(|r| refused(r).status())?;
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
        self.gateway.fetcher.relay.forget();
        let estate = self.gateway.estate.now();
        for agreement in estate.agreements.iter().filter(|a| ids.contains(&a.id)) {
            let domain = LinkageDomain::at(permit.mission().clone(), permit.purpose().clone(), &agreement.linkage, chrono::Utc::now())
                .ok_or_else(|| Refusal::internal("no linkage domain at this time"))?;
            let parties: Vec<Name> = agreement.parties.iter().map(|p| p.department.clone()).collect();
            self.gateway.fetcher.relay.ensure(&self.gateway.fetcher.nodes, agreement, &domain, &parties).await?;
            served.extend(parties.into_iter().map(|p| p.to_string()));
        }
        Ok(RelayResponse { departments: served.into_iter().collect() })
    }

    async fn departments_of(&self, permit: &Permit) -> DepartmentsResponse {
        let concerned: BTreeSet<&Name> = permit.datasets().map(|d| &d.dataset.name.department).collect();
        let estate = self.gateway.estate.now();
        let concerned = estate.departments.iter().filter(|d| concerned.contains(&d.id));
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

    async fn catalogue_of(&self, permit: &Permit, caller: &Key) -> CatalogueResponse {
        let estate = self.gateway.estate.now();
        let views = self.views_of(permit, caller).await;
        let freshness = self.freshness_of(permit).await;
        let mission = estate.mission(permit.mission());
        CatalogueResponse {
            mission: permit.mission().to_string(),
            mission_title: mission.map(|m| m.title.clone()).unwrap_or_default(),
            views,
            datasets: permit.datasets().map(|d| dataset(d, freshness.get(&d.dataset.name).copied().unwrap_or(0))).collect(),
            mission_goal: mission.map(|m| m.goal.clone()).unwrap_or_default(),
            agreements: self.agreements_of(permit),
            departments: self.contacts_of(permit),
        }
    }

    /// The mission's views that would be answered under this permit.
    async fn views_of(&self, permit: &Permit, caller: &Key) -> Vec<View> {
        let (mut usable, estate) = (Vec::new(), self.gateway.estate.now());
        for known in estate.views.iter().filter(|v| v.mission == *permit.mission()) {
            if pipeline::view(&self.gateway, permit, known, caller).await.is_some() {
                usable.push(view(known));
            }
        }
        usable
    }

    /// When each dataset's source last changed, as far as the nodes say so in [`PATIENCE`].
    async fn freshness_of(&self, permit: &Permit) -> BTreeMap<DatasetName, i64> {
        let concerned: BTreeSet<&Name> = permit.datasets().map(|d| &d.dataset.name.department).collect();
        let described = join_all(concerned.into_iter().map(async |department| {
            let described = tokio::time::timeout(PATIENCE, self.gateway.fetcher.nodes.describe(department)).await;
            (department, described.ok().and_then(Result::ok))
        }));
        let mut freshness = BTreeMap::new();
        for (department, description) in described.await {
            for dataset in description.iter().flat_map(|d| &d.datasets) {
                if let Ok(name) = Name::parse(&dataset.name) {
                    freshness.insert(DatasetName::new(department.clone(), name), dataset.freshness);
                }
            }
        }
        freshness
    }

    fn agreements_of(&self, permit: &Permit) -> Vec<Agreement> {
        let named: BTreeSet<&Name> = permit.datasets().map(|d| &d.agreement).collect();
        let estate = self.gateway.estate.now();
        let agreements = estate.agreements.iter().filter(|a| named.contains(&a.id));
        let shown = agreements.map(|a| Agreement {
            id: a.id.to_string(),
            title: a.title.clone(),
            valid_until: a.valid_until.to_string(),
            minimum_subjects: a.minimum_subjects,
            disclosure: a.disclosure.in_words(),
            max_unwitnessed: a.max_unwitnessed.to_string(),
        });
        shown.collect()
    }

    fn contacts_of(&self, permit: &Permit) -> Vec<Department> {
        let concerned: BTreeSet<&Name> = permit.datasets().map(|d| &d.dataset.name.department).collect();
        let estate = self.gateway.estate.now();
        let departments = estate.departments.iter().filter(|d| concerned.contains(&d.id));
        let shown = departments.map(|d| Department {
            id: d.id.to_string(),
            title: d.title.clone(),
            contact: d.contact.clone().unwrap_or_default(),
        });
        shown.collect()
    }
}

fn view(view: &crate::estate::View) -> View {
    View {
        name: view.name.clone(),
        title: view.title.clone(),
        unit: view.unit.clone(),
        sql: view.sql.clone(),
        description: view.description.clone(),
    }
}

fn dataset(permit: &DatasetPermit, freshness: i64) -> Dataset {
    let uses = |uses: &BTreeSet<concordat_policy::Use>| uses.iter().map(ToString::to_string).collect();
    let subject = Column {
        name: SUBJECT.into(),
        r#type: "pseudonym".into(),
        title: format!("pseudonym of the {}", permit.dataset.identifier),
        uses: uses(&permit.dataset.subject_uses),
        ..Column::default()
    };
    let linked = permit.dataset.linked.iter().filter(|linked| !linked.uses.is_empty()).map(|linked| Column {
        name: LINKED.into(),
        r#type: "pseudonym".into(),
        title: format!("pseudonym of the {}", linked.identifier),
        uses: uses(&linked.uses),
        ..Column::default()
    });
    let columns = permit.dataset.columns.iter().filter(|(_, rule)| !rule.uses.is_empty()).map(|(name, rule)| Column {
        name: name.clone(),
        r#type: rule.kind.to_string(),
        title: rule.title.clone().unwrap_or_default(),
        uses: uses(&rule.uses),
        values: rule.values.clone().unwrap_or_default(),
        classification: rule.classification.to_string(),
        coded: rule.coded.as_ref().map(ToString::to_string).unwrap_or_default(),
        filter: rule.filter.as_ref().map(ToString::to_string).unwrap_or_default(),
        bands: rule.bands.clone().unwrap_or_default(),
    });
    Dataset {
        name: permit.dataset.name.to_string(),
        agreement: permit.agreement.to_string(),
        identifier_type: permit.dataset.identifier.to_string(),
        columns: std::iter::once(subject).chain(linked).chain(columns).collect(),
        minimum_subjects: permit.minimum_subjects,
        freshness,
        max_data_age: permit.dataset.max_data_age.map(|age| age.to_string()).unwrap_or_default(),
    }
}

#[tonic::async_trait]
impl GatewayService for Service {
    async fn catalogue(&self, request: Request<CatalogueRequest>) -> Result<Response<CatalogueResponse>, Status> {
        let nothing = Statement::default();
        self.run(Origin::of(&request), Intent::Catalogue, &nothing, async |permit, opened| {
            Ok((self.catalogue_of(permit, &Key::of(&opened.caller)).await, Value::Null))
        })
        .await
    }

    async fn departments(&self, request: Request<DepartmentsRequest>) -> Result<Response<DepartmentsResponse>, Status> {
        let nothing = Statement::default();
        let work = async |permit: &Permit, _: &Opened| Ok((self.departments_of(permit).await, Value::Null));
        self.run(Origin::of(&request), Intent::Departments, &nothing, work).await
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let caller = authenticate(&self.gateway, &Origin::of(&request)).await.map_err(|r| r.status())?;
        let (ExplainRequest { statement: sql, parameters }, purpose) = (request.into_inner(), caller.purpose.clone());
        let statement = Statement { sql, parameters: parameters.into_iter().map(|p| ScalarValue::Utf8(p.value)).collect() };
        let (query_id, explanation) = pipeline::explain(&self.gateway, caller, &statement).await.map_err(|r| r.status())?;
        Ok(Response::new(explain::told(query_id, &purpose, explanation)))
    }

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Result<Response<WhoAmIResponse>, Status> {
        let identity = identify(&self.gateway, &Origin::of(&request)).await.map_err(|r| r.status())?;
        introduced(&self.gateway.log, &identity).await.map_err(|r| to_status(&r, None))?;
        Ok(Response::new(introduce(&self.gateway.estate.now(), &identity, chrono::Utc::now())))
    }

    async fn relay_linkage_keys(&self, request: Request<RelayRequest>) -> Result<Response<RelayResponse>, Status> {
        let nothing = Statement::default();
        let work = async |permit: &Permit, opened: &Opened| self.relay(permit, opened).await.map(|served| (served, Value::Null));
        self.run(Origin::of(&request), Intent::Relay, &nothing, work).await
    }

    async fn detach(&self, request: Request<DetachRequest>) -> Result<Response<DetachResponse>, Status> {
        let statement: Statement = request.get_ref().statement.as_str().into();
        self.run(Origin::of(&request), Intent::Detach, &statement, async |_, opened| {
            let id = self.gateway.detach(opened.caller.clone(), statement.clone())?;
            let facts = json!({ "detached": id });
            Ok((DetachResponse { id }, facts))
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
        self.run(Origin::of(&request), Intent::CancelDetached, &Statement::default(), async |_, opened| {
            self.gateway.detached.cancel(&id, &opened.caller)?;
            Ok((CancelDetachedResponse {}, json!({ "detached": id })))
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
