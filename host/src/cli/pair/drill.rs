//! `tandem pair drill`: a takeover on a copy.

use std::time::Duration;

use crate::{
    cli::{
        exit::{Exit, Failure},
        node_client::{Call, NodeClient},
        output::Output,
        quantity::{size, span_us},
        table::{Cell, Table},
    },
    control::wire::{Drill, Step},
};

/// Between two looks how far it is.
const LOOK: Duration = Duration::from_millis(100);

pub async fn run(node: &NodeClient, output: Output) -> Result<(), Failure> {
    node.call(Call::post(["pair", "drill"])).await?;
    let mut told = Progress::default();
    loop {
        tokio::time::sleep(LOOK).await;
        let answer = node.call(Call::get(["pair", "drill"])).await?;
        let drill: Drill = node.decode(&answer)?;
        if drill.state == "running" {
            if !output.is_json() {
                told.tell(&drill, output);
            }
            continue;
        }
        if output.is_json() {
            output.line(String::from_utf8_lossy(&answer.body))?;
        } else {
            lines(&drill, output).into_iter().try_for_each(|line| output.line(line))?;
        }
        return match drill.reason {
            None => Ok(()),
            Some(_) if output.is_json() => Err(Failure::said(Exit::Failed)),
            Some(reason) => {
                Err(Failure::failed("drill-failed", format!("the drill failed: {reason}")))
            }
        };
    }
}

/// What was told of a drill that runs.
#[derive(Default)]
struct Progress {
    steps: usize,
    bytes: u64,
}

impl Progress {
    /// Each step once, and a long copy now and then.
    fn tell(&mut self, drill: &Drill, output: Output) {
        if drill.steps.is_empty() && drill.copied_bytes >= self.bytes + (64 << 20) {
            self.bytes = drill.copied_bytes;
            output.note(format_args!("copy: {} so far", size(self.bytes)));
        }
        for step in drill.steps.iter().skip(self.steps) {
            output.note(format_args!("{}: {}", step.step, span(step.took_ms)));
        }
        self.steps = drill.steps.len();
    }
}

fn span(ms: u64) -> String {
    span_us(ms.saturating_mul(1_000))
}

fn lines(drill: &Drill, output: Output) -> Vec<String> {
    let mut table = Table::new(&["STEP", "TOOK", "WHAT"]);
    for Step { step, what, took_ms } in &drill.steps {
        table.row([Cell::plain(step), Cell::plain(&span(*took_ms)), Cell::plain(what)]);
    }
    let mut lines = table.lines(output);
    lines.push(format!(
        "drill on {} up to frame {}: {} in {}, {} copied; nothing was delivered, and the copy is gone",
        drill.node,
        drill.frame,
        drill.state,
        span(drill.took_ms),
        size(drill.copied_bytes)
    ));
    lines
}
