//! Five computers and the network between them: two nodes, a witness, a receiver, and who sends and operates.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tandem::{
    machine::Listener,
    model::{clock::Clock, pair::Role},
    net::keys::{self, PairFolder},
    node::{Config, Node, Parts, pair::Pair},
    runtime::Engine,
    store::Store,
    takeover::step::{Phase, Sync},
    witness::{
        register::{PAIRS_MAX, Register},
        server,
    },
};
use tokio::sync::watch;

use crate::{
    disk::Cut,
    history::History,
    host::{Host, STEP},
    network::{Link, Network},
    operator::Operator,
    receiver,
    senders::Sender,
};

/// Monday morning.
const START_MS: u64 = 1_795_417_200_000;
const SENDERS: u64 = 4;
const HOOKS: u16 = 7400;
const LINK: u16 = 7401;
/// A process that ended by itself is started again after this.
const RESTART: Duration = Duration::from_secs(1);
/// So long after its disk was bad a node may end for it: it finishes first what it can.
const DISK_AFTER: Duration = Duration::from_secs(30);

pub const WITNESS: usize = 2;
pub const RECEIVER: usize = 3;
pub const PEOPLE: usize = 4;
pub const NAMES: [&str; 5] = ["main", "failover", "witness", "receiver", "people"];

/// What a seed draws of the pair itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    pub has_witness: bool,
    /// `act`, `accept-only` or `manual`; counts without a witness.
    pub without_witness: &'static str,
    pub is_strict: bool,
    pub fails_back: bool,
    /// Between two messages of a sender, in ms.
    pub pace: u64,
}

impl Setup {
    /// While they do not hear each other, both nodes may take messages in: one key may come to two.
    pub fn may_both_accept(&self) -> bool {
        !self.has_witness && self.without_witness != "manual"
    }

    /// … and handle them, and make requests: what one of them did is then not what holds.
    pub fn may_both_act(&self) -> bool {
        !self.has_witness && self.without_witness == "act"
    }
}

/// What the simulation sees of a node that runs.
#[derive(Clone)]
pub struct Inside {
    pub store: Store,
    pub pair: Pair,
    pub clock: Clock,
}

type Slot = Arc<Mutex<Option<Inside>>>;

/// See the module.
pub struct World {
    pub setup: Setup,
    pub now: Duration,
    pub network: Network,
    pub hosts: Vec<Host>,
    pub history: History,
    pub dice: StdRng,
    engine: Engine,
    folder: PathBuf,
    slots: [Slot; 2],
    /// Nodes that have to join the pair before they can run: their disks are empty.
    strangers: [bool; 2],
    /// What each clock shows at time zero, in ms; it can be set.
    clocks: [u64; 5],
    /// By how much they were, in all.
    pub clocks_moved: Duration,
    restarts: Vec<(usize, Duration)>,
    /// When each node's disk was bad last.
    bad_disks: [Option<Duration>; 2],
    stop_sending: watch::Sender<bool>,
    is_kind: watch::Sender<bool>,
    /// What operators are to do, by the people's host.
    wishes: Option<tokio::sync::mpsc::Sender<Wish>>,
}

/// What an operator is asked to do.
#[derive(Debug, Clone, Copy)]
pub enum Wish {
    Deploy(usize, u64),
    Set(usize),
    SwitchOver(usize),
}

fn knows_that_it_is_in_sync(inside: Inside) -> bool {
    let state = &inside.pair.view.borrow().state;
    state.kept.record.is_some_and(|record| record.in_sync.has(state.rules.me))
}

fn ip(host: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(host + 1).expect("there are few")).into()
}

fn address(host: usize, port: u16) -> SocketAddr {
    (ip(host), port).into()
}

impl World {
    pub fn new(seed: u64, setup: Setup, engine: Engine, folder: PathBuf) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let network = Network::new(dice.random());
        let host =
            |(n, name): (usize, &&'static str)| Host::new(name, ip(n), &network, dice.random());
        let hosts = NAMES.iter().enumerate().map(host).collect();
        Self {
            setup,
            now: Duration::ZERO,
            network,
            hosts,
            history: History::default(),
            dice,
            engine,
            folder,
            slots: [Slot::default(), Slot::default()],
            strangers: [false, true],
            clocks: [START_MS; 5],
            clocks_moved: Duration::ZERO,
            restarts: Vec::new(),
            bad_disks: [None; 2],
            stop_sending: watch::Sender::new(false),
            is_kind: watch::Sender::new(false),
            wishes: None,
        }
    }

    fn config(&self, n: usize) -> Config {
        let Setup { has_witness, without_witness, is_strict, fails_back, .. } = self.setup;
        let (own, other) = (address(n, LINK), address(1 - n, LINK));
        let witness = if has_witness {
            format!("witness = \"{}\"", address(WITNESS, HOOKS))
        } else {
            format!("without_witness = \"{without_witness}\"")
        };
        let text = format!(
            "data_dir = \"{}\"\nlisten = \"{}\"\n[store]\ncache = \"1MiB\"\n[runtime]\ninstances = 4\nthreads = 1\n\
             [pair]\nlisten = \"{own}\"\npeer = [\"{other}\"]\nmain = {}\nprofile = \"fast\"\nmode = \"{}\"\n\
             failback = \"{}\"\nfailback_hold = \"3s\"\nsettings_while_acting = true\n{witness}\n",
            self.folder.join(NAMES[n]).display(),
            address(n, HOOKS),
            n == 0,
            if is_strict { "strict" } else { "auto" },
            if fails_back { "auto" } else { "manual" },
        );
        Config::parse(&text).unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn clock_now(&self, n: usize) -> u64 {
        self.clocks[n] + u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX)
    }

    /// Starts what runs on a host, if it does not.
    pub fn start(&mut self, n: usize) {
        self.restarts.retain(|(host, _)| *host != n);
        if self.hosts[n].is_up() {
            return;
        }
        self.history.log(format!("{} starts", NAMES[n]));
        match n {
            WITNESS => self.start_witness(),
            RECEIVER => {
                let (at, history, is_kind) =
                    (address(n, HOOKS), self.history.clone(), self.is_kind.subscribe());
                self.hosts[n].start(move || receiver::serve(at, history, is_kind));
            }
            PEOPLE => self.start_people(),
            _ => self.start_node(n),
        }
    }

    fn start_node(&mut self, n: usize) {
        let (config, engine, slot) = (self.config(n), self.engine.clone(), self.slots[n].clone());
        let (history, now_ms) = (self.history.clone(), self.clock_now(n));
        let invited = self.invited(n);
        self.hosts[n].start(move || async move {
            if let Some(invited) = invited {
                invited.join().await;
                history.log(format!("{} has joined the pair", NAMES[n]));
            }
            run_node(n, config, engine, now_ms, slot, history).await;
        });
    }

    /// What an operator gets from the other node for one that has not joined the pair yet.
    fn invited(&mut self, n: usize) -> Option<Invited> {
        let of = |n: usize| PairFolder::of(&self.folder.join(NAMES[n]));
        let (own, other) = (of(n), of(1 - n));
        let has_joined = own.shared().expect("its folder is its own").is_some();
        self.strangers[n] &= !has_joined;
        let address = address(1 - n, LINK).to_string();
        self.strangers[n].then(|| Invited { own, other, address, now_ms: self.clock_now(1 - n) })
    }

    fn start_witness(&mut self) {
        let folder = self.folder.join(NAMES[WITNESS]);
        self.hosts[WITNESS].start(move || async move {
            let register = Register::open(&folder, PAIRS_MAX).expect("its folder is its own");
            let listener = Listener::bind(address(WITNESS, HOOKS)).await.expect("it is free");
            let (_never, stop) = watch::channel(false);
            server::serve(listener, register, stop).await.expect("its disk is good");
        });
    }

    fn start_people(&mut self) {
        let nodes = [address(0, HOOKS), address(1, HOOKS)];
        let (history, pace) = (self.history.clone(), self.setup.pace);
        let seeds: Vec<u64> = (0..SENDERS).map(|_| self.dice.random()).collect();
        let stop = self.stop_sending.subscribe();
        let (wishes, mut wished) = tokio::sync::mpsc::channel::<Wish>(64);
        self.wishes = Some(wishes);
        self.hosts[PEOPLE].start(move || async move {
            let operator = Operator::new(nodes, history.clone());
            operator.begin(address(RECEIVER, HOOKS)).await;
            history.log("everything is deployed");
            let mut tasks = tokio::task::JoinSet::new();
            for seed in seeds {
                tasks.spawn(Sender::new(nodes, history.clone(), seed, pace).run(stop.clone()));
            }
            while let Some(wish) = wished.recv().await {
                let operator = operator.clone();
                tasks.spawn(async move {
                    match wish {
                        Wish::Deploy(node, number) => operator.deploy(node, number).await,
                        Wish::Set(node) => operator.set(node).await,
                        Wish::SwitchOver(node) => operator.switch_over(node).await,
                    }
                });
            }
            while tasks.join_next().await.is_some() {}
        });
    }

    /// Asks operators for something.
    pub fn wish(&self, wish: Wish) {
        if let Some(wishes) = &self.wishes {
            wishes.try_send(wish).ok();
        }
    }

    /// Senders come to their end, receivers become kind.
    pub fn calm_down(&mut self) {
        self.stop_sending.send_replace(true);
        self.is_kind.send_replace(true);
        self.wishes = None;
    }

    /// What is to be seen of a node.
    pub fn inside(&self, n: usize) -> Option<Inside> {
        self.slots[n].lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn forget(&mut self, n: usize) {
        self.restarts.retain(|(host, _)| *host != n);
        if let Some(slot) = self.slots.get(n) {
            slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    pub fn kill(&mut self, n: usize) {
        self.forget(n);
        self.hosts[n].kill();
    }

    pub fn cut_power(&mut self, n: usize, style: Cut) {
        self.forget(n);
        self.hosts[n].cut_power(style);
    }

    /// Whether a node's disk may be lost without a loss: the other has all that is on it. Without a witness only the nodes
    /// know, and the other may not have been told yet; then it waits for an operator.
    pub fn can_spare(&self, n: usize) -> bool {
        self.whole().is_some()
            && (self.setup.has_witness || self.inside(1 - n).is_some_and(knows_that_it_is_in_sync))
            && self.inside(n).is_some_and(|inside| {
                inside.pair.quarantine.list().is_ok_and(|list| list.iter().all(|one| one.settled))
            })
    }

    /// A node and its disk are gone for ever. Who starts it next has a new machine, of the same name.
    pub fn lose(&mut self, n: usize) {
        self.cut_power(n, Cut::Nothing);
        self.hosts[n].disk().wipe();
        std::fs::remove_dir_all(self.folder.join(NAMES[n])).expect("the folder is there");
        self.strangers[n] = true;
    }

    /// What goes from one host to another is treated so from now on.
    pub fn link(&mut self, from: usize, to: usize, link: Link) {
        self.network.link(self.hosts[from].ip, self.hosts[to].ip, link);
    }

    /// The same for what goes back.
    pub fn link_both(&mut self, one: usize, other: usize, link: &Link) {
        self.link(one, other, link.clone());
        self.link(other, one, link.clone());
    }

    /// Its clock shows so much more, or less.
    pub fn move_clock(&mut self, n: usize, by_ms: i64) {
        self.clocks_moved += Duration::from_millis(by_ms.unsigned_abs());
        self.clocks[n] = self.clocks[n].saturating_add_signed(by_ms);
        if let Some(inside) = self.inside(n) {
            inside.clock.shift(by_ms);
        }
    }

    /// A node ends by itself only for its disk.
    fn ended(&mut self, n: usize) {
        let why = self.history.see().ended.remove(NAMES[n]).unwrap_or_default();
        self.history.log(format!("{} ended by itself: {why}", NAMES[n]));
        let bad = self.bad_disks.get(n).copied().flatten();
        if n < 2 && bad.is_none_or(|at| self.now > at + DISK_AFTER) {
            self.history.violate(format!("{} ended, and its disk is good: {why}", NAMES[n]));
        }
        self.restarts.push((n, self.now + RESTART));
    }

    /// Goes on until something is so; says whether it came to be within the time.
    pub fn run_until(&mut self, time: Duration, is_so: impl Fn(&Self) -> bool) -> bool {
        let until = self.now + time;
        while self.now < until {
            if is_so(self) {
                return true;
            }
            self.step();
        }
        is_so(self)
    }

    /// One millisecond.
    pub fn step(&mut self) {
        self.now += STEP;
        self.history.see().now = self.now;
        self.network.advance(self.now);
        for (n, bad) in self.bad_disks.iter_mut().enumerate() {
            if self.hosts[n].disk().is_bad() {
                *bad = Some(self.now);
            }
        }
        for (n, name) in NAMES.iter().enumerate() {
            crate::trace::on(name, self.now);
            if self.hosts[n].step(self.now) {
                self.forget(n);
                if n != PEOPLE {
                    self.ended(n);
                }
            }
        }
        let due: Vec<_> = self.restarts.iter().filter(|(_, at)| *at <= self.now).copied().collect();
        for (n, _) in due {
            self.start(n);
        }
        self.look();
    }

    /// At most one node is primary in an epoch, and there is only one epoch in which receipts are given.
    fn look(&mut self) {
        for (n, name) in NAMES.iter().enumerate().take(2) {
            let Some(inside) = self.inside(n) else { continue };
            let view = inside.pair.view.borrow();
            let Phase::Primary(leading) = &view.state.phase else { continue };
            let epoch = leading.epoch;
            drop(view);
            let before = self.history.see().primaries.insert(epoch, name);
            match before {
                None => {
                    self.history.log(format!("{name} is primary in epoch {epoch}"));
                    self.history.see().takeovers += 1;
                }
                Some(other) if other != *name && !self.setup.may_both_act() => {
                    self.history.violate(format!("both nodes are primary in epoch {epoch}"));
                }
                Some(_) => {}
            }
        }
    }

    /// The primary, if both nodes are in sync and everything runs.
    pub fn whole(&self) -> Option<usize> {
        let nodes = [self.inside(0)?, self.inside(1)?];
        let role = |n: usize| nodes[n].pair.view.borrow().state.role();
        let primary = (0..2).find(|n| role(*n) == Role::Primary)?;
        let is_in_sync = match &nodes[primary].pair.view.borrow().state.phase {
            Phase::Primary(leading) => leading.sync == Sync::Both,
            _ => false,
        };
        let is_whole = is_in_sync
            && *nodes[primary].pair.serving.borrow()
            && role(1 - primary) == Role::Standby;
        is_whole.then_some(primary)
    }

    /// What is missing for [`Self::is_idle`], in words.
    pub fn why_not_idle(&self) -> String {
        let node = |n: usize| {
            let Some(inside) = self.inside(n) else { return format!("{} does not run", NAMES[n]) };
            let view = inside.pair.view.borrow();
            let counters = inside.store.counters();
            format!(
                "{}: {:?}, serving {}, promise {}, record {:?}, queued {}, undelivered {}, head {:?}, quarantine {:?}",
                NAMES[n],
                view.state.phase,
                *inside.pair.serving.borrow(),
                view.state.kept.promise,
                view.state.kept.record,
                counters.queued.load(Ordering::Relaxed),
                counters.undelivered.sum(),
                inside.store.read().and_then(|snapshot| snapshot.head()).map(|head| head.position),
                inside.pair.quarantine.list(),
            )
        };
        let people = if self.hosts[PEOPLE].is_up() { "somebody still sends; " } else { "" };
        format!("{people}{}; {}", node(0), node(1))
    }

    /// Everything that was sent is handled and delivered, and both nodes show the same.
    pub fn is_idle(&self) -> bool {
        let Some(primary) = self.whole() else { return false };
        let (Some(one), Some(other)) = (self.inside(primary), self.inside(1 - primary)) else {
            return false;
        };
        let counters = one.store.counters();
        let head = |inside: &Inside| {
            inside.store.read().and_then(|s| s.head()).map(|h| (h.position, h.content)).ok()
        };
        !self.hosts[PEOPLE].is_up()
            && counters.queued.load(Ordering::Relaxed) == 0
            && counters.undelivered.sum() == 0
            && [&one, &other].iter().all(|inside| {
                inside.pair.quarantine.list().is_ok_and(|list| list.iter().all(|r| r.settled))
            })
            && head(&one) == head(&other)
    }
}

impl Drop for World {
    /// Nothing of it is left, and nothing is written any more.
    fn drop(&mut self) {
        for n in 0..self.hosts.len() {
            self.kill(n);
        }
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

async fn run_node(
    n: usize,
    config: Config,
    engine: Engine,
    now_ms: u64,
    slot: Slot,
    history: History,
) {
    let clock = Clock::running(now_ms);
    let parts = Parts { clock: clock.clone(), engine, client: crate::senders::client() };
    let node = match Node::start_with(parts, &config).await {
        Ok(node) => node,
        Err(error) => {
            history.see().ended.insert(NAMES[n], format!("it cannot start: {error}"));
            return;
        }
    };
    let (store, pair) = (node.store().clone(), node.pair().cloned());
    let inside = pair.map(|pair| Inside { store, pair, clock });
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = inside;
    let (_never, stop) = watch::channel(false);
    if let Err(error) = node.run(stop).await {
        history.see().ended.insert(NAMES[n], error.to_string());
    }
    slot.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// A node that joins as soon as the other one answers.
struct Invited {
    own: PairFolder,
    other: PairFolder,
    /// Of the other node, and what time it is there.
    address: String,
    now_ms: u64,
}

impl Invited {
    /// With another code each time: the answer to one that counted may have been lost.
    async fn join(self) {
        let Self { own, other, address, now_ms } = self;
        loop {
            let invited = other.invite(&address, now_ms, Duration::from_hours(1));
            let (code, _) = invited.expect("its folder is its own");
            if keys::join(&code, &own, LINK, Duration::from_secs(2)).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
