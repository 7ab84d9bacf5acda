//! Which debts are alarms: told once when one begins, and once when it is over.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, SystemTime};

use super::owed::Debt;

/// After what time a debt is an alarm. A program that was stopped right after it owed something may be started again meanwhile.
pub const OVERDUE: Duration = Duration::from_secs(60);

/// The alarms that were told, by log, and since when something is owed.
#[derive(Debug, Default)]
pub struct Overdue(BTreeMap<String, SystemTime>);

/// An alarm that begins or is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turned {
    /// It begins: what is owed, and since when.
    Began(Debt, SystemTime),
    /// It is over: of which log, and since when something had been owed.
    Over(String, SystemTime),
}

impl Overdue {
    /// What turned, now that this is owed.
    pub fn turned(&mut self, debts: &[Debt], now: SystemTime) -> Vec<Turned> {
        let late: Vec<&Debt> = debts.iter().filter(|debt| debt.overdue >= OVERDUE).collect();
        let told = std::mem::take(&mut self.0);
        let mut turned = Vec::new();
        for (origin, since) in told {
            if late.iter().any(|debt| debt.origin == origin) {
                self.0.insert(origin, since);
            } else {
                turned.push(Turned::Over(origin, since));
            }
        }
        for debt in late {
            if let Entry::Vacant(untold) = self.0.entry(debt.origin.clone()) {
                let since = now.checked_sub(debt.overdue).unwrap_or(SystemTime::UNIX_EPOCH);
                untold.insert(since);
                turned.push(Turned::Began(debt.clone(), since));
            }
        }
        turned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_when_it_begins_and_once_when_it_is_over() {
        let at = |second: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + second);
        let debt = |origin: &str, overdue: u64| Debt { origin: origin.into(), size: 9, seen: 7, overdue: Duration::from_secs(overdue) };
        let mut overdue = Overdue::default();
        for (second, debts, expected) in [
            (0, vec![], vec![]),
            (30, vec![debt("a", 30)], vec![]),
            (60, vec![debt("a", 60)], vec![Turned::Began(debt("a", 60), at(0))]),
            (61, vec![debt("a", 61), debt("b", 60)], vec![Turned::Began(debt("b", 60), at(1))]),
            (900, vec![debt("a", 900), debt("b", 899)], vec![]),
            // One was paid, and something younger is owed.
            (901, vec![debt("a", 5), debt("b", 900)], vec![Turned::Over("a".into(), at(0))]),
            (956, vec![debt("a", 60)], vec![Turned::Over("b".into(), at(1)), Turned::Began(debt("a", 60), at(896))]),
            (957, vec![], vec![Turned::Over("a".into(), at(896))]),
            (958, vec![], vec![]),
        ] {
            assert_eq!(overdue.turned(&debts, at(second)), expected, "{second}");
        }
    }
}
