//! Whole pairs, simulated: the code that runs in production, on one thread, in a time of its own, from one seed.
//!
//! `cargo run --release -p tandem --example simulate -- --seeds 1000`

use std::{
    cell::RefCell,
    collections::BTreeMap,
    panic,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
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

use history::History;
use world::World;

/// How long a pair may take to be whole again and done with everything.
const HEALING: Duration = Duration::from_mins(3);

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

/// What is the same for all seeds.
#[derive(Debug, Clone, Copy)]
struct Run<'a> {
    engine: &'a Engine,
    folder: &'a Path,
    seconds: u64,
    disks_lie: bool,
}

/// What came of one seed.
struct Outcome {
    history: History,
    simulated: Duration,
    setup: world::Setup,
}

fn simulate(seed: u64, run: Run<'_>) -> Outcome {
    let mut dice = StdRng::seed_from_u64(seed ^ 0x7461_6e64_656d);
    let setup = faults::setup(&mut dice);
    let folder = run.folder.join(format!("{seed}"));
    let mut world = World::new(dice.random(), setup, run.engine.clone(), folder);
    if run.disks_lie {
        world.hosts.iter().for_each(|host| host.disk().lie());
    }
    world.history.log(format!("seed {seed}: {setup:?}"));
    begin(&mut world);
    let mut faults = faults::Faults::default();
    faults.befall(&mut world, Duration::from_secs(run.seconds));
    world.history.log("everything is as it should be again");
    world.calm_down();
    heal(&mut world);
    if let Some(panicked) = PANICKED.take() {
        world.history.violate(panicked);
    }
    Outcome { history: world.history.clone(), simulated: world.now, setup }
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
    world.join();
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

fn heal(world: &mut World) {
    let is_well = |world: &World| !world.history.is_well() || world.is_idle();
    if !world.run_until(HEALING, is_well) {
        let why = world.why_not_idle();
        world.history.violate(format!("the pair does not become whole again: {why}"));
    }
    if world.history.is_well() {
        check::check(world);
    }
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
    failed: Vec<u64>,
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        let seen = outcome.history.see();
        self.seeds += 1;
        self.simulated += outcome.simulated;
        self.sent += seen.sent;
        self.calls += seen.calls.len() as u64;
        self.takeovers += seen.takeovers;
        self.switchovers += seen.switchovers;
        self.deploys += seen.deploys;
        for receipt in &seen.receipts {
            *self.receipts.entry(receipt.durability).or_default() += 1;
        }
        if seen.violation.is_some() {
            self.failed.push(seed);
        }
    }
}

#[expect(clippy::print_stdout, reason = "it is a program")]
fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(log) = &args.log {
        trace::show(log);
    }
    note_panics();
    let base = if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
    let folder = tempfile::Builder::new().prefix("tandem-simulate-").tempdir_in(base);
    let folder = folder.expect("a folder for small files can be made");
    let engine = engine(folder.path());
    let (from, seeds) = args.seed.map_or((args.from, args.seeds), |seed| (seed, 1));
    let next = AtomicU64::new(from);
    let stop = AtomicBool::new(false);
    let sum = Mutex::new(Sum::default());
    let jobs = args.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, Into::into));
    let began = Instant::now();
    let Args { seconds, disks_lie, .. } = args;
    let run = Run { engine: &engine, folder: folder.path(), seconds, disks_lie };
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds {
                return;
            }
            let outcome = chance::fixed(seed, || simulate(seed, run));
            if args.trace {
                outcome.history.lines().iter().for_each(|line| println!("{line}"));
            }
            let violation = outcome.history.see().violation.clone();
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.add(seed, &outcome);
            if let Some(violation) = violation {
                println!("seed {seed} FAILED ({:?}): {violation}", outcome.setup);
                println!("  again: simulate --seed {seed} --seconds {} --trace", args.seconds);
                stop.store(!args.keep_going, Ordering::Relaxed);
            }
            if sum.seeds.is_multiple_of(100) {
                println!("{} seeds, {} failed, {:?}", sum.seeds, sum.failed.len(), began.elapsed());
            }
        }
    };
    thread::scope(|scope| (0..jobs.max(1)).for_each(|_| drop(scope.spawn(work))));
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    report(&sum, began.elapsed());
    if sum.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Components are compiled once for all nodes of all seeds.
fn engine(folder: &Path) -> Engine {
    let cache: PathBuf = folder.join("compiled");
    let config = runtime::Config { cache_dir: Some(cache), instances: 16 };
    Engine::new(&config).expect("this machine runs components")
}

#[expect(clippy::print_stdout, reason = "it is a program")]
fn report(sum: &Sum, took: Duration) {
    let Sum { seeds, simulated, receipts, sent, calls, takeovers, switchovers, deploys, failed } =
        sum;
    let speed = simulated.as_secs_f64() / took.as_secs_f64();
    println!(
        "{seeds} seeds in {took:.1?}: {:.1} h simulated, {speed:.0} s per second\n\
         {sent} messages sent, receipts by durability {receipts:?}, {calls} requests made\n\
         {takeovers} times primary, {switchovers} switchovers asked for and done, {deploys} deployments\n\
         failed: {failed:?}",
        simulated.as_secs_f64() / 3600.0,
    );
}
