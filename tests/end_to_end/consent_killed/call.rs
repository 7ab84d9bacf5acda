//! Calls of a department's own system that change the ledger, sent one after the other until one gets no answer.

use std::ops::RangeInclusive;

use concordat_policy::Code;
use concordat_proto::status::from_status;
use concordat_proto::v1;
use futures::stream;
use tonic::Status;

use crate::recording::Ledger;

pub enum Request {
    Record(v1::RecordRequest),
    Import(Vec<v1::ImportRequest>),
    Correct(v1::CorrectRequest),
    Erase(v1::EraseRequest),
}

/// A call, and what it makes of whom.
pub struct Call {
    pub request: Request,
    /// Who it is about, and whether they have agreed after it.
    pub after: Vec<(usize, bool)>,
    /// How many records it adds.
    pub writes: RangeInclusive<u64>,
}

/// What a call was answered.
#[derive(Debug)]
pub struct Answered {
    pub version: u64,
    /// It had been made before. An erasure does not say, and writes nothing then.
    pub before: bool,
}

impl Call {
    pub fn erases(&self) -> bool {
        matches!(self.request, Request::Erase(_))
    }

    pub async fn send(&self, ledger: &mut Ledger) -> Result<Answered, Status> {
        Ok(match &self.request {
            Request::Record(request) => {
                let answer = ledger.record(request.clone()).await?.into_inner();
                assert_eq!(answer.receipts.len(), request.records.len());
                Answered { version: answer.consent_version, before: answer.recorded_before }
            }
            Request::Import(messages) => {
                let answer = ledger.import(stream::iter(messages.clone())).await?.into_inner();
                assert_eq!(answer.records, *self.writes.start());
                Answered { version: answer.consent_version, before: answer.imported_before }
            }
            Request::Correct(request) => match ledger.correct(request.clone()).await {
                Ok(answer) => Answered { version: answer.into_inner().consent_version, before: false },
                Err(status) => Answered { version: corrected_before(&status).ok_or(status)?, before: true },
            },
            Request::Erase(request) => {
                let answer = ledger.erase(request.clone()).await?.into_inner();
                assert_eq!(answer.subjects as usize, request.identifiers.len());
                Answered { version: answer.consent_version, before: false }
            }
        })
    }
}

/// The place of a correction that was made before, which is how a repeated one is answered.
fn corrected_before(status: &Status) -> Option<u64> {
    let refusal = from_status(status).filter(|refusal| refusal.code == Code::Invalid)?;
    let (_, place) = refusal.message.split_once("was corrected before, at place ")?;
    place.split(';').next()?.parse().ok()
}

/// Makes one call after the other until one gets no answer: those that did, and that one.
pub async fn until_cut_off(mut ledger: Ledger, calls: Vec<Call>) -> (Vec<(Call, Answered)>, Option<Call>) {
    let mut answered = Vec::new();
    for call in calls {
        match call.send(&mut ledger).await {
            Ok(answer) => answered.push((call, answer)),
            Err(status) => {
                assert!(from_status(&status).is_none(), "refused, not cut off: {status:?}");
                return (answered, Some(call));
            }
        }
    }
    (answered, None)
}
