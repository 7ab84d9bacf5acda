//! The statement of a linkage report, made from what the catalogue says of a view and its datasets.
//!
//! ```text
//! counted   by value of the column: subjects, those with a partner in every other dataset                    (protected)
//! shown     matched and unmatched where both are shown: one of them beside the subjects would tell the other
//! totals    over the values that are shown
//! ```
//! Those who were not found are the subjects without the others, and no count of their own: beside the others the gateway tells none. Where
//! they are fewer than the minimum neither is shown, also under agreements that tell what a FILTER leaves over. Through a link dataset one
//! subject is linked to several of the other kind, of which some are found and some are not: it is found where one of them has a partner
//! in every other dataset.

use std::collections::{BTreeMap, BTreeSet};

use concordat_proto::v1::{CatalogueResponse, Column, Dataset};

use crate::failure::{Failure, Result};

/// The type that the catalogue gives to pseudonyms.
const PSEUDONYM: &str = "pseudonym";

/// The statement for `view`, by the column `by`.
///
/// # Errors
/// When the view or the column is not one that the caller may use so, the view reads two link datasets, or a dataset identifies its
/// subjects otherwise than the column's and no link dataset leads there.
pub(super) fn statement(catalogue: &CatalogueResponse, view: &str, by: &str) -> Result<String> {
    let datasets = datasets(catalogue, view)?;
    let links: Vec<&str> = datasets.iter().filter(|dataset| is_link(dataset)).map(|link| link.name.as_str()).collect();
    if links.len() > 1 {
        let links = links.join(" and ");
        return Err(Failure::usage(format!("the view '{view}' reads {links}: a statement's joins go through one link dataset at most"))
            .advice("report on a view that reads one of them"));
    }
    let (first, column) = column(&datasets, by)?;
    let others: Vec<&Dataset> = datasets.iter().copied().filter(|dataset| dataset.name != first.name).collect();
    if others.is_empty() {
        return Err(Failure::usage(format!("the view '{view}' reads one dataset only: there is nobody to be found elsewhere")));
    }
    let (joins, aliases) = joins(first, others)?;
    let matched = aliases.iter().map(|alias| format!("{alias}.subject IS NOT NULL")).collect::<Vec<_>>().join(" AND ");
    let enough = format!("CASE WHEN subjects - matched >= {}", datasets.iter().map(|d| d.minimum_subjects).max().unwrap_or(1).max(1));
    let shown = format!("{enough} THEN matched END AS matched,\n    {enough} THEN subjects - matched END AS unmatched");
    Ok(format!(
        "WITH counted AS (
  SELECT d0.{column} AS part, count(DISTINCT d0.subject) AS subjects,
    count(DISTINCT d0.subject) FILTER (WHERE {matched}) AS matched
  FROM {name} d0{joins}
  GROUP BY d0.{column}
), shown AS (
  SELECT part, subjects, {shown}
  FROM counted
), totals AS (
  SELECT sum(matched) AS matched, sum(unmatched) AS unmatched FROM shown WHERE matched > 0 AND unmatched > 0
)
SELECT s.part AS {column}, s.subjects,
  CAST(s.matched AS DOUBLE) / (s.matched + s.unmatched) AS match_rate,
  CAST(s.matched AS DOUBLE) / t.matched AS share_of_matched,
  CAST(s.unmatched AS DOUBLE) / t.unmatched AS share_of_unmatched,
  CAST(s.matched AS DOUBLE) / t.matched - CAST(s.unmatched AS DOUBLE) / t.unmatched AS difference
FROM shown s CROSS JOIN totals t
ORDER BY s.part",
        name = first.name,
    ))
}

/// The datasets that a view reads, also through other views.
fn datasets<'c>(catalogue: &'c CatalogueResponse, view: &str) -> Result<Vec<&'c Dataset>> {
    let (mut pending, mut views, mut names) = (vec![view.to_owned()], BTreeSet::new(), BTreeSet::new());
    while let Some(next) = pending.pop() {
        let Some(known) = catalogue.views.iter().find(|known| known.name == next) else {
            return Err(Failure::usage(format!("there is no view '{next}' that you may use for this purpose"))
                .advice("`concordat catalogue` lists them"));
        };
        if views.insert(next) {
            let words = words(&known.sql);
            pending.extend(words.iter().filter_map(|word| word.strip_prefix("views.")).map(str::to_owned));
            names.extend(words);
        }
    }
    Ok(catalogue.datasets.iter().filter(|dataset| names.contains(&dataset.name)).collect())
}

/// The words of a statement that could name a table, without comments and quotes.
fn words(sql: &str) -> BTreeSet<String> {
    let lines = sql.lines().map(|line| line.split("--").next().unwrap_or_default().replace('"', "").to_lowercase());
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    lines.flat_map(|line| line.split(|c: char| !part(c)).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The dataset and the column that `by` names.
fn column<'d>(datasets: &[&'d Dataset], by: &str) -> Result<(&'d Dataset, &'d str)> {
    let groups = |column: &&Column| column.r#type != PSEUDONYM && column.uses.iter().any(|used| used == "group_by");
    let all =
        || datasets.iter().flat_map(|dataset| dataset.columns.iter().filter(groups).map(move |column| (*dataset, column.name.as_str())));
    let full = |(dataset, column): (&Dataset, &str)| format!("{}.{column}", dataset.name);
    let found: Vec<_> = all().filter(|(dataset, column)| *column == by || full((*dataset, *column)) == by).collect();
    match found.as_slice() {
        [one] => Ok(*one),
        [] => {
            let list = all().map(full).collect::<Vec<_>>().join(", ");
            Err(Failure::usage(format!("'{by}' is no column of the view's datasets that may be grouped by")).advice(if list.is_empty() {
                "there is none".to_owned()
            } else {
                format!("choose one of {list}")
            }))
        }
        several => {
            let list = several.iter().copied().map(full).collect::<Vec<_>>().join(" or ");
            Err(Failure::usage(format!("several datasets of the view have a column '{by}'")).advice(format!("say {list}")))
        }
    }
}

/// The other datasets joined to the first, each on the pseudonym of its subject's kind, and their aliases. A link dataset comes first:
/// others are joined on what it leads to.
fn joins(first: &Dataset, others: Vec<&Dataset>) -> Result<(String, Vec<String>)> {
    let mut reached: BTreeMap<&str, String> = ends(first).map(|end| (end.title.as_str(), format!("d0.{}", end.name))).collect();
    let (links, plain): (Vec<&Dataset>, Vec<&Dataset>) = others.into_iter().partition(|dataset| is_link(dataset));
    let (mut joins, mut aliases, mut apart) = (String::new(), Vec::new(), Vec::new());
    for (place, dataset) in (1..).zip(links.into_iter().chain(plain)) {
        let alias = format!("d{place}");
        let tied = ends(dataset).find_map(|end| Some((end, reached.get(end.title.as_str())?)));
        let Some((end, on)) = tied else {
            apart.push(dataset.name.as_str());
            continue;
        };
        joins.push_str(&format!("\n  LEFT JOIN {} {alias} ON {alias}.{} = {on}", dataset.name, end.name));
        for end in ends(dataset) {
            reached.entry(&end.title).or_insert_with(|| format!("{alias}.{}", end.name));
        }
        aliases.push(alias);
    }
    if apart.is_empty() {
        return Ok((joins, aliases));
    }
    let names = apart.join(", ");
    Err(Failure::usage(format!("{names}: cannot be joined with {}, which identifies its subjects otherwise", first.name))
        .advice("report on a view whose datasets identify people alike, or that reads the link dataset between them"))
}

/// Whether it has a second pseudonym.
fn is_link(dataset: &Dataset) -> bool {
    dataset.columns.iter().filter(|column| column.r#type == PSEUDONYM).count() > 1
}

/// The pseudonyms that a dataset may be joined on. Of what each is stands in its title.
fn ends(dataset: &Dataset) -> impl Iterator<Item = &Column> {
    dataset.columns.iter().filter(|column| column.r#type == PSEUDONYM && column.uses.iter().any(|used| used == "join"))
}

#[cfg(test)]
mod tests {
    use concordat_proto::v1::View;

    use super::*;

    fn column_of(name: &str, kind: &str, title: &str, uses: &[&str]) -> Column {
        let uses = uses.iter().map(|used| (*used).to_owned()).collect();
        Column { name: name.into(), r#type: kind.into(), title: title.into(), uses, ..Default::default() }
    }

    fn dataset(name: &str, of: &str, linked: Option<&str>, groups: &[&str]) -> Dataset {
        let mut columns = vec![column_of("subject", PSEUDONYM, of, &["join", "aggregate"])];
        columns.extend(linked.map(|of| column_of("linked_subject", PSEUDONYM, of, &["join"])));
        columns.extend(groups.iter().map(|name| column_of(name, "text", "", &["group_by"])));
        columns.push(column_of("secret", "text", "", &["filter"]));
        let minimum_subjects = if name == "d.links" { 12 } else { 10 };
        Dataset { name: name.into(), columns, minimum_subjects, ..Default::default() }
    }

    fn catalogue() -> CatalogueResponse {
        let view = |name: &str, sql: &str| View { name: name.into(), sql: sql.into(), ..Default::default() };
        CatalogueResponse {
            views: vec![
                view("joined", "SELECT 1 -- FROM d.absent\nFROM a.people p JOIN \"B\".claims c ON p.subject=c.subject"),
                view("outer_view", "SELECT count(*) FROM views.joined JOIN c.homes"),
                view("linked", "SELECT 1 FROM a.people,b.claims,c.homes,d.links"),
                view("two_links", "SELECT 1 FROM a.people,d.links,f.schools"),
                view("three", "SELECT 1 FROM a.people,b.claims,e.pupils"),
                view("alone", "SELECT count(*) FROM a.people"),
            ],
            datasets: vec![
                dataset("a.people", "nino", None, &["region", "sector"]),
                dataset("b.claims", "nino", None, &["sector"]),
                dataset("c.homes", "uprn", None, &["tenure"]),
                dataset("d.links", "nino", Some("uprn"), &["since"]),
                dataset("d.absent", "nino", None, &["region"]),
                dataset("e.pupils", "nino", None, &[]),
                dataset("f.schools", "nino", Some("urn"), &[]),
            ],
            ..Default::default()
        }
    }

    #[test]
    fn datasets_join_on_the_pseudonym_that_they_share() {
        let sql = statement(&catalogue(), "joined", "region").unwrap();
        assert!(sql.contains("FROM a.people d0\n  LEFT JOIN b.claims d1 ON d1.subject = d0.subject\n  GROUP BY d0.region"), "{sql}");
        assert!(sql.contains("CASE WHEN subjects - matched >= 10 THEN matched END") && !sql.contains("absent"), "{sql}");
        let three = statement(&catalogue(), "three", "region").unwrap();
        let joins =
            "FROM a.people d0\n  LEFT JOIN b.claims d1 ON d1.subject = d0.subject\n  LEFT JOIN e.pupils d2 ON d2.subject = d0.subject";
        assert!(three.contains(joins), "{three}");
        assert!(three.contains("(WHERE d1.subject IS NOT NULL AND d2.subject IS NOT NULL) AS matched"), "{three}");
    }

    #[test]
    fn through_a_link_dataset_each_joins_on_the_pseudonym_of_its_kind() {
        for (by, joins) in [
            (
                "region",
                "FROM a.people d0\n  LEFT JOIN d.links d1 ON d1.subject = d0.subject\n  LEFT JOIN b.claims d2 ON d2.subject = d0.subject\n  \
                 LEFT JOIN c.homes d3 ON d3.subject = d1.linked_subject\n  GROUP BY d0.region",
            ),
            (
                "tenure",
                "FROM c.homes d0\n  LEFT JOIN d.links d1 ON d1.linked_subject = d0.subject\n  LEFT JOIN a.people d2 ON d2.subject = \
                 d1.subject\n  LEFT JOIN b.claims d3 ON d3.subject = d1.subject\n  GROUP BY d0.tenure",
            ),
            (
                "since",
                "FROM d.links d0\n  LEFT JOIN a.people d1 ON d1.subject = d0.subject\n  LEFT JOIN b.claims d2 ON d2.subject = \
                 d0.subject\n  LEFT JOIN c.homes d3 ON d3.subject = d0.linked_subject\n  GROUP BY d0.since",
            ),
        ] {
            let sql = statement(&catalogue(), "linked", by).unwrap();
            assert!(sql.contains(joins), "{by}: {sql}");
            let found = "FILTER (WHERE d1.subject IS NOT NULL AND d2.subject IS NOT NULL AND d3.subject IS NOT NULL) AS matched\n";
            let shown = "CASE WHEN subjects - matched >= 12 THEN matched END AS matched,\n    CASE WHEN subjects - matched >= 12 THEN \
                         subjects - matched END AS unmatched\n";
            assert!(sql.contains(found) && sql.contains(shown), "{by}: {sql}");
            assert!(!sql.contains("WHERE NOT"), "whoever was found once would be counted as not found: {sql}");
        }
    }

    #[test]
    fn what_cannot_be_reported_says_what_can() {
        for (view, by, says) in [
            ("absent", "region", "no view 'absent'"),
            ("alone", "region", "one dataset only"),
            ("joined", "secret", "choose one of a.people.region, a.people.sector, b.claims.sector"),
            ("joined", "sector", "say a.people.sector or b.claims.sector"),
            ("outer_view", "region", "c.homes: cannot be joined with a.people"),
            ("two_links", "region", "reads d.links and f.schools: a statement's joins go through one link dataset"),
        ] {
            let failure = statement(&catalogue(), view, by).unwrap_err();
            let text = format!("{} {}", failure.message, failure.advice.clone().unwrap_or_default());
            assert!(text.contains(says), "{view} by {by}: {text}");
        }
        assert!(statement(&catalogue(), "joined", "b.claims.sector").unwrap().contains("FROM b.claims d0"));
    }
}
