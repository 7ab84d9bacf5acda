//! A result as a table with all its totals, told or not.

use std::collections::{BTreeMap, BTreeSet};

use super::{Cell, MOST_CELLS, MOST_KEYS, TooLarge};
use crate::rounding::to_unit;

/// Of each key its value, `None` for the total over it.
type Keys = Vec<Option<u32>>;

/// A row's value, or a total that no row has. Bounds are of the difference to what it is.
pub(super) struct Place {
    keys: Keys,
    /// Whether a row has it.
    pub(super) row: bool,
    /// Whether a rule withholds it.
    pub(super) primary: bool,
    /// What it is: of a total, the sum of its parts.
    pub(super) value: f64,
    pub(super) nonnegative: bool,
    /// What the attacker knows of it.
    pub(super) told: bool,
    /// Where it is told: how far below, and above.
    pub(super) shown: [f64; 2],
}

impl Place {
    /// The totals that are taken over others of its keys are fewer.
    fn depth(&self) -> usize {
        self.keys.iter().flatten().count()
    }

    /// The keys that it is not a total over.
    fn level(&self) -> u8 {
        level(&self.keys)
    }

    /// Whether the attacker knows it exactly.
    pub(super) fn fixed(&self) -> bool {
        self.told && self.shown == [0.0, 0.0]
    }
}

/// A total and all its parts along one key.
pub(super) struct Sum {
    pub(super) total: usize,
    pub(super) parts: Vec<usize>,
}

pub(super) struct Table {
    /// Rows first, in their order.
    pub(super) places: Vec<Place>,
    pub(super) sums: Vec<Sum>,
    /// Sums of the same total, along the keys that lead to the same finest parts: one of them says what all say.
    pub(super) ways: Vec<Vec<usize>>,
    /// Whether all values are whole numbers.
    pub(super) whole: bool,
    index: BTreeMap<Keys, usize>,
}

impl Table {
    /// `None`: it contradicts itself.
    pub(super) fn new(keys: &[Keys], cells: &[Cell]) -> Result<Option<Self>, TooLarge> {
        let width = keys.iter().map(Vec::len).max().unwrap_or_default();
        if width > MOST_KEYS {
            return Err(TooLarge::Keys { asked: width, allowed: MOST_KEYS });
        }
        if cells.len() > MOST_CELLS {
            return Err(TooLarge::Cells { asked: cells.len(), allowed: MOST_CELLS });
        }
        let numbers = cells.iter().all(|cell| cell.value.is_finite() && cell.half.is_finite() && cell.half >= 0.0);
        let distinct: BTreeSet<&Keys> = keys.iter().collect();
        if !numbers || distinct.len() != cells.len() || keys.len() != cells.len() || keys.iter().any(|keys| keys.len() != width) {
            return Ok(None);
        }
        let (places, index) = places(keys, cells);
        if places.len() > MOST_CELLS {
            return Err(TooLarge::Cells { asked: places.len(), allowed: MOST_CELLS });
        }
        let whole = cells.iter().all(|cell| cell.value.fract() == 0.0);
        let mut table = Self { places, sums: Vec::new(), ways: Vec::new(), whole, index };
        table.relate(keys);
        table.evaluate(cells);
        Ok(Some(table))
    }

    /// Finds the sums, and which of them say the same.
    fn relate(&mut self, keys: &[Keys]) {
        let mut sums: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for (keys, part) in &self.index {
            for key in (0..keys.len()).filter(|key| keys.get(*key).is_some_and(Option::is_some)) {
                if let Some(total) = self.index.get(&without(keys, 1 << key)) {
                    sums.entry((*total, key)).or_default().push(*part);
                }
            }
        }
        let levels: BTreeSet<u8> = keys.iter().map(|keys| level(keys)).collect();
        let finest: Vec<u8> = levels.iter().copied().filter(|one| levels.iter().all(|other| one == other || one & !other != 0)).collect();
        let numbers: BTreeMap<(usize, usize), usize> = sums.keys().copied().zip(0..).collect();
        for (total, place) in self.places.iter().enumerate() {
            for finest in finest.iter().filter(|finest| place.level() & !**finest == 0) {
                let keys = (0..place.keys.len()).filter(|key| finest & !place.level() & (1 << key) != 0);
                let ways: Vec<usize> = keys.filter_map(|key| numbers.get(&(total, key)).copied()).collect();
                if !ways.is_empty() && !self.ways.contains(&ways) {
                    self.ways.push(ways);
                }
            }
        }
        self.sums = sums.into_iter().map(|((total, _), parts)| Sum { total, parts }).collect();
    }

    /// Adds up totals, finest first, and finds what is known of every place.
    fn evaluate(&mut self, cells: &[Cell]) {
        let mut order: Vec<usize> = (0..self.sums.len()).collect();
        order.sort_by_key(|sum| self.sums.get(*sum).and_then(|sum| self.places.get(sum.total)).map(|place| usize::MAX - place.depth()));
        let mut added = BTreeSet::new();
        for sum in order.into_iter().filter_map(|sum| self.sums.get(sum)) {
            let parts: Vec<&Place> = sum.parts.iter().filter_map(|part| self.places.get(*part)).collect();
            let (value, nonnegative) = (parts.iter().map(|part| part.value).sum(), parts.iter().all(|part| part.nonnegative));
            // The same contributors: the same rule withholds it.
            let same = parts.len() == 1 && parts.iter().all(|part| !part.told);
            let Some(total) = self.places.get_mut(sum.total) else { continue };
            if added.insert(sum.total) {
                total.value = value;
                total.nonnegative |= nonnegative && !total.row;
            }
            total.told &= total.row || !same;
        }
        for (place, cell) in self.places.iter_mut().zip(cells) {
            place.shown = shown(place.value, cell, self.whole);
        }
    }

    /// Which rows' values are told.
    pub(super) fn told(&self) -> Vec<bool> {
        self.places.iter().filter(|place| place.row).map(|place| place.told).collect()
    }

    /// Whether a total may be other than it is.
    pub(super) fn totals_move(&self) -> bool {
        self.places.iter().any(|place| place.keys.contains(&None) && !place.fixed())
    }

    /// What moves where a value is swapped with another place's: the places whose keys are some of the one, some of the other's, with
    /// whether an odd number is of the other, and the totals over keys that both have in common. If those of an even number move up and
    /// the others down by as much, every total is the sum of its parts. `None`: a place is missing.
    pub(super) fn corners(&self, one: usize, other: usize, totals_move: bool) -> Option<Vec<(usize, bool)>> {
        let (one, other) = (&self.places.get(one)?.keys, &self.places.get(other)?.keys);
        let common = level(&one.iter().zip(other).map(|(one, other)| one.filter(|_| one == other)).collect::<Keys>());
        if one.iter().chain(other).any(Option::is_none) || common != 0 && !totals_move {
            return None;
        }
        let corner = |mixed: u8| {
            let keys = one.iter().zip(other).enumerate();
            let keys: Keys = keys.map(|(key, (one, other))| if mixed & (1 << key) == 0 { *one } else { *other }).collect();
            self.index.get(&without(&keys, mixed & common)).map(|place| (*place, (mixed & !common).count_ones() % 2 == 1))
        };
        (0..1_u8 << one.len()).map(corner).collect()
    }

    /// The totals over more keys that no row has, with all places of `of`'s kind that make them.
    pub(super) fn totals_of(&self, of: &Place) -> Vec<(usize, Vec<usize>)> {
        let above = self.places.iter().enumerate().filter(|(_, total)| !total.row && within(&total.keys, &of.keys));
        let parts = |total: &Place| {
            let alike = self.places.iter().enumerate().filter(|(_, part)| part.level() == of.level() && within(&total.keys, &part.keys));
            alike.map(|(part, _)| part).collect()
        };
        above.map(|(number, total)| (number, parts(total))).collect()
    }
}

/// The rows' places, and those of all totals over them.
fn places(keys: &[Keys], cells: &[Cell]) -> (Vec<Place>, BTreeMap<Keys, usize>) {
    let row = |(keys, cell): (&Keys, &Cell)| Place {
        keys: keys.clone(),
        row: true,
        primary: cell.withheld,
        value: cell.value,
        nonnegative: cell.nonnegative,
        told: !cell.withheld,
        shown: [0.0, 0.0],
    };
    let mut places: Vec<Place> = keys.iter().zip(cells).map(row).collect();
    let mut index: BTreeMap<Keys, usize> = keys.iter().cloned().zip(0..).collect();
    for keys in keys {
        for over in 0..1_u8 << keys.len() {
            let keys = without(keys, over);
            index.entry(keys).or_insert_with_key(|keys| {
                let keys = keys.clone();
                places.push(Place { keys, row: false, primary: false, value: 0.0, nonnegative: false, told: true, shown: [0.0, 0.0] });
                places.len() - 1
            });
        }
    }
    (places, index)
}

/// The interval of what is rounded to the same, as differences to the value.
fn shown(value: f64, cell: &Cell, whole: bool) -> [f64; 2] {
    if cell.half == 0.0 {
        return [0.0, 0.0];
    }
    // Whole numbers that are rounded to the same are less than half a unit away, but for one at a half.
    let half = if whole { (cell.half - 0.5).floor().max(0.0) } else { cell.half };
    let centre = to_unit(value, cell.half * 2.0);
    let low = if cell.nonnegative { (centre - half).max(0.0) } else { centre - half };
    [(low - value).min(0.0), (centre + half - value).max(0.0)]
}

fn level(keys: &[Option<u32>]) -> u8 {
    keys.iter().rev().fold(0, |level, key| level << 1 | u8::from(key.is_some()))
}

/// The total over the keys whose bits are set.
fn without(keys: &[Option<u32>], over: u8) -> Keys {
    keys.iter().enumerate().map(|(key, value)| value.filter(|_| over & (1 << key) == 0)).collect()
}

/// Whether a total has a part.
fn within(total: &[Option<u32>], part: &[Option<u32>]) -> bool {
    total.iter().zip(part).all(|(total, part)| total.is_none() || total == part)
}
