//! What makes a message one that is taken in once: what it, or the request that brought it, says of itself.

use std::{borrow::Cow, collections::HashMap};

use hyper::{
    HeaderMap,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde_json::value::RawValue;

use super::{cloudevents::EventName, signature::WEBHOOK_ID};
use crate::{
    contract::manifest::webhook::{OnceBy, Scheme, Webhook},
    model::message::{Fingerprint, OnceKey},
};

pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Bytes of a key, but for those that CloudEvents are known by.
const KEY_BYTES_MAX: usize = 255;

/// What a sender calls a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    IdempotencyKey(&'a str),
    Event(EventName),
    WebhookId(&'a str),
    /// At the source's JSON pointer.
    InBody(String),
}

/// Why a message has no usable key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadToken {
    #[error(
        "the header {0} is there more than once, empty, longer than {KEY_BYTES_MAX} bytes, or not printable ASCII; send one key of 1 to {KEY_BYTES_MAX} printable characters"
    )]
    Header(&'static str),
    #[error(
        "the body is no JSON, so that there is nothing at `{pointer}`, by which this source knows its messages: {error}"
    )]
    NotJson { pointer: String, error: String },
    #[error(
        "this source knows its messages by what is at `{pointer}` in the body, a text of 1 to {KEY_BYTES_MAX} bytes or a number; here it is {found}"
    )]
    NotAKey { pointer: String, found: &'static str },
}

/// What the message is called, if its source goes by that and it is called anything.
pub(super) fn token<'a>(
    rules: &Webhook,
    headers: &'a HeaderMap,
    event: Option<EventName>,
    body: &[u8],
) -> Result<Option<Token<'a>>, BadToken> {
    if is_signed_with_id(rules) {
        // No other name is covered by the signature: a replay could carry another.
        return Ok(header(headers, &WEBHOOK_ID, "webhook-id")?.map(Token::WebhookId));
    }
    if rules.once_by == OnceBy::Nothing {
        return Ok(None);
    }
    if let Some(key) = header(headers, &IDEMPOTENCY_KEY, "Idempotency-Key")? {
        return Ok(Some(Token::IdempotencyKey(key)));
    }
    if let Some(event) = event {
        return Ok(Some(Token::Event(event)));
    }
    if let Some(id) = header(headers, &WEBHOOK_ID, "webhook-id")? {
        return Ok(Some(Token::WebhookId(id)));
    }
    match &rules.once_by {
        OnceBy::Pointer(pointer) => in_body(body, pointer).map(|text| Some(Token::InBody(text))),
        OnceBy::Auto | OnceBy::Nothing => Ok(None),
    }
}

fn is_signed_with_id(rules: &Webhook) -> bool {
    let scheme = rules.signature.as_ref().map(|signature| &signature.scheme);
    matches!(scheme, Some(Scheme::StandardWebhooks { .. }))
}

fn header<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    shown: &'static str,
) -> Result<Option<&'a str>, BadToken> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match value.to_str() {
        Ok(text) if (1..=KEY_BYTES_MAX).contains(&text.len()) && values.next().is_none() => {
            Ok(Some(text))
        }
        _ => Err(BadToken::Header(shown)),
    }
}

fn in_body(body: &[u8], pointer: &str) -> Result<String, BadToken> {
    let not_json = |error: serde_json::Error| BadToken::NotJson {
        pointer: pointer.to_owned(),
        error: error.to_string(),
    };
    let json = serde_json::from_slice(body).map_err(not_json)?;
    let found = pointed_at(json, pointer).map_err(not_json)?.map(RawValue::get).unwrap_or_default();
    let found = match found.as_bytes().first() {
        Some(b'"') => match serde_json::from_str::<String>(found).map_err(not_json)? {
            text if (1..=KEY_BYTES_MAX).contains(&text.len()) => return Ok(text),
            text if text.is_empty() => "an empty text",
            _ => "a longer text",
        },
        Some(b'-' | b'0'..=b'9') if found.len() <= KEY_BYTES_MAX => return Ok(found.to_owned()),
        Some(b'-' | b'0'..=b'9') => "a longer number",
        Some(b't' | b'f') => "a boolean",
        Some(b'[') => "an array",
        Some(b'{') => "an object",
        Some(_) => "null",
        None => "not there",
    };
    Err(BadToken::NotAKey { pointer: pointer.to_owned(), found })
}

/// What is at a JSON pointer, as it was written: a number has all its digits.
fn pointed_at<'a>(
    json: &'a RawValue,
    pointer: &str,
) -> Result<Option<&'a RawValue>, serde_json::Error> {
    let mut at = json;
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        let next = match at.get().as_bytes().first() {
            Some(b'{') => {
                let fields: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(at.get())?;
                fields.get(step.as_str()).copied()
            }
            Some(b'[') => {
                let elements: Vec<&RawValue> = serde_json::from_str(at.get())?;
                let place = step.parse::<usize>().ok().filter(|place| place.to_string() == step);
                place.and_then(|place| elements.get(place).copied())
            }
            _ => None,
        };
        let Some(next) = next else { return Ok(None) };
        at = next;
    }
    Ok(Some(at))
}

impl Token<'_> {
    /// Whether it names the request, with all messages that it brings, and not one of them.
    pub(super) fn is_of_request(&self) -> bool {
        matches!(self, Self::IdempotencyKey(_) | Self::WebhookId(_))
    }

    /// The key of the request's message at `place`, from 0. The first one's is that of a request with one message, so
    /// that a name which was given to a batch is not free for a single message.
    pub(super) fn key(&self, place: usize) -> OnceKey {
        let (kind, parts): (u8, [&str; 2]) = match self {
            Self::IdempotencyKey(key) => (1, [key, ""]),
            Self::Event(EventName { source, id }) => (2, [source, id]),
            Self::WebhookId(id) => (3, [id, ""]),
            Self::InBody(text) => (4, [text, ""]),
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[kind]);
        for part in parts {
            // With its length, so that no two pairs run together to the same bytes.
            hasher.update(&(part.len() as u64).to_be_bytes()).update(part.as_bytes());
        }
        if self.is_of_request() && place > 0 {
            hasher.update(&(place as u64).to_be_bytes());
        }
        OnceKey(*hasher.finalize().as_bytes())
    }
}

/// Of a request's body, or of a batch's message, of which `content_type` is said.
pub(super) fn fingerprint(content_type: Option<&[u8]>, body: &[u8]) -> Fingerprint {
    let mut hasher = blake3::Hasher::new();
    let content_type = content_type.unwrap_or_default();
    hasher.update(&(content_type.len() as u64).to_be_bytes()).update(content_type).update(body);
    let mut fingerprint = [0; 16];
    fingerprint.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Fingerprint(fingerprint)
}

/// Of a whole request.
pub(super) fn request_fingerprint(headers: &HeaderMap, body: &[u8]) -> Fingerprint {
    fingerprint(headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes), body)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::contract::manifest::webhook::Signature;

    fn rules(once_by: OnceBy) -> Webhook {
        let once_window = Duration::from_mins(1);
        Webhook { max_body: 1 << 20, once_by, once_window, signature: None }
    }

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in of {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn event() -> EventName {
        EventName { source: "/s".to_owned(), id: "1".to_owned() }
    }

    #[test]
    fn the_first_that_is_there_counts() {
        let auto = rules(OnceBy::Auto);
        let pointer = rules(OnceBy::Pointer("/id".to_owned()));
        let all = headers(&[("idempotency-key", "k"), ("webhook-id", "w")]);
        let hook = headers(&[("webhook-id", "w")]);
        let none = HeaderMap::new();
        let body = br#"{"id":"b"}"#;
        let key = Token::IdempotencyKey("k");
        assert_eq!(token(&pointer, &all, Some(event()), body), Ok(Some(key)));
        assert_eq!(token(&pointer, &hook, Some(event()), body), Ok(Some(Token::Event(event()))));
        assert_eq!(token(&pointer, &hook, None, body), Ok(Some(Token::WebhookId("w"))));
        assert_eq!(token(&pointer, &none, None, body), Ok(Some(Token::InBody("b".to_owned()))));
        assert_eq!(token(&auto, &none, None, body), Ok(None));
        assert_eq!(token(&rules(OnceBy::Nothing), &all, Some(event()), body), Ok(None));
    }

    #[test]
    fn of_a_signed_hook_only_what_is_signed_counts() {
        let scheme = Scheme::StandardWebhooks { tolerance: Duration::from_secs(1) };
        let signature = Some(Signature { scheme, secret: "s".parse().unwrap() });
        let rules = Webhook { signature, ..rules(OnceBy::Auto) };
        let headers = headers(&[("idempotency-key", "k"), ("webhook-id", "w")]);
        assert_eq!(token(&rules, &headers, Some(event()), b""), Ok(Some(Token::WebhookId("w"))));
    }

    #[test]
    fn keys_of_no_and_of_300_characters_and_others_that_are_none_are_refused() {
        let auto = rules(OnceBy::Auto);
        let long = "k".repeat(300);
        for name in ["idempotency-key", "webhook-id"] {
            for bad in ["", &long, "ä", "a\tb\u{7f}"] {
                let Ok(value) = HeaderValue::from_bytes(bad.as_bytes()) else { continue };
                let mut headers = HeaderMap::new();
                headers.insert(name, value);
                assert!(
                    matches!(token(&auto, &headers, None, b""), Err(BadToken::Header(_))),
                    "{bad}"
                );
            }
            let headers = headers(&[(name, "a"), (name, "a")]);
            assert!(token(&auto, &headers, None, b"").is_err(), "which one?");
        }
        let longest = "k".repeat(255);
        let headers = headers(&[("idempotency-key", &longest)]);
        assert!(token(&auto, &headers, None, b"").unwrap().is_some());
    }

    #[test]
    fn a_key_in_the_body() {
        let at = |pointer, body: &str| in_body(body.as_bytes(), pointer);
        assert_eq!(at("/order/id", r#"{"order":{"id":"x"}}"#), Ok("x".to_owned()));
        assert_eq!(at("/1", "[1, 2.50]"), Ok("2.50".to_owned()));
        assert_eq!(at("/a~1b/~0", r#"{"a/b":{"~":"x"}}"#), Ok("x".to_owned()));
        assert_eq!(at("", "7"), Ok("7".to_owned()));
        assert!(matches!(at("/id", "{"), Err(BadToken::NotJson { .. })));
        let long = format!(r#"{{"id":"{}"}}"#, "k".repeat(300));
        for (body, says) in [
            ("{}", "here it is not there"),
            (r#"{"id":null}"#, "here it is null"),
            (r#"{"id":""}"#, "here it is an empty text"),
            (r#"{"id":[1]}"#, "here it is an array"),
            (r#"{"id":{}}"#, "here it is an object"),
            (r#"{"id":true}"#, "here it is a boolean"),
            (&long, "here it is a longer text"),
        ] {
            let shown = at("/id", body).unwrap_err().to_string();
            assert!(shown.contains("`/id`") && shown.contains(says), "{body}: {shown}");
        }
    }

    /// Found by a fuzzer: beyond 64 bits they were one message, and the second was refused.
    #[test]
    fn numbers_in_the_body_differ_in_all_their_digits() {
        let at = |number: &str| in_body(format!(r#"{{"id":{number}}}"#).as_bytes(), "/id");
        for number in
            ["123456789012345678901", "123456789012345678902", "-1", "18446744073709551616"]
        {
            assert_eq!(at(number), Ok(number.to_owned()));
        }
        assert!(at(&"1".repeat(300)).unwrap_err().to_string().contains("a longer number"));
    }

    #[test]
    fn keys_differ_where_names_do() {
        let event = |source: &str, id: &str| {
            Token::Event(EventName { source: source.to_owned(), id: id.to_owned() })
        };
        let names = [
            Token::IdempotencyKey("a"),
            Token::WebhookId("a"),
            Token::InBody("a".to_owned()),
            event("a", ""),
            event("", "a"),
            event("ab", "c"),
            event("a", "bc"),
        ];
        let keys: std::collections::HashSet<_> = names.iter().map(|name| name.key(0)).collect();
        assert_eq!(keys.len(), names.len());
        assert_ne!(names[0].key(0), names[0].key(1), "a request's messages have keys of their own");
        assert_eq!(names[3].key(0), names[3].key(1), "an event is the same wherever it stands");
    }

    #[test]
    fn a_fingerprint_is_of_type_and_body() {
        let one = fingerprint(Some(b"text/plain"), b"body");
        assert_eq!(one, fingerprint(Some(b"text/plain"), b"body"));
        assert_ne!(one, fingerprint(Some(b"text/html"), b"body"));
        assert_ne!(one, fingerprint(None, b"body"));
        assert_ne!(one, fingerprint(Some(b"text/plainb"), b"ody"));
    }
}
