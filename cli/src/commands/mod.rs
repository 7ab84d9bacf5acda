//! One module per command: its arguments, its help and its work.

pub(crate) mod adopt;
pub(crate) mod agreement;
pub(crate) mod audit;
pub(crate) mod catalogue;
pub(crate) mod consent;
pub(crate) mod default_mission;
pub(crate) mod delivery;
pub(crate) mod demo;
pub(crate) mod departments;
pub(crate) mod dummy;
pub(crate) mod errors;
pub(crate) mod explain;
pub(crate) mod in_force;
mod inert;
pub(crate) mod init;
pub(crate) mod linkage;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod mission;
pub(crate) mod promised;
pub(crate) mod publish;
pub(crate) mod query;
pub(crate) mod result;
pub(crate) mod shell;
pub(crate) mod target;
pub(crate) mod token;
pub(crate) mod up;
pub(crate) mod whoami;
pub(crate) mod why;

use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};
use crate::output::Format;

/// Where the demonstration lies if nothing else is said.
pub(crate) const DEFAULT_FOLDER: &str = "concordat-demo";

/// How lists are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// Aligned text for people
    Table,
    /// One JSON object for programs, exact
    Json,
}

impl From<Output> for Format {
    fn from(output: Output) -> Self {
        match output {
            Output::Table => Self::Table,
            Output::Json => Self::Json,
        }
    }
}

/// How this program was called, for commands that can be copied.
pub(crate) fn program() -> String {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let here = std::env::current_dir().unwrap_or_default();
    match called.strip_prefix(&here) {
        Ok(relative) => format!("./{}", relative.display()),
        Err(_) if called.components().count() > 1 => called.display().to_string(),
        Err(_) => "concordat".to_owned(),
    }
}

/// What commands need beside to find `folder`: nothing for the default.
pub(crate) fn folder_argument(folder: &Path) -> String {
    if folder == Path::new(DEFAULT_FOLDER) { String::new() } else { format!(" --folder {}", folder.display()) }
}

/// The path of this program's own file, of which children are started.
pub(crate) fn executable() -> Result<PathBuf> {
    std::env::current_exe().map_err(|e| Failure::new(format!("this program's own file cannot be found: {e}")))
}
