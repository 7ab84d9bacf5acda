//! The purpose tree. A request for a narrower purpose is covered by a permission for its ancestor, never the reverse.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{Name, Problem};

/// One entry of `purposes.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purpose {
    /// Its name, for example `opportunity.measure`.
    pub id: Name,
    /// What it means, for people.
    pub title: String,
    /// The wider purpose it belongs to.
    #[serde(default)]
    pub parent: Option<Name>,
    /// A retired purpose is known but covers and permits nothing.
    #[serde(default)]
    pub retired: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    purpose: Vec<Purpose>,
}

/// All purposes, checked: unique names, known parents, no cycle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PurposeTree {
    by_id: BTreeMap<Name, Purpose>,
}

impl PurposeTree {
    /// Parses a `purposes.toml` (an array of tables `purpose` with `id`, `title`, optional `parent` and `retired`).
    ///
    /// # Errors
    /// Every [`Problem`] found: syntax, duplicate names, unknown parents, cycles.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let file: File = toml::from_str(text).map_err(|e| vec![Problem::toml(&e)])?;
        let mut tree = Self::default();
        let mut problems = Vec::new();
        for purpose in file.purpose {
            let id = purpose.id.clone();
            if tree.by_id.insert(id.clone(), purpose).is_some() {
                problems.push(Problem::at(id.as_str(), format!("purpose '{id}' is declared twice"), "keep one of the two"));
            }
        }
        for purpose in tree.by_id.values() {
            if let Some(parent) = &purpose.parent
                && !tree.by_id.contains_key(parent)
            {
                problems.push(Problem::at(
                    parent.as_str(),
                    format!("purpose '{}' has the unknown parent '{parent}'", purpose.id),
                    "declare the parent or correct its name",
                ));
            }
            if tree.ancestry(&purpose.id).count() > tree.by_id.len() {
                problems.push(Problem::at(purpose.id.as_str(), format!("purpose '{}' is its own ancestor", purpose.id), "break the cycle"));
            }
        }
        if problems.is_empty() { Ok(tree) } else { Err(problems) }
    }

    /// The purpose, unless it is unknown or retired.
    #[must_use]
    pub fn active(&self, id: &Name) -> Option<&Purpose> {
        self.by_id.get(id).filter(|purpose| !purpose.retired)
    }

    /// Every purpose, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Purpose> {
        self.by_id.values()
    }

    /// Whether a permission for `agreed` covers a request for `requested`: the same purpose or a descendant of it, no
    /// link of the chain unknown or retired.
    #[must_use]
    pub fn covers(&self, agreed: &Name, requested: &Name) -> bool {
        for purpose in self.ancestry(requested) {
            if purpose.retired {
                return false;
            }
            if purpose.id == *agreed {
                return true;
            }
        }
        false
    }

    /// `id` and its ancestors, nearest first. Bounded by one more than the tree's size, so that a cycle ends.
    pub fn ancestry<'a>(&'a self, id: &Name) -> impl Iterator<Item = &'a Purpose> + use<'a> {
        std::iter::successors(self.by_id.get(id), |purpose| purpose.parent.as_ref().and_then(|parent| self.by_id.get(parent)))
            .take(self.by_id.len() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = r#"
        purpose = [
          { id = "opportunity", title = "Opportunity" },
          { id = "opportunity.measure", title = "Measure", parent = "opportunity" },
          { id = "opportunity.measure.region", title = "By region", parent = "opportunity.measure" },
          { id = "old", title = "Old", parent = "opportunity", retired = true },
          { id = "old.child", title = "Child of old", parent = "old" },
        ]"#;

    #[test]
    fn narrower_is_covered_and_wider_is_not() {
        let tree = PurposeTree::parse(TREE).unwrap();
        let n = |s| Name::parse(s).unwrap();
        for (agreed, requested, covered) in [
            ("opportunity", "opportunity", true),
            ("opportunity", "opportunity.measure.region", true),
            ("opportunity.measure", "opportunity", false),
            ("opportunity.measure.region", "opportunity.measure", false),
            ("opportunity", "old", false),
            ("opportunity", "old.child", false),
            ("opportunity", "unknown", false),
            ("unknown", "opportunity", false),
        ] {
            assert_eq!(tree.covers(&n(agreed), &n(requested)), covered, "{agreed} covers {requested}");
        }
    }

    #[test]
    fn an_empty_tree_covers_nothing() {
        let n = Name::parse("a").unwrap();
        assert!(!PurposeTree::default().covers(&n, &n));
    }

    #[test]
    fn cycles_duplicates_and_unknown_parents_are_problems() {
        for text in [
            r#"purpose = [{ id = "a", title = "A", parent = "b" }, { id = "b", title = "B", parent = "a" }]"#,
            r#"purpose = [{ id = "a", title = "A" }, { id = "a", title = "A" }]"#,
            r#"purpose = [{ id = "a", title = "A", parent = "zz" }]"#,
            r#"purpose = [{ id = "a", title = "A", surprise = 1 }]"#,
        ] {
            assert!(PurposeTree::parse(text).is_err(), "{text}");
        }
    }
}
