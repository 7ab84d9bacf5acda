//! The consent ledger's service, for the department's own systems.

use std::sync::Arc;
use std::time::Duration;

use concordat_audit::Entry;
use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Code, Refusal};
use concordat_proto::{peer, v1};
use futures::stream::{self, BoxStream};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use super::Control;
use crate::consent::import::{StreamError, StreamImport};
use crate::consent::intake::IntakeError;
use crate::consent::ledger::LedgerError;
use crate::consent::show::Shown;
use crate::release::blocking;

/// The most consent records in one message.
const MAX_RECORDS: usize = 10_000;
/// How long the next message of an import may take.
const NEXT: Duration = Duration::from_secs(30);

/// Calls that take long: one of each at a time.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    import: Arc<Semaphore>,
    show: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { import: Arc::new(Semaphore::new(1)), show: Arc::new(Semaphore::new(1)) }
    }
}

impl Control {
    fn invalid(&self, cause: impl Into<String>) -> Refusal {
        Refusal::new(Code::Invalid, cause).department(&self.0.department)
    }

    fn busy(&self, what: &str) -> Refusal {
        Refusal::new(Code::LimitExceeded, format!("another {what} is under way at this department's node"))
            .department(&self.0.department)
            .advice("ask again in a minute")
    }

    fn ledger(&self, error: LedgerError) -> Refusal {
        match error {
            LedgerError::Busy => self.busy("writer of the consent ledger"),
            LedgerError::Behind => Refusal::new(
                Code::NodeRefused,
                "this department's consent ledger is older than one it has used before: nothing is recorded",
            )
            .department(&self.0.department)
            .advice("restore the newest ledger, or accept the loss with `concordat-node acknowledge-restore`, and record again"),
            other => Refusal::internal(other),
        }
    }

    async fn record_consent(&self, request: v1::RecordRequest, certificate: Option<Fingerprint>) -> Result<v1::RecordResponse, Refusal> {
        let administrator = self.0.callers.administrator(certificate)?;
        if request.records.is_empty() || request.records.len() > MAX_RECORDS {
            return Err(self.invalid("a call records 1 to 10,000 consent records"));
        }
        let mut scratch = String::new();
        let records = request.records.iter().enumerate().map(|(index, record)| {
            let taken = self.0.intake.record(&record.identifier, &record.identifier_type, &record.purpose, &record.event, &mut scratch);
            taken.map_err(|cause: IntakeError| self.invalid(format!("records[{index}]: {cause}; nothing was recorded")))
        });
        let records = records.collect::<Result<Vec<_>, _>>()?;
        let count = records.len();
        let intent = Entry::new("consent.intended").field("records", count).field("certificate", administrator.as_str());
        self.0.log(intent).await?;
        let (consent, control) = (Arc::clone(&self.0.consent), self.clone());
        let version = blocking(move || consent.record(&records).map_err(|e| control.ledger(e))).await?;
        self.0.log(Entry::new("consent.recorded").field("records", count).field("consent_version", version)).await?;
        Ok(v1::RecordResponse { consent_version: version })
    }

    async fn import_consent(
        &self,
        mut messages: Streaming<v1::ImportRequest>,
        certificate: Option<Fingerprint>,
    ) -> Result<v1::ImportResponse, Refusal> {
        let administrator = self.0.callers.administrator(certificate)?;
        let turn = Arc::clone(&self.1.import).try_acquire_owned().map_err(|_| self.busy("import"))?;
        let (consent, intake, control) = (Arc::clone(&self.0.consent), self.0.intake.clone(), self.clone());
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
        self.0.log(intent.field("certificate", administrator.as_str())).await?;
        let (control, name) = (self.clone(), id.clone());
        let finish = move || {
            // Held until it is written, also when the caller has left.
            let _turn = turn;
            import.finish(&name).map_err(|e| control.stream(e))
        };
        let (before, version) = blocking(finish).await?;
        let entry = Entry::new("consent.imported").field("import", id).field("records", records).field("imported_before", before);
        self.0.log(entry.field("consent_version", version)).await?;
        Ok(v1::ImportResponse { consent_version: version, records, imported_before: before })
    }

    async fn next(&self, messages: &mut Streaming<v1::ImportRequest>) -> Result<Option<v1::ImportRequest>, Refusal> {
        let message = tokio::time::timeout(NEXT, messages.message()).await.map_err(|_| {
            Refusal::new(Code::LimitExceeded, "the import's next message did not come within 30 s; nothing was recorded")
                .department(&self.0.department)
        })?;
        message.map_err(|status| {
            // The transport's text may quote what was sent.
            Refusal::new(Code::Invalid, "the import's stream broke off or holds what is no message; nothing was recorded")
                .department(&self.0.department)
                .operator(format!("{:?}", status.code()))
        })
    }

    fn stream(&self, error: StreamError) -> Refusal {
        match error {
            StreamError::Ledger(error) => self.ledger(error),
            StreamError::Long => Refusal::new(Code::LimitExceeded, error.to_string()).department(&self.0.department),
            other => self.invalid(other.to_string()),
        }
    }

    async fn show_consent(&self, request: v1::ShowRequest, certificate: Option<Fingerprint>) -> Result<Vec<Shown>, Refusal> {
        let administrator = self.0.callers.administrator(certificate)?;
        let _turn = self.1.show.try_acquire().map_err(|_| self.busy("reading of the whole ledger"))?;
        let purpose = Some(request.purpose.as_str()).filter(|purpose| !purpose.is_empty());
        let identifiers = request.identifiers.iter().map(String::as_str);
        let asked = self.0.intake.ask(&request.identifier_type, identifiers, purpose).map_err(|e| self.invalid(e.to_string()))?;
        for fields in asked.entries(&asked.digests(|bytes| self.0.log.digest(bytes))) {
            let entry = fields.into_iter().fold(Entry::new("consent.shown"), |entry, (name, value)| entry.field(name, value));
            self.0.log(entry.field("certificate", administrator.as_str())).await?;
        }
        let consent = Arc::clone(&self.0.consent);
        blocking(move || consent.show(&asked)).await
    }
}

/// Names go into the log and the ledger.
fn id_ok(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn message((index, shown): (u32, Shown)) -> v1::SubjectRecords {
    let record = |kept: crate::consent::ledger::Kept| v1::KeptRecord {
        place: kept.place,
        purpose: kept.purpose,
        event: kept.event.as_str().into(),
        recorded_at: kept.recorded_at,
    };
    let standing = |standing: crate::consent::show::Standing| v1::Standing {
        purpose: standing.purpose.to_string(),
        last: standing.last.unwrap_or(0),
        under_consent: standing.under_consent,
        honouring_objections: standing.honouring_objections,
    };
    v1::SubjectRecords {
        index,
        records: shown.records.into_iter().map(record).collect(),
        standing: shown.standing.into_iter().map(standing).collect(),
    }
}

#[tonic::async_trait]
impl v1::consent_ledger_server::ConsentLedger for Control {
    type ShowStream = BoxStream<'static, Result<v1::SubjectRecords, Status>>;

    async fn record(&self, request: Request<v1::RecordRequest>) -> Result<Response<v1::RecordResponse>, Status> {
        let certificate = peer::certificate(&request);
        let outcome = self.record_consent(request.into_inner(), certificate.clone()).await;
        self.answer("consent.refused", certificate.as_ref(), outcome).await
    }

    async fn import(&self, request: Request<Streaming<v1::ImportRequest>>) -> Result<Response<v1::ImportResponse>, Status> {
        let certificate = peer::certificate(&request);
        let outcome = self.import_consent(request.into_inner(), certificate.clone()).await;
        self.answer("consent.refused", certificate.as_ref(), outcome).await
    }

    async fn show(&self, request: Request<v1::ShowRequest>) -> Result<Response<Self::ShowStream>, Status> {
        let certificate = peer::certificate(&request);
        let outcome = self.show_consent(request.into_inner(), certificate.clone()).await;
        let shown: Result<Self::ShowStream, Refusal> =
            outcome.map(|shown| Box::pin(stream::iter((0..).zip(shown).map(message).map(Ok))) as Self::ShowStream);
        self.answer("consent.refused", certificate.as_ref(), shown).await
    }
}
