//! What is behind a call that failed below gRPC: the causes that people must tell apart.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};
use tonic::Status;

/// A cause with a remedy of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing came in time: a connection that was not made, or that gave no sign of life.
    Silence,
    /// The node's certificate is not valid now.
    ExpiredCertificate,
    /// Ours is not, says the node.
    OwnCertificateExpired,
}

impl Trouble {
    pub(super) fn of(status: &Status) -> Option<Self> {
        chain(status).find_map(of_one)
    }
}

/// The causes as text, for the operator.
pub(super) fn causes(status: &Status) -> String {
    chain(status).map(|cause| format!(": {cause}")).collect()
}

/// An error's causes, nearest first. What an I/O error wraps is not what it calls its source.
fn chain<'s>(status: &'s Status) -> impl Iterator<Item = &'s (dyn Error + 'static)> {
    std::iter::successors(status.source(), |error: &&'s (dyn Error + 'static)| {
        let error: &'s (dyn Error + 'static) = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

fn of_one(error: &(dyn Error + 'static)) -> Option<Trouble> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return of_tls(tls);
    }
    let late = error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::TimedOut);
    // hyper's own type for it is private.
    (late || error.to_string() == "keep-alive timed out").then_some(Trouble::Silence)
}

fn of_tls(error: &rustls::Error) -> Option<Trouble> {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    match error {
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }) => {
            Some(Trouble::ExpiredCertificate)
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => Some(Trouble::OwnCertificateExpired),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(error: impl Error + Send + Sync + 'static) -> Status {
        Status::from_error(Box::new(io::Error::other(error)))
    }

    #[test]
    fn causes_are_found_inside_the_errors_that_wrap_them() {
        let expired = rustls::Error::InvalidCertificate(CertificateError::Expired);
        assert_eq!(Trouble::of(&status(expired)), Some(Trouble::ExpiredCertificate));
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        assert_eq!(Trouble::of(&status(alert)), Some(Trouble::OwnCertificateExpired));
        assert_eq!(Trouble::of(&status(io::Error::from(io::ErrorKind::TimedOut))), Some(Trouble::Silence));
        assert_eq!(Trouble::of(&status(io::Error::from(io::ErrorKind::ConnectionReset))), None);
        assert_eq!(Trouble::of(&Status::unavailable("timed out")), None, "what a peer writes is no cause");
    }
}
