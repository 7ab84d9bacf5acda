//! The real `concordat` program against a running federation: every output format read back, exit codes, defaults, search.

mod broken;
mod formats;

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use concordat::failure::{LOCAL, UNREACHABLE, USAGE};
use concordat_policy::Code;
use concordat_proto::status::{exit_code, table};
use serde_json::{Value, json};

use crate::sandbox::{Sandbox, program};

const VIEW: &[&str] = &["query", "--view", "opportunity_by_region"];

/// What a command did.
pub struct Ran {
    pub exit: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.text(), self.stderr))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self { exit: output.status.code().unwrap_or(-1), stdout: output.stdout, stderr: String::from_utf8(output.stderr).unwrap() }
    }
}

/// The program with nothing of this process's settings.
pub fn command(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).stdin(Stdio::null());
    for name in ["FOLDER", "GATEWAY", "CA", "TOKEN_FILE", "PURPOSE", "MISSION", "OUTPUT"] {
        command.env_remove(format!("CONCORDAT_{name}"));
    }
    command.env_remove("NO_COLOR");
    command
}

/// The program against a sandbox.
pub fn against(sandbox: &Sandbox, arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command.arg("--folder").arg(sandbox.layout.folder());
    command
}

/// Runs the program to its end.
pub fn run(sandbox: &Sandbox, arguments: &[&str]) -> Ran {
    against(sandbox, arguments).output().unwrap().into()
}

#[tokio::test]
async fn every_kind_of_refusal_that_can_be_provoked_has_its_exit_code() {
    let mut sandbox = Sandbox::start(500).await;
    let sql = |sql: &str| run(&sandbox, &["query", "--sql", sql]);
    let refused = |ran: Ran, code: Code| {
        assert_eq!(ran.exit, i32::from(exit_code(code)), "{code:?}: {}", ran.stderr);
        assert!(ran.stdout.is_empty() && ran.stderr.contains(code.as_str()), "{code:?}: {}", ran.stderr);
        ran
    };
    assert_eq!(sql("SELECT count(*) AS n FROM dfe.attainment").exit, 0);
    let denied = refused(sql("SELECT region, attainment8 FROM dfe.attainment"), Code::Denied);
    assert!(denied.stderr.contains("query id") && denied.stderr.contains("dfe"), "{}", denied.stderr);
    assert!(denied.stderr.contains("data-sharing@dfe.example"), "a department's rule says whom to ask: {}", denied.stderr);
    refused(sql("SELEC"), Code::Invalid);
    refused(sql("SELECT 1 AS x FROM dfe.attainment"), Code::Disclosure);
    refused(sql(&format!("SELECT '{}'", "x".repeat(40_000))), Code::LimitExceeded);
    let token = sandbox.layout.folder().join("junk.jwt");
    std::fs::write(&token, "junk").unwrap();
    let token = token.to_str().unwrap();
    refused(run(&sandbox, &["query", "--view", "coverage", "--token-file", token]), Code::Unauthenticated);
    refused(run(&sandbox, &["query", "--view", "coverage", "--purpose", "no-such-purpose"]), Code::Denied);
    assert_eq!(run(&sandbox, &["query"]).exit, i32::from(USAGE));
    assert_eq!(run(&sandbox, &["query", "--sql", "SELECT $x"]).exit, i32::from(USAGE));
    assert_eq!(command(["query", "--view", "coverage", "--folder", "/nowhere"]).output().unwrap().status.code(), Some(i32::from(LOCAL)));
    let ca = sandbox.layout.ca().join("ca.pem");
    let elsewhere =
        ["query", "--view", "coverage", "--gateway", "https://127.0.0.1:1", "--ca", ca.to_str().unwrap(), "--token-file", token];
    assert_eq!(command(elsewhere).output().unwrap().status.code(), Some(i32::from(UNREACHABLE)));
    sandbox.running.kill("dwp");
    refused(run(&sandbox, &["query", "--sql", "SELECT count(*) AS n FROM dwp.claims"]), Code::NodeUnavailable);
    std::fs::remove_file(sandbox.layout.node("dwp").join("agreements/opportunity.toml")).unwrap();
    sandbox.running.restart_node("dwp").await.unwrap();
    // The gateway asks a department that was gone again after a moment.
    let unavailable = i32::from(exit_code(Code::NodeUnavailable));
    let tries = (0..20).map(|_| run(&sandbox, &["query", "--sql", "SELECT count(*) AS n FROM dwp.claims"]));
    let ran = tries.inspect(|_| std::thread::sleep(std::time::Duration::from_millis(200))).find(|ran| ran.exit != unavailable).unwrap();
    assert!([Code::NodeRefused, Code::NodeFaulty].map(|c| i32::from(exit_code(c))).contains(&ran.exit), "{}: {}", ran.exit, ran.stderr);
}

#[test]
fn the_table_of_errors_is_the_one_in_force() {
    let printed: Ran = command(["errors", "--output", "json"]).output().unwrap().into();
    let errors = printed.json()["errors"].as_array().unwrap().clone();
    for row in table() {
        let line = errors.iter().find(|e| e["code"] == row.code.as_str()).unwrap();
        assert_eq!((line["exit"].as_u64(), line["sqlstate"].as_str()), (Some(u64::from(row.exit)), Some(row.sqlstate)));
    }
    let text = Ran::from(command(["errors"]).output().unwrap()).text();
    assert_eq!(text.lines().count(), errors.len() + 2, "{text}");
    assert!(text.contains("PERMISSION_DENIED") && text.contains("42501"));
}

#[tokio::test]
async fn defaults_of_the_mission_count_after_the_environment_and_the_command_line() {
    let sandbox = Sandbox::start(500).await;
    let view = ["query", "--view", "cardiovascular_support"];
    assert_ne!(run(&sandbox, &view).exit, 0, "the file's own purpose belongs to another mission");
    let chosen = run(&sandbox, &["use", "healthy-life", "--purpose", "health.prevention", "--output", "csv"]);
    assert!(chosen.exit == 0 && chosen.text().contains("health.prevention"), "{}{}", chosen.text(), chosen.stderr);
    let csv = run(&sandbox, &view);
    assert!(csv.exit == 0 && csv.text().contains("\r\n"), "{}{}", csv.text(), csv.stderr);
    assert_eq!(run(&sandbox, &[&view[..], &["--output", "json"]].concat()).json()["answer"]["mission"], "healthy-life");
    let json = Ran::from(against(&sandbox, &view).env("CONCORDAT_OUTPUT", "json").output().unwrap()).json();
    assert_eq!(json["answer"]["purpose"], "health.prevention");
    let environment = against(&sandbox, &["query", "--view", "coverage", "--output", "json"])
        .env("CONCORDAT_PURPOSE", "opportunity.measure")
        .output()
        .unwrap();
    assert_eq!(Ran::from(environment).json()["answer"]["mission"], "opportunity");
    let flag = against(&sandbox, &[&view[..], &["--purpose", "health.prevention"]].concat()).env("CONCORDAT_PURPOSE", "nonsense").output();
    assert_eq!(Ran::from(flag.unwrap()).exit, 0);
    let shown = run(&sandbox, &["use"]).text();
    let row = |what: &str| shown.lines().find(|l| l.starts_with(what)).unwrap_or_else(|| panic!("{shown}")).to_owned();
    assert!(row("mission").contains("healthy-life") && row("purpose").contains("[mission.healthy-life]"), "{shown}");
    assert!(row("output").contains("csv") && row("gateway").contains("https://"), "{shown}");
    let wrong = against(&sandbox, &view).env("CONCORDAT_OUTPUT", "papyrus").output().unwrap();
    assert_eq!(Ran::from(wrong).exit, i32::from(USAGE));
}

#[tokio::test]
async fn the_catalogue_finds_a_code_and_says_whom_to_ask() {
    let sandbox = Sandbox::start(300).await;
    let found = run(&sandbox, &["catalogue", "ISLES OF SCILLY"]);
    let text = found.text();
    assert!(found.exit == 0 && text.contains("dfe.attainment.region") && text.contains("  Isles of Scilly\n"), "{text}{}", found.stderr);
    assert!(text.contains("data-sharing@dfe.example") && !text.contains("dwp"), "{text}");
    let json = run(&sandbox, &["catalogue", "isles of scilly", "--output", "json"]).json();
    assert_eq!(json["departments"][0]["contact"], "data-sharing@dfe.example");
    let datasets = json["datasets"].as_array().unwrap();
    assert_eq!((datasets.len(), datasets[0]["minimum_subjects"].as_u64()), (1, Some(10)));
    assert!(datasets[0]["freshness"].as_str().unwrap().ends_with('Z'));
    assert_eq!(datasets[0]["columns"][0]["classification"], "personal");
    let views: Vec<&str> = datasets[0]["views"].as_array().unwrap().iter().map(|view| view.as_str().unwrap()).collect();
    assert_eq!(views, ["apprenticeship_gap", "apprenticeships_completed", "claims_by_region", "coverage", "opportunity_by_region"]);
    assert_eq!(json["agreements"][0]["id"], "opportunity");
    assert_eq!(json["agreements"][0]["max_unwitnessed"], "4 hours");
    // What a column may be compared with.
    let json = run(&sandbox, &["catalogue", "dfe.attainment", "--output", "json"]).json();
    let column = |name: &str| json["datasets"][0]["columns"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap();
    let (limit, bands) = (&column("attainment8")["filter"], &column("attainment8")["bands"]);
    assert_eq!((limit, bands), (&json!("bands"), &json!(["20", "30", "40", "50", "60", "70"])));
    assert_eq!((&column("region")["filter"], &column("region")["bands"]), (&json!(null), &json!([])));
    let whole = run(&sandbox, &["catalogue"]).text();
    for word in [
        "Mission opportunity",
        "(filter only by < and >= with 20 | 30 | 40 | 50 | 60 | 70)",
        "opportunity_by_region",
        "dwp.claims.months_claiming",
        "data-sharing@dsit.example",
        "in force until",
        "4 hours",
    ] {
        assert!(whole.contains(word), "{word}: {whole}");
    }
    // Not for this purpose: no search finds it, and what is nowhere looks the same.
    let (hidden, absent) = (run(&sandbox, &["catalogue", "cardiovascular"]), run(&sandbox, &["catalogue", "nowhere-at-all"]));
    assert_eq!((hidden.exit, &hidden.stdout), (absent.exit, &absent.stdout));
    assert_eq!(hidden.stderr.replace("cardiovascular", "T"), absent.stderr.replace("nowhere-at-all", "T"));
    assert_eq!(run(&sandbox, &["views"]).text(), whole, "its old name still works");
}

#[tokio::test]
async fn progress_tells_stages_and_bytes_only_where_it_is_wanted() {
    let sandbox = Sandbox::start(500).await;
    let wanted = run(&sandbox, &[VIEW, &["--progress", "--output", "json"]].concat()).stderr;
    for stage in ["connecting", "planning", "waiting for departments", "receiving", "received"] {
        assert!(wanted.contains(stage), "{stage}: {wanted}");
    }
    assert!(!run(&sandbox, VIEW).stderr.contains("planning"), "nobody watches a pipe");
    let quiet = run(&sandbox, &[VIEW, &["--quiet"]].concat());
    assert!(quiet.exit == 0 && quiet.stderr.is_empty() && !quiet.stdout.is_empty(), "{}", quiet.stderr);
    let refused = run(&sandbox, &["query", "--quiet", "--sql", "SELEC"]);
    assert!(refused.stderr.contains("invalid"), "failures are told: {}", refused.stderr);
}

/// Runs a line of shell on a terminal of its own; what the terminal got.
fn on_a_terminal(line: &str, environment: Option<(&str, &str)>) -> Ran {
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", line, "/dev/null"]).stdin(Stdio::null()).env("TERM", "xterm-256color");
    script.env_remove("NO_COLOR").envs(environment);
    script.output().expect("`script` of util-linux").into()
}

#[tokio::test]
async fn colours_are_for_terminals_that_want_them_and_binary_for_none() {
    let sandbox = Sandbox::start(300).await;
    let line = |more: &str| {
        let folder = sandbox.layout.folder().display();
        format!("{} query --view opportunity_by_region --folder {folder} 2>/dev/null {more}", program().display())
    };
    let colours = |ran: &Ran| ran.text().contains("\u{1b}[1m");
    let seen = on_a_terminal(&line(""), None);
    assert!(seen.exit == 0 && colours(&seen), "{}", seen.text());
    let plain = on_a_terminal(&line(""), Some(("NO_COLOR", "1")));
    assert!(plain.text().contains("region") && !plain.text().contains('\u{1b}'), "{}", plain.text());
    assert!(!on_a_terminal(&line("| cat"), None).text().contains('\u{1b}'));
    for format in ["arrow", "parquet"] {
        let refused = on_a_terminal(&line(&format!("--output {format}")), None);
        assert!(refused.exit == i32::from(USAGE) && refused.stdout.is_empty(), "{format}: {}", refused.exit);
    }
}

#[test]
fn completions_are_accepted_by_the_shells_that_are_here() {
    let mut accepted = 0;
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let script = Ran::from(command(["completions", shell]).output().unwrap());
        assert!(script.exit == 0 && script.text().contains("catalogue") && script.text().contains("param"), "{shell}");
        let Ok(mut child) = Command::new(shell).arg(check).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn() else { continue };
        child.stdin.take().unwrap().write_all(&script.stdout).unwrap();
        let checked = child.wait_with_output().unwrap();
        assert!(checked.status.success() && checked.stderr.is_empty(), "{shell}: {}", String::from_utf8_lossy(&checked.stderr));
        accepted += 1;
    }
    assert!(accepted > 0, "there is bash at least");
}

#[test]
fn manual_pages_are_written_for_every_command_that_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let ran: Ran = command(["man", "--to", folder.path().join("man1").to_str().unwrap()]).output().unwrap().into();
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    let page = |name: &str| std::fs::read_to_string(folder.path().join("man1").join(name));
    let query = page("concordat-query.1").unwrap();
    assert!(query.contains("Parameters") && query.contains("opportunity_by_region"), "{query}");
    for shown in ["concordat.1", "concordat-catalogue.1", "concordat-consent-record.1", "concordat-use.1"] {
        assert!(page(shown).is_ok(), "{shown}");
    }
    assert!(page("concordat-gateway.1").is_err(), "hidden commands have none");
    assert!(Path::new(&folder.path().join("man1")).is_dir());
}

/// Needs a gateway with prepared statements.
#[tokio::test]
async fn parameters_reach_the_statement_as_values_of_its_types() {
    let sandbox = Sandbox::start(2_000).await;
    let ask = |sql: &str, given: &[&str]| {
        let parameters = given.iter().flat_map(|p| ["--param", *p]).collect::<Vec<_>>();
        run(&sandbox, &[&["query", "--output", "json", "--sql", sql][..], &parameters[..]].concat())
    };
    let rows = |ran: Ran| ran.json()["rows"].clone();
    let literal = rows(ask("SELECT count(*) AS n FROM dfe.attainment WHERE region = 'London' AND attainment8 >= 40", &[]));
    let sql = "SELECT count(*) AS n FROM dfe.attainment WHERE region = $region AND attainment8 >= $least -- $region";
    assert_eq!(rows(ask(sql, &["least=40", "region=London"])), literal);
    assert_ne!(rows(ask(sql, &["least=40", "region=North East"])), literal);
    // A value is a value, whatever it looks like.
    let injected = ask("SELECT count(*) AS n FROM dfe.attainment WHERE region = $region", &["region=London' OR '1'='1"]);
    assert!(injected.exit != 0 || rows(injected) != rows(ask("SELECT count(*) AS n FROM dfe.attainment", &[])));
    let wrong = ask(sql, &["least=many", "region=London"]);
    assert!(wrong.exit == i32::from(USAGE) && wrong.stderr.contains("least") && !wrong.stderr.contains("many"), "{}", wrong.stderr);
}
