//! One issuer and its keys: kept fresh in the background, fetched at once for a `kid` that is not known.
//!
//! - A fetch runs as a task of its own: a caller that leaves does not stop it, and whoever needs one while it runs waits for
//!   that one.
//! - Unknown `kid`s cause at most one fetch in [`Pace::unknown`]; a fetch of either kind puts the next one of the background
//!   off, so that a flood does not add to it. Nothing is kept of unknown `kid`s.
//! - A failed fetch, or an answer that is not a key set, changes nothing but the fault that is shown: the last good keys count
//!   until they are `keep_keys` old.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use concordat_proto::token::{Reason, VerifyingKey};
use miette::miette;

use super::config::{IssuerConfig, KeySource};
use super::keys::KeySet;
use super::source::Source;
use super::{Doubt, IssuerState};

/// How often keys are fetched.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// In the background, while all is well.
    usual: Duration,
    /// In the background, after a failure.
    retry: Duration,
    /// At most, because of unknown `kid`s.
    unknown: Duration,
}

/// A withdrawn key is gone after 15 s and one fetch.
const NETWORK: Pace = Pace { usual: Duration::from_secs(15), retry: Duration::from_secs(10), unknown: Duration::from_secs(10) };
const FILE: Pace = Pace { usual: Duration::from_secs(2), retry: Duration::from_secs(2), unknown: Duration::from_secs(1) };

/// An issuer.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) config: IssuerConfig,
    source: Source,
    pace: Pace,
    held: Mutex<Held>,
    /// Held by the one fetch that runs.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Held {
    /// The last good keys, and since when.
    keys: Option<(Arc<KeySet>, Instant)>,
    /// When the last fetch began, and the last one because of an unknown `kid`.
    began: Option<Instant>,
    unknown: Option<Instant>,
    /// Why the last fetch failed.
    fault: Option<String>,
}

impl Issuer {
    /// Prepares an issuer. Keys in a file are read, so that a wrong one is found at the start.
    pub(super) fn load(config: &IssuerConfig) -> miette::Result<Self> {
        let source = Source::new(&config.issuer, &config.keys)?;
        let mut pace = if matches!(source, Source::File(_)) { FILE } else { NETWORK };
        // Keys never lapse between two fetches that succeed.
        pace.usual = pace.usual.min((config.keep_keys / 2).max(Duration::from_secs(1)));
        let mut held = Held::default();
        if let KeySource::File(path) = &config.keys {
            let text = crate::config::read(path)?;
            let keys = KeySet::parse(text.as_bytes(), config.rsa)
                .map_err(|e| miette!(help = "it must be a JSON Web Key set: {\"keys\":[…]}", "{}: {e}", path.display()))?;
            if keys.len() == 0 {
                return Err(miette!(
                    help = "each key needs a kid and, for RSA, an alg here or in [[issuer]]; symmetric keys are not accepted",
                    "{}: no key of issuer '{}' may be used",
                    path.display(),
                    config.issuer
                ));
            }
            held.keys = Some((Arc::new(keys), Instant::now()));
            held.began = Some(Instant::now());
        }
        Ok(Self { config: config.clone(), source, pace, held: Mutex::new(held), turn: tokio::sync::Mutex::default() })
    }

    /// The key that a token names.
    pub(super) async fn key(self: &Arc<Self>, kid: Option<&str>) -> Result<VerifyingKey, Doubt> {
        if let Some(key) = self.known(kid)? {
            return Ok(key);
        }
        self.fetch_for_unknown(kid).await;
        if let Some(key) = self.known(kid)? {
            return Ok(key);
        }
        let state = self.state();
        if state.age.is_none_or(|age| age > self.config.keep_keys) {
            return Err(Doubt::Unreachable(state.fault.unwrap_or_else(|| "its keys were not fetched yet".into())));
        }
        Err(Reason::UnknownKey.into())
    }

    /// What there is to say of its keys.
    pub(super) fn state(&self) -> IssuerState {
        let fresh = self.fresh();
        let held = self.held();
        IssuerState {
            issuer: self.config.issuer.clone(),
            keys: fresh.map_or(0, |keys| keys.len()),
            age: held.keys.as_ref().map(|(_, since)| since.elapsed()),
            fault: held.fault.clone(),
        }
    }

    /// Whether the fresh keys hold this one.
    pub(super) fn holds(&self, kid: Option<&str>) -> bool {
        matches!(self.known(kid), Ok(Some(_)))
    }

    /// Fetches now; waits for a fetch that runs.
    pub(super) async fn refresh(&self) {
        let _turn = self.turn.lock().await;
        self.fetch().await;
    }

    /// Keeps the keys fresh until the issuer is dropped.
    pub(super) fn watch(self: &Arc<Self>) {
        let issuer = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(issuer) = issuer.upgrade() {
                let wait = issuer.refresh_when_due().await;
                drop(issuer);
                tokio::time::sleep(wait).await;
            }
        });
    }

    /// Fetches when it is time; returns how long it is until the next time.
    async fn refresh_when_due(&self) -> Duration {
        let _turn = self.turn.lock().await;
        if self.due().is_zero() {
            self.fetch().await;
        }
        self.due().max(Duration::from_millis(100))
    }

    fn due(&self) -> Duration {
        let held = self.held();
        let interval = if held.fault.is_some() { self.pace.retry } else { self.pace.usual };
        held.began.map_or(Duration::ZERO, |began| interval.saturating_sub(began.elapsed()))
    }

    /// Fetches because of a `kid` that is not known, unless that was done a moment ago; waits for a fetch that runs.
    async fn fetch_for_unknown(self: &Arc<Self>, kid: Option<&str>) {
        let (issuer, asked, kid) = (self.clone(), Instant::now(), kid.map(str::to_owned));
        let fetch = tokio::spawn(async move {
            let _turn = issuer.turn.lock().await;
            if !matches!(issuer.known(kid.as_deref()), Ok(None)) {
                return;
            }
            let wanted = {
                let mut held = issuer.held();
                let began_since = held.began.is_some_and(|began| began >= asked);
                let paused = held.unknown.is_some_and(|last| last.elapsed() < issuer.pace.unknown);
                let wanted = !began_since && !paused;
                if wanted {
                    held.unknown = Some(Instant::now());
                }
                wanted
            };
            if wanted {
                issuer.fetch().await;
            }
        });
        let _ = fetch.await;
    }

    /// Fetches and keeps what came. The caller has the turn.
    async fn fetch(&self) {
        self.held().began = Some(Instant::now());
        let fetched = self.source.fetch().await.map_err(|e| e.to_string());
        let parsed = fetched.and_then(|bytes| KeySet::parse(&bytes, self.config.rsa).map_err(|e| e.to_string()));
        let mut held = self.held();
        let issuer = self.config.issuer.as_str();
        match parsed {
            Ok(keys) => {
                let same = held.fault.is_none() && held.keys.as_ref().is_some_and(|(old, _)| old.ids() == keys.ids());
                if !same {
                    tracing::info!(issuer, keys = keys.len(), "issuer's keys are new");
                }
                (held.keys, held.fault) = (Some((Arc::new(keys), Instant::now())), None);
            }
            Err(cause) => {
                if held.fault.as_ref() != Some(&cause) {
                    tracing::warn!(issuer, cause, "issuer's keys cannot be fetched: the last good ones count for a while");
                }
                held.fault = Some(cause);
            }
        }
    }

    /// The key, where the fresh keys hold it.
    fn known(&self, kid: Option<&str>) -> Result<Option<VerifyingKey>, Reason> {
        self.fresh().map_or(Ok(None), |keys| keys.find(kid))
    }

    /// The last good keys, unless they are too old.
    fn fresh(&self) -> Option<Arc<KeySet>> {
        let held = self.held();
        held.keys.as_ref().filter(|(_, since)| since.elapsed() <= self.config.keep_keys).map(|(keys, _)| keys.clone())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
