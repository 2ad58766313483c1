//! What was done and what was seen, with times: written by all, read by the checker and the report.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Write,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{Outcome, lock};

/// What to do with a message; each is a solution of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// One request, class `idempotent`.
    Again,
    /// One request, class `at-most-once`.
    Once,
    /// Messages of a key in order, and their requests too.
    Lane,
}

impl Route {
    pub const ALL: [Self; 3] = [Self::Again, Self::Once, Self::Lane];

    /// Its solution's name, and the path at the receiver.
    pub fn name(self) -> &'static str {
        match self {
            Self::Again => "again",
            Self::Once => "once",
            Self::Lane => "lane",
        }
    }
}

/// A message, as its sender knows it.
#[derive(Debug, Clone)]
pub struct Sent {
    pub name: String,
    pub route: Route,
    /// The first is what counts; another came when it was sent again all the same.
    pub receipts: Vec<Receipt>,
}

#[derive(Debug, Clone)]
pub struct Receipt {
    pub id: String,
    pub epoch: u64,
    pub durability: u64,
    /// Which node says so.
    pub node: String,
    pub sent: Instant,
    pub at: Instant,
    /// The answer to the first request.
    pub is_first_try: bool,
    /// It was given before, to somebody who may not have got it: it is of its own time, not of this answer's.
    pub is_again: bool,
}

/// One fault.
#[derive(Debug, Clone)]
pub struct Episode {
    pub fault: &'static str,
    pub began: Instant,
    pub healed: Instant,
}

#[derive(Debug, Default)]
pub struct Seen {
    pub sent: Vec<Sent>,
    /// Answers that were no receipts: status and code.
    pub refusals: BTreeMap<String, u64>,
    /// Who said to be primary, by epoch.
    pub primaries: BTreeMap<u64, BTreeSet<String>>,
    pub episodes: Vec<Episode>,
    pub violations: Vec<String>,
    /// From the last healing to whole.
    pub whole_after: Vec<Duration>,
}

/// What may happen on both nodes at a time while they do not hear each other, and be there twice then.
#[derive(Debug, Clone, Copy, Default)]
pub struct Apart {
    pub may_both_accept: bool,
    pub may_both_act: bool,
}

impl Apart {
    /// None: there is a witness.
    pub fn under(without_witness: Option<&str>) -> Self {
        Self {
            may_both_accept: matches!(without_witness, Some("act" | "accept-only")),
            may_both_act: without_witness == Some("act"),
        }
    }
}

#[derive(Debug)]
pub struct History {
    pub began: Instant,
    log: Mutex<File>,
    receipts: AtomicU64,
    pub apart: Apart,
    pub seen: Mutex<Seen>,
}

impl History {
    pub fn new(folder: &Path, apart: Apart) -> Outcome<Self> {
        let log = Mutex::new(File::create(folder.join("chaos.log"))?);
        let receipts = AtomicU64::new(0);
        let began = Instant::now();
        Ok(Self { began, log, receipts, apart, seen: Mutex::default() })
    }

    /// A line with the time, for whoever watches and for later.
    pub fn tell(&self, line: &str) {
        let line = format!("{:9.3} s  {line}", self.began.elapsed().as_secs_f64());
        eprintln!("{line}");
        writeln!(lock(&self.log), "{line}").ok();
    }

    pub fn violation(&self, what: String) {
        self.tell(&format!("VIOLATION: {what}"));
        lock(&self.seen).violations.push(what);
    }

    /// A node says that it is primary.
    pub fn saw_primary(&self, epoch: u64, node: &str) {
        let mut seen = lock(&self.seen);
        let nodes = seen.primaries.entry(epoch).or_default();
        if nodes.insert(node.to_owned()) && nodes.len() > 1 && !self.apart.may_both_act {
            drop(seen);
            self.violation(format!("epoch {epoch} has more than one primary"));
        }
    }

    pub fn got_receipt(&self) {
        self.receipts.fetch_add(1, Ordering::Relaxed);
    }

    /// So far.
    pub fn receipts(&self) -> u64 {
        self.receipts.load(Ordering::Relaxed)
    }
}
