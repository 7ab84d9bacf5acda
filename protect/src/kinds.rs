//! What several conditions of one row tell together.
//!
//! Numbers under two conditions tell, taken from each other, of whoever meets one and not the other, and all of them together, taken from
//! the number of all, of whoever meets none. So a group's people are counted by which of its row's conditions they meet, their *kind*:
//!
//! ```text
//!     n FILTER (WHERE region IN ('A', 'B'))    kind 01: A 5    kind 11: B 300    kind 10: C 200
//!     n FILTER (WHERE region IN ('B', 'C'))    who meets the first and not the second are 5: too few, the second number is withheld
//! ```
//!
//! Judged is, of two conditions that read a column in common, who meets the one and not the other, each way; and of all that hang together
//! so, who meets none. Nobody is as few, as of the rest of a single condition: were it told that two conditions differ by nobody, whether
//! somebody is among the people could be asked for. Where it is known without the data that nobody is between them, as one is the other
//! with something added, or its opposite, there is nothing to tell ([`Stand`]).
//!
//! What it does not do: conditions that read nothing in common are judged each by itself; their numbers tell of each other what rounding
//! lets through. Sums are judged by how many people they differ by, not by how they are spread over these.

use std::collections::BTreeMap;

/// Some people: how many, and the wrapping sum of their record keys, 0 where no noise is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct People {
    /// Distinct subjects.
    pub number: u64,
    /// From which their noise is looked up.
    pub keys: u64,
}

impl People {
    fn add(&mut self, other: Self) {
        self.number += other.number;
        self.keys = self.keys.wrapping_add(other.keys);
    }
}

/// The people of a group by the conditions that they meet: of the condition with number n, bit n.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kinds(BTreeMap<u64, People>);

/// How one condition stands to another by what they say, whatever the data are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stand {
    /// They read a column in common.
    pub near: bool,
    /// Whoever meets the one meets the other.
    pub within: bool,
    /// Whoever meets the other meets the one.
    pub around: bool,
    /// Everybody meets one of them.
    pub opposite: bool,
}

impl Kinds {
    /// Adds people of one kind.
    pub fn add(&mut self, kind: u64, people: People) {
        self.0.entry(kind).or_default().add(people);
    }

    /// Adds others of the same group.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(kind, people)| self.add(*kind, *people));
    }

    /// Each kind with its people, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, People)> {
        self.0.iter().map(|(kind, people)| (*kind, *people))
    }

    fn of(&self, is: impl Fn(u64) -> bool) -> People {
        self.iter().filter(|(kind, _)| is(*kind)).fold(People::default(), |mut all, (_, people)| {
            all.add(people);
            all
        })
    }

    /// Whether those who meet one condition and not the other are enough, each way.
    fn apart(&self, one: u32, other: u32, stand: Stand, enough: &impl Fn(People) -> bool) -> bool {
        let of = |first: bool| self.of(|kind| meets(kind, one) == first && meets(kind, other) != first);
        // Of the same condition they are those who lack a value: known not to be judged.
        !stand.near || (stand.within || enough(of(true))) && (stand.around || enough(of(false)))
    }
}

fn bit(condition: u32) -> u64 {
    1_u64.checked_shl(condition).unwrap_or(0)
}

fn meets(kind: u64, condition: u32) -> bool {
    kind & bit(condition) != 0
}

/// Of the conditions under which a row's values would be told, in the statement's order, those under which they are: the later of two
/// that tell of too few gives way. `kinds` are the same people, counted in one way or another, each of which must be enough; `stand` says
/// how the first condition stands to the second.
pub fn told(kinds: &[Kinds], conditions: &[u32], stand: impl Fn(u32, u32) -> Stand, enough: impl Fn(People) -> bool) -> Vec<u32> {
    let mut told: Vec<u32> = Vec::new();
    for one in conditions {
        let beside = |other: &u32| kinds.iter().all(|kinds| kinds.apart(*other, *one, stand(*other, *one), &enough));
        if told.iter().all(beside) {
            told.push(*one);
        }
    }
    while let Some(last) = too_much(kinds, &told, &stand, &enough) {
        told.retain(|one| *one != last);
    }
    told
}

/// The last of conditions that together leave too few over, if any do.
fn too_much(kinds: &[Kinds], told: &[u32], stand: &impl Fn(u32, u32) -> Stand, enough: &impl Fn(People) -> bool) -> Option<u32> {
    let leave_enough = |of: &Vec<u32>| {
        let any = of.iter().fold(0, |bits, one| bits | bit(*one));
        kinds.iter().all(|kinds| enough(kinds.of(|kind| kind & any == 0)))
    };
    let mut left = told.to_vec();
    while let Some(last) = left.pop() {
        let mut together = vec![last];
        let mut next = 0;
        while let Some(one) = together.get(next).copied() {
            let (near, others): (Vec<u32>, Vec<u32>) = left.iter().partition(|other| stand(one, **other).near);
            together.extend(near);
            left = others;
            next += 1;
        }
        if together.len() > 1 && !without_opposites(together, stand).iter().all(leave_enough) {
            return Some(last);
        }
    }
    None
}

/// Conditions that could leave somebody over: those of these without one or the other of opposites.
fn without_opposites(of: Vec<u32>, stand: &impl Fn(u32, u32) -> Stand) -> Vec<Vec<u32>> {
    let opposite = |one: u32, other: u32| stand(one, other).opposite;
    let pair = of.iter().find_map(|one| of.iter().find(|other| opposite(*one, **other)).map(|other| [*one, *other]));
    let Some(pair) = pair else { return vec![of] };
    let without = |one: u32| of.iter().copied().filter(|other| !opposite(one, *other) && !opposite(*other, one)).collect::<Vec<_>>();
    pair.into_iter().flat_map(|one| without_opposites(without(one), stand)).collect()
}

#[cfg(test)]
mod tests;
