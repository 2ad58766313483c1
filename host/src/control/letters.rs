//! Dead letters: tried once more, or let go.

use axum::{extract::State, http::StatusCode};

use super::{At, Shared};
use crate::{
    model::message::MessageId,
    net::problem::Problem,
    store::{
        Change, Refusal, Store, SubmitError,
        change::dead_letter::{DiscardDelivery, DiscardMessage, RetryDelivery, RetryMessage},
    },
};

pub(super) fn id(text: &str) -> Result<MessageId, Problem> {
    MessageId::parse(text).ok_or_else(|| {
        let detail = "a message id is a UUID, as in 0199a3f2-7c1e-7000-8000-3b6f1c2d4e5f";
        Problem::bad_request("bad-id", detail)
    })
}

async fn keep(store: &Store, change: impl Change) -> Result<StatusCode, Problem> {
    match store.submit(change).await {
        // One in a segment is known, and over.
        Err(SubmitError::Refused(Refusal::UnknownMessage(id)))
            if store.read()?.record(id)?.is_some() =>
        {
            Err(Refusal::NotDead(id).into())
        }
        kept => Ok(kept.map(|_| StatusCode::NO_CONTENT)?),
    }
}

pub(super) async fn retry(
    State(house): Shared,
    At(text): At<String>,
) -> Result<StatusCode, Problem> {
    keep(&house.store, RetryMessage { id: id(&text)? }).await
}

pub(super) async fn discard(
    State(house): Shared,
    At(text): At<String>,
) -> Result<StatusCode, Problem> {
    keep(&house.store, DiscardMessage { id: id(&text)? }).await
}

pub(super) async fn retry_delivery(
    State(house): Shared,
    At((text, index)): At<(String, u16)>,
) -> Result<StatusCode, Problem> {
    keep(&house.store, RetryDelivery { id: id(&text)?, index }).await
}

pub(super) async fn discard_delivery(
    State(house): Shared,
    At((text, index)): At<(String, u16)>,
) -> Result<StatusCode, Problem> {
    keep(&house.store, DiscardDelivery { id: id(&text)?, index }).await
}
