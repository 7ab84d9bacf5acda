//! Each kind of denial with its cause and its proposal, which is judged again as if its reader had sent it; and that what a caller
//! may not know of and what is nowhere are explained alike.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta};
use concordat_guard::ClaimGuard;
use concordat_policy::decision::{Rule, Whose};
use concordat_policy::{Agreement, Caller, Permit, PurposeTree, Refusal, Signatures, authorize};
use concordat_proto::{CONTRACT_VERSION, v1};
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use super::{Explanation, Permitted, Proposal, Search, decides, differing, judged, told};
use crate::estate::{Estate, View};
use crate::fetch::{leaves, request};
use crate::plan::tests::{AGREEMENT, agreed, engine, name, now, sign};
use crate::workers::Workers;

const PURPOSES: &str =
    r#"purpose = [{ id = "p", title = "P" }, { id = "p.narrow", title = "N", parent = "p" }, { id = "q", title = "Q" }]"#;

/// An agreement of the other mission and purpose, with a dataset and a view of its own.
fn other() -> Agreement {
    let text = AGREEMENT.replace("id = \"test\"", "id = \"other\"").replace("mission = \"m\"", "mission = \"n\"");
    agreed(&text.replace("purposes = [\"p\"]", "purposes = [\"q\"]").replace("name = \"people\"", "name = \"pupils\""))
}

fn estate(agreements: Vec<Agreement>, unsigned: &[&str]) -> Arc<Estate> {
    let mut signatures = Signatures::default();
    for agreement in agreements.iter().filter(|agreement| !unsigned.contains(&agreement.id.as_str())) {
        sign(&mut signatures, agreement, &[]);
    }
    let view = |mission: &str, view: &str, sql: &str| View {
        name: view.into(),
        mission: name(mission),
        title: String::new(),
        unit: String::new(),
        description: String::new(),
        sql: sql.into(),
    };
    Arc::new(Estate {
        departments: Vec::new(),
        purposes: PurposeTree::parse(PURPOSES).unwrap(),
        missions: Vec::new(),
        views: vec![
            view("m", "refused", "SELECT score FROM a.people"),
            view("n", "elsewhere", "SELECT region, count(*) AS persons FROM a.pupils GROUP BY region"),
            view("m", "telling", "SELECT region, sum(secret) AS total FROM a.people GROUP BY region"),
        ],
        templates: Vec::new(),
        agreements,
        signatures,
        guard: ClaimGuard::default(),
    })
}

fn permit(estate: &Estate, purpose: &str) -> Result<Permit, Refusal> {
    let caller = Caller { subject: "u".into(), organisation: "unit".into(), roles: ["analyst".to_owned()].into(), purpose: name(purpose) };
    authorize(&caller, None, &estate.agreements, &estate.signatures, &estate.purposes, now())
}

async fn judge(estate: &Estate, permit: &Permit, sql: &str) -> Result<(), Refusal> {
    judged(permit, &sql.into(), estate, engine()).await.map(drop)
}

/// Pseudonyms of two epochs never match: a query that stood across their boundary would be answered too small.
#[tokio::test]
async fn all_requests_of_a_statement_are_of_the_epoch_of_one_moment() {
    let estate = estate(vec![agreed(AGREEMENT)], &[]);
    let sql = "SELECT p.region, avg(c.amount) AS mean FROM a.people p JOIN b.claims c ON p.subject = c.subject GROUP BY p.region";
    let own = permit(&estate, "p").unwrap();
    let plan = judged(&own, &sql.into(), &estate, engine()).await.unwrap();
    let boundary = DateTime::from_timestamp(230 * 90 * 86_400, 0).unwrap();
    let epochs = |at| {
        let requests = leaves(plan.physical()).unwrap().into_iter().map(|spec| request(&spec, "q", CONTRACT_VERSION, at).unwrap());
        requests.map(|request| request.domain.unwrap().epoch).collect::<Vec<_>>()
    };
    assert_eq!(epochs(boundary - TimeDelta::milliseconds(1)), [229, 229]);
    assert_eq!(epochs(boundary), [230, 230]);
}

/// Explains a statement that is denied, as the pipeline does, and judges its proposal as it stands.
async fn denied(estate: &Arc<Estate>, purpose: &str, others: &[&str], sql: &str) -> (Refusal, Option<Proposal>) {
    let own = permit(estate, purpose);
    let refusal = match &own {
        Ok(own) => judge(estate, own, sql).await.err().unwrap_or_else(|| panic!("permitted: {sql}")),
        Err(refusal) => refusal.clone(),
    };
    assert!(decides(&refusal), "{sql}: {refusal:?}");
    let own = own.ok();
    let search = Search {
        estate: estate.clone(),
        purpose: name(purpose),
        others: differing(own.as_ref(), others.iter().filter_map(|purpose| permit(estate, purpose).ok())),
        permit: own,
        engine: engine(),
        until: Instant::now() + Duration::from_secs(60),
        wanted: CancellationToken::new(),
    };
    let proposal = search.nearest(sql, &refusal).await;
    if let Some(proposal) = &proposal {
        let permit = permit(estate, proposal.purpose.as_str()).unwrap();
        assert_eq!(*permit.mission(), proposal.mission);
        if let Err(refusal) = judge(estate, &permit, &proposal.sql).await {
            panic!("{sql}\nproposed: {proposal:?}\n{refusal:?}");
        }
    }
    (refusal, proposal)
}

#[tokio::test]
async fn each_kind_of_denial_has_its_smallest_cause_and_the_nearest_permitted_query() {
    let estate = estate(vec![agreed(AGREEMENT)], &[]);
    for (sql, cause, proposed, change) in [
        // Put out: summarised, grouped by, counted, or left out.
        ("SELECT score FROM a.people", "use", "SELECT avg(score) AS score FROM a.people", "summarise a.people.score"),
        (
            "SELECT region, score FROM a.people",
            "use",
            "SELECT region, avg(score) AS score FROM a.people GROUP BY region",
            "group by a.people.region; summarise a.people.score",
        ),
        (
            "SELECT region FROM a.people",
            "use",
            "SELECT region, count(*) AS persons FROM a.people GROUP BY region",
            "group by a.people.region",
        ),
        ("SELECT subject FROM a.people", "use", "SELECT count(DISTINCT subject) AS subjects FROM a.people", "summarise a.people.subject"),
        ("SELECT year, score FROM a.people", "use", "SELECT year FROM a.people", "leave out a.people.score"),
        // As a key.
        (
            "SELECT score, count(*) FROM a.people GROUP BY score",
            "use",
            "SELECT avg(score) AS score, count(*) FROM a.people",
            "summarise a.people.score",
        ),
        // Summarised.
        (
            "SELECT region, count(*), avg(age) FROM a.people GROUP BY region",
            "use",
            "SELECT region, count(*) FROM a.people GROUP BY region",
            "leave out a.people.age",
        ),
        // As a condition, wherever it stands.
        (
            "SELECT count(*) FROM a.people WHERE score > 3 AND flag",
            "use",
            "SELECT count(*) FROM a.people WHERE flag",
            "leave out the condition on a.people.score",
        ),
        (
            "SELECT count(*) FILTER (WHERE score > 3) FROM a.people",
            "use",
            "SELECT count(*) FROM a.people",
            "leave out the condition on a.people.score",
        ),
        // Kept at its department.
        (
            "SELECT count(*) FILTER (WHERE age > 3) FROM a.people",
            "kept",
            "SELECT count(*) FROM a.people WHERE age > 3",
            "state in WHERE the condition on a.people.age",
        ),
        // Not there, or not for this caller.
        ("SELECT year, secret FROM a.people", "hidden", "SELECT year FROM a.people", "leave out 'secret'"),
        // The gateway's rules.
        (
            "SELECT region, max(score) FROM a.people GROUP BY region",
            "rule",
            "SELECT region, avg(score) FROM a.people GROUP BY region",
            "use avg instead of max",
        ),
        ("SELECT count(*), sum(score * 2) FROM a.people", "rule", "SELECT count(*) FROM a.people", "leave out column 2 of the answer"),
    ] {
        let (refusal, proposal) = denied(&estate, "p", &[], sql).await;
        assert_eq!(refusal.cause().map(|cause| cause.as_str()), Some(cause), "{sql}: {refusal:?}");
        let proposal = proposal.unwrap_or_else(|| panic!("no proposal: {sql}\n{refusal:?}"));
        assert_eq!((proposal.sql.as_str(), proposal.change.as_str()), (proposed, change), "{sql}");
    }
}

/// A comparison with another value than a threshold of the column's bands is moved to the nearest, where there is one to move.
#[tokio::test]
async fn a_condition_beyond_bands_is_stated_by_them() {
    let day = "day = { type = \"date\", classification = \"personal\", uses = [\"filter\"], filter = \"bands\", bands = [\"2020-01-01\", \"2021-01-01\"] }";
    let text = AGREEMENT.replace("score = {", &format!("{day}\nscore = {{")).replace(
        "uses = [\"aggregate\"] }\nage",
        "uses = [\"aggregate\", \"filter\"], filter = \"bands\", bands = [\"-10\", \"30\", \"40.5\"] }\nage",
    );
    let estate = estate(vec![agreed(&text)], &[]);
    let moved = |column: &str| format!("state by its bands the condition on a.people.{column}");
    for (sql, proposed, change) in [
        ("score < 31", "score < 30", moved("score")),
        ("flag AND score > 35.5", "flag AND score >= 40.5", moved("score")),
        ("-8 >= score", "score < -10", moved("score")),
        ("score BETWEEN 29 AND 50", "(score >= 30 AND score < 40.5)", moved("score")),
        ("score NOT BETWEEN 29 AND 50", "NOT (score >= 30 AND score < 40.5)", moved("score")),
        ("day > DATE '2020-11-30'", "day >= '2021-01-01'", moved("day")),
        ("flag AND score = 30", "flag", "leave out the condition on a.people.score".into()),
        ("flag AND score BETWEEN 28 AND 31", "flag", "leave out the condition on a.people.score".into()),
    ] {
        let (refusal, proposal) = denied(&estate, "p", &[], &format!("SELECT count(*) FROM a.people WHERE {sql}")).await;
        assert_eq!(refusal.cause().map(|cause| cause.as_str()), Some("unlisted"), "{sql}: {refusal:?}");
        let proposal = proposal.unwrap_or_else(|| panic!("no proposal: {sql}\n{refusal:?}"));
        assert_eq!((proposal.sql, proposal.change), (format!("SELECT count(*) FROM a.people WHERE {proposed}"), change), "{sql}");
    }
    let inside = "SELECT count(*) FILTER (WHERE score <= 30), avg(CASE WHEN score > 40 THEN 1.0 END) FROM a.people";
    let proposal = denied(&estate, "p", &[], inside).await.1.unwrap();
    let stated = "SELECT count(*) FILTER (WHERE score < 30), avg(CASE WHEN score >= 40.5 THEN 1.0 END) FROM a.people";
    assert_eq!((proposal.sql.as_str(), proposal.change), (stated, moved("score")));
}

#[tokio::test]
async fn several_faults_are_mended_one_after_the_other_and_joins_keep_their_tie() {
    let estate = estate(vec![agreed(AGREEMENT)], &[]);
    let joined = "SELECT count(*) FROM a.people p JOIN b.claims c ON p.subject = c.subject AND p.score > 3 WHERE p.secret = 'x'";
    let proposal = denied(&estate, "p", &[], joined).await.1.unwrap();
    assert!(proposal.sql.contains("p.subject = c.subject") && !proposal.sql.contains("score"), "{proposal:?}");
    assert!(proposal.change.contains("'secret'; leave out the condition on a.people.score"), "{proposal:?}");
    let ordered = "SELECT p.year, p.score FROM a.people p ORDER BY p.score";
    assert!(!denied(&estate, "p", &[], ordered).await.1.unwrap().sql.contains("ORDER BY"));
}

#[tokio::test]
async fn nothing_is_proposed_where_no_small_change_helps_nor_of_a_view_whose_text_was_not_seen() {
    let one = agreed(AGREEMENT);
    let signed = estate(vec![one.clone()], &[]);
    for sql in ["SELEC", "SELECT * FROM a.absent", "SELECT 1 FROM a.people", "SELECT * FROM views.refused", "SELECT secret FROM a.people"] {
        assert_eq!(denied(&signed, "p", &["q"], sql).await.1, None, "{sql}");
    }
    let unsigned = estate(vec![one], &["test"]);
    let (refusal, proposal) = denied(&unsigned, "p", &["q"], "SELECT count(*) FROM a.people").await;
    assert_eq!((refusal.cause().map(|cause| cause.as_str()), proposal), (Some("signature"), None));
    assert!(refusal.message.contains("'test' does not bind: the signature of 'a' is missing"), "{refusal}");
}

#[tokio::test]
async fn whoever_stops_waiting_ends_the_search() {
    let estate = estate(vec![agreed(AGREEMENT)], &[]);
    let sql = "SELECT score FROM a.people";
    let own = permit(&estate, "p").unwrap();
    let refusal = judge(&estate, &own, sql).await.unwrap_err();
    let workers = Workers::new(1).unwrap();
    let search = || {
        let wanted = CancellationToken::new();
        let search = Search {
            estate: estate.clone(),
            purpose: name("p"),
            permit: Some(own.clone()),
            others: Vec::new(),
            engine: engine(),
            until: Instant::now() + Duration::from_secs(60),
            wanted: wanted.clone(),
        };
        (search, wanted)
    };
    let (waited_for, _) = search();
    assert!(waited_for.on(&workers, sql.to_owned(), refusal.clone()).await.unwrap().is_some());
    // Whoever leaves says so to the search that is under way ...
    let (left, wanted) = search();
    let (_ends, waits) = tokio::sync::oneshot::channel::<()>();
    tokio::select! {
        biased;
        // The only planner is taken, so that the search cannot end before it is left.
        _ = workers.plan(waits) => panic!("nothing ends it"),
        left = tokio::time::timeout(Duration::ZERO, left.on(&workers, sql.to_owned(), refusal.clone())) => assert!(left.is_err()),
    }
    assert!(wanted.is_cancelled());
    // ... and a search that hears it judges nothing more.
    let (unwanted, wanted) = search();
    wanted.cancel();
    assert_eq!(unwanted.nearest(sql, &refusal).await, None);
}

#[tokio::test]
async fn another_purpose_is_proposed_only_to_who_may_claim_it() {
    let estate = estate(vec![agreed(AGREEMENT), other()], &[]);
    let sql = "SELECT count(*) FROM a.pupils";
    for purpose in ["p", "p.narrow", "no-such-purpose"] {
        let (_, proposal) = denied(&estate, purpose, &["p", "p.narrow", "q"], sql).await;
        let proposal = proposal.unwrap_or_else(|| panic!("{purpose}"));
        assert_eq!((proposal.purpose.as_str(), proposal.mission.as_str(), proposal.sql.as_str()), ("q", "n", sql));
        assert_eq!(denied(&estate, purpose, &["p", "p.narrow"], sql).await.1, None, "{purpose}");
    }
    let (refusal, _) = denied(&estate, "no-such-purpose", &[], sql).await;
    assert_eq!(refusal.cause().map(|cause| cause.as_str()), Some("purpose"));
    let own = permit(&estate, "p").unwrap();
    assert!(differing(Some(&own), ["p", "p.narrow"].map(|purpose| permit(&estate, purpose).unwrap())).is_empty(), "the same agreements");
}

#[tokio::test]
async fn what_is_forbidden_and_what_is_absent_are_explained_alike() {
    let estate = estate(vec![agreed(AGREEMENT), other()], &[]);
    for (around, forbidden, absent) in [
        ("SELECT year, {} FROM a.people", "secret", "absent"),
        ("SELECT count({}) FROM a.people", "secret", "absent"),
        ("SELECT year FROM a.people WHERE {} = 'x' AND year > 3", "secret", "absent"),
        ("SELECT region, count(*) FROM a.people p GROUP BY region, p.{}", "secret", "absent"),
        ("SELECT count(*) FROM a.{}", "pupils", "nobody"),
        ("SELECT count(*) FROM a.people p JOIN a.{} q ON p.subject = q.subject", "pupils", "nobody"),
        ("SELECT * FROM views.{}", "elsewhere", "nobody"),
        ("SELECT count(*) FROM {}", "elsewhere", "nobody"),
        // A view whose own text names what this caller may not use.
        ("SELECT * FROM views.{}", "telling", "nobody"),
        ("SELECT total FROM views.{} WHERE total > 3", "telling", "nobody"),
    ] {
        let mut answers = Vec::new();
        for named in [forbidden, absent] {
            let (refusal, proposal) = denied(&estate, "p", &["p", "p.narrow"], &around.replace("{}", named)).await;
            let told = told(String::new(), &name("p"), Explanation::Denied(refusal, proposal));
            answers.push(String::from_utf8_lossy(&told.encode_to_vec()).replace(named, "NAMED!"));
        }
        assert_eq!(answers[0], answers[1], "{around}");
    }
}

#[tokio::test]
async fn a_permit_names_the_uses_the_strictest_rule_with_its_owner_and_the_typed_requests() {
    let (first, rest) = AGREEMENT.split_once("[[dataset]]\ndepartment = \"b\"").unwrap();
    let head = first.split_once("[[dataset]]").unwrap().0.replace("id = \"test\"", "id = \"strict\"\nminimum_subjects = 25");
    let strict = agreed(&format!("{head}[[dataset]]\ndepartment = \"b\"{rest}"));
    let estate = estate(vec![agreed(first), strict], &[]);
    let own = permit(&estate, "p").unwrap();
    let sql = "SELECT p.region, avg(c.amount) AS mean FROM a.people p JOIN b.claims c ON p.subject = c.subject WHERE p.age > 18 GROUP BY p.region";
    let plan = judged(&own, &sql.into(), &estate, engine()).await.unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let permitted = Permitted::of(own, &plan, "id").unwrap();
    assert!(permitted.decision.columns.contains(&"a.people.age: filter".to_owned()), "{:?}", permitted.decision);
    let whose = Whose { agreements: vec![name("strict")], departments: vec![name("b")] };
    let strictest = Rule::MinimumSubjects { subjects: 25, whose };
    assert_eq!(permitted.decision.rules[0], strictest, "the strictest wins, and is named");
    let told = told("id".into(), &name("p"), Explanation::Permitted(permitted));
    let Some(v1::explain_response::Decision::Permitted(permitted)) = told.decision else { panic!("denied") };
    let people = permitted.tables.iter().find(|table| table.dataset == "a.people").unwrap();
    assert_eq!(
        (people.agreement.as_str(), people.basis(), people.basis_text.as_str()),
        ("test", v1::Basis::StatutoryHonouringObjections, "test")
    );
    let region = people.columns.iter().find(|column| column.name == "region").unwrap();
    assert_eq!((region.needs.join(" "), region.granted.join(" ")), ("group_by".into(), "group_by filter".into()));
    let request = permitted.requests.iter().find(|request| request.department == "a").unwrap().request.clone().unwrap();
    assert_eq!((request.dataset.as_str(), request.columns.join(" ").as_str(), request.partitions), ("people", "region", 2));
    assert!(request.predicate.is_some() && request.agreement == "test" && request.basis() == v1::Basis::StatutoryHonouringObjections);
    let columns: Vec<_> = permitted.requests.iter().flat_map(|request| request.request.clone().unwrap().columns).collect();
    assert!(!columns.contains(&"age".to_owned()), "a column that may only filter never leaves: {columns:?}");
}
