//! Every call: one span, under the client's trace if it names one, and one count by call and code when its answer ends.
//!
//! A call's name is one of those that the server says it offers; any other path is `other`, so that strangers cannot make
//! metrics grow. Handlers behind this layer find their peer where tonic puts it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tonic::Code;
use tower::{Layer, Service};
use tracing::{Instrument as _, Span};

use crate::metrics::{Metrics, Running};
use crate::socket::introduce;
use crate::trace::{TRACEPARENT, adopt};

/// The layer.
#[derive(Debug, Clone)]
pub struct Calls {
    metrics: Arc<Metrics>,
    names: &'static [&'static str],
}

impl Calls {
    /// Counts in `metrics`. `names` are the calls that the server offers, as `package.Service/Method`.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, names: &'static [&'static str]) -> Self {
        Self { metrics, names }
    }

    fn name(&self, path: &str) -> &'static str {
        let asked = path.strip_prefix('/').unwrap_or(path);
        self.names.iter().find(|name| **name == asked).copied().unwrap_or("other")
    }
}

impl<S> Layer<S> for Calls {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, calls: self.clone() }
    }
}

/// A service whose calls are counted.
#[derive(Debug, Clone)]
pub struct Counted<S> {
    inner: S,
    calls: Calls,
}

type Answer<T, E> = Pin<Box<dyn Future<Output = Result<Response<Counting<T>>, E>> + Send>>;

impl<S, B, T> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<T>>,
    S::Future: Send + 'static,
{
    type Response = Response<Counting<T>>;
    type Error = S::Error;
    type Future = Answer<T, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        introduce(request.extensions_mut());
        let name = self.calls.name(request.uri().path());
        let span = tracing::info_span!("call", otel.name = name, otel.kind = "server", rpc.method = name, rpc.code = tracing::field::Empty);
        adopt(&span, request.headers().get(TRACEPARENT).and_then(|v| v.to_str().ok()));
        let metrics = Arc::clone(&self.calls.metrics);
        let record = Record { running: metrics.running(), metrics, name, span: span.clone(), since: Instant::now(), code: None };
        let answering = self.inner.call(request);
        Box::pin(
            async move {
                let mut record = record;
                let response = answering.await?;
                record.code = code(response.headers());
                Ok(response.map(|body| Counting { body: Box::pin(body), record }))
            }
            .instrument(span),
        )
    }
}

/// Counts a call once, when it ends, be it that its client leaves.
struct Record {
    metrics: Arc<Metrics>,
    name: &'static str,
    span: Span,
    since: Instant,
    code: Option<Code>,
    #[expect(dead_code, reason = "counts while it lives")]
    running: Running,
}

impl Drop for Record {
    fn drop(&mut self) {
        let code = shown(self.code.unwrap_or(Code::Cancelled));
        self.span.record("rpc.code", code);
        self.metrics.call(self.name, code, self.since.elapsed());
    }
}

/// An answer's body, which ends the call.
pub struct Counting<T> {
    body: Pin<Box<T>>,
    record: Record,
}

impl<T: Body> Body for Counting<T> {
    type Data = T::Data;
    type Error = T::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<T::Data>, T::Error>>> {
        let this = &mut *self;
        let frame = this.record.span.in_scope(|| this.body.as_mut().poll_frame(cx));
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            this.record.code = code(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|status| Code::from_bytes(status.as_bytes()))
}

/// The name that gRPC gives a code.
fn shown(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_offered_calls_have_names() {
        let calls = Calls::new(Metrics::new("t", "0"), &["a.B/C"]);
        assert_eq!(calls.name("/a.B/C"), "a.B/C");
        assert_eq!(calls.name("/a.B/D"), "other");
        assert_eq!(calls.name(""), "other");
    }
}
