//! Every finding names the file, the line, the cause and the remedy.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::datasets::Datasets;
use crate::fixture::World;

/// Each finding with the text of its line in place of the line's number, so that the cases say where they point.
fn shown(world: &World, findings: &Findings) -> Vec<String> {
    let show = |finding: &Finding| {
        let place = finding.place().replace(&format!("{}/", world.folder.path().display()), "");
        let Some((file, line)) = place.split_once(':') else { return format!("{place}: {} / {}", finding.cause(), finding.remedy()) };
        let text = std::fs::read_to_string(world.path(file)).unwrap();
        let line = text.lines().nth(line.parse::<usize>().unwrap() - 1).unwrap().trim().to_owned();
        format!("{file} [{line}] {} / {}", finding.cause(), finding.remedy())
    };
    findings.findings.iter().map(show).collect()
}

fn findings(world: &World) -> Vec<String> {
    Config::load(&world.path("node.toml")).err().map(|found| shown(world, &found)).unwrap_or_default()
}

#[test]
fn a_sound_world_loads() {
    let world = World::new();
    let config = Config::load(&world.path("node.toml")).unwrap();
    assert_eq!((config.agreements.len(), config.datasets.len(), config.warnings.len()), (1, 1, 0));
    assert_eq!((config.release_memory, config.max_releases), (320 << 20, 8));
}

#[test]
fn what_a_running_node_takes_as_revoked_stays_so_where_it_could_not_be_kept() {
    let world = World::new();
    let print = concordat_policy::agreement::Fingerprint::of(b"s");
    let list = format!("[[key]]\nfingerprint = \"{print}\"\nreason = \"stolen\"\nsince = \"2026-05-01T10:00:00Z\"\n");
    world.write("agreements/revoked.toml", &list);
    let config = Config::load(&world.path("node.toml")).unwrap();
    assert_eq!(config.signatures.revoked().keys().count(), 1);
    std::fs::remove_file(world.path("agreements/revoked.toml")).unwrap();
    assert_eq!(config.papers.read().unwrap().signatures.revoked().keys().count(), 0, "nobody kept it");
    assert_eq!(config.papers.read_after(&config.signatures).unwrap().signatures.revoked(), config.signatures.revoked());
    world.write("agreements/revoked.toml", &list.replace("[[key]]", "[[reinstated]]"));
    assert_eq!(config.papers.read_after(&config.signatures).unwrap().signatures.revoked().keys().count(), 0);
}

#[test]
fn each_contradiction_is_found_where_it_stands() {
    let cases: &[(&str, &str, &str, &str)] = &[
        ("node.toml", "state = \"state\"", "state = \"state\"\nsurprise = 1", "node.toml [surprise = 1] unknown field `surprise`"),
        ("node.toml", "state = \"state\"", "state = \"state\"\nmax_releases = 0", "node.toml [max_releases = 0] max_releases is 1 to 64"),
        ("node.toml", "type = \"nino\"", "type = \"passport\"", "node.toml [[dataset.identifier]] unknown identifier type 'passport'"),
        (
            "node.toml",
            "type = \"nino\"",
            "type = \"uprn\"",
            "agreements/opportunity.toml [identifier = { type = \"nino\", uses = [\"join\", \"aggregate\"] }] 'dfe.attainment' is agreed by identifier nino, and declared by uprn",
        ),
        (
            "node.toml",
            "source = \"secret\"",
            "source = \"nino\"",
            "node.toml [unused = { type = \"text\", classification = \"personal\", source = \"nino\" }] column 'unused' would release the identifier itself",
        ),
        (
            "node.toml",
            "format = \"csv\"",
            "format = \"csv\"\nsnapshot_minutes = 5",
            "node.toml [snapshot_minutes = 5] dataset 'attainment': a snapshot of files answers until they change",
        ),
        ("node.toml", "format = \"csv\"", "format = \"csv\"\nsnapshot_minutes = 0", "snapshot_minutes is 1 to 1440"),
        (
            "node.toml",
            "format = \"csv\"",
            "format = \"csv\"\nchanges = { key = \"id\", column = \"changed\" }",
            "node.toml [changes = { key = \"id\", column = \"changed\" }] dataset 'attainment': what changes with a row is asked of PostgreSQL only",
        ),
        (
            "node.toml",
            "format = \"csv\"",
            "format = \"csv\"\nchanges = { key = \"id\", column = \"id\" }",
            "dataset 'attainment': a key that changes with its row tells it from no other",
        ),
        ("node.toml", "format = \"csv\"", "format = \"csv\"\nsnapshot_minutes = 1441", "snapshot_minutes is 1 to 1440"),
        ("node.toml", "unused = {", "subject = {", "'subject' cannot name a column"),
        ("node.toml", "cohort = {", "year = {", "uses = [\"filter\"] }] the agreement names the column 'dfe.attainment.cohort'"),
        (
            "node.toml",
            "cohort = { type = \"integer\"",
            "cohort = { type = \"number\"",
            "uses = [\"filter\"] }] 'dfe.attainment.cohort' is agreed as integer, and declared as number",
        ),
        (
            "node.toml",
            "\"London\", \"Wales\"",
            "\"London\"",
            "values = [\"London\", \"Wales\"] }] the agreement lists other values of 'dfe.attainment.region'",
        ),
        (
            "node.toml",
            "name = \"attainment\"",
            "name = \"results\"",
            "agreements/opportunity.toml [name = \"attainment\"] the agreement names the dataset 'dfe.attainment'",
        ),
        (
            "node.toml",
            "skip_invalid = true",
            "skip_invalid = true\nreceipts = { controller = \"\" }",
            "] each text of consent receipts is 1 to 200 bytes long",
        ),
        ("node.toml", "tls/ca.pem", "tls/none.pem", "tls/none.pem: cannot be read"),
        ("keys/linkage.key", "", "zz", "keys/linkage.key: is not a raw X25519 private key"),
        ("keys/gateway-order.spki", "", "AAAA", "keys/gateway-order.spki: is not an Ed25519 public key"),
        (
            "purposes.toml",
            "parent = \"opportunity\"",
            "parent = \"other\"",
            "purposes.toml [{ id = \"opportunity.measure\", title = \"Measure\", parent = \"other\" },] purpose 'opportunity.measure' has the unknown parent",
        ),
        (
            "agreements/opportunity.toml",
            "consent_text = \"I agree.\"",
            "consent_text = \"I agree.\"\nrows = [{ column = \"year\", is = 2024 }]",
            "agreements/opportunity.toml [rows = [{ column = \"year\", is = 2024 }]] dataset 'dfe.attainment', rows, column 'year': the condition is on a column that the agreement does not name",
        ),
        (
            "agreements/opportunity.toml",
            "valid_until = \"2090-12-31\"",
            "valid_until = \"2019-12-31\"",
            "agreements/opportunity.toml [valid_until = \"2019-12-31\"] the agreement ends before it begins",
        ),
    ];
    for (file, from, to, expected) in cases {
        let world = World::new();
        if from.is_empty() {
            world.write(file, to)
        } else {
            world.replace(file, from, to)
        }
        let found = findings(&world);
        assert!(found.iter().any(|f| f.contains(expected)), "{file}: {to}: {found:?}");
    }
}

#[test]
fn keys_must_be_the_agreed_ones_and_private() {
    let world = World::new();
    world.write("keys/linkage.key", &"11".repeat(32));
    let found = findings(&world);
    assert!(
        found.iter().any(|f| f.starts_with("agreements/opportunity.toml [linkage_key = ")
            && f.contains("the agreement states another linkage_key of 'dfe'")),
        "{found:?}"
    );

    for file in ["keys/signing.key.pem", "keys/linkage.key", "tls/node.key.pem"] {
        let world = World::new();
        std::fs::set_permissions(world.path(file), std::fs::Permissions::from_mode(0o640)).unwrap();
        let found = findings(&world);
        assert!(
            found.iter().any(|f| f.starts_with(&format!("{file}: is a private key that others can read (mode 640) / chmod 600"))),
            "{found:?}"
        );
    }
}

#[test]
fn what_encrypts_linkage_keys_is_one_thing_that_can_be_used() {
    let at_rest = |text: &str| {
        let world = World::new();
        world.write("long", "correct horse battery staple");
        world.write("short", "tiny");
        world.replace("node.toml", "linkage = \"keys/linkage.key\"\n", &format!("linkage = \"keys/linkage.key\"\nat_rest = {text}\n"));
        findings(&world)
    };
    for (text, says) in [
        ("{}", "is either `passphrase_file` or `command`"),
        ("{ passphrase_file = \"long\", command = [\"/bin/cat\"] }", "is either `passphrase_file` or `command`"),
        ("{ passphrase_file = \"none\" }", "none: cannot be read"),
        ("{ passphrase_file = \"short\" }", "short: holds a passphrase of less than 16 characters"),
        ("{ command = [\"cat\"] }", "no absolute path"),
        ("{ passphrase_file = \"long\" }", "keys/linkage.key: is not encrypted, though [keys.at_rest] says how it should be"),
    ] {
        let found = at_rest(text);
        assert!(found.iter().any(|f| f.contains(says)), "{text}: {found:?}");
    }
    let world = World::new();
    world.write("keys/linkage.key", "concordat key v1\ncommand x\nAAAA\n");
    let found = findings(&world);
    assert!(found.iter().any(|f| f.contains("keys/linkage.key: is encrypted, and [keys.at_rest] says nothing of it")), "{found:?}");
}

#[test]
fn an_agreement_without_the_departments_signature_is_held_and_named() {
    let world = World::new();
    let unsigned = |world: &World| {
        let config = Config::load(&world.path("node.toml")).unwrap();
        assert_eq!((config.agreements.len(), config.warnings.len()), (1, 0));
        config.unsigned(Utc::now()).map(|(agreement, fault)| (agreement.id.to_string(), fault)).collect::<Vec<_>>()
    };
    assert!(unsigned(&world).is_empty());
    world.replace("agreements/opportunity.toml", "Opportunity", "0pportunity");
    assert_eq!(unsigned(&world), [("opportunity-2026".into(), Fault::Text)]);
    world.resign();
    assert!(unsigned(&world).is_empty());
    world.unsign();
    assert_eq!(unsigned(&world), [("opportunity-2026".into(), Fault::Missing)]);
}

#[test]
fn a_damaged_list_of_revoked_keys_is_a_finding() {
    let world = World::new();
    world.write("agreements/revoked.toml", "");
    assert_eq!(findings(&world), Vec::<String>::new());
    world.write("agreements/revoked.toml", "[[key]]\nfingerprint = \"sha256:0\"\n");
    let found = findings(&world);
    assert!(found.iter().any(|f| f.starts_with("agreements/revoked.toml [") && f.contains("a fingerprint is")), "{found:?}");
    std::fs::remove_file(world.path("agreements/revoked.toml")).unwrap();
    std::fs::create_dir(world.path("agreements/revoked.toml")).unwrap();
    let found = Config::load(&world.path("node.toml")).unwrap_err();
    assert!(found.findings.iter().any(|f| f.cause().contains("cannot be read")), "what cannot be read is not nothing");
}

#[test]
fn agreements_of_others_are_ignored_with_a_warning() {
    let world = World::new();
    world.replace("agreements/opportunity.toml", "\"dfe\"", "\"dbt\"");
    let config = Config::load(&world.path("node.toml")).unwrap();
    assert!(config.agreements.is_empty());
    assert!(config.warnings.iter().any(|w| w.contains("does not name 'dfe' as a party")), "{:?}", config.warnings);
}

const FILES: &str = "source = \"data/attainment.csv\"\nformat = \"csv\"\n";
const SOCKET: &str = "postgresql://reader@/d?host=/run/postgresql";

/// The world with another source of its dataset, and a connection `office`.
fn with_source(source: &str, connection: &str) -> World {
    let world = World::new();
    world.replace("node.toml", FILES, source);
    world.replace("node.toml", "[[dataset]]", &format!("[[connection]]\nname = \"office\"\n{connection}\n\n[[dataset]]"));
    world
}

#[test]
fn where_rows_are_is_said_once_and_wholly() {
    let url = format!("url = \"{SOCKET}\"");
    let world = with_source("connection = \"office\"\ntable = \"public.pupils\"\n", &url);
    assert_eq!(findings(&world), Vec::<String>::new());
    for (source, expected) in [
        ("", "node.toml [name = \"attainment\"] dataset 'attainment': nothing says where its rows are"),
        ("source = \"data/attainment.csv\"\n", "[source = \"data/attainment.csv\"] dataset 'attainment': `source` without `format`"),
        ("connection = \"office\"\n", "[connection = \"office\"] dataset 'attainment': a connection without `table` or `query`"),
        ("table = \"public.pupils\"\n", "[table = \"public.pupils\"] dataset 'attainment': a `table` without `connection`"),
        ("query = \"SELECT 1\"\n", "[query = \"SELECT 1\"] dataset 'attainment': a `query` without `connection`"),
        ("connection = \"none\"\ntable = \"a.b\"\n", "[connection = \"none\"] dataset 'attainment': there is no connection 'none'"),
        (
            "connection = \"office\"\ntable = \"pupils\"\n",
            "[table = \"pupils\"] dataset 'attainment': a table of PostgreSQL without its schema",
        ),
        ("connection = \"office\"\ntable = \"\"\n", "dataset 'attainment': no table's name"),
        ("connection = \"office\"\nquery = \"SELECT 1;\"\n", "[query = \"SELECT 1;\"] dataset 'attainment': a query is one SELECT"),
        ("connection = \"office\"\ntable = \"a.b\"\nquery = \"SELECT 1\"\n", "`table` and `query` contradict each other"),
        (
            "source = \"x\"\nformat = \"csv\"\nconnection = \"office\"\ntable = \"a.b\"\n",
            "[source = \"x\"] dataset 'attainment': files and a database",
        ),
        ("format = \"csv\"\nconnection = \"office\"\ntable = \"a.b\"\n", "[format = \"csv\"] dataset 'attainment': files and a database"),
    ] {
        let found = findings(&with_source(source, &url));
        assert!(found.iter().any(|f| f.contains(expected)), "{source}: {found:?}");
    }
}

#[test]
fn connections_are_protected_and_hold_no_password() {
    let table = "connection = \"office\"\ntable = \"public.pupils\"\n";
    for (connection, expected) in [
        ("url = \"postgresql://reader@db/d\"", "node.toml [url = \"postgresql://reader@db/d\"] the connection has no `tls`"),
        ("url = \"postgresql://reader@db/d\"\nplaintext = true", "[plaintext = true] plaintext would leave this machine"),
        ("url = \"oracle://reader@db/d\"", "no database of this kind can be read"),
        ("url = \"mysql://reader@127.0.0.1/d\"\nplaintext = true", "needs `tls`: nothing else tells its server from another"),
        ("url = \"s3://key@store/bucket\"\ntls = { ca = \"tls/ca.pem\" }", "the access key has no secret"),
        ("url = \"sqlite:\"", "names no file"),
        ("url = \"sqlite:a.db\"\nplaintext = true", "[plaintext = true] a file of SQLite has no `plaintext`"),
        ("url = \"postgresql://reader@db/d\"\ntls = { ca = \"tls/none.pem\" }", "tls/none.pem: cannot be read"),
        (
            "url = \"postgresql://reader@db/d\"\ntls = { ca = \"tls/ca.pem\", key = \"tls/node.key.pem\" }",
            "`certificate` and `key` belong together",
        ),
        ("url = \"postgresql://reader@db/d\"\nsurprise = 1", "unknown field `surprise`"),
    ] {
        let found = findings(&with_source(table, connection));
        assert!(found.iter().any(|f| f.contains(expected)), "{connection}: {found:?}");
    }
    let twice = format!("url = \"{SOCKET}\"\n[[connection]]\nname = \"office\"\nurl = \"{SOCKET}\"");
    assert!(findings(&with_source(table, &twice)).iter().any(|f| f.contains("connection 'office' is declared twice")));

    let world = with_source(table, "url = \"postgresql://reader:hunter2@db/d\"");
    let found = Config::load(&world.path("node.toml")).unwrap_err();
    let report = format!("{:?}", miette::Report::new(found));
    assert!(report.contains("the address holds a password") && report.contains("password_file") && !report.contains("hunter2"), "{report}");

    let world = with_source(table, &format!("url = \"{SOCKET}\"\npassword_file = \"keys/office.password\""));
    world.write("keys/office.password", "hunter2\n");
    assert_eq!(findings(&world), Vec::<String>::new());
    std::fs::set_permissions(world.path("keys/office.password"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let found = findings(&world);
    assert!(
        found.iter().any(|f| f.starts_with("keys/office.password: is a password that others can read (mode 640) / chmod 600")),
        "{found:?}"
    );
    world.write("keys/office.password", "\n");
    assert!(findings(&world).iter().any(|f| f.contains("holds no password")));
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_is_a_finding_at_its_dataset() {
    let world = with_source("connection = \"office\"\ntable = \"public.pupils\"\n", "url = \"postgresql://reader@/d?host=/nowhere\"");
    let found = Datasets::open(&Config::load(&world.path("node.toml")).unwrap()).await.unwrap_err();
    let found = shown(&world, &found);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("node.toml [table = \"public.pupils\"] dataset 'attainment': connection 'office': "), "{found:?}");
}

#[tokio::test]
async fn sources_must_hold_what_is_declared() {
    for (from, to, expected) in [
        ("source = \"REGION\"", "source = \"region\"", "source = \"region\" }] dataset 'attainment': the source has no column 'region'"),
        ("column = \"nino\"", "column = \"NINO\"", "node.toml [column = \"NINO\"] dataset 'attainment': the source has no column 'NINO'"),
        ("data/attainment.csv", "data/none.csv", "node.toml [source = \"data/none.csv\"] dataset 'attainment'"),
    ] {
        let world = World::new();
        world.replace("node.toml", from, to);
        let found = Datasets::open(&Config::load(&world.path("node.toml")).unwrap()).await.unwrap_err();
        let found = shown(&world, &found);
        assert!(found.iter().any(|f| f.contains(expected)), "{found:?}");
    }
}
