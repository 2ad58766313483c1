//! Finished messages move into the archive, and nobody notices: not who looks them up, not who sends again, and not
//! when the node dies meanwhile.

use std::{collections::BTreeSet, fs, thread, time::Duration};

use serde_json::Value;
use tandem_tests::{NodeUnderTest, Request, Solution, wait_until};

use crate::TANDEM;

const CONFIG: &str = "[store]\nlive = \"1MiB\"\n";
/// Of one batch.
const BATCH: usize = 100;

fn node() -> NodeUnderTest {
    let node = TANDEM.node_with(CONFIG);
    node.deploy(&Solution::lean().with("[retention]\ntime = \"1h\"\nsize = \"1GiB\""));
    node
}

/// Sends a batch of messages of about a kilobyte each, under one key; gives their ids.
fn send(node: &NodeUnderTest, key: &str) -> Vec<String> {
    let line = |number| {
        // Random, so that it does not shrink.
        let text = (0..64).fold(String::new(), |text, _| text + &rand::random::<u64>().to_string());
        format!("{{\"number\":{number},\"text\":\"{text}\"}}\n")
    };
    let body: String = (0..BATCH).map(line).collect();
    let post = Request::post("/hooks/lean/in", body).header("content-type", "application/x-ndjson");
    let answer = node.send(&post.header("tandem-key", key)).expect(202).json();
    let receipts = answer["receipts"].as_array().unwrap().iter();
    receipts.map(|receipt| receipt["id"].as_str().unwrap().to_owned()).collect()
}

/// What the command lists, page by page.
fn listed(node: &NodeUnderTest, filter: &[&str]) -> Vec<Value> {
    let (mut all, mut before) = (Vec::new(), None::<String>);
    loop {
        let mut command = ["messages", "list", "--json", "--limit", "1000"].to_vec();
        command.extend(filter);
        command.extend(before.iter().flat_map(|id| ["--before", id]));
        let page = node.tandem(&command).expect(0).json();
        all.extend(page["messages"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => before = Some(next.to_owned()),
            None => return all,
        }
    }
}

fn ids(messages: &[Value]) -> Vec<String> {
    messages.iter().map(|message| message["id"].as_str().unwrap().to_owned()).collect()
}

fn newest_first(sent: &[String]) -> Vec<String> {
    let mut ids = sent.to_vec();
    ids.sort_unstable_by(|a, b| b.cmp(a));
    ids
}

fn segments(node: &NodeUnderTest) -> usize {
    let Ok(files) = fs::read_dir(node.data_dir().join("archive")) else { return 0 };
    let names = files.map(|file| file.unwrap().path());
    names.filter(|path| path.extension().is_some_and(|ending| ending == "seg")).count()
}

#[test]
fn messages_are_found_wherever_they_are() {
    let mut node = node();
    let asks = |path: &str| {
        let post = Request::post(path, "{\"first\":true}").header("idempotency-key", "first");
        node.send(&post)
    };
    let answered = asks("/hooks/lean/in?wait=30s").expect(200);
    let first = answered.header("tandem-message-id").unwrap().to_owned();
    let before = node.message(&first);
    let mut sent = vec![first.clone()];
    for batch in 0..30 {
        sent.extend(send(&node, &format!("key-{}", batch % 3)));
    }
    wait_until("messages moved", || {
        node.api("solutions/lean")["queued"] == 0 && segments(&node) > 5
    });
    assert_eq!(ids(&listed(&node, &[])), newest_first(&sent));
    assert_eq!(node.message(&first), before, "its life is what it was");
    let told = node.tandem(&["messages", "show", &first]).expect(0);
    assert!(told.out.contains(&first) && told.out.contains("done"), "{told}");
    // Who sends the first once more gets the answer it got then.
    let again = asks("/hooks/lean/in?wait=30s").expect(200);
    assert_eq!(again.header("tandem-message-id"), Some(first.as_str()));
    assert_eq!(again.header("tandem-duplicate"), Some("true"));
    assert_eq!(again.body, answered.body);

    let retry = node.call("POST", &format!("messages/{first}/retry"), None);
    retry.problem(409, "not-dead");

    let with_key = |key: usize| {
        let batches = sent[1..].chunks(BATCH).skip(key).step_by(3);
        newest_first(&batches.flatten().cloned().collect::<Vec<_>>())
    };
    assert_eq!(ids(&listed(&node, &["--key", "key-1"])), with_key(1));
    assert_eq!(listed(&node, &["--key", "key-9"]), [] as [Value; 0]);
    let all = listed(&node, &["--solution", "lean"]);
    let time = |message: &Value| message["time_ms"].as_u64().unwrap();
    let (since, until) = (time(&all[2500]), time(&all[1500]));
    let between: Vec<_> =
        all.iter().filter(|m| (since..=until).contains(&time(m))).cloned().collect();
    assert!(between.len() >= 1001);
    let page = node.api(&format!("messages?limit=1000&since={since}&until={until}"));
    let page = page["messages"].as_array().unwrap();
    assert_eq!(ids(page), ids(&between[..1000]));
    assert_eq!(ids(&listed(&node, &["--since", "1h"])), ids(&all));
    assert_eq!(listed(&node, &["--until", "1h"]), [] as [Value; 0]);

    let status = node.api("status");
    let archive = &status["archive"];
    assert!(archive["segments"].as_u64().unwrap() >= 6, "{archive}");
    assert!(archive["bytes"].as_u64().unwrap() > 1 << 20, "{archive}");
    assert_eq!(archive["oldest_ms"], before["time_ms"], "the first was the first to move");
    let told = node.tandem(&["status"]).expect(0);
    assert!(told.out.contains("archive "), "{told}");
    let metrics = node.send(&Request::new("GET", "/metrics")).expect(200).text();
    assert!(metrics.contains("\ntandem_archive_segments "), "{metrics}");

    node.restart();
    assert_eq!(ids(&listed(&node, &[])), newest_first(&sent));
    assert_eq!(node.message(&first), before);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "when a kill comes is chance")]
fn what_moves_while_the_node_is_killed_is_there_once() {
    let mut node = node();
    let mut sent = Vec::new();
    for round in 0..8 {
        for _ in 0..5 {
            sent.extend(send(&node, &format!("key-{round}")));
        }
        // Half a second is the time from one look at what moves to the next.
        thread::sleep(Duration::from_millis(rand::random_range(0..700)));
        node.kill9();
        node.run();
    }
    wait_until("everything is handled, and some of it moved", || {
        node.api("solutions/lean")["queued"] == 0 && segments(&node) > 5
    });
    let all = listed(&node, &[]);
    assert_eq!(ids(&all), newest_first(&sent), "each just once, and no other");
    assert!(all.iter().all(|message| message["status"] == "done"));
    wait_until("nothing half written is left, and no file twice", || {
        let files = fs::read_dir(node.data_dir().join("archive")).unwrap();
        let names: BTreeSet<_> = files.map(|file| file.unwrap().file_name()).collect();
        names.iter().all(|name| name.to_string_lossy().ends_with(".seg"))
            && node.api("status")["archive"]["segments"] == names.len()
    });
    for id in sent.iter().step_by(97) {
        assert_eq!(node.message(id)["status"], "done");
    }
}
