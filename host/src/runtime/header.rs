//! Headers that a component hands over: which are well-formed, and which are the host's own.

use hyper::header::{HeaderName, HeaderValue};

use super::bindings;
use crate::model::{
    limits::{HEADER_BYTES_MAX, HEADERS_MAX},
    message::Header,
};

/// Made by the host for each connection; a component's own would contradict them.
pub(super) const OF_THE_CONNECTION: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Why headers are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeaderFault {
    #[error("`{0}` is no header name")]
    Name(String),
    #[error("the value of header `{0}` has bytes that no header may have")]
    Value(String),
    #[error("header `{0}` is set by Tandem; leave it away")]
    Reserved(String),
    #[error("the headers are {0} bytes; the most is {HEADER_BYTES_MAX}")]
    TooLong(usize),
    #[error("these are {0} headers; the most is {HEADERS_MAX}")]
    TooMany(usize),
}

/// The headers with their names in lower case, if all of them may be used.
pub(super) fn accept(
    headers: Vec<bindings::Header>,
    reserved: &[&str],
) -> Result<Vec<Header>, HeaderFault> {
    if headers.len() > HEADERS_MAX {
        return Err(HeaderFault::TooMany(headers.len()));
    }
    let size = headers.iter().map(|header| header.name.len() + header.value.len()).sum();
    if size > HEADER_BYTES_MAX {
        return Err(HeaderFault::TooLong(size));
    }
    headers.into_iter().map(|header| accept_one(header, reserved)).collect()
}

fn accept_one(header: bindings::Header, reserved: &[&str]) -> Result<Header, HeaderFault> {
    let bindings::Header { name, value } = header;
    let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
        return Err(HeaderFault::Name(name.chars().take(100).collect()));
    };
    let name = parsed.as_str().to_owned();
    if reserved.contains(&name.as_str()) {
        return Err(HeaderFault::Reserved(name));
    }
    match HeaderValue::from_bytes(&value) {
        Ok(_) => Ok((name, value)),
        Err(_) => Err(HeaderFault::Value(name)),
    }
}

/// Whether `text` can be the value of a header such as `content-type`.
pub(super) fn is_value(text: &str) -> bool {
    HeaderValue::from_str(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &[u8]) -> bindings::Header {
        bindings::Header { name: name.to_owned(), value: value.to_vec() }
    }

    #[test]
    fn names_become_lower_case_and_values_stay_bytes() {
        let accepted = accept(vec![header("X-Trace", b"\xe4 b")], &OF_THE_CONNECTION).unwrap();
        assert_eq!(accepted, [("x-trace".to_owned(), b"\xe4 b".to_vec())]);
    }

    #[test]
    fn each_refusal_names_the_header() {
        let long = "x".repeat(HEADER_BYTES_MAX);
        let table = [
            (header("a b", b""), HeaderFault::Name("a b".into())),
            (header("", b""), HeaderFault::Name(String::new())),
            (header("a", b"1\r\nb: 2"), HeaderFault::Value("a".into())),
            (header("Host", b"x"), HeaderFault::Reserved("host".into())),
            (header("a", long.as_bytes()), HeaderFault::TooLong(HEADER_BYTES_MAX + 1)),
        ];
        for (header, fault) in table {
            assert_eq!(accept(vec![header], &OF_THE_CONNECTION), Err(fault));
        }
    }

    #[test]
    fn empty_headers_count_too() {
        let empty = |n| vec![header("a", b""); n];
        assert_eq!(accept(empty(HEADERS_MAX), &[]).unwrap().len(), HEADERS_MAX);
        assert_eq!(accept(empty(HEADERS_MAX + 1), &[]), Err(HeaderFault::TooMany(HEADERS_MAX + 1)));
    }
}
