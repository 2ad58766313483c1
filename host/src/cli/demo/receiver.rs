//! A small real HTTP server that plays the CRM: it honours idempotency keys, and is not always well.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::{net::TcpListener, time::Instant};

use super::{super::exit::Failure, traffic::lead_in};

const SLOW: Duration = Duration::from_millis(700);

#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
    server: tokio::task::JoinHandle<()>,
}

/// What it has been asked and has kept.
#[derive(Debug)]
struct Book {
    /// By idempotency key.
    seen: BTreeMap<String, Seen>,
    mishaps: Mishaps,
    figures: Figures,
}

/// What came under one key.
#[derive(Debug)]
struct Seen {
    lead: Option<u32>,
    digest: blake3::Hash,
    kept: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    pub requests: u64,
    pub leads: u64,
    /// Requests beyond the first with the same key: a node has tried again.
    pub tried_again: u64,
    /// Answered 503 on purpose, nothing kept.
    pub refused: u64,
    /// Kept, but answered 503: to the sender as if the answer was lost.
    pub answers_lost: u64,
    pub slow: u64,
    /// Without an idempotency key, or with one that was another request's.
    pub wrong: u64,
}

/// Everything that was received, for the audit.
#[derive(Debug, Default)]
pub struct Received {
    /// Lead numbers, one for each key under which one was kept.
    pub leads: Vec<u32>,
    pub figures: Figures,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mishap {
    Refuse,
    LoseAnswer,
    Slow,
}

/// How a key stands when a request with it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    New,
    /// Refused before, to be kept now.
    Refused,
    /// Kept before.
    Same,
    /// Kept before with another body, or no key at all.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    status: u16,
    keep: bool,
    after: Duration,
}

/// What to do with a request: nothing is kept twice, whatever goes wrong.
fn decide(known: Known, mishap: Option<Mishap>) -> Verdict {
    let at_once = |status, keep| Verdict { status, keep, after: Duration::ZERO };
    match (known, mishap) {
        (Known::Other, _) => at_once(422, false),
        (Known::Same, _) => at_once(200, false),
        (Known::Refused, _) | (Known::New, None) => at_once(201, true),
        (Known::New, Some(Mishap::Refuse)) => at_once(503, false),
        (Known::New, Some(Mishap::LoseAnswer)) => at_once(503, true),
        (Known::New, Some(Mishap::Slow)) => Verdict { status: 201, keep: true, after: SLOW },
    }
}

/// When something goes wrong next: by time, so that a faster stream does not drown in it. What one delivery waits, all
/// behind it wait too, because leads are delivered in order.
#[derive(Debug)]
struct Mishaps([(Mishap, Instant, Duration); 3]);

impl Mishaps {
    fn new(now: Instant) -> Self {
        let each = |mishap, first, every| {
            (mishap, now + Duration::from_secs(first), Duration::from_secs(every))
        };
        Self([
            each(Mishap::Refuse, 3, 9),
            each(Mishap::LoseAnswer, 6, 14),
            each(Mishap::Slow, 8, 11),
        ])
    }

    fn due(&mut self, now: Instant) -> Option<Mishap> {
        let (mishap, at, every) = self.0.iter_mut().find(|(_, at, _)| *at <= now)?;
        *at = now + *every;
        Some(*mishap)
    }
}

impl Receiver {
    pub async fn start() -> Result<Self, Failure> {
        let cannot = |e: std::io::Error| Failure::failed("system", format!("cannot listen: {e}"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let book = Arc::new(Mutex::new(Book {
            seen: BTreeMap::new(),
            mishaps: Mishaps::new(Instant::now()),
            figures: Figures::default(),
        }));
        let server = tokio::spawn(serve(listener, book.clone()));
        Ok(Self { address, book, server })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn figures(&self) -> Figures {
        lock(&self.book).figures
    }

    pub fn received(&self) -> Received {
        let book = lock(&self.book);
        Received {
            leads: book.seen.values().filter(|seen| seen.kept).filter_map(|s| s.lead).collect(),
            figures: book.figures,
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Held for a few lines, never across an await.
fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().expect("whoever holds it does not panic")
}

async fn serve(listener: TcpListener, book: Arc<Mutex<Book>>) {
    // Aborted with the server.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let book = book.clone();
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, &book));
            // A client that breaks off is its own trouble.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    book: &Mutex<Book>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let key = head.headers.get("idempotency-key").and_then(|key| key.to_str().ok());
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return Ok(response(400, "the body broke off"));
    };
    let verdict = lock(book).receive(head.uri.path(), key, &body, Instant::now());
    tokio::time::sleep(verdict.after).await;
    Ok(match verdict.status {
        200 => response(200, "{\"known\":true}"),
        201 => response(201, "{\"known\":false}"),
        503 => response(503, "a moment, please"),
        status => response(status, "every request has its own Idempotency-Key"),
    })
}

fn response(status: u16, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = hyper::StatusCode::from_u16(status).expect("one of ours");
    response
}

impl Book {
    fn receive(&mut self, path: &str, key: Option<&str>, body: &[u8], now: Instant) -> Verdict {
        self.figures.requests += 1;
        let Some(key) = key else {
            self.figures.wrong += 1;
            return decide(Known::Other, None);
        };
        let digest = blake3::hash(body);
        let known = match self.seen.get(key) {
            None => Known::New,
            Some(seen) if seen.digest != digest => Known::Other,
            Some(seen) if seen.kept => Known::Same,
            Some(_) => Known::Refused,
        };
        let lead = if path == "/leads" { lead_in(body) } else { None };
        let mishap =
            if known == Known::New && lead.is_some() { self.mishaps.due(now) } else { None };
        let verdict = decide(known, mishap);
        if known != Known::Other {
            let kept = verdict.keep || known == Known::Same;
            self.seen.insert(key.to_owned(), Seen { lead, digest, kept });
        }
        self.count(known, mishap, verdict.keep && lead.is_some());
        verdict
    }

    fn count(&mut self, known: Known, mishap: Option<Mishap>, lead: bool) {
        let figures = &mut self.figures;
        figures.leads += u64::from(lead);
        match known {
            Known::New => {}
            Known::Refused | Known::Same => figures.tried_again += 1,
            Known::Other => figures.wrong += 1,
        }
        match mishap {
            None => {}
            Some(Mishap::Refuse) => figures.refused += 1,
            Some(Mishap::LoseAnswer) => figures.answers_lost += 1,
            Some(Mishap::Slow) => figures.slow += 1,
        }
    }
}

#[cfg(test)]
mod tests;
