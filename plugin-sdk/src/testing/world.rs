//! What a context stands on in a test: the functions of `imports.rs`, over maps, with the contract's limits.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ops::Bound::{Excluded, Included, Unbounded},
};

use super::{LogLine, grants};
use crate::{
    Header, Level, Publication, Reply, Request,
    bindings::tandem::solution::{
        outbox, publish,
        state::{self, Entry},
    },
};

const MIB: usize = 1 << 20;
const STATE_KEY_BYTES_MAX: usize = 512;
const STATE_VALUE_BYTES_MAX: usize = MIB;
const EFFECT_BYTES_MAX: usize = 16 * MIB;
const EFFECTS_MAX: usize = 1000;
const REPLY_BYTES_MAX: usize = 4 * MIB;
const URL_BYTES_MAX: usize = 8 << 10;
const MESSAGE_KEY_BYTES_MAX: usize = 512;
const LOG_LINES_MAX: usize = 1000;
const LOG_LINE_BYTES_MAX: usize = 8 << 10;

/// A `RefCell`, because a context is shared by what a handler calls; no borrow outlives a call.
#[derive(Debug, Default)]
pub(crate) struct World(RefCell<Inner>);

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) settings: BTreeMap<String, String>,
    pub(super) state: BTreeMap<String, Vec<u8>>,
    pub(super) outbox_grants: Option<Vec<String>>,
    pub(super) publish_grants: Option<Vec<String>>,
    attempt: Attempt,
}

/// What one attempt wrote and asked for.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    message_id: String,
    /// Last write of each key; `None` deletes.
    pub(super) writes: BTreeMap<String, Option<Vec<u8>>>,
    pub(super) requests: Vec<Request>,
    pub(super) publications: Vec<Publication>,
    pub(super) log: Vec<LogLine>,
    pub(super) dropped_lines: usize,
    /// Of all of these together, without the log.
    bytes: usize,
}

impl World {
    pub(super) fn inner(&mut self) -> &mut Inner {
        self.0.get_mut()
    }

    pub(super) fn begin(&mut self, message_id: &str) {
        self.inner().attempt = Attempt { message_id: message_id.to_owned(), ..Attempt::default() };
    }

    pub(super) fn end(&mut self) -> Attempt {
        std::mem::take(&mut self.inner().attempt)
    }

    pub(super) fn keep(&mut self, writes: BTreeMap<String, Option<Vec<u8>>>) {
        let state = &mut self.inner().state;
        for (key, value) in writes {
            match value {
                Some(value) => state.insert(key, value),
                None => state.remove(&key),
            };
        }
    }

    pub(super) fn kept(&self) -> BTreeMap<String, Vec<u8>> {
        self.0.borrow().state.clone()
    }

    pub(crate) fn state_get(&self, key: &str) -> Result<Option<Vec<u8>>, state::Error> {
        check_state_key(key)?;
        let inner = self.0.borrow();
        let written = inner.attempt.writes.get(key).cloned();
        Ok(written.unwrap_or_else(|| inner.state.get(key).cloned()))
    }

    pub(crate) fn state_set(&self, key: &str, value: &[u8]) -> Result<(), state::Error> {
        check_state_key(key)?;
        if value.len() > STATE_VALUE_BYTES_MAX {
            return Err(state::Error::ValueTooLarge(value.len() as u64));
        }
        self.write(key, Some(value.to_vec()))
    }

    pub(crate) fn state_delete(&self, key: &str) -> Result<(), state::Error> {
        check_state_key(key)?;
        self.write(key, None)
    }

    fn write(&self, key: &str, value: Option<Vec<u8>>) -> Result<(), state::Error> {
        let attempt = &mut self.0.borrow_mut().attempt;
        let size = |value: &Option<Vec<u8>>| key.len() + value.as_ref().map_or(0, Vec::len);
        let replaced = attempt.writes.get(key).map_or(0, size);
        attempt.grow(size(&value), replaced).map_err(state::Error::TooMuch)?;
        attempt.writes.insert(key.to_owned(), value);
        Ok(())
    }

    pub(crate) fn state_list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Entry>, state::Error> {
        if !(1..=1000).contains(&limit) {
            return Err(state::Error::Other(format!("a limit of {limit} is not 1 to 1000")));
        }
        let inner = self.0.borrow();
        let start = match after {
            Some(after) if after >= prefix => Excluded(after),
            _ => Included(prefix),
        };
        let mut entries: BTreeMap<&str, &[u8]> = inner
            .state
            .range::<str, _>((start, Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.as_str(), value.as_slice()))
            .collect();
        let writes = inner.attempt.writes.range::<str, _>((start, Unbounded));
        for (key, value) in writes.take_while(|(key, _)| key.starts_with(prefix)) {
            match value {
                Some(value) => entries.insert(key, value),
                None => entries.remove(key.as_str()),
            };
        }
        let page = entries.into_iter().take(limit as usize);
        Ok(page.map(|(key, value)| Entry { key: key.to_owned(), value: value.to_vec() }).collect())
    }

    pub(crate) fn setting(&self, name: &str) -> Option<String> {
        self.0.borrow().settings.get(name).cloned()
    }

    pub(crate) fn send(&self, request: Request) -> Result<String, outbox::Error> {
        use outbox::Error;
        let Inner { settings, outbox_grants, attempt, .. } = &mut *self.0.borrow_mut();
        if !["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&request.method.as_str()) {
            let reason =
                format!("method `{}` is none of GET, POST, PUT, PATCH, DELETE", request.method);
            return Err(Error::InvalidRequest(reason));
        }
        if request.url.len() > URL_BYTES_MAX {
            return Err(Error::InvalidRequest("the URL has more than 8 KiB".to_owned()));
        }
        check_headers(&request.headers).map_err(Error::InvalidRequest)?;
        let origin = grants::Origin::of(&request.url).ok_or_else(|| {
            Error::InvalidRequest(format!("`{}` is no absolute http or https URL", request.url))
        })?;
        if let Some(granted) = outbox_grants
            && !granted.iter().any(|grant| origin.is_granted(grant, settings))
        {
            return Err(Error::Denied(format!("outbox = [\"{origin}\"]")));
        }
        check_count("requests", attempt.requests.len()).map_err(Error::TooMuch)?;
        let Request { method, url, headers, body, order } = &request;
        let order_bytes = order.as_ref().map_or(0, String::len);
        let bytes = method.len() + url.len() + header_bytes(headers) + body.len() + order_bytes;
        attempt.grow(bytes, 0).map_err(Error::TooMuch)?;
        let idempotency_key = format!("{}-{}", attempt.message_id, attempt.requests.len());
        attempt.requests.push(request);
        Ok(idempotency_key)
    }

    pub(crate) fn publish(&self, publication: Publication) -> Result<(), publish::Error> {
        use publish::Error;
        let Inner { publish_grants, attempt, .. } = &mut *self.0.borrow_mut();
        let Publication { solution, source, headers, content_type, key, body, .. } = &publication;
        for name in [solution, source] {
            if !is_name(name) {
                return Err(Error::InvalidMessage(format!(
                    "`{name}` is no name: use 1 to 63 of a-z, 0-9, - and _, beginning with a letter"
                )));
            }
        }
        if key.as_ref().is_some_and(|key| key.len() > MESSAGE_KEY_BYTES_MAX) {
            return Err(Error::InvalidMessage("the key has more than 512 bytes".to_owned()));
        }
        check_headers(headers).map_err(Error::InvalidMessage)?;
        if let Some(granted) = publish_grants
            && !granted.contains(solution)
        {
            return Err(Error::Denied(format!("publish = [\"{solution}\"]")));
        }
        check_count("messages", attempt.publications.len()).map_err(Error::TooMuch)?;
        let texts = [content_type, key].map(|text| text.as_ref().map_or(0, String::len));
        let names = solution.len() + source.len();
        let bytes = names + header_bytes(headers) + texts[0] + texts[1] + body.len();
        attempt.grow(bytes, 0).map_err(Error::TooMuch)?;
        attempt.publications.push(publication);
        Ok(())
    }

    pub(crate) fn log(&self, level: Level, line: &str) {
        let attempt = &mut self.0.borrow_mut().attempt;
        if attempt.log.len() < LOG_LINES_MAX {
            let text = line[..line.floor_char_boundary(LOG_LINE_BYTES_MAX)].to_owned();
            attempt.log.push(LogLine { level, text });
        } else {
            attempt.dropped_lines += 1;
        }
    }
}

impl Attempt {
    fn grow(&mut self, added: usize, removed: usize) -> Result<(), String> {
        let bytes = self.bytes + added - removed;
        if bytes > EFFECT_BYTES_MAX {
            return Err(format!("{bytes} bytes; an attempt may write and ask for 16 MiB"));
        }
        self.bytes = bytes;
        Ok(())
    }
}

fn check_state_key(key: &str) -> Result<(), state::Error> {
    match key.len() {
        1..=STATE_KEY_BYTES_MAX => Ok(()),
        0 => Err(state::Error::InvalidKey("it is empty".to_owned())),
        size => Err(state::Error::InvalidKey(format!("it has {size} bytes; at most 512"))),
    }
}

fn check_count(what: &str, before: usize) -> Result<(), String> {
    if before < EFFECTS_MAX { Ok(()) } else { Err(format!("more than {EFFECTS_MAX} {what}")) }
}

/// Panics: it is the solution's fault, and there is nobody else to tell.
pub(super) fn check_reply(reply: &Reply) {
    assert!(
        (200..=599).contains(&reply.status),
        "a reply's status is 200 to 599: {}",
        reply.status
    );
    assert!(reply.body.len() <= REPLY_BYTES_MAX, "a reply is at most 4 MiB: {}", reply.body.len());
    if let Err(reason) = check_headers(&reply.headers) {
        panic!("a reply's headers: {reason}");
    }
}

/// Names are lower-case tokens (RFC 9110, section 5.6.2), values have no line breaks.
fn check_headers(headers: &[Header]) -> Result<(), String> {
    let in_token =
        |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9') || b"!#$%&'*+-.^_`|~".contains(&b);
    for Header { name, value } in headers {
        if name.is_empty() || !name.bytes().all(in_token) {
            return Err(format!("`{name}` is no lower-case header name"));
        }
        if value.iter().any(|b| b"\r\n\0".contains(b)) {
            return Err(format!("header `{name}` has a line break or a zero byte"));
        }
    }
    Ok(())
}

fn header_bytes(headers: &[Header]) -> usize {
    headers.iter().map(|Header { name, value }| name.len() + value.len()).sum()
}

fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}
