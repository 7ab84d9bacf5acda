//! Who gets in, and how.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::Utc;
use concordat::federation::Authority;
use concordat_node::source::connection::Server;
use concordat_node::source::settings::{Host, Settings, Tls};
use concordat_node::source::{Connection, Relation, Source};
use concordat_operate::certificate::Files;
use tempfile::TempDir;

use crate::postgres::{PASSWORD, Postgres, secret};

struct Papers {
    folder: TempDir,
}

impl Papers {
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        secret(&path, text);
        path
    }
}

async fn signed_in(settings: Settings) -> Result<(), String> {
    let connection = Arc::new(Connection { name: "office".into(), server: Server::Postgres(Arc::new(settings)) });
    let opened = Source::Database(
        connection,
        Relation::Query(
            "SELECT current_user::text AS id, ssl::text AS tls FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()".into(),
        ),
    )
    .open(&|_| None, None, 1)
    .await;
    let rows = opened.map_err(|e| e.to_string())?.frame.collect().await.map_err(|e| e.to_string())?;
    assert_eq!(rows[0].num_rows(), 1);
    Ok(())
}

#[tokio::test]
async fn passwords_certificates_and_authorities() {
    let postgres = Postgres::start();
    let papers = Papers { folder: tempfile::tempdir().unwrap() };
    let password = papers.file("password", &format!("{PASSWORD}\n"));
    let ca = papers.file("ca.pem", postgres.authority.pem());
    let stranger = Authority::new(Utc::now().date_naive()).unwrap();
    let wrong_ca = papers.file("wrong.pem", stranger.pem());
    let client = |authority: &Authority, stem: &str, name: &str| {
        let identity = authority.client(name).unwrap();
        Files {
            certificate: papers.file(&format!("{stem}.pem"), &identity.certificate),
            key: papers.file(&format!("{stem}.key"), &identity.key),
            ca: None,
        }
    };
    let own = client(&postgres.authority, "own", "certified");
    let other = client(&postgres.authority, "other", "somebody");
    let forged = client(&stranger, "forged", "certified");
    let settings = |user: &str, host: &str, password_file: Option<&PathBuf>, tls: Option<(&PathBuf, Option<&Files>)>| Settings {
        host: Host::Name(host.into()),
        port: postgres.port,
        user: user.into(),
        database: "postgres".into(),
        password_file: password_file.cloned(),
        tls: tls.map(|(ca, identity)| Tls { ca: ca.clone(), identity: identity.cloned() }),
    };
    let tls = Some((&ca, None));
    signed_in(settings("reader", "localhost", Some(&password), tls)).await.unwrap();
    signed_in(settings("reader", "127.0.0.1", Some(&password), tls)).await.unwrap();
    signed_in(settings("reader", "127.0.0.1", Some(&password), None)).await.unwrap();
    signed_in(settings("certified", "localhost", None, Some((&ca, Some(&own))))).await.unwrap();

    let wrong = papers.file("wrong", "another");
    let open = papers.file("open", PASSWORD);
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    for (settings, says) in [
        (settings("reader", "localhost", Some(&wrong), tls), "the password is wrong"),
        (settings("reader", "localhost", None, tls), "name its file in `password_file`"),
        (settings("reader", "localhost", Some(&open), tls), "others can read"),
        (settings("reader", "localhost", Some(&password), Some((&wrong_ca, None))), "invalid peer certificate"),
        (settings("reader", "127.0.0.2", Some(&password), tls), "refused"),
        (settings("certified", "localhost", None, tls), "SQLSTATE 28000"),
        (settings("certified", "localhost", None, Some((&ca, Some(&other)))), "SQLSTATE 28000"),
        (settings("certified", "localhost", None, Some((&ca, Some(&forged)))), "connection 'office'"),
        (settings("nobody", "localhost", Some(&password), tls), "the password is wrong"),
        (Settings { database: "none".into(), ..settings("reader", "localhost", Some(&password), tls) }, "there is no such database"),
        (Settings { port: 1, ..settings("reader", "localhost", Some(&password), tls) }, "refused"),
    ] {
        let shown = format!("{settings:?}");
        let error = signed_in(settings).await.unwrap_err();
        assert!(error.contains(says) && !error.contains(PASSWORD), "{shown}: {error}");
    }

    // A server without TLS is left before anything is said.
    postgres.sql("postgres", "ALTER SYSTEM SET ssl = off; SELECT pg_reload_conf()");
    let without = settings("reader", "localhost", Some(&password), tls);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while signed_in(without.clone()).await != Err("connection 'office': the server offers no TLS (ssl = off)".into()) {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
