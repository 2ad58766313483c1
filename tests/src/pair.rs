//! A pair of nodes: two `tandem run`, joined by the real commands, with a witness or without, and wires that can be cut.

use std::{fs, time::Duration};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    NodeUnderTest, Port, Program, Request, Wire, WitnessUnderTest,
    program::Told,
    wait::{wait_for, wait_until},
};

/// For an answer about the pair; a node that is paused gives none.
const ASK: Duration = Duration::from_secs(2);

/// Which of the two, by configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Main,
    Failover,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::Main, Self::Failover];

    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Main => Self::Failover,
            Self::Failover => Self::Main,
        }
    }
}

/// Who records which node may be primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Third {
    None,
    Server,
    Folder,
}

/// What a pair is made with.
#[derive(Debug, Clone)]
pub struct Setup {
    program: Program,
    third: Third,
    is_wired: bool,
    lines: String,
}

impl Program {
    /// A pair to be: a crash is noticed at once, silence after seconds, so that a machine that is busy with other things
    /// is not taken for a dead one; roles change back only when asked.
    pub fn pair(self) -> Setup {
        let lines = "interval = \"500ms\"\nretries = 5\nfailback = \"manual\"".to_owned();
        Setup { program: self, third: Third::None, is_wired: false, lines }
    }
}

impl Setup {
    #[must_use]
    pub fn third(self, third: Third) -> Self {
        Self { third, ..self }
    }

    /// What both nodes' `[pair]` says beside what has to be there, instead of what [`Program::pair`] says.
    #[must_use]
    pub fn lines(self, lines: &str) -> Self {
        Self { lines: lines.to_owned(), ..self }
    }

    /// The nodes, and the witness, are connected by [`Wire`]s. Then a crash looks like silence, as nobody refuses.
    #[must_use]
    pub fn wired(self) -> Self {
        Self { is_wired: true, ..self }
    }

    /// Joined and running, and in sync.
    pub fn start(self) -> PairUnderTest {
        let mut pair = self.make();
        pair.main.launch();
        let code = pair.invite(Side::Main);
        pair.join(Side::Failover, &code).expect(0);
        pair.failover.launch();
        pair.wait_in_sync();
        pair
    }

    /// Configured; neither joined nor running.
    pub fn make(self) -> PairUnderTest {
        let hooks = [Port::reserve(), Port::reserve()];
        let links = [Port::reserve(), Port::reserve()];
        let wires = self.is_wired.then(|| [Wire::to(links[0].address), Wire::to(links[1].address)]);
        let witness = (self.third == Third::Server).then(|| self.program.witness());
        let to_witness =
            witness.as_ref().map(|witness| [Wire::to(witness.address), Wire::to(witness.address)]);
        let shared = tempfile::tempdir().expect("there is a temporary folder");
        let [main, failover] =
            [0, 1].map(|at: usize| NodeUnderTest::at(self.program, hooks[at].address));
        let pair = PairUnderTest {
            main,
            failover,
            witness,
            wires,
            to_witness,
            links: [links[0].address.to_string(), links[1].address.to_string()],
            third: self.third,
            shared,
            lines: self.lines,
            _ports: [hooks, links],
        };
        for side in Side::BOTH {
            pair.configure(side, "");
        }
        pair
    }
}

/// Processes are killed when this goes, also in a panic; folders go too.
#[derive(Debug)]
pub struct PairUnderTest {
    pub main: NodeUnderTest,
    pub failover: NodeUnderTest,
    pub witness: Option<WitnessUnderTest>,
    /// To the main server and to the failover server.
    wires: Option<[Wire; 2]>,
    /// From the main server and from the failover server.
    to_witness: Option<[Wire; 2]>,
    /// Where they wait for each other.
    links: [String; 2],
    third: Third,
    /// What a witness that is a folder is.
    shared: TempDir,
    lines: String,
    /// Of hooks and of links.
    _ports: [[Port; 2]; 2],
}

impl PairUnderTest {
    pub fn node(&self, side: Side) -> &NodeUnderTest {
        match side {
            Side::Main => &self.main,
            Side::Failover => &self.failover,
        }
    }

    pub fn node_mut(&mut self, side: Side) -> &mut NodeUnderTest {
        match side {
            Side::Main => &mut self.main,
            Side::Failover => &mut self.failover,
        }
    }

    /// A node's `tandem.toml` from its next start on; what is said here of `main` or `peer` takes the place of what is
    /// right.
    pub fn configure(&self, side: Side, instead: &str) {
        let (own, other) = (side as usize, side.other() as usize);
        let peer = match &self.wires {
            Some(wires) => wires[other].address.to_string(),
            None => self.links[other].clone(),
        };
        let mut lines = vec![format!("listen = \"{}\"", self.links[own])];
        if !instead.contains("peer = ") {
            lines.push(format!("peer = [\"{peer}\"]"));
        }
        if !instead.contains("main = ") {
            lines.push(format!("main = {}", side == Side::Main));
        }
        match (self.third, &self.to_witness) {
            (Third::Server, Some(wires)) => {
                lines.push(format!("witness = \"{}\"", wires[own].address));
            }
            (Third::Folder, _) => {
                lines.push(format!("witness = \"{}\"", self.shared.path().display()));
            }
            _ => {}
        }
        let config = format!("[pair]\n{}\n{}\n{instead}\n", lines.join("\n"), self.lines);
        self.node(side).configure(&config);
    }

    /// What both nodes' `[pair]` says from their next start on, instead of what it said.
    pub fn configure_both(&mut self, lines: &str) {
        lines.clone_into(&mut self.lines);
        for side in Side::BOTH {
            self.configure(side, "");
        }
    }

    /// The code that lets another node join this one, which runs.
    pub fn invite(&self, side: Side) -> String {
        let address = self.link(side);
        let told = self
            .run(side, &["pair", "invite", "--data-dir", "data", "--address", address, "--json"])
            .expect(0)
            .json();
        crate::node::text(&told["code"])
    }

    /// Joins with a code; the node must not run.
    pub fn join(&self, side: Side, code: &str) -> Told {
        self.run(side, &["pair", "join", code, "--data-dir", "data", "--json"])
    }

    fn run(&self, side: Side, arguments: &[&str]) -> Told {
        self.node(side).tandem(arguments)
    }

    /// What it says of the pair; none if it does not answer.
    pub fn status(&self, side: Side) -> Option<Value> {
        let node = self.node(side);
        if !node.is_running() {
            return None;
        }
        let answer = Request::new("GET", "/api/v1/pair").send_within(node.address, ASK).ok()?;
        (answer.status == 200).then(|| answer.json())
    }

    /// Who says to be primary.
    pub fn primaries(&self) -> Vec<Side> {
        let is_primary = |side: &Side| self.status(*side).is_some_and(|s| s["role"] == "primary");
        Side::BOTH.into_iter().filter(is_primary).collect()
    }

    /// Waits until this node is primary, whatever the other says.
    pub fn wait_primary(&self, side: Side) -> Value {
        self.wait_status(side, "it is primary", |status| status["role"] == "primary")
    }

    pub fn wait_status(&self, side: Side, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        wait_for(
            &format!("of {side:?}: {what}; now {:#?}", Side::BOTH.map(|s| self.status(s))),
            || self.status(side).filter(&is_so),
        )
    }

    /// Waits until one is primary, the other standby, and receipts are on two disks; says who is primary.
    pub fn wait_in_sync(&self) -> Side {
        wait_for("both nodes are in sync", || self.in_sync())
    }

    fn in_sync(&self) -> Option<Side> {
        let all = Side::BOTH.map(|side| self.status(side));
        let [Some(main), Some(failover)] = &all else { return None };
        primary_in_sync([main, failover])
    }

    /// Waits until both nodes are in sync, and the primary has what was set aside when one of them came back; says who is
    /// primary.
    pub fn wait_recovered(&self) -> Side {
        let primary = self.wait_in_sync();
        wait_until("the primary has what was set aside", || {
            Side::BOTH.into_iter().all(|side| {
                let kept = self.node(side).api("pair/quarantine");
                let entries = kept["entries"].as_array().expect("it lists entries");
                entries.iter().all(|entry| entry["settled"] == true)
            })
        });
        primary
    }

    /// Waits until what one has the other has too, and nothing is going on.
    pub fn wait_even(&self) {
        self.wait_in_sync();
        wait_until("both heads are one", || {
            let heads =
                Side::BOTH.map(|side| self.status(side).map(|status| status["head"].clone()));
            heads[0].is_some() && heads[0] == heads[1]
        });
    }

    /// Where this node waits for the other.
    pub fn link(&self, side: Side) -> &str {
        &self.links[side as usize]
    }

    /// The wire to this node.
    #[track_caller]
    pub fn wire_to(&self, side: Side) -> &Wire {
        &self.wires.as_ref().expect("the pair is wired")[side as usize]
    }

    /// The wire from this node to the witness.
    #[track_caller]
    pub fn wire_to_witness(&self, side: Side) -> &Wire {
        &self.to_witness.as_ref().expect("there is a witness")[side as usize]
    }

    /// Nothing passes between the nodes, either way.
    pub fn stall_links(&self) {
        for side in Side::BOTH {
            self.wire_to(side).stall_all();
        }
    }

    /// The link works again; what was under way is lost.
    pub fn heal_links(&self) {
        for side in Side::BOTH {
            self.wire_to(side).resume();
            self.wire_to(side).cut();
        }
    }

    #[track_caller]
    pub fn witness(&mut self) -> &mut WitnessUnderTest {
        self.witness.as_mut().expect("the pair has a witness")
    }

    /// Starts the witness again; the nodes find it where it was.
    pub fn run_witness(&mut self) {
        self.witness().run();
        let address = self.witness().address;
        for wire in self.to_witness.as_ref().expect("there is a witness") {
            wire.lead_to(address);
        }
    }

    /// Takes away all that a node has, which must not run.
    pub fn wipe(&self, side: Side) {
        fs::remove_dir_all(self.node(side).data_dir()).expect("a test's folder can be removed");
    }
}

/// Who is primary, by what the main server and the failover server say, if both are in sync.
pub fn primary_in_sync([main, failover]: [&Value; 2]) -> Option<Side> {
    let (side, primary, standby) = if main["role"] == "primary" {
        (Side::Main, main, failover)
    } else {
        (Side::Failover, failover, main)
    };
    let is_so = primary["role"] == "primary"
        && primary["sync"] == "both"
        && standby["role"] == "standby"
        && standby["epoch"] == primary["epoch"];
    is_so.then_some(side)
}
