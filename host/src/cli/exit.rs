//! How a command ends: exit codes, and the one failure that every command gives back.

use std::fmt::{self, Write as _};

use serde_json::json;

use super::node_client;

/// The exit codes. They are part of the interface: scripts decide by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Unreachable = 3,
    NotFound = 4,
    TimedOut = 5,
    NotAllowed = 6,
    NotNow = 7,
    NoStandby = 8,
}

impl Exit {
    pub const ALL: [Self; 9] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Unreachable,
        Self::NotFound,
        Self::TimedOut,
        Self::NotAllowed,
        Self::NotNow,
        Self::NoStandby,
    ];

    pub fn code(self) -> u8 {
        self as u8
    }

    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "refused or failed; the message on standard error says why",
            Self::Usage => "wrong usage: nothing was tried",
            Self::Unreachable => "the node cannot be reached, or the connection to it broke",
            Self::NotFound => "the node knows no such solution, message, setting or key",
            Self::TimedOut => "no answer in time",
            Self::NotAllowed => "the token is missing, wrong, or not enough",
            Self::NotNow => "refused for now (queue or disk full, node not ready): try again later",
            Self::NoStandby => {
                "the standby is away or not ready, and was asked for (--wait-standby)"
            }
        }
    }

    /// From a problem that a node answered.
    fn of_problem(status: u16, code: &str) -> Self {
        match code {
            "standby-away" | "standby-not-ready" => Self::NoStandby,
            _ => Self::of_status(status),
        }
    }

    fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::NotAllowed,
            404 => Self::NotFound,
            408 | 504 => Self::TimedOut,
            429 | 503 | 507 => Self::NotNow,
            _ => Self::Failed,
        }
    }
}

/// The list of exit codes, as `tandem --help` ends with it.
pub fn exit_code_help() -> String {
    let mut text = String::from("Exit codes:\n");
    for exit in Exit::ALL {
        writeln!(text, "  {}  {}", exit.code(), exit.meaning()).expect("a String takes all");
    }
    text
}

/// Why a command did not do what it was asked: whose fault, what happened, what to do next, said once.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    /// Stable, for programs.
    pub code: String,
    pub message: String,
    /// What to do about it, where the message does not say it already.
    pub next: Option<String>,
    /// Nothing is left to say: what there was to say is on standard output already.
    pub said: bool,
}

impl Failure {
    pub fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self { exit, code: code.to_owned(), message: message.into(), next: None, said: false }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    pub fn failed(code: &str, message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, code, message)
    }

    /// A failure whose story the command has told on standard output.
    pub fn said(exit: Exit) -> Self {
        Self { said: true, ..Self::new(exit, "", "") }
    }

    #[must_use]
    pub fn next(mut self, what: impl Into<String>) -> Self {
        self.next = Some(what.into());
        self
    }

    /// A file or folder that could not be read or written.
    pub fn file(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::failed("file", format!("cannot {doing} {}: {error}", path.display()))
    }

    pub fn as_json(&self) -> serde_json::Value {
        json!({
            "code": self.code,
            "message": self.message,
            "next": self.next,
            "exit": self.exit.code(),
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code)?;
        self.next.as_ref().map_or(Ok(()), |next| write!(f, "\n  next: {next}"))
    }
}

/// Standard output went away; a reader that has seen enough (`| head`) is no failure.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::said(Exit::Done);
        }
        Self::failed("output", format!("cannot write the output: {error}"))
    }
}

impl From<node_client::Error> for Failure {
    fn from(error: node_client::Error) -> Self {
        use node_client::Error;
        let message = error.to_string();
        match error {
            Error::Address { .. } | Error::Token => Self::usage(message),
            Error::Roots { .. } => Self::failed("no-certificates", message),
            Error::Unreachable { .. } => Self::new(Exit::Unreachable, "unreachable", message)
                .next("start a node with `tandem run`, or name another with --node or TANDEM_NODE"),
            Error::Broken { .. } => Self::new(Exit::Unreachable, "connection-broke", message),
            Error::TimedOut { .. } => Self::new(Exit::TimedOut, "timed-out", message),
            Error::Refused(problem) => {
                Self::new(Exit::of_problem(problem.status, &problem.code), &problem.code, message)
            }
            Error::Unexpected { status, .. } => {
                Self::new(Exit::of_status(status), "unexpected-answer", message)
                    .next("check that --node names a Tandem node and that no proxy answers for it")
            }
            Error::Garbled { .. } => Self::failed("unreadable-answer", message).next(
                "use a `tandem` of the node's version: `tandem status` and `tandem --version`",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_map_to_exit_codes() {
        for (status, exit) in [
            (401, Exit::NotAllowed),
            (403, Exit::NotAllowed),
            (404, Exit::NotFound),
            (409, Exit::Failed),
            (422, Exit::Failed),
            (429, Exit::NotNow),
            (500, Exit::Failed),
            (503, Exit::NotNow),
            (504, Exit::TimedOut),
            (507, Exit::NotNow),
        ] {
            assert_eq!(Exit::of_status(status), exit, "{status}");
        }
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        let failure = Failure::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!(failure.exit, Exit::Done);
        assert!(failure.said);
    }
}
