//! Linkage keys: made by an agreement's keyholder, sealed to the other parties, relayed by the gateway as ciphertext.
//!
//! ```text
//! keyholder                          gateway                         party
//! key of the domain ── Seal ──▶ SealedKey (ciphertext) ── Accept ──▶ key of the domain
//!   checks the recipient's key                                checks the sender's key
//!   against its own agreement                                 against its own agreement
//! ```
//!
//! HPKE in Auth mode (RFC 9180: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305). `info` is the framed encoding of
//! a label, the domain, the agreement and its digest, sender and recipient, so that a ciphertext opens for nobody else, from nobody else and
//! for nothing else. Both public keys must have the fingerprints that stand in each side's own agreement, or their successors': a relay that
//! substitutes a key, a recipient or a sender is refused before any cryptography, and by it.
//!
//! A key is made once, when it is first sealed, kept in a private folder (durable before use; [`AtRest`] says how) and never replaced.
//! A keyholder that lost one makes another, which nobody who holds the first accepts: the parties rotate.
//!
//! Keys of domains that ended an epoch ago are removed when the next one comes, at the start, and when agreements are read again; those
//! of domains to which no agreement leads any more once their epoch has ended.
//!
//! Beside each key stands who may have been given it, by which linkage key. Nobody uses the key of a domain that somebody may hold
//! who is no party any more of an agreement that binds, or by a linkage key that was replaced, in the text or by a succession: whoever
//! was removed, or lost control of a linkage key, can compute no pseudonym that is still in use.

mod store;

use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use concordat_policy::agreement::{Agreement, Fingerprint};
use concordat_policy::{Code, LinkageDomain, Name, Refusal};
use concordat_proto::order::NO_LINKAGE_KEY;
use concordat_proto::v1;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _};
use zeroize::Zeroizing;

use self::store::Kept;
use self::store::Store;
pub(crate) use self::store::unhex;
pub use self::store::{Shown, StoreError};
use crate::agreements::Agreements;
use crate::at_rest::AtRest;
use crate::framing::framed;
use crate::pseudonym::DomainKey;

/// Under which the department's own private key is encrypted at rest.
pub(crate) const KEYPAIR: &str = "linkage key of the department";
const LABEL: &[u8] = b"concordat linkage key v1";

type Private = <X25519HkdfSha256 as Kem>::PrivateKey;
type Public = <X25519HkdfSha256 as Kem>::PublicKey;
type Encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey;

/// The department's X25519 key pair.
pub struct Keypair {
    private: Private,
    public: Public,
}

impl std::fmt::Debug for Keypair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keypair")
    }
}

impl Keypair {
    /// Reads a raw private key of 64 hex digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(unhex(text)?);
        let private = Private::from_bytes(bytes.as_slice()).ok()?;
        let public = X25519HkdfSha256::sk_to_pk(&private);
        Some(Self { private, public })
    }

    /// The raw public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.public.to_bytes().into()
    }
}

/// The department's linkage keys.
#[derive(Debug)]
pub struct LinkageKeys {
    keypair: Keypair,
    store: Store,
}

impl LinkageKeys {
    /// Opens (or creates) the store under `state`.
    ///
    /// # Errors
    /// [`StoreError`] when the folder cannot be made private.
    pub fn open(keypair: Keypair, at_rest: AtRest, state: &Path) -> Result<Self, StoreError> {
        Ok(Self { keypair, store: Store::open(&folder(state), at_rest)? })
    }

    /// The raw public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.keypair.public()
    }

    /// Makes the key of a domain for the parties of an agreement, as sealing it would.
    #[cfg(test)]
    pub(crate) fn make(&self, domain: &LinkageDomain, agreement: &Agreement) -> Result<(), StoreError> {
        let parties = agreement.parties.iter().map(|party| (party.department.clone(), party.linkage_key.clone()));
        self.store.key_or_new(domain, &parties.collect(), end(agreement, domain)).map(drop)
    }

    /// The key of `domain`, for releases. None is made here: who has lost it must not go on with another. Blocks on files.
    ///
    /// # Errors
    /// [`Code::NodeRefused`] when the key has not arrived yet, [`Code::Denied`] when somebody may hold it who is no party any more.
    pub fn key(
        &self,
        agreements: &Agreements,
        agreement: &Agreement,
        domain: &LinkageDomain,
        now: DateTime<Utc>,
    ) -> Result<DomainKey, Refusal> {
        let kept = self.store.key(domain).map_err(Refusal::internal)?.ok_or_else(|| {
            Refusal::new(Code::NodeRefused, NO_LINKAGE_KEY)
                .department(agreements.department())
                .advice(format!("ask again: the gateway then brings it from '{}'", agreement.linkage.keyholder))
        })?;
        self.still_among_parties(agreements, agreement, domain, kept, begun(agreement, domain, now))
    }

    /// The key, if everybody who may have been given it is a party by that linkage key. First notes who may be given it from now on and,
    /// where another department seals it, who may have been meanwhile.
    fn still_among_parties(
        &self,
        agreements: &Agreements,
        agreement: &Agreement,
        domain: &LinkageDomain,
        kept: Kept,
        now: DateTime<Utc>,
    ) -> Result<DomainKey, Refusal> {
        let members = agreements.members(domain, now);
        let own = agreement.linkage.keyholder == *agreements.department();
        let new = if own { members.clone() } else { agreements.once_members(domain, now) };
        if !new.is_subset(&kept.given) {
            self.store.give(domain, &new).map_err(Refusal::internal)?;
        }
        let mut given = kept.given.union(&new);
        if let Some((department, _)) = given.find(|one| !members.contains(*one)) {
            let how = if members.iter().any(|(member, _)| member == department) {
                "by a linkage key that it has replaced"
            } else {
                "which is no party any more of an agreement that is in force"
            };
            return Err(agreements.denied(format!("the key of the linkage domain may be held by '{department}', {how}")).advice(format!(
                "the parties raise `rotation` in the agreement '{}' and sign it: `concordat-node linkage rotate` writes the text",
                agreement.id
            )));
        }
        Ok(kept.key)
    }

    /// Removes the keys of domains that have ended ([`Agreements::ended`]): what cannot be read any more inverts no pseudonym. Blocks on
    /// files.
    pub(crate) fn forget_ended(&self, agreements: &Agreements, now: DateTime<Utc>) {
        match self.store.forget(|domain, end| agreements.ended(domain, end, now)) {
            Ok(0) => {}
            Ok(count) => tracing::info!(linkage.keys = count, "keys of linkage domains that have ended are removed"),
            Err(e) => tracing::warn!(cause = %e, "keys of linkage domains that have ended cannot be removed"),
        }
    }

    /// Seals the domain's key to one party. Blocks on files.
    ///
    /// # Errors
    /// A [`Refusal`] where request, recipient or recipient's key are not what the own agreement says.
    pub fn seal(&self, request: &v1::SealRequest, agreements: &Agreements, now: DateTime<Utc>) -> Result<v1::SealedKey, Refusal> {
        let own = agreements.department();
        let agreement = agreements.find(&request.agreement, &request.agreement_digest, now)?;
        let domain = agreements.domain(agreement, request.domain.as_ref(), now)?;
        let now = begun(agreement, &domain, now);
        if agreement.linkage.keyholder != *own {
            return Err(
                agreements.denied(format!("'{}' keeps the linkage keys of this agreement, not '{own}'", agreement.linkage.keyholder))
            );
        }
        let recipient = party(agreements, agreement, (&request.recipient, &request.recipient_key), now)?;
        let public = Public::from_bytes(&request.recipient_key).map_err(Refusal::internal)?;
        self.forget_ended(agreements, now);
        let members = agreements.members(&domain, now);
        let kept = self.store.key_or_new(&domain, &members, end(agreement, &domain)).map_err(Refusal::internal)?;
        let key = self.still_among_parties(agreements, agreement, &domain, kept, now)?;
        let mode = OpModeS::Auth((self.keypair.private.clone(), self.keypair.public.clone()));
        let info = binding(&domain, agreement, own, &recipient);
        let (encapsulated, ciphertext) =
            hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(&mode, &public, &info, key.bytes(), &[])
                .map_err(Refusal::internal)?;
        Ok(v1::SealedKey {
            domain: Some(v1::Domain::from(&domain)),
            agreement: agreement.id.to_string(),
            agreement_digest: agreement.digest.clone(),
            sender: own.to_string(),
            sender_key: self.public().to_vec(),
            recipient: recipient.to_string(),
            encapsulated: encapsulated.to_bytes().to_vec(),
            ciphertext,
        })
    }

    /// Opens a sealed key and keeps it. Blocks on files.
    ///
    /// # Errors
    /// A [`Refusal`] where sender, recipient, keys or ciphertext are not what the own agreement says, or another key of the
    /// domain is known.
    pub fn accept(&self, sealed: &v1::SealedKey, agreements: &Agreements, now: DateTime<Utc>) -> Result<(), Refusal> {
        let own = agreements.department();
        let agreement = agreements.find(&sealed.agreement, &sealed.agreement_digest, now)?;
        let domain = agreements.domain(agreement, sealed.domain.as_ref(), now)?;
        let now = begun(agreement, &domain, now);
        if sealed.recipient != own.as_str() {
            return Err(agreements.denied("the key is sealed for another department"));
        }
        if sealed.sender != agreement.linkage.keyholder.as_str() || sealed.sender == own.as_str() {
            return Err(agreements.denied(format!("only '{}' may send linkage keys of this agreement", agreement.linkage.keyholder)));
        }
        let sender = party(agreements, agreement, (&sealed.sender, &sealed.sender_key), now)?;
        let unsound = || agreements.denied("the sealed key does not open: it was altered, or made for something else");
        let sender_key = Public::from_bytes(&sealed.sender_key).map_err(|_| unsound())?;
        let encapsulated = Encapsulated::from_bytes(&sealed.encapsulated).map_err(|_| unsound())?;
        let info = binding(&domain, agreement, &sender, own);
        let opened = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Auth(sender_key),
            &self.keypair.private,
            &encapsulated,
            &info,
            &sealed.ciphertext,
            &[],
        );
        let opened = Zeroizing::new(opened.map_err(|_| unsound())?);
        let key = DomainKey::new(opened.as_slice().try_into().map_err(|_| unsound())?);
        self.forget_ended(agreements, now);
        let new = Kept { key: key.clone(), given: agreements.once_members(&domain, now), end: end(agreement, &domain) };
        let kept = self.store.keep(&domain, new).map_err(Refusal::internal)?;
        if kept.key == key {
            return self.still_among_parties(agreements, agreement, &domain, kept, now).map(drop);
        }
        Err(Refusal::new(Code::Replayed, "this department already holds another key of the linkage domain").department(own).advice(
            "nothing was replaced. Where the keyholder has lost its key, the parties raise `rotation` in the agreement, and sign it",
        ))
    }
}

/// What lies in `state`, by the names of domains. Makes nothing.
///
/// # Errors
/// [`StoreError`] for the first file that cannot be read.
pub fn kept(state: &Path, at_rest: &AtRest) -> Result<Vec<Shown>, StoreError> {
    Store::at(&folder(state), at_rest.clone()).list()
}

/// Writes the keys anew that lie in `state` in clear, or as `before` kept them. Gives how many there were.
///
/// # Errors
/// [`StoreError`] for the first file that cannot be read or replaced; it can be repeated.
pub(crate) fn protect(state: &Path, at_rest: &AtRest, before: &AtRest) -> Result<usize, StoreError> {
    Store::at(&folder(state), at_rest.clone()).protect(before)
}

/// The first day after a domain's epoch; one that never comes where no date is late enough.
fn end(agreement: &Agreement, domain: &LinkageDomain) -> NaiveDate {
    domain.days(&agreement.linkage).map_or(NaiveDate::MAX, |days| days.end)
}

/// When a domain is judged: clocks differ, and whoever asks for one a moment early must not bring into it what ends with the last.
fn begun(agreement: &Agreement, domain: &LinkageDomain, now: DateTime<Utc>) -> DateTime<Utc> {
    let begin = domain.days(&agreement.linkage).map(|days| days.start.and_time(NaiveTime::MIN).and_utc());
    begin.map_or(now, |begin| now.max(begin))
}

fn folder(state: &Path) -> PathBuf {
    state.join("linkage")
}

/// The party that `name` is, if `key` has the fingerprint that the own agreement states for it, or that of its successor.
fn party(agreements: &Agreements, agreement: &Agreement, (name, key): (&str, &[u8]), now: DateTime<Utc>) -> Result<Name, Refusal> {
    let party = agreement.parties.iter().find(|party| party.department.as_str() == name);
    let Some(party) = party else {
        return Err(agreements.denied(format!("the agreement '{}' has no such party", agreement.id)));
    };
    if !agreements.links(agreement, &party.department, &Fingerprint::of(key), now) {
        return Err(agreements
            .denied(format!("the linkage key presented for '{}' is not the one in the agreement", party.department))
            .advice("the agreement's fingerprint decides; whoever relayed the key may have replaced it"));
    }
    Ok(party.department.clone())
}

fn binding(domain: &LinkageDomain, agreement: &Agreement, sender: &Name, recipient: &Name) -> Vec<u8> {
    framed(&[
        LABEL,
        domain.to_string().as_bytes(),
        agreement.id.as_str().as_bytes(),
        agreement.digest.as_bytes(),
        sender.as_str().as_bytes(),
        recipient.as_str().as_bytes(),
    ])
}

#[cfg(test)]
mod tests;
