//! The one place that calls the node's and the gateway's libraries: the hidden `node …` and `gateway …` commands, and the estate.

use std::path::Path;
use std::time::Duration;

use concordat_gateway::estate::{Estate, Objects};
use concordat_operate::drain::Stop;

use crate::launch::EXIT_ON_STDIN_EOF;

/// How long a child's calls may go on after its parent let go of it: less than the parent's patience.
const DRAIN: Duration = Duration::from_secs(3);

/// `concordat node …`.
pub(crate) async fn node(command: concordat_node::command::Command) -> miette::Result<()> {
    concordat_node::command::run_until(command, stop()).await
}

/// `concordat gateway …`.
pub(crate) async fn gateway(command: concordat_gateway::command::Command) -> miette::Result<()> {
    concordat_gateway::command::run_until(command, stop()).await
}

/// The estate in a folder, with what each mission is to change, and a report of each file of views and missions that is wrong.
///
/// # Errors
/// A report of everything wrong in the first file of the rest that is wrong.
pub(crate) fn estate(folder: &Path, state: &Path) -> miette::Result<(Estate, Objects)> {
    let (estate, wrong) = Estate::load_each(folder, state)?;
    let mut objects = estate.objects_each(folder)?;
    objects.agreements_left_out = wrong.agreements.len();
    objects.wrong.splice(0..0, wrong.agreements.into_iter().chain(wrong.views));
    Ok((estate, objects))
}

/// On signals; as a child of `demo` or `up`, also when the parent lets go of the other end of standard input.
fn stop() -> Stop {
    if std::env::var_os(EXIT_ON_STDIN_EOF).is_none() {
        return Stop::on_signals();
    }
    let (let_go, ended) = tokio::sync::oneshot::channel();
    // A thread of its own, because a read of standard input cannot be cancelled; it ends with the process.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = let_go.send(());
    });
    Stop::on_signals().or_when(async { drop(ended.await) }, DRAIN)
}
