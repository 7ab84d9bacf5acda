//! Keys of a department that has replaced its own.

use concordat_policy::signature::Statement;
use concordat_policy::succession::{NextLinkage, Succession};

use super::*;

/// The keys of `dwp` were replaced an hour ago, which had signed the agreement by then; the linkage key by this one.
fn succeeded(agreement: &Agreement, next: &Fingerprint) -> Seen {
    succeeded_at(agreement, next, Utc::now() - TimeDelta::hours(1))
}

fn succeeded_at(agreement: &Agreement, next: &Fingerprint, from: DateTime<Utc>) -> Seen {
    let dwp = agreement.party(&name("dwp")).unwrap().clone();
    let mut seen = Seen::default();
    let signed = Statement {
        department: dwp.department.clone(),
        agreement: agreement.id.clone(),
        sha256: agreement.digest.clone(),
        signed_at: DateTime::UNIX_EPOCH,
        key: dwp.signing_key.clone(),
    };
    seen.saw(&signed, Utc::now() - TimeDelta::hours(2));
    seen.succeeds(Succession {
        department: dwp.department,
        key: dwp.signing_key,
        next: Fingerprint::of(b"next"),
        from,
        linkage: Some(NextLinkage { key: dwp.linkage_key, next: next.clone() }),
    })
    .unwrap();
    seen
}

#[test]
fn after_a_succession_keys_are_sealed_to_the_new_key_and_to_no_other() {
    let (next, folder) = (linkage_key().0, tempfile::tempdir().unwrap());
    let print = Fingerprint::of(&next.public());
    let pair = Pair::with(true, |agreement| succeeded(agreement, &print));
    let refusal = pair.dfe.0.seal(&pair.request(), &pair.dfe.1, pair.now).unwrap_err();
    assert!(refusal.message.contains("is not the one in the agreement"), "{refusal}");
    let request = v1::SealRequest { recipient_key: next.public().to_vec(), ..pair.request() };
    let sealed = pair.dfe.0.seal(&request, &pair.dfe.1, pair.now).unwrap();
    assert!(pair.dwp.0.accept(&sealed, &pair.dwp.1, pair.now).is_err(), "the old key opens nothing");
    LinkageKeys::open(next, AtRest::default(), folder.path()).unwrap().accept(&sealed, &pair.dwp.1, pair.now).unwrap();
}

#[test]
fn a_domain_that_is_asked_for_a_moment_early_has_the_keys_of_its_begin() {
    let next = linkage_key().0;
    let print = Fingerprint::of(&next.public());
    let epoch = Pair::new().domain().epoch + 1;
    let begin = DateTime::from_timestamp(i64::from(epoch) * 90 * 86_400, 0).unwrap();
    let mut pair = Pair::with(true, |agreement| succeeded_at(agreement, &print, begin));
    pair.now = begin;
    let (old, early) = (pair.request(), begin - TimeDelta::seconds(5));
    assert!(pair.dfe.0.seal(&old, &pair.dfe.1, early).is_err(), "a key that ends with the epoch before");
    let request = v1::SealRequest { recipient_key: next.public().to_vec(), ..old };
    pair.dfe.0.seal(&request, &pair.dfe.1, early).unwrap();
    pair.key(&pair.dfe).unwrap();
}

#[test]
fn a_linkage_key_that_was_replaced_by_succession_needs_a_rotation_too() {
    let mut pair = Pair::new();
    pair.accept(&pair.seal(&pair.request()).unwrap()).unwrap();
    let (first, next) = (pair.key(&pair.dwp).unwrap(), linkage_key().0);
    let print = Fingerprint::of(&next.public());
    pair.dwp.0 = LinkageKeys::open(next, AtRest::default(), pair.folders[1].path()).unwrap();
    pair.hold(&[(pair.text.clone(), true)], |agreement| succeeded(agreement, &print));
    for refusal in [pair.key(&pair.dfe).map(drop), pair.key(&pair.dwp).map(drop), pair.seal(&pair.request()).map(drop)] {
        let refusal = refusal.unwrap_err();
        assert!(refusal.message.contains("may be held by 'dwp', by a linkage key that it has replaced"), "{refusal}");
    }
    pair.hold(&[(rotated(&pair.text, 1), true)], |agreement| succeeded(agreement, &print));
    pair.accept(&pair.seal(&pair.request()).unwrap()).unwrap();
    assert!(pair.key(&pair.dwp).unwrap() == pair.key(&pair.dfe).unwrap() && pair.key(&pair.dwp).unwrap() != first);
}
