//! `[[issuer]]` of `gateway.toml`: what it may say, and what contradicts itself.
//!
//! ```toml
//! [[issuer]]
//! issuer = "https://id.example"          # `iss` of its tokens, compared exactly
//! audience = "concordat-gateway"         # `aud`
//! jwks = "jwks.json"                     # its keys: a file, read again when it changes (within 5 s) …
//! discovery = true                       # … or OIDC discovery at <issuer>/.well-known/openid-configuration
//! ca = "ca.pem"                          # with discovery: a private authority, instead of the system's
//! allow_http_loopback = false            # with discovery: http, and only to this machine
//! keep_keys_seconds = 3600               # how long the last good keys count while the issuer cannot be asked
//! max_lifetime_seconds = 3600            # the longest life of a token
//! not_before = "required"                # or "issued_at", for issuers that leave `nbf` out: `iat` must then be there
//! token_type = "jwt"                     # or "at+jwt" (RFC 9068), for issuers that mark their access tokens so
//! algorithm = "RS256"                    # of RSA keys that state none
//! clients = ["notebook", "console"]      # the token's `azp` or `client_id` must be one of them
//! organisation_claim = "organisation"    # where the organisation stands: a dotted path, or a list of its segments …
//! organisation = "treasury"              # … or one organisation for everybody
//! organisations = ["treasury", "ons"]    # for which ones this issuer may speak; needed when there are several issuers
//! roles_claim = "realm_access.roles"     # likewise; ["https://id.example/roles"] for a claim whose name has dots
//! roles_format = "list"                  # or "text": separated by spaces
//! purpose_claim = "purpose"              # the purpose to which a token is bound, where it has one
//! training_until_claim = "training_until" # the last day of the bearer's training, or Unix seconds, for guard rails
//! [issuer.roles]                         # its roles by our names; roles that do not stand here are dropped
//! data-analysts = "analyst"
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use concordat_policy::Problem;
use concordat_proto::token::{BearerType, Begins, RsaAlgorithm};
use serde::Deserialize;

use super::claims::{ClaimPath, Mapping, Organisation, RolesFormat};
use super::source::{self, Url};

/// The longest that keys may be kept: a day.
const MAX_KEEP_SECONDS: u64 = 86_400;

/// An `[[issuer]]` as it stands in the file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IssuerFile {
    issuer: String,
    audience: String,
    jwks: Option<PathBuf>,
    #[serde(default)]
    discovery: bool,
    ca: Option<PathBuf>,
    #[serde(default)]
    allow_http_loopback: bool,
    keep_keys_seconds: Option<u64>,
    max_lifetime_seconds: Option<i64>,
    #[serde(default)]
    not_before: NotBefore,
    #[serde(default)]
    token_type: TokenType,
    algorithm: Option<RsaAlgorithm>,
    clients: Option<BTreeSet<String>>,
    organisation: Option<String>,
    organisation_claim: Option<ClaimPath>,
    organisations: Option<BTreeSet<String>>,
    roles_claim: Option<ClaimPath>,
    #[serde(default)]
    roles_format: RolesFormat,
    roles: Option<BTreeMap<String, String>>,
    purpose_claim: Option<ClaimPath>,
    training_until_claim: Option<ClaimPath>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NotBefore {
    #[default]
    Required,
    IssuedAt,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
enum TokenType {
    #[default]
    #[serde(rename = "jwt")]
    Jwt,
    #[serde(rename = "at+jwt")]
    AccessToken,
}

/// An issuer of tokens, checked.
#[derive(Debug, Clone)]
pub(crate) struct IssuerConfig {
    pub(crate) issuer: String,
    pub(super) audience: String,
    pub(super) keys: KeySource,
    pub(super) keep_keys: Duration,
    pub(super) max_lifetime_seconds: i64,
    pub(super) begins: Begins,
    pub(super) kind: BearerType,
    pub(super) rsa: Option<RsaAlgorithm>,
    pub(super) mapping: Mapping,
}

/// Where an issuer's keys come from.
#[derive(Debug, Clone)]
pub(super) enum KeySource {
    /// A JSON Web Key set's file.
    File(PathBuf),
    /// OIDC discovery: the document's address, a private authority's PEM, and whether http to this machine is accepted.
    Discovery { document: Url, ca: Option<Vec<u8>>, http_loopback: bool },
}

/// Checks every issuer and all together. Paths are relative to `base`.
///
/// # Errors
/// Every [`Problem`] found.
pub(crate) fn check(files: Vec<IssuerFile>, base: &Path) -> Result<Vec<IssuerConfig>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut names = BTreeSet::new();
    let several = files.len() > 1;
    for file in &files {
        if !names.insert(file.issuer.clone()) {
            problems.push(file.problem("is declared twice", "keep one of the two: an issuer has one set of keys"));
        }
        if several && file.organisation.is_none() && file.organisations.is_none() {
            problems.push(file.problem(
                "is one of several issuers, and nothing says for which organisations it may speak",
                "add organisations = [\"…\"] or organisation = \"…\", so that no issuer can name another's users",
            ));
        }
    }
    let mut checked = Vec::new();
    for file in files {
        match file.check(base) {
            Ok(config) => checked.push(config),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() { Ok(checked) } else { Err(problems) }
}

impl IssuerFile {
    fn problem(&self, cause: &str, remedy: &str) -> Problem {
        Problem::at(&self.issuer, format!("issuer '{}' {cause}", self.issuer), remedy)
    }

    fn check(self, base: &Path) -> Result<IssuerConfig, Vec<Problem>> {
        let mut problems = self.contradictions();
        let keys = match self.source(base) {
            Ok(keys) if problems.is_empty() => keys,
            Ok(_) => return Err(problems),
            Err(problem) => {
                problems.push(problem);
                return Err(problems);
            }
        };
        let claim = |path: Option<ClaimPath>, name: &str| path.unwrap_or_else(|| ClaimPath::name(name));
        Ok(IssuerConfig {
            keys,
            keep_keys: Duration::from_secs(self.keep_keys_seconds.unwrap_or(3600)),
            max_lifetime_seconds: self.max_lifetime_seconds.unwrap_or(3600),
            begins: match self.not_before {
                NotBefore::Required => Begins::NotBefore,
                NotBefore::IssuedAt => Begins::IssuedAt,
            },
            kind: match self.token_type {
                TokenType::Jwt => BearerType::Jwt,
                TokenType::AccessToken => BearerType::AccessToken,
            },
            rsa: self.algorithm,
            mapping: Mapping {
                clients: self.clients,
                organisation: match self.organisation {
                    Some(fixed) => Organisation::Fixed(fixed),
                    None => Organisation::Claim(claim(self.organisation_claim, "organisation")),
                },
                organisations: self.organisations,
                roles: claim(self.roles_claim, "roles"),
                roles_format: self.roles_format,
                role_names: self.roles,
                purpose: claim(self.purpose_claim, "purpose"),
                training_until: claim(self.training_until_claim, "training_until"),
            },
            issuer: self.issuer,
            audience: self.audience,
        })
    }

    fn contradictions(&self) -> Vec<Problem> {
        let empty = |list: Option<&BTreeSet<String>>| list.is_some_and(|list| list.is_empty() || list.contains(""));
        let rules = [
            (self.issuer.is_empty() || self.audience.is_empty(), "has an empty issuer or audience", "name both, as in its tokens"),
            (self.jwks.is_some() == self.discovery, "needs exactly one source of keys", "give jwks = \"file\" or discovery = true"),
            (
                !self.discovery && (self.ca.is_some() || self.allow_http_loopback),
                "has a network option without discovery",
                "remove ca and allow_http_loopback",
            ),
            (
                self.organisation.is_some() && self.organisation_claim.is_some(),
                "has both a fixed organisation and a claim for it",
                "keep one of the two",
            ),
            (
                self.organisation.is_some() && self.organisations.is_some(),
                "has both a fixed organisation and a list of them",
                "keep one of the two",
            ),
            (self.organisation.as_deref() == Some(""), "has an empty organisation", "name it, or remove the line"),
            (
                empty(self.organisations.as_ref()),
                "has an empty name in organisations, or no name at all",
                "name the organisations, or remove the line",
            ),
            (empty(self.clients.as_ref()), "has an empty name in clients, or no name at all", "name the clients, or remove the line"),
            (
                self.max_lifetime_seconds.is_some_and(|seconds| seconds <= 0),
                "has no positive max_lifetime_seconds",
                "give the longest life of a token",
            ),
            (
                self.keep_keys_seconds.is_some_and(|seconds| seconds > MAX_KEEP_SECONDS),
                "keeps keys for more than a day",
                "at most 86400: keys that were withdrawn meanwhile would count on",
            ),
            (
                self.roles.as_ref().is_some_and(|roles| roles.iter().any(|(theirs, ours)| theirs.is_empty() || ours.is_empty())),
                "has an empty role in [issuer.roles]",
                "name both roles: theirs = \"ours\"",
            ),
        ];
        rules.into_iter().filter(|(wrong, ..)| *wrong).map(|(_, cause, remedy)| self.problem(cause, remedy)).collect()
    }

    fn source(&self, base: &Path) -> Result<KeySource, Problem> {
        if let Some(jwks) = &self.jwks {
            return Ok(KeySource::File(base.join(jwks)));
        }
        let document = source::document(&self.issuer, self.allow_http_loopback)
            .map_err(|cause| self.problem(cause, "with discovery, the issuer is an https address without query or fragment"))?;
        let ca = self.ca.as_ref().map(|path| {
            let path = base.join(path);
            std::fs::read(&path).map_err(|e| {
                self.problem(
                    &format!("has a ca that cannot be read: {}: {e}", path.display()),
                    "check that the file exists and that this user may read it",
                )
            })
        });
        Ok(KeySource::Discovery { document, ca: ca.transpose()?, http_loopback: self.allow_http_loopback })
    }
}
