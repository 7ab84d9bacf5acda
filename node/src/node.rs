//! The node: everything that was opened at start, and the one way an order is answered.
//!
//! ```text
//! order ─▶ caller ─▶ verify ─▶ log shown ─▶ admit ─▶ consume ─▶ consent ─▶ key ─▶ scan ─▶ quota ─▶ log: release.intended ─▶ release
//! ```
//! Whatever fails on the way is logged (`order.refused`) before it is answered. A log that cannot be written stops service. What
//! the department has suspended is asked with its agreements, so in `verify`, and again for every ticket and receipt; its guard rails
//! are asked in `verify`. Agreements are replaced while the node runs (`reread.rs`); a release bears the text that it was ordered under.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use concordat_audit::index::Index;
use concordat_audit::refusals::Refusals;
use concordat_audit::{Entry, Log, LogError, Unlogged};
use concordat_operate::metrics::{Count, Metrics};
use concordat_operate::reading::index;
use concordat_policy::column::LINKED;
use concordat_policy::denominator::Grain;
use concordat_policy::{Code, DatasetName, Name, Predicate, Refusal};
use concordat_proto::order::MAX_LIFETIME;
use concordat_proto::peer::Peer;
use concordat_proto::receipt::Standing;
use concordat_proto::token::{SigningKey, VerifyingKey};
use concordat_proto::{status, v1};
use futures::future::join;
use tracing::Instrument as _;

use crate::agreements::{Agreements, Current};
use crate::callers::Callers;
use crate::config::{Config, Finding, Findings, PaperFiles, Pins};
use crate::consent::import::{ImportError, Imported, Options, import};
use crate::consent::intake::Intake;
use crate::consent::journal::Noted;
use crate::consent::{Acknowledged, Consent, Snapshot};
use crate::datasets::Datasets;
use crate::endings::Endings;
use crate::guard;
use crate::linkage::LinkageKeys;
use crate::orders::{Consumed, Recipe, VerifiedOrder, Verifier};
use crate::private;
use crate::pseudonym::Pseudonyms;
use crate::quota::Quotas;
use crate::refusing::Refused;
use crate::release::{Linked, Of, Release, Releases, Rows, Rules, Snapshots, blocking};
use crate::suspension::{Folders, Suspensions};
use crate::witness::{self, Witnessing, log_of};
use crate::workers::streams;

/// How long releases may take to be closed in the log when the node ends.
const ENDING: Duration = Duration::from_secs(5);

/// A department's node, open and checked.
#[derive(Debug)]
pub struct Node {
    pub(crate) department: Name,
    pub(crate) callers: Callers,
    /// With the department's own guard rails.
    pub(crate) agreements: Arc<Current>,
    pub(crate) papers: PaperFiles,
    /// What was replaced of the agreements since the log was told.
    pub(crate) replaced: Unlogged,
    /// What closes releases that ended without a receipt.
    pub(crate) endings: Arc<Endings>,
    /// What peers repeat.
    pub(crate) refusals: Refusals<Refused>,
    pub(crate) datasets: Arc<Datasets>,
    pub(crate) consent: Arc<Consent>,
    /// With the purpose tree of the start: see [`Node::intake`].
    intake: Intake,
    pub(crate) linkage: Arc<LinkageKeys>,
    pub(crate) releases: Arc<Releases>,
    pub(crate) signing: SigningKey,
    pub(crate) verifying: VerifyingKey,
    pub(crate) log: Log,
    /// By which its entries are found.
    pub(crate) index: Index,
    /// Of the gateway's log.
    pub(crate) witness: Arc<Witnessing>,
    pub(crate) metrics: Arc<Metrics>,
    /// Releases by outcome: `started`, `completed` (each partition), `abandoned`, or a refusal's code.
    pub(crate) outcomes: Count,
    /// Held while notes of commands are moved to the log.
    journal: tokio::sync::Mutex<Moved>,
    verifier: Verifier,
    consumed: Arc<Consumed>,
    quotas: Arc<Quotas>,
}

/// The last note of commands that the log has, and the last of which the ledger knows that it has.
#[derive(Debug, Default)]
struct Moved {
    logged: Option<Noted>,
    noted: Option<Noted>,
}

impl Node {
    /// Opens everything that `config` names: sources, log, ledger, keys; imports the configured consent records once.
    ///
    /// # Errors
    /// Every [`Finding`].
    pub async fn open(config: Config) -> Result<Arc<Self>, Findings> {
        let datasets = Datasets::open(&config).await?;
        for warning in &datasets.warnings {
            tracing::warn!(cause = warning, "the node's role at a database could do more than read");
        }
        let intake = Intake::new(&config);
        for folder in [&config.state, &config.log] {
            private::folder(folder).map_err(|e| unusable(folder, &e))?;
        }
        let state = config.state.as_path();
        let unopened = |e: LogError| Finding::file(&config.log, e.with_cause(), e.remedy());
        let log = Log::open_remembered(&config.log, &log_of(&config.department), state).map_err(unopened)?;
        let index = index(&log).map_err(unopened)?;
        let consent = Arc::new(Consent::open(state, config.department.clone()).map_err(|e| unusable(state, &e))?);
        let consumed = Consumed::open(state).map_err(|e| unusable(state, &e))?;
        let quotas = Quotas::open(state, config.department.clone()).map_err(|e| unusable(state, &e))?;
        let linkage = LinkageKeys::open(config.linkage, config.at_rest, state).map_err(|e| unusable(state, &e))?;
        let endings = Arc::new(Endings::new(log.clone()));
        let (department, ended) = (config.department.clone(), Arc::clone(&endings));
        let verifying = config
            .signing
            .verifying_key()
            .ok_or_else(|| Finding::file(&config.path, "the signing key has no public half", "make a new one"))?;
        let suspensions = Arc::new(Suspensions::at(config.department.clone(), Folders::new(state, &config.log)));
        config.papers.remember(config.signatures.revoked()).map_err(|e| unusable(state, &e))?;
        let replaced = Unlogged::default();
        replaced.add(config.papers.keep(config.signatures.seen()).map_err(|e| unusable(state, &e))?.iter().map(Entry::from));
        let agreements = Agreements::new(suspensions, config.agreements, config.signatures, config.purposes, config.guard);
        let agreements = Arc::new(Current::new(agreements));
        let metrics = Metrics::new("concordat-node", env!("CARGO_PKG_VERSION"));
        let snapshots =
            Snapshots::new(&config.spill, config.snapshot_disk, config.snapshot_reserve, config.release_memory).measured(&metrics);
        let releases = Releases::open(department, &config.spill, config.release_memory, config.max_releases, snapshots, ended)
            .map_err(|e| unusable(&config.spill, &e))?;
        let witness = Witnessing::open(state, &config.department, &metrics).map_err(|e| unusable(&witness::folder(state), &e))?;
        let witnesses = witness.keys.verifiers().map_err(|e| unusable(&witness::folder(state), &e))?;
        log.take_up_cosignatures(&witnesses).map_err(unopened)?;
        let outcomes = metrics.counter("releases", "Releases by outcome; completed counts partitions");
        let pins = Pins { gateway: config.gateway, administrators: config.administrators, auditors: config.auditors };
        let node = Self {
            callers: Callers::new(config.department.clone(), pins),
            verifier: Verifier {
                agreements: Arc::clone(&agreements),
                key: config.order_key,
                datasets: datasets.iter().map(|d| d.config.name.clone()).collect(),
            },
            department: config.department,
            agreements,
            papers: config.papers,
            replaced,
            endings,
            refusals: Refusals::default(),
            datasets: Arc::new(datasets),
            consent,
            intake,
            linkage: Arc::new(linkage),
            releases: Arc::new(releases),
            signing: config.signing,
            verifying,
            log,
            index,
            witness: Arc::new(witness),
            metrics,
            outcomes,
            journal: tokio::sync::Mutex::default(),
            consumed: Arc::new(consumed),
            quotas: Arc::new(quotas),
        };
        if let Some(path) = &config.consent_import {
            node.import(path, config.consent_skip_invalid).await?;
        }
        node.begin()
            .await
            .map_err(|refusal| Finding::file(&config.path, refusal.operator.clone().unwrap_or(refusal.message), "see the cause"))?;
        Ok(Arc::new(node))
    }

    async fn import(&self, path: &Path, skip_invalid: bool) -> Result<(), Findings> {
        let options = Options { skip_invalid, ..Options::default() };
        let refused = |e: ImportError| {
            let remedy =
                if let ImportError::Malformed(_, rows) = &e { rows.remedy() } else { "correct the file; nothing of it was recorded" };
            Finding::file(path, e.to_string(), remedy)
        };
        match import(Arc::clone(&self.consent), self.intake(&self.agreements.now()), path.to_owned(), options).await.map_err(refused)? {
            Imported::Before => {}
            Imported::Now { records, invalid, .. } => {
                tracing::info!(consent.records = records, consent.invalid = invalid, "consent records imported");
                let entry = Entry::new("consent.imported").field("records", records).field("invalid_identifiers", invalid);
                self.log(entry).await.map_err(|e| unusable(path, &e))?;
            }
        }
        Ok(())
    }

    /// How records come in while these agreements, and the purpose tree beside them, are in force.
    pub(crate) fn intake(&self, agreements: &Agreements) -> Intake {
        self.intake.under(agreements.purposes())
    }

    /// The first entry of this run. A ledger that is behind does not keep the node from starting: it answers, and says so.
    async fn begin(&self) -> Result<(), Refusal> {
        let version = match self.caught_up().await {
            Ok((_, standing)) => Some(standing.version),
            Err(refusal) if refusal.code == Code::NodeRefused => {
                tracing::error!(
                    cause = refusal.operator.as_deref().unwrap_or_default(),
                    "the consent ledger is behind; releases are refused"
                );
                None
            }
            Err(refusal) => return Err(refusal),
        };
        let entry = Entry::new("node.started").field("department", self.department.as_str()).field("consent_version", version);
        let entry = guard::in_force(entry, self.agreements.now().guard().loaded().as_ref());
        self.log(entry).await?;
        self.take_notice().await
    }

    /// Answers one order: a release that has begun.
    ///
    /// # Errors
    /// A [`Refusal`], logged.
    pub async fn order(&self, wire: &v1::ReleaseOrder, from: impl Into<Peer>, now: DateTime<Utc>) -> Result<Arc<Release>, Refusal> {
        let from = from.into();
        let answer = self.release(wire, &from, now).await;
        match answer {
            Ok(release) => {
                self.outcome("started");
                Ok(release)
            }
            Err(refusal) => Err(self.refused("order.refused", refusal, &from, query_id(wire).as_deref()).await),
        }
    }

    /// Counts a release's outcome.
    pub(crate) fn outcome(&self, outcome: &'static str) {
        self.outcomes.add(&[("outcome", outcome)], 1);
    }

    #[tracing::instrument(name = "release", skip_all)]
    async fn release(&self, wire: &v1::ReleaseOrder, from: &Peer, now: DateTime<Utc>) -> Result<Arc<Release>, Refusal> {
        let certificate = self.callers.gateway(from.certificate.clone())?;
        let order = tracing::info_span!("verify").in_scope(|| self.verifier.verify(wire, &certificate, now))?;
        let owed = self.witness.believes(order.opened_by).and_then(|()| self.witness.permits(&order.agreement));
        owed.map_err(|refusal| refusal.department(&self.department))?;
        self.log_replaced().await?;
        self.endings.write().await.map_err(|e| self.unwritable(e))?;
        let admission = self.releases.admit(&order.id)?;
        // Side by side: each waits for a disk.
        let (consumed, owed) = join(self.consume(&order, now), self.owed_for(&order)).await;
        consumed.and(owed)?;
        let (consent, standing) = self.caught_up().await?;
        let recipe = order.recipe(&self.department);
        let rules = self.rules(&recipe, &consent, standing).await?.of(&order);
        let of = Of::new(&order.dataset, &order.agreement, &order.domain, &rules);
        let rows = self.rows(&order, &of, now).await?;
        let next = rows.could_be_kept().filter(|seen| self.releases.snapshots.wants(&of, seen)).cloned();
        let (quotas, agreement) = (Arc::clone(&self.quotas), order.agreement.clone());
        blocking(move || quotas.intend(&agreement, now.date_naive())).await?;
        let intent = self.intent(&order, from, standing, rows.freshness());
        let (quotas, agreement) = (Arc::clone(&self.quotas), order.agreement.clone());
        let charge = move |rows| quotas.charge(&agreement, rows, Utc::now().date_naive());
        let (log, releases) = (self.log.clone(), Arc::clone(&self.releases));
        // On its own: of a gateway that leaves meanwhile, the release is there, and closes what is intended.
        let start = async move {
            let log_entry = log.append(intent).await?;
            Ok(releases.start(order, rows, rules, admission, log_entry, charge))
        };
        let started: Result<_, LogError> = self.endings.spawn(start.in_current_span()).await.map_err(Refusal::internal)?;
        let release = started.map_err(|e| self.unwritable(e))??;
        if let Some(seen) = next
            && let Ok(rules) = self.rules(&recipe, &consent, standing).await
        {
            self.keep_next(recipe, &of, &seen, rules, None);
        }
        Ok(release)
    }

    /// The rows that an order is about, no older than its agreement lets them be: of a snapshot, if there is one of the source as it is.
    async fn rows(&self, order: &VerifiedOrder, of: &Of, now: DateTime<Utc>) -> Result<Rows, Refusal> {
        let (datasets, selection) = (Arc::clone(&self.datasets), order.selection());
        let (releases, of) = (Arc::clone(&self.releases), of.clone());
        let name = DatasetName::new(self.department.clone(), order.dataset.clone());
        let (agreement, most) = (order.agreement.id.clone(), order.agreement.max_data_age(&name));
        let permits = move |freshness| most.map_or(Ok(()), |most| most.permits(&agreement, &name, freshness, [now, Utc::now()]));
        let open = async move {
            let (looked, permitted) = (Arc::clone(&datasets), permits.clone());
            let kept = blocking(move || {
                let required = looked.required(&of.dataset);
                Ok(required.and_then(|required| releases.snapshots.find(&of, &required, |freshness| permitted(freshness).is_ok())))
            });
            let rows = match kept.await? {
                Some(snapshot) => Rows::Kept(snapshot),
                None => datasets.scan(&selection, streams()).await.map(|scan| Rows::Scanned(Box::new(scan)))?,
            };
            permits(rows.freshness()).map(|()| rows)
        };
        self.releases.workers().run(open.instrument(tracing::info_span!("open"))).await?
    }

    async fn consume(&self, order: &VerifiedOrder, now: DateTime<Utc>) -> Result<(), Refusal> {
        if self.first(order.id.clone(), order.expires, now).await? {
            return Ok(());
        }
        Err(Refusal::new(Code::Replayed, "this release order was used before")
            .department(&self.department)
            .advice("every order is used once; sign a new one"))
    }

    /// Consumes an order that is given back, so that it is refused if it comes late. Whether it had not come yet.
    pub(crate) async fn gave_back(&self, id: String, now: DateTime<Utc>) -> Result<bool, Refusal> {
        self.first(id, now.timestamp().saturating_add(MAX_LIFETIME), now).await
    }

    async fn first(&self, id: String, expires: i64, now: DateTime<Utc>) -> Result<bool, Refusal> {
        let consumed = Arc::clone(&self.consumed);
        blocking(move || consumed.consume(&id, expires, now.timestamp()).map_err(Refusal::internal)).await
    }

    /// The consent records as they are now, and where their ledger stands: whatever was acknowledged before this call is in them.
    pub(crate) async fn caught_up(&self) -> Result<(Snapshot, Standing), Refusal> {
        self.move_journal().await?;
        let consent = Arc::clone(&self.consent);
        let (caught_up, restored) = blocking(move || {
            let caught_up = consent.catch_up()?;
            Ok((caught_up, consent.unlogged().map_err(Refusal::internal)?))
        })
        .await?;
        self.restored(restored).await?;
        let standing = Standing { generation: caught_up.generation, version: caught_up.snapshot.version() };
        if caught_up.from < standing.version {
            self.log(Entry::new("consent.advanced").field("from", caught_up.from).field("to", standing.version)).await?;
        }
        Ok((caught_up.snapshot, standing))
    }

    /// Moves what commands noted beside this node to its log. It waits for nobody who writes the ledger: what is in the log is
    /// kept in mind until the ledger can be told.
    pub(crate) async fn move_journal(&self) -> Result<(), Refusal> {
        let mut moved = self.journal.lock().await;
        loop {
            let (consent, logged) = (Arc::clone(&self.consent), moved.logged.clone());
            let notes = blocking(move || consent.ledger().notes(logged.as_ref()).map_err(Refusal::internal)).await?;
            if notes.is_empty() {
                break;
            }
            for (noted, entry) in notes {
                self.log(entry).await?;
                moved.logged = Some(noted);
            }
        }
        if let Some(logged) = moved.logged.clone().filter(|logged| moved.noted.as_ref() != Some(logged)) {
            let (consent, number) = (Arc::clone(&self.consent), logged.number);
            if blocking(move || consent.ledger().noted(number).map_err(Refusal::internal)).await? {
                moved.noted = Some(logged);
            }
        }
        Ok(())
    }

    /// Logs what an administrator acknowledged beside this process, before anything is released under it.
    async fn restored(&self, entries: Vec<Acknowledged>) -> Result<(), Refusal> {
        if entries.is_empty() {
            return Ok(());
        }
        for acknowledged in &entries {
            let entry = Entry::new("ledger.restored")
                .field("generation", acknowledged.generation)
                .field("consent_version", acknowledged.version)
                .field("known_version", acknowledged.known)
                .field("acknowledged_at", acknowledged.time.as_str())
                .field("user", acknowledged.user);
            self.log(entry).await?;
        }
        let consent = Arc::clone(&self.consent);
        blocking(move || consent.logged(&entries).map_err(Refusal::internal)).await
    }

    /// What decides over every row that orders can be about.
    pub(crate) async fn rules(&self, of: &Recipe, consent: &Snapshot, standing: Standing) -> Result<Rules, Refusal> {
        let name = DatasetName::new(self.department.clone(), of.dataset.clone());
        let dataset = of.agreement.dataset(&name).ok_or_else(|| Refusal::internal("a verified order without its dataset"))?;
        let (linkage, agreements) = (Arc::clone(&self.linkage), self.agreements.now());
        // They may have been replaced since the order was verified: then that is the cause, not who holds the key.
        agreements.find(of.agreement.id.as_str(), &of.agreement.digest, Utc::now())?;
        let (agreement, domain) = (of.agreement.clone(), of.domain.clone());
        let key = blocking(move || linkage.key(&agreements, &agreement, &domain, Utc::now())).await?;
        Ok(Rules {
            pseudonyms: Pseudonyms::derive(&key, &of.domain, &dataset.identifier),
            linked: dataset.linked.as_ref().map(|linked| Linked {
                identifier: linked.identifier.clone(),
                pseudonyms: Pseudonyms::derive(&key, &of.domain, &linked.identifier),
                consent: consent.view(&linked.identifier.label(), of.relevant.iter()),
                released: true,
            }),
            consent: consent.view(&dataset.identifier.label(), of.relevant.iter()),
            standing,
            identifier: dataset.identifier.clone(),
            basis: of.basis.clone(),
            columns: of.columns.clone(),
            grain: Grain::of(of.agreement.minimum_subjects, &of.agreement.disclosure),
            conditional: false,
        })
    }

    /// Lets go of what is released, and waits until all of it is closed in the log. The listener must have stopped.
    pub(crate) async fn drain(&self) {
        self.endings.stopping().cancel();
        self.releases.end();
        self.endings.drain(ENDING).await;
        if let Err(e) = self.record_counted(true).await {
            tracing::error!(cause = %e, "counted refusals could not be recorded");
        }
    }

    fn intent(&self, order: &VerifiedOrder, from: &Peer, standing: Standing, freshness: i64) -> Entry {
        let columns = order.columns.iter().map(|(name, _)| name.as_str());
        let columns: Vec<&str> = order.linked.then_some(LINKED).into_iter().chain(columns).collect();
        let filters: Vec<&str> = order.predicate.iter().flat_map(Predicate::columns).collect();
        let entry = Entry::new("release.intended");
        let entry = match &order.grouping {
            Some(grouping) => entry.field("grouped_by", grouping.keys().collect::<Vec<_>>()),
            None => entry,
        };
        entry
            .query(&order.query_id)
            .field("order", order.id.as_str())
            .field("address", from.address.map(|address| address.to_string()))
            .field("opened_by", order.opened_by)
            .by(&order.caller_issuer, &order.caller, None)
            .field("organisation", order.organisation.as_str())
            .field("mission", order.domain.mission.as_str())
            .field("purpose", order.domain.purpose.as_str())
            .field("epoch", order.domain.epoch)
            .field("rotation", order.domain.rotation)
            .field("agreement", order.agreement.id.as_str())
            .field("agreement_digest", order.agreement.digest.as_str())
            .field("guard_rails_digest", order.guard_rails.clone())
            .field("dataset", order.dataset.as_str())
            .field("columns", columns)
            .field("filter_columns", filters)
            .field("partitions", order.partitions)
            .field("request_digest", self.log.digest(&order.request))
            .field("consent_version", standing.version)
            .field("consent_generation", standing.generation)
            .field("freshness", freshness)
    }

    /// Writes one entry durably.
    ///
    /// # Errors
    /// [`Code::LogUnavailable`].
    pub(crate) async fn log(&self, entry: Entry) -> Result<u64, Refusal> {
        self.log.append(entry).await.map_err(|e| self.unwritable(e))
    }

    /// The refusal of everything while the log cannot be written.
    pub(crate) fn unwritable(&self, e: LogError) -> Refusal {
        let source = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
        tracing::error!(cause = %e, source, "the log cannot be written; service stops");
        // It may be room that it lacks.
        if matches!(e, LogError::Write(_) | LogError::Full | LogError::Behind) {
            self.releases.snapshots.stop(|_| true);
        }
        Refusal::new(Code::LogUnavailable, "this department's access log cannot be written, so nothing is released")
            .department(&self.department)
            .advice("the department's operator must make room or repair the log")
            .operator(e)
    }
}

/// The status of a refusal.
pub(crate) fn status(refusal: &Refusal, query_id: Option<&str>) -> tonic::Status {
    status::to_status(refusal, query_id)
}

/// The query id that an order claims, verified or not, if it looks like one.
pub(crate) fn query_id(wire: &v1::ReleaseOrder) -> Option<String> {
    use prost::Message as _;
    let bounded = Some(wire.request.as_slice()).filter(|request| request.len() <= concordat_proto::MAX_RELEASE_REQUEST)?;
    let id = v1::ReleaseRequest::decode(bounded).ok()?.query_id;
    let plain = (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    plain.then_some(id)
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Finding {
    Finding::file(path, format!("cannot be used: {error}"), "correct the path or its permissions; one node at a time may use it")
}
