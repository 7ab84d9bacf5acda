//! Agreements that travel: a text with the signature of one party, which proposes it so, or countersigns it. And the folder in which
//! such texts wait for people, or for the gateway to fetch them.
//!
//! ```text
//! state/inbox/opportunity-1a2b3c4d5e6f7a8b/opportunity.toml            byte for byte
//!                                          opportunity.toml.dfe.sig    one per party that has signed so far
//!                                          from                        the department that sent the text first; written last
//!             .discarded-SHA256                                         a text that a person discarded: it is not held again
//! ```
//! Nothing here is in force: programs go by their folders of agreements alone.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

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
/// The most texts that a node holds of what all others sent: who sent a text first is only said.
pub const MAX_HELD_IN_ALL: usize = 64;
/// The most parties of an agreement that travels: each may send a signature.
pub const MAX_PARTIES: usize = 64;
/// How long a text lies unchanged before a signature of it is replaced by another one of the same party.
const UNCHANGED: Duration = Duration::from_secs(3600);
/// How the names begin of files that say which texts were discarded.
const DISCARDED: &str = ".discarded-";
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
        if agreement.parties.len() > MAX_PARTIES {
            return Err(format!("an agreement that travels has at most {MAX_PARTIES} parties"));
        }
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
pub struct Texts {
    path: PathBuf,
    most: usize,
}

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
    /// A text that a person discarded.
    Discarded,
    /// The text, and as many are held as may be: of those that its sender was the first to send, or of all.
    TooMany,
    /// Another signature of a party whose signature is held, less than an hour after something of this text was written.
    TooSoon,
}

impl Texts {
    /// The folder at `path`; it need not exist.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path, most: usize::MAX }
    }

    /// The same, for at most as many texts in all.
    #[must_use]
    pub fn at_most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// What would be new here.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn new_in(&self, offer: &Offer) -> io::Result<New> {
        if self.discarded(&offer.agreement.digest).exists() {
            return Ok(New::Discarded);
        }
        let folder = self.folder(&offer.agreement);
        let file = file_in(&folder, &offer.agreement);
        // What a crash left half is begun anew.
        if file.exists() && folder.join(FROM).exists() {
            return Ok(match std::fs::read(beside(&file, &offer.statement.department)) {
                Ok(known) if known == offer.signature => New::Nothing,
                Ok(_) if changed_lately(&folder) => New::TooSoon,
                _ => New::Signature,
            });
        }
        let (folders, sender) = (self.folders()?, offer.statement.department.as_str());
        let of_sender = folders.iter().filter(|folder| from(folder) == sender).count();
        Ok(if of_sender < MAX_HELD && folders.len() < self.most { New::Text } else { New::TooMany })
    }

    /// Keeps an offer. `replace` writes a file durably and as a whole.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, offer: &Offer, replace: impl Fn(&Path, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let (folder, department) = (self.folder(&offer.agreement), &offer.statement.department);
        let file = file_in(&folder, &offer.agreement);
        std::fs::create_dir_all(&folder)?;
        if !file.exists() {
            replace(&file, offer.text.as_bytes())?;
        }
        replace(&beside(&file, department), &offer.signature)?;
        // Last: what has it is whole.
        let from = folder.join(FROM);
        if from.exists() { Ok(()) } else { replace(&from, department.as_str().as_bytes()) }
    }

    /// Has a text not held again that was discarded, by the digest of its agreement. Where nothing ever came, nothing comes back.
    /// `replace` writes a file durably and as a whole.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn discard(&self, digest: &str, replace: impl Fn(&Path, &[u8]) -> io::Result<()>) -> io::Result<()> {
        if self.path.is_dir() { replace(&self.discarded(digest), &[]) } else { Ok(()) }
    }

    /// Has a text held again when it comes, though it was discarded.
    ///
    /// # Errors
    /// When the folder cannot be changed.
    pub fn welcome(&self, digest: &str) -> io::Result<()> {
        match std::fs::remove_file(self.discarded(digest)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Every text, by the names of their folders. What cannot be read is left out.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn held(&self) -> io::Result<Vec<Held>> {
        Ok(self.folders()?.into_iter().filter_map(held_in).collect())
    }

    /// The folders of which nobody can tell what they hold.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn unreadable(&self) -> io::Result<Vec<PathBuf>> {
        Ok(self.folders()?.into_iter().filter(|folder| held_in(folder.clone()).is_none()).collect())
    }

    fn folders(&self) -> io::Result<Vec<PathBuf>> {
        let mut folders = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(e),
        };
        folders.retain(|path| path.is_dir());
        folders.sort();
        Ok(folders)
    }

    fn folder(&self, agreement: &Agreement) -> PathBuf {
        let digest: String = agreement.digest.chars().take(16).collect();
        self.path.join(format!("{}-{digest}", agreement.id))
    }

    fn discarded(&self, digest: &str) -> PathBuf {
        self.path.join(format!("{DISCARDED}{digest}"))
    }
}

fn file_in(folder: &Path, agreement: &Agreement) -> PathBuf {
    folder.join(format!("{}.toml", agreement.id))
}

fn held_in(folder: PathBuf) -> Option<Held> {
    let file = std::fs::read_dir(&folder).ok()?.flatten().map(|entry| entry.path()).find(|path| files::is_agreement(path))?;
    let agreement = Agreement::parse(&std::fs::read_to_string(&file).ok()?).ok()?;
    Some(Held { from: from(&folder), folder, file, agreement })
}

/// Whether a file was written into a folder less than [`UNCHANGED`] ago.
fn changed_lately(folder: &Path) -> bool {
    let changed = std::fs::metadata(folder).and_then(|folder| folder.modified());
    changed.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < UNCHANGED))
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
        // Another signature of what is held, once an hour.
        assert_eq!(texts.new_in(&offer("one", "dfe")).unwrap(), New::TooSoon);
        let an_hour_ago = SystemTime::now() - UNCHANGED;
        std::fs::File::open(&held.folder).unwrap().set_modified(an_hour_ago).unwrap();
        assert_eq!(texts.new_in(&offer("one", "dfe")).unwrap(), New::Signature);
        assert_eq!(texts.held().unwrap().len(), MAX_HELD);
        let bounded = texts.clone().at_most(MAX_HELD);
        assert_eq!(bounded.new_in(&offer("more", "dwp")).unwrap(), New::TooMany, "whoever is said to have sent it");
        assert_eq!(bounded.new_in(&countersigned).unwrap(), New::Nothing);
    }

    #[test]
    fn what_was_discarded_does_not_come_back_and_what_is_broken_has_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let texts = Texts::at(folder.path().join("inbox"));
        let write = |path: &Path, bytes: &[u8]| std::fs::write(path, bytes);
        let offer = Offer::read(wire(&text("one"), "dfe")).unwrap();
        let digest = offer.agreement.digest.clone();
        texts.discard(&digest, write).unwrap();
        assert_eq!(texts.new_in(&offer).unwrap(), New::Text, "nothing had come");
        texts.keep(&offer, write).unwrap();
        let [held] = texts.held().unwrap().try_into().unwrap();
        // As a crash could leave it: the text is begun anew.
        std::fs::remove_file(held.folder.join(FROM)).unwrap();
        assert_eq!(texts.new_in(&offer).unwrap(), New::Text);
        std::fs::remove_file(&held.file).unwrap();
        assert_eq!((texts.unreadable().unwrap(), texts.held().unwrap().len()), (vec![held.folder.clone()], 0));
        std::fs::remove_dir_all(&held.folder).unwrap();
        texts.discard(&digest, write).unwrap();
        assert_eq!((texts.new_in(&offer).unwrap(), texts.unreadable().unwrap().len()), (New::Discarded, 0));
        texts.welcome(&digest).unwrap();
        texts.welcome(&digest).unwrap();
        assert_eq!(texts.new_in(&offer).unwrap(), New::Text);
    }
}
