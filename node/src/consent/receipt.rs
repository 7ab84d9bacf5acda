//! Consent receipts of this department's records ([`concordat_proto::consent_receipt`]), from what the ledger holds: made when something
//! is recorded, and on demand. Whenever one is made, it states what held when its record was made ([`super::stated`]).

use chrono::{SecondsFormat, Utc};
use concordat_policy::consent::{Event, Said};
use concordat_policy::{Code, Name, Refusal};
use concordat_proto::consent_receipt::{ConsentReceipt, Party, Processing, ReceiptEvent, ReceiptPurpose, SCHEMA};
use concordat_proto::token::SigningKey;
use serde::Deserialize;

use super::Consent;
use super::ledger::{Acting, Kept, LedgerError, Made, Recorded, moment};
use super::show::{Asked, Shown};
use super::stated::Stated;

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
    key: &'a SigningKey,
}

impl<'a> Receipts<'a> {
    pub(crate) fn new(consent: &'a Consent, key: &'a SigningKey) -> Self {
        Self { consent, key }
    }

    /// For each record that was just made, in order; of those that were made before by a call that is repeated now, as they were made.
    /// An empty text for one that was corrected since, or whose person was erased: a receipt states what stands in the ledger, and
    /// the facts of an erased person do not come back through it.
    ///
    /// # Errors
    /// [`Code::NodeRefused`] where the ledger does not hold what a receipt states; [`Code::Internal`] where it cannot be read.
    pub(crate) fn of(&self, recorded: &Recorded) -> Result<Vec<String>, Refusal> {
        let made = self.consent.ledger.made(recorded.first, recorded.version).map_err(Refusal::internal)?;
        let receipt = |made: Option<Made>| {
            let speaks = made.and_then(|made| if let Said::Choice(event, _) = made.kept.said { Some((event, made)) } else { None });
            let Some((event, Made { identifier_type, identifier, kept })) = speaks else { return Ok(String::new()) };
            self.sign(&self.consent.secret.reference(&identifier_type, &identifier), event, &kept)
        };
        made.into_iter().map(receipt).collect()
    }

    /// For each of those who are asked for: of every choice in the ledger that was not corrected, in order.
    ///
    /// # Errors
    /// As [`Consent::show`] and [`Receipts::of`].
    pub(crate) fn on_demand(&self, asked: &Asked) -> Result<Vec<Vec<String>>, Refusal> {
        let shown = self.consent.show(asked)?;
        let of_one = |(identifier, shown): (&String, Shown)| {
            let reference = self.consent.secret.reference(asked.label(), identifier);
            let receipt = |kept: &Kept| match kept.said {
                Said::Choice(event, _) if kept.corrected_by.is_none() => Some(self.sign(&reference, event, kept)),
                _ => None,
            };
            shown.records.iter().filter_map(receipt).collect::<Result<Vec<_>, Refusal>>()
        };
        asked.identifiers().iter().zip(shown).map(of_one).collect()
    }

    fn sign(&self, reference: &str, event: Event, kept: &Kept) -> Result<String, Refusal> {
        let stated = self.consent.ledger.stated(kept).map_err(|e| match e {
            LedgerError::Unstated(_) => Refusal::new(Code::NodeRefused, e.to_string())
                .department(&self.consent.department)
                .advice("the department's administrator must restore the newest ledger"),
            other => Refusal::internal(other),
        })?;
        self.receipt(reference, event, kept, stated).sign(self.key).map_err(Refusal::internal)
    }

    fn receipt(&self, reference: &str, event: Event, kept: &Kept, stated: Stated) -> ConsentReceipt {
        let department = self.consent.department.as_str();
        let purpose = ReceiptPurpose {
            purpose: kept.purpose.clone(),
            title: stated.title,
            lawful_basis: if event == Event::Objected { "statutory" } else { "consent" }.to_owned(),
            pii_controllers: vec![department.to_owned()],
            jurisdiction: Some(stated.jurisdiction),
            withdrawal_method: stated.withdrawal,
            privacy_rights: stated.rights,
        };
        let term = kept.term();
        let acted = |acting: &Acting| format!("{}: {}", acting.capacity.as_str(), acting.by);
        ConsentReceipt {
            schema_version: SCHEMA.to_owned(),
            record_id: format!("{department}:{}:{}", stated.generation, kept.place),
            pii_principal_id: reference.to_owned(),
            pii_processing: Processing { privacy_notice: stated.privacy_notice, language: "en".to_owned(), purposes: vec![purpose] },
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
                party_name: stated.controller,
                party_contact: stated.contact,
                party_role: "pii_controller".to_owned(),
            }],
            issued_at: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
            // Signing enters it.
            key: String::new(),
        }
    }
}

/// The department whose receipt it is.
#[must_use]
pub fn department(receipt: &ConsentReceipt) -> Option<Name> {
    receipt.party_identification.first().and_then(|party| Name::parse(&party.party_id).ok())
}
