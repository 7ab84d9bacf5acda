//! A connection string as the configuration has it: `Driver={…};Server=…;UID=reader`, everything but the password.
//!
//! The driver manager and the driver read the string once more, so it is taken only in the one form that all of them read alike, and
//! the password is added between braces, where nothing in it can end its value. `Debug` and errors show the driver's name only.
//!
//! A driver that is left to itself may do without protection, so what is not known to protect is refused:
//!
//! | named by | taken with |
//! |---|---|
//! | Microsoft's driver of SQL Server, by its name or library | `Encrypt=yes`, `true`, `mandatory` or `strict` |
//! | the driver `psqlodbc` of PostgreSQL, by its name or library | `SSLmode=verify-full` or `verify-ca`, or a Unix socket as its one server |
//! | any other driver, a data source (`DSN`, `FILEDSN`), and those two otherwise | the department's word: `protected_by_driver = true` |

use std::fmt;
use std::path::Path;

const FORM: &str = "use odbc:Driver={name of the driver};Server=…;Database=…;UID=…, or odbc:DSN=…";

/// A connection string that holds no secret and does not ask for an unprotected connection.
#[derive(Clone, PartialEq, Eq)]
pub struct Keywords {
    pub(super) text: String,
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
    /// Reads `keyword=value;keyword={value}`. `by_driver`: the department says that the driver protects the connection, or reads a file.
    ///
    /// # Errors
    /// [`Wrong`]: for what cannot be read in one way only, for secrets, for what would or could leave the connection unprotected.
    pub fn parse(text: &str, by_driver: bool) -> Result<Self, Wrong> {
        let pairs = pairs(text).ok_or_else(|| ("the connection string cannot be read".to_owned(), FORM))?;
        for (place, (keyword, value)) in pairs.iter().enumerate() {
            if pairs.iter().take(place).any(|(other, _)| other.eq_ignore_ascii_case(keyword)) {
                return Err((format!("the keyword {keyword} stands there twice"), "keep one of the two"));
            }
            sound(keyword, value)?;
        }
        let find = |wanted: &str| find(&pairs, wanted);
        let driver = find("DSN").or_else(|| find("DRIVER")).filter(|name| !name.is_empty());
        let driver = driver.ok_or_else(|| ("the connection string names neither Driver nor DSN".to_owned(), FORM))?;
        let kind = find("DRIVER").map_or(Driver::Other, |named| Driver::of(named));
        if let Some((keyword, _)) = pairs.iter().find(|(keyword, _)| kind == Driver::Postgres && hides(keyword)) {
            return Err((format!("the keyword {keyword} can take back what the others say"), "remove it, and say SSLmode in full"));
        }
        if !by_driver {
            protected(kind, &pairs)?;
        }
        Ok(Self { text: text.trim().trim_end_matches(';').to_owned(), driver: driver.clone() })
    }

    /// The name of the driver or data source, for people.
    #[must_use]
    pub fn driver(&self) -> &str {
        &self.driver
    }
}

pub(super) type Pair<'t> = (&'t str, String);

fn find<'p>(pairs: &'p [Pair<'_>], wanted: &str) -> Option<&'p String> {
    pairs.iter().find(|(keyword, _)| keyword.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
}

/// A driver whose keywords are known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Driver {
    SqlServer,
    Postgres,
    Other,
}

impl Driver {
    /// By the name that its maker gives it, or by its library.
    fn of(named: &str) -> Self {
        let name = named.to_ascii_lowercase();
        if name.starts_with('/') {
            let library = Path::new(&name).file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
            return match library {
                _ if library.starts_with("libmsodbcsql") => Self::SqlServer,
                _ if library.starts_with("psqlodbc") => Self::Postgres,
                _ => Self::Other,
            };
        }
        match name.as_str() {
            "postgresql" | "postgresql unicode" | "postgresql ansi" => Self::Postgres,
            _ if name.starts_with("odbc driver ") && name.ends_with(" for sql server") => Self::SqlServer,
            _ => Self::Other,
        }
    }
}

/// Keywords of `psqlodbc` that stand for others, in short or for libpq.
fn hides(keyword: &str) -> bool {
    ["CA", "CX", "PQOPT"].iter().any(|hiding| keyword.eq_ignore_ascii_case(hiding))
}

/// That the keywords themselves ask for protection. A value that would turn it off was refused before.
fn protected(kind: Driver, pairs: &[Pair<'_>]) -> Result<(), Wrong> {
    if find(pairs, "DSN").or_else(|| find(pairs, "FILEDSN")).is_some() {
        return Err((
            "what a data source says stands in files of the driver manager, and nothing tells whether it protects the connection".into(),
            "see that it does, and add protected_by_driver = true; or name Driver in place of the data source",
        ));
    }
    match kind {
        Driver::SqlServer if find(pairs, "ENCRYPT").is_none() => {
            Err(("the keyword Encrypt is missing".into(), "add Encrypt=yes: the server then proves itself by its certificate"))
        }
        Driver::Postgres if find(pairs, "SSLMODE").is_none() && !by_socket(pairs) => Err((
            "the keyword SSLmode is missing".into(),
            "add SSLmode=verify-full; a Unix socket needs none; to this machine's own loopback, protected_by_driver = true would do",
        )),
        Driver::SqlServer | Driver::Postgres => Ok(()),
        Driver::Other => Err((
            "nothing tells whether this driver protects the connection".into(),
            "see that it encrypts and has the server prove itself, or that it reads a file, and add protected_by_driver = true",
        )),
    }
}

/// Whether PostgreSQL is reached by a Unix socket and by nothing else: both keywords name the server, and commas part several.
fn by_socket(pairs: &[Pair<'_>]) -> bool {
    let mut servers = ["SERVERNAME", "SERVER"].into_iter().filter_map(|keyword| find(pairs, keyword));
    servers.next().is_some_and(|server| server.starts_with('/') && !server.contains(',')) && servers.next().is_none()
}

fn sound(keyword: &str, value: &str) -> Result<(), Wrong> {
    let (name, value) = (keyword.to_ascii_lowercase(), value.to_ascii_lowercase());
    if name == "pass" || ["pwd", "passw", "secret", "token"].iter().any(|part| name.contains(part)) {
        let cause = format!("the keyword {keyword} holds a secret, which everybody who reads this file would know");
        return Err((cause, "put the password into a file of mode 0600, name that in `password_file`, and replace the password"));
    }
    let is = |values: &[&str]| values.contains(&value.as_str());
    match name.as_str() {
        "savefile" => Err((format!("the keyword {keyword} has the driver manager write the connection into a file"), "remove it")),
        "encrypt" if !is(&["yes", "true", "mandatory", "strict"]) => {
            Err((format!("the keyword {keyword} does without encryption"), "use Encrypt=yes or Encrypt=strict"))
        }
        "trustservercertificate" if !is(&["no", "false", "0"]) => Err((
            format!("the keyword {keyword} takes any server for the right one"),
            "remove it, and have the authority of the server's certificate trusted by this machine",
        )),
        // The latter two are of MySQL's kind.
        "sslmode" if !is(&["verify-full", "verify-ca", "verify_identity", "verify_ca"]) => {
            Err((format!("the keyword {keyword} takes any server for the right one"), "use SSLmode=verify-full; a Unix socket needs none"))
        }
        _ => Ok(()),
    }
}

/// The keywords and their values; `None` for what could be read in two ways.
pub(super) fn pairs(text: &str) -> Option<Vec<Pair<'_>>> {
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
            assert_eq!(Keywords::parse(text, true).unwrap().driver(), driver, "{text}");
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
            ("DSN=a;Encrypt=n", "does without encryption"),
            ("DSN=a;TrustServerCertificate=y", "takes any server"),
            ("DSN=a;SSLmode=verify", "takes any server"),
            ("Driver=PostgreSQL;Servername=db;SSLmode=verify-full;CA=d", "keyword CA"),
            ("Driver=PostgreSQL Unicode;Servername=/run;cx=1", "keyword cx"),
            ("Driver=/usr/lib/psqlodbcw.so;Servername=/run;pqopt={host=db}", "keyword pqopt"),
        ] {
            let (cause, remedy) = Keywords::parse(text, true).unwrap_err();
            assert!(cause.contains(says) && !cause.contains("4711") && !remedy.is_empty(), "{text}: {cause}");
        }
    }

    #[test]
    fn what_is_not_known_to_protect_needs_the_departments_word() {
        for text in [
            "Driver={ODBC Driver 18 for SQL Server};Server=a;Encrypt=yes",
            "Driver={ODBC Driver 17 for SQL Server};Server=a;Encrypt=Mandatory",
            "Driver=/opt/microsoft/msodbcsql18/lib64/libmsodbcsql-18.3.so.2.1;Server=a;Encrypt=strict",
            "Driver=PostgreSQL Unicode;Servername=db;SSLmode=verify-full",
            "Driver=/usr/lib/odbc/psqlodbcw.so;Server=db;SSLmode=verify-ca",
            "Driver=PostgreSQL;Servername=/run/postgresql;UID=reader",
        ] {
            assert!(Keywords::parse(text, false).is_ok(), "{text}");
        }
        for (text, says) in [
            ("Driver={ODBC Driver 17 for SQL Server};Server=a", "keyword Encrypt is missing"),
            ("Driver=/opt/libmsodbcsql-18.3.so.2.1;Server=a", "keyword Encrypt is missing"),
            ("Driver=PostgreSQL Unicode;Servername=db;UID=reader", "keyword SSLmode is missing"),
            ("Driver=/usr/lib/odbc/psqlodbcw.so;Servername=db", "keyword SSLmode is missing"),
            ("Driver=PostgreSQL Unicode;UID=reader", "keyword SSLmode is missing"),
            ("Driver=PostgreSQL Unicode;Servername=localhost", "keyword SSLmode is missing"),
            ("Driver=PostgreSQL Unicode;Servername={/run,db}", "keyword SSLmode is missing"),
            ("Driver=PostgreSQL Unicode;Servername=/run;Server=db", "keyword SSLmode is missing"),
            ("DSN=office", "data source"),
            ("DSN=office;Driver=PostgreSQL Unicode;SSLmode=verify-full", "data source"),
            ("Driver=PostgreSQL Unicode;SSLmode=verify-full;FileDSN=/tmp/a", "data source"),
            ("Driver=FreeTDS;Server=a;Encrypt=yes", "nothing tells"),
            ("Driver={SQL Server};Server=a;Encrypt=yes", "nothing tells"),
            ("Driver={MariaDB ODBC 3.1 Driver};Server=a", "nothing tells"),
            ("Driver=Oracle;DBQ=a", "nothing tells"),
            ("Driver=SQLite3;Database=a.db", "nothing tells"),
            ("Driver=/usr/lib/odbc/libsqlite3odbc.so;Database=a.db", "nothing tells"),
        ] {
            let (cause, remedy) = Keywords::parse(text, false).unwrap_err();
            assert!(cause.contains(says) && !remedy.is_empty(), "{text}: {cause}");
            assert!(Keywords::parse(text, true).is_ok(), "{text}");
        }
    }
}
