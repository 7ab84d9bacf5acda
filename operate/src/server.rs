//! A server as a whole: listener, endpoint, reloads, drain, and what the service manager is told.

use std::convert::Infallible;
use std::fs;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use sd_notify::NotifyState;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::Fault;
use crate::certificate::{Facts, Files, date};
use crate::drain::{Drain, Stop, Stopping};
use crate::endpoint::Endpoint;
use crate::listener::{Connection, LIMITS, Listener};
use crate::metrics::Metrics;
use crate::readiness::Subject;
use crate::reload::Reloads;
use crate::settings::Operations;
use crate::tls::ServerTls;

/// The connections that a server is given.
pub type Incoming = BoxStream<'static, Result<Connection, Infallible>>;

/// Why a server cannot serve. For the operator.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ServeError {
    /// Something on this machine.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Fault(#[from] Fault),
    /// The transport.
    #[error("the listener ended")]
    Transport(#[from] tonic::transport::Error),
}

/// A server that is bound, but does not serve yet.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    endpoint: Option<Endpoint>,
    tls: Arc<ServerTls>,
    metrics: Arc<Metrics>,
    operations: Operations,
    state: PathBuf,
    drain: Drain,
}

impl Server {
    /// Binds the listener and, where configured, the operations endpoint.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub async fn bind(
        listen: SocketAddr,
        files: Files,
        operations: Operations,
        state: &Path,
        metrics: Arc<Metrics>,
    ) -> Result<Self, Fault> {
        let taken = |address: SocketAddr| {
            move |e: io::Error| Fault::new(address, format!("cannot be listened on: {e}"), "choose a free address, or port 0")
        };
        let tls = Arc::new(ServerTls::load(files)?);
        metrics.expires("server", tls.facts().not_after);
        let drain = Drain::default();
        let listener =
            Listener::bind(listen, Arc::clone(&tls), LIMITS, Arc::clone(&metrics), drain.cut.clone()).await.map_err(taken(listen))?;
        let endpoint = match operations.listen {
            Some(address) => Some(Endpoint::bind(address).await.map_err(taken(address))?),
            None => None,
        };
        Ok(Self { listener, endpoint, tls, metrics, operations, state: state.to_owned(), drain })
    }

    /// Cancels `ending` when the time of the drain is over, before connections are cut: who still works can stop, and say so.
    #[must_use]
    pub fn ending(mut self, ending: CancellationToken) -> Self {
        self.drain.ending = ending;
        self
    }

    /// Tells when the drain begins: calls that would go on by themselves are to end then.
    #[must_use]
    pub fn stopping(&self) -> Stopping {
        Stopping(self.drain.stopping.clone())
    }

    /// Serves until `stop`, then drains. `<state>/address` holds the bound address once calls are taken, and
    /// `<state>/operations-address` the endpoint's. The server's own certificate is reloaded beside `reloads`.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn run<F>(
        self,
        subject: Arc<dyn Subject>,
        mut reloads: Reloads,
        stop: Stop,
        serve: impl FnOnce(Incoming, WaitForCancellationFutureOwned) -> F,
    ) -> Result<(), ServeError>
    where
        F: Future<Output = Result<(), tonic::transport::Error>>,
    {
        let Self { listener, endpoint, tls, metrics, operations, state, drain } = self;
        let ended = CancellationToken::new();
        let _end = ended.clone().drop_guard();
        announce(&tls.facts());
        let now = unix_now;
        if let Err(fault) = tls.reload(now()) {
            tracing::error!(cause = %fault, remedy = fault.remedy, "the server's certificate cannot be trusted by anybody");
        }
        reload_server(&mut reloads, &tls, &metrics);
        tokio::spawn(reloads.watch(ended.clone()));
        tokio::spawn(tidy(ended.clone()));
        let address = listener.address().map_err(|e| unwritable(&state, &e))?;
        if let Some(endpoint) = endpoint {
            let operations = endpoint.address().map_err(|e| unwritable(&state, &e))?;
            publish(&state, "operations-address", operations)?;
            tracing::info!(address = %operations, "operations endpoint");
            endpoint.serve(subject, Arc::clone(&metrics), drain.stopping.clone(), ended);
        }
        publish(&state, "address", address)?;
        tracing::info!(address = %address, "serving");
        let serving = serve(listener.connections().boxed(), drain.stopping.clone().cancelled_owned());
        notify(&[NotifyState::Ready]);
        drain.run(serving, stop, operations.drain(), &metrics, || notify(&[NotifyState::Stopping])).await?;
        Ok(())
    }
}

/// How often memory is given back that nobody uses any more: under load it is taken again within seconds, but not ever more of it.
const TIDY: Duration = Duration::from_secs(10);

/// Gives it back until the server has ended: calls of many sizes on many threads leave free pieces all over.
async fn tidy(ended: CancellationToken) {
    while ended.run_until_cancelled(tokio::time::sleep(TIDY)).await.is_some() {
        let _ = tokio::task::spawn_blocking(concordat_memory::give_back).await;
    }
}

/// The system's time, Unix seconds.
#[must_use]
pub fn unix_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn announce(facts: &Facts) {
    tracing::info!(certificate = facts.fingerprint.as_str(), valid_until = date(facts.not_after), "certificate");
}

fn reload_server(reloads: &mut Reloads, tls: &Arc<ServerTls>, metrics: &Arc<Metrics>) {
    let (tls, metrics) = (Arc::clone(tls), Arc::clone(metrics));
    reloads.add("server certificate", tls.files().all(), move || {
        let facts = tls.reload(unix_now())?;
        metrics.expires("server", facts.not_after);
        Ok(described(&facts))
    });
}

/// A certificate for the log: its fingerprint and until when it is valid.
#[must_use]
pub fn described(facts: &Facts) -> String {
    format!("{} until {}", facts.fingerprint, date(facts.not_after))
}

/// Writes an address where starters look for it, whole or not at all.
fn publish(state: &Path, name: &str, address: SocketAddr) -> Result<(), Fault> {
    let write = || {
        fs::create_dir_all(state)?;
        let partial = state.join(format!("{name}.partial"));
        fs::write(&partial, format!("{address}\n"))?;
        fs::rename(partial, state.join(name))
    };
    write().map_err(|e| unwritable(state, &e))
}

fn unwritable(state: &Path, error: &io::Error) -> Fault {
    Fault::new(state.display(), format!("cannot be written: {error}"), "correct the path or the folder's permissions")
}

/// Tells the service manager, if one started this process.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::warn!(cause = %e, "the service manager was not told");
    }
}

/// Tells the service manager that `work` is a reload.
pub(crate) fn notify_reloading(work: impl FnOnce()) {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
    work();
    notify(&[NotifyState::Ready]);
}
