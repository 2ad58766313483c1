//! `tandem witness`: asks come in over HTTP, one task answers them from the register.

use std::{convert::Infallible, error::Error, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
    service::Service,
};
use sha2::{Digest, Sha256};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use super::{
    kept::TokenHash,
    register::{Asked, Refusal, Register, RegisterError},
    wire::{Answer, PAIRS},
};
use crate::{
    machine::{self, Listener},
    model::pair::{Ask, PairId, Record},
    net::{http_server, problem::Problem},
};

/// The longest ask has about 300.
const BODY_BYTES_MAX: usize = 4 << 10;
/// Nodes wait for 2 s.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Asks that wait for the register; beyond it their connections wait.
const WAITING_MAX: usize = 1024;
/// Asks that share a commit.
const BATCH_MAX: usize = 256;
/// Nodes open a connection for each ask.
const CONNECTIONS_MAX: usize = 1024;

type Answered = Result<Option<Record>, Refusal>;
type Waiting = (Asked, oneshot::Sender<Answered>);

/// Serves until `stop` turns true, or the register cannot be used any more.
pub async fn serve(
    listener: Listener,
    register: Register,
    mut stop: watch::Receiver<bool>,
) -> Result<(), RegisterError> {
    let (desk, waiting) = mpsc::channel(WAITING_MAX);
    let mut keeping = JoinSet::new();
    keeping.spawn(keep(Arc::new(register), waiting));
    let (halt, halted) = watch::channel(false);
    let watching = async {
        let failed = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => None,
            Some(ended) = keeping.join_next() => Some(ended),
        };
        halt.send_replace(true);
        failed
    };
    let bounds = http_server::Config {
        max_connections: CONNECTIONS_MAX,
        header_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_mins(1),
        header_bytes: 16 << 10,
        drain: Duration::from_secs(5),
    };
    let serving = http_server::serve(listener, Front { desk }, halted, bounds);
    let (_, failed) = tokio::join!(serving, watching);
    let ended = match failed {
        Some(ended) => Some(ended),
        // Nobody can ask any more, so it ends.
        None => keeping.join_next().await,
    };
    ended.expect("it was started").expect("it does not panic and is not aborted")
}

/// Answers what waits, as much as there is with one commit, until nobody can ask any more.
async fn keep(
    register: Arc<Register>,
    mut waiting: mpsc::Receiver<Waiting>,
) -> Result<(), RegisterError> {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let (asked, asking): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let register = register.clone();
        let answers = machine::blocking(move || register.ask(&asked)).await?;
        for (answer, to) in answers.into_iter().zip(asking) {
            // Who asked may have gone.
            to.send(answer).ok();
        }
    }
    Ok(())
}

#[derive(Debug, Clone)]
struct Front {
    desk: mpsc::Sender<Waiting>,
}

impl Service<Request<Incoming>> for Front {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let desk = self.desk.clone();
        Box::pin(async move {
            let answer = answer(desk, request).await;
            Ok(answer.unwrap_or_else(|refused| *refused))
        })
    }
}

type Refused = Box<Response<Full<Bytes>>>;

async fn answer(
    desk: mpsc::Sender<Waiting>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Refused> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if path == "/healthz" {
        only(&head.method, &[Method::GET], "GET")?;
        return Ok(Response::new(Full::from("ok\n")));
    }
    let Some(pair) = path.strip_prefix(PAIRS) else {
        let detail = "there is nothing under this path; a pair's record is at /v1/pairs/PAIR";
        return Err(refuse(Problem::new(StatusCode::NOT_FOUND, "unknown-path", detail)));
    };
    only(&head.method, &[Method::GET, Method::POST], "GET, POST")?;
    let pair: PairId = pair.parse().map_err(|wrong| {
        refuse(Problem::bad_request("bad-path", format!("`{pair}` is no pair: {wrong}")))
    })?;
    let ask = match head.method {
        Method::GET => Ask::Read,
        _ => read_ask(body).await.map_err(refuse)?,
    };
    let asked = Asked { pair, token: token(&head.headers), ask };
    let record = ask_register(desk, asked).await.map_err(refuse)?;
    let json = serde_json::to_vec(&Answer { record }).expect("a record is JSON");
    let mut response = Response::new(Full::from(json));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn refuse(problem: Problem) -> Refused {
    Box::new(problem.into_response())
}

fn only(method: &Method, taken: &[Method], allow: &'static str) -> Result<(), Refused> {
    if taken.contains(method) {
        return Ok(());
    }
    let detail = format!("this path takes {allow} only");
    let mut refused =
        refuse(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail));
    refused.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    Err(refused)
}

async fn read_ask(body: Incoming) -> Result<Ask, Problem> {
    let body = Limited::new(body, BODY_BYTES_MAX).collect();
    let body = tokio::time::timeout(BODY_TIMEOUT, body).await.map_err(|_| {
        let detail = format!("the body did not arrive within {BODY_TIMEOUT:?}");
        Problem::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow", detail)
    })?;
    let body = body.map_err(|error| cut_off(&*error))?.to_bytes();
    serde_json::from_slice(&body)
        .map_err(|error| Problem::bad_request("bad-body", format!("this is no ask: {error}")))
}

fn cut_off(error: &(dyn Error + 'static)) -> Problem {
    if error.is::<LengthLimitError>() {
        let detail = format!("an ask has at most {BODY_BYTES_MAX} bytes");
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail);
    }
    Problem::bad_request("body-cut-off", format!("the body ended early: {error}"))
}

/// Of the token that is presented, if there is one.
fn token(headers: &HeaderMap) -> Option<TokenHash> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    Some(Sha256::digest(value.strip_prefix(b"Bearer ").unwrap_or(value)).into())
}

async fn ask_register(
    desk: mpsc::Sender<Waiting>,
    asked: Asked,
) -> Result<Option<Record>, Problem> {
    let (to, answer) = oneshot::channel();
    let closed = || {
        let detail = "this witness stops, or cannot use its disk any more; its log says which";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "witness-closed", detail)
    };
    desk.send((asked, to)).await.map_err(|_| closed())?;
    answer.await.map_err(|_| closed())?.map_err(Problem::from)
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (status, code) = match &refusal {
            Refusal::WrongToken => (StatusCode::FORBIDDEN, "wrong-token"),
            Refusal::TooManyPairs(_) => (StatusCode::INSUFFICIENT_STORAGE, "too-many-pairs"),
            Refusal::Unreadable => (StatusCode::INTERNAL_SERVER_ERROR, "record-unreadable"),
        };
        Self::new(status, code, refusal.to_string())
    }
}
