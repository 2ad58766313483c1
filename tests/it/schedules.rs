//! Schedules tick once per nominal time, whatever happens to the process.

use std::collections::BTreeSet;

use serde_json::Value;
use tandem::model::message::MessageId;
use tandem_tests::{NodeUnderTest, Solution, wait_until};

use crate::TANDEM;

const EVERY_SECOND: &str =
    "[[source]]\nname = \"tick\"\nkind = \"schedule\"\ncron = \"* * * * * *\"";

fn ticks(node: &NodeUnderTest) -> Vec<Value> {
    node.api("messages?source=tick&limit=1000")["messages"].as_array().unwrap().clone()
}

#[test]
fn ticks_are_counted_once_across_kills_and_restarts() {
    let mut node = TANDEM.node();
    let lean = Solution::lean().replace("[grants]", &format!("{EVERY_SECOND}\n\n[grants]"));
    node.deploy(&lean);
    let source = &node.api("solutions/lean")["sources"][1];
    assert_eq!((&source["kind"], &source["cron"]), (&"schedule".into(), &"* * * * * *".into()));
    assert!(source["next_ms"].is_u64(), "{source}");

    for round in 1..=3 {
        let before = ticks(&node).len();
        wait_until("it ticks", || ticks(&node).len() >= before + 2);
        if round < 3 {
            node.kill9();
            node.run();
        }
    }
    // No more of them, so that what is counted stays as it is.
    node.deploy(&Solution::lean());
    wait_until("all are handled", || node.api("solutions/lean")["queued"] == 0);
    let ticks = ticks(&node);
    let (solution, source) = ("lean".parse().unwrap(), "tick".parse().unwrap());
    let mut times = BTreeSet::new();
    for tick in &ticks {
        let nominal = tick["time_ms"].as_u64().unwrap();
        assert_eq!(nominal % 1000, 0, "{tick}");
        assert!(times.insert(nominal), "twice at {nominal}");
        assert_eq!(tick["id"], MessageId::of_tick(&solution, &source, nominal).to_string());
        assert_eq!(tick["status"], "done", "{tick}");
    }
    let counted = node.api("state/lean")[0]["value"].clone();
    assert_eq!(count(&counted), ticks.len() as u64, "each was handled once");
}

/// What `lean` keeps: eight bytes, little-endian; shown as text where they happen to be text.
#[expect(clippy::little_endian_bytes, reason = "as the fixture writes it")]
pub fn count(value: &Value) -> u64 {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let bytes = match (&value["text"], &value["base64"]) {
        (Value::String(text), _) => text.clone().into_bytes(),
        (_, Value::String(text)) => BASE64_STANDARD.decode(text).unwrap(),
        _ => panic!("no value: {value}"),
    };
    u64::from_le_bytes(bytes.try_into().unwrap())
}

#[test]
fn a_paused_schedule_does_not_tick() {
    let node = TANDEM.node();
    node.deploy(&Solution::lean().replace("[grants]", &format!("{EVERY_SECOND}\n\n[grants]")));
    wait_until("it ticks", || !ticks(&node).is_empty());
    node.tandem(&["solutions", "pause", "lean", "--source", "tick"]).expect(0);
    let before = ticks(&node).len();
    // Two of another schedule's ticks are two seconds.
    node.deploy(
        &Solution::lean()
            .named("clock")
            .replace("[grants]", &format!("{EVERY_SECOND}\n\n[grants]")),
    );
    wait_until("the other ticks", || {
        ticks(&node).iter().filter(|tick| tick["solution"] == "clock").count() >= 3
    });
    assert_eq!(ticks(&node).iter().filter(|tick| tick["solution"] == "lean").count(), before);
}
