use serde_json::json;

use super::*;

fn intended(change: impl FnOnce(&mut Value)) -> Value {
    let mut entry = json!({
        "event": "release.intended", "time": "2027-01-01T10:00:00Z", "query_id": "q", "order": "o", "dataset": "d", "partitions": 2,
        "agreement_digest": "a", "consent_version": 7, "consent_generation": 0, "freshness": 1_000,
    });
    change(&mut entry);
    entry
}

fn released(change: impl FnOnce(&mut Value)) -> Value {
    let mut entry = json!({
        "event": "release.completed", "time": "2027-01-01T10:00:00Z", "query_id": "q", "order": "o", "dataset": "d", "partition": 0,
        "rows": 3, "agreement_digest": "a", "consent_version": 7, "consent_generation": 0,
    });
    change(&mut entry);
    entry
}

/// The other partition, of the rest of the rows.
fn rest() -> Value {
    released(|e| (e["partition"], e["rows"]) = (1.into(), 2.into()))
}

fn abandoned(rows: u64) -> Value {
    json!({
        "event": "release.abandoned", "time": "2027-01-01T10:00:00Z", "query_id": "q", "order": "o", "dataset": "d", "partition": 1,
        "rows": rows, "cause": "dropped",
    })
}

fn closed(change: impl FnOnce(&mut Value)) -> Value {
    let mut source = json!({
        "department": "dfe", "dataset": "d", "order": "o", "rows": 5, "agreement_digest": "a", "consent_version": 7, "consent_generation": 0,
        "freshness": 1_000,
    });
    change(&mut source);
    json!({ "event": "query.closed", "time": "2027-01-01T10:00:01Z", "query_id": "q", "facts": { "sources": [source] } })
}

fn differences(node: &[Value], gateway: &[Value], period: Period) -> Vec<Difference> {
    let mut sides = Sides::default();
    node.iter().for_each(|entry| sides.node("dfe", entry, period));
    gateway.iter().for_each(|entry| sides.gateway(&BTreeSet::from(["dfe"]), entry, period));
    sides.compare().found
}

fn kinds(node: &[Value], gateway: &[Value], period: Period) -> Vec<&'static str> {
    differences(node, gateway, period).into_iter().map(|difference| difference.kind).collect()
}

#[test]
fn every_difference_is_found() {
    let same = || vec![intended(|_| {}), released(|_| {}), rest()];
    let opened = json!({ "event": "query.opened", "query_id": "q" });
    let refused = json!({ "event": "query.refused", "query_id": "q", "code": "cancelled" });
    let started = json!({ "event": "gateway.started" });
    let cases = [
        ("the same, in two partitions", same(), vec![closed(|_| {})], vec![]),
        ("without its intent, as in part of a log", same()[1..].to_vec(), vec![closed(|_| {})], vec![]),
        ("a partition is missing", same()[..2].to_vec(), vec![closed(|_| {})], vec!["not_completed", "rows"]),
        ("an entry is missing at the node", vec![], vec![closed(|_| {})], vec!["not_released"]),
        ("only intended", vec![intended(|_| {})], vec![closed(|_| {})], vec!["not_completed", "rows"]),
        ("abandoned, and used", vec![intended(|_| {}), abandoned(5)], vec![closed(|_| {})], vec!["not_completed", "rows"]),
        ("the gateway does not know the query", same(), vec![], vec!["not_received"]),
        ("nor one that is only intended", vec![intended(|_| {})], vec![], vec!["not_received"]),
        ("nor one that was abandoned", vec![intended(|_| {}), abandoned(4)], vec![], vec!["not_received"]),
        ("the gateway names another order", same(), vec![closed(|s| s["order"] = "x".into())], vec!["not_received", "not_released"]),
        (
            "intended for another order than the gateway names",
            vec![intended(|_| {})],
            vec![closed(|s| s["order"] = "x".into())],
            vec!["not_received", "not_released"],
        ),
        (
            "abandoned with rows, in a query that was answered",
            vec![intended(|_| {}), abandoned(4)],
            vec![closed(|s| s["department"] = "dwp".into())],
            vec!["not_received"],
        ),
        ("given back", vec![intended(|_| {}), abandoned(0)], vec![closed(|s| s["department"] = "dwp".into())], vec![GIVEN_UP]),
        ("given back, and refused", vec![intended(|_| {}), abandoned(0)], vec![opened.clone(), refused.clone()], vec![GIVEN_UP]),
        (
            "a partition twice, and as many rows as both",
            vec![intended(|_| {}), released(|_| {}), released(|e| e["rows"] = 2.into())],
            vec![closed(|_| {})],
            vec!["completed_twice", "not_completed"],
        ),
        (
            "both partitions, and one of them again without rows",
            [same(), vec![released(|e| e["rows"] = 0.into())]].concat(),
            vec![closed(|_| {})],
            vec!["completed_twice"],
        ),
        (
            "a partition that the release does not have",
            vec![intended(|_| {}), released(|_| {}), released(|e| (e["partition"], e["rows"]) = (7.into(), 2.into()))],
            vec![closed(|_| {})],
            vec!["not_completed"],
        ),
        ("the gateway received it twice", same(), vec![closed(|s| s["rows"] = 0.into()), closed(|_| {})], vec!["completed_twice"]),
        (
            "an earlier entry of it names another query",
            vec![intended(|e| e["query_id"] = "p".into()), released(|_| {}), rest()],
            vec![closed(|_| {})],
            vec!["query_id"],
        ),
        (
            "another dataset was intended",
            vec![intended(|e| e["dataset"] = "e".into()), released(|_| {}), rest()],
            vec![closed(|_| {})],
            vec!["dataset"],
        ),
        (
            "refused, and of a query besides that nobody opened",
            vec![intended(|e| e["query_id"] = "p".into()), released(|_| {}), rest()],
            vec![opened.clone(), refused.clone()],
            vec!["not_received"],
        ),
        (
            "refused, and a partition twice",
            [same(), vec![released(|_| {})]].concat(),
            vec![opened.clone(), refused.clone()],
            vec!["completed_twice", DISCARDED],
        ),
        ("refused", same(), vec![opened.clone(), refused.clone()], vec![DISCARDED]),
        ("refused and abandoned", vec![intended(|_| {}), abandoned(4)], vec![opened.clone(), refused], vec![DISCARDED]),
        ("running", same(), vec![opened.clone()], vec![OPEN]),
        ("running, and only intended", vec![intended(|_| {})], vec![started.clone(), opened.clone()], vec![OPEN]),
        ("the gateway was killed", vec![intended(|_| {})], vec![opened, started], vec![DISCARDED]),
        ("another version", same(), vec![closed(|s| s["consent_version"] = 8.into())], vec!["consent_version"]),
        ("another generation", same(), vec![closed(|s| s["consent_generation"] = 1.into())], vec!["consent_generation"]),
        ("another text", same(), vec![closed(|s| s["agreement_digest"] = "b".into())], vec!["agreement_digest"]),
        ("another dataset", same(), vec![closed(|s| s["dataset"] = "e".into())], vec!["dataset"]),
        ("an older state of the data", same(), vec![closed(|s| s["freshness"] = 999.into())], vec!["freshness"]),
        ("a department that was not asked for", vec![], vec![closed(|s| s["department"] = "dwp".into())], vec![]),
    ];
    for (case, node, gateway, expected) in cases {
        let found = differences(&node, &gateway, Period::default());
        assert_eq!(found.iter().map(|difference| difference.kind).collect::<Vec<_>>(), expected, "{case}");
        for difference in found {
            assert!(!difference.node.is_empty() && !difference.gateway.is_empty(), "{case}: each side says something: {difference:?}");
            assert_eq!(difference.counts(), !matches!(difference.kind, DISCARDED | GIVEN_UP | OPEN), "{case}");
        }
    }
    // A node's log that intends another version than it completes.
    let mixed = [intended(|e| e["consent_version"] = 6.into()), released(|_| {}), rest()];
    assert_eq!(kinds(&mixed, &[closed(|_| {})], Period::default()), ["consent_version"]);
}

#[test]
fn each_side_says_what_its_log_does() {
    let said = |node: &[Value], gateway: &[Value]| {
        let found = differences(node, gateway, Period::default()).remove(0);
        (found.node, found.gateway)
    };
    let opened = json!({ "event": "query.opened", "query_id": "q" });
    let refused = json!({ "event": "query.refused", "query_id": "q", "code": "limit_exceeded" });
    let failed = json!({ "event": "release.failed", "query_id": "q", "code": "agreement_changed" });
    for (node, gateway, expected) in [
        (vec![intended(|_| {})], vec![], ("intended, and not ended", "never opened")),
        (
            vec![intended(|_| {}), failed],
            vec![opened.clone(), refused],
            ("failed: agreement_changed", "refused: limit_exceeded, by the gateway's own account"),
        ),
        (vec![intended(|_| {}), abandoned(4), abandoned(3)], vec![opened], ("abandoned after 7 rows: dropped", "not ended")),
        (
            vec![intended(|_| {}), released(|_| {}), abandoned(4)],
            vec![closed(|_| {})],
            ("3 rows, in 1 of 2 partitions, abandoned after 4 rows: dropped", "5 rows"),
        ),
        (
            vec![intended(|_| {}), released(|_| {}), released(|e| e["partition"] = 7.into())],
            vec![closed(|s| s["rows"] = 6.into())],
            ("6 rows, in 1 of 2 partitions", "6 rows"),
        ),
        (
            vec![intended(|_| {}), released(|_| {}), released(|_| {}), rest()],
            vec![closed(|s| s["rows"] = 8.into())],
            ("partition 0 completed 2 times", "once"),
        ),
        (vec![], vec![closed(|_| {})], ("nothing", "5 rows")),
        (vec![released(|_| {})], vec![closed(|s| s["department"] = "dwp".into())], ("3 rows", "answered without it")),
    ] {
        let (node, gateway) = said(&node, &gateway);
        assert_eq!((node.as_str(), gateway.as_str()), expected);
    }
}

#[test]
fn an_edge_of_the_period_between_both_sides_makes_no_difference() {
    let at = |time: &str| DateTime::parse_from_rfc3339(time).unwrap().to_utc();
    let node = [intended(|_| {}), released(|_| {}), rest()];
    let edge = at("2027-01-01T10:00:00.5Z");
    for period in [Period { from: Some(edge), to: None }, Period { from: None, to: Some(edge) }] {
        assert!(kinds(&node, &[closed(|_| {})], period).is_empty(), "{period:?}");
    }
    let later = Period { from: Some(at("2027-01-02T00:00:00Z")), to: None };
    assert!(kinds(&[], &[closed(|_| {})], later).is_empty(), "not in the period");
    assert!(kinds(&[intended(|_| {})], &[], later).is_empty(), "nor what was only intended before it");
}

#[test]
fn what_one_side_moved_to_an_archive_is_counted_apart() {
    let at = |time: &str| DateTime::parse_from_rfc3339(time).unwrap().to_utc();
    let compared = |node: &[Value], gateway: &[Value], begin: Option<&str>, nodes: Option<&str>| {
        let mut sides = Sides { begin: begin.map(at), ..Sides::default() };
        sides.begins.extend(nodes.map(|begin| ("dfe".to_owned(), at(begin))));
        node.iter().for_each(|entry| sides.node("dfe", entry, Period::default()));
        gateway.iter().for_each(|entry| sides.gateway(&BTreeSet::from(["dfe"]), entry, Period::default()));
        let Compared { orders, found, .. } = sides.compare();
        (orders, found.into_iter().map(|difference| difference.kind).collect::<Vec<_>>())
    };
    let node = [intended(|_| {}), released(|_| {}), rest()];
    let (before, after) = (Some("2027-01-01T09:59:59Z"), Some("2027-01-01T10:00:02Z"));
    assert_eq!(compared(&node, &[], after, None), (0, vec![ARCHIVED]));
    assert_eq!(compared(&node, &[], before, None), (1, vec!["not_received"]), "the gateway's log goes back as far");
    assert_eq!(compared(&node, &[], None, after), (1, vec!["not_received"]), "it is the department that moved entries");
    assert_eq!(compared(&node, &[closed(|_| {})], after, after), (1, vec![]), "both are there");
    assert_eq!(compared(&[], &[closed(|_| {})], None, after), (0, vec![ARCHIVED]));
    assert_eq!(compared(&[], &[closed(|_| {})], None, before), (1, vec!["not_released"]));
    // Whose query ended in an entry that is there is judged.
    assert_eq!(compared(&node, &[closed(|s| s["department"] = "dwp".into())], after, None), (1, vec!["not_received"]));
    let found = {
        let mut sides = Sides { begin: after.map(at), ..Sides::default() };
        sides.node("dfe", &node[0], Period::default());
        sides.compare().found.remove(0)
    };
    assert!(!found.counts() && found.gateway == "moved to an archive" && found.node == "intended, and not ended", "{found:?}");
}

#[test]
fn what_agrees_is_counted_apart_from_what_the_gateway_says_it_discarded() {
    let mut sides = Sides::default();
    let of = |entry: &Value, query_id: &str| {
        let mut entry = entry.clone();
        (entry["query_id"], entry["order"]) = (query_id.into(), query_id.into());
        entry
    };
    for query_id in ["a", "b"] {
        [intended(|_| {}), released(|_| {}), rest()].iter().for_each(|entry| sides.node("dfe", &of(entry, query_id), Period::default()));
    }
    let refused = json!({ "event": "query.refused", "query_id": "b", "code": "denied" });
    for entry in [of(&closed(|s| s["order"] = "a".into()), "a"), refused] {
        sides.gateway(&BTreeSet::from(["dfe"]), &entry, Period::default());
    }
    let Compared { orders, agreed, found } = sides.compare();
    assert_eq!((orders, agreed), (2, 1));
    assert_eq!(found.iter().map(|d| (d.kind, d.query_id.as_str())).collect::<Vec<_>>(), [(DISCARDED, "b")]);
}
