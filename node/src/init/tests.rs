//! From a folder of files to a node's folder, and from there to a node that starts.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use concordat_policy::Classification;

use super::*;
use crate::config::Config;
use crate::datasets::Datasets;
use crate::fixture::{Ca, name, signing_key};

const SECRETS: [&str; 6] = ["AB0000", "Alice", "SW1A", "F32.1", "alice@", "Monday"];

/// Forty pupils in two regions, with everything that a careless extract holds; a code that stands for ten rows of one person.
fn pupils() -> String {
    let mut text = String::from(
        "NINO,Home Region,Score,School code,Full Name,Postcode,Ethnic Group,joined,updated,extract_date,note,visited,Sub ject\n",
    );
    for n in 0..40 {
        // Twelve more rows are of pupil 1.
        let (region, visited) = (["North", "South"][n % 2], if n == 1 { "rare" } else { "usual" });
        for _ in 0..(if n == 1 { 13 } else { 1 }) {
            text.push_str(&format!(
                "AB{n:06}C,{region},{}.5,0{},Alice {n},SW1A {}AA,{},2020-01-02,2020-01-02 10:00:00,2026-11-25,\"On Monday the pupil number {n} was very late again\",{visited},{}\n",
                40 + n,
                100 + n % 3,
                n % 10,
                n % 4,
                n % 2,
            ));
        }
    }
    text
}

/// People and the places they live at: nobody but people can tell whom a row is about.
fn homes() -> String {
    (0..30).fold(String::from("nino,UPRN,rooms\n"), |text, n| text + &format!("AB{n:06}C,{},{}\n", 100_023_336_900_u64 + n, n % 5))
}

fn extracts(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("pupils.csv"), pupils()).unwrap();
    fs::write(data.join("homes.csv"), homes()).unwrap();
    fs::write(data.join("readme.txt"), "no data").unwrap();
    data
}

fn wanted(folder: &Path) -> Wanted {
    Wanted { department: name("dfe"), folder: folder.to_owned(), server_name: "dfe.node.concordat.internal".into(), connection: None }
}

async fn made(folder: &Path) -> Written {
    let tables = files::tables(&extracts(folder)).await.unwrap();
    init(&wanted(&folder.join("node")), tables).await.unwrap()
}

#[tokio::test]
async fn the_configuration_is_commented_and_shares_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let written = made(folder.path()).await;
    let text = fs::read_to_string(&written.config).unwrap();
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} stands in the configuration");
    }
    assert!(!text.contains("rare"), "a value that stands for ten rows of one person is not published");
    let canonical = folder.path().canonicalize().unwrap();
    let shown = text
        .replace(&canonical.display().to_string(), "/FOLDER")
        .replace(written.fingerprints.signing.as_str(), "sha256:SIGNING")
        .replace(written.fingerprints.linkage.as_str(), "sha256:LINKAGE");
    insta::assert_snapshot!(shown);
    assert_eq!(fs::read_dir(folder.path().join("node/agreements")).unwrap().count(), 0);
    for secret in ["keys/signing.key.pem", "keys/linkage.key", "tls/node.key.pem"] {
        assert_eq!(fs::metadata(folder.path().join("node").join(secret)).unwrap().permissions().mode() & 0o777, 0o600, "{secret}");
    }
}

/// The findings, without the folder's own path.
fn findings(config: &Path) -> Vec<String> {
    let folder = format!("{}/", config.parent().unwrap().display());
    let found = Config::load(config).err().map(|found| found.findings).unwrap_or_default();
    found.iter().map(|finding| format!("{}: {}", finding.place(), finding.cause()).replace(&folder, "")).collect()
}

/// What a request for a certificate asks for.
fn requested(path: &Path) -> String {
    use x509_parser::prelude::{FromDer as _, X509CertificationRequest};
    let text = fs::read_to_string(path).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = BASE64_STANDARD.decode(body).unwrap();
    let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
    format!("{:?}", request.requested_extensions().unwrap().collect::<Vec<_>>())
}

#[tokio::test]
async fn check_names_exactly_what_remains_and_then_passes() {
    let folder = tempfile::tempdir().unwrap();
    let written = made(folder.path()).await;
    let node = folder.path().join("node");
    let found = findings(&written.config);
    let expected = [
        "no gateway may call this node",
        "tls/node.pem: cannot be read",
        "keys/gateway-order.spki: cannot be read",
        "unknown identifier type 'undecided'",
        "purposes.toml: states no purpose",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found} is not: {expected}");
    }

    // What the department's people do.
    let ca = Ca::new();
    let key = fs::read_to_string(node.join("tls/node.key.pem")).unwrap();
    assert!(requested(&node.join("tls/node.csr.pem")).contains("dfe.node.concordat.internal"));
    fs::write(node.join("tls/node.pem"), ca.certify(&key, "dfe.node.concordat.internal")).unwrap();
    fs::write(node.join("tls/ca.pem"), ca.pem()).unwrap();
    fs::write(node.join("keys/gateway-order.spki"), BASE64_STANDARD.encode(signing_key().0.public_spki())).unwrap();
    fs::write(node.join("purposes.toml"), crate::fixture::PURPOSES).unwrap();
    let text = fs::read_to_string(&written.config).unwrap();
    let text = text.replacen("certificates = []", &format!("certificates = [\"{}\"]", ca.issue(&["gateway"]).fingerprint), 1);
    fs::write(&written.config, text.replace("column = \"undecided\"\ntype = \"undecided\"", "column = \"nino\"\ntype = \"nino\"")).unwrap();

    let config = Config::load(&written.config).unwrap();
    assert_eq!((config.agreements.len(), config.datasets.len(), config.warnings.len()), (0, 2, 0));
    assert_eq!(Datasets::open(&config).await.unwrap().iter().count(), 2, "every source can be read as declared");
    let report = crate::command::check::check(&written.config).await.text().to_owned();
    assert!(report.lines().all(|line| line.starts_with("ok  ")), "{report}");
    crate::node::Node::open(config).await.unwrap();
}

#[tokio::test]
async fn identifiers_are_proposed_where_one_answer_fits() {
    let folder = tempfile::tempdir().unwrap();
    let people =
        |header: &str, of: &dyn Fn(u64) -> String| (0..30).fold(format!("{header},x\n"), |text, n| text + &format!("{},1\n", of(n)));
    let valid = |text: &String| concordat_policy::IdentifierType::NhsNumber.normalise(text, &mut String::new());
    let nhs = |n: u64| (9_000_000_000_u64..).map(|n| n.to_string()).filter(valid).nth(n as usize).unwrap();
    for (header, of, expected) in [
        ("a", &(|n| format!("ab {n:06} c")) as &dyn Fn(u64) -> String, Some("nino")),
        ("a", &nhs, Some("nhs_number")),
        ("uprn", &|n| format!("{}", 100_023_336_900 + n), Some("uprn")),
        ("Company Number", &|n| format!("SC{n:06}"), Some("company_number")),
        ("a", &|n| format!("{n}"), None),
        ("a", &|n| format!("x{n}"), None),
        ("a", &|n| if n % 3 == 0 { format!("AB{n:06}C") } else { "unknown".into() }, None),
    ] {
        let file = folder.path().join("t.csv");
        fs::write(&file, people(header, of)).unwrap();
        let proposed = propose::propose("t".into(), files::table(&file).await.unwrap()).await.unwrap();
        match (&proposed.subject, expected) {
            (Subject::Clear(answer), Some(kind)) => assert_eq!((answer.kind, answer.column.as_str()), (kind, header)),
            (Subject::Undecided(_), None) => {}
            other => panic!("{header}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn parquet_keeps_its_types_and_refuses_what_none_holds() {
    use datafusion::arrow::array::{ArrayRef, BinaryArray, Int32Array, RecordBatch, StringArray, UInt64Array};
    use std::sync::Arc;
    let folder = tempfile::tempdir().unwrap();
    let columns: [(&str, ArrayRef); 4] = [
        ("upn", Arc::new(StringArray::from(vec!["x", "y"]))),
        ("age", Arc::new(Int32Array::from(vec![1, 2]))),
        ("image", Arc::new(BinaryArray::from(vec![&b"1"[..], b"2"]))),
        ("big", Arc::new(UInt64Array::from(vec![1, 2]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = folder.path().join("t.parquet");
    let mut writer = datafusion::parquet::arrow::ArrowWriter::try_new(fs::File::create(&file).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let table = files::table(&file).await.unwrap();
    let kinds: Vec<String> = table.columns.iter().map(|c| format!("{} {} {:?}", c.name, c.native, c.kind.as_ref().ok())).collect();
    assert_eq!(kinds, ["upn Utf8 Some(Text)", "age Int32 Some(Integer)", "image Binary None", "big UInt64 None"]);
    let proposed = propose::propose("t".into(), table).await.unwrap();
    let left: Vec<&str> = proposed.left.iter().map(|left| left.source.as_str()).collect();
    assert!(left.contains(&"image") && left.contains(&"big"), "{left:?}");
    assert!(proposed.offered.iter().any(|column| column.name == "age" && column.classification == Classification::Personal));
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_without_its_values() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (file, text, expected) in [
        ("headless.csv", "AB123456C,North,1.5\nAB123457C,South,2.5\n", "first row that looks like data"),
        ("ragged.csv", "a,b\nAB123456C\nAB123457C,2,3\n", "rows as long as that"),
        ("twice.csv", "a,a\nx,y\n", "two columns 'a'"),
        ("data.txt", "a\n1\n", "neither .csv nor .parquet"),
    ] {
        fs::write(at(file), text).unwrap();
        let error = files::tables(&at(file)).await.unwrap_err();
        assert!(error.cause.contains(expected), "{file}: {error}");
        assert!(!format!("{error} {}", error.remedy).contains("AB1234"), "{file}: {error}");
    }
    assert!(files::tables(&at("none.csv")).await.unwrap_err().cause.contains("cannot be read"));
    let full = at("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("mine"), "").unwrap();
    let error = init(&wanted(&full), Vec::new()).await.unwrap_err();
    assert!(error.cause.contains("not empty"), "{error}");
}

#[tokio::test]
async fn a_folder_holds_a_table_per_file_and_per_folder_of_files() {
    let folder = tempfile::tempdir().unwrap();
    let data = extracts(folder.path());
    fs::create_dir(data.join("claims 2026")).unwrap();
    fs::write(data.join("claims 2026/a.csv"), "nino,n\nAB000001C,1\n").unwrap();
    fs::write(data.join("claims 2026/b.csv"), "nino,n\nAB000002C,1.5\n").unwrap();
    let tables = files::tables(&data).await.unwrap();
    assert_eq!(tables.iter().map(|table| table.name.as_str()).collect::<Vec<_>>(), ["claims 2026", "homes", "pupils"]);
    assert_eq!(tables[0].columns[1].kind, Ok(concordat_policy::ColumnType::Number), "the type that both files fit");
    let proposed = propose::propose(propose::dataset_name(&tables[0].name, &[]), files::table(&data.join("claims 2026")).await.unwrap())
        .await
        .unwrap();
    assert_eq!((proposed.name.as_str(), proposed.rows()), ("claims_2026", Some((2, 2))));
}

#[tokio::test]
async fn a_database_is_written_down_as_it_was_reached() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pupils.db");
    let database = rusqlite::Connection::open(&file).unwrap();
    database
        .execute_batch(
            "CREATE TABLE pupils (nino TEXT, region TEXT, score REAL, photo BLOB); CREATE VIEW regions AS SELECT region FROM pupils;
             CREATE TABLE odd (born DATE); INSERT INTO odd VALUES ('0000-00-00')",
        )
        .unwrap();
    for n in 0..40 {
        let row = (format!("AB{n:06}C"), ["North", "South"][n % 2], f64::from(u8::try_from(n).unwrap()));
        database.execute("INSERT INTO pupils VALUES (?1, ?2, ?3, NULL)", row).unwrap();
    }
    drop(database);
    let reached = databases::Reached { url: format!("sqlite:{}", file.display()), ..Default::default() };
    let offer = databases::tables(&reached).await.unwrap();
    let wanted = Wanted { connection: Some(offer.connection), ..wanted(&folder.path().join("node")) };
    let written = init(&wanted, offer.tables).await.unwrap();
    let [left] = written.left_out.as_slice() else { panic!("{:?}", written.left_out) };
    assert!(left.place.ends_with(" odd") && left.cause.contains("column 'born' is no date"), "{left}");
    let text = fs::read_to_string(&written.config).unwrap();
    assert!(text.contains("connection = \"database\"\ntable = \"pupils\"\n") && text.contains("url = \"sqlite:/"), "{text}");
    let pupils = written.datasets.iter().find(|dataset| dataset.name == "pupils").unwrap();
    assert_eq!((pupils.rows(), pupils.left.len()), (Some((40, 40)), 1), "{pupils:?}");
    assert!(text.contains("# 'photo': values of the type BLOB cannot be offered"), "{text}");
    assert!(text.contains("values = [\"North\", \"South\"]") && text.contains("score = { type = \"number\""), "{text}");

    // The configuration takes the connection as it was written.
    let found = findings(&written.config);
    assert!(found.iter().all(|finding| !finding.contains("connection") && !finding.contains("nothing says where")), "{found:?}");
    assert_eq!(found.iter().filter(|finding| finding.contains("'undecided'")).count(), 1, "a view of regions alone is about nobody");

    for (url, says) in [
        ("oracle://a@b/c", "no database of this kind"),
        ("postgresql://r:hunter2@h/d", "holds a password"),
        ("sqlite:absent.db", "cannot be read"),
    ] {
        let error = databases::tables(&databases::Reached { url: url.into(), ..Default::default() }).await.unwrap_err();
        assert!(error.cause.contains(says) && !format!("{error} {}", error.remedy).contains("hunter2"), "{url}: {error}");
    }
}
