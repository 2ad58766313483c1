//! What handling a message came to, and what delivering an effect came to.

use std::time::Duration;

use bytes::Bytes;

use super::message::Header;

/// What one attempt to handle a message came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Handled; everything it asked for is kept.
    Done { reply: Option<Reply> },
    /// The solution asked to be given the message again.
    Retry { reason: String, after: Option<Duration> },
    /// The solution says that the message itself is wrong.
    Rejected { reason: String },
    /// The solution failed in a way it did not classify.
    Failed { reason: String },
    /// The component broke: a panic, an invalid memory access, a stack overflow, a value that breaks the contract.
    Trapped { reason: String, backtrace: Vec<String> },
    /// The component ran longer than `[limits] time`.
    TimedOut { limit: Duration },
    /// The component wanted more than `[limits] memory`, in bytes.
    OutOfMemory { limit_bytes: u64 },
    /// The host could not run the component: it does not compile or load here any more.
    Unavailable { reason: String },
}

impl Outcome {
    /// The word for it in `messages list` and in JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Done { .. } => "done",
            Self::Retry { .. } => "retry",
            Self::Rejected { .. } => "rejected",
            Self::Failed { .. } => "failed",
            Self::Trapped { .. } => "trapped",
            Self::TimedOut { .. } => "timed-out",
            Self::OutOfMemory { .. } => "out-of-memory",
            Self::Unavailable { .. } => "unavailable",
        }
    }

    /// Why, in a sentence, unless it is done.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Done { .. } => None,
            Self::Retry { reason, .. }
            | Self::Rejected { reason }
            | Self::Failed { reason }
            | Self::Trapped { reason, .. }
            | Self::Unavailable { reason } => Some(reason.clone()),
            Self::TimedOut { limit } => Some(format!("ran longer than its limit of {limit:?}")),
            Self::OutOfMemory { limit_bytes } => {
                Some(format!("wanted more than its limit of {} MiB of memory", limit_bytes >> 20))
            }
        }
    }
}

/// What a waiting sender is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<Header>,
    pub content_type: Option<String>,
    pub body: Bytes,
}

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Accepted, not tried yet.
    Waiting,
    /// Not before its time: published with a delay, or tried and to be tried again.
    Scheduled,
    Done,
    /// Nobody tries it again by itself.
    Dead,
}

impl Status {
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Scheduled, Self::Done, Self::Dead];

    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Scheduled => "scheduled",
            Self::Done => "done",
            Self::Dead => "dead",
        }
    }
}

/// Where the delivery of one outbox entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryStatus {
    Pending,
    Delivered,
    Dead,
    /// Whether it was done nobody can know, and it is not made again.
    Unknown,
}

impl DeliveryStatus {
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
        }
    }
}
