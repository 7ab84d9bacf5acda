//! Witnesses of this log that forgot what they had cosigned: their state was restored from a backup, or begun anew. Until such a one has
//! caught up it would cosign another history, so people are told until somebody has acknowledged it.

use std::sync::Arc;

use concordat_audit::Entry;
use concordat_audit::checkpoint::Checkpoint;
use concordat_audit::note::Note;
use concordat_audit::proof::verify_consistency;
use concordat_audit::witness::Newest;
use concordat_operate::readiness::Reason;
use concordat_policy::{Code, Refusal};

use super::tally::Who;
use super::{Given, Published, Witnesses, witness_of};
use crate::Gateway;

impl Who {
    /// The witness's name.
    fn name(&self) -> String {
        match self {
            Self::Department(department) => witness_of(department),
            Self::Outside(name) => name.clone(),
        }
    }
}

impl Witnesses {
    /// Keeps the newest cosignatures of one checkpoint. Blocks.
    pub(super) fn gave(&self, given: &[Given]) {
        let Some(published) = given.first().map(|first| &first.published) else { return };
        let lines: Vec<(String, String)> = given.iter().map(|one| (one.by.name(), one.line.clone())).collect();
        if let Err(e) = self.given.note(&published.text, published.size, &lines) {
            tracing::error!(cause = %e, "what witnesses gave cannot be kept in the folder of state: it may go unnoticed if one forgets it");
        }
    }

    /// How many entries the witness of a name has cosigned, as far as is known here; zero where nothing is. Blocks.
    pub(super) fn gave_at(&self, name: &str) -> u64 {
        match self.given.newest(name) {
            Ok(newest) => newest.map_or(0, |newest| newest.size),
            Err(e) => {
                tracing::error!(cause = %e, "what witnesses gave cannot be read: it may go unnoticed if one forgets it");
                0
            }
        }
    }

    /// What is wrong until somebody has acknowledged it. Blocks.
    pub(crate) fn forgotten(&self) -> Vec<Reason> {
        let forgotten = self.given.all().unwrap_or_default().into_iter();
        let reason = |(name, size): (String, u64)| Reason {
            what: "witness",
            cause: format!("the witness '{name}' forgot what it had cosigned of this log: it stood at {size} entries again"),
            remedy: match name.strip_prefix("concordat/").and_then(|name| name.strip_suffix("/witness")) {
                Some(department) => format!(
                    "ask the department which backup of its node's state/witness was restored; then accept that with `concordat-gateway \
                     acknowledge-log --department {department} --witness --config gateway.toml`"
                ),
                None => "ask its operator what was restored; then remove its entry from state/witness/given.json".into(),
            },
        };
        forgotten.filter_map(|(name, newest)| Some(reason((name, newest.forgot?)))).collect()
    }
}

impl Gateway {
    /// Tells of the witness `by` that knows `size` entries of the log, where it has cosigned more of it. One that was made to forget
    /// because this log itself went back is not told of. Only what the log tells of is marked as told: until then the witness is asked, and
    /// says where it stands, again.
    pub(super) async fn stands_at(self: &Arc<Self>, by: &Who, round: &Published, size: u64) -> Result<(), Refusal> {
        let mut telling = self.witnesses.telling.lock().await;
        let (name, round) = (by.name(), round.clone());
        let lost = self.aside(move |gateway| gateway.lost(&name, &round, size)).await?;
        let Some(lost) = lost.map_err(Refusal::internal)? else { return Ok(()) };
        let name = by.name();
        // Not again where it could not be marked.
        if telling.get(&name) != Some(&(lost.size, size)) {
            tracing::error!(
                witness = name,
                size.given = lost.size,
                size.known = size,
                "a witness forgot what it had cosigned of the access log"
            );
            let entry = Entry::new("witness.forgot").field("witness", name.as_str()).field("log", self.log.origin());
            let entry = entry.field("known_size", lost.size).field("size", size);
            let entry = if let Who::Department(department) = by { entry.field("department", department.as_str()) } else { entry };
            let unwritable =
                |e| Refusal::new(Code::LogUnavailable, "the access log cannot be written, so nothing is witnessed").operator(e);
            self.log.append(entry).await.map_err(unwritable)?;
            telling.insert(name.clone(), (lost.size, size));
        }
        let marked = name.clone();
        let marked = self.aside(move |gateway| gateway.witnesses.given.forgot(&marked, &lost, size)).await?;
        marked.map_err(Refusal::internal)?;
        telling.remove(&name);
        Ok(())
    }

    /// The cosignature that it forgot. Blocks.
    fn lost(&self, name: &str, round: &Published, size: u64) -> std::io::Result<Option<Newest>> {
        // A witness is asked one thing at a time: what is kept of it meanwhile, it gave before it said where it stands.
        let newest = self.witnesses.given.lost(name, size, None)?.filter(|newest| newest.size <= round.size);
        let Some((newest, given)) = newest.and_then(|newest| newest.checkpoint().map(|given| (newest, given))) else { return Ok(None) };
        let latest = Note::parse(round.text.as_bytes()).ok().and_then(|note| Checkpoint::parse(note.text()).ok());
        let Some(latest) = latest else { return Ok(None) };
        let continues = |proof: Vec<_>| verify_consistency(given.size, latest.size, &given.root, &latest.root, &proof).is_ok();
        Ok(self.log.consistency(given.size, latest.size).is_ok_and(continues).then_some(newest))
    }
}
