-- mission: opportunity
-- title: Who finishes an apprenticeship, by disadvantage
-- unit: persons known to DfE, DBT and DSIT
-- description: Starts, completions among those who started, and home connectivity, by fifths of disadvantage. Shares are 0 to 1.
SELECT
  a.disadvantage_band,
  count(DISTINCT a.subject) AS persons,
  avg(CASE WHEN p.started THEN 1.0 ELSE 0.0 END) AS share_started,
  avg(CASE WHEN p.completed THEN 1.0 ELSE 0.0 END) FILTER (WHERE p.started) AS share_completed_of_started,
  avg(p.level) AS average_level,
  avg(CASE WHEN b.gigabit THEN 1.0 ELSE 0.0 END) AS share_gigabit
FROM dfe.attainment a
JOIN dbt.apprenticeships p ON p.subject = a.subject
JOIN dsit.connectivity b ON b.subject = a.subject
GROUP BY a.disadvantage_band
ORDER BY a.disadvantage_band
