//! Names of departments, datasets, purposes, missions and agreements.
//!
//! ASCII only, so that no look-alike (a Cyrillic `а`, a full-width dot) can pass for another name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A lower-case ASCII name: a letter, then letters, digits, `_` or `-`; dot-separated parts; at most 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a name is 1 to 64 bytes of a-z, 0-9, '_' or '-', in dot-separated parts that start with a letter or digit")]
pub struct NameError;

impl Name {
    /// Parses `text`.
    ///
    /// # Errors
    /// [`NameError`] when it is empty, longer than 64 bytes or holds anything but the characters above.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let part_ok = |part: &str| {
            part.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
        };
        if text.len() > 64 || !text.split('.').all(part_ok) {
            return Err(NameError);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

/// One dataset of one department, written `department.dataset`, as in SQL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DatasetName {
    /// The department that owns the dataset.
    pub department: Name,
    /// The dataset's own name.
    pub dataset: Name,
}

impl DatasetName {
    /// Joins the two names.
    #[must_use]
    pub fn new(department: Name, dataset: Name) -> Self {
        Self { department, dataset }
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.department, self.dataset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_alikes_and_oddities_are_refused() {
        for good in ["dfe", "opportunity.measure", "a-1.b_2"] {
            assert!(Name::parse(good).is_ok(), "{good}");
        }
        // The second is Cyrillic, the third a full-width letter.
        for bad in ["", "dfе", "ｄfe", "Dfe", "a..b", ".a", "a.", "a b", "-a", "../x", "a/b", &"a".repeat(65)] {
            assert_eq!(Name::parse(bad), Err(NameError), "{bad}");
        }
    }
}
