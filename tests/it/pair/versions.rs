//! The other node runs another program: an older one, a newer one, one that cannot be followed.

use serde_json::json;
use tandem::model::{
    pair::{
        InSync, Record, Role,
        talk::{Hello, PROTOCOLS, Said, Standing},
    },
    position::Position,
};
use tandem_tests::{
    PairUnderTest, Side, Solution,
    peer::{Heard, PeerUnderTest},
    wait_for, wait_until,
};

use crate::TANDEM;

/// A pair of which one node is gone, for a test to play it.
fn half(gone: Side) -> PairUnderTest {
    let mut pair = TANDEM.pair().start();
    pair.main.deploy(&Solution::lean());
    pair.wait_even();
    pair.node_mut(gone).kill9();
    pair.wait_status(gone.other(), "it goes on alone", |status| {
        status["role"] == "primary" && status["sync"] == "alone"
    });
    pair
}

fn play(pair: &PairUnderTest, gone: Side) -> PeerUnderTest {
    let data_dir = pair.node(gone).data_dir();
    let address = pair.link(gone.other());
    wait_for("the node takes a link", || {
        PeerUnderTest::dial(address, &data_dir, gone == Side::Main)
    })
}

#[track_caller]
fn warns(pair: &PairUnderTest, side: Side, text: &str) {
    pair.wait_status(side, &format!("it warns of `{text}`"), |status| {
        status["warnings"].to_string().contains(text)
    });
    wait_until(&format!("the log of {side:?} has `{text}`: {}", pair.node(side).log()), || {
        pair.node(side).log().contains(text)
    });
}

/// It takes frames of the version that it knows, and receipts are on two disks.
#[test]
fn an_older_program_is_a_standby() {
    let pair = half(Side::Failover);
    let mut peer = play(&pair, Side::Failover);
    peer.hello = Hello { protocols: (0, PROTOCOLS.0), frames: 1, ..peer.hello.clone() };
    peer.introduce();
    let mut head = 0;
    let mut versions = Vec::new();
    peer.hear_until(|peer, heard| {
        if let Heard::Frame(before, frame) = heard {
            versions.push(frame[0]);
            let number = |at: usize| u64::from_be_bytes(frame[at..at + 8].try_into().unwrap());
            let epoch = pair.status(Side::Main).unwrap()["epoch"].as_u64().unwrap();
            head = number(9);
            peer.say(&Said::Has { epoch, seq: head, chain: before.next(&frame) });
        }
        let status = pair.status(Side::Main).unwrap();
        (status["sync"] == "both").then_some(())
    });
    assert!(head > 1 && versions.iter().all(|version| *version == 1), "{versions:?}");
    assert_eq!(pair.status(Side::Main).unwrap()["head"], head);
    let warnings = &pair.status(Side::Main).unwrap()["warnings"];
    assert!(!warnings.to_string().contains("There is no pair"), "{warnings}");
}

/// They have no language in common: both are told, and the primary goes on.
#[test]
fn a_program_of_the_next_protocol_only_is_turned_away() {
    let mut pair = half(Side::Failover);
    let next = PROTOCOLS.1 + 1;
    // One whose greeting is understood, one whose greeting looks different behind its beginning.
    for is_understood in [true, false] {
        let mut peer = play(&pair, Side::Failover);
        peer.hello.protocols = (next, next);
        if is_understood {
            peer.introduce();
        } else {
            peer.say_bytes(&postcard::to_stdvec(&(0_u32, (next, next), true)).unwrap());
        }
        let why = peer.hear_refusal();
        assert!(why.contains(&format!("it speaks protocol {next} to {next}, this node")), "{why}");
        assert!(why.contains("upgrade the older one"), "{why}");
        warns(&pair, Side::Main, "upgrade the older one");
        let status = pair.status(Side::Main).unwrap();
        assert_eq!((&status["role"], &status["sync"]), (&json!("primary"), &json!("alone")));
        pair.main.accept("lean/in", "a");
    }
    // The right program is back.
    pair.failover.launch();
    pair.wait_even();
    assert_eq!(pair.status(Side::Main).unwrap()["warnings"], json!([]));
}

#[test]
fn a_program_that_cannot_take_the_frames_is_turned_away() {
    let pair = half(Side::Failover);
    let mut peer = play(&pair, Side::Failover);
    peer.hello.frames = 0;
    peer.introduce();
    let why = peer.hear_refusal();
    assert!(why.contains("takes frames up to version 0"), "{why}");
    warns(&pair, Side::Main, "takes frames up to version 0");
    pair.main.accept("lean/in", "a");
}

/// A primary makes a frame that this program does not know: it stops before it, says so on both sides, and skips nothing.
#[test]
fn a_frame_of_a_newer_program_stops_the_standby() {
    let mut pair = half(Side::Main);
    for (version, op, text) in [
        (2, &[8, 1, 1, b'k', 1, b'v'][..], "frame version 2 is not known"),
        (1, &[8, 9, 1, b'k'], "operation 9 is not known"),
        (1, &[200, 2, 1, b'k'], "table 200 is not known"),
    ] {
        let mut peer = play(&pair, Side::Main);
        let before = pair.status(Side::Failover).unwrap();
        // It says to have taken over meanwhile.
        let epoch = before["epoch"].as_u64().unwrap() + 1;
        let owner = peer.hello.store;
        let in_sync = InSync::Only(owner);
        let record = Record { epoch, owner, in_sync, version: 0 };
        peer.hello.standing = Standing { role: Role::Primary, epoch, record: Some(record) };
        peer.introduce();
        let (position, chain) = peer.hear_until(|_, heard| match heard {
            Heard::Said(Said::Hello(hello)) if hello.standing.role == Role::Standby => {
                Some((hello.tips[0].position, hello.tips[0].chain))
            }
            _ => None,
        });
        peer.give(epoch, chain, &frame(version, Position { epoch, seq: position.seq + 1 }, op));
        let why = peer.hear_refusal();
        assert!(why.contains(text) && why.contains("upgrade that node"), "{why}");
        warns(&pair, Side::Failover, text);
        let warnings = pair.status(Side::Failover).unwrap()["warnings"].to_string();
        assert!(warnings.contains(&format!("stopped behind frame {position}")), "{warnings}");
        assert_eq!(pair.status(Side::Failover).unwrap()["head"], position.seq);
        assert!(pair.failover.log().contains("this standby stops before a frame"));
    }
    // Nothing of it was kept: with the main server back, as it was, all goes on.
    pair.main.launch();
    pair.failover.call("POST", "pair/promote", Some(&json!({ "force": true }))).expect(200);
    pair.wait_even();
}

/// As a frame begins, in every version.
fn frame(version: u8, Position { epoch, seq }: Position, ops: &[u8]) -> Vec<u8> {
    let fields = [epoch, seq, 0].map(u64::to_be_bytes).concat();
    [&[version][..], &fields, ops].concat()
}
