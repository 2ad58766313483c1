//! Web hooks, accepted durably and handled, beside what the machine can do and beside other programs that take them.
//!
//! `cargo bench -p tandem-tests --bench hooks [-- --seconds N --rounds N --connections 1,64,512 --only NAME,… --install]`
//!
//! All run as processes of their own on loopback, one at a time, in alternating rounds; the same load generator sends the
//! same 1 KiB body. Figures are medians over the rounds. What comes from npm is installed below `target`; who is not
//! there is left out, and said at the end.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a bench prints, waits for processes, and counts far below these bounds"
)]

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    net::SocketAddr,
    time::{Duration, Instant},
};

#[path = "hooks/bare.rs"]
mod bare;
#[path = "hooks/graphile.rs"]
mod graphile;
#[path = "hooks/limits.rs"]
mod limits;
#[path = "hooks/load.rs"]
mod load;
#[path = "hooks/machine.rs"]
mod machine;
#[path = "hooks/node.rs"]
mod node;
#[path = "hooks/node_red.rs"]
mod node_red;
#[path = "hooks/npm.rs"]
mod npm;
#[path = "hooks/plan.rs"]
mod plan;
#[path = "hooks/postgres.rs"]
mod postgres;
#[path = "hooks/process.rs"]
mod process;
#[path = "hooks/report.rs"]
mod report;

use bare::Bare;
use graphile::Graphile;
use limits::Commit;
use load::Load;
use node::{Effect, Node};
use node_red::NodeRed;
use plan::Plan;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Where web hooks are sent, whoever takes them.
const PATH: &str = "/hooks/lean/in";
/// Sent before what counts.
const WARM_UP: Duration = Duration::from_secs(2);
/// Until what was accepted is handled, at most.
const DRAIN: Duration = Duration::from_mins(10);

/// Takes web hooks at [`PATH`].
trait Server {
    fn address(&self) -> SocketAddr;

    /// Waits until all that was accepted is handled. Who handles before answering has nothing to wait for.
    fn wait_until_idle(&self, _patience: Duration) -> Outcome<()> {
        Ok(())
    }
}

/// What one round came to.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// Messages in a second, while they were sent.
    accepted: f64,
    /// Messages in a second, from the first that was sent to the last that was handled.
    handled: f64,
    /// From a request to its answer.
    p50: Duration,
    p99: Duration,
}

/// What is measured under one name.
#[derive(Clone, Copy)]
enum Subject {
    Limit(fn(Duration) -> Outcome<Round>),
    Server(fn() -> Outcome<Box<dyn Server>>),
}

type Named = (&'static str, Subject);

/// What the others are compared with.
const OURS: &str = "tandem, one outbox entry";

const FDATASYNC: Named = ("4 KiB and fdatasync", Subject::Limit(limits::fdatasync));

const SERVERS: [Named; 7] = [
    ("bare hyper", Subject::Server(|| Ok(Box::new(Bare::start()?)))),
    ("tandem", Subject::Server(|| Node::start(Effect::None))),
    (OURS, Subject::Server(|| Node::start(Effect::Kept))),
    ("tandem, one delivery", Subject::Server(|| Node::start(Effect::Delivered))),
    ("Node-RED", Subject::Server(NodeRed::start)),
    ("graphile-worker", Subject::Server(|| Graphile::start(&graphile::ALONE))),
    ("graphile-worker, many at a time", Subject::Server(|| Graphile::start(&graphile::TOGETHER))),
];

/// Of the connections that send batches.
const BATCH_CONNECTIONS: usize = 8;

const BATCHES: [Named; 4] = [
    ("redb", Subject::Limit(|time| limits::redb(Commit::Safe, time))),
    ("redb, fast", Subject::Limit(|time| limits::redb(Commit::Fast, time))),
    ("tandem", Subject::Server(|| Node::start(Effect::None))),
    (OURS, Subject::Server(|| Node::start(Effect::Kept))),
];

fn main() -> Outcome<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    if let [flag, address] = args.as_slice()
        && flag == bare::SERVE
    {
        return bare::serve(address.parse()?);
    }
    let plan = Plan::from(&args)?;
    if plan.install {
        machine::install()?;
    }
    println!("{}", machine::describe()?);
    report::legend();
    let mut bench = Bench { plan: &plan, left_out: BTreeMap::new() };
    for &connections in &plan.connections {
        let load = Load { connections, messages: 1 };
        let limits = if connections == 1 { [FDATASYNC].as_slice() } else { &[] };
        bench.compare(load, &[limits, &SERVERS].concat());
    }
    bench.compare(Load { connections: BATCH_CONNECTIONS, messages: load::BATCH }, &BATCHES);
    bench.end()
}

struct Bench<'a> {
    plan: &'a Plan,
    /// With why.
    left_out: BTreeMap<&'static str, String>,
}

impl Bench<'_> {
    fn compare(&mut self, load: Load, subjects: &[Named]) {
        let wanted = subjects.iter().filter(|(name, _)| self.plan.wants(name));
        let mut rows: Vec<_> = wanted.map(|named| (named, Vec::new())).collect();
        for _ in 0..self.plan.rounds {
            for (named, rounds) in &mut rows {
                let (name, subject) = **named;
                if self.left_out.contains_key(name) {
                    continue;
                }
                match self.measure(subject, load) {
                    Ok(round) => rounds.push(round),
                    Err(error) => {
                        eprintln!("{name} is left out: {error}");
                        self.left_out.insert(name, error.to_string());
                    }
                }
            }
        }
        let medians = rows.iter().filter_map(|((name, _), rounds)| Some((*name, median(rounds)?)));
        report::print(load, &medians.collect::<Vec<_>>());
    }

    fn measure(&self, subject: Subject, load: Load) -> Outcome<Round> {
        let time = Duration::from_secs(self.plan.seconds);
        let server = match subject {
            Subject::Limit(measure) => return measure(time),
            Subject::Server(start) => start()?,
        };
        load.send(server.address(), WARM_UP)?;
        server.wait_until_idle(DRAIN)?;
        let began = Instant::now();
        let sent = load.send(server.address(), time)?;
        server.wait_until_idle(DRAIN)?;
        let per_second = |took: Duration| sent.messages as f64 / took.as_secs_f64();
        Ok(Round {
            accepted: per_second(sent.took),
            handled: per_second(began.elapsed()),
            p50: sent.p50,
            p99: sent.p99,
        })
    }

    fn end(self) -> Outcome<()> {
        if self.left_out.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = self.left_out.into_keys().collect();
        Err(format!("left out: {}; see above", names.join(", ")).into())
    }
}

/// Of each figure by itself.
fn median(rounds: &[Round]) -> Option<Round> {
    fn of<T: PartialOrd>(mut values: Vec<T>) -> Option<T> {
        values.sort_by(|a, b| a.partial_cmp(b).expect("figures are numbers"));
        let middle = values.len() / 2;
        values.into_iter().nth(middle)
    }
    Some(Round {
        accepted: of(rounds.iter().map(|round| round.accepted).collect())?,
        handled: of(rounds.iter().map(|round| round.handled).collect())?,
        p50: of(rounds.iter().map(|round| round.p50).collect())?,
        p99: of(rounds.iter().map(|round| round.p99).collect())?,
    })
}

/// Of times in order.
fn quantile(times: &[Duration], share: f64) -> Duration {
    times[((times.len() - 1) as f64 * share) as usize]
}
