//! What a fuzzer runs on the bytes that come over a link, after TLS.

use bytes::{BufMut, Bytes};

use super::framing::{Decoder, TooLong, head};
use crate::model::fuzz::Input;

/// Longest payload: small, so that it is met.
const MOST: u32 = 100_000;

/// However a stream is cut, it gives the same messages, and they make the same stream again.
pub fn framing(mut input: Input<'_>) {
    let cut = usize::from(input.short()) + 1;
    let stream = input.rest();
    let (messages, refused) = decode(stream, cut);
    assert_eq!((&messages, refused), (&decode(stream, 1).0, decode(stream, 1).1));
    let again: Vec<u8> =
        messages.iter().flat_map(|(kind, payload)| encode(*kind, payload)).collect();
    assert!(stream.starts_with(&again), "the messages are not what came");
    if let Some(TooLong { length }) = refused {
        assert!(length > MOST, "{length} bytes are not too many");
    }
}

fn encode(kind: u8, payload: &Bytes) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("it is at most MOST");
    [&head(length, kind)[..], payload].concat()
}

/// The stream in pieces of `cut` bytes at most; what it holds, and whether it was refused.
fn decode(mut stream: &[u8], cut: usize) -> (Vec<(u8, Bytes)>, Option<TooLong>) {
    let (mut decoder, mut messages) = (Decoder::new(MOST), Vec::new());
    loop {
        loop {
            match decoder.next() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(refused) => return (messages, Some(refused)),
            }
        }
        if stream.is_empty() {
            return (messages, None);
        }
        let mut room = decoder.room();
        assert!(room.remaining_mut() > 0, "there is always room");
        let (piece, rest) = stream.split_at(stream.len().min(cut).min(room.remaining_mut()));
        room.put_slice(piece);
        stream = rest;
    }
}
