//! The suite's identity provider: `tests/providers/oidc/server.mjs` as a child process, and a person's browser.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use chrono::Utc;
use concordat::federation::{Authority, Layout};
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use serde_json::{Value, json};

/// `aud` of its access tokens, and the resource for which they are asked.
pub const AUDIENCE: &str = "concordat-gateway";
pub const RESOURCE: &str = "https://gateway.example";
pub const CLIENT: &str = "concordat-cli";

/// A running provider with several issuers.
pub struct Provider {
    child: Child,
    admin: String,
    issuers: BTreeMap<String, String>,
    ca: PathBuf,
}

impl Provider {
    /// Starts one with a certificate of the sandbox's authority. Its accounts are analysts of the mission unit.
    pub fn start(layout: &Layout, issuers: &[&str]) -> Self {
        let own = std::env::current_exe().unwrap();
        let modules = own.ancestors().nth(3).unwrap().join("providers/oidc");
        assert!(
            modules.join("node_modules/oidc-provider").is_dir(),
            "the suite's identity provider is not installed: run tests/run, which installs it"
        );
        let identity = Authority::open(layout, Utc::now().date_naive()).unwrap().server("provider", &["127.0.0.1"]).unwrap();
        let (key, certificate) = (layout.folder().join("provider.key.pem"), layout.folder().join("provider.pem"));
        std::fs::write(&key, identity.key).unwrap();
        std::fs::write(&certificate, identity.certificate).unwrap();
        let options = json!({
            "modules": modules, "key": key, "certificate": certificate, "issuers": issuers, "resource": RESOURCE, "audience": AUDIENCE,
        });
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("providers/oidc/server.mjs");
        let errors = std::fs::File::create(layout.folder().join("provider.log")).unwrap();
        let mut child = Command::new("node")
            .arg(script)
            .arg(options.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("node is missing: run tests/run, which installs it");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let serves: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("{}", std::fs::read_to_string(layout.folder().join("provider.log")).unwrap()));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let issuers = serves["issuers"].as_object().unwrap().iter().map(|(name, url)| (name.clone(), text(url))).collect();
        Self { child, admin: text(&serves["admin"]), issuers, ca: layout.ca().join("ca.pem") }
    }

    /// `iss`.
    pub fn issuer(&self, name: &str) -> &str {
        &self.issuers[name]
    }

    /// `[[issuer]]` of a `gateway.toml`, by discovery, with further lines.
    pub fn issuer_section(&self, name: &str, more: &str) -> String {
        format!(
            "\n[[issuer]]\nissuer = '{}'\naudience = '{AUDIENCE}'\ndiscovery = true\nca = '{}'\nnot_before = 'issued_at'\ntoken_type = 'at+jwt'\n\
             organisations = ['mission-unit']\n{more}\n",
            self.issuer(name),
            self.ca.display()
        )
    }

    /// An action of the administration: see `server.mjs`.
    pub async fn act(&self, issuer: &str, action: &str, with: Value) -> Value {
        let http = reqwest_client(|builder| builder);
        let answer = http.post(format!("{}/{issuer}/{action}", self.admin)).body(with.to_string()).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{action}: {text}");
        if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
    }

    pub async fn fetches(&self, issuer: &str) -> u64 {
        self.act(issuer, "fetches", json!({})).await["fetches"].as_u64().unwrap()
    }

    /// The claims of a good access token, as the provider makes them.
    pub fn claims(&self) -> Value {
        let now = Utc::now().timestamp();
        json!({
            "aud": AUDIENCE, "sub": "analyst-1", "iat": now, "exp": now + 600, "client_id": CLIENT, "scope": "query",
            "organisation": "mission-unit", "roles": ["analyst"],
        })
    }

    /// A good access token.
    pub async fn token(&self, issuer: &str, kid: &str) -> String {
        self.signed(issuer, json!({ "alg": "ES256", "typ": "at+jwt", "kid": kid }), self.claims(), "key").await
    }

    /// A token of any shape.
    pub async fn signed(&self, issuer: &str, header: Value, claims: Value, by: &str) -> String {
        let made = self.act(issuer, "sign", json!({ "header": header, "claims": claims, "by": by })).await;
        made["token"].as_str().unwrap().to_owned()
    }

    /// What a browser does with an address of the provider: follow, with cookies, until it leaves for this machine's client.
    pub async fn browse(&self, address: &str) -> (u16, String) {
        let ca = std::fs::read(&self.ca).unwrap();
        let http = reqwest_client(|builder| builder.tls_certs_only([reqwest::Certificate::from_pem(&ca).unwrap()]));
        let mut cookies = BTreeMap::new();
        let mut url = reqwest::Url::parse(address).unwrap();
        for _ in 0..20 {
            let all = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
            let answer = http.get(url.clone()).header(COOKIE, all).send().await.unwrap();
            for cookie in answer.headers().get_all(SET_COOKIE) {
                let (name, value) = cookie.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
                cookies.insert(name.to_owned(), value.to_owned());
            }
            let Some(next) = answer.headers().get(LOCATION) else {
                return (answer.status().as_u16(), answer.text().await.unwrap());
            };
            url = url.join(next.to_str().unwrap()).unwrap();
        }
        panic!("the provider redirects without end");
    }
}

fn reqwest_client(with: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder) -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    with(reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none())).build().unwrap()
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
