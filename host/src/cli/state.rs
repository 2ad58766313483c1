//! `tandem state`: what a solution keeps between messages.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::control::wire::{Body, StateEntry};

use super::{
    exit::Failure,
    node_client::Call,
    output::{Output, cut},
    table::{Cell, Table},
    target::NodeArgs,
};

/// Look at what a solution keeps between messages
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tandem state list order-totals
  tandem state list order-totals --prefix customer/
  tandem state get order-totals customer/17")]
pub struct Args {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List keys and values, in key order
    #[command(after_help = "Examples:
  tandem state list order-totals
  tandem state list order-totals --prefix customer/ --limit 1000
  tandem state list order-totals --after customer/17")]
    List {
        solution: String,
        /// Only keys that begin so
        #[arg(long)]
        prefix: Option<String>,
        /// Only keys after this one: the next page
        #[arg(long, value_name = "KEY")]
        after: Option<String>,
        /// How many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },

    /// Print one value
    #[command(after_help = "Examples:
  tandem state get order-totals customer/17
  tandem state get thumbnails photo/3 --raw > photo.png")]
    Get {
        solution: String,
        key: String,
        /// The value's bytes and nothing else, also to a terminal
        #[arg(long, conflicts_with = "json")]
        raw: bool,
    },
}

pub async fn run(args: Args, output: Output) -> Result<(), Failure> {
    let node = args.node.client()?;
    let call = match &args.action {
        Action::List { solution, prefix, after, limit } => Call::get(["state", solution])
            .query("prefix", prefix.as_ref())
            .query("after", after.as_ref())
            .query("limit", Some(limit)),
        Action::Get { solution, key, .. } => Call::get(["state", solution, key]),
    };
    let answer = node.call(call).await?;
    if output.is_json() {
        return output.line(String::from_utf8_lossy(&answer.body));
    }
    match args.action {
        Action::List { limit, .. } => {
            let entries: Vec<StateEntry> = node.decode(&answer)?;
            if entries.is_empty() {
                output.note("no such keys");
                return Ok(());
            }
            table(&entries).print(output)?;
            if entries.len() == usize::from(limit) {
                let last = entries.last().map_or("", |entry| &entry.key);
                output.note(format_args!("perhaps more: the same with --after {last}"));
            }
            Ok(())
        }
        Action::Get { raw, .. } => {
            let entry: StateEntry = node.decode(&answer)?;
            let bytes = bytes(&entry.value)?;
            match (raw, std::str::from_utf8(&bytes)) {
                (true, _) => output.bytes(&bytes),
                (false, Ok(text)) => output.line(text),
                (false, Err(_)) => Err(Failure::failed(
                    "no-text",
                    format!("the value of {} is no text ({} bytes)", entry.key, bytes.len()),
                )
                .next("print its bytes with --raw, or base64 with --json")),
            }
        }
    }
}

fn bytes(value: &Body) -> Result<Vec<u8>, Failure> {
    match value {
        Body::Text(text) => Ok(text.clone().into_bytes()),
        Body::Base64(text) => STANDARD.decode(text).map_err(|e| {
            Failure::failed("unreadable-answer", format!("the node's base64 is none: {e}"))
        }),
    }
}

fn table(entries: &[StateEntry]) -> Table {
    let mut table = Table::new(&["KEY", "BYTES", "VALUE"]);
    for entry in entries {
        let (bytes, shown) = match &entry.value {
            Body::Text(text) => (text.len(), cut(text, 100)),
            Body::Base64(text) => {
                let padding = text.len() - text.trim_end_matches('=').len();
                (text.len() / 4 * 3 - padding, "(no text)".to_owned())
            }
        };
        table.row([Cell::plain(&entry.key), Cell::plain(&bytes), Cell::plain(&shown)]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::{Colour, Format};

    #[test]
    fn values_show_as_text_or_as_their_size() {
        let entry = |key: &str, value| StateEntry { key: key.into(), value };
        let table = table(&[
            entry("customer/17", Body::Text("{\"total\": 12}".into())),
            entry("photo/3", Body::Base64("AAEC/w==".into())),
        ]);
        let output = Output { format: Format::Text, colour: Colour::Off };
        assert_eq!(
            table.lines(output),
            [
                "KEY          BYTES  VALUE",
                "customer/17  13     {\"total\": 12}",
                "photo/3      4      (no text)"
            ]
        );
        assert_eq!(bytes(&Body::Base64("AAEC/w==".into())).unwrap(), [0, 1, 2, 0xff]);
        assert!(bytes(&Body::Base64("!".into())).is_err());
    }
}
