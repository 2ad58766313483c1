//! What the nodes have, when all is healed.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use serde_json::Value;
use tandem_tests::{Receiver, Request, Side, audit};

use crate::{Outcome, cluster::Cluster, faults::Dice, history::Route, senders};

/// Until everything that was accepted is handled and delivered; the whole backlog of a run.
const TO_DRAIN: Duration = Duration::from_mins(5);
const TO_BE_ALIKE: Duration = Duration::from_secs(30);

/// All that a node shows.
#[derive(Debug, Default, Clone)]
pub struct Stored {
    /// By id: solution and status.
    pub messages: BTreeMap<String, (String, String)>,
    /// How often each message was handled, by name, for each route.
    pub handled: [BTreeMap<String, u64>; 3],
}

/// Waits until nothing is queued and nothing is to be delivered, and what was set aside is with the primary.
pub fn drained(cluster: &mut Cluster) -> Outcome<Side> {
    cluster.wait_whole(TO_DRAIN)?;
    cluster.wait("everything is handled and delivered", TO_DRAIN, |cluster| {
        let is_settled = |side: &Side| {
            let kept = api(*side, "pair/quarantine").ok();
            let entries = kept.and_then(|kept| kept["entries"].as_array().cloned());
            entries.is_some_and(|entries| entries.iter().all(|entry| entry["settled"] == true))
        };
        let Some(side) = cluster.whole() else { return false };
        let status = api(side, "status").unwrap_or_default();
        status["messages"]["queued"] == 0
            && status["deliveries"]["pending"] == 0
            && Side::BOTH.iter().all(is_settled)
    })?;
    cluster.whole().ok_or_else(|| "the pair is not whole any more".into())
}

fn api(side: Side, path: &str) -> Outcome<Value> {
    let request = Request::new("GET", &format!("/api/v1/{path}"));
    let answer = request.send(senders::targets()[side as usize])?;
    match answer.status {
        200 => Ok(answer.json()),
        _ => Err(format!("GET {path} at {side:?}: {answer}").into()),
    }
}

pub fn stored(side: Side) -> Outcome<Stored> {
    let mut messages = BTreeMap::new();
    let mut before = String::new();
    loop {
        let page = api(side, &format!("messages?limit=1000{before}"))?;
        for message in page["messages"].as_array().into_iter().flatten() {
            let [id, solution, status] = ["id", "solution", "status"]
                .map(|name| message[name].as_str().unwrap_or("?").to_owned());
            messages.insert(id, (solution, status));
        }
        match page["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    let [again, once, lane] = Route::ALL.map(|route| handled(side, route));
    Ok(Stored { messages, handled: [again?, once?, lane?] })
}

/// What became of a message's request, as the node tells.
pub fn told(side: Side, id: &str) -> String {
    let message = api(side, &format!("messages/{id}")).unwrap_or_default();
    message["deliveries"][0]["status"].as_str().unwrap_or("none").to_owned()
}

fn handled(side: Side, route: Route) -> Outcome<BTreeMap<String, u64>> {
    let mut handled = BTreeMap::new();
    let mut after = String::new();
    loop {
        let path = format!("state/{}?prefix=n/&limit=1000{after}", route.name());
        let page = api(side, &path)?;
        let page = page.as_array().map(Vec::as_slice).unwrap_or_default();
        for entry in page {
            let key = entry["key"].as_str().unwrap_or_default();
            let times = entry["value"]["text"].as_str().and_then(|times| times.parse().ok());
            handled.insert(key.trim_start_matches("n/").to_owned(), times.unwrap_or(u64::MAX));
        }
        match page.last().filter(|_| page.len() == 1000) {
            Some(last) => after = format!("&after={}", last["key"].as_str().unwrap_or_default()),
            None => return Ok(handled),
        }
    }
}

pub fn calls(receiver: &Receiver) -> HashMap<String, Vec<(String, String)>> {
    let mut calls = HashMap::<_, Vec<_>>::new();
    for call in receiver.calls() {
        let key = call.header("idempotency-key").unwrap_or_default().to_owned();
        calls.entry(call.path).or_default().push((key, call.body));
    }
    calls
}

/// What an operator was told is so.
pub fn operators(cluster: &Cluster, dice: &Dice, primary: Side) -> Outcome<()> {
    let history = &cluster.history;
    let settings = api(primary, "settings")?;
    let settings = settings.as_array().map(Vec::as_slice).unwrap_or_default();
    let is = settings.iter().find(|setting| setting["name"] == "chaos").map(|s| s["value"].clone());
    if let Some(told) = dice.setting.filter(|told| is != Some(Value::from(*told))) {
        history.violation(format!("the setting was set to {told} and is {is:?}"));
    }
    for route in Route::ALL {
        let is = api(primary, &format!("solutions/{}", route.name()))?["version"].clone();
        let told = dice.versions[route as usize].map(|revision| format!("0.1.{revision}"));
        if let Some(told) = told.filter(|told| is != told.as_str()) {
            history.violation(format!("`{}` was deployed as {told} and is {is}", route.name()));
        }
    }
    Ok(())
}

/// Both nodes show the same, and end with the same frame. That their contents are the same they look at themselves, with
/// every sign of life ("the stores differ").
pub fn alike(cluster: &mut Cluster) {
    let told = std::cell::RefCell::new(String::new());
    let same = cluster.wait("both nodes show the same", TO_BE_ALIKE, |cluster| {
        let heads =
            Side::BOTH.map(|side| cluster.status(side).map(|status| status["head"].clone()));
        let shown = Side::BOTH.map(|side| shown(cluster, side).unwrap_or_default());
        let [main, failover] = &shown;
        let differ = main.iter().zip(failover).find(|(one, other)| one != other);
        *told.borrow_mut() =
            format!("{heads:?}, {} and {}, {differ:?}", main.len(), failover.len());
        heads[0].is_some() && heads[0] == heads[1] && !main.is_empty() && main == failover
    });
    if same.is_err() {
        cluster.history.violation(format!("the nodes do not show the same: {}", told.borrow()));
    }
}

fn shown(cluster: &Cluster, side: Side) -> Outcome<Vec<Value>> {
    let node = &cluster.node(side).under;
    let mut solutions = api(side, "solutions")?;
    for solution in solutions.as_array_mut().into_iter().flatten() {
        // Counted by who handles them.
        solution["queued"].take();
    }
    let mut shown = vec![api(side, "settings")?, solutions];
    for route in Route::ALL {
        shown.push(Value::from_iter(handled(side, route)?));
    }
    shown.extend(audit::messages(node).into_values());
    Ok(shown)
}
