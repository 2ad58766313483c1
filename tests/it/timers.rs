//! Many timers: the next one is found among them, in time.

use serde_json::{Value, json};
use tandem_tests::{NodeUnderTest, Solution, wait_until};

use crate::TANDEM;

const HOUR_MS: u64 = 3_600_000;
/// Of a timer that is due soon.
const AFTER_MS: u64 = 300;
/// As many as an attempt may publish.
const PER_MESSAGE: u64 = 1000;

fn node() -> NodeUnderTest {
    let node = TANDEM.node();
    node.deploy(&Solution::probe().with("[limits]\nqueue = 2_000_000"));
    node
}

/// Stores timers that are due in one to a thousand hours.
fn store_timers(node: &NodeUnderTest, count: u64) {
    let asked: Vec<Value> = (1..=PER_MESSAGE)
        .map(|hours| json!({ "after_ms": hours * HOUR_MS, "body": { "do": "count" } }))
        .collect();
    let body = json!({ "do": "publish", "messages": asked }).to_string();
    for _ in 0..count / PER_MESSAGE {
        node.post("/hooks/probe/in", body.clone()).expect(202);
    }
    wait_until("all are stored", || queued(node) == count);
}

fn queued(node: &NodeUnderTest) -> u64 {
    node.api("solutions/probe")["queued"].as_u64().expect("it is a number")
}

/// A timer that is due soon: how many ms after its time its handler began.
fn lateness_ms(node: &NodeUnderTest) -> u64 {
    let timer = json!({ "after_ms": AFTER_MS, "body": { "do": "count" } });
    let parent = node.accept("probe/in", json!({ "do": "publish", "messages": [timer] }));
    let parent = node.wait_for_status(&parent, "done");
    let id = parent["tries"][0]["published"][0].as_str().expect("it published one");
    let message = node.wait_for_status(id, "done");
    let ms = |value: &Value| value.as_u64().expect("it is a time");
    let began_ms = ms(&message["tries"][0]["started_ms"]);
    let due_ms = ms(&message["time_ms"]) + AFTER_MS;
    began_ms.checked_sub(due_ms).expect("not before its time")
}

#[test]
fn the_next_of_many_timers_fires_and_the_others_wait() {
    let node = node();
    store_timers(&node, 10_000);
    lateness_ms(&node);
    assert_eq!(queued(&node), 10_000);
    assert_eq!(node.state("probe", "count").as_deref(), Some("1"));
}

/// `cargo test -p tandem-tests --test it a_million_timers -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes and measures time"]
fn a_million_timers() {
    let node = node();
    for stored in [0, 1_000_000] {
        store_timers(&node, stored);
        let mut late: Vec<u64> = (0..50).map(|_| lateness_ms(&node)).collect();
        late.sort_unstable();
        println!(
            "{stored} timers: ms late: median {}, 9 of 10 {}, all {}",
            late[25], late[45], late[49]
        );
        assert!(late[25] < 50, "{late:?}");
    }
}
