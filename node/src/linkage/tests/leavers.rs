//! Who may hold a key of those who are no party any more.

use super::*;

/// A third party beside the two.
fn and_dbt(text: &str, key: &str) -> String {
    let prints = [Fingerprint::of(b"dbt signs"), Fingerprint::of(key.as_bytes())];
    let party = format!("[[party]]\ndepartment = \"dbt\"\nsigning_key = \"{}\"\nlinkage_key = \"{}\"\n\n", prints[0], prints[1]);
    text.replacen("[[party]]", &format!("{party}[[party]]"), 1)
}

/// Without the third party.
fn without_dbt(text: &str) -> String {
    let mut tables: Vec<&str> = text.split_inclusive("\n\n").collect();
    tables.retain(|table| !table.contains("department = \"dbt\""));
    tables.concat()
}

#[test]
fn whoever_leaves_takes_no_key_along_that_is_still_used() {
    let two = |text: String| and_dbt(&text, "dbt");
    let mut pair = Pair::agreed(true, |_| Seen::default(), two);
    pair.accept(&pair.seal(&pair.request()).unwrap()).unwrap();
    pair.key(&pair.dwp).unwrap();

    pair.agree(without_dbt);
    assert!(pair.agreement().party(&name("dbt")).is_none());
    for refusal in [pair.key(&pair.dfe).map(drop), pair.key(&pair.dwp).map(drop), pair.seal(&pair.request()).map(drop)] {
        let refusal = refusal.unwrap_err();
        assert_eq!(refusal.code, Code::Denied);
        assert!(refusal.message.contains("may be held by 'dbt', which is no party any more"), "{refusal}");
        assert!(refusal.advice.unwrap().contains("raise `rotation` in the agreement 'opportunity-2026'"));
    }
    pair.agree(|text| rotated(text, 1));
    pair.accept(&pair.seal(&pair.request()).unwrap()).unwrap();
    assert!(pair.key(&pair.dwp).unwrap() == pair.key(&pair.dfe).unwrap());
}

#[test]
fn a_replaced_linkage_key_needs_a_rotation_and_a_new_party_does_not() {
    let mut pair = Pair::new();
    pair.accept(&pair.seal(&pair.request()).unwrap()).unwrap();
    let first = pair.key(&pair.dfe).unwrap();
    pair.agree(|text| and_dbt(text, "first"));
    assert!(pair.key(&pair.dfe).unwrap() == first && pair.key(&pair.dwp).unwrap() == first);
    pair.agree(|text| text.replacen(&Fingerprint::of(b"first").to_string(), &Fingerprint::of(b"second").to_string(), 1));
    let refusal = pair.key(&pair.dwp).map(drop).unwrap_err();
    assert!(refusal.message.contains("may be held by 'dbt', by a linkage key that it has replaced"), "{refusal}");
    pair.agree(|text| rotated(text, 1));
    pair.accept(&pair.seal(&pair.request()).unwrap()).unwrap();
    assert!(pair.key(&pair.dwp).unwrap() != first);
}

#[test]
fn who_is_a_party_only_of_what_is_over_or_was_not_signed_takes_no_key_along_either() {
    let end = |text: &str, day: &str| text.replacen("2090-12-31", day, 1);
    let mut pair = Pair::agreed(true, |_| Seen::default(), |text| and_dbt(&text, "dbt"));
    let (without, other) = (without_dbt(&pair.text), pair.text.replace("opportunity-2026", "opportunity-2025"));
    pair.accept(&pair.seal(&pair.request()).unwrap()).unwrap();
    pair.hold(&[(without.clone(), true), (other.clone(), true)], |_| Seen::default());
    pair.key(&pair.dwp).unwrap();
    for (what, other) in [("not signed", (other.clone(), false)), ("over", (end(&other, "2020-12-31"), true))] {
        pair.hold(&[(without.clone(), true), other], |_| Seen::default());
        for side in [&pair.dfe, &pair.dwp] {
            let refusal = pair.key(side).map(drop).unwrap_err();
            assert!(refusal.message.contains("may be held by 'dbt', which is no party any more"), "{what}: {refusal}");
        }
    }

    // Of a key that is made later they have none, and are not said to.
    let start = DateTime::from_timestamp(i64::from(pair.domain().epoch) * 90 * 86_400, 0).unwrap();
    let day = |days: i64| (start + TimeDelta::days(days)).date_naive().to_string();
    for (what, last, signed, accepted) in [
        ("not signed", "2090-12-31".to_owned(), false, Ok(())),
        ("over before the epoch", day(-1), true, Ok(())),
        // The keyholder knows whom it gave the key; the other party only whom it may have been given to.
        ("over since", day(0), true, Err(Code::Denied)),
    ] {
        let mut pair = Pair::new();
        pair.now = start + TimeDelta::days(10);
        let other = end(&and_dbt(&pair.text, "dbt").replace("opportunity-2026", "opportunity-2025"), &last);
        pair.hold(&[(pair.text.clone(), true), (other, signed)], |_| Seen::default());
        let sealed = pair.seal(&pair.request()).unwrap();
        assert_eq!(pair.accept(&sealed).map_err(|refusal| refusal.code), accepted, "{what}");
        pair.key(&pair.dfe).unwrap();
    }
}
