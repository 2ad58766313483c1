//! What a fuzzer runs on what senders send: headers and bodies of web hooks.

use std::{collections::HashSet, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hmac::Mac as _;
use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use serde_json::value::RawValue;

use super::{
    arrivals::{self, Form},
    once,
    signature::{self, Denied},
    webhook,
};
use crate::{
    contract::manifest::webhook::{OnceBy, Scheme, Signature, Webhook},
    model::{
        fuzz::Input,
        limits::{BODY_BYTES_MAX, HEADER_BYTES_MAX, KEY_BYTES_MAX, WAIT_MAX},
        message::Content,
        name::Digest,
    },
    store::change::intake::Arrival,
};

/// Messages of one batch at most, as it is documented.
const MESSAGES_MAX: usize = 10_000;
const TOLERANCE: Duration = Duration::from_mins(5);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NOW_MS: u64 = 1_614_265_330_000;

/// What a source asks of its senders; the four kinds that there are.
fn rules(number: u8) -> Webhook {
    let once_by = match number % 4 {
        0 | 3 => OnceBy::Auto,
        1 => OnceBy::Pointer("/order/id".to_owned()),
        _ => OnceBy::Nothing,
    };
    let scheme = Scheme::StandardWebhooks { tolerance: TOLERANCE };
    let secret = "secret".parse().expect("it is a name");
    let signature = (number % 4 == 3).then_some(Signature { scheme, secret });
    Webhook { once_by, signature, ..Webhook::default() }
}

/// Lines of `name: value` up to an empty one.
fn headers(input: &mut Input<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    while !input.is_empty() {
        let line = input.line();
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { break };
        let name = HeaderName::from_bytes(line[..colon].trim_ascii());
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value)
            && headers.len() < 200
        {
            headers.append(name, value);
        }
    }
    headers
}

/// A request: what it brings is what came, all of it and nothing else, and the same when it comes again.
pub fn request(mut input: Input<'_>) {
    let rules = rules(input.byte());
    let headers = headers(&mut input);
    let body = Bytes::copy_from_slice(input.rest());
    let source = || "in".parse().expect("it is a name");
    let form = Form::of(&headers);
    let Ok(content) = webhook::content(source(), &headers, body.clone()) else { return };
    check_content(&content, &body);
    let came = || {
        let content = content.clone();
        if form.is_batch() {
            arrivals::many(form, &rules, &headers, content)
        } else {
            arrivals::one(form, &rules, &headers, content).map(|one| vec![one])
        }
    };
    let (arrivals, again) = (came(), came());
    assert_eq!(format!("{arrivals:?}"), format!("{again:?}"), "it was read differently");
    let Ok(arrivals) = arrivals else { return };
    if form.is_batch() {
        check_batch(form, &arrivals, &body);
    } else {
        assert_eq!(arrivals[0].content, content);
    }
    if rules.once_by == OnceBy::Nothing {
        assert!(arrivals.iter().all(|arrival| arrival.once.is_none()));
    }
    check_keys(&headers, &rules, &arrivals);
}

fn check_content(content: &Content, body: &Bytes) {
    assert_eq!(&content.body, body);
    let bytes: usize = content.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(bytes <= HEADER_BYTES_MAX);
    for (name, _) in &content.headers {
        assert!(!webhook::NOT_KEPT.contains(&name.as_str()), "{name} is for this node");
    }
    if let Some(key) = &content.key {
        assert!((1..=KEY_BYTES_MAX).contains(&key.len()));
    }
}

fn check_batch(form: Form, arrivals: &[Arrival], body: &Bytes) {
    assert!((1..=MESSAGES_MAX).contains(&arrivals.len()));
    let header_bytes: u64 = arrivals
        .iter()
        .flat_map(|arrival| &arrival.content.headers)
        .map(|(name, value)| (name.len() + value.len()) as u64)
        .sum();
    assert!(header_bytes <= BODY_BYTES_MAX);
    let within = body.as_ptr_range();
    for Arrival { content, .. } in arrivals {
        let message = content.body.as_ptr_range();
        assert!(within.start <= message.start && message.end <= within.end, "it was written anew");
        let read =
            serde_json::from_slice::<&RawValue>(&content.body).expect("each message is JSON");
        assert_eq!(read.get().len(), content.body.len());
    }
    if form == Form::Lines {
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        assert_eq!(lines.count(), arrivals.len(), "a line is missing");
    } else {
        let array: Vec<&RawValue> = serde_json::from_slice(body).expect("it is an array");
        assert_eq!(array.len(), arrivals.len(), "an event is missing");
    }
}

/// Messages of a request that names itself have keys of their own; a number in the body is what it is.
fn check_keys(headers: &HeaderMap, rules: &Webhook, arrivals: &[Arrival]) {
    let keys: Vec<_> = arrivals.iter().filter_map(|arrival| arrival.once.as_ref()).collect();
    let named = headers.contains_key("idempotency-key") && rules.signature.is_none();
    if named && rules.once_by != OnceBy::Nothing {
        assert_eq!(keys.len(), arrivals.len());
        let different: HashSet<_> = keys.iter().map(|once| once.key).collect();
        assert_eq!(different.len(), keys.len(), "two messages of a request have one key");
    }
}

/// Headers that name a request, and what is asked with it.
pub fn names(mut input: Input<'_>) {
    let rules = rules(input.byte());
    let wait = input.line();
    let headers = headers(&mut input);
    let body = input.rest();
    if let Ok(Some(wait)) = webhook::wait_of(std::str::from_utf8(wait).ok()) {
        assert!(wait <= WAIT_MAX);
    }
    let token = once::token(&rules, &headers, None, body);
    assert_eq!(token, once::token(&rules, &headers, None, body));
    let Ok(Some(token)) = token else { return };
    assert_eq!(token.key(0), token.key(0));
    assert_eq!(token.key(0) == token.key(1), !token.is_of_request());
    if let once::Token::InBody(_) = token {
        numbers_stay_apart(&rules, &headers, body);
    }
}

/// A number by which a source knows its messages: the next one is another message.
fn numbers_stay_apart(rules: &Webhook, headers: &HeaderMap, body: &[u8]) {
    let runs = body.split(|byte| !byte.is_ascii_digit());
    let Some(digits) =
        runs.max_by_key(|run| run.len()).and_then(|run| std::str::from_utf8(run).ok())
    else {
        return;
    };
    let key = |last: &str| {
        let body = format!("{{\"order\":{{\"id\":1{digits}{last}}}}}");
        once::token(rules, headers, None, body.as_bytes())
            .map(|token| token.map(|token| token.key(0)))
    };
    if let (Ok(Some(one)), Ok(Some(other))) = (key("1"), key("2")) {
        assert_ne!(one, other, "1{digits}1 and 1{digits}2 are one message");
    }
}

/// Only what was signed with the secret is believed, lately and unchanged.
pub fn signed(mut input: Input<'_>) {
    let scheme = if input.byte() & 1 == 0 {
        Scheme::StandardWebhooks { tolerance: TOLERANCE }
    } else {
        Scheme::Github
    };
    let change = input.short();
    let (id, time) = (input.line(), input.line());
    let body = input.rest();
    let (secret, signed) = match scheme {
        Scheme::Github => (SECRET.as_bytes().to_vec(), body.to_vec()),
        Scheme::StandardWebhooks { .. } => (
            STANDARD.decode(&SECRET[6..]).expect("it is base64"),
            [id, b".", time, b".", body].concat(),
        ),
    };
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(&secret).expect("of any length");
    mac.update(&signed);
    let mac = mac.finalize().into_bytes();
    let hex = Digest(mac.into()).to_string();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("webhook-id", id),
        ("webhook-timestamp", time),
        ("webhook-signature", format!("v1,{}", STANDARD.encode(mac)).as_bytes()),
        ("x-hub-signature-256", format!("sha256={hex}").as_bytes()),
    ] {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(name, value);
        }
    }
    let secret = format!("\"{SECRET}\"");
    let verify = |headers: &HeaderMap, body: &[u8]| {
        signature::verify(&scheme, Some(&secret), headers, body, NOW_MS)
    };
    let believed = verify(&headers, body);
    assert_ne!(believed, Err(Denied::NoSecret));
    assert_ne!(believed, Err(Denied::Wrong), "it was signed right");
    if believed.is_ok() {
        let mut other = body.to_vec();
        match other.len() {
            0 => other.push(0),
            length => other[usize::from(change) % length] ^= 1 << (change % 8),
        }
        assert_eq!(verify(&headers, &other), Err(Denied::Wrong), "the body was changed");
        if let Scheme::StandardWebhooks { .. } = scheme {
            let seconds: u64 =
                std::str::from_utf8(time).expect("it was read").parse().expect("it was read");
            assert!(NOW_MS.abs_diff(seconds.saturating_mul(1000)) <= 300_000);
        }
    }
}

/// Headers of a signature as somebody without the secret makes them up.
pub fn forged(mut input: Input<'_>) {
    let scheme = if input.byte() & 1 == 0 {
        Scheme::StandardWebhooks { tolerance: TOLERANCE }
    } else {
        Scheme::Github
    };
    let secret = input.line();
    let headers = headers(&mut input);
    let body = input.rest();
    // Without a secret nobody is believed.
    assert_eq!(signature::verify(&scheme, None, &headers, body, NOW_MS), Err(Denied::NoSecret));
    let secret = std::str::from_utf8(secret).ok().filter(|secret| !secret.is_empty());
    let denied = signature::verify(&scheme, secret, &headers, body, NOW_MS);
    assert_eq!(denied, signature::verify(&scheme, secret, &headers, body, NOW_MS));
}
