//! Everything that a fuzzer runs: one function for each target in `tests/fuzz`.
//!
//! The first byte of an input chooses one of a target's properties, which stand beside what they are about, in files called
//! `fuzz.rs`. A property that does not hold panics. So does one that takes more memory than its input explains ([`meter`]).

use crate::{
    contract::manifest::parse,
    ingress,
    model::fuzz::{Input, meter},
    net::{
        self,
        keys::{Code, Invitation, Peer},
    },
    node, replication, store, witness,
};

#[cfg(test)]
mod tests;

/// What can be run on an input.
type Property = fn(Input<'_>);

/// Its name in `tests/fuzz`, and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 6] = [
    ("frames", frames),
    ("journal", journal),
    ("rows", rows),
    ("manifest", manifest),
    ("bodies", bodies),
    ("headers", headers),
];

/// Bytes that come over the link between the nodes.
pub fn frames(input: &[u8]) {
    run(
        input,
        4 << 20,
        &[net::link::fuzz::framing, store::fuzz::frame, replication::fuzz::messages],
    );
}

/// The journal's file.
pub fn journal(input: &[u8]) {
    run(input, 32 << 20, &[store::fuzz::journal]);
}

/// Rows and their keys, files of the archive, rows on their way in.
pub fn rows(input: &[u8]) {
    run(input, 32 << 20, &[store::fuzz::row, store::segment::fuzz::file, store::fuzz::staging]);
}

/// What people write: manifests, configurations, schedules.
pub fn manifest(input: &[u8]) {
    run(
        input,
        16 << 20,
        &[manifests, configurations, ingress::schedule::fuzz::cron, ingress::schedule::fuzz::plan],
    );
}

/// Requests to web hooks.
pub fn bodies(input: &[u8]) {
    // A batch may multiply its headers, up to the largest body.
    run(input, 96 << 20, &[ingress::fuzz::request]);
}

/// Headers, codes and records: short texts that somebody else made.
pub fn headers(input: &[u8]) {
    run(
        input,
        4 << 20,
        &[
            ingress::fuzz::names,
            ingress::fuzz::signed,
            ingress::fuzz::forged,
            node::fuzz::believe,
            codes,
            pair_files,
            witness::fuzz::kept,
            witness::fuzz::asks,
            witness::fuzz::names,
        ],
    );
}

/// Runs the property that the first byte chooses. `explained`: bytes that it may hold at once, however short its input is;
/// beyond that, [`meter::PER_BYTE`] for each of the input's.
fn run(input: &[u8], explained: usize, properties: &[Property]) {
    let mut input = Input::new(input);
    let property = properties[usize::from(input.byte()) % properties.len()];
    let length = input.len();
    let held = meter::most_held(|| property(input));
    let most = explained + meter::PER_BYTE * length;
    assert!(held <= most, "{held} bytes were held at once for an input of {length}");
}

/// A manifest that is read is read in the same way again; faults stand in the text.
fn manifests(mut input: Input<'_>) {
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    match (parse::parse(text), parse::parse(text)) {
        (Ok(read), Ok(again)) => {
            assert_eq!(read, again);
            assert!(!read.sources.is_empty());
            assert!((1..=64).contains(&read.version.chars().count()));
        }
        (Err(faults), Err(again)) => {
            let told = faults.to_string();
            assert_eq!(told, again.to_string());
            assert!(!told.is_empty(), "a fault says what it is");
        }
        _ => panic!("it was read differently"),
    }
}

/// The same of `tandem.toml`.
fn configurations(mut input: Input<'_>) {
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    let (read, again) = (node::config::Config::parse(text), node::config::Config::parse(text));
    assert_eq!(format!("{read:?}"), format!("{again:?}"));
    if let Err(faults) = read {
        assert!(!faults.to_string().is_empty(), "a fault says what it is");
    }
}

/// A code is read however it is typed, and shown in one way.
fn codes(mut input: Input<'_>) {
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    let Ok(code) = text.parse::<Code>() else { return };
    let shown = code.to_string();
    assert_eq!(shown.parse().as_ref(), Ok(&code));
    assert_eq!(shown.to_lowercase().replace('-', " ").parse(), Ok(code));
}

/// Files in a pair's folder that are JSON.
fn pair_files(mut input: Input<'_>) {
    let now_ms = input.long();
    let text = input.rest();
    if let Ok(invitation) = serde_json::from_slice::<Invitation>(text) {
        let written = serde_json::to_vec(&invitation).expect("it is plain data");
        assert_eq!(
            serde_json::from_slice::<Invitation>(&written).expect("it was written"),
            invitation
        );
        assert!(!invitation.is_open(now_ms) || now_ms < invitation.expires_ms);
    }
    if let Ok(peer) = serde_json::from_slice::<Peer>(text) {
        let written = serde_json::to_vec(&peer).expect("it is plain data");
        assert_eq!(serde_json::from_slice::<Peer>(&written).expect("it was written"), peer);
    }
}
