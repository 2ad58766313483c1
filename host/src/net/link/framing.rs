//! Messages on a stream of bytes: `length u32 big-endian · kind u8 · payload`, where the length is the payload's.

use bytes::{Buf, BufMut, Bytes, BytesMut, buf::Limit};

/// Before each payload, in bytes.
pub(super) const HEAD: usize = 5;
/// A longer payload gets memory of its own; shorter ones share a block with their neighbours.
const SHARED_MAX: usize = 16 << 10;
/// Memory that is got at once, in bytes.
const BLOCK: usize = 64 << 10;
/// With less room than this left in a block, the next one begins.
const ROOM_MIN: usize = 4 << 10;

/// A message announces more than may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong {
    pub length: u32,
}

/// The bytes before a payload.
pub(super) fn head(length: u32, kind: u8) -> [u8; HEAD] {
    let [a, b, c, d] = length.to_be_bytes();
    [a, b, c, d, kind]
}

/// Cuts a stream into messages, however it comes. Its memory grows with the bytes that came, not with those announced.
#[derive(Debug)]
pub(super) struct Decoder {
    /// Of a payload, in bytes.
    most: u32,
    block: BytesMut,
    long: Option<Long>,
}

/// A payload with memory of its own, as far as it came.
#[derive(Debug)]
struct Long {
    kind: u8,
    length: usize,
    came: BytesMut,
}

impl Decoder {
    pub fn new(most: u32) -> Self {
        Self { most, block: BytesMut::new(), long: None }
    }

    /// The next message, if all of it came.
    pub fn next(&mut self) -> Result<Option<(u8, Bytes)>, TooLong> {
        if self.long.is_none() {
            let Some((&[a, b, c, d, kind], came)) = self.block.split_first_chunk() else {
                return Ok(None);
            };
            let announced = u32::from_be_bytes([a, b, c, d]);
            if announced > self.most {
                return Err(TooLong { length: announced });
            }
            let length = announced as usize;
            if length <= SHARED_MAX {
                if came.len() < length {
                    return Ok(None);
                }
                self.block.advance(HEAD);
                return Ok(Some((kind, self.block.split_to(length).freeze())));
            }
            let came = BytesMut::from(&came[..came.len().min(length)]);
            self.block.advance(HEAD + came.len());
            self.long = Some(Long { kind, length, came });
        }
        let done = self.long.take_if(|long| long.came.len() == long.length);
        Ok(done.map(|long| (long.kind, long.came.freeze())))
    }

    /// Where the bytes that come next belong. There is always room.
    pub fn room(&mut self) -> Limit<&mut BytesMut> {
        if let Some(Long { length, came, .. }) = &mut self.long {
            let missing = *length - came.len();
            if came.capacity() == came.len() {
                came.reserve(missing.min(came.len().max(BLOCK)));
            }
            return came.limit(missing);
        }
        if self.block.capacity() - self.block.len() < ROOM_MIN {
            self.block.reserve(BLOCK);
        }
        let room = self.block.capacity() - self.block.len();
        (&mut self.block).limit(room)
    }

    /// Whether all that came was messages, so that a stream may end here.
    pub fn is_between_messages(&self) -> bool {
        self.block.is_empty() && self.long.is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Hands over the stream in pieces, as large as there is room for and at most `cuts` long, in turns.
    fn decode(most: u32, stream: &[u8], cuts: &[usize]) -> Result<Vec<(u8, Bytes)>, TooLong> {
        let mut decoder = Decoder::new(most);
        let mut messages = Vec::new();
        let (mut rest, mut cuts) = (stream, cuts.iter().cycle());
        loop {
            while let Some(message) = decoder.next()? {
                messages.push(message);
            }
            if rest.is_empty() {
                assert!(decoder.is_between_messages());
                return Ok(messages);
            }
            let mut room = decoder.room();
            let piece = rest.len().min(room.remaining_mut()).min(*cuts.next().unwrap());
            room.put_slice(&rest[..piece]);
            rest = &rest[piece..];
        }
    }

    fn encode(messages: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut stream = Vec::new();
        for (kind, payload) in messages {
            stream.extend(head(payload.len().try_into().unwrap(), *kind));
            stream.extend(payload);
        }
        stream
    }

    fn payload() -> impl Strategy<Value = Vec<u8>> {
        let filled = |length: usize, byte: u8| vec![byte; length];
        prop_oneof![
            vec(any::<u8>(), 0..40),
            (0..SHARED_MAX + 2, any::<u8>()).prop_map(move |(n, byte)| filled(n, byte)),
            (SHARED_MAX..300_000, any::<u8>()).prop_map(move |(n, byte)| filled(n, byte)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn however_the_stream_is_cut_the_messages_are_the_same(
            messages in vec((any::<u8>(), payload()), 0..12),
            cuts in vec(prop_oneof![1usize..9, 1usize..200_000], 1..8),
        ) {
            let came = decode(300_000, &encode(&messages), &cuts).unwrap();
            let came: Vec<_> = came.into_iter().map(|(kind, bytes)| (kind, bytes.to_vec())).collect();
            prop_assert_eq!(came, messages);
        }
    }

    #[test]
    fn what_is_announced_beyond_the_bound_is_refused_by_its_head() {
        let stream = encode(&[(1, vec![0; 100]), (2, vec![0; 101])]);
        assert_eq!(decode(101, &stream, &[7]).unwrap().len(), 2);
        assert_eq!(decode(100, &stream[..HEAD + 100 + HEAD], &[7]), Err(TooLong { length: 101 }));
    }

    #[test]
    fn memory_grows_with_what_came_and_not_with_what_is_announced() {
        let mut decoder = Decoder::new(u32::MAX);
        decoder.room().put_slice(&head(u32::MAX, 0));
        for came in [0_usize, 1000, 70_000, 500_000] {
            while decoder.long.as_ref().map_or(0, |long| long.came.len()) < came {
                decoder.next().unwrap();
                decoder.room().put_slice(&[7; 100]);
            }
            assert_eq!(decoder.next(), Ok(None));
            let _ = decoder.room();
            let held = decoder.block.capacity() + decoder.long.as_ref().unwrap().came.capacity();
            assert!(held <= 2 * came + 3 * BLOCK, "{held} bytes are held for {came}");
        }
        assert!(!decoder.is_between_messages());
    }
}
