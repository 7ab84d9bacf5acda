//! Signed notes (c2sp.org/signed-note): a text, and lines of signatures under it.
//!
//! Reading is strict and bounded, because notes come from other parties. A note proves nothing until [`Note::signed_by`] has found a
//! signature of a key that the reader was given by other means.

use std::fmt;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

pub use crate::signer::Signer;

/// The longest note, in bytes.
pub const MAX_NOTE: usize = 64 * 1024;

/// The most signatures of one note.
pub const MAX_SIGNATURES: usize = 64;

/// Why something is not a note, not a key, or not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It does not have the form of a signed note.
    #[error("this is not a signed note: {0}")]
    Form(&'static str),
    /// It does not have the form of a key.
    #[error("this is not a key of signed notes (name+id+base64): {0}")]
    Key(&'static str),
    /// A line that names the key, with a signature that the key did not make.
    #[error("the signature of '{0}' is not of its key: the text or the signature was changed")]
    Signature(String),
}

/// What a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// A log: the text as it is.
    Ed25519 = 1,
    /// A witness: the text and the time (c2sp.org/tlog-cosignature, `cosignature/v1`).
    Cosignature = 4,
}

/// A public key with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    algorithm: Algorithm,
    public: [u8; 32],
}

impl VerifierKey {
    pub(crate) fn new(name: &str, algorithm: Algorithm, public: [u8; 32]) -> Result<Self, NoteError> {
        if !is_name(name) {
            return Err(NoteError::Key("its name is empty, or has a space, a control character or a '+'"));
        }
        let hash = Sha256::new().chain_update(name).chain_update([b'\n', algorithm as u8]).chain_update(public).finalize();
        Ok(Self { name: name.to_owned(), id: hash.first_chunk().copied().unwrap_or_default(), algorithm, public })
    }

    /// Reads the text form, `name+id+base64`.
    ///
    /// # Errors
    /// [`NoteError::Key`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(_), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("it does not have three parts"));
        };
        let (algorithm, public) = key_bytes(key)?;
        let key = Self::new(name, algorithm, public)?;
        if key.to_string() == text { Ok(key) } else { Err(NoteError::Key("its id does not belong to its name and key")) }
    }

    /// Whose key it is: a log's origin, or a witness's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The 32 bytes of the key.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    pub(crate) fn id(&self) -> [u8; 4] {
        self.id
    }

    /// Whether this key signed exactly these bytes.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.public).verify(message, signature).is_ok()
    }

    /// What a signature says about `text`; `None` if the key did not make it.
    fn opens(&self, text: &str, signature: &[u8]) -> Option<Signed> {
        match self.algorithm {
            Algorithm::Ed25519 => self.verifies(text.as_bytes(), signature).then_some(Signed { time: 0 }),
            Algorithm::Cosignature => {
                let (time, signature) = signature.split_first_chunk()?;
                let time = u64::from_be_bytes(*time);
                let in_range = i64::try_from(time).is_ok();
                (in_range && self.verifies(&cosigned_message(text, time), signature)).then_some(Signed { time })
            }
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&key_text(&self.name, self.id, self.algorithm, &self.public))
    }
}

/// A signature that was found to be good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// When it was made, in seconds since 1970; zero where the key's algorithm does not say.
    pub time: u64,
}

/// One line of a note, which proves nothing by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub(crate) name: String,
    pub(crate) id: [u8; 4],
    pub(crate) bytes: Vec<u8>,
}

impl Signature {
    /// Reads a line, without its newline.
    ///
    /// # Errors
    /// [`NoteError::Form`].
    pub fn parse(line: &str) -> Result<Self, NoteError> {
        let form = NoteError::Form("a line below the text is not '— name base64'");
        let (name, signature) = line.strip_prefix("— ").and_then(|rest| rest.split_once(' ')).ok_or(form.clone())?;
        let bytes = BASE64_STANDARD.decode(signature).map_err(|_| form.clone())?;
        match bytes.split_first_chunk() {
            Some((id, rest)) if is_name(name) && !rest.is_empty() => Ok(Self { name: name.to_owned(), id: *id, bytes: rest.to_vec() }),
            _ => Err(form),
        }
    }

    /// Who is said to have signed.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it names `key`.
    #[must_use]
    pub fn is_of(&self, key: &VerifierKey) -> bool {
        self.name == key.name && self.id == key.id
    }
}

/// The line, with its newline.
impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "— {} {}", self.name, BASE64_STANDARD.encode([&self.id[..], &self.bytes].concat()))
    }
}

/// A text with signatures, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// A text with its first signature.
    #[must_use]
    pub fn new(text: &str, signature: Signature) -> Self {
        Self { text: text.to_owned(), signatures: vec![signature] }
    }

    /// Reads a note.
    ///
    /// # Errors
    /// [`NoteError::Form`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE {
            return Err(NoteError::Form("it is longer than 64 KiB"));
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| NoteError::Form("it is not UTF-8"))?;
        if whole.bytes().any(|b| b < b' ' && b != b'\n') {
            return Err(NoteError::Form("it has a control character"));
        }
        let (text, lines) = whole.rsplit_once("\n\n").ok_or(NoteError::Form("no blank line parts its text from its signatures"))?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Form("it does not end with a whole line"))?;
        let signatures = lines.split('\n').take(MAX_SIGNATURES + 1).map(Signature::parse).collect::<Result<Vec<_>, _>>()?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(NoteError::Form("it has more than 64 signatures"));
        }
        Ok(Self { text: format!("{text}\n"), signatures })
    }

    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// All lines, verified or not.
    #[must_use]
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Adds a line below the others.
    pub fn add(&mut self, signature: Signature) {
        self.signatures.push(signature);
    }

    /// Adds a line in the place of those of the same key, so that there is one.
    pub(crate) fn put(&mut self, signature: Signature) {
        let of_another = |line: &Signature| line.name != signature.name || line.id != signature.id;
        match self.signatures.iter().position(|line| !of_another(line)) {
            Some(at) => {
                let rest = self.signatures.split_off(at);
                self.signatures.push(signature.clone());
                self.signatures.extend(rest.into_iter().filter(of_another));
            }
            None => self.signatures.push(signature),
        }
    }

    /// The signature of `key`, the latest where there are several; `None` where there is none.
    ///
    /// # Errors
    /// [`NoteError::Signature`]: a line names the key and is not of it.
    pub fn signed_by(&self, key: &VerifierKey) -> Result<Option<Signed>, NoteError> {
        let mut latest: Option<Signed> = None;
        for line in self.signatures.iter().filter(|line| line.is_of(key)) {
            let signed = key.opens(&self.text, &line.bytes).ok_or_else(|| NoteError::Signature(key.name.clone()))?;
            latest = Some(latest.map_or(signed, |latest| Signed { time: latest.time.max(signed.time) }));
        }
        Ok(latest)
    }
}

/// The note as it is sent and stored.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| write!(f, "{signature}"))
    }
}

/// Whether a key may have this name.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

/// What a witness signs about a text.
pub(crate) fn cosigned_message(text: &str, time: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{text}").into_bytes()
}

pub(crate) fn key_text(name: &str, id: [u8; 4], algorithm: Algorithm, key: &[u8; 32]) -> String {
    format!("{name}+{:08x}+{}", u32::from_be_bytes(id), BASE64_STANDARD.encode([&[algorithm as u8][..], key].concat()))
}

/// The algorithm and the 32 bytes behind it.
pub(crate) fn key_bytes(base64: &str) -> Result<(Algorithm, [u8; 32]), NoteError> {
    let bytes = BASE64_STANDARD.decode(base64).map_err(|_| NoteError::Key("its last part is not Base64"))?;
    let (algorithm, key) = bytes.split_first().ok_or(NoteError::Key("its last part is empty"))?;
    let algorithm = match *algorithm {
        1 => Algorithm::Ed25519,
        4 => Algorithm::Cosignature,
        _ => return Err(NoteError::Key("it is neither an Ed25519 key (1) nor a witness's (4)")),
    };
    Ok((algorithm, key.try_into().map_err(|_| NoteError::Key("it is not 32 bytes long"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's first implementation.
    const SIGNER: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\
                        — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn keys_and_signatures_are_those_of_other_implementations() {
        let signer = Signer::parse(SIGNER).unwrap();
        assert_eq!((signer.key().to_string().as_str(), signer.private_text().unwrap().as_str()), (KEY, SIGNER));
        let note = Note::parse(NOTE.as_bytes()).unwrap();
        let key = VerifierKey::parse(KEY).unwrap();
        assert_eq!(note.signed_by(&key), Ok(Some(Signed { time: 0 })));
        assert_eq!(Note::new(note.text(), signer.sign(note.text(), 5)).to_string(), NOTE);
        let other = Signer::generate("PeterNeumann", Algorithm::Ed25519).unwrap();
        assert_eq!(note.signed_by(other.key()), Ok(None), "another key of the same name");
    }

    #[test]
    fn a_changed_byte_is_found() {
        let key = VerifierKey::parse(KEY).unwrap();
        for at in 0..NOTE.len() {
            let mut bytes = NOTE.as_bytes().to_vec();
            bytes[at] ^= 1;
            let found = Note::parse(&bytes).and_then(|note| note.signed_by(&key));
            assert!(!matches!(found, Ok(Some(_))), "byte {at}");
        }
    }

    #[test]
    fn what_is_not_a_note_is_refused() {
        let line = "— a AAAAAAA=\n";
        let many = format!("t\n\n{}", line.repeat(MAX_SIGNATURES + 1));
        let long = format!("{}\n\n{line}", "x".repeat(MAX_NOTE));
        for (case, reason) in [
            ("", "no blank line"),
            ("t\n", "no blank line"),
            ("t\n\n", "a whole line"),
            ("t\n\n— a AAAAAAA=", "a whole line"),
            ("t\n\n- a AAAAAAA=\n", "not '— name base64'"),
            ("t\n\n— a  AAAAAAA=\n", "not '— name base64'"),
            ("t\n\n— a+b AAAAAAA=\n", "not '— name base64'"),
            ("t\n\n— a AAAAAA==\n", "not '— name base64'"),
            ("t\n\n— a AAAAAAB=\n", "not '— name base64'"),
            ("t\n\n— a AAAAAAA\n", "not '— name base64'"),
            ("t\r\n\n— a AAAAAAA=\n", "control character"),
            (&many, "more than 64"),
            (&long, "longer than"),
        ] {
            let error = Note::parse(case.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{case:.40}: {error}");
        }
        assert!(Note::parse(b"\xff\n\n").is_err());
        for key in ["", "a", "a+b", "a b+00000000+AQ==", &KEY.replace("c74f", "c74e"), &KEY.replace("+ARpc", "+Ahpc"), &KEY[..60]] {
            assert!(VerifierKey::parse(key).is_err(), "{key}");
        }
    }

    #[test]
    fn a_cosignature_says_when() {
        let witness = Signer::generate("witness.example/w", Algorithm::Cosignature).unwrap();
        let again = Signer::parse(&witness.private_text().unwrap()).unwrap();
        let mut note = Note::new("t\n", again.sign("t\n", 1_700_000_000));
        note.add(again.sign("t\n", 1_600_000_000));
        let note = Note::parse(note.to_string().as_bytes()).unwrap();
        assert_eq!(note.signed_by(witness.key()), Ok(Some(Signed { time: 1_700_000_000 })));
        let mut moved = note.clone();
        moved.signatures[0].bytes[7] ^= 1;
        assert_eq!(moved.signed_by(witness.key()), Err(NoteError::Signature("witness.example/w".into())));
    }
}
