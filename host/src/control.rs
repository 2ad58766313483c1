//! What an operator sees and does over HTTP: `/api/v1`, health, metrics.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{
        DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query, Request, State, rejection,
    },
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::{
    dispatch::Dispatch,
    model::{
        clock::{Clock, UnixMs},
        limits::COMPONENT_BYTES_MAX,
        name::Name,
    },
    net::problem::Problem,
    runtime::Engine,
    store::Store,
};

mod deploy;
pub mod drill;
mod letters;
mod messages;
mod metrics;
pub mod pair;
mod settings;
mod solutions;
mod state;
mod status;
pub mod wire;

/// What the handlers work with.
#[derive(Debug)]
pub struct House {
    pub store: Store,
    pub engine: Engine,
    /// While this node is primary.
    pub dispatch: watch::Receiver<Option<Arc<Dispatch>>>,
    pub pair: Option<pair::Pair>,
    pub clock: Clock,
    pub node: String,
    pub listen: String,
    pub data_dir: String,
    pub started_ms: UnixMs,
}

type Shared = State<Arc<House>>;

/// Asked of this node, and not of the primary.
pub const PROMOTE: &str = "/api/v1/pair/promote";
/// The same: whose key is to be another.
pub const ROTATE: &str = "/api/v1/pair/rotate";
/// Each node has its own.
pub const QUARANTINE: &str = "/api/v1/pair/quarantine";

/// A deployment is a manifest and a component in base64.
const DEPLOY_BYTES_MAX: usize = COMPONENT_BYTES_MAX / 3 * 4 + (1 << 20);

/// A body must be here within this time, a component over a slow line too.
const BODY_WAIT: Duration = Duration::from_mins(10);

/// All paths but those of web hooks.
pub fn router(house: Arc<House>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(status::ready))
        .route("/metrics", get(metrics::show))
        .route("/api/v1/status", get(status::show))
        .route("/api/v1/pair", get(pair::show))
        .route("/api/v1/pair/switchover", post(pair::switch_over))
        .route(PROMOTE, post(pair::promote))
        .route(ROTATE, post(pair::rotate))
        .route(drill::DRILL, get(drill::show).post(drill::begin))
        .route(QUARANTINE, get(pair::quarantine))
        .route("/api/v1/pair/quarantine/{id}", get(pair::quarantined).delete(pair::discard))
        .route("/api/v1/pair/quarantine/{id}/replay", post(pair::replay))
        .route("/api/v1/solutions", get(solutions::list).post(deploy::deploy))
        .route("/api/v1/solutions/{name}", get(solutions::show).delete(solutions::remove))
        .route("/api/v1/solutions/{name}/pause", post(solutions::pause))
        .route("/api/v1/solutions/{name}/resume", post(solutions::resume))
        .route("/api/v1/solutions/{name}/rollback", post(solutions::rollback))
        .route("/api/v1/messages", get(messages::list))
        .route("/api/v1/messages/{id}", get(messages::show))
        .route("/api/v1/messages/{id}/retry", post(letters::retry))
        .route("/api/v1/messages/{id}/discard", post(letters::discard))
        .route("/api/v1/deliveries/{id}/{index}/retry", post(letters::retry_delivery))
        .route("/api/v1/deliveries/{id}/{index}/discard", post(letters::discard_delivery))
        .route("/api/v1/settings", get(settings::list))
        .route("/api/v1/settings/{scope}/{name}", put(settings::set))
        .route("/api/v1/settings/{scope}/{name}", delete(settings::unset))
        .route("/api/v1/state/{solution}", get(state::list))
        .route("/api/v1/state/{solution}/{*key}", get(state::show))
        .fallback(|| async {
            Problem::new(StatusCode::NOT_FOUND, "unknown-path", "there is nothing under this path")
        })
        .method_not_allowed_fallback(|| async {
            let detail = "this path does not take this method";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
        })
        .layer(DefaultBodyLimit::max(DEPLOY_BYTES_MAX))
        .with_state(house)
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        Self::into_response(self).map(axum::body::Body::new)
    }
}

/// A JSON body; what is wrong with it is a problem like any other.
struct Body<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match tokio::time::timeout(BODY_WAIT, Json::from_request(request, state)).await {
            Ok(json) => json.map(|Json(body)| Self(body)).map_err(Problem::from),
            Err(_) => Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "body-too-slow",
                format!("the body did not arrive within {BODY_WAIT:?}"),
            )),
        }
    }
}

/// The query of a URL.
#[derive(FromRequestParts)]
#[from_request(via(Query), rejection(Problem))]
struct Asked<T>(T);

/// The variable parts of a path.
#[derive(FromRequestParts)]
#[from_request(via(Path), rejection(Problem))]
struct At<T>(T);

impl From<rejection::JsonRejection> for Problem {
    fn from(rejection: rejection::JsonRejection) -> Self {
        Self::new(rejection.status(), "bad-body", rejection.body_text())
    }
}

impl From<rejection::QueryRejection> for Problem {
    fn from(rejection: rejection::QueryRejection) -> Self {
        Self::new(rejection.status(), "bad-query", rejection.body_text())
    }
}

impl From<rejection::PathRejection> for Problem {
    fn from(rejection: rejection::PathRejection) -> Self {
        Self::new(rejection.status(), "bad-path", rejection.body_text())
    }
}

/// A name that the asker gave.
fn name(text: &str) -> Result<Name, Problem> {
    text.parse().map_err(|error: crate::model::name::InvalidName| {
        Problem::bad_request("bad-name", error.to_string())
    })
}

/// Several sentences, one a line.
fn lines(sentences: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    let mut text = String::new();
    for sentence in sentences {
        let separator = if text.is_empty() { "" } else { "\n" };
        write!(text, "{separator}{sentence}").expect("a string takes all text");
    }
    text
}
