//! `concordat login`, `logout` and `whoami`: the real program, at a certified provider.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::identity::world;
use crate::provider::{CLIENT, Provider, RESOURCE};
use crate::sandbox::{Sandbox, program};

const QUERY: [&str; 5] = ["query", "--output", "json", "--sql", "SELECT count(*) AS persons FROM dfe.attainment"];

/// A person at a terminal: a folder with a `client.toml`, and a place for the state.
struct Desk {
    folder: PathBuf,
    state: PathBuf,
}

struct Done {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Desk {
    fn new(sandbox: &Sandbox, provider: &Provider, name: &str) -> Self {
        let folder = sandbox.layout.folder().join(name);
        let ca = sandbox.layout.ca().join("ca.pem");
        std::fs::create_dir_all(folder.join("client")).unwrap();
        let connection = sandbox.connection();
        let text = format!(
            "gateway = '{}'\nserver_name = '{}'\nca = '{ca}'\npurpose = 'opportunity.measure'\n\n[login]\nissuer = '{}'\nclient_id = '{CLIENT}'\n\
             resource = '{RESOURCE}'\nca = '{ca}'\n",
            connection.gateway,
            connection.server_name,
            provider.issuer("a"),
            ca = ca.display(),
        );
        std::fs::write(folder.join("client/client.toml"), text).unwrap();
        Self { state: folder.join("state"), folder }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).arg("--folder").arg(&self.folder).env("XDG_STATE_HOME", &self.state).env("HOME", &self.folder);
        for name in [
            "DBUS_SESSION_BUS_ADDRESS",
            "XDG_RUNTIME_DIR",
            "DISPLAY",
            "WAYLAND_DISPLAY",
            "BROWSER",
            "HTTPS_PROXY",
            "https_proxy",
            "ALL_PROXY",
        ] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Done {
        let output = self.command(arguments).output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Done { status: output.status, stdout: text(output.stdout), stderr: unwrapped(&text(output.stderr)) }
    }

    async fn ok(&self, arguments: &[&str]) -> Done {
        let done = self.run(arguments).await;
        assert!(done.status.success(), "{arguments:?}: {}", done.stderr);
        done
    }

    /// Runs until its standard error has said something with `mark`; the line, and how to go on.
    async fn started(&self, arguments: &[&str], mark: &str) -> (String, Waiting) {
        let mut child = self.command(arguments).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).await.unwrap() > 0, "it ended: {said}");
            said.push_str(&line);
            if line.contains(mark) {
                return (line.trim().to_owned(), Waiting { child, stderr, said });
            }
        }
    }

    fn session_file(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.state.join("concordat")).ok()?;
        entries.map(|entry| entry.unwrap().path()).find(|path| path.extension().is_some_and(|e| e == "json"))
    }

    fn session(&self) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.session_file().expect("a session is kept")).unwrap()).unwrap()
    }

    /// Signs in with a device code, and approves it.
    async fn sign_in(&self, provider: &Provider) {
        let (line, waiting) = self.started(&["login", "--device"], "enter the code").await;
        let code = line.rsplit(' ').next().unwrap();
        assert_eq!(provider.act("a", "approve", json!({ "code": code })).await["found"], true);
        let done = waiting.end().await;
        assert!(done.status.success(), "{}", done.stderr);
        self.tells_no_secret(&done);
    }

    fn tells_no_secret(&self, done: &Done) {
        let session = self.session();
        for secret in ["access_token", "refresh_token"] {
            let secret = session[secret].as_str().unwrap();
            assert!(!done.stdout.contains(secret) && !done.stderr.replace(' ', "").contains(secret), "a token was printed");
        }
        assert_eq!(done.stdout, "", "a sign-in has no result");
    }
}

/// A program that waits for a person.
struct Waiting {
    child: Child,
    stderr: BufReader<tokio::process::ChildStderr>,
    said: String,
}

impl Waiting {
    async fn end(mut self) -> Done {
        self.stderr.read_to_string(&mut self.said).await.unwrap();
        let output = self.child.wait_with_output().await.unwrap();
        Done { status: output.status, stdout: String::from_utf8(output.stdout).unwrap(), stderr: unwrapped(&self.said) }
    }
}

/// Reports are wrapped for people: the words again, one space apart.
fn unwrapped(text: &str) -> String {
    text.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_person_signs_in_by_device_code_asks_and_signs_out() {
    use std::os::unix::fs::PermissionsExt as _;
    let (sandbox, provider) = world(&["a"], "").await;
    let desk = Desk::new(&sandbox, &provider, "desk");
    let done = desk.run(&QUERY).await;
    assert_eq!(done.status.code(), Some(10), "{}", done.stderr);
    assert!(done.stderr.contains("nobody is signed in") && done.stderr.contains("concordat login"), "{}", done.stderr);
    desk.sign_in(&provider).await;
    let mode = std::fs::metadata(desk.session_file().unwrap()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let answer: Value = serde_json::from_str(&desk.ok(&QUERY).await.stdout).unwrap();
    assert!(answer["rows"][0]["persons"].as_u64().unwrap() > 10);
    let me: Value = serde_json::from_str(&desk.ok(&["whoami", "--output", "json"]).await.stdout).unwrap();
    assert_eq!(
        (&me["issuer"], &me["subject"], &me["organisation"]),
        (&json!(provider.issuer("a")), &json!("analyst-1"), &json!("mission-unit"))
    );
    assert!(me["purposes"].as_array().unwrap().iter().any(|p| p["id"] == "opportunity.measure"), "{me}");
    let table = desk.ok(&["whoami"]).await.stdout;
    assert!(table.contains("analyst-1") && table.contains("opportunity.measure"), "{table}");
    // A file that others can read is not used.
    let file = desk.session_file().unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let done = desk.run(&QUERY).await;
    assert!(!done.status.success() && done.stderr.contains("readable by others"), "{}", done.stderr);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    // Signed out: here and at the provider.
    let stolen = std::fs::read_to_string(&file).unwrap();
    let done = desk.ok(&["logout"]).await;
    assert!(done.stderr.contains("revoked") && desk.session_file().is_none(), "{}", done.stderr);
    assert_eq!(desk.run(&QUERY).await.status.code(), Some(10));
    assert!(desk.ok(&["logout"]).await.stderr.contains("nobody is signed in"));
    let mut stolen: Value = serde_json::from_str(&stolen).unwrap();
    stolen["expires"] = json!(1);
    std::fs::write(&file, stolen.to_string()).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let done = desk.run(&QUERY).await;
    assert!(done.status.code() == Some(10) && done.stderr.contains("ended the sign-in"), "{}", done.stderr);
}

#[tokio::test]
async fn a_sign_in_is_refreshed_silently_and_by_one_process_at_a_time() {
    let (sandbox, provider) = world(&["a"], "").await;
    let desk = Desk::new(&sandbox, &provider, "desk");
    provider.act("a", "set", json!({ "seconds": 1 })).await;
    desk.sign_in(&provider).await;
    let old = desk.session();
    while chrono::Utc::now().timestamp() <= old["expires"].as_i64().unwrap() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let done = desk.ok(&QUERY).await;
    assert_eq!(done.stderr, "", "silently");
    let new = desk.session();
    assert_ne!(old["access_token"], new["access_token"]);
    assert_ne!(old["refresh_token"], new["refresh_token"], "the provider rotates");
    // Each finds it expired; a refresh token that is used twice would end the sign-in.
    let (a, b, c, d) = tokio::join!(desk.run(&QUERY), desk.run(&QUERY), desk.run(&QUERY), desk.run(&QUERY));
    for done in [a, b, c, d] {
        assert!(done.status.success(), "{}", done.stderr);
    }
    // A provider that is away: the token that is still good is used, an expired one is not.
    provider.act("a", "set", json!({ "seconds": 12 })).await;
    desk.ok(&QUERY).await;
    provider.act("a", "down", json!({ "down": true })).await;
    desk.ok(&QUERY).await;
    while chrono::Utc::now().timestamp() <= desk.session()["expires"].as_i64().unwrap() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let done = desk.run(&QUERY).await;
    assert!(!done.status.success() && done.stderr.contains("cannot be reached"), "{}", done.stderr);
}

#[tokio::test]
async fn a_person_signs_in_by_browser() {
    let (sandbox, provider) = world(&["a"], "").await;
    let desk = Desk::new(&sandbox, &provider, "desk");
    let (address, waiting) = desk.started(&["login", "--no-browser"], "https://").await;
    for part in ["code_challenge=", "code_challenge_method=S256", "state=", "nonce=", "response_type=code"] {
        assert!(address.contains(part), "{part} is not in {address}");
    }
    let (status, page) = provider.browse(&address).await;
    assert!(status == 200 && page.contains("signed in"), "{status} {page}");
    let done = waiting.end().await;
    assert!(done.status.success(), "{}", done.stderr);
    desk.tells_no_secret(&done);
    desk.ok(&QUERY).await;
    // Another page sends the browser with a code of its own: it ends nothing but this sign-in.
    let other = Desk::new(&sandbox, &provider, "other");
    let (address, waiting) = other.started(&["login", "--no-browser"], "https://").await;
    let address = reqwest::Url::parse(&address).unwrap();
    let back = address.query_pairs().find(|(name, _)| name == "redirect_uri").unwrap().1.into_owned();
    let (status, _) = provider.browse(&format!("{back}?code=stolen&state=guessed")).await;
    assert_eq!(status, 400);
    let done = waiting.end().await;
    assert!(!done.status.success() && done.stderr.contains("(state)") && other.session_file().is_none(), "{}", done.stderr);
    // The person declines.
    provider.act("a", "set", json!({ "declines": true })).await;
    let (address, waiting) = other.started(&["login", "--no-browser"], "https://").await;
    provider.browse(&address).await;
    let done = waiting.end().await;
    assert!(!done.status.success() && done.stderr.contains("access_denied"), "{}", done.stderr);
}

#[tokio::test]
async fn sign_ins_that_come_to_nothing_say_why_and_what_to_do() {
    let (sandbox, provider) = world(&["a"], "").await;
    let desk = Desk::new(&sandbox, &provider, "desk");
    let (line, waiting) = desk.started(&["login", "--device"], "enter the code").await;
    provider.act("a", "decline", json!({ "code": line.rsplit(' ').next().unwrap() })).await;
    let done = waiting.end().await;
    assert!(!done.status.success() && done.stderr.contains("declined") && done.stderr.contains("try again"), "{}", done.stderr);
    provider.act("a", "set", json!({ "deviceSeconds": 1 })).await;
    let (_, waiting) = desk.started(&["login", "--device"], "enter the code").await;
    let done = waiting.end().await;
    assert!(!done.status.success() && done.stderr.contains("try again"), "{}", done.stderr);
    provider.act("a", "down", json!({ "down": true })).await;
    let done = desk.run(&["login", "--device"]).await;
    assert!(!done.status.success() && done.stderr.contains("cannot be reached"), "{}", done.stderr);
    let file = desk.folder.join("client/client.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.split("[login]").next().unwrap()).unwrap();
    let done = desk.run(&["login"]).await;
    assert!(!done.status.success() && done.stderr.contains("no [login]") && done.stderr.contains("add [login]"), "{}", done.stderr);
    assert!(desk.session_file().is_none());
}
