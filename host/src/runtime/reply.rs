//! What a component answered: a reply that may be sent as it is, or why not.

use bytes::Bytes;

use super::{
    bindings,
    header::{self, HeaderFault, OF_THE_CONNECTION},
};
use crate::model::{limits::REPLY_BYTES_MAX, outcome::Reply};

/// Why a reply cannot be sent. The component breaks the contract, so the attempt fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReplyFault {
    #[error("its status is {0}; use 200 to 599")]
    Status(u16),
    #[error(transparent)]
    Header(#[from] HeaderFault),
    #[error("its content type has bytes that no header may have")]
    ContentType,
    #[error("it is {0} bytes; the most is {REPLY_BYTES_MAX}")]
    TooLong(usize),
}

pub(super) fn accept(reply: bindings::Reply) -> Result<Reply, ReplyFault> {
    let bindings::Reply { status, headers, content_type, body } = reply;
    if !(200..=599).contains(&status) {
        return Err(ReplyFault::Status(status));
    }
    if body.len() > REPLY_BYTES_MAX {
        return Err(ReplyFault::TooLong(body.len()));
    }
    if content_type.as_deref().is_some_and(|text| !header::is_value(text)) {
        return Err(ReplyFault::ContentType);
    }
    let headers = header::accept(headers, &OF_THE_CONNECTION)?;
    Ok(Reply { status, headers, content_type, body: Bytes::from(body) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16) -> bindings::Reply {
        bindings::Reply { status, headers: vec![], content_type: None, body: vec![] }
    }

    #[test]
    fn status_content_type_headers_and_size_are_looked_at() {
        assert_eq!(accept(reply(200)).unwrap().status, 200);
        assert_eq!(accept(reply(199)), Err(ReplyFault::Status(199)));
        assert_eq!(accept(reply(600)), Err(ReplyFault::Status(600)));
        let content_type = Some("text/plain\n".to_owned());
        let broken = bindings::Reply { content_type, ..reply(200) };
        assert_eq!(accept(broken), Err(ReplyFault::ContentType));
        let headers = vec![bindings::Header { name: "Content-Length".into(), value: b"1".into() }];
        let broken = bindings::Reply { headers, ..reply(200) };
        assert!(matches!(accept(broken), Err(ReplyFault::Header(HeaderFault::Reserved(_)))));
        let broken = bindings::Reply { body: vec![0; REPLY_BYTES_MAX + 1], ..reply(200) };
        assert_eq!(accept(broken), Err(ReplyFault::TooLong(REPLY_BYTES_MAX + 1)));
    }
}
