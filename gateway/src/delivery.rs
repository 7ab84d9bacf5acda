//! An answer on its way to its caller. Who does not read it for a while loses it: its memory and its place are needed.
//!
//! A stream is not polled while the peer leaves no window open, so a watcher beside it keeps the time.

use std::any::Any;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use concordat_policy::{Code, Refusal};
use concordat_proto::status::to_status;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use tonic::Status;

use crate::deliver::Answer;

/// What an answer holds until it has been read: its place among the caller's queries, and its memory.
pub(crate) type Held = Box<dyn Any + Send + Sync>;

/// An answer as messages.
pub(crate) type Encoded = Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>;

impl Answer {
    /// The answer as messages; dropped when nobody reads them for `unread`.
    pub(crate) fn encoded(self, unread: Duration) -> Encoded {
        let Self { schema, batches, summary, held, .. } = self;
        let stream = FlightDataEncoderBuilder::new()
            .with_schema(schema)
            .with_metadata(summary.to_string().into())
            .build(futures::stream::iter(batches.into_iter().map(Ok)))
            .map_err(|e| to_status(&Refusal::internal(e), None));
        Box::pin(Paced::new(Box::pin(stream), held, unread))
    }
}

struct Paced {
    shared: Arc<Mutex<Sending>>,
}

struct Sending {
    /// `None` once it has ended or lapsed.
    rest: Option<(Encoded, Held)>,
    lapsed: bool,
    polled: Instant,
    waker: Option<Waker>,
}

impl Paced {
    fn new(stream: Encoded, held: Held, unread: Duration) -> Self {
        let sending = Sending { rest: Some((stream, held)), lapsed: false, polled: Instant::now(), waker: None };
        let shared = Arc::new(Mutex::new(sending));
        let watched = Arc::downgrade(&shared);
        tokio::spawn(async move {
            let mut wait = unread;
            loop {
                tokio::time::sleep(wait).await;
                let Some(shared) = watched.upgrade() else { return };
                let mut sending = lock(&shared);
                if sending.rest.is_none() {
                    return;
                }
                wait = unread.saturating_sub(sending.polled.elapsed());
                if wait.is_zero() {
                    sending.lapse();
                    return;
                }
            }
        });
        Self { shared }
    }
}

impl Sending {
    fn lapse(&mut self) {
        self.rest = None;
        self.lapsed = true;
        tracing::info!("an answer was dropped: its caller did not read it");
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

fn lock(shared: &Mutex<Sending>) -> MutexGuard<'_, Sending> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stream for Paced {
    type Item = Result<FlightData, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut sending = lock(&self.shared);
        sending.polled = Instant::now();
        let Some((stream, _)) = &mut sending.rest else {
            let lapsed = std::mem::take(&mut sending.lapsed);
            return Poll::Ready(lapsed.then(|| Err(to_status(&unread(), None))));
        };
        let polled = stream.poll_next_unpin(context);
        match &polled {
            Poll::Ready(None) => sending.rest = None,
            Poll::Pending => sending.waker = Some(context.waker().clone()),
            Poll::Ready(Some(_)) => {}
        }
        polled
    }
}

fn unread() -> Refusal {
    Refusal::new(Code::LimitExceeded, "the answer was not read for longer than the gateway keeps it")
        .advice("ask again, and read the answer as it comes; `concordat query --detach` keeps it for longer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paced(unread: Duration) -> (Paced, std::sync::Weak<()>) {
        let token = Arc::new(());
        let held = Arc::downgrade(&token);
        let stream: Encoded = Box::pin(futures::stream::iter((0..3).map(|_| Ok(FlightData::default()))));
        (Paced::new(stream, Box::new(token), unread), held)
    }

    #[tokio::test]
    async fn an_answer_that_is_read_is_complete_and_then_lets_go() {
        let (mut stream, held) = paced(Duration::from_secs(3600));
        for _ in 0..3 {
            assert!(stream.next().await.unwrap().is_ok());
            assert!(held.upgrade().is_some());
        }
        assert!(stream.next().await.is_none());
        assert!(held.upgrade().is_none(), "what it held is free before the stream is dropped");
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_lets_go_and_says_so() {
        let (mut stream, held) = paced(Duration::from_millis(20));
        assert!(stream.next().await.unwrap().is_ok());
        while held.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
        let status = stream.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        assert!(stream.next().await.is_none(), "never a part that looks whole");
    }

    #[tokio::test]
    async fn a_caller_who_goes_takes_the_answer_along() {
        let (stream, held) = paced(Duration::from_secs(3600));
        drop(stream);
        assert!(held.upgrade().is_none());
    }
}
