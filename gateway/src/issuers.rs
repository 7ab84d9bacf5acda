//! The issuers whose tokens are accepted, and their keys.

use std::collections::{BTreeSet, HashMap};

use concordat_policy::{Code, Refusal};
use concordat_proto::token::{self, Expected, Reason, VerifyingKey};
use jsonwebtoken::jwk::JwkSet;
use miette::miette;
use serde_json::{Map, Value};

use crate::config::{IssuerConfig, read};

/// What a verified token says of its bearer.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    pub(crate) subject: String,
    pub(crate) organisation: String,
    pub(crate) roles: BTreeSet<String>,
    /// The purpose to which the token is bound, as text.
    pub(crate) purpose: Option<String>,
}

/// Every issuer whose tokens are accepted.
#[derive(Debug)]
pub(crate) struct Issuers {
    all: Vec<Issuer>,
}

#[derive(Debug)]
struct Issuer {
    config: IssuerConfig,
    keys: HashMap<String, VerifyingKey>,
}

impl Issuers {
    /// Reads the issuers' key sets.
    ///
    /// # Errors
    /// A report, when a key set cannot be read or holds no key that may be used.
    pub(crate) fn load(configs: &[IssuerConfig]) -> miette::Result<Self> {
        let all = configs.iter().map(Issuer::load).collect::<miette::Result<Vec<_>>>()?;
        Ok(Self { all })
    }

    /// Verifies a token.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`].
    pub(crate) async fn verify(&self, token: &str, now: i64) -> Result<Verified, Refusal> {
        let (claims, config) = self.claims(token, now).map_err(|reason| {
            Refusal::new(Code::Unauthenticated, "the bearer token is not valid").advice(reason.hint()).operator(reason)
        })?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned);
        let lacks = |what: &str| {
            Refusal::new(Code::Unauthenticated, format!("the bearer token names no {what}")).advice("ask the issuer to add the claim")
        };
        let roles = claims.get(&config.roles_claim).and_then(Value::as_array).ok_or_else(|| lacks("roles"))?;
        Ok(Verified {
            subject: text("sub").ok_or_else(|| lacks("subject"))?,
            organisation: text(&config.organisation_claim).ok_or_else(|| lacks("organisation"))?,
            roles: roles.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            purpose: text(&config.purpose_claim),
        })
    }

    fn claims(&self, token: &str, now: i64) -> Result<(Map<String, Value>, &IssuerConfig), Reason> {
        let name = token::issuer(token)?;
        let issuer = self.all.iter().find(|i| i.config.issuer == name).ok_or(Reason::Issuer)?;
        let key = issuer.key(token::key_id(token)?.as_deref())?;
        let expected =
            Expected { typ: "JWT", issuer: &name, audience: &issuer.config.audience, max_lifetime: issuer.config.max_lifetime_seconds };
        Ok((token::verify(token, key, &expected, now)?, &issuer.config))
    }
}

impl Issuer {
    fn load(config: &IssuerConfig) -> miette::Result<Self> {
        let set: JwkSet = serde_json::from_str(&read(&config.jwks)?)
            .map_err(|e| miette!(help = "it must be a JSON Web Key set: {\"keys\":[…]}", "{}: {e}", config.jwks.display()))?;
        let keys: HashMap<String, VerifyingKey> =
            set.keys.iter().filter_map(|jwk| jwk.common.key_id.clone().zip(VerifyingKey::jwk(jwk))).collect();
        if keys.is_empty() {
            return Err(miette!(
                help = "each key needs a kid and, for RSA, an alg; symmetric keys are not accepted",
                "{}: no key of issuer '{}' may be used",
                config.jwks.display(),
                config.issuer
            ));
        }
        Ok(Self { config: config.clone(), keys })
    }

    /// The key that a token names; a token may leave `kid` out where the issuer has one key.
    fn key(&self, kid: Option<&str>) -> Result<&VerifyingKey, Reason> {
        match kid {
            Some(kid) => self.keys.get(kid),
            None if self.keys.len() == 1 => self.keys.values().next(),
            None => None,
        }
        .ok_or(Reason::UnknownKey)
    }
}
