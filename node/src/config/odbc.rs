//! `[[connection]]` by ODBC: `odbc:` and a connection string without its password.

use super::file::ConnectionFile;
use super::{Finding, Loader};
use crate::source::connection::Server;

impl Loader<'_> {
    #[cfg(feature = "odbc")]
    pub(super) fn odbc(&mut self, index: &str, file: &ConnectionFile, keywords: &str) -> Option<Server> {
        use crate::source::{Keywords, OdbcSettings};
        for (key, _) in [("tls", file.tls.is_some()), ("plaintext", file.plaintext)].into_iter().filter(|(_, there)| *there) {
            let remedy = "remove it, and say in `url` what the driver needs to protect the connection";
            self.untold(index, key, format!("a connection by ODBC has no `{key}`"), remedy);
        }
        let keywords =
            Keywords::parse(keywords, file.protected_by_driver).map_err(|(cause, remedy)| self.untold(index, "url", cause, remedy)).ok()?;
        let settings = OdbcSettings::new(keywords, file.password_file.as_ref().map(|path| self.folder.join(path)));
        if let Err(fault) = settings.password() {
            self.findings.push(Finding::file(std::path::Path::new(&fault.place), &fault.cause, &fault.remedy));
        }
        Some(Server::Odbc(std::sync::Arc::new(settings)))
    }

    /// Of a database by ODBC, a build without it says what to do.
    #[cfg(not(feature = "odbc"))]
    pub(super) fn odbc(&mut self, index: &str, _file: &ConnectionFile, _keywords: &str) -> Option<Server> {
        let remedy = "build with `cargo build --release --features odbc` and unixODBC";
        self.untold(index, "url", "this build has no ODBC".into(), remedy);
        None
    }

    /// Without the line's text, which may hold a password.
    fn untold(&mut self, index: &str, key: &str, cause: String, remedy: &str) {
        self.findings.push(Finding::at(self.path, self.text, &["connection", index, key], cause, remedy).without_text());
    }
}

#[cfg(test)]
mod tests {
    use crate::config::connection;

    fn found(text: &str) -> Vec<(String, String)> {
        let found = connection(&format!("[[connection]]\nname = \"office\"\n{text}")).err().map(|found| found.findings).unwrap_or_default();
        found.iter().map(|finding| (finding.cause().to_owned(), finding.remedy().to_owned())).collect()
    }

    #[cfg(not(feature = "odbc"))]
    #[test]
    fn a_build_without_odbc_says_what_to_do() {
        let expected = ("this build has no ODBC".to_owned(), "build with `cargo build --release --features odbc` and unixODBC".to_owned());
        assert_eq!(found("url = \"odbc:DSN=office;PWD=4711\""), [expected]);
    }

    #[cfg(feature = "odbc")]
    #[test]
    fn secrets_stand_in_a_file_of_their_own_and_are_not_shown() {
        assert!(found("url = \"odbc:DSN=office;UID=reader\"\nprotected_by_driver = true").is_empty());
        assert!(found("url = \"odbc:Driver=PostgreSQL Unicode;Servername=/run/postgresql;UID=reader\"").is_empty());
        for (text, says) in [
            ("url = \"odbc:DSN=office;PWD=4711\"", "keyword PWD holds a secret"),
            ("url = \"odbc:UID=4711\"", "neither Driver nor DSN"),
            ("url = \"odbc:DSN=office\"", "data source"),
            ("url = \"odbc:Driver=FreeTDS;Server=a\"", "nothing tells"),
            ("url = \"odbc:DSN=office\"\nprotected_by_driver = true\nplaintext = true", "has no `plaintext`"),
            ("url = \"odbc:DSN=office\"\nprotected_by_driver = true\ntls = { ca = \"ca.pem\" }", "has no `tls`"),
            ("url = \"odbc:DSN=office\"\nprotected_by_driver = true\npassword_file = \"/nowhere/4712\"", "cannot be read"),
        ] {
            let found = found(text);
            assert!(found.len() == 1 && found[0].0.contains(says) && !format!("{found:?}").contains("4711"), "{text}: {found:?}");
        }
    }
}
