//! HTTP requests to be made after the message is done.

use std::{error::Error, fmt};

use serde::Serialize;

use crate::{
    Failure, Header, Request, bindings::tandem::solution::outbox::Error as Raw, failure::unwritable,
};

/// Building one for [`Context::send`](crate::Context::send).
///
/// ```
/// use tandem_sdk::Request;
///
/// let request = Request::put("https://crm.example/leads/7")
///     .json(&serde_json::json!({ "country": "AT" }))?
///     .header("x-source", "web")
///     .ordered("crm");
/// assert_eq!(request.body, br#"{"country":"AT"}"#);
/// # Ok::<(), tandem_sdk::Failure>(())
/// ```
impl Request {
    /// A request with no headers and no body. The URL is absolute, http or https, at most 8 KiB; the method GET, POST,
    /// PUT, PATCH or DELETE.
    pub fn new(method: &str, url: impl Into<String>) -> Self {
        Self {
            method: method.to_owned(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            order: None,
        }
    }

    /// A GET request.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// A POST request.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// A PUT request.
    pub fn put(url: impl Into<String>) -> Self {
        Self::new("PUT", url)
    }

    /// A PATCH request.
    pub fn patch(url: impl Into<String>) -> Self {
        Self::new("PATCH", url)
    }

    /// A DELETE request.
    pub fn delete(url: impl Into<String>) -> Self {
        Self::new("DELETE", url)
    }

    /// Adds a header. Names are lower case.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Header::new(name, value));
        self
    }

    /// Sets the body, and `content-type: application/json`.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<Self, Failure> {
        let body = serde_json::to_vec(value).map_err(|error| unwritable("a request", &error))?;
        Ok(self.header("content-type", "application/json").body(body))
    }

    /// Sets the body. Its content type, if any, is a header.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Has it made after all earlier requests of this solution with the same name here, and before all later ones.
    #[must_use]
    pub fn ordered(mut self, order: impl Into<String>) -> Self {
        self.order = Some(order.into());
        self
    }
}

/// Why a request was not put into the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutboxError {
    /// `[grants]` in `solution.toml` does not name the target; the text is the line to add.
    Denied(String),
    /// Not a request that could be made; the text says what is wrong.
    InvalidRequest(String),
    /// All that one attempt writes and asks for is at most 16 MiB together, and at most 1000 requests.
    TooMuch(String),
    /// Anything else.
    Other(String),
}

impl From<Raw> for OutboxError {
    fn from(error: Raw) -> Self {
        match error {
            Raw::Denied(grant) => Self::Denied(grant),
            Raw::InvalidRequest(reason) => Self::InvalidRequest(reason),
            Raw::TooMuch(reason) => Self::TooMuch(reason),
            Raw::Other(reason) => Self::Other(reason),
        }
    }
}

impl fmt::Display for OutboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(grant) => {
                write!(
                    f,
                    "this request is not granted; add to `[grants]` in solution.toml: {grant}"
                )
            }
            Self::InvalidRequest(reason) => write!(f, "invalid request: {reason}"),
            Self::TooMuch(reason) => write!(f, "too much for one message: {reason}"),
            Self::Other(reason) => write!(f, "outbox: {reason}"),
        }
    }
}

impl Error for OutboxError {}
