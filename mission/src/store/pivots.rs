//! Pivots beside the snapshots: a chain of their own, each tied to the history as it stood.
//!
//! ```text
//! digest(0) = SHA-256("concordat.pivots/v1\n")
//! digest(n) = SHA-256("concordat.pivot/v1\n" ‖ digest(n-1) ‖ n (8 bytes, little-endian)
//!                     ‖ length ‖ what was decided, as JSON ‖ length ‖ how far the history went, as JSON)
//! ```
//!
//! A pivot also tells of the history: where that was cut or made anew below what a pivot saw, this is found.

use rusqlite::{Connection, TransactionBehavior, params};
use sha2::{Digest as _, Sha256};

use super::{Head, SqliteStore, StoreError, beginning};
use crate::pivot::{Decided, Pivot, Pivots};
use crate::snapshot::{Snapshot, hex};

pub(super) const TABLES: &str = "
    CREATE TABLE pivot (number INTEGER PRIMARY KEY, decided TEXT NOT NULL, history TEXT NOT NULL, digest TEXT NOT NULL) STRICT;
    CREATE TRIGGER pivot_stays BEFORE UPDATE ON pivot BEGIN SELECT RAISE(ABORT, 'history is never changed'); END;
    CREATE TRIGGER pivot_is_kept BEFORE DELETE ON pivot BEGIN SELECT RAISE(ABORT, 'history is never changed'); END;";

impl Pivots for SqliteStore {
    fn pivots(&self) -> Result<Vec<Pivot>, StoreError> {
        // Both tables as of one moment.
        let reading = self.connection.unchecked_transaction().map_err(|e| self.failed("read", &e))?;
        let snapshots = self.verified(&reading)?;
        self.verified_pivots(&reading, &snapshots)
    }

    fn pivot(&mut self, decided: Decided) -> Result<Pivot, StoreError> {
        said(&decided)?;
        let failed = |e: rusqlite::Error| StoreError::File { path: self.path.clone(), verb: "written", cause: e.to_string() };
        // Nobody adds between reading and writing. It is rolled back where it is dropped.
        let writing = rusqlite::Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate).map_err(failed)?;
        let snapshots = self.verified(&writing)?;
        let before = self.verified_pivots(&writing, &snapshots)?;
        for number in &decided.snapshots {
            match snapshots.iter().find(|one| one.number == *number) {
                Some(one) if one.taken.mission == decided.mission => {}
                Some(_) => return Err(StoreError::Pivot("a snapshot that is named is of another mission")),
                None => return Err(StoreError::Unknown(*number)),
            }
        }
        let history = snapshots.last().map_or_else(empty, |last| Head { number: last.number, digest: last.digest.clone() });
        let previous = before.last().map_or_else(first, |last| last.digest.clone());
        let number = before.len() as u64 + 1;
        let cause = |cause: String| StoreError::File { path: self.path.clone(), verb: "written", cause };
        let text = serde_json::to_string(&decided).map_err(|e| cause(e.to_string()))?;
        let seen = serde_json::to_string(&history).map_err(|e| cause(e.to_string()))?;
        let digest = digest(&previous, number, &text, &seen);
        let key = i64::try_from(number).map_err(|e| cause(e.to_string()))?;
        let sql = "INSERT INTO pivot (number, decided, history, digest) VALUES (?1, ?2, ?3, ?4)";
        writing.execute(sql, params![key, text, seen, digest]).map_err(failed)?;
        writing.commit().map_err(failed)?;
        Ok(Pivot { number, decided, history, previous, digest })
    }
}

impl SqliteStore {
    fn verified_pivots(&self, connection: &Connection, snapshots: &[Snapshot]) -> Result<Vec<Pivot>, StoreError> {
        let failed = |e| self.failed("read", &e);
        let mut statement = connection.prepare("SELECT number, decided, history, digest FROM pivot ORDER BY number").map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut pivots: Vec<Pivot> = Vec::new();
        let mut previous = first();
        while let Some(row) = rows.next().map_err(failed)? {
            let expected = pivots.len() as u64 + 1;
            let number: i64 = row.get(0).map_err(failed)?;
            if u64::try_from(number) != Ok(expected) {
                return Err(self.changed(format!("after pivot {} comes number {number}", expected - 1)));
            }
            let kinds = || self.changed(format!("pivot {number} does not consist of what pivots do"));
            let text: String = row.get(1).map_err(|_| kinds())?;
            let seen: String = row.get(2).map_err(|_| kinds())?;
            let stated: String = row.get(3).map_err(|_| kinds())?;
            let digest = digest(&previous, expected, &text, &seen);
            if digest != stated {
                return Err(self.changed(format!("pivot {number}, or one before it, is not what its digest says")));
            }
            let decided = serde_json::from_str(&text).map_err(|_| kinds())?;
            let history: Head = serde_json::from_str(&seen).map_err(|_| kinds())?;
            let is_head = |one: &Snapshot| one.number == history.number && one.digest == history.digest;
            if history != empty() && !snapshots.iter().any(is_head) {
                return Err(self.changed(format!("pivot {number} saw snapshot {}, which is gone or another one", history.number)));
            }
            pivots.push(Pivot { number: expected, decided, history, previous: std::mem::replace(&mut previous, digest.clone()), digest });
        }
        Ok(pivots)
    }
}

/// That nothing is left unsaid.
fn said(decided: &Decided) -> Result<(), StoreError> {
    if decided.because.trim().is_empty() {
        return Err(StoreError::Pivot("why is not said"));
    }
    if decided.by.trim().is_empty() {
        return Err(StoreError::Pivot("who decided is not said"));
    }
    Ok(())
}

fn empty() -> Head {
    Head { number: 0, digest: beginning() }
}

fn first() -> String {
    hex(&Sha256::digest("concordat.pivots/v1\n"))
}

fn digest(previous: &str, number: u64, decided: &str, history: &str) -> String {
    let mut whole = Sha256::new_with_prefix("concordat.pivot/v1\n");
    whole.update(previous);
    whole.update(number.to_le_bytes());
    for part in [decided, history] {
        whole.update((part.len() as u64).to_le_bytes());
        whole.update(part);
    }
    hex(&whole.finalize())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use concordat_policy::Name;
    use serde_json::json;

    use super::*;
    use crate::pivot::What;
    use crate::snapshot::Taken;
    use crate::store::Snapshots as _;
    use crate::testing::{day, snapshot};

    fn decided(snapshots: &[u64]) -> Decided {
        Decided {
            mission: Name::parse("m").unwrap(),
            output: Name::parse("visits").unwrap(),
            what: What::Stopped,
            on: day("2026-07-01"),
            recorded_at: "2026-06-20T09:00:00Z".parse().unwrap(),
            by: "unit".into(),
            because: "it moved nothing".into(),
            snapshots: snapshots.to_vec(),
            comparison: json!({ "effect": -0.01, "interval": { "low": -0.03, "high": 0.01 } }),
        }
    }

    /// Two snapshots, a pivot, a third snapshot, a second pivot.
    fn filled() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let mut store = SqliteStore::open(&path).unwrap();
        let add = |store: &mut SqliteStore, on: &str| {
            store.add(Taken { period: None, ..snapshot(1, on, None, 0.5).taken }, b"answer").unwrap();
        };
        add(&mut store, "2026-04-02");
        add(&mut store, "2026-05-02");
        store.pivot(decided(&[1, 2])).unwrap();
        add(&mut store, "2026-06-02");
        store.pivot(Decided { what: What::Changed, ..decided(&[3]) }).unwrap();
        (folder, path)
    }

    #[test]
    fn evidence_is_read_as_it_stood() {
        let (_folder, path) = filled();
        let store = SqliteStore::read(&path).unwrap().unwrap();
        let (pivots, snapshots) = (store.pivots().unwrap(), store.all().unwrap());
        assert_eq!(pivots[0].decided, decided(&[1, 2]));
        assert_eq!(pivots.iter().map(|one| one.history.number).collect::<Vec<_>>(), [2, 3], "as far as the history went then");
        assert_eq!(pivots[0].history.digest, snapshots[1].digest);
        assert_eq!(pivots[1].previous, pivots[0].digest);
        let mut none = SqliteStore::open(&path.with_file_name("empty")).unwrap();
        assert!(none.pivots().unwrap().is_empty());
        assert_eq!(none.pivot(decided(&[])).unwrap().history, empty());
        assert_eq!(none.pivots().unwrap().len(), 1);
    }

    #[test]
    fn what_is_unsaid_or_unknown_is_refused_and_nothing_is_kept() {
        let (_folder, path) = filled();
        let mut store = SqliteStore::open(&path).unwrap();
        let elsewhere = Decided { mission: Name::parse("other").unwrap(), ..decided(&[1]) };
        for (wrong, says) in [
            (Decided { because: " ".into(), ..decided(&[1]) }, "why is not said"),
            (Decided { by: String::new(), ..decided(&[1]) }, "who decided is not said"),
            (decided(&[1, 9]), "no snapshot 9"),
            (elsewhere, "of another mission"),
        ] {
            let refused = store.pivot(wrong).unwrap_err().to_string();
            assert!(refused.contains(says), "{refused}");
        }
        assert_eq!(store.pivots().unwrap().len(), 2);
    }

    #[test]
    fn whoever_changes_a_pivot_or_what_it_saw_is_found_out() {
        for (sql, says) in [
            ("UPDATE pivot SET decided = replace(decided, 'nothing', 'much') WHERE number = 1", "pivot 1"),
            ("UPDATE pivot SET history = '{}' WHERE number = 2", "pivot 2"),
            ("DELETE FROM pivot WHERE number = 1", "after pivot 0 comes number 2"),
            ("UPDATE pivot SET digest = (SELECT digest FROM pivot WHERE number = 1) WHERE number = 2", "pivot 2"),
            // The newest snapshot is cut off, which the snapshots alone do not tell.
            ("DELETE FROM snapshot WHERE number = 3", "pivot 2 saw snapshot 3"),
        ] {
            let (_folder, path) = filled();
            let connection = Connection::open(&path).unwrap();
            let refused = connection.execute(sql, []).unwrap_err().to_string();
            assert!(refused.contains("never changed"), "the file refuses it by itself: {refused}");
            connection.execute_batch("DROP TRIGGER pivot_stays; DROP TRIGGER pivot_is_kept; DROP TRIGGER snapshot_is_kept;").unwrap();
            assert_eq!(connection.execute(sql, []).unwrap(), 1, "{sql}");
            let mut store = SqliteStore::open(&path).unwrap();
            for found in [store.pivots().map(drop), store.pivot(decided(&[1])).map(drop)] {
                let found = found.unwrap_err();
                assert!(matches!(&found, StoreError::Changed { what, .. } if what.contains(says)), "{sql}: {found}");
            }
        }
    }
}
