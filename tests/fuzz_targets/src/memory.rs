//! What an input may allocate: so many bytes for each of its own, and a fixed amount.

#[cfg(any(test, feature = "counting"))]
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

/// Runs `work` and fails when all that it allocated, freed again or not, is more than `limit` bytes. Other threads count too.
pub(crate) fn within<T>(limit: usize, work: impl FnOnce() -> T) -> T {
    #[cfg(any(test, feature = "counting"))]
    let before = ALLOCATOR.stats();
    let done = work();
    #[cfg(any(test, feature = "counting"))]
    {
        let change = ALLOCATOR.stats() - before;
        assert!(change.bytes_allocated <= limit, "{} bytes were allocated where {limit} are enough", change.bytes_allocated);
    }
    #[cfg(not(any(test, feature = "counting")))]
    let _ = limit;
    done
}
