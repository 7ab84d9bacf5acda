//! One trace from the client to the nodes: the W3C `traceparent` header, read strictly and passed on.
//!
//! It names a trace and nothing else: no baggage is read or sent, and a header that is not exactly right is as good as none.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The header's name.
pub const TRACEPARENT: &str = "traceparent";

/// A channel whose calls carry the present trace.
pub type Traced = InterceptedService<Channel, fn(Request<()>) -> Result<Request<()>, Status>>;

/// Makes the calls of `channel` carry the present trace.
#[must_use]
pub fn traced(channel: Channel) -> Traced {
    InterceptedService::new(channel, carry)
}

fn carry(mut request: Request<()>) -> Result<Request<()>, Status> {
    inject(request.metadata_mut());
    Ok(request)
}

/// Puts the present span's trace into a request's metadata, if there is one.
pub fn inject(metadata: &mut MetadataMap) {
    let context = Span::current().context();
    let span = context.span();
    let of = span.span_context();
    if of.is_valid() {
        let header = format!("00-{}-{}-{:02x}", of.trace_id(), of.span_id(), of.trace_flags().to_u8() & 1);
        if let Ok(value) = MetadataValue::try_from(header) {
            metadata.insert(TRACEPARENT, value);
        }
    }
}

/// Makes `span` a child of the trace that `header` names.
pub(crate) fn adopt(span: &Span, header: Option<&str>) {
    if let Some(parent) = header.and_then(parse) {
        // Fails where no trace is kept at all.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
}

/// The span that a `traceparent` names: version 00 exactly, lower-case hex, neither id all zeros.
fn parse(header: &str) -> Option<SpanContext> {
    let hex = |part: &&str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let parts: Vec<&str> = header.split('-').collect();
    let [version, trace, span, flags] = parts.as_slice() else { return None };
    let lengths = (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2);
    if !lengths || *version != "00" || !parts.iter().all(hex) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()? & 1);
    let context = SpanContext::new(TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?, flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

/// Whether a text is a `traceparent` that would be honoured.
#[must_use]
pub fn is_traceparent(header: &str) -> bool {
    parse(header).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_headers_are_honoured() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(is_traceparent(good));
        for bad in [
            "",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            &good.repeat(20),
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }
}
