//! What an attempt has written and asked for so far, within its bounds. Handed on only if the attempt is done.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;

use crate::{
    contract::handler::{Effects, Publication, Request},
    model::{
        limits::{EFFECT_BYTES_MAX, EFFECTS_MAX},
        message::Header,
    },
};

#[derive(Debug, Default)]
pub(super) struct Pending {
    state: BTreeMap<String, Option<Bytes>>,
    outbox: Vec<Request>,
    publish: Vec<Publication>,
    bytes: usize,
}

/// A bound of the whole attempt was met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooMuch {
    #[error(
        "this attempt would write and ask for {asked_bytes} bytes; the most is {EFFECT_BYTES_MAX}"
    )]
    Bytes { asked_bytes: usize },
    #[error("this attempt asked for {EFFECTS_MAX} already, which is the most")]
    Count,
}

impl Pending {
    /// The attempt's own last write of `key`, if any; an inner `None` is a deletion.
    pub(super) fn written(&self, key: &str) -> Option<&Option<Bytes>> {
        self.state.get(key)
    }

    /// The attempt's own writes from a key on, in key order.
    pub(super) fn written_from(
        &self,
        from: Bound<&str>,
    ) -> impl Iterator<Item = (&str, Option<&Bytes>)> {
        let range = self.state.range::<str, _>((from, Bound::Unbounded));
        range.map(|(key, value)| (key.as_str(), value.as_ref()))
    }

    pub(super) fn write(&mut self, key: String, value: Option<Bytes>) -> Result<(), TooMuch> {
        let size = |value: &Option<Bytes>| key.len() + value.as_ref().map_or(0, Bytes::len);
        let before = self.state.get(&key).map_or(0, size);
        self.bytes = fitting(self.bytes - before, size(&value))?;
        self.state.insert(key, value);
        Ok(())
    }

    /// The place of the request in the outbox of this attempt.
    pub(super) fn send(&mut self, request: Request) -> Result<u16, TooMuch> {
        let index = room(self.outbox.len())?;
        let size = request.method.len()
            + request.url.len()
            + header_bytes(&request.headers)
            + request.body.len()
            + request.order.as_ref().map_or(0, String::len);
        self.bytes = fitting(self.bytes, size)?;
        self.outbox.push(request);
        Ok(index)
    }

    pub(super) fn publish(&mut self, publication: Publication) -> Result<(), TooMuch> {
        room(self.publish.len())?;
        let content = &publication.content;
        let size = header_bytes(&content.headers)
            + content.content_type.as_ref().map_or(0, String::len)
            + content.key.as_ref().map_or(0, String::len)
            + content.body.len();
        self.bytes = fitting(self.bytes, size)?;
        self.publish.push(publication);
        Ok(())
    }

    pub(super) fn into_effects(self) -> Effects {
        Effects {
            state: self.state.into_iter().collect(),
            outbox: self.outbox,
            publish: self.publish,
        }
    }
}

fn header_bytes(headers: &[Header]) -> usize {
    headers.iter().map(|(name, value)| name.len() + value.len()).sum()
}

fn fitting(bytes: usize, more: usize) -> Result<usize, TooMuch> {
    match bytes + more {
        sum if sum <= EFFECT_BYTES_MAX => Ok(sum),
        asked_bytes => Err(TooMuch::Bytes { asked_bytes }),
    }
}

fn room(count: usize) -> Result<u16, TooMuch> {
    u16::try_from(count)
        .ok()
        .filter(|index| usize::from(*index) < EFFECTS_MAX)
        .ok_or(TooMuch::Count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(count: usize) -> Bytes {
        Bytes::from(vec![0; count])
    }

    #[test]
    fn the_last_write_of_a_key_counts_once() {
        let mut pending = Pending::default();
        for _ in 0..3 {
            pending.write("k".into(), Some(bytes(EFFECT_BYTES_MAX - 1))).unwrap();
        }
        let refused = pending.write("l".into(), None).unwrap_err();
        assert_eq!(refused, TooMuch::Bytes { asked_bytes: EFFECT_BYTES_MAX + 1 });
        pending.write("k".into(), None).unwrap();
        pending.write("l".into(), Some(bytes(1))).unwrap();
        let state = pending.into_effects().state;
        assert_eq!(state, [("k".to_owned(), None), ("l".to_owned(), Some(bytes(1)))]);
    }

    #[test]
    fn the_number_of_requests_is_bounded() {
        let mut pending = Pending::default();
        let request = Request {
            method: "GET".into(),
            url: "https://example.com".into(),
            headers: vec![],
            body: Bytes::new(),
            order: None,
        };
        for index in 0..EFFECTS_MAX {
            assert_eq!(usize::from(pending.send(request.clone()).unwrap()), index);
        }
        assert_eq!(pending.send(request).unwrap_err(), TooMuch::Count);
        assert_eq!(pending.into_effects().outbox.len(), EFFECTS_MAX);
    }
}
