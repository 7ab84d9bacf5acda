//! Where each department's consent ledger stood when it was last used: the highest (generation, version) of a verified receipt,
//! kept in a file, so that neither a node's restored backup nor a restart of this gateway brings older consent back unnoticed.
//!
//! ```text
//! what was seen before the order  ≤  what the receipt says    else refused: `ledger.refused` in the log
//! a higher generation             →  the department acknowledged a restored backup: `ledger.restored` in the log, then used
//! ```
//!
//! Releases that overlap may state different versions, so a receipt is compared with what was seen when its order was placed.
//! Nothing is remembered from a `Description`, which nobody signs. A generation may rise by at most [`STEPS`] at once: a node
//! that was taken over cannot use them up.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use concordat_audit::{Entry, Log};
use concordat_policy::{Code, Name, Refusal};
use concordat_proto::receipt::Standing;

use super::nodes::faulty;
use crate::replace::replace;

/// The most acknowledgements of a department that this gateway may have missed.
const STEPS: u32 = 100;

/// The ledgers.
#[derive(Debug)]
pub(crate) struct Ledgers {
    path: PathBuf,
    log: Option<Log>,
    seen: Mutex<BTreeMap<Name, Standing>>,
    /// What was logged as refused last, so that a department that keeps showing it does not fill the log.
    refused: Mutex<BTreeMap<Name, Standing>>,
    /// Held while the file is written.
    turn: tokio::sync::Mutex<()>,
}

impl Ledgers {
    /// Reads what was seen, from `state`. Without a `log`, nothing may be noted.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged: to go on would accept any backup.
    pub(crate) fn open(state: &Path, log: Option<Log>) -> io::Result<Self> {
        let path = state.join("ledgers.json");
        let seen = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(e) => return Err(e),
        };
        Ok(Self { path, log, seen: Mutex::new(seen), refused: Mutex::default(), turn: tokio::sync::Mutex::default() })
    }

    /// Where a department's ledger was seen last.
    pub(crate) fn seen(&self, department: &Name) -> Standing {
        lock(&self.seen).get(department).copied().unwrap_or_default()
    }

    /// Whether a ledger may stand where it is `shown`, when it was `before` seen at the other.
    ///
    /// # Errors
    /// [`Code::NodeFaulty`], logged, when it may not.
    pub(crate) async fn check(&self, department: &Name, before: Standing, shown: Standing) -> Result<(), Refusal> {
        match judge(department, before, shown) {
            Ok(()) => Ok(()),
            Err(refusal) => {
                self.log_refused(department, before, shown).await?;
                Err(refusal)
            }
        }
    }

    /// Remembers where a ledger stands whose receipt was verified and checked, and returns when that is durable.
    ///
    /// # Errors
    /// [`Code::LogUnavailable`] or [`Code::Internal`] when it cannot be made durable.
    pub(super) async fn note(&self, department: &Name, shown: Standing, query_id: &str) -> Result<(), Refusal> {
        let _turn = self.turn.lock().await;
        let before = self.seen(department);
        if shown <= before {
            return Ok(());
        }
        if shown.generation > before.generation {
            tracing::warn!(department = department.as_str(), %before, now = %shown, "a department restored a backup of its consent ledger");
            self.append(entry("ledger.restored", department, before, shown).query(query_id)).await?;
        }
        let all = {
            let mut all = lock(&self.seen).clone();
            all.insert(department.clone(), shown);
            all
        };
        let bytes = serde_json::to_vec(&all).map_err(Refusal::internal)?;
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || replace(&path, &bytes))
            .await
            .map_err(Refusal::internal)?
            .map_err(|e| Refusal::internal(format!("where the departments' ledgers stand cannot be kept: {e}")))?;
        *lock(&self.seen) = all;
        Ok(())
    }

    async fn log_refused(&self, department: &Name, before: Standing, shown: Standing) -> Result<(), Refusal> {
        tracing::error!(department = department.as_str(), %before, %shown, "a department's consent ledger cannot be used");
        if lock(&self.refused).insert(department.clone(), shown) == Some(shown) {
            return Ok(());
        }
        self.append(entry("ledger.refused", department, before, shown)).await
    }

    async fn append(&self, entry: Entry) -> Result<(), Refusal> {
        let Some(log) = &self.log else { return Ok(()) };
        log.append(entry).await.map(drop).map_err(|e| {
            Refusal::new(Code::LogUnavailable, "the access log cannot be written, so nothing may leave")
                .advice("the gateway's operator must free or repair the log's disk")
                .operator(e)
        })
    }
}

fn entry(event: &'static str, department: &Name, before: Standing, shown: Standing) -> Entry {
    Entry::new(event)
        .field("department", department.as_str())
        .field("seen_generation", before.generation)
        .field("seen_version", before.version)
        .field("generation", shown.generation)
        .field("version", shown.version)
}

/// Pure: what is too old, and what rises too fast.
fn judge(department: &Name, before: Standing, shown: Standing) -> Result<(), Refusal> {
    let operator = format!("the ledger stands at {shown}; {before} was seen");
    if shown < before {
        return Err(faulty(department, "applied an older consent ledger than one that it used before: a backup was restored", operator)
            .advice(
                "the department's administrator must restore the newest ledger, or accept the loss with `concordat-node \
                 acknowledge-restore --config node.toml`",
            ));
    }
    if shown.generation - before.generation > STEPS {
        return Err(faulty(department, "claims that more backups of its consent ledger were restored than can be believed", operator)
            .advice("the gateway's operator must ask the department, and correct state/ledgers.json if it is so"));
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn at(generation: u32, version: u64) -> Standing {
        Standing { generation, version }
    }

    #[test]
    fn older_is_refused_newer_taken_and_leaps_are_not_believed() {
        let dfe = name("dfe");
        for (before, shown, taken) in [
            (at(0, 0), at(0, 0), true),
            (at(0, 7), at(0, 7), true),
            (at(0, 7), at(0, 8), true),
            (at(0, 7), at(0, 6), false),
            (at(0, 7), at(1, 3), true),
            (at(1, 3), at(0, 9), false),
            (at(1, 3), at(0, u64::MAX), false),
            (at(2, 3), at(2 + STEPS, 0), true),
            (at(2, 3), at(3 + STEPS, 3), false),
            (at(0, 0), at(u32::MAX, u64::MAX), false),
            (at(u32::MAX, 5), at(u32::MAX, 5), true),
        ] {
            let judged = judge(&dfe, before, shown);
            assert_eq!(judged.is_ok(), taken, "{before} then {shown}");
            if let Err(refusal) = judged {
                assert_eq!((refusal.code, refusal.department.as_deref()), (Code::NodeFaulty, Some("dfe")));
                assert!(refusal.advice.is_some());
            }
        }
    }

    #[tokio::test]
    async fn what_was_seen_outlives_a_restart_and_only_rises() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(&folder.path().join("log"), "concordat/gateway").unwrap();
        let ledgers = Ledgers::open(folder.path(), Some(log)).unwrap();
        for shown in [at(0, 5), at(0, 3), at(1, 2), at(0, 9)] {
            ledgers.note(&name("dfe"), shown, "q").await.unwrap();
        }
        ledgers.note(&name("dwp"), at(0, 4), "q").await.unwrap();
        let again = Ledgers::open(folder.path(), None).unwrap();
        for ledgers in [&ledgers, &again] {
            assert_eq!((ledgers.seen(&name("dfe")), ledgers.seen(&name("dwp"))), (at(1, 2), at(0, 4)));
            assert_eq!(ledgers.seen(&name("dbt")), at(0, 0));
        }
        for _ in 0..3 {
            assert!(ledgers.check(&name("dfe"), at(1, 2), at(0, 9)).await.is_err());
        }
        let entries = concordat_audit::read(&folder.path().join("log"), 0).unwrap();
        let entries: Vec<String> = entries.map(|entry| String::from_utf8(entry.unwrap().1).unwrap()).collect();
        let of = |event: &str| entries.iter().filter(|entry| entry.contains(event)).count();
        assert_eq!((of("ledger.restored"), of("ledger.refused")), (1, 1), "{entries:?}");
    }

    #[tokio::test]
    async fn a_damaged_file_is_not_passed_over_and_an_unwritable_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ledgers.json"), "{\"dfe\":{\"generation\":1}}").unwrap();
        assert!(Ledgers::open(folder.path(), None).is_err());
        let nowhere = Ledgers::open(&folder.path().join("absent"), None).unwrap();
        assert!(nowhere.note(&name("dfe"), at(0, 1), "q").await.is_err());
        assert_eq!(nowhere.seen(&name("dfe")), at(0, 0));
    }
}
