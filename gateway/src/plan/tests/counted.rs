//! Who is counted below `Protect`: of each value, of each department that may lack a row, of what conditions leave over, of totals.

use super::*;

/// Each number rests on as many people as homes, and who is counted as matched is counted below the aggregate.
#[tokio::test]
async fn through_a_link_dataset_the_subjects_of_both_types_are_counted() {
    let sql = "SELECT count(DISTINCT h.subject) AS homes, avg(h.speed) AS mean FROM a.people p JOIN b.links l ON p.subject = l.subject JOIN b.homes h ON l.linked_subject = h.subject";
    let plan = planned(sql).await.unwrap();
    let shown = displayable(plan.physical().as_ref()).indent(false).to_string();
    for part in ["count(DISTINCT", "__o", "TallyExec: a.people, b.links, b.homes", "columns=[\"linked_subject\"]"] {
        assert!(shown.contains(part), "'{part}' is not in {shown}");
    }
    assert!(plan.matched().is_empty(), "nothing was read yet");
    // People and homes of the group, of the number of homes and of the mean, in every stage: where one were not DISTINCT, people would pass
    // for homes.
    let outer: Vec<&str> = shown.lines().filter(|line| line.contains("AggregateExec") && line.contains("__tc1_g")).collect();
    let distinct = outer.iter().map(|line| (line.matches("count(").count(), line.matches("count(DISTINCT").count()));
    assert!(!outer.is_empty() && distinct.clone().all(|counts| counts == (7, 7)), "{shown}");
}

/// What a full join's condition leaves over, and a key of it, are counted for each department that could fill them up.
#[tokio::test]
async fn of_a_full_join_each_department_is_counted() {
    let from = "FROM a.people p FULL JOIN b.claims c ON p.subject = c.subject";
    for (select, group, counted) in [
        ("count(*) FILTER (WHERE p.flag)", "", vec!["__tv0_0__d_a_people", "__tw0_0__d_b_claims", "__td0__d_a_people"]),
        ("sum(c.amount) FILTER (WHERE p.flag)", "", vec!["__tv0_0__d_a_people", "__tv0_0__d_b_claims"]),
        ("p.region, count(*)", "GROUP BY p.region", vec!["__tu__d_a_people"]),
        ("coalesce(p.flag, c.subject IS NULL) AS k, count(p.score)", "GROUP BY 1", vec!["__tu__d_a_people", "__tu__d_b_claims"]),
    ] {
        let plan = planned(&format!("SELECT {select} {from} {group}")).await.unwrap();
        let shown = displayable(plan.physical().as_ref()).indent(false).to_string();
        for part in counted {
            assert!(shown.contains(part), "{select}: '{part}' is not in {shown}");
        }
    }
    // Of other joins nothing more is counted, and of one department's condition nothing that no other could fill up.
    for sql in [
        format!("SELECT p.region, avg(c.amount) FILTER (WHERE c.open) {} GROUP BY p.region", from.replace("FULL", "LEFT")),
        format!("SELECT avg(c.amount) FILTER (WHERE c.open) {from}"),
    ] {
        let plan = planned(&sql).await.unwrap();
        let shown = displayable(plan.physical().as_ref()).indent(false).to_string();
        assert!(shown.contains("__tv0_0") && !shown.contains("__d_"), "{sql}: {shown}");
    }
}

/// A CASE under a FILTER leaves over what the group has and what the FILTER chose, a mean with ELSE 0 also other values.
#[tokio::test]
async fn each_condition_leaves_a_rest_of_its_own() {
    for (aggregate, rests) in [
        ("count(*)", 0),
        ("sum(score)", 0),
        ("count(score)", 0),
        ("count(*) FILTER (WHERE flag)", 1),
        ("sum(CASE WHEN flag THEN score END)", 1),
        ("avg(CASE WHEN flag THEN score ELSE 0 END)", 1),
        ("sum(CASE WHEN flag THEN score END) FILTER (WHERE region = 'N')", 2),
        ("avg(CASE WHEN flag THEN score END) FILTER (WHERE region = 'N')", 2),
        ("avg(CASE WHEN flag THEN score ELSE 0 END) FILTER (WHERE region = 'N')", 3),
    ] {
        let plan = planned(&format!("SELECT {aggregate} FROM a.people")).await.unwrap();
        let shown = displayable(plan.physical().as_ref()).indent(false).to_string();
        let found = (0..4).filter(|rest| shown.contains(&format!("as __r0_{rest}"))).count();
        assert_eq!(found, rests, "{aggregate}: {shown}");
    }
    // Where those alone have an argument who found a partner: of everybody, of these, and of whom the FILTER chose, if he can be without.
    for (aggregate, rests) in [
        ("count(DISTINCT c.subject)", 1),
        ("count(DISTINCT c.subject) FILTER (WHERE c.open)", 2),
        ("count(c.amount) FILTER (WHERE c.open)", 2),
        ("count(DISTINCT c.subject) FILTER (WHERE p.flag)", 3),
        ("count(c.amount) FILTER (WHERE p.flag OR c.open)", 3),
        ("count(DISTINCT p.subject) FILTER (WHERE c.open)", 1),
    ] {
        let plan = planned(&format!("SELECT {aggregate} FROM a.people p LEFT JOIN b.claims c ON p.subject = c.subject")).await.unwrap();
        let shown = displayable(plan.physical().as_ref()).indent(false).to_string();
        let found = (0..4).filter(|rest| shown.contains(&format!("as __r0_{rest}"))).count();
        assert_eq!(found, rests, "{aggregate}: {shown}");
    }
}

/// Where values stand under different conditions people are counted by which they meet, and nowhere else: that has its cost.
#[tokio::test]
async fn people_are_counted_by_what_they_meet_where_conditions_differ() {
    let linked = "a.people p JOIN b.links l ON p.subject = l.subject JOIN b.homes h ON l.linked_subject = h.subject";
    let full = "a.people p FULL JOIN b.claims c ON p.subject = c.subject";
    let left = "a.people p LEFT JOIN b.claims c ON p.subject = c.subject";
    for (select, from, counted) in [
        ("count(*), sum(p.score)", "a.people p", vec![]),
        ("count(*), count(*) FILTER (WHERE p.flag)", "a.people p", vec![]),
        ("count(*) FILTER (WHERE p.flag), avg(p.score) FILTER (WHERE p.flag)", "a.people p", vec![]),
        ("count(*) FILTER (WHERE p.flag), count(*) FILTER (WHERE NOT p.flag)", "a.people p", vec!["__kinds__s", "__met"]),
        // Of totals, what a subject's rows meet is put together once more.
        (
            "count(*) FILTER (WHERE p.flag), count(*) FILTER (WHERE p.year = 1)",
            "a.people p GROUP BY CUBE (p.region)",
            vec!["__kinds__s", "__met"],
        ),
        // Who has a value, or a partner, without a condition: of several such numbers nothing is chosen but by who has a partner.
        ("count(p.score), count(p.flag), count(*), sum(p.score)", "a.people p", vec![]),
        ("count(p.score), count(*) FILTER (WHERE p.flag)", "a.people p", vec!["__kinds__s"]),
        ("sum(p.score), count(DISTINCT p.subject), count(*) FILTER (WHERE p.flag)", "a.people p", vec![]),
        ("count(DISTINCT c.subject), count(c.amount), avg(c.amount)", left, vec![]),
        ("count(DISTINCT c.subject), count(*) FILTER (WHERE c.open)", left, vec!["__kinds__s"]),
        // Of a full join either side may have no row: who has a value is chosen by that.
        ("count(p.score), count(c.amount)", full, vec!["__kinds__s"]),
        ("avg(CASE WHEN p.flag THEN 1.0 ELSE 0.0 END), sum(CASE WHEN p.year = 1 THEN p.score END)", "a.people p", vec!["__kinds__s"]),
        ("count(*) FILTER (WHERE p.flag), count(*) FILTER (WHERE NOT p.flag)", linked, vec!["__kinds__s", "__kinds__o"]),
        (
            "count(*) FILTER (WHERE p.flag), count(*) FILTER (WHERE c.open)",
            full,
            vec!["__kinds__s", "__kinds__s__d_a_people", "__kinds__s__d_b_claims"],
        ),
    ] {
        let plan = planned(&format!("SELECT {select} FROM {from}")).await.unwrap();
        let shown = displayable(plan.physical().as_ref()).indent(false).to_string();
        assert!(counted.iter().all(|part| shown.contains(part)), "{select}: {shown}");
        assert_eq!(shown.contains("__kinds"), !counted.is_empty(), "{select}: {shown}");
    }
}

/// Groups and totals of millions of subjects are made in the memory of one, and each subject counts once in each of them.
#[tokio::test]
async fn totals_are_made_of_sorted_streams() {
    let sql = "SELECT p.region, p.flag, grouping(p.flag) AS g, count(*), avg(c.amount) FROM a.people p JOIN b.claims c ON p.subject = c.subject GROUP BY CUBE (p.region, p.flag)";
    let plan = planned(sql).await.unwrap();
    let shown = displayable(plan.physical().as_ref()).indent(false).to_string();
    let lines: Vec<&str> = shown.lines().map(str::trim_start).collect();
    let place = |starts: &str| lines.iter().position(|line| line.starts_with(starts)).unwrap_or_else(|| panic!("{starts}: {shown}"));
    let (protect, expand, tally) = (place("ProtectExec"), place("ExpandExec: sets=4"), place("TallyExec"));
    assert!(protect < expand && expand < tally, "{shown}");
    // Right above and right below, a subject's rows are put together as they come.
    for (line, keys) in [(lines[expand - 1], "__k0, __k1, __k2, __s"), (lines[expand + 1], "__k0, __k1, __s")] {
        assert!(line.starts_with(&format!("BySubjectExec: keys=[{keys}], ")), "{line}\n{shown}");
    }
    assert!(!lines[expand..].iter().any(|line| line.starts_with("RepartitionExec")), "{shown}");
}
