//! A MariaDB server of the suite's own: a private folder, a Unix socket, a TLS port on the loopback, ended with the test.
//!
//! Users: `reader` (password, SELECT on `office` only), `certified` (client certificate only), `root` (by the socket).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::Utc;
use concordat::federation::Authority;
use tempfile::TempDir;

use crate::postgres::{PASSWORD, secret};

pub struct Mariadb {
    pub port: u16,
    pub authority: Authority,
    server: Option<Child>,
    folder: TempDir,
}

impl Mariadb {
    /// A new server with an empty database `office`, running.
    pub fn start() -> Self {
        let authority = Authority::new(Utc::now().date_naive()).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut mariadb = Self { port, authority, server: None, folder: tempfile::tempdir().unwrap() };
        let made = Command::new("mariadb-install-db")
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"])
            .arg(format!("--datadir={}", mariadb.path("data").display()))
            // Else several at a time meet in the machine's own.
            .env("TMPDIR", mariadb.folder.path())
            .output()
            .expect("install MariaDB: apt-get install mariadb-server-core mariadb-client-core");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let identity = mariadb.authority.server("localhost", &["localhost", "127.0.0.1"]).unwrap();
        secret(&mariadb.path("server.pem"), &identity.certificate);
        secret(&mariadb.path("server.key"), &identity.key);
        secret(&mariadb.path("ca.pem"), mariadb.authority.pem());
        mariadb.run();
        let password = PASSWORD.replace('\'', "''");
        mariadb.sql(&format!(
            "CREATE DATABASE office; CREATE USER reader@'%' IDENTIFIED BY '{password}'; GRANT SELECT ON office.* TO reader@'%';
             CREATE USER certified@'%' REQUIRE SUBJECT '/CN=certified'; GRANT SELECT ON office.* TO certified@'%';"
        ));
        mariadb
    }

    /// Starts the server on the folder.
    pub fn run(&mut self) {
        let option = |name: &str, value: &Path| format!("--{name}={}", value.display());
        let mut command = Command::new("/usr/sbin/mariadbd");
        command
            .arg("--no-defaults")
            .args(["--user=root", "--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=128M"])
            .args(["--skip-name-resolve", "--general-log=1"])
            .arg(format!("--port={}", self.port))
            .arg(option("datadir", &self.path("data")))
            .arg(option("socket", &self.socket()))
            .arg(option("tmpdir", self.folder.path()))
            .arg(option("pid-file", &self.path("server.pid")))
            .arg(option("general-log-file", &self.path("statements.log")));
        if self.path("server.pem").exists() {
            let files = [("ssl-cert", "server.pem"), ("ssl-key", "server.key"), ("ssl-ca", "ca.pem")];
            command.args(files.map(|(name, file)| option(name, &self.path(file))));
        }
        let log = std::fs::File::create(self.path("server.log")).unwrap();
        self.server = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.client().args(["-e", "SELECT 1"]).output().unwrap().status.success() {
            assert!(Instant::now() < deadline, "{}", std::fs::read_to_string(self.path("server.log")).unwrap());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the server at once.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Runs SQL as root in `office`, or in none; what it answers, one row a line, columns parted by tabs.
    pub fn sql(&self, sql: &str) -> String {
        let mut client = self.client().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut input = client.stdin.take().unwrap();
        let script = sql.as_bytes().to_vec();
        let feeding = std::thread::spawn(move || input.write_all(&script));
        let output = client.wait_with_output().unwrap();
        feeding.join().unwrap().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The server's own client, signed in as root.
    pub fn client(&self) -> Command {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-N", "-B", "-u", "root", "--default-character-set=utf8mb4"]);
        command.arg(format!("--socket={}", self.socket().display()));
        command
    }

    /// The Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.path("s")
    }

    /// A file beside the server's data.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The statements that the server was given.
    pub fn statements(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path("statements.log")).unwrap()).into_owned()
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        self.stop();
    }
}
