//! The one place that calls the node's and the gateway's libraries: the hidden `node …` and `gateway …` commands.

use std::future::Future;

use crate::launch::EXIT_ON_STDIN_EOF;

/// `concordat node …`.
pub(crate) async fn node(command: concordat_node::command::Command) -> miette::Result<()> {
    until_let_go(concordat_node::command::run(command)).await
}

/// `concordat gateway …`.
pub(crate) async fn gateway(command: concordat_gateway::command::Command) -> miette::Result<()> {
    until_let_go(concordat_gateway::command::run(command)).await
}

/// Runs `work`; as a child of `demo` or `up`, only as long as the parent holds the other end of standard input.
async fn until_let_go(work: impl Future<Output = miette::Result<()>>) -> miette::Result<()> {
    if std::env::var_os(EXIT_ON_STDIN_EOF).is_none() {
        return work.await;
    }
    let (let_go, ended) = tokio::sync::oneshot::channel();
    // A thread of its own, because a read of standard input cannot be cancelled; it ends with the process.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = let_go.send(());
    });
    tokio::select! {
        done = work => done,
        _ = ended => Ok(()),
    }
}
