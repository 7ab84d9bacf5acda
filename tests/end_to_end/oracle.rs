//! The oracle: plain DataFusion over the departments' own files. It shares no code with nodes or gateway: its own reading of the
//! identifiers, its own reading of the consent records, `subject` being the identifier itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, BooleanArray, RecordBatch, StringArray};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema};
use concordat::client::Answer;
use concordat::federation::Layout;
use datafusion::datasource::MemTable;
use datafusion::prelude::{CsvReadOptions, DataFrame, ParquetReadOptions, SessionContext};

pub struct Oracle {
    session: SessionContext,
    /// Rows that were left out, over all departments: without any, policy was not tested.
    pub left_out: usize,
}

/// Records that were made after a department's file was imported: department, event, identifiers. For `opportunity`.
pub type Later<'a> = &'a [(&'a str, &'a str, Vec<String>)];

impl Oracle {
    /// For `opportunity.measure`.
    pub async fn over(layout: &Layout) -> Self {
        Self::for_purposes(layout, &["opportunity", "opportunity.measure"]).await
    }

    /// For a purpose and its parents.
    pub async fn for_purposes(layout: &Layout, purposes: &[&str]) -> Self {
        Self::of(layout, purposes, &[], false).await
    }

    /// For `opportunity.measure`, after what was recorded later.
    pub async fn after(layout: &Layout, later: Later<'_>) -> Self {
        Self::of(layout, &["opportunity", "opportunity.measure"], later, false).await
    }

    /// Where each department's withdrawals and objections reach all the others' data.
    pub async fn reached(layout: &Layout, later: Later<'_>) -> Self {
        Self::of(layout, &["opportunity", "opportunity.measure"], later, true).await
    }

    async fn of(layout: &Layout, purposes: &[&str], later: Later<'_>, reach: bool) -> Self {
        let session = SessionContext::new();
        let mut left_out = 0;
        let mut all: BTreeMap<String, Choices> = BTreeMap::new();
        for department in layout.departments().unwrap() {
            let folder = layout.node(&department);
            let mut choices = choices(&session, &folder, &config(&folder), purposes).await;
            for (_, event, identifiers) in later.iter().filter(|(of, ..)| *of == department) {
                identifiers.iter().for_each(|identifier| choices.record(identifier.clone(), event));
            }
            all.insert(department, choices);
        }
        for department in layout.departments().unwrap() {
            let folder = layout.node(&department);
            let config = config(&folder);
            let allowed = |subject: &str| {
                let elsewhere = || all.iter().any(|(other, choices)| *other != department && choices.reach(&department, subject));
                all[&department].allow(&department, subject) && !(reach && elsewhere())
            };
            session.sql(&format!("CREATE SCHEMA {department}")).await.unwrap();
            for dataset in config["dataset"].as_array().unwrap() {
                let raw = read(&session, &folder.join(text(dataset, "source")), text(dataset, "format")).await.collect().await.unwrap();
                let mut kept = Vec::new();
                for batch in raw {
                    let batch = eligible(&batch, dataset, &allowed);
                    left_out += batch.1;
                    kept.push(batch.0);
                }
                let table = MemTable::try_new(kept[0].schema(), vec![kept]).unwrap();
                session.register_table(format!("{department}.{}", text(dataset, "name")), Arc::new(table)).unwrap();
            }
        }
        Self { session, left_out }
    }

    pub async fn query(&self, sql: &str) -> Vec<RecordBatch> {
        self.session.sql(sql).await.unwrap().collect().await.unwrap()
    }
}

fn config(folder: &Path) -> toml::Value {
    toml::from_str(&std::fs::read_to_string(folder.join("node.toml")).unwrap()).unwrap()
}

fn text<'a>(value: &'a toml::Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

async fn read(session: &SessionContext, path: &Path, format: &str) -> DataFrame {
    let path = path.to_str().unwrap();
    match format {
        "csv" => session.read_csv(path, CsvReadOptions::new()).await.unwrap(),
        _ => session.read_parquet(path, ParquetReadOptions::default()).await.unwrap(),
    }
}

/// The rows whose subject is valid and allowed, under the agreed column names, and how many were left out.
fn eligible(batch: &RecordBatch, dataset: &toml::Value, allow: &dyn Fn(&str) -> bool) -> (RecordBatch, usize) {
    let (mut fields, mut columns, mut keep): (_, Vec<ArrayRef>, _) = (Vec::new(), Vec::new(), vec![true; batch.num_rows()]);
    for (name, key) in [("subject", "identifier"), ("linked_subject", "linked")] {
        let Some(identifier) = dataset.get(key) else { continue };
        let raw = cast(batch.column_by_name(text(identifier, "column")).unwrap(), &DataType::Utf8).unwrap();
        let normal = if text(identifier, "type") == "company_number" { company_number } else { nino };
        let subjects: Vec<Option<String>> = raw.as_string::<i32>().iter().map(|raw| raw.and_then(normal).filter(|s| allow(s))).collect();
        keep.iter_mut().zip(&subjects).for_each(|(keep, subject)| *keep &= subject.is_some());
        fields.push(Field::new(name, DataType::Utf8, true));
        columns.push(Arc::new(StringArray::from(subjects)));
    }
    for (name, column) in dataset["columns"].as_table().unwrap() {
        let source = column.get("source").and_then(|s| s.as_str()).unwrap_or(name);
        let array = batch.column_by_name(source).unwrap();
        fields.push(Field::new(name, array.data_type().clone(), true));
        columns.push(array.clone());
    }
    let all = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let keep = BooleanArray::from(keep);
    let kept = filter_record_batch(&all, &keep).unwrap();
    let left_out = all.num_rows() - kept.num_rows();
    (kept, left_out)
}

/// A Companies House number of digits alone, or nothing.
fn company_number(raw: &str) -> Option<String> {
    (1..=8).contains(&raw.len()).then(|| format!("{raw:0>8}")).filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
}

/// A National Insurance number as HMRC describes it, or nothing.
fn nino(raw: &str) -> Option<String> {
    let text: String = raw.chars().filter(|c| *c != ' ' && *c != '-').collect::<String>().to_uppercase();
    let letters: Vec<char> = text.chars().collect();
    let ok = letters.len() == 9
        && text.is_ascii()
        && letters[..2].iter().all(|c| c.is_alphabetic() && !"DFIQUV".contains(*c))
        && letters[1] != 'O'
        && !["BG", "GB", "KN", "NK", "NT", "TN", "ZZ"].contains(&&text[..2])
        && letters[2..8].iter().all(char::is_ascii_digit)
        && "ABCD".contains(letters[8]);
    ok.then_some(text)
}

/// What people chose for a purpose and its parents, the later record counting.
#[derive(Default)]
struct Choices {
    agreed: BTreeSet<String>,
    withdrawn: BTreeSet<String>,
    objected: BTreeSet<String>,
}

impl Choices {
    fn allow(&self, department: &str, subject: &str) -> bool {
        // The sample's agreement: DHSC's data on consent, everybody else's on a power that honours objections.
        if department == "dhsc" { self.agreed.contains(subject) } else { !self.objected.contains(subject) }
    }

    /// Whether what was recorded here keeps the subject from the data of another department: on consent, a withdrawal too.
    fn reach(&self, department: &str, subject: &str) -> bool {
        self.objected.contains(subject) || department == "dhsc" && self.withdrawn.contains(subject)
    }

    fn record(&mut self, subject: String, event: &str) {
        self.agreed.remove(&subject);
        match event {
            "given" => {
                self.objected.remove(&subject);
                self.withdrawn.remove(&subject);
                self.agreed.insert(subject);
            }
            "objected" => drop(self.objected.insert(subject)),
            "withdrawn" => drop(self.withdrawn.insert(subject)),
            other => panic!("an event '{other}'"),
        }
    }
}

async fn choices(session: &SessionContext, folder: &Path, config: &toml::Value, relevant: &[&str]) -> Choices {
    let mut choices = Choices::default();
    let Some(file) = config.get("consent").and_then(|c| c.get("import")).and_then(|f| f.as_str()) else { return choices };
    let format = if file.ends_with(".csv") { "csv" } else { "parquet" };
    for batch in read(session, &folder.join(file), format).await.collect().await.unwrap() {
        let column = |name: &str| cast(batch.column_by_name(name).unwrap(), &DataType::Utf8).unwrap();
        let (identifiers, purposes, events) = (column("identifier"), column("purpose"), column("event"));
        for row in 0..batch.num_rows() {
            let value = |array: &ArrayRef| array.as_string::<i32>().value(row).to_owned();
            if !relevant.contains(&value(&purposes).as_str()) {
                continue;
            }
            let Some(subject) = nino(&value(&identifiers)) else { continue };
            choices.record(subject, &value(&events));
        }
    }
    choices
}

/// One value, comparable across engines.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Null,
    Number(f64),
    Text(String),
}

impl Cell {
    pub fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0),
            _ => self == other,
        }
    }
}

/// Rows by their first `keys` columns.
pub fn rows(batches: &[RecordBatch], keys: usize) -> BTreeMap<String, Vec<(String, Cell)>> {
    let mut all = BTreeMap::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells: Vec<(String, Cell)> =
                batch.schema().fields().iter().zip(batch.columns()).map(|(f, c)| (f.name().clone(), cell(c, row))).collect();
            let key = format!("{:?}", cells[..keys].iter().map(|(_, c)| c).collect::<Vec<_>>());
            assert!(all.insert(key, cells).is_none(), "two rows with the same key");
        }
    }
    all
}

fn cell(column: &ArrayRef, row: usize) -> Cell {
    if column.is_null(row) {
        return Cell::Null;
    }
    let one = column.slice(row, 1);
    if one.data_type().is_numeric() {
        return Cell::Number(cast(&one, &DataType::Float64).unwrap().as_primitive::<arrow::datatypes::Float64Type>().value(0));
    }
    Cell::Text(cast(&one, &DataType::Utf8).unwrap().as_string::<i32>().value(0).to_owned())
}

/// Compares an answer with the oracle's. The first `keys` columns identify a row; a column `n` counts its distinct subjects.
/// A row of at least ten subjects must be there and agree in every cell that is not named as withheld; a smaller one must be
/// withheld or absent. Returns the number of cells that were compared.
pub fn agree(answer: &Answer, oracle: &[RecordBatch], keys: usize) -> usize {
    let (answered, expected) = (rows(&answer.batches, keys), rows(oracle, keys));
    let mut compared = 0;
    for (key, row) in &expected {
        let Some((_, Cell::Number(n))) = row.iter().find(|(name, _)| name == "n") else { panic!("no column n") };
        match answered.get(key) {
            None => assert!(*n < 10.0, "the row {key} of {n} subjects is missing"),
            Some(own) => {
                let reason = own.iter().find(|(name, _)| name == "withheld").map(|(_, c)| c.clone());
                let reason = if let Some(Cell::Text(reason)) = reason { reason } else { String::new() };
                let names = reason.split(':').next().unwrap_or_default().split(", ").map(str::to_owned).collect::<BTreeSet<_>>();
                for ((name, own), (_, theirs)) in own.iter().zip(row).skip(keys) {
                    if *n < 10.0 || names.contains(name) {
                        assert_eq!(*own, Cell::Null, "{name} of {key} rests on few subjects");
                        assert!(names.contains(name), "{name} of {key} is null without a reason");
                        assert!(name != "n" || *n < 10.0, "n of {key} is withheld although it is {n}");
                    } else {
                        assert!(own.agrees(theirs), "{name} of {key}: {own:?}, but the oracle has {theirs:?}");
                        compared += 1;
                    }
                }
            }
        }
    }
    for (key, row) in &answered {
        let shown = row.iter().skip(keys).filter(|(name, cell)| name != "withheld" && *cell != Cell::Null).count();
        assert!(expected.contains_key(key) || shown == 0, "the oracle has no row {key}");
    }
    compared
}
