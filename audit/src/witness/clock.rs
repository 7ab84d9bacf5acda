//! Since when a log has entries that those who should have not seen (a quorum of witnesses, the witness at hand): moments in, a time out.
//!
//! ```text
//! published 3 ──▶ published 7 ──▶ published 9          unwitnessed since 3 was published
//!          └ a quorum has seen 3                       unwitnessed since 7 was published
//!                                └ a quorum has seen 9 witnessed: nothing is counted until the next is published
//! ```
//!
//! Entries that nobody has seen yet do not begin the time anew. Both clocks count, each where the other fails: the steady one does not
//! go back and rests while the machine sleeps, the wall's goes back and does not rest. The longer time counts.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

/// The most checkpoints that are told apart. Those beyond count as one: unseen since the first of them, until the last one is seen.
const APART: usize = 4096;

/// A moment, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The wall's clock.
    pub wall: SystemTime,
    /// The steady one.
    pub steady: Instant,
}

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self { wall: SystemTime::now(), steady: Instant::now() }
    }

    /// The moment at which the steady clock stood so; the wall's is taken to have run evenly since.
    #[must_use]
    pub fn at(self, steady: Instant) -> Self {
        let ago = self.steady.saturating_duration_since(steady);
        Self { wall: self.wall.checked_sub(ago).unwrap_or(self.wall), steady }
    }

    fn until(self, now: Self) -> Duration {
        let steady = now.steady.saturating_duration_since(self.steady);
        steady.max(now.wall.duration_since(self.wall).unwrap_or_default())
    }
}

/// A checkpoint that was not seen, or several.
#[derive(Debug)]
struct Unseen {
    /// How many entries the last one covers.
    size: u64,
    /// When the first was.
    since: Moment,
}

/// What was seen of a log, and what was not.
#[derive(Debug)]
pub struct Clock {
    seen: u64,
    unseen: VecDeque<Unseen>,
}

impl Clock {
    /// Of a log of which so many entries were seen.
    #[must_use]
    pub fn new(seen: u64) -> Self {
        Self { seen, unseen: VecDeque::new() }
    }

    /// How many entries were seen.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// A checkpoint over `size` entries was published; the first of them that is new here, at `since`.
    pub fn published(&mut self, size: u64, since: Moment) {
        if size <= self.unseen.back().map_or(self.seen, |last| last.size) {
            return;
        }
        let full = self.unseen.len() >= APART;
        match self.unseen.back_mut().filter(|_| full) {
            Some(last) => last.size = size,
            None => self.unseen.push_back(Unseen { size, since }),
        }
    }

    /// The first `size` entries were seen.
    pub fn witnessed(&mut self, size: u64) {
        while let Some(first) = self.unseen.pop_front_if(|first| first.size <= size) {
            self.seen = first.size;
        }
    }

    /// For how long there have been entries that were not seen.
    #[must_use]
    pub fn unwitnessed(&self, now: Moment) -> Duration {
        self.unseen.front().map_or(Duration::ZERO, |first| first.since.until(now))
    }

    /// The first checkpoint that was not seen: how many entries it covers, and since when.
    #[must_use]
    pub fn oldest(&self) -> Option<(u64, Moment)> {
        self.unseen.front().map(|first| (first.size, first.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Both clocks `seconds` after they began.
    fn at(base: Moment, seconds: u64) -> Moment {
        Moment { wall: base.wall + s(seconds), steady: base.steady + s(seconds) }
    }

    enum Step {
        /// A checkpoint over so many entries is published.
        Published(u64, u64),
        /// A quorum has seen so many.
        Seen(u64),
    }
    use Step::{Published, Seen};

    #[test]
    fn the_oldest_entry_that_no_quorum_has_seen_counts() {
        let base = Moment::now();
        // Steps by the second at which they happen, when it is asked, and what it tells: how long, how many entries were seen.
        for (what, steps, asked, expected) in [
            ("an empty log", &[][..], 100, (0, 0)),
            ("the first entry", &[Published(1, 10)], 100, (90, 0)),
            ("more entries begin nothing anew", &[Published(1, 10), Published(2, 20), Published(9, 99)], 100, (90, 0)),
            ("all is seen", &[Published(1, 10), Published(2, 20), Seen(2)], 100, (0, 2)),
            ("the rest counts from its own time", &[Published(1, 10), Published(2, 20), Published(3, 30), Seen(1)], 100, (80, 1)),
            ("an idle log that was seen is not asked again", &[Published(1, 10), Seen(1)], 1_000_000, (0, 1)),
            ("after long idleness the new entry counts", &[Published(1, 10), Seen(1), Published(2, 900_000)], 900_007, (7, 1)),
            ("less than the first checkpoint covers", &[Published(7, 10), Seen(6)], 100, (90, 0)),
            ("late news of an old checkpoint", &[Published(1, 10), Published(2, 20), Seen(2), Published(3, 30), Seen(1)], 31, (1, 2)),
            ("a checkpoint that is told twice", &[Published(1, 10), Seen(1), Published(1, 50)], 100, (0, 1)),
            ("more signatures, no more entries", &[Published(1, 10), Published(1, 20), Seen(1)], 100, (0, 1)),
        ] {
            let mut clock = Clock::new(0);
            for step in steps {
                match *step {
                    Published(size, then) => clock.published(size, at(base, then)),
                    Seen(size) => clock.witnessed(size),
                }
            }
            let (unwitnessed, seen) = expected;
            assert_eq!((clock.unwitnessed(at(base, asked)), clock.seen()), (s(unwitnessed), seen), "{what}");
        }
    }

    #[test]
    fn a_clock_that_goes_back_or_sleeps_makes_no_time_shorter() {
        let base = at(Moment::now(), 0);
        let mut clock = Clock::new(0);
        clock.published(1, base);
        let now = at(base, 100);
        for (what, moment, expected) in [
            ("both", now, s(100)),
            ("the wall's went back", Moment { wall: base.wall - s(7200), ..now }, s(100)),
            ("the machine slept", Moment { steady: base.steady + s(3), ..now }, s(100)),
            ("the wall's went ahead", Moment { wall: base.wall + s(7200), ..now }, s(7200)),
        ] {
            assert_eq!(clock.unwitnessed(moment), expected, "{what}");
        }
        let earlier = now.at(base.steady + s(60));
        assert_eq!((earlier.wall, earlier.steady), (base.wall + s(60), base.steady + s(60)));
    }

    #[test]
    fn what_was_there_at_the_start_counts_from_when_it_was_logged() {
        let start = Moment::now();
        let mut clock = Clock::new(3);
        clock.published(5, Moment { wall: start.wall - s(3600), ..start });
        assert_eq!((clock.unwitnessed(at(start, 5)), clock.seen()), (s(3605), 3));
        // A log whose last entries lie in the future of a clock that went back: from now on.
        let mut ahead = Clock::new(3);
        ahead.published(5, Moment { wall: start.wall + s(3600), ..start });
        assert_eq!(ahead.unwitnessed(at(start, 5)), s(5));
        clock.witnessed(5);
        assert_eq!((clock.unwitnessed(at(start, 9)), clock.seen()), (Duration::ZERO, 5));
    }

    #[test]
    fn beyond_what_is_told_apart_nothing_counts_as_seen_too_early() {
        let base = Moment::now();
        let mut clock = Clock::new(0);
        let most = APART as u64;
        for n in 1..=most + 10 {
            clock.published(n, at(base, n));
        }
        assert_eq!(clock.unseen.len(), APART);
        clock.witnessed(most + 9);
        assert_eq!((clock.seen(), clock.unwitnessed(at(base, most + 20))), (most - 1, s(20)), "the last ones are one");
        clock.published(most + 11, at(base, most + 11));
        clock.witnessed(most + 10);
        assert_eq!((clock.seen(), clock.unwitnessed(at(base, most + 20))), (most + 10, s(9)));
    }
}
