//! What of an estate's departments, missions and views differs from another's, for the log. Agreements, purposes and keys are told by
//! `concordat_policy::replaced`. No title, address or statement stands in it.

use std::collections::{BTreeMap, BTreeSet};

use concordat_audit::Entry;

use super::Estate;

/// An entry for each that came, went or is another.
pub(super) fn entries(before: &Estate, now: &Estate) -> Vec<Entry> {
    let mut entries = differing("department", &before.departments, &now.departments, |department| department.id.as_str());
    entries.extend(differing("mission", &before.missions, &now.missions, |mission| mission.id.as_str()));
    entries.extend(differing("view", &before.views, &now.views, |view| view.name.as_str()));
    entries
}

fn differing<'e, T: PartialEq>(what: &'static str, before: &'e [T], now: &'e [T], name: impl Fn(&'e T) -> &'e str) -> Vec<Entry> {
    let named = |all: &'e [T]| all.iter().map(|one| (name(one), one)).collect::<BTreeMap<_, _>>();
    let (before, now) = (named(before), named(now));
    let names: BTreeSet<&str> = before.keys().chain(now.keys()).copied().collect();
    let differ = names.into_iter().filter(|name| before.get(name) != now.get(name));
    let entry = |name: &str| {
        let (was, is) = (before.contains_key(name), now.contains_key(name));
        Entry::new("estate.replaced").field("what", what).field("name", name).field("was", was).field("is", is)
    };
    differ.map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_went_or_changed_is_told_once() {
        let told = |before: &[(&str, u8)], now: &[(&str, u8)]| {
            let (before, now) = (before.to_vec(), now.to_vec());
            let entries = differing("view", &before, &now, |one| one.0);
            let text = |entry: &Entry, field: &str| entry.get(field).unwrap().to_string();
            entries.iter().map(|entry| ["what", "name", "was", "is"].map(|field| text(entry, field)).join(" ")).collect::<Vec<_>>()
        };
        for (before, now, expected) in [
            (&[("a", 1), ("b", 1)][..], &[("b", 1), ("a", 1)][..], &[][..]),
            (&[("a", 1)], &[("a", 2)], &["\"view\" \"a\" true true"]),
            (&[("a", 1)], &[("b", 1)], &["\"view\" \"a\" true false", "\"view\" \"b\" false true"]),
            (&[], &[("a", 1)], &["\"view\" \"a\" false true"]),
        ] {
            assert_eq!(told(before, now), expected, "{before:?} {now:?}");
        }
    }
}
