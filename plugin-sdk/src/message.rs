//! Reading the message: what cannot be read rejects it, with a reason its sender understands.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Failure, Header, Message};

/// Reading it. The rest of it are its fields.
///
/// ```
/// use serde::Deserialize;
/// use tandem_sdk::prelude::*;
///
/// #[derive(Deserialize)]
/// struct Lead {
///     email: String,
/// }
///
/// fn email(message: &Message) -> Result<String, Failure> {
///     let lead: Lead = match message.media_type() {
///         "application/x-www-form-urlencoded" => message.form()?,
///         _ => message.json()?,
///     };
///     Ok(lead.email)
/// }
///
/// let form = Message::new("web").with_body("application/x-www-form-urlencoded", "email=ada%40example.org");
/// assert_eq!(email(&form).as_deref(), Ok("ada@example.org"));
///
/// let wrong = Message::new("web").with_json(&"ada");
/// assert!(email(&wrong).unwrap_err().reason().starts_with("the body is not what is expected: invalid type"));
/// ```
impl Message {
    /// The body as JSON, whatever its content type says. If it does not fit, a [`Failure::Reject`] that says what is
    /// wrong, with line and column.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(unexpected)
    }

    /// The body as the fields of an HTML form (`application/x-www-form-urlencoded`).
    ///
    /// Each field is a string, or, if it was sent more than once, a list of strings. If they do not fit, a
    /// [`Failure::Reject`] that says what is wrong.
    pub fn form<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let mut fields = Map::new();
        for pair in self.text()?.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = Value::String(decode(value)?);
            match fields.entry(decode(name)?) {
                serde_json::map::Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                serde_json::map::Entry::Occupied(mut entry) => match entry.get_mut() {
                    Value::Array(values) => values.push(value),
                    first => *first = Value::Array(vec![first.take(), value]),
                },
            }
        }
        T::deserialize(Value::Object(fields)).map_err(unexpected)
    }

    /// The body as text, or a [`Failure::Reject`] if it is not UTF-8.
    pub fn text(&self) -> Result<&str, Failure> {
        std::str::from_utf8(&self.body)
            .map_err(|error| Failure::reject(format_args!("the body is not UTF-8: {error}")))
    }

    /// The first header of this name, in lower case; `None` if there is none, or it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|header| header.name == name)?;
        std::str::from_utf8(&header.value).ok()
    }

    /// The content type without its parameters; empty if there is none. May be in any case.
    pub fn media_type(&self) -> &str {
        self.content_type.as_deref().unwrap_or("").split(';').next().unwrap_or("").trim()
    }
}

impl Header {
    /// A header. Names are lower case.
    pub fn new(name: &str, value: impl Into<Vec<u8>>) -> Self {
        Self { name: name.to_owned(), value: value.into() }
    }
}

fn unexpected(error: serde_json::Error) -> Failure {
    Failure::reject(format_args!("the body is not what is expected: {error}"))
}

/// Percent-decoding, and `+` for a space. A `%` without two hexadecimal digits stays as it is, as in browsers.
fn decode(text: &str) -> Result<String, Failure> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        decoded.push(match (byte, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            _ => *byte,
        });
    }
    String::from_utf8(decoded)
        .map_err(|_| Failure::reject(format_args!("the form's `{text}` is not UTF-8")))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn form(body: &str) -> Result<BTreeMap<String, Value>, Failure> {
        Message::new("web").with_body("application/x-www-form-urlencoded", body).form()
    }

    #[test]
    fn forms_are_decoded() {
        let fields = form("name=Ada+L%C3%B6w&tag=a&tag=b%26c&empty=&bare&odd=100%&").unwrap();
        let expected = serde_json::json!({
            "name": "Ada Löw", "tag": ["a", "b&c"], "empty": "", "bare": "", "odd": "100%",
        });
        assert_eq!(serde_json::to_value(fields).unwrap(), expected);
        assert_eq!(form("a=%ff"), Err(Failure::reject("the form's `%ff` is not UTF-8")));
    }

    #[test]
    fn a_body_that_does_not_fit_is_rejected_with_the_place() {
        let message = Message::new("web").with_body("application/json", "{\n  \"n\": x}");
        let reason = "the body is not what is expected: expected value at line 2 column 8";
        assert_eq!(message.json::<Value>(), Err(Failure::reject(reason)));
    }

    #[test]
    fn headers_and_media_type() {
        let message = Message::new("web")
            .with_header("x-a", "1")
            .with_header("x-a", "2")
            .with_header("x-b", [0xff])
            .with_body("text/plain; charset=utf-8", "");
        assert_eq!((message.header("x-a"), message.header("x-b")), (Some("1"), None));
        assert_eq!(message.media_type(), "text/plain");
    }
}
