//! Private folders and files: nobody but the node's own user reads them, and a file is replaced as a whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

/// Creates a folder of mode 0700, with its parents.
pub(crate) fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o700))
}

/// Writes a file of mode 0600 durably and as a whole: never half of it, never a mixture. It belongs to its folder's owner, so
/// that the node can read what an administrator's command wrote as another user.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_as(path, bytes, 0o600)
}

/// The same, of mode 0644: for what others may read.
pub(crate) fn replace_public(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_as(path, bytes, 0o644)
}

fn replace_as(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // Made anew under a name that nobody foresees: where others may write to the folder too, an administrator's command follows no
    // link of theirs.
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{:016x}.new", getrandom::u64().map_err(io::Error::other)?));
    let temporary = PathBuf::from(temporary);
    let written = write_new(&temporary, path, bytes, mode).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn write_new(temporary: &Path, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(temporary)?;
    file.write_all(bytes)?;
    if let Some(owner) = path.parent().map(fs::metadata).transpose()?
        && owner.uid() != file.metadata()?.uid()
    {
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    file.sync_all()
}
