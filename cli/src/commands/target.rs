//! Which gateway a command asks, as whom, and for which purpose.

use std::path::PathBuf;

use chrono::Utc;
use clap::Args;

use super::DEFAULT_FOLDER;
use super::in_force::InForce;
use crate::client::{Client, ClientFile, Connection, IssuerFile};
use crate::failure::{Failure, Result};
use crate::federation::describe::Caller;
use crate::federation::layout::read;
use crate::federation::{GATEWAY_SERVER_NAME, Issuer, Layout};
use crate::output::Format;
use crate::session;

/// Minutes that a token made for one call lives.
const MINUTES: u32 = 5;

/// Where the gateway is, and whose token is shown.
#[derive(Debug, Clone, Args)]
pub(crate) struct Gateway {
    /// The federation's folder, whose client/client.toml says the rest
    #[arg(long, env = "CONCORDAT_FOLDER", default_value = DEFAULT_FOLDER, value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
    /// A gateway elsewhere, instead of --folder: https://host:port
    #[arg(long, env = "CONCORDAT_GATEWAY", value_name = "URL", requires = "ca", requires = "token_file")]
    gateway: Option<String>,
    /// With --gateway: the certificate authority that it is verified against (PEM)
    #[arg(long, env = "CONCORDAT_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// With --gateway: the name in its certificate
    #[arg(long, value_name = "NAME", default_value = GATEWAY_SERVER_NAME)]
    server_name: String,
    /// The file of a bearer token, instead of the one that client.toml says
    #[arg(long, env = "CONCORDAT_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Where the gateway is, who asks, and for which purpose.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    #[command(flatten)]
    gateway: Gateway,
    /// What the data is to be used for, for example opportunity.measure; client.toml has a default
    #[arg(long, env = "CONCORDAT_PURPOSE", value_name = "PURPOSE")]
    purpose: Option<String>,
    /// The mission, where the purpose leads to several
    #[arg(long, env = "CONCORDAT_MISSION", value_name = "MISSION")]
    mission: Option<String>,
}

impl Target {
    /// Connects.
    pub(crate) async fn connect(&self) -> Result<Client> {
        let asked = (self.purpose.as_deref(), self.mission.as_deref());
        Client::connect(self.gateway.connection(asked, |file| file.issuer.as_ref()).await?).await
    }

    /// Connects as the auditor of `client.toml`, where there is one: reading the log needs no purpose.
    pub(crate) async fn connect_auditor(&self) -> Result<Client> {
        self.gateway.connect_auditor().await
    }

    /// The target of a federation's folder, as its `client.toml` says.
    pub(crate) fn folder(folder: PathBuf) -> Self {
        Self { gateway: Gateway::folder(folder), purpose: None, mission: None }
    }

    /// How answers are written for the mission that counts, where client.toml says so.
    pub(crate) fn saved_output(&self) -> Result<Option<Format>> {
        if self.gateway.gateway.is_some() {
            return Ok(None);
        }
        let file = ClientFile::read(&Layout::new(&self.gateway.folder).client())?;
        InForce::of(self.purpose.as_deref(), self.mission.as_deref(), &file).format()
    }
}

impl Gateway {
    /// The gateway of a federation's folder.
    pub(crate) fn folder(folder: PathBuf) -> Self {
        Self { folder, gateway: None, ca: None, server_name: GATEWAY_SERVER_NAME.to_owned(), token_file: None }
    }

    /// The same, with the token of a file.
    pub(crate) fn by_token(self, file: PathBuf) -> Self {
        Self { token_file: Some(file), ..self }
    }

    /// Connects as a mission's service identity, for a purpose of that mission. A trial's own identity provider gives it a token; elsewhere
    /// the token is the one that is there, and whose it is the caller must find out.
    pub(crate) async fn connect_as(&self, service: Caller, mission: &str) -> Result<Client> {
        let trial = if self.gateway.is_none() && self.token_file.is_none() {
            let file = ClientFile::read(&Layout::new(&self.folder).client())?;
            file.issuer.filter(|_| file.token_file.is_none() && file.login.is_none())
        } else {
            None
        };
        let mut connection = self.connection((Some(&service.purpose), Some(mission)), |file| file.issuer.as_ref()).await?;
        if let Some(issuer) = trial {
            let caller = Caller { roles: issuer.roles.clone(), ..service };
            connection.token = Some(Issuer::open(&issuer.key)?.token(&caller, MINUTES, Utc::now())?);
        }
        Client::connect(connection).await
    }

    /// Connects for who reads the log, which needs no purpose.
    pub(crate) async fn connect_auditor(&self) -> Result<Client> {
        Client::connect(self.connection((None, None), |file| file.auditor.as_ref().or(file.issuer.as_ref())).await?).await
    }

    /// `issuer` says whose token is made where none is there.
    async fn connection(
        &self,
        (purpose, mission): (Option<&str>, Option<&str>),
        issuer: impl FnOnce(&ClientFile) -> Option<&IssuerFile>,
    ) -> Result<Connection> {
        let token = self.token_file.as_ref().map(|path| read(path).map(|token| token.trim().to_owned())).transpose()?;
        if let (Some(gateway), Some(ca)) = (&self.gateway, &self.ca) {
            return Ok(Connection {
                gateway: gateway.clone(),
                server_name: self.server_name.clone(),
                ca: read(ca)?,
                token,
                purpose: purpose.map(str::to_owned),
                mission: mission.map(str::to_owned),
            });
        }
        let file = ClientFile::read(&Layout::new(&self.folder).client())?;
        let in_force = InForce::of(purpose, mission, &file);
        Ok(Connection {
            token: Some(match token {
                Some(token) => token,
                None => token_of(&file, issuer(&file)).await?,
            }),
            ca: read(&file.ca)?,
            gateway: file.gateway,
            server_name: file.server_name,
            purpose: in_force.purpose.map(|(purpose, _)| purpose),
            mission: in_force.mission.map(|(mission, _)| mission),
        })
    }
}

/// The token that a `client.toml` leads to: its file, that of the sign-in (refreshed where needed), or a fresh one of the trial's
/// own identity provider; the first that is named.
async fn token_of(file: &ClientFile, issuer: Option<&IssuerFile>) -> Result<String> {
    match (&file.token_file, &file.login, issuer) {
        (Some(path), _, _) => Ok(read(path)?.trim().to_owned()),
        (None, Some(login), _) => session::token(login).await,
        (None, None, Some(issuer)) => Issuer::open(&issuer.key)?.token(&issuer.caller(), MINUTES, Utc::now()),
        (None, None, None) => {
            Err(Failure::new("client.toml names neither token_file nor [login] nor [issuer]").advice("name a token with --token-file"))
        }
    }
}
