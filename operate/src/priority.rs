//! Threads that give way: work that keeps processors busy never keeps a server's own threads from answering, recording and logging.

/// Their nice value, of -20 to 19; other threads have 0, unless the program was started with another. Linux gives a thread with this one a
/// tenth of the time of one with 0, and all that others leave.
pub const NICE: i32 = 10;

/// Has the calling thread give way. The value is fixed, not added: a thread begins with that of the one which started it. On other
/// systems than Linux it would be the whole process, so nothing is done there.
pub fn give_way() {
    if cfg!(target_os = "linux")
        && of_thread().is_some_and(|now| now < NICE)
        && let Err(error) = rustix::process::setpriority_process(None, NICE)
    {
        tracing::warn!(cause = %error, "a thread that works cannot give way to those that answer");
    }
}

/// The nice value of the calling thread; `None` where the system does not tell.
#[must_use]
pub fn of_thread() -> Option<i32> {
    rustix::process::getpriority_process(None).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gives_way_once_with_those_that_it_starts_and_others_stay() {
        let own = of_thread().unwrap();
        let lowered = own.max(NICE);
        let work = || {
            give_way();
            let started = std::thread::spawn(|| {
                give_way();
                of_thread().unwrap()
            });
            [of_thread().unwrap(), started.join().unwrap()]
        };
        assert_eq!(std::thread::spawn(work).join().unwrap(), [lowered; 2]);
        assert_eq!(of_thread().unwrap(), own);
    }
}
