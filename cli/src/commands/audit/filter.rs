//! Which entries are asked for.

use chrono::{DateTime, Utc};
use clap::Args;
use concordat_audit::filter::{self, Commitment};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Ruling {
    /// Answered, explained as permitted, or released
    Permit,
    /// Refused, for whatever reason
    Deny,
}

/// What is asked for: all that is named must hold.
#[derive(Debug, Default, Args)]
pub(crate) struct Filter {
    /// Not before this time, such as 2027-04-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<DateTime<Utc>>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    to: Option<DateTime<Utc>>,
    /// The caller's organisation
    #[arg(long)]
    organisation: Option<String>,
    /// The caller's commitment, or its first 12 characters or more: `audit person` tells it
    #[arg(long, value_name = "COMMITMENT")]
    person: Option<Commitment>,
    /// A department whose data or rule it is about
    #[arg(long)]
    department: Option<String>,
    /// A dataset: department.dataset at the gateway, its own name at a node
    #[arg(long)]
    dataset: Option<String>,
    /// The stated purpose
    #[arg(long)]
    purpose: Option<String>,
    /// What was decided
    #[arg(long, value_enum)]
    decision: Option<Ruling>,
    /// The kind of entry, such as query.refused
    #[arg(long)]
    event: Option<String>,
    /// Of one query; who read of it later is listed with `--event log.read` only
    #[arg(long, value_name = "QUERY_ID")]
    query_id: Option<String>,
}

impl Filter {
    /// Of one kind of entry.
    pub(super) fn event(event: &str) -> Self {
        Self { event: Some(event.to_owned()), ..Self::default() }
    }

    /// The same for those who look through logs.
    pub(super) fn asked(&self) -> concordat_audit::filter::Filter {
        concordat_audit::filter::Filter {
            from: self.from,
            to: self.to,
            organisation: self.organisation.clone(),
            person: self.person.clone(),
            department: self.department.clone(),
            dataset: self.dataset.clone(),
            purpose: self.purpose.clone(),
            decision: self.decision.map(|ruling| match ruling {
                Ruling::Permit => filter::Ruling::Permit,
                Ruling::Deny => filter::Ruling::Deny,
            }),
            event: self.event.clone(),
            query_id: self.query_id.clone(),
        }
    }
}
