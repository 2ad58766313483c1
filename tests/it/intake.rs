//! What a sender may send twice, sign, or send many of.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tandem_tests::{NodeUnderTest, Request, Response, Solution, wait_until};

use crate::TANDEM;

const HOOK: &str = "/hooks/probe/in";
const NDJSON: &str = "application/x-ndjson";
const COUNT: &str = r#"{"do":"count"}"#;

/// A node with the probe, whose web hook has these keys in its manifest too.
fn node_with(keys: &str) -> NodeUnderTest {
    let node = TANDEM.node();
    let max_body = "max_body = \"16MiB\"";
    node.deploy(&Solution::probe().replace(max_body, &format!("{max_body}\n{keys}")));
    node
}

fn node() -> NodeUnderTest {
    node_with("")
}

fn messages(node: &NodeUnderTest) -> usize {
    node.api("messages?limit=1000")["messages"].as_array().map_or(0, Vec::len)
}

/// The receipt, and whether it is one that was given before.
#[track_caller]
fn receipt(response: Response) -> (Value, bool) {
    let response = response.expect(202);
    (response.json(), response.header("tandem-duplicate") == Some("true"))
}

fn counted(node: &NodeUnderTest, times: &str) {
    wait_until("all are handled", || node.api("solutions/probe")["queued"] == 0);
    assert_eq!(node.state("probe", "count").as_deref(), Some(times));
}

#[test]
fn a_sender_that_repeats_itself_gets_the_first_receipt() {
    let mut node = node();
    let send = |node: &NodeUnderTest, body: &str| {
        node.send(&Request::post(HOOK, body).header("Idempotency-Key", "order-7"))
    };
    let (first, is_duplicate) = receipt(send(&node, COUNT));
    assert!(!is_duplicate);
    assert_eq!(receipt(send(&node, COUNT)), (first.clone(), true));
    counted(&node, "1");
    node.kill9();
    node.run();
    assert_eq!(receipt(send(&node, COUNT)), (first.clone(), true), "also after a crash");
    let detail = send(&node, "{}").problem(422, "idempotency-key-reused");
    assert!(detail.contains(first["id"].as_str().unwrap()), "{detail}");
    assert_eq!(messages(&node), 1);
    counted(&node, "1");
}

#[test]
fn who_waits_with_a_key_that_is_being_handled_joins_the_first() {
    let node = node();
    let body = r#"{"do":"sleep","ms":700}"#;
    let send = |path: &str| node.send(&Request::post(path, body).header("idempotency-key", "slow"));
    let (first, _) = receipt(send(HOOK));
    for _ in 0..2 {
        // The second time it is over already.
        let joined = send(&format!("{HOOK}?wait=30s")).expect(200);
        assert_eq!(joined.header("tandem-message-id"), first["id"].as_str());
        assert_eq!(joined.header("tandem-duplicate"), Some("true"));
    }
    assert_eq!(messages(&node), 1);
}

#[test]
fn keys_that_are_none_are_refused() {
    let node = node();
    let long = "k".repeat(300);
    for (name, key) in [
        ("idempotency-key", ""),
        ("idempotency-key", &long),
        ("idempotency-key", "schlüssel"),
        ("webhook-id", &long),
    ] {
        let response = node.send(&Request::post(HOOK, COUNT).header(name, key));
        let detail = response.problem(400, "bad-idempotency-key");
        assert!(detail.contains("1 to 255"), "{detail}");
    }
    assert_eq!(messages(&node), 0);
}

#[test]
fn events_are_known_by_their_source_and_id() {
    let node = node();
    let binary = |left_out: &str, id: &str| {
        let names = ["ce-specversion", "ce-id", "ce-source", "ce-type"];
        let values = ["1.0", id, "/shop", "order"];
        let headers = names.into_iter().zip(values).filter(|(name, _)| *name != left_out);
        let post = Request::post(HOOK, COUNT).header("content-type", "application/json");
        node.send(&headers.fold(post, |post, (name, value)| post.header(name, value)))
    };
    let (first, _) = receipt(binary("", "1"));
    assert_eq!(receipt(binary("", "1")), (first.clone(), true));
    assert!(!receipt(binary("", "2")).1);
    let kept = node.message(first["id"].as_str().unwrap());
    assert!(kept["headers"].as_array().unwrap().contains(&json!(["ce-type", "order"])), "{kept}");
    for (header, attribute) in [("ce-id", "`id`"), ("ce-specversion", "`specversion`")] {
        let detail = binary(header, "3").problem(400, "bad-cloudevent");
        assert!(detail.contains(attribute), "{detail}");
    }

    let structured = |body: &str| {
        let content_type = "application/cloudevents+json; charset=utf-8";
        node.send(&Request::post(HOOK, body).header("content-type", content_type))
    };
    let event = r#"{"specversion":"1.0","id":"9","source":"/shop","type":"order","data":{}}"#;
    let (first, _) = receipt(structured(event));
    assert_eq!(receipt(structured(event)), (first.clone(), true));
    assert_eq!(node.message(first["id"].as_str().unwrap())["body"]["text"], event);
    let detail = structured(&event.replace("\"source\"", "\"sauce\""));
    assert!(detail.problem(400, "bad-cloudevent").contains("`source`"));
    structured("{").problem(400, "bad-cloudevent");
    structured(&event.replace("{}", "1")).problem(422, "idempotency-key-reused");
    assert_eq!(messages(&node), 3);
}

#[test]
fn a_source_may_know_its_messages_by_something_in_them_or_by_nothing() {
    let node = node_with("once_by = \"/order/id\"");
    let send = |body: &str| node.post(HOOK, body);
    let (first, _) = receipt(send(r#"{"order":{"id":7}}"#));
    assert_eq!(receipt(send(r#"{"order":{"id":7}}"#)), (first, true));
    send(r#"{"order":{"id":7,"n":1}}"#).problem(422, "idempotency-key-reused");
    for body in ["{}", "no JSON", r#"{"order":{"id":[]}}"#] {
        let detail = send(body).problem(400, "no-key-in-body");
        assert!(detail.contains("`/order/id`"), "{detail}");
    }
    assert_eq!(messages(&node), 1);

    let node = node_with("once_by = \"none\"");
    let send = || node.send(&Request::post(HOOK, COUNT).header("idempotency-key", "k"));
    assert_ne!(receipt(send()).0["id"], receipt(send()).0["id"]);
}

#[test]
fn a_key_is_forgotten_after_its_window() {
    let node = node_with("once_window = \"1s\"");
    let send = || receipt(node.send(&Request::post(HOOK, COUNT).header("idempotency-key", "k")));
    let (first, _) = send();
    wait_until("the key is forgotten", || send().0["id"] != first["id"]);
}

const SECRET: &[u8] = b"a secret of some length";

/// As a sender that follows Standard Webhooks signs, `seconds` away from now.
fn signed(id: &str, body: &str, secret: &[u8], seconds: i64) -> Request {
    #[expect(clippy::disallowed_methods, reason = "the node goes by the machine's clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let time = now.checked_add_signed(seconds).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(format!("{id}.{time}.{body}").as_bytes());
    let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    Request::post(HOOK, body)
        .header("webhook-id", id)
        .header("webhook-timestamp", &time.to_string())
        .header("webhook-signature", &format!("v1,bm90aGluZw== v1,{signature}"))
}

#[test]
fn only_who_signs_is_believed_and_only_once() {
    let node = node_with(
        r#"signature = { scheme = "standard-webhooks", secret = "setting:hook-secret" }"#,
    );
    let denied = |request: &Request| node.send(request).problem(401, "signature-invalid");
    let told = denied(&signed("m1", COUNT, SECRET, 0));
    wait_until("the node warns", || node.log().contains("hook-secret"));
    let secret = format!("whsec_{}", BASE64_STANDARD.encode(SECRET));
    node.set("probe", "hook-secret", &json!(secret));

    let changed = Request { body: Request::post("", "{}").body, ..signed("m1", COUNT, SECRET, 0) };
    for request in [
        Request::post(HOOK, COUNT),
        signed("m1", COUNT, b"another secret", 0),
        signed("m1", COUNT, SECRET, -400),
        signed("m1", COUNT, SECRET, 400),
        changed,
    ] {
        assert_eq!(denied(&request), told, "nobody learns what was wrong");
    }
    assert_eq!(messages(&node), 0);

    let request = signed("m1", COUNT, SECRET, -200);
    let (first, _) = receipt(node.send(&request));
    // A replay, also under another name that is not signed.
    assert_eq!(receipt(node.send(&request)), (first.clone(), true));
    let renamed = request.header("idempotency-key", "another");
    assert_eq!(receipt(node.send(&renamed)), (first, true));
    node.send(&signed("m1", "{}", SECRET, 0)).problem(422, "idempotency-key-reused");
    receipt(node.send(&signed("m2", COUNT, SECRET, 0)));
    counted(&node, "2");
}

#[test]
fn as_github_signs() {
    let node = node_with(r#"signature = { scheme = "github", secret = "setting:hook-secret" }"#);
    node.set("global", "hook-secret", &json!("It's a Secret to Everybody"));
    // From GitHub's documentation.
    let right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let send =
        |body: &str| node.send(&Request::post(HOOK, body).header("X-Hub-Signature-256", right));
    send("Hello, World!").expect(202);
    send("Hello, World?").problem(401, "signature-invalid");
    node.post(HOOK, "Hello, World!").problem(401, "signature-invalid");
    assert_eq!(messages(&node), 1);
}

#[test]
fn a_batch_has_a_receipt_for_each_message() {
    let node = node();
    let send = |body: &str| {
        let post = Request::post(HOOK, body).header("content-type", NDJSON);
        node.send(&post.header("idempotency-key", "batch-1").header("x-of", "all"))
    };
    let body = format!("{COUNT}\n").repeat(100);
    let (answer, is_duplicate) = receipt(send(&body));
    assert!(!is_duplicate);
    let receipts = answer["receipts"].as_array().unwrap();
    assert_eq!(receipts.len(), 100);
    assert!(receipts.iter().all(|r| r["durability"] == 1 && r["seq"] == receipts[0]["seq"]));
    assert!(receipts.is_sorted_by_key(|receipt| receipt["id"].as_str().unwrap().to_owned()));
    let message = node.message(receipts[99]["id"].as_str().unwrap());
    assert_eq!(
        (&message["body"]["text"], &message["content_type"]),
        (&json!(COUNT), &json!("application/json"))
    );
    assert!(message["headers"].as_array().unwrap().contains(&json!(["x-of", "all"])), "{message}");
    counted(&node, "100");

    let (again, is_duplicate) = receipt(send(&body));
    assert!(is_duplicate);
    let pairs = receipts.iter().zip(again["receipts"].as_array().unwrap());
    assert!(pairs.into_iter().all(|(a, b)| a["id"] == b["id"] && b["duplicate"] == true));
    send(&format!("{body}{COUNT}")).problem(422, "idempotency-key-reused");
    counted(&node, "100");
}

#[test]
fn a_batch_is_all_or_nothing() {
    let node = TANDEM.node();
    node.deploy(&Solution::probe().with("[limits]\nqueue = 3"));
    node.call("POST", "solutions/probe/pause", Some(&json!({}))).expect(204);
    let send = |content_type: &str, body: &str, path: &str| {
        node.send(&Request::post(path, body).header("content-type", content_type))
    };
    let events = "application/cloudevents-batch+json";
    let event = |id: u8| format!(r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"t"}}"#);
    let detail = send(NDJSON, "{}\n{\"a\":\n{}", HOOK).problem(400, "bad-batch");
    assert!(detail.starts_with("line 2 is no JSON value"), "{detail}");
    send(NDJSON, "", HOOK).problem(400, "bad-batch");
    send(NDJSON, &"1\n".repeat(10_001), HOOK).problem(413, "batch-too-large");
    send(NDJSON, COUNT, &format!("{HOOK}?wait=1s")).problem(400, "wait-for-batch");
    send(NDJSON, "1\n2\n3\n4", HOOK).problem(429, "queue-full");
    send(events, "{}", HOOK).problem(400, "bad-batch");
    let detail = send(events, &format!("[{},{{}}]", event(1)), HOOK).problem(400, "bad-cloudevent");
    assert!(detail.starts_with("message 2 of the batch"), "{detail}");
    let twice = event(1).replace("\"t\"", "\"u\"");
    send(events, &format!("[{},{twice}]", event(1)), HOOK).problem(422, "idempotency-key-reused");
    // A batch that breaks off.
    let mut stream = TcpStream::connect(node.address).unwrap();
    let head = format!("POST {HOOK} HTTP/1.1\r\nhost: n\r\ncontent-type: {NDJSON}");
    write!(stream, "{head}\r\ncontent-length: 100\r\n\r\n{COUNT}\n{COUNT}\n").unwrap();
    drop(stream);
    assert_eq!(messages(&node), 0);

    let (answer, _) = receipt(send(events, &format!("[{}, {}]", event(1), event(2)), HOOK));
    let (again, is_duplicate) =
        receipt(send(events, &format!("[{}, {}]", event(2), event(3)), HOOK));
    assert!(!is_duplicate, "not all of it came before");
    assert_eq!(again["receipts"][0]["id"], answer["receipts"][1]["id"]);
    assert_eq!(again["receipts"][0]["duplicate"], true);
    assert_eq!(again["receipts"][1]["duplicate"], Value::Null);
    assert_eq!(messages(&node), 3);
}

#[test]
fn a_header_that_is_no_text_is_kept_as_it_is() {
    let node = node();
    let mut stream = TcpStream::connect(node.address).unwrap();
    let head = format!("POST {HOOK} HTTP/1.1\r\nhost: n\r\nconnection: close\r\ncontent-length: 0");
    stream.write_all(&[head.as_bytes(), b"\r\nx-name: M\xfcller\r\n\r\n"].concat()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    let id = answer.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap();
    node.wait_for_status(id, "done");
}
