//! A connection string as the configuration has it: `Driver={…};Server=…;UID=reader`, everything but the password.
//!
//! The driver manager and the driver read the string once more, so it is taken only in the one form that all of them read alike, and
//! the password is added between braces, where nothing in it can end its value. `Debug` and errors show the driver's name only.

use std::fmt;
use std::path::PathBuf;

use concordat_operate::Fault;
use zeroize::Zeroizing;

use crate::source::settings;

const FORM: &str = "use odbc:Driver={name of the driver};Server=…;Database=…;UID=…, or odbc:DSN=…";

/// Which database, by which driver, and as whom.
#[derive(Debug, Clone)]
pub struct OdbcSettings {
    /// The connection string without its password.
    pub keywords: Keywords,
    /// A file whose first line is the password; read anew for each connection.
    pub password_file: Option<PathBuf>,
}

/// A connection string that holds no secret and does not ask for an unprotected connection.
#[derive(Clone, PartialEq, Eq)]
pub struct Keywords {
    text: String,
    driver: String,
}

impl fmt::Debug for Keywords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keywords({}, …)", self.driver)
    }
}

/// What is wrong with a connection string, without its values; and what to do.
type Wrong = (String, &'static str);

impl Keywords {
    /// Reads `keyword=value;keyword={value}`.
    ///
    /// # Errors
    /// [`Wrong`]: for what cannot be read in one way only, for secrets, for what would leave the connection unprotected.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let pairs = pairs(text).ok_or_else(|| ("the connection string cannot be read".to_owned(), FORM))?;
        for (place, (keyword, value)) in pairs.iter().enumerate() {
            if pairs.iter().take(place).any(|(other, _)| other.eq_ignore_ascii_case(keyword)) {
                return Err((format!("the keyword {keyword} stands there twice"), "keep one of the two"));
            }
            sound(keyword, value)?;
        }
        let find = |wanted: &str| pairs.iter().find(|(keyword, _)| keyword.eq_ignore_ascii_case(wanted)).map(|(_, value)| value);
        let driver = find("DSN").or_else(|| find("DRIVER")).filter(|name| !name.is_empty());
        let driver = driver.ok_or_else(|| ("the connection string names neither Driver nor DSN".to_owned(), FORM))?;
        // Older drivers of SQL Server encrypt only when they are asked to. What a data source says stands in the driver manager's files.
        if driver.to_ascii_lowercase().contains("sql server") && find("ENCRYPT").is_none() {
            return Err(("the keyword Encrypt is missing".into(), "add Encrypt=yes: the server then proves itself by its certificate"));
        }
        Ok(Self { text: text.trim().trim_end_matches(';').to_owned(), driver: driver.clone() })
    }

    /// The name of the driver or data source, for people.
    #[must_use]
    pub fn driver(&self) -> &str {
        &self.driver
    }
}

impl OdbcSettings {
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

fn sound(keyword: &str, value: &str) -> Result<(), Wrong> {
    let (name, value) = (keyword.to_ascii_lowercase(), value.to_ascii_lowercase());
    if name == "pass" || ["pwd", "passw", "secret", "token"].iter().any(|part| name.contains(part)) {
        let cause = format!("the keyword {keyword} holds a secret, which everybody who reads this file would know");
        return Err((cause, "put the password into a file of mode 0600, name that in `password_file`, and replace the password"));
    }
    let off = ["no", "false", "0", "optional", "disabled"].contains(&value.as_str());
    match name.as_str() {
        "savefile" => Err((format!("the keyword {keyword} has the driver manager write the connection into a file"), "remove it")),
        "encrypt" if off => Err((format!("the keyword {keyword} does without encryption"), "use Encrypt=yes or Encrypt=strict")),
        "trustservercertificate" if !off => Err((
            format!("the keyword {keyword} takes any server for the right one"),
            "remove it, and have the authority of the server's certificate trusted by this machine",
        )),
        "sslmode" if !value.starts_with("verify") => {
            Err((format!("the keyword {keyword} takes any server for the right one"), "use SSLmode=verify-full; a Unix socket needs none"))
        }
        _ => Ok(()),
    }
}

/// The keywords and their values; `None` for what could be read in two ways.
fn pairs(text: &str) -> Option<Vec<(&str, String)>> {
    let mut pairs = Vec::new();
    let mut rest = text.trim();
    if text.chars().any(char::is_control) {
        return None;
    }
    while !rest.is_empty() {
        let (keyword, after) = rest.split_once('=')?;
        let keyword = keyword.trim();
        let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.');
        if keyword.is_empty() || !keyword.chars().all(letters) {
            return None;
        }
        let (value, after) = match after.trim_start().strip_prefix('{') {
            Some(inner) => within_braces(inner)?,
            None => {
                let (value, after) = after.split_once(';').unwrap_or((after, ""));
                (Some(value.trim()).filter(|value| !value.contains(['{', '}']))?.to_owned(), after)
            }
        };
        pairs.push((keyword, value));
        rest = after.trim_start();
    }
    Some(pairs)
}

/// The value up to its closing brace, and what follows behind the `;`.
fn within_braces(inner: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = inner.char_indices().peekable();
    while let Some((place, letter)) = letters.next() {
        if letter != '}' {
            value.push(letter);
        } else if letters.next_if(|(_, next)| *next == '}').is_some() {
            value.push('}');
        } else {
            let rest = inner.get(place + 1..)?.trim_start();
            return if rest.is_empty() { Some((value, rest)) } else { Some((value, rest.strip_prefix(';')?)) };
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_hold_no_secret_and_ask_for_protection() {
        for (text, driver) in [
            ("DSN=office", "office"),
            ("dsn=office;UID=reader;", "office"),
            (
                "Driver={ODBC Driver 18 for SQL Server};Server=tcp:db.internal,1433;Database=office;Encrypt=yes;UID=reader",
                "ODBC Driver 18 for SQL Server",
            ),
            ("Driver={Odd }} name}; Server = a b ;UID={re;ader}", "Odd } name"),
            ("Driver=Oracle;DBQ=(DESCRIPTION=(ADDRESS=(PROTOCOL=TCPS)));UID=reader", "Oracle"),
            ("Driver=PostgreSQL Unicode;SSLmode=verify-full", "PostgreSQL Unicode"),
        ] {
            assert_eq!(Keywords::parse(text).unwrap().driver(), driver, "{text}");
        }
        for (text, says) in [
            ("", "neither Driver nor DSN"),
            ("Server=a", "neither Driver nor DSN"),
            ("DSN=", "neither Driver nor DSN"),
            ("DSN", "cannot be read"),
            ("DSN=a;;UID=b", "cannot be read"),
            ("DSN={a", "cannot be read"),
            ("DSN={a}b;UID=c", "cannot be read"),
            ("DSN=a}b", "cannot be read"),
            ("DSN=a\n;UID=b", "cannot be read"),
            ("DSN=a;U{ID=b", "cannot be read"),
            ("DSN=a;UID=b;uid=c", "keyword uid stands there twice"),
            ("DSN=a;PWD=4711", "keyword PWD holds a secret"),
            ("DSN=a; pwd = {4711}", "keyword pwd holds a secret"),
            ("DSN=a;Password=4711", "keyword Password holds a secret"),
            ("DSN=a;AccessToken=4711", "keyword AccessToken holds a secret"),
            ("DSN=a;KeystoreSecret=4711", "keyword KeystoreSecret holds a secret"),
            ("DSN=a;SaveFile=/tmp/4711", "keyword SaveFile"),
            ("DSN=a;Encrypt=no", "does without encryption"),
            ("DSN=a;Encrypt=Optional", "does without encryption"),
            ("DSN=a;TrustServerCertificate=yes", "takes any server"),
            ("DSN=a;SSLmode=require", "takes any server"),
            ("Driver={ODBC Driver 17 for SQL Server};Server=a", "keyword Encrypt is missing"),
        ] {
            let (cause, remedy) = Keywords::parse(text).unwrap_err();
            assert!(cause.contains(says) && !cause.contains("4711") && !remedy.is_empty(), "{text}: {cause}");
        }
    }

    #[test]
    fn a_password_adds_no_keyword() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
        let keywords = Keywords::parse("DSN=office;UID=reader;").unwrap();
        let settings = OdbcSettings { keywords: keywords.clone(), password_file: Some(file.path().to_owned()) };
        for password in ["simple1", "a;Encrypt=no", "a};Encrypt=no", "{a}", "}", "}}", "{", "a b", " a ", "a=b", "+%41", "é'\"\\", "{};{}"]
        {
            std::fs::write(file.path(), password).unwrap();
            let given = settings.connection_string().unwrap();
            let expected = [("DSN", "office"), ("UID", "reader"), ("PWD", password)];
            assert_eq!(pairs(&given).unwrap(), expected.map(|(keyword, value)| (keyword, value.to_owned())), "{password}");
        }
        let without = OdbcSettings { keywords, password_file: None };
        assert_eq!(*without.connection_string().unwrap(), "DSN=office;UID=reader");
        assert_eq!(format!("{without:?}"), "OdbcSettings { keywords: Keywords(office, …), password_file: None }");
    }
}
