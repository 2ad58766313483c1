//! A receipt as an HTTP answer.

use std::fmt::{self, Write as _};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};

use crate::{
    model::position::{Durability, Position},
    store::change::once::Receipt,
};

/// Says that all of the request came before.
const DUPLICATE: HeaderName = HeaderName::from_static("tandem-duplicate");

pub(super) fn of_one(receipt: &Receipt, durability: Durability) -> Response<Full<Bytes>> {
    let mut json = String::with_capacity(120);
    write(&mut json, receipt, durability, "").expect("a string takes all");
    accepted(json)
}

/// In the order of the batch. A message that came before is marked.
pub(super) fn of_batch(receipts: &[Receipt], durability: Durability) -> Response<Full<Bytes>> {
    let mut json = String::with_capacity(120 * receipts.len() + 20);
    json.push_str(r#"{"receipts":["#);
    for (at, receipt) in receipts.iter().enumerate() {
        if at > 0 {
            json.push(',');
        }
        let mark = if receipt.is_duplicate { r#","duplicate":true"# } else { "" };
        write(&mut json, receipt, durability, mark).expect("a string takes all");
    }
    json.push_str("]}");
    let response = accepted(json);
    if receipts.iter().all(|receipt| receipt.is_duplicate) { duplicate(response) } else { response }
}

fn write(json: &mut String, receipt: &Receipt, durability: Durability, mark: &str) -> fmt::Result {
    let Receipt { id, position: Position { epoch, seq }, .. } = receipt;
    let durability = durability.disks();
    write!(json, r#"{{"id":"{id}","epoch":{epoch},"seq":{seq},"durability":{durability}{mark}}}"#)
}

fn accepted(json: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(json));
    *response.status_mut() = StatusCode::ACCEPTED;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Marks an answer to what came before.
pub(super) fn duplicate(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response.headers_mut().insert(DUPLICATE, HeaderValue::from_static("true"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::model::message::MessageId;

    #[tokio::test]
    async fn receipts_as_senders_read_them() {
        let position = Position { epoch: 1, seq: 2 };
        let first = Receipt { id: MessageId([0; 16]), position, is_duplicate: false };
        let again = Receipt { is_duplicate: true, ..first };
        let one =
            r#"{"id":"00000000-0000-0000-0000-000000000000","epoch":1,"seq":2,"durability":1}"#;
        let marked = one.replace('}', r#","duplicate":true}"#);
        for (response, json, is_duplicate) in [
            (of_one(&first, Durability::One), one.to_owned(), false),
            (
                of_batch(&[first, again], Durability::One),
                format!(r#"{{"receipts":[{one},{marked}]}}"#),
                false,
            ),
            (
                of_batch(&[again], Durability::Two),
                format!(r#"{{"receipts":[{marked}]}}"#).replace("y\":1", "y\":2"),
                true,
            ),
        ] {
            assert_eq!(response.status(), StatusCode::ACCEPTED);
            assert_eq!(response.headers().contains_key("tandem-duplicate"), is_duplicate);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, json);
        }
    }
}
