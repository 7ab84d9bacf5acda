//! A result as a table with all its totals, told or not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Cell, Column, MOST_CELLS, MOST_KEYS, TooLarge, coarse};

/// The value of a key that stands for all values that are not shown.
const HIDDEN: u32 = u32::MAX;

/// Of each key its value, `None` for the total over it.
type Keys = Vec<Option<u32>>;

/// A row's value, one of few that is assumed where no row is, or a total that no row has. Bounds are of differences.
pub(super) struct Place {
    keys: Keys,
    /// Whether a row has it.
    pub(super) row: bool,
    /// How far it must be able to move, where it is withheld by a rule.
    pub(super) far: Option<f64>,
    /// Whether that rule is that it is of few.
    pub(super) few: bool,
    /// How large it is, as far as that is public.
    pub(super) size: f64,
    /// What the attacker knows of it.
    pub(super) told: bool,
    /// Where it is told: how far below, and above.
    pub(super) shown: [f64; 2],
    /// How far it may fall where it is not told, whatever it is.
    pub(super) falls: f64,
}

impl Place {
    /// The totals that are taken over others of its keys are fewer.
    fn depth(&self) -> usize {
        self.keys.iter().flatten().count()
    }

    /// Whether it is a total over another.
    pub(super) fn has(&self, part: &Self) -> bool {
        self.keys.contains(&None) && self.keys != part.keys && within(&self.keys, &part.keys)
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

pub(super) struct Table<'a> {
    /// Rows first, in their order.
    pub(super) places: Vec<Place>,
    pub(super) sums: Vec<Sum>,
    /// Sums of the same total, along the keys that lead to the same finest parts: one of them says what all say.
    pub(super) ways: Vec<Vec<usize>>,
    /// How much longer proofs may be looked for.
    pub(super) left: &'a dyn Fn() -> Duration,
    index: BTreeMap<Keys, usize>,
}

impl<'a> Table<'a> {
    /// `None`: it contradicts itself.
    pub(super) fn new(keys: &[Keys], column: &Column, cells: &[Cell], left: &'a dyn Fn() -> Duration) -> Result<Option<Self>, TooLarge> {
        let width = keys.iter().map(Vec::len).max().unwrap_or_default();
        if width > MOST_KEYS {
            return Err(TooLarge::Keys { asked: width, allowed: MOST_KEYS });
        }
        if keys.len() > MOST_CELLS {
            return Err(TooLarge::Cells { asked: keys.len(), allowed: MOST_CELLS });
        }
        let distinct: BTreeSet<&Keys> = keys.iter().collect();
        let asked = keys.iter().flat_map(totals).collect::<BTreeSet<_>>().len();
        if asked > MOST_CELLS {
            return Err(TooLarge::Cells { asked, allowed: MOST_CELLS });
        }
        let numbers = cells.iter().all(is_number) && column.few.is_finite() && column.half.is_finite() && column.half >= 0.0;
        if !numbers || distinct.len() != cells.len() || keys.len() != cells.len() || keys.iter().any(|keys| keys.len() != width) {
            return Ok(None);
        }
        let mut table = Self { places: Vec::new(), sums: Vec::new(), ways: Vec::new(), left, index: BTreeMap::new() };
        table.place(keys, column, cells);
        table.relate(keys);
        table.evaluate();
        Ok(Some(table))
    }

    /// The rows' places, those of few that are assumed beside them, and those of all totals.
    fn place(&mut self, keys: &[Keys], column: &Column, cells: &[Cell]) {
        let negative = |cell: &Cell| matches!(cell, Cell::Told { value, .. } if *value < 0.0);
        let signed = cells.iter().any(negative);
        for (keys, cell) in keys.iter().zip(cells) {
            self.add(Place { row: true, ..place(keys, cell, column, signed) });
        }
        for hidden in keys.iter().flat_map(hidden) {
            self.add(place(&hidden, &Cell::Few, column, signed));
        }
        let known: Vec<Keys> = self.index.keys().cloned().collect();
        for keys in known.iter().flat_map(totals) {
            let shown = half(column.half, column.whole);
            let told = !keys.contains(&Some(HIDDEN));
            self.add(Place { keys, row: false, far: None, few: false, size: 0.0, told, shown: [-shown, shown], falls: f64::INFINITY });
        }
    }

    /// Unless there is one already.
    fn add(&mut self, place: Place) {
        if !self.index.contains_key(&place.keys) {
            self.index.insert(place.keys.clone(), self.places.len());
            self.places.push(place);
        }
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

    /// Adds up the sizes of totals that no row has, finest first; other totals that are withheld fall with their parts.
    fn evaluate(&mut self) {
        let mut order: Vec<usize> = (0..self.sums.len()).collect();
        order.sort_by_key(|sum| self.sums.get(*sum).and_then(|sum| self.places.get(sum.total)).map(|place| usize::MAX - place.depth()));
        let mut added = BTreeSet::new();
        for sum in order.into_iter().filter_map(|sum| self.sums.get(sum)) {
            let size = sum.parts.iter().filter_map(|part| self.places.get(*part)).map(|part| part.size).sum();
            let Some(total) = self.places.get_mut(sum.total) else { continue };
            if !total.row && total.far.is_none() && added.insert(sum.total) {
                total.size = size;
            }
            if total.far.is_some() {
                // As far as its parts may.
                total.falls = f64::INFINITY;
            }
        }
    }

    /// How many keys it has.
    pub(super) fn width(&self) -> usize {
        self.places.first().map_or(0, |place| place.keys.len())
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

    /// The totals over more keys that no row has and the attacker knows, with all places of the same kind that make them.
    pub(super) fn totals_of(&self, part: usize) -> Vec<(usize, Vec<usize>)> {
        let Some(of) = self.places.get(part) else { return Vec::new() };
        let above = self.places.iter().enumerate().filter(|(_, total)| !total.row && total.told && within(&total.keys, &of.keys));
        let parts = |total: &Place| {
            let alike = self.places.iter().enumerate().filter(|(_, part)| part.level() == of.level() && within(&total.keys, &part.keys));
            alike.map(|(part, _)| part).collect()
        };
        above.map(|(number, total)| (number, parts(total))).collect()
    }
}

/// What is public of a row's value.
fn place(keys: &Keys, cell: &Cell, column: &Column, signed: bool) -> Place {
    let far = |size: f64| if column.whole { (size / 10.0).ceil().max(1.0) } else { size / 10.0 };
    let bound = |falls: f64| if signed { f64::INFINITY } else { falls };
    let withheld = |size: f64, falls| (Some(far(size)).filter(|far| *far > 0.0), size, false, [0.0, 0.0], bound(falls));
    let (far, size, told, shown, falls) = match *cell {
        Cell::Told { value, half: known, least } => {
            let half = half(known, column.whole);
            let low = if signed { -half } else { -half.min(value) };
            (None, value.abs(), true, [low, half], bound(least.max(0.0)))
        }
        // Each of them may be nobody's.
        Cell::Few => withheld(column.few, 0.0),
        // It is more than half of what it is taken up to.
        Cell::Large { value } => withheld(coarse(value.abs()).max(column.few), coarse(value.abs()) / 2.0),
    };
    let few = matches!(cell, Cell::Few);
    Place { keys: keys.clone(), row: false, far, few, size, told, shown, falls }
}

/// Whole numbers that are rounded to the same are less than half a unit away, but for one at a half.
fn half(half: f64, whole: bool) -> f64 {
    if whole { (half - 0.5).floor().max(0.0) } else { half }
}

fn is_number(cell: &Cell) -> bool {
    match cell {
        Cell::Told { value, half, least } => value.is_finite() && half.is_finite() && *half >= 0.0 && *least <= *value,
        Cell::Few => true,
        Cell::Large { value } => coarse(value.abs()).is_finite(),
    }
}

/// A place, and all totals that it is in.
fn totals(keys: &Keys) -> impl Iterator<Item = Keys> {
    (0..1_u8 << keys.len().min(MOST_KEYS)).map(|over| without(keys, over))
}

/// The places beside a row where a group could be that is not shown: with another value of some of its keys.
fn hidden(keys: &Keys) -> impl Iterator<Item = Keys> {
    let other = |others: u8| {
        let keys = keys.iter().enumerate();
        keys.map(|(key, value)| if others & (1 << key) == 0 { *value } else { value.map(|_| HIDDEN) }).collect::<Keys>()
    };
    (1..1_u8 << keys.len().min(MOST_KEYS)).map(other).filter(|other| other.contains(&Some(HIDDEN)))
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
