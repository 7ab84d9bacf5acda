//! How long a snapshot of what says nothing of its changes answers, and how old data may be under an agreement.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn one_answers_until_its_source_was_read_too_long_ago_and_of_no_older_data_than_agreed() {
    let [folder, state] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let (world, consent) = (World::new(), Consent::open(state.path(), name("dfe")).unwrap());
    let (snapshots, of) = (store(folder.path()), of(&world, &rules(&consent, false)));
    let (read, wall) = (Instant::now(), SystemTime::now());
    let keep = async || snapshots.keep(Kept { seen: Seen::At(read, wall), ..kept(&world, &consent, folder.path(), Duration::ZERO).await });
    let (now, sooner) = (Seen::At(read, wall), Seen::At(read.checked_sub(HOUR).unwrap(), wall - HOUR));
    let (later, by_wall) = (Seen::At(read + HOUR, wall - HOUR), Seen::At(read.checked_sub(HOUR).unwrap(), wall + HOUR));
    keep().await;
    for required in [&sooner, &now] {
        assert!(snapshots.find(&of, required, |_| true).is_some());
        snapshots.look(|_| Some(required.clone()));
        assert_eq!(snapshots.kept().len(), 1);
    }
    // Its data is of the second 7.
    assert!(snapshots.find(&of, &now, |freshness| freshness == 7).is_some());
    assert!(snapshots.find(&of, &now, |freshness| freshness != 7).is_none() && snapshots.kept().is_empty());
    keep().await;
    for wanted in [&later, &by_wall, &of_no_files()] {
        assert!(snapshots.find(&of, wanted, |_| true).is_none() && snapshots.kept().is_empty(), "{wanted:?}");
        keep().await;
        snapshots.look(|_| Some(wanted.clone()));
        assert!(snapshots.kept().is_empty(), "{wanted:?}");
        keep().await;
    }
    snapshots.look(|_| None);
    assert!(snapshots.kept().is_empty(), "where the department keeps none any more");
}

/// The world's data in a database, of which the node keeps snapshots as `kept` says.
fn in_a_database(world: &World, kept: &str) -> rusqlite::Connection {
    let database = rusqlite::Connection::open(world.path("office.db")).unwrap();
    database
        .execute_batch("CREATE TABLE results (nino TEXT, REGION TEXT, score REAL, cohort INTEGER, fsm BOOLEAN, born DATE, secret TEXT)")
        .unwrap();
    for line in crate::fixture::DATA.lines().skip(1) {
        let cells: Vec<Option<&str>> = line.split(',').map(|cell| (!cell.is_empty()).then_some(cell)).collect();
        database.execute("INSERT INTO results VALUES (?1, ?2, ?3, ?4, ?5 = 'true', ?6, ?7)", rusqlite::params_from_iter(cells)).unwrap();
    }
    world.replace(
        "node.toml",
        "source = \"data/attainment.csv\"\nformat = \"csv\"",
        &format!("connection = \"office\"\ntable = \"results\"\n{kept}"),
    );
    let text = std::fs::read_to_string(world.path("node.toml")).unwrap();
    world.write("node.toml", &format!("{text}\n[[connection]]\nname = \"office\"\nurl = \"sqlite:office.db\"\n"));
    database
}

/// The rows of an order, whether a snapshot answered it, and how old the data is.
async fn answered(node: &Node, world: &World) -> (Vec<Vec<String>>, bool, i64) {
    let release = ordered(node, world).await;
    let (rows, ..) = left(&release).await;
    let (kept, freshness) = (of_snapshot(&release), release.freshness);
    node.releases.abandon(&release, crate::endings::Ended::Dropped);
    // Else the node does not rest.
    drop(release);
    awaited(node).await;
    (rows, kept, freshness)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_read_anew_for_each_order_unless_its_department_says_for_how_long_not() {
    for minutes in ["", "snapshot_minutes = 60"] {
        let world = World::new();
        let database = in_a_database(&world, minutes);
        let node = node(&world).await;
        let (first, kept, read) = answered(&node, &world).await;
        assert!(!kept && first.len() == 4, "{first:?}");
        assert_eq!(node.releases.snapshots.kept().len(), usize::from(!minutes.is_empty()));
        database.execute("UPDATE results SET score = 9.5 WHERE score = 4.5", []).unwrap();
        let (second, kept, stated) = answered(&node, &world).await;
        assert_eq!((kept, second == first), (!minutes.is_empty(), !minutes.is_empty()), "{minutes}");
        assert!(stated >= read);
        if !kept {
            continue;
        }
        assert_eq!(stated, node.releases.snapshots.kept()[0].snapshot.freshness, "the answer tells when it was read");
        // A withdrawal counts at once.
        let record =
            Raw { identifier: "AB100001A", identifier_type: "nino", purpose: "opportunity.measure", event: "withdrawn", ..Raw::default() };
        let record = node.intake(&node.agreements.now()).record(record, &mut String::new()).unwrap();
        node.consent.record(&[record]).unwrap();
        let (fewer, kept, _) = answered(&node, &world).await;
        assert_eq!((kept, fewer.len()), (true, 2));
        // An hour later.
        node.releases.snapshots.kept()[0].seen = Seen::at(HOUR + Duration::from_secs(1)).unwrap();
        let (third, kept, _) = answered(&node, &world).await;
        assert!(!kept && third.iter().flatten().any(|cell| cell == "9.5") && third != fewer, "{third:?}");
        let (fourth, kept, _) = answered(&node, &world).await;
        assert_eq!((fourth, kept), (third, true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_of_no_use_where_an_agreement_wants_newer_data() {
    for (most, kept) in [("2h", 1), ("1m", 1), ("59s", 0)] {
        let mut world = World::new();
        world.agree("basis = \"consent\"", &format!("max_data_age = \"{most}\"\nbasis = \"consent\""));
        let _database = in_a_database(&world, "snapshot_minutes = 60");
        let node = node(&world).await;
        answered(&node, &world).await;
        assert_eq!(node.releases.snapshots.kept().len(), kept, "{most}");
        assert_eq!(answered(&node, &world).await.1, kept == 1, "{most}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_is_older_than_agreed_is_refused_and_the_refusal_logged() {
    let mut world = World::new();
    world.agree("basis = \"consent\"", "max_data_age = \"2h\"\nbasis = \"consent\"");
    let node = node(&world).await;
    let changed = |ago: Duration| {
        let file = std::fs::File::options().append(true).open(world.path("data/attainment.csv")).unwrap();
        file.set_modified(SystemTime::now() - ago).unwrap();
    };
    let order = async |later: Duration| {
        let now = chrono::Utc::now() + later;
        let order = world.order(&world.request(now), now);
        node.order(&order, Some(world.gateway.fingerprint.clone()), now).await
    };
    let refused = async |later: Duration| {
        let refused = order(later).await.unwrap_err();
        assert_eq!((refused.code, refused.department.as_deref()), (Code::Outdated, Some("dfe")));
        assert!(refused.message.contains("'dfe.attainment' be used that is at most 2 hours old"), "{refused}");
    };
    changed(HOUR);
    for kept in [false, true] {
        let (rows, of_snapshot, _) = answered(&node, &world).await;
        assert_eq!((rows.len(), of_snapshot), (4, kept));
    }
    // Of a snapshot too: the files stayed as they were, and grew old.
    assert_eq!(node.releases.snapshots.kept().len(), 1);
    refused(HOUR + Duration::from_secs(1)).await;
    assert!(node.releases.snapshots.kept().is_empty());
    changed(24 * HOUR);
    refused(Duration::ZERO).await;
    let log = world.log();
    assert_eq!(log.lines().filter(|line| line.contains("order.refused") && line.contains("outdated")).count(), 2, "{log}");
    changed(Duration::ZERO);
    assert!(order(Duration::ZERO).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn none_is_kept_that_takes_longer_to_make_than_it_is_of_use() {
    let state = tempfile::tempdir().unwrap();
    let (world, consent) = (World::new(), Consent::open(state.path(), name("dfe")).unwrap());
    let node = node(&world).await;
    let (snapshots, of) = (&node.releases.snapshots, of(&world, &rules(&consent, false)));
    for (lasts, kept) in [(HOUR, 1), (Duration::from_nanos(1), 0)] {
        snapshots.stop(|_| true);
        let plan = Plan { lasts: Some(lasts), ..plan(&node, &world, &consent) };
        snapshots.waits(&of, &of_no_files()).unwrap().make(plan, async { true }, || true).await;
        assert_eq!((snapshots.kept().len(), snapshots.failed().len()), (kept, 1 - kept), "{lasts:?}");
        assert_eq!(snapshots.wants(&of, &of_no_files()), kept == 1, "nor tried again at once");
    }
}
