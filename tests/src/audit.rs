//! What came of messages that senders have receipts for, where fixture `lean` handles them and a receiver is its sink.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{NodeUnderTest, Receiver, node::text, wait::wait_until};

/// What no node may ever say of itself.
pub const NEVER_SAID: [&str; 2] = ["the stores differ", "panicked"];

const NO_ID: &str = "00000000-0000-0000-0000-000000000000";

/// Waits until everything is handled and delivered.
pub fn wait_until_idle(node: &NodeUnderTest) {
    wait_until("everything is handled and delivered", || {
        node.api("solutions/lean")["queued"] == 0
            && node.api("status")["deliveries"]["pending"] == 0
    });
}

/// Checks that nothing with a receipt, by id and body, is lost, and that nothing that is stored was done twice; gives how
/// many messages are stored.
pub fn check_receipts<'a>(
    node: &NodeUnderTest,
    receiver: &Receiver,
    receipts: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> usize {
    let stored = messages(node);
    for message in stored.values() {
        assert_eq!(message["status"], "done", "{message}");
    }
    let counted = count(&node.api("state/lean?prefix=n")[0]["value"]);
    assert_eq!(counted, stored.len() as u64, "each that is stored is counted once");

    let mut delivered = BTreeMap::<String, BTreeSet<String>>::new();
    for call in receiver.calls() {
        delivered.entry(call.key()).or_default().insert(call.body);
    }
    let expected: BTreeSet<_> = stored.keys().map(|id| format!("{id}-0")).collect();
    assert_eq!(delivered.keys().cloned().collect::<BTreeSet<_>>(), expected);
    assert!(delivered.values().all(|bodies| bodies.len() == 1), "one key, one body");
    let mut bodies = BTreeSet::new();
    for body in delivered.values().flatten() {
        assert!(bodies.insert(body), "`{body}` went out under two keys");
    }
    for (id, body) in receipts {
        assert!(stored.contains_key(id), "{id} had a receipt and is lost");
        assert!(delivered[&format!("{id}-0")].contains(body), "{id} is another's");
    }
    stored.len()
}

/// All messages that a node shows, by id.
pub fn messages(node: &NodeUnderTest) -> BTreeMap<String, Value> {
    let mut messages = BTreeMap::new();
    let mut after = NO_ID.to_owned();
    loop {
        let page = node.api(&format!("messages?limit=1000&after={after}"));
        let page = page["messages"].as_array().expect("it lists messages");
        let Some(last) = page.last() else { return messages };
        after = text(&last["id"]);
        messages.extend(page.iter().map(|message| (text(&message["id"]), message.clone())));
    }
}

/// What `lean` keeps: eight bytes, little-endian; shown as text where they happen to be text.
#[expect(clippy::little_endian_bytes, reason = "as the fixture writes it")]
pub fn count(value: &Value) -> u64 {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let bytes = match (&value["text"], &value["base64"]) {
        (Value::String(text), _) => text.clone().into_bytes(),
        (_, Value::String(text)) => BASE64_STANDARD.decode(text).expect("it is base64"),
        _ => panic!("no value: {value}"),
    };
    u64::from_le_bytes(bytes.try_into().expect("it is eight bytes"))
}
