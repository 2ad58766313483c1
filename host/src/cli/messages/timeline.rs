//! A message's life as a person reads it: what happened, in order, counted from its acceptance.

use crate::control::wire::{Attempt, Body, Delivery, DeliveryAttempt, Message};

use super::super::{
    output::{Output, Style, cut, one_line},
    quantity::{moment, size, span_us},
};

/// Of a body, this many lines and characters a line are shown; `--json` has all of it.
const BODY_LINES: usize = 20;
const BODY_LINE_CHARS: usize = 200;
/// Where what belongs to an event begins.
const INDENT: &str = "            ";

pub fn lines(message: &Message, output: Output) -> Vec<String> {
    let mut lines = head(message, output);
    lines.push(String::new());
    lines.extend(life(message, output));
    if !message.deliveries.is_empty() {
        lines.push(String::new());
        lines.extend(message.deliveries.iter().map(|delivery| standing(delivery, message, output)));
    }
    lines.into_iter().map(|line| line.trim_end().to_owned()).collect()
}

/// What it is, and where it stands.
fn head(message: &Message, output: Output) -> Vec<String> {
    let summary = &message.summary;
    let status = output.paint(Style::of_word(&summary.status), &summary.status);
    let mut lines = vec![
        format!("{}  {}/{}  {status}", summary.id, summary.solution, summary.source),
        format!(
            "accepted      {} (epoch {}, seq {})",
            moment(summary.time_ms),
            message.epoch,
            message.seq
        ),
    ];
    let mut fact = |name: &str, value: &str| {
        lines.push(format!("{name:<13} {}", one_line(value)));
    };
    if let Some(parent) = &message.parent {
        fact("published by", parent);
    }
    if let Some(key) = &message.key {
        fact("key", key);
    }
    if let Some(client) = &message.client {
        fact("client", client);
    }
    for (name, value) in message.headers.iter().filter(|(name, _)| name != "tandem-client") {
        fact("header", &format!("{name}: {value}"));
    }
    if let Some(kind) = &message.content_type {
        fact("content type", kind);
    }
    match &message.body {
        Body::Text(text) => {
            fact("body", &size(summary.body_bytes));
            lines.extend(text_lines(text).map(|line| format!("  {line}")));
        }
        Body::Base64(_) => fact("body", &format!("{}, no text", size(summary.body_bytes))),
    }
    lines
}

/// The first lines of a text from outside, safe to print.
fn text_lines(text: &str) -> impl Iterator<Item = String> {
    let more = text.lines().count().saturating_sub(BODY_LINES);
    let rest = (more > 0).then(|| format!("… {more} more lines; --json has them"));
    text.lines().take(BODY_LINES).map(|line| cut(&one_line(line), BODY_LINE_CHARS)).chain(rest)
}

/// One thing that happened, or will.
struct Event {
    at_ms: u64,
    lines: Vec<String>,
}

/// Attempts and deliveries' tries in the order of their times.
fn life(message: &Message, output: Output) -> Vec<String> {
    let summary = &message.summary;
    let mut events = vec![Event { at_ms: summary.time_ms, lines: vec!["accepted".to_owned()] }];
    events.extend(message.tries.iter().map(|attempt| attempted(attempt, output)));
    for delivery in &message.deliveries {
        let tries = delivery.tries.iter().enumerate();
        events.extend(tries.map(|(n, attempt)| delivered(delivery, n + 1, attempt, output)));
        events.extend(delivery.due_ms.filter(|_| delivery.status == "pending").map(|at_ms| {
            Event { at_ms, lines: vec![format!("delivery {}: due", delivery.index)] }
        }));
    }
    let due = message.due_ms.filter(|_| matches!(&*summary.status, "waiting" | "scheduled"));
    events.extend(due.map(|at_ms| Event {
        at_ms,
        lines: vec![format!("attempt {}: due", summary.attempts + 1)],
    }));
    // Stable: what has the same millisecond stays in the order above, which is that of causes.
    events.sort_by_key(|event| event.at_ms);

    let mut lines = Vec::new();
    for event in events {
        let since = since(event.at_ms, summary.time_ms);
        let mut of_event = event.lines.into_iter();
        lines.extend(of_event.next().map(|first| format!("{since:>10}  {first}")));
        lines.extend(of_event.map(|line| format!("{INDENT}{line}")));
    }
    lines
}

/// `+12 ms` since acceptance; a clock that was set back shows as `-12 ms`.
fn since(at_ms: u64, accepted_ms: u64) -> String {
    if at_ms >= accepted_ms {
        format!("+{} ms", at_ms - accepted_ms)
    } else {
        format!("-{} ms", accepted_ms - at_ms)
    }
}

fn attempted(attempt: &Attempt, output: Output) -> Event {
    let outcome = output.paint(Style::of_word(&attempt.outcome), &attempt.outcome);
    let digest = attempt.digest.get(..12).unwrap_or(&attempt.digest);
    let replied = attempt.reply_status.map(|s| format!(", replied {s}")).unwrap_or_default();
    let mut lines = vec![format!(
        "attempt {}: {outcome} in {}{replied} (version {}, {digest})",
        attempt.number,
        span_us(attempt.duration_us),
        attempt.version,
    )];
    for reason in attempt.reason.iter().flat_map(|reason| text_lines(reason)) {
        lines.push(format!("  {reason}"));
    }
    lines.extend(attempt.backtrace.iter().map(|frame| format!("    at {}", one_line(frame))));
    for line in &attempt.log {
        let level = output.paint(Style::of_word(&line.level), &format!("{:<5}", line.level));
        let mut texts = line.text.lines();
        lines.push(format!("  {level} {}", one_line(texts.next().unwrap_or_default())));
        lines.extend(texts.map(|text| format!("        {}", one_line(text))));
    }
    if attempt.log_dropped > 0 {
        lines.push(format!("  {} log lines were more than are kept", attempt.log_dropped));
    }
    let mut listed = |what: &str, names: &[String]| {
        if !names.is_empty() {
            lines.push(format!("  {what}: {}", one_line(&names.join(", "))));
        }
    };
    listed("state written", &attempt.state_written);
    listed("state deleted", &attempt.state_deleted);
    listed("published", &attempt.published);
    match attempt.outbox {
        0 => {}
        1 => lines.push("  outbox: 1 request".to_owned()),
        n => lines.push(format!("  outbox: {n} requests")),
    }
    Event { at_ms: attempt.started_ms, lines }
}

fn delivered(delivery: &Delivery, n: usize, attempt: &DeliveryAttempt, output: Output) -> Event {
    let Delivery { index, method, url, .. } = delivery;
    let took = span_us(attempt.duration_us);
    let came_to = match (attempt.status, &attempt.error) {
        (Some(status @ 200..300), _) => output.paint(Style::Good, &status.to_string()),
        (Some(status), _) => output.paint(Style::Bad, &status.to_string()),
        (None, Some(error)) => output.paint(Style::Bad, &one_line(error)),
        (None, None) => "no answer".to_owned(),
    };
    let mut lines = vec![format!(
        "delivery {index}, try {n}: {came_to} in {took} ({method} {})",
        one_line(url)
    )];
    // An answer of a success is told by its status; a refusal's words help.
    if !attempt.status.is_some_and(|status| (200..300).contains(&status)) {
        let answer = attempt.answer.as_deref().unwrap_or_default();
        lines.extend(text_lines(answer).map(|line| format!("  answer: {line}")));
    }
    Event { at_ms: attempt.started_ms, lines }
}

/// Where a delivery stands now.
fn standing(delivery: &Delivery, message: &Message, output: Output) -> String {
    let status = output.paint(Style::of_word(&delivery.status), &delivery.status);
    let tries = match delivery.tries.len() {
        0 => "no try yet".to_owned(),
        1 => "1 try".to_owned(),
        n => format!("{n} tries"),
    };
    let why =
        delivery.reason.as_deref().map_or_else(String::new, |why| format!(": {}", one_line(why)));
    let next = match &*delivery.status {
        "dead" => format!(
            "{why}; again: tandem messages retry {} --delivery {}",
            message.summary.id, delivery.index
        ),
        "unknown" => "; it may have been made, and is not made again: ask the receiver".to_owned(),
        _ => String::new(),
    };
    format!(
        "delivery {}: {status} after {tries}, idempotency key {}{next}",
        delivery.index,
        one_line(&delivery.idempotency_key)
    )
}

#[cfg(test)]
mod tests;
