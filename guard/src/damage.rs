//! What is wrong with a folder of guard rails: where to the column, why, and what to do.

use std::fmt;
use std::path::{Path, PathBuf};

use miette::Diagnostic;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {cause}", self.place())]
pub struct Damage {
    /// The file, or the folder.
    pub path: PathBuf,
    /// Line and column, from 1, where it is a part of a file.
    pub at: Option<(usize, usize)>,
    /// What is wrong.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

impl Damage {
    /// What is wrong with a whole file or folder.
    pub(crate) fn of(path: &Path, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { path: path.to_owned(), at: None, cause: cause.into(), remedy: remedy.into() }
    }

    /// What is wrong at `offset` bytes of a file's text.
    pub(crate) fn at(path: &Path, text: &str, offset: usize, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        let before = text.get(..offset).unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        let column = 1 + before.chars().rev().take_while(|c| *c != '\n').count();
        Self { at: Some((line, column)), ..Self::of(path, cause, remedy) }
    }

    /// What Cedar says of a file.
    pub(crate) fn cedar(path: &Path, text: &str, said: &(impl Diagnostic + fmt::Display), remedy: &str) -> Self {
        let offset = said.labels().and_then(|mut labels| labels.next()).map(|label| label.offset());
        let detail = said.help().map(|help| format!(" ({help})")).unwrap_or_default();
        let cause = format!("{said}{detail}");
        offset.map_or_else(|| Self::of(path, cause.clone(), remedy), |offset| Self::at(path, text, offset, cause.clone(), remedy))
    }

    /// One for all: the first, and how many there are beside it.
    #[must_use]
    pub fn first_of(all: &[Self]) -> Self {
        let Some((first, rest)) = all.split_first() else {
            return Self::of(Path::new(""), "something is wrong", "run `check`");
        };
        let more = if rest.is_empty() { String::new() } else { format!(" (and {} more: `check` lists them)", rest.len()) };
        Self { cause: format!("{}{more}", first.cause), ..first.clone() }
    }

    /// `file:line:column`.
    #[must_use]
    pub fn place(&self) -> String {
        match self.at {
            Some((line, column)) => format!("{}:{line}:{column}", self.path.display()),
            None => self.path.display().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let text = "é\n  ß forbid";
        for (offset, at) in [(0, (1, 1)), (2, (1, 2)), (3, (2, 1)), (5, (2, 3)), (8, (2, 5)), (999, (1, 1))] {
            assert_eq!(Damage::at(Path::new("f.cedar"), text, offset, "c", "r").at, Some(at), "{offset}");
        }
        assert_eq!(Damage::at(Path::new("f.cedar"), text, 8, "c", "r").to_string(), "f.cedar:2:5: c");
    }
}
