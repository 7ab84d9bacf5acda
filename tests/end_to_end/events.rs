//! The events of the access logs: what programs write is what the document says, by name, log and field; and what an administrator
//! replaces is among it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use concordat_policy::agreement::Fingerprint;
use serde_json::{Value, json};

use crate::sandbox::{Sandbox, until};

/// Last parts of names of files, which are no events.
const FILES: [&str; 10] = ["toml", "json", "sqlite", "secret", "key", "vkey", "pem", "cedarschema", "lock", "state"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The sources of a program, without their tests.
fn sources(program: &str) -> Vec<String> {
    let (mut folders, mut texts) = (vec![root().join(program).join("src")], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if name.ends_with(".rs") && !matches!(name.as_str(), "tests.rs" | "fixture.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let tests = text.lines().position(|line| line.trim_end().ends_with("mod tests {")).unwrap_or(usize::MAX);
                texts.push(text.lines().take(tests).filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n"));
            }
        }
    }
    assert!(texts.len() > 10, "{program}");
    texts
}

/// What stands in quotes after each `before`.
fn quoted<'t>(text: &'t str, before: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(before).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
}

/// Every text in quotes that is written like an event.
fn dotted(text: &str) -> impl Iterator<Item = &str> {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    text.lines().flat_map(|line| line.split('"').skip(1).step_by(2)).filter(move |name| name.contains('.') && name.split('.').all(part))
}

fn family(event: &str) -> &str {
    event.split('.').next().unwrap_or_default()
}

/// The events that programs write, with the programs: whatever is named like those of entries.
fn written() -> BTreeMap<String, BTreeSet<&'static str>> {
    let programs = ["gateway", "node", "audit"].map(|program| (program, sources(program)));
    let texts = || programs.iter().flat_map(|(program, texts)| texts.iter().map(move |text| (*program, text.as_str())));
    let makers = ["Entry::new(", "Self::new(", "Note::new(", "entry(", "refused(", "answer("];
    let made = texts().flat_map(|(_, text)| makers.into_iter().flat_map(move |maker| quoted(text, maker)));
    let families: BTreeSet<&str> = made.filter(|event| dotted(&format!("\"{event}\"")).next().is_some()).map(family).collect();
    let mut written: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
    for (program, text) in texts() {
        let events = dotted(text).filter(|event| families.contains(family(event)));
        for event in events.filter(|event| !event.rsplit('.').next().is_some_and(|last| FILES.contains(&last))) {
            written.entry(event.to_owned()).or_default().insert(program);
        }
    }
    written
}

/// The rows of the document: events, log, fields.
fn documented() -> Vec<(Vec<String>, String, Vec<String>)> {
    let text = std::fs::read_to_string(root().join("deploy/README.md")).unwrap();
    let (before, table) = text.split_once("\n| event | log | fields | what it says |\n|---|---|---|---|\n").unwrap();
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 4, "{line}");
        (names(cells[0]), cells[1].to_owned(), names(cells[2]))
    };
    // What every entry has, and every command, stands above the table.
    let above = before.rsplit("\n\n").next().unwrap();
    let common = (Vec::new(), String::new(), names(above));
    table.lines().take_while(|line| line.starts_with('|')).map(row).chain([common]).collect()
}

#[test]
fn every_event_and_field_of_the_logs_is_in_the_document_and_nothing_else() {
    let (written, documented) = (written(), documented());
    let rows = || documented.iter().flat_map(|(events, log, _)| events.iter().map(move |event| (event.clone(), log.as_str())));
    let told: BTreeSet<String> = rows().map(|(event, _)| event).collect();
    let known: BTreeSet<String> = written.keys().cloned().collect();
    assert!(known.len() > 50 && known.contains("query.closed") && known.contains("agreement.replaced"), "{known:?}");
    assert_eq!(told.difference(&known).collect::<Vec<_>>(), [""; 0], "told, and written by no program");
    assert_eq!(known.difference(&told).collect::<Vec<_>>(), [""; 0], "written, and in no row");
    let mut logs: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (event, log) in rows() {
        logs.entry(event).or_default().extend(if log == "both" { vec!["gateway", "node"] } else { vec![log] });
    }
    for (event, programs) in &written {
        // What only the log's own crate names, it writes for both; it also reads events that programs write.
        let own: BTreeSet<&str> = programs.iter().copied().filter(|program| *program != "audit").collect();
        let expected = if own.is_empty() { BTreeSet::from(["gateway", "node"]) } else { own };
        assert_eq!(logs[event], expected, "{event}");
    }

    let told: BTreeSet<&str> = documented.iter().flat_map(|(.., fields)| fields.iter().map(String::as_str)).collect();
    for program in ["gateway", "node", "audit"] {
        let texts = sources(program);
        for text in texts.iter().filter(|text| text.contains("Entry::new(") || text.contains("Note::new(") || text.contains("for Entry {"))
        {
            for field in quoted(text, ".field(") {
                assert!(told.contains(field), "the field '{field}' of {program} is in no row");
            }
        }
    }
}

fn write_over(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn of(sandbox: &Sandbox, log: &str, event: &str) -> Vec<Value> {
    sandbox.log(log).into_iter().filter(|entry| entry["event"] == event).collect()
}

/// Without what every entry has.
fn said(mut entry: Value) -> Value {
    let fields = entry.as_object_mut().unwrap();
    ["entry", "time", "event", "salt"].iter().for_each(|field| drop(fields.remove(*field)));
    entry
}

#[tokio::test]
async fn what_is_replaced_of_estate_purposes_and_pins_is_logged_without_its_text() {
    let sandbox = Sandbox::start(100).await;
    let (estate, node) = (sandbox.layout.estate(), sandbox.layout.node("dfe"));
    write_over(&estate.join("views/coverage.sql"), "-- title: ", "-- title: Another title. ");
    until("the view is replaced", || !of(&sandbox, "gateway", "estate.replaced").is_empty()).await;
    let told: Vec<Value> = of(&sandbox, "gateway", "estate.replaced").into_iter().map(said).collect();
    assert_eq!(told, [json!({ "what": "view", "name": "coverage", "was": true, "is": true })]);
    assert!(!sandbox.log_text("gateway").contains("Another title"));

    for (log, folder) in [("gateway", &estate), ("dfe", &node)] {
        let path = folder.join("purposes.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}\n[[purpose]]\nid = \"opportunity.more\"\ntitle = \"More\"\nparent = \"opportunity\"\n"))
            .unwrap();
        until("the purpose is there", || !of(&sandbox, log, "purpose.replaced").is_empty()).await;
        let told: Vec<Value> = of(&sandbox, log, "purpose.replaced").into_iter().map(said).collect();
        let expected = json!({
            "purpose": "opportunity.more", "was": false, "is": true, "parent_before": null, "parent": "opportunity",
            "retired_before": false, "retired": false, "other_title": false,
        });
        assert_eq!(told, [expected], "{log}");
    }

    let stranger = Fingerprint::of(b"another administrator's certificate");
    write_over(
        &node.join("node.toml"),
        "[administrators]\ncertificates = [",
        &format!("[administrators]\ncertificates = [\"{stranger}\", "),
    );
    until("the certificate is pinned", || !of(&sandbox, "dfe", "certificate.pinned").is_empty()).await;
    let told: Vec<Value> = of(&sandbox, "dfe", "certificate.pinned").into_iter().map(said).collect();
    assert_eq!(told, [json!({ "role": "administrator", "certificate": stranger.as_str() })]);
    write_over(&node.join("node.toml"), &format!("\"{stranger}\", "), "");
    until("it is pinned no longer", || !of(&sandbox, "dfe", "certificate.unpinned").is_empty()).await;
    assert_eq!(said(of(&sandbox, "dfe", "certificate.unpinned").remove(0))["certificate"], stranger.as_str());
}
