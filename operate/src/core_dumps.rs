//! No core dumps: pseudonymous rows and keys are in memory, and a dump would put them on disk.

use rlimit::{Resource, setrlimit};

use crate::Fault;

/// What Linux takes as "none, and none to a program either": to a pipe it dumps whatever the limit is, except at 1 (fs/coredump.c).
const NEITHER_FILE_NOR_PIPE: u64 = 1;

/// Switches them off for this process and its children, for good.
///
/// # Errors
/// When the limit cannot be lowered.
pub fn off() -> Result<(), Fault> {
    // A hard limit of 0 cannot be raised; there it stays.
    setrlimit(Resource::CORE, NEITHER_FILE_NOR_PIPE, NEITHER_FILE_NOR_PIPE)
        .or_else(|_| setrlimit(Resource::CORE, 0, 0))
        .map_err(|e| Fault::new("RLIMIT_CORE", format!("core dumps cannot be switched off: {e}"), "set LimitCORE=1 in the service's unit"))
}
