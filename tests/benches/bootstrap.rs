//! What a standby that gets everything costs a primary that takes messages meanwhile.
//!
//! `cargo bench -p tandem-tests --bench bootstrap [-- --gib N --rate N --seconds N --copy-rate SIZE]`
//!
//! Both nodes and all senders are on this machine, and on one disk. Messages are sent at a fixed rate, and a receipt's
//! time counts from when its message was due, so that a stall counts for all that it holds up.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench prints, waits for processes, and counts far below these bounds"
)]

use std::{
    env,
    error::Error,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

#[expect(dead_code, reason = "it measures too")]
#[path = "hooks/load.rs"]
mod load;

use load::{BATCH, BODY_BYTES, Load};
use tandem_tests::{
    PairUnderTest, Program, Request, Side, Solution, audit::wait_until_idle, wait_until,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

const PROGRAM: Program = Program(env!("CARGO_BIN_EXE_tandem-under-test"));
/// Where web hooks are sent.
const PATH: &str = "/hooks/lean/in";
/// Each sends its share of the rate.
const SENDERS: u32 = 16;
/// A copy takes no longer.
const COPY_MAX: Duration = Duration::from_hours(1);

struct Plan {
    gib: f64,
    rate: u32,
    seconds: u64,
    copy_rate: String,
}

fn main() -> Outcome<()> {
    let plan = plan()?;
    let rate = plan.copy_rate.as_str();
    let lines = format!(
        "failback = \"manual\"\n{}[store]\nlive = \"512GiB\"\n[log]\nlevel = \"info\"",
        if rate.is_empty() { String::new() } else { format!("copy_rate = \"{rate}\"\n") }
    );
    let mut pair = PROGRAM.pair().lines(&lines).make();
    pair.main.launch();
    pair.wait_primary(Side::Main);
    pair.main.deploy(&Solution::lean().with("\n[limits]\nqueue = 100000000"));
    fill(&pair, plan.gib)?;
    println!("| while | s | receipts/s | p50 ms | p99 ms | longest ms | after s |");
    println!("|---|--:|--:|--:|--:|--:|--:|");
    let time = Duration::from_secs(plan.seconds);
    let before = paced(pair.main.address, plan.rate, |_| thread::sleep(time));
    row("the node is alone", &before);
    let code = pair.invite(Side::Main);
    pair.join(Side::Failover, &code).expect(0);
    let address = pair.main.address;
    let during = paced(address, plan.rate, |_| {
        pair.failover.launch();
        let until = Instant::now() + COPY_MAX;
        while !pair.status(Side::Main).is_some_and(|status| status["sync"] == "both") {
            assert!(Instant::now() < until, "the standby is not in sync: {}", pair.main.log());
            thread::sleep(Duration::from_millis(100));
        }
    });
    row("the standby gets everything", &during);
    let after = paced(address, plan.rate, |_| thread::sleep(time));
    row("both are in sync", &after);
    pair.wait_even();
    let [before, during, after] = [&before, &during, &after].map(|sent| sent.p(0.99));
    println!(
        "\np99 while everything is copied is {:.1} of p99 alone and {:.1} of p99 in sync",
        during.as_secs_f64() / before.as_secs_f64(),
        during.as_secs_f64() / after.as_secs_f64()
    );
    for line in pair.main.log().lines().filter(|line| line.contains("given all rows")) {
        println!("{line}");
    }
    Ok(())
}

fn plan() -> Outcome<Plan> {
    let mut plan = Plan { gib: 2.0, rate: 1000, seconds: 30, copy_rate: String::new() };
    // Cargo adds the first.
    let mut args = env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(flag) = args.next() {
        let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--gib" => plan.gib = value.parse()?,
            "--rate" => plan.rate = value.parse()?,
            "--seconds" => plan.seconds = value.parse()?,
            "--copy-rate" => plan.copy_rate = value,
            other => return Err(format!("{other} is not known").into()),
        }
    }
    Ok(plan)
}

/// Messages until their bodies have that size, all of them handled.
fn fill(pair: &PairUnderTest, gib: f64) -> Outcome<()> {
    let wanted = (gib * (1_u64 << 30) as f64) as usize / BODY_BYTES;
    let load = Load { connections: 8, messages: BATCH };
    let mut sent = 0;
    while sent < wanted {
        sent += load.send(pair.main.address, Duration::from_secs(1))?.messages;
    }
    wait_until("everything is handled", || pair.main.api("solutions/lean")["queued"] == 0);
    wait_until_idle(&pair.main);
    Ok(())
}

struct Sent {
    took: Duration,
    /// Of receipts, in order.
    times: Vec<Duration>,
    /// When the longest began.
    longest: Duration,
}

impl Sent {
    fn p(&self, share: f64) -> Duration {
        quantile(&self.times, share)
    }
}

/// Sends so many messages a second while `act` acts.
fn paced(address: SocketAddr, rate: u32, act: impl FnOnce(SocketAddr)) -> Sent {
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let mut times = thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let stop = &stop;
                scope.spawn(move || send(address, Duration::from_secs(1) / rate, sender, stop))
            })
            .collect();
        act(address);
        stop.store(true, Ordering::Relaxed);
        senders.into_iter().flat_map(|sender| sender.join().expect("it sends")).collect::<Vec<_>>()
    });
    times.sort_unstable();
    let longest = times.last().map_or(began, |(_, due)| *due).saturating_duration_since(began);
    let times = times.into_iter().map(|(time, _)| time).collect();
    Sent { took: began.elapsed(), times, longest }
}

/// One of the senders: message `n` is due `n` times the pace after the beginning.
fn send(
    address: SocketAddr,
    pace: Duration,
    first: u32,
    stop: &AtomicBool,
) -> Vec<(Duration, Instant)> {
    let body = load::body();
    let request = Request::post(PATH, body);
    let mut times = Vec::new();
    let mut due = Instant::now() + pace * first;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let answer = request.send(address).expect("the primary answers");
        assert_eq!(answer.status, 202, "{answer}");
        times.push((due.elapsed(), due));
        due += pace * SENDERS;
    }
    times
}

fn row(what: &str, sent: &Sent) {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    println!(
        "| {what} | {:.0} | {:.0} | {:.2} | {:.2} | {:.1} | {:.1} |",
        sent.took.as_secs_f64(),
        sent.times.len() as f64 / sent.took.as_secs_f64(),
        ms(sent.p(0.5)),
        ms(sent.p(0.99)),
        ms(sent.p(1.0)),
        sent.longest.as_secs_f64()
    );
}

/// Of times in order.
fn quantile(times: &[Duration], share: f64) -> Duration {
    times.get((times.len().saturating_sub(1) as f64 * share) as usize).copied().unwrap_or_default()
}
