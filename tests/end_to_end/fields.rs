//! What an agreement says beside the uses of columns, kept by those who are to keep it: conditions on rows, quotas by each
//! department's own count, and who may know of a dataset.

use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::Int64Type;
use concordat::federation::{Federation, Layout, adopt};
use concordat_policy::Code;
use serde_json::json;

use crate::commands::{Ran, command, run};
use crate::oracle::{Oracle, agree};
use crate::sandbox::{Sandbox, refused};

const ATTAINMENT: &str = "SELECT count(*) AS n FROM dfe.attainment";
const CLAIMS: &str = "SELECT count(*) AS n FROM dwp.claims";

/// Conditions on two datasets; the column of one loses every use.
const NARROWER: &[(&str, &str)] = &[
    (
        "name = \"attainment\"\n",
        "name = \"attainment\"\nrows = [{ column = \"cohort_year\", at_least = 2000 }, { column = \"region\", is_not = \"London\" }]\n",
    ),
    ("name = \"claims\"\n", "name = \"claims\"\nrows = [{ column = \"claim_started\", at_most = \"2025-06-30\" }]\n"),
    (
        "claim_started = { uses = [\"filter\"], filter = \"bands\", bands = [\"2022-01-01\", \"2023-01-01\", \"2024-01-01\", \"2025-01-01\", \"2026-01-01\"]",
        "claim_started = { uses = []",
    ),
];
const CLAIMS_ROWS: &str = "claim_started is at most 2025-06-30";

/// Changes the text of the agreement `opportunity`, and has every party sign it.
pub fn agreed(layout: &Layout, changes: &[(&str, &str)]) {
    let mut text = std::fs::read_to_string(layout.estate().join("agreements/opportunity.toml")).unwrap();
    for &(from, to) in changes {
        assert!(text.contains(from), "{from} is not in {text}");
        text = text.replacen(from, to, 1);
    }
    adopt(layout, &text).unwrap();
}

#[tokio::test]
async fn only_rows_that_the_agreement_is_about_are_ever_counted() {
    let sandbox = Sandbox::with(10_000, |_| {}, |layout| agreed(layout, NARROWER)).await;
    let oracle = Oracle::over(&sandbox.layout).await;
    let attainment = "(SELECT * FROM dfe.attainment WHERE cohort_year >= 2000 AND region <> 'London')";
    let claims = "(SELECT * FROM dwp.claims WHERE claim_started <= DATE '2025-06-30')";
    for (keys, sql) in [
        (1, "SELECT a.region, count(DISTINCT a.subject) AS n, avg(a.attainment8) AS m FROM {a} a GROUP BY a.region"),
        (
            1,
            "SELECT a.region, count(DISTINCT a.subject) AS n, count(c.subject) AS k, sum(c.months_claiming) AS m FROM {a} a LEFT JOIN {c} c ON a.subject = c.subject GROUP BY a.region",
        ),
        (
            1,
            "SELECT a.region, count(DISTINCT a.subject) AS n FROM {a} a WHERE a.subject NOT IN (SELECT c.subject FROM {c} c) GROUP BY a.region",
        ),
        (
            0,
            "SELECT count(DISTINCT a.subject) AS n, avg(a.attainment8) AS m FROM {a} a JOIN {c} c ON a.subject = c.subject WHERE a.cohort_year < 2010",
        ),
    ] {
        let asked = sql.replace("{a}", "dfe.attainment").replace("{c}", "dwp.claims");
        let meant = sql.replace("{a}", attainment).replace("{c}", claims);
        let answer = sandbox.query(&asked).await.unwrap_or_else(|e| panic!("{asked}: {e:?}"));
        assert!(agree(&answer, &oracle.query(&meant).await, keys) > 0, "{asked}: nothing was compared");
    }

    // What leaves is what a preview says, and everybody is told which rows that are.
    let released = sandbox.log("dwp").into_iter().rfind(|entry| entry["event"] == "release.completed").unwrap();
    let config = sandbox.layout.node("dwp").join("node.toml");
    let preview = ["node", "preview", "--agreement", "opportunity", "--purpose", "opportunity.measure", "--output", "json"];
    let shown: Ran = command(preview).arg("--config").arg(&config).output().unwrap().into();
    let dataset = shown.json()["datasets"][0].clone();
    assert_eq!((&dataset["only_rows"], &dataset["purposes"][0]["rows"]), (&json!(CLAIMS_ROWS), &released["release_rows"]));
    let text: Ran = command(["agreement", "show"]).arg(sandbox.copy("gateway", "opportunity")).output().unwrap().into();
    // Of a published list, all others are meant.
    let agreement = std::fs::read_to_string(sandbox.copy("gateway", "opportunity")).unwrap();
    let agreement = concordat_policy::Agreement::parse(&agreement).unwrap();
    let attainment = agreement.datasets.iter().find(|dataset| dataset.name.to_string() == "dfe.attainment").unwrap();
    let regions = attainment.columns["region"].values.as_ref().unwrap().iter().filter(|region| *region != "London");
    let regions = regions.map(|region| format!("{region:?}")).collect::<Vec<_>>().join(", ");
    for rows in [&format!("cohort_year is at least 2000, and region is one of {regions}"), CLAIMS_ROWS] {
        assert!(text.text().contains(&format!("    only rows where {rows}\n")), "{}{}", text.text(), text.stderr);
    }
    let explained = run(&sandbox, &["explain", CLAIMS, "--output", "json"]).json();
    assert_eq!((&explained["tables"][0]["rows"], &explained["requests"][0]["rows"]), (&json!(CLAIMS_ROWS), &json!(null)));
    let told = run(&sandbox, &["explain", CLAIMS]).text();
    let line =
        format!("dwp.claims under the agreement 'opportunity': a power of the law; objections are honoured; only rows where {CLAIMS_ROWS}");
    assert!(told.lines().any(|told| told == line), "{told}");
    let why: Ran = command(["why", explained["query_id"].as_str().unwrap(), "--log"])
        .arg(sandbox.layout.gateway().join("log"))
        .output()
        .unwrap()
        .into();
    assert!(why.text().contains(&line), "{}{}", why.text(), why.stderr);
    // That a column decides over rows makes no use of it permitted.
    assert!(sandbox.query(&format!("{CLAIMS} WHERE claim_started >= DATE '2022-01-01'")).await.is_err());
}

#[tokio::test]
async fn values_beyond_a_bound_stand_as_the_bound_for_numbers_and_conditions_alike() {
    // In place of its bands: conditions may meet it anywhere.
    let coded: &[(&str, &str)] =
        &[("filter = \"bands\", bands = [\"20\", \"30\", \"40\", \"50\", \"60\", \"70\"]", "coded = { at_least = 30, at_most = 60 }")];
    let sandbox = Sandbox::with(10_000, |_| {}, |layout| agreed(layout, coded)).await;
    let oracle = Oracle::over(&sandbox.layout).await;
    let attainment = "(SELECT subject, region, CASE WHEN attainment8 < 30 THEN 30.0 WHEN attainment8 > 60 THEN 60.0 ELSE attainment8 END \
                      AS attainment8 FROM dfe.attainment)";
    for (keys, sql) in [
        (
            1,
            "SELECT a.region, count(DISTINCT a.subject) AS n, avg(a.attainment8) AS m, count(a.attainment8) AS k FROM {a} a GROUP BY a.region",
        ),
        (0, "SELECT count(DISTINCT a.subject) AS n, avg(a.attainment8) AS m FROM {a} a WHERE a.attainment8 >= 60"),
        (0, "SELECT count(DISTINCT a.subject) AS n, avg(a.attainment8) AS m FROM {a} a WHERE a.attainment8 < 31"),
        (
            1,
            "SELECT a.region, count(DISTINCT a.subject) AS n, sum(CASE WHEN a.attainment8 >= 60 THEN 1 ELSE 0 END) AS k FROM {a} a GROUP BY a.region",
        ),
    ] {
        let asked = sql.replace("{a}", "dfe.attainment");
        let answer = sandbox.query(&asked).await.unwrap_or_else(|e| panic!("{asked}: {e:?}"));
        assert!(agree(&answer, &oracle.query(&sql.replace("{a}", attainment)).await, keys) > 0, "{asked}: nothing was compared");
        let told = "values of dfe.attainment are coded at their department: attainment8 below 30 as 30, above 60 as 60";
        assert!(answer.summary["rules"].as_array().unwrap().iter().any(|rule| rule == told), "{}", answer.summary["rules"]);
    }
    // Nobody is beyond, whatever is asked, though many are.
    let raw = oracle.query("SELECT count(DISTINCT subject) AS n FROM dfe.attainment WHERE attainment8 > 60").await;
    assert!(raw[0]["n"].as_primitive::<Int64Type>().value(0) > 100);
    for condition in ["> 60", "> 60.5", "< 30", "= 72.5", "BETWEEN 61 AND 90"] {
        let answer = sandbox.query(&format!("SELECT count(DISTINCT subject) AS n FROM dfe.attainment WHERE attainment8 {condition}")).await;
        let answer = answer.unwrap_or_else(|e| panic!("{condition}: {e:?}"));
        assert!(answer.batches.iter().all(|batch| batch["n"].null_count() == batch.num_rows()), "{condition}");
    }

    let catalogue = run(&sandbox, &["catalogue", "attainment8", "--output", "json"]).json();
    let words = "below 30 as 30, above 60 as 60";
    assert_eq!(catalogue["datasets"][0]["columns"][0]["coded"], words);
    let explained = run(&sandbox, &["explain", "SELECT avg(attainment8) AS m FROM dfe.attainment"]).text();
    assert!(explained.contains(&format!("; coded: attainment8 {words}\n")), "{explained}");
}

#[tokio::test]
async fn who_may_know_of_a_dataset_is_told_that_it_exists_and_nothing_else() {
    let known: &[(&str, &str)] = &[("name = \"attainment\"\n", "name = \"attainment\"\nknown_to = [\"mission-unit\", \"other-unit\"]\n")];
    let sandbox = Sandbox::with(300, |_| {}, |layout| agreed(layout, known)).await;
    let of = |organisation: &str| sandbox.token_with(|claims| claims["organisation"] = json!(organisation));
    // For another purpose, to the organisation that may use it for its own.
    let elsewhere = sandbox.client_with(|c| c.purpose = Some("health.prevention".into())).await;
    let failure = refused(elsewhere.query(ATTAINMENT).await, Code::Denied, "dfe.attainment exists, and no agreement lets you use it");
    assert_eq!(failure.department.as_deref(), Some("dfe"));
    assert!(format!("{failure:?}").contains("data-sharing@dfe.example"), "{failure:?}");
    let hidden = "SELECT count(*) AS n FROM dbt.apprenticeships";
    refused(elsewhere.query(hidden).await, Code::Denied, "may not be used for this purpose, or does not exist");
    // To an organisation that no agreement names as a recipient.
    for (organisation, datasets) in [("other-unit", &["dfe.attainment"][..]), ("third-unit", &[][..])] {
        let stranger = sandbox.client_with(|c| c.token = Some(of(organisation))).await;
        let told = stranger.who_am_i().await.unwrap();
        assert_eq!(told.known.iter().map(|known| known.dataset.as_str()).collect::<Vec<_>>(), datasets, "{organisation}");
        assert!(told.known.iter().all(|known| known.contact == "data-sharing@dfe.example") && told.purposes.is_empty());
        refused(stranger.query(ATTAINMENT).await, Code::Denied, "no agreement in force");
        refused(stranger.catalogue().await, Code::Denied, "no agreement in force");
    }
}

#[tokio::test]
async fn a_department_keeps_to_the_quotas_by_its_own_count() {
    let limited = |federation: &mut Federation| {
        federation.agreements.iter_mut().find(|a| a.id == "opportunity").unwrap().limits.releases_per_day = Some(2);
    };
    let mut sandbox = Sandbox::with(300, limited, |_| {}).await;
    sandbox.query(CLAIMS).await.unwrap();
    sandbox.query(CLAIMS).await.unwrap();
    let says = "'dwp' has made the 2 releases a day that the agreement 'opportunity' permits";
    for restarted in [false, true] {
        if restarted {
            sandbox.running.kill("dwp");
            sandbox.running.restart_node("dwp").await.unwrap();
            sandbox.running.restart_gateway().await.unwrap();
        }
        let failure = refused(sandbox.query(CLAIMS).await, Code::NodeRefused, says);
        assert!(failure.department.as_deref() == Some("dwp") && failure.message.contains("from 00:00 UTC"), "{failure:?}");
    }
    let entry = sandbox.log("dwp").into_iter().rfind(|entry| entry["event"] == "order.refused").unwrap();
    assert_eq!(entry["code"], "limit_exceeded");
    // Each department counts its own, and each agreement its own.
    sandbox.query(ATTAINMENT).await.unwrap();
    sandbox.client_with(|c| c.purpose = Some("health.prevention".into())).await.query(CLAIMS).await.unwrap();
}
