//! What a program has seen of signatures and successions: read from the folder of agreements, where statements of succession lie, and
//! from its own folder of state, where it keeps what it saw.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use concordat_policy::seen::News;
use concordat_policy::succession::Succession;
use concordat_policy::{Problem, Seen};

use super::files::Damaged;
use super::{MAX_BYTES, succession};

/// The name of the file of what was seen, in a folder of state.
pub const SEEN: &str = "signatures.toml";
/// How the names of statements of succession end.
const EXTENSION: &str = "succession";
/// The most statements of succession in a folder.
const MAX_SUCCESSIONS: usize = 256;

/// Where the statement of a succession lies in a folder of agreements.
#[must_use]
pub fn stated(folder: &Path, succession: &Succession) -> PathBuf {
    let print: String = succession.key.as_str().chars().skip("sha256:".len()).take(16).collect();
    folder.join(format!("{}.{print}.{EXTENSION}", succession.department))
}

/// What was seen ever: what is kept in `state`, where there is such a folder, and the successions that a folder of agreements states.
///
/// # Errors
/// [`Damaged`]: what is kept, or a statement that cannot be relied on or contradicts another.
pub fn seen(folder: &Path, state: Option<&Path>) -> Result<Seen, Damaged> {
    let mut seen = state.map_or_else(|| Ok(Seen::default()), kept)?;
    for path in statements(folder)? {
        let damaged = |cause: String, remedy: &str| Damaged {
            path: path.clone(),
            text: String::new(),
            problems: vec![Problem::at("", cause, remedy)],
        };
        let mut content = Vec::new();
        // One byte more than is taken tells that the file is too long.
        let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        let read = File::open(&path).and_then(|file| file.take(most).read_to_end(&mut content));
        read.map_err(|e| damaged(format!("cannot be read: {e}"), "correct the file's permissions"))?;
        let stated = succession::read(&content)
            .map_err(|unsound| damaged(unsound.to_string(), "ask the department for the file again, and take this one away"))?;
        seen.succeeds(stated).map_err(|conflict| damaged(format!("the succession {conflict}"), conflict.remedy()))?;
    }
    Ok(seen)
}

/// The statements of succession in a folder, by name.
fn statements(folder: &Path) -> Result<Vec<PathBuf>, Damaged> {
    let damaged = |cause: String, remedy: &str| Damaged {
        path: folder.to_owned(),
        text: String::new(),
        problems: vec![Problem::at("", cause, remedy)],
    };
    let unreadable = |e: io::Error| damaged(format!("cannot be read: {e}"), "correct the folder's permissions");
    let mut paths = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(paths),
        Err(e) => return Err(unreadable(e)),
    };
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|end| end == EXTENSION) {
            paths.push(path);
        }
    }
    if paths.len() > MAX_SUCCESSIONS {
        return Err(damaged(
            format!("holds {} statements of succession", paths.len()),
            "keep those of keys that agreements in force name: at most 256",
        ));
    }
    paths.sort();
    Ok(paths)
}

/// What a folder of state keeps; nothing where it keeps none.
fn kept(state: &Path) -> Result<Seen, Damaged> {
    let path = state.join(SEEN);
    match std::fs::read_to_string(&path) {
        Ok(text) => Seen::parse(&text).map_err(|problems| Damaged { path, text, problems }),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Seen::default()),
        Err(e) => {
            let problem = Problem::at("", format!("cannot be read: {e}"), "correct the file's permissions, or restore it from a copy");
            Err(Damaged { path, text: String::new(), problems: vec![problem] })
        }
    }
}

/// Keeps in a folder of state what was seen, and gives what was not in it before, which is for the log. `replace` writes a private
/// file durably and as a whole.
///
/// # Errors
/// When it cannot be written.
pub fn keep(state: &Path, seen: &Seen, replace: impl FnOnce(&Path, &[u8]) -> io::Result<()>) -> io::Result<Vec<News>> {
    let before = kept(state).map_err(|damaged| io::Error::other(format!("{} is damaged", damaged.path.display())))?;
    let news = seen.news(&before);
    if !news.is_empty() {
        replace(&state.join(SEEN), seen.to_toml().map_err(io::Error::other)?.as_bytes())?;
    }
    Ok(news)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::SigningKey;
    use chrono::{DateTime, Utc};
    use concordat_policy::Name;

    fn key() -> SigningKey {
        let document = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        SigningKey::from_pkcs8(document.as_ref()).unwrap()
    }

    #[test]
    fn successions_are_read_kept_and_never_forgotten() {
        let (agreements, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (old, new, other) = (key(), key(), key());
        let from: DateTime<Utc> = "2026-05-01T10:00:00Z".parse().unwrap();
        let content = |next: &SigningKey| succession::sign(&Name::parse("dfe").unwrap(), (&old, next), None, from).unwrap();
        let one = succession::read(content(&new).as_bytes()).unwrap();
        let path = stated(agreements.path(), &one);
        assert!(path.file_name().unwrap().to_str().unwrap().starts_with("dfe.") && path.extension().unwrap() == EXTENSION);
        let read = || seen(agreements.path(), Some(state.path()));
        assert_eq!(read().unwrap(), Seen::default());
        std::fs::write(&path, content(&new)).unwrap();
        let found = read().unwrap();
        assert_eq!(found.successions().of(&one.key), Some(&one));
        let write = |path: &Path, bytes: &[u8]| std::fs::write(path, bytes);
        assert_eq!(keep(state.path(), &found, write).unwrap(), [News::Succession(one.clone())]);
        assert_eq!(keep(state.path(), &found, |_, _| panic!("it is kept already")).unwrap(), []);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read().unwrap(), found, "its file is gone");
        assert_eq!(seen(agreements.path(), None).unwrap(), Seen::default());

        // Another successor of the same key, rubbish, and a damaged record.
        std::fs::write(&path, content(&other)).unwrap();
        assert!(read().unwrap_err().problems[0].cause.contains("is not the only one of its key"));
        std::fs::write(&path, "rubbish").unwrap();
        let damaged = read().unwrap_err();
        assert!(damaged.path == path && damaged.problems[0].cause.contains("it is not two lines"), "{damaged:?}");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(state.path().join(SEEN), "rubbish").unwrap();
        assert!(read().is_err() && keep(state.path(), &found, |_, _| panic!("nothing is written over")).is_err());
    }
}
