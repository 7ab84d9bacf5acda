//! What is known of bearer tokens before their signatures are looked at: an address that has sent many bad ones is refused
//! without a look at the next. Tokens that verified a short while ago pass on to verification all the same, so that callers
//! who share the address with a flood go on working.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use concordat_policy::{Code, Refusal};
use sha2::{Digest as _, Sha256};

use super::rate::{Flow, Rate};
use super::refusals::Source;

/// Bad tokens of one address: so many at once, then so many a second.
const BAD: Flow = Flow { per_second: 50.0, burst: 500.0 };
/// Tokens of a flooding address that name a key that is held.
const PLAUSIBLE: Flow = Flow { per_second: 200.0, burst: 200.0 };
/// How long a token that verified is remembered, and how many are.
const REMEMBERED: Duration = Duration::from_secs(900);
const MOST: usize = 8_192;

/// What is known.
#[derive(Debug)]
pub(crate) struct Proofs {
    bad: Rate<Source>,
    plausible: Rate<Source>,
    good: Mutex<HashMap<[u8; 32], Instant>>,
}

impl Proofs {
    pub(super) fn new() -> Self {
        Self { bad: Rate::new(), plausible: Rate::new(), good: Mutex::default() }
    }

    /// Whether the token of a request may be looked at. `plausible` says whether it names a key that is held: such tokens are
    /// looked at even while their address floods, at a pace that costs little, so that who signs in there is not locked out.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`] for addresses that sent too many bad tokens.
    pub(crate) fn look(&self, source: &Source, token: &[u8], plausible: impl FnOnce() -> bool, now: Instant) -> Result<(), Refusal> {
        if !self.bad.is_empty(source, now) || self.verified_lately(token, now) {
            return Ok(());
        }
        if plausible() && self.plausible.take(source, PLAUSIBLE, now).is_ok() {
            return Ok(());
        }
        Err(Refusal::new(Code::LimitExceeded, "too many requests without a valid bearer token came from this address")
            .advice("try again in a minute, with a valid token")
            .operator("too many bad tokens"))
    }

    /// A token did not verify.
    pub(crate) fn bad(&self, source: &Source, now: Instant) {
        // More than can be counted are refused all the same.
        let _ = self.bad.take(source, BAD, now);
    }

    /// A token verified.
    pub(crate) fn good(&self, token: &[u8], now: Instant) {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.len() >= MOST {
            good.retain(|_, since| now.saturating_duration_since(*since) < REMEMBERED);
        }
        if good.len() < MOST {
            good.insert(Sha256::digest(token).into(), now);
        }
    }

    fn verified_lately(&self, token: &[u8], now: Instant) -> bool {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.get(&digest).is_some_and(|since| now.saturating_duration_since(*since) < REMEMBERED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    #[test]
    fn a_flooding_address_is_cut_off_and_known_tokens_are_not() {
        let proofs = Proofs::new();
        let start = Instant::now();
        let source = |last| Source::of(Some(IpAddr::from([192, 0, 2, last])));
        proofs.good(b"good", start);
        for _ in 0..500 {
            proofs.look(&source(1), b"bad", || false, start).unwrap();
            proofs.bad(&source(1), start);
        }
        assert_eq!(proofs.look(&source(1), b"bad", || false, start).unwrap_err().code, Code::LimitExceeded);
        proofs.look(&source(1), b"good", || false, start).unwrap();
        assert!(proofs.look(&source(1), b"new", || true, start).is_ok(), "it names a key that is held");
        assert!((0..1_000).any(|_| proofs.look(&source(1), b"new", || true, start).is_err()), "at a pace");
        proofs.look(&source(2), b"bad", || false, start).unwrap();
        proofs.look(&source(1), b"bad", || false, start + Duration::from_secs(1)).unwrap();
        assert!(proofs.look(&source(1), b"good", || false, start + REMEMBERED).is_ok(), "the address is quiet by then");
        for i in 0..2 * MOST {
            proofs.good(&i.to_be_bytes(), start);
        }
        assert!(proofs.good.lock().unwrap().len() <= MOST);
    }
}
