//! Access logs that witness each other: the gateway's checkpoints are cosigned here, and the gateway cosigns this node's.
//!
//! ```text
//! AddCheckpoint ─▶ caller ─▶ the key that came first ─▶ continues what was cosigned ─▶ durable ─▶ cosignature
//! Own           ─▶ caller ─▶ latest checkpoint of this node, proven from what the gateway knows
//! Cosigned      ─▶ caller ─▶ the gateway's witness's key ─▶ verified ─▶ kept beside the checkpoint
//! ```
//!
//! None of it puts an entry into the log but what is seen for the first time (`witness.seen`, before it is remembered), and what is refused
//! (`witness.refused`, once an hour for each kind): each entry is a new checkpoint, which the gateway brings here.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use concordat_audit::checkpoint::Checkpoint;
use concordat_audit::note::{MAX_NOTE, Note, VerifierKey};
use concordat_audit::witness::{AddCheckpoint, Alarm, KeyError, Misconduct, Reason, Refused, verified};
use concordat_audit::{Entry, LogError};
use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Code, Refusal};
use concordat_proto::{peer, v1};
use tokio::runtime::Handle;
use tonic::{Request, Response, Status};

use super::Control;
use crate::node::{Node, status};
use crate::release::blocking;
use crate::witness::{ACKNOWLEDGE, GATEWAY_LOG, GATEWAY_WITNESS};

/// A refusal, and what is the matter with a log.
struct Unwitnessed {
    refusal: Refusal,
    alarm: Option<Box<Alarm>>,
}

impl From<Refusal> for Unwitnessed {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, alarm: None }
    }
}

impl Node {
    async fn cosign(
        self: &Arc<Self>,
        request: v1::AddCheckpointRequest,
        certificate: Option<Fingerprint>,
    ) -> Result<v1::AddCheckpointResponse, Unwitnessed> {
        self.callers.gateway(certificate)?;
        let invalid = |cause: String| Refusal::new(Code::Invalid, cause).department(&self.department);
        let asked = AddCheckpoint::read(request.old_size, &request.proof, request.checkpoint).map_err(|e| invalid(e.to_string()))?;
        let key = VerifierKey::parse(&request.log_key).map_err(|e| invalid(e.to_string()))?;
        let node = Arc::clone(self);
        let outcome = blocking(move || {
            let tell = |first: &Checkpoint| node.tell(seen(&key).field("size", first.size));
            let outcome = node.witness.witness.add_checkpoint(GATEWAY_LOG, &key, &asked, now(), tell);
            if let Ok(cosigned) = &outcome {
                node.witness.cosigned(cosigned);
            }
            Ok(outcome)
        });
        let outcome = outcome.await?;
        let witness_key = self.witness.witness.key().to_string();
        let outcome = match outcome {
            Ok(cosigned) => {
                self.witness.alarm(None);
                if self.witness.told.settled(GATEWAY_LOG) {
                    tracing::info!(log = GATEWAY_LOG, size = cosigned.checkpoint.size, "the log's checkpoints are cosigned again");
                }
                v1::add_checkpoint_response::Outcome::Cosignature(cosigned.cosignature.to_string())
            }
            Err(Refused { reason: Reason::Conflict { size }, alarm: None }) => v1::add_checkpoint_response::Outcome::KnownSize(size),
            Err(refused) => return Err(self.unwitnessed(refused)),
        };
        Ok(v1::AddCheckpointResponse { outcome: Some(outcome), witness_key })
    }

    /// Logs what is seen for the first time, before it is remembered: whoever goes away meanwhile, it is logged. Blocks.
    fn tell(&self, entry: Entry) -> io::Result<()> {
        Handle::current().block_on(self.log(entry)).map(drop).map_err(io::Error::other)
    }

    /// What the gateway is told, and people where the log is at fault.
    fn unwitnessed(&self, refused: Refused) -> Unwitnessed {
        let Refused { reason, alarm } = refused;
        // The log's, not the state's.
        if let Reason::Unavailable(source) = &reason
            && let Some(refusal) = Refusal::carried(source)
        {
            return refusal.clone().into();
        }
        let (code, operator) = match &reason {
            Reason::Malformed(_) | Reason::OldSize { .. } | Reason::OtherLog { .. } => (Code::Invalid, String::new()),
            Reason::Unavailable(source) => (Code::Internal, source.to_string()),
            _ => (Code::Denied, String::new()),
        };
        let cause = match alarm.as_ref().map(|alarm| (alarm.misconduct, alarm.sizes)) {
            Some((Misconduct::Fork, (_, sent))) => {
                format!("a checkpoint of {sent} entries contradicts one that the same log signed: it was forked")
            }
            Some((Misconduct::Rollback, (known, sent))) => {
                format!("a checkpoint of {sent} entries came after one of {known} that was cosigned here: the log was rolled back")
            }
            // Names and keys of whoever asks are no matter of this department's log.
            _ => reason.plain().to_owned(),
        };
        let refusal = Refusal::new(code, format!("this department does not cosign the gateway's access log: {cause}"));
        let refusal = refusal.department(&self.department).operator(format!("{reason} {operator}"));
        let refusal = if alarm.is_some() { refusal.advice(ACKNOWLEDGE) } else { refusal };
        if let Some(alarm) = &alarm {
            self.witness.alarm(Some(alarm.misconduct));
        }
        Unwitnessed { refusal, alarm }
    }

    async fn own(self: &Arc<Self>, request: v1::OwnRequest, certificate: Option<Fingerprint>) -> Result<v1::OwnResponse, Unwitnessed> {
        self.callers.gateway(certificate)?;
        self.witness.look();
        // Before anything is waited for: a cosignature that is kept meanwhile is newer than what the gateway says it knows.
        let (node, kept, known) = (Arc::clone(self), self.witness.given.kept(), request.known_size);
        let own = blocking(move || {
            let text = node.log.checkpoint();
            let note = Note::parse(text.as_bytes()).map_err(Refusal::internal)?;
            let latest = Checkpoint::parse(note.text()).map_err(Refusal::internal)?;
            let size = latest.size;
            let proof = if known <= size { node.log.consistency(known, size).map_err(Refusal::internal)? } else { Vec::new() };
            let proof = proof.iter().map(|hash| hash.to_vec()).collect();
            Ok((v1::OwnResponse { checkpoint: text.as_bytes().to_vec(), proof, log_key: node.log.verifier_key() }, latest))
        });
        let (own, latest) = own.await.map_err(Unwitnessed::from)?;
        self.stands_at(latest, known, kept).await?;
        Ok(own)
    }

    async fn keep_cosignature(
        self: &Arc<Self>,
        request: v1::CosignedRequest,
        certificate: Option<Fingerprint>,
    ) -> Result<v1::CosignedResponse, Unwitnessed> {
        self.callers.gateway(certificate)?;
        let invalid = |cause: String| Refusal::new(Code::Invalid, cause);
        let node = Arc::clone(self);
        let kept = blocking(move || {
            let checkpoint = String::from_utf8(request.checkpoint).ok().filter(|text| text.len() <= MAX_NOTE);
            let checkpoint = checkpoint.ok_or_else(|| invalid("the checkpoint is not a signed note of at most 64 KiB".into()))?;
            let key = node.witness.keys.see(GATEWAY_WITNESS, &request.witness_key, |key| node.tell(seen_key(key)));
            let key = key.map_err(|e| match e {
                KeyError::Form(_) => invalid(e.to_string()),
                KeyError::Changed { .. } => Refusal::new(Code::Denied, e.to_string()).advice(ACKNOWLEDGE),
                KeyError::File(source) => Refusal::carried(&source).cloned().unwrap_or_else(|| Refusal::internal(source)),
            })?;
            let line = verified(&checkpoint, &request.cosignature, &key, now()).map_err(invalid)?;
            // Nothing is kept of it but the log's own line, which the log verifies.
            let note = Note::parse(checkpoint.as_bytes()).map_err(|e| invalid(e.to_string()))?;
            let own = note.signatures().iter().find(|line| line.name() == node.log.origin()).cloned();
            let own = own.ok_or_else(|| invalid("the checkpoint is not one of this node's log".into()))?;
            let own = Note::new(note.text(), own).to_string();
            // The gateway is the only witness of a node's log.
            let enough = |by: &BTreeSet<&str>| !by.is_empty();
            node.log.add_cosignatures(&own, &line, enough).map_err(|e| match &e {
                LogError::Asked(_) => invalid("the checkpoint is not one that this node's log has published".into()),
                _ => node.unwritable(e),
            })?;
            let size = Checkpoint::parse(note.text()).map_err(|e| invalid(e.to_string()))?.size;
            node.witness.given.note(&own, size, &[(GATEWAY_WITNESS.to_owned(), line)]).map_err(Refusal::internal)
        });
        kept.await.map_err(|refusal| refusal.department(&self.department))?;
        self.witness.told.settled(GATEWAY_WITNESS);
        Ok(v1::CosignedResponse {})
    }
}

fn seen(key: &VerifierKey) -> Entry {
    Entry::new("witness.seen").field("log", key.name()).field("key", key.to_string())
}

fn seen_key(key: &VerifierKey) -> Entry {
    Entry::new("witness.seen").field("witness", key.name()).field("key", key.to_string())
}

/// Seconds since 1970.
fn now() -> u64 {
    u64::try_from(Utc::now().timestamp()).unwrap_or_default()
}

impl Control {
    /// Answers, and logs what is refused: of the gateway's log once an hour for each kind, of strangers always.
    async fn witnessed<T>(
        &self,
        about: &'static str,
        certificate: Option<&Fingerprint>,
        outcome: Result<T, Unwitnessed>,
    ) -> Result<Response<T>, Status> {
        let Unwitnessed { refusal, alarm } = match outcome {
            Ok(answer) => return Ok(Response::new(answer)),
            Err(unwitnessed) => unwitnessed,
        };
        let what = alarm.as_ref().map_or(refusal.code.as_str(), |alarm| alarm.misconduct.as_str());
        if refusal.code != Code::Unauthenticated && !self.node.witness.told.anew(about, what, Instant::now()) {
            self.node.outcome(refusal.code.as_str());
            return Err(status(&refusal, None));
        }
        let Some(alarm) = alarm else {
            return self.answer("witness.refused", certificate, Err(refusal)).await;
        };
        let (known, sent) = alarm.sizes;
        tracing::error!(
            log = alarm.origin,
            kind = what,
            size.known = known,
            size.sent = sent,
            evidence = alarm.evidence.as_ref().map(|path| path.display().to_string()),
            "the gateway's access log is not what it was: its checkpoints are not cosigned"
        );
        self.node.outcome(refusal.code.as_str());
        let entry = Entry::new("witness.refused")
            .field("code", refusal.code.as_str())
            .field("reason", refusal.message.as_str())
            .field("log", alarm.origin.as_str())
            .field("kind", what)
            .field("known_size", known)
            .field("size", sent)
            .field("evidence_kept", alarm.evidence.is_some());
        let entry = certificate.into_iter().fold(entry, |entry, certificate| entry.field("certificate", certificate.as_str()));
        match self.node.log(entry).await {
            Ok(_) => Err(status(&refusal, None)),
            Err(unavailable) => Err(status(&unavailable, None)),
        }
    }
}

#[tonic::async_trait]
impl v1::witness_server::Witness for Control {
    async fn add_checkpoint(&self, request: Request<v1::AddCheckpointRequest>) -> Result<Response<v1::AddCheckpointResponse>, Status> {
        let certificate = peer::certificate(&request);
        let outcome = self.node.cosign(request.into_inner(), certificate.clone()).await;
        self.witnessed(GATEWAY_LOG, certificate.as_ref(), outcome).await
    }

    async fn own(&self, request: Request<v1::OwnRequest>) -> Result<Response<v1::OwnResponse>, Status> {
        let certificate = peer::certificate(&request);
        let outcome = self.node.own(request.into_inner(), certificate.clone()).await;
        self.witnessed("own", certificate.as_ref(), outcome).await
    }

    async fn cosigned(&self, request: Request<v1::CosignedRequest>) -> Result<Response<v1::CosignedResponse>, Status> {
        let certificate = peer::certificate(&request);
        let outcome = self.node.keep_cosignature(request.into_inner(), certificate.clone()).await;
        self.witnessed(GATEWAY_WITNESS, certificate.as_ref(), outcome).await
    }
}
