-- mission: healthy-life
-- title: People at high cardiovascular risk: identified and supported before a heart attack
-- unit: persons at high risk known to DHSC and DWP
-- description: The risk itself never leaves DHSC: it only decides which rows are sent. Only who is identified is supported, and the view says so. Shares are 0 to 1.
SELECT
  h.age_band,
  count(DISTINCT h.subject) AS persons_at_high_risk,
  avg(CASE WHEN h.risk_identified THEN 1.0 ELSE 0.0 END) AS share_identified,
  avg(CASE WHEN h.risk_identified AND h.supported THEN 1.0 ELSE 0.0 END) AS share_supported,
  avg(CASE WHEN h.heart_attack THEN 1.0 ELSE 0.0 END) AS share_with_heart_attack,
  avg(CASE WHEN c.conditionality = 'ill health' THEN 1.0 ELSE 0.0 END) AS share_out_of_work_through_ill_health
FROM dhsc.health h
JOIN dwp.claims c ON c.subject = h.subject
WHERE h.cardiovascular_risk = 'high'
GROUP BY h.age_band
ORDER BY h.age_band
