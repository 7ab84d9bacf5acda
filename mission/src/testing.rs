//! A mission and snapshots to test with.

use std::sync::atomic::{AtomicU64, Ordering};

use chrono::NaiveDate;
use serde_json::json;

use crate::mission::Mission;
use crate::snapshot::Snapshot;

/// A share that is to fall from 0.5 to 0.4 in 1,000 days; `[[breakdown]]` by region.
pub(crate) const MISSION: &str = r#"
mission = "m"
title = "T"
goal = "G"
owner = "unit"
identity = "mission-m"
starts = "2026-04-01"
ends = "2029-03-31"

[[outcome]]
id = "fewer"
title = "Fewer"
purpose = "m.measure"
view = "v"
column = "share"
kind = "share"
counted = "persons"
row = { total = 1 }
unit = "share of persons, 0 to 1"
direction = "down"
baseline = { value = 0.5, on = "2026-04-01" }
target = { value = 0.4, on = "2028-12-26" }
milestones = [{ title = "half way", value = 0.45, on = "2027-08-14" }]
lead = "a"
contributing = ["b"]
every = "month"

[[outcome.breakdown]]
title = "By region"
by = ["region"]
row = { total = 0 }

[[output]]
id = "visits"
title = "Visits"
activity = "Somebody calls"
owner = "a"
outcomes = ["fewer"]
status = "running"
since = "2026-05-01"
counts = [{ what = "calls", value = 120, on = "2026-06-30" }]
"#;

pub(crate) fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

pub(crate) fn mission() -> Mission {
    Mission::parse(MISSION).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// A query's id that no other has.
fn another() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    format!("q-{}", LAST.fetch_add(1, Ordering::Relaxed))
}

/// A snapshot of that day with the headline's value, exact, of a thousand persons, and no region.
pub(crate) fn snapshot(number: u64, on: &str, period: Option<&str>, value: f64) -> Snapshot {
    let at = day(on).and_hms_opt(12, 0, 0).unwrap().and_utc();
    let taken = json!({
        "mission": "m", "outcome": "fewer", "period": period, "taken_at": at,
        "asked_by": { "issuer": "i", "subject": "mission-m", "organisation": "unit" },
        "definition": "d", "view": "v",
        "aim": {
            "every": "month", "from": "2026-04-01", "ends": "2029-03-31", "standing": [], "direction": "down",
            "baseline": { "value": 0.5, "on": "2026-04-01" }, "target": { "value": 0.4, "on": "2028-12-26" },
        },
        "stated": {
            "query_id": another(), "purpose": "m.measure", "log_entry": 7, "agreement_digests": { "m": "0" }, "precision": { "round_to": 1 },
            "minimum_subjects": 10, "consent": [{ "department": "a", "consent_version": 3 }], "promise": { "time": at },
            "sources": [{ "department": "a", "dataset": "people", "freshness": at.timestamp(), "consent_version": 3 }],
        },
        "columns": [
            { "name": "region", "protected": false }, { "name": "total", "protected": false },
            { "name": "persons", "protected": true }, { "name": "share", "protected": true },
        ],
        "rows": [[{ "value": null }, { "value": 1 }, { "value": 1000, "status": "told" }, { "value": value, "status": "told" }]],
        "supersedes": null, "because": null,
    });
    Snapshot { number, taken: serde_json::from_value(taken).unwrap(), previous: String::new(), digest: String::new() }
}
