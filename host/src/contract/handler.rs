//! One message in; an outcome, effects and log lines out.

use std::{fmt::Debug, sync::Arc, time::Duration};

use bytes::Bytes;

use super::manifest::Manifest;
use crate::model::{
    message::{Content, Header, Message},
    name::{Digest, Name},
    outcome::Outcome,
};

/// A solution that is ready to handle messages.
pub trait Handler: Send + Sync + Debug {
    /// Handles one message. Blocks until done; never panics for anything the component does.
    fn handle(&self, message: &Message, attempt: u32, view: &dyn View) -> Handled;

    /// Whether `handle` may wait for something outside (a look-up by HTTP, a sleep) rather than only compute.
    fn may_wait(&self) -> bool;
}

/// What a handler sees of the solution's data while it runs: the state as the message before it left it.
pub trait View {
    fn state_get(&self, key: &str) -> Result<Option<Bytes>, ViewError>;

    /// Entries whose key starts with `prefix`, after the key `after`, at most `limit`, in key order.
    fn state_list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, ViewError>;

    /// The solution's own value, else the global one, as JSON text.
    fn setting(&self, name: &str) -> Option<String>;
}

/// The store could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the store could not be read: {0}")]
pub struct ViewError(pub String);

/// What one attempt gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handled {
    pub outcome: Outcome,
    /// Kept only if the outcome is [`Outcome::Done`]; otherwise empty.
    pub effects: Effects,
    pub log: Log,
    pub duration: Duration,
}

/// What an attempt wrote and asked for, to be kept in one transaction with the message's completion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Last write of each key, in key order; `None` deletes.
    pub state: Vec<(String, Option<Bytes>)>,
    pub outbox: Vec<Request>,
    pub publish: Vec<Publication>,
}

/// An HTTP request to be made later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub url: String,
    pub headers: Vec<Header>,
    pub body: Bytes,
    /// Requests of a solution with the same name here are made one after the other.
    pub order: Option<String>,
}

/// A message to a solution, now or later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    pub solution: Name,
    pub content: Content,
    pub after: Option<Duration>,
}

/// What an attempt said to the operator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    pub lines: Vec<LogLine>,
    /// Lines beyond the bound, not kept.
    pub dropped: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    pub level: Level,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    pub fn word(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Makes handlers of deployed components.
pub trait Loader: Send + Sync + Debug {
    /// Ready to handle; may take as long as compiling does.
    fn load(
        &self,
        digest: Digest,
        component: &[u8],
        manifest: &Manifest,
    ) -> Result<Arc<dyn Handler>, LoadError>;
}

/// This node cannot run a component that was deployed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("this node cannot run the component: {0}")]
pub struct LoadError(pub String);
