//! The identity provider: discovery, sign-in by device code (RFC 8628) and by browser (RFC 8252, PKCE), refresh, revocation.
//!
//! The protocol is `openidconnect`'s; the HTTP is ours: https only, no redirects, bounded answers, aws-lc-rs. ID tokens are
//! verified and then dropped: what counts is the access token, and the gateway judges that.

use std::fmt::Display;
use std::pin::Pin;
use std::time::Duration;

use chrono::Utc;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreClaimName, CoreClaimType, CoreClient, CoreClientAuthMethod,
    CoreDeviceAuthorizationResponse, CoreErrorResponseType, CoreGrantType, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm, CoreResponseMode, CoreResponseType, CoreRevocableToken, CoreSubjectIdentifierType, CoreTokenResponse,
};
use openidconnect::{
    AccessToken, AdditionalProviderMetadata, AuthType, AuthorizationCode, ClientId, CsrfToken, DeviceAuthorizationUrl,
    DeviceCodeErrorResponseType, DiscoveryError, EndpointMaybeSet, EndpointNotSet, EndpointSet, ErrorResponse, HttpRequest, HttpResponse,
    IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, ProviderMetadata, RedirectUrl, RefreshToken, RequestTokenError,
    RevocationUrl, Scope, StandardErrorResponse, TokenResponse as _,
};
use serde::{Deserialize, Serialize};

use super::redirect::Redirect;
use super::{Session, not_signed_in};
use crate::client::LoginFile;
use crate::failure::{Failure, Result};

/// How long a person may take to sign in.
const SIGN_IN: Duration = Duration::from_secs(600);
/// How long the provider may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer of a provider.
const MAX_BYTES: usize = 1 << 20;

/// What the discovery document says beside what every OpenID provider does.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Endpoints {
    device_authorization_endpoint: Option<DeviceAuthorizationUrl>,
    revocation_endpoint: Option<RevocationUrl>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for Endpoints {}

type Metadata = ProviderMetadata<
    Endpoints,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

type Client = CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;
type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Why there was no HTTP answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{0}")]
    Request(String),
    #[error("the answer is longer than {MAX_BYTES} bytes")]
    TooLong,
}

/// What a person needs to sign in on another device.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) address: String,
    pub(crate) code: String,
    /// The address with the code in it, where the provider offers that.
    pub(crate) complete: Option<String>,
}

/// A provider whose discovery document was read.
pub(crate) struct Provider {
    login: LoginFile,
    endpoints: Endpoints,
    client: Client,
    http: reqwest::Client,
}

impl Provider {
    /// Reads the provider's discovery document and keys.
    pub(crate) async fn discover(login: &LoginFile) -> Result<Self> {
        let issuer = IssuerUrl::new(login.issuer.clone()).ok().filter(|url| url.url().scheme() == "https").ok_or_else(|| {
            Failure::new(format!("the issuer '{}' is not an https address", login.issuer)).advice("correct [login] issuer in client.toml")
        })?;
        let http = http_client(login)?;
        let metadata = Metadata::discover_async(issuer, &http_function(&http)).await.map_err(|e| match e {
            DiscoveryError::Request(e) => unreachable(login, &e),
            DiscoveryError::Validation(_) => Failure::new(format!("what answers at {} is another issuer", login.issuer))
                .advice("write [login] issuer in client.toml exactly as the provider does, with or without a slash at its end"),
            e => Failure::new(format!("{} is not an OpenID provider: {e}", login.issuer)).advice("correct [login] issuer in client.toml"),
        })?;
        let endpoints = metadata.additional_metadata().clone();
        let client =
            CoreClient::from_provider_metadata(metadata, ClientId::new(login.client_id.clone()), None).set_auth_type(AuthType::RequestBody);
        Ok(Self { login: login.clone(), endpoints, client, http })
    }

    /// Signs in on another device: `show` tells the person where and with which code.
    pub(crate) async fn by_device(&self, show: impl FnOnce(&Device)) -> Result<Session> {
        let http = http_function(&self.http);
        let endpoint =
            self.endpoints.device_authorization_endpoint.clone().filter(|url| url.url().scheme() == "https").ok_or_else(|| {
                Failure::new(format!("{} offers no sign-in by device code", self.login.issuer))
                    .advice("sign in by browser: `concordat login --no-browser`")
            })?;
        let client = self.client.clone().set_device_authorization_url(endpoint);
        let mut request = client.exchange_device_code().add_scopes(self.scopes());
        if let Some(resource) = &self.login.resource {
            request = request.add_extra_param("resource", resource);
        }
        let details: CoreDeviceAuthorizationResponse =
            request.request_async(&http).await.map_err(|e| self.refused("the provider gives no device code", e))?;
        show(&Device {
            address: details.verification_uri().to_string(),
            code: details.user_code().secret().clone(),
            complete: details.verification_uri_complete().map(|address| address.secret().clone()),
        });
        let mut request = client.exchange_device_access_token(&details).map_err(|e| self.not_offered("tokens", e))?;
        if let Some(resource) = &self.login.resource {
            request = request.add_extra_param("resource", resource);
        }
        let tokens = request
            .request_async(&http, tokio::time::sleep, Some(details.expires_in().min(SIGN_IN)))
            .await
            .map_err(|e| self.device_refused(e))?;
        self.session(&tokens, None)
    }

    /// Signs in by a browser on this machine: `show` opens the address, or shows it.
    pub(crate) async fn by_browser(&self, show: impl FnOnce(&str)) -> Result<Session> {
        let http = http_function(&self.http);
        let redirect = Redirect::listen().await?;
        let address = RedirectUrl::new(redirect.address()).map_err(|e| Failure::new(format!("no address to come back to: {e}")))?;
        let client = self.client.clone().set_redirect_uri(address);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let mut request = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, CsrfToken::new_random, Nonce::new_random)
            .add_scopes(self.scopes())
            .set_pkce_challenge(challenge);
        if self.login.scopes.iter().any(|scope| scope == "offline_access") {
            // OpenID Connect Core, section 11: without it, the scope is ignored.
            request = request.add_prompt(CoreAuthPrompt::Consent);
        }
        if let Some(resource) = &self.login.resource {
            request = request.add_extra_param("resource", resource);
        }
        let (address, state, nonce) = request.url();
        if address.scheme() != "https" {
            return Err(Failure::new(format!("{} wants to be signed in at over http", self.login.issuer)).advice("tell its operator"));
        }
        show(address.as_str());
        let issuer = Some(self.login.issuer.as_str()).filter(|_| self.endpoints.authorization_response_iss_parameter_supported);
        let code = redirect.code(state.secret(), issuer, SIGN_IN).await?;
        let mut request = client.exchange_code(AuthorizationCode::new(code)).map_err(|e| self.not_offered("tokens", e))?;
        if let Some(resource) = &self.login.resource {
            request = request.add_extra_param("resource", resource);
        }
        let tokens = request.set_pkce_verifier(verifier).request_async(&http).await;
        self.session(&tokens.map_err(|e| self.refused("the provider gives no token for its code", e))?, Some(&nonce))
    }

    /// A fresh token for a sign-in.
    pub(super) async fn refresh(&self, old: &Session) -> Result<Session> {
        let http = http_function(&self.http);
        let token = old.refresh_token.clone().map(RefreshToken::new).ok_or_else(|| not_signed_in("the sign-in has expired"))?;
        let mut request = self.client.exchange_refresh_token(&token).map_err(|e| self.not_offered("tokens", e))?;
        if let Some(resource) = &self.login.resource {
            request = request.add_extra_param("resource", resource);
        }
        let tokens = request.request_async(&http).await.map_err(|e| match e {
            RequestTokenError::ServerResponse(_) => not_signed_in("the provider has ended the sign-in"),
            e => self.refused("the sign-in cannot be refreshed", e),
        })?;
        let fresh = self.session(&tokens, None)?;
        // A provider that does not rotate leaves the refresh token out.
        Ok(Session { refresh_token: fresh.refresh_token.or_else(|| old.refresh_token.clone()), ..fresh })
    }

    /// Revokes a sign-in; false where the provider offers no revocation.
    pub(super) async fn revoke(&self, session: &Session) -> Result<bool> {
        let http = http_function(&self.http);
        let Some(endpoint) = self.endpoints.revocation_endpoint.clone() else { return Ok(false) };
        let client = self.client.clone().set_revocation_url(endpoint);
        let token = match &session.refresh_token {
            Some(refresh) => CoreRevocableToken::RefreshToken(RefreshToken::new(refresh.clone())),
            None => CoreRevocableToken::AccessToken(AccessToken::new(session.access_token.clone())),
        };
        let request = client.revoke_token(token).map_err(|e| self.not_offered("revocation", e))?;
        match request.request_async(&http).await {
            Ok(()) => Ok(true),
            // A provider that revokes refresh tokens only (RFC 7009, section 2.2.1).
            Err(RequestTokenError::ServerResponse(e)) if e.error().as_ref() == "unsupported_token_type" => Ok(false),
            Err(e) => Err(self.refused("the provider does not revoke the sign-in", e)),
        }
    }

    /// `openid` is asked for anyhow.
    fn scopes(&self) -> impl Iterator<Item = Scope> {
        self.login.scopes.iter().filter(|scope| *scope != "openid").cloned().map(Scope::new)
    }

    /// The tokens, once the ID token that came with them is the provider's own and of this sign-in.
    fn session(&self, tokens: &CoreTokenResponse, nonce: Option<&Nonce>) -> Result<Session> {
        let wrong =
            |e: &dyn Display| Failure::new(format!("the ID token of {} is not valid: {e}", self.login.issuer)).advice("tell its operator");
        if let Some(id_token) = tokens.id_token() {
            let verifier = self.client.id_token_verifier();
            match nonce {
                Some(nonce) => id_token.claims(&verifier, nonce),
                None => id_token.claims(&verifier, |_: Option<&Nonce>| Ok(())),
            }
            .map_err(|e| wrong(&e))?;
        } else if nonce.is_some() {
            return Err(wrong(&"there is none"));
        }
        let lifetime = tokens.expires_in().and_then(|life| i64::try_from(life.as_secs()).ok());
        Ok(Session {
            access_token: tokens.access_token().secret().clone(),
            refresh_token: tokens.refresh_token().map(|token| token.secret().clone()),
            expires: lifetime.map(|seconds| Utc::now().timestamp().saturating_add(seconds)),
        })
    }

    fn device_refused(&self, error: RequestTokenError<HttpError, StandardErrorResponse<DeviceCodeErrorResponseType>>) -> Failure {
        let again = "try again with `concordat login --device`";
        match &error {
            RequestTokenError::ServerResponse(e) => match e.error() {
                // Some providers forget a code that has expired.
                DeviceCodeErrorResponseType::ExpiredToken | DeviceCodeErrorResponseType::Basic(CoreErrorResponseType::InvalidGrant) => {
                    Failure::new("the code has expired before anybody entered it").advice(again)
                }
                DeviceCodeErrorResponseType::AccessDenied => Failure::new("the sign-in was declined").advice(again),
                _ => self.refused("the provider does not sign in", error),
            },
            _ => self.refused("the provider does not sign in", error),
        }
    }

    fn not_offered(&self, what: &str, error: impl Display) -> Failure {
        Failure::new(format!("{} offers no {what}: {error}", self.login.issuer)).advice("ask its operator")
    }

    fn refused<T>(&self, what: &str, error: RequestTokenError<HttpError, T>) -> Failure
    where
        T: ErrorResponse + Display + 'static,
    {
        match error {
            RequestTokenError::Request(e) => unreachable(&self.login, &e),
            RequestTokenError::ServerResponse(e) => {
                Failure::new(format!("{what}: {e}")).advice("check client_id, scopes and resource in [login] of client.toml")
            }
            // The answer's own text may hold a token.
            RequestTokenError::Parse(..) => {
                Failure::new(format!("{what}: it answers something that is not understood")).advice("check [login] issuer in client.toml")
            }
            RequestTokenError::Other(e) => Failure::new(format!("{what}: {e}")).advice("check [login] in client.toml"),
        }
    }
}

fn unreachable(login: &LoginFile, error: &HttpError) -> Failure {
    Failure::new(format!("the identity provider {} cannot be reached: {error}", login.issuer))
        .advice("check the network and [login] in client.toml: issuer, and ca where the provider's authority is a private one")
}

fn http_client(login: &LoginFile) -> Result<reqwest::Client> {
    // The process's provider; an earlier one of the same kind may stand.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        // A redirect could lead a token elsewhere.
        .redirect(reqwest::redirect::Policy::none())
        .https_only(true)
        .timeout(PATIENCE)
        .user_agent("concordat");
    if let Some(path) = &login.ca {
        let pem = std::fs::read(path).map_err(|e| Failure::file("read", path, e))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).ok().filter(|all| !all.is_empty());
        builder = builder.tls_certs_only(certificates.ok_or_else(|| Failure::file("used", path, "it holds no certificate in PEM"))?);
    }
    builder.build().map_err(|e| Failure::new(format!("TLS cannot be used: {}", chain(&e))))
}

/// How `openidconnect` sends requests.
fn http_function(client: &reqwest::Client) -> impl Fn(HttpRequest) -> Pending<std::result::Result<HttpResponse, HttpError>> + use<> {
    let client = client.clone();
    move |request| Box::pin(send(client.clone(), request))
}

async fn send(client: reqwest::Client, request: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
    let failed = |e: reqwest::Error| HttpError::Request(chain(&e.without_url()));
    let mut response = client.execute(request.try_into().map_err(failed)?).await.map_err(failed)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > MAX_BYTES {
            return Err(HttpError::TooLong);
        }
        bytes.extend_from_slice(&chunk);
    }
    let mut answer = HttpResponse::new(bytes);
    *answer.status_mut() = response.status();
    std::mem::swap(answer.headers_mut(), response.headers_mut());
    Ok(answer)
}

/// An error and its causes, nearest first.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
