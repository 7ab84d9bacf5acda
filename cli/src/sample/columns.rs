//! The five departments' datasets: each column's name, meaning and values, and where in a [`Person`] they come from. The
//! files, the nodes' configurations and the agreements all follow this one table.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, StringArray};
use arrow::datatypes::DataType;
use concordat_policy::{Classification, ColumnType};

use super::person::{AGE_BANDS, BANDS, COHORTS, CONDITIONALITY, Person, RISKS, SECTORS, regions};

/// How a column's values follow from a person.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    Text(fn(&Person) -> Option<&'static str>),
    Integer(fn(&Person) -> Option<i64>),
    Number(fn(&Person) -> Option<f64>),
    Boolean(fn(&Person) -> Option<bool>),
    Date(fn(&Person) -> Option<i32>),
}

/// One column of one dataset.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) classification: Classification,
    pub(super) values: Option<Vec<String>>,
    /// The thresholds that conditions may compare it with.
    pub(super) bands: Option<&'static [&'static str]>,
    pub(super) origin: Origin,
}

/// One department and its one dataset.
pub(super) struct Source {
    pub(super) department: &'static str,
    pub(super) department_title: &'static str,
    pub(super) dataset: &'static str,
    pub(super) title: &'static str,
    pub(super) files: Files,
    pub(super) columns: Vec<Column>,
}

/// How a dataset lies on disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    /// One Parquet file.
    Parquet,
    /// A folder of several.
    ParquetFolder,
    /// One CSV file, its header in capitals.
    Csv,
}

impl Column {
    pub(super) fn kind(&self) -> ColumnType {
        match self.origin {
            Origin::Text(_) => ColumnType::Text,
            Origin::Integer(_) => ColumnType::Integer,
            Origin::Number(_) => ColumnType::Number,
            Origin::Boolean(_) => ColumnType::Boolean,
            Origin::Date(_) => ColumnType::Date,
        }
    }

    pub(super) fn arrow_type(&self) -> DataType {
        match self.origin {
            Origin::Text(_) => DataType::Utf8,
            Origin::Integer(_) => DataType::Int64,
            Origin::Number(_) => DataType::Float64,
            Origin::Boolean(_) => DataType::Boolean,
            Origin::Date(_) => DataType::Date32,
        }
    }

    pub(super) fn array(&self, people: &[Person]) -> ArrayRef {
        match self.origin {
            Origin::Text(f) => Arc::new(people.iter().map(f).collect::<StringArray>()),
            Origin::Integer(f) => Arc::new(people.iter().map(f).collect::<Int64Array>()),
            Origin::Number(f) => Arc::new(people.iter().map(f).collect::<Float64Array>()),
            Origin::Boolean(f) => Arc::new(people.iter().map(f).collect::<BooleanArray>()),
            Origin::Date(f) => Arc::new(people.iter().map(f).collect::<Date32Array>()),
        }
    }
}

fn column(name: &'static str, title: &'static str, origin: Origin) -> Column {
    Column { name, title, classification: Classification::Personal, values: None, bands: None, origin }
}

fn code<T: ToString>(name: &'static str, title: &'static str, values: impl IntoIterator<Item = T>, origin: Origin) -> Column {
    Column { values: Some(values.into_iter().map(|v| v.to_string()).collect()), ..column(name, title, origin) }
}

/// A column that conditions may compare with the thresholds of its bands.
fn banded(column: Column, bands: &'static [&'static str]) -> Column {
    Column { bands: Some(bands), ..column }
}

fn special(mut column: Column) -> Column {
    column.classification = Classification::Special;
    column
}

/// Bands of Attainment 8 scores.
const SCORES: &[&str] = &["20", "30", "40", "50", "60", "70"];
/// Years in which claims started.
const YEARS: &[&str] = &["2022-01-01", "2023-01-01", "2024-01-01", "2025-01-01", "2026-01-01"];

/// All five.
pub(super) fn sources() -> [Source; 5] {
    [attainment(), claims(), health(), apprenticeships(), connectivity()]
}

fn attainment() -> Source {
    Source {
        department: "dfe",
        department_title: "Department for Education",
        dataset: "attainment",
        title: "Attainment at the end of school",
        files: Files::ParquetFolder,
        columns: vec![
            code("region", "Region of home in the last year of school", regions(), Origin::Text(|p| Some(p.region))),
            column("free_school_meals", "Was eligible for free school meals", Origin::Boolean(|p| Some(p.free_school_meals))),
            code("disadvantage_band", "Disadvantage of the home area, in fifths", BANDS, Origin::Text(|p| Some(p.disadvantage_band))),
            banded(column("attainment8", "Attainment 8 score, on today's scale", Origin::Number(|p| p.attainment8)), SCORES),
            code("cohort_year", "Year of finishing school", COHORTS, Origin::Integer(|p| Some(p.cohort_year))),
        ],
    }
}

fn claims() -> Source {
    Source {
        department: "dwp",
        department_title: "Department for Work and Pensions",
        dataset: "claims",
        title: "Universal Credit claims",
        files: Files::Parquet,
        columns: vec![
            column("claiming", "Claims Universal Credit today", Origin::Boolean(|p| Some(p.claiming))),
            column("months_claiming", "Months of the present claim", Origin::Integer(|p| Some(p.months_claiming))),
            banded(column("claim_started", "First day of the present claim", Origin::Date(|p| p.claim_started)), YEARS),
            special(code("conditionality", "What the claim asks of the person", CONDITIONALITY, Origin::Text(|p| Some(p.conditionality)))),
        ],
    }
}

fn health() -> Source {
    Source {
        department: "dhsc",
        department_title: "Department of Health and Social Care",
        dataset: "health",
        title: "Wellbeing survey and NHS Health Check",
        files: Files::Parquet,
        columns: vec![
            special(column("wellbeing_score", "Life satisfaction, 0 to 10", Origin::Number(|p| p.wellbeing))),
            special(code("cardiovascular_risk", "Risk of a heart attack or stroke in ten years", RISKS, Origin::Text(|p| Some(p.risk)))),
            special(column("risk_identified", "The risk was found by a check", Origin::Boolean(|p| Some(p.risk_identified)))),
            special(column("supported", "Gets support to lower the risk", Origin::Boolean(|p| Some(p.supported)))),
            special(column("heart_attack", "Had a heart attack in the last five years", Origin::Boolean(|p| Some(p.heart_attack)))),
            code("age_band", "Age, in bands", AGE_BANDS, Origin::Text(|p| Some(p.age_band()))),
        ],
    }
}

fn apprenticeships() -> Source {
    Source {
        department: "dbt",
        department_title: "Department for Business and Trade",
        dataset: "apprenticeships",
        title: "Apprenticeship starts and completions",
        files: Files::Csv,
        columns: vec![
            column("started", "Has started an apprenticeship", Origin::Boolean(|p| Some(p.apprentice))),
            column("completed", "Has completed it", Origin::Boolean(|p| Some(p.completed))),
            code("sector", "Sector of the employer", SECTORS, Origin::Text(|p| Some(p.sector))),
            column("level", "Level of the apprenticeship, 2 to 7", Origin::Integer(|p| p.level)),
        ],
    }
}

fn connectivity() -> Source {
    Source {
        department: "dsit",
        department_title: "Department for Science, Innovation and Technology",
        dataset: "connectivity",
        title: "Home broadband",
        files: Files::Parquet,
        columns: vec![
            column("gigabit", "Has a gigabit connection at home", Origin::Boolean(|p| Some(p.gigabit))),
            column("download_mbps", "Download speed, Mbit/s", Origin::Number(|p| Some(p.download_mbps))),
            column("affordability_tariff", "Is on a social tariff", Origin::Boolean(|p| Some(p.affordability_tariff))),
        ],
    }
}
