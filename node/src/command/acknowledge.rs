//! `acknowledge-restore`: an administrator accepts that a restored backup of the consent ledger lacks records.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use clap::Args;
use miette::{IntoDiagnostic as _, WrapErr as _, miette};

use super::eprint;
use crate::config::Config;
use crate::consent::Consent;
use crate::consent::restored::Loss;
use crate::private;

/// What to accept.
#[derive(Debug, Args)]
pub struct AcknowledgeArgs {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Accept without being asked: needed where nobody sits at a terminal.
    #[arg(long)]
    pub yes: bool,
}

/// Shows what is lost, asks, and accepts.
pub(super) async fn acknowledge(args: AcknowledgeArgs) -> miette::Result<()> {
    tokio::task::spawn_blocking(move || run(&args)).await.into_diagnostic()?
}

fn run(args: &AcknowledgeArgs) -> miette::Result<()> {
    let config = Config::load(&args.config)?;
    private::folder(&config.state).into_diagnostic()?;
    let department = config.department.as_str().to_owned();
    let consent = Consent::open(&config.state, config.department).into_diagnostic()?;
    let loss = consent.loss().into_diagnostic()?;
    eprint(&shown(&department, &loss));
    if !args.yes && !confirmed(&department, "the loss")? {
        return Err(miette!(help = "nothing was changed; releases stay refused", "the restored ledger was not accepted"));
    }
    let user = std::fs::metadata("/proc/self").into_diagnostic().wrap_err("the present user is not known")?.uid();
    let generation = consent.acknowledge_restore(&loss, user).into_diagnostic()?;
    eprint(&format!(
        "accepted: the ledger is at version {} of generation {generation}. The node writes this to its access log before it releases \
         anything under it; the gateway records that the generation rose.",
        loss.version
    ));
    Ok(())
}

/// What an administrator should read before answering.
fn shown(department: &str, loss: &Loss) -> String {
    let Loss { version, known, generation, .. } = loss;
    let last =
        loss.last_recorded.as_deref().map_or_else(|| "it holds no record".to_owned(), |time| format!("its last record is of {time}"));
    let missing = match loss.missing() {
        0 => "As far as this state folder knows, nothing is missing. If the folder itself was restored, it does not know: every consent, \
              withdrawal and objection that was recorded after the time above is lost."
            .to_owned(),
        1 => format!("Version {known} was seen: 1 record is missing for certain, perhaps a withdrawal."),
        missing => format!("Version {known} was seen: {missing} records are missing for certain, withdrawals perhaps among them."),
    };
    format!(
        "The consent ledger of '{department}' is at version {version} of generation {generation}; {last}.\n{missing}\nRestore a newer copy \
         before you accept. If there is none, suspend everything first, accept, enter the missing records again, and resume: people's data \
         will be released by the records that are here."
    )
}

/// Asks at the terminal.
pub(super) fn confirmed(department: &str, what: &str) -> miette::Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(miette!(help = "add --yes to accept what is shown above", "nobody sits at a terminal who could accept"));
    }
    eprint(&format!("Type the department's name ({department}) to accept {what}:"));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).into_diagnostic()?;
    Ok(answer.trim() == department)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_said_as_far_as_it_is_known() {
        let loss = Loss { version: 8, last_recorded: Some("2026-05-01T10:00:00.000Z".into()), known: 11, generation: 2 };
        let text = shown("dfe", &loss);
        for part in ["'dfe' is at version 8 of generation 2", "its last record is of 2026-05-01T10:00:00.000Z", "3 records are missing"] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        let whole = shown("dfe", &Loss { known: 8, last_recorded: None, ..loss });
        assert!(whole.contains("holds no record") && whole.contains("If the folder itself was restored"), "{whole}");
    }
}
