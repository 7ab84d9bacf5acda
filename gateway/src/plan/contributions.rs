//! The aggregate that looks at each subject's contribution to a value: how the value is spread over its contributors and, where an
//! agreement asks for noise, the sums of their keys. It runs once per group and subject, above the inner level of
//! `summarise/levels.rs`; `Protect` reads what it finds.
//!
//! ```text
//! contributions(own Float64, subject) -> FixedSizeBinary(96)     own: the subject's sum, or its number of rows
//! shares(own Float64, subject)        -> FixedSizeBinary(96)     the same where a subject stands in several rows of the inner level
//! spreads(spread FixedSizeBinary(72)) -> FixedSizeBinary(96)     of parts of a group, which nodes made ([`concordat_proto::grouped`])
//! ones(subjects Int64)                -> FixedSizeBinary(96)     the same, where each subject contributes one
//! ```

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use concordat_protect::Spread;
use concordat_protect::behind::SPREAD_BYTES;
use concordat_protect::noise::{Secret, contribution_key, record_key};
use datafusion::arrow::array::{Array, ArrayRef, AsArray as _, BooleanArray, FixedSizeBinaryArray, FixedSizeBinaryBuilder};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, internal_datafusion_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, ExprFunctionExt as _, GroupsAccumulator, Signature, Volatility,
};

/// Bytes of a state: a spread, and the keys of people, of contributions and of the largest.
const WIDTH: i32 = SPREAD_BYTES as i32 + 3 * 8;

/// What the contributors of one value add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Contributed {
    pub(super) spread: Spread,
    /// The wrapping sum of their record keys.
    pub(super) people: u64,
    /// And of their contributions' keys.
    pub(super) contributions: u64,
    /// The contribution key of whoever contributes most; of several the least.
    pub(super) most: u64,
}

impl Contributed {
    pub(super) fn add(&mut self, own: f64, subject: &[u8], secret: Option<&Secret>) {
        // Who adds nothing would make the noise another one.
        if let Some(secret) = secret.filter(|_| own != 0.0) {
            let person = record_key(secret, subject);
            let key = contribution_key(secret, person, own);
            self.people = self.people.wrapping_add(person);
            self.contributions = self.contributions.wrapping_add(key);
            self.keep_most(own.abs(), key);
        }
        self.spread.add(own);
    }

    /// Keeps the key of the larger of what there is so far and what is added: before it is added.
    fn keep_most(&mut self, size: f64, key: u64) {
        let [largest, ..] = self.spread.largest;
        match size.total_cmp(&largest) {
            Ordering::Greater => self.most = key,
            Ordering::Equal if size > 0.0 => self.most = self.most.min(key),
            _ => {}
        }
    }

    fn merge(&mut self, other: &Self) {
        let [largest, ..] = other.spread.largest;
        self.keep_most(largest, other.most);
        self.spread.merge(&other.spread);
        self.people = self.people.wrapping_add(other.people);
        self.contributions = self.contributions.wrapping_add(other.contributions);
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let keys = [self.people, self.contributions, self.most];
        self.spread.to_bytes().into_iter().chain(keys.into_iter().flat_map(u64::to_le_bytes)).collect()
    }

    fn read(bytes: &[u8]) -> Result<Self> {
        let other = || internal_datafusion_err!("contributions of another shape");
        let (spread, keys) = bytes.split_first_chunk().ok_or_else(other)?;
        let (&[people, contributions, most], []) = keys.as_chunks::<8>() else { return Err(other()) };
        let [people, contributions, most] = [people, contributions, most].map(u64::from_le_bytes);
        Ok(Self { spread: Spread::from_bytes(spread), people, contributions, most })
    }

    /// What the aggregate found for the group of `row`.
    pub(super) fn of(column: &dyn Array, row: usize) -> Result<Self> {
        let column = column.as_fixed_size_binary_opt().ok_or_else(|| internal_datafusion_err!("contributions of another type"))?;
        if column.is_null(row) { Ok(Self::default()) } else { Self::read(column.value(row)) }
    }
}

/// The aggregate, of the rows where `contributes` holds; `several`: a subject may stand in several of them.
pub(super) fn contributions(own: Expr, subject: Expr, contributes: Expr, secret: Option<Secret>, several: bool) -> Result<Expr> {
    let of = if several { Of::Shares } else { Of::Subjects };
    let function = AggregateUDF::from(Contributions { signature: Signature::any(2, Volatility::Immutable), secret, of });
    function.call(vec![own, subject]).filter(contributes).build()
}

/// The same, of parts of a group whose spreads nodes state.
pub(super) fn of_spreads(spread: Expr) -> Expr {
    of_parts(spread, Of::Spreads)
}

/// The same, of parts of a group where each of their subjects contributes one.
pub(super) fn of_ones(subjects: Expr) -> Expr {
    of_parts(subjects, Of::Ones)
}

fn of_parts(part: Expr, of: Of) -> Expr {
    AggregateUDF::from(Contributions { signature: Signature::any(1, Volatility::Immutable), secret: None, of }).call(vec![part])
}

/// Whether a function is the aggregate over rows of one subject each, without keys: what parts of a group can stand in the place of.
pub(super) fn adds_up(function: &AggregateUDF) -> bool {
    function.inner().downcast_ref::<Contributions>().is_some_and(|own| own.of == Of::Subjects && own.secret.is_none())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Contributions {
    signature: Signature,
    secret: Option<Secret>,
    of: Of,
}

/// Of what contributions are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Of {
    /// One row for each subject.
    Subjects,
    /// Several.
    Shares,
    /// Spreads over different subjects.
    Spreads,
    /// Numbers of different subjects.
    Ones,
}

impl AggregateUDFImpl for Contributions {
    fn name(&self) -> &str {
        match self.of {
            Of::Subjects => "contributions",
            Of::Shares => "shares",
            Of::Spreads => "spreads",
            Of::Ones => "ones",
        }
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::FixedSizeBinary(WIDTH))
    }
    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let kind = if self.of == Of::Shares { DataType::Binary } else { DataType::FixedSizeBinary(WIDTH) };
        Ok(vec![Arc::new(Field::new(format!("{}[state]", args.name), kind, true))])
    }
    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(if self.of == Of::Shares {
            Box::new(Shares { secret: self.secret.clone(), own: BTreeMap::new() })
        } else {
            Box::new(One { secret: self.secret.clone(), of: self.of, found: Contributed::default() })
        })
    }
    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        self.of != Of::Shares
    }
    fn create_groups_accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups { secret: self.secret.clone(), of: self.of, found: Vec::new() }))
    }
}

/// Calls `each` with every row's own contribution and subject.
fn rows<'a>(values: &'a [ArrayRef], mut each: impl FnMut(usize, f64, &'a [u8])) -> Result<()> {
    let [own, subject] = values else { return Err(internal_datafusion_err!("contributions of two columns")) };
    let own = own.as_primitive_opt::<Float64Type>().ok_or_else(|| internal_datafusion_err!("a contribution that is no number"))?;
    let subject = subject.as_fixed_size_binary_opt().ok_or_else(|| internal_datafusion_err!("a subject that is no pseudonym"))?;
    for row in 0..own.len() {
        // Without a number or a subject nothing is contributed: the contributors are counted the same way.
        if own.is_valid(row) && subject.is_valid(row) {
            each(row, own.value(row), subject.value(row));
        }
    }
    Ok(())
}

/// Calls `each` with every row's part of a group: a spread, or a number of subjects.
fn parts(values: &[ArrayRef], of: Of, mut each: impl FnMut(usize, Spread)) -> Result<()> {
    let other = || internal_datafusion_err!("parts of a group of another type");
    let [part] = values else { return Err(other()) };
    for row in 0..part.len() {
        let spread = if of == Of::Ones {
            let subjects = part.as_primitive_opt::<Int64Type>().ok_or_else(other)?.value(row);
            Spread::of_ones(u64::try_from(subjects).map_err(|_| other())?)
        } else {
            let spread = part.as_fixed_size_binary_opt().ok_or_else(other)?.value(row);
            Spread::from_bytes(spread.try_into().map_err(|_| other())?)
        };
        if part.is_valid(row) {
            each(row, spread);
        }
    }
    Ok(())
}

fn states(values: &[ArrayRef]) -> Result<&FixedSizeBinaryArray> {
    let state = values.first().and_then(|array| array.as_fixed_size_binary_opt());
    state.ok_or_else(|| internal_datafusion_err!("contributions of another type"))
}

/// Of one group.
#[derive(Debug)]
struct One {
    secret: Option<Secret>,
    of: Of,
    found: Contributed,
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        match self.of {
            Of::Spreads | Of::Ones => parts(values, self.of, |_, spread| self.found.spread.merge(&spread)),
            Of::Subjects | Of::Shares => rows(values, |_, own, subject| self.found.add(own, subject, self.secret.as_ref())),
        }
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::FixedSizeBinary(WIDTH, Some(self.found.bytes())))
    }
    fn size(&self) -> usize {
        size_of_val(self)
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }
    fn merge_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for state in states(values)?.iter().flatten() {
            self.found.merge(&Contributed::read(state)?);
        }
        Ok(())
    }
}

/// Of many groups.
struct Groups {
    secret: Option<Secret>,
    of: Of,
    found: Vec<Contributed>,
}

impl Groups {
    fn emit(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let found = emit.take_needed(&mut self.found);
        let mut column = FixedSizeBinaryBuilder::with_capacity(found.len(), WIDTH);
        for group in found {
            column.append_value(group.bytes())?;
        }
        Ok(Arc::new(column.finish()))
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> Result<()> {
        self.found.resize(total, Contributed::default());
        let counts = |row| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        if matches!(self.of, Of::Spreads | Of::Ones) {
            return parts(values, self.of, |row, spread| {
                if let Some(found) = groups.get(row).filter(|_| counts(row)).and_then(|group| self.found.get_mut(*group)) {
                    found.spread.merge(&spread);
                }
            });
        }
        rows(values, |row, own, subject| {
            let counts = counts(row);
            if let Some(found) = groups.get(row).filter(|_| counts).and_then(|group| self.found.get_mut(*group)) {
                found.add(own, subject, self.secret.as_ref());
            }
        })
    }
    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        self.emit(emit)
    }
    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.emit(emit)?])
    }
    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.found.resize(total, Contributed::default());
        for (state, group) in states(values)?.iter().zip(groups) {
            if let (Some(state), Some(found)) = (state, self.found.get_mut(*group)) {
                found.merge(&Contributed::read(state)?);
            }
        }
        Ok(())
    }
    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let length = values.first().map_or(0, |array| array.len());
        let mut each = Self { secret: self.secret.clone(), of: self.of, found: Vec::new() };
        each.update_batch(values, &(0..length).collect::<Vec<_>>(), filter, length)?;
        Ok(vec![each.emit(EmitTo::All)?])
    }
    fn size(&self) -> usize {
        self.found.capacity() * size_of::<Contributed>()
    }
}

/// Of one group whose subjects stand in several rows: each one's own, kept until the end.
#[derive(Debug)]
struct Shares {
    secret: Option<Secret>,
    own: BTreeMap<[u8; 16], f64>,
}

impl Shares {
    fn add(&mut self, subject: &[u8], own: f64) -> Result<()> {
        let subject = subject.try_into().map_err(|_| internal_datafusion_err!("a pseudonym has 16 bytes"))?;
        *self.own.entry(subject).or_default() += own;
        Ok(())
    }
}

impl Accumulator for Shares {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let mut added = Ok(());
        rows(values, |_, own, subject| {
            if added.is_ok() {
                added = self.add(subject, own);
            }
        })?;
        added
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut found = Contributed::default();
        self.own.iter().for_each(|(subject, own)| found.add(*own, subject, self.secret.as_ref()));
        Ok(ScalarValue::FixedSizeBinary(WIDTH, Some(found.bytes())))
    }
    fn size(&self) -> usize {
        size_of_val(self) + self.own.len() * 48
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let all = self.own.iter().flat_map(|(subject, own)| subject.iter().copied().chain(own.to_le_bytes()));
        Ok(vec![ScalarValue::Binary(Some(all.collect()))])
    }
    fn merge_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let states = values.first().and_then(|array| array.as_binary_opt::<i32>());
        for state in states.ok_or_else(|| internal_datafusion_err!("shares of another type"))?.iter().flatten() {
            for part in state.chunks_exact(24) {
                let (subject, own) = part.split_at(16);
                let own = own.try_into().map_err(|_| internal_datafusion_err!("a share of another size"))?;
                self.add(subject, f64::from_le_bytes(own))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written_and_who_adds_nothing_is_not_in_its_keys() {
        let secret = Secret::new([5; 16]);
        let of = |own: &[f64]| {
            let mut found = Contributed::default();
            own.iter().zip(0_u8..).for_each(|(own, subject)| found.add(*own, &[subject; 16], Some(&secret)));
            found
        };
        let some = of(&[7.0, -2.5, 1.0]);
        assert_eq!(Contributed::read(&some.bytes()).unwrap(), some);
        assert!(Contributed::read(&some.bytes()[8..]).is_err());
        let more = of(&[7.0, -2.5, 1.0, 0.0, 0.0]);
        assert_eq!((some.people, some.contributions, some.spread.nonzero), (more.people, more.contributions, more.spread.nonzero));
        // Whoever has most, wherever he stands and in whatever parts they are added up.
        let mut parts = of(&[7.0, -2.5]);
        let mut last = Contributed::default();
        last.add(-9.0, &[2; 16], Some(&secret));
        parts.merge(&last);
        assert_eq!((parts.most, parts), (last.most, of(&[7.0, -2.5, -9.0])));
        let (mut one, mut other) = (of(&[1.0]), last);
        one.merge(&last);
        other.merge(&of(&[1.0]));
        assert!(one.most == other.most && some.most != last.most);
        // The same people, of whom one has another value.
        let other = of(&[7.0, -2.5, 2.0]);
        assert!(some.people == other.people && some.contributions != other.contributions);
    }
}
