//! Memory that nobody uses any more, given back to the system.
//!
//! The GNU C library keeps what was freed below a piece that is still used. After a snapshot was made, or a large release sorted, that is
//! a good part of what it took, in small pieces which `GLIBC_TUNABLES` do not reach.

/// Gives back every page that is free, in all arenas; where there is another C library, nothing. Holds one
/// arena after the other, some 10 ms together where there is much: not for the way of a query.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a call of the C library that no crate wraps")]
pub fn give_back() {
    // SAFETY: takes no pointer and touches nothing that is in use; any thread may call it at any time (malloc_trim(3): MT-Safe).
    unsafe { libc::malloc_trim(0) };
}

/// Gives back every page that is free, in all arenas; where there is another C library, nothing.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests {
    /// Memory that this process has, in MiB.
    fn resident() -> u64 {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        // In pages of 4 KiB at least.
        statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 8
    }

    #[test]
    fn what_lies_below_a_piece_in_use_is_given_back() {
        let mut pieces: Vec<Vec<u8>> = (0..65_536).map(|_| vec![1; 1024]).collect();
        let last = pieces.pop();
        drop(pieces);
        let kept = resident();
        super::give_back();
        let left = resident();
        assert!(left + 48 < kept, "{kept} MiB, then {left}: 64 were freed");
        drop(last);
    }
}
