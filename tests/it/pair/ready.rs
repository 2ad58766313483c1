//! Whether the standby could take over is known before anybody needs it.

use serde_json::{Value, json};
use tandem_tests::{PairUnderTest, Side, Solution, Third};

use crate::TANDEM;

/// Waits until this node says of the standby what `is_so` wants.
#[track_caller]
fn wait_standby(pair: &PairUnderTest, side: Side, is_so: impl Fn(&Value) -> bool) -> Value {
    let status = pair.wait_status(side, "the standby is as it should be", |s| is_so(&s["standby"]));
    status["standby"].clone()
}

fn is_ready(standby: &Value) -> bool {
    standby["ready"] == true
}

fn lacks(standby: &Value, what: &str) -> bool {
    standby["lacks"].as_array().is_some_and(|all| all.iter().any(|lack| lack["what"] == what))
}

#[track_caller]
fn metric(pair: &PairUnderTest, side: Side) -> String {
    let metrics = pair.node(side).send(&tandem_tests::Request::new("GET", "/metrics")).text();
    let line = metrics.lines().find(|line| line.starts_with("tandem_standby_ready"));
    line.unwrap_or_else(|| panic!("{metrics}")).to_owned()
}

#[test]
fn both_nodes_say_that_the_standby_is_ready_and_with_what() {
    let pair = TANDEM.pair().third(Third::Server).start();
    pair.main.deploy(&Solution::lean());
    for side in Side::BOTH {
        let standby = wait_standby(&pair, side, |standby| {
            is_ready(standby) && standby["components"][0]["solution"] == "lean"
        });
        assert_eq!(standby["node"], pair.status(Side::Failover).unwrap()["node"]);
        assert_eq!(standby["components"][0]["fault"], Value::Null);
        assert_eq!(metric(&pair, side), "tandem_standby_ready 1");
        // Both read the same clock, so they find nearly no difference.
        let status = pair.wait_status(side, "the clocks are compared", |status| {
            status["clock_ahead_ms"].is_number()
        });
        let ahead = status["clock_ahead_ms"].as_i64().unwrap();
        assert!(ahead.abs() < 5000, "{status}");
        let told = pair.node(side).tandem(&["pair", "status"]).expect(0);
        assert!(told.out.contains("standby     ready to take over; 1 components"), "{told}");
    }
    assert!(pair.failover.log().contains("this node is ready to take over"));

    // The roles are exchanged, and with them who is looked at.
    pair.main.call("POST", "pair/switchover", None).expect(200);
    let main = pair.status(Side::Main).unwrap()["node"].clone();
    for side in Side::BOTH {
        wait_standby(&pair, side, |standby| is_ready(standby) && standby["node"] == main);
    }
}

/// A disk that will be full is told while there is time, on both nodes, in words and in JSON.
#[test]
fn a_standby_without_room_is_not_ready_and_says_why() {
    let mut pair = TANDEM.pair().start();
    assert_eq!(pair.failover.stop(), Some(0));
    pair.configure(Side::Failover, "min_free = \"1023GiB\"");
    pair.failover.launch();
    pair.wait_in_sync();
    for side in Side::BOTH {
        let standby = wait_standby(&pair, side, |standby| {
            lacks(standby, "disk") && !lacks(standby, "in-sync")
        });
        assert_eq!(standby["ready"], json!(false));
        assert_eq!(metric(&pair, side), "tandem_standby_ready 0");
        let warnings = pair.node(side).api("status")["warnings"].to_string();
        assert!(warnings.contains("not ready to take over: the disk has less than"), "{warnings}");
        let told = pair.node(side).tandem(&["pair", "status"]).expect(0);
        let line = told.out.lines().find(|line| line.starts_with("not ready")).unwrap_or_default();
        assert!(line.contains("min_free"), "it says what to do: {told}");
    }
    assert!(pair.failover.log().contains("not ready to take over: the disk"));
    // It is set right, and both see that.
    assert_eq!(pair.failover.stop(), Some(0));
    pair.configure(Side::Failover, "");
    pair.failover.launch();
    for side in Side::BOTH {
        wait_standby(&pair, side, is_ready);
    }
}

#[test]
fn without_its_witness_no_standby_is_ready() {
    let mut pair = TANDEM.pair().third(Third::Server).start();
    wait_standby(&pair, Side::Failover, is_ready);
    pair.witness().kill9();
    for side in Side::BOTH {
        let standby = wait_standby(&pair, side, |standby| lacks(standby, "witness"));
        assert!(standby["lacks"].to_string().contains("no node can take over"), "{standby}");
    }
    pair.run_witness();
    wait_standby(&pair, Side::Failover, is_ready);
}

#[test]
fn a_standby_without_a_link_says_so() {
    let lines = "interval = \"500ms\"\nwithout_witness = \"manual\"";
    let mut pair = TANDEM.pair().lines(lines).start();
    wait_standby(&pair, Side::Failover, is_ready);
    pair.main.kill9();
    let standby = wait_standby(&pair, Side::Failover, |standby| lacks(standby, "link"));
    assert!(standby["lacks"].to_string().contains("nobody listens at"), "{standby}");
    pair.main.launch();
    wait_standby(&pair, Side::Failover, is_ready);
}

/// `tandem deploy` answers when both have it, also if the standby is asked.
#[test]
fn a_deployment_is_on_both_nodes_when_it_is_told() {
    // Seconds between signs of life: nobody waits for one.
    let pair = TANDEM.pair().lines("interval = \"10s\"\nfailback = \"manual\"").start();
    let standby = pair.status(Side::Failover).unwrap()["node"].clone();
    for (side, name) in [(Side::Main, "one"), (Side::Failover, "two")] {
        let solution = Solution::lean().named(name);
        let folder = tempfile::tempdir().unwrap();
        solution.write_to(folder.path());
        let path = folder.path().to_str().unwrap();
        let node = pair.node(side);
        let told = node.tandem(&["deploy", path, "--wait-standby"]).expect(0);
        let lines: Vec<_> = told.out.lines().collect();
        assert_eq!(lines.len(), 2, "{told}");
        assert!(lines[0].contains("is revision 1 on"), "{told}");
        let has_it = format!("the standby {} has it too", standby.as_str().unwrap());
        assert!(lines[1].starts_with(&has_it), "{told}");
        // It is so, at this very moment.
        let there = pair.failover.api("solutions").to_string();
        assert!(there.contains(&format!("\"name\":\"{name}\"")), "{there}");
        let again = node.tandem(&["deploy", path, "--json"]).expect(0).json();
        assert_eq!(again["changed"], false);
        assert_eq!(again["standby"]["state"], "ready", "{again}");
        assert_eq!(again["standby"]["node"], standby);
        assert!(again["standby"]["after_ms"].as_u64() >= again["ready_ms"].as_u64(), "{again}");
    }
}

#[test]
fn without_a_standby_a_deployment_says_so_and_may_be_refused() {
    let mut pair = TANDEM.pair().start();
    pair.failover.kill9();
    pair.wait_status(Side::Main, "it is alone", |status| status["sync"] == "alone");
    let folder = tempfile::tempdir().unwrap();
    Solution::lean().write_to(folder.path());
    let path = folder.path().to_str().unwrap();

    let refused = pair.main.tandem(&["deploy", path, "--wait-standby"]).expect(8);
    assert!(refused.err.contains("nothing was deployed"), "{refused}");
    assert_eq!(pair.main.api("solutions"), json!([]));
    let refused = pair.main.tandem(&["deploy", path, "--wait-standby", "--json"]).expect(8);
    assert!(refused.err.contains("\"standby-away\""), "{refused}");

    let told = pair.main.tandem(&["deploy", path]).expect(0);
    assert_eq!(told.out.lines().count(), 2, "{told}");
    assert!(told.out.contains("does not have it yet: it is away"), "{told}");
    // It gets it when it is back.
    pair.failover.launch();
    wait_standby(&pair, Side::Main, |standby| standby["components"][0]["solution"] == "lean");

    let alone = TANDEM.node();
    let refused = alone.tandem(&["deploy", path, "--wait-standby"]).expect(8);
    assert!(refused.err.contains("has no [pair]"), "{refused}");
    assert_eq!(alone.tandem(&["deploy", path]).expect(0).out.lines().count(), 1);
}

/// It hangs while it should take the deployment in: that is done on the primary, and told to be so.
#[test]
fn a_standby_that_goes_away_meanwhile_is_told_of() {
    // With a witness: it does not act when it is back.
    let pair = TANDEM.pair().third(Third::Server).start();
    let folder = tempfile::tempdir().unwrap();
    Solution::lean().write_to(folder.path());
    let path = folder.path().to_str().unwrap();
    pair.failover.pause();
    let told = pair.main.tandem(&["deploy", path, "--wait-standby"]).expect(8);
    pair.failover.resume();
    assert!(told.err.contains("is active as revision 1 on the primary"), "{told}");
    assert!(told.err.contains("standby-not-ready"), "{told}");
    wait_standby(&pair, Side::Main, |standby| standby["components"][0]["revision"] == 1);
}
