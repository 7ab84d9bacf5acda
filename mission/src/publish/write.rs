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
use crate::history::Heads;
use crate::snapshot::hex;

/// The file by which a publication knows what it wrote.
pub const MARKER: &str = ".concordat-publication";

/// What the marker says of its version.
const VERSION: &str = "concordat.publication/v2";

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
    /// The site is written, and its predecessor still lies beside it.
    #[error("the site is written, but what it replaced could not be removed from {path}: {cause}", path = path.display())]
    Left {
        /// Where that lies.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
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
    #[serde(flatten)]
    of: Continued,
    files: BTreeMap<String, String>,
}

/// Of which history a publication is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continued {
    /// How far it went.
    pub heads: Heads,
    /// Why it does not continue the one that was published before it, where it does not.
    pub anew: Option<String>,
}

/// Of which history the publication in a folder is; `None` where there is none.
///
/// # Errors
/// [`WriteError`], where something else is there.
pub fn continued(folder: &Path) -> Result<Option<Continued>, WriteError> {
    former(folder).map(|former| former.and_then(|marker| marker.map(|marker| marker.of)))
}

/// Writes the site to `to`: a new or empty folder, or one that a former publication wrote and nobody changed since.
/// Its parent must be there.
///
/// # Errors
/// [`WriteError`]; then `to` is as it was, but for [`WriteError::Left`].
pub fn write(site: &Site, of: &Continued, to: &Path) -> Result<(), WriteError> {
    let name = to.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.ok_or_else(|| foreign(to, "it has no name of its own"))?;
    let former = former(to)?.is_some();
    let mode = if former { Some(fs::metadata(to).map_err(|e| failed(to, e))?.permissions()) } else { None };
    let beside = |what: &str| to.with_file_name(format!(".{name}.{what}-{}", std::process::id()));
    let (new, old) = (beside("new"), beside("old"));
    fs::create_dir(&new).map_err(|e| failed(&new, e))?;
    let moved = fill(site, of, &new).and_then(|()| {
        if let Some(mode) = mode {
            fs::set_permissions(&new, mode).map_err(|e| failed(&new, e))?;
        }
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
        fs::remove_dir_all(&old).map_err(|cause| WriteError::Left { path: old, cause })?;
    }
    moved
}

fn fill(site: &Site, of: &Continued, folder: &Path) -> Result<(), WriteError> {
    let files = site.iter().map(|(path, content)| (path.clone(), hex(&Sha256::digest(content)))).collect();
    let marker = serde_json::to_vec_pretty(&Marker { version: VERSION.into(), of: of.clone(), files }).unwrap_or_default();
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

/// The former publication that is there, or that there is an empty folder.
fn former(to: &Path) -> Result<Option<Option<Marker>>, WriteError> {
    match fs::symlink_metadata(to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(to, e)),
        Ok(found) if !found.is_dir() => return Err(foreign(to, "it is no folder")),
        Ok(_) => {}
    }
    let mut there = BTreeMap::new();
    listed(to, "", &mut there)?;
    let Some(marker) = there.remove(MARKER) else {
        return if there.is_empty() { Ok(Some(None)) } else { Err(foreign(to, "no publication wrote what is in it; name a new folder")) };
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
    Ok(Some(Some(marker)))
}

/// The files of a folder and those below it, by path.
fn listed(folder: &Path, prefix: &str, files: &mut BTreeMap<String, PathBuf>) -> Result<(), WriteError> {
    for entry in fs::read_dir(folder).map_err(|e| failed(folder, e))? {
        let entry = entry.map_err(|e| failed(folder, e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let (path, kind) = (format!("{prefix}{name}"), entry.file_type().map_err(|e| failed(&entry.path(), e))?);
        if kind.is_dir() {
            let before = files.len();
            listed(&entry.path(), &format!("{path}/"), files)?;
            if files.len() == before {
                return Err(foreign(folder, &format!("no publication wrote {path}, which holds no file")));
            }
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
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::store::Head;

    fn of(number: u64) -> Continued {
        let head = |number, digest: &str| Head { number, digest: digest.into() };
        Continued { heads: Heads { snapshots: head(number, "d"), pivots: head(0, "") }, anew: None }
    }

    fn site(text: &str) -> Site {
        [("index.html", text), ("missions/m/index.html", "m")].map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec())).into()
    }

    #[test]
    fn a_former_publication_is_replaced_whole_and_nothing_lies_about() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("site");
        write(&site("one"), &of(3), &to).unwrap();
        let mut next = site("two");
        next.remove("missions/m/index.html");
        assert_eq!(continued(&to).unwrap(), Some(of(3)));
        fs::set_permissions(&to, fs::Permissions::from_mode(0o750)).unwrap();
        write(&next, &of(4), &to).unwrap();
        assert_eq!((continued(&to).unwrap(), continued(&folder.path().join("none")).unwrap()), (Some(of(4)), None));
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o750, "who may read it is as it was");
        assert_eq!(fs::read(to.join("index.html")).unwrap(), b"two");
        assert!(!to.join("missions").exists(), "what the new one does not have is gone");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::create_dir(folder.path().join("empty")).unwrap();
        write(&next, &of(4), &folder.path().join("empty")).unwrap();
    }

    #[test]
    fn nobody_elses_file_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |to: &Path| write(&site("new"), &of(4), to).unwrap_err().to_string();
        let own = folder.path().join("own");
        fs::create_dir(&own).unwrap();
        fs::write(own.join("thesis"), "years").unwrap();
        assert!(refused(&own).contains("no publication wrote what is in it"));
        let (published, added) = (folder.path().join("published"), folder.path().join("published/missions/notes"));
        write(&site("old"), &of(3), &published).unwrap();
        fs::write(&added, "mine").unwrap();
        assert!(refused(&published).contains("no publication wrote missions/notes"));
        fs::remove_file(&added).unwrap();
        fs::write(published.join("index.html"), "edited").unwrap();
        assert!(refused(&published).contains("index.html was changed"));
        fs::write(published.join(MARKER), "{}").unwrap();
        assert!(refused(&published).contains("not one of this version"));
        let hollow = folder.path().join("hollow");
        fs::create_dir_all(hollow.join("kept/for/later")).unwrap();
        assert!(refused(&hollow).contains("holds no file") && hollow.join("kept/for/later").is_dir());
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
