//! More than can be handled: who publishes waits, who floods is sent away, and nobody else notices.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tandem_tests::{NodeUnderTest, Receiver, Request, Solution, wait_until};

use crate::TANDEM;

/// A message to `other`, which counts.
fn to_other() -> Value {
    json!({ "do": "publish", "messages": [{ "solution": "other", "body": { "do": "count" } }] })
}

fn publisher() -> Solution {
    Solution::probe().replace("publish = [\"probe\"]", "publish = [\"probe\", \"other\"]")
}

fn queued(node: &NodeUnderTest, solution: &str) -> u64 {
    node.api(&format!("solutions/{solution}"))["queued"].as_u64().unwrap()
}

#[test]
fn who_publishes_waits_until_the_receiver_has_room() {
    let mut node = TANDEM.node();
    node.deploy(&publisher());
    node.deploy(&Solution::probe().named("other").with("[limits]\nqueue = 2"));
    node.call("POST", "solutions/other/pause", Some(&json!({}))).expect(204);
    let ids: Vec<_> = (0..6).map(|_| node.accept("probe/in", to_other())).collect();
    wait_until("it waits", || {
        let shown = node.api("solutions/probe");
        let reason = shown["reason"].as_str().unwrap_or_default();
        reason.contains("queue of solution `other`, which takes 2 messages")
    });
    wait_until("two went through", || (queued(&node, "other"), queued(&node, "probe")) == (2, 4));
    for id in &ids[2..] {
        assert_eq!(node.message(id)["attempts"], 0, "waiting is no failed attempt");
    }
    node.kill9();
    node.run();
    node.call("POST", "solutions/other/resume", Some(&json!({}))).expect(204);
    for id in &ids {
        let message = node.wait_for_status(id, "done");
        assert_eq!(message["attempts"], 1, "{message:#}");
    }
    wait_until("each was received once", || node.state("other", "count").as_deref() == Some("6"));
    assert_eq!(node.api("solutions/probe")["state"], "running");
}

#[test]
fn who_asks_for_requests_waits_until_some_are_delivered() {
    let (mut node, receiver) = (TANDEM.node(), Receiver::closed());
    let limits = "[limits]\noutbox = 2\n[delivery]\nattempts = 100\nbackoff = \"20ms\"\nmax_backoff = \"40ms\"";
    node.deploy(&Solution::probe().with(limits));
    let ask = json!({ "do": "send", "requests": [{ "url": receiver.url("/x") }] });
    // One after the other, so that what is under way does not matter.
    let mut ids = Vec::new();
    for _ in 0..2 {
        let id = node.accept("probe/in", ask.clone());
        node.wait_for_status(&id, "done");
        ids.push(id);
    }
    ids.extend((0..3).map(|_| node.accept("probe/in", ask.clone())));
    let waits = |node: &NodeUnderTest| {
        wait_until("it waits", || {
            let shown = node.api("solutions/probe");
            let reason = shown["reason"].as_str().unwrap_or_default().to_owned();
            reason.contains("2 requests wait to be delivered, which is its bound ([limits] outbox)")
                && shown["queued"] == 3
        });
    };
    waits(&node);
    // Counted anew from what is there.
    node.kill9();
    node.run();
    waits(&node);
    receiver.open();
    for id in &ids {
        let message = node.wait_for_delivery(id, 0, "delivered");
        assert_eq!(message["attempts"], 1, "waiting is no failed attempt: {message:#}");
    }
    assert_eq!(node.api("solutions/probe")["state"], "running");
}

#[test]
fn without_room_on_the_disk_nothing_is_published_and_nothing_fails() {
    let mut node = TANDEM.node();
    node.deploy(&publisher());
    node.deploy(&Solution::probe().named("other"));
    node.call("POST", "solutions/probe/pause", Some(&json!({}))).expect(204);
    let ids =
        [node.accept("probe/in", json!({ "do": "count" })), node.accept("probe/in", to_other())];
    node.configure("[store]\nreserve = \"1024GiB\"");
    node.restart();
    node.call("POST", "solutions/probe/resume", Some(&json!({}))).expect(204);
    node.wait_for_status(&ids[0], "done");
    wait_until("it waits", || {
        let reason = node.api("solutions/probe")["reason"].clone();
        reason.as_str().is_some_and(|reason| reason.contains("no room on the disk"))
    });
    assert_eq!(node.message(&ids[1])["attempts"], 0);
    node.configure("");
    node.restart();
    node.wait_for_status(&ids[1], "done");
    wait_until("it was received", || node.state("other", "count").as_deref() == Some("1"));
}

/// Latencies of messages that are waited for, one after the other.
fn quiet_ones(node: &NodeUnderTest, count: usize) -> Vec<Duration> {
    let mut took: Vec<_> = (0..count)
        .map(|_| {
            let began = Instant::now();
            node.post("/hooks/quiet/in?wait=60s", "").expect(200);
            began.elapsed()
        })
        .collect();
    took.sort_unstable();
    took
}

#[test]
fn a_flooded_solution_does_not_starve_a_quiet_one() {
    const QUIET: usize = 100;
    const BOUND: u64 = 50;
    let node = TANDEM.node();
    node.deploy(&Solution::probe().named("quiet"));
    node.deploy(&Solution::probe().named("flooded").with(&format!("[limits]\nqueue = {BOUND}")));
    let alone = quiet_ones(&node, QUIET);

    let (enough, taken, refused) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let flood = || {
        let slow =
            Request::post("/hooks/flooded/in", json!({ "do": "sleep", "ms": 5 }).to_string());
        while !enough.load(Ordering::Relaxed) {
            let response = slow.send(node.address).unwrap();
            if response.status == 202 {
                taken.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            response.problem(429, "queue-full");
            assert_eq!(response.header("retry-after"), Some("1"));
            refused.fetch_add(1, Ordering::Relaxed);
        }
    };
    let beside = thread::scope(|scope| {
        let flooding: Vec<_> = (0..8).map(|_| scope.spawn(flood)).collect();
        wait_until("the queue is full", || refused.load(Ordering::Relaxed) > 0);
        let beside = quiet_ones(&node, QUIET);
        assert!(queued(&node, "flooded") <= BOUND);
        enough.store(true, Ordering::Relaxed);
        for thread in flooding {
            thread.join().expect("a sender is answered");
        }
        beside
    });

    assert_eq!(node.state("quiet", "count"), Some((2 * QUIET).to_string()));
    wait_until("the flood is handled", || queued(&node, "flooded") == 0);
    let show = |took: &[Duration]| {
        format!("median {:?}, 99 of 100 {:?}", took[QUIET / 2], took[QUIET * 99 / 100 - 1])
    };
    println!(
        "quiet alone: {}; beside a flood ({taken:?} taken in, {refused:?} refused): {}",
        show(&alone),
        show(&beside)
    );
    assert!(beside[QUIET - 1] < Duration::from_secs(20), "{beside:?}");
}
