//! Whole pairs, simulated: the code that runs in production, on one thread, in a time of its own, from one seed.
//!
//! `cargo run --release -p tandem --example simulate -- --seeds 1000`

use std::{
    cell::RefCell,
    collections::BTreeMap,
    env, fs, panic,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde::{Deserialize, Serialize};
use tandem::runtime::{self, Engine};

mod chance;
mod check;
mod disk;
mod faults;
mod history;
mod host;
mod network;
mod operator;
mod receiver;
mod senders;
#[cfg(test)]
mod tests;
mod trace;
mod world;

use world::World;

/// How long a pair may take to be whole again and done with everything, also for operators, who wait 40 s for an answer; and
/// by how much clocks were set, as what is to be tried again waits by them.
const HEALING: Duration = Duration::from_secs(45);

/// Simulates pairs of nodes with everything that can befall them, and checks what came of it
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  simulate --seeds 200
  simulate --from 10000 --seeds 10000 --jobs 2
  simulate --seed 4711 --trace          one seed again, with everything that happened
  simulate --seed 4711 --trace --log tandem=debug")]
struct Args {
    /// How many seeds
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// This one only
    #[arg(long)]
    seed: Option<u64>,
    /// At the same time; as many as there are cores if it is not said
    #[arg(long)]
    jobs: Option<usize>,
    /// Seconds of faults in each, simulated
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Print what happened, in its order
    #[arg(long)]
    trace: bool,
    /// And what the nodes said, as `RUST_LOG` has it
    #[arg(long)]
    log: Option<String>,
    /// Go on after the first seed that fails
    #[arg(long)]
    keep_going: bool,
    /// To see that faults are found: disks forget, when the power goes, what they said is safe
    #[arg(long)]
    disks_lie: bool,
}

/// One seed, as a process of its own simulates it: the same each time, whatever ran before.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    seed: u64,
    seconds: u64,
    disks_lie: bool,
    /// For small files; what is compiled stays for the next.
    folder: PathBuf,
    log: Option<String>,
}

/// What came of one seed.
#[derive(Debug, Serialize, Deserialize)]
struct Outcome {
    setup: String,
    violation: Option<String>,
    simulated: Duration,
    /// From the end of the last fault until the pair was whole and done with everything.
    healed: Option<Duration>,
    sent: u64,
    receipts: BTreeMap<u8, u64>,
    calls: u64,
    takeovers: u64,
    switchovers: u64,
    deploys: u64,
    lines: Vec<String>,
}

/// Where a process finds its [`Run`].
const RUN: &str = "TANDEM_SIMULATE";

impl Run {
    fn outcome_file(&self) -> PathBuf {
        self.folder.join(format!("{}.json", self.seed))
    }

    /// Has another process simulate it.
    fn apart(&self) -> Outcome {
        let mut process = Command::new(env::current_exe().expect("this program has a file"));
        process.env(RUN, serde_json::to_string(self).expect("it is JSON")).stdout(Stdio::null());
        #[cfg(test)]
        process.args(["tests::simulates_for_another", "--exact", "--ignored", "--nocapture"]);
        if self.log.is_none() {
            process.stderr(Stdio::null());
        }
        let status = process.status().expect("this program can be run");
        let outcome = fs::read(self.outcome_file()).ok();
        fs::remove_file(self.outcome_file()).ok();
        let outcome = outcome.and_then(|outcome| serde_json::from_slice(&outcome).ok());
        outcome.unwrap_or_else(|| panic!("seed {} ended with {status}", self.seed))
    }

    /// Simulates it here.
    fn here(&self) {
        if let Some(log) = &self.log {
            trace::show(log);
        }
        note_panics();
        let engine = engine(&self.folder);
        let outcome = chance::fixed(self.seed, || self.simulate(&engine));
        let outcome = serde_json::to_vec(&outcome).expect("it is JSON");
        fs::write(self.outcome_file(), outcome).expect("its folder is there");
    }

    fn simulate(&self, engine: &Engine) -> Outcome {
        let mut dice = StdRng::seed_from_u64(self.seed ^ 0x7461_6e64_656d);
        let setup = faults::setup(&mut dice);
        let folder = self.folder.join(format!("{}", self.seed));
        let mut world = World::new(dice.random(), setup, engine.clone(), folder);
        if self.disks_lie {
            world.hosts.iter().for_each(|host| host.disk().lie());
        }
        world.history.log(format!("seed {}: {setup:?}", self.seed));
        begin(&mut world);
        let mut faults = faults::Faults::default();
        faults.befall(&mut world, Duration::from_secs(self.seconds));
        world.history.log("everything is as it should be again");
        world.calm_down();
        let healed = heal(&mut world);
        if let Some(panicked) = PANICKED.take() {
            world.history.violate(panicked);
        }
        Outcome { healed, ..outcome(&world) }
    }
}

/// The one that this process is to simulate, if another has started it for that.
#[expect(clippy::disallowed_methods, reason = "it is a program")]
fn asked() -> Option<Run> {
    let run = env::var(RUN).ok()?;
    Some(serde_json::from_str(&run).expect("this program has written it"))
}

fn outcome(world: &World) -> Outcome {
    let lines = world.history.lines();
    let seen = world.history.see();
    let mut receipts = BTreeMap::new();
    for receipt in &seen.receipts {
        *receipts.entry(receipt.durability).or_default() += 1;
    }
    Outcome {
        setup: format!("{:?}", world.setup),
        violation: seen.violation.clone(),
        simulated: world.now,
        healed: None,
        sent: seen.sent,
        receipts,
        calls: seen.calls.len() as u64,
        takeovers: seen.takeovers,
        switchovers: seen.switchovers,
        deploys: seen.deploys,
        lines,
    }
}

thread_local! {
    /// What a task of this seed panicked with.
    static PANICKED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A node's task that panics ends without a word: here it counts.
fn note_panics() {
    let told = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        PANICKED.set(Some(panicked.to_string()));
        told(panicked);
    }));
}

/// Until the pair is whole and everything is deployed.
fn begin(world: &mut World) {
    if world.setup.has_witness {
        world.start(world::WITNESS);
    }
    world.start(0);
    world.start(1);
    world.start(world::RECEIVER);
    if !world.run_until(Duration::from_mins(1), |world| world.whole().is_some()) {
        return world.history.violate("the pair does not become whole at first");
    }
    world.start(world::PEOPLE);
    if !world.run_until(Duration::from_mins(1), |world| {
        !world.history.is_well() || !world.history.see().receipts.is_empty()
    }) {
        world.history.violate("nothing is taken at first");
    }
}

/// How long it took, if it did.
fn heal(world: &mut World) -> Option<Duration> {
    let from = world.now;
    let is_well = |world: &World| !world.history.is_well() || world.is_idle();
    if !world.run_until(HEALING + world.clocks_moved, is_well) {
        let why = world.why_not_idle();
        world.history.violate(format!("the pair does not become whole again: {why}"));
    }
    let took = world.now.saturating_sub(from);
    if world.history.is_well() {
        check::check(world);
        return Some(took);
    }
    None
}

/// What came of all.
#[derive(Default)]
struct Sum {
    seeds: u64,
    simulated: Duration,
    receipts: BTreeMap<u8, u64>,
    sent: u64,
    calls: u64,
    takeovers: u64,
    switchovers: u64,
    deploys: u64,
    /// And the seeds of that.
    healed: Vec<(Duration, u64)>,
    failed: Vec<u64>,
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.seeds += 1;
        self.simulated += outcome.simulated;
        self.sent += outcome.sent;
        self.calls += outcome.calls;
        self.takeovers += outcome.takeovers;
        self.switchovers += outcome.switchovers;
        self.deploys += outcome.deploys;
        self.healed.extend(outcome.healed.map(|healed| (healed, seed)));
        for (disks, count) in &outcome.receipts {
            *self.receipts.entry(*disks).or_default() += count;
        }
        if outcome.violation.is_some() {
            self.failed.push(seed);
        }
    }
}

fn main() -> ExitCode {
    if let Some(run) = asked() {
        run.here();
        return ExitCode::SUCCESS;
    }
    let args = Args::parse();
    let folder = folder();
    let (from, seeds) = args.seed.map_or((args.from, args.seeds), |seed| (seed, 1));
    let next = AtomicU64::new(from);
    let stop = AtomicBool::new(false);
    let sum = Mutex::new(Sum::default());
    let jobs = args.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, Into::into));
    let began = Instant::now();
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds {
                return;
            }
            let Args { seconds, disks_lie, ref log, .. } = args;
            let folder = folder.path().to_owned();
            let outcome = Run { seed, seconds, disks_lie, folder, log: log.clone() }.apart();
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.add(seed, &outcome);
            show(seed, &args, &outcome);
            if outcome.violation.is_some() {
                stop.store(!args.keep_going, Ordering::Relaxed);
            }
            progress(&sum, began);
        }
    };
    thread::scope(|scope| (0..jobs.max(1)).for_each(|_| drop(scope.spawn(work))));
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    report(&sum, began.elapsed());
    if sum.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// In memory where there is such a thing.
fn folder() -> tempfile::TempDir {
    let base = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
    let folder = tempfile::Builder::new().prefix("tandem-simulate-").tempdir_in(base);
    folder.expect("a folder for small files can be made")
}

#[expect(clippy::print_stdout, reason = "it is a program")]
fn show(seed: u64, args: &Args, outcome: &Outcome) {
    if args.trace {
        outcome.lines.iter().for_each(|line| println!("{line}"));
    }
    if let Some(violation) = &outcome.violation {
        println!("seed {seed} FAILED ({}): {violation}", outcome.setup);
        let lie = if args.disks_lie { " --disks-lie" } else { "" };
        println!("  again: simulate --seed {seed} --seconds {}{lie} --trace", args.seconds);
    }
}

#[expect(clippy::print_stdout, reason = "it is a program")]
fn progress(sum: &Sum, began: Instant) {
    if sum.seeds.is_multiple_of(100) {
        println!("{} seeds, {} failed, {:.0?}", sum.seeds, sum.failed.len(), began.elapsed());
    }
}

/// Components are compiled once for all nodes of all seeds.
fn engine(folder: &Path) -> Engine {
    let cache: PathBuf = folder.join("compiled");
    let config = runtime::Config { cache_dir: Some(cache), instances: 16 };
    Engine::new(&config).expect("this machine runs components")
}

#[expect(clippy::print_stdout, reason = "it is a program")]
fn report(sum: &Sum, took: Duration) {
    let Sum { seeds, simulated, receipts, sent, calls, takeovers, switchovers, deploys, .. } = sum;
    let speed = simulated.as_secs_f64() / took.as_secs_f64();
    println!(
        "{seeds} seeds in {took:.1?}: {:.1} h simulated, {speed:.0} s per second\n\
         {sent} messages sent, receipts by durability {receipts:?}, {calls} requests made\n\
         {takeovers} times primary, {switchovers} switchovers asked for and done, {deploys} deployments",
        simulated.as_secs_f64() / 3600.0,
    );
    let mut healed = sum.healed.clone();
    healed.sort_unstable();
    if let Some((longest, seed)) = healed.last() {
        let part = |hundredths: usize| healed[(healed.len() - 1) * hundredths / 100].0;
        println!(
            "whole again after the last fault: half within {:.1?}, 99 of 100 within {:.1?}, the longest {longest:.1?} (seed {seed})",
            part(50),
            part(99),
        );
    }
    println!("failed: {:?}", sum.failed);
}
