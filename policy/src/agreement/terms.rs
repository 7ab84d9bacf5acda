//! Terms of a whole agreement: what may be taken under it, and how far a withdrawal reaches.

use std::fmt;

use serde::Deserialize;

/// What all callers together may take under the agreement. The gateway keeps its part, with limits of its own beside it; each
/// department keeps what is said of releases and rows for its own data, whatever the gateway says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Queries and their descriptions per minute.
    pub requests_per_minute: Option<u32>,
    /// Queries at a time.
    pub concurrent_queries: Option<u32>,
    /// Rows that departments release, per UTC day: all together by the gateway's count, each one alone by its own. The release
    /// that reaches the number is the day's last.
    pub rows_per_day: Option<u64>,
    /// Releases that each department makes, per UTC day. A query needs one for every dataset that it reads.
    pub releases_per_day: Option<u32>,
}

/// How far a withdrawal or an objection reaches. No agreement may promise more than is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithdrawalReach {
    /// The data of the department that recorded it, in every release that is ordered afterwards. A release under way keeps to
    /// the records as they were when it was ordered.
    #[default]
    OwnDepartment,
}

impl fmt::Display for WithdrawalReach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OwnDepartment => "own_department",
        })
    }
}
