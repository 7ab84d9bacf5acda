//! What a change of an agreement means: the uses that were permitted and are not now, the reverse, and every other term that
//! differs. Comments, spelling of the TOML and order of tables mean nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::column::{LINKED, SUBJECT, Use};
use crate::{Agreement, Basis, ColumnRule, Dataset, DatasetName};

/// What differs between two agreements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Uses that only the first permits, by column: `department.dataset.column`.
    pub no_longer: BTreeMap<String, BTreeSet<Use>>,
    /// Uses that only the second permits, by column.
    pub newly: BTreeMap<String, BTreeSet<Use>>,
    /// Every other term: its name, what the first says of it, and the second.
    pub terms: Vec<(String, Option<String>, Option<String>)>,
}

/// Compares two agreements, usually two versions of one.
#[must_use]
pub fn difference(before: &Agreement, after: &Agreement) -> Difference {
    let (old, new) = (permitted(before), permitted(after));
    let (old_terms, new_terms) = (terms(before), terms(after));
    let names: BTreeSet<&String> = old_terms.keys().chain(new_terms.keys()).collect();
    let differing = names.into_iter().map(|name| (name.clone(), old_terms.get(name).cloned(), new_terms.get(name).cloned()));
    Difference { no_longer: without(&old, &new), newly: without(&new, &old), terms: differing.filter(|(_, old, new)| old != new).collect() }
}

impl Difference {
    /// Whether the two say the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.no_longer.is_empty() && self.newly.is_empty() && self.terms.is_empty()
    }
}

impl fmt::Display for Difference {
    /// Lines for people, each ended.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("Both say the same.\n");
        }
        for (title, columns) in [("No longer permitted", &self.no_longer), ("Newly permitted", &self.newly)] {
            if !columns.is_empty() {
                writeln!(f, "{title}:")?;
            }
            for (column, uses) in columns {
                writeln!(f, "  {column}: {}", uses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))?;
            }
        }
        if !self.terms.is_empty() {
            f.write_str("Other terms:\n")?;
        }
        for (name, old, new) in &self.terms {
            match (old, new) {
                (Some(old), Some(new)) => writeln!(f, "  {name}: {old:?} became {new:?}")?,
                (Some(old), None) => writeln!(f, "  {name}: {old:?} is gone")?,
                (None, Some(new)) => writeln!(f, "  {name}: {new:?} is new")?,
                (None, None) => {}
            }
        }
        Ok(())
    }
}

type Permitted = BTreeMap<String, BTreeSet<Use>>;

/// Every use of every column that has one.
fn permitted(agreement: &Agreement) -> Permitted {
    let of = |dataset: &Dataset| {
        let linked = dataset.linked.iter().map(|linked| (LINKED, &linked.uses));
        let columns = dataset.columns.iter().map(|(name, rule)| (name.as_str(), &rule.uses));
        let columns = columns.chain([(SUBJECT, &dataset.subject_uses)]).chain(linked);
        columns.map(|(column, uses)| (path(&dataset.name, Some(column)), uses.clone())).collect::<Vec<_>>()
    };
    agreement.datasets.iter().flat_map(of).filter(|(_, uses)| !uses.is_empty()).collect()
}

/// What `all` permits and `other` does not.
fn without(all: &Permitted, other: &Permitted) -> Permitted {
    let none = BTreeSet::new();
    let rest = |column: &String, uses: &BTreeSet<Use>| uses.difference(other.get(column).unwrap_or(&none)).copied().collect();
    all.iter()
        .map(|(column, uses)| (column.clone(), rest(column, uses)))
        .filter(|(_, uses): &(_, BTreeSet<Use>)| !uses.is_empty())
        .collect()
}

/// Every term beside the uses. The agreement is taken apart by name, so that a field that is added is not forgotten here.
fn terms(agreement: &Agreement) -> BTreeMap<String, String> {
    let Agreement {
        id,
        title,
        mission,
        purposes,
        valid_from,
        valid_until,
        review_on,
        benefits,
        minimum_subjects,
        limits,
        withdrawals,
        linkage,
        parties,
        recipients,
        datasets,
        digest: _,
    } = agreement;
    let mut terms = BTreeMap::new();
    let mut term = |name: String, value: Option<String>| {
        if let Some(value) = value {
            terms.insert(name, value);
        }
    };
    let own = [
        ("id", Some(id.to_string())),
        ("title", Some(title.clone())),
        ("mission", Some(mission.to_string())),
        ("purposes", Some(list(purposes))),
        ("valid_from", Some(valid_from.to_string())),
        ("valid_until", Some(valid_until.to_string())),
        ("review_on", review_on.map(|day| day.to_string())),
        ("benefits", benefits.clone()),
        ("minimum_subjects", Some(minimum_subjects.to_string())),
        ("requests_per_minute", limits.requests_per_minute.map(|n| n.to_string())),
        ("concurrent_queries", limits.concurrent_queries.map(|n| n.to_string())),
        ("rows_per_day", limits.rows_per_day.map(|n| n.to_string())),
        ("releases_per_day", limits.releases_per_day.map(|n| n.to_string())),
        ("withdrawals", Some(withdrawals.to_string())),
        ("keyholder", Some(linkage.keyholder.to_string())),
        ("epoch_days", Some(linkage.epoch_days.to_string())),
    ];
    own.into_iter().for_each(|(name, value)| term(name.into(), value));
    for party in parties {
        term(format!("party {}: signing_key", party.department), Some(party.signing_key.to_string()));
        term(format!("party {}: linkage_key", party.department), Some(party.linkage_key.to_string()));
    }
    let organisations: BTreeSet<&String> = recipients.iter().map(|recipient| &recipient.organisation).collect();
    for organisation in organisations {
        // An organisation may stand in several tables: a caller needs the roles of one.
        let roles: BTreeSet<&String> = recipients.iter().filter(|r| r.organisation == *organisation).flat_map(|r| &r.roles).collect();
        term(format!("recipient {organisation}: roles"), Some(list(roles)));
    }
    for Dataset { name, identifier, subject_uses: _, linked, basis, columns, rows, known_to } in datasets {
        // With its pattern, where it has one of its own.
        let path = |column| path(name, column);
        term(format!("{}: identifier", path(None)), Some(format!("{identifier:?}")));
        term(format!("{}: linked", path(None)), linked.as_ref().map(|linked| format!("{:?}", linked.identifier)));
        term(format!("{}: basis", path(None)), Some(basis_of(basis)));
        term(format!("{}: known_to", path(None)), (!known_to.is_empty()).then(|| list(known_to)));
        // By column, so that one condition's change is told alone.
        for column in rows.iter().map(|condition| &condition.column).collect::<BTreeSet<_>>() {
            let tests = rows.iter().filter(|condition| condition.column == *column).map(|condition| condition.test.to_string());
            term(format!("{}: rows only where it", path(Some(column))), Some(tests.collect::<Vec<_>>().join(", and ")));
        }
        for (column, ColumnRule { kind, classification, uses: _, values, title }) in columns {
            term(format!("{}: type", path(Some(column))), Some(kind.to_string()));
            term(format!("{}: classification", path(Some(column))), Some(classification.to_string()));
            term(format!("{}: values", path(Some(column))), values.as_ref().map(list));
            term(format!("{}: title", path(Some(column))), title.clone());
        }
    }
    terms
}

/// A list as text. What could be taken for several items, or none, stands in quotes.
fn list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let item = |text: String| if text.is_empty() || text.contains([',', '"']) { format!("{text:?}") } else { text };
    items.into_iter().map(|text| item(text.to_string())).collect::<Vec<_>>().join(", ")
}

/// `department.dataset`, or a column of it. A part that has a dot of its own stands in quotes, so that no two names read the same.
fn path(dataset: &DatasetName, column: Option<&str>) -> String {
    let part = |text: &str| if text.contains(['.', '"']) { format!("{text:?}") } else { text.to_owned() };
    let parts = [Some(dataset.department.as_str()), Some(dataset.dataset.as_str()), column];
    parts.into_iter().flatten().map(part).collect::<Vec<_>>().join(".")
}

fn basis_of(basis: &Basis) -> String {
    match basis {
        Basis::Consent { text } => format!("consent: {text}"),
        Basis::Statutory { power, honours_objections: true } => format!("statutory, objections honoured: {power}"),
        Basis::Statutory { power, honours_objections: false } => format!("statutory, objections not honoured: {power}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::AGREEMENT;

    fn between(old: &str, new: &str) -> Difference {
        difference(&Agreement::parse(old).unwrap(), &Agreement::parse(new).unwrap())
    }

    #[test]
    fn only_meaning_counts() {
        assert!(between(AGREEMENT, &format!("# a comment\n{AGREEMENT}")).is_empty());
        let reordered = AGREEMENT.replace("[\"group_by\", \"filter\"]", "[ \"filter\",\"group_by\" ]");
        assert_ne!(reordered, AGREEMENT);
        assert_eq!(between(AGREEMENT, &reordered).to_string(), "Both say the same.\n");
    }

    #[test]
    fn uses_and_terms_are_told_by_dataset_and_column() {
        let new = AGREEMENT
            .replace("[\"group_by\", \"filter\"]", "[\"filter\", \"output\"]")
            .replace("[\"join\"]", "[\"join\", \"aggregate\"]")
            .replace("secret = {", "hidden = {")
            .replace("valid_until = \"2026-12-31\"", "valid_until = \"2027-12-31\"\nreview_on = \"2026-07-01\"")
            .replace("roles = [\"analyst\"]", "roles = [\"analyst\", \"visitor\"]")
            .replace("consent_text = \"May we?\"", "consent_text = \"May we, please?\"");
        insta::assert_snapshot!(between(AGREEMENT, &new).to_string(), @r#"
        No longer permitted:
          dfe.attainment.region: group_by
        Newly permitted:
          dfe.attainment.region: output
          dwp.claims.subject: aggregate
        Other terms:
          dfe.attainment.hidden: classification: "special" is new
          dfe.attainment.hidden: type: "text" is new
          dfe.attainment.secret: classification: "special" is gone
          dfe.attainment.secret: type: "text" is gone
          dwp.claims: basis: "consent: May we?" became "consent: May we, please?"
          recipient mission-unit: roles: "analyst" became "analyst, visitor"
          review_on: "2026-07-01" is new
          valid_until: "2026-12-31" became "2027-12-31"
        "#);
        let back = between(&new, AGREEMENT);
        assert_eq!((back.newly.len(), back.no_longer.len()), (1, 2), "the reverse, reversed");
    }

    #[test]
    fn conditions_on_rows_are_told_by_column() {
        let with = |rows: &str| AGREEMENT.replace("[dataset.columns]\namount", &format!("rows = [{rows}]\n[dataset.columns]\namount"));
        let (one, two) = ("{ column = \"amount\", at_least = 1 }", "{ column = \"amount\", less_than = 9 }");
        insta::assert_snapshot!(between(AGREEMENT, &with(one)), @r#"
        Other terms:
          dwp.claims.amount: rows only where it: "is at least 1" is new
        "#);
        insta::assert_snapshot!(between(&with(&format!("{one}, {two}")), &with(two)), @r#"
        Other terms:
          dwp.claims.amount: rows only where it: "is at least 1, and is less than 9" became "is less than 9"
        "#);
    }

    #[test]
    fn a_second_identifier_is_a_term_of_its_own_and_its_uses_are_told() {
        let new =
            AGREEMENT.replace("consent_text = \"May we?\"", "consent_text = \"May we?\"\nlinked = { type = \"uprn\", uses = [\"join\"] }");
        insta::assert_snapshot!(between(AGREEMENT, &new).to_string(), @r#"
        Newly permitted:
          dwp.claims.linked_subject: join
        Other terms:
          dwp.claims: linked: "Uprn" is new
        "#);
    }

    #[test]
    fn an_agreement_that_is_gone_permits_nothing_more() {
        let less = AGREEMENT.get(..AGREEMENT.rfind("[[dataset]]").unwrap()).unwrap();
        let difference = between(AGREEMENT, less);
        assert!(difference.newly.is_empty());
        assert_eq!(difference.no_longer.keys().collect::<Vec<_>>(), ["dwp.claims.amount", "dwp.claims.subject"]);
    }
}
