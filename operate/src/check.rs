//! The report of a `check` command: one line per item, `ok`, `warn` or `FAIL`, each of the latter with cause and remedy. A
//! failure does not end it, so that nobody repairs a machine one start at a time.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use concordat_audit::Log;

use crate::Fault;
use crate::certificate::{Files, Identity, date};

/// How near a certificate's end is worth a warning.
const SOON: i64 = 30 * 24 * 3600;

/// The lines so far.
#[derive(Debug, Default)]
pub struct Report {
    text: String,
    failures: usize,
}

impl Report {
    /// Something is as it should be.
    pub fn ok(&mut self, what: impl std::fmt::Display) {
        self.line("ok  ", &what.to_string());
    }

    /// Something works, but should not stay so.
    pub fn warn(&mut self, what: impl std::fmt::Display, cause: &str, remedy: &str) {
        self.line("warn", &format!("{what}: {cause}; {remedy}"));
    }

    /// Something does not work.
    pub fn fail(&mut self, what: impl std::fmt::Display, cause: &str, remedy: &str) {
        self.failures += 1;
        self.line("FAIL", &format!("{what}: {cause}; {remedy}"));
    }

    /// A fault as a failure.
    pub fn fault(&mut self, what: &str, fault: &Fault) {
        // Two items may rest on the same file.
        if !self.text.contains(&format!(" {}: {}; ", fault.place, fault.cause)) {
            self.fail(format!("{what} {}", fault.place), &fault.cause, &fault.remedy);
        }
    }

    /// One line, whatever is in it.
    fn line(&mut self, mark: &str, text: &str) {
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let _ = writeln!(self.text, "{mark} {text}");
    }

    /// A certificate, its key, its chain and how long it is valid. Gives the identity where there is one.
    pub fn identity(&mut self, what: &str, files: &Files, now: i64) -> Option<Identity> {
        let identity = match Identity::load(files) {
            Ok(identity) => identity,
            Err(fault) => {
                self.fault(what, &fault);
                return None;
            }
        };
        let (path, own) = (files.certificate.display(), identity.own().ok()?.clone());
        match identity.valid_at(now) {
            Err(fault) => self.fault(what, &fault),
            Ok(()) => {
                let first = identity.facts.iter().map(|f| f.not_after).min().unwrap_or(own.not_after);
                let names = if own.names.is_empty() { String::new() } else { format!(", for {}", own.names.join(", ")) };
                let text = format!("{what} {path}: {}, valid until {}{names}", own.fingerprint, date(own.not_after));
                if first - now < SOON {
                    self.warn(text, "it expires in less than 30 days", "renew it now; a running server takes the new one without restart");
                } else {
                    self.ok(text);
                }
            }
        }
        Some(identity)
    }

    /// A folder in which this user must be able to write. It is not created.
    pub fn folder(&mut self, what: &str, folder: &Path) {
        let name = folder.join(format!(".check-{}", std::process::id()));
        let remedy = "create it for this program's user only (mode 700), or correct its owner";
        match std::fs::OpenOptions::new().write(true).create_new(true).open(&name) {
            Ok(mut file) => {
                // An empty file can be made on a full disk.
                let written = file.write_all(&[b' '; 4096]).and_then(|()| file.sync_all());
                let _ = std::fs::remove_file(&name);
                match written {
                    Ok(()) => self.ok(format!("{what} {}: writable", folder.display())),
                    Err(e) => {
                        self.fail(format!("{what} {}", folder.display()), &format!("cannot be written: {e}"), "make room on its disk")
                    }
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                self.warn(format!("{what} {}", folder.display()), "does not exist yet", "the first start creates it if it may");
            }
            Err(e) => self.fail(format!("{what} {}", folder.display()), &format!("cannot be written: {e}"), remedy),
        }
    }

    /// The log `origin` of the program with this folder of state: whether it can be written and would be opened, or a running program holds
    /// it.
    pub fn log(&mut self, folder: &Path, origin: &str, state: &Path) {
        let path = folder.join("lock");
        let shown = format!("log {}", folder.display());
        match std::fs::OpenOptions::new().append(true).open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => match Log::check(folder, origin, state) {
                Ok(()) => self.ok(format!("{shown}: not begun")),
                Err(e) => self.fail(shown, &e.with_cause(), &e.remedy()),
            },
            Err(e) => self.fail(shown, &format!("cannot be opened: {e}"), "correct its owner and mode (600)"),
            Ok(file) => match file.try_lock() {
                Ok(()) => match Log::check(folder, origin, state) {
                    Ok(()) => self.ok(format!("{shown}: can be written, and all that belongs to it fits together")),
                    Err(e) => self.fail(shown, &e.with_cause(), &e.remedy()),
                },
                Err(_) => self.warn(shown, "a running program holds it", "nothing to do if that is this one"),
            },
        }
    }

    /// Prints the lines.
    ///
    /// # Errors
    /// How many items failed.
    pub fn end(self) -> Result<(), Fault> {
        let _ = std::io::stdout().write_all(self.text.as_bytes());
        match self.failures {
            0 => Ok(()),
            count => Err(Fault::new("check", format!("{count} item(s) failed"), "each FAIL line names its remedy")),
        }
    }

    /// The lines, for tests.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::World;

    #[test]
    fn certificates_are_judged_with_remedies_and_the_report_goes_on() {
        let world = World::new();
        let now = 1_800_000_000; // 2027-01-15
        let mut report = Report::default();
        assert!(report.identity("server", &world.identity("good", &["localhost"], (2020, 2045)), now).is_some());
        report.identity("soon", &world.identity("soon", &[], (2020, 2027)), 1_798_000_000);
        report.identity("old", &world.identity("old", &[], (2020, 2021)), now);
        let absent = Files { certificate: world.path("none.pem"), key: world.path("none.key"), ca: None };
        assert!(report.identity("absent", &absent, now).is_none());
        report.folder("state", &world.path("none"));
        report.log(&world.path("none"), "concordat/gateway", &world.path("state"));
        let marks: Vec<&str> = report.text().lines().map(|l| l.get(..4).unwrap()).collect();
        assert_eq!(marks, ["ok  ", "warn", "FAIL", "FAIL", "warn", "ok  "], "{}", report.text());
        assert!(report.text().contains("expired on 2021-01-01; renew it"), "{}", report.text());
        assert!(report.end().unwrap_err().cause.starts_with("2 item"));
    }
}
