//! A PostgreSQL server of the suite's own: a private folder, a Unix socket, a TLS port on the loopback, ended with the test.
//!
//! Roles: `reader` (password, SELECT only), `certified` (client certificate only), `postgres` (superuser, by the socket).

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use chrono::Utc;
use concordat::federation::Authority;
use tempfile::TempDir;

pub const PASSWORD: &str = "it's \"quoted\" and long enough";

pub struct Postgres {
    bin: PathBuf,
    user: Option<(u32, u32)>,
    pub port: u16,
    pub authority: Authority,
    server: Option<Child>,
    folder: TempDir,
}

impl Postgres {
    /// A new, empty cluster, running.
    pub fn start() -> Self {
        let authority = Authority::new(Utc::now().date_naive()).unwrap();
        // Servers refuse to run as root.
        let root = id(&["-u"]) == Some(0);
        let user = root.then(|| (id(&["-u", "postgres"]).unwrap(), id(&["-g", "postgres"]).unwrap()));
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut postgres = Self { bin: bin(), user, port, authority, server: None, folder };
        postgres.own(postgres.folder.path());
        postgres.make();
        postgres.run();
        let password = PASSWORD.replace('\'', "''");
        postgres.sql(
            "postgres",
            &format!(
                "SET password_encryption = 'scram-sha-256'; CREATE ROLE reader LOGIN PASSWORD '{password}'; CREATE ROLE certified LOGIN"
            ),
        );
        postgres
    }

    fn make(&self) {
        let data = self.data();
        let made = self
            .command("initdb")
            .args(["-D", data.to_str().unwrap(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"])
            .output();
        worked(&made.unwrap());
        let identity = self.authority.server("localhost", &["localhost", "127.0.0.1"]).unwrap();
        self.file("server.pem", &identity.certificate);
        self.file("server.key", &identity.key);
        self.file("ca.pem", self.authority.pem());
        self.file("pg_hba.conf", "local all postgres trust\nlocal all all scram-sha-256\nhostssl all certified 127.0.0.1/32 cert\nhost all all 127.0.0.1/32 scram-sha-256\n");
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\nssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\nssl_ca_file = 'ca.pem'\nfsync = off\nsynchronous_commit = off\nfull_page_writes = off\nmax_wal_size = '4GB'\nshared_buffers = '256MB'\n",
            self.port,
            self.folder.path().display()
        );
        let path = data.join("postgresql.conf");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text + &settings).unwrap();
    }

    /// Starts the server again.
    pub fn run(&mut self) {
        let log = std::fs::File::create(self.folder.path().join("server.log")).unwrap();
        let mut command = self.command("postgres");
        command.args(["-D", self.data().to_str().unwrap()]).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.server = Some(command.spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(30);
        let ready =
            || self.command("pg_isready").args(["-q", "-h", self.socket().to_str().unwrap(), "-p", &self.port.to_string()]).status();
        while !ready().unwrap().success() {
            assert!(Instant::now() < deadline, "{}", std::fs::read_to_string(self.folder.path().join("server.log")).unwrap());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the server at once, with every connection.
    pub fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let _ = Command::new("kill").args(["-QUIT", &server.id().to_string()]).status();
        let deadline = Instant::now() + Duration::from_secs(10);
        while server.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                let _ = server.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Runs SQL as the superuser; what it answers, one row a line, columns parted by `|`.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.feed(database, sql.as_bytes())
    }

    /// Feeds a script, which may hold rows of a `COPY … FROM STDIN`.
    pub fn feed(&self, database: &str, script: &[u8]) -> String {
        let mut psql = self.psql(database).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut input = psql.stdin.take().unwrap();
        let script = script.to_vec();
        let feeding = std::thread::spawn(move || input.write_all(&script));
        let output = psql.wait_with_output().unwrap();
        feeding.join().unwrap().unwrap();
        worked(&output);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// `psql` as the superuser over the socket.
    pub fn psql(&self, database: &str) -> Command {
        let mut command = self.command("psql");
        command.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            database,
            "-p",
            &self.port.to_string(),
            "-h",
        ]);
        command.arg(self.socket());
        command
    }

    /// The folder of the Unix socket.
    pub fn socket(&self) -> &Path {
        self.folder.path()
    }

    /// What the server logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command.current_dir(self.folder.path()).env("LC_ALL", "C");
        command
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.data().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        self.own(&path);
    }

    fn own(&self, path: &Path) {
        if let Some((user, group)) = self.user {
            chown(path, Some(user), Some(group)).unwrap();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().ok()
}

/// The newest server's programs.
fn bin() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("install PostgreSQL: apt-get install postgresql");
    let version = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u32>().ok());
    let newest = versions.map(|entry| entry.unwrap().path()).filter(|path| path.join("bin/postgres").exists()).max_by_key(version);
    newest.expect("PostgreSQL's server is installed").join("bin")
}

fn worked(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A file for its owner only.
pub fn secret(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
