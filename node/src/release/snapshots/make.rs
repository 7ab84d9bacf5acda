//! How a snapshot is made: one at a time, once the node rests, as long as orders could still be answered from it. The node may drop this
//! at any step, because it stops: what was sorted is sealed in files without a name, which end with it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use concordat_policy::{Code, Refusal};

use super::base::{Base, Before};
use super::gather::{self, Gatherer};
use super::made::PARTITIONS;
use super::{AGAIN, Failed, Kept, OUTDATED, PAUSE, Plan, SETTLES, SOON, Snapshot, Snapshots, Waiting, unsettled};
use crate::datasets::{LeftOut, Parts, Scan};
use crate::release::buckets::Buckets;
use crate::release::runs::{Runs, Sorted, Spill};
use crate::release::worker::Rules;
use crate::release::{blocking, work};
use crate::source::Seen;
use crate::workers::streams;

/// Why there is none.
enum Unmade {
    /// Nobody could be answered from it any more.
    Unwanted,
    /// Of the source as it was seen, unless it was not.
    Refused(Box<Refusal>, Option<Seen>),
    /// While rows of a database were taken over: all of them may be readable.
    TakingOver(Box<Refusal>),
}

/// What was made.
struct Made {
    rows: usize,
    taken_over: usize,
    bytes: u64,
    took: Duration,
}

impl From<Refusal> for Unmade {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal), None)
    }
}

impl Waiting {
    /// Makes it, when it is its turn and `rest` says that the node rests, as long as it is `wanted`, which blocks.
    pub(crate) async fn make(self, plan: Plan, rest: impl Future<Output = bool>, wanted: impl Fn() -> bool + Send + Sync + 'static) {
        let snapshots = Arc::clone(&self.snapshots);
        let Ok(_one) = snapshots.making.acquire().await else { return };
        if !rest.await {
            return;
        }
        let (dataset, agreement) = (self.of.dataset.as_str(), self.of.agreement.as_str());
        let unasked = plan.used.is_some();
        let made = self.made(plan, Arc::new(wanted)).await;
        snapshots.gathered.store(0, Ordering::Relaxed);
        // Sorting leaves small pieces all over.
        tokio::task::spawn_blocking(concordat_memory::give_back);
        match made {
            Ok(Made { rows, taken_over, bytes, took }) => {
                let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                tracing::info!(dataset, agreement, rows, taken_over, bytes, milliseconds, "a linked snapshot was made");
            }
            Err(Unmade::Unwanted) => drop(snapshots.forget(&self.of)),
            Err(Unmade::TakingOver(refusal)) => {
                snapshots.forget(&self.of);
                let cause = refusal.operator.as_deref().unwrap_or(&refusal.message);
                tracing::warn!(dataset, agreement, cause, "a linked snapshot was not made again; the next takes over nothing");
            }
            Err(Unmade::Refused(refusal, seen)) => {
                let cause = refusal.operator.as_deref().unwrap_or(&refusal.message);
                // Of a source that changes or cannot be read yet, what there is can be taken over another time; else it may be why.
                let passing = seen.is_none() || matches!(refusal.code, Code::NodeFaulty | Code::NodeUnavailable);
                let there = if passing { snapshots.is_kept(&self.of) } else { snapshots.forget(&self.of) };
                if there && !passing {
                    tracing::warn!(dataset, agreement, cause, "a linked snapshot was not made again; the next takes over nothing");
                    return;
                }
                let passing = passing && (there || unasked);
                let mut freed = false;
                // Not the source was at fault: what was not used for as long makes room, and what answers nobody.
                if !passing && !matches!(refusal.code, Code::NodeFaulty | Code::NodeUnavailable) {
                    let mut kept = snapshots.kept();
                    let before = kept.len();
                    kept.retain(|kept| kept.used.elapsed() < AGAIN && kept.outdated.is_none());
                    freed = kept.len() < before;
                }
                let until = Instant::now() + if passing || freed { SOON } else { AGAIN };
                // Not again for each order.
                let larger = seen.filter(|seen| refusal.code == Code::LimitExceeded && matches!(seen, Seen::Files(_)));
                snapshots.failed().push(Failed { of: self.of.clone(), until, larger });
                if passing {
                    tracing::warn!(dataset, agreement, cause, "a linked snapshot was not made again; it is tried later");
                } else {
                    tracing::warn!(dataset, agreement, cause, "no linked snapshot is kept; orders are sorted one by one");
                }
            }
        }
    }

    async fn made(&self, plan: Plan, wanted: Arc<impl Fn() -> bool + Send + Sync + 'static>) -> Result<Made, Unmade> {
        let wanted = async || {
            let wanted = Arc::clone(&wanted);
            if blocking(move || Ok(wanted())).await? { Ok(()) } else { Err(Unmade::Unwanted) }
        };
        wanted().await?;
        let snapshots = Arc::clone(&self.snapshots);
        blocking(move || snapshots.left()).await?;
        let Plan { recipe, rules, datasets, lasts, used } = plan;
        let mut required = None;
        for _ in 0..SETTLES {
            let (looked, dataset) = (Arc::clone(&datasets), recipe.dataset.clone());
            required = blocking(move || Ok(looked.required(&dataset))).await?;
            let Some(left) = required.as_ref().and_then(unsettled) else { break };
            tokio::time::sleep(left).await;
        }
        let (snapshots, of) = (Arc::clone(&self.snapshots), self.of.clone());
        let before = blocking(move || Ok(required.and_then(|required| snapshots.before(&of, &required)))).await?;
        let whole = before.as_ref().map(|before| before.whole.clone());
        let now = Seen::at(Duration::ZERO);
        let (began, versions) = (Instant::now(), before.as_ref().is_some_and(|before| matches!(before.known.parts, Parts::Versions(_))));
        let scan = datasets.scan_apart(&recipe.selection(), streams(), before.as_ref().map(|before| &before.known)).await?;
        let seen = scan.seen.clone().filter(|seen| unsettled(seen).is_none());
        let seen = seen.ok_or_else(|| Refusal::internal("the files of this dataset change every few seconds"))?;
        let shape = scan.shape.clone();
        let refused = |refusal| Unmade::Refused(Box::new(refusal), Some(seen.clone()));
        let sealed = self.snapshots.sealed(scan, rules, before).await;
        let failed = |refusal| if versions { Unmade::TakingOver(Box::new(refusal)) } else { refused(refusal) };
        let (snapshot, taken_over) = sealed.map_err(failed)?;
        wanted().await?;
        // The source would be read twice for every order.
        let took = began.elapsed();
        if lasts.is_some_and(|lasts| took * 2 > lasts) {
            return Err(refused(Refusal::internal("it takes more than half of the time for which it would answer")));
        }
        let made = Made { rows: snapshot.rows(), taken_over, bytes: snapshot.bytes(), took };
        let (used, next) = (used.unwrap_or_else(Instant::now), Instant::now() + (took * PAUSE).min(OUTDATED / 2));
        let whole = whole.filter(|_| taken_over > 0).or(now).ok_or_else(|| Refusal::internal("no clock"))?;
        let kept = Kept {
            of: self.of.clone(),
            recipe,
            seen: seen.clone(),
            shape,
            snapshot: Arc::new(snapshot),
            used,
            next,
            whole,
            outdated: None,
        };
        self.snapshots.keep(kept);
        Ok(made)
    }
}

impl Snapshots {
    /// The rows of a scan, and those that are taken over, of which it says how many they are.
    pub(super) async fn sealed(&self, mut scan: Scan, rules: Rules, before: Option<Before>) -> Result<(Snapshot, usize), Refusal> {
        let (rules, share) = (Arc::new(rules), self.memory / scan.streams.len().max(1));
        let (freshness, apart) = (scan.freshness, scan.apart);
        let left_out = std::mem::replace(&mut scan.left_out, LeftOut::Nothing);
        let before = before.filter(|_| !matches!(left_out, LeftOut::Nothing));
        let mut sorted = self.sorted(scan, &rules, share).await?;
        let (room, place) = (Arc::clone(&self.room), self.folder.clone());
        blocking(move || {
            let read = sorted.all_rows();
            if let Some(before) = before {
                sorted.take_over(Base::new(before.snapshot, left_out, gather::schema(&rules, apart), sorted.buckets())?);
            }
            let taken_over = sorted.all_rows() - read;
            Ok((Snapshot::make(sorted, &rules, apart, freshness, &place, room)?, taken_over))
        })
        .await
    }

    /// Every row by its pseudonym, whoever's it is.
    pub(super) async fn sorted(&self, scan: Scan, rules: &Arc<Rules>, share: usize) -> Result<Sorted, Refusal> {
        let (buckets, spill) = (Buckets::new(PARTITIONS), Spill::Sealed(self.folder.clone(), Arc::clone(&self.sorting)));
        let schema = gather::schema(rules, scan.apart);
        self.gathered.store(0, Ordering::Relaxed);
        let gatherer = |index| {
            let runs = Runs::new(Arc::clone(&schema), buckets.clone(), spill.clone(), share, index);
            vec![Gatherer::new(Arc::clone(rules), Arc::clone(&schema), runs, Arc::clone(&self.gathered))]
        };
        let ends = work(scan, gatherer).await?;
        let mut sorted = Sorted::new(buckets.clone(), spill.clone(), rules);
        ends.into_iter().flatten().for_each(|end| sorted.add(end));
        Ok(sorted)
    }
}
