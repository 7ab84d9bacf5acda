//! The aggregate that counts a group's people by which of their row's conditions they meet (`concordat_protect::kinds`): all that the
//! conditions leave over, between each other and together, is in this one count. It stands beside those of `contributions.rs`, above the
//! inner level of `summarise/levels.rs`, where a row has several conditions.
//!
//! ```text
//! kinds(met UInt64, subject) -> Binary     met: bit n where the subject meets condition n; of each kind the bits, how many, their keys
//! ```

use std::collections::BTreeMap;
use std::fmt::Debug;

use concordat_protect::kinds::{Kinds, People};
use concordat_protect::noise::{Secret, record_key};
use datafusion::arrow::array::{Array, ArrayRef, AsArray as _};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, UInt64Type};
use datafusion::common::{Result, ScalarValue, internal_datafusion_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Expr, ExprFunctionExt as _, Signature, Volatility};

/// A pseudonym.
type Pseudonym = [u8; 16];

/// What one kind takes: its bits, how many are of it, and the sum of their keys.
const WIDTH: usize = 24;

/// The aggregate, of the rows where `among` holds; `several`: a subject may stand in several rows, and meets what any of them does.
pub(super) fn kinds(met: Expr, subject: Expr, among: Expr, secret: Option<Secret>, several: bool) -> Result<Expr> {
    let function = AggregateUDF::from(Counted { signature: Signature::any(2, Volatility::Immutable), secret, several });
    function.call(vec![met, subject]).filter(among).build()
}

/// What the aggregate found for the group of `row`.
pub(super) fn found(column: &dyn Array, row: usize) -> Result<Kinds> {
    let column = column.as_binary_opt::<i32>().ok_or_else(|| internal_datafusion_err!("kinds of another type"))?;
    if column.is_null(row) { Ok(Kinds::default()) } else { read(column.value(row)) }
}

/// As the aggregate puts it out.
pub(super) fn bytes(kinds: &Kinds) -> Vec<u8> {
    kinds.iter().flat_map(|(kind, people)| [kind, people.number, people.keys]).flat_map(u64::to_le_bytes).collect()
}

fn read(bytes: &[u8]) -> Result<Kinds> {
    let mut kinds = Kinds::default();
    for part in bytes.chunks(WIDTH) {
        let mut numbers = part.chunks(8).map(|number| number.try_into().map(u64::from_le_bytes));
        let mut next = || numbers.next().and_then(Result::ok).ok_or_else(|| internal_datafusion_err!("kinds of another shape"));
        let kind = next()?;
        kinds.add(kind, People { number: next()?, keys: next()? });
    }
    Ok(kinds)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Counted {
    signature: Signature,
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
        let secret = self.secret.clone();
        Ok(if self.several {
            Box::new(Several { secret, met: BTreeMap::new() })
        } else {
            Box::new(Once { secret, found: Kinds::default() })
        })
    }
}

/// Somebody who meets these conditions.
fn one(secret: Option<&Secret>, subject: &[u8]) -> People {
    People { number: 1, keys: secret.map_or(0, |secret| record_key(secret, subject)) }
}

/// Calls `each` with what every row's subject meets.
fn rows(values: &[ArrayRef], mut each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    let [met, subject] = values else { return Err(internal_datafusion_err!("kinds of two columns")) };
    let met = met.as_primitive_opt::<UInt64Type>().ok_or_else(|| internal_datafusion_err!("conditions that are no bits"))?;
    let subject = subject.as_fixed_size_binary_opt().ok_or_else(|| internal_datafusion_err!("a subject that is no pseudonym"))?;
    (0..met.len()).filter(|row| met.is_valid(*row) && subject.is_valid(*row)).try_for_each(|row| each(met.value(row), subject.value(row)))
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
    found: Kinds,
}

impl Accumulator for Once {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        rows(values, |met, subject| {
            self.found.add(met, one(self.secret.as_ref(), subject));
            Ok(())
        })
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Binary(Some(bytes(&self.found))))
    }
    fn size(&self) -> usize {
        size_of_val(self) + self.found.iter().count() * 48
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

/// Of one group whose subjects stand in several rows: what each one meets, kept until the end.
#[derive(Debug)]
struct Several {
    secret: Option<Secret>,
    met: BTreeMap<Pseudonym, u64>,
}

impl Several {
    fn add(&mut self, met: u64, subject: &[u8]) -> Result<()> {
        let subject = subject.try_into().map_err(|_| internal_datafusion_err!("a pseudonym has 16 bytes"))?;
        *self.met.entry(subject).or_default() |= met;
        Ok(())
    }
}

impl Accumulator for Several {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        rows(values, |met, subject| self.add(met, subject))
    }
    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut found = Kinds::default();
        self.met.iter().for_each(|(subject, met)| found.add(*met, one(self.secret.as_ref(), subject)));
        Ok(ScalarValue::Binary(Some(bytes(&found))))
    }
    fn size(&self) -> usize {
        size_of_val(self) + self.met.len() * 48
    }
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let all = self.met.iter().flat_map(|(subject, met)| subject.iter().copied().chain(met.to_le_bytes()));
        Ok(vec![ScalarValue::Binary(Some(all.collect()))])
    }
    fn merge_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        states(values, |state| {
            state.chunks(WIDTH).try_for_each(|part| {
                let (subject, met) = part.split_at_checked(size_of::<Pseudonym>()).unwrap_or((part, &[]));
                let met = met.try_into().map_err(|_| internal_datafusion_err!("conditions of another size"))?;
                self.add(u64::from_le_bytes(met), subject)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{BinaryArray, FixedSizeBinaryArray, UInt64Array};

    use super::*;

    fn batch(rows: &[(u64, u8)]) -> Vec<ArrayRef> {
        let subjects = FixedSizeBinaryArray::try_from_iter(rows.iter().map(|(_, subject)| [*subject; 16])).unwrap();
        vec![Arc::new(rows.iter().map(|(met, _)| *met).collect::<UInt64Array>()), Arc::new(subjects)]
    }

    fn binary(value: ScalarValue) -> ArrayRef {
        let ScalarValue::Binary(Some(value)) = value else { panic!("{value:?}") };
        Arc::new(BinaryArray::from_vec(vec![&value]))
    }

    /// What is found of parts that are put together, and of all at once.
    fn counted(mut of: impl FnMut() -> Box<dyn Accumulator>, parts: &[&[(u64, u8)]]) -> [Kinds; 2] {
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
    fn people_are_counted_by_what_they_meet_each_once() {
        let secret = Some(Secret::new([5; 16]));
        let kinds = |of: &[(u64, &[u8])]| {
            let mut kinds = Kinds::default();
            of.iter()
                .for_each(|(kind, subjects)| subjects.iter().for_each(|subject| kinds.add(*kind, one(secret.as_ref(), &[*subject; 16]))));
            kinds
        };
        let once = || Box::new(Once { secret: secret.clone(), found: Kinds::default() }) as Box<dyn Accumulator>;
        let expected = kinds(&[(0, &[4]), (1, &[1, 2]), (3, &[3])]);
        assert_eq!(counted(once, &[&[(1, 1), (3, 3)], &[(0, 4), (1, 2)]]), [expected.clone(), expected]);
        let several = || Box::new(Several { secret: secret.clone(), met: BTreeMap::new() }) as Box<dyn Accumulator>;
        let expected = kinds(&[(0, &[4]), (1, &[2]), (3, &[1, 3])]);
        assert_eq!(counted(several, &[&[(1, 1), (3, 3), (0, 4)], &[(2, 1), (1, 2), (1, 3)]]), [expected.clone(), expected]);
        assert!(read(&[0; 20]).is_err());
        assert!(several().merge_batch(&[Arc::new(BinaryArray::from_vec(vec![&[0_u8; 20]]))]).is_err());
    }
}
