//! `tandem messages tail`: messages as they come and as they end.

use std::{collections::BTreeMap, time::Duration};

use crate::control::wire::{MessagePage, MessageSummary};

use super::{
    super::{
        exit::Failure,
        node_client::NodeClient,
        output::{Output, Style, one_line},
        quantity::moment,
        signals::Signals,
    },
    Filter, outcome,
};

const POLL: Duration = Duration::from_millis(300);
const PAGE: usize = 1000;
/// How long a message is looked at again after it came: for its end, and because ids are made a little before their
/// messages can be seen.
const WINDOW_MS: u64 = 5_000;

pub async fn follow(node: &NodeClient, filter: &Filter, output: Output) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let mut seen = Seen::default();
    let newest: MessagePage = node.read(filter.call().query("limit", Some(1))).await?;
    let mut from = newest.messages.first().map_or_else(|| id_at(0), |message| message.id.clone());
    output.note(format_args!("following {}; Ctrl-C ends", node.address()));
    loop {
        let mut after = from.clone();
        loop {
            let call = filter.call().query("after", Some(&after)).query("limit", Some(PAGE));
            let page: MessagePage = node.read(call).await?;
            for message in seen.news(&page.messages) {
                print(message, output)?;
            }
            match page.messages.last() {
                Some(last) if page.messages.len() == PAGE => after.clone_from(&last.id),
                _ => break,
            }
        }
        from = seen.look_again_from().max(from);
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = signals.next() => return Ok(()),
        }
    }
}

fn print(message: &MessageSummary, output: Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(message);
    }
    let status =
        output.paint(Style::of_word(&message.status), &format!("{:<9}", one_line(&message.status)));
    output.line(
        format!(
            "{}  {}  {}/{}  {status} {}",
            moment(message.time_ms),
            message.id,
            message.solution,
            message.source,
            one_line(&outcome(message)),
        )
        .trim_end(),
    )
}

/// What was printed, for as long as it is looked at again.
#[derive(Debug, Default)]
struct Seen {
    /// Status and attempts when it was last printed, by id.
    printed: BTreeMap<String, (String, u32)>,
}

impl Seen {
    /// Those that are new, or not as they were.
    fn news<'a>(&mut self, messages: &'a [MessageSummary]) -> Vec<&'a MessageSummary> {
        let mut news = Vec::new();
        for message in messages {
            let now = (message.status.clone(), message.attempts);
            if self.printed.insert(message.id.clone(), now.clone()) != Some(now) {
                news.push(message);
            }
        }
        news
    }

    /// The id to look from the next time: a window below the newest. What is older is forgotten.
    fn look_again_from(&mut self) -> String {
        let newest = self.printed.keys().next_back().and_then(|id| time_of(id)).unwrap_or(0);
        let from = id_at(newest.saturating_sub(WINDOW_MS));
        self.printed = self.printed.split_off(&from);
        from
    }
}

/// The lowest `UUIDv7` of a millisecond.
fn id_at(unix_ms: u64) -> String {
    uuid::Builder::from_unix_timestamp_millis(unix_ms, &[0; 10]).into_uuid().to_string()
}

fn time_of(id: &str) -> Option<u64> {
    crate::model::message::MessageId::parse(id).map(crate::model::message::MessageId::time_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(at_ms: u64, status: &str) -> MessageSummary {
        MessageSummary {
            id: id_at(at_ms),
            solution: "s".into(),
            source: "w".into(),
            time_ms: at_ms,
            status: status.into(),
            attempts: u32::from(status != "waiting"),
            outcome: None,
            reason: None,
            body_bytes: 0,
        }
    }

    #[test]
    fn a_message_is_printed_when_it_comes_and_when_it_ends_and_not_between() {
        let mut seen = Seen::default();
        let (waiting, done) = (message(20_000, "waiting"), message(20_000, "done"));
        assert_eq!(seen.news(std::slice::from_ref(&waiting)).len(), 1);
        assert_eq!(seen.news(std::slice::from_ref(&waiting)).len(), 0);
        assert_eq!(seen.news(std::slice::from_ref(&done)).len(), 1);
        // One with a lower id that can be seen only now.
        assert_eq!(seen.news(&[message(19_990, "done"), done]).len(), 1);
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let mut seen = Seen::default();
        seen.news(&[message(10_000, "done"), message(16_000, "done"), message(20_000, "done")]);
        assert_eq!(seen.look_again_from(), id_at(15_000));
        assert_eq!(seen.printed.len(), 2);
    }
}
