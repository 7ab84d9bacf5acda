//! Keys at rest: how long they are kept, and what becomes of one that is lost.

use super::*;

#[test]
fn keys_of_domains_to_which_no_agreement_leads_are_removed_when_they_end() {
    let mut pair = Pair::new();
    pair.accept(&pair.seal(&pair.request()).unwrap()).unwrap();
    let files = |pair: &Pair| kept(pair.folders[1].path(), &AtRest::default()).unwrap().len();
    let end = DateTime::from_timestamp((i64::from(pair.domain().epoch) + 1) * 90 * 86_400, 0).unwrap();
    // As a department that was removed, and has taken the text away.
    pair.hold(&[], |_| Seen::default());
    pair.dwp.0.forget_ended(&pair.dwp.1, end - TimeDelta::seconds(1));
    assert_eq!(files(&pair), 1);
    pair.dwp.0.forget_ended(&pair.dwp.1, end);
    assert_eq!(files(&pair), 0);
}

#[test]
fn a_key_file_that_names_nobody_is_damaged() {
    let pair = Pair::new();
    pair.dfe.0.store.keep(&pair.domain(), Kept { key: DomainKey::new([1; 32]), given: Members::new(), end: NaiveDate::MAX }).unwrap();
    assert!(matches!(pair.dfe.0.store.key(&pair.domain()), Err(StoreError::Damaged(_))));
    assert_eq!(pair.key(&pair.dfe).map(drop).unwrap_err().code, Code::Internal);
}

#[test]
fn a_keyholder_that_lost_its_key_goes_on_only_after_a_rotation() {
    let mut pair = Pair::new();
    pair.accept(&pair.seal(&pair.request()).unwrap()).unwrap();
    for file in std::fs::read_dir(pair.folders[0].path().join("linkage")).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    let refusal = pair.key(&pair.dfe).map(drop).unwrap_err();
    assert_eq!(refusal.code, Code::NodeRefused, "no release is made with another key: {refusal}");
    assert_eq!(pair.accept(&pair.seal(&pair.request()).unwrap()).unwrap_err().code, Code::Replayed);
    pair.agree(|text| rotated(text, 1));
    pair.accept(&pair.seal(&pair.request()).unwrap()).unwrap();
    assert!(pair.key(&pair.dwp).unwrap() == pair.key(&pair.dfe).unwrap());
}

#[test]
fn another_party_can_become_keyholder_and_the_key_stays() {
    let mut pair = Pair::new();
    pair.accept(&pair.seal(&pair.request()).unwrap()).unwrap();
    let first = pair.key(&pair.dfe).unwrap();
    pair.agree(|text| text.replacen("keyholder = \"dfe\"", "keyholder = \"dwp\"", 1));
    let request = v1::SealRequest { recipient: "dfe".into(), recipient_key: pair.dfe.0.public().to_vec(), ..pair.request() };
    let sealed = pair.dwp.0.seal(&request, &pair.dwp.1, pair.now).unwrap();
    pair.dfe.0.accept(&sealed, &pair.dfe.1, pair.now).unwrap();
    assert!(pair.key(&pair.dwp).unwrap() == first);
    assert_eq!(pair.seal(&pair.request()).unwrap_err().code, Code::Denied, "the former one makes no keys any more");
}

#[test]
fn keys_of_epochs_long_ended_are_removed_and_no_others() {
    let mut pair = Pair::new();
    let epochs = |pair: &Pair| {
        let shown = kept(pair.folders[1].path(), &AtRest::default()).unwrap();
        shown.iter().map(|shown| shown.domain.rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = pair.domain().epoch;
    pair.agree(|text| rotated(text, 1));
    pair.accept(&pair.seal(&pair.request()).unwrap()).unwrap();
    // Of another mission, to which no agreement leads: one that is over, and one that is not.
    for epoch in [1, 9_999] {
        pair.dwp.0.make(&LinkageDomain { mission: name("another"), epoch, ..pair.domain() }, pair.agreement()).unwrap();
    }
    assert!(epochs(&pair).contains(&"1.1".to_owned()));
    for later in 1..=3 {
        pair.now += TimeDelta::days(90);
        pair.accept(&pair.seal(&pair.request()).unwrap()).unwrap();
        let expected: Vec<String> = (first.max(first + later - 1)..=first + later).map(|epoch| format!("{epoch}.1")).collect();
        assert_eq!(epochs(&pair), [&["9999.1".to_owned()][..], &expected].concat(), "the last one and the present one");
    }
}
