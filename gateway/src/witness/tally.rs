//! Who has cosigned how much of the log. Whoever cosigned a checkpoint has seen every smaller one as its beginning.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use concordat_policy::Name;

/// A witness.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Department(Name),
    /// By its key's name.
    Outside(String),
}

/// The largest checkpoint of each witness: its size, and when it was published.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<Who, (u64, SystemTime)>);

impl Tally {
    pub(super) fn note(&mut self, who: Who, size: u64, at: SystemTime) {
        let largest = self.0.entry(who).or_insert((size, at));
        if size > largest.0 {
            *largest = (size, at);
        }
    }

    /// For each checkpoint, the smallest first: when it was published, which departments have cosigned it or a larger one, and how many
    /// outside witnesses.
    pub(super) fn standings(&self) -> Vec<(SystemTime, BTreeSet<Name>, usize)> {
        let checkpoints: BTreeMap<u64, SystemTime> = self.0.values().copied().collect();
        let standing = |(size, at)| {
            let (mut departments, mut outside) = (BTreeSet::new(), 0_usize);
            for who in self.0.iter().filter(|(_, (cosigned, _))| *cosigned >= size).map(|(who, _)| who) {
                match who {
                    Who::Department(department) => drop(departments.insert(department.clone())),
                    Who::Outside(_) => outside = outside.saturating_add(1),
                }
            }
            (at, departments, outside)
        };
        checkpoints.into_iter().map(standing).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn whoever_cosigned_more_has_cosigned_less() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let names = |texts: &[&str]| texts.iter().map(|text| Name::parse(text).unwrap()).collect::<BTreeSet<_>>();
        let department = |text: &str| Who::Department(Name::parse(text).unwrap());
        let mut tally = Tally::default();
        assert!(tally.standings().is_empty());
        tally.note(department("dfe"), 10, at(1));
        tally.note(Who::Outside("w".into()), 20, at(2));
        tally.note(department("dwp"), 30, at(3));
        // What comes late takes nothing back.
        tally.note(department("dwp"), 10, at(1));
        assert_eq!(tally.standings(), [(at(1), names(&["dfe", "dwp"]), 1), (at(2), names(&["dwp"]), 1), (at(3), names(&["dwp"]), 0)]);
        tally.note(department("dfe"), 30, at(3));
        assert_eq!(tally.standings(), [(at(2), names(&["dfe", "dwp"]), 1), (at(3), names(&["dfe", "dwp"]), 0)]);
    }
}
