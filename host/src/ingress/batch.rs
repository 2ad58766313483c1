//! Many messages in one body: lines of JSON (`application/x-ndjson`) or a JSON array of CloudEvents.
//!
//! Each message is a slice of the body as it came; nothing is written anew.

use std::fmt;

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// Content type of lines of JSON.
pub(super) const LINES: &str = "application/x-ndjson";
/// Messages of one batch.
const MESSAGES_MAX: usize = 10_000;

/// Why a body is no batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadBatch {
    #[error("line {line} is no JSON value: {error}")]
    Line {
        /// From 1.
        line: usize,
        error: String,
    },
    #[error("the body is no JSON array of CloudEvents: {0}")]
    NotAnArray(String),
    #[error("the batch is empty")]
    Empty,
    #[error("the batch has {0} messages, and the most is {MESSAGES_MAX}; send several batches")]
    TooMany(usize),
}

/// The lines of a body, each a JSON value. The last one may end or be blank.
pub(super) fn lines(body: &Bytes) -> Result<Vec<Bytes>, BadBatch> {
    let pieces = body.split(|byte| *byte == b'\n');
    let ended = pieces.clone().count() - 1;
    if ended > MESSAGES_MAX {
        return Err(BadBatch::TooMany(ended));
    }
    let mut messages = Vec::with_capacity(ended + 1);
    let mut pieces = pieces.enumerate().peekable();
    while let Some((at, piece)) = pieces.next() {
        let value = piece.trim_ascii();
        if value.is_empty() && pieces.peek().is_none() {
            break;
        }
        let bad = |error: String| BadBatch::Line { line: at + 1, error };
        if value.is_empty() {
            return Err(bad("it is blank".to_owned()));
        }
        // As text first: what is skipped is not looked into.
        let text = std::str::from_utf8(value).map_err(|error| bad(error.to_string()))?;
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| bad(told(&error)))?;
        messages.push(body.slice_ref(value));
    }
    counted(messages)
}

/// The error without serde's "at line 1", which is the line's own.
fn told(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    format!("{what} at column {}", error.column())
}

/// The elements of a JSON array.
pub(super) fn array(body: &Bytes) -> Result<Vec<Bytes>, BadBatch> {
    let bad = |error: &dyn fmt::Display| BadBatch::NotAnArray(error.to_string());
    let text = std::str::from_utf8(body).map_err(|error| bad(&error))?;
    let Elements { kept, beyond } = serde_json::from_str(text).map_err(|error| bad(&error))?;
    if beyond > 0 {
        return Err(BadBatch::TooMany(kept.len() + beyond));
    }
    counted(kept.into_iter().map(|raw| body.slice_ref(raw.get().as_bytes())).collect())
}

fn counted(messages: Vec<Bytes>) -> Result<Vec<Bytes>, BadBatch> {
    match messages.len() {
        0 => Err(BadBatch::Empty),
        1..=MESSAGES_MAX => Ok(messages),
        more => Err(BadBatch::TooMany(more)),
    }
}

/// Of an array; those beyond [`MESSAGES_MAX`] are only counted, so that memory has a bound.
struct Elements<'a> {
    kept: Vec<&'a RawValue>,
    beyond: usize,
}

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Collect)
    }
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Elements<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let (mut kept, mut beyond) = (Vec::new(), 0);
        while kept.len() < MESSAGES_MAX {
            let Some(raw) = seq.next_element::<&'de RawValue>()? else {
                return Ok(Elements { kept, beyond });
            };
            kept.push(raw);
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            beyond += 1;
        }
        Ok(Elements { kept, beyond })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        split: fn(&Bytes) -> Result<Vec<Bytes>, BadBatch>,
        body: &[u8],
    ) -> Result<Vec<String>, BadBatch> {
        let body = Bytes::copy_from_slice(body);
        let messages = split(&body)?;
        let range = body.as_ptr_range();
        assert!(messages.iter().all(|m| range.contains(&m.as_ptr())), "a message is a slice");
        Ok(messages.iter().map(|m| String::from_utf8(m.to_vec()).unwrap()).collect())
    }

    #[test]
    fn one_value_a_line() {
        for body in
            ["{\"a\": 1}\n2", "{\"a\": 1}\n2\n", " {\"a\": 1}\r\n\t2\r\n", "{\"a\": 1}\n2\n \t"]
        {
            assert_eq!(read(lines, body.as_bytes()).unwrap(), ["{\"a\": 1}", "2"], "{body:?}");
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        for (body, line, says) in [
            (&b"{}\n{\"a\":\n{}"[..], 2, "EOF while parsing a value at column 5"),
            (b"{} {}", 1, "trailing characters at column 4"),
            (b"{}\n\n{}", 2, "it is blank"),
            (b"{}\n{}\n\n", 3, "it is blank"),
            (b"\n{}", 1, "it is blank"),
            (b"{}\n\"\xff\"", 2, "invalid utf-8"),
            (b"{}\n{}\nnul", 3, "column 3"),
        ] {
            let error = read(lines, body).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, BadBatch::Line { line: l, .. } if l == line), "{text}");
            assert!(text.starts_with(&format!("line {line} is no JSON value: ")), "{text}");
            assert!(text.contains(says), "{text}");
        }
    }

    #[test]
    fn an_array_is_cut_where_its_elements_are() {
        let body = br#" [ {"a": [1, 2]} , {"b":"\u00e4]"},3 ] "#;
        assert_eq!(read(array, body).unwrap(), [r#"{"a": [1, 2]}"#, r#"{"b":"\u00e4]"}"#, "3"]);
        for bad in [&b""[..], b"{}", b"[{}", b"[{},]", b"[] []", b"[\"\xff\"]"] {
            assert!(matches!(read(array, bad), Err(BadBatch::NotAnArray(_))), "{bad:?}");
        }
    }

    #[test]
    fn none_and_too_many() {
        for body in ["", "\n", " \r\n"] {
            let empty = read(lines, body.as_bytes()).unwrap_err();
            assert!(matches!(empty, BadBatch::Empty | BadBatch::Line { line: 1, .. }), "{body:?}");
        }
        assert_eq!(read(lines, b""), Err(BadBatch::Empty));
        assert_eq!(read(array, b"[]"), Err(BadBatch::Empty));
        let most = "1\n".repeat(MESSAGES_MAX);
        assert_eq!(read(lines, most.as_bytes()).unwrap().len(), MESSAGES_MAX);
        let more = format!("{most}1");
        assert_eq!(read(lines, more.as_bytes()), Err(BadBatch::TooMany(MESSAGES_MAX + 1)));
        let list = |n: usize| format!("[{}1]", "1,".repeat(n - 1));
        assert_eq!(read(array, list(MESSAGES_MAX).as_bytes()).unwrap().len(), MESSAGES_MAX);
        let more = list(MESSAGES_MAX + 5);
        assert_eq!(read(array, more.as_bytes()), Err(BadBatch::TooMany(MESSAGES_MAX + 5)));
    }
}
