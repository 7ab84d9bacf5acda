//! Linkage keys at rest: in clear in files of mode 0600, or encrypted under a key that does not lie beside them.
//!
//! ```text
//! passphrase ── PBKDF2, salt ──▶ ┐
//!                                ├─ wrapping key ── AES-256-GCM ──▶ the file:  concordat key v1
//! command ───── unwrap ────────▶ ┘   (in memory)                              recipe: how the wrapping key is found again
//!                                                                             nonce, ciphertext and tag in Base64
//! ```
//!
//! Invariants
//! - Recipe and label are authenticated: a file that was moved to another place, or made for something else, does not open.
//! - Where encryption is configured, a key in clear is refused, and the reverse; [`AtRest::renewed`] alone takes both, to convert.
//! - No passphrase and no key stands in an argument, an environment variable, a message or a log.

mod command;
mod passphrase;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

pub(crate) use self::command::Command;
pub(crate) use self::passphrase::Passphrase;
use crate::framing::framed;

/// The first line of an encrypted file.
const FIRST: &str = "concordat key v1";
/// Bytes of a nonce.
const NONCE: usize = 12;

/// The key that encrypts keys.
pub(crate) type WrappingKey = Zeroizing<[u8; 32]>;

/// Why a key could not be encrypted or read. For the operator.
#[derive(Debug, thiserror::Error)]
pub enum AtRestError {
    /// It lies in clear.
    #[error(
        "is not encrypted, though [keys.at_rest] says how it should be: stop the node, and `concordat-node linkage protect` encrypts it"
    )]
    Clear,
    /// It is encrypted.
    #[error("is encrypted, and [keys.at_rest] says nothing of it")]
    Encrypted,
    /// Made for another kind of protection.
    #[error("is encrypted in another way than [keys.at_rest] says; state the way in which it was made")]
    OtherWay,
    /// Wrong passphrase, another key, or altered.
    #[error("does not open: another passphrase or key, or the file was altered or belongs elsewhere")]
    DoesNotOpen,
    /// The command.
    #[error("the command of [keys.at_rest] {0}")]
    Command(String),
    /// No randomness.
    #[error("the operating system gives no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

/// Where wrapping keys come from. The one thing that a department's own key store has to offer.
pub(crate) trait Wrapping: std::fmt::Debug + Send + Sync {
    /// Under what keys are encrypted, for people.
    fn title(&self) -> &'static str;
    /// A new wrapping key, and its recipe: one line that is no secret.
    fn make(&self) -> Result<(String, WrappingKey), AtRestError>;
    /// The wrapping key of a recipe.
    fn find(&self, recipe: &str) -> Result<WrappingKey, AtRestError>;
}

/// How linkage keys lie on disk.
#[derive(Debug, Clone, Default)]
pub struct AtRest(Option<Arc<Wrapped>>);

struct Wrapped {
    wrapping: Box<dyn Wrapping>,
    /// By recipe, as far as they were needed: a key store is asked once.
    known: Mutex<BTreeMap<String, WrappingKey>>,
}

impl std::fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.wrapping.fmt(f)
    }
}

impl AtRest {
    pub(crate) fn under(wrapping: impl Wrapping + 'static) -> Self {
        Self(Some(Arc::new(Wrapped { wrapping: Box::new(wrapping), known: Mutex::default() })))
    }

    /// How keys lie on disk, for people.
    #[must_use]
    pub fn title(&self) -> &'static str {
        self.0.as_ref().map_or("in clear, in files of mode 0600", |wrapped| wrapped.wrapping.title())
    }

    /// What to write where `text` is to be kept under `label`.
    pub(crate) fn seal(&self, label: &str, text: &str) -> Result<Zeroizing<String>, AtRestError> {
        let Some(wrapped) = &self.0 else { return Ok(Zeroizing::new(text.to_owned())) };
        let (recipe, key) = wrapped.any()?;
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce)?;
        let mut sealed = text.as_bytes().to_vec();
        cipher(&key)?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad(&recipe, label), &mut sealed)
            .map_err(|_| AtRestError::DoesNotOpen)?;
        let body = BASE64_STANDARD.encode([nonce.as_slice(), &sealed].concat());
        Ok(Zeroizing::new(format!("{FIRST}\n{recipe}\n{body}\n")))
    }

    /// What was kept under `label` in a file that holds `text`.
    pub(crate) fn open(&self, label: &str, text: &str) -> Result<Zeroizing<String>, AtRestError> {
        let wrapped = match (&self.0, is_sealed(text)) {
            (None, false) => return Ok(Zeroizing::new(text.to_owned())),
            (None, true) => return Err(AtRestError::Encrypted),
            (Some(_), false) => return Err(AtRestError::Clear),
            (Some(wrapped), true) => wrapped,
        };
        let mut lines = text.lines().skip(1);
        let (recipe, body) = lines.next().zip(lines.next()).ok_or(AtRestError::DoesNotOpen)?;
        let bytes = BASE64_STANDARD.decode(body).map_err(|_| AtRestError::DoesNotOpen)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE>().ok_or(AtRestError::DoesNotOpen)?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let key = wrapped.of(recipe)?;
        let opened = cipher(&key)?.open_in_place(Nonce::assume_unique_for_key(*nonce), aad(recipe, label), &mut sealed);
        let opened = opened.map_err(|_| AtRestError::DoesNotOpen)?;
        String::from_utf8(opened.to_vec()).map(Zeroizing::new).map_err(|_| AtRestError::DoesNotOpen)
    }

    /// What to write in place of a file that holds `text`, in clear or as `before` kept it; `None` where it is as it should be.
    pub(crate) fn renewed(&self, before: &Self, label: &str, text: &str) -> Result<Option<Zeroizing<String>>, AtRestError> {
        if self.open(label, text).is_ok() {
            return Ok(None);
        }
        let opened = if is_sealed(text) { before.open(label, text)? } else { Zeroizing::new(text.to_owned()) };
        self.seal(label, &opened).map(Some)
    }
}

impl Wrapped {
    /// Any wrapping key: one that is known, else a new one.
    fn any(&self) -> Result<(String, WrappingKey), AtRestError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((recipe, key)) = known.first_key_value() {
            return Ok((recipe.clone(), key.clone()));
        }
        let (recipe, key) = self.wrapping.make()?;
        // What cannot be found again would be lost with this process.
        if self.wrapping.find(&recipe)? != key {
            return Err(AtRestError::Command("gives back another key than it was given".into()));
        }
        known.insert(recipe.clone(), key.clone());
        Ok((recipe, key))
    }

    fn of(&self, recipe: &str) -> Result<WrappingKey, AtRestError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known.get(recipe) {
            return Ok(key.clone());
        }
        let key = self.wrapping.find(recipe)?;
        known.insert(recipe.to_owned(), key.clone());
        Ok(key)
    }
}

fn is_sealed(text: &str) -> bool {
    text.lines().next() == Some(FIRST)
}

fn cipher(key: &WrappingKey) -> Result<LessSafeKey, AtRestError> {
    UnboundKey::new(&AES_256_GCM, key.as_slice()).map(LessSafeKey::new).map_err(|_| AtRestError::DoesNotOpen)
}

fn aad(recipe: &str, label: &str) -> Aad<Vec<u8>> {
    Aad::from(framed(&[FIRST.as_bytes(), recipe.as_bytes(), label.as_bytes()]))
}

#[cfg(test)]
mod tests;
