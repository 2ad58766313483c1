//! Services report that they are up; one that says it is down, or says nothing for a while, is down.
//!
//! Shows: a schedule beside a web hook, going through state, time that comes from the message (so that a message
//! handled again comes to the same), and publishing to another solution.

#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};
use tandem_sdk::prelude::*;

tandem_sdk::solution!(UptimeWatch);

struct UptimeWatch;

/// From a service; its heartbeat leaves `up` out.
#[derive(Deserialize)]
struct Report {
    service: String,
    #[serde(default = "yes")]
    up: bool,
}

fn yes() -> bool {
    true
}

/// What is known of a service.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Service {
    up: bool,
    /// Of the last report, Unix milliseconds.
    reported_ms: u64,
}

/// What `alerts` gets.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Change {
    service: String,
    up: bool,
    at_ms: u64,
    reason: String,
}

impl Solution for UptimeWatch {
    fn handle(message: Message, ctx: &Context) -> Result<Option<Reply>, Failure> {
        match message.source.as_str() {
            "report" => report(message.json()?, message.time_ms, ctx)?,
            "look" => look(message.time_ms, ctx)?,
            source => return Err(Failure::reject(format_args!("no such source: {source}"))),
        }
        Ok(None)
    }
}

fn report(Report { service, up }: Report, now_ms: u64, ctx: &Context) -> Result<(), Failure> {
    if service.is_empty() || service.len() > 100 {
        return Err(Failure::reject("service: use 1 to 100 bytes"));
    }
    let key = format!("service/{service}");
    let before: Option<Service> = ctx.state().get(&key)?;
    ctx.state().set(&key, &Service { up, reported_ms: now_ms })?;
    // A service nobody knew and that is up is no news.
    if before.is_none_or(|before| before.up) != up {
        tell(Change { service, up, at_ms: now_ms, reason: "it says so".into() }, ctx)?;
    }
    Ok(())
}

fn look(now_ms: u64, ctx: &Context) -> Result<(), Failure> {
    let seconds: u64 = ctx.setting("silent_after_seconds")?.unwrap_or(60);
    for entry in ctx.state().list::<Service>("service/") {
        let (key, Service { up, reported_ms }) = entry?;
        let silent_ms = now_ms.saturating_sub(reported_ms);
        if up && silent_ms > seconds.saturating_mul(1000) {
            ctx.state().set(&key, &Service { up: false, reported_ms })?;
            let service = key["service/".len()..].to_owned();
            let reason = format!("silent for {} s", silent_ms / 1000);
            tell(Change { service, up: false, at_ms: now_ms, reason }, ctx)?;
        }
    }
    Ok(())
}

fn tell(change: Change, ctx: &Context) -> Result<(), Failure> {
    let Change { service, up, reason, .. } = &change;
    ctx.warn(format_args!("{service} is {}: {reason}", if *up { "up" } else { "down" }));
    // The key keeps the changes of one service in order.
    ctx.publish(Publication::to("alerts", "changes").json(&change)?.key(service))?;
    Ok(())
}

#[cfg(test)]
mod tests;
