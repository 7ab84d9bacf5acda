-- mission: opportunity
-- title: Who claims an out-of-work benefit, by region and in all
-- unit: persons known to DfE and DWP
-- description: The outcome 'fewer-on-benefits'. A row for each region, and one for all of them, where total is 1. Shares are 0 to 1.
SELECT
  a.region,
  grouping(a.region) AS total,
  count(DISTINCT a.subject) AS persons,
  avg(CASE WHEN c.claiming THEN 1.0 ELSE 0.0 END) AS share_claiming
FROM dfe.attainment a
JOIN dwp.claims c ON c.subject = a.subject
GROUP BY ROLLUP (a.region)
