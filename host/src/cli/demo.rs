//! `tandem demo`: a real node, real messages and a receiver that is not always well; at the end, an audit.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior},
};

use crate::control::wire::Status;

use super::{
    exit::{Exit, Failure},
    node_client::{Call, NodeClient},
    output::Output,
    signals::Signals,
};

mod audit;
mod child;
mod examples;
mod live;
mod receiver;
mod tally;
mod traffic;

use child::Child;
use receiver::Receiver;
use tally::{Answered, Tally};

/// After the last message was sent, so long may pass without anything being handled or delivered before the audit says
/// that the node is stuck.
const STUCK: Duration = Duration::from_secs(30);
/// Events and answers that wait to be shown. Whoever has more waits.
const REPORTS: usize = 4096;

/// See Tandem work: a node, four solutions, a stream of messages
///
/// Starts a node in a temporary folder, deploys the example solutions and sends them leads, orders and heartbeats, until
/// Ctrl-C. A small HTTP server on this computer plays the CRM; now and then it is slow, refuses, or loses its answer. At the
/// end everything that was accepted is looked for: handled or refused as it should be, at the CRM exactly once, in the
/// customers' totals to the cent. Exits with 1 if anything was lost or doubled.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tandem demo
  tandem demo --rate 100 --seconds 60
  tandem demo --seconds 10 --json | tail -1 | jq .audit")]
pub struct Args {
    /// Stop by itself after this time [default: at Ctrl-C]
    #[arg(long, value_name = "N")]
    seconds: Option<u32>,

    /// Leads and orders a second
    #[arg(long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,

    /// The same number gives the same leads and orders
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

pub async fn run(args: Args, output: Output) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    tokio::select! {
        ended = play(args, output) => ended,
        // The first Ctrl-C is for the stream, the second for us. Dropping `play` kills the node.
        () = async { signals.next().await; signals.next().await } => {
            Err(Failure::failed("stopped", "stopped at once, without an audit"))
        }
    }
}

async fn play(args: Args, output: Output) -> Result<(), Failure> {
    let folder = tempfile::Builder::new()
        .prefix("tandem-demo-")
        .tempdir()
        .map_err(|e| Failure::failed("file", format!("cannot make a temporary folder: {e}")))?;
    let (events, heard) = mpsc::channel(REPORTS);
    let receiver = Receiver::start(events).await?;
    output.note("starting a node …");
    let mut child = Child::start(folder.path()).await?;
    let node = NodeClient::new(&format!("http://{}", child.address()), None)?;
    examples::deploy(&node, receiver.address(), output).await?;

    let (answers, answered) = mpsc::channel(REPORTS);
    let (stop, stopped) = watch::channel(false);
    let plan = traffic::Plan { rate: args.rate, seed: args.seed };
    tokio::spawn(traffic::send(node.clone(), plan, answers, stopped));

    let view = live::View::new(output, node.address(), args.rate);
    let mut stage = Stage { node, receiver, output, view, tally: Tally::default() };
    stage.show(Incoming { answered, heard }, &stop, &mut child, args.seconds).await?;
    let audited = stage.audit().await;
    child.stop().await;
    audited
}

/// What the demo plays on.
struct Stage {
    node: NodeClient,
    receiver: Receiver,
    output: Output,
    view: live::View,
    tally: Tally,
}

/// What comes in while it plays.
struct Incoming {
    answered: mpsc::Receiver<Answered>,
    heard: mpsc::Receiver<String>,
}

impl Stage {
    /// Shows what happens until the time is over or Ctrl-C comes, then until every message that was sent is answered.
    async fn show(
        &mut self,
        mut incoming: Incoming,
        stop: &watch::Sender<bool>,
        child: &mut Child,
        seconds: Option<u32>,
    ) -> Result<(), Failure> {
        self.view.begin()?;
        let mut signals = Signals::new()?;
        let mut every_second = tokio::time::interval(Duration::from_secs(1));
        every_second.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let end = seconds.map(|s| Instant::now() + Duration::from_secs(s.into()));
        loop {
            tokio::select! {
                answered = incoming.answered.recv() => match answered {
                    Some(answered) => self.tally.take(answered),
                    None => return self.draw().await,
                },
                Some(event) = incoming.heard.recv() => self.tally.event(&event),
                _ = every_second.tick() => {
                    child.still_runs()?;
                    self.draw().await?;
                    if end.is_some_and(|end| end <= Instant::now()) {
                        stop.send_replace(true);
                    }
                }
                () = signals.next() => { stop.send_replace(true); }
            }
        }
    }

    async fn draw(&mut self) -> Result<(), Failure> {
        let call = Call::get(["status"]).timeout(Duration::from_secs(2));
        let status: Option<Status> = self.node.read(call).await.ok();
        self.view.show(&self.tally.picture(status.as_ref(), self.receiver.figures()))
    }

    async fn audit(&self) -> Result<(), Failure> {
        self.output.note("no more messages are sent; waiting for what is on its way …");
        let drained = audit::drain(&self.node, STUCK).await?;
        let audit = audit::judge(&audit::Facts {
            drained,
            sent: self.tally.sent(),
            unclear: self.tally.unclear(),
            found: audit::messages(&self.node).await?,
            totals: audit::totals(&self.node).await?,
            received: self.receiver.received(),
        });
        if self.output.is_json() {
            self.output.json(&serde_json::json!({ "audit": audit }))?;
        } else {
            audit.lines(self.output).into_iter().try_for_each(|line| self.output.line(line))?;
        }
        if audit.clean { Ok(()) } else { Err(Failure::said(Exit::Failed)) }
    }
}
