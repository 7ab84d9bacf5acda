//! A passphrase from a file: one of the department's own, or a credential that the service manager provides.

use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use aws_lc_rs::pbkdf2::{PBKDF2_HMAC_SHA512, derive};
use concordat_policy::agreement::hex;
use zeroize::Zeroizing;

use super::{AtRestError, Wrapping, WrappingKey};

const KIND: &str = "pbkdf2-hmac-sha512";
/// OWASP's recommendation for PBKDF2 with HMAC-SHA-512 (2023).
const ROUNDS: NonZeroU32 = NonZeroU32::new(210_000).unwrap();
/// The shortest passphrase, in characters: shorter ones are guessed.
const SHORTEST: usize = 16;
/// The longest file, in bytes.
const LONGEST: u64 = 4096;

/// A passphrase, from which wrapping keys are derived.
pub(crate) struct Passphrase(Zeroizing<String>);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase")
    }
}

impl Passphrase {
    /// Reads the first line of a file. Its group may read it, as it may credentials of systemd; others may not.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub(crate) fn read(path: &Path) -> Result<Self, (String, &'static str)> {
        let unreadable = |e: std::io::Error| (format!("cannot be read: {e}"), "correct the path or the file's permissions");
        let facts = std::fs::metadata(path).map_err(unreadable)?;
        let mode = facts.permissions().mode();
        if mode & 0o037 != 0 {
            let cause = format!("is a passphrase that others can read or change (mode {:o})", mode & 0o777);
            return Err((cause, "chmod 600; if others could read it, take another and `concordat-node linkage protect` again"));
        }
        if facts.len() > LONGEST {
            return Err(("is longer than 4 KiB".into(), "the passphrase is the file's first line"));
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(unreadable)?);
        let line = text.lines().next().unwrap_or_default();
        if line.chars().count() < SHORTEST {
            return Err((format!("holds a passphrase of less than {SHORTEST} characters"), "make one: openssl rand -base64 32"));
        }
        Ok(Self(Zeroizing::new(line.to_owned())))
    }

    fn derive(&self, salt: &[u8]) -> WrappingKey {
        let mut key = Zeroizing::new([0; 32]);
        derive(PBKDF2_HMAC_SHA512, ROUNDS, salt, self.0.as_bytes(), key.as_mut_slice());
        key
    }
}

impl Wrapping for Passphrase {
    fn title(&self) -> &'static str {
        "encrypted under a passphrase"
    }

    fn make(&self) -> Result<(String, WrappingKey), AtRestError> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt)?;
        Ok((format!("{KIND} {}", hex(&salt)), self.derive(&salt)))
    }

    fn find(&self, recipe: &str) -> Result<WrappingKey, AtRestError> {
        let salt = recipe.strip_prefix(KIND).and_then(|rest| rest.strip_prefix(' ')).ok_or(AtRestError::OtherWay)?;
        Ok(self.derive(&crate::linkage::unhex(salt).ok_or(AtRestError::DoesNotOpen)?))
    }
}
