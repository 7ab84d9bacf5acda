//! How fast it is here: printed, with bounds that only a broken log misses.

use std::time::Instant;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn group_commit_and_checkpoints_keep_up() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let (writers, since) = (32u64, Instant::now());
    let until = since + Duration::from_secs(2);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..writers {
        let log = log.clone();
        tasks.spawn(async move {
            let mut count = 0u64;
            while Instant::now() < until {
                log.append(Entry::new("query.closed").field("facts", "x".repeat(600))).await.unwrap();
                count += 1;
            }
            count
        });
    }
    let total: u64 = tasks.join_all().await.iter().sum();
    let rate = total as f64 / since.elapsed().as_secs_f64();
    let behind = total - log.size();
    let waited = Instant::now();
    until_covered(&log, total).await;
    eprintln!("{rate:.0} entries/s by {writers} writers; {behind} not covered at the end, all of them {:?} later", waited.elapsed());
    assert!(rate > 100.0, "{rate}");
    let mut longest = Duration::ZERO;
    for _ in 0..5 {
        let entry = log.append(Entry::new("query.closed")).await.unwrap();
        let since = Instant::now();
        until_covered(&log, entry).await;
        longest = longest.max(since.elapsed());
    }
    eprintln!("a checkpoint covers a single entry at most {longest:?} after it");
}
