//! The names that guard rails may speak of. A rail about a name that nothing has would never match, and nobody would notice.

use std::collections::BTreeSet;

use cedar_policy::EntityUid;
use concordat_policy::{Name, PurposeTree};

/// Every name there is.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The purposes, retired ones too.
    pub purposes: PurposeTree,
    /// The missions.
    pub missions: BTreeSet<Name>,
    /// At a node: the department's datasets, by their own names.
    pub datasets: BTreeSet<Name>,
    /// At a node: the agreements.
    pub agreements: BTreeSet<Name>,
}

impl Known {
    /// What is wrong with an entity that a rail names.
    pub(crate) fn wrong(&self, entity: &EntityUid) -> Option<(String, &'static str)> {
        let (kind, id) = (entity.type_name().basename(), entity.id().unescaped());
        let within = |names: &BTreeSet<Name>| names.iter().any(|name| name.as_str() == id);
        let (known, remedy) = match kind {
            // Which actions there are is the schema's matter.
            "Action" => return None,
            "Purpose" => (self.purposes.iter().any(|purpose| purpose.id.as_str() == id), "name a purpose of purposes.toml"),
            "Mission" => (within(&self.missions), "name a mission"),
            "Dataset" => (within(&self.datasets), "name a dataset of this node, by its own name"),
            "Agreement" => (within(&self.agreements), "name an agreement that this department holds"),
            "Caller" => (false, "callers have no names here: speak of principal.organisation, principal.issuer and, at the gateway, roles"),
            _ => (false, "the schema has no such thing"),
        };
        // What is not a name is shown as Cedar escapes it.
        (!known).then(|| (format!("nothing is called {kind}::\"{}\" here, so the rail would never match", id.escape_default()), remedy))
    }
}
