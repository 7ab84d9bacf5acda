-- mission: opportunity
-- title: Barriers to opportunity, by region and free school meals
-- unit: persons known to all five departments
-- description: Attainment at school beside what became of it: claims, apprenticeships, wellbeing and connectivity. Shares are 0 to 1.
SELECT
  a.region,
  a.free_school_meals,
  count(DISTINCT a.subject) AS persons,
  avg(a.attainment8) AS average_attainment8,
  avg(CASE WHEN c.claiming THEN 1.0 ELSE 0.0 END) AS share_claiming,
  avg(CASE WHEN p.completed THEN 1.0 ELSE 0.0 END) AS share_apprenticeship_completed,
  avg(h.wellbeing_score) AS average_wellbeing,
  avg(CASE WHEN b.gigabit THEN 1.0 ELSE 0.0 END) AS share_gigabit
FROM dfe.attainment a
JOIN dwp.claims c ON c.subject = a.subject
JOIN dhsc.health h ON h.subject = a.subject
JOIN dbt.apprenticeships p ON p.subject = a.subject
JOIN dsit.connectivity b ON b.subject = a.subject
GROUP BY a.region, a.free_school_meals
ORDER BY a.region, a.free_school_meals
