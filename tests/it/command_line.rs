//! Exit codes and channels of the command line: scripts decide by them.

use serde_json::{Value, json};
use tandem_tests::{Receiver, Solution};

use crate::TANDEM;

#[test]
fn a_node_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = Receiver::closed();
    for command in
        [&["status"][..], &["solutions"], &["messages", "list"], &["send", "a", "b", "--body", ""]]
    {
        let url = nobody.url("");
        let arguments = [command, &["--node", &url]].concat();
        let told = TANDEM.run(folder.path(), &arguments).expect(3);
        assert_eq!(told.out, "", "{command:?}");
        assert!(told.err.contains("tandem run"), "it says what to do: {told}");
        let told = TANDEM.run(folder.path(), &[&arguments, &["--json"][..]].concat()).expect(3);
        let error: Value = serde_json::from_str(&told.err).unwrap();
        assert_eq!((&error["code"], &error["exit"]), (&json!("unreachable"), &json!(3)));
    }
}

#[test]
fn what_is_not_there_and_what_is_no_command() {
    let node = TANDEM.node();
    let id = "0193572c-9a4e-7c11-8a52-4f0e2d1b7a90";
    for (command, code) in [
        (&["messages", "show", id][..], "unknown-message"),
        (&["messages", "retry", id], "unknown-message"),
        (&["messages", "discard", id, "--delivery", "0"], "unknown-delivery"),
        (&["solutions", "show", "nobody"], "unknown-solution"),
        (&["solutions", "pause", "nobody"], "unknown-solution"),
        (&["solutions", "rollback", "nobody"], "unknown-solution"),
        (&["solutions", "remove", "nobody"], "unknown-solution"),
        (&["send", "nobody", "in", "--body", "x"], "unknown-solution"),
    ] {
        let told = node.tandem(command).expect(4);
        assert!(
            told.out.is_empty() && told.err.contains(&format!("[{code}]")),
            "{command:?}: {told}"
        );
    }
    node.tandem(&["messages", "show", "no-id"]).expect(1);
    node.tandem(&["messages", "list", "--status", "lost"]).expect(2);
    node.tandem(&["massages"]).expect(2);
    node.tandem(&["status", "--node", "ftp://x"]).expect(2);
    let told = node.tandem(&["check", "nowhere"]).expect(1);
    assert!(told.err.contains("there is no solution at nowhere"), "{told}");
}

#[test]
fn sending_by_hand() {
    let node = TANDEM.node();
    node.deploy(&Solution::probe());
    let receipt = node
        .tandem(&["send", "probe", "in", "--body", "{\"do\": \"ok\"}", "--json"])
        .expect(0)
        .json();
    node.wait_for_status(receipt["id"].as_str().unwrap(), "done");
    let echo = [
        "send",
        "probe",
        "in",
        "--body",
        "{\"do\": \"echo\"}",
        "--header",
        "x-a=b",
        "--key",
        "k",
        "--wait=30s",
    ];
    let echoed = node.tandem(&echo).expect(0).json();
    assert_eq!(
        (&echoed["key"], &echoed["content_type"]),
        (&json!("k"), &json!("application/json"))
    );
    assert!(echoed["headers"].as_array().unwrap().contains(&json!(["x-a", "b"])), "{echoed}");
    node.tandem(&["send", "probe", "in", "--body", "{\"do\": \"reject\"}", "--wait=30s"]).expect(1);
    let status = node.tandem(&["status", "--json"]).expect(0).json();
    assert_eq!(status["messages"]["handled"], 3);
    let listed =
        node.tandem(&["messages", "list", "--solution", "probe", "--json"]).expect(0).json();
    assert_eq!(listed["messages"].as_array().map(Vec::len), Some(3));
}

#[test]
fn a_bad_page_query_is_refused() {
    let node = TANDEM.node();
    node.call("GET", "messages?status=lost", None).problem(400, "bad-status");
    node.call("GET", "messages?limit=many", None).problem(400, "bad-query");
    node.call("GET", "messages?before=x", None).problem(400, "bad-id");
    node.call("GET", "messages/x", None).problem(400, "bad-id");
    node.call("POST", "solutions", Some(&json!({ "manifest": 1 }))).problem(422, "bad-body");
    node.call("POST", "solutions", None).problem(415, "bad-body");
    let no_base64 = json!({ "manifest": Solution::lean().manifest, "component": "?" });
    node.call("POST", "solutions", Some(&no_base64)).problem(400, "bad-body");
}
