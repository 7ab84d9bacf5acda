//! One department's node: its witness cosigns this gateway's log, and this gateway cosigns its log.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use concordat_audit::Entry;
use concordat_audit::checkpoint::Checkpoint;
use concordat_audit::note::{Note, VerifierKey};
use concordat_audit::witness::{AddCheckpoint, Alarm, KeyError, Misconduct, Moment, Reason, Refused, known, verified};
use concordat_operate::trace::Traced;
use concordat_policy::{Code, Name, Refusal};
use concordat_proto::status::from_status;
use concordat_proto::v1::add_checkpoint_response::Outcome;
use concordat_proto::v1::witness_client::WitnessClient;
use concordat_proto::v1::{AddCheckpointRequest, CosignedRequest, OwnRequest};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tonic::{Response, Status};

use super::tally::Who;
use super::{AGAIN, CALL, Given, LOOK, Published, ROUND, SETTLE, TRIES, log_of, next, now, witness_of};
use crate::Gateway;
use crate::fetch::{failed, faulty, timeout};

/// What an operator can do about another key or another history.
fn acknowledge(department: &Name) -> String {
    format!(
        "ask the department's people; where its log or its witness was restored for good, accept that with `concordat-gateway \
         acknowledge-log --department {department} --config gateway.toml`"
    )
}

/// What whoever asks is told of a department that was distrusted before the gateway started.
pub(super) fn distrusted(department: &Name, happened: Misconduct) -> Refusal {
    let what = format!("showed an access log that does not continue what this gateway cosigned ({})", happened.as_str());
    faulty(department, &what, "before this gateway started").advice(acknowledge(department))
}

/// A node's refusal without the sentence that it wrote: the access log keeps no peer's text. The operator is told the sentence.
fn in_our_words(department: &Name, own: Code, refusal: Refusal) -> Refusal {
    Refusal { message: format!("department '{department}' refuses the call ({})", own.as_str()), ..refusal }
}

/// Logs a key that comes for the first time, before it is remembered. Blocks.
fn seen(gateway: &Gateway, department: &Name, what: &'static str, key: &VerifierKey) -> io::Result<()> {
    let entry = Entry::new("witness.seen").field("department", department.as_str());
    let entry = entry.field(what, key.name()).field("key", key.to_string());
    let unwritable = |e| Refusal::new(Code::LogUnavailable, "the access log cannot be written, so nothing is witnessed").operator(e);
    Handle::current().block_on(gateway.log.append(entry)).map(drop).map_err(|e| io::Error::other(unwritable(e)))
}

/// What came for the first time and was not logged, or not remembered.
fn unremembered(source: &io::Error) -> Refusal {
    Refusal::carried(source).cloned().unwrap_or_else(|| Refusal::internal(source))
}

/// What this process knows of the node.
struct Followed {
    department: Name,
    /// The size that its witness cosigned last.
    known: u64,
    /// The size of its own checkpoint that was handed back cosigned.
    handed: Option<u64>,
}

/// Why a round did not end well.
enum Trouble {
    /// The node is of a version that does not witness.
    NotOffered,
    /// People were told.
    Told,
    /// It does not take this gateway's certificate, and logs each call.
    Stranger(Refusal),
    Refused(Refusal),
}

impl Trouble {
    /// When to try again after trouble that says nothing of a log.
    fn pause(&self, pause: Duration) -> Duration {
        match self {
            Self::NotOffered | Self::Stranger(_) => LOOK,
            Self::Told | Self::Refused(_) => pause,
        }
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Follows the rounds, as long as the gateway holds any.
pub(super) async fn follow(
    gateway: Arc<Gateway>,
    department: Name,
    mut rounds: watch::Receiver<Option<Published>>,
    given: mpsc::Sender<Given>,
) {
    let (name, log) = (witness_of(&department), log_of(&department));
    let known = gateway.aside(move |gateway| gateway.witnesses.gave_at(&name)).await.unwrap_or_default();
    let mut node = Followed { department, known, handed: None };
    let (mut cosigned, mut pause, mut look) = (None, AGAIN.0, LOOK);
    while next(&mut rounds, look).await {
        // What the node writes while it answers is under its next checkpoint: it is looked at until it rests.
        look = LOOK;
        let round = rounds.borrow_and_update().clone();
        let mut again: Option<Duration> = None;
        if let Some(round) = round.filter(|round| cosigned != Some(round.size)) {
            match node.cosign(&gateway, &round).await {
                Ok(line) => {
                    (cosigned, look) = (Some(round.size), SETTLE);
                    gateway.fetcher.nodes.shown.note(&node.department, round.size);
                    gateway.witnesses.alarm(node.department.as_str(), "own", false);
                    gateway.witnesses.told.settled(&witness_of(&node.department));
                    let by = Who::Department(node.department.clone());
                    if let Some(line) = line
                        && given.send(Given { by, published: round, line }).await.is_err()
                    {
                        return;
                    }
                }
                Err(trouble) => {
                    again = Some(trouble.pause(pause));
                    if let Trouble::Stranger(refusal) | Trouble::Refused(refusal) = &trouble {
                        node.not_cosigned(&gateway, refusal).await;
                    }
                }
            }
        }
        // Whoever does not know this gateway is not asked twice.
        if again != Some(LOOK) {
            match node.own(&gateway).await {
                Ok(false) => {}
                Ok(true) => look = SETTLE,
                Err(trouble) => {
                    again = again.or(Some(trouble.pause(pause)));
                    if let Trouble::Stranger(refusal) | Trouble::Refused(refusal) = &trouble {
                        node.not_seen(&gateway, refusal).await;
                    }
                }
            }
        }
        // Its checkpoint over what it signed a receipt for may be a second younger than the receipt.
        if !gateway.witnesses.owed.overdue(&log, Moment::now()).is_zero() {
            look = look.min(ROUND);
        }
        match again {
            None => pause = AGAIN.0,
            Some(again) => {
                tokio::time::sleep(again).await;
                pause = pause.saturating_mul(2).min(AGAIN.1);
                rounds.mark_changed();
            }
        }
    }
}

impl Followed {
    fn client(&self, gateway: &Gateway) -> Result<WitnessClient<Traced>, Refusal> {
        gateway.fetcher.nodes.witness(&self.department)
    }

    /// Runs one call, outside of what decides whether queries may ask this node.
    async fn call<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Trouble> {
        match tokio::time::timeout(CALL, call).await {
            Err(_) => Err(timeout(&self.department).into()),
            Ok(Err(status)) if status.code() == tonic::Code::Unimplemented => Err(Trouble::NotOffered),
            Ok(Err(status)) => {
                let own = from_status(&status).map(|own| own.code);
                let refusal = failed(&self.department, &status);
                let refusal = match own {
                    Some(own) => in_our_words(&self.department, own, refusal),
                    None => refusal,
                };
                Err(if own == Some(Code::Unauthenticated) { Trouble::Stranger(refusal) } else { Trouble::Refused(refusal) })
            }
            Ok(Ok(answer)) => Ok(answer.into_inner()),
        }
    }

    /// Has the node's witness cosign a checkpoint. `None` where it has cosigned a later one.
    async fn cosign(&mut self, gateway: &Arc<Gateway>, round: &Published) -> Result<Option<String>, Trouble> {
        let mut client = self.client(gateway)?;
        for _ in 0..TRIES {
            // A witness that knows more than there is judges by the checkpoint alone.
            let old_size = if self.known <= round.size { self.known } else { 0 };
            let size = round.size;
            let proof = gateway.aside(move |gateway| gateway.log.consistency(old_size, size)).await?.map_err(Refusal::internal)?;
            let request = AddCheckpointRequest {
                old_size,
                proof: proof.iter().map(|hash| hash.to_vec()).collect(),
                checkpoint: round.text.as_bytes().to_vec(),
                log_key: gateway.log.verifier_key(),
            };
            let answer = self.call(client.add_checkpoint(request)).await?;
            let key = self.key(gateway, answer.witness_key).await?;
            match answer.outcome {
                Some(Outcome::Cosignature(line)) => {
                    let line = verified(&round.text, &line, &key, now());
                    let line = line.map_err(|cause| {
                        faulty(&self.department, "gives a cosignature that does not count: it is not its witness's, or not of now", cause)
                    })?;
                    self.known = round.size;
                    return Ok(Some(line));
                }
                Some(Outcome::KnownSize(later)) if later > round.size => return Ok(None),
                Some(Outcome::KnownSize(known)) => {
                    gateway.stands_at(&Who::Department(self.department.clone()), round, known).await?;
                    self.known = known;
                }
                None => break,
            }
        }
        Err(faulty(&self.department, "does not say which checkpoint its witness cosigned", "").into())
    }

    /// The key of the node's witness, which must be the one that came first.
    async fn key(&self, gateway: &Arc<Gateway>, key: String) -> Result<VerifierKey, Refusal> {
        let name = witness_of(&self.department);
        let department = self.department.clone();
        let see = move |gateway: &Gateway| gateway.witnesses.keys.see(&name, &key, |key| seen(gateway, &department, "witness", key));
        gateway.aside(see).await?.map_err(|e| match e {
            KeyError::File(source) => unremembered(&source),
            e => faulty(&self.department, "shows another key of its witness than before", e).advice(acknowledge(&self.department)),
        })
    }

    /// Tells that the node's witness did not cosign.
    async fn not_cosigned(&self, gateway: &Gateway, refusal: &Refusal) {
        let witness = witness_of(&self.department);
        if matches!(refusal.code, Code::NodeRefused | Code::NodeFaulty) {
            gateway.witnesses.alarm(self.department.as_str(), "own", true);
        }
        let entry = Entry::new("witness.refused").field("department", self.department.as_str()).field("log", gateway.log.origin());
        gateway.tell(&witness, refusal.code.as_str(), refusal, entry).await;
    }

    /// Tells that the node's own log could not be looked at.
    async fn not_seen(&self, gateway: &Gateway, refusal: &Refusal) {
        let log = log_of(&self.department);
        let entry = Entry::new("witness.refused").field("department", self.department.as_str()).field("log", log.as_str());
        gateway.tell(&log, refusal.code.as_str(), refusal, entry).await;
    }

    /// Cosigns the node's own log. Whether it had grown.
    async fn own(&mut self, gateway: &Arc<Gateway>) -> Result<bool, Trouble> {
        let (origin, mut client) = (log_of(&self.department), self.client(gateway)?);
        let name = origin.clone();
        let before = gateway.aside(move |gateway| known(&gateway.witnesses.folder, &name)).await?.map_err(Refusal::internal)?;
        let known_size = before.as_ref().map_or(0, |(_, checkpoint)| checkpoint.size);
        let answer = self.call(client.own(OwnRequest { known_size })).await?;
        let wrong = |cause: String| faulty(&self.department, "shows no checkpoint of its access log", cause);
        let note = Note::parse(&answer.checkpoint).map_err(|e| wrong(e.to_string()))?;
        let shown = Checkpoint::parse(note.text()).map_err(|e| wrong(e.to_string()))?;
        let key = VerifierKey::parse(&answer.log_key).map_err(|e| wrong(e.to_string()))?;
        let same = before.is_some_and(|(known, checkpoint)| known == key && checkpoint == shown);
        if same && self.handed == Some(shown.size) {
            return Ok(false);
        }
        let asked = AddCheckpoint::read(known_size.min(shown.size), &answer.proof, answer.checkpoint.clone());
        let asked = asked.map_err(|e| wrong(e.to_string()))?;
        let (department, name) = (self.department.clone(), origin.clone());
        let add =
            move |gateway: &Gateway| gateway.witnesses.add_checkpoint(&name, &key, &asked, || seen(gateway, &department, "log", &key));
        let cosigned = match gateway.aside(add).await? {
            Ok(cosigned) => cosigned,
            // One that was cosigned before: another answer is on its way, or the log went back to it and has not grown since.
            Err(Refused { reason: Reason::Conflict { .. }, alarm: None }) => return Ok(false),
            Err(Refused { reason: Reason::Unavailable(source), .. }) => return Err(unremembered(&source).into()),
            Err(Refused { alarm: Some(alarm), reason }) => return Err(self.distrust(gateway, &alarm, &reason).await),
            Err(Refused { reason, .. }) => return Err(wrong(reason.to_string()).into()),
        };
        if gateway.fetcher.nodes.trust(&self.department) {
            tracing::info!(department = self.department.as_str(), "the department's access log is witnessed again, and its data is used");
        }
        gateway.witnesses.alarm(self.department.as_str(), "theirs", false);
        gateway.witnesses.told.settled(&origin);
        let witness_key = gateway.witnesses.witness.key().to_string();
        let cosignature = cosigned.cosignature.to_string();
        self.call(client.cosigned(CosignedRequest { checkpoint: answer.checkpoint, cosignature, witness_key })).await?;
        self.handed = Some(shown.size);
        Ok(true)
    }

    /// A log that was forked or rolled back: nothing of this department is used until a person knows why.
    async fn distrust(&self, gateway: &Gateway, alarm: &Alarm, reason: &Reason) -> Trouble {
        let (known, shown) = alarm.sizes;
        let kind = alarm.misconduct.as_str();
        let what = format!("shows an access log that does not continue what this gateway cosigned ({kind}: {known} entries, now {shown})");
        let refusal = faulty(&self.department, &what, reason).advice(acknowledge(&self.department));
        gateway.fetcher.nodes.distrust(&self.department, refusal.clone());
        gateway.witnesses.alarm(self.department.as_str(), "theirs", true);
        let entry = Entry::new("witness.refused")
            .field("department", self.department.as_str())
            .field("log", alarm.origin.as_str())
            .field("kind", kind)
            .field("known_size", known)
            .field("size", shown)
            .field("evidence_kept", alarm.evidence.is_some());
        gateway.tell(&alarm.origin, kind, &refusal, entry).await;
        Trouble::Told
    }
}

#[cfg(test)]
mod tests {
    use concordat_proto::status::to_status;

    use super::*;

    #[test]
    fn the_log_keeps_no_sentence_of_a_nodes_and_the_operator_reads_it() {
        let department = Name::parse("dfe").unwrap();
        let said = Refusal::new(Code::Denied, "AB123456C \u{1b}[31m=cmd()").department("dfe");
        let refusal = in_our_words(&department, Code::Denied, failed(&department, &to_status(&said, None)));
        assert_eq!(refusal.message, "department 'dfe' refuses the call (denied)");
        assert!(refusal.operator.is_some_and(|operator| operator.contains("AB123456C")));
        assert_eq!((refusal.code, refusal.department.as_deref()), (Code::NodeRefused, Some("dfe")));
    }
}
