//! Outside witnesses, which belong to no department: asked over HTTP as c2sp.org/tlog-witness says, `POST <url>/add-checkpoint`.
//!
//! Towards them holds what holds towards issuers: TLS, no redirects, no proxy of the environment, little read and not waited for long;
//! http only to this machine. Their keys are configured; nothing is pinned.

use std::sync::Arc;

use concordat_audit::Entry;
use concordat_audit::note::{Algorithm, MAX_NOTE, VerifierKey};
use concordat_audit::witness::{AddCheckpoint, verified};
use concordat_policy::{Code, Problem, Refusal};
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};

use super::tally::Who;
use super::{AGAIN, Given, LOOK, Published, TRIES, next, now};
use crate::Gateway;
use crate::issuers::{chain, client, permitted};

/// One of `[[witnesses.outside]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WitnessFile {
    /// The prefix of its address.
    url: String,
    /// Its key (name+id+base64).
    vkey: String,
}

/// An outside witness, checked.
#[derive(Debug, Clone)]
pub(crate) struct Outside {
    pub(crate) key: VerifierKey,
    address: Url,
    client: reqwest::Client,
}

impl WitnessFile {
    /// Checks it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check(&self) -> Result<Outside, Problem> {
        let (url, vkey) = (self.url.as_str(), self.vkey.as_str());
        let key = VerifierKey::parse(vkey).ok().filter(|key| key.algorithm() == Algorithm::Cosignature);
        let key =
            key.ok_or_else(|| Problem::at(vkey, "is not the key of a witness", "write name+id+base64 as the witness publishes it"))?;
        let address = Url::parse(&format!("{}/add-checkpoint", url.trim_end_matches('/'))).ok();
        let plain = |url: &Url| {
            permitted(url, true)
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
                && url.password().is_none()
        };
        let wrong = || Problem::at(url, "is not an https address without user, query and fragment", "write https://host/prefix");
        let address = address.filter(plain).ok_or_else(wrong)?;
        let client =
            client(None, address.scheme() == "http").map_err(|cause| Problem::at(url, cause, "correct this machine's trust store"))?;
        Ok(Outside { key, address, client })
    }
}

/// Follows the rounds, as long as the gateway holds any.
pub(super) async fn follow(
    gateway: Arc<Gateway>,
    outside: Outside,
    mut rounds: watch::Receiver<Option<Published>>,
    given: mpsc::Sender<Given>,
) {
    let name = outside.key.name().to_owned();
    let known = gateway.aside(move |gateway| gateway.witnesses.gave_at(&name)).await.unwrap_or_default();
    let (mut known, mut cosigned, mut pause) = (known, None, AGAIN.0);
    while next(&mut rounds, LOOK).await {
        let Some(round) = rounds.borrow_and_update().clone().filter(|round| cosigned != Some(round.size)) else { continue };
        match outside.cosign(&gateway, &mut known, &round).await {
            Ok(line) => {
                (cosigned, pause) = (Some(round.size), AGAIN.0);
                gateway.witnesses.alarm(outside.key.name(), "own", false);
                gateway.witnesses.told.settled(outside.key.name());
                let by = Who::Outside(outside.key.name().to_owned());
                if given.send(Given { by, published: round, line }).await.is_err() {
                    return;
                }
            }
            Err(refusal) => {
                gateway.witnesses.alarm(outside.key.name(), "own", matches!(refusal.code, Code::NodeRefused | Code::NodeFaulty));
                let entry = Entry::new("witness.refused").field("witness", outside.key.name()).field("log", gateway.log.origin());
                gateway.tell(outside.key.name(), refusal.code.as_str(), &refusal, entry).await;
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2).min(AGAIN.1);
                rounds.mark_changed();
            }
        }
    }
}

impl Outside {
    async fn cosign(&self, gateway: &Arc<Gateway>, known: &mut u64, round: &Published) -> Result<String, Refusal> {
        for _ in 0..TRIES {
            let (old_size, size) = (if *known <= round.size { *known } else { 0 }, round.size);
            let proof = gateway.aside(move |gateway| gateway.log.consistency(old_size, size)).await?.map_err(Refusal::internal)?;
            let body = AddCheckpoint { old_size, proof, checkpoint: round.text.to_string() }.to_string();
            let (status, answer) = self.post(body).await?;
            match status {
                StatusCode::OK => {
                    let line = verified(&round.text, &answer, &self.key, now());
                    let line = line.map_err(|cause| {
                        self.refusal(Code::NodeFaulty, "gives a cosignature that does not count: it is not its own, or not of now", cause)
                    })?;
                    *known = round.size;
                    return Ok(line);
                }
                StatusCode::CONFLICT => match answer.trim_end().parse::<u64>() {
                    Ok(size) if size > round.size => {
                        return Err(self.refusal(
                            Code::NodeRefused,
                            "has cosigned more entries than this log has: it was rolled back",
                            size,
                        ));
                    }
                    Ok(size) if size != old_size => {
                        gateway.stands_at(&Who::Outside(self.key.name().to_owned()), round, size).await?;
                        *known = size;
                    }
                    _ => {
                        return Err(self.refusal(
                            Code::NodeRefused,
                            "refuses the checkpoint: it contradicts the one that it cosigned",
                            status,
                        ));
                    }
                },
                StatusCode::UNPROCESSABLE_ENTITY | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => {
                    return Err(self.refusal(
                        Code::NodeRefused,
                        &format!("refuses the checkpoint with status {}", status.as_u16()),
                        status,
                    ));
                }
                _ => return Err(self.refusal(Code::NodeUnavailable, "does not answer as a witness does", status)),
            }
        }
        Err(self.refusal(Code::NodeFaulty, "does not say which checkpoint it cosigned", ""))
    }

    async fn post(&self, body: String) -> Result<(StatusCode, String), Refusal> {
        let away = |cause: String| self.refusal(Code::NodeUnavailable, "does not answer", cause);
        let failed = |e: reqwest::Error| away(chain(&e.without_url()));
        let mut response = self.client.post(self.address.clone()).body(body).send().await.map_err(failed)?;
        let (status, mut bytes) = (response.status(), Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len().saturating_add(chunk.len()) > MAX_NOTE {
                return Err(away("its answer is longer than 64 KiB".into()));
            }
            bytes.extend_from_slice(&chunk);
        }
        String::from_utf8(bytes).map(|text| (status, text)).map_err(|_| away("its answer is not UTF-8".into()))
    }

    fn refusal(&self, code: Code, what: &str, operator: impl std::fmt::Display) -> Refusal {
        Refusal::new(code, format!("the witness '{}' {what}", self.key.name()))
            .advice("ask its operator; after a log was restored for good, a witness of another name or a new log is needed")
            .operator(operator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VKEY: &str = "witness.example/w+b4ae60ca+BAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC";

    #[test]
    fn a_witness_has_a_key_of_its_kind_and_an_https_address() {
        let key =
            concordat_audit::note::Signer::from_seed("witness.example/w", Algorithm::Cosignature, &[2; 32]).unwrap().key().to_string();
        let log = concordat_audit::note::Signer::from_seed("witness.example/w", Algorithm::Ed25519, &[2; 32]).unwrap().key().to_string();
        let check = |url: &str, vkey: &str| WitnessFile { url: url.into(), vkey: vkey.into() }.check();
        for (url, address) in [
            ("https://witness.example/prefix/", "https://witness.example/prefix/add-checkpoint"),
            ("https://witness.example", "https://witness.example/add-checkpoint"),
            ("http://127.0.0.1:8080/w", "http://127.0.0.1:8080/w/add-checkpoint"),
        ] {
            assert_eq!(check(url, &key).unwrap().address.as_str(), address);
        }
        for (url, vkey, says) in [
            ("http://witness.example", key.as_str(), "https address"),
            ("https://user@witness.example", &key, "https address"),
            ("https://witness.example?x", &key, "https address"),
            ("witness.example", &key, "https address"),
            ("https://witness.example", &log, "key of a witness"),
            ("https://witness.example", VKEY, "key of a witness"),
        ] {
            assert!(check(url, vkey).unwrap_err().cause.contains(says), "{url} {vkey}");
        }
    }
}
