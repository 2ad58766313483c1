//! Receivers that are not well: what is tried again, what is dead, and what waits for what.

use std::time::Duration;

use serde_json::{Value, json};
use tandem_tests::{Answer, NodeUnderTest, Receiver, Solution, wait_until};

use crate::TANDEM;

fn node(attempts: u32) -> NodeUnderTest {
    let node = TANDEM.node();
    let delivery = format!(
        "[delivery]\nattempts = {attempts}\ntimeout = \"300ms\"\nbackoff = \"20ms\"\nmax_backoff = \"40ms\""
    );
    node.deploy(&Solution::probe().with(&delivery));
    node
}

fn send(node: &NodeUnderTest, requests: Value) -> String {
    node.accept("probe/in", json!({ "do": "send", "requests": requests }))
}

fn tries(message: &Value) -> Vec<Value> {
    message["deliveries"][0]["tries"].as_array().unwrap().clone()
}

#[test]
fn what_passes_is_tried_again_with_the_same_key() {
    let (node, receiver) = (node(10), Receiver::start());
    for (path, bad) in [
        ("/500", Answer::Status(500)),
        ("/503", Answer::Status(503)),
        ("/408", Answer::Status(408)),
        ("/429", Answer::Status(429)),
        ("/hang", Answer::Hang),
        ("/late", Answer::Late(Duration::from_secs(2))),
        ("/head", Answer::CloseInHead),
    ] {
        receiver.script(path, [bad.clone(), bad, Answer::Status(204)]);
        let id = send(&node, json!([{ "url": receiver.url(path), "body": path }]));
        let message = node.wait_for_delivery(&id, 0, "delivered");
        let tries = tries(&message);
        assert_eq!(tries.len(), 3, "{path}: {tries:#?}");
        assert_eq!(tries[2]["status"], 204);
        if path == "/hang" {
            assert_eq!(tries[0]["error"], "no answer within 300ms");
        }
        let calls = receiver.calls_to(path);
        assert_eq!(calls.len(), 3, "{path}");
        assert!(
            calls.iter().all(|call| call.key() == format!("{id}-0") && call.body == path),
            "{calls:?}"
        );
    }
}

#[test]
fn a_receiver_that_refuses_connections_gets_it_when_it_is_back() {
    let (node, receiver) = (node(100), Receiver::closed());
    let id = send(&node, json!([{ "url": receiver.url("/x") }]));
    wait_until("it was tried twice", || {
        node.message(&id)["deliveries"][0]["tries"].as_array().is_some_and(|tries| tries.len() >= 2)
    });
    let error = tries(&node.message(&id))[0]["error"].clone();
    assert!(
        error.as_str().is_some_and(|e| e.starts_with("the server refuses connections")),
        "{error}"
    );
    receiver.open();
    node.wait_for_delivery(&id, 0, "delivered");
    assert_eq!(receiver.calls().len(), 1);
}

#[test]
fn retry_after_is_kept_to() {
    let (node, receiver) = (node(10), Receiver::start());
    let wait = Answer::With {
        status: 429,
        headers: vec![("retry-after", "1".to_owned())],
        body: "slow down",
    };
    receiver.script("/", [wait, Answer::Status(200)]);
    let id = send(&node, json!([{ "url": receiver.url("/") }]));
    let message = node.wait_for_delivery(&id, 0, "delivered");
    assert_eq!(tries(&message)[0]["answer"], "slow down");
    let calls = receiver.calls();
    assert!(calls[1].at - calls[0].at >= Duration::from_millis(950), "{calls:?}");
}

#[test]
fn a_status_counts_also_if_the_body_breaks_off() {
    let (node, receiver) = (node(10), Receiver::start());
    receiver.script("/", [Answer::CloseInBody]);
    let id = send(&node, json!([{ "url": receiver.url("/") }]));
    let message = node.wait_for_delivery(&id, 0, "delivered");
    assert_eq!(tries(&message)[0]["answer"], "the second half of");
    assert_eq!(receiver.calls().len(), 1);
}

#[test]
fn what_gets_no_better_is_dead_at_once() {
    let (node, receiver) = (node(10), Receiver::start());
    let location = vec![("location", receiver.url("/elsewhere"))];
    receiver.script("/302", [Answer::With { status: 302, headers: location, body: "" }]);
    receiver.script("/404", [Answer::With { status: 404, headers: vec![], body: "no such lead" }]);
    receiver.script("/400", [Answer::Status(400)]);
    for path in ["/302", "/404", "/400"] {
        let id = send(&node, json!([{ "url": receiver.url(path) }]));
        let message = node.wait_for_delivery(&id, 0, "dead");
        assert_eq!(tries(&message).len(), 1, "{path}");
        assert_eq!(message["status"], "done", "the message itself was handled");
        assert_eq!(receiver.calls_to(path).len(), 1);
    }
    assert_eq!(receiver.calls_to("/elsewhere").len(), 0, "redirects are not followed");
    assert_eq!(node.api("status")["deliveries"]["dead"], 3);
}

#[test]
fn after_the_last_attempt_it_is_dead_and_can_be_tried_again_or_given_up() {
    let (node, receiver) = (node(2), Receiver::start());
    receiver.script("/", [Answer::Status(500)]);
    let id = send(&node, json!([{ "url": receiver.url("/") }, { "url": receiver.url("/") }]));
    node.wait_for_delivery(&id, 0, "dead");
    node.wait_for_delivery(&id, 1, "dead");
    assert_eq!(receiver.calls().len(), 4);
    let shown = node.tandem(&["messages", "show", &id]).expect(0).out;
    assert!(shown.contains(&format!("again: tandem messages retry {id} --delivery 0")), "{shown}");

    receiver.script("/", [Answer::Status(200)]);
    node.call("POST", &format!("deliveries/{id}/0/retry"), None).expect(204);
    node.wait_for_delivery(&id, 0, "delivered");
    assert_eq!(receiver.calls()[4].key(), format!("{id}-0"));
    node.call("POST", &format!("deliveries/{id}/0/retry"), None).problem(404, "unknown-delivery");

    node.call("POST", &format!("deliveries/{id}/1/discard"), None).expect(204);
    assert_eq!(
        node.api("status")["deliveries"],
        json!({ "pending": 0, "delivered": 1, "dead": 0 })
    );
    node.call("POST", &format!("deliveries/{id}/1/discard"), None).problem(404, "unknown-delivery");
    node.call("POST", &format!("deliveries/{id}/9/retry"), None).problem(404, "unknown-delivery");
    assert_eq!(receiver.calls().len(), 5);
}

#[test]
fn an_ordered_lane_stays_in_order_while_others_go_through() {
    let (node, receiver) = (node(100), Receiver::start());
    receiver.script("/lane", [500, 500, 503, 500, 200].map(Answer::Status));
    let lane: Vec<_> = (0..6)
        .map(|n| {
            send(
                &node,
                json!([{ "url": receiver.url("/lane"), "body": n.to_string(), "order": "crm" }]),
            )
        })
        .collect();
    // Held up by nothing.
    let other = Receiver::start();
    for n in 0..20 {
        let id = send(&node, json!([{ "url": other.url("/other"), "body": n.to_string() }]));
        node.wait_for_delivery(&id, 0, "delivered");
    }
    for id in &lane {
        node.wait_for_delivery(id, 0, "delivered");
    }
    let mut seen: Vec<_> = receiver.calls_to("/lane").into_iter().map(|call| call.body).collect();
    assert_eq!(seen.len(), 6 + 4);
    seen.dedup();
    assert_eq!(seen, ["0", "1", "2", "3", "4", "5"]);
}

#[test]
fn a_target_that_hangs_does_not_hold_up_another() {
    let node = TANDEM.node_with("[delivery]\nconcurrency = 8\nper_target = 4");
    node.deploy(&Solution::probe().with("[delivery]\ntimeout = \"10m\""));
    let (stuck, well) = (Receiver::start(), Receiver::start());
    stuck.script("/", [Answer::Hang]);
    let requests: Vec<_> = (0..50).map(|_| json!({ "url": stuck.url("/") })).collect();
    send(&node, json!(requests));
    wait_until("all it may have are stuck", || stuck.calls().len() == 4);
    for _ in 0..10 {
        let id = send(&node, json!([{ "url": well.url("/") }]));
        node.wait_for_delivery(&id, 0, "delivered");
    }
    assert_eq!(stuck.calls().len(), 4, "never more at once than per_target");
}

#[test]
fn what_was_not_answered_before_a_kill_is_made_again_with_the_same_key() {
    let mut node = TANDEM.node();
    node.deploy(&Solution::probe().with("[delivery]\ntimeout = \"10m\""));
    let receiver = Receiver::start();
    receiver.script("/", [Answer::Hang, Answer::Status(200)]);
    let id = send(&node, json!([{ "url": receiver.url("/"), "body": "once" }]));
    wait_until("the receiver has it", || receiver.calls().len() == 1);
    node.kill9();
    node.run();
    node.wait_for_delivery(&id, 0, "delivered");
    let keys: Vec<_> = receiver.calls().iter().map(tandem_tests::receiver::Call::key).collect();
    assert_eq!(keys, [format!("{id}-0"), format!("{id}-0")]);
}

#[test]
fn requests_of_an_attempt_have_keys_of_their_own_and_go_as_asked() {
    let (node, receiver) = (node(5), Receiver::start());
    let request = json!({ "method": "PUT", "url": receiver.url("/a?b=c"), "headers": [["x-lead", "7"]], "body": "text" });
    let id = send(&node, json!([request, { "url": receiver.url("/second") }]));
    node.wait_for_delivery(&id, 0, "delivered");
    node.wait_for_delivery(&id, 1, "delivered");
    let first = &receiver.calls_to("/a?b=c")[0];
    assert_eq!((&*first.method, &*first.body, first.header("x-lead")), ("PUT", "text", Some("7")));
    assert_eq!(first.key(), format!("{id}-0"));
    assert_eq!(receiver.calls_to("/second")[0].key(), format!("{id}-1"));
}
