//! Where an issuer's key set comes from: a file, or the network by OIDC discovery.
//!
//! Towards the network: TLS by aws-lc-rs, against a private authority where one is named; no redirects, no proxy of the
//! environment, at most [`MAX_BYTES`] before anything is parsed, and [`PATIENCE`] for everything. The document must name the
//! issuer exactly, and its keys must be at an https address (http only to this machine, where the configuration allows it).

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use miette::miette;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

pub(super) use reqwest::Url;

use super::config::KeySource;

/// The largest key set or discovery document.
const MAX_BYTES: u64 = 256 << 10;
/// How long fetching may take, discovery included.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a discovery document counts while its keys can be fetched.
const DOCUMENT_AGE: Duration = Duration::from_secs(600);

/// Why keys did not come. For operators.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error("{0}: {1}")]
    File(String, std::io::Error),
    #[error("{0} does not answer: {1}")]
    Request(Url, String),
    #[error("{0} answers with status {1}")]
    Status(Url, u16),
    #[error("{0} is longer than {MAX_BYTES} bytes")]
    TooLong(String),
    #[error("{0} is not a discovery document with issuer and jwks_uri")]
    Document(Url),
    #[error("{0} is the document of another issuer")]
    OtherIssuer(Url),
    #[error("{0} names keys at an address that is not https")]
    Address(Url),
    #[error("fetching took longer than {} s", PATIENCE.as_secs())]
    Slow,
}

/// A source of key sets.
#[derive(Debug)]
pub(super) enum Source {
    File(PathBuf),
    Discovery(Box<Discovery>),
}

#[derive(Debug)]
pub(super) struct Discovery {
    client: reqwest::Client,
    issuer: String,
    document: Url,
    http_loopback: bool,
    /// The keys' address, and since when it is known.
    keys: Mutex<Option<(Url, Instant)>>,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

impl Source {
    /// Prepares a source.
    ///
    /// # Errors
    /// A report, when the authority's file holds no certificate.
    pub(super) fn new(issuer: &str, keys: &KeySource) -> miette::Result<Self> {
        let (document, ca, http_loopback) = match keys {
            KeySource::File(path) => return Ok(Self::File(path.clone())),
            KeySource::Discovery { document, ca, http_loopback } => (document.clone(), ca.as_deref(), *http_loopback),
        };
        let client = client(ca, http_loopback).map_err(|cause| {
            miette!(
                help = "name the PEM file of the authority that signed the provider's certificate with ca",
                "issuer '{issuer}': {cause}"
            )
        })?;
        Ok(Self::Discovery(Box::new(Discovery { client, issuer: issuer.to_owned(), document, http_loopback, keys: Mutex::default() })))
    }

    /// The key set as it is now, unparsed.
    pub(super) async fn fetch(&self) -> Result<Vec<u8>, SourceError> {
        match self {
            Self::File(path) => read(path).await,
            Self::Discovery(discovery) => tokio::time::timeout(PATIENCE, discovery.fetch()).await.unwrap_or(Err(SourceError::Slow)),
        }
    }
}

async fn read(path: &std::path::Path) -> Result<Vec<u8>, SourceError> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let read = async { tokio::fs::File::open(path).await?.take(MAX_BYTES + 1).read_to_end(&mut bytes).await };
    match read.await {
        Err(e) => Err(SourceError::File(name, e)),
        Ok(length) if length as u64 > MAX_BYTES => Err(SourceError::TooLong(name)),
        Ok(_) => Ok(bytes),
    }
}

impl Discovery {
    async fn fetch(&self) -> Result<Vec<u8>, SourceError> {
        let known = self.known().filter(|(_, since)| since.elapsed() < DOCUMENT_AGE).map(|(address, _)| address);
        let address = match known {
            Some(address) => address,
            None => self.discover().await?,
        };
        let keys = self.get(&address).await;
        if keys.is_err() {
            // A provider that moved its keys says so in its document: the next attempt reads it anew.
            *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        keys
    }

    fn known(&self) -> Option<(Url, Instant)> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn discover(&self) -> Result<Url, SourceError> {
        let bytes = self.get(&self.document).await?;
        let document: Document = serde_json::from_slice(&bytes).map_err(|_| SourceError::Document(self.document.clone()))?;
        if document.issuer != self.issuer {
            return Err(SourceError::OtherIssuer(self.document.clone()));
        }
        let address = Url::parse(&document.jwks_uri).map_err(|_| SourceError::Document(self.document.clone()))?;
        if !permitted(&address, self.http_loopback) {
            return Err(SourceError::Address(self.document.clone()));
        }
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = Some((address.clone(), Instant::now()));
        Ok(address)
    }

    async fn get(&self, address: &Url) -> Result<Vec<u8>, SourceError> {
        let failed = |e: reqwest::Error| SourceError::Request(address.clone(), chain(&e.without_url()));
        let request = self.client.get(address.clone()).header("accept", "application/json").header("cache-control", "no-cache");
        let mut response = request.send().await.map_err(failed)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(SourceError::Status(address.clone(), response.status().as_u16()));
        }
        let too_long = || SourceError::TooLong(address.to_string());
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if (bytes.len() + chunk.len()) as u64 > MAX_BYTES {
                return Err(too_long());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// The address of an issuer's discovery document.
///
/// # Errors
/// Why the issuer's name is not an address that may be asked.
pub(super) fn document(issuer: &str, http_loopback: bool) -> Result<Url, &'static str> {
    let url = Url::parse(issuer).map_err(|_| "is not an address")?;
    if !permitted(&url, http_loopback) {
        return Err("is not an https address");
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err("has a query, a fragment or a user in its address");
    }
    Url::parse(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))).map_err(|_| "is not an address")
}

/// https anywhere; http to this machine, where that is allowed.
pub(crate) fn permitted(url: &Url, http_loopback: bool) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let loopback = || host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => !host.is_empty(),
        "http" => http_loopback && loopback(),
        _ => false,
    }
}

pub(crate) fn client(ca: Option<&[u8]>, http_loopback: bool) -> Result<reqwest::Client, String> {
    // The process's provider; an earlier one of the same kind may stand.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .https_only(!http_loopback)
        .connect_timeout(Duration::from_secs(3))
        .timeout(PATIENCE)
        .pool_max_idle_per_host(1)
        .user_agent("concordat-gateway");
    if let Some(pem) = ca {
        let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(|e| format!("ca is not a certificate: {e}"))?;
        if certificates.is_empty() {
            return Err("ca holds no certificate in PEM".into());
        }
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().map_err(|e| format!("no TLS towards it: {}", chain(&e)))
}

/// An error and its causes, nearest first.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_are_https_addresses_or_this_machine() {
        let at = |issuer: &str, loopback| document(issuer, loopback).map(|url| url.to_string());
        assert_eq!(at("https://id.example", false).unwrap(), "https://id.example/.well-known/openid-configuration");
        assert_eq!(at("https://id.example/realms/x/", false).unwrap(), "https://id.example/realms/x/.well-known/openid-configuration");
        assert!(at("http://127.0.0.1:80", true).is_ok() && at("http://localhost:80", true).is_ok() && at("http://[::1]:80", true).is_ok());
        for (issuer, loopback) in [
            ("http://127.0.0.1:80", false),
            ("http://id.example", true),
            ("http://127.0.0.1.id.example", true),
            ("https://id.example?x=1", false),
            ("https://id.example#x", false),
            ("https://user:secret@id.example", false),
            ("file:///etc/passwd", true),
            ("id.example", true),
            ("", true),
        ] {
            assert!(at(issuer, loopback).is_err(), "{issuer}");
        }
    }
}
