//! Where the log stood, as its program remembers it in its folder of state, outside the log's own: how many entries it signed last, their
//! root, and by which key it digests. Who can write in the log's folder alone cannot put an earlier checkpoint over the latest one and cut
//! what followed: all of it would fit together, and a log that ends earlier would be continued.
//!
//! ```text
//! checkpoint durable ─▶ state/log.json, under a seal that only log.key gives        at the next start: the log has it as its beginning
//! ```
//!
//! It is written after the checkpoint, so that it never says more than there is, and not on the way of any answer. A file that is not
//! there keeps nothing from starting, since a backup may come without it: the log tells so (`log.state_missing`).

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::Entry;
use crate::disk::private;
use crate::key::LogKey;
use crate::proof::verify_consistency;
use crate::proved::Proved;
use crate::tile::damaged_but;
use crate::tree::{Hash, consistency};

/// The name of the file.
const FILE: &str = "log.json";

/// The file of one log.
#[derive(Debug)]
pub(crate) struct Stood {
    path: PathBuf,
    seals: hmac::Key,
    /// The fingerprint of the key of digests.
    digests: String,
    /// Whether checkpoints are remembered: not before the log has told what was found when it was opened, which is found once only.
    begun: AtomicBool,
}

/// What stands in it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    entries: u64,
    /// Base64, as in a checkpoint, without the padding.
    root: String,
    digests: String,
    seal: String,
}

impl Stood {
    /// In `state`, of the log with this key, whose entries are digested by the key with this fingerprint.
    pub(crate) fn at(state: &Path, key: &LogKey, digests: String) -> io::Result<Self> {
        let seals = key.derived(b"concordat.log.stood/v1")?;
        Ok(Self { path: state.join(FILE), seals, digests, begun: AtomicBool::new(false) })
    }

    /// That the log is what it was, or longer; what it has to tell where that cannot be said, or where it digests by another key.
    pub(crate) fn holds(&self, tree: &Proved) -> io::Result<Option<Entry>> {
        let kept = match fs::read(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(Some(Entry::new("log.state_missing").field("digests", self.digests.as_str())));
            }
            read => read.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", self.path.display())))?,
        };
        let Some((kept, root)) = self.read(&kept) else {
            return Err(self.refused("it was changed, or is of another log: this log's key did not seal it".into()));
        };
        let (entries, size) = (kept.entries, tree.size());
        if entries > size {
            let what =
                format!("this program signed a checkpoint over {entries} entries, and the log's is over {size}: entries were cut off");
            return Err(self.refused(what));
        }
        let is_beginning =
            entries == 0 || verify_consistency(entries, size, &root, &tree.edge().root(), &consistency(tree, entries, size)?).is_ok();
        if !is_beginning {
            return Err(
                self.refused(format!("the {entries} entries that this program signed last are not the log's first: it is another history"))
            );
        }
        let other = || Entry::new("digests.begun").field("digests", self.digests.as_str()).field("digests_before", kept.digests.as_str());
        Ok((kept.digests != self.digests).then(other))
    }

    /// Remembers checkpoints from now on.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Remembers a checkpoint that is durable.
    pub(crate) fn keep(&self, entries: u64, root: &Hash) -> io::Result<()> {
        if !self.has_begun() {
            return Ok(());
        }
        let seal = STANDARD_NO_PAD.encode(hmac::sign(&self.seals, &sealed(entries, root, &self.digests)));
        let kept = Kept { entries, root: STANDARD_NO_PAD.encode(root), digests: self.digests.clone(), seal };
        if let Some(state) = self.path.parent() {
            private(state)?;
        }
        // Its new name need not be durable: after a loss of power the one of before will do, and each of them is whole.
        let new = self.path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(&kept)?)?;
        file.sync_data()?;
        fs::rename(new, &self.path)
    }

    /// What the file says, and the root, if it is sealed.
    fn read(&self, bytes: &[u8]) -> Option<(Kept, Hash)> {
        let kept: Kept = serde_json::from_slice(bytes).ok()?;
        let root: Hash = STANDARD_NO_PAD.decode(&kept.root).ok()?.try_into().ok()?;
        let seal = STANDARD_NO_PAD.decode(&kept.seal).ok()?;
        hmac::verify(&self.seals, &sealed(kept.entries, &root, &kept.digests), &seal).ok()?;
        Some((kept, root))
    }

    fn refused(&self, what: String) -> io::Error {
        refused(&self.path, &what)
    }
}

/// That nothing is remembered in `state`, of a log that is not there.
pub(crate) fn none(state: &Path) -> io::Result<()> {
    let path = state.join(FILE);
    if path.try_exists()? {
        return Err(refused(&path, "this program remembers a log, and its folder has none: it was emptied, or is another"));
    }
    Ok(())
}

fn refused(path: &Path, what: &str) -> io::Error {
    let path = path.display();
    damaged_but(
        format!("{path}: {what}"),
        format!(
            "keep a copy of the log's folder and of this file as evidence, and look for the log as it was, which is continued. Where \
             there is none, or an older backup was restored for good, move {path} away: the log then says so (`log.state_missing`), \
             and its witnesses refuse it until people accept that (deploy/README.md, Witnesses)"
        ),
    )
}

fn sealed(entries: u64, root: &Hash, digests: &str) -> Vec<u8> {
    [&entries.to_be_bytes()[..], root, digests.as_bytes()].concat()
}
