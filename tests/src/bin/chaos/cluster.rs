//! A pair and its witness on machines of their own, what restarts them when they have ended, and who looks at them.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;
use tandem_tests::{NodeUnderTest, Program, Request, Side, Solution, WitnessUnderTest, pair};

use crate::{
    Outcome,
    disk::Disk,
    history::{History, Route},
    hosts::{At, Host},
    senders,
    switch::Switch,
};

/// Where libfaketime is on Debian.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
/// For an answer about the pair.
const ASK: Duration = Duration::from_secs(1);
/// Between two looks.
pub const LOOK: Duration = Duration::from_millis(50);
/// A node that ended is started again after so long, as a service manager would.
const RESTART_AFTER: Duration = Duration::from_millis(300);
/// To stop in order.
const TO_STOP: Duration = Duration::from_mins(1);
/// For a node whose disk failed.
const TO_END: Duration = Duration::from_secs(10);
const TO_START: Duration = Duration::from_mins(2);

/// What a pair is made with.
#[derive(Debug, Clone)]
pub struct Plan {
    pub program: Program,
    pub seed: u64,
    pub profile: String,
    /// `without_witness`; none: with one.
    pub without_witness: Option<String>,
}

/// A node, and what is being done to it.
#[derive(Debug)]
pub struct Node {
    pub under: NodeUnderTest,
    pub disk: Disk,
    side: Side,
    pub is_paused: bool,
    /// It is to be down.
    pub is_down: bool,
    /// Its disk fails, so it may end by itself until then.
    may_end_until: Instant,
    /// When it ended by itself.
    ended: Option<Instant>,
}

pub struct Cluster {
    // Before the machines, which they run on.
    pub nodes: [Node; 2],
    pub witness: Option<WitnessUnderTest>,
    pub hosts: Arc<[Host; 4]>,
    pub switch: Arc<Switch>,
    pub history: Arc<History>,
    pub has_clocks: bool,
}

impl Cluster {
    /// In sync, with the solutions deployed; the calling thread, and what it starts, is outside.
    pub fn start(plan: &Plan, history: &Arc<History>) -> Outcome<Self> {
        let mut hosts = Vec::new();
        let mut devices = Vec::new();
        for at in At::ALL {
            let (host, device) = Host::new(at)?;
            hosts.push(host);
            devices.push(device);
        }
        let hosts: [Host; 4] = hosts.try_into().expect("there are four");
        let devices = devices.try_into().expect("there are four");
        let switch = Switch::start(devices, plan.seed);
        hosts[At::Outside as usize].enter()?;
        let witness = plan.without_witness.is_none().then(|| {
            let witness = WitnessUnderTest::at(plan.program, At::Witness.address(7402));
            let words = hosts[At::Witness as usize].words_in(witness.folder());
            witness.within(words)
        });
        let has_clocks = Path::new(FAKETIME).exists();
        let [main, failover] = [Side::Main, Side::Failover].map(|side| node(plan, &hosts, side));
        let nodes = [main?, failover?];
        let (hosts, history) = (Arc::new(hosts), history.clone());
        let mut cluster = Self { nodes, witness, hosts, switch, history, has_clocks };
        cluster.join()?;
        cluster.watch();
        Ok(cluster)
    }

    fn join(&mut self) -> Outcome<()> {
        if let Some(witness) = &mut self.witness {
            witness.run();
        }
        self.spawn(Side::Main);
        self.wait("the main server answers", TO_START, |cluster| {
            cluster.status(Side::Main).is_some()
        })?;
        let invite = ["pair", "invite", "--data-dir", "data", "--json"];
        let told = self.node(Side::Main).under.tandem(&invite).expect(0).json();
        let code = told["code"].as_str().unwrap_or_default();
        let join = ["pair", "join", code, "--data-dir", "data"];
        self.node(Side::Failover).under.tandem(&join).expect(0);
        self.spawn(Side::Failover);
        self.wait_whole(TO_START)?;
        for route in Route::ALL {
            self.node(Side::Main).under.deploy(&solution(route, 0));
        }
        Ok(())
    }

    /// Writes down who says to be primary, and whether a node goes back.
    fn watch(&self) {
        for side in Side::BOTH {
            let (hosts, history) = (self.hosts.clone(), self.history.clone());
            thread::spawn(move || {
                hosts[side as usize].enter().expect("who may make namespaces may enter them");
                watch(side, &history);
            });
        }
    }

    pub fn node(&self, side: Side) -> &Node {
        &self.nodes[side as usize]
    }

    pub fn node_mut(&mut self, side: Side) -> &mut Node {
        &mut self.nodes[side as usize]
    }

    pub fn host(&self, side: Side) -> &Host {
        &self.hosts[side as usize]
    }

    /// Starts it, if it does not run.
    pub fn spawn(&mut self, side: Side) {
        let has_clocks = self.has_clocks;
        let node = self.node_mut(side);
        if node.under.is_running() {
            return;
        }
        let clock = format!("FAKETIME_TIMESTAMP_FILE={}", node.clock().display());
        let preload = format!("LD_PRELOAD={FAKETIME}");
        let env = [
            preload.as_str(),
            clock.as_str(),
            "FAKETIME_CACHE_DURATION=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        ];
        node.under.spawn_with(if has_clocks { &env } else { &[] });
        (node.is_down, node.is_paused, node.ended) = (false, false, None);
    }

    /// Starts again what ended by itself, and says so where it should not have.
    pub fn tend(&mut self) {
        for side in Side::BOTH {
            let node = &mut self.nodes[side as usize];
            if let Some(status) = node.under.ended() {
                node.ended = Some(Instant::now());
                let what = format!("{side:?} ended by itself: {status}");
                if node.may_end() {
                    self.history.tell(&what);
                } else {
                    let log = self.node(side).last_lines(12);
                    self.history.violation(format!("{what}\n{log}"));
                }
            }
            let node = self.node(side);
            if node.ended.is_some_and(|at| at.elapsed() > RESTART_AFTER) && !node.is_down {
                self.spawn(side);
            }
        }
    }

    /// As a power cut would, but for the disk's cache.
    pub fn kill(&mut self, side: Side) {
        let node = self.node_mut(side);
        if node.under.is_running() {
            node.under.kill9();
        }
        (node.is_down, node.is_paused) = (true, false);
    }

    pub fn pause(&mut self, side: Side) {
        let node = self.node_mut(side);
        node.under.pause();
        node.is_paused = true;
    }

    pub fn resume(&mut self, side: Side) {
        let node = self.node_mut(side);
        if node.is_paused && node.under.is_running() {
            node.under.resume();
        }
        node.is_paused = false;
    }

    /// In order; a node that does not end is killed, and that is told.
    pub fn stop(&mut self, side: Side) {
        let history = self.history.clone();
        let node = self.node_mut(side);
        node.is_down = true;
        if !node.under.is_running() || node.is_paused {
            return;
        }
        node.under.ask_to_stop();
        let began = Instant::now();
        let status = loop {
            if let Some(status) = node.under.ended() {
                break Some(status);
            }
            if began.elapsed() > TO_STOP {
                break None;
            }
            thread::sleep(LOOK);
        };
        match status {
            Some(status) if status.success() || node.may_end() => {}
            // Asked before it had begun.
            Some(status) if status.signal() == Some(Signal::TERM.as_raw()) => {}
            Some(status) => {
                let log = node.last_lines(12);
                history.violation(format!("{side:?} was stopped and ended with {status}\n{log}"));
            }
            None => {
                node.under.kill9();
                history.violation(format!("{side:?} did not stop in {TO_STOP:?}"));
            }
        }
    }

    pub fn signal_witness(&self, signal: Signal) {
        if let Some(witness) = self.witness.as_ref().filter(|witness| witness.is_running()) {
            witness.signal(signal);
        }
    }

    /// What a node says of the pair, asked on its own machine, whatever the network is like.
    pub fn status(&self, side: Side) -> Option<Value> {
        let node = self.node(side);
        if !node.under.is_running() || node.is_paused {
            return None;
        }
        self.host(side).inside(|| ask(side))
    }

    pub fn primary(&self) -> Option<Side> {
        let is_primary = |side: &Side| self.status(*side).is_some_and(|s| s["role"] == "primary");
        Side::BOTH.into_iter().find(is_primary)
    }

    /// Who is primary, if both are in sync.
    pub fn whole(&self) -> Option<Side> {
        let all = Side::BOTH.map(|side| self.status(side));
        let [Some(main), Some(failover)] = &all else { return None };
        pair::primary_in_sync([main, failover])
    }

    /// Waits until both are in sync, and says how long that took.
    pub fn wait_whole(&mut self, bound: Duration) -> Outcome<Duration> {
        self.wait("both nodes are in sync", bound, |cluster| cluster.whole().is_some())
    }

    /// Looks until it is so, and says how long that took.
    pub fn wait(
        &mut self,
        what: &str,
        bound: Duration,
        is_so: impl Fn(&Self) -> bool,
    ) -> Outcome<Duration> {
        let began = Instant::now();
        while !is_so(self) {
            if began.elapsed() > bound {
                let now = Side::BOTH.map(|side| self.status(side));
                return Err(format!("waited {bound:?} for this: {what}; now {now:#?}").into());
            }
            self.tend();
            thread::sleep(LOOK);
        }
        Ok(began.elapsed())
    }

    /// Copies what each node had where it stays when the machines go.
    pub fn keep_folders(&mut self, to: &Path) {
        for side in Side::BOTH {
            self.kill(side);
            let node = self.node(side);
            let from = node.under.folder().display().to_string();
            let to = to.join(format!("{side:?}")).display().to_string();
            let script =
                "mkdir -p $2 && cp -a $1/node.log $1/tandem.toml $1/data $2; rm -f $2/data/filler";
            if let Err(why) = self.host(side).run(&["sh", "-c", script, "sh", &from, &to]) {
                self.history.tell(&format!("the folder of {side:?} is not kept: {why}"));
            }
        }
    }

    /// Lets time pass, in which nodes that end are started again.
    pub fn pass(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.tend();
            thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
        }
    }
}

impl Node {
    /// Whether its disk fails, or did a moment ago.
    pub fn may_end(&self) -> bool {
        Instant::now() < self.may_end_until
    }

    pub fn disk_fails(&mut self) {
        self.may_end_until = Instant::now() + Duration::from_hours(1);
    }

    /// What failed ends a little later: what it had begun it finishes first.
    pub fn disk_works(&mut self) {
        self.may_end_until = Instant::now() + TO_END;
    }

    /// What its clock is off by, as libfaketime reads it.
    pub fn set_clock(&self, off_by: &str) {
        fs::write(self.clock(), format!("{off_by}\n")).expect("a test's folder can be written");
    }

    fn clock(&self) -> std::path::PathBuf {
        self.under.folder().join("clock")
    }

    pub fn last_lines(&self, lines: usize) -> String {
        let log = self.under.log();
        let all: Vec<_> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    pub fn side(&self) -> Side {
        self.side
    }
}

fn node(plan: &Plan, hosts: &[Host; 4], side: Side) -> Outcome<Node> {
    let (host, at) = (&hosts[side as usize], At::ALL[side as usize]);
    let under = NodeUnderTest::at(plan.program, at.address(7400));
    let folder = under.folder().to_owned();
    let disk = Disk::mount(host, &folder)?;
    let under = under.within(host.words_in(&folder));
    let peer = At::ALL[side.other() as usize].address(7401);
    let third = match &plan.without_witness {
        Some(policy) => format!("without_witness = \"{policy}\""),
        None => format!("witness = \"{}\"", At::Witness.address(7402)),
    };
    under.configure(&format!(
        "[store]\nreserve = \"32MiB\"\n[pair]\nlisten = \"{}\"\npeer = [\"{peer}\"]\nmain = {}\n{third}\n\
         profile = \"{}\"\nfailback_hold = \"5s\"\nsettings_while_acting = true\nmin_free = \"64MiB\"\n",
        at.address(7401),
        side == Side::Main,
        plan.profile,
    ));
    let node = Node {
        under,
        disk,
        side,
        is_paused: false,
        is_down: false,
        may_end_until: Instant::now(),
        ended: None,
    };
    node.set_clock("+0");
    Ok(node)
}

fn watch(side: Side, history: &History) -> ! {
    let mut highest = 0;
    loop {
        let status = ask(side).unwrap_or_default();
        let epoch = status["epoch"].as_u64().unwrap_or(highest);
        if status["role"] == "primary" {
            history.saw_primary(epoch, status["node"].as_str().unwrap_or_default());
        }
        if epoch < highest {
            history.violation(format!("{side:?} went from epoch {highest} to {epoch}"));
        }
        highest = highest.max(epoch);
        thread::sleep(LOOK * 2);
    }
}

fn ask(side: Side) -> Option<Value> {
    let address = senders::targets()[side as usize];
    let answer = Request::new("GET", "/api/v1/pair").send_within(address, ASK).ok()?;
    (answer.status == 200).then(|| answer.json())
}

/// Fixture `probe` in one of its roles; each revision is other bytes.
pub fn solution(route: Route, revision: u32) -> Solution {
    let class = if route == Route::Once { "at-most-once" } else { "idempotent" };
    let order = if route == Route::Lane { "[handling]\norder = \"key\"\n" } else { "" };
    let lines = format!(
        "{order}[delivery]\nclass = \"{class}\"\nattempts = 100\ntimeout = \"2s\"\n\
         backoff = \"50ms\"\nmax_backoff = \"1s\"\n[limits]\nqueue = 1000000"
    );
    let probe = Solution::probe();
    // A custom section: `x`, and the revision.
    let mut component = probe.component.clone();
    component.extend([0, 6, 1, b'x']);
    component.extend(revision.to_be_bytes());
    probe
        .component(component)
        .named(route.name())
        .replace("version = \"0.1.0\"", &format!("version = \"0.1.{revision}\""))
        .replace("http://127.0.0.1:*", &format!("http://{}:*", At::Outside.address(0).ip()))
        .with(&lines)
}
