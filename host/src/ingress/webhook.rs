//! `POST /hooks/{solution}/{source}`: kept before it is acknowledged.

use std::{error::Error, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Body,
    header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue},
};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::{
    arrivals::{self, Form},
    receipt,
    signature::{self, Denied, SeldomLog},
    wait,
};
use crate::{
    contract::manifest::{
        SourceKind,
        webhook::{Signature, Webhook},
    },
    model::{
        clock::Clock,
        limits::{BODY_BYTES_MAX, HEADER_BYTES_MAX, KEY_BYTES_MAX, WAIT_MAX},
        message::Content,
        name::Name,
        position::Durability,
    },
    net::{http_server::Client, problem::Problem},
    store::{
        Catalogue, Kept, Refusal, Store, SubmitError,
        catalogue::Solution,
        change::{
            accept::{Accept, check_source},
            intake::{Arrival, Intake},
            once::Receipt,
        },
    },
};

pub use super::once::IDEMPOTENCY_KEY;

/// Where web hooks are.
pub const PREFIX: &str = "/hooks/";
/// Messages with the same key are handled in the order in which they were accepted.
const KEY_HEADER: HeaderName = HeaderName::from_static("tandem-key");
/// Kept with a message: the address of its sender, as this node or the one that passed it on saw it.
const CLIENT_HEADER: &str = "tandem-client";
/// Headers that are about the connection or for this node, not for the solution.
pub(super) const NOT_KEPT: [&str; 15] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    CLIENT_HEADER,
    "tandem-forwarded",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Permits of the in-flight bound stand for this many bytes.
const PERMIT_BYTES: u64 = 1 << 10;
/// How long a sender waits for room in the in-flight bound before it is told to come again.
const ROOM_WAIT: Duration = Duration::from_secs(5);

/// Bounds of taking messages in.
#[derive(Debug, Clone)]
pub struct Config {
    /// Bodies that are being received or written at once, in bytes.
    pub in_flight_bytes: u64,
    /// A body must be here within this time.
    pub body_timeout: Duration,
}

/// The source of web hooks.
#[derive(Debug)]
pub struct Webhooks {
    store: Store,
    catalogue: watch::Receiver<Arc<Catalogue>>,
    in_flight: Semaphore,
    body_timeout: Duration,
    clock: Clock,
    no_secret: SeldomLog,
    not_believed: SeldomLog,
}

/// A body as it comes: from a sender, or from the other node.
pub trait Incoming: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send {}

impl<B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send> Incoming for B {}

impl Webhooks {
    pub fn new(config: &Config, store: Store, clock: Clock) -> Self {
        // The largest body must fit.
        let bytes = config.in_flight_bytes.max(BODY_BYTES_MAX + PERMIT_BYTES);
        let permits = usize::try_from(bytes / PERMIT_BYTES).unwrap_or(Semaphore::MAX_PERMITS);
        let in_flight = Semaphore::new(permits.min(Semaphore::MAX_PERMITS));
        Self {
            catalogue: store.catalogue(),
            store,
            in_flight,
            body_timeout: config.body_timeout,
            clock,
            no_secret: SeldomLog::default(),
            not_believed: SeldomLog::default(),
        }
    }

    /// Answers a request whose path begins with [`PREFIX`].
    pub async fn handle<B: Incoming>(&self, request: Request<B>) -> Response<Full<Bytes>> {
        self.accept(request).await.unwrap_or_else(Problem::into_response)
    }

    async fn accept<B: Incoming>(
        &self,
        request: Request<B>,
    ) -> Result<Response<Full<Bytes>>, Problem> {
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
        let rules = self.rules(&solution, &source)?;
        let (head, body) = request.into_parts();
        let headers = &head.headers;
        let form = Form::of(headers);
        if form.is_batch() && patience.is_some() {
            let detail = "nobody can wait for a batch; leave ?wait away, or send one message";
            return Err(Problem::bad_request("wait-for-batch", detail));
        }
        let room = self.room(headers, rules.max_body).await?;
        let body = receive(body, rules.max_body, self.body_timeout).await?;
        self.believe(&solution, &source, &rules, headers, &body)?;
        let mut content = content(source.clone(), headers, body)?;
        if let Some(Client(ip)) = head.extensions.get() {
            content.headers.push((CLIENT_HEADER.to_owned(), ip.to_string().into_bytes()));
        }
        if form.is_batch() {
            let arrivals = arrivals::many(form, &rules, headers, content)?;
            let kept = self.store.submit(Intake { solution, source, arrivals }).await?;
            return Ok(receipt::of_batch(&kept.answer, kept.durability));
        }
        let arrival = arrivals::one(form, &rules, headers, content)?;
        let (receipt, durability) = self.keep(solution, source, arrival).await?;
        drop(room);
        let reply = match patience {
            None => None,
            Some(patience) => wait::reply(&self.store, receipt.id, patience).await?,
        };
        let response = reply.unwrap_or_else(|| receipt::of_one(&receipt, durability));
        Ok(if receipt.is_duplicate { receipt::duplicate(response) } else { response })
    }

    /// A message's body that another node will check: room for it here, and all of it in time.
    pub async fn hold<B: Incoming>(
        &self,
        headers: &HeaderMap,
        body: B,
    ) -> Result<(Bytes, SemaphorePermit<'_>), Problem> {
        let room = self.room(headers, BODY_BYTES_MAX).await?;
        Ok((receive(body, BODY_BYTES_MAX, self.body_timeout).await?, room))
    }

    async fn keep(
        &self,
        solution: Name,
        source: Name,
        arrival: Arrival,
    ) -> Result<(Receipt, Durability), SubmitError> {
        if arrival.once.is_some() {
            let intake = Intake { solution, source, arrivals: vec![arrival] };
            let kept = self.store.submit(intake).await?;
            return Ok((kept.answer[0], kept.durability));
        }
        let Kept { position, durability, answer: id } =
            self.store.submit(Accept { solution, content: arrival.content }).await?;
        Ok((Receipt { id, position, is_duplicate: false }, durability))
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

    /// What the source asks of its senders. The store decides once more, and for good, whether it takes the message.
    fn rules(&self, solution: &Name, source: &Name) -> Result<Webhook, Problem> {
        let catalogue = self.catalogue.borrow();
        let Some(solution) = catalogue.solution(solution.as_str()) else {
            return Err(Refusal::UnknownSolution(solution.to_string()).into());
        };
        check_source(solution, source, "webhook")?;
        let manifest = match &solution.manifest {
            Ok(manifest) => manifest,
            Err(_) if may_ask_for_signatures(solution) => {
                return Err(Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "manifest-unreadable",
                    format!(
                        "this node cannot read how messages of `{}` are signed; deploy it again",
                        solution.name
                    ),
                ));
            }
            Err(_) => return Ok(Webhook { max_body: BODY_BYTES_MAX, ..Webhook::default() }),
        };
        match manifest.source(source.as_str()).map(|source| &source.kind) {
            Some(SourceKind::Webhook(webhook)) => Ok(webhook.clone()),
            _ => Ok(Webhook::default()),
        }
    }

    /// Nothing of a message is looked at before its signature is right. The sender is not told what is wrong with it.
    fn believe(
        &self,
        solution: &Name,
        source: &Name,
        rules: &Webhook,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(), Problem> {
        let Some(Signature { scheme, secret: name }) = &rules.signature else { return Ok(()) };
        let now_ms = self.clock.now_ms();
        let secret = self.catalogue.borrow().setting(solution, name.as_str());
        let Err(why) = signature::verify(scheme, secret.as_deref(), headers, body, now_ms) else {
            return Ok(());
        };
        if why == Denied::NoSecret {
            if let Some(unsaid) = self.no_secret.may(now_ms) {
                tracing::warn!(%solution, %source, setting = %name, unsaid, "signed messages are refused: {why}");
            }
        } else if let Some(unsaid) = self.not_believed.may(now_ms) {
            tracing::info!(%solution, %source, unsaid, "a message was not believed: {why}");
        }
        Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "signature-invalid",
            "this source takes signed messages only, and this one's signature is missing or wrong",
        ))
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

/// Whether a manifest that cannot be read may ask for signatures: then unsigned messages must not pass for signed ones.
fn may_ask_for_signatures(solution: &Solution) -> bool {
    let active = solution.versions.iter().find(|version| version.revision == solution.revision);
    active.is_none_or(|version| version.manifest.contains("signature"))
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

/// `?wait=5s`, if it is there.
pub(super) fn wait_of(query: Option<&str>) -> Result<Option<Duration>, Problem> {
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

/// All of a body, if it is not too long and comes in time.
pub async fn receive(
    body: impl Incoming,
    max_body: u64,
    timeout: Duration,
) -> Result<Bytes, Problem> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let limit = usize::try_from(max_body).unwrap_or(usize::MAX);
    let collected = tokio::time::timeout(timeout, Limited::new(body, limit).collect()).await;
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
            format!(
                "the body did not arrive within {timeout:?}; send it again over a better connection"
            ),
        )),
    }
}

pub(super) fn content(source: Name, headers: &HeaderMap, body: Bytes) -> Result<Content, Problem> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::name::Digest,
        store::{self, change::deploy::Deploy},
    };

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

    #[tokio::test]
    async fn a_manifest_that_cannot_be_read_costs_no_message_and_lets_no_unsigned_one_pass() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
        let config = store::Config {
            dir: dir.path().to_owned(),
            cache_bytes: 1 << 20,
            reserve_bytes: 0,
            journal_bytes: 0,
            kept_bytes: 0,
            checkpoint_bytes: 1 << 20,
            paired: false,
        };
        let store = Store::open(&config, clock.clone()).unwrap();
        let config = Config { in_flight_bytes: 0, body_timeout: Duration::from_mins(1) };
        let webhooks = Webhooks::new(&config, store.clone(), clock);
        for (name, manifest, code) in [
            ("plain", "made = \"later\"", None),
            ("signed", "[[source]]\nsignature = \"as later\"", Some("manifest-unreadable")),
        ] {
            let name: Name = name.parse().unwrap();
            let (component, manifest) = (Bytes::from_static(b"c"), manifest.to_owned());
            let digest = Digest::of(&component);
            store.submit(Deploy { name: name.clone(), manifest, component, digest }).await.unwrap();
            let rules = webhooks.rules(&name, &"in".parse().unwrap());
            assert_eq!(rules.err().map(|problem| problem.code), code);
        }
    }

    #[test]
    fn headers_of_the_connection_are_not_kept() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("host", "h"), ("x-lead", "1"), ("tandem-client", "10.0.0.1"), ("tandem-key", "k")]
        {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert("authorization", HeaderValue::from_static("a"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        let content = content("s".parse().unwrap(), &headers, Bytes::new()).unwrap();
        assert_eq!(content.headers, [("x-lead".to_owned(), b"1".to_vec())]);
        assert_eq!(content.content_type.as_deref(), Some("text/plain"));
        assert_eq!(content.key.as_deref(), Some("k"));
    }
}
