//! What writers and readers of a ledger did and saw where people withdraw, agree again and withdraw once more, and whether one order
//! explains it. Every writer was told the version of what it recorded, so that the order is known.

use super::history::{highest_before, highest_by_time};

/// A record. Times are of one clock, in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    pub began: u64,
    pub acknowledged: u64,
    /// The ledger's version after it.
    pub version: u64,
    /// That somebody withdrew; else that they agreed again.
    pub withdrawn: bool,
}

/// A query.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub began: u64,
    pub ended: u64,
    /// The ledger's version that its answer states.
    pub version: u64,
    /// How many people less than at first the answer counts.
    pub withdrawn: i64,
}

/// What an answer's version says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stated {
    /// The version that was applied.
    Exactly,
    /// That none before it was applied: where lists reach other data, the earlier of list and release is stated.
    AtLeast,
}

/// What no ledger could have brought about that was at version `base` before the first of all these changes.
pub fn faults(changes: &[Change], seen: &[Seen], base: u64, stated: Stated) -> Vec<String> {
    let mut ordered = changes.to_vec();
    ordered.sort_by_key(|change| change.version);
    if let Some((change, _)) = ordered.iter().zip(base + 1..).find(|(change, version)| change.version != *version) {
        return vec![format!("versions do not follow one another, a record each: {change:?}")];
    }
    // How many have withdrawn, by version from `base` on.
    let mut withdrawn = vec![0];
    for change in &ordered {
        withdrawn.push(withdrawn[withdrawn.len() - 1] + if change.withdrawn { 1 } else { -1 });
    }
    let newest = base + changes.len() as u64;
    let mut faults = Vec::new();
    for one in seen {
        let least = changes.iter().filter(|change| change.acknowledged < one.began).map(|change| change.version).max().unwrap_or(base);
        let later = changes.iter().filter(|change| change.began > one.ended).map(|change| change.version).min();
        let most = later.map_or(newest, |later| later - 1);
        if one.version < least {
            faults.push(format!("a choice that was acknowledged before is not honoured: {one:?}"));
        } else if one.version > most {
            faults.push(format!("a choice is honoured that had not begun: {one:?}"));
        } else {
            let last = if stated == Stated::Exactly { one.version } else { most };
            if !(one.version..=last).any(|version| withdrawn[(version - base) as usize] == one.withdrawn) {
                faults.push(format!("the answer counts other choices than its version: {one:?}"));
            }
        }
    }
    let mut ended: Vec<(u64, u64)> = seen.iter().map(|one| (one.ended, one.version)).collect();
    highest_by_time(&mut ended);
    let behind = seen.iter().filter(|one| highest_before(&ended, one.began) > one.version);
    faults.extend(behind.map(|one| format!("an earlier query saw a later version: {one:?}")));
    let mut acknowledged: Vec<(u64, u64)> = changes.iter().map(|change| (change.acknowledged, change.version)).collect();
    highest_by_time(&mut acknowledged);
    let before = changes.iter().filter(|change| highest_before(&acknowledged, change.began) >= change.version);
    faults.extend(before.map(|change| format!("an earlier record has a later version: {change:?}")));
    faults
}

#[test]
fn a_history_of_both_choices_that_no_ledger_explains_is_refused() {
    let change = |began, acknowledged, version, withdrawn| Change { began, acknowledged, version, withdrawn };
    let seen = |began, ended, version, withdrawn| Seen { began, ended, version, withdrawn };
    // At version 7 before; one withdraws, another does, and the first agrees again.
    let changes = [change(10, 20, 8, true), change(15, 30, 9, true), change(40, 50, 10, false)];
    for (stated, reads, says) in [
        (Stated::Exactly, vec![seen(1, 5, 7, 0), seen(12, 18, 8, 1), seen(31, 39, 9, 2), seen(51, 60, 10, 1)], ""),
        (Stated::Exactly, vec![seen(31, 45, 10, 1)], ""),
        (Stated::AtLeast, vec![seen(12, 18, 7, 2), seen(31, 45, 9, 1)], ""),
        (Stated::Exactly, vec![seen(12, 18, 7, 2)], "other choices than its version"),
        (Stated::AtLeast, vec![seen(12, 18, 8, 0)], "other choices than its version"),
        (Stated::Exactly, vec![seen(51, 60, 10, 2)], "other choices than its version"),
        (Stated::AtLeast, vec![seen(51, 60, 9, 2)], "acknowledged before is not honoured"),
        (Stated::Exactly, vec![seen(21, 22, 7, 0)], "acknowledged before is not honoured"),
        (Stated::AtLeast, vec![seen(31, 39, 10, 1)], "had not begun"),
        (Stated::Exactly, vec![seen(12, 13, 8, 1), seen(14, 16, 7, 0)], "an earlier query saw a later version"),
    ] {
        let faults = faults(&changes, &reads, 7, stated);
        assert_eq!(faults.is_empty(), says.is_empty(), "{stated:?} {reads:?}: {faults:?}");
        assert!(faults.iter().all(|fault| fault.contains(says)), "{says}: {faults:?}");
    }
    for (changes, says) in [
        (vec![change(1, 2, 9, true), change(3, 4, 8, true)], "an earlier record has a later version"),
        (vec![change(1, 2, 9, true)], "do not follow one another"),
        (vec![change(1, 5, 8, true), change(3, 4, 8, false)], "do not follow one another"),
    ] {
        let faults = faults(&changes, &[], 7, Stated::Exactly);
        assert!(faults.iter().any(|fault| fault.contains(says)), "{says}: {faults:?}");
    }
}
