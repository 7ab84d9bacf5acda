//! What differs where one set of agreements and purposes takes the place of another while a program runs. It is what the program's log
//! keeps.

use std::collections::{BTreeMap, BTreeSet};

use crate::fingerprint::Fingerprint;
use crate::purpose::Purpose;
use crate::{Agreement, Name, PurposeTree, Signatures};

/// What a program goes by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copies {
    /// The agreements: each text, and whether it binds.
    agreements: BTreeMap<Name, Held>,
    purposes: BTreeMap<Name, Purpose>,
    revoked: BTreeSet<Fingerprint>,
}

/// A program's copy of one agreement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// SHA-256 of its text.
    pub digest: String,
    /// Whether it is signed as the program needs it. Its dates are not looked at.
    pub binds: bool,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replaced {
    /// An agreement came, went, or is another text, or its signatures count now where they did not, or the reverse.
    Agreement {
        /// Which.
        id: Name,
        /// The copy before; `None` where there was none.
        before: Option<Held>,
        /// The copy now.
        now: Option<Held>,
    },
    /// A purpose came, went, or is another.
    Purpose {
        /// Which.
        id: Name,
        /// As it was before; `None` where there was none.
        before: Option<Purpose>,
        /// As it is now.
        now: Option<Purpose>,
    },
    /// A key counts as revoked now.
    Revoked(Fingerprint),
    /// A key counts as revoked no longer.
    Reinstated(Fingerprint),
}

impl Copies {
    /// Of agreements with what lies beside them; `binds` says whether one is signed as it must be.
    pub fn of<'a>(
        agreements: impl IntoIterator<Item = &'a Agreement>,
        signatures: &Signatures,
        purposes: &PurposeTree,
        binds: impl Fn(&Agreement) -> bool,
    ) -> Self {
        let copy = |agreement: &Agreement| Held { digest: agreement.digest.clone(), binds: binds(agreement) };
        Self {
            agreements: agreements.into_iter().map(|agreement| (agreement.id.clone(), copy(agreement))).collect(),
            purposes: purposes.iter().map(|purpose| (purpose.id.clone(), purpose.clone())).collect(),
            revoked: signatures.revoked().keys().cloned().collect(),
        }
    }

    /// What becomes different when `now` takes the place of this, agreements first, then purposes.
    #[must_use]
    pub fn replaced_by(&self, now: &Self) -> Vec<Replaced> {
        let ids: BTreeSet<&Name> = self.agreements.keys().chain(now.agreements.keys()).collect();
        let agreements = ids.into_iter().filter_map(|id| {
            let (before, now) = (self.agreements.get(id).cloned(), now.agreements.get(id).cloned());
            (before != now).then(|| Replaced::Agreement { id: id.clone(), before, now })
        });
        let ids: BTreeSet<&Name> = self.purposes.keys().chain(now.purposes.keys()).collect();
        let purposes = ids.into_iter().filter_map(|id| {
            let (before, now) = (self.purposes.get(id).cloned(), now.purposes.get(id).cloned());
            (before != now).then(|| Replaced::Purpose { id: id.clone(), before, now })
        });
        let revoked = now.revoked.difference(&self.revoked).cloned().map(Replaced::Revoked);
        let reinstated = self.revoked.difference(&now.revoked).cloned().map(Replaced::Reinstated);
        agreements.chain(purposes).chain(revoked).chain(reinstated).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::AGREEMENT;
    use crate::{Revocations, Seen};

    #[test]
    fn each_difference_is_told_once_and_nothing_else() {
        let parse = |text: &str| Agreement::parse(text).unwrap();
        let (one, changed) = (parse(AGREEMENT), parse(&format!("{AGREEMENT}\n")));
        let two = parse(&AGREEMENT.replace("id = \"one\"", "id = \"two\""));
        let key = Fingerprint::of(b"k");
        let revokes = format!("[[key]]\nfingerprint = \"{key}\"\nreason = \"r\"\nsince = \"2026-05-01T10:00:00Z\"\n");
        let revokes = Signatures::new(Revocations::parse(&revokes).unwrap(), Seen::default());
        let none = Signatures::default();
        let copies = |agreements: &[&Agreement], signatures: &Signatures, binds: bool| {
            Copies::of(agreements.iter().copied(), signatures, &PurposeTree::default(), |_| binds)
        };
        let copy = |agreement: &Agreement, binds: bool| Some(Held { digest: agreement.digest.clone(), binds });
        let before = copies(&[&one], &none, true);
        assert!(before.replaced_by(&before).is_empty());
        let of = |id: &Agreement, before, now| Replaced::Agreement { id: id.id.clone(), before, now };
        for (what, now, expected) in [
            ("another text", copies(&[&changed], &none, true), vec![of(&one, copy(&one, true), copy(&changed, true))]),
            ("a signature less", copies(&[&one], &none, false), vec![of(&one, copy(&one, true), copy(&one, false))]),
            ("one went, one came", copies(&[&two], &none, true), vec![of(&one, copy(&one, true), None), of(&two, None, copy(&two, true))]),
            ("a key is revoked", copies(&[&one], &revokes, true), vec![Replaced::Revoked(key.clone())]),
        ] {
            assert_eq!(before.replaced_by(&now), expected, "{what}");
        }
        let after = copies(&[&one], &revokes, true);
        assert_eq!(after.replaced_by(&before), [Replaced::Reinstated(key)]);
    }

    #[test]
    fn each_purpose_that_differs_is_told() {
        let tree = |text: &str| PurposeTree::parse(text).unwrap();
        let purpose = |id: &str, more: &str| format!("[[purpose]]\nid = \"{id}\"\ntitle = \"T\"\n{more}\n");
        let before = tree(&[purpose("a", ""), purpose("b", "parent = \"a\""), purpose("c", "")].concat());
        let now = tree(&[purpose("a", ""), purpose("b", "retired = true"), purpose("d", "")].concat());
        let copies = |purposes: &PurposeTree| Copies::of([], &Signatures::default(), purposes, |_| true);
        let of = |tree: &PurposeTree, id: &str| tree.iter().find(|purpose| purpose.id.as_str() == id).cloned();
        let told = copies(&before).replaced_by(&copies(&now));
        let expected =
            ["b", "c", "d"].map(|id| Replaced::Purpose { id: Name::parse(id).unwrap(), before: of(&before, id), now: of(&now, id) });
        assert_eq!(told, expected);
        assert!(copies(&now).replaced_by(&copies(&now)).is_empty());
    }
}
