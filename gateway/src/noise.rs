//! The secret from which noise is derived (`protect/src/noise.rs`), in the gateway's state: made on first use. It must last. With
//! another one the same contributors get other noise, and asking before and after would average it away.

use std::io;
use std::path::Path;

use concordat_protect::noise::Secret;

use crate::replace::replace;

/// Its file: 16 bytes.
pub(crate) const FILE: &str = "noise.key";

/// Reads the secret, or makes it (mode 0600).
///
/// # Errors
/// Where it cannot be read or kept, or has another size.
pub(crate) fn secret(state: &Path) -> io::Result<Secret> {
    let path = state.join(FILE);
    match std::fs::read(&path) {
        Ok(bytes) => bytes.try_into().map(Secret::new).map_err(|_| io::Error::other("it does not have 16 bytes")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).map_err(io::Error::other)?;
            replace(&path, &bytes)?;
            Ok(Secret::new(bytes))
        }
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_made_once_for_nobody_else_and_never_guessed() {
        let state = tempfile::tempdir().unwrap();
        let first = secret(state.path()).unwrap();
        assert!(secret(state.path()).unwrap() == first && secret(tempfile::tempdir().unwrap().path()).unwrap() != first);
        let path = state.path().join(FILE);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, b"short").unwrap();
        assert!(secret(state.path()).is_err());
    }
}
