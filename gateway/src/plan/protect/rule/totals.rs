//! Which groups are withheld so that no withheld value can be worked out from the others and from totals.
//!
//! What is withheld for being of few, groups of nobody and groups that are not shown all look alike here: which others are withheld
//! beside them tells nothing of them.
//!
//! A number of subjects or rows is withheld for the sake of such numbers alone: whoever asks for it without the sums beside it is told it.
//! A sum or mean is withheld for the sake of any value of its row. What a value alone withholds, it withholds whatever stands beside it: else
//! two statements, with a column more and without, would tell what each withholds for the other's sake.

use std::collections::{BTreeMap, BTreeSet};

use concordat_policy::disclosure::Margins;
use concordat_policy::{Code, Refusal};
use concordat_protect::margins::{self, Also, Cell, Column, TooLarge, Values};
use concordat_protect::units::Parts;
use datafusion::arrow::array::{ArrayRef, AsArray as _, BooleanArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, UInt64Type};
use datafusion::common::{DataFusionError, Result};

use super::super::super::shape::refuse;
use super::super::bounds::Bounds;
use super::{Judged, Kind, Rule, bytes_of, put};

/// Those of which values of a kind are withheld.
pub(super) fn of(also: &Also, kind: Kind) -> &[bool] {
    if kind.counted() { &also.numbers } else { &also.all }
}

impl Rule {
    /// The rows of which values are withheld in addition, of those that are shown.
    pub(super) fn also_withheld(&self, keys: &[ArrayRef], judged: &[Judged<'_>], shown: &BooleanArray, bounds: &Bounds) -> Result<Also> {
        let rows = shown.len();
        let mut also = Also { numbers: vec![false; rows], all: vec![false; rows] };
        if self.disclosure.margins == Margins::Open || keys.is_empty() {
            return Ok(also);
        }
        // The same set may stand in a statement twice.
        let mut places: BTreeMap<Vec<Option<u32>>, Vec<usize>> = BTreeMap::new();
        for (row, place) in self.coordinates(keys, rows)?.into_iter().enumerate().filter(|(row, _)| shown.value(*row)) {
            places.entry(place).or_default().push(row);
        }
        let coordinates: Vec<Vec<Option<u32>>> = places.keys().cloned().collect();
        bounds.reserve(margins::memory(&coordinates).or_else(too_large)?)?;
        let mut columns = Vec::new();
        // Not the number of values behind a mean: that withholds two thirds of a view's values for what hardly any mean tells.
        for judged in judged {
            // What is withheld for the sake of a value asked alone is so beside others too, and of a mean what is for the sake of its sum:
            // with the number of values it tells that.
            for withheld in BTreeSet::from([&judged.withheld, &judged.alone, &judged.as_sum]) {
                let one = |of: &Vec<usize>| self.cell(judged, withheld, of.first().copied().unwrap_or(rows));
                let cells: Vec<Cell> = places.values().map(one).collect();
                columns.push(Values { column: self.column(judged, withheld, &cells), cells, counted: judged.value.kind.counted() });
            }
        }
        let more = margins::protect_all(&coordinates, &columns, &|| bounds.left()).or_else(too_large)?;
        for (place, of) in places.values().enumerate() {
            for row in of {
                put(&mut also.numbers, *row, more.numbers.get(place) != Some(&false));
                put(&mut also.all, *row, more.all.get(place) != Some(&false));
            }
        }
        Ok(also)
    }

    /// Of every row and key: which value it has, `None` where it is a total over the key.
    fn coordinates(&self, keys: &[ArrayRef], rows: usize) -> Result<Vec<Vec<Option<u32>>>> {
        let mut coordinates = vec![Vec::new(); rows];
        let numbers =
            self.sets.as_ref().zip(keys.last()).map(|(sets, number)| Ok::<_, DataFusionError>((sets, cast(number, &DataType::UInt64)?)));
        let numbers = numbers.transpose()?;
        for (position, key) in keys.iter().take(keys.len() - usize::from(self.sets.is_some())).enumerate() {
            let values = bytes_of(std::slice::from_ref(key))?;
            // By value, not by when they came: the same question withholds the same groups again.
            let known: BTreeMap<Vec<u8>, u32> = values.iter().cloned().collect::<BTreeSet<_>>().into_iter().zip(0..).collect();
            for (row, (of, value)) in coordinates.iter_mut().zip(values).enumerate() {
                let total = numbers
                    .as_ref()
                    .is_some_and(|(sets, number)| sets.leaves_out(number.as_primitive::<UInt64Type>().value(row), position));
                of.push(known.get(&value).copied().filter(|_| !total));
            }
        }
        Ok(coordinates)
    }

    /// A value as a part of totals: of a mean, its sum. What is told of it, where it is.
    fn cell(&self, judged: &Judged<'_>, withheld: &[bool], row: usize) -> Cell {
        let is = |marks: &[bool]| marks.get(row).copied().unwrap_or(true);
        if is(&judged.few) {
            return Cell::Few;
        }
        let (exact, parts) = (judged.total(row), judged.parts_of(row));
        let told = |parts: Parts| if judged.value.whole { parts.whole() as f64 } else { parts.value() };
        let value = parts.map_or(exact, told);
        // Where nothing is told at all, it is of nobody.
        let parts = parts.filter(|_| exact != 0.0 || !judged.value.kind.counted());
        let half = parts.map_or(0.0, |parts| self.half(judged, &parts));
        let least = parts.map_or(value, |parts| self.least(judged, &parts)).min(value);
        match is(withheld) {
            // Rounded twice it could be far from what it is; what is told of it is its power of two.
            true if self.disclosure.perturbation.is_none() => Cell::Large { value: exact },
            true => Cell::Large { value },
            false => Cell::Told { value, half, least },
        }
    }

    /// Half of how closely a value is known to whoever has counts and sums together: a sum as if he knew how many contribute, a number of rows
    /// as if he knew how many each has.
    fn half(&self, judged: &Judged<'_>, parts: &Parts) -> f64 {
        let base = self.disclosure.round_to;
        match judged.value.kind {
            Kind::Subjects | Kind::Rows if base <= 1 => 0.0,
            Kind::Subjects | Kind::Rows => f64::from(base) / 2.0 * parts.each,
            Kind::Sum | Kind::Mean => parts.half(),
        }
    }

    /// The least that a value can be that is told like this. Everybody has a row at least.
    fn least(&self, judged: &Judged<'_>, parts: &Parts) -> f64 {
        let ones = Parts { each: 1.0, unit: 0.0, ..*parts };
        match judged.value.kind {
            Kind::Subjects => ones.least(),
            Kind::Rows => ones.least().max(parts.least()),
            Kind::Sum | Kind::Mean => parts.least(),
        }
    }

    /// What is public of all of them. A total is taken to be told as finely as the most finely told part. A sum can be told more finely,
    /// where parts that are withheld have less than the others: that tells no more (`protect/src/margins/tests/earlier.rs`).
    fn column(&self, judged: &Judged<'_>, withheld: &[bool], cells: &[Cell]) -> Column {
        let rows = 0..withheld.len();
        let told = || rows.clone().filter(|row| withheld.get(*row) == Some(&false));
        let few = rows.clone().filter(|row| judged.few.get(*row) == Some(&true)).map(|row| judged.total(row));
        // With noise, as many as could look like too few: twice its largest over the minimum.
        let noisy = self.disclosure.perturbation.map_or(0, |noise| noise.most.saturating_mul(2));
        let fewest = f64::from(self.minimum.saturating_add(noisy).saturating_sub(1));
        let (size, number) = told()
            .filter_map(|row| judged.contributed.get(row))
            .fold((0.0, 0.0), |(size, number), of| (size + of.spread.absolute, number + of.spread.nonzero as f64));
        let (typical, half) = if judged.value.kind.counted() {
            let base = self.disclosure.round_to;
            (fewest, if base > 1 { f64::from(base) / 2.0 } else { 0.0 })
        } else {
            let finest = told().filter_map(|row| Some(judged.parts_of(row)?.half())).fold(f64::INFINITY, f64::min);
            (fewest * size / f64::max(number, 1.0), if finest.is_finite() { finest } else { 0.0 })
        };
        let whole = judged.value.whole && cells.iter().all(|cell| !matches!(cell, Cell::Told { value, .. } if value.fract() != 0.0));
        Column { whole, few: margins::most_of_few(typical, few), half }
    }
}

fn too_large<T>(too_large: TooLarge) -> Result<T> {
    refuse(
        Refusal::new(Code::LimitExceeded, format!("withheld values of this result could be worked out from totals: {too_large}"))
            .advice("group by fewer columns, or by coarser ones; the agreement's rule 'margins' asks for it"),
    )
}
