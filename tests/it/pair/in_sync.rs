//! Both nodes are there.

use serde_json::json;
use tandem_tests::{Request, Side, Solution, Third, Traffic, wait_until};

use crate::TANDEM;

#[test]
fn receipts_are_on_two_disks_and_the_standby_passes_messages_on() {
    for third in [Third::None, Third::Server, Third::Folder] {
        let pair = TANDEM.pair().third(third).start();
        assert_eq!(pair.primaries(), [Side::Main]);
        let status = pair.status(Side::Main).unwrap();
        let witness = if third == Third::None { "none" } else { "answers" };
        assert_eq!(status["witness"], witness, "{third:?}: {status}");
        assert_eq!(status["warnings"], json!([]), "{third:?}: {status}");
        let standby = pair.status(Side::Failover).unwrap();
        assert_eq!(standby["peer"]["node"], status["node"]);
        // Also deploying at the standby.
        pair.failover.deploy(&Solution::lean());
        for side in Side::BOTH {
            let answer = pair.node(side).post("/hooks/lean/in", "a").expect(202);
            let receipt = answer.json();
            assert_eq!(receipt["durability"], 2, "{receipt}");
            assert_eq!(receipt["epoch"], status["epoch"]);
            assert_eq!(
                answer.header("tandem-node").map(|node| &node[..8]),
                status["node"].as_str()
            );
            assert_eq!(answer.header("tandem-epoch"), Some(status["epoch"].to_string().as_str()));
            let id = receipt["id"].as_str().unwrap();
            for node in [&pair.main, &pair.failover] {
                node.wait_for_status(id, "done");
            }
        }
        pair.wait_even();
    }
}

/// One key, one message, whichever node it comes to.
#[test]
fn an_idempotency_key_counts_on_both_nodes() {
    let pair = TANDEM.pair().start();
    pair.main.deploy(&Solution::lean());
    let send = |side| {
        let request = Request::post("/hooks/lean/in", "a").header("idempotency-key", "k");
        pair.node(side).send(&request).expect(202).json()
    };
    let first = send(Side::Main);
    for side in [Side::Failover, Side::Main] {
        assert_eq!(send(side)["id"], first["id"]);
    }
    pair.main.call("POST", "pair/switchover", None).expect(200);
    wait_until("the roles are exchanged", || pair.primaries() == [Side::Failover]);
    for side in Side::BOTH {
        assert_eq!(send(side)["id"], first["id"], "after a change of roles");
    }
}

/// Twenty times there and back while messages come.
#[test]
fn roles_are_exchanged_under_load() {
    let pair = TANDEM.pair().start();
    let traffic = Traffic::to(&pair);
    let mut took = Vec::new();
    traffic.during(|| {
        let mut primary = Side::Main;
        for round in 0..20 {
            traffic.wait_more(10);
            // Either node is asked.
            let asked = if round % 3 == 0 { primary.other() } else { primary };
            let told = pair.node(asked).call("POST", "pair/switchover", None).expect(200).json();
            took.push(told["took_ms"].as_u64().unwrap());
            primary = primary.other();
            assert_eq!(pair.wait_in_sync(), primary, "round {round}");
        }
    });
    took.sort_unstable();
    eprintln!("switchovers took (ms) {took:?}; longest gap {:?}", traffic.longest_gap());
    traffic.assert_fenced();
    traffic.audit(&pair);
    assert!(traffic.got().iter().all(|got| got.durability == 2), "both were in sync all the time");
}
