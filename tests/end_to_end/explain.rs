//! Explained before it runs, and told again from the log: one judgement, in the same words, and nothing for who may not know.

use std::time::{Duration, Instant};

use concordat::failure::USAGE;
use concordat_policy::{Code, Disclosure, Use};
use concordat_proto::status::exit_code;
use concordat_proto::v1::ExplainResponse;
use concordat_proto::v1::explain_response::Decision;
use serde_json::{Value, json};

use crate::commands::{Ran, command, run};
use crate::limits::{Stopped, user};
use crate::sandbox::{Sandbox, disclosing, refused, until};

const ROWS: &str = "SELECT region, attainment8 FROM dfe.attainment";
const DEPARTMENTS: [&str; 5] = ["dbt", "dfe", "dhsc", "dsit", "dwp"];
/// A value that stands nowhere but in a statement.
const LITERAL: &str = "quetzal-7f3a";

/// What `why` says of a query, without the line about who asked.
fn why(sandbox: &Sandbox, query_id: &str) -> Vec<String> {
    let log = sandbox.layout.gateway().join("log");
    let ran: Ran = command(["why", query_id, "--log", log.to_str().unwrap()]).output().unwrap().into();
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    let text = ran.text();
    let mut lines = text.lines().map(str::to_owned);
    assert!(lines.next().unwrap().contains("by analyst-1 of mission-unit"), "{text}");
    lines.collect()
}

fn entry(sandbox: &Sandbox, event: &str, query_id: &str) -> Value {
    let found = sandbox.log("gateway").into_iter().find(|e| e["event"] == event && e["query_id"] == query_id);
    found.unwrap_or_else(|| panic!("no {event} of {query_id}"))
}

#[tokio::test]
async fn a_permitted_query_is_explained_without_an_order_and_why_says_the_same_afterwards() {
    let sandbox = Sandbox::start(1_000).await;
    // Whose keys were seen first is told whenever a witness comes by.
    let asked =
        |department| sandbox.log(department).iter().filter(|entry| !entry["event"].as_str().unwrap().starts_with("witness.")).count();
    let before = DEPARTMENTS.map(asked);
    let view = ["explain", "--view", "opportunity_by_region"];
    let explained = run(&sandbox, &[&view[..], &["--output", "json"]].concat());
    assert_eq!(explained.exit, 0, "{}", explained.stderr);
    let explained = explained.json();
    assert_eq!((&explained["decision"], &explained["mission"]), (&json!("permit"), &json!("opportunity")));
    let requests = explained["requests"].as_array().unwrap();
    let of = |department: &str| requests.iter().find(|r| r["department"] == department).unwrap().clone();
    assert_eq!((requests.len(), explained["tables"].as_array().unwrap().len()), (5, 5));
    let mut columns: Vec<_> = of("dfe")["columns"].as_array().unwrap().iter().map(|c| c.as_str().unwrap().to_owned()).collect();
    columns.sort();
    assert_eq!(columns, ["attainment8", "free_school_meals", "region"]);
    assert_eq!((&of("dhsc")["basis"], &of("dhsc")["rows"]), (&json!("consent"), &Value::Null));
    let rule = &explained["rules"][0];
    assert_eq!((&rule["rule"], &rule["subjects"], &rule["agreements"]), (&json!("minimum_subjects"), &json!(10), &json!(["opportunity"])));
    let table = explained["tables"].as_array().unwrap().iter().find(|t| t["dataset"] == "dfe.attainment").unwrap();
    assert_eq!(table["basis_text"], "Digital Economy Act 2017 s.35");
    assert_eq!(table["max_unwitnessed"], "4 hours");
    let column = table["columns"].as_array().unwrap().iter().find(|c| c["name"] == "attainment8").unwrap();
    assert_eq!((&column["needs"], &column["granted"]), (&json!(["aggregate"]), &json!(["aggregate", "filter"])));
    // No department was asked anything for it.
    assert_eq!(DEPARTMENTS.map(asked), before);
    let recorded = entry(&sandbox, "query.explained", explained["query_id"].as_str().unwrap());
    assert_eq!((&recorded["decision"], &recorded["facts"]["agreements"]), (&json!("permit"), &json!(["opportunity"])));

    let told = run(&sandbox, &view).text();
    for text in ["Digital Economy Act 2017 s.35", "May we use what you told us about your wellbeing"] {
        assert!(told.contains(text), "the power, and what people were asked: {told}");
    }
    assert!(told.contains("log unwitnessed for at most") && told.contains("4 hours"), "{told}");
    let told: Vec<&str> = told.lines().take_while(|line| !line.is_empty()).collect();
    assert_eq!(told[0], "permitted for the purpose 'opportunity.measure' in the mission 'opportunity'");
    assert!(told.contains(&"dhsc.health under the agreement 'opportunity': people agreed"), "{told:?}");
    assert!(told.contains(&"  attainment8: aggregate") && told.iter().any(|line| line.contains("fewer than 10 distinct")), "{told:?}");
    assert_eq!(why(&sandbox, explained["query_id"].as_str().unwrap()), told);
    let answer = sandbox.query("SELECT * FROM views.opportunity_by_region").await.unwrap();
    assert_eq!(why(&sandbox, answer.summary["query_id"].as_str().unwrap()), told, "what was explained is what was done");
}

#[tokio::test]
async fn each_disclosure_rule_in_force_is_told_before_a_query_in_the_log_in_the_catalogue_and_to_signers() {
    let sandbox = Sandbox::with(1_000, disclosing(Disclosure::default()), |_| {}).await;
    let sql = "SELECT region, avg(attainment8) AS mean FROM dfe.attainment GROUP BY region";
    let explained = run(&sandbox, &["explain", sql, "--output", "json"]).json();
    let rules = explained["rules"].as_array().unwrap_or_else(|| panic!("{explained}"));
    for (rule, says) in [
        ("dominance", json!({ "largest": 2, "share": 90 })),
        ("p_percent", json!({ "percent": 10 })),
        ("rounded", json!({ "to": 5 })),
        ("margins", json!({})),
    ] {
        let mut expected = json!({ "rule": rule, "agreements": ["opportunity"], "departments": ["dfe"] });
        expected.as_object_mut().unwrap().extend(says.as_object().unwrap().clone());
        assert!(rules.contains(&expected), "{expected} is not in {explained}");
    }
    let recorded = entry(&sandbox, "query.explained", explained["query_id"].as_str().unwrap());
    assert_eq!(recorded["facts"]["rules"], explained["rules"]);
    let rounded = "counts of subjects are rounded to multiples of 5";
    assert!(why(&sandbox, explained["query_id"].as_str().unwrap()).iter().any(|line| line.contains(rounded)));
    let catalogue = run(&sandbox, &["catalogue", "--output", "json"]).json();
    let told = catalogue["agreements"][0]["disclosure"].as_array().unwrap();
    assert!(told.iter().any(|rule| rule.as_str().unwrap().contains(rounded)), "{catalogue}");
    assert!(run(&sandbox, &["catalogue"]).text().contains(rounded));
    let own = sandbox.copy("dfe", "opportunity");
    let shown: Ran = command(["agreement", "show", own.to_str().unwrap()]).output().unwrap().into();
    assert!(shown.text().contains(rounded) && shown.text().contains("no rule on  contributors of one value, noise"), "{}", shown.text());
}

#[tokio::test]
async fn a_denied_query_ends_like_itself_and_its_proposal_is_answered() {
    let sandbox = Sandbox::start(1_000).await;
    let ran = run(&sandbox, &["explain", ROWS, "--output", "json"]);
    assert_eq!(ran.exit, i32::from(exit_code(Code::Denied)), "{}", ran.stderr);
    let denied = ran.json();
    let failure = refused(sandbox.query(ROWS).await, Code::Denied, "attainment8 may not be used for output");
    assert_eq!((&denied["decision"], &denied["cause"], &denied["owner"]), (&json!("deny"), &json!("use"), &json!("dfe")));
    assert!(failure.message.starts_with(denied["message"].as_str().unwrap()), "{failure:?}");
    assert!(denied["advice"].as_str().unwrap().contains("data-sharing@dfe.example"), "{denied}");
    let proposal = denied["proposal"]["statement"].as_str().unwrap();
    assert_eq!(proposal, "SELECT region, avg(attainment8) AS attainment8 FROM dfe.attainment GROUP BY region");
    sandbox.query(proposal).await.unwrap();
    assert_eq!(run(&sandbox, &["explain", "--sql", proposal]).exit, 0);

    let text = run(&sandbox, &["explain", ROWS]).text();
    let told: Vec<&str> = text.lines().take(2).collect();
    assert!(told[0].starts_with("denied for the purpose 'opportunity.measure': dfe.attainment.attainment8 may not"), "{text}");
    assert!(text.contains("whose rule: dfe") && text.contains(proposal), "{text}");
    // The refusal that was met, and the explanation that was given, from the log.
    assert_eq!(why(&sandbox, failure.query_id.as_deref().unwrap()), told);
    assert_eq!(why(&sandbox, denied["query_id"].as_str().unwrap()), told);
    let recorded = entry(&sandbox, "query.explained", denied["query_id"].as_str().unwrap());
    assert_eq!((&recorded["cause"]["column"], &recorded["cause"]["use"]), (&json!("attainment8"), &json!("output")));

    // Disclosure control, a column that stays at its department, a signature, what does not parse.
    for (sql, code, cause, proposed) in [
        (
            "SELECT max(attainment8) AS m FROM dfe.attainment",
            Code::Disclosure,
            "rule",
            Some("SELECT avg(attainment8) AS m FROM dfe.attainment"),
        ),
        (
            "SELECT count(*) FILTER (WHERE conditionality = 'LITERAL') AS n FROM dwp.claims",
            Code::Denied,
            "kept",
            Some("SELECT count(*) AS n FROM dwp.claims WHERE conditionality = 'LITERAL'"),
        ),
        (
            "SELECT count(*) FILTER (WHERE attainment8 BETWEEN 41 AND 50) AS n FROM dfe.attainment",
            Code::Denied,
            "unlisted",
            Some("SELECT count(*) FILTER (WHERE (attainment8 >= 40 AND attainment8 < 50)) AS n FROM dfe.attainment"),
        ),
        ("SELECT count(*) AS n FROM dwp.claims WHERE 'LITERAL", Code::Invalid, "", None),
        ("SELECT count(*) AS n FROM dfe.attainment WHERE attainment8 > 'LITERAL'", Code::Invalid, "", None),
        ("SELECT count(\"LITERAL\") AS n FROM dwp.claims", Code::Denied, "hidden", None),
    ] {
        let sql = sql.replace("LITERAL", LITERAL);
        let ran = run(&sandbox, &["explain", &sql, "--output", "json"]);
        assert_eq!(ran.exit, i32::from(exit_code(code)), "{sql}: {}", ran.stderr);
        let (denied, proposed) = (ran.json(), proposed.map(|proposed| proposed.replace("LITERAL", LITERAL)));
        assert_eq!(
            (denied["cause"].as_str().unwrap_or_default(), denied["proposal"]["statement"].as_str()),
            (cause, proposed.as_deref()),
            "{sql}"
        );
    }
    let permitted = format!("SELECT count(*) AS n FROM dfe.attainment WHERE region = '{LITERAL}'");
    assert_eq!(run(&sandbox, &["explain", &permitted]).exit, 0);
    sandbox.query(&permitted).await.unwrap();
    let unknown: Ran =
        command(["why", "no-such-query", "--log", sandbox.layout.gateway().join("log").to_str().unwrap()]).output().unwrap().into();
    assert!(unknown.exit == 1 && unknown.stderr.contains("no entry"), "{}", unknown.stderr);
    hold_no_statement(&sandbox);
}

/// No log and no diagnostics of any program hold SQL or [`LITERAL`].
fn hold_no_statement(sandbox: &Sandbox) {
    for of in DEPARTMENTS.into_iter().chain(["gateway"]) {
        for text in [sandbox.log_text(of), sandbox.diagnostics(of)] {
            assert!(!text.contains("SELECT") && !text.contains(LITERAL), "{of} tells SQL or a literal");
        }
    }
}

#[tokio::test]
async fn a_statement_with_parameters_is_explained_with_their_values() {
    let sandbox = Sandbox::start(300).await;
    let sql = "SELECT count(*) AS n FROM dwp.claims WHERE conditionality = $what AND claim_started >= $day";
    let explained =
        run(&sandbox, &["explain", sql, "--param", &format!("what={LITERAL}"), "--param", "day=2024-01-01", "--output", "json"]);
    assert_eq!(explained.exit, 0, "{}", explained.stderr);
    let rows = explained.json()["requests"][0]["rows"].as_str().unwrap().to_owned();
    assert!(rows.contains(&format!("conditionality = '{LITERAL}'")) && rows.contains("claim_started >= '2024-01-01'"), "{rows}");
    // A proposal holds the values, and is answered as it stands.
    let sql = "SELECT region, attainment8 FROM dfe.attainment WHERE region = $region";
    let denied = run(&sandbox, &["explain", "--sql", sql, "--param", "region=London", "--output", "json"]);
    assert_eq!(denied.exit, i32::from(exit_code(Code::Denied)), "{}", denied.stderr);
    let proposal = denied.json()["proposal"]["statement"].as_str().unwrap().to_owned();
    assert!(proposal.contains("WHERE region = 'London'") && proposal.contains("avg(attainment8)"), "{proposal}");
    sandbox.query(&proposal).await.unwrap();
    // Values that are not of the type, are missing or too many, or belong to a view.
    let day = "SELECT count(*) AS n FROM dwp.claims WHERE claim_started >= $day";
    let wrong = run(&sandbox, &["explain", day, "--param", &format!("day={LITERAL}"), "--output", "json"]);
    assert_eq!(wrong.exit, i32::from(exit_code(Code::Invalid)), "{}", wrong.stderr);
    assert!(wrong.json()["message"].as_str().unwrap().starts_with("parameter 1 cannot be read as"), "{}", wrong.text());
    assert!(!wrong.text().contains(LITERAL));
    for given in [&["explain", day][..], &["explain", day, "--param", "day=2024-01-01", "--param", "other=1"]] {
        assert_eq!(run(&sandbox, given).exit, i32::from(USAGE), "{given:?}");
    }
    let view = run(&sandbox, &["explain", "--view", "coverage", "--param", "x=1"]);
    assert_ne!(view.exit, 0);
    hold_no_statement(&sandbox);
}

#[tokio::test]
async fn another_purpose_is_proposed_to_who_may_claim_it_and_to_nobody_else() {
    let sandbox = Sandbox::start(300).await;
    let sql = "SELECT * FROM views.cardiovascular_support";
    let denied = run(&sandbox, &["explain", sql, "--output", "json"]).json();
    assert_eq!((&denied["cause"], &denied["owner"]), (&json!("hidden"), &Value::Null));
    assert_eq!((&denied["proposal"]["purpose"], &denied["proposal"]["mission"]), (&json!("health.prevention"), &json!("healthy-life")));
    assert_eq!(run(&sandbox, &["explain", sql, "--purpose", "health.prevention"]).exit, 0);
    // A purpose that nobody agreed on leads to those that were agreed.
    let elsewhere = run(&sandbox, &["explain", sql, "--purpose", "health", "--output", "json"]).json();
    assert_eq!((&elsewhere["cause"], &elsewhere["proposal"]["purpose"]), (&json!("purpose"), &json!("health.prevention")));
    let bound = sandbox.token_with(|claims| claims["purpose"] = json!("opportunity.measure"));
    let told = sandbox.client_with(|c| c.token = Some(bound)).await.explain(sql).await.unwrap();
    let Some(Decision::Denied(denied)) = told.decision else { panic!("permitted") };
    assert_eq!(denied.proposal, None, "the token has one purpose");
}

#[tokio::test]
async fn what_is_forbidden_and_what_is_absent_are_explained_alike() {
    let close = |federation: &mut concordat::federation::Federation| {
        let dataset = federation.agreements[0].datasets.iter_mut().find(|d| d.department == "dwp").unwrap();
        let column = dataset.columns.iter_mut().find(|(name, _)| name == "months_claiming").unwrap();
        assert_eq!(column.1, [Use::Aggregate]);
        column.1.clear();
    };
    let sandbox = Sandbox::with(300, close, |_| {}).await;
    let bound = sandbox.token_with(|claims| claims["purpose"] = json!("opportunity.measure"));
    let client = sandbox.client_with(|c| c.token = Some(bound)).await;
    for (around, forbidden, absent) in [
        ("SELECT * FROM views.{}", "cardiovascular_support", "no_such_view_at_all_"),
        ("SELECT count(c.{}) AS a, count(*) AS n FROM dwp.claims c", "months_claiming", "months_nothing_"),
        ("SELECT count(*) AS n FROM dwp.claims WHERE {} > 3 AND claiming", "months_claiming", "months_nothing_"),
        ("SELECT count(*) AS n FROM dhsc.health WHERE {} = 'high'", "cardiovascular_risk", "nothing_at_all"),
    ] {
        let mut told = Vec::new();
        for name in [forbidden, absent] {
            let explained = client.explain(&around.replace("{}", name)).await.unwrap();
            told.push(format!("{:?}", ExplainResponse { query_id: String::new(), ..explained }).replace(name, "NAME"));
        }
        assert_eq!(told[0], told[1], "{around}");
        assert!(told[0].contains("Denied"), "{around}: {}", told[0]);
    }
}

#[tokio::test]
async fn an_explanation_whose_caller_leaves_is_recorded_as_cancelled_and_gives_its_place_back() {
    const BUSY: &str = "SELECT count(*) AS n FROM dwp.claims";
    let sandbox = Sandbox::with(
        300,
        |federation| {
            federation.limits.concurrent_queries = Some(1);
            federation.limits.wait_seconds = Some(60);
        },
        |_| {},
    )
    .await;
    let (busy, asking) = (user(&sandbox, "busy").await, user(&sandbox, "asking").await);
    busy.query(BUSY).await.unwrap();
    let stopped = Stopped::node(&sandbox, "dwp");
    let opened = |caller: &str, intent: &str| {
        let of = |entry: &&Value| entry["event"] == "query.opened" && entry["caller"] == caller && entry["intent"] == intent;
        sandbox.log("gateway").iter().filter(of).filter_map(|entry| entry["query_id"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let before = opened("busy", "answer").len();
    let holding = tokio::spawn({
        let busy = busy.clone();
        async move { busy.query(BUSY).await }
    });
    until("the only place is taken", || opened("busy", "answer").len() > before).await;
    let deadline = Instant::now() + Duration::from_secs(8);
    let (waiting, query_id) = loop {
        let known = opened("asking", "explain").len();
        let waiting = tokio::spawn({
            let asking = asking.clone();
            async move { asking.explain(ROWS).await }
        });
        until("the explanation is opened", || opened("asking", "explain").len() > known).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        if !waiting.is_finished() {
            break (waiting, opened("asking", "explain").pop().unwrap());
        }
        // It came before the query, which gets its place now.
        assert!(Instant::now() < deadline, "the place is never taken");
    };
    waiting.abort();
    let told = |event: &'static str| {
        let of = |entry: &Value| entry["event"] == event && entry["query_id"] == query_id.as_str();
        sandbox.log("gateway").into_iter().filter(of).collect::<Vec<_>>()
    };
    until("its entry is closed", || told("query.refused").len() == 1).await;
    assert_eq!(told("query.refused")[0]["code"], "cancelled");
    assert!(told("query.explained").is_empty(), "nothing was explained");
    drop(stopped);
    let _ = holding.await.unwrap();
    // Nobody waits before the next one any more.
    let Some(Decision::Denied(denied)) = asking.explain(ROWS).await.unwrap().decision else { panic!("permitted") };
    assert!(denied.proposal.is_some());
    assert_eq!((told("query.refused").len(), told("query.explained").len()), (1, 0), "closed once");
    hold_no_statement(&sandbox);
}
