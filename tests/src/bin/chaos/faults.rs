//! What is done to the pair: a list of faults, each with a beginning, a time that it lasts, and an end.

use std::{process::Child, time::Duration};

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use rustix::process::Signal;
use serde_json::json;
use tandem_tests::{Answer, Receiver, Request, Response, Side};

use crate::{
    Outcome,
    cluster::{Cluster, solution},
    history::Route,
    hosts::At,
    senders,
    switch::Link,
};

/// For what an operator asks for; it may take as long as a compilation.
const PATIENCE: Duration = Duration::from_secs(12);

/// A kind of fault.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub name: &'static str,
    pub what: &'static str,
    /// Milliseconds between its beginning and its end.
    lasts: (u64, u64),
    begin: fn(&mut Cluster, &mut Dice) -> Begun,
}

/// What ends a fault that has begun.
#[derive(Debug)]
pub enum Begun {
    /// It is over at once.
    Over(String),
    Lasting(String, End),
    /// It cannot be done as things are.
    Not(String),
}

#[derive(Debug)]
pub enum End {
    Start(Vec<Side>),
    StartWitness,
    Resume(Side),
    ResumeWitness,
    Links(Vec<(At, At)>),
    /// The links of this machine, and then its process.
    Return(Side, Vec<(At, At)>),
    Room(Side),
    Disk(Side, Child),
    Answers,
}

/// What chance decides, and what comes in turn.
#[derive(Debug)]
pub struct Dice {
    pub random: StdRng,
    /// Of deployments and settings.
    pub revision: u32,
    /// What an operator was told is so: a route's version, and the setting. None: nobody knows what an ask came to.
    pub versions: [Option<u32>; 3],
    pub setting: Option<u32>,
    pub receiver: Receiver,
}

macro_rules! faults {
    ($($name:literal $lasts:tt $begin:path: $what:literal,)*) => {
        &[$(Fault { name: $name, what: $what, lasts: $lasts, begin: $begin }),*]
    };
}

pub const ALL: &[Fault] = faults! {
    "kill-primary" (200, 4_000) kill_primary: "kill -9 of the primary; started again",
    "kill-standby" (200, 4_000) kill_standby: "kill -9 of the standby; started again",
    "kill-both" (100, 3_000) kill_both: "kill -9 of both nodes; started again in either order",
    "kill-witness" (500, 6_000) kill_witness: "kill -9 of the witness; started again",
    "restart" (200, 3_000) restart: "a node is stopped in order and started again",
    "restart-both" (200, 3_000) restart_both: "both nodes are stopped in order and started again in either order",
    "pause" (50, 5_000) pause: "SIGSTOP of a node, from less than detection to far beyond the lease; SIGCONT",
    "pause-witness" (500, 6_000) pause_witness: "SIGSTOP of the witness; SIGCONT",
    "machine-gone" (1_000, 6_000) machine_gone: "a node's machine is gone without a word: nothing passes, and the process is killed",
    "loss" (2_000, 8_000) loss: "1 to 30 % of the frames between any two machines are lost",
    "delay" (2_000, 8_000) delay: "frames are 5 ms to 2 s late, in one direction or both",
    "reorder" (2_000, 8_000) reorder: "frames overtake each other",
    "duplicate" (2_000, 8_000) duplicate: "frames come twice",
    "rate" (2_000, 8_000) rate: "a link of 20 to 500 kB/s",
    "cut-peer" (300, 6_000) cut_peer: "nothing passes between the nodes",
    "cut-peer-one-way" (300, 6_000) cut_peer_one_way: "nothing passes from one node to the other; back it does",
    "cut-witness" (300, 6_000) cut_witness: "nothing passes between a node, or both, and the witness, in one direction or both",
    "cut-senders" (300, 5_000) cut_senders: "nothing passes between a node and the senders and receivers, in one direction or both",
    "cut-node" (300, 6_000) cut_node: "nothing passes between a node and any other machine",
    "flap" (2_000, 8_000) flap: "the link between the nodes, or a node's to the witness, works for 50 ms to 1 s, then not, and so on",
    "disk-full" (1_000, 6_000) disk_full: "a node's disk is full, nearly or to the last byte; then there is room again",
    "disk-hangs" (500, 8_000) disk_hangs: "a node's disk writes nothing for up to 8 s",
    "disk-slow" (2_000, 8_000) disk_slow: "a node's disk stops for 50 to 500 ms again and again",
    "clock" (0, 10) clock: "a node's clock jumps by up to a day either way, or back to what is right",
    "switchover" (0, 10) switchover: "roles are exchanged by command",
    "deploy" (0, 10) deploy: "another version of a solution is deployed, at either node",
    "setting" (0, 10) setting: "a setting is changed, at either node",
    "receiver" (500, 4_000) receiver: "who gets requests does what they ask, and breaks off instead of answering, or says 500 or 503",
};

impl Fault {
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|fault| fault.name == name)
    }

    /// Why it cannot be done with this pair, here.
    pub fn is_missing(&self, cluster: &Cluster) -> Option<&'static str> {
        match self.name {
            "clock" if !cluster.has_clocks => Some("libfaketime is not installed"),
            "disk-hangs" | "disk-slow" if cluster.nodes.iter().any(|n| !n.disk.can_hang) => {
                Some("there are no loop devices, or no mkfs.ext4")
            }
            "kill-witness" | "pause-witness" | "cut-witness" if cluster.witness.is_none() => {
                Some("there is no witness")
            }
            _ => None,
        }
    }

    pub fn begin(&self, cluster: &mut Cluster, dice: &mut Dice) -> Begun {
        (self.begin)(cluster, dice)
    }

    pub fn lasts(&self, dice: &mut Dice) -> Duration {
        dice.within(self.lasts.0, self.lasts.1)
    }
}

impl End {
    pub fn end(self, cluster: &mut Cluster, dice: &Dice) -> Outcome<()> {
        match self {
            Self::Start(sides) => sides.into_iter().for_each(|side| cluster.spawn(side)),
            Self::StartWitness => {
                if let Some(witness) = cluster.witness.as_mut().filter(|w| !w.is_running()) {
                    witness.run();
                }
            }
            Self::Resume(side) => cluster.resume(side),
            Self::ResumeWitness => cluster.signal_witness(Signal::CONT),
            Self::Links(links) => heal(cluster, &links),
            Self::Return(side, links) => {
                heal(cluster, &links);
                cluster.spawn(side);
            }
            Self::Room(side) => {
                cluster.node(side).disk.free(cluster.host(side))?;
                cluster.node_mut(side).disk_works();
            }
            Self::Disk(side, mut child) => {
                child.wait()?;
                cluster.node_mut(side).disk_works();
            }
            Self::Answers => answer(dice, &[Answer::Status(200)]),
        }
        Ok(())
    }
}

impl Dice {
    fn within(&mut self, least: u64, most: u64) -> Duration {
        // Short times are as likely as long ones.
        let ends = [least.max(1), most].map(|ms| Duration::from_millis(ms).as_secs_f64().ln());
        Duration::from_secs_f64(self.random.random_range(ends[0]..=ends[1]).exp())
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        *of.choose(&mut self.random).expect("there is something to choose from")
    }

    fn side(&mut self) -> Side {
        self.one_of(&Side::BOTH)
    }

    /// In both directions, or one.
    fn ways(&mut self, one: At, other: At) -> Vec<(At, At)> {
        let both = vec![(one, other), (other, one)];
        match self.random.random_range(0..3) {
            0 => both[..1].to_vec(),
            1 => both[1..].to_vec(),
            _ => both,
        }
    }

    fn any_two(&mut self) -> (At, At) {
        let one = self.one_of(&[At::Main, At::Failover]);
        let others: Vec<_> = At::ALL.into_iter().filter(|at| *at != one).collect();
        (one, self.one_of(&others))
    }
}

fn at(side: Side) -> At {
    At::ALL[side as usize]
}

fn heal(cluster: &Cluster, links: &[(At, At)]) {
    set(cluster, links, Link::default());
}

fn set(cluster: &Cluster, links: &[(At, At)], link: Link) {
    for (from, to) in links {
        cluster.switch.set(*from, *to, link);
    }
}

fn impair(cluster: &Cluster, links: Vec<(At, At)>, link: Link, how: String) -> Begun {
    set(cluster, &links, link);
    let told: Vec<_> = links.iter().map(|(from, to)| format!("{from:?} to {to:?}")).collect();
    Begun::Lasting(format!("{}{how}", told.join(", ")), End::Links(links))
}

fn cut(cluster: &Cluster, links: Vec<(At, At)>) -> Begun {
    impair(cluster, links, Link { is_cut: true, ..Link::default() }, String::new())
}

fn both_ways(one: At, other: At) -> Vec<(At, At)> {
    vec![(one, other), (other, one)]
}

fn of_machine(one: At) -> Vec<(At, At)> {
    At::ALL.into_iter().filter(|at| *at != one).flat_map(|at| both_ways(one, at)).collect()
}

fn kill_primary(cluster: &mut Cluster, dice: &mut Dice) -> Begun {
    let side = cluster.primary().unwrap_or_else(|| dice.side());
    kill(cluster, side)
}

fn kill_standby(cluster: &mut Cluster, dice: &mut Dice) -> Begun {
    let side = cluster.primary().map_or_else(|| dice.side(), Side::other);
    kill(cluster, side)
}

fn kill(cluster: &mut Cluster, side: Side) -> Begun {
    cluster.kill(side);
    Begun::Lasting(format!("{side:?}"), End::Start(vec![side]))
}

fn either_order(dice: &mut Dice) -> Vec<Side> {
    let first = dice.side();
    vec![first, first.other()]
}

fn kill_both(cluster: &mut Cluster, dice: &mut Dice) -> Begun {
    for side in either_order(dice) {
        cluster.kill(side);
    }
    return_of_both(dice)
}

/// The second one sometimes only after the first has been alone for a while.
fn return_of_both(dice: &mut Dice) -> Begun {
    let order = either_order(dice);
    Begun::Lasting(format!("{:?} is back first", order[0]), End::Start(order))
}

fn kill_witness(cluster: &mut Cluster, _: &mut Dice) -> Begun {
    match cluster.witness.as_mut().filter(|witness| witness.is_running()) {
        None => Begun::Not("it does not run".into()),
        Some(witness) => {
            // One that is paused is killed too.
            witness.kill9();
            Begun::Lasting(String::new(), End::StartWitness)
        }
    }
}

fn restart(cluster: &mut Cluster, dice: &mut Dice) -> Begun {
    let side = dice.side();
    cluster.stop(side);
    Begun::Lasting(format!("{side:?}"), End::Start(vec![side]))
}

fn restart_both(cluster: &mut Cluster, dice: &mut Dice) -> Begun {
    for side in either_order(dice) {
        cluster.stop(side);
    }
    return_of_both(dice)
}

fn pause(cluster: &mut Cluster, dice: &mut Dice) -> Begun {
    let side = dice.side();
    let node = cluster.node(side);
    if !node.under.is_running() || node.is_paused {
        return Begun::Not("it does not run".into());
    }
    cluster.pause(side);
    Begun::Lasting(format!("{side:?}"), End::Resume(side))
}

fn pause_witness(cluster: &mut Cluster, _: &mut Dice) -> Begun {
    cluster.signal_witness(Signal::STOP);
    Begun::Lasting(String::new(), End::ResumeWitness)
}

fn machine_gone(cluster: &mut Cluster, dice: &mut Dice) -> Begun {
    let side = cluster.primary().unwrap_or_else(|| dice.side());
    let links = of_machine(at(side));
    set(cluster, &links, Link { is_cut: true, ..Link::default() });
    cluster.kill(side);
    Begun::Lasting(format!("{side:?}"), End::Return(side, links))
}

fn loss(cluster: &mut Cluster, dice: &mut Dice) -> Begun {
    let (one, other) = dice.any_two();
    let lost = dice.random.random_range(0.01..0.3);
    let links = dice.ways(one, other);
    let link = Link { lost, ..Link::default() };
    impair(cluster, links, link, format!(", {:.0} %", lost * 100.0))
}

fn delay(cluster: &mut Cluster, dice: &mut Dice) -> Begun {
    let (one, other) = dice.any_two();
    let delay = dice.within(5, 2_000);
    let links = dice.ways(one, other);
    let link = Link { delay, ..Link::default() };
    impair(cluster, links, link, format!(", by {delay:.0?}"))
}

fn reorder(cluster: &mut Cluster, dice: &mut Dice) -> Begun {
    let (one, other) = dice.any_two();
    let jitter = dice.within(2, 300);
    let link = Link { jitter, ..Link::default() };
    impair(cluster, both_ways(one, other), link, format!(", by up to {jitter:.0?}"))
}

fn duplicate(cluster: &mut Cluster, dice: &mut Dice) -> Begun {
    let (one, other) = dice.any_two();
    let doubled = dice.random.random_range(0.05..0.8);
    let link = Link { doubled, jitter: Duration::from_millis(5), ..Link::default() };
    impair(cluster, both_ways(one, other), link, format!(", {:.0} %", doubled * 100.0))
}

fn rate(cluster: &mut Cluster, dice: &mut Dice) -> Begun {
    let (one, other) = dice.any_two();
    let rate = dice.random.random_range(20.0..500.0);
    let link = Link { bytes_per_second: Some(rate * 1_000.0), ..Link::default() };
    impair(cluster, both_ways(one, other), link, format!(", {rate:.0} kB/s"))
}

fn cut_peer(cluster: &mut Cluster, _: &mut Dice) -> Begun {
    cut(cluster, both_ways(At::Main, At::Failover))
}

fn cut_peer_one_way(cluster: &mut Cluster, dice: &mut Dice) -> Begun {
    let side = dice.side();
    cut(cluster, vec![(at(side), at(side.other()))])
}

fn cut_witness(cluster: &mut Cluster, dice: &mut Dice) -> Begun {
    let links = if dice.random.random_bool(0.3) {
        of_machine(At::Witness)
    } else {
        let side = dice.side();
        dice.ways(at(side), At::Witness)
    };
    cut(cluster, links)
}

fn cut_senders(cluster: &mut Cluster, dice: &mut Dice) -> Begun {
    let side = dice.side();
    let links = dice.ways(at(side), At::Outside);
    cut(cluster, links)
}

fn cut_node(cluster: &mut Cluster, dice: &mut Dice) -> Begun {
    let side = dice.side();
    cut(cluster, of_machine(at(side)))
}

fn flap(cluster: &mut Cluster, dice: &mut Dice) -> Begun {
    let period = dice.within(50, 1_000);
    let side = dice.side();
    let other = dice.one_of(&[at(side.other()), at(side.other()), At::Witness]);
    let links = dice.ways(at(side), other);
    let link = Link { flaps: Some(period), ..Link::default() };
    impair(cluster, links, link, format!(", every {period:.0?}"))
}

fn disk_full(cluster: &mut Cluster, dice: &mut Dice) -> Begun {
    let side = dice.side();
    // Below the reserve, where nothing new is taken in; or nothing can be written at all.
    let leave = dice.one_of(&[0, 0, 16 << 20]);
    cluster.node_mut(side).disk_fails();
    if let Err(why) = cluster.node(side).disk.fill(cluster.host(side), leave) {
        cluster.node_mut(side).disk_works();
        return Begun::Not(why.to_string());
    }
    Begun::Lasting(format!("{side:?}, {leave} bytes are free"), End::Room(side))
}

fn disk_hangs(cluster: &mut Cluster, dice: &mut Dice) -> Begun {
    let time = dice.within(500, 8_000);
    stop_disk(cluster, dice, time, Duration::ZERO, 1)
}

fn disk_slow(cluster: &mut Cluster, dice: &mut Dice) -> Begun {
    let (hang, work) = (dice.within(50, 500), dice.within(10, 200));
    stop_disk(cluster, dice, hang, work, 12)
}

fn stop_disk(
    cluster: &mut Cluster,
    dice: &mut Dice,
    hang: Duration,
    work: Duration,
    times: u32,
) -> Begun {
    let side = dice.side();
    let node = cluster.node(side);
    if node.may_end() {
        return Begun::Not("something is wrong with its disk already".into());
    }
    let child = match node.disk.hang(cluster.host(side), hang, work, times) {
        Ok(child) => child,
        Err(why) => return Begun::Not(why.to_string()),
    };
    cluster.node_mut(side).disk_fails();
    let told = format!("{side:?}, {times} times for {hang:.0?}");
    Begun::Lasting(told, End::Disk(side, child))
}

fn clock(cluster: &mut Cluster, dice: &mut Dice) -> Begun {
    let side = dice.side();
    let off_by = dice.one_of(&["+0", "+0", "+1", "-1", "+120", "-120", "+86400", "-86400"]);
    cluster.node(side).set_clock(off_by);
    Begun::Over(format!("{side:?}, {off_by} s"))
}

fn ask(side: Side, request: &Request) -> Option<Response> {
    request.send_within(senders::targets()[side as usize], PATIENCE).ok()
}

fn told(side: Side, what: &str, answer: Option<&Response>) -> Begun {
    let answer = answer.map_or("no answer".into(), |answer| match answer.status {
        200..300 => answer.status.to_string(),
        status => format!("{status} {}", answer.text()),
    });
    Begun::Over(format!("{what} at {side:?}: {answer}"))
}

fn switchover(_: &mut Cluster, dice: &mut Dice) -> Begun {
    let side = dice.side();
    let answer = ask(side, &Request::post("/api/v1/pair/switchover", ""));
    told(side, "asked", answer.as_ref())
}

fn deploy(_: &mut Cluster, dice: &mut Dice) -> Begun {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    dice.revision += 1;
    let (side, route) = (dice.side(), dice.one_of(&Route::ALL));
    let solution = solution(route, dice.revision);
    let component = BASE64_STANDARD.encode(&solution.component);
    let body = json!({ "manifest": solution.manifest, "component": component });
    let request = Request::post("/api/v1/solutions", body.to_string());
    let answer = ask(side, &request.header("content-type", "application/json"));
    settle(&mut dice.versions[route as usize], dice.revision, answer.as_ref());
    told(side, &format!("{} 0.1.{}", route.name(), dice.revision), answer.as_ref())
}

/// What is known to be so after an answer.
fn settle(known: &mut Option<u32>, asked: u32, answer: Option<&Response>) {
    match answer.map(|answer| answer.status) {
        Some(200..300) => *known = Some(asked),
        // Refused, by whoever is asked: it is as it was.
        Some(400..500) => {}
        _ => *known = None,
    }
}

fn setting(_: &mut Cluster, dice: &mut Dice) -> Begun {
    dice.revision += 1;
    let (side, value) = (dice.side(), dice.revision);
    let request = Request::post("/api/v1/settings/global/chaos", value.to_string());
    let request = Request { method: "PUT".into(), ..request };
    let answer = ask(side, &request.header("content-type", "application/json"));
    settle(&mut dice.setting, value, answer.as_ref());
    told(side, &format!("{value}"), answer.as_ref())
}

fn answer(dice: &Dice, answers: &[Answer]) {
    for route in Route::ALL {
        let path = format!("/{}", route.name());
        // It says that it did not do it, so it is asked again in every class: nothing to count.
        let is_said =
            |answer: &&Answer| !matches!((route, answer), (Route::Once, Answer::Status(503)));
        dice.receiver.script(&path, answers.iter().filter(is_said).cloned());
    }
}

fn receiver(_: &mut Cluster, dice: &mut Dice) -> Begun {
    let kinds = [
        Answer::CloseInHead,
        Answer::CloseInBody,
        Answer::Status(500),
        Answer::Status(503),
        Answer::Status(200),
        Answer::Late(Duration::from_millis(700)),
    ];
    let mut answers: Vec<_> =
        (0..500).map(|_| kinds[dice.random.random_range(0..kinds.len())].clone()).collect();
    // The last one is for good, and must not be the end of a message's attempts.
    answers.push(Answer::Status(200));
    answer(dice, &answers);
    Begun::Lasting(String::new(), End::Answers)
}
