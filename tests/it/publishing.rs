//! Messages from solution to solution, and timers.

use serde_json::json;
use tandem_tests::{NodeUnderTest, Solution};

use crate::TANDEM;

fn node() -> NodeUnderTest {
    let node = TANDEM.node();
    node.deploy(
        &Solution::probe()
            .replace("publish = [\"probe\"]", "publish = [\"probe\", \"other\", \"gone\"]"),
    );
    node
}

fn publish(node: &NodeUnderTest, message: serde_json::Value) -> (String, String) {
    let id = node.accept("probe/in", json!({ "do": "publish", "messages": [message] }));
    let parent = node.wait_for_status(&id, "done");
    (id, parent["tries"][0]["published"][0].as_str().expect("it published one").to_owned())
}

#[test]
fn a_message_goes_to_another_solution_once() {
    let node = node();
    node.deploy(&Solution::probe().named("other"));
    let (parent, id) =
        publish(&node, json!({ "solution": "other", "key": "k", "body": { "do": "count" } }));
    let message = node.wait_for_status(&id, "done");
    assert_eq!((&message["solution"], &message["source"]), (&json!("other"), &json!("again")));
    assert_eq!((&message["parent"], &message["key"]), (&json!(parent), &json!("k")));
    assert_eq!(node.state("other", "count").as_deref(), Some("1"));
    assert_eq!(node.state("probe", "count"), None);
    assert!(node.tandem(&["messages", "show", &id]).expect(0).out.contains(&parent));
}

#[test]
fn a_timer_is_due_in_time_also_after_a_kill() {
    let mut node = node();
    let (_, id) = publish(&node, json!({ "after_ms": 2500, "body": { "do": "count" } }));
    let message = node.message(&id);
    assert_eq!(message["status"], "scheduled");
    let due = message["due_ms"].as_u64().expect("it says when");
    assert_eq!(due, message["time_ms"].as_u64().unwrap() + 2500);
    node.kill9();
    node.run();
    assert_eq!(node.message(&id)["attempts"], 0, "the restart took longer than the timer");
    let message = node.wait_for_status(&id, "done");
    assert!(message["tries"][0]["started_ms"].as_u64().unwrap() >= due);
    assert_eq!(node.state("probe", "count").as_deref(), Some("1"));
}

#[test]
fn what_nobody_can_handle_is_a_dead_letter_that_says_why() {
    let node = node();
    let (parent, id) = publish(&node, json!({ "solution": "gone", "body": 1 }));
    let message = node.message(&id);
    assert_eq!(
        (&message["status"], &message["solution"], &message["parent"]),
        (&json!("dead"), &json!("gone"), &json!(parent))
    );
    assert_eq!(message["reason"], "solution `gone` was not deployed when this was published");

    node.deploy(&Solution::lean().named("other"));
    let (_, id) = publish(&node, json!({ "solution": "other", "source": "in", "body": 1 }));
    assert_eq!(
        node.message(&id)["reason"],
        "source `in` of solution `other` is a webhook, not a message"
    );
    let (_, id) = publish(&node, json!({ "solution": "other", "source": "elsewhere", "body": 1 }));
    assert_eq!(
        node.message(&id)["reason"],
        "solution `other` has no source `elsewhere`; it has in"
    );

    // Once it is deployed, a retry reaches it.
    node.deploy(&Solution::probe().named("gone"));
    let (_, id) = publish(&node, json!({ "solution": "gone", "body": { "do": "count" } }));
    node.wait_for_status(&id, "done");
}

#[test]
fn a_letter_to_a_solution_that_came_later_can_be_retried() {
    let node = node();
    let (_, id) = publish(&node, json!({ "solution": "gone", "body": { "do": "count" } }));
    let told = node.tandem(&["messages", "retry", &id]).expect(4);
    assert!(told.err.contains("[unknown-solution]"), "{told}");
    assert_eq!(node.message(&id)["status"], "dead");
    node.deploy(&Solution::probe().named("gone"));
    node.tandem(&["messages", "retry", &id]).expect(0);
    node.wait_for_status(&id, "done");
    assert_eq!(node.state("gone", "count").as_deref(), Some("1"));
}
