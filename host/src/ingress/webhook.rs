//! `POST /hooks/{solution}/{source}`: kept before it is acknowledged.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body, Incoming},
    header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue},
};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::wait;
use crate::{
    contract::manifest::SourceKind,
    model::{
        limits::{BODY_BYTES_MAX, HEADER_BYTES_MAX, KEY_BYTES_MAX, WAIT_MAX},
        message::{Content, MessageId},
        name::Name,
        position::{Durability, Position},
    },
    net::problem::Problem,
    store::{Catalogue, Kept, Refusal, Store, change::accept::Accept},
};

/// Where web hooks are.
pub const PREFIX: &str = "/hooks/";
/// Messages with the same key are handled in the order in which they were accepted.
const KEY_HEADER: HeaderName = HeaderName::from_static("tandem-key");
/// Headers that are about the connection or for this node, not for the solution.
const NOT_KEPT: [&str; 13] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Permits of the in-flight bound stand for this many bytes.
const PERMIT_BYTES: u64 = 1 << 10;
/// How long a sender waits for room in the in-flight bound before it is told to come again.
const ROOM_WAIT: Duration = Duration::from_secs(5);
/// A body must be here within this time.
const BODY_WAIT: Duration = Duration::from_mins(1);

/// Bounds of taking messages in.
#[derive(Debug, Clone)]
pub struct Config {
    /// Bodies that are being received or written at once, in bytes.
    pub in_flight_bytes: u64,
}

/// The source of web hooks.
#[derive(Debug)]
pub struct Webhooks {
    store: Store,
    catalogue: watch::Receiver<Arc<Catalogue>>,
    in_flight: Semaphore,
}

impl Webhooks {
    pub fn new(config: &Config, store: Store) -> Self {
        // The largest body must fit.
        let bytes = config.in_flight_bytes.max(BODY_BYTES_MAX + PERMIT_BYTES);
        let permits = usize::try_from(bytes / PERMIT_BYTES).unwrap_or(Semaphore::MAX_PERMITS);
        let in_flight = Semaphore::new(permits.min(Semaphore::MAX_PERMITS));
        Self { catalogue: store.catalogue(), store, in_flight }
    }

    /// Answers a request whose path begins with [`PREFIX`].
    pub async fn handle(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        self.accept(request).await.unwrap_or_else(Problem::into_response)
    }

    async fn accept(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Problem> {
        if request.method() != Method::POST {
            let mut response = Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "messages are sent by POST",
            )
            .into_response();
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return Ok(response);
        }
        let (solution, source) = self.address(request.uri().path())?;
        let patience = wait_of(request.uri().query())?;
        let max_body = self.check(&solution, &source)?;
        let (head, body) = request.into_parts();
        let room = self.room(&head.headers, max_body).await?;
        let body = receive(body, max_body).await?;
        let content = content(source, &head.headers, body)?;
        let kept = self.store.submit(Accept { solution, content }).await?;
        drop(room);
        match patience {
            None => Ok(receipt(kept)),
            Some(patience) => {
                let reply = wait::reply(&self.store, kept.answer, patience).await?;
                Ok(reply.unwrap_or_else(|| receipt(kept)))
            }
        }
    }

    /// The names in the path.
    fn address(&self, path: &str) -> Result<(Name, Name), Problem> {
        let rest = path.strip_prefix(PREFIX).unwrap_or_default();
        let (solution, source) = rest.split_once('/').ok_or_else(|| {
            let detail = "the path of a web hook is /hooks/SOLUTION/SOURCE";
            Problem::new(StatusCode::NOT_FOUND, "unknown-path", detail)
        })?;
        let name = solution.parse().map_err(|_| Refusal::UnknownSolution(cut(solution)))?;
        let source = source.parse().map_err(|_| {
            let catalogue = self.catalogue.borrow();
            let manifest = catalogue.solution(solution).and_then(|s| s.manifest.as_ref().ok());
            let known = manifest.map(|m| m.sources.iter().map(|s| s.name.clone()).collect());
            let known = known.unwrap_or_default();
            Refusal::UnknownSource { solution: Name::clone(&name), source_name: cut(source), known }
        })?;
        Ok((name, source))
    }

    /// The bound of a body for this source. The store decides once more, and for good, when the message is sequenced.
    fn check(&self, solution: &Name, source: &Name) -> Result<u64, Refusal> {
        let catalogue = self.catalogue.borrow();
        let Some(solution) = catalogue.solution(solution.as_str()) else {
            return Err(Refusal::UnknownSolution(solution.to_string()));
        };
        let manifest = solution.manifest.as_ref().ok();
        match manifest.and_then(|m| m.source(source.as_str())).map(|source| &source.kind) {
            Some(SourceKind::Webhook(webhook)) => Ok(webhook.max_body),
            _ => Ok(BODY_BYTES_MAX),
        }
    }

    async fn room(
        &self,
        headers: &HeaderMap,
        max_body: u64,
    ) -> Result<SemaphorePermit<'_>, Problem> {
        let length =
            headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let bytes: u64 = length.unwrap_or(max_body);
        if bytes > max_body {
            return Err(too_large(max_body));
        }
        let permits = u32::try_from(bytes / PERMIT_BYTES + 1).unwrap_or(u32::MAX);
        if let Ok(permit) = self.in_flight.try_acquire_many(permits) {
            return Ok(permit);
        }
        match tokio::time::timeout(ROOM_WAIT, self.in_flight.acquire_many(permits)).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "this node has as many messages in flight as it may; send again later",
            )
            .retry_after(Duration::from_secs(1))),
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

/// `?wait=5s`, if it is there.
fn wait_of(query: Option<&str>) -> Result<Option<Duration>, Problem> {
    let Some(query) = query else { return Ok(None) };
    let mut parameters = url::form_urlencoded::parse(query.as_bytes());
    let Some((_, text)) = parameters.find(|(name, _)| name == "wait") else { return Ok(None) };
    let number = |digits: &str, unit: u64| digits.parse::<u64>().ok()?.checked_mul(unit);
    let millis = if let Some(digits) = text.strip_suffix("ms") {
        number(digits, 1)
    } else {
        text.strip_suffix('s').and_then(|digits| number(digits, 1000))
    };
    match millis.map(Duration::from_millis) {
        Some(wait) if wait <= WAIT_MAX => Ok(Some(wait)),
        _ => Err(Problem::bad_request(
            "bad-wait",
            format!(
                "wait={} is not understood; write wait=5s or wait=500ms, at most {} s",
                cut(&text),
                WAIT_MAX.as_secs()
            ),
        )),
    }
}

fn too_large(max_body: u64) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body-too-large",
        format!(
            "this source takes bodies of at most {max_body} bytes; `max_body` in solution.toml raises it, to 16MiB at most"
        ),
    )
}

async fn receive(body: Incoming, max_body: u64) -> Result<Bytes, Problem> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let limit = usize::try_from(max_body).unwrap_or(usize::MAX);
    let collected = tokio::time::timeout(BODY_WAIT, Limited::new(body, limit).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(max_body)),
        Ok(Err(error)) => Err(Problem::bad_request(
            "body-cut-off",
            format!("the body did not arrive whole: {error}"),
        )),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-too-slow",
            format!("the body did not arrive within {} s", BODY_WAIT.as_secs()),
        )),
    }
}

fn content(source: Name, headers: &HeaderMap, body: Bytes) -> Result<Content, Problem> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let key = match headers.get(KEY_HEADER) {
        None => None,
        Some(value) => match value.to_str() {
            Ok(key) if (1..=KEY_BYTES_MAX).contains(&key.len()) => Some(key.to_owned()),
            _ => {
                let detail = format!("tandem-key is 1 to {KEY_BYTES_MAX} printable characters");
                return Err(Problem::bad_request("bad-key", detail));
            }
        },
    };
    let mut kept = Vec::with_capacity(headers.len());
    let mut bytes = 0;
    for (name, value) in headers {
        let known = name == CONTENT_TYPE || name == KEY_HEADER;
        if !known && !NOT_KEPT.contains(&name.as_str()) {
            bytes += name.as_str().len() + value.len();
            kept.push((name.as_str().to_owned(), value.as_bytes().to_vec()));
        }
    }
    if bytes > HEADER_BYTES_MAX {
        return Err(Problem::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "headers-too-large",
            format!("the headers of a message are at most {HEADER_BYTES_MAX} bytes together"),
        ));
    }
    let content_type = text(&CONTENT_TYPE).map(str::to_owned);
    Ok(Content { source, headers: kept, content_type, key, body })
}

fn receipt(kept: Kept<MessageId>) -> Response<Full<Bytes>> {
    let Kept { position: Position { epoch, seq }, answer: id } = kept;
    let durability = Durability::One.disks();
    let json = format!(r#"{{"id":"{id}","epoch":{epoch},"seq":{seq},"durability":{durability}}}"#);
    let mut response = Response::new(Full::from(json));
    *response.status_mut() = StatusCode::ACCEPTED;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_to_wait() {
        let wait = |query| wait_of(Some(query)).map_err(|problem| problem.code);
        assert_eq!(wait_of(None).unwrap(), None);
        assert_eq!(wait("a=b"), Ok(None));
        assert_eq!(wait("wait=5s"), Ok(Some(Duration::from_secs(5))));
        assert_eq!(wait("a=b&wait=250ms"), Ok(Some(Duration::from_millis(250))));
        for bad in
            ["wait=", "wait=5", "wait=-1s", "wait=121s", "wait=99999999999999999999s", "wait=1h"]
        {
            assert_eq!(wait(bad), Err("bad-wait"), "{bad}");
        }
    }

    #[test]
    fn headers_of_the_connection_are_not_kept() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("host", "h"), ("x-lead", "1"), ("authorization", "a"), ("tandem-key", "k")]
        {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        let content = content("s".parse().unwrap(), &headers, Bytes::new()).unwrap();
        assert_eq!(content.headers, [("x-lead".to_owned(), b"1".to_vec())]);
        assert_eq!(content.content_type.as_deref(), Some("text/plain"));
        assert_eq!(content.key.as_deref(), Some("k"));
    }
}
