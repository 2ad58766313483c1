//! What a request brings: one message or a batch, each with what makes it one.

use hyper::{
    HeaderMap,
    header::{CONTENT_TYPE, HeaderValue},
};

use super::{
    batch::{self, BadBatch},
    cloudevents::{self, BadEvent, EventName},
    once::{self, BadToken},
};
use crate::{
    contract::manifest::webhook::Webhook,
    model::{
        limits::BODY_BYTES_MAX,
        message::{Content, Fingerprint},
    },
    store::change::{intake::Arrival, once::Once},
};

/// How messages are in a request; its content type says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The body is the message, whatever it is.
    One,
    /// A CloudEvent in structured mode.
    Event,
    /// A batch of JSON values.
    Lines,
    /// A batch of CloudEvents.
    Events,
}

/// Why a request brings nothing that can be taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadRequest {
    #[error("{}this is no CloudEvent: {error}", place(*.message))]
    Event {
        /// Of a batch, from 1.
        message: Option<usize>,
        error: BadEvent,
    },
    #[error("{}{error}", place(*.message))]
    Token { message: Option<usize>, error: BadToken },
    #[error(transparent)]
    Batch(#[from] BadBatch),
    #[error(
        "{messages} messages would each have {header_bytes} bytes of headers, {BODY_BYTES_MAX} bytes together at most; send fewer headers, or smaller batches"
    )]
    Headers { messages: usize, header_bytes: usize },
}

fn place(message: Option<usize>) -> String {
    message.map_or_else(String::new, |message| format!("message {message} of the batch: "))
}

impl Form {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes) else {
            return Self::One;
        };
        let media_type = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let is = |known: &str| media_type.eq_ignore_ascii_case(known.as_bytes());
        if is(batch::LINES) {
            Self::Lines
        } else if is(cloudevents::EVENT) {
            Self::Event
        } else if is(cloudevents::BATCH) {
            Self::Events
        } else {
            Self::One
        }
    }

    pub(super) fn is_batch(self) -> bool {
        matches!(self, Self::Lines | Self::Events)
    }
}

/// The one message of a request. Its content goes on as it is.
pub(super) fn one(
    form: Form,
    rules: &Webhook,
    headers: &HeaderMap,
    content: Content,
) -> Result<Arrival, BadRequest> {
    let event = match form {
        Form::Event => Some(cloudevents::structured(&content.body)),
        _ => cloudevents::binary(headers),
    };
    let event = event.transpose().map_err(|error| BadRequest::Event { message: None, error })?;
    let token = once::token(rules, headers, event, &content.body)
        .map_err(|error| BadRequest::Token { message: None, error })?;
    let once = token.map(|token| Once {
        key: token.key(0),
        fingerprint: once::request_fingerprint(headers, &content.body),
        window: rules.once_window,
    });
    Ok(Arrival { content, once })
}

/// The messages of a batch. `content` is that of the request: each message has its headers and its key.
pub(super) fn many(
    form: Form,
    rules: &Webhook,
    headers: &HeaderMap,
    content: Content,
) -> Result<Vec<Arrival>, BadRequest> {
    let (bodies, content_type) = match form {
        Form::Events => (batch::array(&content.body)?, cloudevents::EVENT),
        _ => (batch::lines(&content.body)?, "application/json"),
    };
    check_headers(bodies.len(), &content)?;
    let mut of_request: Option<Fingerprint> = None;
    let mut arrivals = Vec::with_capacity(bodies.len());
    for (at, body) in bodies.into_iter().enumerate() {
        let message = Some(at + 1);
        let event: Option<EventName> = match form {
            Form::Events => Some(cloudevents::structured(&body)),
            _ => None,
        }
        .transpose()
        .map_err(|error| BadRequest::Event { message, error })?;
        let token = once::token(rules, headers, event, &body)
            .map_err(|error| BadRequest::Token { message, error })?;
        let once = token.map(|token| Once {
            key: token.key(at),
            // A request that names itself comes again whole, or it is another.
            fingerprint: if token.is_of_request() {
                *of_request.get_or_insert_with(|| once::request_fingerprint(headers, &content.body))
            } else {
                once::fingerprint(Some(content_type.as_bytes()), &body)
            },
            window: rules.once_window,
        });
        let content = Content {
            source: content.source.clone(),
            headers: content.headers.clone(),
            content_type: Some(content_type.to_owned()),
            key: content.key.clone(),
            body,
        };
        arrivals.push(Arrival { content, once });
    }
    Ok(arrivals)
}

/// Headers are kept with each message: together they have the bound of the largest body.
fn check_headers(messages: usize, content: &Content) -> Result<(), BadRequest> {
    let bytes = content.headers.iter().map(|(name, value)| name.len() + value.len());
    let header_bytes = bytes.sum::<usize>() + content.key.as_ref().map_or(0, String::len);
    if messages.saturating_mul(header_bytes) as u64 > BODY_BYTES_MAX {
        return Err(BadRequest::Headers { messages, header_bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bytes::Bytes;

    use super::*;
    use crate::contract::manifest::webhook::OnceBy;

    const EVENT: &str = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        of.iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect()
    }

    fn content(body: &str) -> Content {
        Content {
            source: "in".parse().unwrap(),
            headers: vec![("x-a".to_owned(), b"1".to_vec())],
            content_type: Some("of the request".to_owned()),
            key: Some("k".to_owned()),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn batch(
        rules: &Webhook,
        of: &[(&'static str, &'static str)],
        body: &str,
    ) -> Result<Vec<Arrival>, BadRequest> {
        let headers = headers(of);
        many(Form::of(&headers), rules, &headers, content(body))
    }

    #[test]
    fn the_content_type_says_how() {
        let form = |value: &'static str| Form::of(&headers(&[("content-type", value)]));
        assert_eq!(Form::of(&HeaderMap::new()), Form::One);
        assert_eq!(form("application/json"), Form::One);
        assert_eq!(form("Application/X-NDJSON ; charset=utf-8"), Form::Lines);
        assert_eq!(form("application/cloudevents+json; charset=UTF-8"), Form::Event);
        assert_eq!(form("application/cloudevents-batch+json"), Form::Events);
    }

    #[test]
    fn a_message_stays_as_it_came() {
        let rules = Webhook::default();
        let plain = one(Form::One, &rules, &HeaderMap::new(), content("x")).unwrap();
        assert_eq!((plain.content, plain.once.is_some()), (content("x"), false));
        let event = one(Form::Event, &rules, &HeaderMap::new(), content(EVENT)).unwrap();
        assert_eq!((event.content, event.once.is_some()), (content(EVENT), true));
        let binary = headers(&[("ce-id", "1")]);
        let missing = BadEvent::Missing("specversion");
        assert_eq!(
            one(Form::One, &rules, &binary, content("")).unwrap_err(),
            BadRequest::Event { message: None, error: missing }
        );
    }

    #[test]
    fn the_same_event_in_either_batch_or_alone_has_the_same_key() {
        let rules = Webhook::default();
        let of = [("content-type", "application/cloudevents+json")];
        let alone = one(Form::Event, &rules, &headers(&of), content(EVENT)).unwrap();
        let of = [("content-type", "application/cloudevents-batch+json")];
        let other = EVENT.replace("\"1\"", "\"2\"");
        let both = batch(&rules, &of, &format!("[{other}, {EVENT}]")).unwrap();
        let (alone, other, same) =
            (alone.once.unwrap(), both[0].once.unwrap(), both[1].once.unwrap());
        assert_eq!((alone.key, alone.fingerprint), (same.key, same.fingerprint));
        assert_ne!(other.key, same.key);
        assert_eq!(both[1].content.content_type.as_deref(), Some("application/cloudevents+json"));
        let bad = batch(&rules, &of, &format!("[{EVENT}, {{}}]")).unwrap_err();
        assert!(
            bad.to_string().starts_with("message 2 of the batch: this is no CloudEvent"),
            "{bad}"
        );
    }

    #[test]
    fn lines_are_messages_with_the_requests_headers() {
        let of = [("content-type", "application/x-ndjson")];
        let arrivals = batch(&Webhook::default(), &of, "{}\n7\n").unwrap();
        assert_eq!(arrivals.len(), 2);
        let json = Some("application/json".to_owned());
        assert_eq!(arrivals[1].content, Content { content_type: json, ..content("7") });
        assert!(arrivals.iter().all(|arrival| arrival.once.is_none()));
    }

    #[test]
    fn a_name_of_the_request_covers_all_of_it() {
        let of = [("content-type", "application/x-ndjson"), ("idempotency-key", "k")];
        let read = |body| batch(&Webhook::default(), &of, body).unwrap();
        let (first, again, other) = (read("1\n2"), read("1\n2"), read("1\n2\n3"));
        let keys: HashSet<_> = first.iter().map(|a| a.once.unwrap().key).collect();
        assert_eq!(keys.len(), 2);
        for at in 0..2 {
            let of = |arrivals: &[Arrival]| arrivals[at].once.unwrap();
            assert_eq!(of(&first).key, of(&again).key);
            assert_eq!(of(&first).fingerprint, of(&again).fingerprint);
            assert_eq!(of(&first).key, of(&other).key);
            assert_ne!(of(&first).fingerprint, of(&other).fingerprint, "another batch is refused");
        }
        let single = one(Form::One, &Webhook::default(), &headers(&of[1..]), content("1")).unwrap();
        assert_eq!(single.once.unwrap().key, first[0].once.unwrap().key);
        assert_ne!(single.once.unwrap().fingerprint, first[0].once.unwrap().fingerprint);
    }

    #[test]
    fn a_key_in_each_line() {
        let rules = Webhook { once_by: OnceBy::Pointer("/id".to_owned()), ..Webhook::default() };
        let of = [("content-type", "application/x-ndjson")];
        let arrivals = batch(&rules, &of, "{\"id\":1}\n{\"id\":2}\n{\"id\":1}").unwrap();
        let key = |at: usize| arrivals[at].once.unwrap().key;
        assert!(key(0) != key(1) && key(0) == key(2));
        let bad = batch(&rules, &of, "{\"id\":1}\n{}").unwrap_err();
        assert!(bad.to_string().starts_with("message 2 of the batch: this source knows"), "{bad}");
    }

    #[test]
    fn headers_times_messages_has_a_bound() {
        let headers = headers(&[("content-type", "application/x-ndjson")]);
        let mut content = content(&"1\n".repeat(1000));
        content.headers = vec![("h".to_owned(), vec![b'v'; 20_000])];
        let error = many(Form::Lines, &Webhook::default(), &headers, content).unwrap_err();
        assert!(matches!(error, BadRequest::Headers { messages: 1000, .. }), "{error}");
    }
}
