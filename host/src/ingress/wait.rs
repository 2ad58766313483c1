//! A sender waits until its message's handling is over, and is answered with what came of it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};

use crate::{
    model::message::MessageId,
    net::problem::Problem,
    store::{
        Store,
        row::life::{LifeRow, OutcomeRow, ReplyRow, StatusRow},
        table::Table,
    },
};

const ID_HEADER: HeaderName = HeaderName::from_static("tandem-message-id");

/// What a look at a message tells.
enum Found {
    Over(Response<Full<Bytes>>),
    NotYet,
    /// Its key is remembered for longer than it was kept.
    Gone,
}

/// The reply; none if handling was not over in time, or so long ago that nobody knows it any more.
pub(super) async fn reply(
    store: &Store,
    id: MessageId,
    patience: Duration,
) -> Result<Option<Response<Full<Bytes>>>, Problem> {
    let finished = &store.signals().finished;
    let over = finished.register(id);
    // It may have been over before we began to wait.
    let known = match look(store, id)? {
        Found::NotYet => None,
        Found::Over(response) => Some(Some(response)),
        Found::Gone => Some(None),
    };
    if let Some(known) = known {
        drop(over);
        finished.forget(id);
        return Ok(known);
    }
    let in_time = tokio::time::timeout(patience, over).await.is_ok();
    if !in_time {
        finished.forget(id);
    }
    Ok(match look(store, id)? {
        Found::Over(response) => Some(response),
        Found::NotYet | Found::Gone => None,
    })
}

fn look(store: &Store, id: MessageId) -> Result<Found, Problem> {
    let snapshot = store.read()?;
    let mut life = snapshot.get::<LifeRow>(Table::Lives, &id.0)?;
    if life.is_none() {
        if snapshot.table(Table::Messages)?.contains(&id.0)? {
            return Ok(Found::NotYet);
        }
        // A sender that asks again, with the key that it sent before, may find the first long finished and moved.
        life = snapshot.record(id)?.and_then(|record| record.life);
    }
    let Some(LifeRow { status, mut attempts }) = life else { return Ok(Found::Gone) };
    if matches!(status, StatusRow::Again { .. }) {
        return Ok(Found::NotYet);
    }
    let mut response = match attempts.pop().map(|attempt| attempt.outcome) {
        Some(OutcomeRow::Done { reply: Some(reply) }) => solution_reply(reply),
        Some(OutcomeRow::Done { reply: None }) => {
            let mut response =
                Response::new(Full::from(format!(r#"{{"id":"{id}","status":"done"}}"#)));
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            response
        }
        Some(OutcomeRow::Rejected { reason }) => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "rejected", reason).into_response()
        }
        _ => Problem::new(
            StatusCode::BAD_GATEWAY,
            "not-handled",
            format!(
                "the solution could not handle the message; `tandem messages show {id}` tells why"
            ),
        )
        .into_response(),
    };
    let id = HeaderValue::from_str(&id.to_string()).expect("an id is ASCII");
    response.headers_mut().insert(ID_HEADER, id);
    Ok(Found::Over(response))
}

fn solution_reply(reply: ReplyRow) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(reply.body));
    // The runtime let only valid ones through; an old row may still hold others.
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    for (name, value) in reply.headers {
        let name = HeaderName::try_from(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(&value)) {
            headers.append(name, value);
        }
    }
    if let Some(value) = reply.content_type.and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(CONTENT_TYPE, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::{model::clock::Clock, store::tests::config};

    #[tokio::test]
    async fn nobody_waits_for_a_message_whose_time_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&config(dir.path()), Clock::system()).unwrap();
        let (began, patience) = (Instant::now(), Duration::from_mins(5));
        assert!(matches!(reply(&store, MessageId([7; 16]), patience).await, Ok(None)));
        assert!(began.elapsed() < patience);
        assert!(!store.signals().finished.is_awaited());
    }
}
