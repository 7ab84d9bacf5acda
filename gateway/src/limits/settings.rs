//! The `[limits]` of `gateway.toml`. Every key may be left out; the defaults suit one machine with a few dozen users.
//!
//! ```toml
//! [limits]                        # of one query, and of all together
//! memory_mib = 256                # memory of one query's execution
//! total_memory_mib = 1024         # of all queries and answers under way; one caller gets half at most
//! deadline_seconds = 120          # planning and execution of one query
//! answer_mib = 256                # size of one answer
//! release_rows = 1000000000       # rows of one release; a department that sends more is stopped
//! reach_subjects = 10000000        # subjects whose withdrawals one department tells of; 16 bytes of memory each
//! reach_mib = 1024                # memory of all lists of such subjects; twice as much per list while it comes
//! unread_seconds = 60             # an answer that its caller does not read for so long is dropped
//! concurrent_queries = 8          # at a time; more wait
//! waiting_queries = 64            # that may wait, a quarter of them of one caller
//! wait_seconds = 10               # how long they wait
//!
//! [limits.caller]                 # of each user of an organisation
//! requests_per_minute = 600       # of every kind; as many may come at once
//! concurrent_queries = 4
//! rows_per_day = 2000000000       # that departments release for the caller's queries, per UTC day
//!
//! [limits.agreement]              # of each agreement; an agreement may state stricter ones of its own
//! requests_per_minute = 3000      # queries and their descriptions
//! concurrent_queries = 8
//! rows_per_day = 20000000000
//!
//! [limits.detached]               # queries that run on without their caller
//! deadline_seconds = 1800         # waiting for a place, planning and execution
//! keep_minutes = 60               # how long an answer waits to be picked up; a restart loses it
//! queries_per_caller = 4          # running or kept
//! queries = 64
//! answers_mib = 256               # kept in memory, in all
//! answers_per_caller_mib = 64
//! ```

use std::time::Duration;

use concordat_policy::Problem;
use serde::Deserialize;

/// Limits of queries, callers and agreements.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// MiB of memory that one query's execution may use.
    pub memory_mib: usize,
    /// MiB that all queries and answers under way may use together.
    pub total_memory_mib: usize,
    /// Seconds that planning and execution of one query may take.
    pub deadline_seconds: u64,
    /// MiB of one answer.
    pub answer_mib: usize,
    /// Rows of one release.
    pub release_rows: u64,
    /// Subjects whose choices one department tells of, for one linkage domain, agreement and basis.
    pub reach_subjects: usize,
    /// MiB that all lists of such subjects may take together.
    pub reach_mib: usize,
    /// Seconds after which an answer that nobody reads is dropped.
    pub unread_seconds: u64,
    /// Queries at a time.
    pub concurrent_queries: usize,
    /// Queries that may wait for a place.
    pub waiting_queries: usize,
    /// Seconds that they may wait.
    pub wait_seconds: u64,
    /// Of each caller.
    pub caller: Share,
    /// Of each agreement.
    pub agreement: AgreementShare,
    /// Queries that run on without their caller.
    pub detached: DetachedSettings,
}

/// What one caller may take.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Share {
    /// Requests of every kind per minute.
    pub requests_per_minute: u32,
    /// Queries at a time.
    pub concurrent_queries: usize,
    /// Rows that departments release, per UTC day.
    pub rows_per_day: u64,
}

/// What all callers may take under one agreement.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgreementShare {
    /// Queries and their descriptions per minute.
    pub requests_per_minute: u32,
    /// Queries at a time.
    pub concurrent_queries: usize,
    /// Rows that departments release, per UTC day.
    pub rows_per_day: u64,
}

/// Limits of detached queries.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DetachedSettings {
    /// Seconds that waiting, planning and execution may take.
    pub deadline_seconds: u64,
    /// Minutes that an answer, or the reason why there is none, is kept.
    pub keep_minutes: u64,
    /// Running or kept, of one caller.
    pub queries_per_caller: usize,
    /// Running or kept, in all.
    pub queries: usize,
    /// MiB of kept answers, in all.
    pub answers_mib: usize,
    /// MiB of kept answers of one caller.
    pub answers_per_caller_mib: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            memory_mib: 256,
            total_memory_mib: 1024,
            deadline_seconds: 120,
            answer_mib: 256,
            release_rows: 1_000_000_000,
            reach_subjects: 10_000_000,
            reach_mib: 1024,
            unread_seconds: 60,
            concurrent_queries: 8,
            waiting_queries: 64,
            wait_seconds: 10,
            caller: Share::default(),
            agreement: AgreementShare::default(),
            detached: DetachedSettings::default(),
        }
    }
}

impl Default for Share {
    fn default() -> Self {
        Self { requests_per_minute: 600, concurrent_queries: 4, rows_per_day: 2_000_000_000 }
    }
}

impl Default for AgreementShare {
    fn default() -> Self {
        Self { requests_per_minute: 3_000, concurrent_queries: 8, rows_per_day: 20_000_000_000 }
    }
}

impl Default for DetachedSettings {
    fn default() -> Self {
        Self { deadline_seconds: 1_800, keep_minutes: 60, queries_per_caller: 4, queries: 64, answers_mib: 256, answers_per_caller_mib: 64 }
    }
}

impl Settings {
    /// What cannot be meant.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let counts = [
            ("concurrent_queries", self.concurrent_queries),
            ("concurrent_queries", self.caller.concurrent_queries),
            ("concurrent_queries", self.agreement.concurrent_queries),
            ("requests_per_minute", self.caller.requests_per_minute as usize),
            ("requests_per_minute", self.agreement.requests_per_minute as usize),
        ];
        let zero = |(key, count): (&str, usize)| {
            (count == 0).then(|| Problem::at(key, format!("{key} is 0: nobody could ever ask"), "set 1 or more, or leave it out"))
        };
        let mut problems: Vec<Problem> = counts.into_iter().filter_map(zero).collect();
        // What is more than this cannot be meant, and could not be counted in bytes.
        let sizes = [
            ("memory_mib", self.memory_mib),
            ("total_memory_mib", self.total_memory_mib),
            ("answer_mib", self.answer_mib),
            ("reach_mib", self.reach_mib),
            ("answers_mib", self.detached.answers_mib),
            ("answers_per_caller_mib", self.detached.answers_per_caller_mib),
        ];
        let huge =
            |(key, mib): (&str, usize)| (mib > 64 << 20).then(|| Problem::at(key, format!("{key} is more than 64 TiB"), "state it in MiB"));
        problems.extend(sizes.into_iter().filter_map(huge));
        let day = 86_400;
        let times = [
            ("deadline_seconds", self.deadline_seconds),
            ("deadline_seconds", self.detached.deadline_seconds),
            ("wait_seconds", self.wait_seconds),
            ("unread_seconds", self.unread_seconds),
            ("keep_minutes", self.detached.keep_minutes.saturating_mul(60)),
        ];
        let long = |(key, seconds): (&str, u64)| {
            (seconds > day).then(|| Problem::at(key, format!("{key} is more than a day"), "set a shorter time"))
        };
        problems.extend(times.into_iter().filter_map(long));
        if self.unread_seconds == 0 {
            problems.push(Problem::at("unread_seconds", "unread_seconds is 0: no answer could be read", "set 1 or more, or leave it out"));
        }
        if self.memory_mib > self.total_memory_mib {
            problems.push(Problem::at("memory_mib", "memory_mib is more than total_memory_mib", "lower it, or raise total_memory_mib"));
        }
        problems
    }

    /// Time of one query.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline_seconds)
    }

    /// Time that a query may wait for a place.
    #[must_use]
    pub fn wait(&self) -> Duration {
        Duration::from_secs(self.wait_seconds)
    }

    /// Time after which an answer that is not read is dropped.
    #[must_use]
    pub fn unread(&self) -> Duration {
        Duration::from_secs(self.unread_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_sound_and_nonsense_is_named() {
        assert!(Settings::default().problems().is_empty());
        let settings: Settings = toml::from_str("deadline_seconds = 0\n[caller]\nrows_per_day = 5\n").unwrap();
        assert_eq!((settings.caller.rows_per_day, settings.caller.concurrent_queries), (5, 4));
        assert!(settings.problems().is_empty());
        assert!(toml::from_str::<Settings>("deadline = 3").is_err(), "unknown keys are refused");
        for (text, near) in [
            ("concurrent_queries = 0", "concurrent_queries"),
            ("memory_mib = 4096", "memory_mib"),
            ("answer_mib = 99999999999", "answer_mib"),
            ("reach_mib = 99999999999", "reach_mib"),
            ("wait_seconds = 100000", "wait_seconds"),
            ("unread_seconds = 0", "unread_seconds"),
            ("[detached]\nkeep_minutes = 100000", "keep_minutes"),
        ] {
            let problems = toml::from_str::<Settings>(text).unwrap().problems();
            assert!(problems.iter().any(|p| p.near.as_deref() == Some(near)), "{text}: {problems:?}");
        }
    }

    #[test]
    fn the_documented_defaults_are_the_defaults() {
        let document = include_str!("settings.rs");
        let documented: String = document
            .lines()
            .filter_map(|l| l.strip_prefix("//! "))
            .skip_while(|l| *l != "```toml")
            .skip(1)
            .take_while(|l| *l != "```")
            .fold(String::new(), |text, line| text + line.split('#').next().unwrap_or_default() + "\n");
        let table: toml::Table = toml::from_str(&documented).unwrap();
        let settings: Settings = table["limits"].clone().try_into().unwrap();
        assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::default()));
    }
}
