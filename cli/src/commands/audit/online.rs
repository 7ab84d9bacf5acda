//! Logs read from their running programs: what they hand out, in the form in which files are read.

use std::collections::{BTreeSet, VecDeque};

use concordat_audit::facts::{Asker, Facts};
use concordat_policy::Code;
use concordat_proto::v1::{LogEntry, LogFilter, LogListRequest, LogTailRequest};
use serde_json::Value;

use super::door::Doors;
use super::filter::Filter;
use super::form::{Form, printed};
use super::inert::inert;
use crate::client::LogDoor;
use crate::failure::{Failure, LOCAL, Result, UNREACHABLE, USAGE};
use crate::out;

/// The most entries of one answer.
const PAGE: u32 = 1_000;

/// Entries that were listed.
pub(super) struct Listed {
    /// In the log's order.
    pub(super) entries: Vec<Value>,
    /// Whether earlier ones are left out.
    pub(super) more: bool,
    /// The last entry that the program looked at.
    pub(super) number: u64,
}

/// The last `limit` entries that the filter takes, page by page.
pub(super) async fn list(door: &LogDoor, filter: &Filter, limit: u32) -> Result<Listed> {
    let filter = LogFilter::of(filter.asked().texts());
    let mut listed = Listed { entries: Vec::new(), more: false, number: 0 };
    let (mut before, mut left) = (0, limit);
    loop {
        let asked = LogListRequest { filter: Some(filter.clone()), before, limit: left.clamp(1, PAGE) };
        let page = door.list(asked).await?;
        if before == 0 {
            listed.number = page.number;
            archived(door, page.archived);
        }
        if left > 0 {
            listed.entries.extend(page.entries.into_iter().map(value).collect::<Result<Vec<_>>>()?);
            left = limit.saturating_sub(u32::try_from(listed.entries.len()).unwrap_or(u32::MAX));
        }
        // Only what comes before another page ends there.
        if page.before == 0 || left == 0 || (before != 0 && page.before >= before) {
            listed.more = page.before != 0;
            break;
        }
        before = page.before;
    }
    listed.entries.reverse();
    Ok(listed)
}

/// Prints entries as they come, from after `number` on, until somebody interrupts or nobody reads.
pub(super) async fn follow(doors: &Doors, at: Option<&str>, filter: &Filter, (form, mut number): (Form, u64)) -> Result<()> {
    let filter = LogFilter::of(filter.asked().texts());
    loop {
        // Anew each time: a token may have expired meanwhile.
        let door = doors.one(at).await?;
        let mut coming = door.tail(LogTailRequest { filter: Some(filter.clone()), after: Some(number) }).await?;
        let before = number;
        let (mut heard, mut told) = (false, false);
        while let Some(some) = coming.message().await.map_err(|e| door.failed(&e))? {
            (heard, number) = (true, some.number.max(number));
            if some.archived > before && !std::mem::replace(&mut told, true) {
                archived(&door, some.archived);
            }
            let entries = some.entries.into_iter().map(value).collect::<Result<Vec<_>>>()?;
            if !entries.is_empty() && !out::more(&printed(form, form == Form::Table, &entries))? {
                return Ok(());
            }
        }
        // A program that stops ends what it hands on, and so does the end of its time.
        if !heard || number < before {
            return Err(Failure { exit: UNREACHABLE, ..Failure::new(format!("{} ended without a word", door.name())) });
        }
        out::progress(&format!("{} ended the stream; going on after entry {number}", door.name()));
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}

/// What each side says of a query.
#[derive(Default)]
pub(super) struct Timeline {
    pub(super) entries: Vec<(String, Value)>,
    /// Whose log could not be read, and why.
    unread: Vec<Unread>,
    /// Departments that the gateway names, whose nodes nothing says how to reach.
    pub(super) unknown: BTreeSet<String>,
}

/// A log that could not be read.
struct Unread {
    who: String,
    cause: String,
    /// What to do where asking again changes nothing: what was refused for good, or what this machine lacks.
    remedy: Option<String>,
}

impl Unread {
    fn new(who: &str, failure: &Failure) -> Self {
        let refused = matches!(
            failure.code,
            Some(Code::Unauthenticated | Code::Denied | Code::Invalid | Code::NotOffered | Code::Outdated | Code::NodeRefused)
        );
        let for_good = refused || failure.exit == LOCAL || failure.exit == USAGE;
        let remedy = || failure.advice.as_deref().map_or_else(|| "ask who runs it what is the matter".to_owned(), inert);
        Self { who: who.to_owned(), cause: inert(&failure.message), remedy: for_good.then(remedy) }
    }
}

/// Asks the gateway and every node that can be asked.
pub(super) async fn timeline(doors: &Doors, query_id: &str) -> Result<Timeline> {
    let (mut timeline, nodes) = (Timeline::default(), doors.nodes()?);
    let gateway = doors.gateway().await;
    timeline.add("gateway", gateway, query_id).await;
    for node in &nodes {
        timeline.add(&node.department, LogDoor::node(node).await, query_id).await;
    }
    if timeline.entries.is_empty()
        && let [Unread { who, cause, .. }, ..] = timeline.unread.as_slice()
    {
        return Err(Failure { exit: UNREACHABLE, ..Failure::new(format!("no log could be read; {who}: {cause}")) }
            .advice("read the folders of the logs with --log and --node, or ask who runs the programs"));
    }
    let known: BTreeSet<&str> = nodes.iter().map(|node| node.department.as_str()).collect();
    let sources = timeline.entries.iter().filter(|(who, _)| who == "gateway").map(|(_, entry)| Facts::of(entry).departments);
    let named: BTreeSet<String> = sources.flat_map(|names| names.iter().map(str::to_owned).collect::<Vec<_>>()).collect();
    timeline.unknown = named.into_iter().filter(|department| !known.contains(department.as_str())).collect();
    Ok(timeline)
}

impl Timeline {
    async fn add(&mut self, who: &str, door: Result<LogDoor>, query_id: &str) {
        let asked = async {
            let door = door?;
            let (mut before, mut entries) = (0, VecDeque::new());
            loop {
                let told = door.query(query_id, before).await?;
                if before == 0 {
                    archived(&door, told.archived);
                }
                let first = told.entries.first().map_or(0, |first| first.number);
                // An older program knows of no earlier pages, and hands out the same one again.
                if before != 0 && first >= before {
                    out::progress(&format!("{who}: earlier entries of this query are left out; `audit list --query-id` has all"));
                    break;
                }
                for entry in told.entries.into_iter().rev() {
                    entries.push_front(value(entry)?);
                }
                if !told.more || first == 0 {
                    break;
                }
                before = first;
            }
            Ok::<_, Failure>(entries)
        };
        match asked.await {
            Ok(entries) => self.entries.extend(entries.into_iter().map(|entry| (who.to_owned(), entry))),
            Err(failure) => self.unread.push(Unread::new(who, &failure)),
        }
    }

    /// Whose log could not be read, and why.
    pub(super) fn unread(&self) -> Vec<(String, String)> {
        self.unread.iter().map(|Unread { who, cause, .. }| (who.clone(), cause.clone())).collect()
    }

    /// Says what is missing; fails where a log that should have been read was not.
    pub(super) fn complete(&self) -> Result<()> {
        for department in &self.unknown {
            out::progress(&format!("{}: its node's log is not read: no [[node]] of client.toml says how it is reached", inert(department)));
        }
        let unread: Vec<String> = self.unread().iter().map(|(who, cause)| format!("{who}: {cause}")).collect();
        if unread.is_empty() {
            return Ok(());
        }
        Err(Failure { exit: UNREACHABLE, ..Failure::new(format!("the timeline lacks what could not be read; {}", unread.join("; "))) }
            .advice(self.advice()))
    }

    /// By cause: who is away may answer later, who refused will not.
    fn advice(&self) -> String {
        let away: Vec<&str> = self.unread.iter().filter(|unread| unread.remedy.is_none()).map(|unread| unread.who.as_str()).collect();
        let again = (!away.is_empty()).then(|| format!("try again when there is an answer of: {}", away.join(", ")));
        let remedies = self.unread.iter().filter_map(|Unread { who, remedy, .. }| Some(format!("{who}: {}", remedy.as_ref()?)));
        let all: Vec<String> = again.into_iter().chain(remedies).collect();
        format!("{}; what was printed is what the others say", all.join("; "))
    }
}

/// The entry as files have it: with who asked, where another entry of its query says it, and that something is hidden, where it is.
fn value(told: LogEntry) -> Result<Value> {
    let mut entry = serde_json::from_slice::<Value>(&told.entry)
        .ok()
        .filter(Value::is_object)
        .ok_or_else(|| Failure::new(format!("entry {} that was handed out is not what a log writes", told.number)))?;
    let some = |text: String| (!text.is_empty()).then_some(text);
    let asker = Asker { organisation: some(told.organisation), person: some(told.person), purpose: some(told.purpose) };
    Facts { asker, ..Facts::default() }.fill(&mut entry);
    if let (false, Some(fields)) = (told.whole, entry.as_object_mut()) {
        fields.insert("whole".into(), false.into());
    }
    Ok(entry)
}

fn archived(door: &LogDoor, count: u64) {
    if count > 0 {
        let (who, moved) = (door.name(), out::thousands(count));
        out::progress(&format!(
            "the first {moved} entries of the log of {who} are left out; its program says that they were moved to an archive: read \
             the folder with --log and --archive"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_entry_says_who_asked_and_whether_something_is_hidden() {
        let told = |entry: &str, whole| LogEntry {
            number: 7,
            entry: entry.as_bytes().to_vec(),
            whole,
            organisation: "unit".into(),
            person: String::new(),
            purpose: "p".into(),
        };
        let entry = r#"{"entry":7,"purpose":"own"}"#;
        assert_eq!(value(told(entry, true)).unwrap(), json!({ "entry": 7, "purpose": "own", "organisation": "unit" }));
        assert_eq!(value(told(entry, false)).unwrap()["whole"], json!(false));
        assert!(value(told("7", true)).is_err() && value(told("", true)).is_err());
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut timeline = Timeline::default();
        assert!(timeline.complete().is_ok());
        let away = Failure { exit: UNREACHABLE, ..Failure::new("it cannot be reached") };
        timeline.unread.push(Unread::new("dwp", &away));
        let failure = timeline.complete().unwrap_err();
        assert!(failure.exit == UNREACHABLE && failure.message.contains("dwp: it cannot be reached"), "{failure:?}");
        let told = "try again when there is an answer of: dwp; what was printed is what the others say";
        assert_eq!(failure.advice.as_deref(), Some(told));
        // Who denies is not asked again.
        let denied = Failure {
            code: Some(Code::Unauthenticated),
            exit: 10,
            ..Failure::new("you may not").advice("have your\u{7} certificate pinned")
        };
        timeline.unread.push(Unread::new("dfe", &denied));
        let advice = timeline.complete().unwrap_err().advice.unwrap();
        assert!(advice.starts_with("try again when there is an answer of: dwp; dfe: have your") && !advice.contains('\u{7}'), "{advice}");
        timeline.unread.remove(0);
        let advice = timeline.complete().unwrap_err().advice.unwrap();
        assert!(!advice.contains("try again"), "{advice}");
    }
}
