//! The attempts, class by class.

use concordat_policy::Code;
use concordat_policy::Code::{Denied, Disclosure, Invalid, LimitExceeded};

/// How they are refused, words of the sentence (none where they are the parser's matter), whose rule it is (empty where it is nobody's
/// alone), and what is asked.
pub type Attempts = (Code, &'static str, &'static str, &'static [&'static str]);

/// Attempts without parameters.
pub const ATTEMPTS: &[Attempts] = &[
    // Subjects' values put out: bare, renamed, computed, through whatever stands between.
    (
        Denied,
        "attainment8 may not be used for output",
        "dfe",
        &[
            "SELECT attainment8 FROM dfe.attainment",
            "SELECT attainment8 AS region FROM dfe.attainment",
            "SELECT x.s FROM dfe.attainment AS x(p, s, y, b, f, r)",
            "SELECT t.gigabit FROM (SELECT attainment8 AS gigabit FROM dfe.attainment) AS t",
            "SELECT CAST(attainment8 AS VARCHAR) AS s FROM dfe.attainment",
            "SELECT TRY_CAST(attainment8 AS BIGINT) AS s FROM dfe.attainment",
            "SELECT CASE WHEN attainment8 > 50 THEN 1 ELSE 0 END AS s FROM dfe.attainment",
            "SELECT coalesce(attainment8, 0) AS s FROM dfe.attainment",
            "SELECT nullif(attainment8, 50) AS s FROM dfe.attainment",
            "SELECT attainment8 IS NULL AS s FROM dfe.attainment",
            "SELECT attainment8 BETWEEN 50 AND 51 AS s FROM dfe.attainment",
        ],
    ),
    (Denied, "may not be used for output", "dfe", &["SELECT * FROM dfe.attainment", "SELECT a.* FROM dfe.attainment AS a"]),
    (Denied, "dfe.attainment.subject may not be used for output", "dfe", &["SELECT subject FROM dfe.attainment"]),
    (Denied, "dsit.connectivity.subject may not be used for output", "dsit", &["SELECT b.gigabit, b.subject FROM dsit.connectivity b"]),
    (Disclosure, "exact number", "", &["SELECT 1 AS one FROM dfe.attainment", "SELECT subject IS NOT NULL AS there FROM dfe.attainment"]),
    // Beside a column that may be put out, of the same row or of another dataset's.
    (Denied, "download_mbps may not be used for output", "dsit", &["SELECT gigabit, download_mbps FROM dsit.connectivity"]),
    (
        Denied,
        "months_claiming may not be used for output",
        "dwp",
        &[
            "SELECT b.gigabit, c.months_claiming FROM dsit.connectivity b JOIN dwp.claims c ON b.subject = c.subject",
            "SELECT b.gigabit, t.m FROM dsit.connectivity b JOIN (SELECT subject, sum(months_claiming) AS m FROM dwp.claims GROUP BY subject) AS t ON b.subject = t.subject",
        ],
    ),
    (
        Denied,
        "dwp.claims.subject may not be used for output",
        "dwp",
        &[
            "SELECT b.gigabit, c.subject IS NULL AS outside FROM dsit.connectivity b LEFT JOIN dwp.claims c ON b.subject = c.subject",
            "SELECT b.gigabit, t.n FROM dsit.connectivity b JOIN (SELECT subject, count(*) AS n FROM dwp.claims GROUP BY subject) AS t ON b.subject = t.subject",
        ],
    ),
    // Chosen by a column that may not choose: ORDER BY, LIMIT, DISTINCT.
    (
        Denied,
        "download_mbps may not be used for output",
        "dsit",
        &[
            "SELECT gigabit FROM dsit.connectivity ORDER BY download_mbps",
            "SELECT gigabit FROM dsit.connectivity ORDER BY download_mbps DESC LIMIT 1",
            "SELECT gigabit FROM dsit.connectivity ORDER BY download_mbps > 900 LIMIT 1 OFFSET 3",
        ],
    ),
    (Invalid, "DISTINCT ON", "", &["SELECT DISTINCT ON (download_mbps) gigabit FROM dsit.connectivity"]),
    (Denied, "attainment8 may not be used for group_by", "dfe", &["SELECT DISTINCT attainment8 FROM dfe.attainment"]),
    (
        Disclosure,
        "LIMIT",
        "",
        &["SELECT avg(t.d) AS m FROM (SELECT download_mbps AS d FROM dsit.connectivity ORDER BY gigabit LIMIT 1) AS t"],
    ),
    (Invalid, "", "", &["SELECT gigabit FROM dsit.connectivity LIMIT (SELECT sum(months_claiming) FROM dwp.claims)"]),
    // Each kind of join, with a condition on a column that may not filter.
    (
        Denied,
        "months_claiming may not be used for filter",
        "dwp",
        &[
            "SELECT count(*) AS n FROM dfe.attainment a JOIN dwp.claims c ON a.subject = c.subject AND c.months_claiming > 3",
            "SELECT count(*) AS n FROM dfe.attainment a LEFT JOIN dwp.claims c ON a.subject = c.subject AND c.months_claiming > 3",
            "SELECT count(*) AS n FROM dwp.claims c RIGHT JOIN dfe.attainment a ON a.subject = c.subject AND c.months_claiming > 3",
            "SELECT count(*) AS n FROM dfe.attainment a LEFT SEMI JOIN dwp.claims c ON a.subject = c.subject AND c.months_claiming > 3",
            "SELECT count(*) AS n FROM dfe.attainment a LEFT ANTI JOIN dwp.claims c ON a.subject = c.subject AND c.months_claiming > 3",
            "SELECT count(*) AS n FROM (SELECT subject, cohort_year AS v FROM dfe.attainment) a NATURAL JOIN (SELECT subject, months_claiming AS v FROM dwp.claims) c",
            "SELECT count(*) AS n FROM (SELECT subject, cohort_year AS v FROM dfe.attainment) a JOIN (SELECT subject, months_claiming AS v FROM dwp.claims) c USING (subject, v)",
        ],
    ),
    (
        Disclosure,
        "outer join",
        "",
        &["SELECT count(*) AS n FROM dfe.attainment a FULL JOIN dwp.claims c ON a.subject = c.subject AND c.months_claiming > 3"],
    ),
    (
        Disclosure,
        "pseudonym",
        "",
        &[
            "SELECT count(*) AS n FROM dfe.attainment a CROSS JOIN dwp.claims c",
            "SELECT count(*) AS n FROM dfe.attainment a, dwp.claims c WHERE a.subject = c.subject",
            "SELECT count(*) AS n FROM dfe.attainment a JOIN dwp.claims c ON a.cohort_year = c.months_claiming",
            "SELECT count(*) AS n FROM dfe.attainment a JOIN dwp.claims c ON a.subject <> c.subject",
            "SELECT count(*) AS n FROM (SELECT cohort_year AS v FROM dfe.attainment) a JOIN (SELECT months_claiming AS v FROM dwp.claims) c USING (v)",
        ],
    ),
    (
        Invalid,
        "",
        "",
        &[
            "SELECT count(*) AS n FROM dfe.attainment a, LATERAL (SELECT c.months_claiming FROM dwp.claims c WHERE c.subject = a.subject) AS t",
        ],
    ),
    // Each form of subquery.
    (
        Denied,
        "months_claiming may not be used for filter",
        "dwp",
        &[
            "SELECT count(*) AS n FROM dfe.attainment WHERE subject IN (SELECT subject FROM dwp.claims WHERE months_claiming > 3)",
            "SELECT count(*) AS n FROM dfe.attainment WHERE subject NOT IN (SELECT subject FROM dwp.claims WHERE months_claiming > 3)",
            "SELECT count(*) AS n FROM dfe.attainment a WHERE EXISTS (SELECT 1 FROM dwp.claims c WHERE c.subject = a.subject AND c.months_claiming > 3)",
            "SELECT count(*) AS n FROM dfe.attainment a WHERE NOT EXISTS (SELECT 1 FROM dwp.claims c WHERE c.subject = a.subject AND c.months_claiming > 3)",
        ],
    ),
    (
        Disclosure,
        "pseudonyms",
        "",
        &["SELECT count(*) AS n FROM dfe.attainment WHERE cohort_year IN (SELECT months_claiming FROM dwp.claims)"],
    ),
    (
        Disclosure,
        "pseudonym",
        "",
        &["SELECT count(*) AS n FROM dfe.attainment a WHERE EXISTS (SELECT 1 FROM dwp.claims c WHERE c.months_claiming = a.cohort_year)"],
    ),
    (
        Denied,
        "wellbeing_score may not be used for filter",
        "dhsc",
        &[
            "SELECT count(*) AS n FROM dfe.attainment WHERE cohort_year > (SELECT avg(wellbeing_score) FROM dhsc.health WHERE wellbeing_score > 5)",
        ],
    ),
    (
        Disclosure,
        "summary",
        "",
        &[
            "SELECT count(*) AS n FROM dfe.attainment WHERE attainment8 = (SELECT wellbeing_score FROM dhsc.health LIMIT 1)",
            "SELECT (SELECT attainment8 FROM dfe.attainment LIMIT 1) AS s",
        ],
    ),
    (
        Invalid,
        "enclosing query",
        "",
        &[
            "SELECT count(*) AS n FROM dfe.attainment a WHERE a.attainment8 > (SELECT avg(h.wellbeing_score) FROM dhsc.health h WHERE h.subject = a.subject)",
        ],
    ),
    (Invalid, "", "", &["SELECT count(*) AS n FROM dfe.attainment WHERE attainment8 > ALL (SELECT wellbeing_score FROM dhsc.health)"]),
    // Subqueries beside summaries, where the protected value would not be what is read.
    (
        Invalid,
        "subquery inside",
        "",
        &[
            "SELECT sum(n - n + (SELECT sum(months_claiming) FROM dwp.claims WHERE claim_started < DATE '2024-01-01')) AS s FROM (SELECT count(*) AS n FROM dfe.attainment) AS t",
            "SELECT count(*) FILTER (WHERE n > (SELECT sum(months_claiming) FROM dwp.claims)) AS s FROM (SELECT count(*) AS n FROM dfe.attainment) AS t",
        ],
    ),
    (Invalid, "", "", &["SELECT s FROM (VALUES ((SELECT sum(months_claiming) FROM dwp.claims))) AS t(s)"]),
    // Conditions: WHERE, FILTER, CASE, HAVING, and a column that never leaves its department.
    (
        Denied,
        "months_claiming may not be used for filter",
        "dwp",
        &[
            "SELECT count(*) AS n FROM dwp.claims WHERE months_claiming > 3",
            "SELECT count(*) AS n FROM dwp.claims WHERE months_claiming > 3 OR claiming",
            "SELECT count(*) AS n FROM dwp.claims WHERE NOT (months_claiming IS NULL)",
            "SELECT count(*) AS n FROM dwp.claims WHERE coalesce(months_claiming, 0) = 0",
            "SELECT count(*) AS n FROM (SELECT months_claiming AS claiming FROM dwp.claims) AS t WHERE claiming > 3",
            "SELECT avg(CASE WHEN months_claiming > 3 THEN 1.0 ELSE 0.0 END) AS s FROM dwp.claims",
        ],
    ),
    (Disclosure, "takes a column", "", &["SELECT sum(CASE months_claiming WHEN 3 THEN 1 ELSE 0 END) AS s FROM dwp.claims"]),
    (
        Denied,
        "wellbeing_score may not be used for filter",
        "dhsc",
        &[
            "SELECT sum(attainment8) FILTER (WHERE region = 'London' AND h.wellbeing_score > 9) AS s FROM dfe.attainment a JOIN dhsc.health h ON a.subject = h.subject",
        ],
    ),
    (
        Denied,
        "claim_started may not be used for aggregate",
        "dwp",
        &["SELECT count(*) AS n FROM dwp.claims HAVING count(claim_started) > 5", "SELECT count(claim_started) AS n FROM dwp.claims"],
    ),
    (
        Denied,
        "at its department",
        "dwp",
        &[
            "SELECT count(*) FILTER (WHERE conditionality = 'none') AS n FROM dwp.claims",
            "SELECT avg(CASE WHEN conditionality = 'none' THEN 1.0 ELSE 0.0 END) AS s FROM dwp.claims",
        ],
    ),
    // Numbers and days by other comparisons than those with the thresholds of their bands.
    (
        Denied,
        "attainment8 may be used for filter only by < and >= with the thresholds of its bands",
        "dfe",
        &[
            "SELECT count(*) AS n FROM dfe.attainment WHERE attainment8 < 41",
            "SELECT count(*) AS n FROM dfe.attainment WHERE attainment8 >= 40.000001",
            "SELECT count(*) AS n FROM dfe.attainment WHERE attainment8 <= 40",
            "SELECT count(*) AS n FROM dfe.attainment WHERE attainment8 > 40",
            "SELECT count(*) AS n FROM dfe.attainment WHERE attainment8 = 40",
            "SELECT count(*) AS n FROM dfe.attainment WHERE attainment8 <> 40",
            "SELECT count(*) AS n FROM dfe.attainment WHERE attainment8 IS DISTINCT FROM 40",
            "SELECT count(*) AS n FROM dfe.attainment WHERE attainment8 IN (40, 50)",
            "SELECT count(*) AS n FROM dfe.attainment WHERE attainment8 BETWEEN 40 AND 50",
            "SELECT count(*) AS n FROM dfe.attainment WHERE attainment8 NOT BETWEEN 40 AND 50",
            "SELECT count(*) AS n FROM dfe.attainment WHERE NOT (attainment8 > 40)",
            "SELECT count(*) AS n FROM dfe.attainment WHERE (attainment8 < 41) IS NOT TRUE",
            "SELECT count(*) AS n FROM dfe.attainment WHERE region = 'London' OR attainment8 < 41",
            "SELECT count(*) AS n FROM dfe.attainment WHERE CASE WHEN attainment8 < 40 THEN free_school_meals ELSE true END",
            "SELECT count(*) AS n FROM dfe.attainment WHERE CAST(attainment8 AS BIGINT) < 40",
            "SELECT count(*) AS n FROM dfe.attainment WHERE coalesce(attainment8, 0.0) < 40",
            "SELECT count(*) AS n FROM dfe.attainment WHERE nullif(attainment8, 41) IS NULL",
            "SELECT count(*) AS n FROM dfe.attainment WHERE attainment8 < cohort_year",
            "SELECT count(*) AS n FROM dfe.attainment WHERE attainment8 < (SELECT avg(attainment8) FROM dfe.attainment)",
            "SELECT count(*) FILTER (WHERE attainment8 < 41) AS n FROM dfe.attainment",
            "SELECT avg(CASE WHEN attainment8 < 41 THEN 1.0 ELSE 0.0 END) AS s FROM dfe.attainment",
            "SELECT count(*) AS n FROM (SELECT attainment8 AS gigabit FROM dfe.attainment) AS t WHERE gigabit < 41",
            "SELECT count(*) AS n FROM (SELECT subject, avg(attainment8) AS m FROM dfe.attainment GROUP BY subject) AS t WHERE m < 40",
            "SELECT count(*) AS n FROM (SELECT CASE WHEN attainment8 < 41 THEN 1 END AS c FROM dfe.attainment) AS t WHERE c IS NULL",
            "SELECT count(*) AS n FROM dfe.attainment a JOIN dwp.claims c ON a.subject = c.subject AND a.attainment8 < 41",
            "SELECT count(*) AS n FROM dwp.claims WHERE subject IN (SELECT subject FROM dfe.attainment WHERE attainment8 < 41)",
        ],
    ),
    (
        Denied,
        "claim_started may be used for filter only by < and >= with the thresholds of its bands",
        "dwp",
        &[
            "SELECT count(*) AS n FROM dwp.claims WHERE claim_started < DATE '2024-01-02'",
            "SELECT count(*) AS n FROM dwp.claims WHERE claim_started = '2024-01-01'",
            "SELECT count(*) AS n FROM dwp.claims WHERE date_part('year', claim_started) = 2024",
            "SELECT count(*) AS n FROM dwp.claims WHERE coalesce(claim_started, DATE '2024-01-01') = DATE '2024-01-01'",
        ],
    ),
    // Keys of groups.
    (
        Denied,
        "months_claiming may not be used for group_by",
        "dwp",
        &[
            "SELECT months_claiming, count(*) AS n FROM dwp.claims GROUP BY months_claiming",
            "SELECT months_claiming AS k, count(*) AS n FROM dwp.claims GROUP BY 1",
            "SELECT count(*) AS n FROM dwp.claims GROUP BY CASE WHEN months_claiming > 3 THEN 1 ELSE 0 END",
        ],
    ),
    (
        Denied,
        "conditionality may not be used for group_by",
        "dwp",
        &["SELECT conditionality, count(*) AS n FROM dwp.claims GROUP BY conditionality"],
    ),
    (
        Disclosure,
        "key",
        "",
        &["SELECT t.m, count(*) AS n FROM (SELECT subject, sum(months_claiming) AS m FROM dwp.claims GROUP BY subject) AS t GROUP BY t.m"],
    ),
    (
        Denied,
        "attainment8 may not be used for group_by",
        "dfe",
        &[
            "SELECT region, count(*) AS n FROM dfe.attainment GROUP BY ROLLUP (region, attainment8)",
            "SELECT region, attainment8, count(*) AS n FROM dfe.attainment GROUP BY CUBE (region, attainment8)",
            "SELECT region, attainment8, count(*) AS n FROM dfe.attainment GROUP BY GROUPING SETS ((region), (attainment8))",
        ],
    ),
    (
        Disclosure,
        "pseudonym",
        "",
        &[
            "SELECT region, count(*) AS n FROM dfe.attainment GROUP BY ROLLUP (region, subject)",
            "SELECT count(*) AS n FROM dfe.attainment GROUP BY GROUPING SETS ((), (subject))",
        ],
    ),
    (
        LimitExceeded,
        "grouping sets",
        "",
        &[
            "SELECT count(*) AS n FROM dfe.attainment GROUP BY cohort_year, CUBE (region, free_school_meals, disadvantage_band, region, free_school_meals, disadvantage_band)",
        ],
    ),
    // Extremes and single values dressed as summaries.
    (
        Disclosure,
        "min",
        "",
        &[
            "SELECT min(attainment8) FILTER (WHERE region = 'London') AS s FROM dfe.attainment",
            "SELECT region FROM dfe.attainment GROUP BY region ORDER BY min(attainment8)",
        ],
    ),
    (
        Disclosure,
        "max",
        "",
        &[
            "SELECT region FROM dfe.attainment GROUP BY region HAVING max(attainment8) > 90",
            "SELECT max(t.m) AS s FROM (SELECT subject, max(attainment8) AS m FROM dfe.attainment GROUP BY subject) AS t",
        ],
    ),
    // Of a column that may be put out, too.
    (
        Disclosure,
        "single subjects' values",
        "",
        &["SELECT min(gigabit) AS s FROM dsit.connectivity", "SELECT max(gigabit) AS s FROM dsit.connectivity"],
    ),
    (Invalid, "DISTINCT", "", &["SELECT avg(DISTINCT attainment8) AS s FROM dfe.attainment"]),
    (
        Invalid,
        "bit_or",
        "",
        &[
            "SELECT bit_or(months_claiming) AS s FROM dwp.claims",
            "SELECT bit_or(t.n) AS s FROM (SELECT count(*) AS n FROM dwp.claims) AS t",
        ],
    ),
    (Invalid, "array_agg", "", &["SELECT array_agg(attainment8) AS s FROM dfe.attainment"]),
    (Invalid, "string_agg", "", &["SELECT string_agg(region, ',') AS s FROM dfe.attainment"]),
    (Invalid, "first_value", "", &["SELECT first_value(attainment8) AS s FROM dfe.attainment"]),
    (Invalid, "last_value", "", &["SELECT last_value(attainment8) AS s FROM dfe.attainment"]),
    (Invalid, "approx_percentile_cont", "", &["SELECT approx_percentile_cont(attainment8, 0.99) AS s FROM dfe.attainment"]),
    (Invalid, "stddev", "", &["SELECT stddev(attainment8) AS s FROM dfe.attainment"]),
    (Disclosure, "takes a column", "", &["SELECT sum(attainment8 - 50) AS s FROM dfe.attainment"]),
    // Windows.
    (
        Invalid,
        "OVER",
        "",
        &[
            "SELECT sum(attainment8) OVER (PARTITION BY region) AS s FROM dfe.attainment",
            "SELECT sum(attainment8) OVER (ORDER BY attainment8 ROWS BETWEEN CURRENT ROW AND CURRENT ROW) AS s FROM dfe.attainment",
            "SELECT max(gigabit) OVER (ORDER BY gigabit ROWS BETWEEN CURRENT ROW AND CURRENT ROW) AS s FROM dsit.connectivity",
        ],
    ),
    (
        Invalid,
        "",
        "",
        &[
            "SELECT lag(attainment8) OVER (ORDER BY attainment8) AS s FROM dfe.attainment",
            "SELECT region, count(*) AS n FROM dfe.attainment GROUP BY region QUALIFY sum(count(*)) OVER () > 1",
        ],
    ),
    // Together with a permitted branch.
    (
        Disclosure,
        "UNION",
        "",
        &[
            "SELECT gigabit FROM dsit.connectivity UNION ALL SELECT claiming FROM dwp.claims",
            "SELECT gigabit FROM dsit.connectivity UNION SELECT claiming FROM dwp.claims",
        ],
    ),
    (
        Disclosure,
        "subjects",
        "",
        &[
            "SELECT gigabit FROM dsit.connectivity INTERSECT SELECT claiming FROM dwp.claims",
            "SELECT gigabit FROM dsit.connectivity EXCEPT SELECT claiming FROM dwp.claims",
        ],
    ),
    (
        Denied,
        "claim_started may not be used for aggregate",
        "dwp",
        &["SELECT count(*) AS n FROM dfe.attainment UNION ALL SELECT count(claim_started) AS n FROM dwp.claims"],
    ),
    // WITH and views.
    (
        Denied,
        "attainment8 may not be used for output",
        "dfe",
        &[
            "WITH w AS (SELECT attainment8 AS a FROM dfe.attainment) SELECT a FROM w",
            "WITH coverage AS (SELECT attainment8 FROM dfe.attainment) SELECT attainment8 FROM coverage",
            "SELECT mark FROM views.marks",
        ],
    ),
    (
        Denied,
        "months_claiming may not be used for filter",
        "dwp",
        &[
            "WITH a AS (SELECT subject, months_claiming AS m FROM dwp.claims), b AS (SELECT m FROM a WHERE m > 3) SELECT count(m) AS n FROM b",
            "SELECT count(*) AS n FROM views.marks WHERE months > 3",
        ],
    ),
    (
        Invalid,
        "",
        "",
        &["WITH RECURSIVE r AS (SELECT attainment8 AS a FROM dfe.attainment UNION ALL SELECT a FROM r WHERE a > 1) SELECT a FROM r"],
    ),
    (Denied, "may not be used for output", "dfe", &["SELECT * FROM views.marks"]),
    (Denied, "may not be used", "", &["SELECT * FROM views.cardiovascular_support"]),
    // Not there, or not for this caller.
    (
        Denied,
        "cardiovascular_risk",
        "",
        &[
            "SELECT count(cardiovascular_risk) AS n FROM dhsc.health",
            "SELECT count(*) AS n FROM dhsc.health WHERE cardiovascular_risk = 'high'",
        ],
    ),
    (
        Denied,
        "may not be used",
        "",
        &[
            "SELECT * FROM information_schema.columns",
            "SELECT * FROM information_schema.df_settings",
            "SELECT * FROM pg_catalog.pg_tables",
            "SELECT * FROM read_parquet('/etc/passwd')",
            "SELECT count(*) AS n FROM health.dhsc.health",
        ],
    ),
    // Failures as oracles.
    (
        Disclosure,
        "arithmetic",
        "",
        &[
            "SELECT count(*) AS n FROM dfe.attainment WHERE 1 / (attainment8 - 50) > 0",
            "SELECT count(*) AS n FROM dfe.attainment WHERE CASE WHEN region = 'London' THEN 1 / 0 ELSE 1 END = 1",
        ],
    ),
    (Invalid, "cast", "", &["SELECT count(*) AS n FROM dfe.attainment WHERE CAST(attainment8 AS DECIMAL(3, 0)) > 1"]),
    (Invalid, "sqrt", "", &["SELECT count(*) AS n FROM dfe.attainment WHERE sqrt(attainment8) > 1"]),
    (Invalid, "literal", "", &["SELECT count(*) AS n FROM dfe.attainment WHERE attainment8 > 'x'"]),
    (Denied, "region may not be used for aggregate", "dfe", &["SELECT avg(CAST(region AS DOUBLE)) AS s FROM dfe.attainment"]),
    // Structs, arrays, unnest.
    (
        Invalid,
        "",
        "",
        &[
            "SELECT unnest(make_array(attainment8)) AS s FROM dfe.attainment",
            "SELECT [attainment8] AS s FROM dfe.attainment",
            "SELECT struct(attainment8) AS s FROM dfe.attainment",
            "SELECT s FROM unnest([1, 2, 3]) AS t(s)",
        ],
    ),
    // What shows plans, settings and files, or changes something.
    (
        Invalid,
        "only SELECT",
        "",
        &[
            "EXPLAIN VERBOSE SELECT attainment8 FROM dfe.attainment",
            "EXPLAIN ANALYZE VERBOSE SELECT attainment8 FROM dfe.attainment",
            "SHOW ALL",
            "SHOW COLUMNS FROM dfe.attainment",
            "CREATE VIEW v AS SELECT attainment8 FROM dfe.attainment",
            "INSERT INTO dfe.attainment SELECT attainment8 FROM dfe.attainment",
            "COPY (SELECT attainment8 FROM dfe.attainment) TO 'stolen.parquet'",
            "PREPARE p AS SELECT attainment8 FROM dfe.attainment",
            "SELECT attainment8 INTO stolen FROM dfe.attainment",
        ],
    ),
    (Invalid, "several statements", "", &["SELECT 1; SELECT attainment8 FROM dfe.attainment"]),
    // Names, however they are written.
    (
        Denied,
        "attainment8 may not be used for output",
        "dfe",
        &[
            "SELECT \"attainment8\" FROM \"dfe\".\"attainment\"",
            "SELECT Attainment8 FROM DFE.Attainment",
            "SELECT attainment8 FROM opportunity.dfe.attainment",
        ],
    ),
    (Denied, "Attainment8", "", &["SELECT \"Attainment8\" FROM dfe.attainment"]),
    (Denied, "may not be used", "", &["SELECT attainment8 FROM \"DFE\".attainment", "SELECT attainment8 FROM \"dfe.attainment\""]),
    (Denied, "may be used here", "", &["SELECT attainm\u{435}nt8 FROM dfe.attainment"]),
    // Comments.
    (Denied, "attainment8 may not be used for output", "dfe", &["SELECT /* region */ attainment8 -- is harmless\nFROM dfe.attainment"]),
    (
        Denied,
        "months_claiming may not be used for filter",
        "dwp",
        &["SELECT count(*) AS n FROM dwp.claims WHERE claiming /* OR */ AND months_claiming > 3 -- AND claiming"],
    ),
];
