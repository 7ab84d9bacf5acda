-- mission: opportunity
-- title: Who completes an apprenticeship that they started, by disadvantage and in all
-- unit: persons known to DfE and DBT who started an apprenticeship
-- description: The outcome 'more-complete'. A row for each fifth of disadvantage, and one for all, where total is 1. Shares are 0 to 1.
SELECT
  a.disadvantage_band,
  grouping(a.disadvantage_band) AS total,
  count(DISTINCT a.subject) AS persons,
  avg(CASE WHEN p.completed THEN 1.0 ELSE 0.0 END) AS share_completed
FROM dfe.attainment a
JOIN dbt.apprenticeships p ON p.subject = a.subject
WHERE p.started
GROUP BY ROLLUP (a.disadvantage_band)
