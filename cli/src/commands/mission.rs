//! `concordat mission`: what missions are to change, snapshots of it, and how it stands.
//!
//! The objects are the estate's (`estate/missions/*.toml`); snapshots are asked of the gateway as by any caller, as the mission's service
//! identity and for the outcome's purpose, and kept in a store of one's own.

mod compare;
mod history;
mod impact;
mod objects;
mod pivot;
mod reuse;
mod rows;
mod schedule;
mod status;
mod take;
mod verify;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use concordat_audit::note::VerifierKey;
use concordat_gateway::estate::Estate;
use concordat_mission::{Mission as Objects, Snapshot, SqliteStore, StoreError};
use concordat_policy::Name;

pub(crate) use self::compare::Groups;
pub(crate) use self::history::History;
pub(crate) use self::pivot::{Decision, decide};
pub(crate) use self::schedule::{catch_up, of_the_past};
pub(crate) use self::status::{board, of};
use self::verify::log_key;
use super::Output;
use super::audit::used::own_key;
use super::target::Gateway;
use crate::failure::{Failure, Result};
use crate::federation::Layout;
use crate::federation::layout::create_private;
use crate::{out, run};

#[derive(Debug, Subcommand)]
pub(crate) enum Mission {
    /// Write a draft of a mission's outcomes and outputs, with every field explained
    #[command(
        after_help = "Example:\n  concordat mission new opportunity && $EDITOR concordat-demo/estate/missions/opportunity.toml && concordat mission check"
    )]
    New(objects::New),
    /// Check every mission's file, by itself and against purposes, agreements, departments and views
    Check(objects::Check),
    /// List missions and their outcomes
    List(objects::List),
    /// Show a mission in plain words
    Show(objects::Show),
    /// Ask for an outcome now, and keep the answer
    #[command(after_help = "\
Examples:
  concordat mission snapshot opportunity
  concordat mission snapshot opportunity --outcome fewer-on-benefits
  concordat mission snapshot opportunity --period 2027-03-01        (missed, and the departments' data is still of it)
  concordat mission snapshot opportunity --outcome fewer-on-benefits --supersedes 3 --because \"DWP's file of May lacked a region\"

Asks the gateway for the outcome's view, as the mission's service identity and for the outcome's purpose: judged, protected, logged and
counted against quotas like any question. What is kept is what was answered: each cell with its status, the log's receipt, digests of
agreements, versions of consent ledgers, who is missing. Nothing that is kept ever changes; --supersedes keeps a corrected one beside it.")]
    Snapshot(take::SnapshotCommand),
    /// Take snapshots as they fall due, until Ctrl-C
    #[command(after_help = "\
Examples:
  concordat mission run                (all missions)
  concordat mission run opportunity --once

Takes each outcome's snapshot in its period (`every` in the mission's file), and tries again every ten minutes where that fails. A period
that ended without one is reported as missed: nobody can ask a department for data as it was then. Only where its data is still of the
period does `mission snapshot --period` catch it up.")]
    Run(schedule::Run),
    /// Show how outcomes stand: verdict, progress, trend, freshness, what the headline hides
    #[command(after_help = "\
Examples:
  concordat mission status
  concordat mission status opportunity --output json

The rule: an outcome is on track where its value, whatever it is between the bounds that rounding and noise leave, is on the straight path
from baseline to target or beyond; off track where it is for certain more than a tenth of the whole way behind; not enough data where it
can be either, where the newest headline is withheld, or its oldest source older than `fresh_for_days` (but for those that the outcome
calls `standing`); else at risk. A snapshot is of the day of its newest source.")]
    Status(status::Status),
    /// Compare groups with an output and without it, before and after
    #[command(after_help = "\
Example:
  concordat mission compare opportunity --outcome fewer-on-benefits --by region --began 2027-01-01 \\
    --with London --with 'North East' --with 'South West'

From snapshots alone: how much more the measure changed with the output than without, in an interval that holds what rounding leaves and
chance; whether both sides changed alike before; and what the comparison cannot show. Refused where it would mislead.")]
    Compare(compare::Compare),
    /// Record that an output was stopped or changed, with the evidence as it stands
    #[command(after_help = "\
Examples:
  concordat mission pivot opportunity travel-passes --stopped --on 2027-07-01 --because \"most passes went where few need them\"
  concordat mission pivot opportunity mentors --changed --on 2027-09-01 --because \"twice a month from now on\" \\
    --outcome fewer-on-benefits --by region --with London --with 'North East' --with 'South West' --began 2027-01-01

Keeps the numbers of the snapshots looked at, what the comparison says now, and how far the history goes. Nothing of it ever changes.")]
    Pivot(pivot::PivotCommand),
    /// List what was decided of outputs, with the evidence as it stood
    Pivots(pivot::Pivots),
    /// Show which datasets and views are used by whom, and where departments publish the same
    Reuse(reuse::ReuseCommand),
    /// Show what would be lost if an agreement ended
    #[command(after_help = "Example:\n  concordat mission impact opportunity --from 2027-10-01")]
    Impact(impact::ImpactCommand),
    /// Verify the history: its chain of digests, each answer's rows, and the gateway log's receipt of each
    #[command(after_help = "\
Examples:
  concordat mission verify
  concordat mission verify --head 24:9f…c1 --log-key \"$(cat concordat-demo/gateway/log/log.vkey)\"

That the newest snapshots or pivots were cut off shows only with --head and --pivot-head: number and digest as `mission verify`, `status` or
a report told them.")]
    Verify(verify::Verify),
}

/// Where the objects and the snapshots lie.
#[derive(Debug, Clone, Args)]
pub(crate) struct Kept {
    /// The estate's folder, instead of the one in --folder
    #[arg(long, env = "CONCORDAT_ESTATE", value_name = "FOLDER")]
    estate: Option<PathBuf>,
    /// The file of snapshots, instead of missions/snapshots.sqlite in --folder
    #[arg(long, env = "CONCORDAT_SNAPSHOTS", value_name = "FILE")]
    store: Option<PathBuf>,
    /// The key of the gateway's log: each receipt must be by it. In a trial's folder it is that of the gateway there
    #[arg(long, env = "CONCORDAT_LOG_KEY", value_name = "VKEY", value_parser = log_key)]
    log_key: Option<VerifierKey>,
}

/// The same, for commands that ask nobody.
#[derive(Debug, Clone, Args)]
pub(crate) struct Offline {
    /// The federation's folder
    #[arg(long, env = "CONCORDAT_FOLDER", default_value = super::DEFAULT_FOLDER, value_name = "FOLDER")]
    folder: PathBuf,
    #[command(flatten)]
    kept: Kept,
}

/// The estate and the missions in it.
pub(crate) struct Known {
    estate: Estate,
    /// Those of whose files nothing is wrong.
    missions: Vec<Objects>,
    /// Those that name what the estate does not have any more: of them only what was measured is told.
    unsound: Vec<Objects>,
    /// How many files are wrong.
    wrong: usize,
    /// How many of them are agreements: what these cover cannot be told.
    agreements_left_out: usize,
    /// The key of the gateway's log, where it is known.
    log_key: Option<VerifierKey>,
}

impl Mission {
    pub(crate) async fn run(self) -> miette::Result<()> {
        match self {
            Self::New(command) => command.run(),
            Self::Check(command) => command.run(),
            Self::List(command) => command.run(),
            Self::Show(command) => command.run(),
            Self::Snapshot(command) => command.run().await,
            Self::Run(command) => command.run().await,
            Self::Status(command) => command.run(),
            Self::Compare(command) => command.run(),
            Self::Pivot(command) => command.run(),
            Self::Pivots(command) => command.run(),
            Self::Reuse(command) => command.run(),
            Self::Impact(command) => command.run(),
            Self::Verify(command) => command.run(),
        }
    }
}

impl Kept {
    /// In a federation's folder.
    pub(crate) fn default_in_folder() -> Self {
        Self { estate: None, store: None, log_key: None }
    }

    fn estate(&self, layout: &Layout) -> PathBuf {
        self.estate.clone().unwrap_or_else(|| layout.estate())
    }

    /// Reads the estate.
    pub(crate) fn known(&self, layout: &Layout) -> miette::Result<Known> {
        let (estate, objects) = run::estate(&self.estate(layout), &layout.gateway().join("state"))?;
        // What is wrong with one file is told, and the matter of its own mission.
        objects.wrong.iter().for_each(|report| out::progress(&format!("{report:?}")));
        let (wrong, agreements_left_out) = (objects.wrong.len(), objects.agreements_left_out);
        let (missions, unsound, log_key) = (objects.sound, objects.unsound, self.log_key(layout)?);
        Ok(Known { estate, missions, unsound, wrong, agreements_left_out, log_key })
    }

    /// The key that is given; else that of the gateway whose folder this is.
    fn log_key(&self, layout: &Layout) -> Result<Option<VerifierKey>> {
        let log = layout.gateway().join("log");
        match &self.log_key {
            Some(key) => Ok(Some(key.clone())),
            None if log.join("log.vkey").exists() => own_key(&log).map(Some),
            None => Ok(None),
        }
    }

    /// Opens the store for adding.
    pub(crate) fn store(&self, layout: &Layout) -> Result<SqliteStore> {
        let path = self.path(layout);
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
            create_private(folder)?;
        }
        SqliteStore::open(&path).map_err(damaged)
    }

    /// Opens it for reading; `None` where there is none yet.
    fn read(&self, layout: &Layout) -> Result<Option<SqliteStore>> {
        SqliteStore::read(&self.path(layout)).map_err(damaged)
    }

    fn path(&self, layout: &Layout) -> PathBuf {
        self.store.clone().unwrap_or_else(|| layout.snapshots())
    }
}

impl Offline {
    fn layout(&self) -> Layout {
        Layout::new(&self.folder)
    }

    /// The federation's folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The key of the gateway's log, where one is given.
    pub(crate) fn log_key(&self) -> Option<&VerifierKey> {
        self.kept.log_key.as_ref()
    }

    /// Every snapshot that there is, of a history that was verified; none where there is no store yet.
    pub(crate) fn snapshots(&self, known: &Known) -> Result<Vec<Snapshot>> {
        let store = self.kept.read(&self.layout())?;
        Ok(store.map(|store| known.verified(&store)).transpose()?.unwrap_or_default().snapshots)
    }

    /// The history, which must be there.
    pub(crate) fn history(&self, log_key: Option<&VerifierKey>) -> Result<History> {
        let layout = self.layout();
        let store = self.kept.read(&layout)?.ok_or_else(|| {
            Failure::new(format!("there are no snapshots in {}", self.kept.path(&layout).display()))
                .advice("name the file with --store; `concordat mission snapshot` makes it")
        })?;
        History::verified(&store, log_key)
    }

    pub(crate) fn known(&self) -> miette::Result<Known> {
        self.kept.known(&self.layout())
    }
}

impl Known {
    /// The history, verified by the key of the gateway's log where that is known; else it is said that it is not.
    fn verified(&self, store: &SqliteStore) -> Result<History> {
        let history = History::verified(store, self.log_key.as_ref())?;
        if self.log_key.is_none() && !history.snapshots.is_empty() {
            out::progress("the receipts of snapshots are not verified by any key of the gateway's log: --log-key names it");
        }
        Ok(history)
    }

    /// That every agreement of the estate could be read.
    ///
    /// # Errors
    /// Else; which could not, and why, was told before.
    pub(crate) fn whole(&self) -> Result<()> {
        match self.agreements_left_out {
            0 => Ok(()),
            some => Err(Failure::new(format!("{some} file(s) of agreements/ are wrong: what is agreed cannot be told"))
                .advice("the report above says what")),
        }
    }

    /// What the estate says besides.
    pub(crate) fn estate(&self) -> &Estate {
        &self.estate
    }

    /// The missions that are named; all where none is.
    pub(crate) fn named(&self, names: &[Name]) -> Result<Vec<&Objects>> {
        if names.is_empty() {
            return Ok(self.missions.iter().collect());
        }
        names.iter().map(|name| self.mission(name)).collect()
    }

    /// The same, and those that lack what they name.
    pub(crate) fn shown(&self, names: &[Name]) -> Result<Vec<&Objects>> {
        let unsound = |name: &Name| self.unsound.iter().find(|mission| mission.id == *name);
        if names.is_empty() {
            return Ok(self.missions.iter().chain(&self.unsound).collect());
        }
        names.iter().map(|name| unsound(name).map_or_else(|| self.mission(name), Ok)).collect()
    }

    fn mission(&self, name: &Name) -> Result<&Objects> {
        self.missions.iter().find(|mission| mission.id == *name).ok_or_else(|| {
            if self.unsound.iter().any(|mission| mission.id == *name) {
                return Failure::new(format!("the file of the mission '{name}' names what the estate does not have"))
                    .advice("the report above says what; `status` and `publish` tell what was measured");
            }
            let known: Vec<&str> = self.missions.iter().map(|mission| mission.id.as_str()).collect();
            Failure::usage(format!("no file of the estate's missions/ states the outcomes of the mission '{name}'")).advice(
                if known.is_empty() { "`concordat mission new` drafts one".to_owned() } else { format!("there are {}", known.join(", ")) },
            )
        })
    }
}

pub(crate) fn mission_name(text: &str) -> std::result::Result<Name, String> {
    Name::parse(text).map_err(|e| e.to_string())
}

pub(crate) fn damaged(error: StoreError) -> Failure {
    let advice = match &error {
        StoreError::File { .. } => "check that the file and its folder are there, and that this user may write them",
        StoreError::Version { .. } => {
            "it cannot be converted, as its digests are over what it says: keep it beside the program that wrote it, and begin a new history \
             with --store, or under another name"
        }
        StoreError::Changed { .. } => "rely on none of it; restore the file from a copy, and find out who could write it",
        StoreError::Supersedes { .. } | StoreError::Unknown(_) => "`concordat mission status --output json` lists snapshots by number",
        StoreError::Unfit(_) => "each answer is kept once, when it was given, for the period that its data or its time is of",
        StoreError::Pivot(_) => "say what became of which output, by whom and why",
        StoreError::Twice(_) => "to correct it: --supersedes NUMBER --because \"…\"",
    };
    Failure::new(error.to_string()).advice(advice)
}
