//! What the store refuses, as an HTTP answer.

use std::time::Duration;

use hyper::StatusCode;

use super::{arrivals::BadRequest, batch::BadBatch, once::BadToken};
use crate::{
    net::problem::Problem,
    store::{ReadError, Refusal, SubmitError},
};

/// What a sender may wait before it sends again to a full queue, or a node that is closing.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (status, code) = match &refusal {
            Refusal::UnknownSolution(_) => (StatusCode::NOT_FOUND, "unknown-solution"),
            Refusal::UnknownSource { .. } => (StatusCode::NOT_FOUND, "unknown-source"),
            Refusal::WrongSourceKind { .. } => (StatusCode::NOT_FOUND, "wrong-source-kind"),
            Refusal::SourcePaused { .. } => (StatusCode::CONFLICT, "source-paused"),
            Refusal::QueueFull { .. } => (StatusCode::TOO_MANY_REQUESTS, "queue-full"),
            Refusal::KeyReused { .. } | Refusal::KeyTwice { .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key-reused")
            }
            Refusal::DiskFull { .. } => (StatusCode::INSUFFICIENT_STORAGE, "disk-full"),
            Refusal::UnknownMessage(_) => (StatusCode::NOT_FOUND, "unknown-message"),
            Refusal::UnknownDelivery { .. } => (StatusCode::NOT_FOUND, "unknown-delivery"),
            Refusal::NotDead(_) => (StatusCode::CONFLICT, "not-dead"),
            Refusal::UnknownRevision { .. } => (StatusCode::NOT_FOUND, "unknown-revision"),
            Refusal::NothingToRollBackTo(_) => (StatusCode::CONFLICT, "nothing-to-roll-back-to"),
            Refusal::StillQueued { .. } => (StatusCode::CONFLICT, "still-queued"),
            Refusal::StillUndelivered { .. } => (StatusCode::CONFLICT, "still-undelivered"),
            Refusal::UnknownSetting { .. } => (StatusCode::NOT_FOUND, "unknown-setting"),
            Refusal::AlreadyFired => (StatusCode::CONFLICT, "already-fired"),
        };
        let problem = Self::new(status, code, refusal.to_string());
        match refusal {
            Refusal::QueueFull { .. } => problem.retry_after(RETRY_AFTER),
            _ => problem,
        }
    }
}

impl From<BadRequest> for Problem {
    fn from(error: BadRequest) -> Self {
        let (status, code) = match &error {
            BadRequest::Event { .. } => (StatusCode::BAD_REQUEST, "bad-cloudevent"),
            BadRequest::Token { error: BadToken::Header(_), .. } => {
                (StatusCode::BAD_REQUEST, "bad-idempotency-key")
            }
            BadRequest::Token { .. } => (StatusCode::BAD_REQUEST, "no-key-in-body"),
            BadRequest::Batch(BadBatch::TooMany(_)) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "batch-too-large")
            }
            BadRequest::Batch(_) => (StatusCode::BAD_REQUEST, "bad-batch"),
            BadRequest::Headers { .. } => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers-too-large")
            }
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Refused(refusal) => refusal.into(),
            SubmitError::NotPrimary => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "not-primary",
                "this node is not primary, and which one is it does not know yet; send again, with an idempotency key if it must not come twice".to_owned(),
            )
            .retry_after(RETRY_AFTER),
            SubmitError::Closed(why) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "store-closed",
                format!("this node cannot keep anything now: {why}; send again, with an idempotency key if it must not come twice"),
            )
            .retry_after(RETRY_AFTER),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        tracing::error!(%error, "the store cannot be read");
        Self::internal(error.to_string())
    }
}
