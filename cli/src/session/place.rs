//! Where a sign-in is kept: the desktop's keyring, or a file that only its owner can read.
//!
//! The file is written whole or not at all, and not read when others could have. What stands in both places: the newest login
//! removes the other.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use concordat_policy::agreement::hex;
use keyring_core::Entry;
use keyring_core::api::CredentialStoreApi as _;

use super::Session;
use crate::client::{LoginFile, TokenStore};
use crate::failure::{Failure, Result};
use crate::federation::layout::create_private;

/// The name under which keyrings show our entries.
const SERVICE: &str = "concordat";
/// The most bytes of a session's file.
const MAX_BYTES: u64 = 256 << 10;

/// The places of one sign-in.
pub(super) struct Places {
    file: PathBuf,
    /// Opens our entry of the keyring, when needed: there may be none.
    keyring: Box<dyn Fn() -> Result<Entry> + Send + Sync>,
    store: TokenStore,
}

impl Places {
    /// The places of the sign-in that `login` describes. Another provider, client or resource is another sign-in.
    pub(super) fn of(login: &LoginFile) -> Result<Self> {
        let text = [login.issuer.as_str(), &login.client_id, login.resource.as_deref().unwrap_or_default()].join("\n");
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let name: String = hex(digest.as_ref()).chars().take(32).collect();
        let file = state_folder()?.join(format!("session-{name}.json"));
        Ok(Self::new(file, move || desktop(&name), login.store))
    }

    pub(super) fn new(file: PathBuf, keyring: impl Fn() -> Result<Entry> + Send + Sync + 'static, store: TokenStore) -> Self {
        Self { file, keyring: Box::new(keyring), store }
    }

    /// The sign-in that is kept, if any.
    pub(super) fn load(&self) -> Result<Option<Session>> {
        let text = match self.store {
            TokenStore::File => read_private(&self.file)?,
            TokenStore::Keyring => self.in_keyring()?,
            TokenStore::Auto => match read_private(&self.file)? {
                Some(text) => Some(text),
                // Without a keyring, nothing is in it.
                None => self.in_keyring().unwrap_or_default(),
            },
        };
        let parse = |text: String| {
            serde_json::from_str(&text)
                .map_err(|_| Failure::new("the sign-in that is kept cannot be understood").advice("sign in again with `concordat login`"))
        };
        text.map(parse).transpose()
    }

    /// Keeps a sign-in; says where.
    pub(super) fn save(&self, session: &Session) -> Result<String> {
        let text = serde_json::to_string(session).map_err(|e| Failure::new(format!("the sign-in cannot be kept: {e}")))?;
        if self.store != TokenStore::File {
            match (self.keyring)().and_then(|entry| entry.set_password(&text).map_err(|e| keyring(&e))) {
                Ok(()) => {
                    remove(&self.file)?;
                    return Ok("the keyring".into());
                }
                Err(failure) if self.store == TokenStore::Keyring => return Err(failure),
                Err(_) => {}
            }
        }
        write_private(&self.file, &text)?;
        Ok(self.file.display().to_string())
    }

    /// Removes it wherever it is.
    pub(super) fn remove(&self) -> Result<()> {
        remove(&self.file)?;
        if self.store == TokenStore::File {
            return Ok(());
        }
        match (self.keyring)().and_then(|entry| match entry.delete_credential() {
            Ok(()) | Err(keyring_core::Error::NoEntry) => Ok(()),
            Err(e) => Err(keyring(&e)),
        }) {
            Err(failure) if self.store == TokenStore::Keyring => Err(failure),
            _ => Ok(()),
        }
    }

    /// Held by the one process that changes the sign-in.
    pub(super) async fn lock(&self, patience: Duration) -> Result<File> {
        create_private(self.file.parent().unwrap_or(Path::new(".")))?;
        let path = self.file.with_extension("lock");
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(|e| Failure::file("written", &path, e))?;
        let deadline = Instant::now() + patience;
        while file.try_lock().is_err() {
            if Instant::now() > deadline {
                return Err(Failure::new("another `concordat` changes the sign-in and does not end").advice("end it, then try again"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(file)
    }

    fn in_keyring(&self) -> Result<Option<String>> {
        match (self.keyring)()?.get_password() {
            Ok(text) => Ok(Some(text)),
            Err(keyring_core::Error::NoEntry) => Ok(None),
            Err(e) => Err(keyring(&e)),
        }
    }
}

fn desktop(name: &str) -> Result<Entry> {
    zbus_secret_service_keyring_store::Store::new().and_then(|store| store.build(SERVICE, name, None)).map_err(|e| keyring(&e))
}

/// The keyring's own text names no secret.
fn keyring(error: &keyring_core::Error) -> Failure {
    Failure::new(format!("the keyring cannot be used: {error}")).advice("unlock it; or set store = \"file\" in [login] of client.toml")
}

/// `$XDG_STATE_HOME/concordat`, by default `~/.local/state/concordat`.
fn state_folder() -> Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("concordat")).ok_or_else(|| {
        Failure::new("there is no folder to keep the sign-in in: neither XDG_STATE_HOME nor HOME is set").advice("set one of them")
    })
}

/// A private file's text. Not read when others can read it, or could have.
fn read_private(path: &Path) -> Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Failure::file("read", path, e)),
    };
    let failed = |e| Failure::file("read", path, e);
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Failure::new(format!(
            "{} is readable by others (mode {mode:o}), so that its tokens may have been copied",
            path.display()
        ))
        .advice(format!("sign out and in again: `concordat logout`, `concordat login`; or chmod 600 {}", path.display())));
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}

/// Writes a private file, whole or not at all; it never was readable by others.
fn write_private(path: &Path, text: &str) -> Result<()> {
    create_private(path.parent().unwrap_or(Path::new(".")))?;
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    remove(&partial)?;
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&partial)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().map_err(|e| Failure::file("written", path, e))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Failure::file("removed", path, e)),
        _ => Ok(()),
    }
}
