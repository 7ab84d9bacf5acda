//! A site of generated snapshots: no number in it is of anybody.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use serde_json::{Value, json};

use super::figure::{Round, Scale, day as in_words, percent, whole};
use super::*;
use crate::mission::Mission;
use crate::snapshot::Snapshot;
use crate::status::{MARGIN, TREND, status};
use crate::testing::day;

/// What a title, key or reason may be.
const HOSTILE: &str = "<script>alert(1)</script> \\\" onload=x '&amp; javascript:alert(1)";
const FORMULA: &str = "=HYPERLINK(0)";
/// Stands in withheld cells and in a superseded snapshot: nothing of it may be told.
const SECRET: f64 = 0.987_654_321;
const REASON: &str = "withheld: fewer than 10 distinct subjects, or it could be worked out from its neighbours";

fn mission() -> Mission {
    let outcome = |id: &str, title: &str, kind: &str, path: &str| {
        format!(
            "[[outcome]]\nid = \"{id}\"\ntitle = \"{title}\"\ndescription = \"What it is.\"\npurpose = \"m.measure\"\nview = \"v\"\ncolumn = \"share\"\n\
             {kind}\nrow = {{ total = 1 }}\nunit = \"-persons\"\n{path}\nlead = \"a\"\ncontributing = [\"b\"]\nevery = \"month\"\n\
             [[outcome.breakdown]]\ntitle = \"By region\"\nby = [\"region\"]\nrow = {{ total = 0 }}\n"
        )
    };
    let down = "direction = \"down\"\nbaseline = { value = 0.5, on = \"2026-04-01\" }\ntarget = { value = 0.4, on = \"2028-12-26\" }\n\
                milestones = [{ title = \"half way\", value = 0.45, on = \"2027-08-14\" }]";
    let up = "direction = \"up\"\nbaseline = { value = 1200, on = \"2026-04-01\" }\ntarget = { value = 90000, on = \"2028-12-26\" }";
    let text = [
        format!(
            "mission = \"m\"\ntitle = \"{HOSTILE}\"\ngoal = \"{HOSTILE}\"\nowner = \"unit\"\nidentity = \"mission-m\"\nstarts = \"2026-04-01\"\n\
             ends = \"2029-03-31\"\n"
        ),
        outcome("fewer", HOSTILE, "kind = \"share\"\ncounted = \"persons\"", down),
        outcome("more", FORMULA, "kind = \"count\"", up),
        outcome("none", "Nothing measured yet", "kind = \"share\"\ncounted = \"persons\"", down),
        format!(
            "[[output]]\nid = \"visits\"\ntitle = \"Visits\"\nactivity = \"{HOSTILE}\"\nowner = \"a\"\noutcomes = [\"fewer\"]\nstatus = \"running\"\n\
             since = \"2026-05-01\"\ncounts = [{{ what = \"calls\", value = 120, on = \"2026-06-30\" }}]\n"
        ),
    ];
    Mission::parse(&text.join("\n")).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// A snapshot of a month's second day: the headline, and three regions, the third withheld.
fn snapshot(number: u64, outcome: &str, month: &str, value: Option<f64>) -> Snapshot {
    let start: NaiveDate = day(&format!("{month}-01"));
    let at = start.succ_opt().unwrap().and_hms_opt(12, 0, 0).unwrap().and_utc();
    let cell = |value: Option<f64>| match value {
        Some(value) => json!({ "value": value, "status": "rounded" }),
        None => json!({ "value": SECRET, "status": REASON }),
    };
    let row = |region: Value, total: u8, persons: u64, value: Option<f64>| json!([{ "value": region }, { "value": total }, { "value": persons, "status": "rounded" }, cell(value)]);
    let subjects = json!({ "rounded_to": 10, "delivered": 4_310, "matched": 2_980, "withheld": 240, "invalid_identifiers": null, "considered": 4_550 });
    let taken = json!({
        "mission": "m", "outcome": outcome, "period": start, "taken_at": at,
        "asked_by": { "issuer": "i", "subject": "mission-m", "organisation": "unit" },
        "definition": "d", "view": "v",
        "aim": {
            "every": "month", "from": "2026-04-01", "ends": "2029-03-31", "standing": [], "direction": if outcome == "more" { "up" } else { "down" },
            "baseline": { "value": if outcome == "more" { 1200.0 } else { 0.5 }, "on": "2026-04-01" },
            "target": { "value": if outcome == "more" { 90_000.0 } else { 0.4 }, "on": "2028-12-26" },
        },
        "stated": {
            "query_id": format!("q-{number}"), "purpose": "m.measure", "log_entry": 7_000 + number, "agreement_digests": { "draft": "d16e57" },
            "precision": { "round_to": 5 }, "minimum_subjects": 10, "rules": [HOSTILE], "consent": [],
            "promise": { "version": "concordat.promise/v2", "of": number },
            "sources": [
                { "department": "a", "dataset": "people", "freshness": at.timestamp(), "consent_version": 31, "counts": { "subjects": subjects } },
                { "department": "b", "dataset": "homes", "freshness": at.timestamp(), "consent_version": 32, "counts": { "not_told": HOSTILE } },
            ],
        },
        "columns": [
            { "name": "region", "protected": false }, { "name": "total", "protected": false },
            { "name": "persons", "protected": true }, { "name": "share", "protected": true },
        ],
        "rows": [
            row(Value::Null, 1, 3_000, value), row(json!(FORMULA), 0, 1_000, value.map(|value| value * 1.25)),
            row(json!(HOSTILE), 0, 1_500, value.map(|value| value * 0.5)), row(json!("South"), 0, 500, None),
        ],
        "supersedes": null, "because": null,
    });
    let digest = format!("{number:064x}");
    Snapshot { number, taken: serde_json::from_value(taken).unwrap(), previous: format!("{:064x}", number - 1), digest }
}

fn snapshots() -> Vec<Snapshot> {
    let mut all = vec![
        snapshot(1, "fewer", "2026-04", Some(0.498)),
        snapshot(2, "fewer", "2026-05", Some(0.495)),
        // May's was wrong.
        Snapshot { number: 3, ..snapshot(3, "fewer", "2026-05", Some(0.491)) },
        snapshot(4, "fewer", "2026-06", None),
        snapshot(5, "fewer", "2026-07", Some(0.489)),
        // Nobody took August's.
        snapshot(6, "fewer", "2026-09", Some(0.482)),
        snapshot(7, "fewer", "2026-10", Some(0.477)),
        snapshot(8, "more", "2026-09", Some(4_320.0)),
        snapshot(9, "more", "2026-10", Some(12_345.0)),
    ];
    for row in &mut all[1].taken.rows {
        row[3].value = json!(SECRET);
    }
    (all[2].taken.supersedes, all[2].taken.because) = (Some(2), Some(HOSTILE.into()));
    all
}

fn agreement() -> Agreement {
    Agreement::parse(concordat_policy::agreement::DRAFT).unwrap_or_else(|problems| panic!("{problems:?}"))
}

struct World {
    mission: Mission,
    snapshots: Vec<Snapshot>,
    pivots: Vec<Pivot>,
    agreement: Agreement,
}

/// Mission `m`'s visits were stopped, which its file does not say; and another mission's output.
fn pivots() -> Vec<Pivot> {
    let pivot = |number: u64, mission: &str| {
        let decided = json!({
            "mission": mission, "output": "visits", "what": "stopped", "on": "2026-10-01", "recorded_at": "2026-09-20T09:00:00Z",
            "by": "unit", "because": HOSTILE, "snapshots": [1, 3], "comparison": { "finding": "not_to_be_trusted", "says": "by 0.98765" },
        });
        let history = Head { number: 6, digest: String::new() };
        Pivot { number, decided: serde_json::from_value(decided).unwrap(), history, previous: String::new(), digest: String::new() }
    };
    vec![pivot(1, "m"), pivot(2, "n")]
}

const TODAY: &str = "2026-10-20";

impl World {
    fn new() -> Self {
        Self { mission: mission(), snapshots: snapshots(), pivots: pivots(), agreement: agreement() }
    }

    fn publication(&self) -> Publication<'_> {
        let of = |outcome| status(&self.mission, outcome, "d", &self.snapshots, day(TODAY));
        let name = |text: &str| Name::parse(text).unwrap();
        let used = |month: &str, answered| Queries {
            agreement: self.agreement.id.to_string(),
            purpose: "m.measure".into(),
            month: day(month),
            answered,
        };
        Publication {
            on: day(TODAY),
            note: Some(format!("Generated people: no figure is of anybody. {HOSTILE}")),
            missions: vec![Published {
                mission: &self.mission,
                snapshots: &self.snapshots,
                pivots: &self.pivots,
                statuses: self.mission.outcomes.iter().map(of).collect(),
            }],
            departments: [(name("a"), format!("Department {HOSTILE}")), (name("b"), "Department B".into())].into(),
            anew: None,
            head: Head { number: 9, digest: self.snapshots[8].digest.clone() },
            receipts: Receipts::By { key: "concordat/gateway".into(), own: false, held: true },
            agreements: vec![Registered { agreement: &self.agreement, standing: "in force".into() }],
            used: Used::Stated {
                from: day("2026-04-01"),
                until: day(TODAY),
                by: "the log 'concordat/gateway', verified".into(),
                queries: vec![used("2026-05-01", 41), used("2026-06-01", 1_043)],
            },
        }
    }

    fn site(&self) -> BTreeMap<String, String> {
        let site = site(&self.publication()).unwrap();
        site.into_iter().map(|(path, bytes)| (path, String::from_utf8(bytes).unwrap())).collect()
    }
}

fn pages(site: &BTreeMap<String, String>) -> impl Iterator<Item = (&String, &String)> {
    site.iter().filter(|(path, _)| path.ends_with(".html"))
}

/// Every value of an attribute.
fn attributes<'t>(html: &'t str, name: &str) -> Vec<&'t str> {
    let start = format!(" {name}=\"");
    html.split(start.as_str()).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

/// Writes the site that the other tests look at, for a browser: `CONCORDAT_SITE=… cargo test -p concordat-mission -- --ignored to_look_at`.
#[test]
#[ignore = "writes where it is told to"]
fn to_look_at() {
    let to = std::env::var("CONCORDAT_SITE").unwrap();
    let world = World::new();
    let of = Continued { heads: crate::history::Heads::of(&world.snapshots, &[]), anew: None };
    write(&site(&world.publication()).unwrap(), &of, std::path::Path::new(&to)).unwrap();
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    assert_eq!(World::new().site(), World::new().site());
}

#[test]
fn nothing_runs_and_nothing_is_loaded_from_elsewhere() {
    let site = World::new().site();
    assert!(pages(&site).count() >= 8);
    for (path, html) in pages(&site) {
        let lower = html.to_lowercase();
        for forbidden in
            ["<script", "<iframe", "<object", "<embed", "<base", "<form", "@import", "url(", "<img", "srcset", " style=", "<style"]
        {
            assert!(!lower.contains(forbidden), "{path}: {forbidden}");
        }
        // Attributes of tags only: hostile text has its quotes escaped.
        for tag in html.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()) {
            assert!(!tag.contains(" onload=") && !tag.contains(" onerror="), "{path}: {tag}");
        }
        for address in attributes(html, "href").into_iter().chain(attributes(html, "src")) {
            assert!(!address.contains(':') && !address.starts_with("//") || address == "data:,", "{path}: {address}");
        }
    }
    let css = &site["style.css"];
    assert!(!css.contains("url(") && !css.contains("@import") && !css.contains("http"));
}

#[test]
fn every_link_leads_to_a_file_that_was_made_and_a_place_in_it() {
    let site = World::new().site();
    let mut linked = BTreeSet::from(["index.html".to_owned()]);
    for (path, html) in pages(&site) {
        let ids: Vec<&str> = attributes(html, "id");
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{path}: an id twice");
        for name in ["aria-labelledby", "aria-describedby"] {
            attributes(html, name).iter().for_each(|id| assert!(ids.contains(id), "{path}: {name} {id}"));
        }
        for address in attributes(html, "href").into_iter().filter(|address| *address != "data:,") {
            let (file, place) = address.split_once('#').unwrap_or((address, ""));
            let mut at: Vec<&str> = path.split('/').collect();
            at.pop();
            if file.is_empty() {
                at = path.split('/').collect();
            }
            for part in file.split('/').filter(|part| !part.is_empty()) {
                if part == ".." { assert!(at.pop().is_some(), "{path}: {address}") } else { at.push(part) }
            }
            let target = at.join("/");
            let found = site.get(&target).unwrap_or_else(|| panic!("{path}: {address}"));
            assert!(place.is_empty() || attributes(found, "id").contains(&place), "{path}: {address}");
            linked.insert(target);
        }
    }
    let all: BTreeSet<String> = site.keys().cloned().collect();
    assert_eq!(all.difference(&linked).collect::<Vec<_>>(), Vec::<&String>::new(), "files that nothing leads to");
    let catalogue: Value = serde_json::from_str(&site["catalog.jsonld"]).unwrap();
    let datasets = catalogue["dcat:dataset"].as_array().unwrap();
    assert_eq!(datasets.len(), 3);
    for distribution in datasets.iter().flat_map(|dataset| dataset["dcat:distribution"].as_array().unwrap()) {
        let file = distribution["dcat:downloadURL"]["@id"].as_str().unwrap();
        assert!(site.contains_key(file), "{file}");
    }
}

#[test]
fn hostile_texts_stay_texts() {
    let site = World::new().site();
    let shown = "&lt;script&gt;alert(1)&lt;/script&gt;";
    for path in ["index.html", "missions/m/index.html", "missions/m/fewer/index.html", "register.html"] {
        assert!(site[path].contains(shown), "{path}");
    }
    for (path, csv) in site.iter().filter(|(path, _)| path.ends_with(".csv")) {
        for line in csv.lines() {
            let text = |cell: &str| !cell.trim_start_matches('"').starts_with(['=', '+', '@', '-', '\t']);
            assert!(cells(line).iter().all(|cell| text(cell)), "{path}: {line}");
        }
    }
    assert!(
        site["missions/m/fewer/fewer.csv"].contains("\"'=HYPERLINK(0)\"") && site["missions/m/fewer/fewer.csv"].contains("\"'-persons\"")
    );
    for (path, json) in site.iter().filter(|(path, _)| path.contains(".json")) {
        serde_json::from_str::<Value>(json).unwrap_or_else(|e| panic!("{path}: {e}"));
    }
}

#[test]
fn what_was_decided_is_told_as_it_was_recorded_and_where_the_file_says_otherwise() {
    let page = &World::new().site()["missions/m/index.html"];
    for says in ["was stopped from", "upon snapshots 1, 3", "not to be trusted", "Said otherwise now", "Pivot 1,"] {
        assert!(page.contains(says), "{says}: {page}");
    }
    assert!(!page.contains("Pivot 2"), "it is another mission's");
}

#[test]
fn what_was_measured_is_told_by_its_digest() {
    let site = World::new().site();
    let told: Value = serde_json::from_str(&site["missions/m/fewer/fewer.json"]).unwrap();
    assert!(told["snapshots"].as_array().unwrap().iter().all(|snapshot| snapshot["definition"] == "d"));
    assert!(site["missions/m/fewer/index.html"].contains("What is measured (digest)"));
}

#[test]
fn what_was_verified_is_said_on_every_page_and_in_every_file_for_programs() {
    let world = World::new();
    for (receipts, says, whose) in [
        (Receipts::Unverified, "Nobody verified the receipts", "All that is stated here beside"),
        (Receipts::By { key: "log/g".into(), own: false, held: false }, "was not held to the log", "All that is stated here beside"),
        (Receipts::By { key: "log/g".into(), own: false, held: true }, "was held to the log", "The word of who publishes are the text"),
        (Receipts::By { key: "log/g+k".into(), own: false, held: true }, "that was given to who publishes", "Held to the log"),
        (Receipts::By { key: "log/g+k".into(), own: true, held: true }, "lay in the log's own folder", "The key: log/g+k."),
    ] {
        let made = site(&Publication { receipts, ..world.publication() }).unwrap();
        let text = |path: &str| String::from_utf8(made[path].clone()).unwrap();
        for path in made.keys().filter(|path| path.ends_with(".html")) {
            assert!(text(path).contains(says), "{path}: {says}");
        }
        for path in ["missions/m/fewer/fewer.json", "catalog.jsonld"] {
            assert!(text(path).contains(says), "{path}: {says}");
        }
        assert!(text("missions/m/fewer/index.html").contains(whose), "{whose}");
    }
}

/// The cells of a line of CSV.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            c => cells.last_mut().unwrap().push(c),
        }
    }
    cells
}

#[test]
fn what_is_withheld_or_superseded_is_nowhere_and_is_not_zero() {
    let site = World::new().site();
    for (path, content) in &site {
        for secret in ["0.98765", "98.76", "98.77", "0.9877"] {
            assert!(!content.contains(secret), "{path}");
        }
    }
    let csv = &site["missions/m/fewer/fewer.csv"];
    let titles = cells(csv.lines().next().unwrap());
    assert_eq!(titles, record::COLUMNS);
    let rows: Vec<Vec<String>> = csv.lines().skip(1).map(cells).collect();
    let of = |status: &str| rows.iter().filter(|row| row[7] == status).cloned().collect::<Vec<_>>();
    // The third region of six snapshots, and all of June's.
    assert_eq!((of("withheld").len(), of("missed").len(), of("missing").len()), (6 + 3, 1, 0), "{csv}");
    for row in of("withheld").iter().chain(&of("missed")) {
        assert!([3, 5, 6].iter().all(|place| row[*place].is_empty()) && !row[8].is_empty(), "{row:?}");
    }
    assert_eq!(of("missed")[0][0], "2026-08-01");
    let page = &site["missions/m/fewer/index.html"];
    assert!(page.contains("<em>withheld</em>") && page.contains("fewer than 10 distinct subjects") && page.contains("<em>missed</em>"));
    assert!(site.values().all(|content| !content.contains("consent_version") && !content.contains("consent records")));
    assert!(page.contains("was superseded by snapshot 3") && !page.contains("receipts/2.json"));
}

#[test]
fn a_reader_is_told_who_is_missing_in_words() {
    let site = World::new().site();
    let page = &site["missions/m/fewer/index.html"];
    for said in [
        "Delivered of this dataset: about 4,310 subjects",
        "Of them about 2,980 were found in the other datasets too, and are in the figure",
        "Left out by their own choice, a withdrawal or an objection: about 240.",
        "what stands in the place of their identifier is none: too few to be told, or nobody.",
        "about 4,550 were considered",
        "rounded to the nearest 10.",
        "It is not told: ",
    ] {
        assert!(page.contains(said), "{said}");
    }
}

/// Each number in a text: digits with signs, separators, points and per cent.
fn numbers(text: &str) -> Vec<String> {
    let part = |c: char| c.is_ascii_digit() || matches!(c, ',' | '.' | '%' | '\u{2212}');
    let words = text.split(|c: char| !part(c)).map(|word| word.trim_end_matches([',', '.']).trim_start_matches([',', '.']));
    words.filter(|word| word.contains(|c: char| c.is_ascii_digit())).map(str::to_owned).collect()
}

/// The texts of a page that are neither days, code, nor a chart's labels.
fn texts(html: &str) -> String {
    let mut rest = html.split_once("<body>").unwrap().1.to_owned();
    for element in ["code", "time"] {
        let (open, close) = (format!("<{element}"), format!("</{element}>"));
        while let Some(from) = rest.find(&open) {
            let to = rest[from..].find(&close).unwrap();
            rest.replace_range(from..from + to + close.len(), " ");
        }
    }
    while let Some(from) = rest.find("<text") {
        let to = rest[from..].find("</text>").unwrap();
        rest.replace_range(from..from + to + 7, " ");
    }
    let mut text = String::new();
    for part in rest.split('<') {
        text.push(' ');
        text.push_str(part.split_once('>').map_or(part, |(_, text)| text));
    }
    text
}

/// Every number that the input lets a page tell.
fn allowed(world: &World) -> BTreeSet<String> {
    let publication = world.publication();
    let mut allowed = BTreeSet::new();
    let mut add = |text: String| allowed.extend(numbers(&text));
    for published in &publication.missions {
        for (outcome, status) in published.outcomes() {
            let scale = Scale::of(outcome);
            add(status.because.clone());
            let stated = [outcome.baseline, outcome.target].map(|point| point.value);
            stated
                .into_iter()
                .chain(outcome.milestones.iter().map(|one| one.value))
                .chain(status.path)
                .for_each(|value| add(scale.value(value)));
            for snapshot in world.snapshots.iter().filter(|one| one.taken.outcome == outcome.id && one.number != 2) {
                let stated = &snapshot.taken.stated;
                for row in &snapshot.taken.rows {
                    let Some(value) = snapshot.taken.cell(row, &outcome.column).and_then(crate::Cell::number) else { continue };
                    add(scale.value(value));
                    let bounds = of_row(outcome, &snapshot.taken, row).unwrap();
                    scale.bounds(bounds).into_iter().for_each(|(low, high)| add(format!("{low} {high}")));
                }
                for number in [snapshot.number, stated.log_entry, stated.minimum_subjects.into(), stated.precision.round_to.into()] {
                    add(whole(number));
                }
            }
            let of_the_way =
                [status.progress.map(|done| percent(done.low, Round::Down)), status.progress.map(|done| percent(done.high, Round::Up))];
            of_the_way.into_iter().flatten().chain(status.expected.map(|part| percent(part, Round::Near))).for_each(&mut add);
            status.trend.iter().for_each(|trend| add(format!("{} {}", scale.apart(trend.per_year), trend.snapshots)));
            status.breakdowns.iter().filter_map(|one| one.gap).for_each(|gap| add(scale.apart(gap)));
            status.days_old.iter().for_each(|days| add(days.to_string()));
            add(outcome.fresh_for_days.to_string());
            // How many figures are in the tables, and how many of them are withheld.
            let groups: Vec<_> =
                status.breakdowns.iter().flat_map(|one| &one.groups).map(|group| &group.measured).chain(&status.latest).collect();
            add(format!("{} {}", groups.len(), groups.iter().filter(|one| one.value.is_none()).count()));
        }
    }
    add(format!("{} 120 41 1,043 4,310 2,980 240 4,550 10 2 {}", publication.head.number, world.agreement.minimum_subjects));
    allowed
}

/// Texts of the input that stand in pages as they are, and days.
fn said(world: &World) -> Vec<String> {
    let mut said: Vec<String> =
        vec![maud::html! { (HOSTILE.replace("\\\"", "\"")) }.into_string(), maud::html! { (HOSTILE) }.into_string(), REASON.into()];
    said.push("(SHA-256)".into());
    let days = (0..1_500).filter_map(|later| day("2026-01-01").checked_add_days(chrono::Days::new(later)));
    said.extend(days.flat_map(|day| [in_words(day), figure::month(day)]));
    said.extend(agreed(&world.agreement));
    said.extend(crate::pivot::unlike(&world.mission, &world.pivots));
    said
}

/// What the agreement says in words, with numbers of its own.
fn agreed(agreement: &Agreement) -> Vec<String> {
    let powers = agreement.datasets.iter().map(|dataset| match &dataset.basis {
        concordat_policy::agreement::Basis::Statutory { power, .. } => power.clone(),
        concordat_policy::agreement::Basis::Consent { text } => text.clone(),
    });
    let days = [Some(agreement.valid_from), Some(agreement.valid_until), agreement.review_on].into_iter().flatten().map(in_words);
    powers.chain([agreement.title.clone()]).chain(days).chain(agreement.benefits.clone()).collect()
}

#[test]
fn every_figure_in_every_page_is_of_the_input() {
    let world = World::new();
    let (allowed, mut said) = (allowed(&world), said(&world));
    // The longest first: a month is in a day.
    said.sort_by_key(|text| std::cmp::Reverse(text.len()));
    let site = world.site();
    let mut looked_at = 0;
    for (path, html) in pages(&site).filter(|(path, _)| !path.starts_with("about") && !path.starts_with("accessibility")) {
        let text = said.iter().fold(texts(html), |text, one| text.replace(one.as_str(), " "));
        for number in numbers(&text) {
            looked_at += 1;
            assert!(allowed.contains(&number), "{path} tells {number}, which nothing does: …{}…", {
                let at = text.find(&number).unwrap();
                text.get(at.saturating_sub(60)..(at + 60).min(text.len())).unwrap_or(&number)
            });
        }
    }
    assert!(looked_at > 150, "{looked_at}");
}

fn near(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-12 * one.abs()
}

#[test]
fn every_value_in_every_file_is_a_cell_of_a_snapshot() {
    let world = World::new();
    let site = world.site();
    let mut looked_at = 0;
    for outcome in &world.mission.outcomes {
        let folder = format!("missions/m/{}", outcome.id);
        let json: Value = serde_json::from_str(&site[&format!("{folder}/{}.json", outcome.id)]).unwrap();
        let csv: Vec<Vec<String>> = site[&format!("{folder}/{}.csv", outcome.id)].lines().skip(1).map(cells).collect();
        let records = json["records"].as_array().unwrap();
        assert_eq!(records.len(), csv.len());
        for (record, row) in records.iter().zip(&csv) {
            for (field, place) in [("value", 3), ("lower", 5), ("upper", 6)] {
                let (json, csv) = (record[field].as_f64(), row[place].parse::<f64>().ok());
                assert!(json.zip(csv).map_or(json == csv, |(json, csv)| near(json, csv)), "{field}: {row:?}");
            }
            let Some(value) = record["value"].as_f64() else { continue };
            looked_at += 1;
            let number = record["snapshot"].as_u64().unwrap();
            let taken = &world.snapshots.iter().find(|one| one.number == number).unwrap().taken;
            let group = record["group"][0].as_str();
            let row = taken.rows.iter().find(|row| row[0].value.as_str() == group && row[1].value == u8::from(group.is_none())).unwrap();
            assert!(near(row[3].number().unwrap(), value) && record["date"] == taken.days(&[]).newest.to_string(), "{record}");
            let bounds = of_row(outcome, taken, row).unwrap();
            assert!(
                near(record["lower"].as_f64().unwrap(), bounds.low) && near(record["upper"].as_f64().unwrap(), bounds.high),
                "{record}"
            );
        }
    }
    // Three of each snapshot that is told, in two outcomes.
    assert_eq!(looked_at, 3 * (5 + 2));
}

#[test]
fn a_figure_that_is_in_no_snapshot_is_published_nowhere() {
    let world = World::new();
    let refused = |change: fn(&mut OutcomeStatus)| {
        let mut publication = world.publication();
        change(&mut publication.missions[0].statuses[0]);
        site(&publication).unwrap_err().to_string()
    };
    assert!(refused(|status| status.history[0].value = Some(0.4979)).contains("snapshot 1 does not tell"));
    assert!(refused(|status| status.history[0].interval = Some(crate::Interval::exact(0.498))).contains("does not tell"));
    assert!(refused(|status| status.history[2].value = Some(SECRET)).contains("snapshot 4 does not tell"));
    assert!(refused(|status| status.history[1].snapshot = 2).contains("superseded"));
    assert!(refused(|status| status.history[1].snapshot = 8).contains("another outcome"));
    assert!(refused(|status| status.history[1].snapshot = 77).contains("no snapshot 77"));
    assert!(refused(|status| status.breakdowns[0].groups[0].measured.value = Some(0.6)).contains("snapshot 7 does not tell"));
    // A cell of another row, or of the headline, is not this group's.
    let swapped = refused(|status| {
        let other = status.breakdowns[0].groups[1].measured.clone();
        status.breakdowns[0].groups[0].measured = other;
    });
    assert!(swapped.contains("snapshot 7 does not tell"), "{swapped}");
    let moved = refused(|status| status.breakdowns[0].groups[0].measured = status.history[5].clone());
    assert!(moved.contains("snapshot 7 does not tell"), "{moved}");
    // A breakdown of an older snapshot is checked too.
    let mut older = World::new();
    older.snapshots[0].taken.columns[3].protected = false;
    older.snapshots[0].taken.rows[0][3].status = Some(REASON.into());
    assert!(site(&older.publication()).unwrap_err().to_string().contains("snapshot 1 does not tell"));
    let mut unprotected = World::new();
    unprotected.snapshots[6].taken.columns[3].protected = false;
    assert!(site(&unprotected.publication()).unwrap_err().to_string().contains("snapshot 7 does not tell"));
}

#[test]
fn no_line_of_the_chart_passes_what_is_missing() {
    let world = World::new();
    let publication = world.publication();
    let published = &publication.missions[0];
    let (outcome, status) = published.outcomes().next().unwrap();
    let chart = chart::Chart { outcome, status, snapshots: published.counting(status).collect(), says: "x".into() };
    let stretches: Vec<Vec<u64>> = chart.stretches().iter().map(|one| one.iter().map(|measured| measured.snapshot).collect()).collect();
    // Snapshot 4 is withheld; between 5 and 6 a month is missed.
    assert_eq!(stretches, [vec![1, 3], vec![5], vec![6, 7]]);
    let html = chart.markup().unwrap().into_string();
    let wide = html.split("</svg>").next().unwrap();
    assert_eq!(wide.matches("<circle class=\"measured filled\"").count(), 5);
    assert_eq!(wide.matches("class=\"untold\"").count(), 2 + 1, "a cross and a triangle");
    assert!(wide.contains("role=\"img\"") && wide.contains("<title") && wide.contains("<desc") && !wide.contains("fill=\"#"));
}

#[test]
fn use_is_stated_or_said_not_to_be() {
    let world = World::new();
    let site_of = |used: Used| site(&Publication { used, ..world.publication() }).unwrap();
    let told = World::new().site();
    assert!(
        told["register.html"].contains("1,043")
            && told["register.html"].contains("the log 'concordat/gateway', verified")
            && told["register.csv"].contains(",m.measure,2026-06,1043\r\n")
    );
    let silent = site_of(Used::NotStated { because: "who publishes may not read the log".into() });
    let page = String::from_utf8(silent["register.html"].clone()).unwrap();
    assert!(page.contains("not stated here") && page.contains("may not read the log") && !page.contains("No query"));
    assert_eq!(String::from_utf8(silent["register.csv"].clone()).unwrap().lines().count(), 1);
}

#[test]
fn the_method_says_what_the_rule_is() {
    assert!((MARGIN - 0.1).abs() < f64::EPSILON && TREND == 12);
    let site = World::new().site();
    assert!(site["about.html"].contains("a tenth of the whole way") && site["about.html"].contains("the last twelve values"));
}

#[test]
fn what_was_aimed_at_and_agreed_before_is_not_forgotten() {
    let mut world = World::new();
    let before = world.site();
    assert!(!before["missions/m/fewer/index.html"].contains("aimed at before") && !before["register.html"].contains("that are gone"));
    world.snapshots[0].taken.aim.target.value = 0.3;
    world.snapshots[0].taken.stated.agreement_digests = [("former".to_owned(), "f0e1".to_owned())].into();
    let site = world.site();
    let page = &site["missions/m/fewer/index.html"];
    assert!(page.contains("What was aimed at before") && page.contains(" to 30% by "), "{page}");
    for board in ["index.html", "missions/m/index.html", "missions/m/fewer/index.html"] {
        assert!(
            site[board].contains("the path was changed after snapshot 1") && !before[board].contains("the path was changed"),
            "{board}"
        );
    }
    let register = &site["register.html"];
    assert!(register.contains("Agreements that are gone") && register.contains("f0e1") && register.contains("d16e57"), "{register}");
}

#[test]
fn a_snapshot_on_demand_in_a_missed_period_is_named_as_such() {
    let mut world = World::new();
    let of = |site: &BTreeMap<String, String>| site["missions/m/fewer/fewer.csv"].clone();
    let demanded = world.snapshots.iter().find(|one| one.taken.outcome.as_str() == "fewer" && one.number > 3).unwrap().number;
    let said = format!("one on demand, {demanded}, is of that time");
    assert!(!of(&world.site()).contains("on demand"));
    world.snapshots.iter_mut().filter(|one| one.number == demanded).for_each(|one| one.taken.period = None);
    let csv = of(&world.site());
    assert!(csv.contains(&said), "{csv}");
}

#[test]
fn an_outcome_that_is_stated_no_more_is_told_on_its_missions_page() {
    let mut world = World::new();
    let gone = "measured before, and stated no more";
    assert!(!world.site()["missions/m/index.html"].contains(gone));
    world.mission.outcomes.retain(|outcome| outcome.id.as_str() != "more");
    let site = world.site();
    let page = &site["missions/m/index.html"];
    assert!(page.contains(gone) && page.contains("'more', snapshot") && page.contains("its target then"), "{page}");
}

#[test]
fn a_history_that_is_another_says_so_on_every_page() {
    let world = World::new();
    let publication = Publication { anew: Some(HOSTILE.into()), ..world.publication() };
    for (path, page) in site(&publication).unwrap().into_iter().filter(|(path, _)| path.ends_with(".html")) {
        let page = String::from_utf8(page).unwrap();
        assert!(page.contains("does not continue the one that was published") && !page.contains("<script"), "{path}");
    }
}
