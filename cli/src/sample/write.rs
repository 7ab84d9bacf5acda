//! Writes a dataset's files in streaming batches, so that five million people need no more memory than a hundred thousand.

use std::fs::{self, File};
use std::io::BufWriter;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use super::columns::{Files, Source};
use super::draw::{Draw, Topic};
use super::nino::{as_written, nino};
use super::person::Person;
use super::{Sample, recorded};
use crate::failure::{Failure, Result};

/// Rows of one batch.
const BATCH: usize = 65_536;
/// Rows of one Parquet row group.
const ROW_GROUP: usize = 262_144;
/// Files of a folder.
const PARTS: u64 = 4;

/// A file that takes batches.
pub(super) enum Sink {
    Parquet(Box<ArrowWriter<File>>),
    Csv(Box<arrow::csv::Writer<BufWriter<File>>>),
}

impl Sink {
    /// Creates the file and its folder; its name's end says which kind.
    pub(super) fn create(path: &Path, schema: SchemaRef) -> Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| Failure::file("created", folder, e))?;
        }
        let file = File::create(path).map_err(|e| Failure::file("created", path, e))?;
        if path.extension().is_some_and(|end| end == "csv") {
            return Ok(Self::Csv(Box::new(arrow::csv::Writer::new(BufWriter::new(file)))));
        }
        let properties = WriterProperties::builder()
            .set_compression(parquet::basic::Compression::SNAPPY)
            .set_max_row_group_row_count(Some(ROW_GROUP))
            .build();
        let writer = ArrowWriter::try_new(file, schema, Some(properties)).map_err(|e| Failure::file("written", path, e))?;
        Ok(Self::Parquet(Box::new(writer)))
    }

    pub(super) fn write(&mut self, batch: &RecordBatch, path: &Path) -> Result<()> {
        match self {
            Self::Parquet(writer) => writer.write(batch).map_err(|e| Failure::file("written", path, e)),
            Self::Csv(writer) => writer.write(batch).map_err(|e| Failure::file("written", path, e)),
        }
    }

    pub(super) fn finish(self, path: &Path) -> Result<()> {
        match self {
            Self::Parquet(writer) => writer.close().map(|_| ()).map_err(|e| Failure::file("written", path, e)),
            Self::Csv(writer) => writer.into_inner().into_inner().map(|_| ()).map_err(|e| Failure::file("written", path, e)),
        }
    }
}

/// Writes the dataset of `source` below `folder`, the department's node folder. `part` numbers the department.
pub(super) fn dataset(sample: &Sample, source: &Source, part: u64, folder: &Path) -> Result<()> {
    let path = folder.join(source.path());
    if source.files != Files::ParquetFolder {
        return file(sample, source, part, 0..sample.people, &path);
    }
    let step = sample.people.div_ceil(PARTS);
    for number in 0..PARTS {
        let people = number * step..((number + 1) * step).min(sample.people);
        file(sample, source, part, people, &path.join(format!("part-{number}.parquet")))?;
    }
    Ok(())
}

fn file(sample: &Sample, source: &Source, part: u64, indices: Range<u64>, path: &Path) -> Result<()> {
    let schema = source.schema();
    let mut sink = Sink::create(path, Arc::clone(&schema))?;
    let mut people = Vec::with_capacity(BATCH);
    let mut identifiers = Vec::with_capacity(BATCH);
    for index in indices {
        let person = Person::of(sample.seed, index, sample.people).months_ago(sample, index);
        if !recorded(sample, &person, index, part) {
            continue;
        }
        identifiers.push(identifier(sample, &person, index, part));
        people.push(person);
        if people.len() == BATCH {
            sink.write(&batch(source, &schema, &people, &identifiers)?, path)?;
            people.clear();
            identifiers.clear();
        }
    }
    sink.write(&batch(source, &schema, &people, &identifiers)?, path)?;
    sink.finish(path)
}

/// How the department wrote the person's identifier down.
pub(super) fn identifier(sample: &Sample, person: &Person, index: u64, part: u64) -> Option<String> {
    let number = nino(index);
    if person.always_recorded {
        return Some(number);
    }
    as_written(&number, &mut Draw::of(sample.seed, index, Topic::Identifier, part))
}

fn batch(source: &Source, schema: &SchemaRef, people: &[Person], identifiers: &[Option<String>]) -> Result<RecordBatch> {
    let identifiers: ArrayRef = Arc::new(identifiers.iter().map(Option::as_deref).collect::<StringArray>());
    let columns = std::iter::once(identifiers).chain(source.columns.iter().map(|column| column.array(people))).collect();
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|e| Failure::new(format!("the sample does not fit its schema: {e}")))
}

impl Source {
    /// Where the dataset lies, below the node's folder.
    pub(super) fn path(&self) -> String {
        match self.files {
            Files::Parquet => format!("data/{}.parquet", self.dataset),
            Files::ParquetFolder => format!("data/{}", self.dataset),
            Files::Csv => format!("data/{}.csv", self.dataset),
        }
    }

    /// How the files call a column: the CSV's header is in capitals.
    pub(super) fn source_name(&self, column: &str) -> String {
        if self.files == Files::Csv { column.to_ascii_uppercase() } else { column.to_owned() }
    }

    fn schema(&self) -> SchemaRef {
        let identifier = Field::new(self.source_name("nino"), DataType::Utf8, true);
        let columns = self.columns.iter().map(|c| Field::new(self.source_name(c.name), c.arrow_type(), true));
        Arc::new(Schema::new(std::iter::once(identifier).chain(columns).collect::<Vec<_>>()))
    }
}
