//! Schedules tick: at each nominal time one message, whose id is made from the schedule and that time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    contract::manifest::SourceKind,
    model::{
        clock::{Clock, UnixMs},
        message::Content,
        name::Name,
    },
    store::{Catalogue, Refusal, Store, SubmitError, change::accept::Tick},
};

/// The longest sleep, so that a clock that was set is noticed.
const NAP: Duration = Duration::from_secs(1);

/// Solution and source.
type Key = (Name, Name);

/// When each schedule ticks next.
#[derive(Debug, Default)]
struct Plan {
    next: BTreeMap<Key, UnixMs>,
}

impl Plan {
    /// Takes over what is deployed now. A schedule that is new, or whose line changed, begins after `now_ms`.
    fn follow(&mut self, before: &Catalogue, catalogue: &Catalogue, now_ms: UnixMs) {
        let mut next = BTreeMap::new();
        for (key, schedule) in schedules(catalogue) {
            let unchanged = schedules(before).any(|(k, s)| k == key && s == schedule);
            let planned = self.next.get(&key).copied().filter(|_| unchanged);
            if let Some(at) = planned.or_else(|| schedule.next_after(now_ms)) {
                next.insert(key, at);
            }
        }
        self.next = next;
    }

    /// Schedules that are due, with their nominal time; each is planned anew after `now_ms`.
    fn take_due(&mut self, catalogue: &Catalogue, now_ms: UnixMs) -> Vec<(Key, UnixMs)> {
        let mut due = Vec::new();
        for (key, schedule) in schedules(catalogue) {
            let Some(&at) = self.next.get(&key) else { continue };
            if at > now_ms {
                continue;
            }
            due.push((key.clone(), at));
            match schedule.next_after(now_ms) {
                Some(at) => drop(self.next.insert(key, at)),
                None => drop(self.next.remove(&key)),
            }
        }
        due
    }

    fn sleep(&self, now_ms: UnixMs) -> Duration {
        let first = self.next.values().min();
        first.map_or(NAP, |at| Duration::from_millis(at.saturating_sub(now_ms)).min(NAP))
    }
}

fn schedules(
    catalogue: &Catalogue,
) -> impl Iterator<Item = (Key, &crate::contract::schedule::Schedule)> {
    catalogue.solutions.values().flat_map(|solution| {
        let sources = solution.manifest.iter().flat_map(|manifest| &manifest.sources);
        sources.filter_map(|source| match &source.kind {
            SourceKind::Schedule(schedule) => {
                Some(((solution.name.clone(), source.name.clone()), schedule))
            }
            _ => None,
        })
    })
}

/// Ticks until it is told to stop.
pub async fn run(store: Store, clock: Clock, mut stop: watch::Receiver<bool>) {
    let mut catalogues = store.catalogue();
    let mut plan = Plan::default();
    let mut catalogue = Arc::new(Catalogue::default());
    loop {
        let current = catalogues.borrow_and_update().clone();
        if !Arc::ptr_eq(&current, &catalogue) {
            plan.follow(&catalogue, &current, clock.now_ms());
            catalogue = current;
        }
        for ((solution, source), nominal_ms) in plan.take_due(&catalogue, clock.now_ms()) {
            fire(&store, solution, source, nominal_ms).await;
        }
        tokio::select! {
            () = tokio::time::sleep(plan.sleep(clock.now_ms())) => {}
            _ = catalogues.changed() => {}
            _ = stop.wait_for(|&stop| stop) => return,
        }
    }
}

async fn fire(store: &Store, solution: Name, source: Name, nominal_ms: UnixMs) {
    let body = format!(r#"{{"schedule":"{source}","nominal_ms":{nominal_ms}}}"#);
    let content = Content {
        source: source.clone(),
        headers: Vec::new(),
        content_type: Some("application/json".to_owned()),
        key: None,
        body: Bytes::from(body),
    };
    let tick = Tick { solution: solution.clone(), nominal_ms, content };
    match store.submit(tick).await {
        // Paused on purpose, removed meanwhile, fired before a restart or by the other node, or the node stops.
        Ok(_)
        | Err(
            SubmitError::Closed(_)
            | SubmitError::Refused(
                Refusal::AlreadyFired | Refusal::SourcePaused { .. } | Refusal::UnknownSolution(_),
            ),
        ) => {}
        Err(SubmitError::Refused(refusal)) => {
            tracing::warn!(%solution, %source, nominal_ms, %refusal, "a tick was not taken in");
        }
    }
}
