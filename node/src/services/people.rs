//! What the consent ledger's service does about single people: showing, correcting, erasing, receipts. Each reads the whole
//! ledger, so one at a time.

use std::sync::Arc;

use concordat_audit::Entry;
use concordat_policy::Refusal;
use concordat_policy::agreement::Fingerprint;
use concordat_proto::v1;
use tokio::sync::OwnedSemaphorePermit;

use super::Control;
use super::ledger::MAX_RECEIPTS;
use crate::agreements::Agreements;
use crate::consent::ledger::{CorrectError, Kept, moment};
use crate::consent::receipt::Receipts;
use crate::consent::show::{Asked, Shown, Standing};
use crate::release::blocking;

impl Control {
    fn turn(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.ledger.show).try_acquire_owned().map_err(|_| self.busy("reading of the whole ledger"))
    }

    /// Checks whom to ask for. What is asked, and what becomes of it, goes by one purpose tree: that beside `agreements`.
    fn asked(&self, agreements: &Agreements, identifier_type: &str, identifiers: &[String], purpose: &str) -> Result<Asked, Refusal> {
        let purpose = Some(purpose).filter(|purpose| !purpose.is_empty());
        let asked = self.node.intake(agreements).ask(identifier_type, identifiers.iter().map(String::as_str), purpose);
        asked.map_err(|e| self.invalid(e.to_string()))
    }

    /// Logs who is looked at, by keyed digests, before anything is seen.
    async fn looked(&self, event: &'static str, asked: &Asked, administrator: &Fingerprint) -> Result<(), Refusal> {
        for fields in asked.entries(&asked.digests(|bytes| self.node.log.digest(bytes))) {
            let entry = fields.into_iter().fold(Entry::new(event), |entry, (name, value)| entry.field(name, value));
            self.node.log(entry.field("certificate", administrator.as_str())).await?;
        }
        Ok(())
    }

    /// Makes receipts.
    pub(super) fn receipts(&self) -> Receipts<'_> {
        Receipts::new(&self.node.consent, &self.node.signing)
    }

    pub(super) async fn show_consent(
        &self,
        request: v1::ShowRequest,
        certificate: Option<Fingerprint>,
    ) -> Result<Vec<v1::SubjectRecords>, Refusal> {
        let administrator = self.node.callers.administrator(certificate)?;
        let _turn = self.turn()?;
        let asked = self.asked(&self.node.agreements.now(), &request.identifier_type, &request.identifiers, &request.purpose)?;
        self.looked("consent.shown", &asked, &administrator).await?;
        let consent = Arc::clone(&self.node.consent);
        let shown = blocking(move || consent.show(&asked)).await?;
        Ok((0..).zip(shown).map(message).collect())
    }

    pub(super) async fn consent_receipts(
        &self,
        request: v1::ReceiptsRequest,
        certificate: Option<Fingerprint>,
    ) -> Result<Vec<v1::SubjectReceipts>, Refusal> {
        let administrator = self.node.callers.administrator(certificate)?;
        let turn = self.turn()?;
        let asked = self.asked(&self.node.agreements.now(), &request.identifier_type, &request.identifiers, &request.purpose)?;
        self.looked("consent.receipted", &asked, &administrator).await?;
        let control = self.clone();
        let made = move || {
            let _turn = turn;
            control.receipts().on_demand(&asked)
        };
        let last = |mut receipts: Vec<String>| receipts.split_off(receipts.len().saturating_sub(MAX_RECEIPTS));
        let message = |(index, receipts)| v1::SubjectReceipts { index, receipts: last(receipts) };
        Ok((0..).zip(blocking(made).await?).map(message).collect())
    }

    pub(super) async fn correct_consent(
        &self,
        request: v1::CorrectRequest,
        certificate: Option<Fingerprint>,
    ) -> Result<v1::CorrectResponse, Refusal> {
        let administrator = self.node.callers.administrator(certificate)?;
        let turn = self.turn()?;
        let asked = self.asked(&self.node.agreements.now(), &request.identifier_type, std::slice::from_ref(&request.identifier), "")?;
        let place = request.place;
        self.node.log(Entry::new("consent.intended").field("corrects", place).field("certificate", administrator.as_str())).await?;
        let control = self.clone();
        let correct = move || {
            let _turn = turn;
            control.node.consent.correct(&asked, place, None).map_err(|e| match e {
                CorrectError::Ledger(e) => control.ledger(e),
                other => control.invalid(format!("{other}; nothing was corrected")),
            })
        };
        let version = blocking(correct).await?;
        self.node.log(Entry::new("consent.corrected").field("corrects", place).field("consent_version", version)).await?;
        Ok(v1::CorrectResponse { consent_version: version, consent_generation: self.generation()? })
    }

    pub(super) async fn erase_consent(
        &self,
        request: v1::EraseRequest,
        certificate: Option<Fingerprint>,
    ) -> Result<v1::EraseResponse, Refusal> {
        let administrator = self.node.callers.administrator(certificate)?;
        let (turn, agreements) = (self.turn()?, self.node.agreements.now());
        let asked = self.asked(&agreements, &request.identifier_type, &request.identifiers, "")?;
        let intent = Entry::new("consent.intended").field("erases", asked.subjects());
        self.node.log(intent.field("certificate", administrator.as_str())).await?;
        let control = self.clone();
        let erase = move || {
            let _turn = turn;
            control.node.consent.erase(&asked, &control.node.intake(&agreements), None).map_err(|e| control.ledger(e))
        };
        let erased = blocking(erase).await?;
        let entry = Entry::new("consent.erased").field("subjects", erased.subjects).field("wiped", erased.wiped);
        self.node.log(entry.field("consent_version", erased.version)).await?;
        let subjects = u32::try_from(erased.subjects).map_err(Refusal::internal)?;
        let consent_generation = self.generation()?;
        Ok(v1::EraseResponse { consent_version: erased.version, subjects, wiped: erased.wiped, consent_generation })
    }
}

fn message((index, shown): (u32, Shown)) -> v1::SubjectRecords {
    let standing = |standing: Standing| v1::Standing {
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

fn record(kept: Kept) -> v1::KeptRecord {
    let (event, term, corrects) = (kept.event(), kept.term(), kept.corrects());
    let (capacity, acted_by) = kept.acting.map(|acting| (acting.capacity.as_str().to_owned(), acting.by)).unwrap_or_default();
    v1::KeptRecord {
        place: kept.place,
        purpose: kept.purpose,
        event: event.into(),
        recorded_at: kept.recorded_at,
        effective_from: term.effective_from().map(moment).unwrap_or_default(),
        expires_at: term.expires_at().map(moment).unwrap_or_default(),
        capacity,
        acted_by,
        corrects: corrects.unwrap_or(0),
        corrected_by: kept.corrected_by.unwrap_or(0),
        kept: kept.erased && event != "erased",
    }
}
