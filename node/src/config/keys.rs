//! Keys and certificates that the configuration names.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use concordat_operate::certificate::{Files, Identity};
use concordat_proto::token::{SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use super::file::TlsFile;
use super::{Finding, Loader, read};
use crate::linkage::Keypair;

/// The listener's certificate, its key and the clients' authorities.
pub(super) fn tls(loader: &mut Loader<'_>, file: &TlsFile) -> Option<Files> {
    let at = |path: &Path| loader.folder.join(path);
    let files = Files { certificate: at(&file.certificate), key: at(&file.key), ca: Some(at(&file.ca)) };
    match Identity::load(&files) {
        Ok(_) => Some(files),
        Err(fault) => {
            loader.findings.push(Finding::file(Path::new(&fault.place), fault.cause, fault.remedy));
            None
        }
    }
}

pub(super) fn signing(loader: &mut Loader<'_>, path: &Path) -> Option<SigningKey> {
    let text = private(loader, path)?;
    let key = SigningKey::from_pem(&text);
    if key.is_none() {
        loader.findings.push(Finding::file(
            &loader.folder.join(path),
            "is not an Ed25519 private key in PKCS#8 PEM",
            "make one: openssl genpkey -algorithm ed25519",
        ));
    }
    key
}

pub(super) fn linkage(loader: &mut Loader<'_>, path: &Path) -> Option<Keypair> {
    let text = private(loader, path)?;
    let key = Keypair::from_hex(text.trim());
    if key.is_none() {
        loader.findings.push(Finding::file(
            &loader.folder.join(path),
            "is not a raw X25519 private key as 64 hex digits",
            "make one: openssl rand -hex 32",
        ));
    }
    key
}

pub(super) fn order(loader: &mut Loader<'_>, path: &Path) -> Option<VerifyingKey> {
    let path = loader.folder.join(path);
    let text = loader.keep(read(&path))?;
    let key = BASE64_STANDARD.decode(text.trim()).ok().and_then(|der| VerifyingKey::ed25519_spki(&der));
    if key.is_none() {
        loader.findings.push(Finding::file(
            &path,
            "is not an Ed25519 public key (one line of Base64: DER SubjectPublicKeyInfo)",
            "ask the gateway's operator for the key that signs release orders, and confirm its fingerprint out of band",
        ));
    }
    key
}

/// A private file's text: nobody but its owner may read it.
fn private(loader: &mut Loader<'_>, path: &Path) -> Option<Zeroizing<String>> {
    let path = loader.folder.join(path);
    let text = Zeroizing::new(loader.keep(read(&path))?);
    let mode = std::fs::metadata(&path).map_or(0o777, |m| m.permissions().mode());
    if mode & 0o077 != 0 {
        loader.findings.push(Finding::file(
            &path,
            format!("is a private key that others can read (mode {:o})", mode & 0o777),
            format!("chmod 600 {}; if others could read it, replace the key", path.display()),
        ));
        return None;
    }
    Some(text)
}
