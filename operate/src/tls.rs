//! The server's side of TLS, whose certificate, key and client authorities can be replaced while it serves. Connections that
//! are open keep what they began with.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};

use crate::Fault;
use crate::certificate::{Facts, Files, Identity, certificates, provider};

/// What new connections are met with.
#[derive(Debug)]
pub struct ServerTls {
    files: Files,
    current: RwLock<(Arc<ServerConfig>, Facts)>,
}

impl ServerTls {
    /// Reads the files. With [`Files::ca`], a client must show a certificate of one of these authorities.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn load(files: Files) -> Result<Self, Fault> {
        let identity = Identity::load(&files)?;
        let current = RwLock::new((Arc::new(config(&files, &identity)?), identity.own()?.clone()));
        Ok(Self { files, current })
    }

    /// Reads the files again. What cannot be used, or is not valid at `now` (Unix seconds), changes nothing.
    ///
    /// # Errors
    /// The first [`Fault`].
    pub fn reload(&self, now: i64) -> Result<Facts, Fault> {
        let identity = Identity::load(&self.files)?;
        identity.valid_at(now)?;
        let (config, facts) = (Arc::new(config(&self.files, &identity)?), identity.own()?.clone());
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = (config, facts.clone());
        Ok(facts)
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// What the present certificate says.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.current.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).0)
    }
}

fn config(files: &Files, identity: &Identity) -> Result<ServerConfig, Fault> {
    let unusable =
        |e: &dyn std::fmt::Display| Fault::new(files.certificate.display(), format!("cannot be used: {e}"), "have it issued again");
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(|e| unusable(&e))?;
    let verifier = match (&files.ca, &identity.ca_pem) {
        (Some(path), Some(pem)) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(path, pem)? {
                roots.add(authority).map_err(|e| {
                    Fault::new(
                        path.display(),
                        format!("holds an authority that cannot be used: {e}"),
                        "use the authority's own certificate",
                    )
                })?;
            }
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().map_err(|e| unusable(&e))?
        }
        _ => Arc::new(NoClientAuth),
    };
    let resolver = Arc::new(SingleCertAndKey::from(identity.certified()?));
    let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(resolver);
    config.alpn_protocols.push(b"h2".to_vec());
    if files.ca.is_some() {
        // A resumed session looks at no certificate: one that has expired since would still be taken, on either side.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    Ok(config)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};

    use super::*;

    /// A folder with an authority of its own.
    pub(crate) struct World {
        folder: tempfile::TempDir,
        authority: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    }

    impl World {
        pub(crate) fn new() -> Self {
            let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let authority = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
            let world = Self { folder: tempfile::tempdir().unwrap(), authority };
            std::fs::write(world.path("ca.pem"), world.authority.pem()).unwrap();
            world
        }

        pub(crate) fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// Writes a certificate that is valid from and until the first days of two years.
        pub(crate) fn identity(&self, stem: &str, names: &[&str], years: (i32, i32)) -> Files {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
            params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
            params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
            let certificate = params.signed_by(&key, &self.authority).unwrap();
            let files = Files { certificate: self.path(&format!("{stem}.pem")), key: self.path(&format!("{stem}.key")), ca: None };
            std::fs::write(&files.certificate, certificate.pem()).unwrap();
            secret(&files.key, &key.serialize_pem());
            files
        }
    }

    fn secret(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn a_bad_file_keeps_the_old_certificate_and_a_good_one_replaces_it() {
        let world = World::new();
        let files = Files { ca: Some(world.path("ca.pem")), ..world.identity("server", &["localhost"], (2020, 2045)) };
        let tls = ServerTls::load(files.clone()).unwrap();
        let (first, old) = (tls.facts(), tls.config());
        let now = 1_800_000_000;

        // A new certificate, whose key has not been written yet.
        let key = std::fs::read(&files.key).unwrap();
        world.identity("server", &["localhost"], (2020, 2045));
        let new_key = std::fs::read(&files.key).unwrap();
        std::fs::write(&files.key, key).unwrap();
        assert!(tls.reload(now).unwrap_err().cause.contains("is not the key of"));
        assert_eq!(tls.facts(), first);
        assert!(Arc::ptr_eq(&tls.config(), &old));

        std::fs::write(&files.key, new_key).unwrap();
        let second = tls.reload(now).unwrap();
        assert_ne!(second.fingerprint, first.fingerprint);
        assert_eq!(tls.facts(), second);

        world.identity("server", &["localhost"], (2020, 2021));
        assert!(tls.reload(now).unwrap_err().cause.contains("expired"));
        std::fs::write(world.path("ca.pem"), "nothing").unwrap();
        assert!(tls.reload(now).unwrap_err().place.ends_with("ca.pem"));
        assert_eq!(tls.facts(), second);
    }
}
