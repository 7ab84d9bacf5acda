//! Keys of a federation's parts: those of nodes are made as `concordat-node init` makes them.

use std::path::Path;

pub use concordat_node::init::Fingerprints;
use concordat_node::init::{InspectError, keys};
use concordat_proto::token::SigningKey;

use crate::failure::{Failure, Result};

fn failed(error: InspectError) -> Failure {
    Failure::new(error.to_string()).advice(error.remedy)
}

/// A new Ed25519 key in PEM (PKCS#8), and read back.
pub(super) fn signing_key() -> Result<(String, SigningKey)> {
    let (pem, key) = keys::signing_key().map_err(failed)?;
    Ok((pem.to_string(), key))
}

/// Makes both keys of a node in `folder`.
pub(super) fn make(folder: &Path) -> Result<Fingerprints> {
    keys::make(folder).map_err(failed)
}
