//! Who is calling. A bearer token of a known issuer, verified strictly (`concordat_proto::token`), becomes a [`Caller`].

use std::collections::{BTreeSet, HashMap};
use std::ops::Deref;

use concordat_policy::{Code, Name, Refusal, authorize};
use concordat_proto::status::{MISSION, PURPOSE};
use concordat_proto::token::{self, Expected, Reason, VerifyingKey};
use jsonwebtoken::jwk::JwkSet;
use miette::miette;
use serde_json::{Map, Value};
use tonic::metadata::MetadataMap;

use crate::config::{IssuerConfig, read};

/// An authenticated caller. Only [`Issuers::authenticate`] makes one.
#[derive(Debug, Clone)]
pub struct Caller {
    known: authorize::Caller,
    mission: Option<Name>,
}

impl Deref for Caller {
    type Target = authorize::Caller;
    fn deref(&self) -> &authorize::Caller {
        &self.known
    }
}

impl Caller {
    /// The mission that the caller stated, where the purpose leads to several.
    #[must_use]
    pub fn mission(&self) -> Option<&Name> {
        self.mission.as_ref()
    }
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

    /// Authenticates a request by its metadata: `authorization`, `x-concordat-purpose`, `x-concordat-mission`.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`] without a valid token; [`Code::Invalid`] without exactly one purpose.
    pub(crate) fn authenticate(&self, metadata: &MetadataMap, now: i64) -> Result<Caller, Refusal> {
        let token = bearer(metadata)?;
        let (claims, config) = self.verify(token, now).map_err(|reason| {
            Refusal::new(Code::Unauthenticated, "the bearer token is not valid").advice(reason.hint()).operator(reason)
        })?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned);
        let lacks = |what: &str| {
            Refusal::new(Code::Unauthenticated, format!("the bearer token names no {what}")).advice("ask the issuer to add the claim")
        };
        let roles = claims.get(&config.roles_claim).and_then(Value::as_array).ok_or_else(|| lacks("roles"))?;
        let known = authorize::Caller {
            subject: text("sub").ok_or_else(|| lacks("subject"))?,
            organisation: text(&config.organisation_claim).ok_or_else(|| lacks("organisation"))?,
            roles: roles.iter().filter_map(Value::as_str).map(str::to_owned).collect::<BTreeSet<_>>(),
            purpose: purpose(header(metadata, PURPOSE)?, text(&config.purpose_claim))?,
        };
        let mission = header(metadata, MISSION)?
            .map(|m| Name::parse(m).map_err(|e| Refusal::new(Code::Invalid, format!("the mission: {e}"))))
            .transpose()?;
        Ok(Caller { known, mission })
    }

    fn verify(&self, token: &str, now: i64) -> Result<(Map<String, Value>, &IssuerConfig), Reason> {
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

fn bearer(metadata: &MetadataMap) -> Result<&str, Refusal> {
    let missing = || {
        Refusal::new(Code::Unauthenticated, "the request has no bearer token")
            .advice("send the header 'authorization: Bearer …'; `concordat token` makes one for the demo")
    };
    let mut values = metadata.get_all("authorization").iter();
    let (value, more) = (values.next(), values.next());
    if more.is_some() {
        return Err(Refusal::new(Code::Unauthenticated, "the request has several authorization headers").advice("send one"));
    }
    let text = value.and_then(|v| v.to_str().ok()).ok_or_else(missing)?;
    let (scheme, token) = text.split_once(' ').ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(missing()) }
}

fn header<'m>(metadata: &'m MetadataMap, name: &str) -> Result<Option<&'m str>, Refusal> {
    let mut values = metadata.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(Refusal::new(Code::Invalid, format!("the header {name} stands twice")).advice("one request has exactly one"));
    }
    value.map(|v| v.to_str().map_err(|_| Refusal::new(Code::Invalid, format!("the header {name} is no ASCII text")))).transpose()
}

/// Exactly one purpose: where the token binds one, the header may only repeat it.
fn purpose(header: Option<&str>, claim: Option<String>) -> Result<Name, Refusal> {
    let text = match (header, &claim) {
        (Some(header), Some(claim)) if header != claim => {
            return Err(Refusal::new(Code::Denied, "the token is bound to another purpose than the one declared")
                .advice("leave the header out, or get a token for the other purpose"));
        }
        (Some(text), _) => text,
        (None, Some(text)) => text.as_str(),
        (None, None) => {
            return Err(Refusal::new(Code::Invalid, "the request declares no purpose")
                .advice("send the header x-concordat-purpose; one request has exactly one purpose"));
        }
    };
    Name::parse(text).map_err(|e| Refusal::new(Code::Invalid, format!("the declared purpose: {e}")))
}
