//! How an answer is handed over: the options that every command with an answer has, and the handing over.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use clap::{Args, ValueEnum as _};
use concordat_audit::Promise;
use serde_json::Value;

use crate::client::{Answer, Matching, Reading};
use crate::failure::{Failure, Result};
use crate::launch::interrupted;
use crate::out;
use crate::output::{Format, Head, Sink, Writing};
use crate::progress::Progress;

/// The environment's say in `--output`.
const OUTPUT: &str = "CONCORDAT_OUTPUT";

/// Options of commands that hand over an answer.
#[derive(Debug, Clone, Args)]
pub(crate) struct Delivery {
    /// How to write the answer [default: what the name of --to says, else CONCORDAT_OUTPUT, else the mission's, else table]
    #[arg(long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// Write it to a file, which bears its name only when it is whole and is readable by you only
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Show progress even where standard error is no terminal
    #[arg(long, conflicts_with = "quiet")]
    progress: bool,
    /// Show neither progress nor notes; failures are still told
    #[arg(long, short)]
    quiet: bool,
}

impl Delivery {
    /// The format to write, where `saved` is the mission's own.
    ///
    /// # Errors
    /// When a terminal would get what it cannot show, or the environment names no format.
    pub(crate) fn format(&self, saved: Option<Format>) -> Result<Format> {
        let by_name = self.to.as_deref().and_then(Format::of_file);
        let format = match self.output.or(by_name) {
            Some(format) => format,
            None => match from_environment()?.or(saved) {
                Some(format) => format,
                None if self.to.as_deref().is_some_and(|path| path.extension().is_some()) => {
                    return Err(Failure::usage("the file's name says no format that is written here")
                        .advice("end it in .txt, .json, .csv, .arrow or .parquet, or say --output"));
                }
                None => Format::Table,
            },
        };
        if format.is_binary() && self.to.is_none() && std::io::stdout().is_terminal() {
            return Err(Failure::usage(format!("{} is not for a terminal", format.name())).advice("name a file with --to, or redirect"));
        }
        Ok(format)
    }

    /// The progress to show.
    pub(crate) fn watch(&self) -> Arc<Progress> {
        Arc::new(Progress::new(self.progress, self.quiet))
    }

    /// Writes an answer as it arrives, and says on standard error what belongs beside it.
    ///
    /// # Errors
    /// That the answer broke off, is not the promised one, or could not be written; then there is no file, and standard output says that
    /// it is not whole.
    pub(crate) async fn deliver(
        &self,
        view: Option<&str>,
        reading: Reading,
        promise: Option<&Promise>,
        format: Format,
        progress: &Progress,
    ) -> Result<()> {
        let notes = match &self.to {
            // Cut off, the unfinished file is removed; standard output needs no such care.
            Some(path) => {
                let sink = Sink::file(path)?;
                let not_written = |e: Failure| e.and(format!("{} was not written", path.display()));
                tokio::select! {
                    done = self.write(view, reading, promise, format, sink, progress) => done.map_err(not_written)?,
                    () = interrupted() => return Err(not_written(Failure::interrupted())),
                }
            }
            None => {
                let not_whole = |e: Failure| e.and("what stands on standard output is not whole: do not use it");
                let written = self.write(view, reading, promise, format, Sink::stdout(), progress).await;
                written.map_err(|e| if format == Format::Table { e } else { not_whole(e) })?
            }
        };
        if !self.quiet {
            notes.iter().for_each(|note| out::progress(note));
        }
        Ok(())
    }

    /// Writes what is whole already, and says `notes` on standard error.
    ///
    /// # Errors
    /// That it could not be written; then there is no file.
    pub(crate) fn hand_over(&self, view: Option<&str>, whole: &Answer, format: Format, notes: &[String]) -> Result<()> {
        let to = self.to.as_deref().map_or_else(|| Ok(Sink::stdout()), Sink::file)?;
        let gone = to.gone();
        let mut writing = Writing::start(format, &self.head(view, &whole.schema, &whole.summary), to)?;
        whole.batches.iter().try_for_each(|batch| writing.write(batch.clone()))?;
        let own = writing.finish(&whole.summary)?;
        if !self.quiet && !gone.yes() {
            notes.iter().chain(&own).for_each(|note| out::progress(note));
        }
        Ok(())
    }

    /// Writes a text that is whole already.
    ///
    /// # Errors
    /// That it could not be written; then there is no file.
    pub(crate) fn hand_over_text(&self, text: &str) -> Result<()> {
        let mut to = self.to.as_deref().map_or_else(|| Ok(Sink::stdout()), Sink::file)?;
        to.write_all(text.as_bytes()).map_err(|e| Failure::new(format!("the output cannot be written: {e}")))?;
        to.finish()
    }

    /// Whether text may be coloured.
    pub(crate) fn colour(&self) -> bool {
        self.to.is_none() && out::colour()
    }

    fn head<'a>(&self, view: Option<&'a str>, schema: &'a SchemaRef, summary: &'a Value) -> Head<'a> {
        let arrow_file = self.to.as_deref().is_some_and(|path| path.extension().is_some_and(|e| e == "arrow"));
        Head { view, schema, summary, colour: self.colour(), arrow_file }
    }

    async fn write(
        &self,
        view: Option<&str>,
        mut reading: Reading,
        promise: Option<&Promise>,
        format: Format,
        to: Sink,
        progress: &Progress,
    ) -> Result<Vec<String>> {
        let (schema, summary, gone) = (reading.schema().clone(), reading.summary(), to.gone());
        let on_terminal = self.to.is_none() && std::io::stdout().is_terminal();
        if on_terminal && format != Format::Table {
            // Two writers on one terminal would overwrite each other.
            progress.clear();
        }
        let mut writing = Writing::start(format, &self.head(view, &schema, &summary), to)?;
        let answer = promise.and_then(|promise| promise.answer.as_ref());
        let mut matching = answer.map(|answer| Matching::begin(answer, &schema)).transpose()?;
        while let Some(batch) = reading.next().await? {
            matching.iter_mut().try_for_each(|matching| matching.add(&batch))?;
            writing.write(batch)?;
            if gone.yes() {
                return Ok(Vec::new());
            }
        }
        matching.map_or(Ok(()), Matching::finish)?;
        progress.done();
        let notes = writing.finish(&reading.summary())?;
        Ok(if gone.yes() { Vec::new() } else { notes })
    }
}

fn from_environment() -> Result<Option<Format>> {
    match std::env::var(OUTPUT) {
        Ok(name) if !name.is_empty() => named(&name, OUTPUT).map(Some),
        _ => Ok(None),
    }
}

/// The format of that name, which stands in `place`.
pub(crate) fn named(name: &str, place: &str) -> Result<Format> {
    let known = Format::value_variants().iter().map(|format| format.name()).collect::<Vec<_>>().join(", ");
    Format::from_str(name, false)
        .map_err(|_| Failure::usage(format!("{place} names the output '{name}', which is none")).advice(format!("choose one of {known}")))
}
