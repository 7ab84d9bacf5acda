//! Agreements, signatures, successions, revoked keys and purposes that change while the node runs, with the guard rails that are read for them.
//!
//! ```text
//! files change, or SIGHUP
//!   ─▶ revoked keys, alone ─▶ log, in force: what was agreed before, without them
//!        └ a damaged list: no signature counts until it is mended
//!   ─▶ all, read and checked as a whole ─▶ log: what is replaced ─▶ in force ─▶ what they no longer permit is cut
//!        └ a fault: all else stays as it was, and the fault is reported
//! ```
//! So nothing that is wrong with another file keeps a stolen key in force. What a list reinstates permits more, and waits for the rest.
//! The entries of what is replaced are durable before anything is released under it. What must end does not wait for them.

use std::sync::Arc;

use chrono::Utc;
use concordat_audit::Entry;
use concordat_operate::Fault;
use concordat_policy::Refusal;

use crate::agreements::Agreements;
use crate::config::Findings;
use crate::guard;
use crate::node::Node;

impl Node {
    /// Reads the department's papers again and goes by them. Gives a summary.
    ///
    /// # Errors
    /// What is wrong with the first file that cannot be used: then nothing has changed but the revoked keys.
    pub(crate) fn reread(&self) -> Result<String, Fault> {
        self.reread_revoked()?;
        let papers = self.papers.read_after(self.agreements.now().signatures()).map_err(|findings| first(&findings))?;
        for warning in &papers.warnings {
            tracing::warn!(cause = warning.as_str(), "agreements");
        }
        let now = Utc::now();
        let suspensions = Arc::clone(self.agreements.suspensions());
        let next = Agreements::new(suspensions, papers.agreements, papers.signatures, papers.purposes, papers.guard);
        let signed = next.iter().filter(|agreement| next.signed(agreement, now).is_ok()).count();
        let summary = format!("{} agreement(s), {signed} signed by this department", next.iter().count());
        self.go_by(next);
        self.remember();
        self.linkage.forget_ended(&self.agreements.now(), now);
        Ok(summary)
    }

    /// Takes the revoked keys, whatever else is at fault.
    fn reread_revoked(&self) -> Result<(), Fault> {
        let (revoked, fault) = match self.papers.revoked() {
            Ok(revoked) => (Some(revoked), None),
            Err(findings) => {
                let fault = first(&findings);
                (None, Some(Fault { cause: format!("{}; until it is mended, no signature counts", fault.cause), ..fault }))
            }
        };
        if let Some(next) = self.agreements.now().revoking(revoked) {
            self.go_by(next);
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

    fn go_by(&self, next: Agreements) {
        self.replaced.add(self.agreements.replaced_by(&next, Utc::now()).iter().map(Entry::from));
        self.replaced.add(guard::replaced(self.agreements.now().guard().loaded().as_ref(), next.guard().loaded().as_ref()));
        self.agreements.replace(next);
    }

    fn remember(&self) {
        let agreements = self.agreements.now();
        if let Err(e) = self.papers.remember(agreements.revoked()) {
            tracing::error!(cause = %e, "which keys are revoked is in force, but cannot be kept in the folder of state");
        }
        match self.papers.keep(agreements.seen()) {
            Ok(news) => self.replaced.add(news.iter().map(Entry::from)),
            Err(e) => tracing::error!(cause = %e, "which signatures were seen counts, but cannot be kept in the folder of state"),
        }
    }

    /// Brings what was replaced into the access log.
    ///
    /// # Errors
    /// [`concordat_policy::Code::LogUnavailable`].
    pub(crate) async fn log_replaced(&self) -> Result<(), Refusal> {
        self.replaced.write(&self.log).await.map_err(|e| self.unwritable(e))
    }
}

fn first(findings: &Findings) -> Fault {
    match findings.findings.as_slice() {
        [] => Fault::new("agreements", "cannot be used", "see `concordat-node check`"),
        [only] => Fault::new(only.place(), only.cause(), only.remedy()),
        [first, others @ ..] => {
            let more = format!("{} ({} more: see `concordat-node check`)", first.cause(), others.len());
            Fault::new(first.place(), more, first.remedy())
        }
    }
}
