//! `acknowledge-log`: an administrator accepts that the gateway's access log does not continue the one that this department cosigned.

use clap::Args;
use concordat_audit::checkpoint::Checkpoint;
use concordat_audit::note::VerifierKey;
use concordat_audit::witness::{Given, Keys, forget, known};
use miette::{IntoDiagnostic as _, miette};

use super::acknowledge::{AcknowledgeArgs, confirmed};
use super::eprint;
use crate::config::Config;
use crate::witness::{GATEWAY_LOG, GATEWAY_WITNESS, folder};

/// What to accept.
#[derive(Debug, Args)]
pub struct AcknowledgeLogArgs {
    #[command(flatten)]
    common: AcknowledgeArgs,
    /// Accept only that the gateway's witness forgot what it had cosigned; what is known of the gateway's log stays.
    #[arg(long)]
    witness: bool,
}

/// Shows what is known, asks, and forgets it.
pub(super) async fn acknowledge(args: AcknowledgeLogArgs) -> miette::Result<()> {
    tokio::task::spawn_blocking(move || run(&args)).await.into_diagnostic()?
}

fn run(args: &AcknowledgeLogArgs) -> miette::Result<()> {
    let (args, witness) = (&args.common, args.witness);
    let config = Config::load(&args.config)?;
    let folder = folder(&config.state);
    if witness {
        return forgot(args, &config, &Given::at(&folder));
    }
    let known = known(&folder, GATEWAY_LOG).into_diagnostic()?;
    let Some((key, latest)) = known else {
        return Err(miette!(
            help = "the next checkpoint of the gateway is taken as the first",
            "nothing is known here of the gateway's log"
        ));
    };
    eprint(&shown(&key, &latest));
    if !args.yes && !confirmed(config.department.as_str(), "a new beginning")? {
        return Err(miette!(help = "nothing was changed", "the gateway's log was not accepted as it is now"));
    }
    forget(&folder, GATEWAY_LOG).into_diagnostic()?;
    Keys::at(&folder).forget(GATEWAY_WITNESS).into_diagnostic()?;
    Given::at(&folder).forget(GATEWAY_WITNESS).into_diagnostic()?;
    eprint("accepted: the next checkpoint of the gateway's log is taken as the first. The node logs it as witness.seen.");
    Ok(())
}

/// Accepts that the gateway's witness forgot.
fn forgot(args: &AcknowledgeArgs, config: &Config, given: &Given) -> miette::Result<()> {
    let newest = given.newest(GATEWAY_WITNESS).into_diagnostic()?;
    let Some((newest, stood_at)) = newest.and_then(|newest| newest.forgot.map(|at| (newest, at))) else {
        return Err(miette!(help = "nothing was changed", "the gateway's witness has forgotten nothing that is known here"));
    };
    eprint(&format!(
        "The gateway's witness has cosigned this department's log up to {} entries, and stood at {stood_at} again after that. Until it had caught \
         up it would have cosigned another history. Ask the gateway's operator what was restored; its cosignature stays in state/witness as \
         forgot-….json.",
        newest.size
    ));
    if !args.yes && !confirmed(config.department.as_str(), "that the gateway's witness forgot")? {
        return Err(miette!(help = "nothing was changed", "it was not accepted"));
    }
    given.forget(GATEWAY_WITNESS).into_diagnostic()?;
    eprint("accepted: the alarm is over.");
    Ok(())
}

/// What an administrator should read before answering.
fn shown(key: &VerifierKey, latest: &Checkpoint) -> String {
    format!(
        "This department has cosigned the gateway's log up to {} entries, under the key\n{key}\nWhoever has a new beginning accepted lets the \
         gateway show another history. Ask its operator first which backup was restored, from when, and how many entries are gone; compare \
         what `concordat audit reconcile` says of your own log. What was cosigned stays in state/witness as forgotten-….json, and any \
         fork-….json there is proof of two histories, whatever the reason.",
        latest.size
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_is_said() {
        let key = VerifierKey::parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
        let text = shown(&key, &Checkpoint { origin: GATEWAY_LOG.into(), size: 41, root: [0; 32] });
        assert!(
            text.contains("up to 41 entries") && text.contains("PeterNeumann+c74f20a3+") && text.contains("Ask its operator"),
            "{text}"
        );
    }
}
