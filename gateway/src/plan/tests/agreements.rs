//! What agreements and their signatures permit, and which rules they put a statement under.

use super::*;

#[tokio::test]
async fn nobody_is_counted_where_the_agreement_permits_no_count() {
    let of_claims = "name = \"claims\"\nidentifier = { type = \"nino\", uses = ";
    let under = |uses: &str| {
        let agreement = agreed(&AGREEMENT.replace(&format!("{of_claims}[\"join\", \"aggregate\"]"), &format!("{of_claims}{uses}")));
        let mut signatures = Signatures::default();
        sign(&mut signatures, &agreement, &[]);
        permitted(&[agreement], &signatures).unwrap()
    };
    for sql in [
        "SELECT count(*) FROM b.claims",
        "SELECT count(CASE WHEN TRUE THEN 1 END) FROM b.claims",
        "SELECT sum(CASE WHEN 1 = 1 THEN 1 ELSE 0 END) FROM b.claims",
        "SELECT sum(CASE WHEN TRUE THEN 1 ELSE 0 END) FROM b.claims WHERE open",
        "SELECT DISTINCT 1 FROM b.claims",
        "SELECT 'x' AS k FROM b.claims GROUP BY 1",
        "SELECT sum(t.n) FROM (SELECT subject, count(*) AS n FROM b.claims GROUP BY subject) AS t",
        "SELECT count(t.n) FROM (SELECT subject, count(*) AS n FROM b.claims GROUP BY subject) AS t",
    ] {
        let Err(refusal) = planned_under(under("[\"join\", \"group_by\"]"), sql).await else { panic!("{sql}: planned") };
        assert_eq!(refusal.code, Code::Denied, "{sql}: {refusal:?}");
        assert!(refusal.message.contains("b.claims.subject may not be used for aggregate"), "{sql}: {refusal:?}");
        if let Err(refusal) = planned_under(under("[\"join\", \"group_by\", \"aggregate\"]"), sql).await {
            panic!("{sql}: {refusal:?}");
        }
    }
    planned_under(under("[\"join\"]"), "SELECT sum(amount) FROM b.claims").await.unwrap();
}

/// Wherever a condition stands, a column of listed filters is compared with its listed values, or not at all.
#[tokio::test]
async fn a_filter_of_listed_values_compares_with_those_alone() {
    let text = AGREEMENT
        .replace("[\"group_by\", \"filter\"], values", "[\"group_by\", \"filter\"], filter = \"listed\", values")
        .replace("uses = [\"output\", \"filter\"]", "uses = [\"output\", \"filter\"], filter = \"listed\", values = [\"2020\", \"2021\"]");
    let agreement = agreed(&text);
    let mut signatures = Signatures::default();
    sign(&mut signatures, &agreement, &[]);
    let permit = permitted(&[agreement], &signatures).unwrap();
    for sql in [
        "SELECT count(*) FROM a.people WHERE region = 'N'",
        "SELECT count(*) FROM a.people WHERE 'N' <> region",
        "SELECT count(*) FROM a.people WHERE region NOT IN ('N', 'S') OR region IS NULL",
        "SELECT count(*) FROM a.people WHERE (region = 'N') IS NOT TRUE",
        "SELECT count(*) FROM a.people WHERE NOT (year = 2020 AND age > 18)",
        "SELECT count(*) FILTER (WHERE region = 'N' AND year IN (2020, 2021)) FROM a.people",
        "SELECT sum(CASE WHEN region = 'N' THEN 1 ELSE 0 END) FROM a.people",
        "SELECT count(*) FROM (SELECT region AS r FROM a.people) t WHERE r = 'N'",
        "SELECT count(*) FROM a.people p JOIN b.claims c ON p.subject = c.subject AND (p.region = 'N' OR c.open)",
        "SELECT region, count(*) FROM a.people GROUP BY region HAVING region > 'E'",
    ] {
        planned_under(permit.clone(), sql).await.unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"));
    }
    for sql in [
        "SELECT count(*) FROM a.people WHERE region = 'X'",
        "SELECT count(*) FROM a.people WHERE region IN ('N', 'X')",
        "SELECT count(*) FROM a.people WHERE region < 'N'",
        "SELECT count(*) FROM a.people WHERE region BETWEEN 'N' AND 'S'",
        "SELECT count(*) FROM a.people WHERE CASE WHEN region = 'N' THEN flag ELSE true END",
        "SELECT count(*) FILTER (WHERE region > 'N') FROM a.people",
        "SELECT sum(CASE WHEN region > 'N' THEN 1 ELSE 0 END) FROM a.people",
        "SELECT count(*) FROM (SELECT CASE WHEN region > 'N' THEN flag END AS x FROM a.people) t WHERE x IS NULL",
        "SELECT count(*) FROM a.people p JOIN b.claims c ON p.subject = c.subject AND p.region > 'N'",
        "SELECT count(*) FROM b.claims c WHERE EXISTS (SELECT 1 FROM a.people p WHERE p.subject = c.subject AND p.region > 'N')",
    ] {
        let refusal = planned_under(permit.clone(), sql).await.err().unwrap_or_else(|| panic!("planned: {sql}"));
        let says = "a.people.region may be used for filter only by comparison with its listed values: agreement 'test' limits it";
        assert!(refusal.code == Code::Denied && refusal.message == says, "{sql}\n{refusal:?}");
        assert_eq!(refusal.department.as_deref(), Some("a"), "{sql}");
    }
    for sql in [
        "SELECT count(*) FROM a.people WHERE year > 2020",
        "SELECT count(*) FROM a.people WHERE coalesce(year, 2020) = 2020",
        "SELECT count(*) FROM (SELECT coalesce(year, 2020) AS year FROM a.people) t WHERE year = 2020",
        "SELECT count(*) FROM (SELECT subject, max(year) AS year FROM a.people GROUP BY subject) t WHERE year = 2020",
        "SELECT count(*) FROM a.people p JOIN b.claims c ON p.subject = c.subject AND p.year = c.amount",
    ] {
        let refusal = planned_under(permit.clone(), sql).await.err().unwrap_or_else(|| panic!("planned: {sql}"));
        assert!(refusal.message.starts_with("a.people.year may be used for filter only by comparison"), "{sql}\n{refusal:?}");
    }
    // Whatever the planner makes of functions of texts, none is planned.
    for sql in [
        "SELECT count(*) FROM a.people WHERE region LIKE 'N%'",
        "SELECT count(*) FROM a.people WHERE upper(region) = 'N'",
        "SELECT count(*) FROM (SELECT lower(region) AS region FROM a.people) t WHERE region = 'N'",
    ] {
        assert!(planned_under(permit.clone(), sql).await.is_err(), "planned: {sql}");
    }
}

/// Wherever a condition stands, a column of bands is compared half-open with their thresholds, or not at all.
#[tokio::test]
async fn a_filter_of_bands_compares_with_their_thresholds_alone() {
    let text = AGREEMENT
        .replace("score = {", "day = { type = \"date\", classification = \"personal\", uses = [\"aggregate\", \"filter\"], filter = \"bands\", bands = [\"2020-01-01\", \"2021-01-01\"] }\nscore = {")
        .replace("uses = [\"aggregate\"] }\nage", "uses = [\"aggregate\", \"filter\"], filter = \"bands\", bands = [\"30\", \"40.5\"] }\nage")
        .replace("uses = [\"output\", \"filter\"]", "uses = [\"output\", \"filter\"], filter = \"bands\", bands = [\"2020\", \"2021\"]");
    let permit = permitted_by(&agreed(&text));
    for sql in [
        "SELECT count(*) FROM a.people WHERE score < 30",
        "SELECT count(*) FROM a.people WHERE score >= 30.0 AND 40.5 > score",
        "SELECT count(*) FROM a.people WHERE NOT (score < 30) OR score IS NULL",
        "SELECT count(*) FROM a.people WHERE (score < 3e1) IS NOT TRUE",
        "SELECT count(*) FROM a.people WHERE year >= 2020 AND year < 2021.0",
        "SELECT count(*) FROM a.people WHERE day >= DATE '2020-01-01' AND day < '2021-01-01'",
        "SELECT count(*) FILTER (WHERE score < 30 AND flag) FROM a.people",
        "SELECT sum(CASE WHEN score < 30 THEN 1 ELSE 0 END), avg(score) FROM a.people",
        "SELECT count(*) FROM (SELECT score AS s FROM a.people) t WHERE s < 30",
        "SELECT count(*) FROM a.people p JOIN b.claims c ON p.subject = c.subject AND (p.score < 30 OR c.open)",
        "SELECT region, avg(score) FROM a.people GROUP BY region HAVING avg(score) > 31",
    ] {
        planned_under(permit.clone(), sql).await.unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"));
    }
    for (column, condition) in [
        ("score", "score < 31"),
        ("score", "score <= 30"),
        ("score", "score > 30"),
        ("score", "score = 30"),
        ("score", "score IN (30, 40.5)"),
        ("score", "score BETWEEN 30 AND 40.5"),
        ("score", "NOT (score > 30)"),
        ("score", "score IS NOT DISTINCT FROM 30"),
        ("score", "(score < 30) = flag"),
        ("score", "CASE WHEN score < 30 THEN flag ELSE true END"),
        ("score", "coalesce(score, 0) < 30"),
        ("score", "CAST(score AS BIGINT) < 30"),
        ("score", "nullif(score, 31) IS NULL"),
        ("score", "score < age"),
        ("year", "year < 2020.5"),
        ("year", "year < 2019.999999999999"),
        ("day", "day < DATE '2020-01-02'"),
        ("day", "day <= DATE '2020-01-01'"),
        ("day", "date_part('year', day) = 2020"),
    ] {
        for sql in [
            format!("SELECT count(*) FROM a.people WHERE {condition}"),
            format!("SELECT count(*) FROM a.people WHERE flag OR NOT ({condition})"),
            format!("SELECT count(*) FILTER (WHERE {condition}) FROM a.people"),
            format!("SELECT sum(CASE WHEN {condition} THEN 1 ELSE 0 END) FROM a.people"),
            format!("SELECT count(*) FROM (SELECT CASE WHEN {condition} THEN 1 END AS x FROM a.people) t WHERE x IS NULL"),
            format!("SELECT count(*) FROM b.claims c WHERE subject IN (SELECT subject FROM a.people WHERE {condition})"),
        ] {
            let refusal = planned_under(permit.clone(), &sql).await.err().unwrap_or_else(|| panic!("planned: {sql}"));
            let says = format!("a.people.{column} may be used for filter only by < and >= with the thresholds of its bands");
            assert!(refusal.code == Code::Denied && refusal.message.starts_with(&says), "{sql}\n{refusal:?}");
            assert!(
                refusal.advice.as_deref().is_some_and(|advice| advice.starts_with("compare it by < or >= with one of ")),
                "{refusal:?}"
            );
        }
    }
    // Nor by way of keys, orders and what is computed of one person's rows.
    for sql in [
        "SELECT score < 31, count(*) FROM a.people GROUP BY score < 31",
        "SELECT count(*) FROM a.people GROUP BY CASE WHEN score < 31 THEN 1 END",
        "SELECT region FROM a.people ORDER BY score < 31 LIMIT 1",
        "SELECT max(score) FROM a.people",
        "SELECT count(*) FROM (SELECT subject, avg(score) AS m FROM a.people GROUP BY subject) t WHERE m < 30",
        "SELECT count(nullif(score, 31)) FROM a.people",
        "SELECT count(*) FROM a.people WHERE score + 0 < 30",
        "SELECT count(*) FROM a.people WHERE score < (SELECT avg(score) FROM a.people)",
    ] {
        assert!(planned_under(permit.clone(), sql).await.is_err(), "planned: {sql}");
    }
}

#[tokio::test]
async fn each_party_must_have_signed() {
    let one = agreed(AGREEMENT);
    for missing in ["a", "b"] {
        let mut signatures = Signatures::default();
        sign(&mut signatures, &one, &[missing]);
        let refusal = permitted(std::slice::from_ref(&one), &signatures).unwrap_err();
        let says = format!("the agreement 'test' does not bind: the signature of '{missing}' is missing");
        assert!(refusal.code == Code::Denied && refusal.message == says, "{refusal:?}");
        assert_eq!(refusal.department.as_deref(), Some(missing));
    }
    // Beside an agreement that is signed, one that is not: its own dataset is refused by name, also where a view reads it.
    let two = AGREEMENT.replace("id = \"test\"", "id = \"two\"").replace("name = \"people\"", "name = \"pupils\"");
    let two = agreed(&two);
    let signed = agreed(AGREEMENT.split("[[dataset]]\ndepartment = \"b\"").next().unwrap());
    let mut signatures = Signatures::default();
    sign(&mut signatures, &signed, &[]);
    sign(&mut signatures, &two, &["b"]);
    let permit = permitted(&[signed, two], &signatures).unwrap();
    planned_under(permit.clone(), "SELECT count(*) FROM a.people").await.unwrap();
    for sql in
        ["SELECT count(*) FROM a.pupils", "SELECT count(*) FROM b.claims", "SELECT region, avg(amount) FROM views.joined GROUP BY region"]
    {
        let refusal = planned_under(permit.clone(), sql).await.err().unwrap_or_else(|| panic!("planned: {sql}"));
        assert!(refusal.code == Code::Denied && refusal.message.contains("'two' does not bind: the signature of 'b'"), "{refusal:?}");
    }
}

/// What is said of the answer's rules holds for each of its numbers.
#[tokio::test]
async fn the_strictest_rules_of_a_statement_protect_every_number_of_it() {
    let (head, datasets) = AGREEMENT.split_once("[[dataset]]").unwrap();
    let (people, of_b) = datasets.split_once("[[dataset]]").unwrap();
    let lenient = agreed(&format!("{head}[[dataset]]{people}"));
    let strict = head.replace("id = \"test\"", "id = \"strict\"\nminimum_subjects = 20");
    let strict = agreed(&format!("{strict}[[dataset]]{of_b}"));
    let mut signatures = Signatures::default();
    [&lenient, &strict].into_iter().for_each(|agreement| sign(&mut signatures, agreement, &[]));
    let permit = permitted(&[lenient, strict], &signatures).unwrap();
    for (sql, minima) in [
        ("SELECT count(*) FROM a.people", vec![10]),
        ("SELECT region, count(*) FROM a.people GROUP BY region UNION ALL SELECT 'all', count(*) FROM b.claims", vec![20, 20]),
        ("SELECT count(*) FROM a.people WHERE subject IN (SELECT subject FROM b.claims)", vec![20]),
    ] {
        let plan = planned_under(permit.clone(), sql).await.unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"));
        let shown = displayable(plan.physical().as_ref()).indent(false).to_string();
        let found = shown.lines().filter_map(|line| line.split_once("ProtectExec: minimum_subjects=")?.1.trim().parse().ok());
        assert_eq!((found.collect::<Vec<u32>>(), plan.minimum()), (minima.clone(), minima[0]), "{sql}\n{shown}");
    }
}
