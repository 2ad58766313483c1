//! The one listener: web hooks go to ingress, everything else to control; what only a primary can do goes to the one there
//! is.

use std::{convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{
        HeaderMap,
        request::Parts,
        uri::{Authority, PathAndQuery, Scheme, Uri},
    },
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, HOST, HeaderName, HeaderValue},
    service::Service,
};
use hyper_util::{client::legacy::Client as Pool, rt::TokioExecutor};
use tokio::{
    sync::{SemaphorePermit, watch},
    time::Instant,
};
use tower_service::Service as _;

use self::client::Signer;
use super::{config::Mode, pair::Pair};
use crate::{
    control,
    ingress::webhook::{self, Webhooks},
    machine::Connector,
    model::{limits, pair::Role},
    net::problem::Problem,
    replication::Seen,
    takeover::View,
};

pub(super) mod client;
#[cfg(any(test, fuzzing))]
pub use client::fuzz;

/// Said by a node that passes a request on: it goes no further.
const FORWARDED: HeaderName = HeaderName::from_static("tandem-forwarded");
const NODE: HeaderName = HeaderName::from_static("tandem-node");
const EPOCH: HeaderName = HeaderName::from_static("tandem-epoch");

/// While roles change, senders wait this long for a primary.
const HOLD: Duration = Duration::from_secs(15);
/// For the primary's answer. Senders may wait a minute for a reply.
const ANSWER: Duration = Duration::from_secs(90);
/// For an answer that is on its way when this node takes over.
const LAST_ANSWER: Duration = Duration::from_millis(500);
/// An operator's body that is passed on: it may hold a component.
const BODY_MAX: u64 = limits::BODY_BYTES_MAX * 8;
const BODY_WAIT: Duration = Duration::from_mins(10);
const RETRY_AFTER: Duration = Duration::from_secs(1);

type Came = Either<Incoming, Full<Bytes>>;
type Answer = Response<Either<Full<Bytes>, Body>>;

#[derive(Debug, Clone)]
pub(super) struct Front {
    webhooks: Arc<Webhooks>,
    router: Router,
    node: HeaderValue,
    pair: Option<Pair>,
    signer: Signer,
    /// To the other node.
    pool: Pool<Connector, Full<Bytes>>,
}

impl Front {
    pub fn new(
        webhooks: Webhooks,
        router: Router,
        node: &str,
        pair: Option<Pair>,
        signer: Signer,
    ) -> Self {
        let http = Connector::new(Duration::from_secs(1));
        Self {
            webhooks: Arc::new(webhooks),
            router,
            node: HeaderValue::from_str(node).expect("hexadecimal digits"),
            pair,
            signer,
            pool: Pool::builder(TokioExecutor::new()).build(http),
        }
    }

    async fn answer(mut self, request: Request<Incoming>) -> Answer {
        let mut request = request.map(Either::Left);
        let Some(pair) = self.pair.clone() else { return self.here(request).await };
        self.signer.believe(&mut request);
        let mut answer = if request.uri().path() == control::drill::DRILL {
            match self.at_the_standby(&pair, request).await {
                Ok(answer) => answer,
                Err(problem) => problem.into_response().map(Either::Left),
            }
        } else if needs_primary(&request) {
            match self.at_the_primary(&pair, request).await {
                Ok(answer) => answer,
                Err(problem) => problem.into_response().map(Either::Left),
            }
        } else {
            self.here(request).await
        };
        let headers = answer.headers_mut();
        // One that was passed on says who has answered.
        if !headers.contains_key(&NODE) {
            headers.insert(NODE, self.node.clone());
            headers.insert(EPOCH, pair.view.borrow().standing().epoch.into());
        }
        answer
    }

    /// Answers on this node.
    async fn here(&mut self, request: Request<Came>) -> Answer {
        if request.uri().path().starts_with(webhook::PREFIX) {
            return self.webhooks.handle(request).await.map(Either::Left);
        }
        let Ok(answer) = self.router.call(request).await;
        answer.map(Either::Right)
    }

    /// Answers here if this node is primary, else has the primary answer. While there is none it waits for one.
    async fn at_the_primary(
        &mut self,
        pair: &Pair,
        mut request: Request<Came>,
    ) -> Result<Answer, Problem> {
        let until = Instant::now() + HOLD;
        let is_forwarded = request.headers().contains_key(&FORWARDED);
        let webhooks = self.webhooks.clone();
        let mut room = None;
        let (mut view, mut seen, mut serving) =
            (pair.view.clone(), pair.seen.clone(), pair.serving.clone());
        loop {
            if *serving.borrow_and_update() {
                if !pair.config.main && !pair.config.settings_while_acting {
                    refuse_while_acting(&request)?;
                }
                let is_message = request.uri().path().starts_with(webhook::PREFIX);
                let is_strict = pair.config.mode == Mode::Strict;
                if is_message && is_strict && view.borrow_and_update().lacks_standby() {
                    return Err(no_standby("it was not kept; send it again"));
                }
                return tokio::select! {
                    biased;
                    answer = self.here(request) => Ok(answer),
                    () = waits_too_long(view) => Err(no_standby(
                        "whether what was asked is done then is not known: ask again, messages with an idempotency key",
                    )),
                };
            }
            if view.borrow().state.role() == Role::Accepting {
                if request.uri().path().starts_with(webhook::PREFIX) {
                    return Ok(self.here(request).await);
                }
                return Err(accepts_only());
            }
            if is_forwarded && view.borrow().state.role() != Role::Primary {
                // Who passed it on finds out soon, and then knows better than this node.
                return Err(not_primary(StatusCode::MISDIRECTED_REQUEST));
            }
            let primary = seen.borrow_and_update().as_ref().and_then(Seen::hooks);
            let is_there = is_led(&view.borrow_and_update());
            if let (Some(primary), true, false) = (primary, is_there, is_forwarded) {
                if let Either::Left(_) = request.body() {
                    (request, room) = collect(&webhooks, request).await?;
                }
                let is_keyed = is_keyed(request.uri(), request.headers());
                let last_answer = if is_keyed { Duration::ZERO } else { LAST_ANSWER };
                let gone = overtaken(view.clone(), last_answer);
                let (again, why) = match self.pass_on(request, &primary, gone).await? {
                    Passed::Answered(answer) => return Ok(answer),
                    Passed::NotReached { request, why } => (request, why),
                };
                tracing::debug!(why, "the primary cannot be reached");
                request = again;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let changed = async {
                tokio::select! {
                    biased;
                    changed = view.changed() => changed,
                    changed = seen.changed() => changed,
                    changed = serving.changed() => changed,
                }
            };
            // It is too late, or this node is stopping.
            if !matches!(tokio::time::timeout_at(until, changed).await, Ok(Ok(()))) {
                drop(room);
                return Err(not_primary(StatusCode::SERVICE_UNAVAILABLE));
            }
        }
    }

    /// Has the standby answer, if this node is primary and there is one.
    async fn at_the_standby(
        &mut self,
        pair: &Pair,
        request: Request<Came>,
    ) -> Result<Answer, Problem> {
        let is_primary = pair.view.borrow().state.role() == Role::Primary;
        let is_there = pair.view.borrow().state.peer.as_ref().is_some_and(|peer| peer.is_up);
        let standby = pair.seen.borrow().as_ref().and_then(Seen::hooks);
        let is_forwarded = request.headers().contains_key(&FORWARDED);
        let (Some(standby), true, true, false) = (standby, is_primary, is_there, is_forwarded)
        else {
            return Ok(self.here(request).await);
        };
        match self.pass_on(request, &standby, std::future::pending()).await? {
            Passed::Answered(answer) => Ok(answer),
            Passed::NotReached { why, .. } => {
                let detail = format!("the standby at {standby} cannot be reached: {why}");
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "standby-unreachable", detail))
            }
        }
    }

    /// Has the node at that address answer; `gone` ends when that is not to be waited for any more.
    async fn pass_on(
        &self,
        request: Request<Came>,
        primary: &str,
        gone: impl Future<Output = ()>,
    ) -> Result<Passed, Problem> {
        let (mut head, body) = request.into_parts();
        let body = body.collect().await.map_err(|error| {
            Problem::bad_request("body-cut-off", format!("the body did not arrive whole: {error}"))
        })?;
        let body = body.to_bytes();
        let unreachable = |error: String| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "primary-unreachable", error)
                .retry_after(RETRY_AFTER)
        };
        let uri = head.uri.clone();
        head.uri =
            at(&uri, primary).ok_or_else(|| unreachable(format!("{primary} is no address")))?;
        head.headers.remove(HOST);
        head.headers.remove(CONNECTION);
        head.headers.insert(FORWARDED, self.node.clone());
        self.signer.sign(&mut head);
        let sent = Request::from_parts(head.clone(), Full::new(body.clone()));
        let unknown = |why: String| {
            unreachable(format!(
                "the node at {primary}, which this was passed on to, {why}: whether it kept the message is not known; \
                 send again, with an idempotency key if it must not come twice"
            ))
        };
        // What has a key may be kept there or not: sent again, it is one message.
        let is_keyed = is_keyed(&uri, &head.headers);
        let not_reached = |mut head: Parts, why: String| {
            head.uri = uri;
            head.headers.remove(&FORWARDED);
            let request = Request::from_parts(head, Either::Right(Full::new(body)));
            Passed::NotReached { request, why }
        };
        let answered = tokio::select! {
            biased;
            answered = tokio::time::timeout(ANSWER, self.pool.request(sent)) => answered,
            () = gone => {
                let why = "is primary no more".to_owned();
                return if is_keyed { Ok(not_reached(head, why)) } else { Err(unknown(why)) };
            }
        };
        match answered {
            Ok(Ok(answer)) if answer.status() == StatusCode::MISDIRECTED_REQUEST => {
                // It kept nothing.
                Ok(not_reached(head, "it is not primary".to_owned()))
            }
            Ok(Ok(answer)) => {
                let (mut head, body) = answer.into_parts();
                head.headers.remove(CONNECTION);
                Ok(Passed::Answered(Response::from_parts(head, Either::Right(Body::new(body)))))
            }
            Ok(Err(error)) if error.is_connect() || is_keyed => {
                Ok(not_reached(head, error.to_string()))
            }
            Ok(Err(error)) => Err(unknown(format!("went away: {error}"))),
            Err(_) => Err(unknown("does not answer".to_owned())),
        }
    }
}

/// A request with all of its body here, so that it can be passed on, and again. Messages find room as they do on the
/// primary; the permit is for as long as the body is held.
async fn collect(
    webhooks: &Webhooks,
    request: Request<Came>,
) -> Result<(Request<Came>, Option<SemaphorePermit<'_>>), Problem> {
    let (head, body) = request.into_parts();
    let (body, room) = if head.uri.path().starts_with(webhook::PREFIX) {
        let (body, room) = webhooks.hold(&head.headers, body).await?;
        (body, Some(room))
    } else {
        (webhook::receive(body, BODY_MAX, BODY_WAIT).await?, None)
    };
    Ok((Request::from_parts(head, Either::Right(Full::new(body))), room))
}

fn accepts_only() -> Problem {
    let detail = "this node does not hear the primary, so it takes messages in and does nothing else until the primary is \
                  there again; if that is gone for good, `tandem pair promote` makes this node primary";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "accept-only", detail)
}

/// Until a frame has waited for the other node for longer than anybody should.
async fn waits_too_long(mut view: watch::Receiver<View>) {
    if view.wait_for(|view| view.waits_for(HOLD)).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn no_standby(what: &str) -> Problem {
    let detail = format!(
        "the standby of this pair is not in sync, and without it nothing is kept here until it is back, or the witness \
         answers, or `mode` in [pair] is `\"auto\"`; {what}"
    );
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no-standby", detail).retry_after(RETRY_AFTER)
}

fn not_primary(status: StatusCode) -> Problem {
    let detail = "no node of this pair is primary now, as far as this one knows; send again, with an idempotency key if it \
                  must not come twice";
    Problem::new(status, "not-primary", detail).retry_after(RETRY_AFTER)
}

/// Whether it is a message that is the same one when it comes again.
fn is_keyed(uri: &Uri, headers: &HeaderMap) -> bool {
    uri.path().starts_with(webhook::PREFIX) && headers.contains_key(webhook::IDEMPOTENCY_KEY)
}

/// Until this node is standby no more, and a little longer: what the other answered before that should be here, also that
/// it has handed over, if that was asked.
async fn overtaken(mut view: watch::Receiver<View>, last_answer: Duration) {
    drop(view.wait_for(|view| view.state.role() != Role::Standby).await);
    tokio::time::sleep(last_answer).await;
}

/// Whether the other node is primary, and there.
fn is_led(view: &View) -> bool {
    let peer = view.state.peer.as_ref();
    peer.is_some_and(|peer| peer.is_up && peer.standing.role == Role::Primary)
}

/// What is set up on the main server stays as it is while the failover server acts.
fn refuse_while_acting<B>(request: &Request<B>) -> Result<(), Problem> {
    let path = request.uri().path();
    let is_deploy = path == "/api/v1/solutions" || path.ends_with("/rollback");
    let is_removal = path.starts_with("/api/v1/solutions/") && *request.method() == Method::DELETE;
    if !path.starts_with("/api/v1/settings") && !is_deploy && !is_removal {
        return Ok(());
    }
    let detail = "the failover server acts for the main server: solutions and settings stay as they are until that is back; \
                  looking, pausing, retrying and discarding work, and `settings_while_acting = true` in [pair] allows the rest";
    Err(Problem::new(StatusCode::CONFLICT, "acting", detail))
}

enum Passed {
    Answered(Answer),
    /// It kept nothing, or what is no more than itself when it comes again.
    NotReached {
        request: Request<Came>,
        why: String,
    },
}

/// The same path on another node.
fn at(uri: &Uri, authority: &str) -> Option<Uri> {
    let path = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority.parse::<Authority>().ok()?)
        .path_and_query(path)
        .build()
        .ok()
}

/// Looking works on both nodes, and what concerns a node itself on that node.
fn needs_primary<B>(request: &Request<B>) -> bool {
    let path = request.uri().path();
    if path.starts_with(webhook::PREFIX) {
        return true;
    }
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let is_own =
        matches!(path, control::PROMOTE | control::ROTATE) || path.starts_with(control::QUARANTINE);
    changes && !is_own
}

impl Service<Request<Incoming>> for Front {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if self.pair.is_none() && request.uri().path().starts_with(webhook::PREFIX) {
            let webhooks = self.webhooks.clone();
            return Box::pin(async move { Ok(webhooks.handle(request).await.map(Either::Left)) });
        }
        let front = self.clone();
        Box::pin(async move { Ok(front.answer(request).await) })
    }
}
