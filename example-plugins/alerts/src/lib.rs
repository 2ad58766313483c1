//! Keeps the latest state of each service, and calls a URL when it changes.
//!
//! Shows: a source that another solution publishes to, and an effect that the operator can leave out.

#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};
use tandem_sdk::prelude::*;

tandem_sdk::solution!(Alerts);

struct Alerts;

/// From `uptime-watch`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Change {
    service: String,
    up: bool,
    at_ms: u64,
    reason: String,
}

impl Solution for Alerts {
    fn handle(message: Message, ctx: &Context) -> Result<Option<Reply>, Failure> {
        let change: Change = message.json()?;
        ctx.state().set(&format!("latest/{}", change.service), &change)?;
        if let Some(url) = ctx.setting::<String>("alert_url")? {
            // Calls about one service are made in order, whatever becomes of those about others.
            ctx.send(Request::post(url).json(&change)?.ordered(&change.service))?;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(up: bool) -> Change {
        Change { service: "shop".into(), up, at_ms: 1, reason: "silent for 61 s".into() }
    }

    #[test]
    fn the_latest_is_kept() {
        let mut mock = MockContext::new();
        for up in [false, true] {
            let handled = mock.handle::<Alerts>(Message::new("changes").with_json(&change(up)));
            assert_eq!(handled.result, Ok(None));
        }
        assert_eq!(mock.state("latest/shop"), Some(change(true)));
        assert!(mock.requests().is_empty());
    }

    #[test]
    fn a_change_calls_the_url() {
        let mut mock = MockContext::new()
            .with_setting("alert_url", "https://chat.example/hooks/ops")
            .with_outbox_grants(["setting:alert_url"]);
        let handled = mock.handle::<Alerts>(Message::new("changes").with_json(&change(false)));
        let expected =
            Request::post("https://chat.example/hooks/ops").json(&change(false)).unwrap();
        assert_eq!(handled.requests, [expected.ordered("shop")]);
    }
}
