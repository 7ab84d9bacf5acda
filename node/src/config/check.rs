//! Whether the agreements that name this department agree with what the department declares of itself.

use std::collections::BTreeSet;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use concordat_policy::agreement::{Dataset, Fingerprint};
use concordat_policy::{Agreement, Name, PurposeTree, Signatures};

use super::{DatasetConfig, Finding};

/// An agreement and the file it stands in.
pub(super) struct Paper {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) agreement: Agreement,
}

/// What the department declares of itself.
pub(super) struct Own<'a> {
    pub(super) department: &'a Name,
    pub(super) datasets: &'a [DatasetConfig],
    pub(super) signing: &'a Fingerprint,
    pub(super) linkage: &'a Fingerprint,
    /// What was seen of successions since the agreements were made.
    pub(super) signatures: &'a Signatures,
    pub(super) now: DateTime<Utc>,
    pub(super) purposes: &'a PurposeTree,
}

/// The agreements that bind this department.
pub(super) fn agreements(papers: Vec<Paper>, own: &Own<'_>, findings: &mut Vec<Finding>, warnings: &mut Vec<String>) -> Vec<Paper> {
    let mut kept: Vec<Paper> = Vec::new();
    for paper in papers {
        let place = paper.path.display();
        let Some(index) = paper.agreement.parties.iter().position(|party| party.department == *own.department) else {
            warnings
                .push(format!("{place}: agreement '{}' does not name '{}' as a party and is ignored", paper.agreement.id, own.department));
            continue;
        };
        if kept.iter().any(|other| other.agreement.id == paper.agreement.id) {
            let cause = format!("agreement '{}' stands in two files", paper.agreement.id);
            findings.push(paper.finding(&["id"], cause, "keep the one that is in force"));
            continue;
        }
        for purpose in &paper.agreement.purposes {
            if own.purposes.active(purpose).is_none() {
                warnings
                    .push(format!("{place}: the purpose '{purpose}' is unknown or retired here, so the agreement permits nothing for it"));
            }
        }
        paper.check_keys(index, own, findings);
        for (index, dataset) in paper.agreement.datasets.iter().enumerate().filter(|(_, d)| d.name.department == *own.department) {
            paper.check_dataset(index, dataset, own, findings);
        }
        kept.push(paper);
    }
    kept
}

impl Paper {
    fn finding(&self, keys: &[&str], cause: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::at(&self.path, &self.text, keys, cause, remedy)
    }

    fn check_keys(&self, index: usize, own: &Own<'_>, findings: &mut Vec<Finding>) {
        let Some(keys) = own.signatures.keys(&self.agreement, own.department, own.now) else { return };
        let index = index.to_string();
        for (key, agreed, actual) in
            [("signing_key", keys.signs(own.signing), own.signing), ("linkage_key", keys.links(own.linkage), own.linkage)]
        {
            if !agreed {
                let cause = format!("the agreement states another {key} of '{}' than this node holds ({actual})", own.department);
                findings.push(self.finding(
                    &["party", &index, key],
                    cause,
                    "use the key that was agreed or, from its time on, the one in its succession: `concordat-node agreement succeed` states one",
                ));
            }
        }
    }

    fn check_dataset(&self, index: usize, agreed: &Dataset, own: &Own<'_>, findings: &mut Vec<Finding>) {
        let index = index.to_string();
        let mut finding = |keys: &[&str], cause: String, remedy: &str| {
            findings.push(self.finding(&[&["dataset", &index][..], keys].concat(), cause, remedy));
        };
        let name = &agreed.name;
        let Some(declared) = own.datasets.iter().find(|d| d.name == name.dataset) else {
            return finding(
                &["name"],
                format!("the agreement names the dataset '{name}', which this node does not declare"),
                "declare it in node.toml, or correct the agreement",
            );
        };
        if declared.identifier.label() != agreed.identifier.label() {
            let cause = format!("'{name}' is agreed by identifier {}, and declared by {}", agreed.identifier, declared.identifier);
            finding(&["identifier"], cause, "pseudonyms would not match: make the two the same");
        }
        if let Some(linked) = &agreed.linked {
            let own = declared.linked.as_ref().map(|linked| &linked.identifier);
            if own.is_none_or(|own| own.label() != linked.identifier.label()) {
                let own = own.map_or_else(|| "no second identifier".to_owned(), ToString::to_string);
                let cause = format!("'{name}' is agreed to link to identifier {}, and declares {own}", linked.identifier);
                finding(&["linked"], cause, "declare [dataset.linked] in node.toml, or correct the agreement");
            }
        }
        for (column, rule) in &agreed.columns {
            let Some(own) = declared.columns.get(column) else {
                finding(
                    &["columns", column],
                    format!("the agreement names the column '{name}.{column}', which this node does not declare"),
                    "declare it in node.toml, or correct the agreement",
                );
                continue;
            };
            if own.kind != rule.kind {
                let cause = format!("'{name}.{column}' is agreed as {}, and declared as {}", rule.kind, own.kind);
                finding(&["columns", column, "type"], cause, "make the two the same");
            }
            if let (Some(declared), Some(agreed)) = (&own.values, &rule.values)
                && declared.iter().collect::<BTreeSet<_>>() != agreed.iter().collect()
            {
                let cause = format!("the agreement lists other values of '{name}.{column}' than node.toml");
                finding(&["columns", column, "values"], cause, "make the two lists the same");
            }
        }
    }
}
