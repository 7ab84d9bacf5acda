//! How agreements were used, by the gateway's log: answered queries by agreement, month and purpose. Who asked is not among it. And the
//! entries of the answers that are asked for, which say more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use concordat_audit::facts::{Asked, Facts};
use concordat_audit::note::VerifierKey;
use concordat_audit::quorum::Witnesses;
use concordat_audit::verify::{Request, verify};
use concordat_mission::publish::{Queries, Used};
use serde_json::Value;

use super::door::Doors;
use super::filter::Filter;
use super::online;
use super::read::{Archives, entries, text, time};
use crate::commands::publish::Answers;
use crate::failure::{Failure, Result};
use crate::out;

/// What ends a query that was answered.
const ANSWERED: &str = "query.closed";

/// By the log in a folder, as far as it is signed: its tree is verified first, and what it holds beyond counts nowhere. With it the
/// entries of the answers to `queries`, and how many entries are signed.
pub(crate) fn of_files(
    log: &Path,
    archives: &Archives,
    key: Option<&VerifierKey>,
    queries: &BTreeSet<&str>,
    now: DateTime<Utc>,
) -> Result<(Used, Answers, u64)> {
    let verified = signed(log, archives, key, now)?;
    let (mut asked, mut tally, mut answers) = (Asked::default(), Tally::default(), Answers::new());
    for entry in entries(log, archives, 0)? {
        let (index, mut entry) = entry?;
        if index >= verified.entries {
            break;
        }
        let facts = asked.complete(Facts::of(&entry));
        facts.fill(&mut entry);
        tally.add(&entry)?;
        if let Some(query) = text(&entry, "query_id").filter(|id| queries.contains(id) && text(&entry, "event") == Some(ANSWERED)) {
            answers.insert(query.to_owned(), (index.saturating_add(1), entry));
        }
    }
    let by = if verified.own_key { "verified by the key in its own folder" } else { "verified by the key that its operator published" };
    let entries = out::thousands(verified.entries);
    let by = format!("the log '{}' of {entries} entries, root {}, {by}", verified.origin, verified.root);
    Ok((tally.used(now, by), answers, verified.entries))
}

/// The key in a log's own folder.
pub(crate) fn own_key(log: &Path) -> Result<VerifierKey> {
    let path = log.join("log.vkey");
    let text = std::fs::read_to_string(&path).map_err(|e| Failure::file("read", &path, e))?;
    VerifierKey::parse(text.trim_end()).map_err(|e| Failure::file("understood", &path, e))
}

/// What a log was found to be.
struct Signed {
    origin: String,
    entries: u64,
    own_key: bool,
    /// The root of its tree, as the checkpoint has it.
    root: String,
}

fn signed(log: &Path, archives: &Archives, key: Option<&VerifierKey>, now: DateTime<Utc>) -> Result<Signed> {
    let (witnesses, seconds) = (Witnesses::none(), u64::try_from(now.timestamp()).unwrap_or_default());
    let request = Request { folder: log, archives: archives.folders(), key, against: None, witnesses: &witnesses, now: seconds };
    let bad = |what: String| {
        Failure::new(format!("the log in {} is not what was signed: {what}", log.display()))
            .advice("nothing is counted from it; `concordat audit verify` tells more. Of a program that runs, count from a copy")
    };
    // The checkpoint before and after: of a log that is being written, what was verified is at least the first.
    let read = || std::fs::read_to_string(log.join("checkpoint")).map_err(|e| Failure::file("read", &log.join("checkpoint"), e));
    let before = read()?;
    let report = verify(&request).map_err(|finding| bad(finding.what))?;
    let (size, root) = size_and_root(&before).ok_or_else(|| bad("its checkpoint has no size and root".into()))?;
    if report.entries < size {
        return Err(bad("it became shorter while it was read".into()));
    }
    let after = size_and_root(&read()?).filter(|(size, _)| *size == report.entries);
    let (entries, root) = after.unwrap_or((size, root));
    Ok(Signed { origin: report.origin, entries, own_key: report.own_key, root })
}

/// Of a checkpoint: its second and third line.
fn size_and_root(checkpoint: &str) -> Option<(u64, String)> {
    let mut lines = checkpoint.lines().skip(1);
    Some((lines.next()?.parse().ok()?, lines.next()?.to_owned()))
}

/// By the running gateway, asked as an auditor.
pub(crate) async fn of_gateway(folder: &Path, token_file: &Path, now: DateTime<Utc>) -> Result<Used> {
    let door = Doors::auditor(folder, token_file).gateway().await?;
    let listed = online::list(&door, &Filter::event(ANSWERED), u32::MAX).await?;
    if listed.more {
        return Err(Failure::new("the log has more answered queries than one listing tells").advice("name its folder with --log"));
    }
    // A history has snapshots, and each of them is an answer.
    if listed.entries.is_empty() {
        return Err(partly());
    }
    let mut tally = Tally::default();
    listed.entries.iter().try_for_each(|entry| tally.add(entry))?;
    Ok(tally.used(now, "what the running gateway listed for an auditor, which is not verified here".into()))
}

fn partly() -> Failure {
    Failure::new("this auditor is not shown every answer of the gateway's log, or not under which agreements it was given")
        .advice("the register needs an auditor of the whole log, or the log's folder (--log)")
}

#[derive(Default)]
struct Tally {
    from: Option<NaiveDate>,
    answered: BTreeMap<(String, NaiveDate, String), u64>,
}

impl Tally {
    /// Counts an entry, if it is of an answer.
    fn add(&mut self, entry: &Value) -> Result<()> {
        let Some(on) = time(entry).map(|time| time.date_naive()) else { return Ok(()) };
        self.from = Some(self.from.map_or(on, |from| from.min(on)));
        if text(entry, "event") != Some(ANSWERED) {
            return Ok(());
        }
        // Descriptions, catalogues and the like end so too, and read nothing.
        let Some(facts) = entry.get("facts").filter(|facts| facts.get("sources").is_some()) else { return Ok(()) };
        // A department's auditor is shown what concerns it, and the register would tell too little.
        if entry.get("whole").is_some_and(|whole| *whole == Value::Bool(false)) {
            return Err(partly());
        }
        let agreements = facts.get("agreements").and_then(Value::as_array).ok_or_else(partly)?;
        let purpose = text(entry, "purpose").unwrap_or("not stated");
        for agreement in agreements.iter().filter_map(Value::as_str) {
            let key = (agreement.to_owned(), on.with_day(1).unwrap_or(on), purpose.to_owned());
            let count = self.answered.entry(key).or_default();
            *count = count.saturating_add(1);
        }
        Ok(())
    }

    fn used(self, now: DateTime<Utc>, by: String) -> Used {
        let until = now.date_naive();
        let queries =
            self.answered.into_iter().map(|((agreement, month, purpose), answered)| Queries { agreement, month, purpose, answered });
        Used::Stated { from: self.from.unwrap_or(until), until, by, queries: queries.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_log_that_nobody_signed_is_not_counted() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tail"), "{\"event\":\"query.closed\"}\n").unwrap();
        assert!(of_files(folder.path(), &Archives::default(), None, &BTreeSet::new(), Utc::now()).is_err());
        assert!(own_key(folder.path()).is_err());
        assert_eq!(size_and_root("log/a\n12\nabc=\n\n— log/a sig\n"), Some((12, "abc=".into())));
        assert_eq!(size_and_root("log/a\nmany\n"), None);
    }

    #[test]
    fn answers_count_under_each_agreement_by_month_and_purpose() {
        let entry = |event: &str, on: &str, purpose: &str, agreements: &[&str]| {
            let facts = json!({ "sources": [], "agreements": agreements });
            json!({ "event": event, "time": format!("{on}T23:59:59Z"), "purpose": purpose, "facts": facts, "person": "p" })
        };
        let mut tally = Tally::default();
        for entry in [
            entry("query.opened", "2026-03-31", "p", &[]),
            entry(ANSWERED, "2026-04-30", "p", &["a", "b"]),
            entry(ANSWERED, "2026-04-01", "p", &["a"]),
            entry(ANSWERED, "2026-04-01", "p.q", &["a"]),
            entry(ANSWERED, "2026-05-01", "p", &["a"]),
            json!({ "event": "query.refused", "time": "2026-05-02T00:00:00Z", "purpose": "p" }),
            // A description, and a query that was detached.
            json!({ "event": ANSWERED, "time": "2026-05-02T00:00:00Z", "purpose": "p" }),
            json!({ "event": ANSWERED, "time": "2026-05-02T00:00:00Z", "purpose": "p", "facts": { "detached": "d" } }),
        ] {
            tally.add(&entry).unwrap();
        }
        let hidden = json!({ "event": ANSWERED, "time": "2026-05-02T00:00:00Z", "purpose": "p", "facts": { "sources": [] } });
        assert!(tally.add(&hidden).is_err(), "fail closed");
        let mut a_departments = entry(ANSWERED, "2026-05-02", "p", &["a"]);
        a_departments["whole"] = false.into();
        assert!(tally.add(&a_departments).is_err(), "others' answers are not among them");
        let Used::Stated { from, queries, .. } = tally.used(Utc::now(), "the log".into()) else { panic!() };
        let told: Vec<String> =
            queries.iter().map(|one| format!("{} {} {} {}", one.agreement, one.month, one.purpose, one.answered)).collect();
        assert_eq!(from.to_string(), "2026-03-31");
        assert_eq!(told, ["a 2026-04-01 p 2", "a 2026-04-01 p.q 1", "a 2026-05-01 p 1", "b 2026-04-01 p 1"]);
    }
}
