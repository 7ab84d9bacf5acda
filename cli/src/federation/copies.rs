//! Every party's copy of an agreement, and its signatures.
//!
//! In production each department signs for itself, at its own node. Here one folder holds every department's key.

use std::path::Path;

use chrono::Utc;
use concordat_policy::agreement::Fingerprint;
use concordat_policy::{Agreement, Name};
use concordat_proto::signature::{self, files};
use concordat_proto::token::SigningKey;

use super::layout::{Layout, read, write};
use crate::failure::{Failure, Result};

/// Gives every party of an agreement its own copy, and the estate one, each with every party's signature. Returns the agreement.
///
/// # Errors
/// When the text is not an agreement, a party has no node here or another key than the agreement names, or a file cannot be
/// written. Nothing is written unless every party can sign.
pub fn adopt(layout: &Layout, text: &str) -> Result<Agreement> {
    let agreement = parsed(text)?;
    let nodes: Vec<_> = agreement.parties.iter().map(|party| layout.node(party.department.as_str())).collect();
    if let Some(missing) = nodes.iter().find(|node| !node.join("node.toml").is_file()) {
        return Err(Failure::new(format!("{} holds no node of a party of agreement '{}'", missing.display(), agreement.id))
            .advice("correct the party's department, or make its node first"));
    }
    let signatures = signatures(layout, &agreement)?;
    for folder in nodes.into_iter().chain([layout.estate()]) {
        let path = folder.join("agreements").join(format!("{}.toml", agreement.id));
        write(&path, text)?;
        lay(&path, &signatures)?;
    }
    Ok(agreement)
}

/// Signs an agreement's file, as it is now, in the name of every party: after one of the copies was edited.
///
/// # Errors
/// As [`adopt`].
pub fn sign_again(layout: &Layout, file: &Path) -> Result<()> {
    lay(file, &signatures(layout, &parsed(&read(file)?)?)?)
}

fn parsed(text: &str) -> Result<Agreement> {
    Agreement::parse(text).map_err(|problems| {
        let lines = problems.iter().map(|p| format!("line {}: {} ({})", p.line(text), p.cause, p.remedy)).collect::<Vec<_>>();
        Failure::new(format!("this is not a complete agreement:\n{}", lines.join("\n")))
    })
}

/// Every party's signature.
fn signatures(layout: &Layout, agreement: &Agreement) -> Result<Vec<(Name, String)>> {
    let now = Utc::now();
    let sign = |department: &Name, agreed: &Fingerprint| -> Result<(Name, String)> {
        let path = layout.node(department.as_str()).join("keys/signing.key.pem");
        let key = SigningKey::from_pem(&read(&path)?)
            .ok_or_else(|| Failure::new(format!("{} is not an Ed25519 private key in PKCS#8 PEM", path.display())))?;
        let print = Fingerprint::of(key.public_spki());
        if print != *agreed {
            return Err(Failure::new(format!("the agreement '{}' names another signing key of '{department}' than {print}", agreement.id))
                .advice(format!("its node's is {}; correct the agreement's fingerprint", path.display())));
        }
        signature::sign(agreement, department, &key, now).map(|content| (department.clone(), content)).map_err(Failure::new)
    };
    agreement.parties.iter().map(|party| sign(&party.department, &party.signing_key)).collect()
}

fn lay(file: &Path, signatures: &[(Name, String)]) -> Result<()> {
    signatures.iter().try_for_each(|(department, content)| write(&files::beside(file, department), content))
}
