//! Who has cosigned how much of the log. Whoever cosigned a checkpoint has seen every smaller one as its beginning.

use std::collections::{BTreeMap, BTreeSet};

use concordat_policy::Name;

/// A witness.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Department(Name),
    /// By its key's name.
    Outside(String),
}

/// How many entries the largest checkpoint of each witness covers.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<Who, u64>);

impl Tally {
    pub(super) fn note(&mut self, who: Who, size: u64) {
        let largest = self.0.entry(who).or_insert(size);
        *largest = size.max(*largest);
    }

    /// For each checkpoint, the smallest first: its size, which departments have cosigned it or a larger one, and how many outside
    /// witnesses.
    pub(super) fn standings(&self) -> Vec<(u64, BTreeSet<Name>, usize)> {
        let checkpoints: BTreeSet<u64> = self.0.values().copied().collect();
        let standing = |size| {
            let (mut departments, mut outside) = (BTreeSet::new(), 0_usize);
            for who in self.0.iter().filter(|(_, cosigned)| **cosigned >= size).map(|(who, _)| who) {
                match who {
                    Who::Department(department) => drop(departments.insert(department.clone())),
                    Who::Outside(_) => outside = outside.saturating_add(1),
                }
            }
            (size, departments, outside)
        };
        checkpoints.into_iter().map(standing).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_cosigned_more_has_cosigned_less() {
        let names = |texts: &[&str]| texts.iter().map(|text| Name::parse(text).unwrap()).collect::<BTreeSet<_>>();
        let department = |text: &str| Who::Department(Name::parse(text).unwrap());
        let mut tally = Tally::default();
        assert!(tally.standings().is_empty());
        tally.note(department("dfe"), 10);
        tally.note(Who::Outside("w".into()), 20);
        tally.note(department("dwp"), 30);
        // What comes late takes nothing back.
        tally.note(department("dwp"), 10);
        assert_eq!(tally.standings(), [(10, names(&["dfe", "dwp"]), 1), (20, names(&["dwp"]), 1), (30, names(&["dwp"]), 0)]);
        tally.note(department("dfe"), 30);
        assert_eq!(tally.standings(), [(20, names(&["dfe", "dwp"]), 1), (30, names(&["dfe", "dwp"]), 0)]);
    }
}
