//! The log's own key (Ed25519, c2sp.org/signed-note), in its folder, and what it signs: checkpoints (c2sp.org/tlog-checkpoint) and promises.
//!
//! `log.key` holds the [`Signer`]'s text (mode 0600), `log.vkey` that of its [`VerifierKey`](crate::note::VerifierKey), each in a line.

use std::fs;
use std::io;
use std::path::Path;

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::checkpoint::{Checkpoint, SignedCheckpoint, is_origin};
use crate::disk::Disk;
use crate::note::{Algorithm, Note, NoteError, Signature};
use crate::salt::Salts;
use crate::signer::Signer;
use crate::tile::{damaged, damaged_but};
use crate::tree::Hash;

const PRIVATE: &str = "log.key";

/// The name of the verifier key in the folder.
pub(crate) const PUBLIC: &str = "log.vkey";

/// A log's signing key and name.
#[derive(Debug)]
pub(crate) struct LogKey(Signer);

impl LogKey {
    /// The key in the folder, made on first use.
    pub(crate) fn open(disk: &Disk, origin: &str) -> io::Result<Self> {
        let key = match Self::find(disk, origin)? {
            Some(key) => key,
            None => {
                let unmade = |e: NoteError| io::Error::other(e.to_string());
                let signer = Signer::generate(origin, Algorithm::Ed25519).map_err(unmade)?;
                let text = signer.private_text().map_err(unmade)?;
                disk.publish(&[(PRIVATE.to_owned(), [text.as_bytes(), b"\n"].concat())])?;
                Self(signer)
            }
        };
        let told = format!("{}\n", key.verifier());
        if fs::read_to_string(disk.path(PUBLIC)).ok().as_deref() != Some(&told) {
            disk.publish(&[(PUBLIC.to_owned(), told.into_bytes())])?;
        }
        Ok(key)
    }

    /// The key in the folder; `None` where no log has begun there.
    pub(crate) fn find(disk: &Disk, origin: &str) -> io::Result<Option<Self>> {
        if !is_origin(origin) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a log's origin is a name without spaces and without '+'"));
        }
        let path = disk.path(PRIVATE);
        match fs::read_to_string(&path).map(Zeroizing::new) {
            Ok(text) => Self::parse(text.trim_end(), origin, &path).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound && !begun(disk) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(damaged_but(
                format!("{} is missing: without its key the log cannot be continued", path.display()),
                format!(
                    "restore this file from where it is kept apart from the log. Where it is lost for good, move the folder {} away as \
                     evidence, with log.json of the folder of state, and start: a new log begins, which witnesses refuse until people \
                     accept it (deploy/README.md, Witnesses)",
                    disk.folder.display()
                ),
            )),
            Err(e) => Err(io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
        }
    }

    fn parse(text: &str, origin: &str, path: &Path) -> io::Result<Self> {
        let bad = |what: &str| damaged(format!("{}: {what}", path.display()));
        let signer = Signer::parse(text).map_err(|e| bad(&e.to_string()))?;
        let name = signer.key().name();
        if name != origin {
            return Err(bad(&format!(
                "it is the key of the log '{name}', and this is '{origin}': name that log's folder, or begin a new one"
            )));
        }
        if signer.key().algorithm() == Algorithm::Ed25519 { Ok(Self(signer)) } else { Err(bad("it is a witness's key, and not a log's")) }
    }

    /// The log's name.
    pub(crate) fn origin(&self) -> &str {
        self.0.key().name()
    }

    /// The verifier key, as text.
    pub(crate) fn verifier(&self) -> String {
        self.0.key().to_string()
    }

    /// What salts this log's entries.
    pub(crate) fn salts(&self) -> io::Result<Salts> {
        self.derived(b"concordat.entry.salt/v1").map(Salts)
    }

    /// Another secret for another use, which `label` names: what it gives, nobody gives who does not have this log's key.
    pub(crate) fn derived(&self, label: &[u8]) -> io::Result<hmac::Key> {
        self.0.derived(label).map_err(|e| io::Error::other(e.to_string()))
    }

    /// A signature over `message`, which is no note's text.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign_message(message)
    }

    /// A signed checkpoint.
    pub(crate) fn checkpoint(&self, size: u64, root: &Hash) -> String {
        let text = Checkpoint { origin: self.origin().to_owned(), size, root: *root }.text();
        Note::new(&text, self.0.sign(&text, 0)).to_string()
    }

    /// What a checkpoint of this log says, and the note, if this key signed it.
    pub(crate) fn open_checkpoint(&self, checkpoint: &str) -> Option<SignedCheckpoint> {
        SignedCheckpoint::open(checkpoint.as_bytes(), self.0.key()).ok()
    }

    /// What a checkpoint of this log says, if this key signed it.
    pub(crate) fn read(&self, checkpoint: &str) -> Option<Checkpoint> {
        self.open_checkpoint(checkpoint).map(|signed| signed.checkpoint().clone())
    }

    /// Whether a line names this key.
    pub(crate) fn is_named_by(&self, line: &Signature) -> bool {
        line.is_of(self.0.key())
    }
}

/// Whether the folder holds a log already: then its key is not made anew.
fn begun(disk: &Disk) -> bool {
    [crate::recover::CHECKPOINT, PUBLIC, "tile"].iter().any(|name| disk.path(name).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_notes_have_the_specified_form() {
        // The key of the specification's example.
        let text = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
        let key = LogKey::parse(text, "PeterNeumann", Path::new("k")).unwrap();
        assert_eq!(key.verifier(), "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
        let witness = Signer::generate("PeterNeumann", Algorithm::Cosignature).unwrap().private_text().unwrap();
        for (text, origin) in [
            (text, "Another"),
            (&text.replace("c74f", "c74e"), "PeterNeumann"),
            (&text.replace("AYEK", "AoEK"), "PeterNeumann"),
            (&text[..60], "PeterNeumann"),
            ("", "PeterNeumann"),
            (&witness, "PeterNeumann"),
        ] {
            assert!(LogKey::parse(text, origin, Path::new("k")).is_err(), "{text}");
        }
    }

    #[test]
    fn a_checkpoint_is_read_only_as_it_was_signed() {
        let of = |seed: u8| LogKey(Signer::from_seed("concordat/dwp/node", Algorithm::Ed25519, &[seed; 32]).unwrap());
        let key = of(7);
        let text = key.checkpoint(300, &[9; 32]);
        let says = Some(Checkpoint { origin: "concordat/dwp/node".into(), size: 300, root: [9; 32] });
        assert_eq!(key.read(&text), says);
        assert_eq!(key.read(&format!("{text}— witness AAAAAAA=\n")), says, "cosigned");
        assert_eq!(of(8).read(&text), None, "another key");
        for end in 0..text.len() {
            if text.is_char_boundary(end) {
                assert_eq!(key.read(&text[..end]), None, "cut at {end}");
            }
        }
        assert_eq!(key.read(&text.replacen("300", "301", 1)), None);
    }

    #[test]
    fn a_key_is_kept_and_belongs_to_one_name() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::at(folder.path());
        disk.prepare().unwrap();
        let first = LogKey::open(&disk, "concordat/dwp/node").unwrap().verifier();
        assert_eq!(LogKey::open(&disk, "concordat/dwp/node").unwrap().verifier(), first);
        assert_eq!(fs::metadata(disk.path(PRIVATE)).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(LogKey::open(&disk, "concordat/dfe/node").unwrap_err().to_string().contains("concordat/dwp/node"));
        assert!(LogKey::open(&disk, "with space").is_err() && LogKey::open(&disk, "a+b").is_err());
        fs::remove_file(disk.path(PRIVATE)).unwrap();
        assert!(LogKey::open(&disk, "concordat/dwp/node").unwrap_err().to_string().contains("without its key"));
    }
}
