//! Which messages wait for which. Pure.

use serde_json::Value;

use crate::{
    contract::manifest::{KeySource, Order},
    model::message::Message,
};

/// Messages with the same turn are handled one after the other, in order of acceptance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// After every message before it.
    Serial,
    /// After those before it with the same key.
    Key(String),
    /// After nothing.
    Free,
}

pub(super) fn turn_of(order: &Order, message: &Message) -> Turn {
    let key = match order {
        Order::Acceptance => return Turn::Serial,
        Order::None => return Turn::Free,
        Order::Key(KeySource::Key) => message.content.key.clone(),
        Order::Key(KeySource::Header(name)) => header(message, name),
        Order::Key(KeySource::Pointer(pointer)) => pointed_at(&message.content.body, pointer),
    };
    key.map_or(Turn::Free, Turn::Key)
}

fn header(message: &Message, name: &str) -> Option<String> {
    let (_, value) = message.content.headers.iter().find(|(header, _)| header == name)?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// Text, number or truth value at the place; anything else is no key.
fn pointed_at(body: &[u8], pointer: &str) -> Option<String> {
    match serde_json::from_slice::<Value>(body).ok()?.pointer(pointer)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::message::{Content, MessageId};

    fn message(body: &'static str) -> Message {
        Message {
            id: MessageId([0; 16]),
            solution: "s".parse().unwrap(),
            time_ms: 0,
            content: Content {
                source: "in".parse().unwrap(),
                headers: vec![("x-customer".into(), b"c7".to_vec())],
                content_type: None,
                key: Some("k".into()),
                body: Bytes::from_static(body.as_bytes()),
            },
        }
    }

    #[test]
    fn turns() {
        let body = r#"{"customer": {"id": 17, "name": "Ada", "tags": [], "vip": true}}"#;
        let turn = |order| turn_of(&order, &message(body));
        let by = |pointer: &str| turn(Order::Key(KeySource::Pointer(pointer.into())));
        let key = |text: &str| Turn::Key(text.into());
        assert_eq!(turn(Order::Acceptance), Turn::Serial);
        assert_eq!(turn(Order::None), Turn::Free);
        assert_eq!(turn(Order::Key(KeySource::Key)), key("k"));
        assert_eq!(turn(Order::Key(KeySource::Header("x-customer".into()))), key("c7"));
        assert_eq!(turn(Order::Key(KeySource::Header("x-other".into()))), Turn::Free);
        assert_eq!(by("/customer/id"), key("17"));
        assert_eq!(by("/customer/name"), key("Ada"));
        assert_eq!(by("/customer/vip"), key("true"));
        assert_eq!(by("/customer/tags"), Turn::Free);
        assert_eq!(by("/nobody"), Turn::Free);
        let pointer = Order::Key(KeySource::Pointer("/a".into()));
        assert_eq!(turn_of(&pointer, &message("not JSON")), Turn::Free);
    }
}
