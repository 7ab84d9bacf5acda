//! Since when a quorum of witnesses has seen the access log.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use concordat_policy::Name;

/// Until when everything that was logged is witnessed.
#[derive(Debug, Default)]
pub(crate) struct Witnessed(Mutex<Option<SystemTime>>);

impl Witnessed {
    /// A checkpoint published at that time has cosignatures of these departments, and of so many outside witnesses.
    pub(crate) fn cosigned(&self, checkpoint_time: SystemTime, by: &BTreeSet<Name>, outside: usize) {
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !by.is_empty() || outside > 0 {
            *until = (*until).max(Some(checkpoint_time));
        }
    }
}
