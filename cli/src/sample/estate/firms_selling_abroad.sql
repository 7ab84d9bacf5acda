-- mission: strong-economy
-- title: Firms that sell abroad, by whether a loan supports them and in all
-- unit: firms known to DBT and DSIT
-- description: The outcome 'more-sell-abroad'. A row for firms with and one for firms without a loan, and one for all, where total is 1. Shares are 0 to 1.
SELECT
  l.supported,
  grouping(l.supported) AS total,
  count(DISTINCT l.subject) AS firms,
  avg(CASE WHEN m.market IN ('Europe', 'rest of the world') THEN 1.0 ELSE 0.0 END) AS share_selling_abroad
FROM dbt.loans l
JOIN dsit.markets m ON m.subject = l.subject
GROUP BY ROLLUP (l.supported)
