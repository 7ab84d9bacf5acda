//! What is wrong with a document that people write: where, why, and what to do.

use std::ops::Range;

/// One thing wrong with a document: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The bytes concerned, where the parser knows them.
    pub span: Option<Range<usize>>,
    /// Otherwise a text of the document near which to look.
    pub near: Option<String>,
    /// What is wrong.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

impl Problem {
    /// A problem near the first occurrence of `near`.
    pub fn at(near: &str, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { span: None, near: Some(near.to_owned()), cause: cause.into(), remedy: remedy.into() }
    }

    /// A syntax or shape error of the TOML parser.
    #[must_use]
    pub fn toml(error: &toml::de::Error) -> Self {
        Self {
            span: error.span(),
            near: None,
            cause: error.message().to_owned(),
            remedy: "correct the line; unknown keys are refused".into(),
        }
    }

    /// The 1-based line in `text` that the problem is about; 1 where that is unknown.
    #[must_use]
    pub fn line(&self, text: &str) -> usize {
        let offset = self.span.as_ref().map(|s| s.start).or_else(|| self.near.as_deref().and_then(|near| text.find(near)));
        1 + text.bytes().take(offset.unwrap_or(0)).filter(|b| *b == b'\n').count()
    }
}
