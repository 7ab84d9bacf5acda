//! Whether a server can do its work: asked by monitoring, answered from the program's own parts, at most every few seconds.

use std::future::Future;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use serde::Serialize;
use tokio::sync::Mutex;

/// How old an answer about this process may be.
const OWN: Duration = Duration::from_secs(2);
/// How old an answer about the departments may be.
const DEPARTMENTS: Duration = Duration::from_secs(10);

/// Why a server cannot do its work.
#[derive(Debug, Clone, Serialize)]
pub struct Reason {
    /// Which part: `log`, `index`, `ledger`, `issuers`, `drain`, `witness`, `witnesses`.
    pub what: &'static str,
    /// Why.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

/// Whether a department's node answers.
#[derive(Debug, Clone, Serialize)]
pub struct Reachability {
    /// The department.
    pub department: String,
    /// Whether its node answered as it should.
    pub reachable: bool,
    /// Why not; empty when it did.
    pub cause: String,
}

/// A program that can be asked.
pub trait Subject: Send + Sync + 'static {
    /// Everything that keeps it from its work now.
    fn reasons(&self) -> BoxFuture<'_, Vec<Reason>>;

    /// What needs somebody's attention though it works.
    fn alarms(&self) -> BoxFuture<'_, Vec<Reason>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    /// Each department's node; empty for a program that calls none.
    fn departments(&self) -> BoxFuture<'_, Vec<Reachability>> {
        Box::pin(std::future::ready(Vec::new()))
    }
}

/// A program's answers, kept for a short while; one question at a time, however many ask.
pub(crate) struct Readiness {
    subject: std::sync::Arc<dyn Subject>,
    own: Cached<Vec<Reason>>,
    alarms: Cached<Vec<Reason>>,
    departments: Cached<Vec<Reachability>>,
}

impl Readiness {
    pub(crate) fn new(subject: std::sync::Arc<dyn Subject>) -> Self {
        Self { subject, own: Cached::new(OWN), alarms: Cached::new(OWN), departments: Cached::new(DEPARTMENTS) }
    }

    pub(crate) async fn reasons(&self) -> Vec<Reason> {
        self.own.value(|| self.subject.reasons()).await
    }

    pub(crate) async fn alarms(&self) -> Vec<Reason> {
        self.alarms.value(|| self.subject.alarms()).await
    }

    pub(crate) async fn departments(&self) -> Vec<Reachability> {
        self.departments.value(|| self.subject.departments()).await
    }
}

struct Cached<T> {
    age: Duration,
    kept: Mutex<Option<(Instant, T)>>,
}

impl<T: Clone> Cached<T> {
    fn new(age: Duration) -> Self {
        Self { age, kept: Mutex::const_new(None) }
    }

    async fn value<F: Future<Output = T>>(&self, fresh: impl FnOnce() -> F) -> T {
        let mut kept = self.kept.lock().await;
        if let Some((at, value)) = kept.as_ref()
            && at.elapsed() < self.age
        {
            return value.clone();
        }
        let value = fresh().await;
        *kept = Some((Instant::now(), value.clone()));
        value
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_questions_at_once_are_asked_once() {
        let asked = AtomicUsize::new(0);
        let cached = Cached::new(Duration::from_secs(60));
        let ask = || {
            cached.value(|| async {
                tokio::task::yield_now().await;
                asked.fetch_add(1, Ordering::Relaxed)
            })
        };
        let answers = futures::future::join_all((0..50).map(|_| ask())).await;
        assert!(answers.iter().all(|a| *a == 0));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
