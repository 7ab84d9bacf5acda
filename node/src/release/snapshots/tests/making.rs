//! When a snapshot is made, and when none is.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn one_is_made_in_its_turn_at_rest_and_only_as_long_as_it_is_wanted() {
    let state = tempfile::tempdir().unwrap();
    let (world, consent) = (World::new(), Consent::open(state.path(), name("dfe")).unwrap());
    let node = node(&world).await;
    let snapshots = &node.releases.snapshots;
    let of = of(&world, &rules(&consent, false));
    for (answers, made) in [([true, true], 1), ([false, true], 0), ([true, false], 0)] {
        let (rested, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
        let waiting = snapshots.waits(&of, &of_no_files()).unwrap();
        assert!(snapshots.waits(&of, &of_no_files()).is_none() && !snapshots.wants(&of, &of_no_files()), "none twice");
        let rest = async {
            rested.store(true, Ordering::Release);
            true
        };
        let turn = snapshots.making.acquire().await.unwrap();
        let mut making = Box::pin(waiting.make(plan(&node, &world, &consent), rest, move || answers[asked.fetch_add(1, Ordering::AcqRel)]));
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut making).await.is_err());
        assert!(!rested.load(Ordering::Acquire), "it waits for rest when its turn has come");
        drop(turn);
        making.await;
        assert!(rested.load(Ordering::Acquire));
        assert_eq!((snapshots.kept().len(), snapshots.failed().len(), snapshots.waiting().len()), (made, 0, 0), "{answers:?}");
        snapshots.stop(|_| true);
    }
    // Neither of a node that is gone, nor when the making ends before its end.
    snapshots.waits(&of, &of_no_files()).unwrap().make(plan(&node, &world, &consent), async { false }, || true).await;
    drop(snapshots.waits(&of, &of_no_files()).unwrap().make(plan(&node, &world, &consent), async { true }, || true));
    assert_eq!((snapshots.kept().len(), snapshots.failed().len(), snapshots.waiting().len()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_too_large_is_not_tried_again_of_the_same_files_nor_one_of_files_that_never_settle_for_an_hour() {
    let [folder, state] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let (world, consent) = (World::new(), Consent::open(state.path(), name("dfe")).unwrap());
    let node = node(&world).await;
    let of = of(&world, &rules(&consent, false));
    let snapshots = Arc::new(Snapshots::new(folder.path(), 64, Some(0), 1 << 20));
    let source = node.datasets.required(&of.dataset).unwrap();
    let make = async || {
        let waiting = snapshots.waits(&of, &source).unwrap();
        waiting.make(plan(&node, &world, &consent), async { true }, || true).await;
    };
    make().await;
    assert!(!snapshots.wants(&of, &source));
    assert_eq!(snapshots.failed()[0].larger.as_ref(), Some(&source));
    assert!(snapshots.wants(&of, &of_no_files()) && snapshots.failed().is_empty(), "of other files it is");
    // Somebody touches them all the time.
    let file = std::fs::File::options().write(true).open(world.path("data/attainment.csv")).unwrap();
    let touching = tokio::spawn(async move {
        loop {
            file.set_modified(SystemTime::now()).unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    make().await;
    touching.abort();
    assert!(!snapshots.wants(&of, &of_no_files()));
    assert!(snapshots.failed()[0].larger.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn none_is_made_by_a_node_that_stops_or_where_others_need_what_is_left_of_the_disk() {
    for (reserve, stops) in [("0", true), ("16777216", false)] {
        let world = World::new();
        world.replace("node.toml", "snapshot_reserve_mib = 0", &format!("snapshot_reserve_mib = {reserve}"));
        let node = node(&world).await;
        let release = ordered(&node, &world).await;
        node.releases.abandon(&release, crate::endings::Ended::Dropped);
        drop(release);
        assert!(!node.releases.snapshots.waiting().is_empty());
        if stops {
            node.drain().await;
        }
        awaited(&node).await;
        assert!(node.releases.snapshots.kept().is_empty(), "{reserve}");
        assert_eq!(node.releases.snapshots.failed().len(), usize::from(!stops), "{reserve}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_what_waits_and_how_far_the_one_is_that_is_made() {
    let [folder, state] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let (world, consent) = (World::new(), Consent::open(state.path(), name("dfe")).unwrap());
    let metrics = Metrics::new("test", "1");
    let snapshots = Arc::new(store(folder.path()).measured(&metrics));
    let told = |name: &str| {
        let text = metrics.text();
        let line = text.lines().find(|line| line.split(['{', ' ']).next() == Some(name));
        line.map(|line| line.rsplit(' ').next().unwrap().to_owned())
    };
    let waiting = snapshots.waits(&of(&world, &rules(&consent, false)), &of_no_files()).unwrap();
    assert_eq!(told("concordat_snapshots_waiting").as_deref(), Some("1"));
    let rules = Arc::new(rules(&consent, false));
    for _ in 0..2 {
        snapshots.sorted(scan(&some(5_000), false, folder.path()), &rules, 1 << 18).await.unwrap();
        assert_eq!(told("concordat_snapshot_rows_read").as_deref(), Some("5000"));
    }
    drop(waiting);
    assert_eq!(told("concordat_snapshots_waiting").as_deref(), Some("0"));
    let node = node(&world).await;
    snapshots.waits(&of(&world, &rules), &of_no_files()).unwrap().make(plan(&node, &world, &consent), async { true }, || true).await;
    assert_eq!(["concordat_snapshot_rows_read", "concordat_snapshots"].map(told), [Some("0".into()), Some("1".into())]);
}
