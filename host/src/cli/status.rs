//! `tandem status`: how a node is doing.

use std::time::Duration;

use crate::control::wire::{SolutionSummary, Status};

use super::{
    exit::Failure,
    node_client::{Call, NodeClient},
    output::{Output, Style},
    quantity::{moment, size, span_s, span_us},
    signals::Signals,
    solutions,
    target::NodeArgs,
};

/// Show how a node is doing
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tandem status
  tandem status --watch
  tandem status --json | jq .messages.queued")]
pub struct Args {
    /// Show it again every second, until Ctrl-C
    #[arg(long)]
    watch: bool,

    #[command(flatten)]
    node: NodeArgs,
}

pub async fn run(args: Args, output: Output) -> Result<(), Failure> {
    let node = args.node.client()?;
    if !args.watch {
        return show(&node, output).await;
    }
    let mut signals = Signals::new()?;
    loop {
        if !output.is_json() && output.colour == super::output::Colour::On {
            // Home, and clear what is below: no flicker.
            output.bytes(b"\x1b[H\x1b[J")?;
        }
        show(&node, output).await?;
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = signals.next() => return Ok(()),
        }
    }
}

async fn show(node: &NodeClient, output: Output) -> Result<(), Failure> {
    let answer = node.call(Call::get(["status"])).await?;
    if output.is_json() {
        return output.line(String::from_utf8_lossy(&answer.body));
    }
    let status: Status = node.decode(&answer)?;
    lines(&status, output).into_iter().try_for_each(|line| output.line(line))
}

fn lines(status: &Status, output: Output) -> Vec<String> {
    let Status { messages, deliveries, store, archive, .. } = status;
    let up = span_s(status.now_ms.saturating_sub(status.started_ms) / 1_000);
    let mut lines = vec![
        format!(
            "node        {} ({}), Tandem {}, up {up}",
            status.node, status.role, status.version
        ),
        format!("address     {}", status.listen),
        format!(
            "store       {} in {}, {} free, format {}",
            size(store.file_bytes),
            status.data_dir,
            size(store.disk_free_bytes),
            store.format
        ),
        match archive.oldest_ms {
            None => "archive     empty".to_owned(),
            Some(oldest_ms) => format!(
                "archive     {} messages in {} segments, {}; the oldest of {}",
                archive.messages,
                archive.segments,
                size(archive.bytes),
                moment(oldest_ms)
            ),
        },
        format!(
            "journal     epoch {}, seq {}; {} commits, {} each",
            status.epoch,
            status.seq,
            store.commits,
            span_us(store.commit_us)
        ),
        format!(
            "messages    {} queued, {} dead; since the start {} accepted, {} handled",
            messages.queued,
            dead(messages.dead, output),
            messages.accepted,
            messages.handled
        ),
        format!(
            "deliveries  {} pending, {} dead; since the start {} delivered",
            deliveries.pending,
            dead(deliveries.dead, output),
            deliveries.delivered
        ),
    ];
    for warning in &status.warnings {
        lines.push(format!("{} {warning}", output.paint(Style::Warn, "warning:")));
    }
    lines.push(String::new());
    lines.extend(solution_lines(&status.solutions, output));
    lines
}

fn dead(count: u64, output: Output) -> String {
    output.paint(if count == 0 { Style::Plain } else { Style::Bad }, &count.to_string())
}

fn solution_lines(summaries: &[SolutionSummary], output: Output) -> Vec<String> {
    if summaries.is_empty() {
        return vec!["no solutions yet: `tandem new NAME` begins one".to_owned()];
    }
    solutions::table(summaries).lines(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::output::{Colour, Format},
        control::wire::{ArchiveStatus, Counts, DeliveryCounts, StoreStatus},
    };

    #[test]
    fn a_status_reads_from_top_to_bottom() {
        let status = Status {
            version: "0.1.0".into(),
            node: "a".into(),
            role: "primary".into(),
            epoch: 1,
            seq: 4711,
            started_ms: 1_700_000_000_000,
            now_ms: 1_700_000_125_000,
            data_dir: "tandem-data".into(),
            listen: "127.0.0.1:7400".into(),
            store: StoreStatus {
                format: 1,
                file_bytes: 3 << 20,
                disk_free_bytes: 5 << 30,
                commits: 77,
                commit_us: 1_250,
            },
            archive: ArchiveStatus {
                segments: 4,
                messages: 1234,
                bytes: 9 << 20,
                oldest_ms: Some(1_690_000_000_000),
            },
            messages: Counts { queued: 1, accepted: 20, handled: 19, dead: 2 },
            deliveries: DeliveryCounts { pending: 3, delivered: 15, dead: 0 },
            solutions: vec![SolutionSummary {
                name: "lead-router".into(),
                version: "1.0.0".into(),
                digest: "0123456789abcdef".into(),
                deployed_ms: 1_700_000_000_000,
                state: "paused".into(),
                reason: Some("the CRM moves".into()),
                queued: 1,
                dead: 2,
            }],
            warnings: vec!["the disk is 96 % full".into()],
        };
        let output = Output { format: Format::Text, colour: Colour::Off };
        insta::assert_snapshot!(lines(&status, output).join("\n"), @r#"
        node        a (primary), Tandem 0.1.0, up 2 min 5 s
        address     127.0.0.1:7400
        store       3.0 MiB in tandem-data, 5.0 GiB free, format 1
        archive     1234 messages in 4 segments, 9.0 MiB; the oldest of 2023-07-22 04:26:40.000Z
        journal     epoch 1, seq 4711; 77 commits, 1.2 ms each
        messages    1 queued, 2 dead; since the start 20 accepted, 19 handled
        deliveries  3 pending, 0 dead; since the start 15 delivered
        warning: the disk is 96 % full

        SOLUTION     VERSION  STATE   QUEUED  DEAD  DEPLOYED                  WHY
        lead-router  1.0.0    paused  1       2     2023-11-14 22:13:20.000Z  the CRM moves
        "#);
    }
}
