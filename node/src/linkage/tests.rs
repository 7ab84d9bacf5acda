//! Two departments and a relay that tries everything.

mod at_rest;
mod leavers;
mod succession;

use std::os::unix::fs::PermissionsExt as _;

use chrono::TimeDelta;
use concordat_guard::{Known, ReleaseGuard};
use concordat_policy::{PurposeTree, Revocations, Seen, Signatures};
use concordat_proto::signature;
use concordat_proto::token::SigningKey;

use super::*;
use crate::agreements::Members;
use crate::fixture::{PURPOSES, agreement_text, linkage_key, name, signature_of, signed_by, signing_key};
use crate::suspension::{Folders, Suspensions};

struct Pair {
    dfe: (LinkageKeys, Agreements),
    dwp: (LinkageKeys, Agreements),
    stranger: LinkageKeys,
    signing: [SigningKey; 2],
    folders: [tempfile::TempDir; 3],
    text: String,
    now: DateTime<Utc>,
}

impl Pair {
    /// `dfe` keeps the keys.
    fn new() -> Self {
        Self::with(true, |_| Seen::default())
    }

    /// Whether both have signed, and what both have seen.
    fn with(signed: bool, seen: impl Fn(&Agreement) -> Seen) -> Self {
        Self::agreed(signed, seen, |text| text)
    }

    /// Under an agreement that `change` has changed.
    fn agreed(signed: bool, seen: impl Fn(&Agreement) -> Seen, change: impl Fn(String) -> String) -> Self {
        let folders = std::array::from_fn(|_| tempfile::tempdir().unwrap());
        let [(dfe, dwp), (stranger, _)] = [(linkage_key().0, linkage_key().0), (linkage_key().0, linkage_key().0)];
        let print = |pair: &Keypair| Fingerprint::of(&pair.public());
        let signing = [signing_key().0, signing_key().0];
        let [of_dfe, of_dwp] = signing.each_ref().map(|key| Fingerprint::of(key.public_spki()));
        let text = change(agreement_text("dfe", (&of_dfe, &print(&dfe)), (&of_dwp, &print(&dwp))));
        let agreement = Agreement::parse(&text).unwrap();
        let agreements = |own: &str, index: usize| {
            let agreement = agreement.clone();
            let suspensions = Suspensions::at(name(own), Folders::new(folders[index].path(), folders[index].path()));
            let signatures = if signed { signed_by(&agreement, own, &signing[index], seen(&agreement)) } else { Signatures::default() };
            let guard = ReleaseGuard::open(name(own), None, &Known::default()).unwrap();
            Agreements::new(suspensions.into(), vec![agreement], signatures, PurposeTree::parse(PURPOSES).unwrap(), guard)
        };
        let open = |pair: Keypair, index: usize| LinkageKeys::open(pair, AtRest::default(), folders[index].path()).unwrap();
        Self {
            dfe: (open(dfe, 0), agreements("dfe", 0)),
            dwp: (open(dwp, 1), agreements("dwp", 1)),
            stranger: open(stranger, 2),
            now: Utc::now(),
            signing,
            folders,
            text,
        }
    }

    /// Both departments take another text, which both have signed. Keys and folders stay.
    fn agree(&mut self, change: impl Fn(&str) -> String) {
        self.text = change(&self.text);
        self.hold(&[(self.text.clone(), true)], |_| Seen::default());
    }

    /// Both departments hold these texts from now on, each with whether they have signed it; the first is the one that is asked under.
    fn hold(&mut self, texts: &[(String, bool)], seen: impl Fn(&Agreement) -> Seen) {
        let agreements: Vec<Agreement> = texts.iter().map(|(text, _)| Agreement::parse(text).unwrap()).collect();
        let next = |own: &str, index: usize| {
            let (folder, guard) = (self.folders[index].path(), ReleaseGuard::open(name(own), None, &Known::default()).unwrap());
            let suspensions = Suspensions::at(name(own), Folders::new(folder, folder));
            let mut signatures = Signatures::new(Revocations::default(), agreements.first().map_or_else(Seen::default, &seen));
            for (agreement, _) in agreements.iter().zip(texts).filter(|(_, (_, signed))| *signed) {
                let statement = signature::read(signature_of(agreement, own, &self.signing[index]).as_bytes());
                signatures.add(&agreement.id, &name(own), statement);
            }
            Agreements::new(suspensions.into(), agreements.clone(), signatures, PurposeTree::parse(PURPOSES).unwrap(), guard)
        };
        let (dfe, dwp) = (next("dfe", 0), next("dwp", 1));
        (self.dfe.1, self.dwp.1) = (dfe, dwp);
    }

    fn key(&self, end: &(LinkageKeys, Agreements)) -> Result<DomainKey, Refusal> {
        end.0.key(&end.1, self.agreement(), &self.domain(), self.now)
    }

    fn request(&self) -> v1::SealRequest {
        let domain = LinkageDomain::at(name("opportunity"), name("opportunity"), &self.agreement().linkage, self.now).unwrap();
        v1::SealRequest {
            domain: Some((&domain).into()),
            agreement: "opportunity-2026".into(),
            agreement_digest: self.agreement().digest.clone(),
            recipient: "dwp".into(),
            recipient_key: self.dwp.0.public().to_vec(),
        }
    }

    fn agreement(&self) -> &Agreement {
        self.dfe.1.iter().next().unwrap()
    }

    fn domain(&self) -> LinkageDomain {
        self.request().domain.unwrap().under(self.agreement().linkage.rotation).unwrap()
    }

    fn seal(&self, request: &v1::SealRequest) -> Result<v1::SealedKey, Refusal> {
        self.dfe.0.seal(request, &self.dfe.1, self.now)
    }

    fn accept(&self, sealed: &v1::SealedKey) -> Result<(), Refusal> {
        self.dwp.0.accept(sealed, &self.dwp.1, self.now)
    }
}

#[test]
fn both_ends_hold_the_same_key_and_keep_it() {
    let pair = Pair::new();
    let missing = pair.dwp.0.key(&pair.dwp.1, pair.agreement(), &pair.domain(), pair.now).unwrap_err();
    assert_eq!(missing.code, Code::NodeRefused);
    let sealed = pair.seal(&pair.request()).unwrap();
    pair.accept(&sealed).unwrap();
    pair.accept(&pair.seal(&pair.request()).unwrap()).unwrap();
    let key = |end: &(LinkageKeys, Agreements)| end.0.key(&end.1, pair.agreement(), &pair.domain(), pair.now).unwrap();
    assert!(key(&pair.dfe) == key(&pair.dwp));
    // The ciphertext holds no trace of the key.
    assert!(!sealed.ciphertext.windows(8).any(|part| key(&pair.dfe).bytes().windows(8).any(|k| k == part)));
    let file = std::fs::read_dir(pair.folders[0].path().join("linkage")).unwrap().next().unwrap().unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn no_key_is_made_sealed_or_taken_under_an_agreement_that_the_department_has_not_signed() {
    let (unsigned, signed) = (Pair::with(false, |_| Seen::default()), Pair::new());
    let sealed = signed.seal(&signed.request()).unwrap();
    let taken = unsigned.dwp.0.accept(
        &v1::SealedKey { agreement_digest: unsigned.agreement().digest.clone(), ..sealed },
        &unsigned.dwp.1,
        unsigned.now,
    );
    for (refusal, department) in [(unsigned.seal(&unsigned.request()).unwrap_err(), "dfe"), (taken.unwrap_err(), "dwp")] {
        assert_eq!((refusal.code, refusal.department.as_deref()), (Code::Denied, Some(department)));
        assert!(refusal.message.contains("'opportunity-2026': its own signature is missing"), "{refusal}");
        assert!(refusal.advice.unwrap().contains("concordat-node agreement sign opportunity-2026"));
    }
    let made = std::fs::read_dir(unsigned.folders[0].path().join("linkage")).unwrap().count();
    assert_eq!(made, 0, "no key was made");
}

#[test]
fn a_substituted_recipient_or_request_is_not_sealed() {
    let pair = Pair::new();
    type Change = fn(&mut v1::SealRequest, &Pair);
    let changes: &[(&str, Change, Code)] = &[
        ("key substituted", |r, p| r.recipient_key = p.stranger.public().to_vec(), Code::Denied),
        ("key empty", |r, _| r.recipient_key.clear(), Code::Denied),
        ("recipient substituted", |r, _| r.recipient = "dbt".into(), Code::Denied),
        ("another party's name", |r, _| r.recipient = "dfe".into(), Code::Denied),
        ("another agreement", |r, _| r.agreement = "other".into(), Code::Denied),
        ("another text", |r, _| r.agreement_digest = "00".into(), Code::Denied),
        ("no domain", |r, _| r.domain = None, Code::Invalid),
        ("another mission", |r, _| r.domain.as_mut().unwrap().mission = "health".into(), Code::Denied),
        ("another purpose", |r, _| r.domain.as_mut().unwrap().purpose = "health".into(), Code::Denied),
        ("an old epoch", |r, _| r.domain.as_mut().unwrap().epoch -= 1, Code::Denied),
        ("a later epoch", |r, _| r.domain.as_mut().unwrap().epoch += 1, Code::Denied),
    ];
    for (what, change, code) in changes {
        let mut request = pair.request();
        change(&mut request, &pair);
        assert_eq!(pair.seal(&request).map(|_| ()).map_err(|r| r.code), Err(*code), "{what}");
    }
    // Only the keyholder seals.
    let mut request = pair.request();
    (request.recipient, request.recipient_key) = ("dfe".into(), pair.dfe.0.public().to_vec());
    assert_eq!(pair.dwp.0.seal(&request, &pair.dwp.1, pair.now).unwrap_err().code, Code::Denied);
}

#[test]
fn an_altered_or_substituted_sealed_key_is_not_accepted() {
    let pair = Pair::new();
    let good = pair.seal(&pair.request()).unwrap();
    type Change = fn(&mut v1::SealedKey, &Pair);
    let changes: &[(&str, Change)] = &[
        ("sender's key", |s, p| s.sender_key = p.stranger.public().to_vec()),
        ("sender", |s, _| s.sender = "dwp".into()),
        ("sender unknown", |s, _| s.sender = "dbt".into()),
        ("recipient", |s, _| s.recipient = "dfe".into()),
        ("agreement", |s, _| s.agreement = "other".into()),
        ("digest", |s, _| s.agreement_digest = "00".into()),
        ("purpose, also covered", |s, _| s.domain.as_mut().unwrap().purpose = "opportunity.measure".into()),
        ("purpose, not covered", |s, _| s.domain.as_mut().unwrap().purpose = "health".into()),
        ("mission", |s, _| s.domain.as_mut().unwrap().mission = "health".into()),
        ("epoch", |s, _| s.domain.as_mut().unwrap().epoch += 1),
        ("no domain", |s, _| s.domain = None),
        ("encapsulated", |s, _| s.encapsulated[3] ^= 1),
        ("encapsulated cut", |s, _| s.encapsulated.truncate(31)),
        ("ciphertext", |s, _| s.ciphertext[0] ^= 1),
        ("ciphertext's tag", |s, _| *s.ciphertext.last_mut().unwrap() ^= 1),
        ("ciphertext empty", |s, _| s.ciphertext.clear()),
    ];
    for (what, change) in changes {
        let mut sealed = good.clone();
        change(&mut sealed, &pair);
        let refusal = pair.accept(&sealed).unwrap_err();
        assert!(matches!(refusal.code, Code::Denied | Code::Invalid), "{what}: {refusal}");
        assert_eq!(pair.dwp.0.store.key(&pair.domain()).unwrap().map(|_| ()), None, "{what}: nothing was kept");
    }
    pair.accept(&good).unwrap();
}

#[test]
fn a_key_made_by_the_relay_is_not_accepted() {
    let pair = Pair::new();
    let good = pair.seal(&pair.request()).unwrap();
    let recipient = Public::from_bytes(&pair.dwp.0.public()).unwrap();
    let info = binding(&pair.domain(), pair.agreement(), &name("dfe"), &name("dwp"));
    let forger = &pair.stranger.keypair;
    let mode = OpModeS::Auth((forger.private.clone(), forger.public.clone()));
    let (encapsulated, ciphertext) =
        hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(&mode, &recipient, &info, &[7; 32], &[]).unwrap();
    let forged = v1::SealedKey { encapsulated: encapsulated.to_bytes().to_vec(), ciphertext, ..good };
    assert_eq!(pair.accept(&forged).unwrap_err().code, Code::Denied);
    let openly = v1::SealedKey { sender_key: pair.stranger.public().to_vec(), ..forged };
    assert_eq!(pair.accept(&openly).unwrap_err().code, Code::Denied);
}

#[test]
fn another_key_of_a_known_domain_is_refused() {
    let pair = Pair::new();
    let given = pair.dwp.1.members(&pair.domain(), pair.now);
    pair.dwp.0.store.keep(&pair.domain(), Kept { key: DomainKey::new([1; 32]), given, end: NaiveDate::MAX }).unwrap();
    let refusal = pair.accept(&pair.seal(&pair.request()).unwrap()).unwrap_err();
    assert_eq!(refusal.code, Code::Replayed);
    assert!(refusal.advice.unwrap().contains("raise `rotation`"));
    assert!(pair.dwp.0.store.key(&pair.domain()).unwrap().unwrap().key == DomainKey::new([1; 32]));
}

#[test]
fn neighbouring_epochs_are_taken_at_their_boundary_only() {
    let mut pair = Pair::new();
    let epoch = i64::from(pair.domain().epoch);
    let start = DateTime::from_timestamp(epoch * 90 * 86_400, 0).unwrap();
    for (seconds, shift, taken) in [(0, 0, true), (30, -1, true), (61, -1, false), (-30, 1, true), (-61, 1, false), (61, 0, true)] {
        pair.now = start + TimeDelta::seconds(seconds);
        let mut request = pair.request();
        let domain = request.domain.as_mut().unwrap();
        domain.epoch = domain.epoch.checked_add_signed(shift).unwrap();
        assert_eq!(pair.seal(&request).is_ok(), taken, "{seconds} s, {shift:+}");
    }
}

fn rotated(text: &str, rotation: u32) -> String {
    text.replacen("keyholder = \"dfe\"", &format!("keyholder = \"dfe\", rotation = {rotation}"), 1)
}

#[test]
fn a_rotation_has_another_key_and_pseudonyms_of_the_two_do_not_match() {
    use crate::pseudonym::Pseudonyms;
    use concordat_policy::IdentifierType;
    let mut pair = Pair::new();
    pair.accept(&pair.seal(&pair.request()).unwrap()).unwrap();
    let made = |pair: &Pair| Pseudonyms::derive(&pair.key(&pair.dwp).unwrap(), &pair.domain(), &IdentifierType::Nino).one("AB123456C");
    let before = (pair.request(), pair.seal(&pair.request()).unwrap(), made(&pair));

    pair.agree(|text| rotated(text, 1));
    assert_eq!(pair.key(&pair.dwp).map(drop).unwrap_err().code, Code::NodeRefused, "the new key has not come yet");
    // What was sealed or asked under the old text is of no use.
    assert_eq!((pair.accept(&before.1).unwrap_err().code, pair.seal(&before.0).unwrap_err().code), (Code::Denied, Code::Denied));
    pair.accept(&pair.seal(&pair.request()).unwrap()).unwrap();
    assert!(pair.key(&pair.dwp).unwrap() == pair.key(&pair.dfe).unwrap());
    assert_ne!(made(&pair), before.2);
}
