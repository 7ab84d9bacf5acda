//! Handing out a log's entries over the network, as gateway and nodes both do. Who may read, what is hidden from whom, and how a reading is
//! logged, each program decides for itself.
//!
//! ```text
//! request ─▶ place ─▶ search ─▶ index and log ─▶ page ─▶ the program hides, and logs the reading ─▶ response
//! ```

use std::future::Future;
use std::time::{Duration, Instant};

use concordat_audit::filter::Filter;
use concordat_audit::index::{Follow, Found, Index, Page, Search, SearchError};
use concordat_audit::readers::{Place, Readers};
use concordat_audit::{Log, LogError};
use concordat_policy::{Code, Refusal};
use concordat_proto::status::to_status;
use concordat_proto::v1::{
    LogEntry, LogFilter, LogListRequest, LogListResponse, LogQueryRequest, LogQueryResponse, LogTailRequest, LogTailResponse,
};
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::mpsc;
use tonic::Status;

use crate::drain::Stopping;
use crate::metrics::Metrics;
use crate::readiness::Reason;

/// How long entries are handed on as they come, at most.
pub const TAIL: Duration = Duration::from_secs(15 * 60);
/// How long a search may take.
const CALL: Duration = Duration::from_secs(20);
/// The most entries of an answer, how many there are where nothing is said, and their bytes.
const MOST: usize = 1_000;
const SOME: usize = 100;
const BYTES: usize = 512 << 10;
/// Entries of one message of a tail.
const TOGETHER: usize = 200;

/// Entries as they come.
pub type Coming = BoxStream<'static, Result<LogTailResponse, Status>>;

/// Opens the index of a log, whose troubles the program's own log tells.
///
/// # Errors
/// [`LogError::Open`].
pub fn index(log: &Log) -> Result<Index, LogError> {
    Index::open_telling(log, |cause| {
        tracing::error!(cause, "the index of the access log cannot be kept: entries are found by reading the log through");
    })
}

/// What needs somebody's attention while an index cannot be kept.
#[must_use]
pub fn trouble(index: &Index) -> Option<Reason> {
    index.trouble().map(|cause| Reason {
        what: "index",
        cause: format!("the index of the access log cannot be kept, so that it is read through where entries are looked for: {cause}"),
        remedy: "make room on its disk, or repair it; where the log itself was changed, `concordat audit verify` names the first bad entry"
            .into(),
    })
}

/// Counts that when metrics are read.
pub fn watch(index: &Index, metrics: &Metrics) {
    let (index, troubled) = (index.clone(), metrics.level("log_index_troubled", "1 where the index of the access log cannot be kept"));
    metrics.before_reading(move || troubled.set(&[("log", "access")], index.trouble().is_some().into()));
}

/// Whose log it is, as its readers are told.
#[derive(Debug, Clone)]
pub struct Words {
    /// Such as "the gateway's log".
    pub log: &'static str,
    /// Such as "the gateway's operator".
    pub operator: &'static str,
    /// Whom refusals name.
    pub department: Option<String>,
}

/// A log that is read. Clones share its places.
#[derive(Debug, Clone)]
pub struct Reading {
    log: Log,
    index: Index,
    words: Words,
    readers: Readers,
    stopping: Stopping,
}

impl Reading {
    /// Of a log and its index.
    #[must_use]
    pub fn new(log: &Log, index: &Index, words: Words) -> Self {
        Self { log: log.clone(), index: index.clone(), words, readers: Readers::default(), stopping: Stopping::default() }
    }

    /// The same, whose tails end when the server's drain begins.
    #[must_use]
    pub fn until(self, stopping: Stopping) -> Self {
        Self { stopping, ..self }
    }

    /// As [`Readers::enter`].
    ///
    /// # Errors
    /// [`Code::LimitExceeded`].
    pub fn enter(&self, who: &str, organisation: Option<&str>) -> Result<Place, Refusal> {
        let full = |full: concordat_audit::readers::Full| {
            let sentence = full.sentence(self.words.log);
            self.refusal(Code::LimitExceeded, sentence, "wait until one of these readings has ended, or end a tail")
        };
        self.readers.enter(who, organisation).map_err(full)
    }

    /// What is asked for; where `concerning` names a department, only of that.
    ///
    /// # Errors
    /// [`Code::Invalid`].
    pub fn list(&self, asked: &LogListRequest, concerning: Option<String>) -> Result<Search, Refusal> {
        let limit = match usize::try_from(asked.limit).unwrap_or(usize::MAX) {
            0 => SOME,
            limit if limit <= MOST => limit,
            _ => return Err(self.refusal(Code::Invalid, "at most 1,000 entries are listed at once", "ask page by page")),
        };
        Ok(Search { filter: self.filter(asked.filter.as_ref())?, concerning, before: before(asked.before), limit, bytes: BYTES })
    }

    /// The entries of one query.
    ///
    /// # Errors
    /// [`Code::Invalid`].
    pub fn query(&self, asked: &LogQueryRequest) -> Result<Search, Refusal> {
        if asked.query_id.is_empty() {
            return Err(self.refusal(Code::Invalid, "no query is named", "its id stands in answers, refusals and explanations"));
        }
        let filter = self.filter(Some(&LogFilter { query_id: asked.query_id.clone(), ..LogFilter::default() }))?;
        Ok(Search { filter, concerning: None, before: before(asked.before), limit: MOST, bytes: BYTES })
    }

    /// What is asked for as it comes, from now on or from after an entry, and by which filter.
    ///
    /// # Errors
    /// [`Code::Invalid`].
    pub fn follow(&self, asked: &LogTailRequest, concerning: Option<String>) -> Result<(Follow, Filter), Refusal> {
        let filter = self.filter(asked.filter.as_ref())?;
        let search = Search { filter: filter.clone(), concerning, before: None, limit: TOGETHER, bytes: BYTES };
        Ok((self.index.follow(search, asked.after.unwrap_or_else(|| self.log.size())), filter))
    }

    /// Looks through the log. The place, or what has it, is held until the search has ended, whether the caller waits for it or not.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`] where it takes too long; [`Code::Internal`] where entries are not what the log signed.
    pub async fn search<P: Send + 'static>(&self, place: P, search: Search) -> Result<(Page, P), Refusal> {
        let (index, deadline) = (self.index.clone(), Instant::now() + CALL);
        let searched = tokio::task::spawn_blocking(move || (index.search(&search, deadline), place));
        let (page, place) = searched.await.map_err(Refusal::internal)?;
        Ok((page.map_err(|e| self.unread(e))?, place))
    }

    /// What is answered to a list.
    pub fn listed(&self, page: Page, told: impl Fn(Found) -> LogEntry) -> LogListResponse {
        LogListResponse {
            entries: page.entries.into_iter().map(told).collect(),
            before: page.before.unwrap_or_default(),
            archived: page.moved,
            origin: self.log.origin().to_owned(),
            number: page.size,
        }
    }

    /// What is answered of a query: its entries in the log's order.
    pub fn of_query(&self, page: Page, told: impl Fn(Found) -> LogEntry) -> LogQueryResponse {
        LogQueryResponse {
            entries: page.entries.into_iter().rev().map(told).collect(),
            more: page.before.is_some(),
            archived: page.moved,
            origin: self.log.origin().to_owned(),
        }
    }

    /// Entries as they come, while the future is run: until the reader leaves, `most` is over or the program stops. `ended` logs how many
    /// they were.
    pub fn hand_on<E: Future<Output = Result<(), Refusal>> + Send>(
        &self,
        (follow, place): (Follow, Place),
        most: Duration,
        told: impl Fn(Found) -> LogEntry + Send + 'static,
        ended: impl FnOnce(u64) -> E + Send + 'static,
    ) -> (BoxFuture<'static, ()>, Coming) {
        let (send, mut receive) = mpsc::channel(1);
        let reading = self.clone();
        let handing = async move {
            let message = move |found: Vec<Found>, number, archived| {
                Ok(LogTailResponse { entries: found.into_iter().map(&told).collect(), number, archived })
            };
            let end = async {
                tokio::select! {
                    () = reading.stopping.begun() => {}
                    () = tokio::time::sleep(most) => {}
                }
            };
            let mut entries = 0;
            let handed = follow.hand_on(&send, message, end, &mut entries).await;
            drop(place);
            let logged = ended(entries).await;
            if let Err(refusal) = handed.map_err(|e| reading.unread(e)).and(logged) {
                // Nobody may be there any more.
                let _ = send.send(Err(to_status(&refusal, None))).await;
            }
        };
        (handing.boxed(), stream::poll_fn(move |context| receive.poll_recv(context)).boxed())
    }

    fn filter(&self, asked: Option<&LogFilter>) -> Result<Filter, Refusal> {
        let Some(asked) = asked else { return Ok(Filter::default()) };
        Filter::parse(asked.texts()).map_err(|e| {
            let cause = format!("the filter of log entries cannot be used: {e}");
            self.refusal(Code::Invalid, cause, "correct it; `concordat audit list --help` lists what can be asked for")
        })
    }

    fn unread(&self, error: SearchError) -> Refusal {
        let Words { log, operator, .. } = self.words;
        match error {
            SearchError::Deadline => self.refusal(
                Code::LimitExceeded,
                format!("{log} could not be looked through in time"),
                "ask for less, with --from; after a start it takes a while until an index makes looking fast",
            ),
            SearchError::Log(error) => {
                tracing::error!(cause = %error, "entries of the access log cannot be read, or are not what its tree was built over");
                let cause = format!("entries of {log} cannot be read, or are not what it signed, so nothing is shown");
                let advice = format!("{operator} and its witnesses must look: `concordat audit verify` names the first bad entry");
                self.refusal(Code::Internal, cause, advice).operator(error)
            }
        }
    }

    fn refusal(&self, code: Code, cause: impl Into<String>, advice: impl Into<String>) -> Refusal {
        let refusal = Refusal::new(code, cause).advice(advice);
        self.words.department.iter().fold(refusal, Refusal::department)
    }
}

/// The entry with all that is in it.
#[must_use]
pub fn whole(found: Found) -> LogEntry {
    let asker = found.facts.asker;
    LogEntry {
        number: found.number,
        entry: found.entry,
        whole: true,
        organisation: asker.organisation.unwrap_or_default(),
        person: asker.person.unwrap_or_default(),
        purpose: asker.purpose.unwrap_or_default(),
    }
}

fn before(asked: u64) -> Option<u64> {
    (asked > 0).then_some(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_cannot_be_kept_is_an_alarm() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), "concordat/gateway").unwrap();
        let index = index(&log).unwrap();
        let metrics = Metrics::new("test", "0");
        watch(&index, &metrics);
        assert!(trouble(&index).is_none() && metrics.text().contains("concordat_log_index_troubled{log=\"access\"} 0"));
        std::fs::write(folder.path().join("archived"), "7\n").unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let reason = loop {
            assert!(Instant::now() < deadline, "nobody is told");
            match trouble(&index) {
                Some(reason) => break reason,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        assert!(reason.what == "index" && reason.cause.contains("'archived' does not say how many"), "{reason:?}");
        assert!(metrics.text().contains("concordat_log_index_troubled{log=\"access\"} 1"), "{}", metrics.text());
    }
}
