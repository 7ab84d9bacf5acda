//! `concordat audit verify`: whether a log is what was signed, offline.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use concordat_audit::note::{MAX_NOTE, VerifierKey};
use concordat_audit::quorum::Witnesses;
use concordat_audit::verify::{Finding, Report, Request, verify};
use serde_json::json;

use super::super::Output;
use super::inert::{self, inert};
use crate::failure::{Failure, Result};
use crate::out;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  concordat audit verify --log copy/log --key 'concordat/dwp/node+c74f20a3+AQ…'
  concordat audit verify --log copy/log --against checkpoint-of-march --witness 'dfe+…' --witness 'hmrc+…' --quorum 2

Verify a copy, or the log of a program that was stopped. Keys must come from elsewhere than the log: whoever can edit a log's
folder can also put another key there.")]
pub(crate) struct Verify {
    /// The log's folder
    #[arg(long, value_name = "FOLDER")]
    log: PathBuf,
    /// An archive to which entries of the log were moved
    #[arg(long, value_name = "FOLDER")]
    archive: Vec<PathBuf>,
    /// The log's key, as its owner published it
    #[arg(long, value_name = "VKEY", value_parser = key)]
    key: Option<VerifierKey>,
    /// An earlier signed checkpoint, which must be a beginning of this log
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// A witness's key
    #[arg(long, value_name = "VKEY", value_parser = key)]
    witness: Vec<VerifierKey>,
    /// How many of the witnesses must have signed; a majority if nothing is said
    #[arg(long, value_name = "N", requires = "witness")]
    quorum: Option<usize>,
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// A key, as `name+id+base64`.
pub(super) fn key(text: &str) -> std::result::Result<VerifierKey, String> {
    VerifierKey::parse(text).map_err(|e| e.to_string())
}

pub(crate) fn run(command: &Verify) -> Result<()> {
    let witnesses = if command.witness.is_empty() {
        Witnesses::none()
    } else {
        Witnesses::new(command.witness.clone(), command.quorum).map_err(|e| Failure::usage(e.to_string()))?
    };
    let against = command.against.as_deref().map(note).transpose()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|now| now.as_secs()).unwrap_or_default();
    let (key, against) = (command.key.as_ref(), against.as_deref());
    let verified = verify(&Request { folder: &command.log, archives: &command.archive, key, against, witnesses: &witnesses, now });
    if command.output == Output::Json {
        out::result(&(inert::json(&to_json(&verified)) + "\n"))?;
    }
    match verified {
        Ok(report) if command.output == Output::Table => out::result(&words(&report)),
        Ok(_) => Ok(()),
        Err(finding) => Err(failure(&command.log, &finding)),
    }
}

/// What is wrong. The folder may be an attacker's, and the finding names what stands in it.
fn failure(log: &Path, Finding { entry, what, .. }: &Finding) -> Failure {
    let first = entry.map(|entry| format!("; the first bad entry is {entry}")).unwrap_or_default();
    Failure::new(format!("the log in {} is not what was signed: {}{first}", log.display(), inert(what)))
        .advice("keep this copy as evidence, and ask the log's owner and its witnesses for their latest checkpoint")
}

/// A checkpoint's file, not longer than a note may be.
fn note(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_NOTE as u64 + 1).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|e| Failure::file("read", path, e))
}

fn words(report: &Report) -> String {
    let mut text = format!("{}: {} entries are what was signed\n", inert(&report.origin), out::thousands(report.entries));
    if report.own_key {
        text.push_str("the key is the folder's own log.vkey: give --key to know who signed\n");
    }
    if let Some(size) = report.against {
        text.push_str(&format!("the earlier checkpoint of {} entries is a beginning of it\n", out::thousands(size)));
    }
    match report.witnessed {
        Some(size) => text.push_str(&format!("a quorum of the witnesses has signed {} entries\n", out::thousands(size))),
        None => text.push_str("no witnesses were asked for: give --witness to know that nobody was shown another history\n"),
    }
    if report.unread > 0 {
        let unread = out::thousands(report.unread);
        text.push_str(&format!("entries that were moved to an archive, of which only the hashes were checked: {unread}: give --archive\n"));
    }
    if report.beyond > 0 {
        let beyond = out::thousands(report.beyond);
        text.push_str(&format!("entries after it that are not signed yet, and that only its program tells from forged ones: {beyond}\n"));
    }
    if report.torn {
        text.push_str("the tail ends within an entry, which was never acknowledged\n");
    }
    text
}

fn to_json(verified: &std::result::Result<Report, Finding>) -> serde_json::Value {
    match verified {
        Ok(report) => json!({
            "verified": true,
            "origin": report.origin,
            "own_key": report.own_key,
            "entries": report.entries,
            "unread": report.unread,
            "beyond": report.beyond,
            "torn": report.torn,
            "witnessed": report.witnessed,
            "against": report.against,
        }),
        Err(finding) => json!({
            "verified": false,
            "kind": format!("{:?}", finding.kind).to_lowercase(),
            "entry": finding.entry,
            "what": finding.what,
        }),
    }
}

#[cfg(test)]
mod tests {
    use concordat_audit::verify::Kind;

    use super::*;

    #[test]
    fn what_a_folder_says_does_not_act_where_it_is_shown() {
        for payload in inert::PAYLOADS {
            let finding = Finding { kind: Kind::Tail, entry: Some(3), what: format!("entry 3 says {payload}") };
            let message = failure(Path::new("log"), &finding).message;
            assert!(message.contains("entry 3 says") && message.ends_with("the first bad entry is 3"), "{message}");
            let report = Report {
                origin: payload.to_owned(),
                own_key: true,
                entries: 7,
                unread: 0,
                beyond: 2,
                torn: false,
                witnessed: None,
                against: None,
            };
            let json = inert::json(&to_json(&Err(finding)));
            for shown in [message, words(&report).replace('\n', ""), json, inert::json(&to_json(&Ok(report)))] {
                assert_eq!(inert(&shown), shown);
            }
        }
    }
}
