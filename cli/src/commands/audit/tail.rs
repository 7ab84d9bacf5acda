//! The last entries of a log, and those that come.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::list::{Form, printed};
use super::persons::Names;
use super::read::{Archives, entries};
use crate::failure::Result;
use crate::out;

/// How often a log is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Entries that are printed together at most.
const TOGETHER: usize = 1000;

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// The folder of a gateway's or node's log
    #[arg(long, value_name = "FOLDER")]
    log: PathBuf,
    #[command(flatten)]
    archives: Archives,
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

pub(super) fn run(tail: &Tail) -> Result<()> {
    let (mut next, mut last, names) = (0, VecDeque::new(), Names::of(&tail.log));
    for entry in entries(&tail.log, &tail.archives, 0)? {
        let (index, entry) = entry?;
        next = index.saturating_add(1);
        last.push_back(names.name(entry));
        if last.len() as u64 > u64::from(tail.lines) {
            last.pop_front();
        }
    }
    let mut read = out::more(&printed(tail.output, true, last.make_contiguous()))?;
    while tail.follow && read {
        std::thread::sleep(LOOK);
        let mut come = Vec::new();
        for entry in entries(&tail.log, &tail.archives, next)?.take(TOGETHER) {
            let (index, entry) = entry?;
            next = index.saturating_add(1);
            come.push(entry);
        }
        if !come.is_empty() {
            // Somebody may have come for the first time.
            let names = Names::of(&tail.log);
            let come: Vec<_> = come.into_iter().map(|entry| names.name(entry)).collect();
            read = out::more(&printed(tail.output, tail.output == Form::Table, &come))?;
        }
    }
    Ok(())
}
