//! Where everything lies in a federation's folder.
//!
//! ```text
//! README.txt
//! ca/            the private certificate authority (on one machine only for trying out)
//! issuer/        the identity provider's key and jwks.json
//! estate/        departments, purposes, missions, agreements, views: what the gateway knows
//! gateway/       gateway.toml, its keys, log and state
//! nodes/<id>/    node.toml and everything that one department holds; self-contained
//! client/        client.toml: how `concordat query` reaches the gateway
//! missions/      snapshots.sqlite: what `concordat mission` keeps
//! ```

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// The paths of one federation's folder.
#[derive(Debug, Clone)]
pub struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// The layout of `folder`, whether it exists or not.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The folder itself.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `ca/`.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca")
    }

    /// `issuer/`.
    #[must_use]
    pub fn issuer(&self) -> PathBuf {
        self.folder.join("issuer")
    }

    /// `estate/`.
    #[must_use]
    pub fn estate(&self) -> PathBuf {
        self.folder.join("estate")
    }

    /// `gateway/`.
    #[must_use]
    pub fn gateway(&self) -> PathBuf {
        self.folder.join("gateway")
    }

    /// `nodes/<department>/`.
    #[must_use]
    pub fn node(&self, department: &str) -> PathBuf {
        self.folder.join("nodes").join(department)
    }

    /// `missions/snapshots.sqlite`.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.folder.join("missions/snapshots.sqlite")
    }

    /// `client/client.toml`.
    #[must_use]
    pub fn client(&self) -> PathBuf {
        self.folder.join("client/client.toml")
    }

    /// The departments that have a node's configuration here, in alphabetical order.
    ///
    /// # Errors
    /// When there is no `nodes` folder.
    pub fn departments(&self) -> Result<Vec<String>> {
        let nodes = self.folder.join("nodes");
        let entries = fs::read_dir(&nodes).map_err(|e| {
            Failure::file("read", &nodes, e).advice("this is not a federation's folder: `concordat demo` or `concordat init` makes one")
        })?;
        let mut departments: Vec<String> = entries
            .filter_map(std::result::Result::ok)
            .filter(|entry| entry.path().join("node.toml").is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        departments.sort();
        Ok(departments)
    }
}

/// Reads a text file.
pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| Failure::file("read", path, e))
}

/// Writes a text file and the folders above it.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    create_folder_above(path)?;
    fs::write(path, text).map_err(|e| Failure::file("written", path, e))
}

/// Writes a secret: the file can be read by its owner only, and never was readable by others.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<()> {
    create_folder_above(path)?;
    let _ = fs::remove_file(path);
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| Failure::file("written", path, e))
}

/// Creates a folder for its owner only.
pub(crate) fn create_private(folder: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| Failure::file("created", folder, e))
}

fn create_folder_above(path: &Path) -> Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    fs::create_dir_all(folder).map_err(|e| Failure::file("created", folder, e))
}
