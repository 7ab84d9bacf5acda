//! A sign-in at the identity provider that `client.toml` names: its tokens, where they are kept, and how they stay fresh.
//!
//! Invariants
//! - Tokens go to the provider, the gateway and the place where they are kept: never to standard output, errors or logs.
//! - One process refreshes at a time: providers end a sign-in whose refresh token is used twice.

mod place;
mod provider;
mod redirect;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use concordat_policy::Code;
use concordat_proto::status::exit_code;
use serde::{Deserialize, Serialize};

pub(crate) use self::provider::Provider;

use self::place::Places;
use crate::client::LoginFile;
use crate::failure::{Failure, Result};
use crate::out::progress;

/// A token that expires sooner than this is refreshed.
const MARGIN_SECONDS: i64 = 15;
/// How long another process may take to refresh.
const PATIENCE: Duration = Duration::from_secs(30);

/// The tokens of a sign-in.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Session {
    access_token: String,
    refresh_token: Option<String>,
    /// When the access token expires, in Unix seconds, where the provider said so.
    expires: Option<i64>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("expires", &self.expires).field("refreshable", &self.refreshable()).finish_non_exhaustive()
    }
}

impl Session {
    /// Whether it can be refreshed.
    pub(crate) fn refreshable(&self) -> bool {
        self.refresh_token.is_some()
    }

    /// In how many minutes the access token expires.
    pub(crate) fn expires(&self, now: DateTime<Utc>) -> Option<i64> {
        self.expires.map(|at| at.saturating_sub(now.timestamp()).max(0) / 60)
    }

    fn lasts(&self, seconds: i64) -> bool {
        self.expires.is_none_or(|at| at.saturating_sub(Utc::now().timestamp()) > seconds)
    }
}

/// How a sign-in ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// There was none.
    NotSignedIn,
    /// At the provider and here.
    Revoked,
    /// Here: the provider offers no revocation.
    OnlyHere,
}

/// Keeps a sign-in, in place of an earlier one. Returns where, for people.
pub(crate) fn keep(login: &LoginFile, session: &Session) -> Result<String> {
    Places::of(login)?.save(session)
}

/// The access token, refreshed where it has expired.
pub(crate) async fn token(login: &LoginFile) -> Result<String> {
    let places = Places::of(login)?;
    let session = places.load()?.ok_or_else(|| not_signed_in("nobody is signed in"))?;
    if session.lasts(MARGIN_SECONDS) {
        return Ok(session.access_token);
    }
    let _alone = places.lock(PATIENCE).await?;
    // Another process may have done it meanwhile.
    let session = places.load()?.ok_or_else(|| not_signed_in("nobody is signed in"))?;
    if session.lasts(MARGIN_SECONDS) {
        return Ok(session.access_token);
    }
    if !session.refreshable() {
        return if session.lasts(0) { Ok(session.access_token) } else { Err(not_signed_in("the sign-in has expired")) };
    }
    let refreshed = async { Provider::discover(login).await?.refresh(&session).await };
    match refreshed.await {
        Ok(fresh) => {
            places.save(&fresh)?;
            Ok(fresh.access_token)
        }
        // A provider that is away for a moment does no harm while the token is good.
        Err(failure) if failure.code.is_none() && session.lasts(0) => {
            progress(&format!("the sign-in could not be refreshed: {failure}"));
            Ok(session.access_token)
        }
        Err(failure) => Err(failure),
    }
}

/// Ends a sign-in: at the provider, where it offers that, and here in any case.
pub(crate) async fn end(login: &LoginFile) -> Result<Ended> {
    let places = Places::of(login)?;
    let _alone = places.lock(PATIENCE).await?;
    let session = places.load();
    places.remove()?;
    let Some(session) = session? else { return Ok(Ended::NotSignedIn) };
    let revoked = async { Provider::discover(login).await?.revoke(&session).await };
    match revoked.await {
        Ok(true) => Ok(Ended::Revoked),
        Ok(false) => Ok(Ended::OnlyHere),
        Err(failure) => Err(Failure::new(format!("the tokens here are removed, but the provider could not be told: {failure}"))
            .advice("the sign-in lapses by itself; to end it now, use the provider's own page of sign-ins")),
    }
}

/// A refusal before the gateway was asked, with the exit code that it would have.
fn not_signed_in(why: &str) -> Failure {
    Failure { exit: exit_code(Code::Unauthenticated), code: Some(Code::Unauthenticated), ..Failure::new(why) }
        .advice("sign in with `concordat login`")
}
