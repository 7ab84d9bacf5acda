//! A store that speaks S3, of the suite's own: SeaweedFS over a private folder, with TLS and one access key, on the loopback.
//! Objects are written through its filer, which speaks plain HTTP to this machine.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::Utc;
use concordat::federation::Authority;
use concordat_node::source::Store as Source;
use concordat_node::source::settings::{Host, Settings, Tls};
use tempfile::TempDir;

use crate::postgres::secret;

pub const KEY: &str = "office-reader";
pub const SECRET: &str = "a secret+that/is=long enough";
pub const BUCKET: &str = "lake";

pub struct Store {
    pub port: u16,
    filer: u16,
    server: Child,
    folder: TempDir,
}

impl Store {
    /// A store with one bucket, running.
    pub fn start() -> Self {
        let authority = Authority::new(Utc::now().date_naive()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let identity = authority.server("localhost", &["localhost", "127.0.0.1"]).unwrap();
        let identities = serde_json::json!({ "identities": [{
            "name": "reader", "credentials": [{ "accessKey": KEY, "secretKey": SECRET }], "actions": ["Read", "List"],
        }] });
        for (name, text) in [
            ("server.pem", identity.certificate.as_str()),
            ("server.key", &identity.key),
            ("ca.pem", authority.pem()),
            ("secret", SECRET),
            ("identities.json", &identities.to_string()),
        ] {
            secret(&path(name), text);
        }
        std::fs::create_dir(path("data")).unwrap();
        // Held until all are known, so that they differ.
        let held: Vec<TcpListener> = (0..8).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = held.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(held);
        let names = [
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
            "s3.port",
            "s3.port.grpc",
        ];
        let weed = Path::new(&std::env::var("CONCORDAT_CLIENTS").expect("run `tests/run`")).join("bin/weed");
        let log = std::fs::File::create(path("server.log")).unwrap();
        let server = Command::new(weed)
            .args([
                "-logtostderr",
                "server",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-filer",
                "-s3",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
            ])
            .args(["-volume.max=4", "-master.volumeSizeLimitMB=64", "-master.telemetry=false"])
            .args(names.iter().zip(&ports).map(|(name, port)| format!("-{name}={port}")))
            .args(
                [("dir", "data"), ("s3.config", "identities.json"), ("s3.cert.file", "server.pem"), ("s3.key.file", "server.key")]
                    .map(|(name, file)| format!("-{name}={}", path(file).display())),
            )
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let store = Self { port: ports[6], filer: ports[4], server, folder };
        let deadline = Instant::now() + Duration::from_secs(30);
        while store.try_write("begun", "").is_err() || TcpStream::connect(("127.0.0.1", store.port)).is_err() {
            assert!(Instant::now() < deadline, "{}", std::fs::read_to_string(store.path("server.log")).unwrap());
            std::thread::sleep(Duration::from_millis(50));
        }
        store
    }

    /// Writes an object.
    pub fn write(&self, key: &str, content: impl AsRef<[u8]>) {
        self.try_write(key, content).unwrap();
    }

    fn try_write(&self, key: &str, content: impl AsRef<[u8]>) -> Result<(), String> {
        let content = content.as_ref();
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-=".contains(byte);
        let escaped: String =
            key.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect();
        let mut filer = TcpStream::connect(("127.0.0.1", self.filer)).map_err(|e| e.to_string())?;
        let head = format!(
            "PUT /buckets/{BUCKET}/{escaped} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
            content.len()
        );
        let mut answer = String::new();
        let told =
            filer.write_all(head.as_bytes()).and_then(|()| filer.write_all(content)).and_then(|()| filer.read_to_string(&mut answer));
        told.map_err(|e| e.to_string())?;
        if answer.starts_with("HTTP/1.1 2") { Ok(()) } else { Err(answer) }
    }

    /// The store as a node reads it.
    pub fn source(&self) -> Source {
        let settings = Settings {
            host: Host::Name("localhost".into()),
            port: self.port,
            user: KEY.into(),
            database: BUCKET.into(),
            password_file: Some(self.path("secret")),
            tls: Some(Tls { ca: self.path("ca.pem"), identity: None }),
        };
        Source { name: "lake".into(), settings, region: "us-east-1".into() }
    }

    /// A file beside the store: `ca.pem`, `secret`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
