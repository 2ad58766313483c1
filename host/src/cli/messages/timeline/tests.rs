//! Whole lives, as `tandem messages show` prints them.

use super::*;
use crate::{
    cli::output::{Colour, Format},
    control::wire::{LogLine, MessageSummary},
};

const PLAIN: Output = Output { format: Format::Text, colour: Colour::Off };
const T: u64 = 1_700_000_000_123;

fn attempt(number: u32, after_ms: u64, outcome: &str) -> Attempt {
    Attempt {
        number,
        started_ms: T + after_ms,
        duration_us: 1_942,
        version: "1.2.0".into(),
        digest: "3f2a9c1e77aa00112233".into(),
        outcome: outcome.into(),
        reason: None,
        backtrace: Vec::new(),
        reply_status: None,
        log: Vec::new(),
        log_dropped: 0,
        state_written: Vec::new(),
        state_deleted: Vec::new(),
        published: Vec::new(),
        outbox: 0,
    }
}

fn message(status: &str, tries: Vec<Attempt>, deliveries: Vec<Delivery>) -> Message {
    Message {
        summary: MessageSummary {
            id: "018bcfe5-687b-7000-8000-000000000001".into(),
            solution: "lead-router".into(),
            source: "leads".into(),
            time_ms: T,
            status: status.into(),
            attempts: u32::try_from(tries.len()).unwrap(),
            outcome: tries.last().map(|attempt| attempt.outcome.clone()),
            reason: None,
            body_bytes: 34,
        },
        epoch: 1,
        seq: 4711,
        headers: vec![
            ("x-shop".into(), "vienna".into()),
            ("tandem-client".into(), "10.0.0.7".into()),
        ],
        client: Some("10.0.0.7".into()),
        content_type: Some("application/json".into()),
        key: Some("AT".into()),
        body: Body::Text("{\"name\": \"Mara\",\n \"country\": \"AT\"}".into()),
        due_ms: None,
        parent: None,
        tries,
        deliveries,
    }
}

#[test]
fn a_life_with_a_retry_and_a_delivery_that_was_refused_once() {
    let retried =
        Attempt { reason: Some("the price list is locked".into()), ..attempt(1, 1, "retry") };
    let done = Attempt {
        log: vec![
            LogLine { level: "info".into(), text: "routed to emea".into() },
            LogLine { level: "warn".into(), text: "no phone number\nasked for one".into() },
        ],
        log_dropped: 3,
        reply_status: Some(201),
        state_written: vec!["count/AT".into(), "lead/42".into()],
        state_deleted: vec!["draft/42".into()],
        published: vec!["018bcfe5-6c40-7000-8000-000000000002".into()],
        outbox: 1,
        ..attempt(2, 1_004, "done")
    };
    let delivery = Delivery {
        index: 0,
        method: "POST".into(),
        url: "https://crm.example/leads".into(),
        idempotency_key: "018bcfe5-687b-7000-8000-000000000001-0".into(),
        status: "delivered".into(),
        reason: None,
        due_ms: None,
        tries: vec![
            DeliveryAttempt {
                started_ms: T + 1_007,
                duration_us: 4_020,
                status: Some(503),
                error: None,
                answer: Some("busy\x1b[2J".into()),
            },
            DeliveryAttempt {
                started_ms: T + 2_011,
                duration_us: 3_100,
                status: Some(201),
                error: None,
                answer: Some("thanks".into()),
            },
        ],
    };
    let message = message("done", vec![retried, done], vec![delivery]);
    insta::assert_snapshot!(lines(&message, PLAIN).join("\n"), @r#"
    018bcfe5-687b-7000-8000-000000000001  lead-router/leads  done
    accepted      2023-11-14 22:13:20.123Z (epoch 1, seq 4711)
    key           AT
    client        10.0.0.7
    header        x-shop: vienna
    content type  application/json
    body          34 B
      {"name": "Mara",
       "country": "AT"}

         +0 ms  accepted
         +1 ms  attempt 1: retry in 1.9 ms (version 1.2.0, 3f2a9c1e77aa)
                  the price list is locked
      +1004 ms  attempt 2: done in 1.9 ms, replied 201 (version 1.2.0, 3f2a9c1e77aa)
                  info  routed to emea
                  warn  no phone number
                        asked for one
                  3 log lines were more than are kept
                  state written: count/AT, lead/42
                  state deleted: draft/42
                  published: 018bcfe5-6c40-7000-8000-000000000002
                  outbox: 1 request
      +1007 ms  delivery 0, try 1: 503 in 4.0 ms (POST https://crm.example/leads)
                  answer: busy\u{1b}[2J
      +2011 ms  delivery 0, try 2: 201 in 3.1 ms (POST https://crm.example/leads)

    delivery 0: delivered after 2 tries, idempotency key 018bcfe5-687b-7000-8000-000000000001-0
    "#);
}

#[test]
fn a_life_that_ended_in_a_trap_and_one_that_goes_on() {
    let trapped = Attempt {
        reason: Some("panicked at src/lib.rs:7:5:\nindex out of bounds".into()),
        backtrace: vec!["lead_router::route".into(), "lead_router::handle".into()],
        ..attempt(1, 2, "trapped")
    };
    let mut message = message("scheduled", vec![trapped], Vec::new());
    message.due_ms = Some(T + 1_002);
    message.parent = Some("018bcfe5-0000-7000-8000-000000000000".into());
    message.body = Body::Base64("AAECAw==".into());
    insta::assert_snapshot!(lines(&message, PLAIN).join("\n"), @r#"
    018bcfe5-687b-7000-8000-000000000001  lead-router/leads  scheduled
    accepted      2023-11-14 22:13:20.123Z (epoch 1, seq 4711)
    published by  018bcfe5-0000-7000-8000-000000000000
    key           AT
    client        10.0.0.7
    header        x-shop: vienna
    content type  application/json
    body          34 B, no text

         +0 ms  accepted
         +2 ms  attempt 1: trapped in 1.9 ms (version 1.2.0, 3f2a9c1e77aa)
                  panicked at src/lib.rs:7:5:
                  index out of bounds
                    at lead_router::route
                    at lead_router::handle
      +1002 ms  attempt 2: due
    "#);
}

#[test]
fn a_dead_delivery_says_how_to_try_it_again() {
    let delivery = Delivery {
        index: 1,
        method: "POST".into(),
        url: "https://crm.example/leads".into(),
        idempotency_key: "k-1".into(),
        status: "dead".into(),
        reason: None,
        due_ms: None,
        tries: vec![DeliveryAttempt {
            started_ms: T + 10,
            duration_us: 30_000_000,
            status: None,
            error: Some("no answer within 30 s".into()),
            answer: None,
        }],
    };
    let message = message("done", vec![attempt(1, 1, "done")], vec![delivery]);
    let text = lines(&message, PLAIN).join("\n");
    assert!(text.contains("delivery 1, try 1: no answer within 30 s in 30.0 s"), "{text}");
    assert!(
        text.ends_with(
            "delivery 1: dead after 1 try, idempotency key k-1; \
             again: tandem messages retry 018bcfe5-687b-7000-8000-000000000001 --delivery 1"
        ),
        "{text}"
    );
}

#[test]
fn a_long_body_is_cut_and_a_clock_set_back_is_told() {
    let mut message = message("done", vec![attempt(1, 0, "done")], Vec::new());
    message.tries[0].started_ms = T - 12;
    message.body = Body::Text("x\n".repeat(25));
    let text = lines(&message, PLAIN).join("\n");
    assert!(text.contains("  … 5 more lines; --json has them"), "{text}");
    assert!(text.contains("-12 ms  attempt 1: done"), "{text}");
}
