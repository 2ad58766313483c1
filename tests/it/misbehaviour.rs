//! Solutions that do what they should not: each gets its outcome, and nobody else notices.

use serde_json::{Value, json};
use tandem_tests::{NodeUnderTest, Solution, http::Request};

use crate::TANDEM;

/// Tight limits and one attempt.
const STRICT: &str = "[limits]\ntime = \"300ms\"\nmemory = \"8MiB\"\n[retry]\nattempts = 1";

fn strict() -> NodeUnderTest {
    let node = TANDEM.node();
    node.deploy(&Solution::probe().with(STRICT));
    node
}

#[test]
fn each_fault_has_its_outcome_while_others_go_on() {
    let node = strict();
    node.deploy(&Solution::lean());
    let faults = [
        (json!({ "do": "trap", "message": "no plan B" }), "trapped", "no plan B"),
        (json!({ "do": "unreachable" }), "trapped", "unreachable"),
        (json!({ "do": "oob" }), "trapped", "out of bounds"),
        // Of its two stacks, the one in its memory and the one outside, either may end first.
        (json!({ "do": "recurse" }), "trapped", ""),
        (json!({ "do": "loop" }), "timed-out", "300 ms"),
        (json!({ "do": "alloc" }), "out-of-memory", "8 MiB"),
        (json!({ "do": "sleep", "ms": 60_000 }), "timed-out", "300 ms"),
        (json!({ "do": "other", "reason": "the weather" }), "failed", "the weather"),
    ];
    let bad: Vec<_> = faults.iter().map(|(ask, ..)| node.accept("probe/in", ask)).collect();
    // All of these wait behind nothing: who waits for a reply gets it although the faults run.
    for _ in 0..50 {
        node.post("/hooks/lean/in?wait=30s", "").expect(200);
    }
    for (id, (ask, outcome, reason)) in bad.iter().zip(&faults) {
        let message = node.wait_for_status(id, "dead");
        assert_eq!(message["outcome"], *outcome, "{ask}: {message:#}");
        let told = message["tries"][0]["reason"].as_str().unwrap_or_default();
        assert!(told.contains(reason), "{ask}: {told}");
    }
    // The probe itself is none the worse.
    node.post("/hooks/probe/in?wait=30s", "").expect(200);
    assert_eq!(node.api("solutions/lean")["state"], "running");
}

#[test]
fn a_trap_is_told_with_its_backtrace_and_log() {
    let node = strict();
    let ask = json!({ "do": "all", "asks": [{ "do": "log", "n": 1, "l": 5 }, { "do": "trap", "message": "no plan B" }] });
    let id = node.accept("probe/in", ask);
    let message = node.wait_for_status(&id, "dead");
    let frames = message["tries"][0]["backtrace"].as_array().unwrap();
    assert!(frames.iter().any(|f| f.as_str().is_some_and(|f| f.contains("probe"))), "{frames:?}");
    let shown = node.tandem(&["messages", "show", &id]).expect(0).out;
    for told in ["attempt 1: trapped", "no plan B", "    at ", "probe::act", "lllll"] {
        assert!(shown.contains(told), "`{told}` is not told in\n{shown}");
    }
}

#[test]
fn limits_of_state_reply_and_log_hold() {
    let node = TANDEM.node();
    node.deploy(&Solution::probe().with("[retry]\nattempts = 1\n[limits]\nmemory = \"256MiB\""));
    let ask = |ask: &Value| {
        let id = node.accept("probe/in", ask);
        tandem_tests::wait_for("it is over", || {
            Some(node.message(&id)).filter(|m| m["status"] == "done" || m["status"] == "dead")
        })
    };
    let mib = 1 << 20;
    for (body, outcome, reason) in [
        (json!({ "do": "big_state", "n": mib }), "done", ""),
        (json!({ "do": "big_state", "n": mib + 1 }), "failed", "at most 1 MiB"),
        (json!({ "do": "big_state", "n": mib, "times": 17 }), "failed", "the most is 16777216"),
        (json!({ "do": "set", "key": "k".repeat(513), "value": "" }), "failed", "512"),
        (json!({ "do": "set", "key": "", "value": "" }), "failed", "the key is empty"),
        (json!({ "do": "big_reply", "n": 4 * mib + 1 }), "trapped", "the most is 4194304"),
    ] {
        let message = ask(&body);
        assert_eq!(message["outcome"], outcome, "{body}: {:#}", message["tries"]);
        let told = message["tries"][0]["reason"].as_str().unwrap_or_default();
        assert!(told.contains(reason), "{body}: {told}");
    }
    let logged = ask(&json!({ "do": "log", "n": 1500, "l": 10_000 }));
    let attempt = &logged["tries"][0];
    let lines = attempt["log"].as_array().unwrap();
    assert_eq!((lines.len(), &attempt["log_dropped"]), (1000, &json!(500)));
    assert!(lines[0]["text"].as_str().unwrap().len() <= 8 << 10);
    let keys: Vec<_> =
        node.api("state/probe").as_array().unwrap().iter().map(|e| e["key"].clone()).collect();
    assert_eq!(keys, ["big"], "what was refused is not kept");
}

#[test]
fn an_attempt_that_fails_keeps_nothing_but_its_story() {
    let node = strict();
    for then in ["retry", "reject", "other", "trap", "unreachable", "loop", "alloc"] {
        let id = node.accept("probe/in", json!({ "do": "write_then_fail", "then": then }));
        let message = node.wait_for_status(&id, "dead");
        let attempt = &message["tries"][0];
        assert_eq!(attempt["log"][0]["text"], format!("wrote, then {then}"), "{message:#}");
        for kept in ["state_written", "state_deleted", "published"] {
            assert_eq!(attempt[kept], json!([]), "{then}");
        }
        assert_eq!((&attempt["outbox"], &message["deliveries"]), (&json!(0), &json!([])), "{then}");
    }
    assert_eq!(node.api("state/probe"), json!([]));
    let messages = node.api("messages?source=again");
    assert_eq!(messages["messages"], json!([]), "nothing was published");

    // The same writes are kept if all ends well: this can fail.
    let id = node.accept("probe/in", json!({ "do": "write_then_fail", "then": "ok" }));
    let message = node.wait_for_status(&id, "done");
    assert_eq!(message["tries"][0]["state_written"], json!(["kept"]));
    assert_eq!(message["deliveries"].as_array().map(Vec::len), Some(1));
    let published = message["tries"][0]["published"][0].as_str().unwrap();
    assert_eq!(node.wait_for_status(published, "done")["parent"], id);
}

#[test]
fn what_is_not_granted_is_denied_with_the_line_to_add() {
    let node = strict();
    for (ask, line) in [
        (
            json!({ "do": "send", "requests": [{ "url": "https://elsewhere.example/x" }] }),
            "outbox = ",
        ),
        (json!({ "do": "send", "requests": [{ "url": "http://127.0.0.2:1/x" }] }), "outbox = "),
        (json!({ "do": "publish", "messages": [{ "solution": "other" }] }), "publish = "),
    ] {
        let id = node.accept("probe/in", &ask);
        let message = node.wait_for_status(&id, "dead");
        let told = message["tries"][0]["reason"].as_str().unwrap_or_default();
        assert!(told.contains(line) && told.contains("[grants]"), "{ask}: {told}");
        assert_eq!(message["deliveries"], json!([]));
    }
}

#[test]
fn there_is_no_ambient_authority() {
    let node = strict();
    let request = Request::post("/hooks/probe/in?wait=30s", json!({ "do": "env" }).to_string());
    let env = node.send(&request).expect(200).json();
    assert_eq!((&env["vars"], &env["args"]), (&json!([]), &json!([])));
    for closed in ["read_dir", "read_file", "write_file", "connect", "listen", "lookup"] {
        assert!(env[closed]["error"].is_string(), "{closed}: {env:#}");
    }
    assert_eq!(env["stdin"]["ok"], "0", "{env:#}");
    assert!(env["time_ms"].as_u64().is_some_and(|ms| ms > 1_600_000_000_000), "{env:#}");
}

#[test]
fn a_message_sees_nothing_of_another_solution() {
    let node = TANDEM.node();
    node.deploy(&Solution::probe());
    node.deploy(&Solution::probe().named("twin"));
    let ask = |solution: &str, ask: Value| {
        node.post(&format!("/hooks/{solution}/in?wait=30s"), ask.to_string()).expect(200)
    };
    ask("probe", json!({ "do": "set", "key": "a", "value": "mine" }));
    node.set("probe", "s", &json!("mine"));
    assert_eq!(ask("probe", json!({ "do": "setting", "name": "s" })).json(), "mine");
    assert_eq!(ask("twin", json!({ "do": "get", "key": "a" })).json(), Value::Null);
    assert_eq!(ask("twin", json!({ "do": "list", "prefix": "" })).json(), json!([]));
    assert_eq!(ask("twin", json!({ "do": "setting", "name": "s" })).json(), Value::Null);
}
