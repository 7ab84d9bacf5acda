//! The keys that a node holds: Ed25519 for tickets and receipts, X25519 for linkage keys that others seal to it, and the key of
//! its certificate, with the request for one.

use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use concordat_policy::agreement::{Fingerprint, hex};
use concordat_proto::token::SigningKey;
use rcgen::{CertificateParams, DnType, KeyPair};
use zeroize::Zeroizing;

use super::table::InspectError;
use crate::linkage::Keypair;
use crate::private;

/// The fingerprints of a node's public keys, as they stand in agreements.
#[derive(Debug, Clone)]
pub struct Fingerprints {
    /// Of the DER SubjectPublicKeyInfo of the signing key.
    pub signing: Fingerprint,
    /// Of the raw X25519 key.
    pub linkage: Fingerprint,
}

fn failed(what: &str, cause: impl std::fmt::Display) -> InspectError {
    InspectError::new(what, format!("cannot be made: {cause}"), "look at the disk and its permissions, and try again")
}

/// A new Ed25519 key in PEM (PKCS#8), and read back.
///
/// # Errors
/// When the cryptographic library fails.
pub fn signing_key() -> Result<(Zeroizing<String>, SigningKey), InspectError> {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| failed("a signing key", "no randomness"))?;
    let key = SigningKey::from_pkcs8(document.as_ref()).ok_or_else(|| failed("a signing key", "it cannot be read back"))?;
    let body = Zeroizing::new(BASE64_STANDARD.encode(document.as_ref()));
    let mut pem = Zeroizing::new(String::from("-----BEGIN PRIVATE KEY-----\n"));
    body.as_bytes().chunks(64).for_each(|line| {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    });
    pem.push_str("-----END PRIVATE KEY-----\n");
    Ok((pem, key))
}

/// Makes the node's own two keys in `folder`: `signing.key.pem` and `linkage.key`.
///
/// # Errors
/// When the cryptographic library fails or a file cannot be written.
pub fn make(folder: &Path) -> Result<Fingerprints, InspectError> {
    std::fs::create_dir_all(folder).map_err(|e| failed(&folder.display().to_string(), e))?;
    let secret = |name: &str, text: &str| {
        private::replace(&folder.join(name), text.as_bytes()).map_err(|e| failed(&folder.join(name).display().to_string(), e))
    };
    let (pem, signing) = signing_key()?;
    secret("signing.key.pem", &pem)?;
    let mut raw = Zeroizing::new([0u8; 32]);
    getrandom::fill(raw.as_mut_slice()).map_err(|e| failed("a linkage key", e))?;
    let text = Zeroizing::new(hex(raw.as_slice()));
    let linkage = Keypair::from_hex(&text).ok_or_else(|| failed("a linkage key", "it cannot be read back"))?;
    secret("linkage.key", &Zeroizing::new(format!("{}\n", *text)))?;
    Ok(Fingerprints { signing: Fingerprint::of(signing.public_spki()), linkage: Fingerprint::of(&linkage.public()) })
}

/// Makes the key of the node's certificate and a request for one (PKCS #10) in `folder`: `node.key.pem` and `node.csr.pem`.
pub(super) fn certificate_request(folder: &Path, department: &str, server_name: &str) -> Result<(), InspectError> {
    let failed = |cause: &dyn std::fmt::Display| {
        InspectError::new("the certificate's key and request", format!("cannot be made: {cause}"), "use a DNS name as --server-name")
    };
    let key = KeyPair::generate().map_err(|e| failed(&e))?;
    let mut params = CertificateParams::new(vec![server_name.to_owned()]).map_err(|e| failed(&e))?;
    params.distinguished_name.push(DnType::CommonName, department);
    let request = params.serialize_request(&key).and_then(|request| request.pem()).map_err(|e| failed(&e))?;
    std::fs::create_dir_all(folder).map_err(|e| failed(&e))?;
    private::replace(&folder.join("node.key.pem"), Zeroizing::new(key.serialize_pem()).as_bytes()).map_err(|e| failed(&e))?;
    std::fs::write(folder.join("node.csr.pem"), request).map_err(|e| failed(&e))
}
