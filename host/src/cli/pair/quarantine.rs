//! `tandem pair quarantine`: what one node had accepted and the other may never have had.

use std::collections::BTreeMap;

use crate::{
    cli::{
        exit::Failure,
        node_client::{Call, NodeClient},
        output::Output,
        quantity::{moment, size},
        table::{Cell, Table},
    },
    control::wire::{Discard, Quarantine, Quarantined},
    replication::Report,
};

#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Show what there is
    #[command(after_help = "Examples:
  tandem pair quarantine list
  tandem pair quarantine list --node http://10.0.0.1:7400 --json")]
    List,

    /// Show an entry's messages
    #[command(after_help = "Examples:
  tandem pair quarantine show ID
  tandem pair quarantine show ID --json")]
    Show {
        /// As `list` shows it
        id: String,
    },

    /// Bring an entry's messages to the primary again
    ///
    /// Those that it has are not taken twice.
    #[command(after_help = "Examples:
  tandem pair quarantine replay ID
  tandem pair quarantine replay ID --node http://10.0.0.1:7400")]
    Replay {
        /// As `list` shows it
        id: String,
    },

    /// Delete an entry for good, with the store that it may hold
    #[command(after_help = "Examples:
  tandem pair quarantine discard ID --reason \"looked at\"
  tandem pair quarantine discard ID --reason \"a test\" --node http://10.0.0.1:7400")]
    Discard {
        /// As `list` shows it
        id: String,

        /// Why; it goes into the node's log
        #[arg(long)]
        reason: String,
    },
}

pub async fn run(action: Action, node: &NodeClient, output: Output) -> Result<(), Failure> {
    const PATH: [&str; 2] = ["pair", "quarantine"];
    match action {
        Action::List => {
            let answer = node.call(Call::get(PATH)).await?;
            if output.is_json() {
                return output.line(String::from_utf8_lossy(&answer.body));
            }
            list(&node.decode(&answer)?, output)
        }
        Action::Show { id } => {
            let answer = node.call(Call::get(PATH.into_iter().chain([id.as_str()]))).await?;
            if output.is_json() {
                return output.line(String::from_utf8_lossy(&answer.body));
            }
            show(&node.decode(&answer)?, output)
        }
        Action::Replay { id } => {
            node.call(Call::post(PATH.into_iter().chain([id.as_str(), "replay"]))).await?;
            output.line("its messages go to the primary again; `list` shows what becomes of them")
        }
        Action::Discard { id, reason } => {
            let call = Call::delete(PATH.into_iter().chain([id.as_str()]));
            node.call(call.json(&Discard { reason })).await?;
            output.line("deleted")
        }
    }
}

fn counts(counts: &BTreeMap<String, u64>) -> String {
    let parts: Vec<_> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

fn list(quarantine: &Quarantine, output: Output) -> Result<(), Failure> {
    if quarantine.entries.is_empty() {
        output.note("Nothing is set aside on this node.");
        return Ok(());
    }
    let mut table = Table::new(&["ID", "TIME", "MESSAGES", "CAME TO"]);
    for entry in &quarantine.entries {
        let fates = if entry.settled { counts(&entry.fates) } else { "not brought yet".to_owned() };
        table.row([
            Cell::plain(&entry.id),
            Cell::plain(&moment(entry.time_ms)),
            Cell::plain(&counts(&entry.messages)),
            Cell::plain(&fates),
        ]);
    }
    table.print(output)?;
    if let Some(warning) = &quarantine.warning {
        output.note(warning);
    }
    Ok(())
}

fn show(quarantined: &Quarantined, output: Output) -> Result<(), Failure> {
    let Report { why, common, made, unreadable, .. } = &quarantined.report;
    output.note(format_args!("{why}; both nodes have all up to frame {common}."));
    if *made > 0 {
        output.note(format_args!(
            "This node knew of {made} requests that it had made; the primary does not make them again."
        ));
    }
    if *unreadable > 0 {
        output.note(format_args!(
            "{unreadable} parts of this node's archive could not be read: finished messages in them may not be on the primary."
        ));
    }
    let mut table = Table::new(&["MESSAGE", "SOLUTION", "SOURCE", "TIME", "SIZE"]);
    for message in &quarantined.messages {
        table.row([
            Cell::plain(&message.id),
            Cell::plain(&message.solution),
            Cell::plain(&message.source),
            Cell::plain(&moment(message.time_ms)),
            Cell::plain(&size(message.bytes)),
        ]);
    }
    table.print(output)
}
