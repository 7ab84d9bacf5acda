//! What a program's log says of agreements and revoked keys that changed while it ran.

use concordat_policy::replaced::{Held, Replaced};

use crate::Entry;

impl From<&Replaced> for Entry {
    fn from(replaced: &Replaced) -> Self {
        match replaced {
            Replaced::Agreement { id, before, now } => {
                let digest = |held: &Option<Held>| held.as_ref().map(|held| held.digest.clone());
                let binds = |held: &Option<Held>| held.as_ref().is_some_and(|held| held.binds);
                Self::new("agreement.replaced")
                    .field("agreement", id.as_str())
                    .field("digest_before", digest(before))
                    .field("digest", digest(now))
                    .field("bound_before", binds(before))
                    .field("binds", binds(now))
            }
            Replaced::Revoked(key) => Self::new("key.revoked").field("key", key.as_str()),
            Replaced::Reinstated(key) => Self::new("key.reinstated").field("key", key.as_str()),
        }
    }
}
