//! Keys are changed while the pair runs.

use std::{fs, path::PathBuf};

use serde_json::Value;
use tandem_tests::{PairUnderTest, Side, Traffic, wait_until};

use crate::TANDEM;

fn key_file(pair: &PairUnderTest, side: Side) -> PathBuf {
    pair.node(side).data_dir().join("pair/key.pem")
}

/// The keys of the other node that this one trusts.
fn pins(pair: &PairUnderTest, side: Side) -> Vec<Value> {
    let file = fs::read(pair.node(side).data_dir().join("pair/peer.json")).unwrap();
    let peer: Value = serde_json::from_slice(&file).unwrap();
    peer["pins"].as_array().unwrap().clone()
}

#[test]
fn a_new_key_takes_the_old_ones_place_while_messages_come() {
    let mut pair = TANDEM.pair().start();
    let traffic = Traffic::to(&pair);
    let epoch = pair.status(Side::Main).unwrap()["epoch"].clone();
    let old = fs::read(key_file(&pair, Side::Failover)).unwrap();
    traffic.during(|| {
        for side in [Side::Failover, Side::Main, Side::Failover] {
            traffic.wait_more(30);
            let told = pair.node(side).tandem(&["pair", "rotate", "--json"]).expect(0).json();
            assert_ne!(told["before"], told["key"]);
            assert_eq!(pins(&pair, side.other()), [told["key"].clone()], "the old one is refused");
            assert!(!pair.node(side).data_dir().join("pair/key-next.pem").exists());
            traffic.wait_durability(2);
        }
        traffic.wait_more(30);
    });
    let status = pair.status(Side::Main).unwrap();
    assert_eq!((&status["role"], &status["epoch"]), (&"primary".into(), &epoch), "{status}");
    traffic.audit(&pair);

    // Who has a copy of the old key is a stranger now.
    let new = fs::read(key_file(&pair, Side::Failover)).unwrap();
    assert_eq!(pair.failover.stop(), Some(0));
    fs::write(key_file(&pair, Side::Failover), &old).unwrap();
    pair.failover.launch();
    wait_until("it is refused", || {
        pair.failover.log().contains("which this node does not trust")
            || pair.failover.log().contains("does not trust this node")
    });
    assert_eq!(pair.status(Side::Main).unwrap()["peer"]["linked"], false);
    pair.failover.kill9();
    fs::write(key_file(&pair, Side::Failover), &new).unwrap();
    pair.failover.launch();
    pair.wait_in_sync();
}

/// Either node is killed while a key is changed: they find each other again, and the change is done sooner or later.
#[test]
fn a_crash_in_the_middle_leaves_a_pair() {
    let mut pair = TANDEM.pair().start();
    for round in 0..8 {
        let side = Side::BOTH[round % 2];
        let victim = Side::BOTH[round / 2 % 2];
        let key = fs::read(key_file(&pair, side)).unwrap();
        let other = pins(&pair, side.other());
        let next = pair.node(side).data_dir().join("pair/key-next.pem");
        std::thread::scope(|scope| {
            let address = pair.node(side).address;
            let asked = scope.spawn(move || {
                // What is answered, if anything, is not of interest.
                drop(tandem_tests::Request::post("/api/v1/pair/rotate", "").send(address));
            });
            wait_until("it has begun", || {
                next.exists()
                    || fs::read(key_file(&pair, side)).unwrap() != key
                    || pins(&pair, side.other()) != other
            });
            pair.node_mut(victim).kill9();
            // Who was asked may wait for the other.
            pair.node_mut(victim).launch();
            asked.join().unwrap();
        });
        pair.wait_in_sync();
        wait_until("the change is done", || {
            !next.exists()
                && fs::read(key_file(&pair, side)).unwrap() != key
                && pins(&pair, side.other()).len() == 1
        });
        pair.wait_in_sync();
    }
}

#[test]
fn without_the_other_node_no_key_is_changed() {
    let mut pair = TANDEM.pair().start();
    pair.failover.kill9();
    pair.wait_status(Side::Main, "it is alone", |status| status["peer"]["linked"] == false);
    let key = fs::read(key_file(&pair, Side::Main)).unwrap();
    let told = pair.main.tandem(&["pair", "rotate"]).expect(1);
    assert!(told.err.contains("has to know the new key"), "{told}");
    assert_eq!(fs::read(key_file(&pair, Side::Main)).unwrap(), key);
    pair.failover.launch();
    pair.wait_in_sync();
}
