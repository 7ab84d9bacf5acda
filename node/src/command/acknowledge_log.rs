//! `acknowledge-log`: an administrator accepts that the gateway's access log does not continue the one that this department cosigned.

use concordat_audit::checkpoint::Checkpoint;
use concordat_audit::note::VerifierKey;
use concordat_audit::witness::{Keys, forget, known};
use miette::{IntoDiagnostic as _, miette};

use super::acknowledge::{AcknowledgeArgs, confirmed};
use super::eprint;
use crate::config::Config;
use crate::witness::{GATEWAY_LOG, GATEWAY_WITNESS, folder};

/// Shows what is known, asks, and forgets it.
pub(super) async fn acknowledge(args: AcknowledgeArgs) -> miette::Result<()> {
    tokio::task::spawn_blocking(move || run(&args)).await.into_diagnostic()?
}

fn run(args: &AcknowledgeArgs) -> miette::Result<()> {
    let config = Config::load(&args.config)?;
    let folder = folder(&config.state);
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
    eprint("accepted: the next checkpoint of the gateway's log is taken as the first. The node logs it as witness.seen.");
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
