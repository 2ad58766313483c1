//! CloudEvents 1.0 over HTTP: what an event says of itself, in binary and structured mode.
//!
//! The event goes on to the solution as it came: headers as headers, or the whole of its JSON as the body.

use std::borrow::Cow;

use hyper::{HeaderMap, header::HeaderName};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Content type of one event in structured mode.
pub(super) const EVENT: &str = "application/cloudevents+json";
/// Content type of a JSON array of them.
pub(super) const BATCH: &str = "application/cloudevents-batch+json";
/// What an event must say. In binary mode each is a header with `ce-` before it.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];
static HEADERS: [HeaderName; 4] = [
    HeaderName::from_static("ce-specversion"),
    HeaderName::from_static("ce-id"),
    HeaderName::from_static("ce-source"),
    HeaderName::from_static("ce-type"),
];

/// What makes an event one: no two of a source have the same id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EventName {
    pub source: String,
    pub id: String,
}

/// Why something is no CloudEvent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadEvent {
    #[error("it is no JSON object: {0}")]
    NotJson(String),
    #[error("its attribute `{0}` is missing; CloudEvents have specversion, id, source and type")]
    Missing(&'static str),
    #[error("its attribute `{0}` must be a text that is not empty")]
    NotText(&'static str),
    #[error("its `specversion` is `{0}`, and this node knows `1.0`")]
    Version(String),
}

/// An event in binary mode, if the headers say that it is one.
pub(super) fn binary(headers: &HeaderMap) -> Option<Result<EventName, BadEvent>> {
    HEADERS.iter().any(|name| headers.contains_key(name)).then(|| {
        let attribute = |at: usize| match headers.get(&HEADERS[at]) {
            None => Ok(None),
            Some(value) => {
                let text = value.to_str().map_err(|_| BadEvent::NotText(REQUIRED[at]))?;
                Ok(Some(Cow::Borrowed(text)))
            }
        };
        check([attribute(0)?, attribute(1)?, attribute(2)?, attribute(3)?])
    })
}

/// An event in structured mode, also one of a batch.
pub(super) fn structured(json: &[u8]) -> Result<EventName, BadEvent> {
    #[derive(Deserialize)]
    struct Event<'a> {
        #[serde(borrow)]
        specversion: Option<&'a RawValue>,
        #[serde(borrow)]
        id: Option<&'a RawValue>,
        #[serde(borrow)]
        source: Option<&'a RawValue>,
        #[serde(borrow)]
        r#type: Option<&'a RawValue>,
    }
    // As text first: what is skipped is not looked into.
    let text = std::str::from_utf8(json).map_err(|error| BadEvent::NotJson(error.to_string()))?;
    let not_json = |error: serde_json::Error| BadEvent::NotJson(error.to_string());
    let Event { specversion, id, source, r#type } = serde_json::from_str(text).map_err(not_json)?;
    let text = |at: usize, raw: Option<&RawValue>| match raw {
        None => Ok(None),
        Some(raw) => match serde_json::from_str::<String>(raw.get()) {
            Ok(text) => Ok(Some(Cow::Owned(text))),
            Err(_) => Err(BadEvent::NotText(REQUIRED[at])),
        },
    };
    check([text(0, specversion)?, text(1, id)?, text(2, source)?, text(3, r#type)?])
}

/// `attributes` are those of [`REQUIRED`].
fn check(attributes: [Option<Cow<'_, str>>; 4]) -> Result<EventName, BadEvent> {
    for (name, attribute) in REQUIRED.into_iter().zip(&attributes) {
        match attribute.as_deref() {
            None => return Err(BadEvent::Missing(name)),
            Some("") => return Err(BadEvent::NotText(name)),
            Some(_) => {}
        }
    }
    let [version, id, source, _] = attributes.map(Option::unwrap_or_default);
    if version != "1.0" {
        return Err(BadEvent::Version(version.chars().take(20).collect()));
    }
    Ok(EventName { source: source.into_owned(), id: id.into_owned() })
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn name(source: &str, id: &str) -> EventName {
        EventName { source: source.to_owned(), id: id.to_owned() }
    }

    fn headers(left_out: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (header, value) in HEADERS.iter().zip(["1.0", "7", "/shop", "order"]) {
            if header != left_out {
                headers.insert(header, HeaderValue::from_static(value));
            }
        }
        headers
    }

    #[test]
    fn binary_mode_is_in_the_headers() {
        assert_eq!(binary(&HeaderMap::new()), None);
        assert_eq!(binary(&headers("")), Some(Ok(name("/shop", "7"))));
        for (header, attribute) in HEADERS.iter().zip(REQUIRED) {
            assert_eq!(binary(&headers(header.as_str())), Some(Err(BadEvent::Missing(attribute))));
            let mut empty = headers("");
            empty.insert(header, HeaderValue::from_static(""));
            assert_eq!(binary(&empty), Some(Err(BadEvent::NotText(attribute))));
            empty.insert(header, HeaderValue::from_bytes(b"\xff").unwrap());
            assert_eq!(binary(&empty), Some(Err(BadEvent::NotText(attribute))));
        }
        let mut old = headers("");
        old.insert("ce-specversion", HeaderValue::from_static("0.3"));
        assert_eq!(binary(&old), Some(Err(BadEvent::Version("0.3".to_owned()))));
    }

    #[test]
    fn structured_mode_is_in_the_body() {
        let event = r#"{"specversion":"1.0","id":"\u0037","source":"/shop","type":"order","data":{"id":9}}"#;
        assert_eq!(structured(event.as_bytes()), Ok(name("/shop", "7")));
        for attribute in REQUIRED {
            let misnamed = event.replacen(&format!("\"{attribute}\""), "\"x\"", 1);
            assert_eq!(structured(misnamed.as_bytes()), Err(BadEvent::Missing(attribute)));
        }
        for (json, error) in [
            (
                r#"{"specversion":1.0,"id":"1","source":"s","type":"t"}"#,
                BadEvent::NotText("specversion"),
            ),
            (r#"{"specversion":"1.0","id":1,"source":"s","type":"t"}"#, BadEvent::NotText("id")),
            (
                r#"{"specversion":"1.0","id":"1","source":"","type":"t"}"#,
                BadEvent::NotText("source"),
            ),
            (
                r#"{"specversion":"1.0","id":"1","source":"s","type":null}"#,
                BadEvent::Missing("type"),
            ),
            (
                r#"{"specversion":"2.0","id":"1","source":"s","type":"t"}"#,
                BadEvent::Version("2.0".to_owned()),
            ),
        ] {
            assert_eq!(structured(json.as_bytes()), Err(error), "{json}");
        }
        for json in [
            &b""[..],
            b"[]",
            b"7",
            b"{",
            b"{} {}",
            b"{\"data\":\"\xff\"}",
            br#"{"id":"1","id":"2"}"#,
        ] {
            assert!(matches!(structured(json), Err(BadEvent::NotJson(_))), "{json:?}");
        }
    }
}
