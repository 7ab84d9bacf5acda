//! The promise that comes with an answer: the gateway's log has an entry of it, for good, and of no other.

use std::path::PathBuf;

use clap::Args;
use concordat_audit::Promise;
use concordat_audit::note::VerifierKey;
use serde_json::Value;

use crate::client::promise;
use crate::failure::{Failure, Result};
use crate::output::Sink;

/// Options of commands whose answer comes with one.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Promised {
    /// Save the log's promise of the answer's entry, for `concordat audit verify-receipt`
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// The key of the gateway's log: an answer without a promise by it is refused
    #[arg(long, value_name = "VKEY", value_parser = log_key)]
    log_key: Option<VerifierKey>,
}

fn log_key(text: &str) -> std::result::Result<VerifierKey, String> {
    VerifierKey::parse(text).map_err(|e| e.to_string())
}

impl Promised {
    /// The promise in an answer's statement, before anything of the answer is handed over. That there is none, or one that names no answer,
    /// counts where one is asked for; one that is there must be the answer's own. [`crate::client::Matching`] compares the rows.
    ///
    /// # Errors
    /// Where it is not of the answer's entry and query, or not by the key; where it is asked for and missing.
    pub(crate) fn check(&self, summary: &Value) -> Result<Option<Promise>> {
        if summary.get("promise").is_none() && self.receipt.is_none() && self.log_key.is_none() {
            return Ok(None);
        }
        let promise = promise(summary)?;
        if promise.answer.is_none() && (self.receipt.is_some() || self.log_key.is_some()) {
            return Err(Failure::new("the gateway's promise is of an entry of its log, and does not say of which answer that is")
                .advice("the gateway is of an older version: ask its operator to renew it, or leave out --receipt and --log-key"));
        }
        if let Some(key) = &self.log_key {
            promise.verify(key).map_err(|e| {
                Failure::new(format!("the answer is not taken: {e}"))
                    .advice("compare the key with the one that the gateway's operator published, and report it if it is the same")
            })?;
        }
        Ok(Some(promise))
    }

    /// Saves it, once the answer is whole.
    ///
    /// # Errors
    /// That it cannot be written.
    pub(crate) fn keep(&self, promise: Option<Promise>) -> Result<()> {
        let (Some(path), Some(promise)) = (&self.receipt, promise) else { return Ok(()) };
        let mut to = Sink::file(path)?;
        std::io::Write::write_all(&mut to, promise.write().as_bytes()).map_err(|e| Failure::file("written", path, e))?;
        to.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn summary() -> Value {
        let promise = json!({
            "version": "concordat.promise/v2", "origin": "concordat/gateway", "index": 6, "leaf_hash": "A".repeat(43) + "=",
            "answer": { "query_id": "q", "rows": 0, "salt": "A".repeat(43) + "=", "digest": "A".repeat(43) + "=" },
            "time": "2027-04-01T10:00:00.000Z", "signature": "A".repeat(86) + "==",
        });
        json!({ "log_entry": 7, "query_id": "q", "promise": promise })
    }

    #[test]
    fn a_promise_counts_where_it_is_asked_for_and_is_kept_as_it_came() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("promise");
        let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let saves = Promised { receipt: Some(path.clone()), log_key: None };
        let nothing = Promised { receipt: None, log_key: None };
        let verifies = Promised { receipt: None, log_key: Some(log_key(key).unwrap()) };
        assert_eq!(nothing.check(&json!({ "log_entry": 7 })).unwrap(), None);
        assert!(saves.check(&json!({ "log_entry": 7 })).is_err() && verifies.check(&json!({ "log_entry": 7 })).is_err());
        let promise = saves.check(&summary()).unwrap();
        saves.keep(promise.clone()).unwrap();
        assert_eq!(Promise::read(&std::fs::read(&path).unwrap()).unwrap(), promise.unwrap());
        assert!(verifies.check(&summary()).unwrap_err().message.contains("not one that the log 'PeterNeumann' signed"));
        let moved = json!({ "log_entry": 8, "query_id": "q", "promise": summary()["promise"] });
        assert!(nothing.check(&moved).is_err(), "one of another entry is refused by everybody");
        let mut of_entry = summary();
        of_entry["promise"].as_object_mut().unwrap().remove("answer");
        of_entry["promise"]["version"] = json!("concordat.promise/v1");
        assert!(nothing.check(&of_entry).unwrap().is_some(), "an older gateway's says nothing of the answer");
        for asks in [&saves, &verifies] {
            assert!(asks.check(&of_entry).unwrap_err().message.contains("does not say of which answer"));
        }
    }
}
