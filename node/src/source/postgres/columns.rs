//! PostgreSQL's types: which Arrow type holds each exactly, and by which SQL and which bytes it comes.
//!
//! | PostgreSQL | column type of a dataset | how |
//! |---|---|---|
//! | `smallint` `integer` `bigint`, `numeric(p,0)` with p ≤ 18 | integer, number | as it is |
//! | `real` `double precision` | number | as it is; NaN and infinities are null |
//! | `numeric(p,s)` with p ≤ 15 and s from 0 | number | the 64-bit number that is written with the same digits; NaN is null |
//! | `boolean` | boolean | as it is |
//! | `date` | date | as it is; infinite fails |
//! | `text` `varchar` `name` `"char"` `citext`, enums | text | as it is |
//! | `char(n)` | text | without the padding, which means nothing in PostgreSQL either |
//! | `uuid` `json` `jsonb` | text | PostgreSQL's own text form |
//! | `timestamp with time zone` | text | RFC 3339 in UTC, `2026-01-31T09:00:00.5Z`; infinite, or a year beyond 0–9999, fails |
//! | `timestamp` | text | the same without the `Z` |
//! | `bytea` | text | lower-case hexadecimal |
//! | arrays of booleans, numbers, dates, uuids, enums and text | text | JSON |
//! | domains | as their base type | |
//!
//! Everything else (`interval`, `money`, `xml`, ranges, composite types, longer `numeric`s and those without a precision, …) is refused
//! by name; a `query` can cast it.
//! An identifier is a column that is read as text or as an integer.

use std::fmt::Write as _;

use datafusion::arrow::datatypes::DataType;

use super::session::{Answer, Described, Session};
use super::wire::WireError;
use crate::source::{CHANGED, SourceColumn, sql};

/// How a column's values come over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Boolean,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// A decimal, read as the nearest number.
    Numeric,
    /// A decimal without a fraction, read as an integer.
    Whole,
    Date,
    Timestamp,
    /// A timestamp with time zone.
    Instant,
    /// Either, as the microseconds since 2000 in which it is sent.
    Microseconds {
        /// Whether it has a time zone.
        zoned: bool,
    },
    Text,
}

impl Form {
    pub(super) fn read_as(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Int2 | Self::Int4 | Self::Int8 | Self::Whole | Self::Microseconds { .. } => DataType::Int64,
            Self::Float4 | Self::Float8 | Self::Numeric => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Timestamp | Self::Instant | Self::Text => DataType::Utf8,
        }
    }
}

/// A column that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) form: Form,
    /// What stands in the list of the `SELECT`.
    pub(super) select: String,
    /// What stands in conditions, where the text form is not made on this side.
    pub(super) compare: Option<String>,
}

/// What the catalogue says of a type.
struct Type<'a> {
    oid: u32,
    name: &'a str,
    kind: &'a str,
    element: Option<(u32, &'a str)>,
}

/// The columns of a table or query: all, and those that can be read.
pub(super) async fn columns(session: &mut Session, from: &str) -> Result<(Vec<SourceColumn>, Vec<Column>), WireError> {
    let described = session.ask(&format!("SELECT * FROM {from} LIMIT 0")).await?.columns;
    let mut values = String::new();
    for (place, column) in described.iter().enumerate() {
        let separator = if place == 0 { "" } else { ", " };
        let _ = write!(values, "{separator}({place}, {}::pg_catalog.oid, {})", column.oid, column.modifier);
    }
    if values.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let types = session
        .ask(&format!(
            "SELECT pg_catalog.format_type(v.oid, v.modifier), t.typname, t.typtype, e.oid, e.typtype \
             FROM (VALUES {values}) AS v(place, oid, modifier) JOIN pg_catalog.pg_type t ON t.oid = v.oid \
             LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A' ORDER BY v.place"
        ))
        .await?;
    typed(&described, &types).ok_or(WireError::Protocol("the catalogue does not know a column's type"))
}

/// The column that changes with a row, as a number. `None` where it is no whole number and no time of milliseconds at least: of two changes
/// within a second one would be missed.
pub(super) fn changed(name: &str, all: &[SourceColumn], readable: &[Column]) -> Option<Column> {
    let native = &all.iter().find(|column| column.name == name)?.native;
    let coarse = ["(0)", "(1)", "(2)"].iter().any(|precision| native.contains(precision));
    let select = sql::name(name);
    let (form, compare) = match readable.iter().find(|column| column.name == name)?.form {
        form @ (Form::Int2 | Form::Int4 | Form::Int8 | Form::Whole) => (form, Some(select.clone())),
        form @ (Form::Timestamp | Form::Instant) if !coarse => (Form::Microseconds { zoned: form == Form::Instant }, None),
        _ => return None,
    };
    Some(Column { name: CHANGED.into(), form, select, compare })
}

fn typed(described: &[Described], types: &Answer) -> Option<(Vec<SourceColumn>, Vec<Column>)> {
    if described.len() != types.rows.len() {
        return None;
    }
    let (mut all, mut readable) = (Vec::new(), Vec::new());
    for (column, row) in described.iter().zip(&types.rows) {
        let [Some(native), Some(name), Some(kind), element, element_kind] = row.as_slice() else { return None };
        let element = element.as_ref().zip(element_kind.as_deref()).map(|(oid, kind)| Some((oid.parse().ok()?, kind)));
        let element = match element {
            None => None,
            Some(known) => Some(known?),
        };
        let known = self::column(column, &Type { oid: column.oid, name, kind, element });
        all.push(SourceColumn { name: column.name.clone(), native: native.clone(), read_as: known.as_ref().map(|c| c.form.read_as()) });
        readable.extend(known);
    }
    Some((all, readable))
}

fn column(described: &Described, found: &Type<'_>) -> Option<Column> {
    let name = sql::name(&described.name);
    let (form, select, compare) = match (found.kind, found.oid) {
        ("b", 16) => (Form::Boolean, name.clone(), Some(name)),
        ("b", 21) => (Form::Int2, name.clone(), Some(name)),
        ("b", 23) => (Form::Int4, name.clone(), Some(name)),
        ("b", 20) => (Form::Int8, name.clone(), Some(name)),
        ("b", 700) => (Form::Float4, name.clone(), Some(name)),
        ("b", 701) => (Form::Float8, name.clone(), Some(name)),
        ("b", 1700) => (numeric(described.modifier)?, name.clone(), Some(name)),
        ("b", 1082) => (Form::Date, name.clone(), Some(name)),
        ("b", 1114) => (Form::Timestamp, name, None),
        ("b", 1184) => (Form::Instant, name, None),
        // text, varchar, char(n), name, "char", uuid, json, jsonb
        ("b", 25 | 1043 | 1042 | 19 | 18 | 2950 | 114 | 3802) | ("e", _) => text(format!("{name}::pg_catalog.text")),
        ("b", _) if found.name == "citext" => text(format!("{name}::pg_catalog.text")),
        ("b", 17) => text(format!("pg_catalog.encode({name}, 'hex')")),
        ("b", _) if found.element.is_some_and(is_json_exact) => text(format!("pg_catalog.to_json({name})::pg_catalog.text")),
        _ => return None,
    };
    Some(Column { name: described.name.clone(), form, select, compare })
}

fn text(sql: String) -> (Form, String, Option<String>) {
    (Form::Text, sql.clone(), Some(sql))
}

/// How `numeric` of this modifier is read: whole numbers of at most 18 digits as integers, decimals of at most 15, which 64-bit numbers
/// tell apart, as numbers. Nothing else has one form that holds it.
fn numeric(modifier: i32) -> Option<Form> {
    let bits = modifier.checked_sub(4).filter(|bits| *bits >= 0)?;
    // The scale is signed, in 11 bits.
    match (bits >> 16, bits & 0x7ff) {
        (..=18, 0) => Some(Form::Whole),
        (..=15, 1..=0x3ff) => Some(Form::Numeric),
        _ => None,
    }
}

/// Whether JSON holds a value of an array's element exactly.
fn is_json_exact((oid, kind): (u32, &str)) -> bool {
    kind == "e" || (kind == "b" && matches!(oid, 16 | 20 | 21 | 23 | 25 | 1043 | 700 | 701 | 1700 | 1082 | 2950))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(oid: u32, name: &str, kind: &str, element: Option<(u32, &str)>, modifier: i32) -> Option<(Form, String)> {
        let described = Described { name: "a \"b\"".into(), oid, modifier };
        column(&described, &Type { oid, name, kind, element }).map(|column| (column.form, column.select))
    }

    #[test]
    fn numerics_that_64_bits_tell_apart_are_integers_and_numbers_and_no_others_are_read() {
        let numeric = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7ff)) + 4;
        for (modifier, form) in [
            (-1, None),
            (numeric(10, 0), Some(Form::Whole)),
            (numeric(18, 0), Some(Form::Whole)),
            (numeric(19, 0), None),
            (numeric(10, 2), Some(Form::Numeric)),
            (numeric(15, 15), Some(Form::Numeric)),
            (numeric(16, 2), None),
            (numeric(5, -2), None),
            (i32::MIN, None),
        ] {
            assert_eq!(found(1700, "numeric", "b", None, modifier).map(|(form, _)| form), form, "{modifier}");
        }
    }

    #[test]
    fn names_are_quoted_and_unknown_types_have_no_form() {
        assert_eq!(found(25, "text", "b", None, -1).unwrap().1, "\"a \"\"b\"\"\"::pg_catalog.text");
        assert_eq!(found(50_000, "mood", "e", None, -1).unwrap().0, Form::Text);
        assert_eq!(found(50_001, "citext", "b", None, -1).unwrap().0, Form::Text);
        assert_eq!(found(1007, "_int4", "b", Some((23, "b")), -1).unwrap().1, "pg_catalog.to_json(\"a \"\"b\"\"\")::pg_catalog.text");
        for (oid, name, kind, element) in [
            (1186, "interval", "b", None),
            (790, "money", "b", None),
            (142, "xml", "b", None),
            (869, "inet", "b", None),
            (3904, "int4range", "r", None),
            (60_000, "address", "c", None),
            (1187, "_interval", "b", Some((1186, "b"))),
            (60_001, "_address", "b", Some((60_000, "c"))),
            (50_002, "geometry", "b", None),
        ] {
            assert_eq!(found(oid, name, kind, element, -1), None, "{name}");
        }
    }
}
