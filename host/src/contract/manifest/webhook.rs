//! What a web-hook source asks of those who send to it.

use std::time::Duration;

use crate::model::{limits::BODY_BYTES_DEFAULT, name::Name};

/// A source of kind `webhook`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// `max_body`, in bytes: 1 MiB unless said otherwise, 16 MiB at most. Of a batch, all of it.
    pub max_body: u64,
    pub once_by: OnceBy,
    /// `once_window`: how long a key is remembered. Default 7 days, at most 30.
    pub once_window: Duration,
    pub signature: Option<Signature>,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            max_body: BODY_BYTES_DEFAULT,
            once_by: OnceBy::Auto,
            once_window: Duration::from_hours(7 * 24),
            signature: None,
        }
    }
}

/// `once_by`: what makes two messages the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnceBy {
    /// What the message says of itself: `Idempotency-Key`, a CloudEvent's source and id, `webhook-id`.
    Auto,
    /// Nothing: each message is one of its own.
    Nothing,
    /// As `Auto`; a message that says nothing of itself has its key in its JSON body, at this pointer (RFC 6901).
    Pointer(String),
}

/// `signature`: messages are signed with a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub scheme: Scheme,
    /// The setting that holds the secret.
    pub secret: Name,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    /// <https://www.standardwebhooks.com>; each `webhook-id` is taken in once.
    StandardWebhooks {
        /// How far a message's time may be from the node's. Default 5 min, at most 1 h.
        tolerance: Duration,
    },
    /// `X-Hub-Signature-256`, as GitHub sends it. Says nothing of time.
    Github,
}
