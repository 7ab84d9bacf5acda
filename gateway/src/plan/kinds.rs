//! The aggregates that count a group's people by which of their row's conditions they meet (`concordat_protect::kinds`): all that the
//! conditions leave over, between each other and together, is in this one count. It stands beside those of `contributions.rs`, above the
//! inner level of `summarise/levels.rs`, where a row has several conditions; the inner level says what each subject's rows meet.
//!
//! ```text
//! met(row UInt64) -> Binary                  row: bit n where a row meets condition n; each different one of a subject once, in order
//! met(rows Binary) -> Binary                 the same of several of those
//! kinds(rows Binary, subject) -> Binary      of each kind: how many rows, what they meet, how many people, their keys
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use concordat_protect::kinds::{Kind, Kinds, People};
use concordat_protect::noise::{Secret, record_key};
use datafusion::arrow::array::{Array, ArrayRef, AsArray as _, BinaryBuilder, BooleanArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, UInt64Type};
use datafusion::common::{Result, ScalarValue, internal_datafusion_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, ExprFunctionExt as _, GroupsAccumulator, Signature, Volatility,
};

/// A pseudonym.
type Pseudonym = [u8; 16];

/// What each of a subject's rows meets, said row by row or of rows that are put together.
pub(super) fn met(rows: Expr) -> Expr {
    AggregateUDF::from(Met { signature: Signature::any(1, Volatility::Immutable) }).call(vec![rows])
}

/// The people, of the rows of the inner level where `among` holds.
pub(super) struct Counting {
    /// The conditions that are of people, and not of rows: whoever meets one in a row of his does so in each.
    pub(super) of_people: u64,
    pub(super) secret: Option<Secret>,
    /// A subject may stand in several rows of the inner level.
    pub(super) several: bool,
}

impl Counting {
    /// The aggregate.
    pub(super) fn kinds(self, rows: Expr, subject: Expr, among: Expr) -> Result<Expr> {
        let Self { of_people, secret, several } = self;
        let function = AggregateUDF::from(Counted { signature: Signature::any(2, Volatility::Immutable), of_people, secret, several });
        function.call(vec![rows, subject]).filter(among).build()
    }
}

/// What the aggregate found for the group of `row`.
pub(super) fn found(column: &dyn Array, row: usize) -> Result<Kinds> {
    let column = column.as_binary_opt::<i32>().ok_or_else(|| internal_datafusion_err!("kinds of another type"))?;
    if column.is_null(row) { Ok(Kinds::default()) } else { read(column.value(row)) }
}

/// As the aggregate puts it out.
pub(super) fn bytes(kinds: &Kinds) -> Vec<u8> {
    let mut numbers = Vec::new();
    for (kind, people) in kinds.iter() {
        numbers.push(kind.len() as u64);
        numbers.extend(kind);
        numbers.extend([people.number, people.keys]);
    }
    numbers.into_iter().flat_map(u64::to_le_bytes).collect()
}

fn read(bytes: &[u8]) -> Result<Kinds> {
    let mut kinds = Kinds::default();
    let mut numbers = numbers(bytes)?.into_iter();
    let shape = || internal_datafusion_err!("kinds of another shape");
    while let Some(rows) = numbers.next() {
        let kind: Kind = numbers.by_ref().take(usize::try_from(rows).map_err(|_| shape())?).collect();
        let (Some(number), Some(keys)) = (numbers.next(), numbers.next()) else { return Err(shape()) };
        kinds.add(kind, People { number, keys });
    }
    Ok(kinds)
}

fn numbers(bytes: &[u8]) -> Result<Vec<u64>> {
    let number = |part: &[u8]| part.try_into().map(u64::from_le_bytes).map_err(|_| internal_datafusion_err!("conditions of another size"));
    bytes.chunks(8).map(number).collect()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Met {
    signature: Signature,
}

impl AggregateUDFImpl for Met {
    fn name(&self) -> &str {
        "met"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }
    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Field::new(format!("{}[state]", args.name), DataType::Binary, true).into()])
    }
    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Err(internal_datafusion_err!("what rows meet, of no subject"))
    }
    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }
    fn create_groups_accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Subjects::default()))
    }
}

/// What the rows of many subjects meet. Most have rows of one kind.
#[derive(Debug, Default)]
struct Subjects {
    rows: Vec<Kind>,
    /// What all of them take.
    bytes: usize,
}

impl Subjects {
    fn add(&mut self, group: Option<&usize>, row: u64) {
        let Some(rows) = group.and_then(|group| self.rows.get_mut(*group)) else { return };
        if let Err(place) = rows.binary_search(&row) {
            let before = rows.capacity();
            if before == 0 {
                rows.reserve_exact(1);
            }
            rows.insert(place, row);
            self.bytes += (rows.capacity() - before) * size_of::<u64>();
        }
    }

    fn resize(&mut self, total: usize) {
        self.rows.resize(total, Kind::new());
    }

    fn emit(&mut self, emit: EmitTo) -> ArrayRef {
        let mut column = BinaryBuilder::new();
        for rows in emit.take_needed(&mut self.rows) {
            self.bytes = self.bytes.saturating_sub(rows.capacity() * size_of::<u64>());
            column.append_value(rows.iter().flat_map(|row| row.to_le_bytes()).collect::<Vec<_>>());
        }
        Arc::new(column.finish())
    }

    /// Adds all rows of states.
    fn merge(&mut self, states: &dyn Array, groups: &[usize], counts: impl Fn(usize) -> bool) -> Result<()> {
        let states = states.as_binary_opt::<i32>().ok_or_else(|| internal_datafusion_err!("conditions that are no bits"))?;
        for (place, rows) in states.iter().enumerate().filter(|(place, _)| counts(*place)) {
            for row in numbers(rows.unwrap_or_default())? {
                self.add(groups.get(place), row);
            }
        }
        Ok(())
    }
}

impl GroupsAccumulator for Subjects {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> Result<()> {
        self.resize(total);
        let counts = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        let [rows] = values else { return Err(internal_datafusion_err!("what rows meet, of one column")) };
        let Some(bits) = rows.as_primitive_opt::<UInt64Type>() else { return self.merge(rows, groups, counts) };
        for (place, row) in bits.iter().enumerate().filter(|(place, _)| counts(*place)) {
            self.add(groups.get(place), row.unwrap_or(0));
        }
        Ok(())
    }
    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        Ok(self.emit(emit))
    }
    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.emit(emit)])
    }
    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.resize(total);
        let [states] = values else { return Err(internal_datafusion_err!("what rows meet, of one state")) };
        self.merge(states, groups, |_| true)
    }
    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let length = values.first().map_or(0, |array| array.len());
        let mut each = Self::default();
        each.update_batch(values, &(0..length).collect::<Vec<_>>(), filter, length)?;
        Ok(vec![each.emit(EmitTo::All)])
    }
    fn size(&self) -> usize {
        self.rows.capacity() * size_of::<Kind>() + self.bytes
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Counted {
    signature: Signature,
    of_people: u64,
    secret: Option<Secret>,
    several: bool,
}

impl AggregateUDFImpl for Counted {
    fn name(&self) -> &str {
        "kinds"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }
    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Field::new(format!("{}[state]", args.name), DataType::Binary, true).into()])
    }
    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let (secret, of_people) = (self.secret.clone(), self.of_people);
        Ok(if self.several {
            Box::new(Several { secret, of_people, rows: BTreeMap::new(), bytes: 0 })
        } else {
            Box::new(Once { secret, of_people, found: Kinds::default() })
        })
    }
}

/// Somebody who meets these conditions.
fn one(secret: Option<&Secret>, subject: &[u8]) -> People {
    People { number: 1, keys: secret.map_or(0, |secret| record_key(secret, subject)) }
}

/// Somebody's rows, of which each meets what he meets in any, of the conditions that are of people.
fn kind(rows: impl Iterator<Item = u64> + Clone, of_people: u64) -> Kind {
    let any = rows.clone().fold(0, |any, row| any | row) & of_people;
    rows.map(|row| row | any).collect()
}

/// Calls `each` with what every row's subject meets.
fn rows(values: &[ArrayRef], mut each: impl FnMut(&[u64], &[u8]) -> Result<()>) -> Result<()> {
    let [met, subject] = values else { return Err(internal_datafusion_err!("kinds of two columns")) };
    let met = met.as_binary_opt::<i32>().ok_or_else(|| internal_datafusion_err!("conditions that are no bits"))?;
    let subject = subject.as_fixed_size_binary_opt().ok_or_else(|| internal_datafusion_err!("a subject that is no pseudonym"))?;
    let mut there = (0..met.len()).filter(|row| met.is_valid(*row) && subject.is_valid(*row));
    there.try_for_each(|row| each(&numbers(met.value(row))?, subject.value(row)))
}

/// Calls `each` with every state.
fn states(values: &[ArrayRef], mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let states = values.first().and_then(|array| array.as_binary_opt::<i32>());
    states.ok_or_else(|| internal_datafusion_err!("kinds of another type"))?.iter().flatten().try_for_each(&mut each)
}

/// Of one group whose subjects stand in one row each.
#[derive(Debug)]
struct Once {
    secret: Option<Secret>,
    of_people: u64,
    found: Kinds,
}

impl Accumulator for Once {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        rows(values, |met, subject| {
            self.found.add(kind(met.iter().copied(), self.of_people), one(self.secret.as_ref(), subject));
            Ok(())
        })
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Binary(Some(bytes(&self.found))))
    }
    fn size(&self) -> usize {
        size_of_val(self) + self.found.iter().map(|(kind, _)| size_of_val(kind) + 64).sum::<usize>()
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }
    fn merge_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        states(values, |state| {
            self.found.merge(&read(state)?);
            Ok(())
        })
    }
}

/// Of one group whose subjects stand in several rows of the inner level: what each one's meet, kept until the end.
#[derive(Debug)]
struct Several {
    secret: Option<Secret>,
    of_people: u64,
    rows: BTreeMap<Pseudonym, BTreeSet<u64>>,
    /// What they take, by a generous estimate.
    bytes: usize,
}

/// A subject and what one of its rows meets, as a state.
const WIDTH: usize = size_of::<Pseudonym>() + size_of::<u64>();

impl Several {
    fn add(&mut self, met: &[u64], subject: &[u8]) -> Result<()> {
        let subject = subject.try_into().map_err(|_| internal_datafusion_err!("a pseudonym has 16 bytes"))?;
        let rows = self.rows.entry(subject).or_default();
        let before = rows.len();
        rows.extend(met);
        self.bytes += (rows.len() - before) * 16 + if before == 0 { 160 } else { 0 };
        Ok(())
    }
}

impl Accumulator for Several {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        rows(values, |met, subject| self.add(met, subject))
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut found = Kinds::default();
        for (subject, rows) in &self.rows {
            found.add(kind(rows.iter().copied(), self.of_people), one(self.secret.as_ref(), subject));
        }
        Ok(ScalarValue::Binary(Some(bytes(&found))))
    }
    fn size(&self) -> usize {
        size_of_val(self) + self.bytes
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let all = self.rows.iter().flat_map(|(subject, rows)| rows.iter().map(move |row| (subject, row)));
        let all = all.flat_map(|(subject, row)| subject.iter().copied().chain(row.to_le_bytes()));
        Ok(vec![ScalarValue::Binary(Some(all.collect()))])
    }
    fn merge_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        states(values, |state| {
            state.chunks(WIDTH).try_for_each(|part| {
                let (subject, met) = part.split_at_checked(size_of::<Pseudonym>()).unwrap_or((part, &[]));
                self.add(&numbers(met)?, subject)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{BinaryArray, FixedSizeBinaryArray, UInt64Array};

    use super::*;

    /// Subjects, each with what its rows meet.
    type Part<'a> = &'a [(&'a [u64], u8)];

    /// As the inner level has them.
    fn batch(part: Part<'_>) -> Vec<ArrayRef> {
        let rows = part.iter().map(|(rows, _)| rows.iter().flat_map(|row| row.to_le_bytes()).collect::<Vec<_>>()).collect::<Vec<_>>();
        let subjects = FixedSizeBinaryArray::try_from_iter(part.iter().map(|(_, subject)| [*subject; 16])).unwrap();
        vec![Arc::new(BinaryArray::from_iter_values(rows)), Arc::new(subjects)]
    }

    fn binary(value: ScalarValue) -> ArrayRef {
        let ScalarValue::Binary(Some(value)) = value else { panic!("{value:?}") };
        Arc::new(BinaryArray::from_vec(vec![&value]))
    }

    /// What is found of parts that are put together, and of all at once.
    fn counted(mut of: impl FnMut() -> Box<dyn Accumulator>, parts: &[Part<'_>]) -> [Kinds; 2] {
        let (mut all, mut together) = (of(), of());
        for part in parts {
            let mut own = of();
            own.update_batch(&batch(part)).unwrap();
            all.update_batch(&batch(part)).unwrap();
            together.merge_batch(&[binary(own.state().unwrap().remove(0))]).unwrap();
        }
        [all, together].map(|mut of| found(&binary(of.evaluate().unwrap()), 0).unwrap())
    }

    #[test]
    fn people_are_counted_by_what_their_rows_meet_each_once() {
        let secret = Some(Secret::new([5; 16]));
        let kinds = |of: &[(&[u64], &[u8])]| {
            let mut kinds = Kinds::default();
            for (rows, subjects) in of {
                subjects.iter().for_each(|subject| kinds.add(rows.to_vec(), one(secret.as_ref(), &[*subject; 16])));
            }
            kinds
        };
        let once = || Box::new(Once { secret: secret.clone(), of_people: 0b100, found: Kinds::default() }) as Box<dyn Accumulator>;
        let expected = kinds(&[(&[0], &[4]), (&[1], &[1, 2]), (&[1, 2], &[3]), (&[0b101, 0b110], &[5])]);
        let parts: [Part<'_>; 2] = [&[(&[1], 1), (&[1, 2], 3)], &[(&[0], 4), (&[1], 2), (&[0b1, 0b110], 5)]];
        assert_eq!(counted(once, &parts), [expected.clone(), expected]);
        let several = || {
            let (secret, rows) = (secret.clone(), BTreeMap::new());
            Box::new(Several { secret, of_people: 0b100, rows, bytes: 0 }) as Box<dyn Accumulator>
        };
        let expected = kinds(&[(&[0], &[4]), (&[1], &[2]), (&[1, 2], &[1]), (&[1, 2, 3], &[3]), (&[0b101, 0b110], &[5])]);
        let parts: [Part<'_>; 2] = [&[(&[1], 1), (&[3], 3), (&[0], 4), (&[1], 5)], &[(&[2], 1), (&[1], 2), (&[1, 2], 3), (&[0b110], 5)]];
        assert_eq!(counted(several, &parts), [expected.clone(), expected]);
        assert!(read(&[0; 20]).is_err() && read(&bytes(&kinds(&[(&[1], &[1])]))[..24]).is_err());
        assert!(several().merge_batch(&[Arc::new(BinaryArray::from_vec(vec![&[0_u8; 20]]))]).is_err());
    }

    /// Row by row, of parts that are put together, and of what was put together before.
    #[test]
    fn what_a_subjects_rows_meet_is_said_once_of_each_row_that_differs() {
        let rows = |of: &[u64]| Arc::new(UInt64Array::from(of.to_vec())) as ArrayRef;
        let sets = |of: &[&[u64]]| batch(&of.iter().map(|rows| (*rows, 0)).collect::<Vec<_>>()).remove(0);
        let mut subjects = Subjects::default();
        subjects.update_batch(&[rows(&[2, 1, 2, 0, 7])], &[0, 0, 0, 1, 2], None, 3).unwrap();
        let kept = BooleanArray::from(vec![true, false]);
        subjects.update_batch(&[rows(&[5, 6])], &[1, 1], Some(&kept), 3).unwrap();
        assert!(subjects.size() > 0);
        let first = subjects.evaluate(EmitTo::First(2)).unwrap();
        assert_eq!(first.to_data(), sets(&[&[1, 2], &[0, 5]]).to_data());
        subjects.merge_batch(&[sets(&[&[7], &[3, 9], &[1, 3]])], &[0, 1, 1], 2).unwrap();
        assert_eq!(subjects.state(EmitTo::All).unwrap()[0].to_data(), sets(&[&[7], &[1, 3, 9]]).to_data());
        assert_eq!(subjects.bytes, 0);
        let each = subjects.convert_to_state(&[sets(&[&[1, 2], &[4]])], None).unwrap();
        assert_eq!(each[0].to_data(), sets(&[&[1, 2], &[4]]).to_data());
        assert!(subjects.update_batch(&[Arc::new(BinaryArray::from_vec(vec![&[0_u8; 9]]))], &[0], None, 1).is_err());
    }
}
