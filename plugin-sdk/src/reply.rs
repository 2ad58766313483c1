//! What a sender that waits is answered.

use serde::Serialize;

use crate::{Failure, Header, Reply, failure::unwritable};

/// Building one.
///
/// ```
/// use tandem_sdk::Reply;
///
/// let reply = Reply::json(&serde_json::json!({ "number": 7 }))?.status(201).header("x-territory", "dach");
/// assert_eq!((reply.status, reply.body.as_slice()), (201, br#"{"number":7}"#.as_slice()));
/// # Ok::<(), tandem_sdk::Failure>(())
/// ```
impl Reply {
    /// An answer without a body, status 200.
    pub fn empty() -> Self {
        Self { status: 200, headers: Vec::new(), content_type: None, body: Vec::new() }
    }

    /// An answer with `content-type: application/json`, status 200.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, Failure> {
        let body = serde_json::to_vec(value).map_err(|error| unwritable("the reply", &error))?;
        Ok(Self::empty().body("application/json", body))
    }

    /// An answer with `content-type: text/plain; charset=utf-8`, status 200.
    pub fn text(text: impl Into<String>) -> Self {
        Self::empty().body("text/plain; charset=utf-8", text.into())
    }

    /// Sets the body, at most 4 MiB, and its content type.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.content_type = Some(content_type.to_owned());
        self.body = body.into();
        self
    }

    /// Sets the HTTP status, 200 to 599.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Adds a header. Names are lower case.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Header::new(name, value));
        self
    }
}
