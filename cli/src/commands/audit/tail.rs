//! The last entries of a log, and those that come.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use concordat_audit::facts::{Asked, Facts};
use serde_json::Value;

use super::door::Doors;
use super::filter::Filter;
use super::form::{Form, printed};
use super::online;
use super::persons::Names;
use super::read::{Archives, entries};
use crate::failure::Result;
use crate::out;

/// How often a log is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Entries that are looked at together at most.
const TOGETHER: usize = 1000;

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// The folder of a gateway's or node's log; without it, the running program is asked
    #[arg(long, value_name = "FOLDER")]
    log: Option<PathBuf>,
    /// Without --log: the department whose node is asked, instead of the gateway
    #[arg(long, value_name = "DEPARTMENT", conflicts_with = "log")]
    at: Option<String>,
    #[command(flatten)]
    archives: Archives,
    #[command(flatten)]
    doors: Doors,
    #[command(flatten)]
    filter: Filter,
    /// How many of the last entries
    #[arg(long, default_value_t = 10, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    lines: u32,
    /// Go on with those that come, until interrupted
    #[arg(long)]
    follow: bool,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    output: Form,
}

pub(super) async fn run(tail: &Tail) -> Result<()> {
    if let Some(log) = &tail.log {
        return of_files(tail, log);
    }
    let door = tail.doors.one(tail.at.as_deref()).await?;
    let listed = online::list(&door, &tail.filter, tail.lines).await?;
    let read = out::more(&printed(tail.output, true, &listed.entries))?;
    if tail.follow && read {
        online::follow(&tail.doors, tail.at.as_deref(), &tail.filter, (tail.output, listed.number)).await
    } else {
        Ok(())
    }
}

fn of_files(tail: &Tail, log: &Path) -> Result<()> {
    let (mut next, mut last, mut asked, filter) = (0, VecDeque::new(), Asked::default(), tail.filter.asked());
    let names = Names::of(log);
    let mut taken = |mut entry: Value| {
        let facts = asked.complete(Facts::of(&entry));
        facts.fill(&mut entry);
        filter.takes(&facts).then_some(entry)
    };
    for entry in entries(log, &tail.archives, 0)? {
        let (index, entry) = entry?;
        next = index.saturating_add(1);
        last.extend(taken(entry).map(|entry| names.name(entry)));
        if last.len() as u64 > u64::from(tail.lines) {
            last.pop_front();
        }
    }
    let mut read = out::more(&printed(tail.output, true, last.make_contiguous()))?;
    while tail.follow && read {
        std::thread::sleep(LOOK);
        let mut come = Vec::new();
        for entry in entries(log, &tail.archives, next)?.take(TOGETHER) {
            let (index, entry) = entry?;
            next = index.saturating_add(1);
            come.extend(taken(entry));
        }
        if !come.is_empty() {
            // Somebody may have come for the first time.
            let names = Names::of(log);
            let come: Vec<_> = come.into_iter().map(|entry| names.name(entry)).collect();
            read = out::more(&printed(tail.output, tail.output == Form::Table, &come))?;
        }
    }
    Ok(())
}
