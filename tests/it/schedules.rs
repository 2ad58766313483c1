//! Schedules tick once per nominal time, whatever happens to the process.

use std::collections::BTreeSet;

use serde_json::Value;
use tandem::model::message::MessageId;
use tandem_tests::{NodeUnderTest, Solution, audit::count, wait_until};

use crate::TANDEM;

const EVERY_SECOND: &str =
    "[[source]]\nname = \"tick\"\nkind = \"schedule\"\ncron = \"* * * * * *\"";

fn ticks(node: &NodeUnderTest) -> Vec<Value> {
    node.api("messages?source=tick&limit=1000")["messages"].as_array().unwrap().clone()
}

#[test]
fn ticks_are_counted_once_across_kills_and_restarts() {
    let mut node = TANDEM.node();
    let lean = Solution::lean().replace("[grants]", &format!("{EVERY_SECOND}\n\n[grants]"));
    node.deploy(&lean);
    let source = &node.api("solutions/lean")["sources"][1];
    assert_eq!((&source["kind"], &source["cron"]), (&"schedule".into(), &"* * * * * *".into()));
    assert!(source["next_ms"].is_u64(), "{source}");

    for round in 1..=3 {
        let before = ticks(&node).len();
        wait_until("it ticks", || ticks(&node).len() >= before + 2);
        if round < 3 {
            node.kill9();
            node.run();
        }
    }
    // No more of them, so that what is counted stays as it is.
    node.deploy(&Solution::lean());
    wait_until("all are handled", || node.api("solutions/lean")["queued"] == 0);
    let ticks = ticks(&node);
    let (solution, source) = ("lean".parse().unwrap(), "tick".parse().unwrap());
    let mut times = BTreeSet::new();
    for tick in &ticks {
        let nominal = tick["time_ms"].as_u64().unwrap();
        assert_eq!(nominal % 1000, 0, "{tick}");
        assert!(times.insert(nominal), "twice at {nominal}");
        assert_eq!(tick["id"], MessageId::of_tick(&solution, &source, nominal).to_string());
        assert_eq!(tick["status"], "done", "{tick}");
    }
    let counted = node.api("state/lean")[0]["value"].clone();
    assert_eq!(count(&counted), ticks.len() as u64, "each was handled once");
}

#[test]
fn a_paused_schedule_does_not_tick() {
    let node = TANDEM.node();
    node.deploy(&Solution::lean().replace("[grants]", &format!("{EVERY_SECOND}\n\n[grants]")));
    wait_until("it ticks", || !ticks(&node).is_empty());
    node.tandem(&["solutions", "pause", "lean", "--source", "tick"]).expect(0);
    let before = ticks(&node).len();
    // Two of another schedule's ticks are two seconds.
    node.deploy(
        &Solution::lean()
            .named("clock")
            .replace("[grants]", &format!("{EVERY_SECOND}\n\n[grants]")),
    );
    wait_until("the other ticks", || {
        ticks(&node).iter().filter(|tick| tick["solution"] == "clock").count() >= 3
    });
    assert_eq!(ticks(&node).iter().filter(|tick| tick["solution"] == "lean").count(), before);
}

/// A solution with a tick each second, and what becomes of those that were missed.
fn clock(missed: &str) -> Solution {
    let source = format!("{EVERY_SECOND}\nmissed = \"{missed}\"");
    Solution::lean().named(missed).replace("[grants]", &format!("{source}\n\n[grants]"))
}

fn nominal_times(node: &NodeUnderTest, solution: &str) -> BTreeSet<u64> {
    let ticks = ticks(node).into_iter().filter(|tick| tick["solution"] == solution);
    ticks.map(|tick| tick["time_ms"].as_u64().unwrap()).collect()
}

#[test]
fn what_was_missed_while_the_node_was_down_is_skipped_or_made_up_for() {
    let mut node = TANDEM.node();
    let policies = ["skip", "once", "all"];
    for missed in policies {
        node.deploy(&clock(missed));
    }
    wait_until("all tick", || policies.iter().all(|it| nominal_times(&node, it).len() >= 2));
    assert_eq!(node.stop(), Some(0), "{}", node.log());
    let stopped_ms = now_ms();
    wait_until("several nominal times are over", || now_ms() > stopped_ms + 3500);
    let started_ms = now_ms();
    node.run();
    let is_back = |missed: &&str| nominal_times(&node, missed).last() > Some(&(started_ms + 2000));
    wait_until("all tick again", || policies.iter().all(is_back));

    // Between the stop and the start, when nobody can have ticked in time.
    let missed = |solution: &str| -> Vec<u64> {
        let times = nominal_times(&node, solution);
        times.range(stopped_ms..started_ms).copied().collect()
    };
    let all: Vec<u64> =
        (stopped_ms.div_ceil(1000)..started_ms.div_ceil(1000)).map(|s| s * 1000).collect();
    assert!(all.len() >= 3, "{all:?}");
    assert_eq!(missed("all"), all);
    assert_eq!(missed("skip"), [0; 0]);
    // One tick for the latest, which may have come while the node started.
    assert!(missed("once").len() <= 1, "{:?}", missed("once"));
    let made_up = *nominal_times(&node, "once").range(stopped_ms..).next().unwrap();
    let of_all = nominal_times(&node, "all");
    assert!(made_up >= *all.last().unwrap(), "the latest: {made_up} of {of_all:?}");
    let ids: Vec<_> = ticks(&node).iter().map(|tick| tick["id"].clone()).collect();
    assert_eq!(ids.iter().map(Value::to_string).collect::<BTreeSet<_>>().len(), ids.len());
}

fn now_ms() -> u64 {
    tandem::model::clock::Clock::system().now_ms()
}
