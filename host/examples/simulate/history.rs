//! What senders, receivers and whoever looks on have seen; and the log of all of it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// One receipt, as its sender got it.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// No two messages have the same.
    pub body: String,
    pub id: String,
    pub epoch: u64,
    pub durability: u8,
    /// It is sent again until there is a receipt.
    pub is_keyed: bool,
    pub sent: Duration,
    pub at: Duration,
    /// The answer to the first request with this number.
    pub is_first_try: bool,
}

/// A change that an operator asked for; each has another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Act {
    pub number: u64,
    pub sent: Duration,
    /// When it was said to be kept, if it was.
    pub told: Option<Duration>,
}

impl Act {
    pub fn begin(number: u64, sent: Duration) -> Self {
        Self { number, sent, told: None }
    }
}

/// One request that a receiver did what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub path: String,
    pub key: String,
    pub body: String,
}

/// Shared by all; one thread has it.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<Seen>>);

#[derive(Default)]
pub struct Seen {
    pub now: Duration,
    pub receipts: Vec<Receipt>,
    pub calls: Vec<Call>,
    /// Answers that were no receipts, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Messages that were sent, whatever came of them.
    pub sent: u64,
    /// Who was primary in which epoch, as seen from outside time and space.
    pub primaries: BTreeMap<u64, &'static str>,
    pub takeovers: u64,
    /// What operators set, and deployed, in the order in which they began.
    pub settings: Vec<Act>,
    pub deployed: Vec<Act>,
    /// Ids that one idempotency key came to.
    pub same_key: Vec<(String, String)>,
    /// Why a node's process ended by itself.
    pub ended: BTreeMap<&'static str, String>,
    pub deploys: u64,
    pub switchovers: u64,
    /// The first thing that must not be.
    pub violation: Option<String>,
    lines: Vec<String>,
}

impl History {
    pub fn see(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now(&self) -> Duration {
        self.see().now
    }

    /// Writes down what happened.
    pub fn log(&self, text: impl AsRef<str>) {
        let mut seen = self.see();
        let mut line = String::new();
        let now = seen.now;
        write!(line, "{:>9.3} s  {}", now.as_secs_f64(), text.as_ref()).expect("it is a String");
        seen.lines.push(line);
    }

    pub fn is_well(&self) -> bool {
        self.see().violation.is_none()
    }

    /// What must not be, was.
    pub fn violate(&self, what: impl Into<String>) {
        let what = what.into();
        self.log(format!("VIOLATION: {what}"));
        self.see().violation.get_or_insert(what);
    }

    /// Everything that happened, in its order.
    pub fn lines(&self) -> Vec<String> {
        self.see().lines.clone()
    }
}
