//! What operators do: settings, state, versions, pausing and removing.

use serde_json::json;
use tandem_tests::{NodeUnderTest, Receiver, Solution};

use crate::TANDEM;

fn ask(node: &NodeUnderTest, ask: &serde_json::Value) -> serde_json::Value {
    node.post("/hooks/probe/in?wait=30s", ask.to_string()).expect(200).json()
}

#[test]
fn settings_are_set_read_and_unset() {
    let mut node = TANDEM.node();
    node.deploy(&Solution::probe());
    let setting = json!({ "do": "setting", "name": "limit" });
    assert_eq!(ask(&node, &setting), json!(null));
    node.tandem(&["settings", "set", "limit", "42"]).expect(0);
    assert_eq!(ask(&node, &setting), json!(42));
    node.tandem(&["settings", "set", "limit", "\"42\"", "--solution", "probe"]).expect(0);
    assert_eq!(ask(&node, &setting), json!("42"), "a solution's own comes first");
    node.restart();
    assert_eq!(ask(&node, &setting), json!("42"));

    let listed = node.tandem(&["settings", "list"]).expect(0).out;
    assert!(
        listed.contains("global") && listed.contains("probe") && listed.contains("limit"),
        "{listed}"
    );
    assert_eq!(node.tandem(&["settings", "get", "limit"]).expect(0).json(), json!(42));
    node.tandem(&["settings", "unset", "limit", "--solution", "probe"]).expect(0);
    assert_eq!(ask(&node, &setting), json!(42));
    let told = node.tandem(&["settings", "unset", "limit", "--solution", "probe"]).expect(4);
    assert!(told.err.contains("[unknown-setting]"), "{told}");
    node.tandem(&["settings", "get", "nothing"]).expect(4);
    node.call("PUT", "settings/global/No%20Name", Some(&json!(1))).problem(400, "bad-name");
}

#[test]
fn state_is_listed_and_read() {
    let node = TANDEM.node();
    node.deploy(&Solution::probe());
    for key in ["a/1", "a/2", "b"] {
        let body = json!({ "do": "set", "key": key, "value": format!("value of {key}") });
        node.post("/hooks/probe/in?wait=30s", body.to_string()).expect(200);
    }
    let keys = |query: &str| -> Vec<String> {
        let entries = node.api(&format!("state/probe?{query}"));
        entries.as_array().unwrap().iter().map(|e| e["key"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(keys(""), ["a/1", "a/2", "b"]);
    assert_eq!(keys("prefix=a/"), ["a/1", "a/2"]);
    assert_eq!(keys("after=a/1&limit=1"), ["a/2"]);
    let listed = node.tandem(&["state", "list", "probe", "--prefix", "a/"]).expect(0).out;
    assert!(listed.contains("value of a/2") && !listed.contains("value of b"), "{listed}");
    assert_eq!(node.tandem(&["state", "get", "probe", "a/1"]).expect(0).out, "value of a/1\n");
    assert_eq!(
        node.tandem(&["state", "get", "probe", "a/1", "--raw"]).expect(0).out,
        "value of a/1"
    );
    let told = node.tandem(&["state", "get", "probe", "c"]).expect(4);
    assert!(told.err.contains("[unknown-key]"), "{told}");
    node.tandem(&["state", "list", "nobody"]).expect(4);
}

#[test]
fn versions_come_and_go_back() {
    let mut node = TANDEM.node();
    let first = Solution::probe();
    let second = first.clone().replace("version = \"0.1.0\"", "version = \"0.2.0\"");
    let deployed = node.deploy(&first);
    assert_eq!((&deployed["revision"], &deployed["changed"]), (&json!(1), &json!(true)));
    let again = node.deploy(&first);
    assert_eq!((&again["revision"], &again["changed"]), (&json!(1), &json!(false)));
    node.tandem(&["solutions", "rollback", "probe"]).expect(1);
    assert_eq!(node.deploy(&second)["revision"], 2);
    assert_eq!(ask(&node, &json!({ "do": "count" })), json!(1));

    node.tandem(&["solutions", "rollback", "probe"]).expect(0);
    node.restart();
    let probe = node.api("solutions/probe");
    assert_eq!(probe["version"], "0.1.0");
    let active: Vec<_> =
        probe["versions"].as_array().unwrap().iter().map(|v| v["active"].clone()).collect();
    assert_eq!(active, [true, false]);
    assert_eq!(
        ask(&node, &json!({ "do": "count" })),
        json!(2),
        "state is the solution's, not the version's"
    );
    let id = node.api("messages?limit=1")["messages"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(node.message(&id)["tries"][0]["version"], "0.1.0");

    node.tandem(&["solutions", "rollback", "probe", "--revision", "2"]).expect(0);
    assert_eq!(node.api("solutions/probe")["version"], "0.2.0");
    let told = node.tandem(&["solutions", "rollback", "probe", "--revision", "7"]).expect(4);
    assert!(told.err.contains("has no revision 7; it has [1, 2] [unknown-revision]"), "{told}");
    let manifest = node.tandem(&["solutions", "show", "probe", "--manifest"]).expect(0).out;
    assert_eq!(manifest, second.manifest);
}

#[test]
fn a_solution_with_messages_is_not_removed() {
    let mut node = TANDEM.node();
    node.deploy(&Solution::lean());
    node.tandem(&["solutions", "pause", "lean"]).expect(0);
    let id = node.accept("lean/in", "");
    let told = node.tandem(&["solutions", "remove", "lean"]).expect(1);
    assert!(told.err.contains("1 messages of solution `lean` still wait"), "{told}");
    assert!(told.err.contains("[still-queued]"), "{told}");
    node.tandem(&["solutions", "resume", "lean"]).expect(0);
    node.wait_for_status(&id, "done");
    node.tandem(&["solutions", "remove", "lean"]).expect(0);
    node.restart();
    node.tandem(&["solutions", "show", "lean"]).expect(4);
    node.post("/hooks/lean/in", "").problem(404, "unknown-solution");
    assert_eq!(node.message(&id)["status"], "done", "its messages can still be looked up");
    // One of the same name begins afresh.
    node.deploy(&Solution::lean());
    assert_eq!(node.api("state/lean"), json!([]));
}

#[test]
fn what_a_stop_in_order_interrupts_is_done_once() {
    let mut node = TANDEM.node();
    node.deploy(&Solution::probe());
    let ask = json!({ "do": "all", "asks": [{ "do": "sleep", "ms": 200 }, { "do": "count" }] });
    let ids: Vec<_> = (0..5).map(|_| node.accept("probe/in", &ask)).collect();
    // By then the next is being handled, and others wait.
    node.wait_for_status(&ids[0], "done");
    assert_eq!(node.stop(), Some(0), "{}", node.log());
    assert!(!node.data_dir().join("listen").exists());
    node.run();
    for id in &ids {
        assert_eq!(node.wait_for_status(id, "done")["attempts"], 1);
    }
    assert_eq!(node.state("probe", "count").as_deref(), Some("5"));
}

#[test]
fn a_solution_with_requests_under_way_is_not_removed() {
    let (node, receiver) = (TANDEM.node(), Receiver::closed());
    node.deploy(&Solution::lean());
    node.set("lean", "sink", &json!(receiver.url("/sink")));
    let id = node.accept("lean/in", "kept");
    node.wait_for_status(&id, "done");
    let told = node.tandem(&["solutions", "remove", "lean"]).expect(1);
    assert!(told.err.contains("1 requests of solution `lean` are not delivered yet"), "{told}");
    assert!(told.err.contains("[still-undelivered]"), "{told}");
    receiver.open();
    node.wait_for_delivery(&id, 0, "delivered");
    assert_eq!(receiver.calls()[0].body, "kept");
    node.tandem(&["solutions", "remove", "lean"]).expect(0);
}
