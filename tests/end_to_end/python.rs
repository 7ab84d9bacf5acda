//! The Python that has the clients of `tests/clients/requirements.txt`.

use std::path::PathBuf;

/// The interpreter that `tests/run` prepared.
pub fn with_clients() -> PathBuf {
    let cache =
        || std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let python =
        std::env::var_os("CONCORDAT_CLIENTS").map_or_else(|| cache().unwrap().join("concordat/clients"), PathBuf::from).join("bin/python");
    assert!(python.exists(), "{} is missing: `tests/run` installs the Python clients", python.display());
    python
}
