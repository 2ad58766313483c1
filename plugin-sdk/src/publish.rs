//! Messages to other solutions, or to oneself later.

use std::{error::Error, fmt, time::Duration};

use serde::Serialize;

use crate::{
    Failure, Header, Publication,
    bindings::tandem::solution::publish::Error as Raw,
    failure::{milliseconds, unwritable},
};

/// Building one for [`Context::publish`](crate::Context::publish).
///
/// ```
/// use std::time::Duration;
/// use tandem_sdk::Publication;
///
/// let alert = Publication::to("alerts", "changes")
///     .json(&serde_json::json!({ "service": "shop", "up": false }))?
///     .key("shop") // alerts about one service stay in order
///     .after(Duration::from_secs(5));
/// assert_eq!(alert.after_ms, Some(5000));
/// # Ok::<(), tandem_sdk::Failure>(())
/// ```
impl Publication {
    /// An empty message to a solution's source of kind `message`.
    pub fn to(solution: &str, source: &str) -> Self {
        Self {
            solution: solution.to_owned(),
            source: source.to_owned(),
            headers: Vec::new(),
            content_type: None,
            key: None,
            body: Vec::new(),
            after_ms: None,
        }
    }

    /// Adds a header. Names are lower case.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Header::new(name, value));
        self
    }

    /// Sets the body, and its content type to `application/json`.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<Self, Failure> {
        let body = serde_json::to_vec(value).map_err(|error| unwritable("a message", &error))?;
        Ok(self.body("application/json", body))
    }

    /// Sets the body and its content type.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.content_type = Some(content_type.to_owned());
        self.body = body.into();
        self
    }

    /// Messages with the same key are handled in the order in which they were accepted.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Has it handled no sooner than after this long, in whole milliseconds: a timer that outlives a crash.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.after_ms = Some(milliseconds(wait));
        self
    }
}

/// Why a message was not published.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// `[grants]` in `solution.toml` does not name the solution; the text is the line to add.
    Denied(String),
    /// Not a message that could be handled; the text says what is wrong.
    InvalidMessage(String),
    /// All that one attempt writes and asks for is at most 16 MiB together, and at most 1000 messages.
    TooMuch(String),
    /// Anything else.
    Other(String),
}

impl From<Raw> for PublishError {
    fn from(error: Raw) -> Self {
        match error {
            Raw::Denied(grant) => Self::Denied(grant),
            Raw::InvalidMessage(reason) => Self::InvalidMessage(reason),
            Raw::TooMuch(reason) => Self::TooMuch(reason),
            Raw::Other(reason) => Self::Other(reason),
        }
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(grant) => {
                write!(
                    f,
                    "publishing there is not granted; add to `[grants]` in solution.toml: {grant}"
                )
            }
            Self::InvalidMessage(reason) => write!(f, "invalid message: {reason}"),
            Self::TooMuch(reason) => write!(f, "too much for one message: {reason}"),
            Self::Other(reason) => write!(f, "publish: {reason}"),
        }
    }
}

impl Error for PublishError {}
