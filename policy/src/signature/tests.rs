//! What counts as a signature, and what does not.

use super::*;
use crate::succession::Succession;
use crate::testing::{AGREEMENT, name, print, signed};

fn now() -> DateTime<Utc> {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

fn agreement() -> Agreement {
    Agreement::parse(AGREEMENT).unwrap()
}

/// The party `dfe`'s, as it should be.
fn good() -> Statement {
    let agreement = agreement();
    Statement {
        department: name("dfe"),
        agreement: agreement.id.clone(),
        sha256: agreement.digest.clone(),
        signed_at: now(),
        key: agreement.parties[0].signing_key.clone(),
    }
}

#[test]
fn each_part_of_a_statement_must_fit() {
    type Change = fn(&mut Statement);
    let cases: &[(&str, Change, Option<Fault>)] = &[
        ("as it should be", |_| {}, None),
        ("years ago", |s| s.signed_at -= TimeDelta::days(3000), None),
        ("30 s ahead", |s| s.signed_at += TimeDelta::seconds(30), None),
        ("31 s ahead", |s| s.signed_at += TimeDelta::seconds(31), Some(Fault::Future)),
        ("another department", |s| s.department = name("dwp"), Some(Fault::Department)),
        ("a stranger", |s| s.department = name("dft"), Some(Fault::Department)),
        ("another agreement", |s| s.agreement = name("two"), Some(Fault::Agreement)),
        ("a byte more", |s| s.sha256 = Agreement::parse(&format!("{AGREEMENT}\n")).unwrap().digest, Some(Fault::Text)),
        ("no digest", |s| s.sha256.clear(), Some(Fault::Text)),
        ("upper case", |s| s.sha256 = s.sha256.to_uppercase(), Some(Fault::Text)),
        ("the other party's key", |s| s.key = agreement().parties[1].signing_key.clone(), Some(Fault::Key)),
        ("a stranger's key", |s| s.key = Fingerprint::of(b"stranger"), Some(Fault::Key)),
    ];
    for (what, change, expected) in cases {
        let mut statement = good();
        change(&mut statement);
        let judged = statement.judge(&agreement(), &name("dfe"), &Revocations::default(), &Seen::default(), now());
        assert_eq!(judged.err(), *expected, "{what}");
    }
    let other = good().judge(&agreement(), &name("dwp"), &Revocations::default(), &Seen::default(), now());
    assert_eq!(other, Err(Fault::Department));
}

#[test]
fn a_revoked_key_counts_for_nothing_whatever_the_time() {
    let key = good().key;
    for since in ["2020-01-01T00:00:00Z", "2026-06-02T00:00:00Z", "2090-01-01T00:00:00Z"] {
        let text = format!("[[key]]\nfingerprint = \"{key}\"\nreason = \"stolen\"\nsince = \"{since}\"\n");
        let revoked = Revocations::parse(&text).unwrap();
        assert_eq!(good().judge(&agreement(), &name("dfe"), &revoked, &Seen::default(), now()), Err(Fault::Revoked), "{since}");
    }
}

#[test]
fn a_key_is_revoked_alone_and_a_damaged_list_leaves_nothing_until_it_is_mended() {
    let (agreement, dfe) = (agreement(), name("dfe"));
    let list = |table: &str, key: &Fingerprint| {
        let text = format!("[[{table}]]\nfingerprint = \"{key}\"\nreason = \"r\"\nsince = \"2026-05-01T00:00:00Z\"\n");
        Revocations::parse(&text).unwrap()
    };
    let sound = signed(&[&agreement]);
    assert_eq!(sound.revoking(Some(Revocations::default())), sound);
    let damaged = sound.revoking(None);
    assert_eq!(damaged.lacking(&agreement, now()), [(dfe.clone(), Fault::Doubtful), (name("dwp"), Fault::Doubtful)]);
    assert_eq!(damaged.revoking(Some(Revocations::default())), sound, "mended");
    let (one, two) = (&agreement.parties[0].signing_key, &agreement.parties[1].signing_key);
    let revoked = sound.revoking(Some(list("key", one)));
    assert_eq!(revoked.lacking(&agreement, now()), [(dfe.clone(), Fault::Revoked)]);
    assert_eq!(revoked.revoking(None).revoking(Some(Revocations::default())), revoked, "known still");
    for (what, more, lacking) in [("another", list("key", two), 2), ("a reinstatement", list("reinstated", one), 1)] {
        assert_eq!(revoked.revoking(Some(more)).lacking(&agreement, now()).len(), lacking, "{what}");
    }
}

/// The same, signed long before.
fn early() -> Statement {
    Statement { signed_at: now() - TimeDelta::days(90), ..good() }
}

/// The key `0` of `dfe` is followed by the key `2`, from the time of [`now`] on.
fn succeeded() -> Seen {
    let mut seen = Seen::default();
    let succession = Succession { department: name("dfe"), key: print("0"), next: print("2"), from: now(), linkage: None };
    seen.succeeds(succession).unwrap();
    seen
}

#[test]
fn a_replaced_key_signs_no_more_and_what_was_seen_before_stays_signed() {
    let agreement = agreement();
    let day = TimeDelta::days(1);
    let by = |key: &str, text: &str| Statement { key: print(key), sha256: text.into(), ..early() };
    let (old, new, another) = (by("0", &agreement.digest), by("2", &agreement.digest), by("0", "another text"));
    let judged = |statement: &Statement, seen: &Seen, at: DateTime<Utc>| {
        statement.judge(&agreement, &name("dfe"), &Revocations::default(), seen, at).err()
    };
    let unseen = succeeded();
    // Before, as if there were none.
    assert_eq!((judged(&old, &unseen, now() - day), judged(&new, &unseen, now() - day)), (None, Some(Fault::Key)));
    // From then on: whatever time it states.
    assert_eq!(judged(&old, &unseen, now()), Some(Fault::Replaced));
    assert_eq!(judged(&new, &unseen, now()), None);
    let mut before = succeeded();
    before.saw(&old, now() - day);
    assert_eq!(judged(&old, &before, now() + day * 300), None);
    assert_eq!(judged(&another, &before, now()), Some(Fault::Text));
    let mut late = succeeded();
    late.saw(&old, now());
    assert_eq!(judged(&old, &late, now()), Some(Fault::Replaced));
    // Revoked later, nothing of it counts: neither what it signed nor the successor that it named.
    for key in ["0", "2"] {
        let list = format!("[[key]]\nfingerprint = \"{}\"\nreason = \"r\"\nsince = \"2027-01-01T00:00:00Z\"\n", print(key));
        let revoked = Revocations::parse(&list).unwrap();
        for statement in [&old, &new] {
            let fault = statement.judge(&agreement, &name("dfe"), &revoked, &before, now()).unwrap_err();
            let expected = if statement.key == print(key) { Fault::Revoked } else { Fault::Void };
            assert_eq!(fault, expected, "{key}: {statement:?}");
        }
        assert_eq!(Signatures::new(revoked, before.clone()).compromised(&agreement, now()), Some(&name("dfe")), "{key}");
    }
}

/// The folder of state could not be written, and the files are gone.
#[test]
fn what_a_running_program_has_seen_counts_although_it_was_not_kept() {
    let text = format!("[[key]]\nfingerprint = \"{}\"\nreason = \"stolen\"\nsince = \"2026-05-01T10:00:00Z\"\n", print("9"));
    let running = Signatures::new(Revocations::parse(&text).unwrap(), succeeded());
    let loaded = || Signatures::new(Revocations::default(), Seen::default());
    let next = loaded().after(&running, Revocations::default()).unwrap();
    assert_eq!((next.seen(), next.revoked()), (running.seen(), running.revoked()));
    let reinstated = Revocations::parse(&text.replace("[[key]]", "[[reinstated]]")).unwrap();
    let next = loaded().after(&running, reinstated).unwrap();
    assert_eq!(next.revoked(), &Revocations::default(), "the list lifts it by name");
    let mut other = Seen::default();
    let known = running.seen().successions().iter().next().unwrap();
    other.succeeds(Succession { next: print("8"), ..known.clone() }).unwrap();
    assert!(Signatures::new(Revocations::default(), other).after(&running, Revocations::default()).is_err());
}

#[test]
fn what_counts_is_witnessed_once_and_nothing_else() {
    let agreement = agreement();
    let mut signatures = Signatures::new(Revocations::default(), succeeded());
    signatures.add(&agreement.id, &name("dfe"), Ok(early()));
    signatures.add(&agreement.id, &name("dwp"), Err(Fault::Forged));
    let before = now() - TimeDelta::days(1);
    for at in [before, before + TimeDelta::hours(1)] {
        signatures.witness([&agreement], at);
        assert_eq!(signatures.seen().first(&early()), Some(before));
    }
    assert_eq!(signatures.seen().news(&Seen::default()).len(), 2, "the succession and one signature");
    assert_eq!(signatures.lacking(&agreement, now()), [(name("dwp"), Fault::Forged)], "seen in time");
    // Where it was not, it is not witnessed either.
    let mut late = Signatures::new(Revocations::default(), succeeded());
    late.add(&agreement.id, &name("dfe"), Ok(early()));
    late.witness([&agreement], now());
    assert_eq!(late.seen(), &succeeded());
    assert_eq!(late.lacking(&agreement, now())[0], (name("dfe"), Fault::Replaced));
    let keys = late.keys(&agreement, &name("dfe"), now()).unwrap();
    assert!(keys.signs(&print("2")) && late.keys(&agreement, &name("dft"), now()).is_none());
}

#[test]
fn nothing_found_is_missing_and_every_party_is_named() {
    let agreement = agreement();
    assert_eq!(Signatures::default().lacking(&agreement, now()), [(name("dfe"), Fault::Missing), (name("dwp"), Fault::Missing)]);
    let mut signatures = signed(&[&agreement]);
    assert_eq!(signatures.judge(&agreement, &name("dfe"), now()), Ok(DateTime::UNIX_EPOCH));
    assert!(signatures.lacking(&agreement, now()).is_empty() && signatures.refusal(&agreement, now()).is_none());
    signatures.add(&agreement.id, &name("dwp"), Err(Fault::Unreadable("/secret: denied".into())));
    let refusal = signatures.refusal(&agreement, now()).unwrap();
    assert_eq!((refusal.code, refusal.department.as_deref()), (Code::Denied, Some("dwp")));
    assert!(refusal.message.ends_with("the agreement 'one' does not bind: the signature of 'dwp' cannot be read"), "{refusal}");
    assert!(!refusal.to_string().contains("secret") && refusal.operator.unwrap().contains("secret"));
    signatures.add(&agreement.id, &name("dfe"), Err(Fault::Forged));
    let refusal = signatures.refusal(&agreement, now()).unwrap();
    assert!(refusal.message.contains("'dfe' does not verify") && refusal.message.contains("; the signature of 'dwp' cannot be read"));
    assert_eq!(refusal.department, None, "no one department's alone");
}

#[test]
fn signatures_of_one_agreement_are_none_of_another() {
    let (one, two) = (agreement(), Agreement::parse(&AGREEMENT.replace("id = \"one\"", "id = \"two\"")).unwrap());
    let signatures = signed(&[&one]);
    assert_eq!(signatures.judge(&two, &name("dfe"), now()), Err(Fault::Missing));
    // What was found beside one file and copied beside another.
    let mut copied = Signatures::default();
    copied.add(&two.id, &name("dfe"), Ok(good()));
    assert_eq!(copied.judge(&two, &name("dfe"), now()), Err(Fault::Agreement));
}

#[test]
fn a_replaced_key_signs_no_text_that_names_another_party_by_its_successor() {
    // Whoever found the key `0` of `dfe` and an accomplice write a new text: there `dfe` has that key, and `dwp` its successor.
    for replaced in ["signing_key", "linkage_key"] {
        let of_dwp = format!("{replaced} = \"{}\"", print("1"));
        assert!(AGREEMENT.contains(&of_dwp), "{of_dwp}");
        let text = AGREEMENT.replace(&of_dwp, &format!("{replaced} = \"{}\"", print("2")));
        let agreement = Agreement::parse(&text).unwrap();
        let stolen = Statement { sha256: agreement.digest.clone(), ..good() };
        let judged = |seen: &Seen, at| stolen.judge(&agreement, &name("dfe"), &Revocations::default(), seen, at);
        let mut seen = succeeded();
        assert_eq!(judged(&seen, now()), Err(Fault::Void), "{replaced}");
        seen.saw(&stolen, now() - TimeDelta::days(1));
        assert_eq!(judged(&seen, now()), Err(Fault::Void), "{replaced}: seen before");
        let signatures = Signatures::new(Revocations::default(), seen);
        assert_eq!(signatures.compromised(&agreement, now()), Some(&name("dfe")), "{replaced}");
    }
}
