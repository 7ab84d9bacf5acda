//! What became of each cell, on request: `concordat query --cells`.

use concordat_policy::Disclosure;
use serde_json::Value;

use crate::commands::run;
use crate::sandbox::{Sandbox, disclosing};

const SQL: &str = "SELECT region, disadvantage_band, count(DISTINCT subject) AS persons, avg(attainment8) AS mean, count(DISTINCT subject) * 2 AS twice \
                   FROM dfe.attainment WHERE region <> $but GROUP BY region, disadvantage_band ORDER BY 1, 2";
const VALUES: [&str; 3] = ["persons", "mean", "twice"];
const WHY: &str = "withheld: fewer than 10 distinct subjects, or its 2 largest contributors make more than 90 % of it, or ";

#[tokio::test]
async fn each_value_says_whether_it_is_told_rounded_or_withheld() {
    let sandbox = Sandbox::with(3_000, disclosing(Disclosure::default()), |_| {}).await;
    let ask = |sql: &str, more: &[&str]| run(&sandbox, &[&["query", "--sql", sql], more].concat());
    let of = ["--param", "but=London"];

    let plain = ask(SQL, &[&of[..], &["--output", "json"]].concat()).json();
    assert!(!plain.to_string().contains("_status"), "only where it is asked for: {plain}");

    // With parameters, and so as a prepared statement; and as one that names the region.
    let prepared = ask(SQL, &[&of[..], &["--cells", "--output", "json"]].concat()).json();
    let whole = ask(&SQL.replace("$but", "'London'"), &["--cells", "--output", "json"]).json();
    assert_eq!(prepared["rows"], whole["rows"]);
    let columns: Vec<&str> = whole["columns"].as_array().unwrap().iter().filter_map(|column| column["name"].as_str()).collect();
    let expected = ["region", "disadvantage_band", "persons", "persons_status", "mean", "mean_status", "twice", "twice_status", "withheld"];
    assert_eq!(columns, expected);
    let (mut told, mut withheld) = (0, 0);
    for row in whole["rows"].as_array().unwrap() {
        let masked: Vec<&str> =
            row["withheld"].as_str().and_then(|text| text.split_once(": ")).map_or(Vec::new(), |(names, _)| names.split(", ").collect());
        for name in VALUES {
            let status = row[format!("{name}_status")].as_str().unwrap();
            if masked.contains(&name) {
                assert!(row[name] == Value::Null && status.starts_with(WHY), "{row}");
                withheld += 1;
            } else {
                assert_eq!(status, "rounded", "{row}");
                told += 1;
            }
        }
    }
    assert!(told > 0 && withheld > 0, "{told} told, {withheld} withheld");

    // A detached query keeps what was asked for, for whoever picks its answer up.
    let id = ask(&SQL.replace("$but", "'London'"), &["--cells", "--detach"]).text();
    let collected = run(&sandbox, &["result", id.trim(), "--output", "json"]).json();
    assert_eq!((&collected["columns"], &collected["rows"]), (&whole["columns"], &whole["rows"]));

    let table = ask(SQL, &[&of[..], &["--cells", "--output", "table"]].concat()).text();
    assert!(table.contains(&format!("\n· {WHY}")) && table.contains("other values: rounded"), "{table}");
    assert!(table.matches('·').count() > withheld && !table.contains("persons_status"), "{table}");
}
