//! `concordat result`: the answer of a query that was detached.

use clap::Args;
use concordat_proto::v1::DetachedState;

use super::delivery::Delivery;
use super::promised::Promised;
use super::target::Target;
use crate::failure::Result;
use crate::out;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  id=$(concordat query --detach --view opportunity_by_region)
  concordat result $id                  (waits for it, and prints the answer)
  concordat result $id --state          (only says how far it is)
  concordat result $id --cancel

An answer is kept in the gateway's memory for a while, for who asked, under the same purpose; a restart of the gateway loses it.")]
pub(crate) struct Detached {
    /// What `concordat query --detach` printed
    #[arg(value_name = "ID")]
    id: String,
    /// Say how far the query is, and do not wait
    #[arg(long, conflicts_with = "cancel")]
    state: bool,
    /// Stop the query, and have its answer forgotten
    #[arg(long)]
    cancel: bool,
    #[command(flatten)]
    promised: Promised,
    #[command(flatten)]
    delivery: Delivery,
    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(result: Detached) -> Result<()> {
    let client = result.target.connect().await?;
    if result.cancel {
        return client.cancel_detached(&result.id).await;
    }
    if result.state {
        let state = client.detached(&result.id, 0).await?;
        let word = match state.state() {
            DetachedState::Queued => "queued",
            DetachedState::Running => "running",
            DetachedState::Done => "done",
            DetachedState::Refused => "refused",
            DetachedState::Unspecified => "unknown",
        };
        return out::result(&format!("{word}\n"));
    }
    let format = result.delivery.format(result.target.saved_output()?)?;
    let progress = result.delivery.watch();
    let reading = client.pick_up(&result.id, progress.clone()).await?;
    let promise = result.promised.check(&reading.summary())?;
    result.delivery.deliver(None, reading, promise.as_ref(), format, &progress).await?;
    result.promised.keep(promise)
}
