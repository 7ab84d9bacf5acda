//! The consent ledger's service, for the department's own systems.

use std::sync::Arc;
use std::time::Duration;

use concordat_audit::Entry;
use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Code, Refusal};
use concordat_proto::peer::Peer;
use concordat_proto::v1;
use futures::stream::{self, BoxStream};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use super::Control;
use crate::consent::import::{StreamError, StreamImport};
use crate::consent::intake::{Intake, IntakeError, Raw};
use crate::consent::ledger::{LedgerError, Record, Recorded};
use crate::release::blocking;

/// The most consent records in one message.
const MAX_RECORDS: usize = 10_000;
/// The most records of a call whose receipts are in its answer.
pub(super) const MAX_RECEIPTS: usize = 200;
/// How long the next message of an import may take.
const NEXT: Duration = Duration::from_secs(30);

/// Calls that take long: one of each at a time.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    import: Arc<Semaphore>,
    pub(super) show: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { import: Arc::new(Semaphore::new(1)), show: Arc::new(Semaphore::new(1)) }
    }
}

impl Control {
    pub(super) fn invalid(&self, cause: impl Into<String>) -> Refusal {
        Refusal::new(Code::Invalid, cause).department(&self.node.department)
    }

    pub(super) fn busy(&self, what: &str) -> Refusal {
        Refusal::new(Code::LimitExceeded, format!("another {what} is under way at this department's node"))
            .department(&self.node.department)
            .advice("ask again in a minute")
    }

    pub(super) fn ledger(&self, error: LedgerError) -> Refusal {
        match error {
            LedgerError::Busy => self.busy("writer of the consent ledger"),
            LedgerError::Behind => Refusal::new(
                Code::NodeRefused,
                "this department's consent ledger is older than one it has used before: nothing is recorded",
            )
            .department(&self.node.department)
            .advice("restore the newest ledger, or accept the loss with `concordat-node acknowledge-restore`, and record again"),
            other => Refusal::internal(other),
        }
    }

    async fn record_consent(&self, request: v1::RecordRequest, certificate: Option<Fingerprint>) -> Result<v1::RecordResponse, Refusal> {
        let administrator = self.node.callers.administrator(certificate)?;
        if request.records.is_empty() || request.records.len() > MAX_RECORDS {
            return Err(self.invalid("a call records 1 to 10,000 consent records"));
        }
        let id = request.id;
        if !id.is_empty() && !id_ok(&id) {
            return Err(self.invalid("a call's id, where it has one, is of 1 to 64 letters, digits, '-', '_' and '.'"));
        }
        let (mut scratch, intake) = (String::new(), self.node.intake(&self.node.agreements.now()));
        let records = request.records.iter().enumerate().map(|(index, record)| {
            let taken = intake.record(Raw::from(record), &mut scratch);
            taken.map_err(|cause: IntakeError| self.invalid(format!("records[{index}]: {cause}; nothing was recorded")))
        });
        let records = records.collect::<Result<Vec<_>, _>>();
        let count = request.records.len();
        let named = |entry: Entry| if id.is_empty() { entry } else { entry.field("request", id.as_str()) };
        let (control, name) = (self.clone(), id.clone());
        let answer = match records {
            Ok(records) => {
                let intent = Entry::new("consent.intended").field("records", count).field("certificate", administrator.as_str());
                self.node.log(named(intent)).await?;
                blocking(move || control.record_now(&intake, &records, (name.as_str(), request.records.as_slice()))).await?
            }
            // Purposes and types of identifiers go; what was recorded under them stays, and so does its answer.
            Err(unreadable) => blocking(move || control.repeated(unreadable, (name.as_str(), request.records.as_slice()))).await?,
        };
        let entry = Entry::new("consent.recorded").field("records", count).field("consent_version", answer.consent_version);
        let entry = if answer.recorded_before { entry.field("recorded_before", true) } else { entry };
        let undone = answer.receipts.iter().filter(|receipt| receipt.is_empty()).count();
        let entry = if undone > 0 { entry.field("corrected_or_erased_since", undone) } else { entry };
        self.node.log(named(entry)).await?;
        Ok(answer)
    }

    /// Writes the records, once where the call, as it was sent, has an id.
    fn record_now(&self, intake: &Intake, records: &[Record], call: (&str, &[v1::ConsentRecord])) -> Result<v1::RecordResponse, Refusal> {
        let consent = &self.node.consent;
        let recorded = if call.0.is_empty() {
            consent.record_noted(intake, records, None).map(|recorded| Some((false, recorded)))
        } else {
            consent.record_once(intake, records, call)
        };
        let (recorded_before, recorded) = recorded
            .map_err(|e| self.ledger(e))?
            .ok_or_else(|| self.invalid("other records were recorded under this call's id; nothing was recorded"))?;
        self.recorded(&recorded, recorded_before)
    }

    /// Answers a call that cannot be read now as it was answered when it could; else says why it cannot be read.
    fn repeated(&self, unreadable: Refusal, (id, sent): (&str, &[v1::ConsentRecord])) -> Result<v1::RecordResponse, Refusal> {
        if id.is_empty() {
            return Err(unreadable);
        }
        let recorded = self.node.consent.recorded_before(id, sent).map_err(|e| self.ledger(e))?;
        self.recorded(&recorded.ok_or(unreadable)?, true)
    }

    fn recorded(&self, recorded: &Recorded, recorded_before: bool) -> Result<v1::RecordResponse, Refusal> {
        let receipts = if recorded.count() > MAX_RECEIPTS { Vec::new() } else { self.receipts().of(recorded)? };
        let consent_generation = self.generation()?;
        Ok(v1::RecordResponse { consent_version: recorded.version, receipts, recorded_before, consent_generation })
    }

    async fn import_consent(
        &self,
        mut messages: Streaming<v1::ImportRequest>,
        certificate: Option<Fingerprint>,
    ) -> Result<v1::ImportResponse, Refusal> {
        let administrator = self.node.callers.administrator(certificate)?;
        let turn = Arc::clone(&self.ledger.import).try_acquire_owned().map_err(|_| self.busy("import"))?;
        let (consent, intake, control) = (Arc::clone(&self.node.consent), self.node.intake(&self.node.agreements.now()), self.clone());
        let mut import = blocking(move || StreamImport::new(consent, intake).map_err(|e| control.stream(e))).await?;
        let (mut id, mut total) = (String::new(), 0);
        while let Some(message) = self.next(&mut messages).await? {
            if id.is_empty() {
                id = message.id;
                if !id_ok(&id) {
                    return Err(self.invalid("the first message names the import: an id of 1 to 64 letters, digits, '-', '_' and '.'"));
                }
            } else if !message.id.is_empty() && message.id != id {
                return Err(self.invalid("an import has one id; nothing was recorded"));
            }
            if total > 0 {
                return Err(self.invalid("a message follows the one that states the total; nothing was recorded"));
            }
            total = message.total;
            if message.records.len() > MAX_RECORDS {
                return Err(self.invalid("a message holds at most 10,000 consent records; nothing was recorded"));
            }
            let control = self.clone();
            let take = move || {
                let taken = message.records.iter().try_for_each(|record| import.take(record));
                taken.map(|()| import).map_err(|e| control.stream(e))
            };
            import = blocking(take).await?;
        }
        let records = import.records();
        // A caller that went away looks like one that has ended, but for this.
        if records == 0 || total != records {
            return Err(self.invalid(format!(
                "the stream held {records} record(s) and its last message states {total}: it broke off or is empty; nothing was recorded"
            )));
        }
        let intent = Entry::new("consent.intended").field("records", records).field("import", id.as_str());
        self.node.log(intent.field("certificate", administrator.as_str())).await?;
        let (control, name) = (self.clone(), id.clone());
        let finish = move || {
            // Held until it is written, also when the caller has left.
            let _turn = turn;
            import.finish(&name).map_err(|e| control.stream(e))
        };
        let (before, version) = blocking(finish).await?;
        let entry = Entry::new("consent.imported").field("import", id).field("records", records).field("imported_before", before);
        self.node.log(entry.field("consent_version", version)).await?;
        let consent_generation = self.generation()?;
        Ok(v1::ImportResponse { consent_version: version, records, imported_before: before, consent_generation })
    }

    /// The ledger's generation, which with a version says where it stands.
    pub(super) fn generation(&self) -> Result<u32, Refusal> {
        self.node.consent.generation().map_err(|e| self.ledger(e))
    }

    async fn next(&self, messages: &mut Streaming<v1::ImportRequest>) -> Result<Option<v1::ImportRequest>, Refusal> {
        let message = tokio::time::timeout(NEXT, messages.message()).await.map_err(|_| {
            Refusal::new(Code::LimitExceeded, "the import's next message did not come within 30 s; nothing was recorded")
                .department(&self.node.department)
        })?;
        message.map_err(|status| {
            // The transport's text may quote what was sent.
            Refusal::new(Code::Invalid, "the import's stream broke off or holds what is no message; nothing was recorded")
                .department(&self.node.department)
                .operator(format!("{:?}", status.code()))
        })
    }

    fn stream(&self, error: StreamError) -> Refusal {
        match error {
            StreamError::Ledger(error) => self.ledger(error),
            StreamError::Long => Refusal::new(Code::LimitExceeded, error.to_string()).department(&self.node.department),
            other => self.invalid(other.to_string()),
        }
    }
}

/// Names go into the log and the ledger.
fn id_ok(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[tonic::async_trait]
impl v1::consent_ledger_server::ConsentLedger for Control {
    type ShowStream = BoxStream<'static, Result<v1::SubjectRecords, Status>>;
    type ReceiptsStream = BoxStream<'static, Result<v1::SubjectReceipts, Status>>;

    async fn record(&self, request: Request<v1::RecordRequest>) -> Result<Response<v1::RecordResponse>, Status> {
        let peer = Peer::of(&request);
        let outcome = self.record_consent(request.into_inner(), peer.certificate.clone()).await;
        self.answer("consent.refused", &peer, outcome).await
    }

    async fn import(&self, request: Request<Streaming<v1::ImportRequest>>) -> Result<Response<v1::ImportResponse>, Status> {
        let peer = Peer::of(&request);
        let outcome = self.import_consent(request.into_inner(), peer.certificate.clone()).await;
        self.answer("consent.refused", &peer, outcome).await
    }

    async fn correct(&self, request: Request<v1::CorrectRequest>) -> Result<Response<v1::CorrectResponse>, Status> {
        let peer = Peer::of(&request);
        let outcome = self.correct_consent(request.into_inner(), peer.certificate.clone()).await;
        self.answer("consent.refused", &peer, outcome).await
    }

    async fn erase(&self, request: Request<v1::EraseRequest>) -> Result<Response<v1::EraseResponse>, Status> {
        let peer = Peer::of(&request);
        let outcome = self.erase_consent(request.into_inner(), peer.certificate.clone()).await;
        self.answer("consent.refused", &peer, outcome).await
    }

    async fn receipts(&self, request: Request<v1::ReceiptsRequest>) -> Result<Response<Self::ReceiptsStream>, Status> {
        let peer = Peer::of(&request);
        let outcome = self.consent_receipts(request.into_inner(), peer.certificate.clone()).await;
        let made: Result<Self::ReceiptsStream, Refusal> =
            outcome.map(|made| Box::pin(stream::iter(made.into_iter().map(Ok))) as Self::ReceiptsStream);
        self.answer("consent.refused", &peer, made).await
    }

    async fn show(&self, request: Request<v1::ShowRequest>) -> Result<Response<Self::ShowStream>, Status> {
        let peer = Peer::of(&request);
        let outcome = self.show_consent(request.into_inner(), peer.certificate.clone()).await;
        let shown: Result<Self::ShowStream, Refusal> =
            outcome.map(|shown| Box::pin(stream::iter(shown.into_iter().map(Ok))) as Self::ShowStream);
        self.answer("consent.refused", &peer, shown).await
    }
}
