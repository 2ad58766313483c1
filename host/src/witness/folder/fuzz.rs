//! What a fuzzer runs on a witness: what it keeps, what it is asked, and the names in its folder.

use super::{Kept, Shelf};
use crate::{
    model::{
        fuzz::Input,
        pair::{Ask, PairId, Record},
    },
    witness::{Token, wire::Answer},
};

/// A record that is read is written again as the same.
pub fn kept(mut input: Input<'_>) {
    let bytes = input.rest();
    let Some(kept) = Kept::decode(bytes) else { return };
    let written = kept.encode();
    assert!(written.len() <= bytes.len(), "bytes of a record were not read");
    assert_eq!(Kept::decode(&written), Some(kept));
    assert_eq!(Kept::decode(&[bytes, &[0]].concat()), None, "something behind it was passed over");
}

/// What is asked and answered over HTTP, and what the asks make of a record.
pub fn asks(mut input: Input<'_>) {
    let length = usize::from(input.short());
    let rest = input.rest();
    let (record, asks) = rest.split_at(length.min(rest.len()));
    let mut record = serde_json::from_slice::<Answer>(record).ok().and_then(|answer| answer.record);
    for line in asks.split(|byte| *byte == b'\n') {
        let Ok(ask) = serde_json::from_slice::<Ask>(line) else { continue };
        let text = serde_json::to_vec(&ask).expect("it is plain data");
        assert_eq!(serde_json::from_slice::<Ask>(&text).expect("it was written"), ask);
        let Some(next) = Record::after(record.as_ref(), &ask) else { continue };
        rules(record.as_ref(), &ask, &next);
        assert_eq!(
            Record::after(Some(&next), &ask),
            None,
            "an ask that comes twice is granted once"
        );
        record = Some(next);
    }
}

/// What no ask may do, whatever it says.
fn rules(before: Option<&Record>, ask: &Ask, after: &Record) {
    let Some(before) = before else {
        return assert!(matches!(ask, Ask::Begin { .. }), "nothing else makes a record");
    };
    assert!(after.is_newer_than(before), "a record only goes forward");
    assert!(after.in_sync.has(after.owner), "who is primary is in sync");
    let seized = matches!(ask, Ask::Seize { .. });
    assert!(seized || before.in_sync.has(after.owner), "who becomes primary was in sync");
    if after.owner != before.owner {
        assert_eq!(after.epoch, before.epoch + 1, "another primary is another epoch");
    }
}

/// Names in the folder: this pair's, or nobody's.
pub fn names(mut input: Input<'_>) {
    let shelf = Shelf { dir: "/nowhere".into(), pair: PairId([0xa5; 16]) };
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    for name in [text, &format!("{}.{text}", shelf.pair)] {
        if let Some(parsed) = shelf.parse(name) {
            assert_eq!(shelf.name(&parsed), *name);
            assert!(
                parsed.revision.checked_add(super::KEPT_REVISIONS).is_some(),
                "nothing comes after {name}"
            );
        }
    }
    if let Ok(id) = text.parse::<PairId>() {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
    }
    if Token::new(text).is_ok() {
        assert!(!text.contains(char::is_whitespace));
    }
}
