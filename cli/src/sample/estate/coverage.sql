-- mission: opportunity
-- title: How much of the picture each department adds
-- unit: persons in DfE attainment
-- description: Of the people in the attainment data, how many each other department can speak about. The rest have no record there, no valid identifier, no consent, or objected.
SELECT
  a.region,
  count(DISTINCT a.subject) AS persons,
  count(DISTINCT c.subject) AS also_in_claims,
  count(DISTINCT h.subject) AS also_in_health,
  count(DISTINCT p.subject) AS also_in_apprenticeships,
  count(DISTINCT b.subject) AS also_in_connectivity
FROM dfe.attainment a
LEFT JOIN dwp.claims c ON c.subject = a.subject
LEFT JOIN dhsc.health h ON h.subject = a.subject
LEFT JOIN dbt.apprenticeships p ON p.subject = a.subject
LEFT JOIN dsit.connectivity b ON b.subject = a.subject
GROUP BY a.region
ORDER BY a.region
