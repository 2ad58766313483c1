//! One message's whole life: hook, receipt, handling, state, delivery, and the telling of it.

use serde_json::json;
use tandem_tests::{Receiver, Request, Solution};

use crate::TANDEM;

const LEAD: &str = r#"{"name": "Mara", "email": "mara@example.com", "country": "AT"}"#;

#[test]
fn a_message_is_kept_handled_and_delivered() {
    let (node, crm) = (TANDEM.node(), Receiver::start());
    node.deploy(&Solution::lead_router());
    node.set("lead-router", "crm_url", &json!(crm.url("")));

    let hook = Request::post("/hooks/lead-router/form", LEAD)
        .header("content-type", "application/json")
        .header("tandem-key", "mara")
        .header("x-form", "landing")
        .header("authorization", "Bearer secret");
    let receipt = node.send(&hook).expect(202).json();
    let id = receipt["id"].as_str().unwrap();
    assert_eq!((&receipt["epoch"], &receipt["durability"]), (&json!(1), &json!(1)));

    let message = node.wait_for_delivery(id, 0, "delivered");
    assert_eq!(message["status"], "done");
    assert_eq!(message["seq"], receipt["seq"]);
    assert_eq!(message["key"], "mara");
    assert_eq!(
        message["headers"],
        json!([["x-form", "landing"], ["tandem-client", "127.0.0.1"]]),
        "what is for the node is not kept"
    );
    assert_eq!(message["body"]["text"], LEAD);
    let attempt = &message["tries"][0];
    assert_eq!((&attempt["outcome"], &attempt["reply_status"]), (&json!("done"), &json!(201)));
    assert_eq!(attempt["state_written"], json!(["leads/dach"]));
    assert_eq!(attempt["log"][0]["text"], "lead 1 of dach");
    assert_eq!(node.state("lead-router", "leads/dach").as_deref(), Some("1"));

    let calls = crm.calls();
    let [call] = calls.as_slice() else { panic!("one call, not {calls:?}") };
    assert_eq!((&*call.method, &*call.path), ("POST", "/leads"));
    assert_eq!(call.key(), format!("{id}-0"));
    assert_eq!(message["deliveries"][0]["idempotency_key"], format!("{id}-0"));
    let lead: serde_json::Value = serde_json::from_str(&call.body).unwrap();
    assert_eq!((&lead["territory"], &lead["number"]), (&json!("dach"), &json!(1)));

    let shown = node.tandem(&["messages", "show", id]).expect(0).out;
    for told in [
        id,
        "lead-router/form",
        "done",
        "mara",
        "x-form: landing",
        "attempt 1: done",
        "replied 201",
        "lead 1 of dach",
        "state written: leads/dach",
        "outbox: 1 request",
        "delivery 0, try 1: 200",
        "delivery 0: delivered after 1 try",
        &format!("idempotency key {id}-0"),
    ] {
        assert!(shown.contains(told), "`{told}` is not told in\n{shown}");
    }
    assert!(!shown.contains("secret"), "{shown}");
    let as_json = node.tandem(&["messages", "show", id, "--json"]).expect(0).json();
    assert_eq!(as_json, node.message(id), "--json is the node's own answer");
}

#[test]
fn a_life_outlasts_the_process() {
    let (mut node, crm) = (TANDEM.node(), Receiver::start());
    node.deploy(&Solution::lead_router());
    node.set("lead-router", "crm_url", &json!(crm.url("")));
    let id = node.accept("lead-router/form", LEAD);
    let before = node.wait_for_delivery(&id, 0, "delivered");
    node.kill9();
    node.run();
    assert_eq!(node.message(&id), before);
    node.restart();
    assert_eq!(node.message(&id), before);
    assert_eq!(crm.calls().len(), 1);
}
