//! The papers: purposes, agreements, the department's signatures, revoked keys and successions, and the guard rails that speak of them. A running
//! node reads them again, against what it declares of itself and holds as keys since it started.

use std::io;
use std::path::{Path, PathBuf};

use chrono::Utc;
use concordat_guard::{ReleaseGuard, Settings};
use concordat_policy::agreement::Fingerprint;
use concordat_policy::seen::News;
use concordat_policy::{Agreement, Name, Problem, PurposeTree, Revocations, Seen, Signatures};
use concordat_proto::signature::offer::{MAX_HELD_IN_ALL, Texts};
use concordat_proto::signature::{files, kept};

use super::{DatasetConfig, Finding, Findings, Loader, check};
use crate::{guard, private};

/// The papers as they were read and checked.
#[derive(Debug)]
pub struct Papers {
    /// The purpose tree.
    pub purposes: PurposeTree,
    /// The agreements to which the department is a party.
    pub agreements: Vec<Agreement>,
    /// The department's own signatures of them, and the revoked keys.
    pub signatures: Signatures,
    /// The department's own guard rails.
    pub guard: ReleaseGuard,
    /// What the operator should know, though the papers can be used.
    pub warnings: Vec<String>,
}

/// In a folder of state, where agreements wait that other parties signed.
pub(crate) fn inbox(state: &Path) -> Texts {
    Texts::at(state.join("inbox")).at_most(MAX_HELD_IN_ALL)
}

/// In a folder of state, where agreements wait that this department signed and offers to the others.
pub(crate) fn outbox(state: &Path) -> Texts {
    Texts::at(state.join("outbox"))
}

/// Where the papers lie, and what they are checked against.
#[derive(Debug, Clone)]
pub struct PaperFiles {
    /// The configuration.
    pub(super) config: PathBuf,
    // As the configuration names them.
    pub(super) agreements: PathBuf,
    pub(super) purposes: PathBuf,
    pub(super) state: PathBuf,
    pub(super) department: Name,
    pub(super) datasets: Vec<DatasetConfig>,
    pub(super) guard: Option<Settings>,
    pub(super) signing: Fingerprint,
    pub(super) linkage: Fingerprint,
}

impl PaperFiles {
    /// Reads the papers.
    ///
    /// # Errors
    /// Every finding: then nothing of them may be used.
    pub fn read(&self) -> Result<Papers, Findings> {
        let mut loader = Loader { path: &self.config, text: "", folder: self.folder(), findings: Vec::new(), warnings: Vec::new() };
        let purposes = loader.purposes(&self.purposes);
        let agreements = loader.agreements(&self.agreements);
        let papers = purposes.and_then(|purposes| loader.papers(self, purposes, agreements));
        let Loader { findings, warnings, .. } = loader;
        match papers {
            Some(papers) if findings.is_empty() => Ok(Papers { warnings, ..papers }),
            _ => Err(Findings { findings }),
        }
    }

    /// Reads the papers where `before` counts in a running node: what that has seen and takes as revoked counts still, whether the
    /// folder of state could keep it or not.
    ///
    /// # Errors
    /// Every finding: then nothing of them may be used.
    pub fn read_after(&self, before: &Signatures) -> Result<Papers, Findings> {
        let mut papers = self.read()?;
        let folder = self.folder().join(&self.agreements);
        let finding = |path: &Path, text: &str, problems: Vec<Problem>| Findings {
            findings: problems.into_iter().map(|problem| Finding::problem(path, text, problem)).collect(),
        };
        let listed = files::revoked(&folder).map_err(|damaged| finding(&damaged.path, &damaged.text, damaged.problems))?;
        papers.signatures = papers
            .signatures
            .after(before, listed)
            .map_err(|conflict| finding(&folder, "", vec![Problem::at("", format!("a succession there {conflict}"), conflict.remedy())]))?;
        papers.signatures.witness(&papers.agreements, Utc::now());
        Ok(papers)
    }

    /// Reads which keys count as revoked, and nothing else.
    ///
    /// # Errors
    /// What is wrong with a list: then nobody can tell.
    pub fn revoked(&self) -> Result<Revocations, Findings> {
        let read = files::revoked_ever(&self.folder().join(&self.agreements), &self.folder().join(&self.state));
        read.map(|(revoked, _)| revoked).map_err(|damaged| {
            let finding = |problem| Finding::problem(&damaged.path, &damaged.text, problem);
            Findings { findings: damaged.problems.into_iter().map(finding).collect() }
        })
    }

    /// Where agreements wait that other parties signed.
    #[must_use]
    pub fn inbox(&self) -> Texts {
        inbox(&self.folder().join(&self.state))
    }

    /// Where agreements wait that this department signed and offers to the others.
    #[must_use]
    pub fn outbox(&self) -> Texts {
        outbox(&self.folder().join(&self.state))
    }

    /// What to look at to notice a change. The guard rails are among it: papers that did not fit the old ones may fit others.
    #[must_use]
    pub fn watched(&self) -> Vec<PathBuf> {
        let files = [&self.agreements, &self.purposes].map(|path| self.folder().join(path));
        files.into_iter().chain(self.guard_rails()).collect()
    }

    /// The folder of the guard rails, where there is one.
    #[must_use]
    pub fn guard_rails(&self) -> Option<PathBuf> {
        self.guard.as_ref().map(|settings| settings.policies.clone())
    }

    /// Keeps which keys count as revoked, so that a list that forgets one is noticed, also by the next run.
    ///
    /// # Errors
    /// When the folder of state cannot be written.
    pub fn remember(&self, revoked: &Revocations) -> io::Result<()> {
        files::remember(&self.folder().join(&self.state), revoked, private::replace)
    }

    /// Keeps which signatures and successions were seen, and gives what was not kept before, which is for the log.
    ///
    /// # Errors
    /// When the folder of state cannot be written.
    pub fn keep(&self, seen: &Seen) -> io::Result<Vec<News>> {
        kept::keep(&self.folder().join(&self.state), seen, private::replace)
    }

    fn folder(&self) -> &Path {
        self.config.parent().unwrap_or(Path::new("."))
    }
}

impl Loader<'_> {
    /// Checks agreements that were read, and finds what lies beside them; none where guard rails cannot be used, which is a finding.
    /// Warnings stay with the loader.
    pub(super) fn papers(&mut self, place: &PaperFiles, purposes: PurposeTree, agreements: Vec<check::Paper>) -> Option<Papers> {
        let now = Utc::now();
        let mut signatures = Signatures::new(self.revoked(&place.agreements, &place.state), self.seen(&place.agreements, &place.state));
        let own = check::Own {
            department: &place.department,
            datasets: &place.datasets,
            signing: &place.signing,
            linkage: &place.linkage,
            signatures: &signatures,
            now,
            purposes: &purposes,
        };
        let papers = check::agreements(agreements, &own, &mut self.findings, &mut self.warnings);
        for paper in &papers {
            signatures.add(&paper.agreement.id, &place.department, files::find(&paper.path, &place.department));
        }
        let agreements: Vec<Agreement> = papers.into_iter().map(|paper| paper.agreement).collect();
        signatures.witness(&agreements, now);
        let known = guard::known(&purposes, agreements.iter(), place.datasets.iter().map(|dataset| &dataset.name));
        let guard = self.keep(guard::open(&place.department, place.guard.as_ref(), &known))?;
        Some(Papers { purposes, agreements, signatures, guard, warnings: Vec::new() })
    }

    /// What was seen of signatures and successions; nothing where that is damaged, which is a finding.
    fn seen(&mut self, folder: &Path, state: &Path) -> Seen {
        kept::seen(&self.folder.join(folder), Some(&self.folder.join(state))).unwrap_or_else(|damaged| {
            self.problems(&damaged.path, &damaged.text, damaged.problems);
            Seen::default()
        })
    }

    /// The keys that count as revoked; none where a list is damaged, which is a finding.
    fn revoked(&mut self, folder: &Path, state: &Path) -> Revocations {
        match files::revoked_ever(&self.folder.join(folder), &self.folder.join(state)) {
            Ok((revoked, forgotten)) => {
                self.warnings.extend(forgotten);
                revoked
            }
            Err(damaged) => {
                self.problems(&damaged.path, &damaged.text, damaged.problems);
                Revocations::default()
            }
        }
    }
}
