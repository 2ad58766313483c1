//! What a web hook does not take: each with its status, its stable code and what to do.

use std::{io::Write, net::TcpStream};

use serde_json::{Value, json};
use tandem_tests::{NodeUnderTest, Request, Solution, http::Body, wait_for};

use crate::TANDEM;

const HOOK: &str = "/hooks/probe/in";

fn probe() -> NodeUnderTest {
    let node = TANDEM.node();
    node.deploy(&Solution::probe().replace("max_body = \"16MiB\"", "max_body = \"1KiB\""));
    node
}

fn messages(node: &NodeUnderTest) -> usize {
    node.api("messages")["messages"].as_array().map_or(0, Vec::len)
}

#[test]
fn every_refusal_has_its_code_and_keeps_nothing() {
    let node = probe();
    let long = "a".repeat(64);
    let big_header = "b".repeat(40 << 10);
    let no_key = "k".repeat(513);
    let post = |path: &str| Request::post(path, "");
    for (request, status, code, says) in [
        (post("/hooks/nobody/in"), 404, "unknown-solution", "nobody"),
        (post("/hooks/probe/out"), 404, "unknown-source", "it has in, again, tick"),
        (post("/hooks/probe"), 404, "unknown-path", "/hooks/SOLUTION/SOURCE"),
        (post("/hooks/"), 404, "unknown-path", "/hooks/SOLUTION/SOURCE"),
        (post("/hooks/No%20Body/in"), 404, "unknown-solution", "No%20Body"),
        (post("/hooks/../in"), 404, "unknown-solution", ".."),
        (post(&format!("/hooks/{long}/in")), 404, "unknown-solution", &long),
        (post("/hooks/probe/IN"), 404, "unknown-source", "IN"),
        (post("/hooks/probe/in/more"), 404, "unknown-source", "in/more"),
        (post("/hooks/probe/again"), 404, "wrong-source-kind", "is a message, not a webhook"),
        (post("/hooks/probe/in?wait=5"), 400, "bad-wait", "wait=5s"),
        (post("/hooks/probe/in?wait=3m"), 400, "bad-wait", "at most 120 s"),
        (post(HOOK).header("tandem-key", &no_key), 400, "bad-key", "512"),
        (post(HOOK).header("tandem-key", ""), 400, "bad-key", "512"),
        (post(HOOK).header("x-big", &big_header), 431, "headers-too-large", "32768"),
        (Request::post(HOOK, vec![b'a'; 1025]), 413, "body-too-large", "1024 bytes"),
        (
            post(HOOK).body(Body::Chunked(vec![b'a'; 1025], 100)),
            413,
            "body-too-large",
            "1024 bytes",
        ),
        (post("/nowhere"), 404, "unknown-path", "nothing"),
        (post("/api/v1/nowhere"), 404, "unknown-path", "nothing"),
    ] {
        let detail = node.send(&request).problem(status, code);
        assert!(detail.contains(says), "{}: {detail}", request.path);
    }
    assert_eq!(messages(&node), 0);
    // Just at the bound, either way.
    for body in [Body::Sized(vec![b' '; 1024]), Body::Chunked(vec![b' '; 1024], 100)] {
        node.send(&post(HOOK).body(body)).expect(202);
    }
}

#[test]
fn only_post_is_taken() {
    let node = probe();
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let response = node.send(&Request::new(method, HOOK));
        response.problem(405, "method-not-allowed");
        assert_eq!(response.header("allow"), Some("POST"), "{method}");
    }
    let response = node.send(&Request::new("DELETE", "/api/v1/status"));
    response.problem(405, "method-not-allowed");
    assert!(response.header("allow").is_some_and(|allow| allow.contains("GET")), "{response}");
}

#[test]
fn headers_beyond_what_http_may_carry_are_refused() {
    let node = probe();
    let response = node.send(&Request::post(HOOK, "").header("x-huge", &"h".repeat(128 << 10)));
    assert_eq!(response.status, 431, "{response}");
    assert_eq!(messages(&node), 0);
}

#[test]
fn a_sender_of_far_too_much_is_told_so_before_it_has_sent_it() {
    let node = probe();
    let much = || vec![b'a'; 8 << 20];
    for body in [Body::Sized(much()), Body::Chunked(much(), 10_000)] {
        node.send(&Request::post(HOOK, "").body(body)).problem(413, "body-too-large");
    }
    assert_eq!(messages(&node), 0);
}

#[test]
fn a_body_that_breaks_off_is_not_kept() {
    let node = probe();
    let mut stream = TcpStream::connect(node.address).unwrap();
    write!(stream, "POST {HOOK} HTTP/1.1\r\nhost: n\r\ncontent-length: 100\r\n\r\nhalf").unwrap();
    drop(stream);
    node.accept("probe/in", json!({ "do": "ok" }));
    assert_eq!(messages(&node), 1);
}

#[test]
fn a_paused_source_refuses_with_the_reason_until_it_is_resumed() {
    let node = probe();
    let pause = json!({ "source": "in", "reason": "the shop sends everything twice" });
    node.call("POST", "solutions/probe/pause", Some(&pause)).expect(204);
    let detail = node.post(HOOK, "").problem(409, "source-paused");
    assert!(detail.contains("the shop sends everything twice"), "{detail}");
    assert!(detail.contains("tandem solutions resume probe --source in"), "{detail}");
    node.call("POST", "solutions/probe/resume", Some(&json!({ "source": "in" }))).expect(204);
    let id = node.accept("probe/in", "");
    node.wait_for_status(&id, "done");
}

#[test]
fn a_paused_solution_accepts_and_handles_after_it_is_resumed() {
    let mut node = probe();
    let nothing = json!({});
    node.call("POST", "solutions/probe/pause", Some(&json!({ "reason": "moving" }))).expect(204);
    let ids: Vec<_> = (0..5).map(|_| node.accept("probe/in", "")).collect();
    // Also over a restart it waits.
    node.restart();
    let probe = node.api("solutions/probe");
    assert_eq!(
        (&probe["state"], &probe["reason"], &probe["queued"]),
        (&json!("paused"), &json!("moving"), &json!(5))
    );
    assert!(ids.iter().all(|id| node.message(id)["attempts"] == 0));
    node.call("POST", "solutions/probe/resume", Some(&nothing)).expect(204);
    for id in &ids {
        node.wait_for_status(id, "done");
    }
    assert_eq!(node.state("probe", "count").as_deref(), Some("5"));
}

#[test]
fn a_queue_at_its_bound_sends_senders_away_for_now() {
    let node = TANDEM.node();
    node.deploy(&Solution::probe().with("[limits]\nqueue = 3"));
    node.call("POST", "solutions/probe/pause", Some(&json!({}))).expect(204);
    let ids: Vec<_> = (0..3).map(|_| node.accept("probe/in", "")).collect();
    let refused = node.post(HOOK, "");
    let detail = refused.problem(429, "queue-full");
    assert!(detail.starts_with("3 messages of solution `probe` wait already"), "{detail}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    let told = node.tandem(&["send", "probe", "in", "--body", "x"]).expect(7);
    assert!(told.err.contains("[queue-full]"), "{told}");

    node.call("POST", "solutions/probe/resume", Some(&json!({}))).expect(204);
    for id in &ids {
        node.wait_for_status(id, "done");
    }
    node.accept("probe/in", "");
    assert_eq!(messages(&node), 4);
}

#[test]
fn a_sender_finds_no_room_while_others_fill_it() {
    let node = TANDEM.node_with("[ingress]\nin_flight = \"16MiB\"");
    node.deploy(&Solution::probe());
    let whole = 16 << 20;
    let mut slow = TcpStream::connect(node.address).unwrap();
    write!(slow, "POST {HOOK} HTTP/1.1\r\nhost: n\r\ncontent-length: {whole}\r\n\r\n").unwrap();
    let refused = wait_for("the slow sender has all the room", || {
        let response = node.post(HOOK, vec![b' '; 1 << 20]);
        (response.status != 202).then_some(response)
    });
    refused.problem(503, "busy");
    assert_eq!(refused.header("retry-after"), Some("1"));
    drop(slow);
    node.accept("probe/in", "");
}

#[test]
fn who_waits_is_told_what_came_of_it() {
    let node = TANDEM.node();
    node.deploy(&Solution::probe().with("[retry]\nattempts = 1"));
    let wait = |ask: Value| node.post(&format!("{HOOK}?wait=30s"), ask.to_string());

    let replied = wait(json!({ "do": "ok", "reply": { "a": 1 }, "status": 201 })).expect(201);
    assert_eq!(replied.json(), json!({ "a": 1 }));
    let id = replied.header("tandem-message-id").expect("it names the message");
    assert_eq!(node.message(id)["status"], "done");
    assert_eq!(wait(json!({ "do": "ok" })).expect(200).json()["status"], "done");

    let detail =
        wait(json!({ "do": "reject", "reason": "no such customer" })).problem(422, "rejected");
    assert_eq!(detail, "no such customer");
    let detail = wait(json!({ "do": "trap" })).problem(502, "not-handled");
    assert!(detail.contains("tandem messages show"), "{detail}");

    let body = json!({ "do": "sleep", "ms": 700 }).to_string();
    for patience in ["50ms", "0s"] {
        let receipt =
            node.post(&format!("{HOOK}?wait={patience}"), body.clone()).expect(202).json();
        node.wait_for_status(receipt["id"].as_str().unwrap(), "done");
    }
}
