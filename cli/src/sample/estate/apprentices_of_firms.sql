-- mission: strong-economy
-- title: Apprentices in firms with and without a loan
-- unit: apprentices known to DBT with an employer known to DWP
-- description: People and firms are identified differently: DWP's link dataset says who works where, to nobody but itself in clear.
SELECT
  l.supported,
  count(DISTINCT p.subject) AS apprentices,
  count(DISTINCT l.subject) AS firms,
  avg(CASE WHEN p.completed THEN 1.0 ELSE 0.0 END) AS share_completed
FROM dbt.apprenticeships p
JOIN dwp.employers e ON e.subject = p.subject
JOIN dbt.loans l ON l.subject = e.linked_subject
WHERE p.started
GROUP BY l.supported
ORDER BY l.supported
