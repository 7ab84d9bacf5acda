//! Statements that are refused, and what is said of each.

use super::*;

#[tokio::test]
async fn the_rest_is_refused_with_its_code() {
    use Code::{Denied, Disclosure, Invalid, LimitExceeded};
    let deep = format!("SELECT count(*) FROM a.people WHERE {}", vec!["age = 1"; 2500].join(" OR "));
    let wide = format!("SELECT count(*) FROM a.people GROUP BY region, CUBE ({})", vec!["flag"; 40].join(", "));
    for (sql, code, says) in [
        // Not there, or not for this caller: one sentence.
        ("SELECT count(*) FROM a.absent", Denied, "may not be used"),
        ("SELECT count(*) FROM c.people", Denied, "may not be used"),
        ("SELECT count(*) FROM '/etc/passwd'", Denied, "may not be used"),
        ("SELECT count(*) FROM information_schema.tables", Denied, "may not be used"),
        ("SELECT sum(absent) FROM a.people", Denied, "absent"),
        ("SELECT count(secret) FROM a.people", Denied, "secret"),
        // Uses that the agreement does not permit.
        ("SELECT region FROM a.people", Denied, "a.people.region may not be used for output"),
        ("SELECT * FROM a.people", Denied, ""),
        ("SELECT score FROM a.people", Denied, "output"),
        ("SELECT count(*) FROM a.people WHERE score > 3", Denied, "filter"),
        ("SELECT score, count(*) FROM a.people GROUP BY score", Denied, "group_by"),
        ("SELECT avg(age) FROM a.people", Denied, "aggregate"),
        ("SELECT sum(CASE WHEN score > 3 THEN 1 ELSE 0 END) FROM a.people", Denied, "filter"),
        ("SELECT count(*) FILTER (WHERE score > 3) FROM a.people", Denied, "filter"),
        ("SELECT subject FROM a.people", Denied, "output"),
        ("SELECT subject, count(*) FROM b.claims GROUP BY subject", Denied, ""),
        // A column that may only filter never leaves its department.
        ("SELECT count(*) FROM a.people WHERE coalesce(age, 1) > 18", Denied, "at its department"),
        ("SELECT count(*) FILTER (WHERE age > 3) FROM a.people", Denied, "at its department"),
        // One subject's value must not get a weight of its own, or a way out.
        ("SELECT sum(score * 2) FROM a.people", Disclosure, "takes a column"),
        ("SELECT sum(CASE WHEN flag THEN score ELSE 1000 END) FROM a.people", Disclosure, "takes a column"),
        ("SELECT sum(CASE WHEN flag THEN 1 WHEN region = 'N' THEN 1000 END) FROM a.people", Disclosure, "takes a column"),
        ("SELECT sum(v) FROM (SELECT CASE WHEN flag THEN score ELSE 0 END AS v FROM a.people) t", Disclosure, "takes a column"),
        // Nor choose how it is rounded, or whom a cast leaves out.
        ("SELECT sum(CASE WHEN flag THEN 0.96 END) FROM a.people", Disclosure, "counts each row as 1 or 100"),
        ("SELECT sum(w) FROM (SELECT subject, max(0.96) AS w FROM a.people GROUP BY subject) t", Disclosure, "takes a column"),
        ("SELECT count(CASE WHEN flag THEN 1 ELSE 0 END) FROM a.people", Disclosure, "takes a column"),
        ("SELECT count(CAST(score AS TINYINT)) FROM a.people", Disclosure, "a cast inside an aggregate"),
        ("SELECT sum(CASE WHEN flag THEN CAST(score AS SMALLINT) END) FROM a.people", Disclosure, "a cast inside an aggregate"),
        ("SELECT sum(CAST(CASE WHEN flag THEN score END AS SMALLINT)) FROM a.people", Disclosure, "a cast inside an aggregate"),
        ("SELECT max(score) FROM a.people", Disclosure, "max"),
        ("SELECT min(amount) FROM b.claims", Disclosure, "min"),
        ("SELECT count(DISTINCT score) FROM a.people", Disclosure, "counts subjects"),
        ("SELECT avg(score) FROM (SELECT score FROM a.people ORDER BY year LIMIT 1) t", Disclosure, "LIMIT"),
        ("SELECT count(*) FROM a.people WHERE EXISTS (SELECT 1 FROM b.claims WHERE amount > 3)", Disclosure, "same subject"),
        ("SELECT count(*) FROM a.people WHERE region IN (SELECT region FROM a.people WHERE age = 3)", Disclosure, "pseudonyms"),
        ("SELECT count(*) FROM a.people WHERE age = (SELECT amount FROM b.claims LIMIT 1)", Disclosure, "summary"),
        ("SELECT count(*) FROM a.people p JOIN b.claims c ON p.age = c.amount", Disclosure, "pseudonym"),
        ("SELECT count(*) FROM a.people p, b.claims c", Disclosure, "pseudonym"),
        ("SELECT count(*) FROM a.people WHERE subject = x'00'", Invalid, "cast"),
        ("SELECT count(*) FROM a.people WHERE 1 / age > 0", Disclosure, "arithmetic"),
        ("SELECT count(*) FROM a.people WHERE CASE WHEN flag THEN year / CAST(0.4 AS BIGINT) > 1 ELSE true END", Disclosure, "arithmetic"),
        ("SELECT count(*) FROM a.people WHERE year % 2 = 0", Disclosure, "arithmetic"),
        ("SELECT count(*) FROM a.people WHERE -year > 0", Disclosure, "arithmetic"),
        ("SELECT count(*) FROM a.people WHERE CAST(year AS DECIMAL(38, 0)) > 1", Invalid, "cast"),
        ("SELECT count(*) FROM a.people WHERE region || region = 'NN'", Invalid, "||"),
        (
            "SELECT avg(m) FROM (SELECT subject, max(CAST(score AS DECIMAL(1, 0))) AS m FROM a.people GROUP BY subject) t",
            Disclosure,
            "takes a column",
        ),
        (
            "SELECT avg(m) FROM (SELECT subject, max(CAST(region AS DOUBLE)) AS m FROM a.people GROUP BY subject) t",
            Disclosure,
            "takes a column",
        ),
        // Rows of chosen people must not count several times.
        ("SELECT count(*) FROM a.people x JOIN a.people y ON x.subject = y.subject", Disclosure, "joined with itself"),
        ("SELECT count(*) FROM a.people x FULL JOIN b.claims y ON x.subject = y.subject AND x.region <> 'N'", Disclosure, "outer join"),
        ("SELECT count(*) FROM a.people x LEFT JOIN b.claims y ON x.subject = y.subject AND x.flag", Disclosure, "outer join"),
        ("SELECT count(*) FROM a.people x RIGHT JOIN b.claims y ON x.subject = y.subject AND y.open", Disclosure, "outer join"),
        ("SELECT avg(score) FROM a.people WHERE subject IN (SELECT subject FROM a.people LIMIT 10)", Disclosure, "LIMIT"),
        // A subquery that would be left as it stands, without Protect.
        ("SELECT sum(n - n + (SELECT sum(amount) FROM b.claims)) FROM (SELECT count(*) AS n FROM a.people) t", Invalid, "subquery inside"),
        (
            "SELECT count(*) FILTER (WHERE n > (SELECT sum(amount) FROM b.claims)) FROM (SELECT count(*) AS n FROM a.people) t",
            Invalid,
            "subquery inside",
        ),
        (
            "SELECT count(*) FROM (SELECT count(*) AS n FROM a.people) t GROUP BY n + (SELECT sum(amount) FROM b.claims)",
            Invalid,
            "subquery inside",
        ),
        ("SELECT * FROM (VALUES ((SELECT sum(amount) FROM b.claims))) t", Invalid, ""),
        ("SELECT year FROM a.people LIMIT (SELECT sum(amount) FROM b.claims)", Invalid, ""),
        // Whether, or how often, somebody is in another dataset, beside a column that may be put out.
        (
            "SELECT p.year, c.subject IS NULL FROM a.people p LEFT JOIN b.claims c ON p.subject = c.subject",
            Denied,
            "b.claims.subject may not be used for output",
        ),
        (
            "SELECT p.year, t.n FROM a.people p JOIN (SELECT subject, count(*) AS n FROM b.claims GROUP BY subject) t ON p.subject = t.subject",
            Denied,
            "b.claims.subject may not be used for output",
        ),
        ("SELECT year FROM a.people ORDER BY score", Denied, "a.people.score may not be used for output"),
        // A literal that does not fit is the statement's mistake.
        ("SELECT count(*) FROM a.people WHERE year > 'x'", Invalid, "literal"),
        ("SELECT count(*) FROM a.people WHERE year IN ('2020', 'x')", Invalid, "literal"),
        ("SELECT count(*) FROM a.people TABLESAMPLE (10 PERCENT)", Invalid, "TABLESAMPLE"),
        ("SELECT concat('a', 'b')", Invalid, "concat"),
        ("SELECT n, count(*) FROM (SELECT subject, count(*) AS n FROM a.people GROUP BY subject) t GROUP BY n", Disclosure, "key"),
        ("SELECT 1 FROM a.people", Disclosure, "exact number"),
        ("SELECT score FROM a.people UNION ALL SELECT score FROM a.people", Disclosure, "UNION"),
        ("SELECT p.score FROM a.people p JOIN views.by_region r ON p.region = r.region", Disclosure, "summaries"),
        ("SELECT p.subject FROM a.people p FULL JOIN b.claims c ON p.subject = c.subject GROUP BY p.subject", Disclosure, "outer join"),
        // A link dataset could make many of one.
        ("SELECT count(*) FROM a.people WHERE subject IN (SELECT subject FROM b.links)", Disclosure, "link dataset"),
        ("SELECT count(*) FROM a.people p WHERE EXISTS (SELECT 1 FROM b.links l WHERE l.subject = p.subject)", Disclosure, "link dataset"),
        ("SELECT count(*) FROM b.homes h FULL JOIN b.links l ON l.linked_subject = h.subject", Disclosure, "link dataset"),
        ("SELECT count(*) FROM b.homes h LEFT SEMI JOIN b.links l ON l.linked_subject = h.subject", Disclosure, "link dataset"),
        ("SELECT avg(n) FROM (SELECT l.subject, count(*) AS n FROM b.links l GROUP BY l.subject) t", Disclosure, "link dataset"),
        ("SELECT linked_subject FROM b.links", Denied, "b.links.linked_subject may not be used for output"),
        ("SELECT count(*) FROM b.links WHERE linked_subject = subject", Disclosure, "pseudonym"),
        ("SELECT count(*) FROM a.people p JOIN b.links l ON p.subject = l.linked_subject", Invalid, "never match"),
        // Not offered.
        ("SELECT count(*) FROM a.people p JOIN b.homes h ON p.subject = h.subject", Invalid, "never match"),
        ("SELECT count(*) FROM a.people p FULL JOIN b.claims c USING (subject)", Invalid, "USING"),
        ("SELECT sum(score) OVER () FROM a.people", Invalid, "OVER"),
        ("SELECT rank() OVER (ORDER BY persons) FROM by_region", Invalid, ""),
        ("SELECT region, count(*) FROM a.people GROUP BY region WITH ROLLUP", Invalid, "WITH ROLLUP"),
        ("SELECT region, count(*) FROM a.people GROUP BY ROLLUP (region, subject)", Disclosure, "pseudonym"),
        ("SELECT count(*) FROM a.people GROUP BY GROUPING SETS ((), (subject))", Disclosure, "pseudonym"),
        (
            "SELECT region, count(*) FROM a.people GROUP BY GROUPING SETS ((region), (score))",
            Denied,
            "a.people.score may not be used for group_by",
        ),
        ("SELECT region, max(score) FROM a.people GROUP BY ROLLUP (region)", Disclosure, "max"),
        ("SELECT grouping(score), count(*) FROM a.people GROUP BY ROLLUP (region)", Invalid, ""),
        ("SELECT n, count(*) FROM (SELECT subject, count(*) AS n FROM a.people GROUP BY subject) t GROUP BY CUBE (n)", Disclosure, "key"),
        ("SELECT count(*) FROM a.people WHERE year & 1 = 1", Invalid, "single subjects' values the operator &"),
        ("SELECT count(*) FROM a.people GROUP BY region, CUBE (flag, year, age, score, secret, region)", LimitExceeded, "32 grouping sets"),
        (wide.as_str(), LimitExceeded, "32 grouping sets"),
        ("WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM r) SELECT * FROM r", Invalid, ""),
        ("SELECT * FROM generate_series(1, 10)", Denied, ""),
        ("SELECT * FROM circle", Invalid, "views"),
        ("SELECT median(score) FROM a.people", Invalid, "median"),
        ("SELECT version()", Invalid, "version"),
        ("SELECT count(*) FROM a.people WHERE age = $1", Invalid, ""),
        ("SELECT region, count(*) FROM a.people", Invalid, "GROUP BY"),
        (deep.as_str(), LimitExceeded, "operators"),
    ] {
        match planned(sql).await {
            Ok(_) => panic!("planned: {sql}"),
            Err(refusal) => {
                assert_eq!(refusal.code, code, "{sql}\n{refusal:?}");
                assert!(refusal.to_string().contains(says), "{sql}\n{refusal:?}");
            }
        }
    }
}

#[tokio::test]
async fn sentences_hold_no_literal() {
    for sql in [
        "SELECT count(*) FROM a.people WHERE age = 'AB123456C'",
        "SELECT 'AB123456C' + region FROM a.people",
        "SELECT count(*) FROM a.people WHERE region LIKE 'AB123456C' + 1",
    ] {
        let refusal = planned(sql).await.err().unwrap_or_else(|| panic!("planned: {sql}"));
        assert!(!format!("{refusal:?}").contains("AB123456C"), "{refusal:?}");
    }
}

#[tokio::test]
async fn more_keys_than_totals_can_be_protected_over_are_refused_before_anything_is_read() {
    let by = |keys: &str| format!("SELECT {keys}, count(*) FROM a.people GROUP BY {keys}");
    let four = "region, flag, region IS NULL, flag IS NULL";
    planned(&by(four)).await.unwrap();
    let Err(refusal) = planned(&by(&format!("{four}, NOT flag"))).await else { panic!("planned") };
    assert_eq!(refusal.code, Code::LimitExceeded, "{refusal:?}");
    assert!(refusal.message.contains("more than 4 keys") && refusal.advice.is_some(), "{refusal:?}");
}

/// It makes no difference where the conditions stand: in FILTERs, CASEs, WHEREs of several SELECTs, subqueries, views and computed keys.
#[tokio::test]
async fn more_conditions_than_eight_are_refused_wherever_they_stand() {
    let join = |many: usize, one: &dyn Fn(usize) -> String, by: &str| (0..many).map(one).collect::<Vec<_>>().join(by);
    let filters = |many| join(many, &|year| format!("count(*) FILTER (WHERE year = {year})"), ", ");
    let select = |year: usize| format!("SELECT count(*) AS n FROM a.people WHERE year = {year}");
    let bands = |from: usize, many| format!("CASE {} END", join(many, &|band| format!("WHEN region = 'x{}' THEN 1", from + band), " "));
    let grouped = |one: usize| format!("SELECT count(*) AS n FROM a.people GROUP BY region = 'x{one}'");
    let of = |many| {
        [
            format!("SELECT region, count(*), {}, avg(score) FROM a.people GROUP BY region", filters(many)),
            // The same condition of other columns is no other one, and a WHERE of all is none.
            format!("SELECT {}, count(DISTINCT subject) FILTER (WHERE year = 0) FROM a.people WHERE flag", filters(many)),
            format!("SELECT {} FROM a.people", join(many, &|year| format!("sum(CASE WHEN year = {year} THEN score END)"), ", ")),
            // A CASE under a FILTER, and its FILTER.
            format!("SELECT {}, avg(CASE WHEN flag THEN 1 END) FILTER (WHERE year = 0) FROM a.people", filters(many - 1)),
            join(many, &select, " UNION ALL "),
            format!("SELECT {} FROM (SELECT 1) t", join(many, &|year| format!("({})", select(year)), " + ")),
            format!(
                "SELECT {} FROM {}",
                join(many, &|t| format!("t{t}.n AS n{t}"), ", "),
                join(many, &|t| format!("({}) t{t}", select(t)), " CROSS JOIN ")
            ),
            format!(
                "WITH t AS (SELECT {} FROM a.people), u AS ({}) SELECT t.*, x.n + y.n AS m FROM t CROSS JOIN u x CROSS JOIN u y",
                filters(many - 1),
                select(99)
            ),
            join(many, &grouped, " UNION ALL "),
            // What takes values together names them.
            join(
                many.div_ceil(2),
                &|one| format!("SELECT count(*) AS n FROM a.people GROUP BY coalesce(nullif(region, 'x{one}'), 'N')"),
                " UNION ALL ",
            ),
            // Of two partitions the larger counts as one.
            format!("SELECT count(*) FROM a.people GROUP BY GROUPING SETS (({}), ({}))", bands(100, 40), bands(0, many - 1)),
            format!(
                "SELECT count(*) FROM (SELECT {} AS k, {} AS l FROM a.people) t GROUP BY GROUPING SETS ((k), (l))",
                bands(0, many - 2),
                bands(100, 1)
            ),
        ]
    };
    for sql in of(8) {
        planned(&sql).await.unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"));
    }
    for sql in of(9) {
        let Err(refusal) = planned(&sql).await else { panic!("planned: {sql}") };
        assert_eq!(refusal.code, Code::LimitExceeded, "{sql}: {refusal:?}");
        assert!(refusal.message.contains("different conditions, of 8") && refusal.advice.is_some(), "{refusal:?}");
    }
    // Whole datasets are no choice, nor is what computes with protected numbers.
    let whole = "SELECT count(*) AS n FROM a.people UNION ALL SELECT count(*) FROM b.claims UNION ALL SELECT count(*) FROM b.homes";
    planned(whole).await.unwrap();
    let above = format!("SELECT {} FROM views.by_region", join(12, &|n| format!("sum(CASE WHEN persons > {n} THEN 1 END)"), ", "));
    planned(&above).await.unwrap();
}
