//! `tandem messages`: find messages, tell their lives, try them again.

use crate::{
    control::wire::{Message, MessagePage, MessageSummary},
    model::clock::Clock,
};

use super::{
    exit::Failure,
    node_client::Call,
    output::{Output, cut},
    quantity::{When, moment, parse_when},
    table::{Cell, Table},
    target::NodeArgs,
};

mod tail;
mod timeline;

/// List, show and follow messages, and try dead ones again
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tandem messages list --status dead
  tandem messages show 0193572c-9a4e-7c11-8a52-4f0e2d1b7a90
  tandem messages tail --solution lead-router")]
pub struct Args {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List messages, newest first
    #[command(after_help = "Examples:
  tandem messages list
  tandem messages list --solution lead-router --status dead --limit 200
  tandem messages list --key customer-4711 --since 7d
  tandem messages list --json | jq -r '.messages[].id'")]
    List {
        #[command(flatten)]
        filter: Filter,
        /// Only those waiting, scheduled, done or dead
        #[arg(long, value_parser = ["waiting", "scheduled", "done", "dead"])]
        status: Option<String>,
        /// Only those with this key
        #[arg(long)]
        key: Option<String>,
        /// Only those accepted then or later: how long ago (2h), or when (2026-11-23, 2026-11-23T05:14:43Z)
        #[arg(long, value_name = "WHEN", value_parser = parse_when)]
        since: Option<When>,
        /// Only those accepted then or earlier
        #[arg(long, value_name = "WHEN", value_parser = parse_when)]
        until: Option<When>,
        /// How many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// Only older ones than this message: the next page
        #[arg(long, value_name = "ID")]
        before: Option<String>,
    },

    /// Tell the whole life of a message: attempts, log lines, state, deliveries
    #[command(after_help = "Examples:
  tandem messages show 0193572c-9a4e-7c11-8a52-4f0e2d1b7a90
  tandem messages show 0193572c-9a4e-7c11-8a52-4f0e2d1b7a90 --json | jq .tries")]
    Show { id: String },

    /// Print messages as they come and as they end, until Ctrl-C
    #[command(after_help = "Examples:
  tandem messages tail
  tandem messages tail --solution lead-router --source form
  tandem messages tail --json | jq -r 'select(.status == \"dead\") | .id'")]
    Tail {
        #[command(flatten)]
        filter: Filter,
    },

    /// Handle a dead message again, or do a dead delivery again
    #[command(after_help = "Examples:
  tandem messages retry 0193572c-9a4e-7c11-8a52-4f0e2d1b7a90
  tandem messages retry 0193572c-9a4e-7c11-8a52-4f0e2d1b7a90 --delivery 0")]
    Retry {
        id: String,
        /// Not the message but this delivery of it, by its number in `messages show`
        #[arg(long, value_name = "N")]
        delivery: Option<u16>,
    },

    /// Give a dead message, or a dead delivery, up for good
    #[command(after_help = "Examples:
  tandem messages discard 0193572c-9a4e-7c11-8a52-4f0e2d1b7a90
  tandem messages discard 0193572c-9a4e-7c11-8a52-4f0e2d1b7a90 --delivery 0")]
    Discard {
        id: String,
        /// Not the message but this delivery of it, by its number in `messages show`
        #[arg(long, value_name = "N")]
        delivery: Option<u16>,
    },
}

/// Which messages.
#[derive(Debug, Clone, clap::Args)]
struct Filter {
    /// Only messages of this solution
    #[arg(long)]
    solution: Option<String>,
    /// Only messages that came through this source
    #[arg(long)]
    source: Option<String>,
}

impl Filter {
    fn call(&self) -> Call {
        Call::get(["messages"])
            .query("solution", self.solution.as_ref())
            .query("source", self.source.as_ref())
    }
}

pub async fn run(args: Args, output: Output) -> Result<(), Failure> {
    let node = args.node.client()?;
    let now_ms = Clock::system().now_ms();
    let call = match &args.action {
        Action::Tail { filter } => return tail::follow(&node, filter, output).await,
        Action::List { filter, status, key, since, until, limit, before } => filter
            .call()
            .query("status", status.as_ref())
            .query("key", key.as_ref())
            .query("since", since.map(|when| when.unix_ms(now_ms)))
            .query("until", until.map(|when| when.unix_ms(now_ms)))
            .query("limit", Some(limit))
            .query("before", before.as_ref()),
        Action::Show { id } => Call::get(["messages", id]),
        Action::Retry { id, delivery } => again(id, *delivery, "retry"),
        Action::Discard { id, delivery } => again(id, *delivery, "discard"),
    };
    let answer = node.call(call).await?;
    if output.is_json() {
        return if answer.body.is_empty() {
            Ok(())
        } else {
            output.line(String::from_utf8_lossy(&answer.body))
        };
    }
    match &args.action {
        Action::Show { .. } => {
            let message: Message = node.decode(&answer)?;
            timeline::lines(&message, output).into_iter().try_for_each(|line| output.line(line))
        }
        Action::Retry { id, delivery } => output.line(told(id, *delivery, "is tried again")),
        Action::Discard { id, delivery } => output.line(told(id, *delivery, "is given up")),
        Action::List { .. } | Action::Tail { .. } => list(&node.decode(&answer)?, output),
    }
}

fn again(id: &str, delivery: Option<u16>, what: &str) -> Call {
    match delivery {
        Some(index) => Call::post(["deliveries", id, &index.to_string(), what]),
        None => Call::post(["messages", id, what]),
    }
}

fn told(id: &str, delivery: Option<u16>, what: &str) -> String {
    match delivery {
        Some(index) => format!("delivery {index} of {id} {what}"),
        None => format!("{id} {what}"),
    }
}

fn list(page: &MessagePage, output: Output) -> Result<(), Failure> {
    if page.messages.is_empty() {
        output.note("no such messages");
        return Ok(());
    }
    table(&page.messages).print(output)?;
    if let Some(next) = &page.next {
        output.note(format_args!("older ones: the same with --before {next}"));
    }
    Ok(())
}

fn table(messages: &[MessageSummary]) -> Table {
    let mut table =
        Table::new(&["ID", "TIME", "SOURCE", "STATUS", "TRIES", "BYTES", "LAST OUTCOME"]);
    for message in messages {
        table.row([
            Cell::plain(&message.id),
            Cell::plain(&moment(message.time_ms)),
            Cell::plain(&format!("{}/{}", message.solution, message.source)),
            Cell::word(&message.status),
            Cell::plain(&message.attempts),
            Cell::plain(&message.body_bytes),
            Cell::plain(&outcome(message)),
        ]);
    }
    table
}

/// The last outcome with its reason, short enough for a line.
fn outcome(message: &MessageSummary) -> String {
    let outcome = message.outcome.as_deref().unwrap_or_default();
    match &message.reason {
        Some(reason) => {
            format!("{outcome}: {}", cut(reason.lines().next().unwrap_or_default(), 60))
        }
        None => outcome.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::{Colour, Format};

    #[test]
    fn a_list_is_a_table() {
        let message = |id: &str, status: &str, reason: Option<&str>| MessageSummary {
            id: id.into(),
            solution: "lead-router".into(),
            source: "leads".into(),
            time_ms: 1_700_000_000_123,
            status: status.into(),
            attempts: 1,
            outcome: Some(if reason.is_some() { "rejected" } else { "done" }.into()),
            reason: reason.map(Into::into),
            body_bytes: 214,
        };
        let table = table(&[
            message("0193572c-9a4e-7c11-8a52-4f0e2d1b7a91", "dead", Some("no e-mail\nat all")),
            message("0193572c-9a4e-7c11-8a52-4f0e2d1b7a90", "done", None),
        ]);
        let output = Output { format: Format::Text, colour: Colour::Off };
        insta::assert_snapshot!(table.lines(output).join("\n"), @r#"
        ID                                    TIME                      SOURCE             STATUS  TRIES  BYTES  LAST OUTCOME
        0193572c-9a4e-7c11-8a52-4f0e2d1b7a91  2023-11-14 22:13:20.123Z  lead-router/leads  dead    1      214    rejected: no e-mail
        0193572c-9a4e-7c11-8a52-4f0e2d1b7a90  2023-11-14 22:13:20.123Z  lead-router/leads  done    1      214    done
        "#);
    }
}
