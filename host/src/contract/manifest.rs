//! `solution.toml`: what a solution is called, where its messages come from, what it may reach, and its bounds.
//!
//! Values only; reading the text is `manifest/parse.rs`, which is also where every default is.

use std::time::Duration;

use self::webhook::Webhook;
use crate::{
    contract::{capability::Grants, schedule::Schedule},
    model::name::Name,
};

pub mod backoff;
pub mod parse;
pub mod webhook;

/// A manifest that was read and found right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub name: Name,
    /// The author's version, any text of 1 to 64 printable characters without spaces.
    pub version: String,
    pub description: Option<String>,
    /// Path of the component, relative to the manifest; none where the component is handed in beside it.
    pub component: Option<String>,
    /// At least one; names are unique.
    pub sources: Vec<Source>,
    pub grants: Grants,
    pub limits: Limits,
    pub handling: Handling,
    pub retry: Retry,
    pub delivery: Delivery,
    pub retention: Retention,
}

impl Manifest {
    pub fn source(&self, name: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.name.as_str() == name)
    }
}

/// Where messages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub name: Name,
    pub kind: SourceKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// `POST /hooks/{solution}/{source}`.
    Webhook(Webhook),
    /// A tick at each time that the schedule names.
    Schedule(Schedule),
    /// `publish` by this or another solution.
    Message,
}

impl SourceKind {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Schedule(_) => "schedule",
            Self::Message => "message",
        }
    }
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Time to handle one message.
    pub time: Duration,
    /// Memory of one instance, all its memories and tables together, in bytes.
    pub memory: u64,
    /// Messages that may wait to be handled; beyond it senders get 429.
    pub queue: u64,
    /// Outbox requests that may wait to be delivered; beyond it messages wait.
    pub outbox: u64,
}

/// `[handling]`: in which order, and how many at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handling {
    pub order: Order,
    /// Handlers at once, 1 to 64. What they read is checked when they are done, so that the outcome is as if they had
    /// run one after the other. Default 1; always 1 with [`Order::Acceptance`].
    pub concurrency: usize,
}

/// Which messages wait for which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Each for all that were accepted before it. The default.
    Acceptance,
    /// Each for those with the same key; messages without a key for none.
    Key(KeySource),
    /// None for any other.
    None,
}

/// Where a message's key is found: `order_by`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// The key that the sender or publisher gave.
    Key,
    /// `header:NAME`, lower case.
    Header(String),
    /// `/a/b`: a JSON pointer (RFC 6901) into the body. Numbers and truth values count as their text.
    Pointer(String),
}

/// `[retry]`: handling a message again after a passing fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all, the first included; 1 to 100. Default 5.
    pub attempts: u32,
    pub backoff: Backoff,
    pub blocks: Blocks,
    /// `breaker`: after so many failed attempts one after the other, handling pauses for a while. Default 20; 0 turns
    /// it off.
    pub breaker: u32,
}

/// `blocks`: what waits while a message waits for its retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// Whatever comes after it in its order.
    Key,
    /// Nothing: later messages overtake it. The default.
    Nothing,
}

/// `[delivery]`: making an outbox request again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Attempts in all, the first included; 1 to 100. Default 10.
    pub attempts: u32,
    /// From connecting to the last byte of the answer. Default 30 s, at most 10 min.
    pub timeout: Duration,
    pub backoff: Backoff,
    pub class: Class,
}

/// `class`: what becomes of a request when nobody can know whether it was done: a node was lost or the answer did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It is made again with the same key. The default.
    Idempotent,
    /// It is never made again.
    AtMostOnce,
    /// An operator decides.
    Ask,
}

/// `[retention]`: how long finished messages can be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Since the message was accepted. Default 30 d. They go a file at a time, so that some stay up to a tenth longer.
    pub time: Duration,
    /// Of files that hold this solution's messages, in bytes; beyond it the oldest go. None: no bound.
    pub size: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { time: Duration::from_hours(30 * 24), size: None }
    }
}

impl Default for Delivery {
    fn default() -> Self {
        let (timeout, backoff) = (Duration::from_secs(30), Backoff::default());
        Self { attempts: 10, timeout, backoff, class: Class::Idempotent }
    }
}

impl Default for Handling {
    fn default() -> Self {
        Self { order: Order::Acceptance, concurrency: 1 }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 5, backoff: Backoff::default(), blocks: Blocks::Nothing, breaker: 20 }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), max: Duration::from_mins(5) }
    }
}

/// Doubling waits: `first`, 2 × `first`, 4 × `first` … up to `max`, each with ± 20 % jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// `backoff`. Default 1 s.
    pub first: Duration,
    /// `max_backoff`. Default 5 min.
    pub max: Duration,
}
