//! What a snapshot takes over of the one before, when some of its files changed.

use arrow::array::{ArrayRef, FixedSizeBinaryArray};

use super::*;

/// The files of a folder, of which each that `contents` names is written anew.
fn files(folder: &Path, contents: &[(&str, &str)]) -> Vec<SourceFile> {
    std::fs::create_dir_all(folder).unwrap();
    contents.iter().for_each(|(name, content)| std::fs::write(folder.join(name), content).unwrap());
    Files { path: folder.to_owned(), format: Format::Csv }.files().unwrap()
}

fn at_present() -> Seen {
    Seen::at(Duration::ZERO).unwrap()
}

fn known(files: Vec<SourceFile>) -> Known {
    Known { parts: Parts::Files(files), shape: Shape::default() }
}

fn files_of(known: &Known) -> Vec<SourceFile> {
    let Parts::Files(files) = &known.parts else { panic!("files") };
    files.clone()
}

/// One file's rows, told from others' by their numbers.
fn rows_of(file: usize, count: u64, text: impl Fn(u64) -> Option<String>) -> Vec<Row> {
    let number = |row: u64| (row % 9).cast_signed() + 10 * i64::try_from(file).unwrap();
    some(count).into_iter().zip(0..).map(|((first, second, _, _), row)| (first, second, number(row), text(row))).collect()
}

/// A snapshot of some files' rows: of all of them, or of those that are not as they were `before`.
async fn sealed(
    all: &[(&SourceFile, &[Row])],
    before: Option<Before>,
    linked: bool,
    consent: &Consent,
    folder: &Path,
) -> (Arc<Snapshot>, usize) {
    let known = before.as_ref().map(|before| files_of(&before.known)).unwrap_or_default();
    let numbered = all.len() > 1;
    let unread = (0u16..).zip(all).filter(|(_, (file, _))| !known.contains(file));
    let unread: Vec<(Option<u16>, &[Row])> = unread.map(|(number, (_, rows))| (numbered.then_some(number), *rows)).collect();
    let number = |known: &SourceFile| (0u16..).zip(all).find(|(_, (file, _))| *file == known).map(|(number, _)| number);
    let left_out: Vec<Option<u16>> = known.iter().map(number).collect();
    let left_out = if left_out.iter().any(Option::is_some) { LeftOut::Files(left_out) } else { LeftOut::Nothing };
    let scan = Scan { apart: numbered.then_some(Apart::Files), left_out, ..scan_of(&unread, linked, folder) };
    // Little memory: what is read goes to the disk.
    let snapshots = Snapshots::new(folder, 1 << 30, Some(0), 1 << 17);
    let (snapshot, taken_over) = snapshots.sealed(scan, rules(consent, linked), before).await.unwrap();
    (Arc::new(snapshot), taken_over)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_over_rows_is_what_the_whole_source_makes() {
    let region = |row: u64| (!row.is_multiple_of(5)).then(|| ["north", "south", "east"][(row % 3) as usize].to_owned());
    let long = |row: u64| Some(format!("{row:0200}"));
    for (linked, many) in [(false, false), (true, false), (false, true)] {
        let [folder, state] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
        let consent = Consent::open(state.path(), name("dfe")).unwrap();
        object(&consent, 1..40);
        let text: &dyn Fn(u64) -> Option<String> = if many { &long } else { &region };
        let of_file = |file, count| rows_of(file, count, |row| text(row + 100_000 * u64::try_from(file).unwrap()));
        let [a, b, c, other] = [of_file(0, 30_000), of_file(1, 20_000), of_file(2, 5_000), of_file(3, 4_000)];
        let source = folder.path().join("source");
        let found = files(&source, &[("a.csv", "1"), ("b.csv", "1"), ("c.csv", "1")]);
        let [fa, fb, fc] = [&found[0], &found[1], &found[2]];
        let changed = files(&source, &[("b.csv", "22"), ("0.csv", "333")]);
        let [f0, fb2] = [&changed[0], &changed[2]];
        assert!(fb != fb2 && changed[1] == *fa && changed[3] == *fc);
        let of = |files: &[(&SourceFile, &[Row])]| known(files.iter().map(|(file, _)| (*file).clone()).collect());
        type Files<'a> = Vec<(&'a SourceFile, &'a [Row])>;
        // Before, after, and how many rows are taken over.
        let turns: [(Files<'_>, Files<'_>, usize); 7] = [
            (vec![(fa, &a)], vec![(fa, &a), (fb, &b)], a.len()),
            (vec![(fa, &a), (fb, &b)], vec![(fa, &a), (fb, &b), (fc, &c)], a.len() + b.len()),
            // The file that comes first gives all others another number.
            (vec![(fa, &a), (fb, &b), (fc, &c)], vec![(f0, &other), (fa, &a), (fb, &b), (fc, &c)], a.len() + b.len() + c.len()),
            (vec![(fa, &a), (fb, &b), (fc, &c)], vec![(fa, &a), (fb2, &other), (fc, &c)], a.len() + c.len()),
            (vec![(fa, &a), (fb, &b), (fc, &c)], vec![(fa, &a), (fc, &c)], a.len() + c.len()),
            (vec![(fa, &a), (fb, &b)], vec![(fb, &b)], b.len()),
            (vec![(fa, &a), (fb, &b)], vec![(fb2, &b)], 0),
        ];
        for (turn, (then, now, expected)) in turns.iter().enumerate() {
            let first = sealed(then, None, linked, &consent, folder.path()).await.0;
            let before = Before { snapshot: first, known: of(then), whole: at_present() };
            let (second, taken_over) = sealed(now, Some(before), linked, &consent, folder.path()).await;
            let all: Vec<Row> = now.iter().flat_map(|(_, rows)| rows.iter().cloned()).collect();
            assert_eq!((taken_over, second.rows()), (*expected, all.len()), "linked {linked}, many {many}, turn {turn}");
            let [(left, counts, told), (kept, kept_counts, kept_told)] = both_ways(&all, &consent, &second, linked, 3).await;
            assert_eq!((kept_counts, kept_told), (counts, told), "linked {linked}, many {many}, turn {turn}");
            assert!(rows(&kept) == rows(&left), "linked {linked}, many {many}, turn {turn}");
            assert!(counts.invalid_identifiers > 0 && counts.without_consent > 0 && counts.released > 1_000);
            // And the next takes over of this one.
            let before = Before { snapshot: Arc::clone(&second), known: of(now), whole: at_present() };
            let (third, taken_over) = sealed(now, Some(before), linked, &consent, folder.path()).await;
            assert_eq!(taken_over, all.len());
            let [_, (again, ..)] = both_ways(&all, &consent, &third, linked, 3).await;
            assert!(rows(&again) == rows(&kept), "linked {linked}, many {many}, turn {turn}");
        }
    }
}

/// A snapshot of rows of a database, each with its version: of all of them, or of those that did not stay.
async fn versioned(all: &[(u128, Row)], before: Option<Before>, consent: &Consent, folder: &Path) -> (Arc<Snapshot>, usize) {
    let stayed = before.as_ref().map(|before| {
        let Parts::Versions(known) = &before.known.parts else { panic!("versions") };
        crate::datasets::Stayed::of(known, all.iter().map(|(version, _)| *version))
    });
    let stays = |version: u128| stayed.as_ref().is_some_and(|stayed| stayed.holds(version));
    let (versions, rows): (Vec<u128>, Vec<Row>) = all.iter().filter(|(version, _)| !stays(*version)).cloned().unzip();
    let flat: Vec<u8> = versions.iter().flat_map(|version| version.to_be_bytes()).collect();
    let versions = Arc::new(FixedSizeBinaryArray::new(16, arrow::buffer::Buffer::from_vec(flat), None)) as ArrayRef;
    let left_out = stayed.clone().map_or(LeftOut::Nothing, LeftOut::Versions);
    let scan = Scan { apart: Some(Apart::Versions), left_out, ..scan_with(&[(Some(versions), &rows)], false, folder) };
    let snapshots = Snapshots::new(folder, 1 << 30, Some(0), 1 << 17);
    let (snapshot, taken_over) = snapshots.sealed(scan, rules(consent, false), before).await.unwrap();
    (Arc::new(snapshot), taken_over)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_database_are_taken_over_that_are_as_they_were_and_the_deleted_are_not() {
    let [folder, state] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let consent = Consent::open(state.path(), name("dfe")).unwrap();
    object(&consent, 1..40);
    // Versions are spread as hashes are.
    let version = |row: u64| u128::from(row.wrapping_mul(0x9E37_79B9_7F4A_7C15)) << 64 | u128::from(row);
    let mut all: Vec<(u128, Row)> =
        (1..).map(version).zip(rows_of(0, 30_000, |row| Some(["north", "south"][(row % 2) as usize].into()))).collect();
    let (mut snapshot, mut taken_over) = versioned(&all, None, &consent, folder.path()).await;
    assert_eq!((taken_over, snapshot.rows()), (0, 30_000));
    for turn in 1..4u64 {
        let known = snapshot.versions().unwrap().unwrap();
        let before =
            Before { snapshot, known: Known { parts: Parts::Versions(Arc::new(known)), shape: Shape::default() }, whole: at_present() };
        // Some are deleted, some are changed, some are new.
        let count = all.len();
        all.drain(100..600);
        for (number, row) in all.iter_mut().skip(7).step_by(50).enumerate() {
            *row = (version(1_000_000 * turn + number as u64), (row.1.0, row.1.1, 7_000 + row.1.2, None));
        }
        let changed = (all.len() - 7).div_ceil(50);
        all.extend((0..200).map(|row| (version(10_000_000 * turn + row), (50_000 + row, 1, 3, Some("east".into())))));
        (snapshot, taken_over) = versioned(&all, Some(before), &consent, folder.path()).await;
        assert_eq!((taken_over, snapshot.rows()), (count - 500 - changed, all.len()), "turn {turn}");
        let rows_now: Vec<Row> = all.iter().map(|(_, row)| row.clone()).collect();
        let [(left, counts, told), (kept, kept_counts, kept_told)] = both_ways(&rows_now, &consent, &snapshot, false, 3).await;
        assert_eq!((kept_counts, kept_told), (counts, told), "turn {turn}");
        assert!(rows(&kept) == rows(&left) && counts.released > 1_000, "turn {turn}");
    }
    // One version twice tells nothing.
    all.push(all[0].clone());
    let (snapshot, _) = versioned(&all, None, &consent, folder.path()).await;
    assert!(snapshot.versions().unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_a_database_waits_for_the_next_to_take_over_its_rows_for_half_an_hour_and_half_a_day_in_all() {
    let [folder, state] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let (world, consent) = (World::new(), Consent::open(state.path(), name("dfe")).unwrap());
    let all: Vec<(u128, Row)> = (1..).map(|row: u128| row << 64).zip(some(2_000)).collect();
    let of = of(&world, &rules(&consent, false));
    let (read, later) = (Seen::at(Duration::ZERO).unwrap(), || Seen::at(Duration::ZERO).unwrap());
    let ago = |time: Duration| Instant::now().checked_sub(time).unwrap();
    let whole = |time: Duration| Seen::at(time).unwrap();
    let second = Duration::from_secs(1);
    for (versions, whole, outdated, room, kept_yet, taken) in [
        (true, whole(WHOLE - second), ago(OUTDATED - second), 2, true, true),
        (true, whole(WHOLE), ago(second), 2, false, false),
        (true, whole(second), ago(OUTDATED), 2, false, false),
        (true, whole(second), ago(second), 1, true, false),
        (false, whole(second), ago(second), 2, false, false),
    ] {
        let snapshot = if versions {
            versioned(&all, None, &consent, folder.path()).await.0
        } else {
            Arc::clone(&kept(&world, &consent, folder.path(), Duration::ZERO).await.snapshot)
        };
        let snapshots = Snapshots::new(folder.path(), room * snapshot.bytes(), Some(0), 1 << 20);
        snapshots.room.taken.fetch_add(snapshot.bytes(), Ordering::AcqRel);
        let base = kept(&world, &consent, folder.path(), Duration::ZERO).await;
        snapshots.keep(Kept { snapshot, seen: read.clone(), whole, outdated: Some(outdated), ..base });
        assert!(snapshots.find(&of, &later(), |_| true).is_none(), "it answers nobody");
        assert!(snapshots.look(|_| Some(later())).is_empty(), "nor is one made without an order");
        assert_eq!(snapshots.is_kept(&of), kept_yet, "{versions} {room}");
        assert_eq!(snapshots.before(&of, &later()).is_some(), taken, "{versions} {room}");
        assert_eq!(snapshots.is_kept(&of), taken, "where there is no room for both it goes");
    }
}

/// A world whose data are files in a folder: that of the fixture, and two more.
fn in_a_folder() -> World {
    let world = World::new();
    world.replace("node.toml", "source = \"data/attainment.csv\"", "source = \"data\"");
    more(&world, "b", "AB100003A", 21.5);
    world
}

/// One more file, of one row.
fn more(world: &World, file: &str, nino: &str, score: f64) {
    let header = crate::fixture::DATA.lines().next().unwrap();
    world.write(&format!("data/{file}.csv"), &format!("{header}\n{nino},Wales,{score},2024,true,2008-01-03,x\n"));
}

/// As the running node does.
async fn looked(node: &Node) {
    for outdated in node.releases.snapshots.look(|dataset| node.datasets.required(dataset)) {
        node.keep_up(outdated).await;
    }
}

/// The same, until it found something to do: files must have settled.
async fn taken_up(node: &Node) {
    for _ in 0..600 {
        looked(node).await;
        if !node.releases.snapshots.waiting().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nothing was found outdated");
}

async fn answered(node: &Node, world: &World) -> (Vec<Vec<String>>, bool) {
    let release = ordered(node, world).await;
    let ((rows, ..), kept) = (left(&release).await, of_snapshot(&release));
    node.releases.abandon(&release, crate::endings::Ended::Dropped);
    (rows, kept)
}

fn shows(rows: &[Vec<String>], score: &str) -> bool {
    rows.iter().flatten().any(|cell| cell == score)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_made_again_without_an_order_when_files_came_changed_or_went() {
    let world = in_a_folder();
    let node = node(&world).await;
    let (first, kept) = answered(&node, &world).await;
    assert!(!kept && shows(&first, "21.5"), "{first:?}");
    awaited(&node).await;
    let snapshots = &node.releases.snapshots;
    // Nothing to do.
    looked(&node).await;
    assert!(snapshots.waiting().is_empty());
    let changes: [(&dyn Fn(), [bool; 3]); 3] = [
        (&|| more(&world, "c", "AB100004A", 31.5), [true, true, false]),
        (&|| more(&world, "b", "AB100003A", 41.5), [false, true, true]),
        (&|| std::fs::remove_file(world.path("data/c.csv")).unwrap(), [false, false, true]),
    ];
    for (change, shown) in changes {
        let of = snapshots.kept()[0].of.clone();
        let used = snapshots.kept()[0].used;
        snapshots.kept()[0].next = Instant::now();
        change();
        looked(&node).await;
        let required = node.datasets.required(&of.dataset).unwrap();
        assert!(!snapshots.kept()[0].seen.answers(&required), "it is there to be taken over");
        assert!(snapshots.waiting().is_empty(), "not before its files have settled");
        taken_up(&node).await;
        looked(&node).await;
        assert_eq!(snapshots.waiting().len(), 1, "none twice");
        awaited(&node).await;
        {
            let kept = snapshots.kept();
            assert!(kept.len() == 1 && kept[0].of == of && kept[0].used == used && kept[0].seen.answers(&required));
        }
        let (rows, kept) = answered(&node, &world).await;
        assert!(kept && ["21.5", "31.5", "41.5"].map(|score| shows(&rows, score)) == shown, "{rows:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn until_then_it_answers_nobody_and_is_kept_for_files_that_are_half_of_all() {
    let world = in_a_folder();
    let node = node(&world).await;
    let snapshots = &node.releases.snapshots;
    answered(&node, &world).await;
    awaited(&node).await;
    let find = || {
        let (of, required) = (snapshots.kept()[0].of.clone(), node.datasets.required(&name("attainment")).unwrap());
        snapshots.find(&of, &required, |_| true)
    };
    assert!(find().is_some());
    more(&world, "c", "AB100004A", 31.5);
    assert!(find().is_none() && snapshots.kept().len() == 1);
    let (rows, kept) = answered(&node, &world).await;
    assert!(!kept && shows(&rows, "31.5"));
    awaited(&node).await;
    assert!(find().is_some(), "an order has it made, too");
    // Of no use any more: more than half is another.
    let data = std::fs::read_to_string(world.path("data/attainment.csv")).unwrap();
    world.write("data/attainment.csv", &data.replace("4.5", "9.5"));
    assert!(find().is_none() && snapshots.kept().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_read_or_stand_beside_another_is_let_go_of() {
    for hindrance in ["damage", "room"] {
        let world = in_a_folder();
        let node = node(&world).await;
        let snapshots = &node.releases.snapshots;
        answered(&node, &world).await;
        awaited(&node).await;
        match hindrance {
            "damage" => snapshots.kept()[0].snapshot.spoil(),
            _ => drop(snapshots.room.taken.fetch_add(snapshots.room.most, Ordering::AcqRel)),
        }
        more(&world, "c", "AB100004A", 31.5);
        taken_up(&node).await;
        awaited(&node).await;
        assert!(snapshots.kept().is_empty(), "{hindrance}");
        // Where there is no room for it alone either, none is made for a while.
        assert_eq!(snapshots.failed().len(), usize::from(hindrance == "room"), "{hindrance}");
        let (rows, kept) = answered(&node, &world).await;
        assert!(!kept && shows(&rows, "31.5"), "{hindrance}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_files_cannot_be_read_yet_it_stays_for_half_an_hour_and_is_tried_later() {
    let world = in_a_folder();
    let node = node(&world).await;
    let snapshots = &node.releases.snapshots;
    answered(&node, &world).await;
    awaited(&node).await;
    let first = Arc::clone(&snapshots.kept()[0].snapshot);
    world.write("data/c.csv", "another header\n1\n");
    taken_up(&node).await;
    awaited(&node).await;
    {
        let kept = snapshots.kept();
        assert!(kept.len() == 1 && Arc::ptr_eq(&kept[0].snapshot, &first));
        let pause = snapshots.failed()[0].until.saturating_duration_since(Instant::now());
        assert!(pause > SOON / 2 && pause <= SOON, "{pause:?}");
    }
    more(&world, "c", "AB100004A", 31.5);
    tokio::time::sleep(SETTLED + Duration::from_secs(1)).await;
    looked(&node).await;
    assert!(snapshots.waiting().is_empty(), "not at once");
    let (rows, kept) = answered(&node, &world).await;
    assert!(!kept && shows(&rows, "31.5") && snapshots.waiting().is_empty(), "nor for an order");
    snapshots.failed()[0].until = Instant::now();
    taken_up(&node).await;
    awaited(&node).await;
    let (rows, kept) = answered(&node, &world).await;
    assert!(kept && shows(&rows, "31.5"));
    // No sooner after the last one than ten times what that took.
    more(&world, "e", "AB100004A", 51.5);
    snapshots.kept()[0].next = Instant::now() + IDLE;
    looked(&node).await;
    tokio::time::sleep(SETTLED + Duration::from_secs(1)).await;
    looked(&node).await;
    assert!(snapshots.waiting().is_empty() && snapshots.kept().len() == 1);
    // What is gone from the source is not kept longer.
    more(&world, "d", "AB100004A", 41.5);
    looked(&node).await;
    assert_eq!(snapshots.kept().len(), 1);
    snapshots.kept()[0].outdated = Instant::now().checked_sub(OUTDATED);
    looked(&node).await;
    assert!(snapshots.kept().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_order_it_is_made_for_a_day_after_the_last_one_and_in_its_epoch_only() {
    let state = tempfile::tempdir().unwrap();
    let (world, consent) = (World::new(), Consent::open(state.path(), name("dfe")).unwrap());
    let node = node(&world).await;
    let (snapshots, of) = (&node.releases.snapshots, of(&world, &rules(&consent, false)));
    for (ago, kept) in [(IDLE / 2, 1), (IDLE, 0)] {
        let used = Instant::now().checked_sub(ago).unwrap();
        let plan = Plan { used: Some(used), ..plan(&node, &world, &consent) };
        snapshots.waits(&of, &of_no_files()).unwrap().make(plan, async { true }, || true).await;
        assert_eq!(snapshots.kept().iter().map(|kept| kept.used).collect::<Vec<_>>(), vec![used; kept]);
        snapshots.stop(|_| true);
    }
    let (caught_up, standing) = node.caught_up().await.unwrap();
    let now = recipe(&world);
    let mut last = now.clone();
    last.domain.epoch -= 1;
    node.linkage.make(&last.domain, &world.agreement).unwrap();
    for (recipe, wanted) in [(now, true), (last, false)] {
        let rules = node.rules(&recipe, &caught_up, standing).await.unwrap();
        assert_eq!(node.wanted(&recipe, &rules)(), wanted);
    }
    // One that nobody could be answered from is not kept either.
    snapshots.keep(kept(&world, &consent, &world.path("spill"), Duration::ZERO).await);
    snapshots.waits(&of, &of_no_files()).unwrap().make(plan(&node, &world, &consent), async { true }, || false).await;
    assert!(snapshots.kept().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: run it with --nocapture"]
async fn a_file_more_takes_less_time_than_all_of_them() {
    const ROWS: usize = 400_000;
    let state = tempfile::tempdir().unwrap();
    let (world, consent) = (World::new(), Consent::open(state.path(), name("dfe")).unwrap());
    world.replace("node.toml", "source = \"data/attainment.csv\"\nformat = \"csv\"", "source = \"files\"\nformat = \"parquet\"");
    std::fs::create_dir(world.path("files")).unwrap();
    let write = async |month: usize| {
        let rows = format!(
            "SELECT lpad((value * 7919 % 5000000)::text, 12, '0') AS nino, CASE value % 9 WHEN 0 THEN 'London' ELSE 'Wales' END AS \"REGION\", \
             value % 100 + 0.5 AS score, value % 9 AS cohort, value % 2 = 0 AS fsm, date '2008-01-03' AS born, 'x' AS secret \
             FROM generate_series({}, {}) AS t(value)",
            month * ROWS + 1,
            (month + 1) * ROWS
        );
        let options = datafusion::dataframe::DataFrameWriteOptions::new().with_single_file_output(true);
        let path = world.path("files").join(format!("{month:02}.parquet"));
        let frame = datafusion::prelude::SessionContext::new().sql(&rows).await.unwrap();
        frame.write_parquet(path.to_str().unwrap(), options, None).await.unwrap();
    };
    for month in 0..12 {
        write(month).await;
    }
    let node = node(&world).await;
    let recipe = recipe(&world);
    let rules = || Rules { columns: recipe.columns.clone(), ..rules(&consent, false) };
    let snapshots = Snapshots::new(&world.path("spill"), 1 << 33, Some(0), SORTING);
    let make = async |before: Option<Before>| {
        let since = Instant::now();
        let known = before.as_ref().map(|before| &before.known);
        let scan = node.datasets.scan_apart(&recipe.selection(), crate::workers::streams(), known).await.unwrap();
        let Some(Seen::Files(files)) = scan.seen.clone() else { panic!("files") };
        let known = Known { parts: Parts::Files(files), shape: scan.shape.clone() };
        let (snapshot, taken_over) = snapshots.sealed(scan, rules(), before).await.unwrap();
        (Before { snapshot: Arc::new(snapshot), known, whole: at_present() }, taken_over, since.elapsed())
    };
    let Before { snapshot, known, whole } = make(None).await.0;
    write(12).await;
    for _ in 0..3 {
        let (all, none, took) = make(None).await;
        let (_, taken_over, more) =
            make(Some(Before { snapshot: Arc::clone(&snapshot), known: known.clone(), whole: whole.clone() })).await;
        assert_eq!((none, taken_over, all.snapshot.rows()), (0, 12 * ROWS, 13 * ROWS));
        let share = more.as_secs_f64() / took.as_secs_f64();
        println!("one file of thirteen, {} rows each: {more:.2?}; all of them {took:.2?}: {share:.2} ×", ROWS);
        assert!(share < 0.8);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_taken_over_where_both_have_no_room_or_rows_do_not_say_of_which_file_they_are() {
    let [folder, state] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let (world, consent) = (World::new(), Consent::open(state.path(), name("dfe")).unwrap());
    let source = folder.path().join("source");
    let found = files(&source, &[("a.csv", "11"), ("b.csv", "22")]);
    let more = files(&source, &[("c.csv", "3333")]);
    for (numbered, files, now, times, taken) in [
        (false, &found[..1], &found, 4, true),
        (false, &found[..1], &found, 2, false),
        (true, &found[..], &found, 2, true),
        (true, &found[..], &more, 2, false),
        (true, &found[..], &more, 3, true),
        (false, &found[..], &found, 9, false),
    ] {
        let rows = some(2_000);
        let number = numbered.then_some(0);
        let scan = Scan { apart: numbered.then_some(Apart::Files), ..scan_of(&[(number, &rows)], false, folder.path()) };
        let (snapshot, _) = store(folder.path()).sealed(scan, rules(&consent, false), None).await.unwrap();
        let (snapshot, of) = (Arc::new(snapshot), of(&world, &rules(&consent, false)));
        let snapshots = Snapshots::new(folder.path(), times * snapshot.bytes(), Some(0), 1 << 20);
        snapshots.room.taken.fetch_add(snapshot.bytes(), Ordering::AcqRel);
        let base = kept(&world, &consent, folder.path(), Duration::ZERO).await;
        snapshots.keep(Kept { snapshot, seen: Seen::Files(files.to_vec()), ..base });
        let before = snapshots.before(&of, &Seen::Files(now.clone()));
        assert_eq!(before.is_some(), taken, "numbered {numbered}, {} files, {times} times", files.len());
    }
}
