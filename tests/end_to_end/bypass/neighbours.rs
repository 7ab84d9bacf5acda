//! Attempts whose values are parameters, and what is permitted right beside attempts.

use concordat_policy::Code;
use concordat_policy::Code::{Denied, Disclosure, Invalid};

/// Attempts with parameters: the statement, the values, and as above.
pub const WITH_PARAMETERS: &[(&str, &[&str], Code, &str, &str)] = &[
    (
        "SELECT count(*) AS n FROM dwp.claims WHERE months_claiming > $x",
        &["x=3"],
        Denied,
        "months_claiming may not be used for filter",
        "dwp",
    ),
    (
        "SELECT count(*) AS n FROM dwp.claims WHERE months_claiming IN ($x, $y)",
        &["x=3", "y=4"],
        Denied,
        "months_claiming may not be used for filter",
        "dwp",
    ),
    ("SELECT coalesce(attainment8, $x) AS s FROM dfe.attainment", &["x=1"], Denied, "attainment8 may not be used for output", "dfe"),
    (
        "SELECT avg(CASE WHEN months_claiming > $x THEN 1.0 ELSE 0.0 END) AS s FROM dwp.claims",
        &["x=3"],
        Denied,
        "months_claiming may not be used for filter",
        "dwp",
    ),
    (
        "SELECT count(*) AS n FROM dwp.claims HAVING count(claim_started) > $x",
        &["x=3"],
        Denied,
        "claim_started may not be used for aggregate",
        "dwp",
    ),
    ("SELECT count(*) FILTER (WHERE conditionality = $x) AS n FROM dwp.claims", &["x=none"], Denied, "at its department", "dwp"),
    ("SELECT $x AS s FROM dfe.attainment", &["x=attainment8"], Disclosure, "exact number", ""),
    ("SELECT count(*) AS n FROM $x", &["x=dwp.claims"], Invalid, "", ""),
];

/// What is permitted, each close to an attempt: a gateway that refuses everything fails here.
pub const PERMITTED: &[&str] = &[
    "SELECT gigabit FROM dsit.connectivity",
    "SELECT DISTINCT region FROM dfe.attainment",
    "SELECT gigabit FROM dsit.connectivity ORDER BY gigabit LIMIT 3",
    "SELECT b.gigabit FROM dsit.connectivity b JOIN dwp.claims c ON b.subject = c.subject WHERE c.claiming",
    "SELECT avg(attainment8) AS m FROM dfe.attainment",
    "SELECT avg(t.gigabit) AS m FROM (SELECT attainment8 AS gigabit FROM dfe.attainment) AS t",
    "SELECT avg(x.s) AS m FROM dfe.attainment AS x(p, s, y, b, f, r)",
    "SELECT count(*) AS n FROM dfe.attainment a JOIN dwp.claims c ON a.subject = c.subject AND c.claiming",
    "SELECT count(*) AS n FROM dfe.attainment a LEFT JOIN dwp.claims c ON a.subject = c.subject AND c.claiming",
    "SELECT count(*) AS n FROM dwp.claims c RIGHT JOIN dfe.attainment a ON a.subject = c.subject AND c.claiming",
    "SELECT count(*) AS n FROM dfe.attainment a FULL JOIN dwp.claims c ON a.subject = c.subject",
    "SELECT count(*) AS n FROM dfe.attainment a LEFT SEMI JOIN dwp.claims c ON a.subject = c.subject AND c.claiming",
    "SELECT count(*) AS n FROM dfe.attainment NATURAL JOIN dwp.claims",
    "SELECT count(*) AS n FROM dfe.attainment JOIN dwp.claims USING (subject)",
    "SELECT count(*) AS n FROM dfe.attainment WHERE subject IN (SELECT subject FROM dwp.claims WHERE claiming)",
    "SELECT count(*) AS n FROM dfe.attainment WHERE subject NOT IN (SELECT subject FROM dwp.claims WHERE claiming)",
    "SELECT count(*) AS n FROM dfe.attainment a WHERE EXISTS (SELECT 1 FROM dwp.claims c WHERE c.subject = a.subject AND c.claiming)",
    "SELECT count(*) AS n FROM dfe.attainment WHERE cohort_year > (SELECT avg(attainment8) FROM dfe.attainment)",
    "SELECT max(t.n - t.m) AS s FROM (SELECT region, count(*) AS n, (SELECT count(*) FROM dwp.claims) AS m FROM dfe.attainment GROUP BY region) AS t",
    "SELECT count(*) AS n FROM dwp.claims WHERE conditionality = 'none' AND claim_started IS NULL",
    "SELECT count(*) AS n FROM dwp.claims WHERE claim_started >= '2024-01-01' AND claim_started < DATE '2025-01-01'",
    "SELECT count(*) AS n FROM dfe.attainment WHERE NOT (attainment8 < 40) AND 50.0 > attainment8 OR attainment8 IS NULL",
    "SELECT count(*) FILTER (WHERE attainment8 >= 40) AS n, avg(CASE WHEN attainment8 < 4e1 THEN 1.0 ELSE 0.0 END) AS s FROM dfe.attainment",
    "SELECT count(*) FILTER (WHERE claiming) AS n, avg(CASE WHEN claiming THEN 1.0 ELSE 0.0 END) AS s FROM dwp.claims",
    "SELECT region AS k, count(*) AS n FROM dfe.attainment GROUP BY 1 HAVING count(attainment8) > 5 ORDER BY n",
    "SELECT max(t.n) AS s FROM (SELECT region, count(*) AS n FROM dfe.attainment GROUP BY region) AS t",
    "SELECT region, cohort_year, grouping(region) AS g, count(*) AS n FROM dfe.attainment GROUP BY CUBE (region, cohort_year)",
    "SELECT avg(t.m) AS s FROM (SELECT subject, sum(months_claiming) AS m FROM dwp.claims GROUP BY subject) AS t",
    "SELECT count(*) AS n FROM dfe.attainment UNION ALL SELECT count(claiming) AS n FROM dwp.claims",
    "WITH w AS (SELECT attainment8 AS a FROM dfe.attainment) SELECT avg(a) AS m FROM w",
    "SELECT avg(mark) AS m FROM views.marks",
    // A cast that does not fit is null, and no failure.
    "SELECT count(*) AS n FROM dfe.attainment WHERE CAST(region AS BIGINT) > 1",
    "SELECT \"gigabit\" FROM \"dsit\".\"connectivity\"",
    "SELECT Avg(Attainment8) AS M FROM DFE.Attainment",
    "SELECT /* attainment8 */ count(*) AS n -- attainment8\nFROM dfe.attainment",
];
