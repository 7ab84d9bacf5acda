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
//! Judged is:
//!
//! - of any two, who meets the one and not the other, each way, and who meets none: nor are conditions that read different columns let off,
//!   as one that reads more can be written for any;
//! - of several, whomever they tell of that are added and taken from each other, as `A`, `B` and "A or B" tell of who meets both: a sum of
//!   some less others that is below zero for nobody tells of those for whom it is above;
//! - of all of them together, who meets none, but where one of them holds wherever others do by what they say: its own rest is judged.
//!
//! Nobody is as few, as of the rest of a single condition: were it told that two conditions differ by nobody, whether somebody is among the
//! people could be asked for. So a number to which others of its row add up is not told beside these. Where it is known without the data
//! that nobody is between two, as one is the other with something added, there is nothing to tell ([`Stand`]).
//!
//! Somebody may have several rows, and is then of the kind of all that they meet, each by itself: counts and sums add rows, so that who has
//! one that meets `A`, one that meets `B` and one that meets both is told of by the last as anybody else would be. But rows of one person
//! also cancel each other: where everybody has a row in each of two periods, their numbers differ by whoever has one in the other alone. So
//! people are judged once more with all their rows as one. They are enough then, or nobody: two periods of the same people are told.
//!
//! What it does not do: sums of which one is taken twice are not looked at, nor how often somebody meets a condition. Sums are judged by
//! how many people they differ by, not by how they are spread over these.

use std::cmp::Ordering;
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

/// The people of a group by the conditions that each of their rows meets: of the condition with number n, bit n.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kinds(BTreeMap<Kind, People>);

/// What the rows of somebody meet, each different one once, in order.
pub type Kind = Vec<u64>;

/// How one condition stands to another by what they say, whatever the data are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stand {
    /// Whoever meets the one meets the other.
    pub within: bool,
    /// Whoever meets the other meets the one.
    pub around: bool,
}

impl Stand {
    /// Whether they are the same: what their numbers differ by are those who lack a value, whom no condition chooses.
    fn same(self) -> bool {
        self.within && self.around
    }
}

/// How many sums of conditions are looked at before a number is withheld unjudged: several times what eight conditions make at most.
const MOST_SUMS: u32 = 20_000;
/// And at how many kinds in all of them: as many as there are of people with one row and eight conditions, each time.
const MOST_LOOKS: u32 = 256 * MOST_SUMS;

impl Kinds {
    /// Adds people of one kind.
    pub fn add(&mut self, mut kind: Kind, people: People) {
        kind.sort_unstable();
        kind.dedup();
        self.0.entry(kind).or_default().add(people);
    }

    /// Adds others of the same group.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(kind, people)| self.add(kind.clone(), *people));
    }

    /// Each kind with its people, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u64], People)> {
        self.0.iter().map(|(kind, people)| (kind.as_slice(), *people))
    }

    /// Whether everybody has rows, of which each meets a condition.
    #[must_use]
    pub fn all_meet(&self, condition: u32) -> bool {
        self.iter().all(|(kind, _)| kind.iter().all(|row| meets(*row, condition)))
    }

    /// Each person's rows as one, which meets what any of them does; `None` where nobody has rows that differ.
    fn together(&self) -> Option<Self> {
        let several = self.iter().any(|(kind, _)| kind.len() > 1);
        several.then(|| {
            let mut all = Self::default();
            self.iter().for_each(|(kind, people)| all.add(vec![kind.iter().fold(0, |any, row| any | row)], people));
            all
        })
    }

    /// Those who have a row that is so.
    fn of(&self, is: impl Fn(u64) -> bool) -> People {
        self.iter().filter(|(kind, _)| kind.iter().any(|row| is(*row))).fold(People::default(), |mut all, (_, people)| {
            all.add(people);
            all
        })
    }

    /// Whether those who meet one condition and not the other are enough, each way.
    fn apart(&self, one: u32, other: u32, stand: Stand, enough: &impl Fn(People) -> bool) -> bool {
        let of = |first: bool| self.of(|kind| meets(kind, one) == first && meets(kind, other) != first);
        (stand.within || enough(of(true))) && (stand.around || enough(of(false)))
    }
}

fn bit(condition: u32) -> u64 {
    1_u64.checked_shl(condition).unwrap_or(0)
}

fn meets(kind: u64, condition: u32) -> bool {
    kind & bit(condition) != 0
}

/// Of the conditions under which a row's values would be told, in order, those under which they are: the later of some that tell of too
/// few together gives way, and where there is no more time every later one. `kinds` are the same people, counted in one way or another, each
/// of which must be enough; `stand` says how the first condition stands to the second.
pub fn told(
    kinds: &[Kinds],
    conditions: &[u32],
    stand: impl Fn(u32, u32) -> Stand,
    enough: impl Fn(People) -> bool,
    in_time: impl Fn() -> bool,
) -> Vec<u32> {
    let together: Vec<Kinds> = kinds.iter().filter_map(Kinds::together).collect();
    let or_nobody = |people: People| people.number == 0 || enough(people);
    let mut told: Vec<u32> = Vec::new();
    for one in conditions {
        let beside: Vec<(u32, Stand)> = told.iter().map(|other| (*other, stand(*other, *one))).collect();
        let beside = Beside { one: *one, told: &told, beside: &beside, stand: &stand };
        let rows_enough = || kinds.iter().all(|kinds| beside.are_enough(kinds, &enough));
        let people_enough = || together.iter().all(|kinds| beside.are_enough(kinds, &or_nobody));
        if told.is_empty() || in_time() && rows_enough() && people_enough() {
            told.push(*one);
        }
    }
    told
}

/// A condition beside those that are told.
struct Beside<'a, S> {
    one: u32,
    told: &'a [u32],
    /// The same, with how they stand to it.
    beside: &'a [(u32, Stand)],
    stand: &'a S,
}

impl<S: Fn(u32, u32) -> Stand> Beside<'_, S> {
    /// Whether all whom it tells of beside them are.
    fn are_enough(&self, kinds: &Kinds, enough: &impl Fn(People) -> bool) -> bool {
        self.beside.iter().all(|(other, stand)| kinds.apart(*other, self.one, *stand, enough))
            && (self.one_is_around() || enough(kinds.of(|row| row & self.any() == 0)))
            && Sums::new(kinds, self.one, self.beside, self.stand, enough).are_enough()
    }

    /// Whether one of them holds wherever any does: who meets none is its own rest.
    fn one_is_around(&self) -> bool {
        let around = |all: &u32| {
            let others = self.told.iter().chain([&self.one]).filter(|other| *other != all);
            others.copied().all(|other| (self.stand)(other, *all).within)
        };
        self.told.iter().chain([&self.one]).any(around)
    }

    fn any(&self) -> u64 {
        self.told.iter().fold(bit(self.one), |bits, other| bits | bit(*other))
    }
}

/// Sums of a condition and others, each added, taken away or left out: of each kind of people, how many more of those that they meet are added
/// than taken away. The number of all is in none of them: those who meet no condition are enough, so that where it is added the sum
/// is of enough people, and where it is taken away it is below zero for these.
struct Sums<'a, E> {
    /// The conditions in the order in which they are chosen, the one that is judged first.
    conditions: Vec<u32>,
    /// Of each: those before it that are the same by what they say, of which a sum has one.
    same: Vec<u64>,
    /// Of each: the kinds of which the sum is known once it is chosen.
    settled: Vec<Vec<(Kind, People)>>,
    enough: &'a E,
    /// How many more are looked at, and at how many kinds.
    left: u32,
    looks: u32,
}

/// What is added and what is taken away, and the people for whom it is known to be above zero.
#[derive(Clone, Copy, Default)]
struct Chosen {
    added: u64,
    taken: u64,
    above: People,
}

impl<'a, E: Fn(People) -> bool> Sums<'a, E> {
    fn new(kinds: &Kinds, one: u32, beside: &[(u32, Stand)], stand: &impl Fn(u32, u32) -> Stand, enough: &'a E) -> Self {
        // The same people under the same condition, whatever is told of them, are one.
        let mut conditions = vec![one];
        for (other, stand_to_one) in beside {
            let twin = |of: u32, stand: Stand| {
                let alike = |row: &u64| meets(*row, of) == meets(*row, *other);
                stand.same() && kinds.iter().all(|(kind, _)| kind.iter().all(alike))
            };
            if !twin(one, *stand_to_one) && !conditions.iter().skip(1).any(|earlier| twin(*earlier, stand(*earlier, *other))) {
                conditions.push(*other);
            }
        }
        let same = |place: usize, own: u32| {
            let earlier = conditions.iter().take(place);
            earlier.filter(|earlier| stand(**earlier, own).same()).fold(0, |bits, earlier| bits | bit(*earlier))
        };
        let same = conditions.iter().enumerate().map(|(place, own)| same(place, *own)).collect();
        let mut settled = vec![Vec::new(); conditions.len()];
        for (kind, people) in kinds.iter() {
            let last = conditions.iter().rposition(|condition| kind.iter().any(|row| meets(*row, *condition)));
            if let Some(settled) = last.and_then(|last| settled.get_mut(last)) {
                settled.push((kind.to_vec(), people));
            }
        }
        Self { conditions, same, settled, enough, left: MOST_SUMS, looks: MOST_LOOKS }
    }

    /// Whether each sum that is below zero for no row is above it for rows of enough people.
    fn are_enough(mut self) -> bool {
        // Of two conditions it is who meets the one and not the other.
        self.conditions.len() <= 2 || self.from(0, Chosen::default())
    }

    /// The same of sums that begin so.
    fn from(&mut self, place: usize, chosen: Chosen) -> bool {
        let (Some(condition), Some(same)) = (self.conditions.get(place).copied(), self.same.get(place).copied()) else {
            return (chosen.added | chosen.taken).count_ones() <= 2 || (self.enough)(chosen.above);
        };
        let without = place == 0 || self.with(place, chosen);
        let twice = (chosen.added | chosen.taken) & same != 0;
        let (added, taken) = (chosen.added | bit(condition), chosen.taken | bit(condition));
        without && (twice || self.with(place, Chosen { added, ..chosen }) && self.with(place, Chosen { taken, ..chosen }))
    }

    /// The same once it is said what becomes of the condition at `place`.
    fn with(&mut self, place: usize, mut chosen: Chosen) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        let settled = self.settled.get(place).map_or(&[][..], Vec::as_slice);
        let Some(looks) = u32::try_from(settled.len()).ok().and_then(|kinds| self.looks.checked_sub(kinds)) else { return false };
        self.looks = looks;
        for (kind, people) in settled {
            let sum = |row: &u64| (row & chosen.added).count_ones().cmp(&(row & chosen.taken).count_ones());
            if kind.iter().any(|row| sum(row) == Ordering::Less) {
                return true;
            }
            if kind.iter().any(|row| sum(row) == Ordering::Greater) {
                chosen.above.add(*people);
            }
        }
        // Whatever is added, they are no fewer.
        chosen.above.number > 0 && (self.enough)(chosen.above) || self.from(place + 1, chosen)
    }
}

#[cfg(test)]
mod tests;
