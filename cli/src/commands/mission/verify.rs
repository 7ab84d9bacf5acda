//! `mission verify`: that the history is the one that was written, and its answers those that the gateway's log promised.

use clap::Args;
use concordat_audit::note::VerifierKey;
use concordat_mission::history::Heads;
use concordat_mission::store::Head;
use serde_json::json;

use super::{Offline, Output};
use crate::failure::{Failure, Result};
use crate::out;

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// What the history came to, as it was told elsewhere: a snapshot's number and digest
    #[arg(long, value_name = "NUMBER:DIGEST", value_parser = head)]
    head: Option<Head>,
    /// The same of its pivots
    #[arg(long, value_name = "NUMBER:DIGEST", value_parser = head)]
    pivot_head: Option<Head>,
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    place: Offline,
}

fn head(text: &str) -> std::result::Result<Head, String> {
    let parsed = text.split_once(':').and_then(|(number, digest)| Some(Head { number: number.parse().ok()?, digest: digest.to_owned() }));
    // Before the first one nothing was told.
    parsed
        .filter(|head| head.number > 0 && head.digest.len() == 64)
        .ok_or_else(|| "write NUMBER:DIGEST, as `concordat mission verify` tells it".into())
}

pub(super) fn log_key(text: &str) -> std::result::Result<VerifierKey, String> {
    VerifierKey::parse(text).map_err(|e| e.to_string())
}

/// `24:9f…c1`; none of an empty chain.
pub(crate) fn told(head: &Head) -> Option<String> {
    (head.number > 0).then(|| format!("{}:{}", head.number, head.digest))
}

impl Verify {
    pub(super) fn run(self) -> miette::Result<()> {
        Ok(self.verify()?)
    }

    fn verify(self) -> Result<()> {
        let key = self.place.kept.log_key(&self.place.layout())?;
        let history = self.place.history(key.as_ref())?;
        let heads = history.heads();
        let none = || Head { number: 0, digest: String::new() };
        let noted = Heads { snapshots: self.head.clone().unwrap_or_else(none), pivots: self.pivot_head.clone().unwrap_or_else(none) };
        if let Some(lost) = noted.lost(&history.snapshots, &history.pivots) {
            let ends = |head: &Head| told(head).map_or_else(|| "are none".to_owned(), |last| format!("end with {last}"));
            let (snapshots, pivots) = (ends(&heads.snapshots), ends(&heads.pivots));
            return Err(Failure::new(format!("the history does not hold {lost}: its snapshots {snapshots}, its pivots {pivots}"))
                .advice("it was cut or made anew since that was told, or is another one; rely on none of it"));
        }
        let (snapshots, pivots) = (history.snapshots.len(), history.pivots.len());
        let (head, pivot_head) = (told(&heads.snapshots), told(&heads.pivots));
        if self.output == Output::Json {
            return out::result(&format!(
                "{}\n",
                json!({ "verified": true, "snapshots": snapshots, "pivots": pivots, "head": head, "pivot_head": pivot_head })
            ));
        }
        let receipts = if self.place.log_key().is_some() {
            "by that key"
        } else if key.is_some() {
            "by the key of the gateway whose folder this is"
        } else {
            "not verified: add --log-key"
        };
        let line = |what: &str, head: Option<String>| head.map_or_else(String::new, |head| format!("\n{what} {head}"));
        out::result(&format!(
            "ok   {snapshots} snapshot(s) and {pivots} pivot(s), unbroken chains, each answer as it was promised, once and at its time; \
             receipts {receipts}{}{}\n",
            line("head", head),
            line("pivot head", pivot_head)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_a_number_and_a_digest_and_none_of_nothing() {
        let digest = "a".repeat(64);
        assert_eq!(head(&format!("3:{digest}")).map(|head| told(&head)), Ok(Some(format!("3:{digest}"))));
        for wrong in [format!("0:{digest}"), format!("-1:{digest}"), format!("3:{}", "a".repeat(63)), digest, "3:".into(), String::new()] {
            assert!(head(&wrong).is_err(), "{wrong}");
        }
    }
}
