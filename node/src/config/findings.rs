//! What is wrong with a configuration: for each finding the file, the line, the cause and the remedy. All findings are
//! reported at once, so that nobody repairs a file one start at a time.

use std::ops::Range;
use std::path::Path;

use concordat_policy::Problem;
use miette::{Diagnostic, NamedSource, SourceSpan};
use toml::de::{DeTable, DeValue};

/// One thing that is wrong.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{place}: {cause}")]
#[diagnostic(help("{remedy}"))]
pub struct Finding {
    place: String,
    cause: String,
    remedy: String,
    #[source_code]
    text: NamedSource<String>,
    #[label("here")]
    span: Option<SourceSpan>,
}

impl Finding {
    /// What is wrong with a whole file or folder.
    pub fn file(path: &Path, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        let place = path.display().to_string();
        let text = NamedSource::new(&place, String::new());
        Self { place, cause: cause.into(), remedy: remedy.into(), text, span: None }
    }

    /// What is wrong with a part of a text file.
    #[must_use]
    pub fn problem(path: &Path, text: &str, problem: Problem) -> Self {
        let start = problem.near.as_deref().and_then(|near| Some((text.find(near)?, near.len())));
        let span = problem.span.clone().map(|s| (s.start, s.len())).or(start);
        Self {
            place: format!("{}:{}", path.display(), problem.line(text)),
            text: NamedSource::new(path.display().to_string(), text.to_owned()),
            cause: problem.cause,
            remedy: problem.remedy,
            span: span.map(SourceSpan::from),
        }
    }

    /// What is wrong with the value at a path of keys of a TOML file.
    pub fn at(path: &Path, text: &str, keys: &[&str], cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::problem(path, text, Problem { span: span(text, keys), near: None, cause: cause.into(), remedy: remedy.into() })
    }

    /// The same without the file's text, where that holds a secret.
    #[must_use]
    pub(super) fn without_text(self) -> Self {
        Self { text: NamedSource::new(&self.place, String::new()), span: None, ..self }
    }

    /// The file, and the line where there is one.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What is wrong.
    #[must_use]
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

/// Everything that is wrong. The node does not start.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("the node's configuration cannot be used: {} finding{}", findings.len(), if findings.len() == 1 { "" } else { "s" })]
pub struct Findings {
    /// Each finding.
    #[related]
    pub findings: Vec<Finding>,
}

impl From<Finding> for Findings {
    fn from(finding: Finding) -> Self {
        Self { findings: vec![finding] }
    }
}

/// The bytes of the value at a path of keys; a key that is a number selects from an array. The nearest part that exists, where
/// the path goes on beyond it.
fn span(text: &str, keys: &[&str]) -> Option<Range<usize>> {
    let table = DeTable::parse(text).ok()?.into_inner();
    let (first, rest) = keys.split_first()?;
    let (key, mut value) = table.iter().find(|(key, _)| key.get_ref() == first)?;
    let mut found = key.span();
    for key in rest {
        match value.get_ref() {
            DeValue::Table(table) => match table.iter().find(|(name, _)| name.get_ref() == key) {
                Some((name, inner)) => {
                    found = name.span();
                    value = inner;
                }
                None => break,
            },
            DeValue::Array(items) => match key.parse::<usize>().ok().and_then(|index| items.get(index)) {
                Some(inner) => {
                    found = inner.span();
                    value = inner;
                }
                None => break,
            },
            _ => break,
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_lead_to_the_line() {
        let text = "a = 1\n[[dataset]]\nname = 'x'\n[[dataset]]\nname = 'y'\ncolumns.region = { type = 'text' }\n";
        for (keys, line) in [
            (&["a"][..], 1),
            (&["dataset", "0", "name"], 3),
            (&["dataset", "1", "columns", "region"], 6),
            (&["dataset", "1", "columns", "no"], 6),
        ] {
            let finding = Finding::at(Path::new("f.toml"), text, keys, "c", "r");
            assert_eq!(finding.place(), format!("f.toml:{line}"), "{keys:?}");
        }
    }
}
