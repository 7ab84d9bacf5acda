//! Consent receipts of this department's records ([`concordat_proto::consent_receipt`]): made when something is recorded, and on
//! demand from the ledger.

use chrono::{SecondsFormat, Utc};
use concordat_policy::consent::{Event, Said};
use concordat_policy::{Name, PurposeTree, Refusal};
use concordat_proto::consent_receipt::{ConsentReceipt, Party, Processing, ReceiptEvent, ReceiptPurpose, SCHEMA};
use concordat_proto::token::SigningKey;
use serde::Deserialize;

use super::Consent;
use super::ledger::{Acting, Kept, LedgerError, Record, Recorded, moment};
use super::show::{Asked, Shown};

/// `[consent.receipts]` of the configuration: what the department tells people. All of it can be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// The department's name for people; its short name where this is left out.
    pub controller: Option<String>,
    /// Where to reach it.
    pub contact: Option<String>,
    /// The address of its privacy notice.
    pub privacy_notice: Option<String>,
    /// The jurisdiction; GB where this is left out.
    pub jurisdiction: Option<String>,
    /// How people withdraw.
    pub withdrawal: Option<String>,
}

/// The longest text of a notice, in bytes: a call answers with 200 receipts.
const LONGEST: usize = 200;

impl Notice {
    /// Whether each text is there and fits into a receipt.
    #[must_use]
    pub fn fits(&self) -> bool {
        let Self { controller, contact, privacy_notice, jurisdiction, withdrawal } = self;
        let mut texts = [controller, contact, privacy_notice, jurisdiction, withdrawal].into_iter().flatten();
        texts.all(|text| (1..=LONGEST).contains(&text.len()))
    }
}

/// What it takes to make receipts.
pub(crate) struct Receipts<'a> {
    consent: &'a Consent,
    generation: u32,
    purposes: &'a PurposeTree,
    notice: &'a Notice,
    key: &'a SigningKey,
}

impl<'a> Receipts<'a> {
    /// Whatever could keep receipts from being made fails here, before anything is recorded.
    pub(crate) fn new(
        consent: &'a Consent,
        purposes: &'a PurposeTree,
        notice: &'a Notice,
        key: &'a SigningKey,
    ) -> Result<Self, LedgerError> {
        Ok(Self { consent, generation: consent.generation()?, purposes, notice, key })
    }

    /// For each record that was just made, in order; of those that were made before by a call that is repeated now, as they were made.
    /// An empty text for one that was corrected since, or whose person was erased: a receipt states what stands in the ledger, and
    /// the facts of an erased person do not come back through it.
    pub(crate) fn of(&self, records: &[Record], recorded: &Recorded) -> Result<Vec<String>, String> {
        let receipt = |(record, place): (&Record, u64)| {
            if recorded.undone.contains(&place) {
                return Ok(String::new());
            }
            let kept = Kept {
                place,
                purpose: record.purpose.to_string(),
                said: Said::Choice(record.event, record.details.term),
                acting: record.details.acting.clone(),
                recorded_at: recorded.at.clone(),
                corrected_by: None,
                erased: false,
            };
            self.sign(&self.consent.secret.reference(&record.identifier_type, &record.identifier), record.event, &kept)
        };
        records.iter().zip(recorded.first..).map(receipt).collect()
    }

    /// For each of those who are asked for: of every choice in the ledger that was not corrected, in order.
    ///
    /// # Errors
    /// As [`Consent::show`].
    pub(crate) fn on_demand(&self, asked: &Asked) -> Result<Vec<Vec<String>>, Refusal> {
        let shown = self.consent.show(asked)?;
        let of_one = |(identifier, shown): (&String, Shown)| {
            let reference = self.consent.secret.reference(asked.label(), identifier);
            let receipt = |kept: &Kept| match kept.said {
                Said::Choice(event, _) if kept.corrected_by.is_none() => Some(self.sign(&reference, event, kept)),
                _ => None,
            };
            shown.records.iter().filter_map(receipt).collect::<Result<Vec<_>, String>>().map_err(Refusal::internal)
        };
        asked.identifiers().iter().zip(shown).map(of_one).collect()
    }

    fn sign(&self, reference: &str, event: Event, kept: &Kept) -> Result<String, String> {
        self.receipt(reference, event, kept).sign(self.key)
    }

    fn receipt(&self, reference: &str, event: Event, kept: &Kept) -> ConsentReceipt {
        let department = self.consent.department.as_str();
        let controller = self.notice.controller.as_deref().unwrap_or(department);
        let title = self.purposes.iter().find(|purpose| purpose.id.as_str() == kept.purpose).map(|purpose| purpose.title.as_str());
        let withdrawal = || format!("Tell {controller} that you take it back: it counts for every use that begins afterwards.");
        let purpose = ReceiptPurpose {
            purpose: kept.purpose.clone(),
            title: title.unwrap_or(&kept.purpose).to_owned(),
            lawful_basis: if event == Event::Objected { "statutory" } else { "consent" }.to_owned(),
            pii_controllers: vec![department.to_owned()],
            jurisdiction: Some(self.notice.jurisdiction.clone().unwrap_or_else(|| "GB".to_owned())),
            withdrawal_method: self.notice.withdrawal.clone().unwrap_or_else(withdrawal),
            privacy_rights: rights(event).to_owned(),
        };
        let term = kept.term();
        let acted = |acting: &Acting| format!("{}: {}", acting.capacity.as_str(), acting.by);
        ConsentReceipt {
            schema_version: SCHEMA.to_owned(),
            record_id: format!("{department}:{}:{}", self.generation, kept.place),
            pii_principal_id: reference.to_owned(),
            pii_processing: Processing {
                privacy_notice: self.notice.privacy_notice.clone(),
                language: "en".to_owned(),
                purposes: vec![purpose],
            },
            event: vec![ReceiptEvent {
                event_time: kept.recorded_at.clone(),
                event_type: "explicit".to_owned(),
                event_state: event.as_str().to_owned(),
                entity_id: kept.acting.as_ref().map_or_else(|| "pii_principal".to_owned(), acted),
                effective_from: term.effective_from().map(moment),
                validity_duration: term.expires_at().map(moment),
            }],
            party_identification: vec![Party {
                party_id: department.to_owned(),
                party_name: controller.to_owned(),
                party_contact: self.notice.contact.clone(),
                party_role: "pii_controller".to_owned(),
            }],
            issued_at: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
            // Signing enters it.
            key: String::new(),
        }
    }
}

fn rights(event: Event) -> &'static str {
    match event {
        Event::Given => "You may take consent back at any time (UK GDPR Art. 7(3)), ask for your data, and have it corrected or erased.",
        Event::Withdrawn => "You have taken consent back (UK GDPR Art. 7(3)). You may give it again.",
        Event::Objected => "You have objected (UK GDPR Art. 21). You may take the objection back by giving consent.",
    }
}

/// The department whose receipt it is.
#[must_use]
pub fn department(receipt: &ConsentReceipt) -> Option<Name> {
    receipt.party_identification.first().and_then(|party| Name::parse(&party.party_id).ok())
}
