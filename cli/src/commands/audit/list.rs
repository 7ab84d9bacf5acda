//! `concordat audit list`: entries of one log.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

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

#[derive(Debug, Args)]
pub(crate) struct List {
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
    /// The most entries
    #[arg(long, default_value_t = 1000, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    output: Form,
}

pub(super) async fn run(list: &List) -> Result<()> {
    let (entries, more) = match &list.log {
        Some(log) => of_files(list, log)?,
        None => {
            let door = list.doors.one(list.at.as_deref()).await?;
            let online::Listed { entries, more, .. } = online::list(&door, &list.filter, list.limit).await?;
            (entries, more)
        }
    };
    out::result(&printed(list.output, true, &entries))?;
    if more {
        out::progress("earlier entries are left out: --limit");
    }
    Ok(())
}

/// The last entries of a folder that are asked for, and whether there are earlier ones.
fn of_files(list: &List, log: &Path) -> Result<(Vec<Value>, bool)> {
    let (mut asked, mut found, mut left_out, filter) = (Asked::default(), VecDeque::new(), false, list.filter.asked());
    let names = Names::of(log);
    for entry in entries(log, &list.archives, 0)? {
        let (_, mut entry) = entry?;
        let facts = asked.complete(Facts::of(&entry));
        if filter.takes(&facts) {
            facts.fill(&mut entry);
            found.push_back(names.name(entry));
        }
        if found.len() as u64 > u64::from(list.limit) {
            found.pop_front();
            left_out = true;
        }
    }
    Ok((found.into(), left_out))
}
