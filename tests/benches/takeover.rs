//! How long a pair is without a primary, and what being one of two costs.
//!
//! `cargo bench -p tandem-tests --bench takeover [-- --kills N --silences N --seconds N]`
//!
//! Both nodes and all senders are on this machine. Handled: a message that was sent, with a key and again and again, from
//! the moment of the fault on was handled, as the node that took over says.

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
    thread,
    time::{Duration, Instant},
};

#[expect(dead_code, reason = "it sends batches too")]
#[path = "hooks/load.rs"]
mod load;

use load::Load;
use tandem_tests::{NodeUnderTest, PairUnderTest, Program, Request, Side, Solution, Third};

type Outcome<T> = Result<T, Box<dyn Error>>;

const PROGRAM: Program = Program(env!("CARGO_BIN_EXE_tandem-under-test"));
/// Where web hooks are sent.
const PATH: &str = "/hooks/lean/in";
/// Between two attempts of a sender.
const AGAIN: Duration = Duration::from_millis(1);
/// A request that gets no answer in this time is sent again.
const PATIENCE: Duration = Duration::from_millis(250);

struct Plan {
    kills: usize,
    silences: usize,
    seconds: u64,
}

fn main() -> Outcome<()> {
    let plan = plan()?;
    println!("| what happens | rounds | median ms | p99 ms | longest ms |");
    println!("|---|--:|--:|--:|--:|");
    for profile in ["fast", "calm"] {
        let name = format!("the primary is killed, `{profile}`");
        let kills = if profile == "fast" { plan.kills } else { plan.kills.min(plan.silences) };
        row(&name, kills, || kills_of_the_primary(profile, kills));
    }
    for profile in ["fast", "calm"] {
        let name = format!("the primary's machine is gone, `{profile}`");
        row(&name, plan.silences, || silences_of_the_primary(profile, plan.silences));
    }
    row("roles are exchanged: longest gap", plan.kills, || switchovers(plan.kills));
    if plan.seconds == 0 {
        return Ok(());
    }
    compare(Duration::from_secs(plan.seconds))
}

fn plan() -> Outcome<Plan> {
    let mut plan = Plan { kills: 100, silences: 5, seconds: 5 };
    // Cargo adds the first.
    let mut args = env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(flag) = args.next() {
        let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--kills" => plan.kills = value.parse()?,
            "--silences" => plan.silences = value.parse()?,
            "--seconds" => plan.seconds = value.parse()?,
            other => return Err(format!("{other} is not known").into()),
        }
    }
    Ok(plan)
}

/// Nothing, if nothing is to be measured.
fn row(what: &str, rounds: usize, measured: impl FnOnce() -> Vec<Duration>) {
    if rounds == 0 {
        return;
    }
    let mut times = measured();
    times.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let [median, p99] = [0.5, 0.99].map(|share| ms(quantile(&times, share)));
    let longest = times.last().copied().map_or(0.0, ms);
    println!("| {what} | {} | {median:.0} | {p99:.0} | {longest:.0} |", times.len());
}

/// Of times in order.
fn quantile(times: &[Duration], share: f64) -> Duration {
    times.get((times.len().saturating_sub(1) as f64 * share) as usize).copied().unwrap_or_default()
}

fn pair(profile: &str) -> tandem_tests::Setup {
    let lines = format!("profile = \"{profile}\"\nfailback = \"manual\"");
    PROGRAM.pair().third(Third::Server).lines(&lines)
}

fn deploy(node: &NodeUnderTest) {
    node.deploy(&Solution::lean().with("\n[limits]\nqueue = 100000000"));
}

/// Sends one message until it has a receipt, and waits until it is handled.
fn until_handled(address: SocketAddr, key: &str) {
    let request = Request::post(PATH, "{}").header("idempotency-key", key);
    let id = loop {
        match request.send_within(address, PATIENCE) {
            Ok(answer) if answer.status == 202 => break answer.json()["id"].clone(),
            _ => thread::sleep(AGAIN),
        }
    };
    let path = format!("/api/v1/messages/{}", id.as_str().unwrap_or_default());
    loop {
        let answer = Request::new("GET", &path).send_within(address, PATIENCE);
        if answer.is_ok_and(|answer| answer.status == 200 && answer.json()["status"] == "done") {
            return;
        }
        thread::sleep(AGAIN);
    }
}

fn kills_of_the_primary(profile: &str, rounds: usize) -> Vec<Duration> {
    let mut pair = pair(profile).start();
    deploy(&pair.main);
    let mut round = |number: usize| {
        let primary = pair.wait_in_sync();
        let other = pair.node(primary.other()).address;
        until_handled(other, &format!("before {number}"));
        let began = Instant::now();
        pair.node_mut(primary).kill9();
        until_handled(other, &format!("after {number}"));
        let took = began.elapsed();
        pair.node_mut(primary).launch();
        took
    };
    (0..rounds).map(&mut round).collect()
}

/// Until this node has heard the other just now, within the time of a few requests.
fn until_sign_of_life(pair: &PairUnderTest, side: Side) {
    let heard = || pair.status(side).and_then(|status| status["peer"]["heard_ms_ago"].as_u64());
    let mut before = 0;
    loop {
        match heard() {
            Some(now) if now < before => return,
            Some(now) => before = now,
            None => {}
        }
        thread::sleep(AGAIN);
    }
}

/// From the last sign of life on. It hangs, so that nobody refuses: what the other sees of a machine without power.
fn silences_of_the_primary(profile: &str, rounds: usize) -> Vec<Duration> {
    let mut pair = pair(profile).wired().start();
    deploy(&pair.main);
    let mut round = |number: usize| {
        let primary = pair.wait_in_sync();
        let other = pair.node(primary.other()).address;
        until_handled(other, &format!("before {number}"));
        until_sign_of_life(&pair, primary.other());
        let began = Instant::now();
        pair.stall_links();
        pair.node(primary).pause();
        until_handled(other, &format!("after {number}"));
        let took = began.elapsed();
        pair.node_mut(primary).kill9();
        pair.heal_links();
        pair.node_mut(primary).launch();
        took
    };
    (0..rounds).map(&mut round).collect()
}

/// From the last receipt before to the first after, with one sender at the node that is to be primary.
fn switchovers(rounds: usize) -> Vec<Duration> {
    let pair = pair("fast").start();
    deploy(&pair.main);
    (0..rounds).map(|number| switchover(&pair, number)).collect()
}

fn switchover(pair: &PairUnderTest, number: usize) -> Duration {
    let primary: Side = pair.wait_in_sync();
    let address = pair.node(primary.other()).address;
    thread::scope(|scope| {
        let asked = scope.spawn(|| pair.node(primary).call("POST", "pair/switchover", None));
        let (mut longest, mut last) = (Duration::ZERO, Instant::now());
        let mut sent = 0;
        while !asked.is_finished() || sent < 20 {
            let request = Request::post(PATH, "{}")
                .header("idempotency-key", &format!("switch {number} {sent}"));
            if request.send_within(address, PATIENCE).is_ok_and(|answer| answer.status == 202) {
                longest = longest.max(last.elapsed());
                last = Instant::now();
                sent += 1;
            }
        }
        longest
    })
}

/// One node alone and a pair in sync, in turns.
fn compare(time: Duration) -> Outcome<()> {
    println!("\n| connections | | accepted/s | receipt p50 ms | p99 ms |");
    println!("|--:|---|--:|--:|--:|");
    for connections in [1, 64] {
        let load = Load { connections, messages: 1 };
        let alone = PROGRAM.node_with("[log]\nlevel = \"warn\"\n");
        deploy(&alone);
        measure("one node", load, alone.address, time)?;
        drop(alone);
        let pair = pair("calm").start();
        deploy(&pair.main);
        pair.wait_even();
        measure("a pair in sync", load, pair.main.address, time)?;
    }
    Ok(())
}

fn measure(name: &str, load: Load, address: SocketAddr, time: Duration) -> Outcome<()> {
    load.send(address, time / 4)?;
    let sent = load.send(address, time)?;
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    println!(
        "| {} | {name} | {:.0} | {:.2} | {:.2} |",
        load.connections,
        sent.messages as f64 / sent.took.as_secs_f64(),
        ms(sent.p50),
        ms(sent.p99)
    );
    Ok(())
}
