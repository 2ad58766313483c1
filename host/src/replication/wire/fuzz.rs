//! What a fuzzer runs on the messages between the nodes of a pair.

use std::fmt::Debug;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{Part, read_frame, read_holds, read_recovered, read_rows, read_segment};
use crate::{
    model::{fuzz::Input, pair::talk::Said},
    store::{frame::Frame, recover::accepted_in, replicate::Span},
};

/// What is read is what is written: of what is said, frames, rows, recovered messages and segments.
pub fn messages(mut input: Input<'_>) {
    let kind = input.byte();
    let payload = input.rest();
    match kind {
        super::SAID => {
            again::<Said>(payload);
        }
        super::FRAME => frame(payload),
        super::ROWS => {
            let read = read_rows(payload);
            if read.is_ok() {
                let part: Part = postcard::from_bytes(payload).expect("it was read");
                let bytes = postcard::to_stdvec(&part).expect("it is plain data");
                let twice = read_rows(&bytes).expect("what was read can be written");
                assert_eq!(format!("{read:?}"), format!("{:?}", Ok::<_, ()>(twice)));
            }
        }
        super::RECOVERED => {
            if let Ok((name, apart)) = read_recovered(payload) {
                let packed = apart.pack().expect("what was read can be written");
                let again = [&payload[..=usize::from(payload[0])], &packed].concat();
                let twice = read_recovered(&again).expect("what was written can be read");
                assert_eq!(twice, (name, apart));
            }
        }
        super::SEGMENT => {
            if let Ok((key, file)) = read_segment(payload) {
                assert_eq!([&key.to_bytes(), file].concat(), payload);
            }
        }
        _ => {
            again::<Vec<Span>>(payload);
            assert_eq!(
                read_holds(payload).is_ok(),
                postcard::from_bytes::<Vec<Span>>(payload).is_ok()
            );
        }
    }
}

fn again<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(read) = postcard::from_bytes::<T>(bytes) else { return };
    let written = postcard::to_stdvec(&read).expect("what was read can be written");
    assert_eq!(postcard::from_bytes::<T>(&written).expect("it was written"), read);
}

fn frame(payload: &[u8]) {
    let payload = Bytes::copy_from_slice(payload);
    let Ok(came) = read_frame(&payload) else { return };
    let twice = read_frame(&payload).expect("it was read");
    assert_eq!((came.epoch, came.shown, came.before), (twice.epoch, twice.shown, twice.before));
    assert_eq!(came.frame, twice.frame);
    let plain = came.frame.len() <= payload.len();
    assert!(plain || came.frame.len() <= payload.len() * 256, "so much cannot have been packed");
    if let Ok(apart) = accepted_in(&came.frame) {
        let ops = Frame::decode(&came.frame).expect("it was read").ops().count();
        assert!(apart.messages.len() + apart.made.len() <= ops);
    }
}
