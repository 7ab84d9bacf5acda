//! From a connection's settings to a server that is ready for queries: socket, TLS, role.
//!
//! TLS comes before anything else is said, and a server that declines it is left: there is no falling back.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::scram::{self, Scram};
use super::wire::{Socket, SqlState, Wire, WireError, length};
use crate::source::settings::{Host, Settings};

/// How long signing in may take: well within the ten seconds in which a gateway wants an order answered.
const LOGIN: Duration = Duration::from_secs(4);
const PROTOCOL: u32 = 3 << 16;
const TLS_REQUEST: u32 = 80_877_103;
const CANCEL_REQUEST: u32 = 80_877_102;

/// What cancels a connection's statement.
#[derive(Clone, Copy)]
pub(super) struct CancelKey([u8; 8]);

/// Signs in.
pub(super) async fn login(settings: &Settings) -> Result<(Wire, Option<CancelKey>), WireError> {
    tokio::time::timeout(LOGIN, signed_in(settings)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Asks the server to cancel what another connection does. It does not answer.
pub(super) async fn cancel(settings: &Settings, key: CancelKey) -> Result<(), WireError> {
    let ask = async {
        let mut wire = Wire::new(socket(settings).await?);
        wire.raw(&[&16u32.to_be_bytes()[..], &CANCEL_REQUEST.to_be_bytes(), &key.0].concat()).await
    };
    tokio::time::timeout(LOGIN, ask).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn signed_in(settings: &Settings) -> Result<(Wire, Option<CancelKey>), WireError> {
    let mut wire = Wire::new(socket(settings).await?);
    let mut startup = PROTOCOL.to_be_bytes().to_vec();
    for text in ["user", &settings.user, "database", &settings.database, "application_name", "concordat-node"] {
        startup.extend_from_slice(text.as_bytes());
        startup.push(0);
    }
    startup.push(0);
    wire.raw(&[&length(&startup)?[..], &startup].concat()).await?;
    authenticate(&mut wire, settings).await?;
    let mut key = None;
    loop {
        match wire.next().await? {
            (b'K', body) => key = <[u8; 8]>::try_from(body).ok().map(CancelKey),
            (b'S' | b'N', _) => {}
            (b'Z', _) => return Ok((wire, key)),
            (b'E', body) => return Err(WireError::Server(SqlState::of(&body))),
            _ => return Err(WireError::Protocol("an unexpected message after sign-in")),
        }
    }
}

async fn authenticate(wire: &mut Wire, settings: &Settings) -> Result<(), WireError> {
    const NONE: WireError = WireError::Login("the server asks for a password; name its file in `password_file`");
    let (mut proven, mut known) = (None, false);
    // Without TLS, only the exchange of SCRAM tells that the server knows the password, and is not whoever took its port.
    let must = settings.tls.is_none() && matches!(settings.host, Host::Name(_)) && settings.password().map_err(WireError::File)?.is_some();
    loop {
        let (tag, body) = wire.next().await?;
        let (kind, rest) = match (tag, body.split_first_chunk::<4>()) {
            (b'R', Some((kind, rest))) => (u32::from_be_bytes(*kind), rest),
            (b'N', _) => continue,
            (b'E', _) => return Err(WireError::Server(SqlState::of(&body))),
            _ => return Err(WireError::Protocol("an unexpected message during sign-in")),
        };
        match (kind, proven.take()) {
            (0, None) if must && !known => {
                return Err(WireError::Login("the server lets anybody in, so it did not prove that it is ours: use TLS or scram-sha-256"));
            }
            (0, None) => return Ok(()),
            (3, None) if settings.tls.is_some() => {
                let password = settings.password().map_err(WireError::File)?.ok_or(NONE)?;
                wire.send(b'p', &[password.as_bytes(), b"\0"].concat()).await?;
            }
            (3, None) => return Err(WireError::Login("the server wants the password in clear on a connection without TLS")),
            (5, None) => {
                return Err(WireError::Login(
                    "the server wants the password hashed by MD5, which is broken; set it anew under scram-sha-256",
                ));
            }
            (10, None) => {
                let password = settings.password().map_err(WireError::File)?.ok_or(NONE)?;
                if !rest.split(|byte| *byte == 0).any(|name| name == scram::MECHANISM.as_bytes()) {
                    return Err(WireError::Login("the server offers no SCRAM-SHA-256"));
                }
                let scram = Scram::new()?;
                let first = scram.first();
                let message =
                    [scram::MECHANISM.as_bytes(), b"\0", &u32::try_from(first.len()).unwrap_or(0).to_be_bytes(), first.as_bytes()];
                wire.send(b'p', &message.concat()).await?;
                let (answer, proof) = match wire.next().await? {
                    (b'R', body) if body.starts_with(&11u32.to_be_bytes()) => {
                        scram.prove(password.as_bytes(), body.get(4..).unwrap_or_default())?
                    }
                    (b'E', body) => return Err(WireError::Server(SqlState::of(&body))),
                    _ => return Err(WireError::Protocol("an unexpected message during sign-in")),
                };
                wire.send(b'p', answer.as_bytes()).await?;
                proven = Some(proof);
            }
            // Only a server that has proven that it knows the password goes on to say that we may come in.
            (12, Some(proof)) => {
                proof.verify(rest)?;
                known = true;
            }
            _ => {
                return Err(WireError::Login(
                    "the server wants a way of signing in that is not offered: use scram-sha-256 or client certificates",
                ));
            }
        }
    }
}

async fn socket(settings: &Settings) -> Result<Box<dyn Socket>, WireError> {
    let mut tcp = match &settings.host {
        Host::Socket(folder) => return Ok(Box::new(UnixStream::connect(folder.join(format!(".s.PGSQL.{}", settings.port))).await?)),
        Host::Name(name) => TcpStream::connect((name.as_str(), settings.port)).await?,
    };
    tcp.set_nodelay(true)?;
    let (Some(tls), Host::Name(name)) = (&settings.tls, &settings.host) else { return Ok(Box::new(tcp)) };
    let config = tls.config().map_err(WireError::File)?;
    let name = ServerName::try_from(name.clone()).map_err(|_| WireError::Login("the host is no name that a certificate could have"))?;
    request_tls(&mut tcp).await?;
    // One byte of answer was read, and nothing beyond it: whatever follows is inside TLS.
    Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, tcp).await?))
}

async fn request_tls(tcp: &mut TcpStream) -> Result<(), WireError> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    tcp.write_all(&[8u32.to_be_bytes(), TLS_REQUEST.to_be_bytes()].concat()).await?;
    match tcp.read_u8().await? {
        b'S' => Ok(()),
        b'N' => Err(WireError::Login("the server offers no TLS (ssl = off)")),
        _ => Err(WireError::Protocol("no answer to the request for TLS")),
    }
}
