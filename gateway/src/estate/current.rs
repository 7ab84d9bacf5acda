//! The estate as it is now. Agreements, signatures, successions, revoked keys, purposes, missions and views are replaced as a whole while the
//! gateway runs; departments' addresses are not. Revoked keys are taken first and alone, so that nothing that is wrong with another
//! file keeps a stolen key in force; while their list is damaged, no signature counts. What a list reinstates permits more, and waits
//! for the rest.
//!
//! An estate brings its guard rails: they are read for its own purposes and missions, and one that they do not fit is not taken. Where
//! only they changed, they are read for the estate that counts. So no decision sees an estate and rails that were read for another.
//!
//! What was planned keeps the texts that it was planned under ([`Texts`]). It runs, and what it gave is handed out, while every one of
//! them binds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use concordat_audit::{Entry, Unlogged};
use concordat_guard::Settings;
use concordat_operate::Fault;
use concordat_policy::replaced::Copies;
use concordat_policy::{Agreement, Code, Name, Refusal};
use concordat_proto::signature::{files, kept};
use tokio::sync::watch;

use super::{Department, Estate, differing};
use crate::config::report;
use crate::fetch::leaves;
use crate::guard;
use crate::plan::Plan;
use crate::replace::replace;

/// How often a running query looks at the time: it ends agreements too.
const LOOK: Duration = Duration::from_secs(1);

/// The texts of agreements under which something was planned: identifiers and digests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Texts(BTreeSet<(Name, String)>);

impl Texts {
    /// Those that a plan uses.
    ///
    /// # Errors
    /// [`Code::Internal`].
    pub(crate) fn of(plan: &Plan) -> Result<Self, Refusal> {
        let specs = leaves(plan.physical())?;
        Ok(Self(specs.iter().map(|spec| (spec.permit.agreement.clone(), spec.permit.agreement_digest.clone())).collect()))
    }

    /// The digest of each agreement's text.
    pub(crate) fn digests(&self) -> BTreeMap<&str, &str> {
        self.0.iter().map(|(agreement, digest)| (agreement.as_str(), digest.as_str())).collect()
    }
}

impl Estate {
    /// That each text binds still.
    ///
    /// # Errors
    /// [`Code::Denied`], naming the agreement.
    pub(crate) fn still(&self, texts: &Texts, now: DateTime<Utc>) -> Result<(), Refusal> {
        let denied = |cause: String| {
            Refusal::new(Code::Denied, cause).advice("ask anew: it is judged by what is agreed now; `concordat catalogue` lists that")
        };
        for (id, digest) in &texts.0 {
            let Some(agreement) = self.agreements.iter().find(|agreement| agreement.id == *id) else {
                return Err(denied(format!("the agreement '{id}' was taken away since this was planned")));
            };
            if agreement.digest != *digest {
                return Err(denied(format!("the agreement '{id}' has another text than when this was planned")));
            }
            if !agreement.in_force(now) {
                return Err(denied(format!("the agreement '{id}' is no longer in force")));
            }
            if let Some(refusal) = self.signatures.refusal(agreement, now) {
                return Err(refusal);
            }
        }
        Ok(())
    }

    fn copies(&self, now: DateTime<Utc>) -> Copies {
        let binds = |agreement: &Agreement| self.signatures.lacking(agreement, now).is_empty();
        Copies::of(&self.agreements, &self.signatures, &self.purposes, binds)
    }
}

/// The estate now. What is one decision takes it once.
#[derive(Debug)]
pub(crate) struct Current {
    folder: PathBuf,
    state: PathBuf,
    guard: Option<Settings>,
    now: watch::Sender<Arc<Estate>>,
    /// What was replaced since the log was told.
    pub(crate) replaced: Unlogged,
}

impl Current {
    /// Reads the estate for the first time, with the guard rails where there are to be some.
    ///
    /// # Errors
    /// As [`Estate::load`]; everything wrong with the guard rails; also when the folder of state cannot be written.
    pub(crate) fn open(folder: &Path, state: &Path, guard: Option<Settings>) -> miette::Result<Self> {
        let estate = guard::guarded(Estate::load(folder, state)?, guard.as_ref()).map_err(|damage| guard::report(&damage))?;
        warn(folder, state);
        std::fs::create_dir_all(state).and_then(|()| remember(&estate, state)).map_err(|e| {
            miette::miette!(
                help = "correct the path or the folder's permissions: without it, a list that forgets revoked keys goes unnoticed",
                "{}: {e}",
                state.join(files::REVOKED).display()
            )
        })?;
        let replaced = Unlogged::default();
        let news = kept::keep(state, estate.signatures.seen(), replace).map_err(|e| {
            miette::miette!(
                help = "correct the folder's permissions: without it, signatures by keys that were replaced do not count",
                "{}: {e}",
                state.join(kept::SEEN).display()
            )
        })?;
        replaced.add(news.iter().map(Entry::from));
        let now = watch::Sender::new(Arc::new(estate));
        Ok(Self { folder: folder.to_owned(), state: state.to_owned(), guard, now, replaced })
    }

    /// As it is now.
    pub(crate) fn now(&self) -> Arc<Estate> {
        Arc::clone(&self.now.borrow())
    }

    /// What to look at to notice a change. The guard rails are among it: an estate that did not fit the old ones may fit others.
    pub(crate) fn watched(&self) -> Vec<PathBuf> {
        let files = ["departments.toml", "missions.toml", "purposes.toml", "agreements", "views"].map(|name| self.folder.join(name));
        files.into_iter().chain(self.guard_rails()).collect()
    }

    /// The folder of the guard rails, where there is one.
    pub(crate) fn guard_rails(&self) -> Option<PathBuf> {
        self.guard.as_ref().map(|settings| settings.policies.clone())
    }

    /// Reads the estate again, with its guard rails, and goes by both. Gives a summary.
    ///
    /// # Errors
    /// What is wrong: then nothing has changed but the revoked keys.
    pub(crate) fn reread(&self) -> Result<String, Fault> {
        self.reread_revoked()?;
        let next = Estate::load(&self.folder, &self.state).map_err(|report| unusable(&self.folder, &report))?;
        let next = guard::guarded(next, self.guard.as_ref()).map_err(|damage| guard::fault(&damage))?;
        let (before, now) = (self.now(), Utc::now());
        let next = self.after(next, &before, now)?;
        if !alike(&before.departments, &next.departments) {
            return Err(Fault::new(
                self.folder.join("departments.toml").display(),
                "states other departments, addresses or server names than those with which the gateway was started",
                "restart the gateway, or take that back: until then no change of the estate is taken but revoked keys",
            ));
        }
        warn(&self.folder, &self.state);
        let bound = next.agreements.iter().filter(|agreement| next.signatures.lacking(agreement, now).is_empty()).count();
        let summary = format!("{} agreement(s), {bound} signed by every party, {} view(s)", next.agreements.len(), next.views.len());
        self.go_by(next);
        self.remember();
        Ok(summary)
    }

    /// What was loaded, with what was seen and counts as revoked until now, whether the folder of state could keep it or not.
    fn after(&self, mut next: Estate, before: &Estate, now: DateTime<Utc>) -> Result<Estate, Fault> {
        let papers = self.folder.join("agreements");
        let listed =
            files::revoked(&papers).map_err(|damaged| unusable(&self.folder, &report(&damaged.path, &damaged.text, &damaged.problems)))?;
        next.signatures = next
            .signatures
            .after(&before.signatures, listed)
            .map_err(|conflict| Fault::new(papers.display(), format!("a succession there {conflict}"), conflict.remedy()))?;
        next.signatures.witness(&next.agreements, now);
        Ok(next)
    }

    /// Takes the revoked keys, whatever else is at fault.
    fn reread_revoked(&self) -> Result<(), Fault> {
        let (revoked, fault) = match files::revoked_ever(&self.folder.join("agreements"), &self.state) {
            Ok((revoked, _)) => (Some(revoked), None),
            Err(damaged) => {
                let fault = unusable(&self.folder, &report(&damaged.path, &damaged.text, &damaged.problems));
                (None, Some(Fault { cause: format!("{}; until it is mended, no signature counts", fault.cause), ..fault }))
            }
        };
        let before = self.now();
        let signatures = before.signatures.revoking(revoked);
        if signatures != before.signatures {
            self.go_by(Estate { signatures, ..Estate::clone(&before) });
        }
        match fault {
            // What was seen stays as it is kept: a person must look at it.
            Some(fault) => Err(fault),
            None => {
                self.remember();
                Ok(())
            }
        }
    }

    fn go_by(&self, next: Estate) {
        let now = Utc::now();
        let before = self.now();
        self.replaced.add(before.copies(now).replaced_by(&next.copies(now)).iter().map(Entry::from));
        self.replaced.add(differing::entries(&before, &next));
        self.replaced.add(guard::replaced(before.guard.loaded().as_ref(), next.guard.loaded().as_ref()));
        self.now.send_replace(Arc::new(next));
    }

    fn remember(&self) {
        let estate = self.now();
        if let Err(e) = remember(&estate, &self.state) {
            tracing::error!(cause = %e, "which keys are revoked is in force, but cannot be kept in the folder of state");
        }
        match kept::keep(&self.state, estate.signatures.seen(), replace) {
            Ok(news) => self.replaced.add(news.iter().map(Entry::from)),
            Err(e) => tracing::error!(cause = %e, "which signatures were seen counts, but cannot be kept in the folder of state"),
        }
    }

    /// Reads the guard rails again, for the estate that counts, and goes by them. Gives a summary.
    ///
    /// # Errors
    /// The first thing wrong with them: then nothing has changed.
    pub(crate) fn reread_guard_rails(&self) -> Result<String, Fault> {
        let estate = self.now();
        let before = estate.guard.loaded();
        let loaded = estate.guard.reload(&guard::known(&estate)).map_err(|damage| guard::fault(&damage))?;
        self.replaced.add(guard::replaced(before.as_ref(), loaded.as_ref()));
        Ok(loaded.map_or_else(|| "none".to_owned(), |loaded| loaded.to_string()))
    }

    /// Does the work while every text binds.
    ///
    /// # Errors
    /// As [`Estate::still`]; else the work's own.
    pub(crate) async fn while_agreed<T>(&self, texts: &Texts, work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        let mut changed = self.now.subscribe();
        let ended = async {
            loop {
                let refusal = self.now().still(texts, Utc::now()).err();
                if let Some(refusal) = refusal {
                    return refusal;
                }
                let _ = tokio::time::timeout(LOOK, changed.changed()).await;
            }
        };
        tokio::select! {
            biased;
            refusal = ended => Err(refusal),
            done = work => {
                let done = done?;
                self.now().still(texts, Utc::now())?;
                Ok(done)
            }
        }
    }
}

/// Whether nodes would be called as before.
fn alike(before: &[Department], now: &[Department]) -> bool {
    let calls = |departments: &[Department]| -> BTreeSet<(Name, String, String)> {
        departments.iter().map(|d| (d.id.clone(), d.address.clone(), d.server_name.clone())).collect()
    };
    calls(before) == calls(now)
}

fn remember(estate: &Estate, state: &Path) -> std::io::Result<()> {
    files::remember(state, estate.signatures.revoked(), replace)
}

/// Keys that the list of revoked ones forgets, though this gateway has seen them in it: a sentence for each.
pub(crate) fn forgotten(folder: &Path, state: &Path) -> Vec<String> {
    files::revoked_ever(&folder.join("agreements"), state).map(|(_, forgotten)| forgotten).unwrap_or_default()
}

fn warn(folder: &Path, state: &Path) {
    for cause in forgotten(folder, state) {
        tracing::warn!(cause, "revoked keys");
    }
}

fn unusable(folder: &Path, report: &miette::Report) -> Fault {
    let remedy =
        report.help().map_or_else(|| "correct what is named; `concordat-gateway check` shows it too".to_owned(), |help| help.to_string());
    Fault::new(folder.display(), report.to_string().replace('\n', " "), remedy)
}

#[cfg(test)]
mod tests {
    use concordat_guard::ClaimGuard;
    use concordat_policy::{PurposeTree, Signatures};

    use super::*;
    use crate::plan::tests::{AGREEMENT, agreed, now, sign};

    fn estate(agreements: Vec<Agreement>, without: &[&str]) -> Estate {
        let mut signatures = Signatures::default();
        agreements.iter().for_each(|agreement| sign(&mut signatures, agreement, without));
        let (purposes, views) = (PurposeTree::default(), Vec::new());
        let (templates, guard) = (Vec::new(), ClaimGuard::default());
        Estate { departments: Vec::new(), purposes, missions: Vec::new(), agreements, signatures, views, templates, guard }
    }

    #[test]
    fn a_text_binds_while_it_is_there_unchanged_signed_and_in_force() {
        let planned = agreed(AGREEMENT);
        let texts = Texts([(planned.id.clone(), planned.digest.clone())].into());
        let later = "2027-01-01T00:00:00Z".parse().unwrap();
        for (what, estate, at, says) in [
            ("as it was", estate(vec![planned.clone()], &[]), now(), None),
            ("gone", estate(Vec::new(), &[]), now(), Some("'test' was taken away")),
            ("changed", estate(vec![agreed(&format!("{AGREEMENT}\n"))], &[]), now(), Some("'test' has another text")),
            ("unsigned", estate(vec![planned.clone()], &["a"]), now(), Some("the signature of 'a' is missing")),
            ("over", estate(vec![planned.clone()], &[]), later, Some("'test' is no longer in force")),
        ] {
            let refusal = estate.still(&texts, at).err();
            assert_eq!(refusal.is_some(), says.is_some(), "{what}: {refusal:?}");
            if let (Some(refusal), Some(says)) = (refusal, says) {
                assert!(refusal.code == Code::Denied && refusal.message.contains(says), "{what}: {refusal:?}");
            }
        }
        assert_eq!(estate(Vec::new(), &[]).still(&Texts::default(), now()), Ok(()), "nothing was planned under any");
    }

    #[tokio::test]
    async fn work_ends_when_a_text_that_it_rests_on_binds_no_longer() {
        let planned = agreed(&AGREEMENT.replace("2026-12-31", "2999-12-31"));
        let texts = Texts([(planned.id.clone(), planned.digest.clone())].into());
        let current = Current {
            folder: PathBuf::new(),
            state: PathBuf::new(),
            guard: None,
            now: watch::Sender::new(Arc::new(estate(vec![planned.clone()], &[]))),
            replaced: Unlogged::default(),
        };
        assert_eq!(current.while_agreed(&texts, std::future::ready(Ok(1))).await, Ok(1));
        let endless = current.while_agreed(&texts, std::future::pending::<Result<(), Refusal>>());
        let leaves = async { current.go_by(estate(vec![planned.clone()], &["b"])) };
        let (ended, ()) = tokio::time::timeout(LOOK / 2, async { tokio::join!(endless, leaves) }).await.expect("it ends at once");
        assert!(ended.unwrap_err().message.contains("the signature of 'b' is missing"));
        let late = current.while_agreed(&texts, std::future::ready(Ok(1))).await.unwrap_err();
        assert_eq!(late.code, Code::Denied, "{late:?}");
    }

    #[test]
    fn other_addresses_are_noticed_and_other_words_are_not() {
        let department = |address: &str, title: &str| Department {
            id: Name::parse("a").unwrap(),
            title: title.into(),
            address: address.into(),
            server_name: "a".into(),
            contact: None,
        };
        assert!(alike(&[department("https://x:1", "A")], &[department("https://x:1", "B")]));
        assert!(!alike(&[department("https://x:1", "A")], &[department("https://x:2", "A")]));
        assert!(!alike(&[department("https://x:1", "A")], &[]));
    }
}
