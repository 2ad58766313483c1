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

/// The reply; none if handling was not over in time.
pub(super) async fn reply(
    store: &Store,
    id: MessageId,
    patience: Duration,
) -> Result<Option<Response<Full<Bytes>>>, Problem> {
    let finished = &store.signals().finished;
    let over = finished.register(id);
    // It may have been over before we began to wait.
    if let Some(response) = answer(store, id)? {
        drop(over);
        finished.forget(id);
        return Ok(Some(response));
    }
    let in_time = tokio::time::timeout(patience, over).await.is_ok();
    if !in_time {
        finished.forget(id);
    }
    answer(store, id)
}

fn answer(store: &Store, id: MessageId) -> Result<Option<Response<Full<Bytes>>>, Problem> {
    let snapshot = store.read()?;
    // A sender that asks again, with the key that it sent before, may find the first long finished and moved.
    let life = match snapshot.get::<LifeRow>(Table::Lives, &id.0)? {
        None => snapshot.record(id)?.and_then(|record| record.life),
        life => life,
    };
    let Some(LifeRow { status, mut attempts }) = life else { return Ok(None) };
    if matches!(status, StatusRow::Again { .. }) {
        return Ok(None);
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
    Ok(Some(response))
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
