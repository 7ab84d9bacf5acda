//! Watching processes from outside: their endpoint, their standard error, signals; waiting for what shall happen.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Adds lines to a file.
pub fn append(path: &Path, lines: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, text + lines).unwrap();
}

/// Where a program's operations endpoint listens.
pub fn endpoint(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("state/operations-address")).unwrap().trim().to_owned()
}

/// Status and body of a GET.
pub async fn get(address: &str, path: &str) -> (u16, String) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return (0, String::new()) };
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// What a program wrote to standard error.
pub fn stderr(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("stderr.log")).unwrap()
}

pub fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args([format!("-{name}"), process.to_string()]).status().unwrap().success());
}

/// Waits until something holds.
#[track_caller]
pub fn until(what: &str, holds: impl AsyncFn() -> bool) -> impl Future<Output = ()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    async move {
        while !holds().await {
            assert!(Instant::now() < deadline, "in vain: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
