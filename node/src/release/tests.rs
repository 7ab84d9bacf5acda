//! The external sort, whole releases of the fixture's world, and how they end.

mod withdrawals;

use std::collections::BTreeMap;
use std::time::Instant;

use arrow::array::{Array as _, AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, Int64Type, Schema};
use concordat_policy::agreement::Limits;
use concordat_policy::denominator::Grain;
use concordat_policy::{Basis, ColumnType, Comparison, Disclosure, IdentifierType, LinkageDomain, Predicate, PurposeTree, Value};
use concordat_proto::peer::Peer;
use concordat_proto::predicate::to_wire;
use concordat_proto::receipt::Denominators;
use concordat_proto::schema::{partition_of, split_points};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

use super::*;
use crate::config::{Config, Format};
use crate::consent::Consent;
use crate::consent::intake::{Intake, Raw};
use crate::datasets::{LeftOut, Witness};
use crate::fixture::{World, name};
use crate::node::Node;
use crate::pseudonym::{DomainKey, Pseudonyms};
use crate::source::Files;

fn pseudonyms() -> Pseudonyms {
    let domain = LinkageDomain { mission: name("m"), purpose: name("p"), epoch: 1, rotation: 0 };
    Pseudonyms::derive(&DomainKey::new([5; 32]), &domain, &IdentifierType::Uprn)
}

/// `rows` rows of UPRNs 1 to `rows` in some order, each with a number and a text, in `streams` streams.
fn scan(rows: u64, streams: u64, folder: &Path) -> Scan {
    let schema = Arc::new(Schema::new(vec![
        Field::new("subject", DataType::Utf8, true),
        Field::new("number", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
    ]));
    let stream = |stream: u64| {
        let schema = Arc::clone(&schema);
        let of_stream = (1..=rows).filter(move |row| row % streams == stream);
        let adapter_schema = Arc::clone(&schema);
        let mut batches = Vec::new();
        let all: Vec<u64> = of_stream.collect();
        for part in all.chunks(8192) {
            let identifiers: StringArray = part.iter().map(|row| Some(format!("{row:012}"))).collect();
            let numbers: Int64Array = part.iter().map(|row| (row % 7 != 0).then_some(row.cast_signed())).collect();
            let texts: StringArray = part.iter().map(|row| Some(["north", "south", "east"][(row % 3) as usize])).collect();
            batches.push(Ok(
                RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(identifiers), Arc::new(numbers), Arc::new(texts)]).unwrap()
            ));
        }
        Box::pin(RecordBatchStreamAdapter::new(adapter_schema, futures::stream::iter(batches)))
            as datafusion::execution::SendableRecordBatchStream
    };
    let file = folder.join("source.csv");
    std::fs::write(&file, "x").unwrap();
    Scan {
        streams: (0..streams).map(stream).collect(),
        freshness: 0,
        seen: None,
        apart: None,
        left_out: LeftOut::Nothing,
        shape: crate::source::Shape::default(),
        witness: Witness::of(Files { path: file, format: Format::Csv }),
    }
}

fn rules(folder: &Path) -> Rules {
    let consent = Consent::open(folder, name("dfe")).unwrap();
    Rules {
        identifier: IdentifierType::Uprn,
        pseudonyms: pseudonyms(),
        linked: None,
        basis: Basis::Statutory { power: "power".into(), honours_objections: true },
        consent: consent.catch_up().unwrap().snapshot.view("uprn", std::iter::empty()),
        standing: Standing::default(),
        columns: vec![("number".into(), ColumnType::Integer), ("text".into(), ColumnType::Text)],
        grain: Grain::of(10, &Disclosure { round_to: 1, ..Disclosure::default() }),
        conditional: false,
    }
}

async fn sort(rows: u64, memory: usize, partitions: u32) -> (Arc<Sorted>, Vec<Vec<RecordBatch>>) {
    let folder = tempfile::tempdir().unwrap();
    let rules = rules(folder.path());
    let schema = Arc::new(release_schema(false, rules.columns.iter().map(|(name, kind)| (name.as_str(), *kind))));
    let spill = tempfile::tempdir().unwrap();
    let sorting = Sorting { folder: Arc::new(spill), memory, buckets: Buckets::new(partitions), rules: Arc::new(rules) };
    let sorted = Arc::new(sorting.run(scan(rows, 2, folder.path())).await.unwrap());
    let read = |partition| {
        let mut partition = Partition::sorted(Arc::clone(&sorted), Arc::clone(&schema), partition);
        let mut batches = Vec::new();
        while let Some(batch) = partition.next_batch().unwrap() {
            assert!(batch.num_rows() <= partition::BATCH_ROWS);
            batches.push(batch);
        }
        batches
    };
    let read: Vec<_> = (0..partitions).map(read).collect();
    (sorted, read)
}

/// Every row: (pseudonym, number, text); checks order and ranges on the way.
fn rows(partitions: &[Vec<RecordBatch>]) -> Vec<(Vec<u8>, Option<i64>, String)> {
    let splits = split_points(u32::try_from(partitions.len()).unwrap());
    let mut rows: Vec<(Vec<u8>, Option<i64>, String)> = Vec::new();
    for (index, batches) in partitions.iter().enumerate() {
        for batch in batches {
            let (subjects, numbers) = (batch.column(0).as_fixed_size_binary(), batch.column(1).as_primitive::<Int64Type>());
            let texts = batch.column(2).as_dictionary::<Int32Type>().downcast_dict::<StringArray>().unwrap();
            for row in 0..batch.num_rows() {
                assert_eq!(partition_of(subjects.value(row), &splits), index);
                assert!(rows.last().is_none_or(|last| last.0.as_slice() <= subjects.value(row)));
                let text = arrow::array::ArrayAccessor::value(&texts, row).to_owned();
                rows.push((subjects.value(row).to_vec(), numbers.is_valid(row).then(|| numbers.value(row)), text));
            }
        }
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn spilled_and_held_rows_are_the_same_complete_and_in_order() {
    const ROWS: u64 = 50_000;
    let (held, in_memory) = sort(ROWS, 1 << 30, 5).await;
    let (spilled, from_files) = sort(ROWS, 1 << 19, 5).await;
    assert_eq!((held.spilled(), held.counts()), (0, Counts { released: ROWS, ..Counts::default() }));
    let told = Denominators { rounded_to: 10, ..Denominators::default() };
    assert_eq!([held.denominators(), spilled.denominators()], [Some(told); 2]);
    assert!(spilled.spilled() > 4, "{} files", spilled.spilled());
    let (in_memory, from_files) = (rows(&in_memory), rows(&from_files));
    assert!(in_memory == from_files);
    let pseudonyms = pseudonyms();
    let expected: BTreeMap<Vec<u8>, (Option<i64>, String)> = (1..=ROWS)
        .map(|row| {
            (
                pseudonyms.one(&row.to_string()).to_vec(),
                ((row % 7 != 0).then_some(row.cast_signed()), ["north", "south", "east"][(row % 3) as usize].to_owned()),
            )
        })
        .collect();
    assert!(in_memory.into_iter().map(|(subject, number, text)| (subject, (number, text))).eq(expected));
}

/// A link dataset of UPRNs and NINOs, its rows numbered from 1.
fn link(folder: &Path) -> Scan {
    let text = |values: [&str; 6]| Arc::new(StringArray::from(values.to_vec())) as arrow::array::ArrayRef;
    let homes = text(["1", "2", "3", "4", "5", "x"]);
    let people = text(["ab000001c", "nobody", "AB000003C", "AB000004C", "AB 00 00 05 C", "AB000006C"]);
    let numbers: arrow::array::ArrayRef = Arc::new(Int64Array::from_iter_values(1..=6));
    let batch = RecordBatch::try_from_iter([("subject", homes), ("linked_subject", people), ("number", numbers)]).unwrap();
    let file = folder.join("source.csv");
    std::fs::write(&file, "x").unwrap();
    let stream = RecordBatchStreamAdapter::new(batch.schema(), futures::stream::iter([Ok(batch)]));
    Scan {
        streams: vec![Box::pin(stream) as datafusion::execution::SendableRecordBatchStream],
        freshness: 0,
        seen: None,
        apart: None,
        left_out: LeftOut::Nothing,
        shape: crate::source::Shape::default(),
        witness: Witness::of(Files { path: file, format: Format::Csv }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn either_subjects_objection_withholds_a_link_and_both_leave_as_pseudonyms() {
    let [folder, other, spill] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let consent = Consent::open(folder.path(), name("dfe")).unwrap();
    let purposes = PurposeTree::parse("purpose = [{ id = \"p\", title = \"P\" }]").unwrap();
    let intake = Intake::of([IdentifierType::Uprn, IdentifierType::Nino].into_iter(), purposes);
    for (identifier, kind) in [("3", "uprn"), ("AB000004C", "nino")] {
        let raw = Raw { identifier, identifier_type: kind, purpose: "p", event: "objected", ..Raw::default() };
        consent.record(&[intake.record(raw, &mut String::new()).unwrap()]).unwrap();
    }
    let (snapshot, purpose) = (consent.catch_up().unwrap().snapshot, name("p"));
    let domain = LinkageDomain { mission: name("m"), purpose: name("p"), epoch: 1, rotation: 0 };
    let people = || Pseudonyms::derive(&DomainKey::new([5; 32]), &domain, &IdentifierType::Nino);
    let records = |kind: &str| snapshot.view(kind, std::iter::once(&purpose));
    let linked = Linked { identifier: IdentifierType::Nino, pseudonyms: people(), consent: records("nino"), released: true };
    let columns = vec![("number".into(), ColumnType::Integer)];
    let rules = Rules { linked: Some(linked), consent: records("uprn"), columns, ..rules(other.path()) };
    let schema = Arc::new(release_schema(true, [("number", ColumnType::Integer)]));
    let sorting = Sorting { folder: Arc::new(spill), memory: 1 << 20, buckets: Buckets::new(2), rules: Arc::new(rules) };
    let sorted = Arc::new(sorting.run(link(folder.path())).await.unwrap());
    assert_eq!(sorted.counts(), Counts { released: 2, invalid_identifiers: 2, without_consent: 2 });
    assert_eq!(sorted.denominators(), None, "one home's choice could withhold many people's rows");
    let mut left = BTreeMap::new();
    for partition in 0..2 {
        let mut partition = Partition::sorted(Arc::clone(&sorted), Arc::clone(&schema), partition);
        while let Some(batch) = partition.next_batch().unwrap() {
            let [homes, people] = [0, 1].map(|column| batch.column(column).as_fixed_size_binary().clone());
            for (row, number) in batch.column(2).as_primitive::<Int64Type>().iter().enumerate() {
                left.insert(number.unwrap(), (homes.value(row).to_vec(), people.value(row).to_vec()));
            }
        }
    }
    let pair = |home: &str, person: &str| (pseudonyms().one(home).to_vec(), people().one(person).to_vec());
    assert_eq!(left, BTreeMap::from([(1, pair("1", "AB000001C")), (5, pair("5", "AB000005C"))]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_rows_sort_in_seconds() {
    let started = Instant::now();
    let (sorted, partitions) = sort(1_000_000, 16 << 20, 8).await;
    println!("1 M rows, {} files, {} ms", sorted.spilled(), started.elapsed().as_millis());
    assert!(sorted.spilled() > 1);
    assert_eq!(rows(&partitions).len(), 1_000_000);
}

fn withdrawn(identifier: &str) -> Raw<'_> {
    Raw { identifier, identifier_type: "nino", purpose: "opportunity.measure", event: "withdrawn", ..Raw::default() }
}

async fn node(world: &World) -> Arc<Node> {
    let node = Node::open(Config::load(&world.path("node.toml")).unwrap()).await.unwrap();
    world.bring_key(&node);
    node
}

async fn all(release: &Release) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    for partition in 0..release.order.partitions {
        let mut partition = release.partition(partition).await.unwrap();
        while let Some(batch) = partition.next_batch().unwrap() {
            batches.push(batch);
        }
    }
    batches
}

fn scores(batches: &[RecordBatch]) -> Vec<Option<f64>> {
    let mut scores: Vec<_> =
        batches.iter().flat_map(|batch| batch.column(2).as_primitive::<Float64Type>().iter().collect::<Vec<_>>()).collect();
    scores.sort_by(|a, b| a.partial_cmp(b).unwrap());
    scores
}

#[tokio::test(flavor = "multi_thread")]
async fn only_consented_subjects_leave_and_a_withdrawal_counts_at_once() {
    let world = World::new();
    let node = node(&world).await;
    let now = chrono::Utc::now();
    let certificate = || Some(world.gateway.fingerprint.clone());
    let release = node.order(&world.order(&world.request(now), now), certificate(), now).await.unwrap();
    assert_eq!(scores(&all(&release).await), [None, Some(1.5), Some(4.5), Some(8.5)]);
    assert_eq!(release.standing.version, 5);
    let counts = release.partition(0).await.unwrap().counts();
    assert_eq!(counts, Counts { released: 4, invalid_identifiers: 2, without_consent: 2 });
    let few = Denominators { rounded_to: 10, ..Denominators::default() };
    assert_eq!(release.partition(0).await.unwrap().denominators(), Some(few), "eight rows are too few to be told");

    // Another process records a withdrawal; the next order honours it.
    let other = Consent::open(&world.path("state"), name("dfe")).unwrap();
    let record = node.intake(&node.agreements.now()).record(withdrawn("AB 10 00 01 A"), &mut String::new()).unwrap();
    other.record(&[record]).unwrap();
    let release = node.order(&world.order(&world.request(now), now), certificate(), now).await.unwrap();
    assert_eq!(scores(&all(&release).await), [None, Some(4.5)]);
    assert_eq!(release.standing.version, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_rows_that_the_agreement_is_about_leave_whatever_is_asked() {
    let mut world = World::new();
    let rows = "consent_text = \"I agree.\"\nrows = [{ column = \"cohort\", is_not = 2024 }, { column = \"unused\", is = \"x\" }]";
    world.agree("consent_text = \"I agree.\"", rows);
    let node = node(&world).await;
    let now = chrono::Utc::now();
    let certificate = || Some(world.gateway.fingerprint.clone());
    let mut request = world.request(now);
    let release = node.order(&world.order(&request, now), certificate(), now).await.unwrap();
    // Somebody of no cohort is in no other than 2024 either.
    assert_eq!(scores(&all(&release).await), [None, Some(8.5)]);
    let counts = release.partition(0).await.unwrap().counts();
    assert_eq!(counts, Counts { released: 2, invalid_identifiers: 0, without_consent: 1 });

    let filter =
        |column: &str, value: Value| Some(to_wire(&Predicate::Compare { column: column.into(), comparison: Comparison::Equal, value }));
    for (column, value, left) in [("fsm", Value::Boolean(true), vec![Some(8.5)]), ("cohort", Value::Integer(2024), Vec::new())] {
        request.predicate = filter(column, value);
        let release = node.order(&world.order(&request, now), certificate(), now).await.unwrap();
        assert_eq!(scores(&all(&release).await), left, "{column}");
    }
    // That it decides over rows makes no use of it permitted.
    request.predicate = filter("unused", Value::Text("x".into()));
    assert_eq!(node.order(&world.order(&request, now), certificate(), now).await.unwrap_err().code, Code::Denied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_department_counts_releases_and_rows_itself_also_after_a_restart() {
    let mut world = World::new();
    let mission = "mission = \"opportunity\"";
    world.agree(mission, &format!("{mission}\nlimits = {{ releases_per_day = 3, rows_per_day = 5 }}"));
    assert_eq!(world.agreement.limits, Limits { releases_per_day: Some(3), rows_per_day: Some(5), ..Limits::default() });
    let now = chrono::Utc::now();
    let order = async |node: &Arc<Node>| {
        let certificate = Some(world.gateway.fingerprint.clone());
        node.order(&world.order(&world.request(now), now), certificate, now).await
    };
    let opened = node(&world).await;
    // Two under way at the same time: four rows, and four more.
    let (first, second) = (order(&opened).await.unwrap(), order(&opened).await.unwrap());
    assert_eq!((scores(&all(&first).await).len(), scores(&all(&second).await).len()), (4, 4));
    let refusal = order(&opened).await.unwrap_err();
    assert_eq!(refusal.code, Code::LimitExceeded);
    assert!(refusal.message.contains("'dfe' has released the 5 rows a day that the agreement 'opportunity-2026' permits"), "{refusal}");
    drop((first, second, opened));
    // The log's lock is let go when its writer ends.
    let again = loop {
        match Node::open(Config::load(&world.path("node.toml")).unwrap()).await {
            Ok(node) => break node,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(order(&again).await.unwrap_err().code, Code::LimitExceeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_used_once_also_after_a_restart_and_refusals_are_logged() {
    let world = World::new();
    let now = chrono::Utc::now();
    let order = world.order(&world.request(now), now);
    let opened = node(&world).await;
    opened.order(&order, Some(world.gateway.fingerprint.clone()), now).await.unwrap();
    assert_eq!(opened.order(&order, Some(world.gateway.fingerprint.clone()), now).await.unwrap_err().code, Code::Replayed);
    assert_eq!(opened.order(&order, Peer::default(), now).await.unwrap_err().code, Code::Unauthenticated);
    assert_eq!(opened.order(&order, Some(world.stranger.fingerprint.clone()), now).await.unwrap_err().code, Code::Unauthenticated);
    drop(opened);
    // The log's lock is let go when its writer ends.
    let again = loop {
        match Node::open(Config::load(&world.path("node.toml")).unwrap()).await {
            Ok(node) => break node,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(again.order(&order, Some(world.gateway.fingerprint.clone()), now).await.unwrap_err().code, Code::Replayed);
    let log: String =
        std::fs::read_dir(world.path("log")).unwrap().flatten().filter_map(|e| std::fs::read_to_string(e.path()).ok()).collect();
    let count = |text: &str| log.matches(text).count();
    assert_eq!((count("\"order.refused\""), count("\"release.intended\""), count("\"replayed\"")), (4, 1, 2));
    for secret in ["AB100001A", "London", &order.order] {
        assert_eq!(count(secret), 0, "the log holds {secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_bounded_redeemed_once_and_wiped() {
    let world = World::new();
    world.replace("node.toml", "spill = \"spill\"", "spill = \"spill\"\nmax_releases = 1");
    std::fs::create_dir_all(world.path("spill/release-left-behind")).unwrap();
    let node = node(&world).await;
    assert!(!world.path("spill/release-left-behind").exists());
    let now = chrono::Utc::now();
    let order = || world.order(&world.request(now), now);
    let certificate = || Some(world.gateway.fingerprint.clone());
    let release = node.order(&order(), certificate(), now).await.unwrap();
    let folders = || std::fs::read_dir(world.path("spill")).unwrap().count();
    assert_eq!(folders(), 1);
    assert_eq!(node.order(&order(), certificate(), now).await.unwrap_err().code, Code::LimitExceeded);

    let id = release.order.id.clone();
    assert!(node.releases.redeem(&id, 0).is_ok());
    for (id, partition) in [(id.as_str(), 0), (id.as_str(), 4), ("other", 1)] {
        assert_eq!(node.releases.redeem(id, partition).unwrap_err().code, Code::Replayed);
    }
    let mut partition = release.partition(1).await.unwrap();
    node.releases.abandon(&release, crate::endings::Ended::GivenBack);
    assert_eq!(node.releases.redeem(&id, 2).unwrap_err().code, Code::Replayed);
    drop(release);
    assert_eq!(folders(), 1, "a reader is still at it");
    let _ = partition.next_batch().unwrap();
    drop(partition);
    while folders() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(node.order(&order(), certificate(), now).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_given_back_is_not_answered_whenever_it_comes() {
    use base64::Engine as _;
    let world = World::new();
    let node = node(&world).await;
    let now = chrono::Utc::now();
    let certificate = world.gateway.fingerprint.clone();
    let order = || {
        let order = world.order(&world.request(now), now);
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(order.order.split('.').nth(1).unwrap()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        (claims["jti"].as_str().unwrap().to_owned(), order)
    };
    let refused = async |order| node.order(&order, Some(certificate.clone()), now).await.map(drop).unwrap_err();
    // Before it comes; while it is checked; after.
    let (id, late) = order();
    assert!(node.gave_back(id.clone(), now).await.unwrap() && !node.gave_back(id, now).await.unwrap());
    assert_eq!(refused(late).await.code, Code::Replayed);
    let (first, second) = (node.releases.admit("one").unwrap(), node.releases.admit("two").unwrap());
    assert!(node.releases.give_back("two", &certificate).is_none());
    assert_eq!([&first, &second].map(|admission| admission.given_back.load(Ordering::Acquire)), [false, true]);
    drop((first, second));
    assert!(node.releases.admitted().is_empty());
    let (id, started) = order();
    let release = node.order(&started, Some(certificate.clone()), now).await.unwrap();
    assert!(!node.gave_back(id.clone(), now).await.unwrap());
    assert!(node.releases.give_back(&id, &World::new().gateway.fingerprint).is_none(), "another gateway's");
    assert!(node.releases.give_back(&id, &certificate).is_some());
    drop(release);
    // One partition was read, the other will not be.
    let (id, begun) = order();
    let release = node.order(&begun, Some(certificate.clone()), now).await.unwrap();
    assert!(release.order.partitions > 1);
    drop(node.releases.redeem(&id, 0).unwrap());
    assert!(node.releases.give_back(&id, &certificate).is_some());
    assert_eq!(node.releases.redeem(&id, 1).unwrap_err().code, Code::Replayed);
    drop(release);
    while std::fs::read_dir(world.path("spill")).unwrap().count() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(refused(started).await.code, Code::Replayed);
}
