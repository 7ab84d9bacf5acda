//! Keys and certificates that the configuration names.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use concordat_operate::certificate::{Files, Identity};
use concordat_proto::token::{SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use super::file::{AtRestFile, TlsFile};
use super::{Finding, Loader, read};
use crate::at_rest::{AtRest, AtRestError, Command, Passphrase};
use crate::linkage::{KEYPAIR, Keypair};

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

/// How linkage keys lie on disk.
pub(super) fn at_rest(loader: &mut Loader<'_>, file: Option<&AtRestFile>) -> Option<AtRest> {
    let Some(file) = file else { return Some(AtRest::default()) };
    match (&file.passphrase_file, &file.command) {
        (Some(path), None) => {
            let path = loader.folder.join(path);
            let read = Passphrase::read(&path);
            read.map(AtRest::under).map_err(|(cause, remedy)| loader.findings.push(Finding::file(&path, cause, remedy))).ok()
        }
        (None, Some(parts)) => {
            let command = Command::new(parts);
            command.map(AtRest::under).map_err(|(cause, remedy)| loader.at(&["keys", "at_rest", "command"], cause, remedy)).ok()
        }
        _ => {
            let remedy = "state one of the two, or leave [keys.at_rest] out: then linkage keys lie in clear, in files of mode 0600";
            loader.at(&["keys", "at_rest"], "is either `passphrase_file` or `command`", remedy);
            None
        }
    }
}

pub(super) fn linkage(loader: &mut Loader<'_>, path: &Path, at_rest: &AtRest) -> Option<Keypair> {
    let text = private(loader, path)?;
    let opened = at_rest.open(KEYPAIR, &text);
    let failed = |e: AtRestError| Finding::file(&loader.folder.join(path), e.to_string(), "correct [keys.at_rest], or restore the file");
    let text = opened.map_err(failed).map_err(|finding| loader.findings.push(finding)).ok()?;
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
