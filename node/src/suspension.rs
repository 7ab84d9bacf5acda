//! The kill switch: what the department has suspended, one agreement or everything, by its own decision alone.
//!
//! ```text
//! concordat-node suspend ─▶ state/suspensions (whole, durable) ─▶ read for every order, ticket, receipt and linkage key
//!                                                               └▶ looked at five times a second: running streams are cut, log
//! ```
//!
//! Invariants
//! - It works without a running node, outlives restarts and crashes, and is in force from the moment the file is there.
//! - A file that cannot be read, is damaged, gone, or older than one that was seen suspends everything.
//! - Suspending everything and suspending one agreement are independent: lifting one leaves the other.
//! - An agreement that has ended is suspended for good. `agreement end` also takes the department's signature away, so that not even
//!   a file that was begun anew brings it back.
//! - Every change is in the access log, once a node runs: who, when, what, and whether a reason was written down.
//!
//! Deliberately absent: conditions and times at which something would resume by itself.

pub(crate) mod book;
mod person;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use concordat_audit::Entry;
use concordat_policy::{Code, Name, Refusal};
use tokio::sync::watch;

pub use self::book::Folders;
pub(crate) use self::book::REMEDY;
use self::book::{Act, Book, Change, Damage};
pub use self::person::Person;

/// What the department has suspended, as its node sees it.
#[derive(Debug)]
pub struct Suspensions {
    department: Name,
    folders: Folders,
    /// The number of the last change that was seen: a file that ends before it is an old copy.
    seen: Mutex<u64>,
    now: watch::Sender<Standing>,
    /// Why the file could not be relied on, as the log has it last.
    told: Mutex<Option<String>>,
}

/// What is suspended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// As the file says.
    Known {
        /// Whether everything is.
        everything: bool,
        /// Which agreements are, whatever `everything` says.
        agreements: BTreeSet<Name>,
        /// Which of these for good.
        ended: BTreeSet<Name>,
    },
    /// The file cannot be relied on, for this reason: everything is suspended.
    Unknown(String),
}

impl Standing {
    /// Of a file.
    #[must_use]
    pub(crate) fn of(book: &Result<Book, Damage>) -> Self {
        match book {
            Ok(book) => Self::Known {
                everything: book.suspended.iter().any(|suspension| suspension.agreement.is_none()),
                agreements: book.suspended.iter().filter_map(|suspension| suspension.agreement.clone()).collect(),
                ended: book.suspended.iter().filter(|suspension| suspension.ended).filter_map(|s| s.agreement.clone()).collect(),
            },
            Err(damage) => Self::Unknown(damage.to_string()),
        }
    }

    /// Whether anything may happen under `agreement`.
    #[must_use]
    pub fn permits(&self, agreement: &Name) -> bool {
        matches!(self, Self::Known { everything: false, agreements, .. } if !agreements.contains(agreement))
    }

    /// Whether it is known that `agreement` has not ended, suspended or not.
    #[must_use]
    pub(crate) fn goes_on(&self, agreement: &Name) -> bool {
        matches!(self, Self::Known { ended, .. } if !ended.contains(agreement))
    }

    fn unknown(&self) -> Option<&str> {
        match self {
            Self::Unknown(cause) => Some(cause),
            Self::Known { .. } => None,
        }
    }

    fn refusal(&self, department: &Name, agreement: &Name) -> Option<Refusal> {
        let denied = |all: &str| {
            Refusal::new(Code::Denied, format!("this department has suspended the agreement '{agreement}'{all}"))
                .department(department)
                .advice("nothing is released under it until the department resumes it; ask the department")
        };
        match self {
            _ if self.permits(agreement) => None,
            Self::Known { ended, .. } if ended.contains(agreement) => Some(
                Refusal::new(Code::Denied, format!("this department has ended the agreement '{agreement}'"))
                    .department(department)
                    .advice("nothing is released under it any more; the parties need a new one"),
            ),
            Self::Known { everything, .. } => Some(denied(if *everything { ", as every other" } else { "" })),
            Self::Unknown(cause) => Some(
                Refusal::new(Code::NodeRefused, "this department's record of suspensions cannot be relied on, so nothing is released")
                    .department(department)
                    .advice("the department's administrator must put it right")
                    .operator(format!("{cause}; {}", REMEDY)),
            ),
        }
    }
}

impl Suspensions {
    /// Those of a node. They are read when something is asked.
    #[must_use]
    pub fn at(department: Name, folders: Folders) -> Self {
        let now = watch::Sender::new(Standing::Unknown("not read yet".into()));
        let suspensions = Self { department, folders, seen: Mutex::default(), now, told: Mutex::default() };
        suspensions.look();
        suspensions
    }

    /// The department.
    #[must_use]
    pub fn department(&self) -> &Name {
        &self.department
    }

    /// Reads what is suspended now; whoever waits in [`Suspensions::suspended`] learns of it. Two small files are read.
    pub fn look(&self) -> Standing {
        self.read().0
    }

    fn read(&self) -> (Standing, Result<Book, Damage>) {
        // Held to the end, so that what was read first is told first.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let book = book::read(&self.folders, *seen);
        if let Ok(book) = &book {
            *seen = book.last;
        }
        let standing = Standing::of(&book);
        self.now.send_if_modified(|now| std::mem::replace(now, standing.clone()) != standing);
        (standing, book)
    }

    /// Whether something may happen under `agreement` now.
    ///
    /// # Errors
    /// [`Code::Denied`] when it is suspended, [`Code::NodeRefused`] when nobody can tell.
    pub fn permits(&self, agreement: &Name) -> Result<(), Refusal> {
        self.look().refusal(&self.department, agreement).map_or(Ok(()), Err)
    }

    /// Waits until `agreement` is suspended, and says so.
    pub async fn suspended(self: Arc<Self>, agreement: Name) -> Refusal {
        let mut now = self.now.subscribe();
        loop {
            let refusal = now.borrow_and_update().refusal(&self.department, &agreement);
            if let Some(refusal) = refusal {
                return refusal;
            }
            // The sender is part of `self`.
            let _ = now.changed().await;
        }
    }

    /// What is suspended now, and the changes that are not in the access log yet, in order. Blocks.
    pub(crate) fn news(&self) -> (Standing, Vec<Change>) {
        let (standing, book) = self.read();
        let changes = match (book, book::logged(&self.folders)) {
            (Ok(book), Ok(logged)) => book.changes.into_iter().filter(|change| change.number > logged).collect(),
            _ => Vec::new(),
        };
        (standing, changes)
    }

    /// The entry that the log needs when the file became unreliable, or reliable again.
    pub(crate) fn turned(&self, standing: &Standing) -> Option<Entry> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match (standing.unknown(), told.as_deref()) {
            (now, told) if now == told => None,
            (Some(cause), _) => Some(Entry::new("suspensions.unreliable").field("cause", cause)),
            (None, _) => Some(Entry::new("suspensions.reliable")),
        }
    }

    /// Notes that the log has it.
    pub(crate) fn told(&self, standing: &Standing) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = standing.unknown().map(str::to_owned);
    }

    /// Notes that the log has the change `number`. Blocks until that is durable.
    pub(crate) fn logged(&self, number: u64) -> Result<(), Refusal> {
        book::note_logged(&self.folders, number).map_err(Refusal::internal)
    }
}

/// A change as the access log has it. The reason itself stays in the department's own file: it is free text.
pub(crate) fn entry(change: &Change) -> Entry {
    let event = match change.act {
        Act::Suspended => "agreement.suspended",
        Act::Resumed => "agreement.resumed",
        Act::Ended => "agreement.ended",
    };
    let entry = Entry::new(event)
        .field("change", change.number)
        .field("everything", change.agreement.is_none())
        .field("changed_at", change.at.as_str())
        .field("reason_given", change.reason_given);
    let entry = change.agreement.iter().fold(entry, |entry, agreement| entry.field("agreement", agreement.as_str()));
    let entry = if change.replaced_damaged_file { entry.field("replaced_damaged_file", true) } else { entry };
    change.by.fields(entry)
}

#[cfg(test)]
mod tests;
