//! What a snapshot releases is what a release that sorts for itself does: the same rows, counts and words about who is left out.

mod ages;
mod making;
mod taking_over;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use arrow::array::{Array as _, ArrayRef, AsArray as _, BooleanArray, Int64Array, RecordBatch, StringArray, UInt16Array};
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use concordat_audit::LogError;
use concordat_policy::denominator::Grain;
use concordat_policy::{Basis, Code, ColumnType, Comparison, Disclosure, IdentifierType, Predicate, PurposeTree, Value};
use concordat_proto::grouped::Grouping;
use concordat_proto::predicate::to_wire;
use concordat_proto::receipt::Standing;
use concordat_proto::schema::release_schema;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

use super::super::buckets::Buckets;
use super::super::partition::{BATCH_ROWS, Partition};
use super::super::worker::{Counts, Linked};
use super::super::{Progress, Release, Sorting, charged, folder_in};
use super::decide::Decided;
use super::*;
use crate::config::{Config, Format};
use crate::consent::Consent;
use crate::consent::intake::{Intake, Raw};
use crate::datasets::{LeftOut, PART, Scan, Witness};
use crate::fixture::{World, name};
use crate::node::Node;
use crate::orders::tests::verifier;
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
    scan_of(&[(None, rows)], linked, folder)
}

/// The rows of several files, each with its number if it has one, in two streams.
fn scan_of(files: &[(Option<u16>, &[Row])], linked: bool, folder: &Path) -> Scan {
    let numbers = |number: u16, rows: &[Row]| Arc::new(UInt16Array::from(vec![number; rows.len()])) as ArrayRef;
    let parts: Vec<_> = files.iter().map(|(number, rows)| (number.map(|number| numbers(number, rows)), *rows)).collect();
    scan_with(&parts, linked, folder)
}

/// Rows in two streams, with what tells each apart, if anything does.
fn scan_with(files: &[(Option<ArrayRef>, &[Row])], linked: bool, folder: &Path) -> Scan {
    let parts = || {
        files.iter().flat_map(|(told, rows)| {
            rows.chunks(997).zip(0..).map(move |(part, index)| (told.as_ref().map(|told| told.slice(997 * index, part.len())), part))
        })
    };
    let streams = [0, 1].map(|stream| {
        let mut batches = Vec::new();
        for (told, part) in parts().skip(stream).step_by(2) {
            let own: StringArray = part.iter().map(|row| Some(identifier(row.0))).collect();
            let other: StringArray = part.iter().map(|row| Some(identifier(row.1))).collect();
            let numbers: Int64Array = part.iter().map(|row| (row.2 != 0).then_some(row.2)).collect();
            let texts: StringArray = part.iter().map(|row| row.3.as_deref()).collect();
            let mut columns: Vec<(&str, arrow::array::ArrayRef)> = vec![("subject", Arc::new(own))];
            if linked {
                columns.push(("linked_subject", Arc::new(other)));
            }
            columns.extend([("number", Arc::new(numbers) as arrow::array::ArrayRef), ("text", Arc::new(texts))]);
            if let Some(told) = told {
                columns.push((PART, told));
            }
            batches.push(RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap());
        }
        let schema = batches.first().map_or_else(|| Arc::new(arrow::datatypes::Schema::empty()), RecordBatch::schema);
        let stream = RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches.into_iter().map(Ok)));
        Box::pin(stream) as datafusion::execution::SendableRecordBatchStream
    });
    let file = folder.join("source.csv");
    std::fs::write(&file, "x").unwrap();
    Scan {
        streams: streams.into(),
        freshness: 7,
        seen: None,
        apart: None,
        left_out: LeftOut::Nothing,
        shape: Shape::default(),
        witness: Witness::of(Files { path: file, format: Format::Csv }),
    }
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
    Arc::new(Room::new(most, Some(0)))
}

fn store(folder: &Path) -> Snapshots {
    Snapshots::new(folder, 1 << 30, Some(0), 1 << 20)
}

async fn snapshot(rows: &[Row], consent: &Consent, linked: bool, folder: &Path) -> Arc<Snapshot> {
    let rules = Arc::new(rules(consent, linked));
    let sorted = store(folder).sorted(scan(rows, linked, folder), &rules, 1 << 18).await.unwrap();
    Arc::new(Snapshot::make(sorted, &rules, None, 7, folder, room(1 << 30)).unwrap())
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
    let mut rows = cells(left);
    let subjects: Vec<&String> = rows.iter().map(|row| &row[1]).collect();
    assert!(subjects.is_sorted(), "ascending over all partitions");
    rows.sort();
    rows
}

/// Every cell, after its partition.
fn cells(left: &Left) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (partition, batch) in left.iter().enumerate().flat_map(|(partition, batches)| batches.iter().map(move |batch| (partition, batch))) {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| arrow::util::display::array_value_to_string(column, row).unwrap());
            rows.push(std::iter::once(format!("{partition:02}")).chain(cells).collect::<Vec<_>>());
        }
    }
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
    // And groups, which have no subjects by which to order them.
    let groups = |open: &dyn Fn(u32, &SchemaRef) -> Partition| {
        let number = [("number".to_owned(), ColumnType::Integer)];
        let by = Grouping::new(vec![("text".into(), ColumnType::Text)], number.to_vec()).adding(&number, &number).map(Arc::new).unwrap();
        let schema = Arc::new(by.schema());
        let mut groups = cells(&read(&schema, partitions, |partition| open(partition, &schema).grouped(Some(Arc::clone(&by)))));
        groups.sort();
        groups
    };
    let [one, other] = [
        groups(&|partition, schema| Partition::sorted(Arc::clone(&sorted), Arc::clone(schema), partition)),
        groups(&|partition, schema| Partition::chosen(Arc::clone(&chosen), Arc::clone(schema), partition)),
    ];
    assert_eq!(one, other);
    let of_rows: u64 = one.iter().map(|group| group[3].parse::<u64>().unwrap()).sum();
    assert_eq!(of_rows, sorted.counts().released);
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
            let fresh = Decided::by(&rules(&consent, linked), &snapshot).unwrap();
            let [(left, counts, told), (kept, kept_counts, kept_told)] = both_ways(&all, &consent, &snapshot, linked, 3).await;
            assert_eq!((kept_counts, &kept_told), (counts, &told), "linked {linked}, round {round}");
            assert!(rows(&kept) == rows(&left), "linked {linked}, round {round}");
            let again = Decided::by(&rules(&consent, linked), &snapshot).unwrap();
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
        let names = || std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect::<Vec<_>>();
        let sorted = store(folder.path()).sorted(scan(&all, false, folder.path()), &rules, 1 << 14).await.unwrap();
        assert!(sorted.spilled() > 1);
        assert_eq!(names(), ["source.csv"], "while rows that were beyond memory are on disk");
        let made = Snapshot::make(sorted, &rules, None, 7, folder.path(), room(most));
        assert_eq!(made.is_ok(), kept);
        assert_eq!(names(), ["source.csv"], "while it is kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_partition_and_is_withheld_is_not_in_the_last_byte_of_its_bits() {
    let [folder, state] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let consent = Consent::open(state.path(), name("dfe")).unwrap();
    // Of four partitions the first ends inside a block: the sorting knows two.
    let first = |number: &u64| u128::from_be_bytes(pseudonyms(&IdentifierType::Uprn).one(&number.to_string())) < 1 << 126;
    let (low, high): (Vec<u64>, Vec<u64>) = (1..=400).partition(first);
    let low = &low[..low.len() / 8 * 8 - 3];
    object(&consent, high.iter().copied());
    // Whoever withholds has true, nobody else.
    let subjects: StringArray = low.iter().chain(&high).map(|number| Some(identifier(*number))).collect();
    let flags = BooleanArray::from([vec![false; low.len()], vec![true; high.len()]].concat());
    let columns: [(&str, arrow::array::ArrayRef, bool); 2] = [("subject", Arc::new(subjects), true), ("flag", Arc::new(flags), true)];
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let stream = RecordBatchStreamAdapter::new(batch.schema(), futures::stream::iter([Ok(batch)]));
    let stream = Box::pin(stream) as datafusion::execution::SendableRecordBatchStream;
    let scan = Scan { streams: vec![stream], ..scan(&some(2_000), false, folder.path()) };
    let rules = Arc::new(Rules { columns: vec![("flag".into(), ColumnType::Boolean)], ..rules(&consent, false) });
    let sorted = store(folder.path()).sorted(scan, &rules, 1 << 20).await.unwrap();
    let snapshot = Arc::new(Snapshot::make(sorted, &rules, None, 7, folder.path(), room(1 << 30)).unwrap());
    let chosen = Arc::new(Chosen::of(snapshot, &rules, None, 4).unwrap());
    let schema = Arc::new(release_schema(false, [("flag", ColumnType::Boolean)]));
    let left = Partition::chosen(chosen, schema, 0).next_batch().unwrap().unwrap();
    assert_eq!(left.num_rows(), low.len());
    let mut writer = StreamWriter::try_new(Vec::new(), &left.schema()).unwrap();
    writer.write(&left).unwrap();
    let message = writer.into_inner().unwrap();
    let read = StreamReader::try_new(message.as_slice(), None).unwrap().next().unwrap().unwrap();
    let bits = read.column(1).as_boolean().values().inner();
    assert!(bits.len() >= low.len().div_ceil(8) && bits.iter().all(|byte| *byte == 0), "{:?}", bits.as_slice());
}

fn of(world: &World, rules: &Rules) -> Of {
    let domain = LinkageDomain { mission: name("m"), purpose: name("p"), epoch: 1, rotation: 0 };
    Of::new(&name("attainment"), &world.agreement, &domain, rules)
}

fn of_no_files() -> Seen {
    Seen::Files(Vec::new())
}

/// A snapshot of no files that was used so long ago.
async fn kept(world: &World, consent: &Consent, folder: &Path, ago: Duration) -> Kept {
    let snapshot = snapshot(&some(2_000), consent, false, folder).await;
    Kept {
        of: of(world, &rules(consent, false)),
        recipe: recipe(world),
        seen: of_no_files(),
        shape: Shape::default(),
        snapshot,
        used: Instant::now().checked_sub(ago).unwrap(),
        next: Instant::now(),
        whole: Seen::at(Duration::ZERO).unwrap(),
        outdated: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_make_room_for_others() {
    let [folder, state] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let (world, consent) = (World::new(), Consent::open(state.path(), name("dfe")).unwrap());
    for (reserve, stay) in [(0, 1), (u64::MAX, 0)] {
        let snapshots = Snapshots::new(folder.path(), 1 << 30, Some(reserve), 1 << 20);
        snapshots.keep(kept(&world, &consent, folder.path(), Duration::ZERO).await);
        snapshots.look(|_| Some(of_no_files()));
        assert_eq!(snapshots.kept().len(), stay, "{reserve}");
    }
    // An order that finds no room to be sorted.
    let (snapshots, own) = (store(folder.path()), Arc::new(folder_in(folder.path()).unwrap()));
    snapshots.keep(kept(&world, &consent, folder.path(), Duration::ZERO).await);
    std::fs::remove_dir_all(own.path()).unwrap();
    let sorting = Sorting { folder: own, memory: 0, buckets: Buckets::new(2), rules: Arc::new(rules(&consent, false)) };
    let refused = charged(sorting, scan(&some(2_000), false, folder.path()), &snapshots, |_| Ok(())).await.unwrap_err();
    assert_eq!((refused.code, snapshots.kept().len()), (Code::LimitExceeded, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_counted_and_but_for_the_newest_let_go_of_after_a_minute() {
    let [folder, state] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let (world, consent) = (World::new(), Consent::open(state.path(), name("dfe")).unwrap());
    for (ago, more, left) in [(Duration::ZERO, 1..3, 2), (RECENT, 3..5, 1)] {
        let (snapshots, kept) = (store(folder.path()), kept(&world, &consent, folder.path(), ago).await);
        let snapshot = Arc::clone(&kept.snapshot);
        snapshots.keep(kept);
        let undecided = snapshot.memory();
        let first = Decided::by(&rules(&consent, false), &snapshot).unwrap();
        object(&consent, more);
        let second = Decided::by(&rules(&consent, false), &snapshot).unwrap();
        assert!(!Arc::ptr_eq(&first, &second) && first.bytes() > 0);
        assert_eq!(snapshot.memory(), undecided + first.bytes() + second.bytes());
        snapshots.look(|_| Some(of_no_files()));
        let decided = snapshot.decided();
        assert!(decided.len() == left && Arc::ptr_eq(&decided[0], &second));
    }
}

/// Of what the world's orders are about.
fn recipe(world: &World) -> Recipe {
    let now = chrono::Utc::now();
    let order = verifier(world).verify(&world.order(&world.request(now), now), &world.gateway.fingerprint, now);
    order.unwrap().recipe(&name("dfe"))
}

/// Of all that the dataset of the world's node has.
fn plan(node: &Node, world: &World, consent: &Consent) -> Plan {
    let recipe = recipe(world);
    let rules = Rules { columns: recipe.columns.clone(), ..rules(consent, false) };
    Plan { recipe, rules, datasets: Arc::clone(&node.datasets), lasts: None, used: None }
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
    // Where the log cannot be written, it may be room that it lacks, but not where it is only behind its callers.
    order(None).await;
    made().await;
    assert_eq!(node.unwritable(LogError::Busy).code, Code::LogUnavailable);
    assert!(!node.releases.snapshots.kept().is_empty());
    assert_eq!(node.unwritable(LogError::Full).code, Code::LogUnavailable);
    assert!(node.releases.snapshots.kept().is_empty());
}

async fn ordered(node: &Node, world: &World) -> Arc<Release> {
    let now = chrono::Utc::now();
    node.order(&world.order(&world.request(now), now), Some(world.gateway.fingerprint.clone()), now).await.unwrap()
}

/// Waits until nobody waits for a snapshot.
async fn awaited(node: &Node) {
    while !node.releases.snapshots.waiting().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_cannot_be_read_fails_one_order_and_no_other() {
    let world = World::new();
    let node = node(&world).await;
    let order = async || {
        let release = ordered(&node, &world).await;
        let read = async || {
            let mut rows = 0;
            for number in 0..release.order.partitions {
                let mut partition = release.partition(number).await?;
                while let Some(batch) = partition.next_batch()? {
                    rows += batch.num_rows();
                }
            }
            Ok::<_, Refusal>(rows)
        };
        let read = read().await.map_err(|refusal| refusal.code);
        let scanned = matches!(*release.progress.borrow(), Progress::Sorted(_));
        node.releases.abandon(&release, crate::endings::Ended::Dropped);
        (read, scanned)
    };
    assert_eq!(order().await, (Ok(4), true));
    awaited(&node).await;
    assert_eq!(order().await, (Ok(4), false));
    node.releases.snapshots.kept()[0].snapshot.spoil();
    assert_eq!(order().await, (Err(Code::Internal), false));
    assert_eq!(order().await, (Ok(4), true));
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
