//! Statements: GetFlightInfo plans one and answers with its schema and a ticket; DoGet redeems the ticket once, runs the
//! statement and streams the answer. What runs can be cancelled by whoever holds the ticket and is its owner.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use arrow_flight::sql::{ProstMessageExt as _, TicketStatementQuery};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use concordat_policy::{Code, Refusal};
use prost::Message as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::kept::{Id, Kept, Limits};
use super::seal::{Kind, Seal};
use crate::Gateway;
use crate::at_least::AtLeast;
use crate::authenticate::Caller;
use crate::deliver::Answer;
use crate::delivery::Held;
use crate::limits::Place;
use crate::pipeline::{self, Described, Refused};
use crate::plan::Statement;

/// How long a ticket is good.
const TICKET: Duration = Duration::from_secs(300);

/// Statements that wait to be fetched, and those that run.
pub(super) struct Statements {
    waiting: Kept<Announced>,
    running: Mutex<HashMap<Id, CancellationToken>>,
}

/// What a ticket stands for: a statement, once for each row of its parameters, and the answer that was announced.
struct Announced {
    statements: Vec<Statement>,
    described: Described,
    /// What the caller demanded of the answer when it was announced.
    at_least: AtLeast,
}

/// What became of a request to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cancelled {
    /// It had not begun, and will not.
    Waiting,
    /// It was told to stop.
    Running,
    /// It is over, or was never this caller's.
    Unknown,
}

impl Statements {
    pub(super) fn new() -> Self {
        Self {
            waiting: Kept::new(Limits {
                what: "statements",
                age: TICKET,
                most: 4_096,
                most_of_one: 64,
                bytes: 128 << 20,
                bytes_of_one: 16 << 20,
            }),
            running: Mutex::default(),
        }
    }

    /// Keeps a statement, once for each row of its parameters, and announces its answer.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`].
    pub(super) fn announce(
        &self,
        seal: &Seal,
        caller: &Caller,
        statements: Vec<Statement>,
        described: Described,
        descriptor: FlightDescriptor,
    ) -> Result<FlightInfo, Refusal> {
        let owner = caller.owner();
        let bytes = statements.iter().map(Statement::size).sum();
        let info = FlightInfo::new().try_with_schema(&described.schema).map_err(Refusal::internal)?;
        let id =
            self.waiting.keep(&caller.identity_owner(), bytes, Announced { statements, described, at_least: caller.at_least().clone() })?;
        let handle = seal.close(Kind::Ticket, &id, &owner, now() + TICKET.as_secs().cast_signed());
        let ticket = TicketStatementQuery { statement_handle: handle.into() };
        let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket.as_any().encode_to_vec()));
        Ok(info.with_endpoint(endpoint).with_descriptor(descriptor))
    }

    /// Takes what is behind a ticket.
    fn take(&self, seal: &Seal, handle: &[u8], caller: &Caller) -> Result<(Id, Announced), Refusal> {
        let gone = || {
            Refusal::new(Code::Denied, "the ticket is unknown, used, expired or another caller's")
                .advice("ask for the statement's FlightInfo again")
        };
        let id = seal.open(Kind::Ticket, handle, &caller.owner(), now()).ok_or_else(gone)?;
        let announced = self.waiting.take(id).ok_or_else(gone)?;
        Ok((id.try_into().map_err(|_| gone())?, announced))
    }

    /// Redeems a ticket and answers.
    ///
    /// # Errors
    /// What was refused, recorded.
    pub(super) async fn answer(
        self: &Arc<Self>,
        gateway: &Arc<Gateway>,
        seal: &Seal,
        handle: &[u8],
        caller: Caller,
    ) -> Result<Answer, Refused> {
        let taken = self.take(seal, handle, &caller).and_then(|(id, announced)| {
            pipeline::still_agreed(gateway, &announced.described.texts)?;
            Ok((id, announced))
        });
        let (id, announced) = match taken {
            Ok(taken) => taken,
            Err(refusal) => return Err(pipeline::refused_unopened(gateway, &caller, refusal).await),
        };
        let caller = caller.demanding(&announced.at_least).asking(announced.described.cells);
        let stop = CancellationToken::new();
        self.running().insert(id, stop.clone());
        // Who leaves before the answer begins cancels it.
        let leaving = stop.clone().drop_guard();
        // On its own, so that the log's entry is closed even then.
        let (all, gateway) = (self.clone(), gateway.clone());
        let work = async move {
            let answer = of_each(&gateway, &caller, &announced, &stop).await;
            all.running().remove(&id);
            answer
        };
        let work = tokio::spawn(work.in_current_span());
        let answer = work.await.map_err(|e| Refused::unlogged(Refusal::internal(e)));
        leaving.disarm();
        answer?
    }

    /// Cancels what is behind a ticket.
    pub(super) fn cancel(&self, seal: &Seal, handle: &[u8], caller: &Caller) -> Cancelled {
        let Some(id) = seal.open(Kind::Ticket, handle, &caller.owner(), now()) else { return Cancelled::Unknown };
        if self.waiting.take(id).is_some() {
            return Cancelled::Waiting;
        }
        match <Id>::try_from(id).ok().and_then(|id| self.running().get(&id).cloned()) {
            Some(stop) => {
                stop.cancel();
                Cancelled::Running
            }
            None => Cancelled::Unknown,
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<Id, CancellationToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One answer of several statements that differ in their parameters only: one after the other, each a query of its own.
async fn of_each(gateway: &Gateway, caller: &Caller, announced: &Announced, stop: &CancellationToken) -> Result<Answer, Refused> {
    let mut whole: Option<Answer> = None;
    let (mut summaries, mut size) = (Vec::new(), 0usize);
    let most = gateway.limits.settings.answer_mib << 20;
    for statement in &announced.statements {
        let answer = pipeline::answer(gateway, caller.clone(), statement, stop).await?;
        let answer = match as_announced(answer, &announced.described.schema) {
            Ok(answer) => answer,
            Err(refusal) => return Err(pipeline::refused_unopened(gateway, caller, refusal).await),
        };
        size += answer.batches.iter().map(RecordBatch::get_array_memory_size).sum::<usize>();
        if size > most {
            let refusal = Refusal::new(Code::LimitExceeded, format!("the answers together exceed {} MiB", most >> 20))
                .advice("bind fewer rows of parameters");
            return Err(pipeline::refused_unopened(gateway, caller, refusal).await);
        }
        summaries.push(answer.summary.clone());
        match &mut whole {
            None => whole = Some(answer),
            // Places are given back one by one, else the caller's own rows would wait for each other; memory is kept.
            Some(whole) => {
                whole.batches.extend(answer.batches);
                let before = std::mem::replace(&mut whole.held, Box::new(()));
                whole.held = Box::new((without_place(before), answer.held));
            }
        }
    }
    let mut answer = whole.ok_or_else(|| Refused::unlogged(Refusal::internal("a ticket without a statement")))?;
    if summaries.len() > 1 {
        answer.summary = of_several(summaries);
    }
    Ok(answer)
}

/// What an answer holds, but for its place.
fn without_place(held: Held) -> Held {
    match held.downcast::<(Place, Held)>() {
        Ok(both) => both.1,
        Err(other) => other,
    }
}

/// The answer with the columns that were announced: where a value was bound as null, a column may have become one of nulls.
fn as_announced(mut answer: Answer, schema: &SchemaRef) -> Result<Answer, Refusal> {
    if answer.schema == *schema {
        return Ok(answer);
    }
    let other = || {
        Refusal::new(Code::Invalid, "with these values the statement has other columns than were announced")
            .advice("write CAST(? AS type) where a value stands alone")
    };
    let fits = answer.schema.fields().len() == schema.fields().len()
        && answer
            .schema
            .fields()
            .iter()
            .zip(schema.fields())
            .all(|(is, was)| is.name() == was.name() && (is.data_type() == was.data_type() || *is.data_type() == DataType::Null));
    if !fits {
        return Err(other());
    }
    for batch in &mut answer.batches {
        let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|_| other())?;
        *batch = RecordBatch::try_new(schema.clone(), columns).map_err(|_| other())?;
    }
    answer.schema = schema.clone();
    Ok(answer)
}

/// The summary of several answers: what they share, and each beside it. A promise is of one of them, and stands there: the answers follow
/// each other, and each promise says how many rows its own has.
fn of_several(summaries: Vec<Value>) -> Value {
    let mut whole = summaries.first().cloned().unwrap_or_default();
    if let Some(object) = whole.as_object_mut() {
        let withheld: Vec<Value> = summaries.iter().filter_map(|s| s.get("withheld")?.as_array()).flatten().cloned().collect();
        object.insert("withheld".into(), withheld.into());
        object.remove("promise");
        object.insert("answers".into(), json!(summaries));
    }
    whole
}

/// Unix seconds.
pub(super) fn now() -> i64 {
    chrono::Utc::now().timestamp()
}
