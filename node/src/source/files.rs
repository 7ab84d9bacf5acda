//! Files: which ones a configured source means, whether they changed, and how they are read.

use std::fs;
use std::io::BufReader;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::DataFusionError;
use datafusion::dataframe::DataFrame;
use datafusion::execution::options::{CsvReadOptions, ParquetReadOptions};
use datafusion::prelude::SessionContext;

use super::{Declared, SourceError, session};
use crate::config::Format;

/// One file of a source, as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceFile {
    path: PathBuf,
    pub(crate) bytes: u64,
    changed: SystemTime,
    /// Its device and number, and when anything of it last changed (seconds and nanoseconds): of the last, nobody can set the clock back.
    identity: [i64; 4],
}

/// A file, a folder (its files of the format, not its folders), or a pattern whose last part holds `*` or `?`.
#[derive(Debug, Clone)]
pub struct Files {
    /// Where.
    pub path: PathBuf,
    /// How the files are written.
    pub format: Format,
}

impl Files {
    /// The files, by name. Blocks.
    ///
    /// # Errors
    /// [`SourceError`], also when there are none.
    pub fn files(&self) -> Result<Vec<SourceFile>, SourceError> {
        let name = self.path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let mut paths = if self.path.is_dir() {
            let extension = match self.format {
                Format::Parquet => "*.parquet",
                Format::Csv => "*.csv",
            };
            matching(&self.path, extension)?
        } else if name.contains(['*', '?']) {
            matching(self.path.parent().unwrap_or(Path::new(".")), name)?
        } else {
            vec![self.path.clone()]
        };
        paths.sort();
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let failed = |e| SourceError::File(path.clone(), e);
            let path = path.canonicalize().map_err(failed)?;
            let metadata = fs::metadata(&path).map_err(failed)?;
            let identity = [metadata.dev().cast_signed(), metadata.ino().cast_signed(), metadata.ctime(), metadata.ctime_nsec()];
            files.push(SourceFile { bytes: metadata.len(), changed: metadata.modified().map_err(failed)?, identity, path });
        }
        if files.is_empty() { Err(SourceError::Nothing(self.path.clone())) } else { Ok(files) }
    }

    /// A frame over `files`. CSV columns have the types that `declared` gives for their names, else text.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn frame(&self, files: &[SourceFile], declared: Declared<'_>, partitions: usize) -> Result<DataFrame, SourceError> {
        let mut header: Option<Vec<String>> = None;
        if self.format == Format::Csv {
            for file in files {
                let failed = |e| SourceError::File(file.path.clone(), e);
                let found = csv_header(BufReader::new(fs::File::open(&file.path).map_err(failed)?))?;
                if header.get_or_insert_with(|| found.clone()) != &found {
                    return Err(SourceError::Header(file.path.clone()));
                }
            }
        }
        let urls = files.iter().map(|file| url(&file.path)).collect();
        read(&session(partitions)?, urls, self.format, header.unwrap_or_default(), declared).await
    }

    /// A frame over one of the files alone, with the columns of a frame over all of them.
    pub(crate) async fn alone(&self, context: &SessionContext, file: &SourceFile, columns: &Schema) -> Result<DataFrame, SourceError> {
        let url = url(&file.path);
        Ok(match self.format {
            Format::Parquet => context.read_parquet(url, ParquetReadOptions::default().file_extension("").schema(columns)).await?,
            Format::Csv => context.read_csv(url, csv(columns)).await?,
        })
    }
}

/// A frame over files of one format, wherever they are. CSV files have this `header`.
pub(super) async fn read(
    context: &SessionContext,
    urls: Vec<String>,
    format: Format,
    header: Vec<String>,
    declared: Declared<'_>,
) -> Result<DataFrame, SourceError> {
    Ok(match format {
        Format::Parquet => context.read_parquet(urls, ParquetReadOptions::default().file_extension("")).await?,
        Format::Csv => {
            let fields = header.into_iter().map(|name| {
                let kind = declared(&name).unwrap_or(DataType::Utf8);
                Field::new(name, kind, true)
            });
            context.read_csv(urls, csv(&Schema::new(fields.collect::<Vec<_>>()))).await?
        }
    })
}

fn csv(columns: &Schema) -> CsvReadOptions<'_> {
    let mut options = CsvReadOptions::new().has_header(true).schema(columns).file_extension("");
    options.newlines_in_values = true;
    options
}

/// When anything of `files` last changed, their names and rights too, Unix seconds.
pub(crate) fn touched(files: &[SourceFile]) -> i64 {
    files.iter().map(|file| file.identity[2]).max().unwrap_or(0)
}

/// When the newest of `files` changed, Unix seconds.
#[must_use]
pub fn freshness(files: &[SourceFile]) -> i64 {
    let newest = files.iter().map(|file| file.changed).max().unwrap_or(UNIX_EPOCH);
    newest.duration_since(UNIX_EPOCH).ok().and_then(|age| i64::try_from(age.as_secs()).ok()).unwrap_or(0)
}

fn matching(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, SourceError> {
    let failed = |e| SourceError::File(folder.to_owned(), e);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if path.is_file() && !name.starts_with('.') && wildcard(pattern.as_bytes(), name.as_bytes()) {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// Whether `text` matches `pattern`, in which `*` stands for any bytes and `?` for one.
pub(super) fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => wildcard(rest, text) || text.split_first().is_some_and(|(_, text)| wildcard(pattern, text)),
        (Some((b'?', rest)), Some((_, text))) => wildcard(rest, text),
        (Some((wanted, rest)), Some((found, text))) => wanted == found && wildcard(rest, text),
        _ => false,
    }
}

/// A `file:` URL.
fn url(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    format!("file://{}", escaped(path.as_os_str().as_bytes()))
}

/// A path within a URL in which nothing can be taken for a pattern, a query or an escape.
pub(super) fn escaped(path: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut url = String::new();
    for byte in path {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~') {
            url.push(char::from(*byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

/// The names in the header row with which `csv` begins.
pub(super) fn csv_header(csv: impl std::io::Read) -> Result<Vec<String>, SourceError> {
    let format = datafusion::arrow::csv::reader::Format::default().with_header(true);
    let (schema, _) = format.infer_schema(csv, Some(0)).map_err(DataFusionError::from)?;
    Ok(schema.fields().iter().map(|field| field.name().clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, text, matches) in [
            ("*.csv", "a.csv", true),
            ("*.csv", "a.csv.gz", false),
            ("part-?.x", "part-1.x", true),
            ("part-?.x", "part-10.x", false),
            ("a*b*c", "a1b2c", true),
        ] {
            assert_eq!(wildcard(pattern.as_bytes(), text.as_bytes()), matches, "{pattern} {text}");
        }
    }

    #[tokio::test]
    async fn odd_names_folders_and_differing_headers() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("a folder [1] 100%?#");
        fs::create_dir(&odd).unwrap();
        fs::write(odd.join("one.csv"), "id,n\nA,1\n").unwrap();
        fs::write(odd.join("two.csv"), "id,n\nB,2\n").unwrap();
        fs::write(odd.join("notes.txt"), "no").unwrap();
        let source = Files { path: odd.clone(), format: Format::Csv };
        let files = source.files().unwrap();
        let rows = source.frame(&files, &|_| None, 2).await.unwrap().collect().await.unwrap();
        assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
        assert!(freshness(&files) > 1_600_000_000);
        fs::write(odd.join("three.csv"), "n,id\n2,C\n").unwrap();
        let files = source.files().unwrap();
        assert!(matches!(source.frame(&files, &|_| None, 2).await, Err(SourceError::Header(_))));
        assert!(matches!(Files { path: odd.join("*.parquet"), format: Format::Parquet }.files(), Err(SourceError::Nothing(_))));
    }
}
