//! Who acts at the command line, as far as this machine can tell.

use std::os::unix::fs::MetadataExt as _;

use concordat_audit::Entry;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the kernel says of a session without a login.
const NO_LOGIN: u32 = u32::MAX;

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The process's user.
    pub user: String,
    /// That user's number.
    pub uid: u32,
    /// Who logged in, by the kernel's own record, where there is one: another than `user` after `su` and `sudo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// Who called `sudo`, by its word. The environment can be forged by the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo_user: Option<String>,
}

impl Person {
    /// Who runs this process.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn here() -> std::io::Result<Self> {
        let uid = std::fs::metadata("/proc/self")?.uid();
        let login = std::fs::read_to_string("/proc/self/loginuid").ok().and_then(|text| text.trim().parse().ok());
        let sudo_user = std::env::var("SUDO_USER").ok().map(|name| name.chars().filter(|c| !c.is_control()).take(64).collect());
        Ok(Self { user: name_of(uid), uid, login: login.filter(|login| *login != NO_LOGIN && *login != uid).map(name_of), sudo_user })
    }

    /// Adds the person to an entry of the access log.
    pub(crate) fn fields(&self, entry: Entry) -> Entry {
        self.told().into_iter().fold(entry, |entry, (name, value)| entry.field(name, value))
    }

    /// What is known of the person, by the names of the access log's fields.
    pub(crate) fn told(&self) -> Vec<(&'static str, Value)> {
        let more = [("login", &self.login), ("sudo_user", &self.sudo_user)];
        let more = more.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?.into())));
        [("user", self.user.as_str().into()), ("uid", self.uid.into())].into_iter().chain(more).collect()
    }
}

impl std::fmt::Display for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (uid {})", self.user, self.uid)?;
        match self.login.as_ref().or(self.sudo_user.as_ref()) {
            Some(other) => write!(f, ", logged in as {other}"),
            None => Ok(()),
        }
    }
}

/// The name in the machine's list of users; the number where it has none.
fn name_of(uid: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}
