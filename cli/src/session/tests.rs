use std::os::unix::fs::PermissionsExt as _;

use keyring_core::api::CredentialStoreApi as _;

use super::*;
use crate::client::TokenStore;

fn session(token: &str) -> Session {
    Session { access_token: token.into(), refresh_token: Some("r".into()), expires: Some(1_800_000_000) }
}

fn without_keyring(folder: &std::path::Path, store: TokenStore) -> Places {
    Places::new(folder.join("state/session.json"), || Err(Failure::new("no keyring")), store)
}

/// The keyring crate's own store for tests: it behaves as a keyring that works.
fn with_keyring(folder: &std::path::Path, store: TokenStore) -> Places {
    let mock = keyring_core::mock::Store::new().unwrap();
    Places::new(folder.join("state/session.json"), move || Ok(mock.build("concordat", "x", None).unwrap()), store)
}

fn token_in(places: &Places) -> Option<String> {
    places.load().unwrap().map(|session| session.access_token)
}

#[test]
fn without_a_keyring_a_private_file_keeps_the_sign_in() {
    let folder = tempfile::tempdir().unwrap();
    let places = without_keyring(folder.path(), TokenStore::Auto);
    assert_eq!(token_in(&places), None);
    let file = folder.path().join("state/session.json");
    assert_eq!(places.save(&session("one")).unwrap(), file.display().to_string());
    places.save(&session("two")).unwrap();
    assert_eq!(token_in(&places).as_deref(), Some("two"));
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    let names: Vec<_> = std::fs::read_dir(file.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["session.json"], "nothing half written is left");
    places.remove().unwrap();
    places.remove().unwrap();
    assert_eq!(token_in(&places), None);
    assert!(without_keyring(folder.path(), TokenStore::Keyring).save(&session("x")).is_err(), "no silent way out");
}

#[test]
fn a_file_that_others_can_read_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let places = without_keyring(folder.path(), TokenStore::File);
    places.save(&session("secret-token")).unwrap();
    let file = folder.path().join("state/session.json");
    for mode in [0o640, 0o604, 0o660] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let failure = places.load().unwrap_err();
        assert!(failure.message.contains("readable by others") && !format!("{failure:?}").contains("secret-token"), "{failure:?}");
    }
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&file, "{\"secret-token\"").unwrap();
    let failure = places.load().unwrap_err();
    assert!(!format!("{failure:?}").contains("secret-token"), "{failure:?}");
}

#[test]
fn a_keyring_that_works_is_preferred_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    without_keyring(folder.path(), TokenStore::File).save(&session("old")).unwrap();
    let places = with_keyring(folder.path(), TokenStore::Auto);
    assert_eq!(token_in(&places).as_deref(), Some("old"));
    assert_eq!(places.save(&session("new")).unwrap(), "the keyring");
    assert!(!folder.path().join("state/session.json").exists());
    assert_eq!(token_in(&places).as_deref(), Some("new"));
    places.remove().unwrap();
    assert_eq!(token_in(&places), None);
}

#[test]
fn a_session_tells_its_secrets_to_nobody() {
    let text = format!("{:?}", Session { access_token: "secret-a".into(), refresh_token: Some("secret-r".into()), expires: None });
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn one_process_at_a_time_changes_a_sign_in() {
    let folder = tempfile::tempdir().unwrap();
    let places = without_keyring(folder.path(), TokenStore::File);
    let first = places.lock(Duration::from_secs(5)).await.unwrap();
    assert!(places.lock(Duration::from_millis(200)).await.is_err());
    drop(first);
    places.lock(Duration::from_secs(5)).await.unwrap();
}
