//! The issuers whose tokens are accepted, their keys, and what their tokens say.
//!
//! A token names its issuer (compared byte for byte), its `kid` chooses one of that issuer's keys, the strict wrapper of
//! `proto/src/token.rs` verifies it, and the issuer's own mapping turns its claims into a [`Verified`]:
//!
//! ```text
//! iss ─▶ Issuer ── kid ─▶ VerifyingKey ── verify_bearer ─▶ claims ── Mapping ─▶ Verified { issuer, subject, organisation, roles }
//!           ▲
//!           └ keys: a file that is read again every 2 s, or OIDC discovery: every 15 s and when a kid is not known
//! ```
//!
//! Invariants
//! - One issuer's keys never verify a token that names another; an organisation comes from an issuer that may speak for it.
//! - Withdrawn keys are gone within 30 s, while the issuer answers; while it does not, the last good ones count for
//!   `keep_keys_seconds` and no longer.
//! - However many tokens with unknown `kid`s arrive, they cause one fetch in 10 s and nothing is kept of them.

mod claims;
mod config;
mod issuer;
mod keys;
mod source;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use concordat_policy::{Code, Refusal};
use concordat_proto::token::{self, Bearer, Reason};

pub(crate) use self::claims::{TokenId, Verified};
pub(crate) use self::config::{IssuerConfig, IssuerFile, check};
use self::issuer::Issuer;
pub(crate) use self::source::{chain, client, permitted};

/// Every issuer whose tokens are accepted.
#[derive(Debug)]
pub(crate) struct Issuers {
    all: Vec<Arc<Issuer>>,
}

/// What there is to say of an issuer's keys, for readiness and operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IssuerState {
    /// Its name: `iss`.
    pub(crate) issuer: String,
    /// How many keys may be used now; none once the last good ones are too old.
    pub(crate) keys: usize,
    /// How long ago they were fetched or read.
    pub(crate) age: Option<Duration>,
    /// Why the last attempt failed, if it did.
    pub(crate) fault: Option<String>,
}

/// Why a token is not believed.
#[derive(Debug)]
enum Doubt {
    /// Because of the token.
    Token(Reason),
    /// Because its issuer cannot be asked for keys; why not, for the operator.
    Unreachable(String),
}

impl From<Reason> for Doubt {
    fn from(reason: Reason) -> Self {
        Self::Token(reason)
    }
}

impl Issuers {
    /// Prepares every issuer and reads the key sets that are files. Network keys are fetched by [`Issuers::refresh`],
    /// [`Issuers::watch`] or the first token: a gateway starts without an issuer that is down.
    ///
    /// # Errors
    /// A report, when a key set's file cannot be read or holds no key that may be used.
    pub(crate) fn load(configs: &[IssuerConfig]) -> miette::Result<Self> {
        let all = configs.iter().map(|config| Issuer::load(config).map(Arc::new)).collect::<miette::Result<Vec<_>>>()?;
        Ok(Self { all })
    }

    /// Keeps the keys fresh, as long as `self` lives. Needs a runtime.
    pub(crate) fn watch(&self) {
        self.all.iter().for_each(Issuer::watch);
    }

    /// Fetches every issuer's keys once, now. What came of it stands in [`Issuers::state`].
    pub(crate) async fn refresh(&self) {
        futures::future::join_all(self.all.iter().map(|issuer| issuer.refresh())).await;
    }

    /// The state of every issuer's keys, in the configuration's order.
    pub(crate) fn state(&self) -> Vec<IssuerState> {
        self.all.iter().map(|issuer| issuer.state()).collect()
    }

    /// Verifies a token.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`].
    pub(crate) async fn verify(&self, token: &str, now: i64) -> Result<Verified, Refusal> {
        let issuer = self.issuer_of(token).map_err(|reason| refusal(Doubt::Token(reason), ""))?;
        let config = &issuer.config;
        let claims = async {
            let key = issuer.key(token::key_id(token)?.as_deref()).await?;
            let bearer = Bearer {
                issuer: &config.issuer,
                audience: &config.audience,
                max_lifetime: config.max_lifetime_seconds,
                kind: config.kind,
                begins: config.begins,
            };
            Ok::<_, Doubt>(token::verify_bearer(token, &key, &bearer, now)?)
        };
        let claims = claims.await.map_err(|doubt| refusal(doubt, &config.issuer))?;
        config.mapping.verified(&config.issuer, &claims, token)
    }

    /// Whether a token names a key that is held: the only kind that is looked at while its sender's address floods. Nothing is
    /// fetched and no signature is looked at.
    pub(crate) fn holds_key_of(&self, token: &str) -> bool {
        let (Ok(issuer), Ok(kid)) = (self.issuer_of(token), token::key_id(token)) else { return false };
        issuer.holds(kid.as_deref())
    }

    fn issuer_of(&self, token: &str) -> Result<&Arc<Issuer>, Reason> {
        let name = token::issuer(token)?;
        self.all.iter().find(|issuer| issuer.config.issuer == name).ok_or(Reason::Issuer)
    }
}

fn refusal(doubt: Doubt, issuer: &str) -> Refusal {
    match doubt {
        Doubt::Token(reason) => Refusal::new(Code::Unauthenticated, "the bearer token is not valid").advice(reason.hint()).operator(reason),
        Doubt::Unreachable(fault) => Refusal::new(
            Code::Unauthenticated,
            format!("the bearer token cannot be checked: its issuer '{issuer}' cannot be reached, and no key of it is fresh enough"),
        )
        .advice("try again when the identity provider answers; the gateway's operator can see why it does not")
        .operator(fault),
    }
}
