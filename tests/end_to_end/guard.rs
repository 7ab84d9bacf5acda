//! Guard rails at the gateway and at a department's node: what they stop, how they say so, how they are replaced under load, and
//! what a mistake in them does.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use concordat::federation::Layout;
use concordat_policy::Code;
use concordat_proto::v1::DetachedState;
use serde_json::json;

use crate::commands::{Ran, command, run};
use crate::limits::{self, Stopped};
use crate::sandbox::{Sandbox, program, refused, until};

const SQL: &str = "SELECT count(*) AS persons FROM dfe.attainment";
const CLAIMS: &str = "SELECT count(*) AS persons FROM dwp.claims";

const PEOPLE: &str = r#"
@id("analysts")
permit(principal, action, resource in Purpose::"opportunity")
when { principal.organisation == "mission-unit" && principal.roles.contains("analyst") };

@id("training")
@advice("renew your training, then sign in again")
forbid(principal, action, resource)
unless { principal has training_until && context.time < principal.training_until };
"#;

const CLOSED: &str = "@id(\"closed\")\n@advice(\"ask tomorrow\")\nforbid(principal, action, resource);\n";
const HERE: &str = "@id(\"here\")\n@advice(\"come nearer\")\nforbid(principal, action, resource) unless { context.address.isInRange(ip(\"127.0.0.0/8\")) };\n";
const ELSEWHERE: &str = "@id(\"elsewhere\")\n@advice(\"come nearer\")\nforbid(principal, action, resource) unless { context.address.isInRange(ip(\"192.0.2.0/24\")) };\n";
/// Cedar leaves out a policy whose evaluation errs.
const OVERFLOWS: &str = "@id(\"overflows\")\n@advice(\"wait\")\nforbid(principal, action, resource) when { (context.weekday + 1) * 9223372036854775807 < 0 };\n";
/// A department's.
const NO_REGIONS: &str = "@id(\"no-regions\")\n@advice(\"ask for opportunity.measure\")\nforbid(principal, action, resource == Dataset::\"claims\") when { context.purpose == Purpose::\"opportunity.measure.region\" };\n";
const BROKEN: &str = "@id(\"broken\")\nforbid(principal action, resource);\n";

/// Gives a program a folder of guard rails.
fn guarded(folder: &Path, config: &str, files: &[(&str, &str)]) {
    std::fs::create_dir_all(folder.join("guard")).unwrap();
    write(folder, files);
    let path = folder.join(config);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + "\n[guard]\npolicies = \"guard\"\ntime_zone = \"Europe/London\"\n").unwrap();
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (file, text) in files {
        // As an operator's tools do: whole files, put in place at once.
        let new = folder.join("guard").join(format!("{file}.new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, folder.join("guard").join(file)).unwrap();
    }
}

fn at_gateway(files: &'static [(&'static str, &'static str)]) -> impl FnOnce(&Layout) {
    move |layout: &Layout| guarded(&layout.gateway(), "gateway.toml", files)
}

fn at_dwp(layout: &Layout) {
    guarded(&layout.node("dwp"), "node.toml", &[("own.cedar", NO_REGIONS)]);
}

/// Gives a purpose of the tree in `folder` another name.
fn rename_region(folder: &Path) {
    let path = folder.join("purposes.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"opportunity.measure.region\"", "\"opportunity.measure.place\"")).unwrap();
}

/// A token of somebody whose training counts.
fn trained(sandbox: &Sandbox) -> String {
    sandbox.token_with(|claims| claims["training_until"] = json!("9999-12-31"))
}

fn said(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("stderr.log")).unwrap()
}

fn hang_up(sandbox: &Sandbox, program: &str) {
    let id = sandbox.running.process_id(program).unwrap().to_string();
    assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
}

/// Whether nothing failed, and the lines of `check`.
fn check(kind: &str, folder: &Path) -> (bool, String) {
    let done = Command::new(program()).args([kind, "check", "--config"]).arg(folder.join(format!("{kind}.toml"))).output().unwrap();
    (done.status.success(), String::from_utf8(done.stdout).unwrap())
}

#[tokio::test]
async fn the_gateways_rails_stop_people_at_every_door_and_say_which_whose_and_what_to_do() {
    let sandbox = Sandbox::with(300, |_| {}, at_gateway(&[("people.cedar", PEOPLE), ("network.cedar", HERE)])).await;
    let untrained = sandbox.client().await;
    let failure = refused(untrained.query(SQL).await, Code::Denied, "the guard rail 'training' of the gateway (people.cedar) forbids");
    assert!(failure.message.contains("renew your training") && failure.department.is_none(), "{failure:?}");
    refused(untrained.catalogue().await, Code::Denied, "'training'");
    refused(untrained.departments().await, Code::Denied, "'training'");
    assert!(untrained.who_am_i().await.unwrap().purposes.is_empty());
    let expired = sandbox.token_with(|claims| claims["training_until"] = json!("2020-01-31"));
    refused(sandbox.client_with(|c| c.token = Some(expired)).await.query(SQL).await, Code::Denied, "'training'");
    let unreadable = sandbox.token_with(|claims| claims["training_until"] = json!("soon"));
    refused(sandbox.client_with(|c| c.token = Some(unreadable)).await.query(SQL).await, Code::Unauthenticated, "end of training");

    // The log has the rail, and `why` and `explain` tell it.
    let query_id = failure.query_id.unwrap();
    let entry = sandbox.log("gateway").into_iter().find(|e| e["event"] == "query.refused" && e["query_id"] == query_id.as_str()).unwrap();
    let started = sandbox.log("gateway").into_iter().rfind(|e| e["event"] == "gateway.started").unwrap();
    assert!(entry["guard_rails_digest"].is_string() && entry["guard_rails_digest"] == started["guard_rails_digest"], "{entry} {started}");
    assert_eq!((&entry["cause"]["kind"], &entry["cause"]["rail"]["id"]), (&json!("guard"), &json!("training")));
    assert_eq!(entry["cause"]["rail"]["file"], "people.cedar");
    let why: Ran = command(["why", &query_id, "--log", sandbox.layout.gateway().join("log").to_str().unwrap()]).output().unwrap().into();
    assert!(
        why.text().contains("'training' of the gateway (people.cedar)") && why.text().contains("whose rule: the gateway"),
        "{}",
        why.text()
    );
    let explained = run(&sandbox, &["explain", SQL, "--output", "json"]).json();
    assert_eq!(
        (&explained["decision"], &explained["cause"], &explained["owner"]),
        (&json!("deny"), &json!("guard"), &json!("the gateway"))
    );
    assert_eq!((&explained["advice"], &explained["proposal"]), (&json!("renew your training, then sign in again"), &json!(null)));
    assert!(sandbox.log("dfe").iter().all(|e| e["event"] != "release.intended"), "no department was asked");

    // Who is trained asks on; what no rail permits stays closed; who may not ask anyway learns of no rail.
    let token = trained(&sandbox);
    let client = sandbox.client_with(|c| c.token = Some(token.clone())).await;
    client.query(SQL).await.unwrap();
    assert!(!client.who_am_i().await.unwrap().purposes.iter().any(|purpose| purpose.id == "health.prevention"));
    let other = sandbox.client_with(|c| (c.token, c.purpose) = (Some(token.clone()), Some("health.prevention".into()))).await;
    refused(other.catalogue().await, Code::Denied, "no guard rail of the gateway permits this request");
    let stranger = sandbox.token_with(|claims| claims["organisation"] = json!("other-unit"));
    refused(sandbox.client_with(|c| c.token = Some(stranger)).await.query(SQL).await, Code::Denied, "no agreement in force");

    let started = sandbox.log("gateway").into_iter().find(|e| e["event"] == "gateway.started").unwrap();
    assert_eq!((&started["guard_rails"], started["guard_rails_digest"].as_str().map(str::len)), (&json!(3), Some(64)));
    let (good, lines) = check("gateway", &sandbox.layout.gateway());
    assert!(good && lines.contains("3 guard rail(s) in 2 file(s)"), "{lines}");
}

#[tokio::test]
async fn rails_are_replaced_under_load_and_a_bad_file_changes_nothing() {
    let sandbox = Arc::new(Sandbox::with(300, |_| {}, at_gateway(&[("people.cedar", PEOPLE), ("more.cedar", HERE)])).await);
    let gateway = sandbox.layout.gateway();
    let token = trained(&sandbox);
    let (stop, answered, closed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = (0..2)
        .map(|_| {
            let (sandbox, token, stop) = (Arc::clone(&sandbox), token.clone(), Arc::clone(&stop));
            let (answered, closed) = (Arc::clone(&answered), Arc::clone(&closed));
            tokio::spawn(async move {
                let client = sandbox.client_with(|c| c.token = Some(token)).await;
                while !stop.load(Ordering::SeqCst) {
                    match client.query(SQL).await {
                        Ok(_) => answered.fetch_add(1, Ordering::SeqCst),
                        outcome => {
                            refused(outcome, Code::Denied, "the guard rail 'closed' of the gateway (more.cedar)");
                            closed.fetch_add(1, Ordering::SeqCst)
                        }
                    };
                    // A caller's requests are counted.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            })
        })
        .collect();
    until("queries are answered", || answered.load(Ordering::SeqCst) > 2).await;
    // At once, on SIGHUP.
    write(&gateway, &[("more.cedar", CLOSED)]);
    hang_up(&sandbox, "gateway");
    until("queries are refused", || closed.load(Ordering::SeqCst) > 2).await;

    // A bad file is reported where it is wrong, and what was in force stays so.
    write(&gateway, &[("more.cedar", BROKEN)]);
    until("the bad file is reported", || said(&gateway).contains("more.cedar:2:18: ")).await;
    assert!(said(&gateway).contains("not reloaded"), "{}", said(&gateway));
    let (before, refusals) = (answered.load(Ordering::SeqCst), closed.load(Ordering::SeqCst));
    until("queries are still refused", || closed.load(Ordering::SeqCst) > refusals + 2).await;
    assert_eq!(answered.load(Ordering::SeqCst), before, "a bad file opened the gateway");
    let (good, lines) = check("gateway", &gateway);
    let failed = lines.lines().find(|line| line.starts_with("FAIL") && line.contains("more.cedar:2:18: "));
    assert!(!good && failed.is_some_and(|line| line.contains("; correct the line")), "{lines}");

    // Without a signal, once the folder has settled.
    write(&gateway, &[("more.cedar", HERE)]);
    until("queries are answered again", || answered.load(Ordering::SeqCst) > before + 2).await;
    stop.store(true, Ordering::SeqCst);
    for asker in load {
        asker.await.unwrap();
    }
    until("the log says what is in force", || sandbox.log("gateway").iter().any(|e| e["event"] == "guard_rails.loaded")).await;
}

#[tokio::test]
async fn an_error_of_evaluation_and_another_network_deny() {
    let sandbox = Sandbox::with(300, |_| {}, at_gateway(&[("people.cedar", PEOPLE), ("more.cedar", OVERFLOWS)])).await;
    let token = trained(&sandbox);
    let client = sandbox.client_with(|c| c.token = Some(token)).await;
    let failure =
        refused(client.query(SQL).await, Code::Denied, "the guard rail 'overflows' of the gateway (more.cedar) cannot be evaluated");
    assert!(!failure.message.contains("overflow while"), "what the language says is for the operator: {failure:?}");
    let entry = sandbox.log("gateway").into_iter().rfind(|e| e["event"] == "query.refused").unwrap();
    assert_eq!(entry["cause"]["failed"], true, "{entry}");
    write(&sandbox.layout.gateway(), &[("more.cedar", ELSEWHERE)]);
    hang_up(&sandbox, "gateway");
    until("the rails are reloaded", || said(&sandbox.layout.gateway()).contains("reloaded what=\"guard rails\"")).await;
    refused(client.query(SQL).await, Code::Denied, "'elsewhere'");
}

#[tokio::test]
async fn a_query_that_waited_is_judged_when_it_has_its_place() {
    let one = |f: &mut concordat::federation::describe::Federation| f.limits.caller_concurrent_queries = Some(1);
    let sandbox = Sandbox::with(300, one, at_gateway(&[("people.cedar", PEOPLE), ("more.cedar", HERE)])).await;
    let token = trained(&sandbox);
    let owner = sandbox.client_with(|c| c.token = Some(token)).await;
    owner.query(CLAIMS).await.unwrap();
    let stopped = Stopped::node(&sandbox, "dwp");
    let (first, second) = (owner.detach(CLAIMS).await.unwrap(), owner.detach(CLAIMS).await.unwrap());
    limits::until(&owner, &first, DetachedState::Running).await;
    limits::until(&owner, &second, DetachedState::Queued).await;
    write(&sandbox.layout.gateway(), &[("more.cedar", CLOSED)]);
    hang_up(&sandbox, "gateway");
    until("the rails are reloaded", || said(&sandbox.layout.gateway()).contains("reloaded what=\"guard rails\"")).await;
    drop(stopped);
    refused(owner.result(&second).await, Code::Denied, "'closed'");
}

#[tokio::test]
async fn a_departments_own_forbids_stop_its_releases_and_nobody_elses() {
    let sandbox = Sandbox::with(300, |_| {}, at_dwp).await;
    let dwp = sandbox.layout.node("dwp");
    sandbox.query(CLAIMS).await.unwrap();
    let log = sandbox.log("dwp");
    let of = |event: &str| log.iter().rfind(|e| e["event"] == event).unwrap()["guard_rails_digest"].clone();
    assert!(of("release.intended").is_string() && of("release.intended") == of("node.started"));
    let region = sandbox.client_with(|c| c.purpose = Some("opportunity.measure.region".into())).await;
    region.query(SQL).await.unwrap();
    let failure = refused(region.query(CLAIMS).await, Code::NodeRefused, "the guard rail 'no-regions' of 'dwp' (own.cedar) forbids");
    assert_eq!(failure.department.as_deref(), Some("dwp"));
    assert!(failure.message.contains("ask for opportunity.measure"), "{failure:?}");
    let entry = sandbox.log("dwp").into_iter().rfind(|e| e["event"] == "order.refused").unwrap();
    assert_eq!((&entry["code"], entry["query_id"].as_str()), (&json!("denied"), failure.query_id.as_deref()));
    assert!(entry["reason"].as_str().unwrap().contains("'no-regions'"), "{entry}");

    // A permit is no rule of a department's; the forbid stays in force.
    write(&dwp, &[("own.cedar", "@id(\"all\")\npermit(principal, action, resource);\n")]);
    hang_up(&sandbox, "dwp");
    until("the mistake is reported", || said(&dwp).contains("own.cedar:1:1: a department's guard rails only forbid")).await;
    refused(region.query(CLAIMS).await, Code::NodeRefused, "'no-regions'");
    let (good, lines) = check("node", &dwp);
    assert!(!good && lines.contains("own.cedar:1:1: "), "{lines}");

    // A file that a failed deployment left empty, or none at all, lifts nothing.
    write(&dwp, &[("own.cedar", "")]);
    hang_up(&sandbox, "dwp");
    until("the empty file is reported", || said(&dwp).contains("own.cedar: holds no guard rail")).await;
    refused(region.query(CLAIMS).await, Code::NodeRefused, "'no-regions'");
    std::fs::remove_file(dwp.join("guard/own.cedar")).unwrap();
    hang_up(&sandbox, "dwp");
    until("the empty folder is reported", || said(&dwp).contains("guard: holds no *.cedar file")).await;
    refused(region.query(CLAIMS).await, Code::NodeRefused, "'no-regions'");

    write(&dwp, &[("own.cedar", CLOSED)]);
    hang_up(&sandbox, "dwp");
    until("the log says what is in force", || sandbox.log("dwp").iter().any(|e| e["event"] == "guard_rails.loaded")).await;
    refused(sandbox.query(CLAIMS).await, Code::NodeRefused, "'closed' of 'dwp'");
    write(&dwp, &[("own.cedar", OVERFLOWS)]);
    hang_up(&sandbox, "dwp");
    until("the rails are reloaded", || sandbox.log("dwp").iter().filter(|e| e["event"] == "guard_rails.loaded").count() == 2).await;
    refused(sandbox.query(CLAIMS).await, Code::NodeRefused, "'overflows' of 'dwp' (own.cedar) cannot be evaluated");
    sandbox.query(SQL).await.unwrap();
}

#[tokio::test]
async fn an_estate_that_the_rails_do_not_fit_is_not_taken_and_rails_that_fit_it_bring_it() {
    const RAILS: &str = "@id(\"all\")\npermit(principal, action, resource);\n";
    const REGION: &str =
        "@id(\"no-regions\")\n@advice(\"ask wider\")\nforbid(principal, action, resource == Purpose::\"opportunity.measure.region\");\n";
    let sandbox = Sandbox::with(300, |_| {}, at_gateway(&[("all.cedar", RAILS), ("region.cedar", REGION)])).await;
    let gateway = sandbox.layout.gateway();
    let region = sandbox.client_with(|c| c.purpose = Some("opportunity.measure.region".into())).await;
    let place = sandbox.client_with(|c| c.purpose = Some("opportunity.measure.place".into())).await;
    rename_region(&sandbox.layout.estate());
    until("the rail is reported", || said(&gateway).contains("region.cedar:1:1: nothing is called Purpose::")).await;
    let (good, lines) = check("gateway", &gateway);
    assert!(!good && lines.contains("region.cedar:1:1: "), "{lines}");
    refused(region.query(SQL).await, Code::Denied, "'no-regions'");
    refused(place.query(SQL).await, Code::Denied, "no agreement in force");
    sandbox.query(SQL).await.unwrap();

    let renamed = REGION.replace(".region", ".place");
    write(&gateway, &[("region.cedar", renamed.as_str())]);
    until("both are taken", || said(&gateway).contains(": reloaded what=\"estate\"")).await;
    refused(region.query(SQL).await, Code::Denied, "no agreement in force");
    refused(place.query(SQL).await, Code::Denied, "'no-regions'");
    until("the log says what is in force", || sandbox.log("gateway").iter().any(|e| e["event"] == "guard_rails.loaded")).await;
}

#[tokio::test]
async fn purposes_that_a_departments_rails_do_not_fit_are_not_taken() {
    let sandbox = Sandbox::with(300, |_| {}, at_dwp).await;
    let dwp = sandbox.layout.node("dwp");
    let region = sandbox.client_with(|c| c.purpose = Some("opportunity.measure.region".into())).await;
    rename_region(&dwp);
    until("the rail is reported", || said(&dwp).contains("own.cedar:1:1: nothing is called Purpose::")).await;
    refused(region.query(CLAIMS).await, Code::NodeRefused, "'no-regions'");
    sandbox.query(CLAIMS).await.unwrap();
    write(&dwp, &[("own.cedar", CLOSED)]);
    until("both are taken", || said(&dwp).contains(": reloaded what=\"agreements\"")).await;
    refused(region.query(CLAIMS).await, Code::NodeRefused, "does not cover the purpose");
    refused(sandbox.query(CLAIMS).await, Code::NodeRefused, "'closed' of 'dwp'");
}
