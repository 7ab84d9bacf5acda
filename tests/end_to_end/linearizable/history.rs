//! What writers and readers did and saw, and whether a ledger of one order explains it.

/// A withdrawal. Times are of one clock, in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Write {
    pub began: u64,
    pub acknowledged: u64,
    /// The ledger's version after it, where its writer was told.
    pub version: Option<u64>,
}

/// A query.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    pub began: u64,
    pub ended: u64,
    /// The ledger's version on which its answer rests.
    pub version: u64,
    /// How many people less than at first the answer counts.
    pub withdrawn: u64,
}

/// What no ledger could have brought about that was at version `base` before the first withdrawal.
pub fn faults(writes: &[Write], reads: &[Read], base: u64) -> Vec<String> {
    let mut faults = Vec::new();
    for read in reads {
        if read.version != base + read.withdrawn {
            faults.push(format!("the answer counts other withdrawals than its version: {read:?}"));
        }
        let before = writes.iter().filter(|write| write.acknowledged < read.began);
        let known = before.clone().filter_map(|write| write.version).max().unwrap_or(base);
        if read.version < known.max(base + before.count() as u64) {
            faults.push(format!("a withdrawal that was acknowledged before is not honoured: {read:?}"));
        }
        let begun = writes.iter().filter(|write| write.began < read.ended).count() as u64;
        let later = writes.iter().filter(|write| write.began > read.ended).filter_map(|write| write.version).min();
        if read.version > base + begun || later.is_some_and(|later| later <= read.version) {
            faults.push(format!("a withdrawal is honoured that had not begun: {read:?}"));
        }
    }
    // Whatever was there when an earlier one ended is there when a later one begins.
    let mut ended: Vec<(u64, u64)> = reads.iter().map(|read| (read.ended, read.version)).collect();
    highest_by_time(&mut ended);
    for read in reads {
        if highest_before(&ended, read.began) > read.version {
            faults.push(format!("an earlier query saw a later version: {read:?}"));
        }
    }
    let told = || writes.iter().filter_map(|write| Some((write, write.version?)));
    let mut acknowledged: Vec<(u64, u64)> = told().map(|(write, version)| (write.acknowledged, version)).collect();
    highest_by_time(&mut acknowledged);
    for (write, version) in told() {
        if highest_before(&acknowledged, write.began) >= version {
            faults.push(format!("an earlier withdrawal has a later version: {write:?}"));
        }
    }
    let mut versions: Vec<u64> = told().map(|(_, version)| version).collect();
    versions.sort_unstable();
    if versions.windows(2).any(|pair| pair[0] == pair[1]) || versions.first().is_some_and(|first| *first <= base) {
        faults.push("two withdrawals have one version, or one has that of before".into());
    }
    faults
}

/// Sorts times with versions, and makes each version the highest so far.
pub fn highest_by_time(versions: &mut [(u64, u64)]) {
    versions.sort_unstable();
    let mut highest = 0;
    for (_, version) in versions {
        highest = highest.max(*version);
        *version = highest;
    }
}

/// The highest version before a time, of what [`highest_by_time`] has made; 0 where there is none.
pub fn highest_before(versions: &[(u64, u64)], time: u64) -> u64 {
    let earlier = versions.partition_point(|(at, _)| *at < time);
    earlier.checked_sub(1).map_or(0, |last| versions[last].1)
}

#[test]
fn a_history_that_no_ledger_explains_is_refused() {
    let write = |began, acknowledged, version| Write { began, acknowledged, version };
    let read = |began, ended, version, withdrawn| Read { began, ended, version, withdrawn };
    // At version 7 before two withdrawals, one of a process that was not told its version.
    let writes = [write(10, 20, Some(8)), write(15, 30, None)];
    for (reads, says) in [
        (vec![read(1, 5, 7, 0), read(12, 18, 7, 0), read(12, 18, 8, 1), read(25, 28, 8, 1), read(31, 40, 9, 2)], ""),
        (vec![read(12, 14, 8, 1), read(16, 19, 9, 2)], ""),
        (vec![read(21, 22, 7, 0)], "acknowledged before is not honoured"),
        (vec![read(31, 40, 8, 1)], "acknowledged before is not honoured"),
        (vec![read(1, 5, 8, 1)], "had not begun"),
        (vec![read(12, 14, 9, 2)], "had not begun"),
        (vec![read(31, 40, 9, 1)], "other withdrawals than its version"),
        (vec![read(12, 13, 8, 1), read(14, 16, 7, 0)], "an earlier query saw a later version"),
    ] {
        let faults = faults(&writes, &reads, 7);
        assert_eq!(faults.is_empty(), says.is_empty(), "{reads:?}: {faults:?}");
        assert!(faults.iter().all(|fault| fault.contains(says)), "{says}: {faults:?}");
    }
    for (writes, says) in [
        (vec![write(1, 2, Some(9)), write(3, 4, Some(8))], "an earlier withdrawal has a later version"),
        (vec![write(1, 5, Some(8)), write(3, 4, Some(8))], "have one version"),
        (vec![write(1, 5, Some(7))], "that of before"),
    ] {
        let faults = faults(&writes, &[], 7);
        assert!(faults.iter().any(|fault| fault.contains(says)), "{says}: {faults:?}");
    }
    assert!(faults(&[write(1, 5, Some(9)), write(3, 4, Some(8))], &[], 7).is_empty());
}
