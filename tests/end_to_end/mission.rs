//! Missions from end to end: the estate's objects, snapshots that the gateway answered, the history that keeps them, how outcomes stand.

use std::path::PathBuf;

use chrono::{Days, NaiveTime, Utc};
use concordat::failure::{LOCAL, USAGE};
use concordat::sample::{federation_since, month_before};
use concordat_mission::interval::of_row;
use concordat_mission::snapshot::definition;
use concordat_mission::{Interval, Mission, Outcome, Snapshot, Snapshots as _, SqliteStore, Taken};
use concordat_policy::{Code, Disclosure};
use concordat_proto::status::exit_code;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::commands::{Ran, command, run};
use crate::oracle::{Cell, Oracle, rows};
use crate::sandbox::{Sandbox, disclosing};

const OUTCOME: &str = "fewer-on-benefits";
const SNAPSHOT: &[&str] = &["mission", "snapshot", "opportunity", "--outcome", OUTCOME];

fn store(sandbox: &Sandbox) -> PathBuf {
    sandbox.layout.snapshots()
}

fn kept(sandbox: &Sandbox) -> Vec<Snapshot> {
    SqliteStore::read(&store(sandbox)).unwrap().unwrap().all().unwrap()
}

fn mission(sandbox: &Sandbox, id: &str) -> Mission {
    let text = std::fs::read_to_string(sandbox.layout.estate().join(format!("missions/{id}.toml"))).unwrap();
    Mission::parse(&text).unwrap()
}

fn done(sandbox: &Sandbox, arguments: &[&str]) -> Ran {
    let ran = run(sandbox, arguments);
    assert_eq!(ran.exit, 0, "{arguments:?}: {}{}", ran.text(), ran.stderr);
    ran
}

fn sql(sandbox: &Sandbox, view: &str) -> String {
    std::fs::read_to_string(sandbox.layout.estate().join(format!("views/{view}.sql"))).unwrap()
}

/// The rows of a snapshot by their first two columns, as the oracle's are told apart, with the count and the share.
fn by_key(snapshot: &Snapshot) -> Vec<(String, &Vec<concordat_mission::Cell>)> {
    let cell = |value: &Value| match value {
        Value::Null => Cell::Null,
        Value::Number(number) => Cell::Number(number.as_f64().unwrap()),
        Value::Bool(truth) => Cell::Text(truth.to_string()),
        other => Cell::Text(other.as_str().unwrap().to_owned()),
    };
    let key = |row: &Vec<concordat_mission::Cell>| format!("{:?}", row[..2].iter().map(|one| cell(&one.value)).collect::<Vec<_>>());
    snapshot.taken.rows.iter().map(|row| (key(row), row)).collect()
}

/// Compares each row of a snapshot with the oracle's, whose second last column is the number of subjects and whose last is the measure.
/// Returns how many measures were told and how many were withheld.
async fn compared(snapshot: &Snapshot, outcome: &Outcome, oracle: &Oracle, sql: &str) -> (usize, usize) {
    let expected = rows(&oracle.query(sql).await, 2);
    let (mut told, mut withheld) = (0, 0);
    for (key, row) in by_key(snapshot) {
        let Some((_, Cell::Number(truth))) = expected.get(&key).and_then(|row| row.last()).cloned() else {
            panic!("the oracle has no {key}")
        };
        let Some((_, Cell::Number(subjects))) = expected[&key].iter().rev().nth(1).cloned() else {
            panic!("no number of subjects in {key}")
        };
        let measure = &row[3];
        if measure.withheld().is_some() {
            assert_eq!(measure.value, Value::Null, "{key}");
            withheld += 1;
            continue;
        }
        assert!(subjects >= 10.0, "{key} rests on {subjects}");
        let Some(Interval { low, high }) = of_row(outcome, &snapshot.taken, row) else { panic!("nobody knows how coarse {key} is") };
        assert!(low - 1e-9 <= truth && truth <= high + 1e-9, "{key}: {truth} is not between {low} and {high}");
        if measure.status.as_deref() == Some("told") {
            assert!((measure.number().unwrap() - truth).abs() < 1e-9, "{key}");
        }
        told += 1;
    }
    (told, withheld)
}

#[tokio::test]
async fn a_snapshot_is_what_the_gateway_answered_to_the_missions_own_identity() {
    let sandbox = Sandbox::start(3_000).await;
    let checked = done(&sandbox, &["mission", "check"]).text();
    assert!(checked.contains("ok   mission 'opportunity': 2 outcome(s)") && checked.contains("ok   mission 'strong-economy'"), "{checked}");
    let told = done(&sandbox, SNAPSHOT).text();
    let snapshots = kept(&sandbox);
    let [snapshot] = snapshots.as_slice() else { panic!("{}", snapshots.len()) };
    assert!(told.contains("snapshot 1 of opportunity/fewer-on-benefits on demand") && told.contains(&snapshot.digest), "{told}");

    let objects = mission(&sandbox, "opportunity");
    let outcome = objects.outcome(OUTCOME).unwrap();
    let view = sql(&sandbox, &outcome.view);
    let oracle = Oracle::over(&sandbox.layout).await;
    assert!(oracle.left_out > 0, "without anybody who said no, policy was not tested");
    let (compared, withheld) = compared(snapshot, outcome, &oracle, &view).await;
    assert!(compared > 5 && withheld > 0, "{compared} told, {withheld} withheld");
    let views = [(outcome.view.clone(), view.clone())].into();
    assert_eq!(snapshot.taken.definition, definition(outcome, &views));
    assert_eq!(snapshot.taken.stated.precision.round_to, 1);

    // It is logged as everybody's: who asked, for what, under which text, on which consent.
    let log = sandbox.log("gateway");
    let stated = &snapshot.taken.stated;
    let of = |event: &str| log.iter().find(|entry| entry["event"] == event && entry["query_id"] == stated.query_id.as_str()).unwrap();
    let (opened, closed) = (of("query.opened"), of("query.closed"));
    assert_eq!((&opened["caller"], &opened["purpose"]), (&json!("mission-opportunity"), &json!("opportunity.measure")), "{opened}");
    assert_eq!(snapshot.taken.asked_by.subject, "mission-opportunity");
    assert_eq!(closed["entry"], stated.log_entry);
    let sources = closed["facts"]["sources"].as_array().unwrap();
    assert_eq!(sources.len(), stated.sources.len());
    for (logged, kept) in sources.iter().zip(&stated.sources) {
        assert_eq!(logged["agreement_digest"], stated.agreement_digests["opportunity"].as_str());
        assert_eq!((&logged["department"], &logged["consent_version"]), (&json!(kept.department), &json!(kept.consent_version)));
        assert!(kept.counts.as_ref().is_some_and(|counts| counts["subjects"]["delivered"].is_u64()), "{kept:?}");
    }
    assert!(!stated.consent.is_empty());

    // And it verifies offline, with the key of the gateway's log.
    let key = std::fs::read_to_string(sandbox.layout.gateway().join("log/log.vkey")).unwrap();
    let verified = done(&sandbox, &["mission", "verify", "--log-key", key.trim(), "--output", "json"]).json();
    assert_eq!((&verified["verified"], &verified["snapshots"]), (&json!(true), &json!(1)));
    let another = std::fs::read_to_string(sandbox.layout.node("dfe").join("log/log.vkey")).unwrap();
    assert_eq!(run(&sandbox, &["mission", "verify", "--log-key", another.trim()]).exit, i32::from(LOCAL));
    // Nor is an answer kept whose promise is by another key.
    std::fs::remove_file(store(&sandbox)).unwrap();
    let refused = run(&sandbox, &[SNAPSHOT, &["--log-key", another.trim()]].concat());
    assert!(refused.exit == i32::from(LOCAL) && refused.stderr.contains("not one that the log"), "{}", refused.stderr);
    assert!(kept(&sandbox).is_empty());
}

#[tokio::test]
async fn bounds_hold_the_truth_where_numbers_are_rounded() {
    let sandbox = Sandbox::with(3_000, disclosing(Disclosure::default()), |_| {}).await;
    done(&sandbox, &["mission", "run", "--once"]);
    let snapshots = kept(&sandbox);
    assert_eq!(snapshots.len(), 3, "one of each outcome");
    let mut coarse = 0;
    for (mission_id, purposes) in
        [("opportunity", ["opportunity", "opportunity.measure"]), ("strong-economy", ["economy", "economy.measure"])]
    {
        let oracle = Oracle::for_purposes(&sandbox.layout, &purposes).await;
        let objects = mission(&sandbox, mission_id);
        for outcome in &objects.outcomes {
            let snapshot = snapshots.iter().find(|one| one.taken.outcome == outcome.id).unwrap();
            assert_eq!(snapshot.taken.stated.precision.round_to, 5);
            let (told, _) = compared(snapshot, outcome, &oracle, &sql(&sandbox, &outcome.view)).await;
            assert!(told > 0, "{}: nothing is told", outcome.id);
            coarse += snapshot.taken.rows.iter().filter(|row| row[3].status.as_deref() == Some("rounded")).count();
        }
    }
    assert!(coarse > 0, "nothing was rounded");
}

#[tokio::test]
async fn each_period_has_one_snapshot_and_a_corrected_one_says_why() {
    let sandbox = Sandbox::start(2_000).await;
    let first = done(&sandbox, &["mission", "run", "opportunity", "--once"]).text();
    assert_eq!(first.lines().count(), 2, "{first}");
    assert!(done(&sandbox, &["mission", "run", "opportunity", "--once"]).text().is_empty(), "nothing is due twice");
    let number = kept(&sandbox).iter().find(|one| one.taken.outcome.as_str() == OUTCOME).unwrap().number.to_string();

    let correct = |number: &str| run(&sandbox, &[SNAPSHOT, &["--supersedes", number, "--because", "a file lacked a region"]].concat());
    assert_eq!(run(&sandbox, &[SNAPSHOT, &["--supersedes", &number]].concat()).exit, i32::from(USAGE), "why is not said");
    assert_eq!(correct("77").exit, i32::from(LOCAL));
    assert_eq!(correct(&number).exit, 0);
    let again = correct(&number);
    assert!(again.exit == i32::from(LOCAL) && again.stderr.contains("superseded before"), "{}", again.stderr);
    let snapshots = kept(&sandbox);
    assert_eq!(snapshots.len(), 3, "what was refused is not kept, and what was corrected stays");
    let (wrong, corrected) = (&snapshots[number.parse::<usize>().unwrap() - 1].taken, &snapshots[2].taken);
    assert_eq!((corrected.supersedes, corrected.because.as_deref()), (number.parse().ok(), Some("a file lacked a region")));
    assert!(corrected.period.is_some() && corrected.period == wrong.period && corrected.stated.query_id != wrong.stated.query_id);

    let status = done(&sandbox, &["mission", "status", "opportunity", "--output", "json"]).json();
    let outcomes = status["missions"][0]["outcomes"].as_array().unwrap();
    let of = |id: &str| outcomes.iter().find(|outcome| outcome["outcome"] == id).unwrap();
    let outcome = of(OUTCOME);
    assert_eq!((outcome["history"].as_array().unwrap().len(), &outcome["latest"]["snapshot"]), (1, &json!(3)), "{outcome}");
    assert_eq!((&outcome["schedule"][0]["state"], &outcome["schedule"][0]["number"]), (&json!("taken"), &json!(3)));
    for outcome in outcomes {
        let told = ["on_track", "at_risk", "off_track", "not_enough_data"].contains(&outcome["verdict"].as_str().unwrap());
        assert!(told && !outcome["because"].as_str().unwrap().is_empty(), "{outcome}");
        assert!(outcome["progress"]["low"].is_number() && outcome["expected"].is_number() && outcome["days_old"].is_u64(), "{outcome}");
    }
    let groups = of(OUTCOME)["breakdowns"][0]["groups"].as_array().unwrap();
    assert!(groups.len() > 5 && groups.iter().any(|group| group["untold"].is_string()), "{groups:?}");
    let board = done(&sandbox, &["mission", "status"]).text();
    for word in [OUTCOME, "more-sell-abroad", "not enough data", "Isles of Scilly", "head 3:"] {
        assert!(board.contains(word), "{word}: {board}");
    }
}

#[tokio::test]
async fn missed_months_are_caught_up_with_their_own_data_and_with_no_other() {
    let today = Utc::now().date_naive();
    let first = month_before(today, 4);
    let sandbox = Sandbox::with(3_000, |federation| federation.objects = federation_since(today, first).objects, |_| {}).await;
    let (objects, asked) = (mission(&sandbox, "opportunity"), |ago| {
        let month = month_before(today, ago).to_string();
        run(&sandbox, &[SNAPSHOT, &["--period", &month]].concat())
    });
    let outcome = objects.outcome(OUTCOME).unwrap();
    let view = sql(&sandbox, &outcome.view);
    let refused = asked(2);
    let says = "nothing is kept for the period from";
    assert!(refused.exit == i32::from(LOCAL) && refused.stderr.contains(says), "today's data is of today: {}", refused.stderr);
    assert_eq!(asked(5).exit, i32::from(USAGE), "none was due then");
    assert!(kept(&sandbox).is_empty(), "what was refused leaves nothing");

    let mut shares = Vec::new();
    for ago in [4, 3, 1] {
        let delivered = month_before(today, ago) + Days::new(9);
        sandbox.sample.months_ago(ago).deliver(&sandbox.layout, delivered.and_time(NaiveTime::MIN).and_utc()).unwrap();
        let ran = asked(ago);
        assert!(ran.exit == 0 && ran.text().contains(&format!("data of {delivered}")), "{}{}", ran.text(), ran.stderr);
        assert_eq!(asked(ago).exit, i32::from(LOCAL), "a period has one");
        let snapshot = kept(&sandbox).pop().unwrap();
        let oracle = Oracle::over(&sandbox.layout).await;
        let (told, withheld) = compared(&snapshot, outcome, &oracle, &view).await;
        assert!(told > 5 && withheld > 0, "{told} told, {withheld} withheld");
        let Taken { period, taken_at, .. } = &snapshot.taken;
        assert_eq!((*period, snapshot.taken.days(&outcome.standing).newest), (Some(month_before(today, ago)), delivered));
        assert!(taken_at.date_naive() >= today, "it is said when it was asked for, whatever the data is of");
        shares.push(snapshot.taken.headline(outcome).unwrap()[3].number().unwrap());
    }
    assert!(shares.first() > shares.last(), "fewer claim: {shares:?}");

    let status = done(&sandbox, &["mission", "status", "opportunity", "--output", "json"]).json();
    let outcomes = status["missions"][0]["outcomes"].as_array().unwrap();
    let told = outcomes.iter().find(|outcome| outcome["outcome"] == OUTCOME).unwrap();
    let states: Vec<&Value> = told["schedule"].as_array().unwrap().iter().map(|one| &one["state"]).collect();
    assert_eq!(states, ["taken", "taken", "missed", "taken", "due"]);
    let days: Vec<&str> = told["history"].as_array().unwrap().iter().map(|one| one["as_of"].as_str().unwrap()).collect();
    assert_eq!(days, [4, 3, 1].map(|ago| (month_before(today, ago) + Days::new(9)).to_string()));
    assert!(told["trend"].is_null(), "three snapshots are no trend: {told}");
}

#[tokio::test]
async fn a_view_that_the_outcomes_view_uses_is_part_of_what_is_measured() {
    let wrap = |layout: &concordat::federation::Layout| {
        let views = layout.estate().join("views");
        let of = |name: &str| views.join(format!("{name}.sql"));
        let text = std::fs::read_to_string(of("claims_by_region")).unwrap();
        std::fs::write(of("claims_inside"), &text).unwrap();
        let head = "-- mission: opportunity\n-- title: Claims\n-- unit: persons\n";
        let columns = "region, total, persons, share_claiming";
        std::fs::write(of("claims_by_region"), format!("{head}SELECT {columns} FROM claims_inside\n")).unwrap();
        // Rows of single people are no answer, so that the gateway shows nobody this one.
        let rows = "SELECT a.subject, a.disadvantage_band, p.completed FROM dfe.attainment a JOIN dbt.apprenticeships p ON p.subject = a.subject WHERE p.started";
        std::fs::write(of("started_inside"), format!("{head}{rows}\n")).unwrap();
        let shares = "count(DISTINCT i.subject) AS persons, avg(CASE WHEN i.completed THEN 1.0 ELSE 0.0 END) AS share_completed";
        let by = "i.disadvantage_band";
        let select = format!("SELECT {by}, grouping({by}) AS total, {shares} FROM started_inside i GROUP BY ROLLUP ({by})");
        std::fs::write(of("apprenticeships_completed"), format!("{head}{select}\n")).unwrap();
    };
    let sandbox = Sandbox::with(2_000, |_| {}, wrap).await;
    done(&sandbox, SNAPSHOT);
    let changed = || {
        let status = done(&sandbox, &["mission", "status", "opportunity", "--output", "json"]).json();
        let outcomes = status["missions"][0]["outcomes"].as_array().unwrap().clone();
        outcomes.into_iter().find(|outcome| outcome["outcome"] == OUTCOME).unwrap()["of_another_definition"].clone()
    };
    assert_eq!(changed(), json!([]));
    let answered = run(&sandbox, &["query", "--view", "apprenticeships_completed"]);
    assert_eq!(answered.exit, 0, "the gateway answers it: {}", answered.stderr);
    let unknown = run(&sandbox, &["mission", "snapshot", "opportunity", "--outcome", "more-complete"]);
    let says = "does not show the view 'started_inside', which 'apprenticeships_completed' uses";
    assert!(unknown.exit == i32::from(LOCAL) && unknown.stderr.contains(says), "{}", unknown.stderr);
    assert_eq!(kept(&sandbox).len(), 1, "what is measured is not known: nothing is kept");
    let inside = sandbox.layout.estate().join("views/claims_inside.sql");
    let text = std::fs::read_to_string(&inside).unwrap();
    std::fs::write(&inside, format!("{}\nHAVING count(*) > 1\n", text.trim_end().trim_end_matches(';'))).unwrap();
    assert_eq!(changed(), json!([1]), "the view inside is another");
}

#[tokio::test]
async fn the_demonstrations_history_is_two_years_of_answers() {
    let folder = tempfile::tempdir().unwrap();
    let demo = folder.path().join("demo");
    let on = |arguments: &[&str]| {
        let ran = Ran::from(command(arguments).arg("--folder").arg(&demo).output().unwrap());
        assert_eq!(ran.exit, 0, "{arguments:?}: {}", ran.stderr);
        ran
    };
    let board = on(&["demo", "--once", "--history"]).stderr;
    assert!(board.contains("the missions' outcomes, by the snapshots taken"), "{board}");
    assert!(!demo.join(".past").exists(), "the departments' files are those of today again");

    let status = on(&["mission", "status", "--output", "json"]).json();
    let all = || status["missions"].as_array().unwrap().iter().flat_map(|mission| mission["outcomes"].as_array().unwrap());
    let mut snapshots = 0;
    for outcome in all() {
        let (schedule, history) = (outcome["schedule"].as_array().unwrap(), outcome["history"].as_array().unwrap());
        let months = if outcome["outcome"] == "more-complete" { 8..=9 } else { 24..=24 };
        assert!(months.contains(&schedule.len()) && schedule.iter().all(|one| one["state"] == "taken"), "{outcome}");
        assert_eq!(history.len(), schedule.len(), "each is of a day of its own: {outcome}");
        assert_eq!(outcome["trend"]["way"], "better", "{outcome}");
        assert!(outcome["days_old"].as_i64().unwrap() <= 1, "{outcome}");
        snapshots += schedule.len();
    }
    let said = |outcome: &Value| outcome["hidden"].to_string();
    assert!(all().any(|outcome| said(outcome).contains("not told: Isles of Scilly")), "{status}");
    let verified = on(&["mission", "verify", "--output", "json"]).json();
    assert_eq!((&verified["verified"], &verified["snapshots"]), (&json!(true), &json!(snapshots)));

    let pivots = on(&["mission", "pivots", "--output", "json"]).json();
    let [passes, loans] = pivots["pivots"].as_array().unwrap().as_slice() else { panic!("{pivots}") };
    assert_eq!((&passes["output"], &loans["output"]), (&json!("travel-passes"), &json!("export-loans")));
    assert!(passes["comparison"]["finding"].is_string() && passes["snapshots"].as_array().unwrap().len() == 21, "{passes}");
    assert!(passes["history"]["number"].as_u64().unwrap() < snapshots as u64, "the evidence is that of its day: {passes}");
    let began = month_before(Utc::now().date_naive(), 9).to_string();
    let with = ["--with", "London", "--with", "North East", "--with", "South West"];
    let compare = ["mission", "compare", "opportunity", "--outcome", OUTCOME, "--by", "region", "--began", &began, "--output", "json"];
    let told = on(&[&compare[..], &with].concat()).json();
    assert!(told["finding"] == "better" && told["interval"]["high"].as_f64().unwrap() < 0.0, "mentors are why, in this sample: {told}");

    let site = folder.path().join("site");
    let key = std::fs::read_to_string(demo.join("gateway/log/log.vkey")).unwrap();
    on(&["publish", "opportunity", "strong-economy", "--to", site.to_str().unwrap(), "--log-key", key.trim()]);
    let page = std::fs::read_to_string(site.join(format!("missions/opportunity/{OUTCOME}/index.html"))).unwrap();
    assert!(page.contains("computed on ") && page.contains(" of data of "), "{page}");
}

#[tokio::test]
async fn nobody_but_the_missions_identity_takes_its_snapshots() {
    let sandbox = Sandbox::start(500).await;
    let token = sandbox.layout.folder().join("analyst.jwt");
    let with = |text: &str| {
        std::fs::write(&token, text).unwrap();
        run(&sandbox, &[SNAPSHOT, &["--token-file", token.to_str().unwrap()]].concat())
    };
    let analyst = with(&sandbox.token());
    assert!(
        analyst.exit == i32::from(LOCAL) && analyst.stderr.contains("the token is of 'analyst-1' of 'mission-unit'"),
        "{}",
        analyst.stderr
    );
    assert_eq!(with("junk").exit, i32::from(exit_code(Code::Unauthenticated)));
    // The service identity has no rights of its own: an agreement must name its organisation and role.
    let stranger = with(&sandbox.token_with(|c| (c["sub"], c["roles"]) = (json!("mission-opportunity"), json!(["reporter"]))));
    assert_eq!(stranger.exit, i32::from(exit_code(Code::Denied)), "{}", stranger.stderr);
    assert!(kept(&sandbox).is_empty(), "what was refused leaves nothing");
    let own = with(&sandbox.token_with(|c| c["sub"] = json!("mission-opportunity")));
    assert!(own.exit == 0 && kept(&sandbox).len() == 1, "{}", own.stderr);
    // What falls due while a department is gone is told, and nothing is made up for it.
    let mut sandbox = sandbox;
    sandbox.running.kill("dwp");
    let failed = run(&sandbox, &["mission", "run", "opportunity", "--once"]);
    assert!(failed.exit == i32::from(LOCAL) && failed.stderr.contains("no snapshot of opportunity/fewer-on-benefits"), "{}", failed.stderr);
    assert!(kept(&sandbox).iter().all(|one| one.taken.outcome.as_str() != OUTCOME || one.taken.period.is_none()));
}

#[tokio::test]
async fn whoever_changes_the_history_is_found_out() {
    let sandbox = Sandbox::start(500).await;
    done(&sandbox, SNAPSHOT);
    done(&sandbox, SNAPSHOT);
    let head = done(&sandbox, &["mission", "verify", "--output", "json"]).json()["head"].as_str().unwrap().to_owned();
    let whole = std::fs::read(store(&sandbox)).unwrap();
    assert_eq!(done(&sandbox, &["mission", "verify", "--head", &head]).exit, 0);
    let connection = || Connection::open(store(&sandbox)).unwrap();
    let changes = "UPDATE snapshot SET taken = replace(taken, '\"log_entry\":', '\"log_entry\":1') WHERE number = 1";
    assert!(connection().execute(changes, []).unwrap_err().to_string().contains("history is never changed"));
    connection().execute_batch("DROP TRIGGER snapshot_stays; DROP TRIGGER snapshot_is_kept").unwrap();
    assert_eq!(connection().execute(changes, []).unwrap(), 1);
    for arguments in [&["mission", "verify"][..], &["mission", "status"], SNAPSHOT, &["mission", "run", "--once"]] {
        let ran = run(&sandbox, arguments);
        assert!(ran.exit == i32::from(LOCAL) && ran.stderr.contains("was changed"), "{arguments:?}: {}", ran.stderr);
    }
    // The newest cut off: only who knows the head sees it.
    std::fs::write(store(&sandbox), &whole).unwrap();
    connection().execute_batch("DROP TRIGGER snapshot_is_kept; DELETE FROM snapshot WHERE number = 2").unwrap();
    done(&sandbox, &["mission", "verify"]);
    let cut = run(&sandbox, &["mission", "verify", "--head", &head]);
    assert!(cut.exit == i32::from(LOCAL) && cut.stderr.contains("does not hold snapshot 2:"), "{}", cut.stderr);
}

#[tokio::test]
async fn mistakes_are_named_where_they_stand_and_stop_no_gateway() {
    let folder = "missions/opportunity.toml";
    let sandbox = Sandbox::with(
        300,
        |_| {},
        |layout| {
            let path = layout.estate().join(folder);
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains("column = \"share_completed\""));
            std::fs::write(&path, text.replace("column = \"share_completed\"", "column = \"share_complete\"")).unwrap();
        },
    )
    .await;
    let path = sandbox.layout.estate().join(folder);
    let line = 1 + std::fs::read_to_string(&path).unwrap().lines().position(|line| line.contains("\"share_complete\"")).unwrap();
    for arguments in [&["mission", "check"][..], SNAPSHOT] {
        let ran = run(&sandbox, arguments);
        let named = ran.stderr.contains(&format!("opportunity.toml:{line}")) && ran.stderr.contains("no column 'share_complete'");
        assert!(ran.exit != 0 && named && ran.stderr.contains("remedy"), "{}", ran.stderr);
    }
    let config = sandbox.layout.gateway().join("gateway.toml");
    let checked = Ran::from(command(["gateway", "check", "--config", config.to_str().unwrap()]).output().unwrap());
    assert!(checked.exit != 0 && format!("{}{}", checked.text(), checked.stderr).contains("share_complete"), "{}", checked.stderr);
    assert_eq!(run(&sandbox, &["query", "--view", "opportunity_by_region"]).exit, 0, "the gateway answers all the same");

    // An estate without missions is one, and a draft is made where there is none.
    std::fs::remove_dir_all(sandbox.layout.estate().join("missions")).unwrap();
    let none = done(&sandbox, &["mission", "check"]).text();
    assert!(none.contains("warn the mission 'opportunity' states no outcome"), "{none}");
    done(&sandbox, &["mission", "new", "opportunity"]);
    let drafted = run(&sandbox, &["mission", "check"]);
    assert!(drafted.exit != 0 && drafted.stderr.contains("the view 'view_name'"), "{}", drafted.stderr);
    assert_eq!(run(&sandbox, &["mission", "new", "opportunity"]).exit, i32::from(LOCAL), "nothing is replaced");
    assert_eq!(run(&sandbox, &["mission", "new", "nowhere"]).exit, i32::from(USAGE));
    assert!(!store(&sandbox).exists(), "nothing was taken meanwhile");
}
