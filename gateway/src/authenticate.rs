//! Who is calling, and for which purpose. A bearer token of a known issuer becomes an [`Identity`]; with exactly one purpose it
//! becomes a [`Caller`].

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Deref;

use chrono::{DateTime, Utc};
use concordat_policy::{Code, Name, Refusal, authorize};
use concordat_proto::status::{AT_LEAST, CELLS, MISSION, PURPOSE};
use serde_json::json;
use tonic::metadata::MetadataMap;

use crate::at_least::AtLeast;
use crate::deliver::Cells;
use crate::issuers::{Issuers, TokenId, Verified};

/// An authenticated user, before a purpose is settled. Only [`Identity::authenticate`] makes one.
#[derive(Debug, Clone)]
pub struct Identity {
    issuer: String,
    subject: String,
    organisation: String,
    roles: BTreeSet<String>,
    token: TokenId,
    /// When the token expires, in Unix seconds.
    expires: i64,
    /// The purpose to which the token is bound.
    bound: Option<Name>,
    /// The purpose and the mission that this request declares by header.
    declared: Option<Name>,
    mission: Option<Name>,
    /// What this request demands of its answer by header.
    at_least: AtLeast,
    cells: Cells,
    circumstances: Circumstances,
}

/// What guard rails may ask about a caller beside organisation and roles.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Circumstances {
    /// Until when the caller's training counts, where the token says so.
    pub(crate) training_until: Option<DateTime<Utc>>,
    /// The address of the connection.
    pub(crate) address: Option<IpAddr>,
}

/// An authenticated caller with exactly one purpose. Only [`Identity::with_purpose`] makes one.
#[derive(Debug, Clone)]
pub struct Caller {
    issuer: String,
    known: authorize::Caller,
    token: TokenId,
    mission: Option<Name>,
    /// Whether the token is bound to the purpose: then there is no other to claim.
    bound: bool,
    at_least: AtLeast,
    cells: Cells,
    circumstances: Circumstances,
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

    /// The same user under a purpose and mission that the token lets be declared instead; `None` where it is bound to another.
    #[must_use]
    pub fn claiming(&self, purpose: &Name, mission: &Name) -> Option<Self> {
        let known = authorize::Caller { purpose: purpose.clone(), ..self.known.clone() };
        (!self.bound || self.known.purpose == *purpose).then(|| Self { known, mission: Some(mission.clone()), ..self.clone() })
    }

    /// The same caller in a mission.
    #[must_use]
    pub fn in_mission(&self, mission: &Name) -> Self {
        Self { mission: Some(mission.clone()), ..self.clone() }
    }

    /// Who owns what belongs to the user whatever the purpose: as [`Identity::owner`].
    #[must_use]
    pub fn identity_owner(&self) -> Vec<u8> {
        json!([self.issuer, self.known.subject, self.known.organisation]).to_string().into_bytes()
    }

    /// Who owns what this caller leaves with the gateway: user, organisation, roles, purpose and mission, unambiguously.
    #[must_use]
    pub fn owner(&self) -> Vec<u8> {
        let known = &self.known;
        json!([self.issuer, known.subject, known.organisation, known.roles, known.purpose, self.mission]).to_string().into_bytes()
    }

    /// Who issued the caller's token. `subject` is a name of its making: two issuers may use one name for two users.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Which token the caller came with.
    pub(crate) fn token(&self) -> &str {
        self.token.as_str()
    }

    /// The least versions of consent ledgers on which the caller wants the answer to rest.
    pub(crate) fn at_least(&self) -> &AtLeast {
        &self.at_least
    }

    /// The same caller, who demanded `more` before.
    pub(crate) fn demanding(self, more: &AtLeast) -> Self {
        Self { at_least: self.at_least.and(more), ..self }
    }

    /// Whether the caller wants to know what became of each cell.
    pub(crate) fn cells(&self) -> Cells {
        self.cells
    }

    /// The same caller, to whom the answer was announced so.
    pub(crate) fn asking(self, cells: Cells) -> Self {
        Self { cells, ..self }
    }

    /// What guard rails may ask about.
    pub(crate) fn circumstances(&self) -> Circumstances {
        self.circumstances
    }
}

impl Identity {
    /// Authenticates a request by its metadata: `authorization`, `x-concordat-purpose`, `x-concordat-mission`, `x-concordat-at-least`,
    /// `x-concordat-cells`. `address` is that of its connection.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`] without a valid token; [`Code::Invalid`] for headers that are no names or stand twice.
    pub(crate) async fn authenticate(
        issuers: &Issuers,
        metadata: &MetadataMap,
        address: Option<IpAddr>,
        now: i64,
    ) -> Result<Self, Refusal> {
        let bearer = bearer(metadata)?;
        let Verified { issuer, subject, organisation, roles, purpose, expires, training_until, token } =
            issuers.verify(bearer, now).await?;
        let name = |text: &str, what: &str| Name::parse(text).map_err(|e| Refusal::new(Code::Invalid, format!("the {what}: {e}")));
        Ok(Self {
            issuer,
            subject,
            organisation,
            roles,
            token,
            expires,
            bound: purpose.map(|p| name(&p, "token's purpose")).transpose()?,
            declared: header(metadata, PURPOSE)?.map(|p| name(p, "declared purpose")).transpose()?,
            mission: header(metadata, MISSION)?.map(|m| name(m, "mission")).transpose()?,
            at_least: header(metadata, AT_LEAST)?.map(AtLeast::parse).transpose()?.unwrap_or_default(),
            cells: header(metadata, CELLS)?.map(Cells::parse).transpose()?.unwrap_or_default(),
            circumstances: Circumstances { training_until, address },
        })
    }

    /// Who issued the token.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// When the token expires, in Unix seconds.
    #[must_use]
    pub fn expires(&self) -> i64 {
        self.expires
    }

    /// The purpose to which the token is bound.
    #[must_use]
    pub fn bound(&self) -> Option<&Name> {
        self.bound.as_ref()
    }

    /// The issuer's name for the user.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Which token the user came with.
    pub(crate) fn token(&self) -> &str {
        self.token.as_str()
    }

    /// The address of the user's connection.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.circumstances.address
    }

    /// The user's organisation.
    #[must_use]
    pub fn organisation(&self) -> &str {
        &self.organisation
    }

    /// The user's roles.
    #[must_use]
    pub fn roles(&self) -> &BTreeSet<String> {
        &self.roles
    }

    /// Who owns a session: user and organisation, unambiguously.
    #[must_use]
    pub fn owner(&self) -> Vec<u8> {
        json!([self.issuer, self.subject, self.organisation]).to_string().into_bytes()
    }

    /// The mission that the request states.
    #[must_use]
    pub fn mission(&self) -> Option<&Name> {
        self.mission.as_ref()
    }

    /// The caller, under the purpose of the header, of the session or of the token, in this order; where the token is bound to
    /// one, the others may only repeat it. `session` is what the caller's session carries: purpose, mission.
    ///
    /// # Errors
    /// [`Code::Invalid`] without a purpose; [`Code::Denied`] when it is not the one to which the token is bound.
    pub fn with_purpose(self, session: (Option<Name>, Option<Name>)) -> Result<Caller, Refusal> {
        let (purpose, mission) = session;
        let bound = self.bound.is_some();
        let purpose = settled(self.declared.or(purpose), self.bound)?;
        let known = authorize::Caller { subject: self.subject, organisation: self.organisation, roles: self.roles, purpose };
        let (mission, at_least, cells, circumstances) = (self.mission.or(mission), self.at_least, self.cells, self.circumstances);
        Ok(Caller { issuer: self.issuer, known, token: self.token, mission, bound, at_least, cells, circumstances })
    }

    /// The caller under a purpose and mission, whatever the request declares; `None` where the token is bound to another purpose.
    #[must_use]
    pub fn claiming(&self, purpose: &Name, mission: &Name) -> Option<Caller> {
        Self { declared: Some(purpose.clone()), mission: Some(mission.clone()), ..self.clone() }.with_purpose((None, None)).ok()
    }

    /// Whether a purpose is settled without a session.
    #[must_use]
    pub fn has_purpose(&self) -> bool {
        self.declared.is_some() || self.bound.is_some()
    }
}

/// The bearer token of a request.
///
/// # Errors
/// [`Code::Unauthenticated`].
pub(crate) fn bearer(metadata: &MetadataMap) -> Result<&str, Refusal> {
    let missing = || {
        Refusal::new(Code::Unauthenticated, "the request has no bearer token")
            .advice("send the header 'authorization: Bearer …'; `concordat login` gets one, `concordat token` makes one for the demo")
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

/// Exactly one purpose: where the token binds one, the declared one may only repeat it.
fn settled(declared: Option<Name>, bound: Option<Name>) -> Result<Name, Refusal> {
    match (declared, bound) {
        (Some(declared), Some(bound)) if declared != bound => {
            Err(Refusal::new(Code::Denied, "the token is bound to another purpose than the one declared")
                .advice("leave the header out, or get a token for the other purpose"))
        }
        (Some(purpose), _) | (None, Some(purpose)) => Ok(purpose),
        (None, None) => Err(Refusal::new(Code::Invalid, "the request declares no purpose")
            .advice("send the header x-concordat-purpose, or set it for the session; one request has exactly one purpose")),
    }
}

#[cfg(test)]
impl Identity {
    /// A user of an organisation in these roles.
    pub(crate) fn for_tests(organisation: &str, roles: &[&str]) -> Self {
        Self {
            issuer: "i".into(),
            subject: "u".into(),
            token: TokenId::of(&serde_json::Map::new(), "h.c.s"),
            organisation: organisation.into(),
            roles: roles.iter().map(ToString::to_string).collect(),
            expires: 0,
            bound: None,
            declared: None,
            mission: None,
            at_least: AtLeast::default(),
            cells: Cells::default(),
            circumstances: Circumstances::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_bound_to_a_purpose_claims_no_other() {
        let name = |text: &str| Name::parse(text).unwrap();
        let identity = |bound: Option<Name>| Identity {
            issuer: "i".into(),
            subject: "u".into(),
            organisation: "unit".into(),
            roles: BTreeSet::new(),
            token: TokenId::of(&serde_json::Map::new(), "h.c.s"),
            expires: 0,
            bound,
            declared: Some(name("p")),
            mission: None,
            at_least: AtLeast::default(),
            cells: Cells::default(),
            circumstances: Circumstances::default(),
        };
        let free = identity(None).with_purpose((None, None)).unwrap();
        let claimed = free.claiming(&name("q"), &name("m")).unwrap();
        assert_eq!((claimed.purpose.as_str(), claimed.mission(), claimed.subject.as_str()), ("q", Some(&name("m")), "u"));
        let bound = identity(Some(name("p"))).with_purpose((None, None)).unwrap();
        assert!(bound.claiming(&name("q"), &name("m")).is_none());
        assert!(bound.claiming(&name("p"), &name("m")).is_some(), "of its own purpose it may name the mission");
        let claimed = identity(None).claiming(&name("q"), &name("m")).unwrap();
        assert_eq!((claimed.purpose.as_str(), claimed.mission()), ("q", Some(&name("m"))), "not the purpose of the header");
        assert!(identity(Some(name("p"))).claiming(&name("q"), &name("m")).is_none());
    }
}
