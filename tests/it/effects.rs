//! Requests that must not be made twice, and those that a node had made before it heard of the other.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tandem_tests::{Answer, NodeUnderTest, Receiver, Request, Side, Solution, Third, wait_until};

use crate::TANDEM;

fn probe(class: &str) -> Solution {
    let delivery = "attempts = 100\ntimeout = \"20s\"\nbackoff = \"20ms\"\nmax_backoff = \"40ms\"";
    Solution::probe().with(&format!("[delivery]\nclass = \"{class}\"\n{delivery}"))
}

fn send(node: &NodeUnderTest, url: &str) -> String {
    let message = json!({ "do": "send", "requests": [{ "url": url, "order": "one" }] });
    let receipt = node.post("/hooks/probe/in", message.to_string()).expect(202).json();
    receipt["id"].as_str().unwrap().to_owned()
}

fn calls_by_key(receiver: &Receiver) -> BTreeMap<String, usize> {
    let mut calls = BTreeMap::new();
    for call in receiver.calls() {
        *calls.entry(call.key()).or_default() += 1;
    }
    calls
}

fn reason(message: &Value) -> &str {
    message["deliveries"][0]["reason"].as_str().unwrap_or_default()
}

#[test]
fn what_may_have_been_done_is_not_repeated() {
    let (node, receiver) = (TANDEM.node(), Receiver::start());
    node.deploy(&probe("at-most-once"));
    for (path, answer) in [
        ("/500", Answer::Status(500)),
        ("/504", Answer::Status(504)),
        ("/head", Answer::CloseInHead),
    ] {
        receiver.script(path, [answer, Answer::Status(200)]);
        let id = send(&node, &receiver.url(path));
        let message = node.wait_for_delivery(&id, 0, "unknown");
        assert_eq!(message["status"], "done", "{message}");
        assert_eq!(receiver.calls_to(path).len(), 1, "{path}");
    }
    // These say that it was not done.
    for (path, answer) in [("/503", Answer::Status(503)), ("/429", Answer::Status(429))] {
        receiver.script(path, [answer.clone(), answer, Answer::Status(200)]);
        node.wait_for_delivery(&send(&node, &receiver.url(path)), 0, "delivered");
        assert_eq!(receiver.calls_to(path).len(), 3, "{path}");
    }
    let later = Receiver::closed();
    let id = send(&node, &later.url("/"));
    wait_until("it was tried", || {
        node.message(&id)["deliveries"][0]["tries"].as_array().is_some_and(|tries| tries.len() > 1)
    });
    later.open();
    node.wait_for_delivery(&id, 0, "delivered");
    assert_eq!(later.calls().len(), 1);
}

#[test]
fn an_operator_is_asked_where_the_manifest_says_so() {
    let (node, receiver) = (TANDEM.node(), Receiver::start());
    node.deploy(&probe("ask"));
    receiver.script("/", [Answer::Status(502), Answer::Status(200)]);
    let id = send(&node, &receiver.url("/"));
    let message = node.wait_for_delivery(&id, 0, "dead");
    assert!(reason(&message).contains("whether it was done is not known"), "{message:#}");
    assert_eq!(receiver.calls().len(), 1);
    node.tandem(&["messages", "retry", &id, "--delivery", "0"]).expect(0);
    node.wait_for_delivery(&id, 0, "delivered");
    assert_eq!(calls_by_key(&receiver), BTreeMap::from([(format!("{id}-0"), 2)]));
}

#[test]
fn a_node_that_dies_does_not_repeat_what_it_had_begun() {
    let (mut node, receiver) = (TANDEM.node(), Receiver::start());
    node.deploy(&probe("at-most-once"));
    receiver.script("/", [Answer::Hang]);
    let id = send(&node, &receiver.url("/"));
    wait_until("it is asked", || receiver.calls().len() == 1);
    node.kill9();
    node.run();
    let message = node.wait_for_delivery(&id, 0, "unknown");
    let error = &message["deliveries"][0]["tries"][0]["error"];
    assert_eq!(error, "the node was lost before the answer was written down");
    assert_eq!(receiver.calls().len(), 1);
}

/// The next primary knows what had begun: it repeats, keeps silent or asks as the manifest says.
#[test]
fn a_takeover_keeps_to_the_class_of_each_request() {
    for (class, came_to) in
        [("idempotent", "delivered"), ("at-most-once", "unknown"), ("ask", "dead")]
    {
        let mut pair = TANDEM.pair().third(Third::Server).start();
        let receiver = Receiver::start();
        pair.main.deploy(&probe(class));
        receiver.script("/hang", [Answer::Hang, Answer::Status(200)]);
        let id = send(&pair.main, &receiver.url("/hang"));
        wait_until("it is asked", || receiver.calls().len() == 1);
        // What waits for its turn has not begun: whatever its class, the other does it once.
        let waiting = send(&pair.main, &receiver.url("/next"));
        pair.wait_even();
        pair.main.kill9();
        pair.wait_primary(Side::Failover);
        let message = pair.failover.wait_for_delivery(&id, 0, came_to);
        pair.failover.wait_for_delivery(&waiting, 0, "delivered");
        let expected = if class == "idempotent" { 2 } else { 1 };
        let calls = [(format!("{id}-0"), expected), (format!("{waiting}-0"), 1)];
        assert_eq!(calls_by_key(&receiver), BTreeMap::from(calls), "{class}");
        assert_eq!(reason(&message).contains("not known"), class == "ask", "{message:#}");
    }
}

/// Nobody can know whether a node that hangs is making a request: the other waits until it would not, and meanwhile does
/// what is new.
#[test]
fn what_a_node_that_hangs_may_be_making_is_left_to_it_for_a_while() {
    // Two seconds of silence, and half a second more.
    let lines = "interval = \"500ms\"\nretries = 3\nfailback = \"manual\"";
    let pair = TANDEM.pair().third(Third::Server).lines(lines).start();
    let receiver = Receiver::start();
    pair.main.deploy(&probe("idempotent"));
    receiver.script("/hang", [Answer::Hang, Answer::Status(200)]);
    let id = send(&pair.main, &receiver.url("/hang"));
    wait_until("it is asked", || receiver.calls().len() == 1);
    pair.wait_even();
    let paused = Instant::now();
    pair.main.pause();
    pair.wait_primary(Side::Failover);
    let new = Request::post(
        "/hooks/probe/in",
        json!({ "do": "send", "requests": [{ "url": receiver.url("/new") }] }).to_string(),
    );
    // By its key it is taken here also if it was on its way to the one that hangs.
    let new = pair.failover.send(&new.header("idempotency-key", "new")).expect(202).json();
    pair.failover.wait_for_delivery(new["id"].as_str().unwrap(), 0, "delivered");
    pair.failover.wait_for_delivery(&id, 0, "delivered");
    let calls = receiver.calls();
    assert_eq!(calls.len(), 3, "{calls:?}");
    // It was heard last at most an interval before.
    let again = calls.iter().rfind(|call| call.path == "/hang").expect("it was asked");
    assert!(again.at - paused >= Duration::from_secs(2), "{:?}", again.at - paused);
    pair.main.resume();
    pair.wait_in_sync();
}

/// Both acted; the requests of the one that lost its role were made, and are not made again when its messages come to
/// the other.
#[test]
fn what_a_node_made_while_it_was_apart_is_not_made_again() {
    let lines = "interval = \"500ms\"\nretries = 5\nfailback = \"manual\"";
    let pair = TANDEM.pair().lines(lines).wired().start();
    let receiver = Receiver::start();
    pair.main.deploy(&probe("idempotent"));
    pair.wait_even();
    pair.stall_links();
    pair.wait_primary(Side::Failover);
    let id = send(&pair.main, &receiver.url("/"));
    pair.main.wait_for_delivery(&id, 0, "delivered");
    pair.heal_links();
    assert_eq!(pair.wait_in_sync(), Side::Failover);
    pair.failover.wait_for_status(&id, "done");
    pair.failover.wait_for_delivery(&id, 0, "delivered");
    let shown = pair.main.tandem(&["pair", "quarantine", "list", "--json"]);
    let shown: Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!(shown["entries"][0]["made"], 1, "{shown:#}");
    wait_until("nothing waits to be delivered", || {
        pair.failover.api("status")["deliveries"]["pending"] == 0
    });
    assert_eq!(calls_by_key(&receiver), BTreeMap::from([(format!("{id}-0"), 1)]));
}
