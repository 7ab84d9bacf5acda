//! A certificate with its key, as files: read as a whole, checked as a whole.
//!
//! Invariants
//! - A key that others can read, or that is another certificate's, is no identity.
//! - Nothing is half replaced: [`Identity::load`] gives a certificate and key that belong together, or a [`Fault`].

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use concordat_policy::agreement::Fingerprint;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use crate::Fault;

/// Where an identity lies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// The certificate, then those of intermediate authorities, in PEM.
    pub certificate: PathBuf,
    /// Its private key, PKCS#8 in PEM, mode 0600.
    pub key: PathBuf,
    /// The authorities by which the other side is judged, in PEM; `None` where the other side shows no certificate.
    pub ca: Option<PathBuf>,
}

impl Files {
    /// Every file, for watching.
    #[must_use]
    pub fn all(&self) -> Vec<PathBuf> {
        [Some(&self.certificate), Some(&self.key), self.ca.as_ref()].into_iter().flatten().cloned().collect()
    }
}

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// SHA-256 of the DER certificate, as configurations pin it.
    pub fingerprint: Fingerprint,
    /// The DNS names and addresses it is for.
    pub names: Vec<String>,
    /// From when it is valid, Unix seconds.
    pub not_before: i64,
    /// Until when it is valid, Unix seconds.
    pub not_after: i64,
    issuer: Vec<u8>,
    subject: Vec<u8>,
}

/// A certificate and key that belong together.
pub struct Identity {
    files: Files,
    /// The chain's certificates, the identity's own first.
    pub chain: Vec<CertificateDer<'static>>,
    /// What each certificate of the chain says.
    pub facts: Vec<Facts>,
    /// The chain in PEM.
    pub certificate_pem: String,
    /// The key in PEM.
    pub key_pem: Zeroizing<String>,
    /// The other side's authorities, in PEM.
    pub ca_pem: Option<String>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("facts", &self.facts.first()).finish_non_exhaustive()
    }
}

/// The cryptography that every connection uses.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl Identity {
    /// Reads an identity.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn load(files: &Files) -> Result<Self, Fault> {
        let certificate_pem = text(&files.certificate)?;
        let chain = certificates(&files.certificate, &certificate_pem)?;
        let facts = chain.iter().map(|der| facts(&files.certificate, der)).collect::<Result<Vec<_>, _>>()?;
        let key_pem = private(&files.key)?;
        let ca_pem = files.ca.as_deref().map(text).transpose()?;
        if let (Some(path), Some(pem)) = (&files.ca, &ca_pem) {
            certificates(path, pem)?;
        }
        let identity = Self { files: files.clone(), chain, facts, certificate_pem, key_pem, ca_pem };
        identity.certified()?;
        Ok(identity)
    }

    /// The certificate and its key, which were found to belong together.
    pub(crate) fn certified(&self) -> Result<CertifiedKey, Fault> {
        let unusable = |cause: String| {
            Fault::new(self.files.key.display(), cause, "use the private key that this certificate was made for, PKCS#8 in PEM")
        };
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(|_| unusable("holds no private key in PEM".into()))?;
        CertifiedKey::from_der(self.chain.clone(), key, &provider())
            .map_err(|e| unusable(format!("is not the key of {}: {e}", self.files.certificate.display())))
    }

    /// What the identity's own certificate says.
    ///
    /// # Errors
    /// Never for a loaded identity, whose chain is not empty.
    pub fn own(&self) -> Result<&Facts, Fault> {
        self.facts.first().ok_or_else(|| no_certificate(&self.files.certificate))
    }

    /// That every certificate of the chain is valid at `now` (Unix seconds), and each signed by the next one's subject.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn valid_at(&self, now: i64) -> Result<(), Fault> {
        let fault = |cause: String, remedy: &str| Err(Fault::new(self.files.certificate.display(), cause, remedy));
        for facts in &self.facts {
            if now > facts.not_after {
                return fault(
                    format!("expired on {}", date(facts.not_after)),
                    "renew it; a running server takes the new one without restart",
                );
            }
            if now < facts.not_before {
                return fault(
                    format!("is not valid before {}", date(facts.not_before)),
                    "wait, or correct this machine's clock if it is wrong",
                );
            }
        }
        for pair in self.facts.windows(2) {
            if let [signed, signer] = pair
                && signed.issuer != signer.subject
            {
                return fault(
                    "its chain is out of order: a certificate is not followed by its issuer's".into(),
                    "put the server's certificate first, then each issuer's",
                );
            }
        }
        Ok(())
    }
}

/// A Unix time as `2026-01-31`.
#[must_use]
pub fn date(seconds: i64) -> String {
    x509_parser::time::ASN1Time::from_timestamp(seconds).map_or_else(
        |_| seconds.to_string(),
        |time| {
            let time = time.to_datetime();
            format!("{:04}-{:02}-{:02}", time.year(), u8::from(time.month()), time.day())
        },
    )
}

/// The certificates in a PEM text.
///
/// # Errors
/// When there is none, or a damaged one.
pub fn certificates(path: &Path, pem: &str) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    found.ok().filter(|all| !all.is_empty()).ok_or_else(|| no_certificate(path))
}

fn no_certificate(path: &Path) -> Fault {
    Fault::new(path.display(), "holds no certificate in PEM, or a damaged one", "use PEM certificates only")
}

fn facts(path: &Path, der: &CertificateDer<'_>) -> Result<Facts, Fault> {
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|_| Fault::new(path.display(), "holds a certificate that cannot be read", "have it issued again"))?;
    let names = certificate.subject_alternative_name().ok().flatten().map(|names| names.value.general_names.iter());
    let names = names.into_iter().flatten().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    });
    Ok(Facts {
        fingerprint: Fingerprint::of(der),
        names: names.collect(),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        issuer: certificate.issuer().as_raw().to_vec(),
        subject: certificate.subject().as_raw().to_vec(),
    })
}

fn address(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).map(|b| std::net::IpAddr::from(b).to_string());
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(|b| std::net::IpAddr::from(b).to_string())).ok()
}

/// A text file.
///
/// # Errors
/// When it cannot be read.
pub fn text(path: &Path) -> Result<String, Fault> {
    std::fs::read_to_string(path)
        .map_err(|e| Fault::new(path.display(), format!("cannot be read: {e}"), "correct the path or the file's permissions"))
}

/// A private file's text: nobody but its owner may read it.
///
/// # Errors
/// When it cannot be read, or others could.
pub fn private(path: &Path) -> Result<Zeroizing<String>, Fault> {
    let text = Zeroizing::new(text(path)?);
    let mode = std::fs::metadata(path).map_or(0o777, |m| m.permissions().mode());
    if mode & 0o077 != 0 {
        let remedy = format!("chmod 600 {}; if others could read it, replace the key", path.display());
        return Err(Fault::new(path.display(), format!("is a private key that others can read (mode {:o})", mode & 0o777), remedy));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::World;

    #[test]
    fn a_certificate_and_its_key_belong_together_or_are_refused_with_a_remedy() {
        let world = World::new();
        let files = world.identity("a", &["localhost"], (2020, 2045));
        let identity = Identity::load(&files).unwrap();
        assert_eq!(identity.own().unwrap().names, ["localhost"]);
        identity.valid_at(1_800_000_000).unwrap();

        let other = world.identity("b", &["localhost"], (2020, 2021));
        let mixed = Files { key: other.key.clone(), ..files.clone() };
        assert!(Identity::load(&mixed).unwrap_err().cause.contains("is not the key of"));
        let expired = Identity::load(&other).unwrap().valid_at(1_800_000_000).unwrap_err();
        assert!(expired.cause.contains("expired on 2021-01-01") && expired.remedy.contains("renew"), "{expired:?}");
        assert!(identity.valid_at(1_000).unwrap_err().cause.contains("not valid before"));

        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Identity::load(&files).unwrap_err().remedy.starts_with("chmod 600"));
        let absent = Files { certificate: world.path("none.pem"), ..other.clone() };
        assert!(Identity::load(&absent).unwrap_err().cause.contains("cannot be read"));
        std::fs::write(&other.certificate, "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
        assert!(Identity::load(&other).unwrap_err().cause.contains("no certificate"));
    }
}
