//! What one caller, one agreement and all together may take, and what is said when it is taken.
//!
//! | limit | whose | counted | where |
//! |---|---|---|---|
//! | bad tokens | the gateway's, per address | before a signature is looked at | `proofs.rs` |
//! | requests per minute | the gateway's, per caller | after authentication | `rate.rs` |
//! | queries at a time, waiting | the gateway's, in all and per caller | after authorisation, before planning | `places.rs` |
//! | rows per day | the gateway's, per caller | checked with the place, charged from receipts | `rows.rs` |
//! | requests per minute, queries at a time, rows per day | the gateway's or the agreement's, the stricter | after planning, before any order | here |
//! | rows of single subjects per day | the agreement's, per dataset | checked before any order, charged before the answer is given | `rows.rs` |
//! | memory | the gateway's, per query, per caller and in all | while executing and until the answer is read | `memory.rs` |
//!
//! Invariants
//! - Nothing is said about an agreement to who may not use it: its limits are looked at for plans that were permitted.
//! - A refusal says which limit, whose it is, and when to try again. None tells what other callers do beyond that.
//! - Everything kept here is bounded, whatever peers send.

mod memory;
mod places;
mod proofs;
mod rate;
mod refusals;
mod rows;
mod settings;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{NaiveDate, Utc};
use concordat_audit::refusals::Refusals;
use concordat_policy::{Agreement, Code, Refusal};

pub(crate) use memory::{Memory, QueryMemory};
use places::{Bounds, Full, Places};
pub(crate) use places::{Place, UnderAgreement};
pub(crate) use proofs::Proofs;
use rate::{Flow, Rate};
pub(crate) use refusals::{Source, reason};
use rows::Rows;
pub use settings::{AgreementShare, DetachedSettings, Settings, Share};

use crate::authenticate::{Caller, Identity};
use crate::plan::Quota;

/// Whose limits: a user of an organisation, as an issuer names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) issuer: String,
    pub(crate) organisation: String,
    pub(crate) subject: String,
}

impl Key {
    pub(crate) fn of(caller: &Caller) -> Self {
        Self { issuer: caller.issuer().to_owned(), organisation: caller.organisation.clone(), subject: caller.subject.clone() }
    }

    pub(crate) fn of_identity(identity: &Identity) -> Self {
        Self {
            issuer: identity.issuer().to_owned(),
            organisation: identity.organisation().to_owned(),
            subject: identity.subject().to_owned(),
        }
    }
}

/// The limits, and what is taken of them.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) settings: Settings,
    pub(crate) proofs: Proofs,
    pub(crate) refusals: Refusals<Source>,
    memory: Memory,
    places: Arc<Places>,
    requests: Rate<Key>,
    agreement_requests: Rate<String>,
    rows: Rows,
}

/// How a query waits for its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Its caller waits: a short while, in the bounded queue.
    Short,
    /// Nobody waits: so long.
    Long(Duration),
}

/// What a query may take: its place, and memory for its work and for its answer.
#[derive(Debug)]
pub(crate) struct Allowance {
    pub(crate) place: Place,
    pub(crate) memory: Arc<QueryMemory>,
    pub(crate) answer: Arc<QueryMemory>,
}

impl Limits {
    /// Takes up the counts of the day in `state`.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn open(settings: Settings, state: &Path) -> std::io::Result<Self> {
        let bounds =
            Bounds { running: settings.concurrent_queries, of_one: settings.caller.concurrent_queries, waiting: settings.waiting_queries };
        Ok(Self {
            settings,
            proofs: Proofs::new(),
            refusals: Refusals::default(),
            memory: Memory::new(settings.total_memory_mib << 20, settings.total_memory_mib << 19),
            places: Places::new(bounds),
            requests: Rate::new(),
            agreement_requests: Rate::new(),
            rows: Rows::open(state, today())?,
        })
    }

    /// Counts a request of a caller.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`].
    pub(crate) fn request(&self, caller: &Key) -> Result<(), Refusal> {
        let most = self.settings.caller.requests_per_minute;
        self.requests.take(caller, Flow::per_minute(most), Instant::now()).map_err(|wait| {
            limit(format!("you have sent more than {most} requests in a minute: the gateway's limit for one caller"), &after(wait))
        })
    }

    /// Lets a query of an authorised caller begin, once there is a place.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`].
    pub(crate) async fn admit(&self, caller: &Key, patience: Patience) -> Result<Allowance, Refusal> {
        self.rows_left(caller)?;
        let (wait, queued) = match patience {
            Patience::Short => (self.settings.wait(), true),
            Patience::Long(wait) => (wait, false),
        };
        let place = self.places.take(caller, wait, queued).await.map_err(|full| self.full(full))?;
        // The queries that it waited for may have used up the day's rows.
        self.rows_left(caller)?;
        Ok(Allowance { place, memory: self.memory(caller), answer: self.memory.pool(caller, self.settings.answer_mib << 20) })
    }

    /// Memory for what a caller's request needs beside queries.
    pub(crate) fn memory(&self, caller: &Key) -> Arc<QueryMemory> {
        self.memory.pool(caller, self.settings.memory_mib << 20)
    }

    fn full(&self, full: Full) -> Refusal {
        let (what, most) = match full {
            Full::Own => ("you have more queries under way than the gateway lets one caller have", self.settings.caller.concurrent_queries),
            Full::All => ("more queries are under way than the gateway's limit", self.settings.concurrent_queries),
        };
        let advice = "try again when one has ended, in a few seconds; `concordat query --detach` waits for you";
        limit(format!("{what} ({most} at a time)"), advice)
    }

    fn rows_left(&self, caller: &Key) -> Result<(), Refusal> {
        let most = self.settings.caller.rows_per_day;
        if self.rows.of_caller(caller, today()).is_some_and(|used| used < most) {
            return Ok(());
        }
        Err(limit(format!("your queries have used the {most} rows a day that the gateway lets one caller have"), &tomorrow()))
    }

    /// Lets a planned query begin under the agreements that it uses.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`], naming the agreement and whose limit it is.
    pub(crate) fn under(&self, agreements: &[&Agreement], executes: bool) -> Result<Vec<UnderAgreement>, Refusal> {
        let own = self.settings.agreement;
        let mut places = Vec::new();
        for agreement in agreements {
            let (id, stated) = (agreement.id.as_str(), agreement.limits);
            let (most, whose) = stricter(stated.requests_per_minute, own.requests_per_minute);
            self.agreement_requests.take(&id.to_owned(), Flow::per_minute(most), Instant::now()).map_err(|wait| {
                limit(format!("agreement '{id}' was used for more than {most} requests in a minute: {whose} limit"), &after(wait))
            })?;
            if !executes {
                continue;
            }
            let (most, whose) = stricter(stated.rows_per_day, own.rows_per_day);
            if self.rows.of_agreement(id, today()) >= most {
                return Err(limit(format!("the {most} rows a day of agreement '{id}' have been used: {whose} limit"), &tomorrow()));
            }
            let (most, whose) = stricter(stated.concurrent_queries.map(|n| n as usize), own.concurrent_queries);
            let place = self.places.under(id, most).ok_or_else(|| {
                limit(
                    format!("{most} queries at a time use agreement '{id}': {whose} limit"),
                    "try again when one has ended, in a few seconds",
                )
            })?;
            places.push(place);
        }
        Ok(places)
    }

    /// Charges the rows that departments released, by agreement, and returns when that is durable.
    ///
    /// # Errors
    /// [`Code::Internal`] when it cannot be made durable.
    pub(crate) async fn charge(&self, caller: &Key, released: &BTreeMap<String, u64>) -> Result<(), Refusal> {
        self.rows.charge(caller, released, today()).await
    }

    /// Lets a query begin that puts out rows of single subjects.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`] when none are left today of one of `quotas`.
    pub(crate) fn rows_out_left(&self, quotas: &[Quota]) -> Result<(), Refusal> {
        within(quotas, self.rows.used_up(&counted(quotas), today()))
    }

    /// Charges so many rows of single subjects, and returns when that is durable. All of them may go out, or none.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`] when one of `quotas` has fewer left; [`Code::Internal`] when it cannot be made durable.
    pub(crate) async fn put_out(&self, quotas: &[Quota], rows: usize) -> Result<(), Refusal> {
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        within(quotas, self.rows.put_out(&counted(quotas), rows, today()).await?)
    }
}

/// Under which name each is counted, and the most that it may reach.
fn counted(quotas: &[Quota]) -> Vec<(String, u64)> {
    quotas.iter().map(|quota| (format!("{} {}", quota.agreement, quota.dataset), quota.most)).collect()
}

/// The refusal where one of `quotas` is `beyond` what it may reach. How much of it others have used is not told.
fn within(quotas: &[Quota], beyond: Option<usize>) -> Result<(), Refusal> {
    let Some(Quota { agreement, dataset, most }) = beyond.and_then(|index| quotas.get(index)) else { return Ok(()) };
    let message = format!(
        "the answer has more rows of single subjects of {dataset} than are left today of the {most} that the agreement '{agreement}' lets out"
    );
    Err(limit(message, &format!("ask for counts, or for fewer rows; else {}", tomorrow())).department(&dataset.department))
}

/// The stricter of an agreement's own limit and the gateway's, and whose it is.
fn stricter<T: PartialOrd>(stated: Option<T>, own: T) -> (T, &'static str) {
    match stated {
        Some(stated) if stated <= own => (stated, "the agreement's"),
        _ => (own, "the gateway's"),
    }
}

fn limit(message: String, advice: &str) -> Refusal {
    Refusal::new(Code::LimitExceeded, message).advice(advice)
}

fn after(wait: Duration) -> String {
    format!("try again in {} s", wait.as_secs() + 1)
}

fn today() -> NaiveDate {
    Utc::now().date_naive()
}

/// When the next day of counting begins.
fn tomorrow() -> String {
    let next = today().succ_opt().unwrap_or_default();
    format!("try again on {next}, from 00:00 UTC, or ask the operator for more")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key { issuer: "i".into(), organisation: "unit".into(), subject: "a".into() }
    }

    fn open(settings: Settings, folder: &Path) -> Limits {
        Limits::open(settings, folder).unwrap()
    }

    #[tokio::test]
    async fn refusals_name_the_limit_whose_it_is_and_when_to_try_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings { wait_seconds: 0, ..Settings::default() };
        settings.caller = Share { requests_per_minute: 2, concurrent_queries: 1, rows_per_day: 10 };
        let limits = open(settings, folder.path());
        limits.request(&key()).unwrap();
        limits.request(&key()).unwrap();
        let refusal = limits.request(&key()).unwrap_err();
        assert_eq!(refusal.code, Code::LimitExceeded);
        assert!(refusal.message.contains("2 requests in a minute") && refusal.message.contains("gateway's"), "{refusal}");
        assert!(refusal.advice.unwrap().starts_with("try again in "));
        let place = limits.admit(&key(), Patience::Short).await.unwrap();
        let refusal = limits.admit(&key(), Patience::Short).await.unwrap_err();
        assert!(refusal.message.contains("1 at a time"), "{refusal}");
        drop(place);
        limits.charge(&key(), &BTreeMap::from([("x".into(), 10)])).await.unwrap();
        let refusal = limits.admit(&key(), Patience::Short).await.unwrap_err();
        assert!(refusal.message.contains("10 rows a day") && refusal.advice.as_deref().unwrap().contains("00:00 UTC"), "{refusal}");
        let again = open(settings, folder.path());
        assert!(again.admit(&key(), Patience::Short).await.is_err(), "a restart does not reset the day");
    }

    #[test]
    fn the_stricter_limit_counts_and_its_owner_is_named() {
        assert_eq!(stricter(Some(5), 9), (5, "the agreement's"));
        assert_eq!(stricter(Some(50), 9), (9, "the gateway's"));
        assert_eq!(stricter(None, 9), (9, "the gateway's"));
    }
}
