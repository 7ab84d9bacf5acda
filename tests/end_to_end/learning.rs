//! Test and learn from end to end: what a comparison says of an estate's snapshots, that a pivot keeps it, and who rests on what.

use std::sync::Arc;

use arrow::array::{AsArray as _, Float64Array, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use base64::prelude::{BASE64_STANDARD as STANDARD, Engine as _};
use concordat::failure::{LOCAL, USAGE};
use concordat_mission::{Snapshots as _, SqliteStore};
use concordat_proto::answer::{AnswerDigest, Salt};
use serde_json::{Value, json};

use crate::commands::{Ran, command, run};
use crate::sandbox::Sandbox;

const OUTCOME: &str = "fewer-on-benefits";
const WITH: [&str; 3] = ["London", "North East", "South West"];

fn done(sandbox: &Sandbox, arguments: &[&str]) -> Ran {
    let ran = run(sandbox, arguments);
    assert_eq!(ran.exit, 0, "{arguments:?}: {}{}", ran.text(), ran.stderr);
    ran
}

/// Eight months of the gateway's own answer, each with a promise of its own that nobody signed; from the sixth on, the share is a tenth
/// lower where the output is.
fn months(sandbox: &Sandbox, path: &str) {
    done(sandbox, &["mission", "snapshot", "opportunity", "--outcome", OUTCOME]);
    let real = SqliteStore::read(&sandbox.layout.snapshots()).unwrap().unwrap();
    let (answered, bytes) = (real.all().unwrap().remove(0).taken, real.answer(1).unwrap());
    let reader = StreamReader::try_new(bytes.as_slice(), None).unwrap();
    let (schema, batches) = (reader.schema(), reader.collect::<Result<Vec<_>, _>>().unwrap());
    let whole = concat_batches(&schema, &batches).unwrap();
    let (regions, place) = (cast(&whole["region"], &DataType::Utf8).unwrap(), schema.index_of("share_claiming").unwrap());
    let (regions, shares) = (regions.as_string::<i32>(), whole.column(place).as_primitive::<Float64Type>());
    let mut store = SqliteStore::open(path.as_ref()).unwrap();
    for month in 1..=8 {
        let mut taken = answered.clone();
        taken.taken_at = format!("2026-{month:02}-15T12:00:00Z").parse().unwrap();
        taken.stated.sources.iter_mut().for_each(|source| source.freshness = taken.taken_at);
        let with = |region: Option<&str>| month > 5 && region.is_some_and(|region| WITH.contains(&region));
        let lower = |(share, region): (Option<f64>, Option<&str>)| share.map(|share| if with(region) { share - 0.1 } else { share });
        let told: Float64Array = shares.iter().zip(regions.iter()).map(lower).collect();
        taken.rows.iter_mut().zip(told.iter()).for_each(|(row, share)| row[3].value = json!(share));
        let mut columns = whole.columns().to_vec();
        columns[place] = Arc::new(told);
        let changed = RecordBatch::try_new(schema.clone(), columns).unwrap();

        let id = format!("month-{month}");
        let promise = &mut taken.stated.promise;
        let salt: Salt = STANDARD.decode(promise["answer"]["salt"].as_str().unwrap()).unwrap().try_into().unwrap();
        let mut digest = AnswerDigest::of(&schema).unwrap();
        digest.add(&changed).unwrap();
        promise["answer"]["digest"] = json!(STANDARD.encode(digest.finish(&salt)));
        (promise["answer"]["query_id"], promise["time"]) = (json!(id), json!(taken.taken_at));
        taken.stated.query_id = id;
        let mut writer = StreamWriter::try_new(Vec::new(), &schema).unwrap();
        writer.write(&changed).unwrap();
        store.add(taken, &writer.into_inner().unwrap()).unwrap();
    }
}

#[tokio::test]
async fn what_was_learnt_is_kept_as_it_stood() {
    let sandbox = Sandbox::start(3_000).await;
    let path = sandbox.layout.folder().join("months.sqlite");
    let path = path.to_str().unwrap();
    months(&sandbox, path);
    let groups = ["--outcome", OUTCOME, "--by", "region", "--began", "2026-06-01", "--store", path];
    let with: Vec<&str> = WITH.iter().flat_map(|region| ["--with", *region]).collect();
    let asked =
        |more: &[&'static str]| -> Vec<&str> { [&["mission", "compare", "opportunity"][..], groups.as_slice(), &with, more].concat() };
    let refused = run(&sandbox, &asked(&[]));
    assert!(refused.exit == i32::from(LOCAL) && refused.stderr.contains("snapshot 1: "), "nobody signed them: {}", refused.stderr);
    // Where the key of the gateway's log is not known.
    let (elsewhere, estate) = (sandbox.layout.folder().join("elsewhere"), sandbox.layout.estate());
    let compare = |more: &[&'static str]| {
        let mut command = command(asked(more));
        Ran::from(command.arg("--folder").arg(&elsewhere).arg("--estate").arg(&estate).output().unwrap())
    };

    let told = compare(&["--output", "json"]);
    assert_eq!(told.exit, 0, "{}", told.stderr);
    let told = told.json();
    assert!((told["effect"].as_f64().unwrap() + 0.1).abs() < 1e-6, "{told}");
    assert_eq!(
        (&told["finding"], &told["before"], &told["after"]),
        (&json!("better"), &json!([1, 2, 3, 4, 5]), &json!([6, 7, 8])),
        "{told}"
    );
    assert!(compare(&[]).stderr.contains("not verified by any key"));
    let left_out = told["left_out"].as_array().unwrap();
    assert!(left_out.iter().all(|left| left["what"] == "Isles of Scilly") && left_out.len() == 1, "{left_out:?}");
    let text = compare(&[]).text();
    for said in ["better with it", "What this cannot show", "- Cause: unless", "- Choice: whoever asks", "Isles of Scilly"] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let late = compare(&["--until", "2026-06-30"]);
    assert!(late.exit == i32::from(LOCAL) && late.stderr.contains("5 snapshots before the output began and 1 after"), "{}", late.stderr);

    // Of an output that was stopped the file has that day, and not its first.
    let of = ["mission", "compare", "opportunity", "--outcome", OUTCOME, "--by", "region", "--of", "travel-passes", "--store", path];
    let mut unsaid = command([&of[..], &with].concat());
    let unsaid = Ran::from(unsaid.arg("--folder").arg(&elsewhere).arg("--estate").arg(&estate).output().unwrap());
    assert!(unsaid.exit == i32::from(LOCAL) && unsaid.stderr.contains("--began DATE"), "{}", unsaid.stderr);

    let pivot = ["mission", "pivot", "opportunity", "mentors", "--on", "2026-10-01", "--because", "it did what it should"];
    let more = [&pivot[..], &["--changed"], groups.as_slice(), &with].concat();
    let kept = done(&sandbox, &more).text();
    assert!(kept.contains("pivot 1: opportunity/mentors changed from 2026-10-01, by mission-unit"), "{kept}");
    let unknown = ["mission", "pivot", "opportunity", "tea", "--stopped", "--on", "2026-10-01", "--because", "x"];
    for wrong in [&pivot[..], &unknown[..]] {
        assert_eq!(run(&sandbox, wrong).exit, i32::from(USAGE), "{wrong:?}");
    }
    let pivots = done(&sandbox, &["mission", "pivots", "--store", path, "--output", "json"]).json();
    let one = &pivots["pivots"][0];
    let of = |comparison: &Value| (comparison["finding"].clone(), comparison["says"].clone(), comparison["left_out"].clone());
    assert_eq!((of(&one["comparison"]), &one["snapshots"]), (of(&told), &json!([1, 2, 3, 4, 5, 6, 7, 8])), "{one}");
    assert_eq!(one["history"]["number"], 8, "{one}");
    assert!(done(&sandbox, &["mission", "pivots", "--store", path]).text().contains("a difference of -0.1000"));
}

fn named<'v>(all: &'v Value, key: &str, name: &str) -> &'v Value {
    all.as_array().unwrap().iter().find(|one| one[key] == name).unwrap_or_else(|| panic!("no {name} in {all}"))
}

#[tokio::test]
async fn who_rests_on_what_follows_from_the_estate() {
    let sandbox = Sandbox::start(300).await;
    let reuse = done(&sandbox, &["mission", "reuse", "--output", "json"]).json();
    let claims = named(&reuse["datasets"], "dataset", "dwp.claims");
    assert_eq!(claims["missions"], json!(["healthy-life", "opportunity"]), "{claims}");
    assert_eq!(claims["outcomes"], json!(["opportunity/fewer-on-benefits"]), "{claims}");
    assert!(claims["views"].as_array().unwrap().contains(&json!("opportunity/claims_by_region")), "{claims}");
    let view = named(&reuse["views"], "view", "opportunity/claims_by_region");
    assert_eq!(view["datasets"], json!(["dfe.attainment", "dwp.claims"]));
    assert!(done(&sandbox, &["mission", "reuse"]).text().contains("dwp.claims"));

    let impact = done(&sandbox, &["mission", "impact", "opportunity", "--output", "json"]).json();
    let losing = named(&impact["outcomes"], "outcome", OUTCOME);
    assert_eq!((&losing["loses"], &losing["datasets"]), (&json!("measure"), &json!(["dfe.attainment", "dwp.claims"])), "{losing}");
    assert!(losing["outputs"].as_array().unwrap().contains(&json!("travel-passes")), "{losing}");
    let text = done(&sandbox, &["mission", "impact", "opportunity", "--from", "2026-01-01"]).text();
    assert!(
        text.contains("from 2026-01-01 on") && text.contains("its measure") && text.contains("views that nothing would answer"),
        "{text}"
    );
    // Another mission's agreement names the same dataset, and serves that mission.
    let other = done(&sandbox, &["mission", "impact", "healthy-life", "--output", "json"]).json();
    assert!(other["outcomes"].as_array().unwrap().is_empty(), "{other}");
    assert_eq!(named(&other["datasets"], "dataset", "dwp.claims")["others"], json!([]));
    assert_eq!(run(&sandbox, &["mission", "impact", "nothing"]).exit, i32::from(USAGE));
}
