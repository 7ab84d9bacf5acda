//! The way of an explanation: as an answer's up to the plan; then nothing is asked of any node, and of a denial the nearest query that
//! would be permitted is looked for.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::Utc;
use concordat_policy::{Permit, Refusal};
use tokio_util::sync::CancellationToken;

use super::{Judged, Refused, authorized, judge, open, parameters, permit, refused_as};
use crate::Gateway;
use crate::authenticate::Caller;
use crate::execute::agreements_of;
use crate::explain::{Explanation, Permitted, Proposal, Search, decides, differing};
use crate::plan::{Statement, read_as, written_out};
use crate::record::{Intent, Opened};
use crate::terms::Terms;

/// How long the nearest permitted query is looked for.
const SEARCH: Duration = Duration::from_secs(3);

/// Says whether a statement would be answered and why, and what each node would be asked for; reads no data and places no order.
/// Its values are texts. Returns the id under which the log has the explanation too.
pub(crate) async fn explain(gateway: &Gateway, caller: Caller, statement: &Statement) -> Result<(String, Explanation), Refused> {
    let opened = open(gateway, caller, Intent::Explain, statement).await?;
    let refused = refused_as(&opened);
    let query_id = opened.query_id.clone();
    let terms = Terms::of_caller_who_waits(gateway, CancellationToken::new());
    let read = read(gateway, &opened, statement, &terms).await;
    let judged = async {
        let statement = read.as_ref().map_err(Refusal::clone)?;
        judge(gateway, &opened, statement, &terms).await
    };
    // The place and the memory of its planning are given back where `judge`'s outcome ends: here.
    let permitted = match judged.await {
        Ok(Judged { permit, plan, .. }) => {
            let estate = gateway.estate.now();
            let under = agreements_of(&estate, &plan).and_then(|agreements| {
                gateway.witnessed.permits(&agreements)?;
                gateway.limits.under(&agreements, false)
            });
            under.and_then(|_| Permitted::of(permit, &plan, &query_id))
        }
        Err(refusal) => Err(refusal),
    };
    let explanation = match permitted {
        Ok(permitted) => Ok(Explanation::Permitted(permitted)),
        Err(refusal) if decides(&refusal) => {
            let asked = read.as_ref().unwrap_or(statement);
            nearest(gateway, &opened, asked, &refusal, &terms).await.map(|proposal| Explanation::Denied(refusal, proposal))
        }
        Err(refusal) => Err(refusal),
    };
    match explanation {
        Ok(explanation) => {
            let outcome = match &explanation {
                Explanation::Permitted(permitted) => Ok((permitted.permit.mission().as_str(), &permitted.decision)),
                Explanation::Denied(refusal, proposal) => Err((refusal, proposal.as_ref())),
            };
            opened.explained(outcome).await.map_err(refused)?;
            Ok((query_id, explanation))
        }
        Err(refusal) => {
            let refusal: Result<(String, Explanation), Refusal> = Err(refusal);
            opened.finish(refusal, serde_json::Value::Null).await.map(|(_, explained)| explained).map_err(refused)
        }
    }
}

/// The statement with its values, which are texts, read as the types that are expected where they stand.
async fn read(gateway: &Gateway, opened: &Opened, statement: &Statement, terms: &Terms) -> Result<Statement, Refusal> {
    if statement.parameters.is_empty() {
        return Ok(statement.clone());
    }
    let permit = permit(gateway, opened)?;
    let allowance = terms.admit(&gateway.limits, &opened.caller).await?;
    let types = terms.stop().unless(parameters(gateway, &permit, &statement.sql, &allowance)).await?;
    read_as(statement, &types)
}

/// The nearest query that would be permitted, in the place of a query like any planning. Values stand in it as literals.
///
/// # Errors
/// [`Code::LimitExceeded`] when there is no place; [`Code::Cancelled`].
async fn nearest(
    gateway: &Gateway,
    opened: &Opened,
    statement: &Statement,
    refusal: &Refusal,
    terms: &Terms,
) -> Result<Option<Proposal>, Refusal> {
    let Ok(sql) = written_out(statement) else { return Ok(None) };
    let own = permit(gateway, opened).ok();
    let allowance = terms.admit(&gateway.limits, &opened.caller).await?;
    let search = Search {
        others: others(gateway, &opened.caller, own.as_ref()),
        estate: gateway.estate.now(),
        purpose: opened.caller.purpose.clone(),
        permit: own,
        engine: gateway.engine(allowance.memory.clone())?,
        until: Instant::now() + SEARCH,
        wanted: CancellationToken::new(),
    };
    terms.stop().unless(search.on(&gateway.workers, sql, refusal.clone())).await
}

/// What the caller may ask under instead: every purpose and mission that the token lets be declared and some agreement permits.
fn others(gateway: &Gateway, caller: &Caller, own: Option<&Permit>) -> Vec<Permit> {
    let estate = gateway.estate.now();
    let missions: BTreeSet<_> = estate.agreements.iter().map(|agreement| &agreement.mission).collect();
    let purposes = estate.purposes.iter().flat_map(|purpose| missions.iter().map(move |mission| (&purpose.id, *mission)));
    let callers = purposes.filter_map(|(purpose, mission)| caller.claiming(purpose, mission));
    let now = Utc::now();
    differing(own, callers.filter_map(|caller| authorized(&estate, &caller, now).ok()))
}
