//! Attempts: again after a wait, until it is done, dead, or given up.

use serde_json::json;
use tandem_tests::{NodeUnderTest, Request, Solution};

use crate::TANDEM;

fn node(attempts: u32) -> NodeUnderTest {
    let node = TANDEM.node();
    let retry =
        format!("[retry]\nattempts = {attempts}\nbackoff = \"10ms\"\nmax_backoff = \"20ms\"");
    node.deploy(&Solution::probe().with(&retry));
    node
}

#[test]
fn a_message_is_tried_again_after_the_wait_it_asked_for() {
    let node = node(5);
    let id = node.accept(
        "probe/in",
        json!({ "do": "retry", "after_ms": 150, "until_attempt": 3, "reason": "not yet" }),
    );
    let message = node.wait_for_status(&id, "done");
    let tries = message["tries"].as_array().unwrap();
    let outcomes: Vec<_> =
        tries.iter().map(|attempt| attempt["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["retry", "retry", "done"]);
    assert_eq!(tries[0]["reason"], "not yet");
    for pair in tries.windows(2) {
        let waited =
            pair[1]["started_ms"].as_u64().unwrap() - pair[0]["started_ms"].as_u64().unwrap();
        assert!(waited >= 150, "{waited} ms");
    }
}

#[test]
fn a_wait_that_has_not_passed_outlasts_the_process() {
    let mut node = node(5);
    let id =
        node.accept("probe/in", json!({ "do": "retry", "after_ms": 2000, "until_attempt": 2 }));
    let message = node.wait_for_status(&id, "scheduled");
    let due = message["due_ms"].as_u64().expect("it says when");
    node.kill9();
    node.run();
    let message = node.wait_for_status(&id, "done");
    assert!(message["tries"][1]["started_ms"].as_u64().unwrap() >= due);
    assert_eq!(message["tries"].as_array().map(Vec::len), Some(2));
}

#[test]
fn after_the_last_attempt_it_is_a_dead_letter_and_can_be_tried_or_given_up() {
    let node = node(3);
    let id =
        node.accept("probe/in", json!({ "do": "retry", "until_attempt": 5, "reason": "not yet" }));
    let message = node.wait_for_status(&id, "dead");
    assert_eq!(message["reason"], "retry after 3 attempts: not yet");
    assert_eq!(node.api("solutions/probe")["dead"], 1);
    let listed = node.tandem(&["messages", "list", "--status", "dead", "--json"]).expect(0).json();
    assert_eq!(listed["messages"][0]["id"], id);

    // By hand: two more attempts make five in all, the last of which succeeds.
    node.tandem(&["messages", "retry", &id]).expect(0);
    let message = tandem_tests::wait_for("it is over again", || {
        Some(node.message(&id))
            .filter(|m| m["attempts"] == 4 && m["status"] == "dead" || m["status"] == "done")
    });
    if message["status"] == "dead" {
        node.tandem(&["messages", "retry", &id]).expect(0);
    }
    let message = node.wait_for_status(&id, "done");
    assert_eq!(message["attempts"], 5);
    assert_eq!(node.api("solutions/probe")["dead"], 0);
    let told = node.tandem(&["messages", "retry", &id]).expect(1);
    assert!(told.err.contains("is not in the dead letters [not-dead]"), "{told}");
}

#[test]
fn a_discarded_letter_is_gone_for_good_and_still_told() {
    let node = node(1);
    let id = node.accept("probe/in", json!({ "do": "other" }));
    node.wait_for_status(&id, "dead");
    node.tandem(&["messages", "discard", &id]).expect(0);
    assert_eq!(node.api("solutions/probe")["dead"], 0);
    assert_eq!(node.api("messages?status=dead")["messages"], json!([]));
    assert_eq!(node.message(&id)["tries"].as_array().map(Vec::len), Some(1), "its story stays");
    node.tandem(&["messages", "discard", &id]).expect(1);
    node.tandem(&["messages", "retry", &id]).expect(1);
}

#[test]
fn what_is_rejected_is_dead_at_once() {
    let node = node(5);
    let id = node.accept("probe/in", json!({ "do": "reject", "reason": "no such customer" }));
    let message = node.wait_for_status(&id, "dead");
    assert_eq!((&message["attempts"], &message["reason"]), (&json!(1), &json!("no such customer")));
    let id = node.accept("probe/in", "no JSON");
    assert_eq!(node.wait_for_status(&id, "dead")["outcome"], "rejected");
}

fn accept_with_key(node: &NodeUnderTest, body: &serde_json::Value) -> String {
    let request = Request::post("/hooks/probe/in", body.to_string()).header("tandem-key", "a");
    node.send(&request).expect(202).json()["id"].as_str().unwrap().to_owned()
}

#[test]
fn messages_of_a_key_are_handled_in_order() {
    let node = node(5);
    node.tandem(&["solutions", "pause", "probe"]).expect(0);
    let ids: Vec<_> =
        (0..20).map(|n| accept_with_key(&node, &json!({ "do": "ok", "reply": n }))).collect();
    node.tandem(&["solutions", "resume", "probe"]).expect(0);
    let starts: Vec<_> = ids
        .iter()
        .map(|id| node.wait_for_status(id, "done")["tries"][0]["started_ms"].as_u64())
        .collect();
    assert!(starts.is_sorted(), "{starts:?}");
}

#[test]
fn messages_of_a_key_are_handled_in_order_also_through_retries() {
    let node = TANDEM.node();
    let blocking = "[handling]\norder = \"key\"\nconcurrency = 4\n\n[retry]\nblocks = \"key\"";
    node.deploy(&Solution::probe().with(blocking));
    let first =
        accept_with_key(&node, &json!({ "do": "retry", "after_ms": 300, "until_attempt": 2 }));
    let second = accept_with_key(&node, &json!({ "do": "count" }));
    let second = node.wait_for_status(&second, "done");
    let first = node.wait_for_status(&first, "done");
    let began = |message: &serde_json::Value, attempt: usize| {
        message["tries"][attempt]["started_ms"].as_u64().unwrap()
    };
    assert!(
        began(&first, 1) <= began(&second, 0),
        "the second waits for the first: {first:#} {second:#}"
    );
}
