//! `concordat audit receipt` and `verify-receipt`: a proof that one query stands in the gateway's log, fetched, and verified by whom it
//! is handed to, offline.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use concordat_audit::note::{MAX_NOTE, VerifierKey};
use concordat_audit::quorum::Witnesses;
use concordat_audit::receipt::{Consistency, MAX_PROMISE, MAX_RECEIPT, Receipt, ReceiptError, Request, Verified};
use concordat_audit::{Answered, Promise};
use serde_json::json;

use super::super::Output;
use super::super::target::Target;
use super::answer;
use super::inert::{self, inert};
use super::verify::key;
use crate::failure::{Failure, Result};
use crate::out;
use crate::output::Sink;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat audit receipt QUERY_ID --to query.receipt
  concordat audit receipt QUERY_ID --to query.receipt --as-auditor
  concordat audit verify-receipt query.receipt --log-key 'concordat/gateway+…'

For who asked the query, and for auditors of the gateway. Only auditors' receipts hold the log's entry itself: it tells each
department's exact number of rows. All others prove by the entry's hash that it is there and was not changed.")]
pub(crate) struct Fetch {
    /// What an answer, a refusal or an explanation gave as its query id
    #[arg(value_name = "QUERY_ID")]
    query_id: String,
    /// Write it to a file, which bears its name only when it is whole
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// How many witnesses' signatures to wait for
    #[arg(long, value_name = "N", default_value_t = 1)]
    cosignatures: u32,
    /// How long to wait for them, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=20))]
    wait: u32,
    /// Ask as the auditor of client.toml, where it names one, rather than as who asks queries
    #[arg(long)]
    as_auditor: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat audit verify-receipt query.receipt --log-key 'concordat/gateway+…' --witness 'dfe+…' --witness 'dwp+…' --quorum 2
  concordat audit verify-receipt query.receipt --log-key 'concordat/gateway+…' --promise query.promise
  concordat audit verify-receipt query.promise --log-key 'concordat/gateway+…' --answer answer.arrow

Needs no service and no network, now or in years: only keys, which must come from elsewhere than the file. A promise (`concordat query
--receipt`) is the log's signed word that an entry is in it for good; a receipt under a checkpoint that covers the entry shows that it
was kept. Where the checkpoint has another entry in that place, both files are proof of misbehaviour. A promise names the answer that it
came with by a digest, which --answer works out again from a file in Arrow or Parquet; where an auditor's receipt holds the entry itself,
that must be of the same answer.")]
pub(crate) struct VerifyReceipt {
    /// A receipt, or a promise alone
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The log's key, as its owner published it
    #[arg(long, value_name = "VKEY", value_parser = key)]
    log_key: VerifierKey,
    /// A witness's key
    #[arg(long, value_name = "VKEY", value_parser = key)]
    witness: Vec<VerifierKey>,
    /// How many of the witnesses must have signed; a majority if nothing is said
    #[arg(long, value_name = "N", requires = "witness")]
    quorum: Option<usize>,
    /// The promise that came with the answer: the receipt must keep it
    #[arg(long, value_name = "FILE")]
    promise: Option<PathBuf>,
    /// The answer that the promise came with, as Arrow or Parquet: its digest must be the promised one
    #[arg(long, value_name = "FILE")]
    answer: Option<PathBuf>,
    /// Another signed checkpoint, from a witness for example: it must be of the same history
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// What proves that, where the two have different sizes: `concordat audit proof --from --to`
    #[arg(long, value_name = "FILE", requires = "checkpoint")]
    consistency: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// Fetches a receipt.
pub(super) async fn fetch(command: &Fetch) -> Result<()> {
    let client = if command.as_auditor { command.target.connect_auditor().await? } else { command.target.connect().await? };
    let receipt = client.receipt(&command.query_id, command.cosignatures, command.wait).await?;
    hand_over(command.to.as_deref(), &receipt.write())?;
    out::progress(&match receipt.cosignatures() {
        0 => "no witness has cosigned the checkpoint: the receipt rests on the log's own signature".to_owned(),
        some => format!("witnesses that cosigned the checkpoint: {some}; verify them with --witness"),
    });
    Ok(())
}

/// Verifies a receipt or a promise.
pub(super) fn verify(command: &VerifyReceipt) -> Result<()> {
    let witnesses = if command.witness.is_empty() {
        Witnesses::none()
    } else {
        Witnesses::new(command.witness.clone(), command.quorum).map_err(|e| Failure::usage(e.to_string()))?
    };
    let bytes = file(&command.file, MAX_RECEIPT)?;
    if let Ok(promise) = Promise::read(&bytes) {
        if !command.witness.is_empty() || command.promise.is_some() || command.checkpoint.is_some() {
            return Err(Failure::usage(format!("{} is a promise alone: it has no checkpoint", command.file.display()))
                .advice("fetch the receipt with `concordat audit receipt`, and name this file with --promise"));
        }
        return told(command, promise.verify(&command.log_key).map(|()| Told::Promise(&promise)));
    }
    let promise = command.promise.as_deref().map(|path| read(path, MAX_PROMISE, Promise::read)).transpose()?;
    let checkpoint = command.checkpoint.as_deref().map(|path| file(path, MAX_NOTE)).transpose()?;
    let consistency = command.consistency.as_deref().map(|path| read(path, MAX_RECEIPT, Consistency::read)).transpose()?;
    let request = Request {
        key: &command.log_key,
        witnesses: &witnesses,
        promise: promise.as_ref(),
        checkpoint: checkpoint.as_deref(),
        consistency: consistency.as_ref(),
        now: SystemTime::now().duration_since(UNIX_EPOCH).map(|now| now.as_secs()).unwrap_or_default(),
    };
    let receipt = Receipt::read(&bytes);
    let verified = receipt.and_then(|receipt| request.verify(&receipt).map(|verified| Told::Receipt(verified, receipt.entry)));
    told(command, verified)
}

/// What was verified.
enum Told<'a> {
    Promise(&'a Promise),
    Receipt(Verified, Option<Vec<u8>>),
}

impl Told<'_> {
    /// Which answer the log promised an entry of.
    fn answer(&self) -> Option<&Answered> {
        match self {
            Self::Promise(promise) => promise.answer.as_ref(),
            Self::Receipt(verified, _) => verified.answer.as_ref(),
        }
    }
}

fn told(command: &VerifyReceipt, verified: std::result::Result<Told<'_>, ReceiptError>) -> Result<()> {
    let compared = match (&verified, &command.answer) {
        (Ok(told), Some(path)) => compared(path, told).map(|()| true),
        _ => Ok(false),
    };
    if command.output == Output::Json {
        let json = match (&verified, &compared) {
            (Ok(_), Err(failure)) => json!({ "verified": false, "misbehaviour": false, "what": failure.message }),
            (verified, compared) => to_json(verified.as_ref(), matches!(compared, Ok(true))),
        };
        out::result(&(inert::json(&json) + "\n"))?;
    }
    let told = verified.map_err(|e| {
        Failure::new(format!("{} does not verify: {}", command.file.display(), inert(&e.to_string())))
            .advice("the log's key must be the one that its owner published; ask who gave you the file for the original")
    })?;
    let compared = compared?;
    if command.output == Output::Table { out::result(&words(&told, command.promise.is_some(), compared)) } else { Ok(()) }
}

/// Compares an answer with what the log promised.
fn compared(path: &Path, told: &Told<'_>) -> Result<()> {
    let none = || {
        Failure::usage("nothing here says which answer the entry is of")
            .advice("name the promise that came with the answer, with --promise or instead of the receipt")
    };
    answer::compare(path, told.answer().ok_or_else(none)?)
}

/// `kept` says whether the promise that came with an answer was given: a receipt's own one the log may have made with the receipt.
fn words(told: &Told<'_>, kept: bool, compared: bool) -> String {
    let mut text = match told {
        Told::Promise(Promise { origin, index, time, .. }) => format!(
            "{origin}: promised entry {} at {time}\nwhether it was kept a receipt shows: `concordat audit receipt`, then --promise\n",
            out::thousands(index.saturating_add(1))
        ),
        Told::Receipt(verified, entry) => {
            let Verified { origin, number, size, promised, cosigned, .. } = verified;
            let number = out::thousands(*number);
            let mut text =
                format!("{origin}: entry {number} is in the log, under a signed checkpoint of {} entries\n", out::thousands(*size));
            match promised.as_ref().filter(|_| kept) {
                Some(time) => text.push_str(&format!("the promise of {time} was kept\n")),
                None => {
                    text.push_str("no promise of an answer was compared: --promise FILE does, with what `concordat query --receipt` kept\n")
                }
            }
            match cosigned.is_empty() {
                true => text.push_str("no witnesses were asked for: give --witness to know that nobody was shown another history\n"),
                false => {
                    let names: Vec<&str> = cosigned.iter().map(|(name, _)| name.as_str()).collect();
                    text.push_str(&format!("cosigned by {}: {}\n", cosigned.len(), inert(&names.join(", "))));
                }
            }
            match entry.as_deref().map(String::from_utf8_lossy) {
                Some(entry) => text.push_str(&format!("the entry: {}\n", inert(&entry))),
                None => text.push_str("the receipt holds the entry's hash, and not the entry\n"),
            }
            text
        }
    };
    if let Some(Answered { query_id, rows, .. }) = told.answer() {
        let rows = out::thousands(*rows);
        text.push_str(&format!("it was promised as the entry of the answer to query {query_id}, of {rows} rows\n"));
        match told {
            Told::Receipt(_, Some(_)) => text.push_str("the entry is of that answer\n"),
            _ => text.push_str("whether the entry is of that answer shows a receipt that holds it, as auditors have\n"),
        }
    }
    match (compared, told.answer()) {
        (true, _) => text.push_str("the answer is the promised one\n"),
        (false, Some(answer)) => text.push_str(&format!("its digest is {}: --answer FILE compares it\n", answer.digest_text())),
        (false, None) => text.push_str("no answer is named\n"),
    }
    text
}

/// `{"verified": true, "origin", "entry", "promised", "entries", "cosigned": [{"witness", "time"}], "answer", "text"}` with `answer`
/// `{"query_id", "rows", "digest", "compared"}` where one is promised, or `{"verified": false, "misbehaviour", "what"}`.
fn to_json(verified: std::result::Result<&Told<'_>, &ReceiptError>, compared: bool) -> serde_json::Value {
    let answer = |told: &Told<'_>| {
        let of = |a: &Answered| json!({ "query_id": a.query_id, "rows": a.rows, "digest": a.digest_text(), "compared": compared });
        told.answer().map(of)
    };
    match verified {
        Ok(told @ Told::Promise(promise)) => json!({
            "verified": true,
            "origin": promise.origin,
            "entry": promise.index.saturating_add(1),
            "promised": promise.time,
            "entries": null,
            "cosigned": [],
            "answer": answer(told),
            "text": null,
        }),
        Ok(told @ Told::Receipt(verified, entry)) => json!({
            "verified": true,
            "origin": verified.origin,
            "entry": verified.number,
            "promised": verified.promised,
            "entries": verified.size,
            "cosigned": verified.cosigned.iter().map(|(name, time)| json!({ "witness": name, "time": time })).collect::<Vec<_>>(),
            "answer": answer(told),
            "text": entry.as_deref().map(String::from_utf8_lossy),
        }),
        Err(e) => json!({ "verified": false, "misbehaviour": matches!(e, ReceiptError::Misbehaviour(_)), "what": e.to_string() }),
    }
}

/// Writes a file's text, or prints it.
pub(super) fn hand_over(to: Option<&Path>, text: &str) -> Result<()> {
    let mut to = to.map_or_else(|| Ok(Sink::stdout()), Sink::file)?;
    to.write_all(text.as_bytes()).map_err(|e| Failure::new(format!("the output cannot be written: {e}")))?;
    to.finish()
}

fn read<T>(path: &Path, most: usize, read: impl FnOnce(&[u8]) -> std::result::Result<T, ReceiptError>) -> Result<T> {
    read(&file(path, most)?).map_err(|e| Failure::file("read", path, inert(&e.to_string())))
}

/// A file's bytes, up to one more than it may have.
fn file(path: &Path, most: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most as u64 + 1).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|e| Failure::file("read", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_what_is_proven_and_what_is_not() {
        let answer = Answered { query_id: "q-1".into(), rows: 1_300, salt: [1; 32], digest: [0; 32] };
        let verified = Verified {
            origin: "o".into(),
            number: 5,
            size: 1_200,
            promised: Some("then".into()),
            answer: Some(answer.clone()),
            cosigned: Vec::new(),
        };
        let text = words(&Told::Receipt(verified.clone(), None), true, false);
        assert!(text.contains("answer to query q-1, of 1,300 rows") && text.contains("shows a receipt that holds it"), "{text}");
        assert!(text.contains(&format!("digest is {}", answer.digest_text())), "{text}");
        let text = words(&Told::Receipt(verified.clone(), Some(b"{}".to_vec())), true, true);
        assert!(text.contains("the entry is of that answer") && text.contains("the answer is the promised one"), "{text}");
        let verified = Verified { answer: None, ..verified };
        let text = words(&Told::Receipt(verified.clone(), None), true, false);
        assert!(text.contains("entry 5") && text.contains("1,200 entries") && text.contains("of then was kept"), "{text}");
        assert!(text.contains("no witnesses were asked for") && text.contains("and not the entry"), "{text}");
        let text = words(&Told::Receipt(verified.clone(), None), false, false);
        assert!(text.contains("entry 5") && text.contains("no promise of an answer was compared") && !text.contains("was kept"), "{text}");
        let cosigned = vec![("dfe".to_owned(), 1), ("dwp".to_owned(), 2)];
        let text =
            words(&Told::Receipt(Verified { promised: None, cosigned, ..verified }, Some(b"{\"a\":\"\x1b\"}".to_vec())), false, false);
        assert!(text.contains("cosigned by 2: dfe, dwp") && text.contains("no promise") && text.contains("{\"a\""), "{text}");
        assert!(!text.contains('\x1b'), "an entry may hold an attacker's text");
    }

    #[test]
    fn programs_read_whether_it_is_misbehaviour() {
        for (error, misbehaviour) in [(ReceiptError::Entry, false), (ReceiptError::Misbehaviour("two histories".into()), true)] {
            let json = to_json(Err(&error), false);
            assert_eq!((&json["verified"], &json["misbehaviour"]), (&json!(false), &json!(misbehaviour)));
        }
    }
}
