//! The log's own key (Ed25519, c2sp.org/signed-note), and what it signs: checkpoints (c2sp.org/tlog-checkpoint) and promises.
//!
//! `log.key` holds `PRIVATE+KEY+<origin>+<id>+<base64 of 1 ‖ seed>` (mode 0600), `log.vkey` holds `<origin>+<id>+<base64 of 1 ‖ key>`.

use std::fs;
use std::io;
use std::path::Path;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::disk::Disk;
use crate::tile::damaged;
use crate::tree::Hash;

/// The algorithm number of Ed25519 in signed notes.
const ED25519_NOTE: u8 = 1;

const PRIVATE: &str = "log.key";

/// The name of the verifier key in the folder.
pub(crate) const PUBLIC: &str = "log.vkey";

/// A log's signing key and name.
pub(crate) struct LogKey {
    origin: String,
    pair: Ed25519KeyPair,
    id: [u8; 4],
}

impl std::fmt::Debug for LogKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogKey").field(&self.origin).finish()
    }
}

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) size: u64,
    pub(crate) root: Hash,
}

impl LogKey {
    /// The key in the folder, made on first use.
    pub(crate) fn open(disk: &Disk, origin: &str) -> io::Result<Self> {
        if origin.is_empty() || origin.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a log's origin is a name without spaces and without '+'"));
        }
        let path = disk.path(PRIVATE);
        let key = match fs::read_to_string(&path) {
            Ok(text) => Self::parse(text.trim_end(), origin, &path)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound && !begun(disk) => {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed).map_err(|e| io::Error::other(e.to_string()))?;
                let key = Self::of(&seed, origin)?;
                let text = format!("PRIVATE+KEY+{}\n", key.told(&seed));
                disk.publish(&[(PRIVATE.to_owned(), text.into_bytes())])?;
                key
            }
            Err(e) => {
                return Err(io::Error::new(e.kind(), format!("{}: {e}; without its key the log cannot be continued", path.display())));
            }
        };
        let told = format!("{}\n", key.verifier());
        if fs::read_to_string(disk.path(PUBLIC)).ok().as_deref() != Some(&told) {
            disk.publish(&[(PUBLIC.to_owned(), told.into_bytes())])?;
        }
        Ok(key)
    }

    fn of(seed: &[u8], origin: &str) -> io::Result<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| damaged("log.key holds no Ed25519 key".into()))?;
        let hashed = Sha256::new().chain_update(origin).chain_update([b'\n', ED25519_NOTE]).chain_update(pair.public_key()).finalize();
        let id = hashed.first_chunk().copied().unwrap_or_default();
        Ok(Self { origin: origin.to_owned(), pair, id })
    }

    fn parse(text: &str, origin: &str, path: &Path) -> io::Result<Self> {
        let bad = |what: &str| damaged(format!("{}: {what}", path.display()));
        let parts = text.strip_prefix("PRIVATE+KEY+").map(|rest| rest.splitn(3, '+').collect::<Vec<_>>());
        let Some([name, _, seed]) = parts.as_deref() else { return Err(bad("it is not a signing key of a signed note")) };
        if *name != origin {
            return Err(bad(&format!(
                "it is the key of the log '{name}', and this is '{origin}': name that log's folder, or begin a new one"
            )));
        }
        let bytes = STANDARD.decode(seed).map_err(|_| bad("its key is not base64"))?;
        let Some((&ED25519_NOTE, seed)) = bytes.split_first() else { return Err(bad("its key is not an Ed25519 key")) };
        let key = Self::of(seed, origin)?;
        if text.strip_prefix("PRIVATE+KEY+") == Some(&key.told(seed)) { Ok(key) } else { Err(bad("its parts do not belong together")) }
    }

    fn told(&self, key: &[u8]) -> String {
        format!("{}+{:08x}+{}", self.origin, u32::from_be_bytes(self.id), STANDARD.encode([&[ED25519_NOTE], key].concat()))
    }

    /// The log's name.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// The verifier key, as text.
    pub(crate) fn verifier(&self) -> String {
        self.told(self.pair.public_key().as_ref())
    }

    /// A signature over `message`.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }

    /// A signed checkpoint.
    pub(crate) fn checkpoint(&self, size: u64, root: &Hash) -> String {
        let body = format!("{}\n{size}\n{}\n", self.origin, STANDARD.encode(root));
        let signature = STANDARD.encode([self.id.as_slice(), self.pair.sign(body.as_bytes()).as_ref()].concat());
        format!("{body}\n— {} {signature}\n", self.origin)
    }

    /// What a checkpoint of this log says, if this key signed it.
    pub(crate) fn read(&self, checkpoint: &str) -> Option<Signed> {
        let (body, signatures) = checkpoint.strip_suffix('\n')?.rsplit_once("\n\n")?;
        let body = format!("{body}\n");
        let by = format!("— {} ", self.origin);
        let public = UnparsedPublicKey::new(&ED25519, self.pair.public_key());
        let signed = signatures.lines().filter_map(|line| STANDARD.decode(line.strip_prefix(&by)?).ok()).any(|bytes| {
            bytes
                .split_first_chunk::<4>()
                .is_some_and(|(id, signature)| *id == self.id && public.verify(body.as_bytes(), signature).is_ok())
        });
        let mut lines = body.lines();
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let parsed: u64 = size.parse().ok()?;
        let root = STANDARD.decode(root).ok()?.try_into().ok()?;
        (signed && origin == self.origin && parsed.to_string() == size && lines.next().is_none()).then_some(Signed { size: parsed, root })
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
        let message = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
        let signature = STANDARD.encode([key.id.as_slice(), &key.sign(message)].concat());
        assert_eq!(signature, "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=");
        for (text, origin) in [
            (text, "Another"),
            (&text.replace("c74f", "c74e"), "PeterNeumann"),
            (&text.replace("AYEK", "AoEK"), "PeterNeumann"),
            (&text[..60], "PeterNeumann"),
            ("", "PeterNeumann"),
        ] {
            assert!(LogKey::parse(text, origin, Path::new("k")).is_err(), "{text}");
        }
    }

    #[test]
    fn a_checkpoint_is_read_only_as_it_was_signed() {
        let key = LogKey::of(&[7; 32], "concordat/dwp/node").unwrap();
        let text = key.checkpoint(300, &[9; 32]);
        assert_eq!(key.read(&text), Some(Signed { size: 300, root: [9; 32] }));
        assert_eq!(key.read(&format!("{text}— witness AAAA\n")), Some(Signed { size: 300, root: [9; 32] }), "cosigned");
        assert_eq!(LogKey::of(&[8; 32], "concordat/dwp/node").unwrap().read(&text), None, "another key");
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
