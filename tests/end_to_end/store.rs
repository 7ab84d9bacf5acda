//! A store that speaks S3, of the suite's own: rclone's server over a private folder, with TLS and one access key, on the loopback.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::Utc;
use concordat::federation::Authority;
use tempfile::TempDir;

use crate::postgres::secret;

pub const KEY: &str = "office-reader";
pub const SECRET: &str = "a secret+that/is=long enough";
pub const BUCKET: &str = "lake";

pub struct Store {
    pub port: u16,
    server: Child,
    folder: TempDir,
}

impl Store {
    /// A store with an empty bucket, running.
    pub fn start() -> Self {
        let authority = Authority::new(Utc::now().date_naive()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let identity = authority.server("localhost", &["localhost", "127.0.0.1"]).unwrap();
        secret(&path("server.pem"), &identity.certificate);
        secret(&path("server.key"), &identity.key);
        secret(&path("ca.pem"), authority.pem());
        secret(&path("secret"), SECRET);
        std::fs::create_dir_all(path("buckets").join(BUCKET)).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let rclone = Path::new(&std::env::var("CONCORDAT_CLIENTS").expect("run `tests/run`")).join("bin/rclone");
        let log = std::fs::File::create(path("server.log")).unwrap();
        let server = Command::new(rclone)
            .args(["serve", "s3", "--config", "", "--dir-cache-time", "1ms", "--poll-interval", "0", "--log-level", "ERROR"])
            .args(["--addr", &format!("127.0.0.1:{port}"), "--auth-key", &format!("{KEY},{SECRET}")])
            .arg("--cert")
            .arg(path("server.pem"))
            .arg("--key")
            .arg(path("server.key"))
            .arg(path("buckets"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "{}", std::fs::read_to_string(path("server.log")).unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { port, server, folder }
    }

    /// Where an object lies. Written there, it is in the store.
    pub fn object(&self, key: &str) -> PathBuf {
        let path = self.path("buckets").join(BUCKET).join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
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
