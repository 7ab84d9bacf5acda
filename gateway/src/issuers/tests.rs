//! Issuers against a small HTTP server on this machine that answers what a test wants; the real provider stands in `tests/`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use concordat_policy::Refusal;
use concordat_proto::token::SigningKey;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const NOW: i64 = 1_800_000_000;

/// Answers by path; counts the key sets that were asked for.
struct Server {
    address: String,
    answers: Arc<Mutex<HashMap<String, String>>>,
    fetches: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answers = Arc::new(Mutex::new(HashMap::new()));
        let fetches = Arc::new(AtomicUsize::new(0));
        let (given, counted) = (answers.clone(), fetches.clone());
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let (given, counted): (Arc<Mutex<HashMap<String, String>>>, Arc<AtomicUsize>) = (given.clone(), counted.clone());
                tokio::spawn(async move {
                    let mut bytes = Vec::new();
                    while !bytes.ends_with(b"\r\n\r\n") {
                        if connection.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let text = String::from_utf8(bytes).unwrap();
                    let path = text.split(' ').nth(1).unwrap().to_owned();
                    if path == "/jwks" {
                        counted.fetch_add(1, Ordering::SeqCst);
                    }
                    let answer = given.lock().unwrap().get(&path).cloned();
                    let answer = answer.unwrap_or_else(|| "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".into());
                    let _ = connection.write_all(answer.replacen("\r\n", "\r\nconnection: close\r\n", 1).as_bytes()).await;
                });
            }
        });
        let server = Self { address, answers, fetches };
        server.document(|_| {});
        server
    }

    fn raw(&self, path: &str, answer: String) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    fn answer(&self, path: &str, body: &str) {
        self.raw(path, format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    }

    fn document(&self, change: impl FnOnce(&mut Value)) {
        let mut document = json!({ "issuer": self.address, "jwks_uri": format!("{}/jwks", self.address) });
        change(&mut document);
        self.answer("/.well-known/openid-configuration", &document.to_string());
    }

    fn keys(&self, keys: &[(&str, &SigningKey)]) {
        let keys: Vec<Value> = keys.iter().map(|(kid, key)| jwk(kid, key)).collect();
        self.answer("/jwks", &json!({ "keys": keys }).to_string());
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    fn issuers(&self, more: &str) -> Issuers {
        let text = format!("issuer = '{}'\naudience = 'a'\ndiscovery = true\nallow_http_loopback = true\n{more}", self.address);
        Issuers::load(&checked(&[&text]).unwrap()).unwrap()
    }

    fn token(&self, key: &SigningKey, kid: &str) -> String {
        let claims = json!({ "iss": self.address, "aud": "a", "sub": "u", "nbf": NOW, "exp": NOW + 60, "organisation": "o", "roles": [] });
        key.sign("JWT", Some(kid), &claims).unwrap()
    }
}

fn key() -> SigningKey {
    let document = pkcs8();
    SigningKey::from_pkcs8(&document).unwrap()
}

/// A fresh Ed25519 key, PKCS#8: the fixed prefix of RFC 8410 and a random seed.
fn pkcs8() -> Vec<u8> {
    let mut seed = [0u8; 32];
    getrandom::fill(&mut seed).unwrap();
    [&[0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20][..], &seed].concat()
}

fn jwk(kid: &str, key: &SigningKey) -> Value {
    let x = BASE64_URL_SAFE_NO_PAD.encode(&key.public_spki()[12..]);
    json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x })
}

fn checked(issuers: &[&str]) -> Result<Vec<IssuerConfig>, Vec<String>> {
    #[derive(serde::Deserialize)]
    struct File {
        issuer: Vec<IssuerFile>,
    }
    let text: String = issuers.iter().map(|issuer| format!("[[issuer]]\n{issuer}\n")).collect();
    let file: File = toml::from_str(&text).map_err(|e| vec![e.to_string()])?;
    check(file.issuer, std::path::Path::new("/nowhere")).map_err(|all| all.into_iter().map(|problem| problem.cause).collect())
}

fn says(outcome: &Result<Verified, Refusal>) -> String {
    match outcome {
        Ok(_) => "verified".into(),
        Err(refusal) => format!("{refusal} [{}]", refusal.operator.clone().unwrap_or_default()),
    }
}

#[tokio::test]
async fn a_new_key_is_fetched_once_for_everybody_and_a_withdrawn_one_is_refused() {
    let (server, old, new) = (Server::start().await, key(), key());
    server.keys(&[("old", &old)]);
    let issuers = Arc::new(server.issuers(""));
    assert_eq!(issuers.state()[0].keys, 0, "nothing is fetched before it is needed");
    assert!(issuers.verify(&server.token(&old, "old"), NOW).await.is_ok());
    assert_eq!(server.fetches(), 1);
    server.keys(&[("new", &new), ("old", &old)]);
    issuers.refresh().await;
    assert!(issuers.verify(&server.token(&new, "new"), NOW).await.is_ok());
    server.keys(&[("new", &new)]);
    issuers.refresh().await;
    let refused = says(&issuers.verify(&server.token(&old, "old"), NOW).await);
    assert!(refused.contains("not valid") && refused.contains("no key"), "{refused}");
    server.answer("/jwks", "{\"keys\":[]}");
    issuers.refresh().await;
    assert!(issuers.verify(&server.token(&new, "new"), NOW).await.is_err(), "an empty set withdraws every key");
    let state = issuers.state().remove(0);
    assert_eq!((state.keys, state.fault, state.issuer), (0, None, server.address.clone()));
    assert!(state.age.is_some(), "the empty set is what was fetched");
}

#[tokio::test]
async fn a_flood_of_unknown_keys_causes_one_fetch_and_all_wait_for_it() {
    let (server, good, stranger) = (Server::start().await, key(), key());
    server.keys(&[("good", &good)]);
    let issuers = Arc::new(server.issuers(""));
    issuers.refresh().await;
    let tasks: Vec<_> = (0..2_000)
        .map(|i| {
            let (issuers, token) = (issuers.clone(), server.token(&stranger, &format!("k{i}")));
            tokio::spawn(async move { issuers.verify(&token, NOW).await.is_err() })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap());
    }
    assert_eq!(server.fetches(), 2, "one before, one for the flood");
    assert!(issuers.verify(&server.token(&good, "good"), NOW).await.is_ok());
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_take_the_fetch_with_it() {
    let (server, good) = (Server::start().await, key());
    server.keys(&[("good", &good)]);
    let issuers = server.issuers("");
    let token = server.token(&good, "good");
    {
        // Polled once, which is enough to start the fetch, and dropped.
        let mut asked = std::pin::pin!(issuers.verify(&token, NOW));
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(asked.as_mut().poll(context))).await;
        assert!(polled.is_pending(), "on one thread, nothing can have come yet");
    }
    let fetched = async {
        while issuers.state()[0].keys == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), fetched).await.expect("the fetch went on");
    assert!(issuers.verify(&token, NOW).await.is_ok());
    assert_eq!(server.fetches(), 1);
}

#[tokio::test]
async fn what_is_not_a_key_set_changes_nothing() {
    let (server, good) = (Server::start().await, key());
    server.keys(&[("good", &good)]);
    let issuers = server.issuers("");
    issuers.refresh().await;
    let token = server.token(&good, "good");
    let elsewhere = format!("HTTP/1.1 302 Found\r\nlocation: {}/other\r\ncontent-length: 0\r\n\r\n", server.address);
    server.answer("/other", "{\"keys\":[]}");
    let answers = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>".to_owned(), "not a JSON Web Key set"),
        (format!("HTTP/1.1 200 OK\r\n\r\n{{\"keys\":[{}]}}", " ".repeat(300 << 10)), "longer than"),
        ("HTTP/1.1 500 Oh\r\ncontent-length: 11\r\n\r\n{\"keys\":[]}".to_owned(), "status 500"),
        (elsewhere, "status 302"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"keys\":[]}".to_owned(), "does not answer"),
    ];
    for (answer, fault) in answers {
        server.raw("/jwks", answer);
        issuers.refresh().await;
        let state = issuers.state().remove(0);
        assert!(state.fault.as_deref().is_some_and(|text| text.contains(fault)), "{fault}: {state:?}");
        assert_eq!(state.keys, 1);
        assert!(issuers.verify(&token, NOW).await.is_ok(), "{fault}");
    }
    server.keys(&[("good", &good)]);
    issuers.refresh().await;
    assert_eq!(issuers.state()[0].fault, None);
}

#[tokio::test]
async fn keys_that_are_too_old_are_refused_with_the_reason() {
    let (server, good) = (Server::start().await, key());
    server.keys(&[("good", &good)]);
    let issuers = server.issuers("keep_keys_seconds = 0");
    issuers.refresh().await;
    server.raw("/jwks", "HTTP/1.1 503 Down\r\ncontent-length: 0\r\n\r\n".into());
    let refused = says(&issuers.verify(&server.token(&good, "good"), NOW).await);
    assert!(refused.contains("cannot be reached") && refused.contains("status 503"), "{refused}");
    assert_eq!(issuers.state()[0].keys, 0);
}

#[tokio::test]
async fn discovery_documents_must_be_the_issuers_own_and_name_a_safe_address() {
    for (what, change, fault) in [
        (
            "another issuer",
            Box::new(|d: &mut Value| d["issuer"] = json!("http://127.0.0.1:1")) as Box<dyn FnOnce(&mut Value)>,
            "another issuer",
        ),
        ("a slash more", Box::new(|d: &mut Value| d["issuer"] = json!(format!("{}/", d["issuer"].as_str().unwrap()))), "another issuer"),
        ("plain http elsewhere", Box::new(|d: &mut Value| d["jwks_uri"] = json!("http://id.example/jwks")), "not https"),
        ("a file", Box::new(|d: &mut Value| d["jwks_uri"] = json!("file:///etc/passwd")), "not https"),
        ("no address", Box::new(|d: &mut Value| drop(d.as_object_mut().unwrap().remove("jwks_uri"))), "not a discovery document"),
    ] {
        let (server, good) = (Server::start().await, key());
        server.keys(&[("good", &good)]);
        server.document(change);
        let issuers = server.issuers("");
        let refused = says(&issuers.verify(&server.token(&good, "good"), NOW).await);
        assert!(refused.contains("cannot be reached") && refused.contains(fault), "{what}: {refused}");
        assert_eq!(server.fetches(), 0, "{what}");
    }
}

#[tokio::test]
async fn one_issuers_key_never_verifies_anothers_token() {
    let (one, two, first, second) = (Server::start().await, Server::start().await, key(), key());
    one.keys(&[("k", &first)]);
    two.keys(&[("k", &second), ("other", &first)]);
    let file = |server: &Server, organisation: &str| {
        format!(
            "issuer = '{}'\naudience = 'a'\ndiscovery = true\nallow_http_loopback = true\norganisations = ['{organisation}']",
            server.address
        )
    };
    let issuers = Issuers::load(&checked(&[&file(&one, "o"), &file(&two, "p")]).unwrap()).unwrap();
    assert!(issuers.verify(&one.token(&first, "k"), NOW).await.is_ok());
    assert!(says(&issuers.verify(&one.token(&second, "k"), NOW).await).contains("signature"));
    assert!(says(&issuers.verify(&one.token(&first, "other"), NOW).await).contains("no key"));
    assert!(says(&issuers.verify(&two.token(&second, "k"), NOW).await).contains("may speak"), "its organisation is the other's");
    let foreign = first.sign("JWT", Some("k"), &json!({ "iss": format!("{}/", one.address), "aud": "a" })).unwrap();
    assert!(says(&issuers.verify(&foreign, NOW).await).contains("another issuer"), "names are compared exactly");
}

#[tokio::test]
async fn a_key_file_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old, new) = (folder.path().join("jwks.json"), key(), key());
    let write = |keys: &[(&str, &SigningKey)]| {
        let keys: Vec<Value> = keys.iter().map(|(kid, key)| jwk(kid, key)).collect();
        std::fs::write(&path, json!({ "keys": keys }).to_string()).unwrap();
    };
    write(&[("old", &old)]);
    let config = format!("issuer = 'i'\naudience = 'a'\njwks = '{}'", path.display());
    let issuers = Issuers::load(&checked(&[&config]).unwrap()).unwrap();
    let token = |key: &SigningKey, kid: &str| {
        let claims = json!({ "iss": "i", "aud": "a", "sub": "u", "nbf": NOW, "exp": NOW + 60, "organisation": "o", "roles": [] });
        key.sign("JWT", Some(kid), &claims).unwrap()
    };
    assert!(issuers.verify(&token(&old, "old"), NOW).await.is_ok());
    write(&[("new", &new)]);
    assert!(issuers.verify(&token(&new, "new"), NOW).await.is_ok(), "an unknown kid is looked for at once");
    assert!(issuers.verify(&token(&old, "old"), NOW).await.is_err());
    std::fs::write(&path, "{ half").unwrap();
    issuers.refresh().await;
    assert!(issuers.verify(&token(&new, "new"), NOW).await.is_ok());
    assert!(issuers.state()[0].fault.as_deref().is_some_and(|text| text.contains("not a JSON Web Key set")));
    std::fs::write(&path, "{\"keys\":[]}").unwrap();
    assert!(Issuers::load(&checked(&[&config]).unwrap()).is_err(), "at the start, a file without keys is a mistake");
}

#[test]
fn contradictions_of_issuers_are_named() {
    let good = "issuer = 'https://i'\naudience = 'a'\n";
    for (what, issuers, cause) in [
        ("no source", vec![good.to_owned()], "exactly one source"),
        ("two sources", vec![format!("{good}jwks = 'x'\ndiscovery = true")], "exactly one source"),
        ("ca without discovery", vec![format!("{good}jwks = 'x'\nca = 'y'")], "without discovery"),
        ("http", vec!["issuer = 'http://i'\naudience = 'a'\ndiscovery = true".to_owned()], "not an https address"),
        ("no address", vec!["issuer = 'i'\naudience = 'a'\ndiscovery = true".to_owned()], "not an address"),
        ("ca that is not there", vec![format!("{good}discovery = true\nca = 'y'")], "cannot be read: /nowhere/y"),
        ("fixed and claim", vec![format!("{good}jwks = 'x'\norganisation = 'o'\norganisation_claim = 'c'")], "both a fixed organisation"),
        ("fixed and list", vec![format!("{good}jwks = 'x'\norganisation = 'o'\norganisations = ['c']")], "both a fixed organisation"),
        ("nobody's issuer", vec![format!("{good}jwks = 'x'\norganisations = []")], "organisations"),
        ("empty audience", vec!["issuer = 'i'\naudience = ''\njwks = 'x'".to_owned()], "empty issuer or audience"),
        ("too long kept", vec![format!("{good}jwks = 'x'\nkeep_keys_seconds = 86401")], "more than a day"),
        ("no life", vec![format!("{good}jwks = 'x'\nmax_lifetime_seconds = 0")], "max_lifetime_seconds"),
        ("unknown key", vec![format!("{good}jwks = 'x'\njku = 'y'")], "unknown field"),
        ("unknown algorithm", vec![format!("{good}jwks = 'x'\nalgorithm = 'HS256'")], "unknown variant"),
        ("twice", vec![format!("{good}jwks = 'x'\norganisation = 'o'"), format!("{good}jwks = 'y'\norganisation = 'p'")], "declared twice"),
        (
            "two that may say anything",
            vec![format!("{good}jwks = 'x'"), "issuer = 'https://j'\naudience = 'a'\njwks = 'y'\norganisation = 'o'".to_owned()],
            "one of several issuers",
        ),
    ] {
        let issuers: Vec<&str> = issuers.iter().map(String::as_str).collect();
        let problems = checked(&issuers).unwrap_err().join("; ");
        assert!(problems.contains(cause), "{what}: {problems}");
    }
    assert!(checked(&[&format!("{good}jwks = 'x'\nalgorithm = 'PS256'\nnot_before = 'issued_at'\ntoken_type = 'at+jwt'")]).is_ok());
}
