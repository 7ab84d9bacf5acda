//! Typed predicates: protobuf from the gateway, which a node takes from nobody else but must not trust either.

use concordat_policy::Predicate;
use concordat_policy::predicate::{MAX_DEPTH, MAX_LIST, MAX_NODES};
use concordat_policy::{Comparison, Value};
use concordat_proto::predicate::{parse, to_wire};
use concordat_proto::v1;
use prost::Message as _;

use crate::memory::within;

/// The target.
pub fn predicate(data: &[u8]) {
    // Two bytes on the wire are an empty part of a list, and such a part has a fixed size in memory.
    let limit = 512 * data.len() + (64 << 10);
    let Ok(wire) = within(limit, || v1::Predicate::decode(data)) else { return };
    if let Ok(predicate) = within(limit, || parse(&wire)) {
        holds(&predicate);
    }
}

/// What holds of every predicate that was accepted.
pub(crate) fn holds(predicate: &Predicate) {
    let mut nodes = 0;
    assert!(depth(predicate, &mut nodes) <= MAX_DEPTH);
    assert!(nodes <= MAX_NODES);
    assert!(predicate.columns().len() <= nodes);
    let wire = to_wire(predicate);
    let bytes = wire.encode_to_vec();
    assert_eq!(v1::Predicate::decode(bytes.as_slice()).as_ref(), Ok(&wire));
    assert_eq!(parse(&wire).as_ref(), Ok(predicate), "a predicate is read again as another one");
}

fn depth(predicate: &Predicate, nodes: &mut usize) -> usize {
    *nodes += 1;
    match predicate {
        Predicate::And(parts) | Predicate::Or(parts) => 1 + parts.iter().map(|part| depth(part, nodes)).max().unwrap_or(0),
        Predicate::Not(part) => 1 + depth(part, nodes),
        Predicate::In { values, .. } => {
            assert!(values.len() <= MAX_LIST);
            assert!(values.iter().all(|value| !matches!(value, Value::Number(n) if n.is_nan())));
            1
        }
        Predicate::Compare { value, .. } => {
            assert!(!matches!(value, Value::Number(n) if n.is_nan()));
            1
        }
        Predicate::IsNull { .. } | Predicate::IsTrue { .. } => 1,
    }
}

/// One of each kind, and the deepest.
pub(crate) fn samples() -> Vec<Predicate> {
    let compare = |value| Predicate::Compare { column: "a".into(), comparison: Comparison::GreaterOrEqual, value };
    let day = chrono::NaiveDate::from_ymd_opt(1961, 2, 3).unwrap();
    let values = vec![
        Value::Text("Ynys Môn".into()),
        Value::Integer(i64::MIN),
        Value::Number(-0.0),
        Value::Boolean(true),
        Value::Date(day),
        Value::Date(chrono::NaiveDate::MIN),
        Value::Date(chrono::NaiveDate::MAX),
    ];
    let mut all: Vec<Predicate> = values.iter().cloned().map(compare).collect();
    all.push(Predicate::In { column: "b".into(), values });
    all.push(Predicate::IsNull { column: "c".into() });
    all.push(Predicate::IsTrue { column: String::new() });
    let mixed = Predicate::And(vec![Predicate::Or(all.clone()), Predicate::Not(Box::new(Predicate::Or(Vec::new())))]);
    let deep = (0..MAX_DEPTH - 1).fold(Predicate::IsTrue { column: "d".into() }, |part, _| Predicate::Not(Box::new(part)));
    all.extend([mixed, deep]);
    all
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    samples().iter().map(|predicate| to_wire(predicate).encode_to_vec()).collect()
}
