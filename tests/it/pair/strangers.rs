//! What is not the other node of this pair is not let in, and it is said why.

use std::{fs, path::Path};

use serde_json::json;
use tandem_tests::{PairUnderTest, Port, Side, Solution, Traffic, wait_until};

use crate::TANDEM;

#[track_caller]
fn says(pair: &PairUnderTest, side: Side, text: &str) {
    wait_until(&format!("{side:?} says `{text}`: {}", pair.node(side).log()), || {
        pair.node(side).log().contains(text)
    });
}

/// A new machine takes the place of one that is lost: it joins anew and gets all there is, while messages come.
#[test]
fn a_wiped_standby_gets_everything() {
    let mut pair = TANDEM.pair().start();
    let traffic = Traffic::to(&pair);
    traffic.during(|| {
        traffic.wait_more(100);
        pair.failover.kill9();
        pair.wipe(Side::Failover);
        traffic.wait_durability(1);
        let code = pair.invite(Side::Main);
        pair.join(Side::Failover, &code).expect(0);
        pair.failover.launch();
        traffic.wait_durability(2);
        traffic.wait_more(50);
    });
    assert_eq!(pair.primaries(), [Side::Main]);
    traffic.audit(&pair);
    // It has what it needs to act.
    pair.main.kill9();
    pair.wait_primary(Side::Failover);
    let receipt = pair.failover.post("/hooks/lean/in", "after").expect(202).json();
    pair.failover.wait_for_status(receipt["id"].as_str().unwrap(), "done");
}

/// Two nodes with one store's identity would take each other's answers for their own.
#[test]
fn a_copy_of_the_main_servers_folder_is_no_standby() {
    let mut pair = TANDEM.pair().start();
    pair.main.deploy(&Solution::lean());
    pair.wait_even();
    for side in [Side::Failover, Side::Main] {
        assert_eq!(pair.node_mut(side).stop(), Some(0));
    }
    let (from, to) = (pair.main.data_dir(), pair.failover.data_dir());
    for name in ["store.redb", "store.journal"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    pair.main.launch();
    pair.failover.launch();
    says(&pair, Side::Main, "one is a copy of the other");
    assert_eq!(pair.wait_primary(Side::Main)["sync"], "alone");
    pair.main.accept("lean/in", "a");
    assert_eq!(pair.primaries(), [Side::Main]);

    // As it says: with its folder gone, it gets everything from the other.
    pair.failover.kill9();
    pair.wipe(Side::Failover);
    let code = pair.invite(Side::Main);
    pair.join(Side::Failover, &code).expect(0);
    pair.failover.launch();
    pair.wait_even();
}

/// A node of another pair knocks at the right door with the wrong key.
#[test]
fn a_node_of_another_pair_is_turned_away() {
    let mut pair = TANDEM.pair().start();
    let other = TANDEM.pair().start();
    pair.failover.kill9();
    let (from, to) = (other.failover.data_dir(), pair.failover.data_dir());
    copy_all(&from.join("pair"), &to.join("pair"));
    pair.failover.launch();
    says(&pair, Side::Failover, "which this node does not trust");
    let status = pair.wait_primary(Side::Main);
    assert_eq!(status["peer"]["linked"], json!(false), "{status}");
}

#[test]
fn both_say_that_they_are_the_main_server() {
    let mut pair = TANDEM.pair().start();
    assert_eq!(pair.failover.stop(), Some(0));
    pair.configure(Side::Failover, "main = true");
    pair.failover.launch();
    says(&pair, Side::Failover, "both are the main server");
    // It is set right.
    assert_eq!(pair.failover.stop(), Some(0));
    pair.configure(Side::Failover, "");
    pair.failover.launch();
    pair.wait_in_sync();
}

#[test]
fn a_wrong_address_of_the_other_node_is_told() {
    let mut pair = TANDEM.pair().start();
    assert_eq!(pair.failover.stop(), Some(0));
    let nobody = Port::reserve();
    pair.configure(Side::Failover, &format!("peer = [\"{}\"]", nobody.address));
    pair.failover.launch();
    says(&pair, Side::Failover, &nobody.address.to_string());
    assert_eq!(pair.primaries(), [Side::Main]);
}

/// Two ways to the other node, for example a second network: one that works is enough.
#[test]
fn one_of_several_addresses_of_the_other_node_is_enough() {
    let mut pair = TANDEM.pair().start();
    let nobody = Port::reserve();
    for side in Side::BOTH {
        let other = pair.link(side.other()).to_owned();
        pair.node_mut(side).kill9();
        pair.configure(side, &format!("peer = [\"{}\", \"{other}\"]", nobody.address));
    }
    for side in Side::BOTH {
        pair.node_mut(side).launch();
    }
    pair.wait_in_sync();
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
