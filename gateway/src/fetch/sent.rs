//! An order that was sent is settled by receipts, or by its node's refusal. One whose query ends before is given back: else the
//! node would hold a place for it, and a sorted release, until its tickets lapse.

use std::sync::Arc;
use std::time::{Duration, Instant};

use concordat_operate::trace::Traced;
use concordat_proto::MAX_CONTROL_MESSAGE;
use concordat_proto::status::from_status;
use concordat_proto::v1::AbandonRequest;
use concordat_proto::v1::releases_client::ReleasesClient;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::nodes::CONTROL_TIMEOUT;

/// After what time a node lets tickets lapse that nobody redeems, and how soon giving an order back is tried again.
const LAPSE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(1);

/// How many orders are being given back to a node at a time.
const AT_A_TIME: usize = 64;

/// Orders that are being given back to one node.
#[derive(Debug, Clone)]
pub(super) struct Returns {
    /// What finds none lapses by itself.
    places: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Default for Returns {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(AT_A_TIME)), tasks: TaskTracker::new() }
    }
}

impl Returns {
    /// Waits until all have been given back.
    pub(super) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// An order that was sent. Dropped before it was settled, it is given back, without waiting for that.
#[derive(Debug)]
pub(super) struct Sent {
    order: Option<String>,
    channel: Traced,
    returns: Returns,
}

impl Sent {
    /// An order sent over `channel`: its node takes it back over no other certificate. `order` is its `jti`, or nothing where the
    /// node speaks a version of the contract in which no order can be given back.
    pub(super) fn new(order: Option<String>, channel: Traced, returns: Returns) -> Self {
        Self { order, channel, returns }
    }

    /// Nothing is left of it at its node.
    pub(super) fn settle(&mut self) {
        self.order = None;
    }

    /// Whether dropping it gives it back.
    pub(super) fn gives_back(&self) -> bool {
        self.order.is_some()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        let (Some(order), Ok(runtime)) = (self.order.take(), tokio::runtime::Handle::try_current()) else { return };
        if let Ok(place) = self.returns.places.clone().try_acquire_owned() {
            let channel = self.channel.clone();
            let task = async move {
                give_back(channel, order).await;
                drop(place);
            };
            self.returns.tasks.spawn_on(task, &runtime);
        }
    }
}

/// Tries until the node has answered, or would have let the order lapse: the connection may be what failed.
async fn give_back(channel: Traced, order: String) {
    let mut client = ReleasesClient::new(channel).max_decoding_message_size(MAX_CONTROL_MESSAGE);
    let (until, mut pause) = (Instant::now() + LAPSE, AGAIN);
    while Instant::now() < until {
        let told = client.abandon(AbandonRequest { order: order.clone() });
        match tokio::time::timeout(CONTROL_TIMEOUT, told).await {
            // Said by a connection that broke, not by the node.
            Ok(Err(status)) if from_status(&status).is_none() && status.code() != tonic::Code::Unimplemented => {
                tokio::time::sleep(pause).await;
            }
            Ok(_) => return,
            Err(_) => {}
        }
        pause = (2 * pause).min(CONTROL_TIMEOUT);
    }
}
