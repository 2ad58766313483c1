//! A kept message is handed to its solution.
//!
//! Each solution has a [`lane`], which handles its messages in the [`order`] its manifest asks for. Lanes that have
//! messages run on [`workers`]; [`timers`] makes messages ready when their time has come, [`alarms`] wakes lanes that
//! rest, and a [`breaker`] lets those rest that only fail. [`room`] sees to it that what they publish finds a place. What an attempt comes to is [`decide`]d purely and
//! [`settle`]d in one change. Nothing here knows wasmtime.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use crate::{
    contract::handler::Loader,
    machine,
    model::clock::Clock,
    store::{Store, row::SolutionNo},
    tasks::Tasks,
};

mod alarms;
mod breaker;
mod decide;
mod lane;
mod order;
mod room;
mod settle;
mod timers;
mod view;
mod workers;
#[cfg(test)]
mod tests;

use alarms::Alarms;
use lane::Lane;
use room::Room;
use workers::Workers;

/// How many messages are handled at once.
#[derive(Debug, Clone)]
pub struct Config {
    /// Handlers that compute at the same time; the cores of the machine.
    pub threads: usize,
    /// Handlers at the same time in all, those included that wait or run long.
    pub handlers: usize,
}

/// The stage; shared by those who ask it how a solution is.
#[derive(Debug)]
pub struct Dispatch {
    shared: Arc<lane::Shared>,
    workers: Arc<Workers<Lane>>,
    /// Bounded by the number of solutions. Held for a look-up.
    lanes: Mutex<BTreeMap<SolutionNo, Arc<Lane>>>,
}

impl Dispatch {
    /// Starts handling what waits and what comes.
    pub fn start(
        config: &Config,
        store: Store,
        loader: Arc<dyn Loader>,
        clock: Clock,
        tasks: &Tasks,
    ) -> Arc<Self> {
        let workers = Workers::new(config.threads, config.handlers);
        let catalogue = store.catalogue();
        let shared = Arc::new(lane::Shared {
            store: store.clone(),
            loader,
            clock: clock.clone(),
            catalogue,
            alarms: Alarms::default(),
            room: Room::default(),
            stale: AtomicU64::new(0),
        });
        let dispatch = Arc::new(Self { shared, workers, lanes: Mutex::default() });
        // What waited when the node stopped is woken once; a lane without messages goes back to sleep at once.
        let known: Vec<_> = store.catalogue().borrow().solutions.values().map(|s| s.no).collect();
        for no in known {
            dispatch.wake(no);
        }
        tasks.spawn("dispatch", {
            let dispatch = dispatch.clone();
            |stop| dispatch.run(store, stop)
        });
        tasks.spawn("timers", |stop| timers::run(dispatch.shared.store.clone(), clock, stop));
        dispatch
    }

    async fn run(self: Arc<Self>, store: Store, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|&stop| stop) => break,
                () = self.shared.alarms.wait(self.shared.clock.now_ms()) => {
                    for no in self.shared.alarms.take_due(self.shared.clock.now_ms()) {
                        self.wake(no);
                    }
                }
                solutions = store.signals().ready.wait() => {
                    for no in solutions {
                        self.wake(no);
                    }
                }
            }
        }
        let workers = self.workers.clone();
        // Handlers that run are given the time to finish; what they did is settled.
        machine::blocking(move || {
            workers.stop();
            self.lanes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .values()
                .for_each(|l| l.end());
        })
        .await;
    }

    /// Why a solution handles nothing on this node although messages wait, if so.
    pub fn condition(&self, no: SolutionNo) -> Option<String> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).get(&no)?.condition()
    }

    /// Attempts that were run again because what they had read was written meanwhile.
    pub fn stale_attempts(&self) -> u64 {
        self.shared.stale.load(Ordering::Relaxed)
    }

    fn wake(&self, no: SolutionNo) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let lane =
            lanes.entry(no).or_insert_with(|| Lane::new(no, self.shared.clone(), &self.workers));
        lane.wake();
    }
}
