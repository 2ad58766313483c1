//! How many of something each solution has: changed by changes, told after commits.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use super::row::SolutionNo;

/// The writer's side.
#[derive(Debug, Default)]
pub(super) struct Counts {
    of: BTreeMap<SolutionNo, u64>,
    /// Of the running change, taken over when it succeeds.
    by_change: Vec<(SolutionNo, i64)>,
    /// Solutions whose count changed since it was last told.
    changed: BTreeSet<SolutionNo>,
}

/// What others are told.
#[derive(Debug, Default)]
pub struct Told {
    /// Held for a look or a copy.
    of: Mutex<BTreeMap<SolutionNo, u64>>,
}

impl Counts {
    pub fn new(of: BTreeMap<SolutionNo, u64>) -> Self {
        let changed = of.keys().copied().collect();
        Self { of, by_change: Vec::new(), changed }
    }

    /// As if counted anew.
    pub fn set(&mut self, of: BTreeMap<SolutionNo, u64>) {
        self.changed.extend(self.of.keys().chain(of.keys()));
        self.of = of;
        self.by_change.clear();
    }

    pub fn get(&self, solution: SolutionNo) -> u64 {
        self.of.get(&solution).copied().unwrap_or(0)
    }

    pub fn begin_change(&mut self) {
        self.by_change.clear();
    }

    pub fn count(&mut self, solution: SolutionNo, by: i64) {
        self.by_change.push((solution, by));
    }

    /// The change succeeded.
    pub fn take_over(&mut self) {
        for (solution, by) in self.by_change.drain(..) {
            let count = self.of.entry(solution).or_default();
            *count = count.saturating_add_signed(by);
            self.changed.insert(solution);
        }
    }

    /// Tells what changed.
    pub fn tell(&mut self, told: &Told) {
        if self.changed.is_empty() {
            return;
        }
        let mut of = told.of.lock().unwrap_or_else(PoisonError::into_inner);
        for solution in std::mem::take(&mut self.changed) {
            of.insert(solution, self.get(solution));
        }
    }
}

impl Told {
    /// Solutions without any may be left out.
    pub fn all(&self) -> BTreeMap<SolutionNo, u64> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn of(&self, solution: SolutionNo) -> u64 {
        let of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        of.get(&solution).copied().unwrap_or(0)
    }

    pub fn sum(&self) -> u64 {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}
