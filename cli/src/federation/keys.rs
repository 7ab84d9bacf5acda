//! The keys that a node holds: Ed25519 for tickets and receipts, X25519 for linkage keys that others seal to it.

use std::path::Path;

use aws_lc_rs::agreement::{PrivateKey, X25519};
use concordat_policy::agreement::{Fingerprint, hex};
use concordat_proto::token::SigningKey;
use rcgen::KeyPair;

use super::layout::write_secret;
use crate::failure::{Failure, Result};

/// The fingerprints of a node's public keys, as they stand in agreements.
#[derive(Debug, Clone)]
pub struct Fingerprints {
    /// Of the DER SubjectPublicKeyInfo of the signing key.
    pub signing: Fingerprint,
    /// Of the raw X25519 key.
    pub linkage: Fingerprint,
}

/// A new Ed25519 key in PEM (PKCS#8), and read back.
pub(super) fn signing_key() -> Result<(String, SigningKey)> {
    let made = KeyPair::generate_for(&rcgen::PKCS_ED25519).map(|pair| pair.serialize_pem());
    let pem = made.map_err(|e| Failure::new(format!("making an Ed25519 key failed: {e}")))?;
    let key = SigningKey::from_pem(&pem).ok_or_else(|| Failure::new("the Ed25519 key just made cannot be read back"))?;
    Ok((pem, key))
}

/// Makes both keys of a node in `folder`.
pub(super) fn make(folder: &Path) -> Result<Fingerprints> {
    let (pem, signing) = signing_key()?;
    write_secret(&folder.join("signing.key.pem"), &pem)?;
    let mut secret = [0u8; 32];
    let failed = |_| Failure::new("making an X25519 key failed");
    aws_lc_rs::rand::fill(&mut secret).map_err(failed)?;
    let private = PrivateKey::from_private_key(&X25519, &secret).map_err(|_| Failure::new("making an X25519 key failed"))?;
    let public = private.compute_public_key().map_err(failed)?;
    write_secret(&folder.join("linkage.key"), &format!("{}\n", hex(&secret)))?;
    Ok(Fingerprints { signing: Fingerprint::of(signing.public_spki()), linkage: Fingerprint::of(public.as_ref()) })
}
