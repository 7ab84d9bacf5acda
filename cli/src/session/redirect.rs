//! Where the browser comes back to: one request to a free port of this machine (RFC 8252, section 7.3).
//!
//! Only the request to `/callback` counts. Its `state` must be the one that was sent, and its `iss` the provider (RFC 9207):
//! anything else may be another page's doing, and ends the sign-in.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use openidconnect::url::Url;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::failure::{Failure, Result};

/// The longest request that is looked at.
const MAX_BYTES: usize = 16 << 10;
/// The most connections at a time.
const MAX_CONNECTIONS: usize = 16;
/// How long one connection may take to send its request.
const REQUEST: Duration = Duration::from_secs(10);

/// A listener for the browser.
pub(super) struct Redirect {
    listener: TcpListener,
    port: u16,
}

/// What the browser brought.
enum Brought {
    Nothing,
    Code(String),
    Wrong(Failure),
}

impl Redirect {
    /// Listens on a free port.
    pub(super) async fn listen() -> Result<Self> {
        let failed = |e| {
            Failure::new(format!("the browser could not come back: no port of this machine is free: {e}"))
                .advice("use `concordat login --device`")
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        Ok(Self { listener, port })
    }

    /// The address to send the browser to.
    pub(super) fn address(&self) -> String {
        format!("http://127.0.0.1:{}/callback", self.port)
    }

    /// Waits for the authorization code.
    pub(super) async fn code(&self, state: &str, issuer: Option<&str>, patience: Duration) -> Result<String> {
        let wait = async {
            // Browsers open connections that they do not use: one that is silent must not hold up the next.
            let mut open = FuturesUnordered::new();
            loop {
                let brought = tokio::select! {
                    accepted = self.listener.accept(), if open.len() < MAX_CONNECTIONS => {
                        if let Ok((connection, _)) = accepted {
                            open.push(tokio::time::timeout(REQUEST, self.serve(connection, state, issuer)));
                        }
                        continue;
                    }
                    Some(served) = open.next(), if !open.is_empty() => served.unwrap_or(Brought::Nothing),
                };
                match brought {
                    Brought::Nothing => {}
                    Brought::Code(code) => return Ok(code),
                    Brought::Wrong(failure) => return Err(failure),
                }
            }
        };
        let nobody =
            || Failure::new("nobody has signed in in the browser in time").advice("try again with `concordat login`, or with --device");
        tokio::time::timeout(patience, wait).await.unwrap_or_else(|_| Err(nobody()))
    }

    async fn serve(&self, mut connection: TcpStream, state: &str, issuer: Option<&str>) -> Brought {
        let Some(target) = target(&mut connection).await else { return Brought::Nothing };
        let brought = match Url::parse(&format!("http://127.0.0.1:{}{target}", self.port)) {
            Ok(url) if url.path() == "/callback" => brought(&url, state, issuer),
            _ => Brought::Nothing,
        };
        let (status, says) = match &brought {
            Brought::Code(_) => ("200 OK", "You are signed in. You can close this page."),
            Brought::Wrong(_) => ("400 Bad Request", "The sign-in failed; the terminal says why. You can close this page."),
            Brought::Nothing => ("404 Not Found", "There is nothing here."),
        };
        let page = format!("<!doctype html><meta charset=utf-8><title>Concordat</title><p>{says}</p>\n");
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\ncache-control: no-store\r\nreferrer-policy: no-referrer\r\nconnection: close\r\n\r\n{page}",
            page.len()
        );
        // The browser may be gone: what it brought counts all the same.
        let _ = connection.write_all(answer.as_bytes()).await;
        let _ = connection.shutdown().await;
        brought
    }
}

/// The target of a GET request: `/callback?…`.
async fn target(connection: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        if bytes.len() > MAX_BYTES || connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    let mut words = text.lines().next()?.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    (method == "GET" && target.starts_with('/')).then(|| target.to_owned())
}

fn brought(url: &Url, state: &str, issuer: Option<&str>) -> Brought {
    let all = |name: &str| url.query_pairs().filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect::<Vec<_>>();
    let one = |name: &str| all(name).into_iter().next().filter(|_| all(name).len() == 1);
    let again =
        |message: &str| Brought::Wrong(Failure::new(message).advice("close the browser's page and try again with `concordat login`"));
    if one("state").as_deref() != Some(state) {
        return again("the browser came back from another sign-in than the one that was started (state)");
    }
    if issuer.is_some_and(|issuer| one("iss").as_deref() != Some(issuer)) {
        return again("the browser came back from another identity provider than the one that was asked (iss)");
    }
    if let Some(error) = one("error") {
        // From the address bar, so anybody's: only the codes of the standard are repeated.
        let known = [
            "access_denied",
            "login_required",
            "consent_required",
            "invalid_request",
            "invalid_scope",
            "invalid_target",
            "unauthorized_client",
            "server_error",
        ];
        let code = known.into_iter().find(|known| *known == error).unwrap_or("unknown");
        return again(&format!("the provider did not sign in ({code})"));
    }
    match one("code").filter(|code| !code.is_empty()) {
        Some(code) => Brought::Code(code),
        None => again("the browser came back without a code"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_silent_connection_holds_up_nobody() {
        let redirect = Redirect::listen().await.unwrap();
        let request = async {
            let silent = TcpStream::connect(("127.0.0.1", redirect.port)).await.unwrap();
            let mut connection = TcpStream::connect(("127.0.0.1", redirect.port)).await.unwrap();
            connection.write_all(b"GET /callback?code=c&state=s HTTP/1.1\r\n\r\n").await.unwrap();
            silent
        };
        let (code, _silent) = tokio::join!(redirect.code("s", None, REQUEST / 2), request);
        assert_eq!(code.unwrap(), "c");
    }

    async fn after(target: &str, issuer: Option<&str>) -> std::result::Result<String, String> {
        let redirect = Redirect::listen().await.unwrap();
        let requests = async {
            // What a browser asks for beside; it does not count.
            for target in ["/favicon.ico", "/", target] {
                let mut connection = TcpStream::connect(("127.0.0.1", redirect.port)).await.unwrap();
                connection.write_all(format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
                let mut answer = String::new();
                connection.read_to_string(&mut answer).await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 ") && !answer.contains("secret"), "{answer}");
            }
        };
        let (code, ()) = tokio::join!(redirect.code("s1", issuer, Duration::from_secs(20)), requests);
        code.map_err(|failure| failure.message)
    }

    #[tokio::test]
    async fn only_the_sign_in_that_was_started_brings_a_code() {
        let issuer = Some("https://id.example");
        assert_eq!(after("/callback?code=secret&state=s1", None).await.unwrap(), "secret");
        assert_eq!(after("/callback?code=secret&state=s1&iss=https%3A%2F%2Fid.example", issuer).await.unwrap(), "secret");
        for (target, issuer, says) in [
            ("/callback?code=secret&state=s2", None, "(state)"),
            ("/callback?code=secret", None, "(state)"),
            ("/callback?code=secret&state=s1&state=s1", None, "(state)"),
            ("/callback?code=secret&state=s1", issuer, "(iss)"),
            ("/callback?code=secret&state=s1&iss=https%3A%2F%2Fevil.example", issuer, "(iss)"),
            ("/callback?error=access_denied&state=s1", None, "access_denied"),
            ("/callback?error=%1b%5b31m&state=s1", None, "(unknown)"),
            ("/callback?state=s1", None, "without a code"),
        ] {
            let message = after(target, issuer).await.unwrap_err();
            assert!(message.contains(says), "{target}: {message}");
        }
    }
}
