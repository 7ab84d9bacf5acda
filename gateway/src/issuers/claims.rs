//! From a verified token's claims to who its bearer is, as the issuer's configuration says.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use concordat_policy::{Code, Refusal};
use serde::Deserialize;
use serde_json::{Map, Value};

/// What a verified token says of its bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verified {
    /// The issuer. `subject` is a name of its own making: only both together name somebody.
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) organisation: String,
    pub(crate) roles: BTreeSet<String>,
    /// The purpose to which the token is bound, as text.
    pub(crate) purpose: Option<String>,
    /// When the token expires, in Unix seconds.
    pub(crate) expires: i64,
    /// Until when the bearer's training counts, for guard rails.
    pub(crate) training_until: Option<DateTime<Utc>>,
    /// Which of the bearer's tokens it is.
    pub(crate) token: TokenId,
}

/// What tells one token from another: its `jti`, or where it has none its signature. Only a commitment to it leaves the program.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TokenId(String);

impl std::fmt::Debug for TokenId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenId")
    }
}

impl TokenId {
    pub(crate) fn of(claims: &Map<String, Value>, token: &str) -> Self {
        let signature = || format!("signature {}", token.rsplit('.').next().unwrap_or_default());
        Self(claims.get("jti").and_then(text).map_or_else(signature, |jti| format!("jti {jti}")))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// How an issuer's claims become ours.
#[derive(Debug, Clone)]
pub(super) struct Mapping {
    /// The clients to which tokens may have been issued: `azp` and `client_id`.
    pub(super) clients: Option<BTreeSet<String>>,
    pub(super) organisation: Organisation,
    /// The organisations for which the issuer may speak.
    pub(super) organisations: Option<BTreeSet<String>>,
    pub(super) roles: ClaimPath,
    pub(super) roles_format: RolesFormat,
    /// The issuer's roles by our names; others are dropped.
    pub(super) role_names: Option<BTreeMap<String, String>>,
    pub(super) purpose: ClaimPath,
    pub(super) training_until: ClaimPath,
}

/// Where the organisation stands.
#[derive(Debug, Clone)]
pub(super) enum Organisation {
    /// Nowhere: the issuer serves one.
    Fixed(String),
    /// In a claim.
    Claim(ClaimPath),
}

/// How roles stand in their claim.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RolesFormat {
    /// A list of texts.
    #[default]
    List,
    /// One text, separated by spaces.
    Text,
}

/// The way to a claim: `realm_access.roles` in the configuration, or a list of segments where a name has dots itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PathText")]
pub(super) struct ClaimPath {
    segments: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PathText {
    Dotted(String),
    Segments(Vec<String>),
}

impl TryFrom<PathText> for ClaimPath {
    type Error = &'static str;

    fn try_from(text: PathText) -> Result<Self, Self::Error> {
        let segments = match text {
            PathText::Dotted(text) => text.split('.').map(str::to_owned).collect(),
            PathText::Segments(segments) => segments,
        };
        if segments.is_empty() || segments.iter().any(String::is_empty) {
            return Err("a claim's path has an empty segment; write a name, a dotted path, or a list of segments");
        }
        Ok(Self { segments })
    }
}

impl ClaimPath {
    /// A claim at the top.
    pub(super) fn name(name: &str) -> Self {
        Self { segments: vec![name.to_owned()] }
    }

    fn find<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value> {
        let (first, rest) = self.segments.split_first()?;
        rest.iter().try_fold(claims.get(first)?, |value, segment| value.as_object()?.get(segment))
    }
}

impl Mapping {
    /// Who the bearer of `token` is, which holds these claims.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`] when a claim is missing or has another form, or names what the issuer may not name.
    pub(super) fn verified(&self, issuer: &str, claims: &Map<String, Value>, token: &str) -> Result<Verified, Refusal> {
        self.check_client(claims)?;
        Ok(Verified {
            issuer: issuer.to_owned(),
            subject: claims.get("sub").and_then(text).ok_or_else(|| lacks("subject"))?,
            organisation: self.organisation(claims)?,
            roles: self.roles(claims)?,
            purpose: match self.purpose.find(claims) {
                None => None,
                // A binding that cannot be read is not one that can be left out.
                Some(bound) => Some(text(bound).ok_or_else(|| unusable("purpose is not a text"))?),
            },
            expires: claims.get("exp").and_then(Value::as_i64).ok_or_else(|| lacks("expiry"))?,
            training_until: match self.training_until.find(claims) {
                None => None,
                Some(said) => {
                    Some(until(said).ok_or_else(|| unusable("end of training is neither a day (2026-12-31) nor a time in Unix seconds"))?)
                }
            },
            token: TokenId::of(claims, token),
        })
    }

    fn check_client(&self, claims: &Map<String, Value>) -> Result<(), Refusal> {
        let Some(clients) = &self.clients else { return Ok(()) };
        let named: Vec<&Value> = ["azp", "client_id"].iter().filter_map(|claim| claims.get(*claim)).collect();
        let known = |client: &&Value| client.as_str().is_some_and(|client| clients.contains(client));
        if named.is_empty() || !named.iter().all(known) {
            return Err(unusable("client (azp, client_id) is not one whose users may come here"));
        }
        Ok(())
    }

    fn organisation(&self, claims: &Map<String, Value>) -> Result<String, Refusal> {
        let path = match &self.organisation {
            Organisation::Fixed(organisation) => return Ok(organisation.clone()),
            Organisation::Claim(path) => path,
        };
        let organisation = path.find(claims).and_then(text).ok_or_else(|| lacks("organisation"))?;
        if self.organisations.as_ref().is_some_and(|all| !all.contains(&organisation)) {
            return Err(unusable("organisation is not one for which its issuer may speak"));
        }
        Ok(organisation)
    }

    fn roles(&self, claims: &Map<String, Value>) -> Result<BTreeSet<String>, Refusal> {
        let claim = self.roles.find(claims).ok_or_else(|| lacks("roles"))?;
        let theirs: Option<Vec<&str>> = match (self.roles_format, claim) {
            (RolesFormat::List, Value::Array(all)) => all.iter().map(Value::as_str).collect(),
            (RolesFormat::Text, Value::String(all)) => Some(all.split(' ').filter(|role| !role.is_empty()).collect()),
            _ => None,
        };
        let theirs = theirs.ok_or_else(|| unusable("roles have another form than the gateway's configuration says"))?;
        Ok(match &self.role_names {
            None => theirs.into_iter().map(str::to_owned).collect(),
            Some(names) => theirs.into_iter().filter_map(|role| names.get(role).cloned()).collect(),
        })
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A time in Unix seconds, or the last moment of a day in UTC. Years have four digits: guard rails know no others.
fn until(value: &Value) -> Option<DateTime<Utc>> {
    let time = match value.as_i64() {
        Some(seconds) => DateTime::from_timestamp(seconds, 0)?,
        None => value.as_str()?.parse::<NaiveDate>().ok()?.and_hms_milli_opt(23, 59, 59, 999)?.and_utc(),
    };
    (0..=9999).contains(&time.year()).then_some(time)
}

fn lacks(what: &str) -> Refusal {
    Refusal::new(Code::Unauthenticated, format!("the bearer token names no {what}"))
        .advice("ask the issuer to add the claim")
        .operator(format!("the token names no {what}"))
}

fn unusable(what: &str) -> Refusal {
    Refusal::new(Code::Unauthenticated, format!("the bearer token's {what}"))
        .advice("ask the issuer, or the gateway's operator, which says what it accepts in [[issuer]]")
        .operator(format!("the token's {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mapping() -> Mapping {
        Mapping {
            clients: None,
            organisation: Organisation::Claim(ClaimPath::name("organisation")),
            organisations: None,
            roles: ClaimPath::name("roles"),
            roles_format: RolesFormat::List,
            role_names: None,
            purpose: ClaimPath::name("purpose"),
            training_until: ClaimPath::name("training_until"),
        }
    }

    fn path(text: &str) -> ClaimPath {
        toml::from_str::<BTreeMap<String, ClaimPath>>(&format!("p = {text}")).unwrap().remove("p").unwrap()
    }

    fn said(mapping: &Mapping, claims: &Value) -> Result<Verified, String> {
        mapping.verified("https://i", claims.as_object().unwrap(), "header.claims.signature").map_err(|refusal| refusal.message)
    }

    fn good() -> Value {
        json!({ "sub": "u", "exp": 9, "organisation": "ons", "roles": ["analyst", "b"] })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = good();
        claims[name] = value;
        claims
    }

    #[test]
    fn claims_become_a_bearer_or_a_sentence() {
        let verified = said(&mapping(), &good()).unwrap();
        assert_eq!((verified.issuer.as_str(), verified.subject.as_str(), verified.expires), ("https://i", "u", 9));
        assert_eq!(verified.roles, BTreeSet::from(["analyst".to_owned(), "b".to_owned()]));
        for (what, claims, says) in [
            ("organisation as a list", with("organisation", json!(["ons"])), "names no organisation"),
            ("empty organisation", with("organisation", json!("")), "names no organisation"),
            ("roles as text", with("roles", json!("analyst")), "roles have another form"),
            ("a role that is no text", with("roles", json!(["analyst", 7])), "roles have another form"),
            ("no roles", with("roles", Value::Null), "roles have another form"),
            ("a purpose that is no text", with("purpose", json!(["p"])), "purpose is not a text"),
            ("an empty purpose", with("purpose", json!("")), "purpose is not a text"),
            ("training until no day", with("training_until", json!("soon")), "end of training is neither"),
            ("training until a day that is none", with("training_until", json!("2026-02-30")), "end of training is neither"),
            ("training beyond all years", with("training_until", json!(i64::MAX)), "end of training is neither"),
            ("training until nothing", with("training_until", Value::Null), "end of training is neither"),
        ] {
            let message = said(&mapping(), &claims).unwrap_err();
            assert!(message.contains(says), "{what}: {message}");
        }
    }

    #[test]
    fn a_token_is_known_by_its_id_or_its_signature() {
        let id = |claims: Value, token: &str| TokenId::of(claims.as_object().unwrap(), token);
        let named = id(with("jti", json!("t-1")), "h.c.s");
        assert_eq!(named, id(with("jti", json!("t-1")), "h.c.other"), "signed again");
        assert_ne!(named, id(with("jti", json!("t-2")), "h.c.s"));
        assert_ne!(id(good(), "h.c.s"), id(good(), "h.c.other"));
        assert_ne!(id(with("jti", json!("s")), "h.c.s"), id(good(), "h.c.s"), "an id that looks like a signature is none");
        assert_eq!(id(with("jti", json!("")), "h.c.s"), id(good(), "h.c.s"), "an empty id is none");
        assert_eq!(format!("{named:?}"), "TokenId");
    }

    #[test]
    fn training_counts_to_the_end_of_its_day() {
        let until = |value: Value| said(&mapping(), &with("training_until", value)).unwrap().training_until.unwrap().to_rfc3339();
        assert_eq!(said(&mapping(), &good()).unwrap().training_until, None);
        assert_eq!(until(json!("2026-12-31")), "2026-12-31T23:59:59.999+00:00");
        assert_eq!(until(json!("9999-12-31")), "9999-12-31T23:59:59.999+00:00");
        assert_eq!(until(json!(1_800_000_000)), "2027-01-15T08:00:00+00:00");
    }

    #[test]
    fn paths_reach_nested_claims_and_names_with_dots() {
        let claims = json!({
            "sub": "u", "exp": 9, "org": { "id": "ons" }, "org.id": "evil", "https://id.example/roles": ["a"],
            "realm_access": { "roles": ["b"] },
        });
        let found = |organisation: &str, roles: &str| {
            let mapping = Mapping { organisation: Organisation::Claim(path(organisation)), roles: path(roles), ..mapping() };
            said(&mapping, &claims).map(|v| (v.organisation, v.roles.into_iter().collect::<Vec<_>>().join(",")))
        };
        assert_eq!(found("'org.id'", "'realm_access.roles'").unwrap(), ("ons".into(), "b".into()));
        assert_eq!(found("['org.id']", "['https://id.example/roles']").unwrap(), ("evil".into(), "a".into()));
        assert!(found("'org.name'", "'realm_access.roles'").is_err());
        assert!(found("'org.id.x'", "'realm_access.roles'").is_err(), "a text has no members");
        for bad in ["''", "'a..b'", "[]", "['']", "7"] {
            assert!(toml::from_str::<BTreeMap<String, ClaimPath>>(&format!("p = {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn roles_are_renamed_or_dropped_and_come_in_the_form_that_was_agreed() {
        let names = BTreeMap::from([("b".to_owned(), "administrator".to_owned())]);
        let mapped = Mapping { role_names: Some(names), ..mapping() };
        assert_eq!(said(&mapped, &good()).unwrap().roles, BTreeSet::from(["administrator".to_owned()]));
        let text = Mapping { roles_format: RolesFormat::Text, ..mapping() };
        let roles = said(&text, &with("roles", json!(" analyst  b"))).unwrap().roles;
        assert_eq!(roles, BTreeSet::from(["analyst".to_owned(), "b".to_owned()]));
        assert!(said(&text, &good()).is_err(), "a list is another form");
    }

    #[test]
    fn an_issuer_speaks_for_its_organisations_and_clients_only() {
        let limited = Mapping { organisations: Some(BTreeSet::from(["dwp".to_owned()])), ..mapping() };
        assert!(said(&limited, &good()).unwrap_err().contains("may speak"));
        assert!(said(&limited, &with("organisation", json!("dwp"))).is_ok());
        let fixed = Mapping { organisation: Organisation::Fixed("treasury".into()), ..mapping() };
        assert_eq!(said(&fixed, &good()).unwrap().organisation, "treasury", "what the token says does not count");
        let clients = Mapping { clients: Some(BTreeSet::from(["notebook".to_owned()])), ..mapping() };
        assert!(said(&clients, &good()).is_err(), "no client named");
        assert!(said(&clients, &with("azp", json!("notebook"))).is_ok());
        assert!(said(&clients, &with("client_id", json!("notebook"))).is_ok());
        assert!(said(&clients, &with("client_id", json!("other"))).is_err());
        let mut both = with("client_id", json!("notebook"));
        both["azp"] = json!("other");
        assert!(said(&clients, &both).is_err(), "both must be known");
    }
}
