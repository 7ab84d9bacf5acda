//! What is read of a store that speaks S3, and who gets in.

use std::sync::Arc;

use chrono::Utc;
use concordat::federation::Authority;
use concordat_node::config::Format;
use concordat_node::source::settings::{Settings, Tls};
use concordat_node::source::{Objects, Opened, Source, SourceError};

use super::reading::shown;
use crate::postgres::secret;
use crate::store::Store;

async fn open(place: concordat_node::source::Store, key: &str) -> Result<Opened, String> {
    let source = Source::Objects(Arc::new(place), Objects { key: key.into(), format: Format::Csv });
    source.open(&|_| None, None, 2).await.map_err(|e| e.to_string())
}

#[tokio::test]
async fn keys_folders_and_patterns() {
    let store = Store::start();
    for (key, id) in [("a.csv", 1), ("year=2026/part-1.csv", 2), ("year=2026/part-2.csv", 3), ("year=2026/it's 100%.csv", 4)] {
        store.write(key, format!("id,t\n{id},\"two\nlines\"\n"));
    }
    for (key, text) in
        [("year=2026/notes.txt", "no"), ("year=2026/deep/part-3.csv", "id,t\n9,no\n"), ("year=2026/.hidden.csv", "id,t\n9,no\n")]
    {
        store.write(key, text);
    }
    for (key, expected) in [
        ("a.csv", &["1"][..]),
        ("*.csv", &["1"]),
        ("year=2026/", &["2", "3", "4"]),
        ("year=2026/part-?.csv", &["2", "3"]),
        ("year=2026/it's 100%.csv", &["4"]),
    ] {
        let opened = open(store.source(), key).await.unwrap_or_else(|e| panic!("{key}: {e}"));
        assert!((opened.freshness - Utc::now().timestamp()).abs() < 60, "{key}");
        let mut ids: Vec<_> = shown(&opened.frame.collect().await.unwrap()).into_iter().map(|row| row[0].clone()).collect();
        ids.sort();
        assert_eq!(ids, expected, "{key}");
        assert!(opened.state.is_one());
    }
    store.write("year=2026/part-4.csv", "t,id\nx,5\n");
    for (key, says) in [
        ("none.csv", "there is no such object"),
        ("none/*.csv", "there is no such object"),
        ("year=2026/", "another header row"),
        ("../secret", "cannot be read"),
    ] {
        let error = open(store.source(), key).await.map(|_| ()).unwrap_err();
        assert!(error.starts_with("connection 'lake'") && error.contains(says), "{key}: {error}");
    }
}

#[tokio::test]
async fn an_object_that_changes_while_it_is_read_fails_the_scan() {
    let store = Store::start();
    let rows = |value: u32| (0..200_000).fold("id,n\n".to_owned(), |text, id| text + &format!("{id},{value}\n"));
    for key in ["n/1.csv", "n/2.csv"] {
        store.write(key, rows(1));
    }
    let opened = open(store.source(), "n/").await.unwrap();
    assert_eq!(opened.frame.clone().count().await.unwrap(), 400_000);
    // Of the same length.
    store.write("n/2.csv", rows(2));
    let error = opened.frame.collect().await.unwrap_err();
    let mut chain = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
    let ours = chain.find_map(|e| e.downcast_ref::<SourceError>()).unwrap().to_string();
    assert_eq!(ours, "connection 'lake': an object changed while it was read");
}

#[tokio::test]
async fn secrets_and_authorities() {
    let store = Store::start();
    store.write("a.csv", "id\n1\n");
    let sound = store.source();
    open(sound.clone(), "a.csv").await.unwrap();
    let file = |name: &str, text: &str| {
        let path = store.path(name);
        secret(&path, text);
        Some(path)
    };
    let stranger = Authority::new(Utc::now().date_naive()).unwrap();
    let with = |change: &dyn Fn(&mut Settings)| {
        let mut place = sound.clone();
        change(&mut place.settings);
        place
    };
    let wrong_ca = Tls { ca: file("wrong.pem", stranger.pem()).unwrap(), identity: None };
    for (place, says) in [
        (with(&|s| s.password_file = file("wrong", "another")), "the key or its secret is wrong"),
        (with(&|s| s.user = "nobody".into()), "the key or its secret is wrong"),
        (with(&|s| s.password_file = None), "name its file in `password_file`"),
        (with(&|s| s.database = "other".into()), "no such object or bucket"),
        (with(&|s| s.tls = Some(wrong_ca.clone())), "invalid peer certificate"),
        (with(&|s| s.port = 1), "refused"),
    ] {
        let error = open(place, "a.csv").await.map(|_| ()).unwrap_err();
        assert!(error.contains(says) && !error.contains(crate::store::SECRET), "{says}: {error}");
    }
}
