-- mission: strong-economy
-- title: Firms supported with loans, and the markets they reached
-- unit: firms known to DBT and DSIT
-- description: By sector and whether a public loan supports the firm: how far it sells. Shares are 0 to 1, turnover per cent.
SELECT
  l.sector,
  l.supported,
  count(DISTINCT l.subject) AS firms,
  avg(l.loan_thousands) AS average_loan_thousands,
  avg(CASE WHEN m.market IN ('Europe', 'rest of the world') THEN 1.0 ELSE 0.0 END) AS share_selling_abroad,
  avg(m.abroad_share) AS average_turnover_from_abroad
FROM dbt.loans l
JOIN dsit.markets m ON m.subject = l.subject
GROUP BY l.sector, l.supported
ORDER BY l.sector, l.supported
