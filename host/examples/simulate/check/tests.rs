//! Each thing that is to hold is missed when it does not.

use std::time::Duration;

use bytes::Bytes;
use tandem::{
    model::position::Position,
    store::row::life::{AttemptRow, ReplyRow},
};

use super::*;
use crate::history::Call;

/// Two leads and their requests, two orders of one customer, and what operators changed: all well.
struct Whole {
    setup: Setup,
    seen: Seen,
    stored: BTreeMap<String, Stored>,
    deliveries: BTreeMap<(String, u16), DeliveryRow>,
    ends_with: [Option<u64>; 2],
}

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn stored(solution: &str, source: &str, seq: u64, reply: &str) -> Stored {
    let row = MessageRow {
        solution: solution.parse().unwrap(),
        solution_no: 1,
        source: source.parse().unwrap(),
        time_ms: seq,
        position: Position { epoch: 1, seq },
        parent: None,
        due_ms: None,
        headers: Vec::new(),
        content_type: None,
        key: None,
        body: format!("{solution}{seq}").into(),
    };
    let reply = ReplyRow {
        status: 200,
        headers: Vec::new(),
        content_type: None,
        body: Bytes::from(reply.to_owned()),
    };
    let attempt = AttemptRow {
        revision: 1,
        started_ms: 1,
        duration_us: 1,
        outcome: OutcomeRow::Done { reply: Some(reply) },
        log: Vec::new(),
        log_dropped: 0,
        state_written: Vec::new(),
        state_deleted: Vec::new(),
        outbox: 0,
        published: Vec::new(),
    };
    Stored { row, life: Some(LifeRow { status: StatusRow::Done, attempts: vec![attempt] }) }
}

fn setup(has_witness: bool, without_witness: &'static str) -> Setup {
    Setup { has_witness, without_witness, is_strict: false, fails_back: false, pace: 1 }
}

fn whole() -> Whole {
    let mut whole = Whole {
        setup: setup(true, "act"),
        seen: Seen::default(),
        stored: BTreeMap::new(),
        deliveries: BTreeMap::new(),
        ends_with: [Some(2), Some(7)],
    };
    for solution in ["lead-router", "leads-once", "order-totals"] {
        for n in [1, 2] {
            let id = format!("{solution}{n}");
            let (source, reply) = match solution {
                "order-totals" => ("orders", format!(r#"{{"customer":{{"orders":{n}}}}}"#)),
                _ => ("form", format!(r#"{{"number":{n}}}"#)),
            };
            whole.stored.insert(id.clone(), stored(solution, source, n, &reply));
            whole.seen.receipts.push(Receipt {
                body: id.clone(),
                id: id.clone(),
                epoch: n,
                durability: 2,
                is_keyed: true,
                sent: at(n * 10),
                at: at(n * 10 + 5),
                is_first_try: true,
            });
            if solution != "order-totals" {
                let path = if solution == "lead-router" { "/leads" } else { "/once" };
                let call = Call { path: path.into(), key: format!("{id}-0"), body: reply };
                whole.seen.calls.push(call);
                let status = DeliveryStatusRow::Delivered;
                let (method, url) = ("POST".to_owned(), path.to_owned());
                let row = DeliveryRow { method, url, status, attempts: Vec::new() };
                whole.deliveries.insert((id, 0), row);
            }
        }
    }
    whole.stored.insert("tick".into(), stored("uptime-watch", "look", 9, "{}"));
    let act = |number, sent, told| Act { number, sent: at(sent), told: Some(at(told)) };
    whole.seen.settings = vec![act(1, 10, 20), act(2, 30, 40)];
    whole.seen.deployed = vec![act(7, 10, 20)];
    whole
}

/// What is found when it is bent so.
fn found(bend: impl FnOnce(&mut Whole)) -> String {
    let mut whole = whole();
    bend(&mut whole);
    let Whole { setup, ref seen, stored, deliveries, ends_with } = whole;
    let mut checker = Checker { setup, seen, stored, deliveries, ends_with, wrong: Vec::new() };
    checker.check();
    checker.wrong.join("\n")
}

#[track_caller]
fn finds(expected: &str, bend: impl FnOnce(&mut Whole)) {
    let found = found(bend);
    assert!(found.contains(expected), "{found:?}");
}

fn delivery<'w>(whole: &'w mut Whole, id: &str) -> &'w mut DeliveryRow {
    whole.deliveries.get_mut(&(id.to_owned(), 0)).unwrap()
}

#[test]
fn nothing_is_found_where_all_is_well() {
    assert_eq!(found(|_| {}), "");
}

#[test]
fn what_was_published_is_there_and_says_by_whom() {
    let with_follow_up = |whole: &mut Whole| {
        let (parent, follow_up) = ([1; 16], [2; 16]);
        let mut published = stored("order-totals", "changes", 3, r#"{"customer":{"orders":3}}"#);
        published.row.parent = Some(parent);
        let mut publishes = stored("uptime-watch", "report", 8, "{}");
        publishes.life.as_mut().unwrap().attempts[0].published.push(follow_up);
        whole.stored.extend([(text(parent), publishes), (text(follow_up), published)]);
    };
    assert_eq!(found(with_follow_up), "");
    finds("which is not there", |whole| {
        with_follow_up(whole);
        whole.stored.remove(&text([2; 16]));
    });
    finds("its parent does not say so", |whole| {
        with_follow_up(whole);
        whole.stored.remove(&text([1; 16]));
    });
}

#[test]
fn what_is_lost_or_not_done_is_found() {
    finds("lost: Receipt { body: \"order-totals2\"", |whole| {
        whole.stored.remove("order-totals2");
    });
    finds("order-totals2 of order-totals is not done", |whole| {
        whole.stored.get_mut("order-totals2").unwrap().life = None;
    });
    finds("nothing is known of the request of leads-once1", |whole| {
        whole.deliveries.remove(&("leads-once1".to_owned(), 0));
    });
    finds("lead-router1-0 is not delivered in the end: Again", |whole| {
        delivery(whole, "lead-router1").status = DeliveryStatusRow::Again { due_ms: 1 };
    });
    finds("lead-router1 is of class idempotent and ended as Dead", |whole| {
        delivery(whole, "lead-router1").status = DeliveryStatusRow::Dead;
    });
    assert_eq!(
        found(|whole| delivery(whole, "leads-once1").status = DeliveryStatusRow::Unknown),
        ""
    );
    finds("lead-router2-0 counts as delivered and was never made", |whole| {
        whole.seen.calls.retain(|call| call.key != "lead-router2-0");
    });
}

#[test]
fn what_is_there_twice_is_found() {
    finds("one idempotency key came to two messages", |whole| {
        whole.seen.same_key.push(("a".into(), "b".into()));
    });
    finds("one message of one key is there twice", |whole| {
        let twice = stored("order-totals", "orders", 2, r#"{"customer":{"orders":3}}"#);
        whole.stored.insert("again".into(), twice);
    });
    finds("order-totals: order-totals2 of None was counted as 3, and 1 before it", |whole| {
        let twice = stored("order-totals", "orders", 2, r#"{"customer":{"orders":3}}"#);
        whole.stored.insert("order-totals2".into(), twice);
    });
    finds("the schedule ticked twice for 9", |whole| {
        whole.stored.insert("tock".into(), stored("uptime-watch", "look", 9, "{}"));
    });
    finds("leads-once1-0 is of class at-most-once and was made 2 times", |whole| {
        whole.seen.calls.push(whole.seen.calls[2].clone());
    });
    assert_eq!(found(|whole| whole.seen.calls.push(whole.seen.calls[0].clone())), "", "idempotent");
}

#[test]
fn what_is_another_is_found() {
    finds("requests with the key lead-router1-0 differ", |whole| {
        whole.seen.calls.push(Call { body: "{}".into(), ..whole.seen.calls[0].clone() });
    });
    finds("a request was made for nobody-0, and there is no such message", |whole| {
        whole.seen.calls.push(Call { key: "nobody-0".into(), ..whole.seen.calls[0].clone() });
    });
    finds("lead-router: messages of None were not handled in order", |whole| {
        whole.stored.get_mut("lead-router1").unwrap().row.position.seq = 9;
    });
    finds("lead 1 went out after lead 2", |whole| whole.seen.calls.swap(0, 1));
    finds("a receipt of an epoch before 2", |whole| {
        let receipt = Receipt { sent: at(99), at: at(99), ..whole.seen.receipts[0].clone() };
        whole.seen.receipts.push(receipt);
    });
    let rows = |value: u8| Rows::from([((1, vec![2]), vec![value])]);
    assert_eq!(differences(&rows(1), &rows(1)), None);
    for (one, other) in [(rows(1), rows(2)), (rows(1), Rows::new()), (Rows::new(), rows(1))] {
        assert!(differences(&one, &other).unwrap().contains("table 1 at key [02]"));
    }
}

#[test]
fn operators_changes_that_are_gone_are_found() {
    finds("setting 1 holds, and 2 was acknowledged after it", |whole| {
        whole.ends_with[0] = Some(1);
    });
    finds("setting 1 was acknowledged, and there is none", |whole| whole.ends_with[0] = None);
    finds("deployment 0 is nobody's, and 7 was acknowledged", |whole| whole.ends_with[1] = Some(0));
    // At the same time either may be the last; and what was not acknowledged may hold, or not.
    assert_eq!(
        found(|whole| {
            whole.seen.settings[1].sent = at(15);
            whole.ends_with[0] = Some(1);
        }),
        ""
    );
    assert_eq!(found(|whole| whole.seen.settings.push(Act::begin(3, at(50)))), "");
    assert_eq!(
        found(|whole| {
            whole.seen.settings.push(Act::begin(3, at(50)));
            whole.ends_with[0] = Some(3);
        }),
        ""
    );
}

#[test]
fn without_a_witness_each_policy_is_held_to_what_it_promises() {
    let under = |policy, bend: fn(&mut Whole)| {
        found(|whole| {
            whole.setup = setup(false, policy);
            bend(whole);
        })
    };
    let another_id = |whole: &mut Whole| {
        let taken = whole.stored.remove("order-totals2").unwrap();
        whole.stored.insert("elsewhere".into(), taken);
    };
    let twice = |whole: &mut Whole| whole.seen.calls.push(whole.seen.calls[2].clone());
    let lost = |whole: &mut Whole| drop(whole.stored.remove("order-totals2"));
    let misses = |bend: fn(&mut Whole)| {
        ["act", "accept-only", "manual"].map(|policy| under(policy, bend).is_empty())
    };
    assert_eq!(misses(|_| {}), [true; 3]);
    assert_eq!(misses(another_id), [true, true, false]);
    assert_eq!(misses(twice), [true, false, false]);
    assert_eq!(misses(lost), [false; 3]);
}
