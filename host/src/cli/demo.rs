//! `tandem demo`: a real pair and its witness, real messages, a main server that is killed; at the end, a proof.

use std::{path::Path, time::Duration};

use serde::Serialize;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::control::wire::Status;

use super::{
    exit::{Exit, Failure},
    node_client::{Call, NodeClient},
    output::{Output, Style},
    quantity::span_us,
    signals::Signals,
};

mod audit;
mod child;
mod examples;
mod live;
mod receiver;
mod servers;
mod tally;
mod traffic;

use receiver::Receiver;
use servers::{Seen, Servers};

/// Between two looks at the pair.
const LOOK: Duration = Duration::from_millis(100);
/// How long something that has to happen may take before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long things are left alone, so that there is something to see.
const SCENE: Duration = Duration::from_secs(4);
/// Between two looks for the first message that is handled after the kill.
const HANDLED_LOOK: Duration = Duration::from_millis(5);

/// See Tandem work: a pair, and what happens when its main server is killed
///
/// Starts a main server, a failover server and a witness on this computer, each a process of its own, and sends leads and
/// orders to both servers. Then it kills the main server with SIGKILL, lets the failover server act, starts the main
/// server again and lets it take its role back. A small HTTP server plays the CRM; now and then it is slow, refuses, or
/// loses its answer. At the end everything that was sent is looked for: receipted, handled once, at the CRM once, on both
/// disks. Exits with 1 if anything was lost or doubled. Takes about 20 seconds and leaves nothing behind.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tandem demo
  tandem demo --rate 200
  tandem demo --json | jq .proof")]
pub struct Args {
    /// Leads and orders a second
    #[arg(long, value_name = "N", default_value_t = 40)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,

    /// The same number gives the same leads and orders
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

pub async fn run(args: Args, output: Output) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let folder = tempfile::Builder::new()
        .prefix("tandem-demo-")
        .tempdir()
        .map_err(|e| Failure::failed("file", format!("cannot make a temporary folder: {e}")))?;
    let mut servers = Servers::new(folder.path())?;
    let ended = tokio::select! {
        ended = play(args, output, &mut servers) => ended,
        () = signals.next() => Err(Failure::failed("stopped", "stopped before the proof")),
    };
    // In this order: nothing is written any more when the folder goes.
    servers.end().await;
    remove(folder, &ended)?;
    ended
}

/// What broke is worth more than that its folder stays.
fn remove(folder: tempfile::TempDir, ended: &Result<(), Failure>) -> Result<(), Failure> {
    let path = folder.path().to_owned();
    match folder.close() {
        Err(e) if ended.is_ok() => Err(Failure::file("remove", Path::new(&path), &e)),
        _ => Ok(()),
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Story {
    takeover: Takeover,
    hand_back: HandBack,
    proof: audit::Proof,
}

/// From the kill on.
#[derive(Debug, Serialize)]
struct Takeover {
    epoch: u64,
    first_receipt_ms: u64,
    first_handled_ms: u64,
}

/// From when the main server was started again until a second after it was primary.
#[derive(Debug, Serialize)]
struct HandBack {
    epoch: u64,
    longest_without_receipt_ms: u64,
}

async fn play(args: Args, output: Output, servers: &mut Servers) -> Result<(), Failure> {
    let receiver = Receiver::start().await?;
    output.note("starting a witness, a main server and a failover server …");
    servers.start().await?;
    let mut stage = Stage {
        servers,
        receiver,
        tally: tally::Shared::default(),
        view: live::View::new(output),
        seen: Seen::default(),
    };
    stage.until("the two are in sync", Seen::main_leads).await?;
    examples::deploy(&stage.servers.main.node, stage.receiver.address(), output).await?;
    stage.introduce()?;

    let both = [stage.servers.main.node.clone(), stage.servers.failover.node.clone()];
    let plan = traffic::Plan { rate: args.rate, seed: args.seed };
    let (stop, stopped) = watch::channel(false);
    let senders = tokio::spawn(traffic::send(both, plan, stage.tally.clone(), stopped));
    stage.view.begin();
    stage.view.event(Style::Plain, &format!("leads and orders flow, {} a second", args.rate))?;
    stage.pause(SCENE).await?;

    let takeover = stage.take_over().await?;
    stage.pause(SCENE).await?;
    let hand_back = stage.hand_back().await?;
    stage.pause(SCENE / 2).await?;

    stop.send_replace(true);
    stage.view.event(Style::Plain, "no more is sent; what is on its way arrives")?;
    let proof = stage.prove(senders).await?;
    stage.view.end()?;
    if output.is_json() {
        output.json(&Story { takeover, hand_back, proof: proof.clone() })?;
    } else {
        proof.lines(output).into_iter().try_for_each(|line| output.line(line))?;
    }
    if proof.holds { Ok(()) } else { Err(Failure::said(Exit::Failed)) }
}

/// What the demo plays on.
struct Stage<'a> {
    servers: &'a mut Servers,
    receiver: Receiver,
    tally: tally::Shared,
    view: live::View,
    /// The pair at the last look.
    seen: Seen,
}

impl Stage<'_> {
    fn introduce(&mut self) -> Result<(), Failure> {
        let (main, failover) =
            (self.servers.main.node.address(), self.servers.failover.node.address());
        let text = format!(
            "\nThree processes on this computer are a pair and its witness:\n  main server      {main}\n  failover server  \
             {failover}\nEvery message goes to one address or the other, with an Idempotency-Key, and is sent again until it has\n\
             a receipt: that is what a good sender does. In another terminal:\n  tandem pair status --node {failover}\n"
        );
        self.view.line(&text)
    }

    /// Kills the main server; over when the failover server has given a receipt and handled a message.
    async fn take_over(&mut self) -> Result<Takeover, Failure> {
        let epoch = self.seen.epoch();
        let handled = tokio::spawn(first_handled(self.servers.failover.node.clone()));
        let killed = Instant::now();
        self.servers.main.child.kill().await;
        self.view.event(Style::Bad, "the main server is killed: kill -9")?;
        let tally = self.tally.clone();
        self.until("the failover server takes over", |seen| {
            seen.failover_is_primary() && tally.lock().first_after(epoch).is_some()
        })
        .await?;
        self.until("the failover server handles a message", |_| handled.is_finished()).await?;
        let first_receipt = tally.lock().first_after(epoch).map(|at| at.duration_since(killed));
        let first_handled = handled.await.ok().map(|at| at.duration_since(killed));
        let takeover = Takeover {
            epoch: self.seen.epoch(),
            first_receipt_ms: ms(first_receipt.unwrap_or_default()),
            first_handled_ms: ms(first_handled.unwrap_or_default()),
        };
        let text = format!(
            "the failover server is primary, epoch {}: first receipt {} after the kill, first message handled after {}",
            takeover.epoch,
            span_ms(takeover.first_receipt_ms),
            span_ms(takeover.first_handled_ms)
        );
        self.view.event(Style::Good, &text)?;
        Ok(takeover)
    }

    /// Starts the main server again; over when it is primary and in sync.
    async fn hand_back(&mut self) -> Result<HandBack, Failure> {
        let begun = Instant::now();
        self.servers.main.child.start().await?;
        self.view
            .event(Style::Plain, "the main server is started again, and gets what it has missed")?;
        self.until("the main server is in sync", |seen| {
            seen.main_is_in_sync() || seen.main_leads()
        })
        .await?;
        let text = "both are in sync; the failover server hands over when that has lasted 3 s";
        self.view.event(Style::Plain, text)?;
        self.until("the main server is primary again", Seen::main_leads).await?;
        let epoch = self.seen.epoch();
        self.pause(Duration::from_secs(1)).await?;
        let gap = self.tally.lock().longest_gap(begun, Instant::now());
        let back = HandBack { epoch, longest_without_receipt_ms: ms(gap) };
        let text = format!(
            "the main server is primary again, epoch {epoch}: meanwhile never more than {} without a receipt",
            span_ms(back.longest_without_receipt_ms)
        );
        self.view.event(Style::Good, &text)?;
        Ok(back)
    }

    /// Waits for what is on its way, and looks for everything.
    async fn prove(&mut self, senders: JoinHandle<()>) -> Result<audit::Proof, Failure> {
        self.until_within("every message has its receipt", PATIENCE * 2, |_| senders.is_finished())
            .await?;
        let main = self.servers.main.node.clone();
        let drained = audit::drain(&main, PATIENCE).await?;
        let even = self.until("both stores are alike", |seen| seen.common_head().is_some()).await;
        let (sent, receipts, given_up) = {
            let tally = self.tally.lock();
            (tally.figures(), tally.receipts.clone(), tally.given_up.clone())
        };
        Ok(audit::judge(&audit::Facts {
            drained,
            head: even.is_ok().then(|| self.seen.common_head()).flatten(),
            sent,
            receipts: &receipts,
            given_up: &given_up,
            found: audit::messages(&main).await?,
            totals: audit::totals(&main).await?,
            leads_counted: audit::leads_counted(&main).await?,
            received: self.receiver.received(),
        }))
    }

    async fn pause(&mut self, span: Duration) -> Result<(), Failure> {
        let end = Instant::now() + span;
        while Instant::now() < end {
            self.look().await?;
            sleep(LOOK).await;
        }
        Ok(())
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Seen) -> bool) -> Result<(), Failure> {
        self.until_within(what, PATIENCE, is_so).await
    }

    /// Looks until it is so; gives up if that takes too long.
    async fn until_within(
        &mut self,
        what: &str,
        patience: Duration,
        is_so: impl Fn(&Seen) -> bool,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + patience;
        loop {
            self.look().await?;
            if is_so(&self.seen) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let trouble = self.tally.lock().last_trouble.take().unwrap_or_default();
                let message = format!(
                    "waited {} s in vain until {what}; {}; the last trouble of a sender: {trouble}",
                    patience.as_secs(),
                    picture(&self.seen, &self.tally, &self.receiver).line()
                );
                return Err(Failure::failed("demo-stuck", message));
            }
            sleep(LOOK).await;
        }
    }

    async fn look(&mut self) -> Result<(), Failure> {
        self.servers.still_run()?;
        self.seen = self.servers.seen().await;
        let picture = picture(&self.seen, &self.tally, &self.receiver);
        self.view.show(&picture)
    }
}

fn picture<'a>(seen: &'a Seen, tally: &tally::Shared, receiver: &Receiver) -> live::Picture<'a> {
    let tally = tally.lock();
    live::Picture { seen, rate: tally.rate(), sent: tally.figures(), received: receiver.figures() }
}

/// When this node, a standby as yet, has handled its first message as primary.
async fn first_handled(node: NodeClient) -> Instant {
    let mut before = None;
    loop {
        let call = Call::get(["status"]).timeout(Duration::from_secs(1));
        if let Ok(status) = node.read::<Status>(call).await {
            let handled = status.messages.handled;
            if status.role == "primary" && before.is_some_and(|before| handled > before) {
                return Instant::now();
            }
            if status.role != "primary" || before.is_none() {
                before = Some(handled);
            }
        }
        sleep(HANDLED_LOOK).await;
    }
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn span_ms(ms: u64) -> String {
    if ms < 1_000 { format!("{ms} ms") } else { span_us(ms * 1_000) }
}
