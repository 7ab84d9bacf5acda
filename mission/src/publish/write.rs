//! Puts a site where it is to be: whole, or not at all.
//!
//! A folder that a former publication wrote has a [`MARKER`], which names each of its files with its SHA-256. It is replaced where it is
//! just that; where a file is another, or one is there that no publication wrote, nothing is touched. The new folder is made beside it and
//! takes its name when it is whole. Between two renames neither has it: where a machine stops there, the former one lies beside.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Site;
use crate::snapshot::hex;

/// The file by which a publication knows what it wrote.
pub const MARKER: &str = ".concordat-publication";

/// What the marker says of its version.
const VERSION: &str = "concordat.publication/v1";

/// Why a site was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// What is there is not a former publication, or is more than that.
    #[error("{path} is not overwritten: {why}", path = path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// What is in the way.
        why: String,
    },
    /// The disk.
    #[error("{path} cannot be written: {cause}", path = path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    version: String,
    files: BTreeMap<String, String>,
}

/// Writes the site to `to`: a new or empty folder, or one that a former publication wrote and nobody changed since.
/// Its parent must be there.
///
/// # Errors
/// [`WriteError`]; then `to` is as it was.
pub fn write(site: &Site, to: &Path) -> Result<(), WriteError> {
    let name = to.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.ok_or_else(|| foreign(to, "it has no name of its own"))?;
    let former = former(to)?;
    let beside = |what: &str| to.with_file_name(format!(".{name}.{what}-{}", std::process::id()));
    let (new, old) = (beside("new"), beside("old"));
    fs::create_dir(&new).map_err(|e| failed(&new, e))?;
    let moved = fill(site, &new).and_then(|()| {
        if former {
            fs::rename(to, &old).map_err(|e| failed(to, e))?;
        }
        fs::rename(&new, to).map_err(|e| {
            if former {
                let _ = fs::rename(&old, to);
            }
            failed(to, e)
        })
    });
    if moved.is_err() {
        let _ = fs::remove_dir_all(&new);
    } else if former {
        fs::remove_dir_all(&old).map_err(|e| failed(&old, e))?;
    }
    moved
}

fn fill(site: &Site, folder: &Path) -> Result<(), WriteError> {
    let files = site.iter().map(|(path, content)| (path.clone(), hex(&Sha256::digest(content)))).collect();
    let marker = serde_json::to_vec_pretty(&Marker { version: VERSION.into(), files }).unwrap_or_default();
    let all = site.iter().map(|(path, content)| (path.as_str(), content)).chain([(MARKER, &marker)]);
    for (path, content) in all {
        let path = folder.join(path);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = made.and_then(|()| {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
            file.write_all(content)?;
            file.sync_all()
        });
        written.map_err(|e| failed(&path, e))?;
    }
    Ok(())
}

/// Whether a former publication, or an empty folder, is there.
fn former(to: &Path) -> Result<bool, WriteError> {
    match fs::symlink_metadata(to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(failed(to, e)),
        Ok(found) if !found.is_dir() => return Err(foreign(to, "it is no folder")),
        Ok(_) => {}
    }
    let mut there = BTreeMap::new();
    listed(to, "", &mut there)?;
    let Some(marker) = there.remove(MARKER) else {
        return if there.is_empty() { Ok(true) } else { Err(foreign(to, "no publication wrote what is in it; name a new folder")) };
    };
    let marker = fs::read(&marker).map_err(|e| failed(&marker, e))?;
    let marker = serde_json::from_slice::<Marker>(&marker).ok().filter(|marker| marker.version == VERSION);
    let marker = marker.ok_or_else(|| foreign(to, &format!("its {MARKER} is not one of this version")))?;
    for (path, file) in there {
        let content = fs::read(&file).map_err(|e| failed(&file, e))?;
        match marker.files.get(&path) {
            None => return Err(foreign(to, &format!("no publication wrote {path}; move it away, or name a new folder"))),
            Some(digest) if *digest != hex(&Sha256::digest(&content)) => {
                return Err(foreign(to, &format!("{path} was changed since; move it away, or name a new folder")));
            }
            Some(_) => {}
        }
    }
    Ok(true)
}

/// The files of a folder and those below it, by path.
fn listed(folder: &Path, prefix: &str, files: &mut BTreeMap<String, PathBuf>) -> Result<(), WriteError> {
    for entry in fs::read_dir(folder).map_err(|e| failed(folder, e))? {
        let entry = entry.map_err(|e| failed(folder, e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let (path, kind) = (format!("{prefix}{name}"), entry.file_type().map_err(|e| failed(&entry.path(), e))?);
        if kind.is_dir() {
            listed(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_file() {
            files.insert(path, entry.path());
        } else {
            return Err(foreign(folder, &format!("no publication wrote {path}")));
        }
    }
    Ok(())
}

fn foreign(path: &Path, why: &str) -> WriteError {
    WriteError::Foreign { path: path.to_owned(), why: why.to_owned() }
}

fn failed(path: &Path, cause: io::Error) -> WriteError {
    WriteError::File { path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(text: &str) -> Site {
        [("index.html", text), ("missions/m/index.html", "m")].map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec())).into()
    }

    #[test]
    fn a_former_publication_is_replaced_whole_and_nothing_lies_about() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("site");
        write(&site("one"), &to).unwrap();
        let mut next = site("two");
        next.remove("missions/m/index.html");
        write(&next, &to).unwrap();
        assert_eq!(fs::read(to.join("index.html")).unwrap(), b"two");
        assert!(!to.join("missions").exists(), "what the new one does not have is gone");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::create_dir(folder.path().join("empty")).unwrap();
        write(&next, &folder.path().join("empty")).unwrap();
    }

    #[test]
    fn nobody_elses_file_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |to: &Path| write(&site("new"), to).unwrap_err().to_string();
        let own = folder.path().join("own");
        fs::create_dir(&own).unwrap();
        fs::write(own.join("thesis"), "years").unwrap();
        assert!(refused(&own).contains("no publication wrote what is in it"));
        let (published, added) = (folder.path().join("published"), folder.path().join("published/missions/notes"));
        write(&site("old"), &published).unwrap();
        fs::write(&added, "mine").unwrap();
        assert!(refused(&published).contains("no publication wrote missions/notes"));
        fs::remove_file(&added).unwrap();
        fs::write(published.join("index.html"), "edited").unwrap();
        assert!(refused(&published).contains("index.html was changed"));
        fs::write(published.join(MARKER), "{}").unwrap();
        assert!(refused(&published).contains("not one of this version"));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&own, &link).unwrap();
        assert!(refused(&link).contains("no folder"));
        assert_eq!(
            (fs::read(own.join("thesis")).unwrap(), fs::read(published.join("index.html")).unwrap()),
            (b"years".into(), b"edited".into())
        );
        assert!(!fs::read_dir(folder.path()).unwrap().any(|entry| entry.unwrap().file_name().to_string_lossy().contains(".new-")));
    }
}
