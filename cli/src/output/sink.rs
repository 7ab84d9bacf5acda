//! Where an answer goes: standard output, or a file that bears its name only when it is whole.
//!
//! The file is written under another name beside its place, readable by its owner only, and moved there at the end. What is
//! dropped before [`Sink::finish`] is removed.

use std::io::{self, BufWriter, ErrorKind, Stdout, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::NamedTempFile;

use crate::failure::{Failure, Result};

/// A place for an answer.
pub(crate) struct Sink {
    to: To,
    gone: Gone,
}

enum To {
    Stdout(BufWriter<Stdout>),
    File {
        partial: BufWriter<NamedTempFile>,
        path: PathBuf,
    },
    #[cfg(test)]
    Lost,
}

/// Whether the reader of standard output went away (`| head`), which is not a failure.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gone(Arc<AtomicBool>);

impl Gone {
    /// Whether it did.
    pub(crate) fn yes(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Sink {
    /// Standard output.
    pub(crate) fn stdout() -> Self {
        Self { to: To::Stdout(BufWriter::new(io::stdout())), gone: Gone::default() }
    }

    /// A file. One that is there is replaced at the end; what is no file is left alone.
    pub(crate) fn file(path: &Path) -> Result<Self> {
        // Behind a link, the file that it leads to is replaced.
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let name = path.file_name().ok_or_else(|| Failure::usage(format!("'{}' is not a file's name", path.display())))?;
        if path.exists() && !path.is_file() {
            return Err(Failure::usage(format!("{} is there and is no file", path.display()))
                .advice("name a file, or leave --to out and redirect standard output"));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let prefix = format!(".{}.partial-", name.to_string_lossy());
        let partial = tempfile::Builder::new().prefix(&prefix).tempfile_in(folder).map_err(|e| Failure::file("written", &path, e))?;
        Ok(Self { to: To::File { partial: BufWriter::new(partial), path }, gone: Gone::default() })
    }

    /// Tells later whether the reader went away.
    pub(crate) fn gone(&self) -> Gone {
        self.gone.clone()
    }

    /// The answer is whole: a file gets its name.
    pub(crate) fn finish(mut self) -> Result<()> {
        let failed = |e: io::Error| Failure::new(format!("the answer cannot be written: {e}"));
        self.flush().map_err(failed)?;
        let To::File { partial, path } = self.to else { return Ok(()) };
        let partial = partial.into_inner().map_err(|e| Failure::file("written", &path, e.error()))?;
        partial.as_file().sync_all().map_err(|e| Failure::file("written", &path, e))?;
        partial.persist(&path).map_err(|e| Failure::file("written", &path, e.error)).map(drop)
    }

    /// A write's outcome, with a reader that went away noted and passed over.
    fn noted<T>(&self, done: io::Result<T>, instead: T) -> io::Result<T> {
        match done {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                self.gone.0.store(true, Ordering::Relaxed);
                Ok(instead)
            }
            done => done,
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = match &mut self.to {
            _ if self.gone.yes() => Ok(bytes.len()),
            To::Stdout(stdout) => stdout.write(bytes),
            To::File { partial, .. } => partial.write(bytes),
            #[cfg(test)]
            To::Lost => Err(ErrorKind::BrokenPipe.into()),
        };
        self.noted(done, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = match &mut self.to {
            _ if self.gone.yes() => Ok(()),
            To::Stdout(stdout) => stdout.flush(),
            To::File { partial, .. } => partial.flush(),
            #[cfg(test)]
            To::Lost => Err(ErrorKind::BrokenPipe.into()),
        };
        self.noted(done, ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_bears_its_name_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        fs::write(&path, "before").unwrap();
        let mut sink = Sink::file(&path).unwrap();
        sink.write_all(b"part").unwrap();
        sink.flush().unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(folder.path()).len()), ("before", 2));
        drop(sink);
        assert_eq!(names(folder.path()), ["a.csv"], "what is not whole is removed");
        let mut sink = Sink::file(&path).unwrap();
        sink.write_all(b"whole").unwrap();
        sink.finish().unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(folder.path()).len()), ("whole", 1));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
    }

    #[test]
    fn links_are_followed_and_what_is_no_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a"), folder.path().join("link"));
        fs::write(&path, "").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut sink = Sink::file(&link).unwrap();
        sink.write_all(b"x").unwrap();
        sink.finish().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && fs::read(&path).unwrap() == b"x");
        for special in [folder.path(), Path::new("/dev/null"), Path::new("/")] {
            assert!(Sink::file(special).is_err(), "{}", special.display());
        }
        assert!(Sink::file(&folder.path().join("absent/a")).is_err());
    }

    #[test]
    fn a_reader_that_went_away_is_noted_and_no_failure() {
        let mut sink = Sink { to: To::Lost, gone: Gone::default() };
        let gone = sink.gone();
        assert!(!gone.yes());
        sink.write_all(b"x").unwrap();
        assert!(gone.yes());
        sink.finish().unwrap();
    }
}
