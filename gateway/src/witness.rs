//! The access log, witnessed: every department's node cosigns its checkpoints, outside witnesses too, and this gateway cosigns those of
//! the nodes' logs.
//!
//! ```text
//! log ─▶ latest checkpoint ─▶ round, at most one a second ─▶ every witness at the same time ─▶ verified ─▶ kept together, and counted
//!                                                           └▶ each node's own log ─▶ remembered ─▶ cosigned ─▶ handed to the node
//! ```
//!
//! Invariants
//! - All witnesses are asked for the same checkpoint, so that one file bears a quorum. Whoever is slow or away delays its own line only.
//! - A line counts when the key made it that came first (departments) or is configured (outside), and when it is kept.
//! - Cosigning puts nothing into the log: `witness.seen` stands there once (again where the program ended before it remembered),
//!   `witness.refused` once an hour. A log at rest causes no round.
//! - A node's log that was forked or rolled back, or has another key, makes the node's data unusable until a person acknowledges it.

mod behind;
mod forgot;
mod node;
mod outside;
mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use concordat_audit::Entry;
use concordat_audit::checkpoint::Checkpoint;
use concordat_audit::note::{Note, VerifierKey};
use concordat_audit::witness::{self, Keys, Owed, Told, Witness, distrusted};
use concordat_operate::metrics::{Level, Metrics};
use concordat_policy::{Code, Name, Refusal};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::Gateway;
use crate::fetch::Nodes;
use tally::{Tally, Who};

pub(crate) use outside::{Outside, WitnessFile};

/// The least time between two rounds, and how long a round waits for its witnesses.
const ROUND: Duration = Duration::from_secs(1);
/// How long after trouble a witness is asked again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// How often nodes' logs are looked at while this log rests.
const LOOK: Duration = Duration::from_secs(60);
/// How soon after a round they are looked at again.
const SETTLE: Duration = Duration::from_millis(500);
/// How long a call may take.
const CALL: Duration = Duration::from_secs(5);
/// How many cosignatures may wait to be kept.
const WAITING: usize = 64;
/// How often a witness is asked anew in one round because it knows another checkpoint.
const TRIES: usize = 3;

/// This gateway as a witness, and what it knows of others.
pub(crate) struct Witnesses {
    folder: PathBuf,
    witness: Witness,
    keys: Keys,
    outside: Vec<Outside>,
    /// The checkpoints that nodes owe for the receipts that they signed.
    pub(crate) owed: Arc<Owed>,
    /// What witnesses of this gateway's log gave.
    given: witness::Given,
    /// What witnesses forgot, by their names, and where they stood, of which the log tells and which is not marked yet.
    telling: tokio::sync::Mutex<BTreeMap<String, (u64, u64)>>,
    told: Told,
    refused: Level,
}

/// Where all of it lies.
pub(crate) fn folder(state: &Path) -> PathBuf {
    state.join("witness")
}

/// The name of this gateway's access log.
pub(crate) const LOG: &str = "concordat/gateway";

/// The name of a department's access log.
pub(crate) fn log_of(department: &Name) -> String {
    format!("concordat/{department}/node")
}

/// The name of a department's witness.
pub(crate) fn witness_of(department: &Name) -> String {
    format!("concordat/{department}/witness")
}

impl Witnesses {
    /// Opens what lies in `state`, or begins it.
    ///
    /// # Errors
    /// When the state is damaged, or its key is missing: begun anew, this witness would cosign a fork.
    pub(crate) fn open(state: &Path, outside: Vec<Outside>, metrics: &Metrics) -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let folder = folder(state);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let witness = Witness::open(&folder, "concordat/gateway/witness")?;
        let what = "Whether a witness refuses this gateway's log (log=\"own\"), or this gateway that of a department (log=\"theirs\")";
        let refused = metrics.level("witness_refused", what);
        let (keys, given, owed) = (Keys::at(&folder), witness::Given::at(&folder), Arc::new(Owed::open(&folder)?));
        let (told, telling) = (Told::default(), tokio::sync::Mutex::default());
        Ok(Self { keys, given, telling, owed, folder, witness, outside, told, refused })
    }

    /// Distrusts whom this gateway distrusted before it started.
    ///
    /// # Errors
    /// When the witness's state cannot be read.
    pub(crate) fn distrust_again(&self, nodes: &Nodes) -> std::io::Result<()> {
        let distrusted = distrusted(&self.folder)?;
        for department in nodes.departments() {
            let log = log_of(department);
            if let Some((_, happened)) = distrusted.iter().find(|(origin, _)| *origin == log) {
                nodes.distrust(department, node::distrusted(department, *happened));
                self.alarm(department.as_str(), "theirs", true);
            }
        }
        Ok(())
    }

    /// The keys whose cosignatures of this gateway's log count. Blocks.
    ///
    /// # Errors
    /// When the keys of departments' witnesses cannot be read.
    pub(crate) fn verifiers(&self) -> std::io::Result<Vec<VerifierKey>> {
        let departments = self.keys.verifiers()?;
        Ok(departments.into_iter().chain(self.outside.iter().map(|outside| outside.key.clone())).collect())
    }

    /// What monitoring sees.
    fn alarm(&self, of: &str, log: &str, refused: bool) {
        self.refused.set(&[("witness", of), ("log", log)], i64::from(refused));
    }
}

/// A checkpoint of this gateway's log.
#[derive(Debug, Clone)]
struct Published {
    text: Arc<str>,
    size: u64,
}

impl Published {
    fn parse(text: Arc<str>) -> Option<Self> {
        let note = Note::parse(text.as_bytes()).ok()?;
        let size = Checkpoint::parse(note.text()).ok()?.size;
        Some(Self { text, size })
    }
}

/// A verified line of a witness.
#[derive(Debug)]
struct Given {
    by: Who,
    published: Published,
    line: String,
}

impl Gateway {
    /// Has the log witnessed, and witnesses those of the nodes, as long as the returned handles are kept.
    pub(crate) fn witness(self: &Arc<Self>) -> Vec<AbortOnDropHandle<()>> {
        let ((latest, seen), (rounds, round)) = (watch::channel(None), watch::channel(None));
        let (give, given) = mpsc::channel(WAITING);
        let departments: Vec<Name> = self.estate.now().departments.iter().map(|department| department.id.clone()).collect();
        let witnesses = departments.len().saturating_add(self.witnesses.outside.len());
        let mut tasks = vec![tokio::spawn(publish(Arc::clone(self), latest))];
        for department in departments {
            tasks.push(tokio::spawn(node::follow(Arc::clone(self), department, round.clone(), give.clone())));
        }
        for outside in &self.witnesses.outside {
            tasks.push(tokio::spawn(outside::follow(Arc::clone(self), outside.clone(), round.clone(), give.clone())));
        }
        tasks.push(tokio::spawn(behind::watch(Arc::clone(self))));
        tasks.push(tokio::spawn(hold_rounds(Arc::clone(self), seen, rounds, given, witnesses)));
        tasks.into_iter().map(AbortOnDropHandle::new).collect()
    }

    /// Keeps verified lines of one checkpoint, and counts who has cosigned it.
    async fn keep(self: &Arc<Self>, tally: &mut Tally, given: Vec<Given>) {
        let Some(checkpoint) = given.first().map(|first| Arc::clone(&first.published.text)) else { return };
        let lines: String = given.iter().map(|one| one.line.as_str()).collect();
        let quorum = self.witnessed.quorum().clone();
        let outside: BTreeSet<String> = self.witnesses.outside.iter().map(|outside| outside.key.name().to_owned()).collect();
        let enough = move |by: &BTreeSet<&str>| {
            let departments = quorum.departments().filter(|department| by.contains(witness_of(department).as_str())).cloned().collect();
            quorum.is_met(&departments, by.iter().filter(|name| outside.contains(**name)).count())
        };
        let kept = self.aside(move |gateway| {
            gateway.witnesses.gave(&given);
            gateway.log.add_cosignatures(&checkpoint, &lines, enough).map(|()| given)
        });
        let given = match kept.await {
            Ok(Ok(given)) => given,
            Ok(Err(e)) => return tracing::error!(cause = %e, source = ?std::error::Error::source(&e), "cosignatures cannot be kept"),
            Err(e) => return tracing::error!(cause = %e, "cosignatures cannot be kept"),
        };
        for one in given {
            tally.note(one.by, one.published.size);
        }
        for (size, by, outside) in tally.standings() {
            self.witnessed.cosigned(size, &by, outside);
        }
    }

    /// Tells people what is the matter with a witness or a log, as often as it is due.
    async fn tell(&self, about: &str, what: &'static str, refusal: &Refusal, entry: Entry) {
        match refusal.code {
            Code::NodeUnavailable | Code::NodeTimeout => {
                tracing::debug!(witness = about, cause = %refusal, "a witness does not answer");
                return;
            }
            Code::Internal | Code::LogUnavailable => {
                tracing::error!(
                    witness = about,
                    cause = refusal.operator.as_deref().unwrap_or(&refusal.message),
                    "nothing is witnessed now"
                );
                return;
            }
            _ => {}
        }
        if !self.witnesses.told.anew(about, what, Instant::now()) {
            return;
        }
        let operator = refusal.operator.as_deref().unwrap_or_default();
        tracing::error!(witness = about, kind = what, cause = %refusal, operator, "a log is not witnessed: it is not what it was, or its witness is not");
        let entry = entry.field("code", refusal.code.as_str()).field("reason", refusal.message.as_str());
        if let Err(e) = self.log.append(entry).await {
            tracing::error!(cause = %e, "what a witness refused is not in the access log");
        }
    }

    /// Runs work on a disk.
    async fn aside<T: Send + 'static>(self: &Arc<Self>, work: impl FnOnce(&Self) -> T + Send + 'static) -> Result<T, Refusal> {
        let gateway = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&gateway)).await.map_err(Refusal::internal)
    }
}

/// Reads each checkpoint.
async fn publish(gateway: Arc<Gateway>, latest: watch::Sender<Option<Published>>) {
    let mut checkpoints = gateway.log.checkpoints();
    checkpoints.mark_changed();
    while checkpoints.changed().await.is_ok() {
        let text = Arc::clone(&checkpoints.borrow_and_update());
        match Published::parse(text) {
            Some(published) => drop(latest.send_replace(Some(published))),
            None => tracing::error!("the log's own checkpoint cannot be read"),
        }
    }
}

/// Holds a round for the latest checkpoint, and keeps what witnesses give: together what comes in time, by itself what comes late.
async fn hold_rounds(
    gateway: Arc<Gateway>,
    mut latest: watch::Receiver<Option<Published>>,
    rounds: watch::Sender<Option<Published>>,
    mut given: mpsc::Receiver<Given>,
    witnesses: usize,
) {
    let mut tally = Tally::default();
    loop {
        tokio::select! {
            changed = latest.changed() => if changed.is_err() { return },
            Some(late) = given.recv() => {
                gateway.keep(&mut tally, vec![late]).await;
                continue;
            }
        }
        let Some(round) = latest.borrow_and_update().clone() else { continue };
        rounds.send_replace(Some(round.clone()));
        let (end, mut of_round) = (tokio::time::Instant::now() + ROUND, Vec::new());
        while of_round.len() < witnesses {
            match tokio::time::timeout_at(end, given.recv()).await {
                Ok(Some(one)) if one.published.size == round.size => of_round.push(one),
                Ok(Some(late)) => gateway.keep(&mut tally, vec![late]).await,
                Ok(None) | Err(_) => break,
            }
        }
        gateway.keep(&mut tally, of_round).await;
        tokio::time::sleep_until(end).await;
    }
}

/// Waits for the next round, at most so long; `false` at the end.
async fn next(rounds: &mut watch::Receiver<Option<Published>>, longest: Duration) -> bool {
    !matches!(tokio::time::timeout(longest, rounds.changed()).await, Ok(Err(_)))
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|now| now.as_secs()).unwrap_or_default()
}
