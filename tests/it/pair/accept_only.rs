//! Without a witness: a standby that does not hear the primary takes messages in, and handles none.

use serde_json::json;
use tandem_tests::{PairUnderTest, Side, Traffic, wait_until};

use crate::TANDEM;

const LINES: &str = "profile = \"fast\"\nfailback = \"manual\"\nwithout_witness = \"accept-only\"";

fn wait_accepting(pair: &PairUnderTest, side: Side) {
    let is_accepting = |status: &serde_json::Value| status["role"] == "accepting";
    let status = pair.wait_status(side, "it accepts only", is_accepting);
    assert!(status["warnings"].to_string().contains("handles none"), "{status}");
}

/// A message to this node, which nobody handles yet.
fn accept(pair: &PairUnderTest, side: Side, body: &str) -> String {
    let id = pair.node(side).accept("lean/in", body);
    assert_eq!(pair.node(side).message(&id)["status"], "waiting");
    id
}

/// Both take messages in, the primary handles; when the link is back everything is there, done once.
#[test]
fn while_the_link_is_cut_only_the_primary_handles() {
    let pair = TANDEM.pair().lines(LINES).wired().start();
    let traffic = Traffic::to(&pair).while_both_act();
    traffic.during(|| {
        for _ in 0..2 {
            traffic.wait_more(30);
            pair.stall_links();
            wait_accepting(&pair, Side::Failover);
            traffic.wait_more(60);
            assert_eq!(pair.primaries(), [Side::Main]);
            pair.heal_links();
            assert_eq!(pair.wait_in_sync(), Side::Main, "who handled stays primary");
            traffic.wait_durability(2);
        }
    });
    traffic.audit_once(&pair);
    let kept = pair.failover.api("pair/quarantine");
    let entries = kept["entries"].as_array().unwrap();
    assert!(!entries.is_empty(), "{kept}");
    for entry in entries {
        assert_eq!(entry["settled"], true, "{entry}");
        let folder =
            pair.failover.data_dir().join("quarantine").join(entry["id"].as_str().unwrap());
        assert!(!folder.join("store.redb").exists(), "nothing was handled that could be lost");
    }
}

/// The primary dies: nothing is handled until it is back, and then everything.
#[test]
fn what_was_accepted_waits_for_the_primary() {
    let mut pair = TANDEM.pair().lines(LINES).start();
    let traffic = Traffic::to(&pair).while_both_act();
    traffic.during(|| traffic.wait_more(30));
    pair.wait_even();
    pair.main.kill9();
    wait_accepting(&pair, Side::Failover);
    let id = accept(&pair, Side::Failover, "apart");
    let before = traffic.calls();
    traffic.during(|| traffic.wait_more(50));
    // Nothing but that.
    let refused = pair.failover.call("PUT", "settings/lean/sink", Some(&json!("http://x")));
    assert_eq!(refused.expect(503).json()["code"], "accept-only");
    assert_eq!(pair.failover.message(&id)["status"], "waiting");

    // It survives a crash of its own, and goes on accepting.
    pair.failover.kill9();
    pair.failover.launch();
    wait_accepting(&pair, Side::Failover);
    let again = accept(&pair, Side::Failover, "apart again");
    assert_eq!(traffic.calls(), before, "something was handled");

    pair.main.launch();
    pair.wait_in_sync();
    assert_eq!(pair.primaries(), [Side::Main]);
    for id in [&id, &again] {
        wait_until("it came to the primary", || {
            let answer = pair.main.call("GET", &format!("messages/{id}"), None);
            answer.status == 200 && answer.json()["status"] == "done"
        });
    }
    traffic.audit_once(&pair);
}

/// The link holds while the primary stands still, so what is agreed on a link ends there more than once.
#[test]
fn a_primary_that_stands_still_again_and_again_gets_what_was_accepted() {
    let pair = TANDEM.pair().lines(LINES).start();
    let traffic = Traffic::to(&pair).while_both_act();
    for round in 0..3 {
        traffic.during(|| traffic.wait_more(10));
        pair.wait_even();
        pair.main.pause();
        wait_accepting(&pair, Side::Failover);
        let id = accept(&pair, Side::Failover, &format!("apart {round}"));
        pair.main.resume();
        pair.wait_in_sync();
        wait_until("it came to the primary", || {
            let answer = pair.main.call("GET", &format!("messages/{id}"), None);
            answer.status == 200 && answer.json()["status"] == "done"
        });
    }
    let logs = pair.main.log() + &pair.failover.log();
    let ended: Vec<_> =
        logs.lines().filter(|line| line.contains("link to the other node has ended")).collect();
    // But where this machine is so slow that a node is silent for seconds.
    let is_silence = ended.iter().any(|line| line.contains("it was silent"));
    assert!(ended.is_empty() || is_silence, "{ended:#?}");
    traffic.audit_once(&pair);
}

/// The primary is gone for good: an operator says so, and what was accepted is handled where it is.
#[test]
fn what_was_accepted_is_handled_when_an_operator_says_so() {
    let mut pair = TANDEM.pair().lines(LINES).start();
    let traffic = Traffic::to(&pair).while_both_act();
    let id = traffic.during(|| {
        traffic.wait_more(30);
        pair.main.kill9();
        wait_accepting(&pair, Side::Failover);
        let id = accept(&pair, Side::Failover, "apart");
        traffic.wait_more(30);
        pair.failover.tandem(&["pair", "promote"]).expect(0);
        pair.wait_primary(Side::Failover);
        pair.failover.wait_for_status(&id, "done");
        traffic.wait_more(30);
        // It is no primary any more.
        pair.main.launch();
        pair.wait_in_sync();
        traffic.wait_durability(2);
        id
    });
    assert_eq!(pair.primaries(), [Side::Failover]);
    pair.main.wait_for_status(&id, "done");
    traffic.audit_once(&pair);
}
