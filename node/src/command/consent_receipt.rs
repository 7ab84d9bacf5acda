//! Makes consent receipts, and verifies them: by a key, or by an agreement with the successions and revoked keys that lie beside it.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use clap::Args;
use concordat_audit::DigestKey;
use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Agreement, Name, Signatures};
use concordat_proto::consent_receipt::ConsentReceipt;
use miette::{IntoDiagnostic as _, Report, WrapErr as _, miette};
use serde_json::{Value, json};

use super::agreement::lists;
use super::consent::{open_ledger, read_identifiers, read_text};
use super::consent_show::{ask, told};
use super::print;
use crate::config::Config;
use crate::consent::receipt::{Receipts, department};
use crate::private;

/// Whose receipts.
#[derive(Debug, Args)]
pub struct ReceiptArgs {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The identifiers' type: nino, nhs_number, upn, uprn, company_number or a custom type's name.
    #[arg(long, value_name = "TYPE")]
    pub identifier_type: String,
    /// Only of records that count for this purpose.
    #[arg(long)]
    pub purpose: Option<String>,
    /// A file of identifiers, one a line; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    pub identifiers: PathBuf,
}

/// Which receipts, and by whom they should be.
#[derive(Debug, Args)]
pub struct VerifyReceiptArgs {
    /// The receipts: a file as `record` and `receipt` write it, or a JWS alone; `-` reads standard input.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The fingerprint of the department's signing key.
    #[arg(long, value_name = "FINGERPRINT", required_unless_present = "agreement", conflicts_with = "agreement")]
    pub key: Option<String>,
    /// An agreement of which the department is a party: the fingerprint stands there. Statements of succession and revoked.toml beside it
    /// count: a key that was replaced proves what it signed before that, by the signer's word.
    #[arg(long, value_name = "FILE")]
    pub agreement: Option<PathBuf>,
}

pub(super) async fn receipt(args: ReceiptArgs) -> miette::Result<()> {
    let config = Config::load(&args.config)?;
    let (consent, intake) = open_ledger(&config)?;
    let (lines, asked) = ask(&intake, &args.identifier_type, &read_identifiers(&args.identifiers)?, args.purpose.as_deref())?;
    private::folder(&config.log).into_diagnostic()?;
    let key = DigestKey::of(&config.log).into_diagnostic()?;
    let notes = asked.notes("consent.receipted", &asked.digests(|bytes| key.digest(bytes)));
    let make = move || {
        // Durable before anything is seen: the node moves it to its access log.
        consent.ledger().note(&notes).into_diagnostic().wrap_err("this reading cannot be noted, so no receipt is made")?;
        Receipts::new(&consent, &config.signing).on_demand(&asked).map_err(told)
    };
    let made = tokio::task::spawn_blocking(make).await.into_diagnostic()??;
    for (line, receipts) in lines.into_iter().zip(made) {
        receipts.iter().try_for_each(|receipt| print(&receipt_line(line, receipt)?))?;
    }
    Ok(())
}

/// A receipt for people and programs: what it says, and what proves it.
pub(super) fn receipt_line(line: usize, jws: &str) -> miette::Result<String> {
    let (receipt, _) = ConsentReceipt::read(jws).into_diagnostic()?;
    Ok(format!("{}\n", json!({ "line": line, "consent_receipt": receipt, "jws": jws })))
}

pub(super) fn verify_receipt(args: &VerifyReceiptArgs) -> miette::Result<()> {
    let signer = signer(args)?;
    let text = read_text(&args.file, "the receipts")?;
    let receipts = receipts(&text)?;
    if receipts.is_empty() {
        return Err(miette!("the file holds no consent receipt"));
    }
    for (number, (said, jws)) in (1..).zip(receipts) {
        let valid = verified(said.as_ref(), &jws, &signer).map_err(|cause| miette!("receipt {number}: {cause}"))?;
        print(&valid)?;
    }
    Ok(())
}

/// Whose signature counts.
enum Signer {
    Key(Fingerprint),
    PartyOf(Box<Papers>),
}

/// An agreement, and what lies beside it about its parties' keys, at a time.
struct Papers {
    agreement: Agreement,
    signatures: Signatures,
    now: DateTime<Utc>,
}

fn signer(args: &VerifyReceiptArgs) -> miette::Result<Signer> {
    match (&args.key, &args.agreement) {
        (Some(key), _) => Ok(Signer::Key(Fingerprint::try_from(key.clone()).map_err(Report::msg)?)),
        (None, Some(path)) => papers(path).map(Box::new).map(Signer::PartyOf),
        (None, None) => Err(miette!("name the department's key: --key or --agreement")),
    }
}

fn papers(path: &Path) -> miette::Result<Papers> {
    let text = std::fs::read_to_string(path).into_diagnostic().wrap_err("the agreement cannot be read")?;
    let agreement = Agreement::parse(&text).map_err(|problems| {
        let first = problems.first().map_or("", |problem| problem.cause.as_str());
        miette!("the agreement cannot be used: {first}")
    })?;
    // A file's name alone has an empty parent, which no folder is.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (revoked, seen) = lists(folder, None).map_err(|fault| miette!("{} {}", fault.place, fault.cause))?;
    Ok(Papers { agreement, signatures: Signatures::new(revoked, seen), now: Utc::now() })
}

impl Papers {
    /// That a key is the department's, and was it at the time that a receipt states. Gives what is to be said with that.
    fn judge(&self, by: &Name, key: &Fingerprint, receipt: &ConsentReceipt) -> Result<&'static str, String> {
        let keys = self.signatures.keys(&self.agreement, by, self.now);
        let keys = keys.ok_or_else(|| format!("'{by}' is no party of the agreement"))?;
        if self.signatures.revoked().of(key).is_some() {
            return Err(format!("it is signed with the key {key}, which is revoked"));
        }
        let times = receipt.event.iter().map(|event| &event.event_time).chain([&receipt.issued_at]);
        let times = times.map(|time| DateTime::parse_from_rfc3339(time).map(DateTime::<Utc>::from));
        let times: Vec<DateTime<Utc>> = times.collect::<Result<_, _>>().map_err(|_| "it states no time".to_owned())?;
        let latest = times.into_iter().max().ok_or("it states no time")?;
        match keys.signed(key, latest) {
            None => Err(not_the_departments(key)),
            Some(false) => Err(format!("it is signed with the key {key}, which had been replaced by the time that it states")),
            Some(true) if keys.signs(key) => Ok(""),
            Some(true) => Ok("; its key was replaced since, and that it was signed before is the signer's word"),
        }
    }
}

fn not_the_departments(key: &Fingerprint) -> String {
    format!("it is signed with the key {key}, which is not the department's")
}

/// The receipts of a file: what each says beside its signature, where it does, and the signature.
fn receipts(text: &str) -> miette::Result<Vec<(Option<Value>, String)>> {
    if !text.trim_start().starts_with('{') {
        return Ok(text.split_whitespace().map(|jws| (None, jws.to_owned())).collect());
    }
    let none = || miette!("the file is neither a JWS nor a JSON object with consent_receipt and jws");
    let read = |document: Result<Value, serde_json::Error>| -> miette::Result<(Option<Value>, String)> {
        let mut document = document.map_err(|_| none())?;
        let jws = document.get("jws").and_then(Value::as_str).ok_or_else(none)?.to_owned();
        Ok((Some(document.get_mut("consent_receipt").ok_or_else(none)?.take()), jws))
    };
    serde_json::Deserializer::from_str(text).into_iter::<Value>().map(read).collect()
}

/// What a receipt says, in a line, if it is by `signer` and what stands beside the signature is what was signed.
fn verified(said: Option<&Value>, jws: &str, signer: &Signer) -> Result<String, String> {
    let (receipt, key) = ConsentReceipt::read(jws).map_err(|_| "it was altered, or is no consent receipt".to_owned())?;
    let signed = serde_json::to_value(&receipt).map_err(|e| e.to_string())?;
    if said.is_some_and(|said| *said != signed) {
        return Err("what stands in it is not what was signed".to_owned());
    }
    let by = department(&receipt).ok_or("it names no department")?;
    let more = match signer {
        Signer::Key(expected) if key == *expected => "",
        Signer::Key(_) => return Err(not_the_departments(&key)),
        Signer::PartyOf(papers) => papers.judge(&by, &key, &receipt)?,
    };
    let (event, purpose) = receipt.event.first().zip(receipt.pii_processing.purposes.first()).ok_or("it names no event")?;
    let until = event.validity_duration.as_ref().map_or(String::new(), |until| format!(", until {until}"));
    Ok(format!(
        "valid: {} for '{}' ({}) at '{by}', recorded {}{until}; record {}{more}\n",
        event.event_state, purpose.purpose, purpose.title, event.event_time, receipt.record_id
    ))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use concordat_policy::succession::Succession;
    use concordat_policy::{Revocations, Seen};

    use super::*;
    use crate::consent::intake::Intake;
    use crate::fixture::{World, name};

    fn receipt(world: &World) -> String {
        let consent = crate::consent::Consent::open(&world.path("receipts"), name("dfe")).unwrap();
        let config = Config::load(&world.path("node.toml")).unwrap();
        let record = crate::consent::ledger::Record {
            identifier_type: "nino".into(),
            identifier: "AB100001A".into(),
            purpose: name("opportunity"),
            event: concordat_policy::consent::Event::Given,
            details: crate::consent::ledger::Details::default(),
        };
        let recorded = consent.record_noted(&Intake::new(&config), &[record], None).unwrap();
        Receipts::new(&consent, &config.signing).of(&recorded).unwrap().remove(0)
    }

    fn party_of(agreement: Agreement, signatures: Signatures, now: DateTime<Utc>) -> Signer {
        Signer::PartyOf(Box::new(Papers { agreement, signatures, now }))
    }

    #[test]
    fn a_key_counts_for_its_time_and_a_revoked_one_for_none() {
        let world = World::new();
        std::fs::create_dir(world.path("receipts")).unwrap();
        let jws = receipt(&world);
        let (own, now, hour) = (Fingerprint::of(world.signing.public_spki()), Utc::now(), TimeDelta::hours(1));
        let (first, next) = (Fingerprint::of(b"first"), Fingerprint::of(b"next"));
        let judged = |of: &Fingerprint, succession: Option<(&Fingerprint, &Fingerprint, DateTime<Utc>)>, revoked: &str, at| {
            let mut agreement = world.agreement.clone();
            agreement.parties.iter_mut().filter(|party| party.department == name("dfe")).for_each(|dfe| dfe.signing_key = of.clone());
            let mut seen = Seen::default();
            if let Some((key, next, from)) = succession {
                let (key, next) = (key.clone(), next.clone());
                seen.succeeds(Succession { department: name("dfe"), key, next, from, linkage: None }).unwrap();
            }
            let signatures = Signatures::new(Revocations::parse(revoked).unwrap(), seen);
            verified(None, &jws, &party_of(agreement, signatures, at))
        };
        let revoked = format!("[[key]]\nfingerprint = \"{own}\"\nreason = \"r\"\nsince = \"2090-01-01T00:00:00Z\"\n");
        // By the key that took another's place.
        assert!(judged(&first, None, "", now).unwrap_err().contains("not the department's"));
        assert!(judged(&first, Some((&first, &own, now - hour)), "", now).unwrap().starts_with("valid: "));
        // By the key that was replaced.
        let (before, after) = (Some((&own, &next, now - hour)), Some((&own, &next, now + hour)));
        assert!(judged(&own, before, "", now).unwrap_err().contains("had been replaced by the time"));
        assert!(!judged(&own, after, "", now).unwrap().contains("signer's word"), "not yet");
        assert!(judged(&own, after, "", now + hour * 2).unwrap().contains("signer's word"));
        for succession in [None, before, after] {
            assert!(judged(&own, succession, &revoked, now).unwrap_err().contains("which is revoked"));
        }
    }

    #[test]
    fn what_lies_beside_the_agreement_is_read() {
        let world = World::new();
        let path = world.path("agreements/opportunity.toml");
        assert!(papers(&path).unwrap().signatures.revoked().of(&Fingerprint::of(world.signing.public_spki())).is_none());
        let print = Fingerprint::of(world.signing.public_spki());
        let list = format!("[[key]]\nfingerprint = \"{print}\"\nreason = \"r\"\nsince = \"2026-01-01T00:00:00Z\"\n");
        world.write("agreements/revoked.toml", &list);
        let (next, from) = (crate::fixture::signing_key().0, "2026-05-01T00:00:00Z".parse().unwrap());
        let content = concordat_proto::signature::succession::sign(&name("dfe"), (&world.signing, &next), None, from).unwrap();
        world.write("agreements/dfe.next.succession", &content);
        let papers = papers(&path).unwrap();
        assert!(papers.signatures.revoked().of(&print).is_some());
        assert_eq!(papers.signatures.seen().successions().iter().count(), 1);
    }

    #[test]
    fn a_receipt_is_verified_as_a_whole_and_by_the_department_only() {
        let world = World::new();
        std::fs::create_dir(world.path("receipts")).unwrap();
        let jws = receipt(&world);
        let line = receipt_line(3, &jws).unwrap();
        assert!(!line.contains("AB100001A") && line.contains("\"line\":3"), "{line}");
        let own = party_of(world.agreement.clone(), Signatures::default(), Utc::now());
        for text in [jws.clone(), format!(" {jws}\n"), line.clone(), format!("{line}{line}")] {
            for (said, jws) in receipts(&text).unwrap() {
                let valid = verified(said.as_ref(), &jws, &own).unwrap();
                assert!(
                    valid.starts_with("valid: given for 'opportunity' (Opportunity) at 'dfe'") && valid.contains("record dfe:0:1"),
                    "{valid}"
                );
            }
        }
        let stranger = Signer::Key(Fingerprint::of(b"another key"));
        assert!(verified(None, &jws, &stranger).unwrap_err().contains("not the department's"));
        let (said, _) = receipts(&line.replace("\"given\"", "\"withdrawn\"")).unwrap().remove(0);
        assert!(verified(said.as_ref(), &jws, &own).unwrap_err().contains("not what was signed"));
        assert!(verified(None, &jws.replace('.', "A."), &own).is_err());
        for bad in ["{", "{}", "{\"jws\": 1}", "{\"jws\": \"x\"}"] {
            assert!(receipts(bad).is_err(), "{bad}");
        }
    }
}
