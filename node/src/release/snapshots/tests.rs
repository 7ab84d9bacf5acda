//! What a snapshot releases is what a release that sorts for itself does: the same rows, counts and words about who is left out.

use std::path::Path;

use arrow::array::{Array as _, AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef};
use concordat_policy::denominator::Grain;
use concordat_policy::{Basis, ColumnType, Comparison, Disclosure, IdentifierType, Predicate, PurposeTree, Value};
use concordat_proto::predicate::to_wire;
use concordat_proto::receipt::Standing;
use concordat_proto::schema::release_schema;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

use super::super::partition::{BATCH_ROWS, Partition};
use super::super::worker::{Counts, Linked};
use super::super::{Progress, Release, Sorting};
use super::*;
use crate::config::{Config, Format};
use crate::consent::Consent;
use crate::consent::intake::{Intake, Raw};
use crate::datasets::Witness;
use crate::fixture::{World, name};
use crate::node::Node;
use crate::pseudonym::{DomainKey, Pseudonyms};
use crate::source::Files;

/// A row: the subject's number (0 for no valid identifier), the second one's, a number, a text.
type Row = (u64, u64, i64, Option<String>);

fn pseudonyms(identifier: &IdentifierType) -> Pseudonyms {
    let domain = LinkageDomain { mission: name("m"), purpose: name("p"), epoch: 1, rotation: 0 };
    Pseudonyms::derive(&DomainKey::new([5; 32]), &domain, identifier)
}

fn identifier(number: u64) -> String {
    if number == 0 { "none".into() } else { format!("{number:012}") }
}

/// The rows in two streams.
fn scan(rows: &[Row], linked: bool, folder: &Path) -> Scan {
    let streams = [0, 1].map(|stream| {
        let mut batches = Vec::new();
        for part in rows.chunks(997).skip(stream).step_by(2) {
            let own: StringArray = part.iter().map(|row| Some(identifier(row.0))).collect();
            let other: StringArray = part.iter().map(|row| Some(identifier(row.1))).collect();
            let numbers: Int64Array = part.iter().map(|row| (row.2 != 0).then_some(row.2)).collect();
            let texts: StringArray = part.iter().map(|row| row.3.as_deref()).collect();
            let mut columns: Vec<(&str, arrow::array::ArrayRef)> = vec![("subject", Arc::new(own))];
            if linked {
                columns.push(("linked_subject", Arc::new(other)));
            }
            columns.extend([("number", Arc::new(numbers) as arrow::array::ArrayRef), ("text", Arc::new(texts))]);
            batches.push(RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap());
        }
        let schema = batches.first().map(RecordBatch::schema).unwrap();
        let stream = RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches.into_iter().map(Ok)));
        Box::pin(stream) as datafusion::execution::SendableRecordBatchStream
    });
    let file = folder.join("source.csv");
    std::fs::write(&file, "x").unwrap();
    Scan { streams: streams.into(), freshness: 7, witness: Witness::of(Files { path: file, format: Format::Csv }) }
}

fn rules(consent: &Consent, linked: bool) -> Rules {
    let snapshot = consent.catch_up().unwrap().snapshot;
    let purpose = [name("p")];
    let view = |label: &str| snapshot.view(label, purpose.iter());
    Rules {
        identifier: IdentifierType::Uprn,
        pseudonyms: pseudonyms(&IdentifierType::Uprn),
        linked: linked.then(|| Linked {
            identifier: IdentifierType::Uprn,
            pseudonyms: pseudonyms(&IdentifierType::Nino),
            consent: view("uprn"),
            released: true,
        }),
        basis: Basis::Statutory { power: "power".into(), honours_objections: true },
        consent: view("uprn"),
        standing: Standing::default(),
        columns: vec![("number".into(), ColumnType::Integer), ("text".into(), ColumnType::Text)],
        grain: Grain::of(10, &Disclosure { round_to: 1, ..Disclosure::default() }),
        conditional: false,
    }
}

fn object(consent: &Consent, numbers: impl Iterator<Item = u64>) {
    let purposes = PurposeTree::parse("purpose = [{ id = \"p\", title = \"P\" }]").unwrap();
    let intake = Intake::of(std::iter::once(IdentifierType::Uprn), purposes);
    let record = |number| {
        let raw = Raw { identifier: &identifier(number), identifier_type: "uprn", purpose: "p", event: "objected", ..Raw::default() };
        intake.record(raw, &mut String::new()).unwrap()
    };
    consent.record(&numbers.map(record).collect::<Vec<_>>()).unwrap();
}

fn room(most: u64) -> Arc<Room> {
    Arc::new(Room { most, taken: AtomicU64::new(0) })
}

fn store(folder: &Path) -> Snapshots {
    Snapshots::new(folder, 1 << 30, 1 << 20)
}

async fn snapshot(rows: &[Row], consent: &Consent, linked: bool, folder: &Path) -> Arc<Snapshot> {
    let (rules, own) = (Arc::new(rules(consent, linked)), Arc::new(folder_in(folder).unwrap()));
    let sorted = store(folder).sorted(scan(rows, linked, folder), &rules, Buckets::new(PARTITIONS), &own, 1 << 18).await.unwrap();
    Arc::new(Snapshot::make(sorted, &rules, 7, folder, room(1 << 30)).unwrap())
}

/// What leaves: partition by partition, its batches.
type Left = Vec<Vec<RecordBatch>>;

fn read(schema: &SchemaRef, partitions: u32, open: impl Fn(u32) -> Partition) -> Left {
    let read = |partition| {
        let mut partition = open(partition);
        let batches: Vec<RecordBatch> = std::iter::from_fn(|| partition.next_batch().unwrap()).collect();
        assert!(batches.iter().all(|batch| batch.schema() == *schema && batch.num_rows() <= BATCH_ROWS));
        batches
    };
    (0..partitions).map(read).collect()
}

/// Every row, in the order of the wire; of one subject's, in any.
fn rows(left: &Left) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (partition, batch) in left.iter().enumerate().flat_map(|(partition, batches)| batches.iter().map(move |batch| (partition, batch))) {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| arrow::util::display::array_value_to_string(column, row).unwrap());
            rows.push(std::iter::once(format!("{partition:02}")).chain(cells).collect::<Vec<_>>());
        }
    }
    let subjects: Vec<&String> = rows.iter().map(|row| &row[1]).collect();
    assert!(subjects.is_sorted(), "ascending over all partitions");
    rows.sort();
    rows
}

async fn both_ways(all: &[Row], consent: &Consent, snapshot: &Arc<Snapshot>, linked: bool, partitions: u32) -> [(Left, Counts, String); 2] {
    let folder = tempfile::tempdir().unwrap();
    let rules = || Arc::new(rules(consent, linked));
    let schema = Arc::new(release_schema(linked, rules().columns.iter().map(|(name, kind)| (name.as_str(), *kind))));
    let own = Arc::new(folder_in(folder.path()).unwrap());
    let sorting = Sorting { folder: own, memory: 1 << 20, buckets: Buckets::new(partitions), rules: rules() };
    let sorted = Arc::new(sorting.run(scan(all, linked, folder.path())).await.unwrap());
    let chosen = Arc::new(Chosen::of(Arc::clone(snapshot), &rules(), None, partitions).unwrap());
    let told = |denominators| format!("{denominators:?}");
    [
        (
            read(&schema, partitions, |partition| Partition::sorted(Arc::clone(&sorted), Arc::clone(&schema), partition)),
            sorted.counts(),
            told(sorted.denominators()),
        ),
        (
            read(&schema, partitions, |partition| Partition::chosen(Arc::clone(&chosen), Arc::clone(&schema), partition)),
            chosen.counts(),
            told(chosen.denominators()),
        ),
    ]
}

/// Rows of some hundred subjects, one in seven without a valid identifier, with texts that only some have.
fn some(count: u64) -> Vec<Row> {
    let text =
        |row: u64| (!row.is_multiple_of(11)).then(|| ["north", "south", "east", "west", "isles"][(row * row % 5) as usize].to_owned());
    (1..=count)
        .map(|row| (if row.is_multiple_of(7) { 0 } else { 1 + row * 31 % 700 }, 1 + row * 17 % 400, (row % 9).cast_signed(), text(row)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_releases_what_sorting_does_also_after_objections_came() {
    for linked in [false, true] {
        let [folder, state] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
        let consent = Consent::open(state.path(), name("dfe")).unwrap();
        object(&consent, 1..40);
        let all = some(5_000);
        let snapshot = snapshot(&all, &consent, linked, folder.path()).await;
        let mut released = Vec::new();
        // Nobody more; some more, which are decided alone; and so many that all are decided again.
        for (round, more) in [0..0, 100..110, 110..5_000].into_iter().enumerate() {
            object(&consent, more);
            let fresh = super::decide::Decided::by(&rules(&consent, linked), &snapshot).unwrap();
            let [(left, counts, told), (kept, kept_counts, kept_told)] = both_ways(&all, &consent, &snapshot, linked, 3).await;
            assert_eq!((kept_counts, &kept_told), (counts, &told), "linked {linked}, round {round}");
            assert!(rows(&kept) == rows(&left), "linked {linked}, round {round}");
            let again = super::decide::Decided::by(&rules(&consent, linked), &snapshot).unwrap();
            assert!(Arc::ptr_eq(&fresh, &again), "what was decided is not decided again");
            released.push(counts.released);
        }
        assert!(released.is_sorted_by(|before, after| before > after), "{released:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_withheld_show_neither_in_batches_nor_in_dictionaries() {
    let [folder, state] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let consent = Consent::open(state.path(), name("dfe")).unwrap();
    // Who objects has a text of his own, which comes first in the alphabet.
    let subject = |row: u64| 1 + row % 40_000;
    let all: Vec<Row> = (0..200_000)
        .map(|row| {
            // Of a subject's five rows, one has no text.
            let text = (row / 40_000 != 3).then(|| if subject(row) <= 99 { "aaa".into() } else { format!("t{}", (row % 50).min(2)) });
            (subject(row), 1, 1, text)
        })
        .collect();
    object(&consent, 1..100);
    let snapshot = snapshot(&all, &consent, false, folder.path()).await;
    let [_, (kept, counts, _)] = both_ways(&all, &consent, &snapshot, false, 2).await;
    assert_eq!(counts, Counts { released: 200_000 - 99 * 5, without_consent: 99 * 5, ..Counts::default() });
    for partition in &kept {
        let (last, full) = partition.split_last().unwrap();
        assert!(!full.is_empty() && full.iter().all(|batch| batch.num_rows() == BATCH_ROWS), "all batches but the last are full");
        for batch in full.iter().chain([last]) {
            let texts = batch.column(2).as_dictionary::<Int32Type>();
            assert_eq!(texts.values().as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["t0", "t1", "t2"]);
            let (keys, nulls) = (texts.keys().values(), texts.keys().nulls().unwrap());
            assert!(nulls.null_count() > 0 && keys.iter().zip(nulls).all(|(key, valid)| valid || *key == 0), "nothing stands under a null");
        }
    }
    assert_eq!(kept[0][0].column(1).as_primitive::<Int64Type>().null_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_which_there_are_many_or_long_ones_leave_in_smaller_batches() {
    let [folder, state] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let consent = Consent::open(state.path(), name("dfe")).unwrap();
    let all: Vec<Row> = (1..=90_000).map(|row| (row, 1, 1, Some(format!("{row:0600}")))).collect();
    let snapshot = snapshot(&all, &consent, false, folder.path()).await;
    let [(left, ..), (kept, ..)] = both_ways(&all, &consent, &snapshot, false, 2).await;
    assert!(rows(&kept) == rows(&left));
    assert!(kept.iter().all(|batches| batches.len() > 1), "some 45,000 rows of 600 bytes are more than 16 MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_larger_than_its_disk_is_not_kept_and_nothing_is_left_in_the_folder() {
    let [folder, state] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let consent = Consent::open(state.path(), name("dfe")).unwrap();
    let (all, rules) = (some(5_000), Arc::new(rules(&consent, false)));
    for (most, kept) in [(1 << 30, true), (1 << 12, false)] {
        let own = Arc::new(folder_in(folder.path()).unwrap());
        let sorted = store(folder.path()).sorted(scan(&all, false, folder.path()), &rules, Buckets::new(PARTITIONS), &own, 1 << 18).await;
        drop(own);
        let made = Snapshot::make(sorted.unwrap(), &rules, 7, folder.path(), room(most));
        assert_eq!(made.is_ok(), kept);
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["source.csv"], "also while it is kept");
    }
}

async fn node(world: &World) -> Arc<Node> {
    let node = Node::open(Config::load(&world.path("node.toml")).unwrap()).await.unwrap();
    world.bring_key(&node);
    node
}

fn of_snapshot(release: &Release) -> bool {
    matches!(*release.progress.borrow(), Progress::Chosen(_))
}

/// What a release holds, and what is said of it.
async fn left(release: &Release) -> (Vec<Vec<String>>, Counts, String) {
    let (mut all, mut said) = (Vec::new(), None);
    for number in 0..release.order.partitions {
        let mut partition = release.partition(number).await.unwrap();
        all.push(std::iter::from_fn(|| partition.next_batch().unwrap()).collect::<Vec<_>>());
        said = Some((partition.counts(), format!("{:?}", partition.denominators())));
    }
    let (counts, told) = said.unwrap();
    (rows(&all), counts, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_answered_from_a_snapshot_as_long_as_source_and_agreement_are_as_they_were() {
    let world = World::new();
    let node = node(&world).await;
    let order = async |predicate: Option<Predicate>| {
        let now = chrono::Utc::now();
        let mut request = world.request(now);
        request.predicate = predicate.as_ref().map(to_wire);
        let release = node.order(&world.order(&request, now), Some(world.gateway.fingerprint.clone()), now).await.unwrap();
        let left = left(&release).await;
        let kept = of_snapshot(&release);
        node.releases.abandon(&release, crate::endings::Ended::Dropped);
        (kept, left)
    };
    let made = async || {
        for _ in 0..600 {
            if !node.releases.snapshots.kept().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no snapshot was made");
    };
    let compare = |comparison, value| Predicate::Compare { column: "cohort".into(), comparison, value };
    let questions = [
        None,
        Some(Predicate::IsTrue { column: "fsm".into() }),
        Some(Predicate::Not(Box::new(Predicate::IsTrue { column: "fsm".into() }))),
        Some(compare(Comparison::Greater, Value::Integer(2023))),
        Some(Predicate::Or(vec![Predicate::IsNull { column: "cohort".into() }, compare(Comparison::Equal, Value::Integer(2023))])),
    ];
    let mut answers = Vec::new();
    for question in &questions {
        node.releases.snapshots.stop(|_| true);
        let (kept, answer) = order(question.clone()).await;
        assert!(!kept);
        answers.push(answer);
    }
    made().await;
    for (question, answer) in questions.iter().zip(&answers) {
        let (kept, again) = order(question.clone()).await;
        assert!(kept, "{question:?}");
        assert_eq!(again, *answer, "{question:?}");
    }
    assert!(answers.iter().any(|(rows, ..)| rows.len() > 1) && answers[0] != answers[1]);
    // A withdrawal counts at once.
    let record =
        Raw { identifier: "AB100001A", identifier_type: "nino", purpose: "opportunity.measure", event: "withdrawn", ..Raw::default() };
    let record = node.intake(&node.agreements.now()).record(record, &mut String::new()).unwrap();
    node.consent.record(&[record]).unwrap();
    let (kept, fewer) = order(None).await;
    assert!(kept && fewer.1.released == answers[0].1.released - 2 && fewer.1.without_consent == answers[0].1.without_consent + 2);
    // So does a source that changed, if only in one letter.
    let data = std::fs::read_to_string(world.path("data/attainment.csv")).unwrap();
    world.write("data/attainment.csv", &data.replace("4.5", "9.5"));
    let (kept, changed) = order(None).await;
    assert!(!kept && changed.0 != fewer.0);
    assert!(node.releases.snapshots.kept().is_empty());
    // And the agreement's end.
    order(None).await;
    made().await;
    node.releases.stop(|agreement| agreement.id == world.agreement.id);
    assert!(node.releases.snapshots.kept().is_empty());
}

#[test]
fn a_snapshot_is_of_one_text_of_an_agreement_one_domain_and_one_key() {
    let [folder, state] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let consent = Consent::open(state.path(), name("dfe")).unwrap();
    let world = World::new();
    let domain = LinkageDomain { mission: name("m"), purpose: name("p"), epoch: 1, rotation: 0 };
    let of = |agreement: &Agreement, domain: &LinkageDomain, rules: &Rules| Of::new(&name("attainment"), agreement, domain, rules);
    let first = of(&world.agreement, &domain, &rules(&consent, false));
    assert_eq!(first, of(&world.agreement, &domain, &rules(&consent, false)));
    let text = Agreement { digest: "another".into(), ..world.agreement.clone() };
    let key = Rules { pseudonyms: pseudonyms(&IdentifierType::Nino), ..rules(&consent, false) };
    let elsewhere = Consent::open(folder.path(), name("dfe")).unwrap();
    for other in [
        of(&text, &domain, &rules(&consent, false)),
        of(&world.agreement, &LinkageDomain { epoch: 2, ..domain.clone() }, &rules(&consent, false)),
        of(&world.agreement, &LinkageDomain { rotation: 1, ..domain.clone() }, &rules(&consent, false)),
        of(&world.agreement, &domain, &key),
        of(&world.agreement, &domain, &rules(&elsewhere, false)),
    ] {
        assert_ne!(other, first);
    }
}
