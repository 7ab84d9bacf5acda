//! Agreements that travel: a text with the signature of one party, which proposes it so, or countersigns it. And the folder in which
//! such texts wait for people, or for the gateway to fetch them.
//!
//! ```text
//! state/inbox/opportunity-1a2b3c4d5e6f7a8b/opportunity.toml            byte for byte
//!                                          opportunity.toml.dfe.sig    one per party that has signed so far
//!                                          from                        the department that sent the text first
//! ```
//! Nothing here is in force: programs go by their folders of agreements alone.

use std::io;
use std::path::{Path, PathBuf};

use concordat_policy::signature::Statement;
use concordat_policy::{Agreement, Name};
use sha2::{Digest as _, Sha256};

use super::files::{self, beside};
use super::{MAX_BYTES, read};
use crate::v1;
use concordat_policy::agreement::hex;

/// The longest text of an agreement that travels, in bytes.
pub const MAX_TEXT: usize = 256 << 10;
/// The most texts that a department offers at a time.
pub const MAX_OFFERED: usize = 32;
/// The most signatures that a relay names as known.
pub const MAX_KNOWN: usize = 64;
/// The most texts that are held of those that one department was the first to send.
pub const MAX_HELD: usize = 16;
/// The name of the file that says who sent a text first.
const FROM: &str = "from";

/// A text and one party's signature of this very text. Whose key signed, and whether it counts, is for others to judge.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The agreement.
    pub agreement: Agreement,
    /// What its signer states.
    pub statement: Statement,
    text: String,
    signature: Vec<u8>,
}

impl Offer {
    /// Reads what came over the wire.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn read(wire: v1::SignedAgreement) -> Result<Self, String> {
        if wire.text.len() > MAX_TEXT || wire.signature.len() > MAX_BYTES {
            return Err(format!("an agreement that travels has at most {} KiB, its signature 4 KiB", MAX_TEXT >> 10));
        }
        let text = String::from_utf8(wire.text).map_err(|_| "the agreement is not text")?;
        let agreement = Agreement::parse(&text).map_err(|problems| {
            let first = problems.first().map(|problem| problem.cause.clone()).unwrap_or_default();
            format!("the text is no agreement: {first}")
        })?;
        let statement = read(&wire.signature).map_err(|fault| format!("the signature {fault}"))?;
        if statement.department.as_str() != wire.department {
            return Err("the signature is another department's than is said".into());
        }
        Ok(Self { agreement, statement, text, signature: wire.signature })
    }

    /// Of an agreement's file and the signature of `department` beside it.
    ///
    /// # Errors
    /// What is wrong with them, for people.
    pub fn of(file: &Path, department: &Name) -> Result<Self, String> {
        let read = |path: &Path| std::fs::read(path).map_err(|e| format!("{} cannot be read: {e}", path.display()));
        let (text, signature) = (read(file)?, read(&beside(file, department))?);
        Self::read(v1::SignedAgreement { text, department: department.to_string(), signature })
    }

    /// What goes over the wire.
    #[must_use]
    pub fn into_wire(self) -> v1::SignedAgreement {
        v1::SignedAgreement { text: self.text.into_bytes(), department: self.statement.department.to_string(), signature: self.signature }
    }

    /// SHA-256 of the signature, in lower-case hex: what a relay knows it by.
    #[must_use]
    pub fn known_as(&self) -> String {
        hex(&Sha256::digest(&self.signature))
    }

    /// The other parties.
    pub fn others(&self) -> impl Iterator<Item = &Name> {
        self.agreement.parties.iter().map(|party| &party.department).filter(|department| **department != self.statement.department)
    }
}

/// A folder of texts that travel.
#[derive(Debug, Clone)]
pub struct Texts(PathBuf);

/// A text in such a folder.
#[derive(Debug)]
pub struct Held {
    /// Its own folder, whose name tells it from other texts of the same agreement.
    pub folder: PathBuf,
    /// Its file.
    pub file: PathBuf,
    /// What it says.
    pub agreement: Agreement,
    /// Who sent it first.
    pub from: String,
}

/// What is new in an [`Offer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum New {
    /// The text.
    Text,
    /// The signature, or another one of the same party; the text is held already.
    Signature,
    /// Nothing.
    Nothing,
    /// The text, and its sender was the first to send as many as are held.
    TooMany,
}

impl Texts {
    /// The folder at `path`; it need not exist.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// What would be new here.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn new_in(&self, offer: &Offer) -> io::Result<New> {
        let file = self.file(&offer.agreement);
        if file.exists() {
            let known = std::fs::read(beside(&file, &offer.statement.department)).is_ok_and(|known| known == offer.signature);
            return Ok(if known { New::Nothing } else { New::Signature });
        }
        let sender = offer.statement.department.as_str();
        let held = self.folders()?.into_iter().filter(|folder| from(folder) == sender).count();
        Ok(if held < MAX_HELD { New::Text } else { New::TooMany })
    }

    /// Keeps an offer. `replace` writes a file durably and as a whole.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, offer: &Offer, replace: impl Fn(&Path, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let (file, department) = (self.file(&offer.agreement), &offer.statement.department);
        let folder = file.parent().unwrap_or(&self.0);
        std::fs::create_dir_all(folder)?;
        if !file.exists() {
            replace(&folder.join(FROM), department.as_str().as_bytes())?;
            replace(&file, offer.text.as_bytes())?;
        }
        replace(&beside(&file, department), &offer.signature)
    }

    /// Every text, by the names of their folders. What cannot be read is left out.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn held(&self) -> io::Result<Vec<Held>> {
        let held = |folder: PathBuf| {
            let file = std::fs::read_dir(&folder).ok()?.flatten().map(|entry| entry.path()).find(|path| files::is_agreement(path))?;
            let agreement = Agreement::parse(&std::fs::read_to_string(&file).ok()?).ok()?;
            Some(Held { from: from(&folder), folder, file, agreement })
        };
        Ok(self.folders()?.into_iter().filter_map(held).collect())
    }

    fn folders(&self) -> io::Result<Vec<PathBuf>> {
        let mut folders = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(e),
        };
        folders.sort();
        Ok(folders)
    }

    fn file(&self, agreement: &Agreement) -> PathBuf {
        let digest: String = agreement.digest.chars().take(16).collect();
        self.0.join(format!("{}-{digest}", agreement.id)).join(format!("{}.toml", agreement.id))
    }
}

fn from(folder: &Path) -> String {
    std::fs::read_to_string(folder.join(FROM)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::SigningKey;

    fn key() -> SigningKey {
        let document = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        SigningKey::from_pkcs8(document.as_ref()).unwrap()
    }

    fn text(id: &str) -> String {
        let party = |department: &str, digit: &str| {
            let print = format!("sha256:{}", digit.repeat(64));
            format!("[[party]]\ndepartment = \"{department}\"\nsigning_key = \"{print}\"\nlinkage_key = \"{print}\"\n")
        };
        format!(
            "id = \"{id}\"\ntitle = \"T\"\nmission = \"m\"\npurposes = [\"p\"]\nvalid_from = \"2026-01-01\"\nvalid_until = \"2026-12-31\"\nlinkage = {{ keyholder = \"dfe\" }}\n{}{}",
            party("dfe", "0"),
            party("dwp", "1")
        )
    }

    fn wire(text: &str, department: &str) -> v1::SignedAgreement {
        let agreement = Agreement::parse(text).unwrap();
        let signature = super::super::sign(&agreement, &Name::parse(department).unwrap(), &key(), chrono::Utc::now()).unwrap();
        v1::SignedAgreement { text: text.into(), department: department.into(), signature: signature.into() }
    }

    #[test]
    fn what_travels_is_a_sound_text_of_bounded_length_and_a_signature() {
        let good = wire(&text("one"), "dfe");
        let offer = Offer::read(good.clone()).unwrap();
        assert_eq!(offer.others().map(Name::as_str).collect::<Vec<_>>(), ["dwp"]);
        assert_eq!(offer.into_wire(), good);
        for (what, bad) in [
            ("another department's", v1::SignedAgreement { department: "dwp".into(), ..good.clone() }),
            ("no agreement", v1::SignedAgreement { text: b"id = 1".to_vec(), ..good.clone() }),
            ("not text", v1::SignedAgreement { text: vec![0xff], ..good.clone() }),
            ("at most 256 KiB", v1::SignedAgreement { text: vec![b'#'; MAX_TEXT + 1], ..good.clone() }),
            ("signature 4 KiB", v1::SignedAgreement { signature: vec![b'A'; MAX_BYTES + 1], ..good.clone() }),
            ("the signature is not of the form", v1::SignedAgreement { signature: b"A".to_vec(), ..good.clone() }),
            ("no agreement", v1::SignedAgreement::default()),
        ] {
            let cause = Offer::read(bad).unwrap_err();
            assert!(cause.contains(what), "{what}: {cause}");
        }
    }

    #[test]
    fn texts_are_held_byte_for_byte_and_not_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let texts = Texts::at(folder.path().join("inbox"));
        let write = |path: &Path, bytes: &[u8]| std::fs::write(path, bytes);
        let offer = |id: &str, department: &str| Offer::read(wire(&text(id), department)).unwrap();
        let one = offer("one", "dfe");
        assert_eq!(texts.new_in(&one).unwrap(), New::Text);
        texts.keep(&one, write).unwrap();
        assert_eq!(texts.new_in(&one).unwrap(), New::Nothing);
        let countersigned = offer("one", "dwp");
        assert_eq!(texts.new_in(&countersigned).unwrap(), New::Signature);
        texts.keep(&countersigned, write).unwrap();
        let [held] = texts.held().unwrap().try_into().unwrap();
        assert_eq!(std::fs::read_to_string(&held.file).unwrap(), text("one"));
        assert_eq!((held.from.as_str(), held.file.file_name().unwrap().to_str()), ("dfe", Some("one.toml")));
        assert!(["dfe", "dwp"].iter().all(|signer| files::find(&held.file, &Name::parse(signer).unwrap()).is_ok()));
        assert_eq!(Offer::of(&held.file, &Name::parse("dwp").unwrap()).unwrap().known_as(), countersigned.known_as());
        for number in 1..MAX_HELD {
            texts.keep(&offer(&format!("n{number}"), "dfe"), write).unwrap();
        }
        assert_eq!(texts.new_in(&offer("more", "dfe")).unwrap(), New::TooMany);
        assert_eq!(texts.new_in(&offer("more", "dwp")).unwrap(), New::Text, "another department's are its own");
        assert_eq!(texts.new_in(&offer("one", "dfe")).unwrap(), New::Signature, "of what is held");
        assert_eq!(texts.held().unwrap().len(), MAX_HELD);
    }
}
