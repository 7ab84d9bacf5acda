//! What a driver is given: the connection string, and the password between braces, where nothing in it can end its value.

use std::path::PathBuf;

use concordat_operate::Fault;
use zeroize::Zeroizing;

use super::keywords::Keywords;
use super::places::{Place, Places};
use crate::source::settings;

/// Which database, by which driver, and as whom.
#[derive(Debug, Clone)]
pub struct OdbcSettings {
    /// The connection string without its password.
    pub keywords: Keywords,
    /// A file whose first line is the password; read anew for each connection.
    pub password_file: Option<PathBuf>,
    places: Places,
}

impl OdbcSettings {
    /// A database with places of its own.
    #[must_use]
    pub fn new(keywords: Keywords, password_file: Option<PathBuf>) -> Self {
        Self { keywords, password_file, places: Places::default() }
    }

    /// A place for one more connection, if one is free.
    pub(super) fn place(&self) -> Option<Place> {
        self.places.take()
    }

    /// Reads the password, if there is a file of it.
    ///
    /// # Errors
    /// When the file cannot be read, or others could, or is empty.
    pub fn password(&self) -> Result<Option<Zeroizing<String>>, Fault> {
        self.password_file.as_deref().map(settings::password).transpose()
    }

    /// What the driver is given.
    pub(super) fn connection_string(&self) -> Result<Zeroizing<String>, Fault> {
        let text = &self.keywords.text;
        Ok(Zeroizing::new(match self.password()? {
            Some(password) => format!("{text};PWD={}", *braced(&password)),
            None => text.clone(),
        }))
    }
}

/// A value that ends where its brace ends. Letters and digits need none, and some drivers take them more literally so.
fn braced(value: &str) -> Zeroizing<String> {
    let plain = !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric());
    Zeroizing::new(if plain { value.to_owned() } else { format!("{{{}}}", value.replace('}', "}}")) })
}

#[cfg(test)]
mod tests {
    use super::super::keywords::pairs;
    use super::*;

    #[test]
    fn a_password_adds_no_keyword() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
        let keywords = Keywords::parse("DSN=office;UID=reader;", true).unwrap();
        let settings = OdbcSettings::new(keywords.clone(), Some(file.path().to_owned()));
        for password in ["simple1", "a;Encrypt=no", "a};Encrypt=no", "{a}", "}", "}}", "{", "a b", " a ", "a=b", "+%41", "é'\"\\", "{};{}"]
        {
            std::fs::write(file.path(), password).unwrap();
            let given = settings.connection_string().unwrap();
            let expected = [("DSN", "office"), ("UID", "reader"), ("PWD", password)];
            assert_eq!(pairs(&given).unwrap(), expected.map(|(keyword, value)| (keyword, value.to_owned())), "{password}");
        }
        let without = OdbcSettings::new(keywords, None);
        assert_eq!(*without.connection_string().unwrap(), "DSN=office;UID=reader");
        assert_eq!(format!("{without:?}"), "OdbcSettings { keywords: Keywords(office, …), password_file: None, places: Places(64) }");
    }
}
