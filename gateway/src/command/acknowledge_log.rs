//! `acknowledge-log`: the operator accepts that a department's access log does not continue the one that this gateway cosigned.

use std::path::PathBuf;

use clap::Args;
use concordat_audit::witness::{Given, Keys, forget, known};
use concordat_policy::Name;
use miette::{IntoDiagnostic as _, miette};

use crate::config::Config;
use crate::witness::{folder, log_of, witness_of};

/// What to accept.
#[derive(Debug, Args)]
pub struct AcknowledgeLogArgs {
    /// The department.
    #[arg(long)]
    department: String,
    /// The configuration.
    #[arg(long, default_value = "gateway.toml")]
    config: PathBuf,
    /// Accept only that the department's witness forgot what it had cosigned; what is known of its log and its keys stays.
    #[arg(long)]
    witness: bool,
    /// Accept what is shown; without it, nothing is changed.
    #[arg(long)]
    yes: bool,
}

/// Shows what is known, and forgets it.
pub(super) fn run(args: &AcknowledgeLogArgs) -> miette::Result<()> {
    let department = Name::parse(&args.department).map_err(|e| miette!("--department: {e}"))?;
    let config = Config::load(&args.config)?;
    let (folder, origin) = (folder(&config.state), log_of(&department));
    if args.witness {
        return forgot(args, &Given::at(&folder), &department);
    }
    let (log, keys) = (known(&folder, &origin).into_diagnostic()?, Keys::at(&folder));
    let witness = keys.all().into_diagnostic()?.remove(&witness_of(&department));
    let shown = match (&log, &witness) {
        (None, None) => return Err(miette!("nothing is known here of the log and the witness of '{department}'")),
        (Some((key, latest)), _) => {
            format!("This gateway has cosigned the access log of '{department}' up to {} entries, under the key\n{key}", latest.size)
        }
        (None, Some(key)) => format!("The key of the witness of '{department}' is\n{key}"),
    };
    eprint(&format!(
        "{shown}\nAsk the department's people first which backup was restored, from when, and how many entries are gone. What was cosigned stays \
         in state/witness as forgotten-….json; any fork-….json there is proof of two histories, whatever the reason."
    ));
    if !args.yes {
        return Err(miette!(help = "add --yes to accept it; nothing was changed", "a new beginning was not accepted"));
    }
    forget(&folder, &origin).into_diagnostic()?;
    keys.forget(&witness_of(&department)).into_diagnostic()?;
    Given::at(&folder).forget(&witness_of(&department)).into_diagnostic()?;
    eprint("accepted: what the department's node shows next is taken as the first. The gateway logs it as witness.seen.");
    Ok(())
}

/// Accepts that a department's witness forgot.
fn forgot(args: &AcknowledgeLogArgs, given: &Given, department: &Name) -> miette::Result<()> {
    let name = witness_of(department);
    let newest = given.newest(&name).into_diagnostic()?;
    let Some((newest, stood_at)) = newest.and_then(|newest| newest.forgot.map(|at| (newest, at))) else {
        return Err(miette!("the witness of '{department}' has forgotten nothing that is known here"));
    };
    eprint(&format!(
        "The witness of '{department}' has cosigned this gateway's log up to {} entries, and stood at {stood_at} again after that. Until it had \
         caught up it would have cosigned another history. Ask the department's people what was restored; its cosignature stays in \
         state/witness as forgot-….json.",
        newest.size
    ));
    if !args.yes {
        return Err(miette!(help = "add --yes to accept it; nothing was changed", "it was not accepted"));
    }
    given.forget(&name).into_diagnostic()?;
    eprint("accepted: the alarm is over.");
    Ok(())
}

/// For people; standard output stays free.
fn eprint(text: &str) {
    use std::io::Write as _;
    // Nobody listens to a closed standard error.
    let _ = writeln!(std::io::stderr(), "{text}");
}
