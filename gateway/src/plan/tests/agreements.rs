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
