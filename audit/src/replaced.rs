//! What a program's log says of agreements, purposes and revoked keys that changed while it ran, and of what it saw for the first time.

use concordat_policy::purpose::Purpose;
use concordat_policy::replaced::{Held, Replaced};
use concordat_policy::seen::News;

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
            Replaced::Purpose { id, before, now } => {
                let parent = |of: &Option<Purpose>| of.as_ref().and_then(|of| of.parent.as_ref()).map(|parent| parent.as_str().to_owned());
                let retired = |of: &Option<Purpose>| of.as_ref().is_some_and(|of| of.retired);
                let title = |of: &Option<Purpose>| of.as_ref().map(|of| of.title.clone());
                Self::new("purpose.replaced")
                    .field("purpose", id.as_str())
                    .field("was", before.is_some())
                    .field("is", now.is_some())
                    .field("parent_before", parent(before))
                    .field("parent", parent(now))
                    .field("retired_before", retired(before))
                    .field("retired", retired(now))
                    .field("other_title", before.is_some() && now.is_some() && title(before) != title(now))
            }
            Replaced::Revoked(key) => Self::new("key.revoked").field("key", key.as_str()),
            Replaced::Reinstated(key) => Self::new("key.reinstated").field("key", key.as_str()),
        }
    }
}

impl From<&News> for Entry {
    fn from(news: &News) -> Self {
        match news {
            News::Signature(signed) => Self::new("signature.seen")
                .field("department", signed.department.as_str())
                .field("agreement", signed.agreement.as_str())
                .field("digest", signed.sha256.as_str())
                .field("key", signed.key.as_str()),
            News::Succession(succession) => {
                let linkage = succession.linkage.as_ref();
                Self::new("key.succeeded")
                    .field("department", succession.department.as_str())
                    .field("key", succession.key.as_str())
                    .field("next", succession.next.as_str())
                    .field("linkage_key", linkage.map(|of| of.key.as_str()))
                    .field("next_linkage_key", linkage.map(|of| of.next.as_str()))
                    .field("from", succession.from.to_rfc3339())
            }
        }
    }
}
