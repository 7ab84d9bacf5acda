//! On which versions of the departments' consent ledgers an answer rests.

use std::collections::BTreeMap;

use concordat_proto::receipt::Standing;

use super::super::Source;

/// Where the consent ledger of a department stood that an answer rests on.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Applied {
    /// The department.
    pub(crate) department: String,
    /// The least version of its ledger that was applied to any of the data.
    pub(crate) consent_version: u64,
    /// The ledger's generation, where the department once acknowledged that it restored a backup.
    #[serde(skip_serializing_if = "first")]
    pub(crate) consent_generation: u32,
    /// Where the query did not read its data: when it stated that version, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) as_of: Option<i64>,
}

fn first(generation: &u32) -> bool {
    *generation == 0
}

impl Applied {
    pub(super) fn new(department: &str, standing: Standing, as_of: Option<i64>) -> Self {
        let Standing { generation, version } = standing;
        Self { department: department.to_owned(), consent_version: version, consent_generation: generation, as_of }
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing { generation: self.consent_generation, version: self.consent_version }
    }

    /// What releases and lists together rest on: of each department the earlier.
    pub(crate) fn together(sources: &[Source], lists: &[Self]) -> Vec<Self> {
        let own = sources.iter().map(|source| Self::new(&source.department, source.standing(), None));
        let mut all: BTreeMap<String, Self> = BTreeMap::new();
        for applied in own.chain(lists.iter().cloned()) {
            match all.get(&applied.department) {
                Some(known) if known.standing() <= applied.standing() => {}
                _ => drop(all.insert(applied.department.clone(), applied)),
            }
        }
        all.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_department_the_earlier_version_is_stated() {
        let at = |generation, version| Standing { generation, version };
        let source = |department: &str, standing: Standing| Source {
            department: department.into(),
            dataset: "d".into(),
            order: "o".into(),
            agreement_digest: "a".into(),
            consent_version: standing.version,
            consent_generation: standing.generation,
            freshness: 1,
            counts: None,
            rows: 1,
            subjects: 1,
            others: None,
            partners: None,
            denominators: None,
            conditional: false,
        };
        let sources = [source("dfe", at(0, 9)), source("dwp", at(1, 2))];
        let lists = [Applied::new("dfe", at(0, 8), None), Applied::new("dwp", at(1, 3), None), Applied::new("dhsc", at(0, 4), Some(77))];
        let together = Applied::together(&sources, &lists);
        let stated: Vec<_> = together.iter().map(|a| (a.department.as_str(), a.standing(), a.as_of)).collect();
        assert_eq!(stated, [("dfe", at(0, 8), None), ("dhsc", at(0, 4), Some(77)), ("dwp", at(1, 2), None)]);
        let json = serde_json::to_value(&together).unwrap();
        assert_eq!(json[0], serde_json::json!({ "department": "dfe", "consent_version": 8 }));
        assert_eq!(json[1]["as_of"], 77);
    }
}
