//! What went wrong, in the shape that the command line shows and scripts can branch on.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | something on this machine: a file, a configuration, a child process |
//! | 2 | the command line itself was not understood |
//! | 3 | the gateway cannot be reached |
//! | 10–22 | the gateway or a department refused or failed: the table in `proto/src/status.rs` |
//! | 130 | interrupted |

use std::fmt;
use std::path::Path;

use concordat_operate::Fault;
use concordat_policy::Code;
use concordat_proto::status;
use miette::Diagnostic;

/// Exit code for anything on this machine.
pub const LOCAL: u8 = 1;
/// Exit code for a command line that was not understood.
pub const USAGE: u8 = 2;
/// Exit code for a gateway that cannot be reached.
pub const UNREACHABLE: u8 = 3;

/// Exit code for an interruption by signal, as shells have it.
pub const INTERRUPTED: u8 = 130;
/// The exit codes that are no refusals', with their meaning.
pub const EXITS: [(u8, &str); 5] = [
    (0, "done"),
    (LOCAL, "something on this machine: a file, a configuration, a child process"),
    (USAGE, "the command line itself was not understood"),
    (UNREACHABLE, "the gateway cannot be reached"),
    (INTERRUPTED, "interrupted"),
];

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Failure>;

/// A failure: one sentence, what to do next, and the exit code.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong.
    pub message: String,
    /// What to do next.
    pub advice: Option<String>,
    /// The process's exit code.
    pub exit: u8,
    /// The refusal's code, where a service of ours refused.
    pub code: Option<Code>,
    /// The department whose rule or fault it is.
    pub department: Option<String>,
    /// The query id that also stands in the logs.
    pub query_id: Option<String>,
}

impl Failure {
    /// A failure on this machine.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), advice: None, exit: LOCAL, code: None, department: None, query_id: None }
    }

    /// A command line that was not understood.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: USAGE, ..Self::new(message) }
    }

    /// Somebody ended the command.
    #[must_use]
    pub fn interrupted() -> Self {
        Self { exit: INTERRUPTED, ..Self::new("interrupted") }
    }

    /// Adds what else holds now.
    #[must_use]
    pub fn and(mut self, also: impl fmt::Display) -> Self {
        self.message = format!("{}; {also}", self.message);
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// A file or folder that cannot be `verb`: read, written, created, …
    pub(crate) fn file(verb: &str, path: &Path, cause: impl fmt::Display) -> Self {
        Self::new(format!("{} cannot be {verb}: {cause}", path.display()))
    }

    /// What a service answered. Statuses of our own services carry a code; a foreign one means that no gateway answered.
    pub(crate) fn status(answer: &tonic::Status) -> Self {
        let query_id = answer.metadata().get(status::QUERY_ID).and_then(|v| v.to_str().ok()).map(str::to_owned);
        match status::from_status(answer) {
            Some(refusal) => Self {
                message: refusal.message,
                advice: refusal.advice,
                exit: status::exit_code(refusal.code),
                code: Some(refusal.code),
                department: refusal.department,
                query_id,
            },
            None if matches!(answer.code(), tonic::Code::Unavailable | tonic::Code::Unknown) => Self {
                exit: UNREACHABLE,
                ..Self::new(format!("the gateway broke off: {}", answer.message()))
                    .advice("is it still running? `concordat up FOLDER` starts it")
            },
            None => Self::new(format!("the gateway answered {}: {}", answer.code(), answer.message())),
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::new(fault.to_string()).advice(fault.remedy)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl Diagnostic for Failure {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let code = self.code?.as_str();
        Some(match &self.department {
            Some(department) => Box::new(format!("{code} · {department}")),
            None => Box::new(code),
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let query = self.query_id.as_ref().map(|id| format!("query id {id}, as in the logs"));
        let parts: Vec<&str> = self.advice.iter().chain(query.iter()).map(String::as_str).collect();
        (!parts.is_empty()).then(|| Box::new(parts.join("\n")) as Box<dyn fmt::Display>)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use concordat_policy::Refusal;

    #[test]
    fn a_refusal_keeps_its_code_department_and_query() {
        let refusal = Refusal::new(Code::Denied, "no").department("dfe");
        let failure = Failure::status(&status::to_status(&refusal, Some("q1")));
        assert_eq!((failure.exit, failure.code), (11, Some(Code::Denied)));
        assert_eq!((failure.department.as_deref(), failure.query_id.as_deref()), (Some("dfe"), Some("q1")));
        assert_eq!(Failure::status(&tonic::Status::unavailable("gone")).exit, UNREACHABLE);
    }
}
