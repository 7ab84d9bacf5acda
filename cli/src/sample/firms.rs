//! Generated firms, and who works for them: what three departments record of a strong economy.
//!
//! | dataset | a row is about | its department |
//! |---|---|---|
//! | `dbt.loans` | a firm | every firm, and whether a public loan supports it |
//! | `dsit.markets` | a firm | four in five firms: the furthest market it sells to |
//! | `dwp.employers` | a person and a firm | a link dataset: who works where |
//!
//! There is a firm for every twenty people. The effects are plausible, not estimated: a supported firm reaches further markets.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use concordat_policy::{Classification, ColumnType};

use super::Sample;
use super::draw::{Draw, Topic};
use super::nino::nino;
use super::person::{Person, SECTORS, regions};
use super::write::Sink;
use crate::failure::{Failure, Result};
use crate::federation::describe::{Column, Dataset, Format, Identifier, Linked};

pub(super) const LOANS: &str = "loans";
pub(super) const MARKETS: &str = "markets";
pub(super) const EMPLOYERS: &str = "employers";

/// The furthest market that a firm sells to, from the nearest.
const REACHED: [&str; 4] = ["local", "United Kingdom", "Europe", "rest of the world"];
/// People for each firm.
const PEOPLE_OF_ONE: u64 = 20;
/// The share of people who have an employer.
const EMPLOYED: f64 = 0.7;
/// Rows of one batch.
const BATCH: u64 = 65_536;
/// Coprime to the number of numbers, so that multiplying scatters without collision.
const SCATTER: u64 = 7_919;
/// Numbers of companies registered in England and Wales: eight digits.
const NUMBERS: u64 = 15_000_000;

/// One firm.
struct Firm {
    region: &'static str,
    sector: &'static str,
    jobs: i64,
    supported: bool,
    loan_thousands: Option<f64>,
    recorded: bool,
    market: &'static str,
    abroad_share: Option<f64>,
}

impl Firm {
    fn of(seed: u64, index: u64) -> Self {
        let mut draw = Draw::of(seed, index, Topic::Firm, 0);
        let regions: Vec<&'static str> = regions().filter(|region| *region != "Isles of Scilly").collect();
        let region = draw.pick(&regions);
        let sector = draw.pick(SECTORS.split_first().map_or(&[], |(_, sectors)| sectors));
        let jobs = 2 + i64::try_from(draw.below(60)).unwrap_or(0);
        let supported = draw.chance(0.25);
        let loan_thousands = supported.then(|| (20.0 + 480.0 * draw.unit()).round());
        let further = draw.unit() + if supported { 0.18 } else { 0.0 };
        let [local, home, europe, world] = REACHED;
        let market = match further {
            f if f > 0.95 => world,
            f if f > 0.75 => europe,
            f if f > 0.40 => home,
            _ => local,
        };
        let abroad = market == europe || market == world;
        let abroad_share = abroad.then(|| (5.0 + 60.0 * draw.unit()).round());
        Self { region, sector, jobs, supported, loan_thousands, recorded: draw.chance(0.8), market, abroad_share }
    }

    /// As the sample's firm was recorded then: who sells abroad now did not always.
    fn of_sample(sample: &Sample, index: u64) -> Self {
        let firm = Self::of(sample.seed, index);
        let since = Draw::of(sample.seed, index, Topic::FirmsPast, 0).below(60);
        let [_, home, ..] = REACHED;
        if firm.abroad_share.is_some() && since < u64::from(sample.months_ago) {
            Self { market: home, abroad_share: None, ..firm }
        } else {
            firm
        }
    }
}

/// The number of the firm `index`, of valid form; that a living company bears it cannot be excluded, and means nothing.
fn company_number(index: u64) -> String {
    format!("{:08}", (index % NUMBERS + 1) * SCATTER % NUMBERS)
}

/// The datasets beside those about people, by department.
pub(super) fn datasets(department: &str) -> Vec<Dataset> {
    let firms = |name: &str, title: &str, columns: Vec<Column>| dataset(name, title, "company_number", None, columns);
    match department {
        "dbt" => vec![firms(LOANS, "Firms, and public loans to them", loans())],
        "dsit" => vec![firms(MARKETS, "Markets that firms reach", markets())],
        "dwp" => {
            let linked = Linked { column: "company_number".into(), identifier: Identifier::of("company_number") };
            vec![dataset(EMPLOYERS, "Who works for which firm", "nino", Some(linked), Vec::new())]
        }
        _ => Vec::new(),
    }
}

fn dataset(name: &str, title: &str, identifier: &str, linked: Option<Linked>, columns: Vec<Column>) -> Dataset {
    Dataset {
        name: name.into(),
        title: format!("{title} (generated: about nobody real)"),
        source: path(name),
        format: Format::Parquet,
        identifier_column: identifier.into(),
        identifier: Identifier::of(identifier),
        linked,
        columns,
    }
}

fn path(dataset: &str) -> String {
    format!("data/{dataset}.parquet")
}

fn column(name: &str, kind: ColumnType, title: &str) -> Column {
    let title = Some(title.to_owned());
    Column { name: name.into(), kind, classification: Classification::Public, title, values: None, bands: None, source: None }
}

fn code(name: &str, title: &str, values: impl IntoIterator<Item = &'static str>) -> Column {
    Column { values: Some(values.into_iter().map(str::to_owned).collect()), ..column(name, ColumnType::Text, title) }
}

fn loans() -> Vec<Column> {
    vec![
        code("region", "Region of the registered office", regions()),
        code("sector", "Sector", SECTORS.into_iter().skip(1)),
        column("jobs", ColumnType::Integer, "People it employs, by its own account"),
        column("supported", ColumnType::Boolean, "Has had a public loan in the last five years"),
        column("loan_thousands", ColumnType::Number, "Its loan, in thousand pounds"),
    ]
}

fn markets() -> Vec<Column> {
    vec![
        code("market", "The furthest market it sells to", REACHED),
        column("abroad_share", ColumnType::Number, "Share of its turnover from abroad, per cent"),
    ]
}

/// Writes the department's datasets beside those about people.
pub(super) fn write(sample: &Sample, department: &str, folder: &Path) -> Result<()> {
    let firms = (sample.people / PEOPLE_OF_ONE).max(1);
    match department {
        "dbt" => batches(&folder.join(path(LOANS)), firms, |index| Some((index, Firm::of_sample(sample, index))), loans_of),
        "dsit" => {
            let recorded = |index| Some((index, Firm::of_sample(sample, index))).filter(|(_, firm)| firm.recorded);
            batches(&folder.join(path(MARKETS)), firms, recorded, markets_of)
        }
        "dwp" => {
            let employed = |index| {
                let person = Person::of(sample.seed, index, sample.people);
                let mut draw = Draw::of(sample.seed, index, Topic::Employer, 0);
                (!person.always_recorded && draw.chance(EMPLOYED)).then(|| (index, draw.below(firms)))
            };
            batches(&folder.join(path(EMPLOYERS)), sample.people, employed, employers_of)
        }
        _ => Ok(()),
    }
}

/// Writes a file of the rows that `row` gives for each index below `until`.
fn batches<R>(path: &Path, until: u64, row: impl Fn(u64) -> Option<R>, batch: fn(&[R]) -> Result<RecordBatch>) -> Result<()> {
    let mut sink = Sink::create(path, batch(&[])?.schema())?;
    for start in (0..until).step_by(usize::try_from(BATCH).unwrap_or(usize::MAX)) {
        let rows: Vec<R> = (start..until.min(start + BATCH)).filter_map(&row).collect();
        sink.write(&batch(&rows)?, path)?;
    }
    sink.finish(path)
}

fn loans_of(firms: &[(u64, Firm)]) -> Result<RecordBatch> {
    let of = firms.iter().map(|(_, firm)| firm);
    table(vec![
        ("company_number", numbers(firms.iter().map(|(index, _)| *index))),
        ("region", Arc::new(of.clone().map(|firm| Some(firm.region)).collect::<StringArray>())),
        ("sector", Arc::new(of.clone().map(|firm| Some(firm.sector)).collect::<StringArray>())),
        ("jobs", Arc::new(of.clone().map(|firm| Some(firm.jobs)).collect::<Int64Array>())),
        ("supported", Arc::new(of.clone().map(|firm| Some(firm.supported)).collect::<BooleanArray>())),
        ("loan_thousands", Arc::new(of.map(|firm| firm.loan_thousands).collect::<Float64Array>())),
    ])
}

fn markets_of(firms: &[(u64, Firm)]) -> Result<RecordBatch> {
    let of = firms.iter().map(|(_, firm)| firm);
    table(vec![
        ("company_number", numbers(firms.iter().map(|(index, _)| *index))),
        ("market", Arc::new(of.clone().map(|firm| Some(firm.market)).collect::<StringArray>())),
        ("abroad_share", Arc::new(of.map(|firm| firm.abroad_share).collect::<Float64Array>())),
    ])
}

fn employers_of(pairs: &[(u64, u64)]) -> Result<RecordBatch> {
    let people: ArrayRef = Arc::new(pairs.iter().map(|(person, _)| Some(nino(*person))).collect::<StringArray>());
    table(vec![("nino", people), ("company_number", numbers(pairs.iter().map(|(_, firm)| *firm)))])
}

fn numbers(firms: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(firms.map(|index| Some(company_number(index))).collect::<StringArray>())
}

fn table(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    let fields: Vec<Field> = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array)| array).collect())
        .map_err(|e| Failure::new(format!("the sample's firms do not fit their schema: {e}")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use concordat_policy::IdentifierType;

    use super::*;

    #[test]
    fn numbers_are_valid_and_distinct() {
        let mut out = String::new();
        let numbers: BTreeSet<String> = (0..20_000).map(company_number).collect();
        assert_eq!(numbers.len(), 20_000);
        assert!(numbers.iter().all(|number| IdentifierType::CompanyNumber.normalise(number, &mut out) && out == *number));
    }

    #[test]
    fn supported_firms_reach_further() {
        let firms: Vec<Firm> = (0..5_000).map(|index| Firm::of(1, index)).collect();
        let abroad = |supported: bool| {
            let of: Vec<&Firm> = firms.iter().filter(|firm| firm.supported == supported).collect();
            of.iter().filter(|firm| firm.abroad_share.is_some()).count() as f64 / of.len() as f64
        };
        assert!(abroad(true) > abroad(false) + 0.1);
    }
}
