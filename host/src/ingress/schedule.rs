//! Schedules tick: at each nominal time one message, whose id is made from the schedule and that time.
//!
//! A tick is *missed* if it was due while the node was down, or while there was no room for it. What becomes of it is
//! the source's to say (`missed`); [`plan`] decides it.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    model::{
        clock::{Clock, UnixMs},
        message::Content,
    },
    store::{
        Catalogue, ReadError, Refusal, Store, SubmitError,
        change::accept::Tick,
        row::schedule::{ScheduleRow, schedule_key},
        table::Table,
    },
};

#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod plan;
#[cfg(test)]
mod tests;

use plan::{DueTick, Key, MADE_UP_MAX, Plan, Refused, schedules};

/// Ticks until it is told to stop.
pub async fn run(store: Store, clock: Clock, mut stop: watch::Receiver<bool>) {
    let mut catalogues = store.catalogue();
    let mut plan = Plan::default();
    let mut catalogue = Arc::new(Catalogue::default());
    loop {
        let current = catalogues.borrow_and_update().clone();
        if !Arc::ptr_eq(&current, &catalogue) {
            let rows = rows(&store, &current).unwrap_or_else(|error| {
                tracing::error!(%error, "when schedules ticked last cannot be read");
                BTreeMap::new()
            });
            plan.follow(&current, |key| rows.get(key).copied(), clock.now_ms());
            catalogue = current;
        }
        for tick in plan.take_due(clock.now_ms()) {
            fire(&store, &mut plan, &clock, tick).await;
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(|&stop| stop) => return,
            _ = catalogues.changed() => {}
            () = tokio::time::sleep(plan.sleep(clock.now_ms())) => {}
        }
    }
}

/// When each schedule of the catalogue ticked last.
fn rows(store: &Store, catalogue: &Catalogue) -> Result<BTreeMap<Key, UnixMs>, ReadError> {
    let snapshot = store.read()?;
    let mut rows = BTreeMap::new();
    for (key, ..) in schedules(catalogue) {
        let Some(solution) = catalogue.solution(key.0.as_str()) else { continue };
        let row_key = schedule_key(solution.no, &key.1);
        if let Some(ScheduleRow { last_ms }) = snapshot.get(Table::Schedules, &row_key)? {
            rows.insert(key, last_ms);
        }
    }
    Ok(rows)
}

async fn fire(store: &Store, plan: &mut Plan, clock: &Clock, tick: DueTick) {
    let DueTick { solution, source, nominal_ms, is_cut } = &tick;
    if *is_cut {
        tracing::warn!(
            %solution, %source, nominal_ms,
            "more than {MADE_UP_MAX} ticks were missed: they are made up for from this one on, older ones are left out"
        );
    }
    let body = format!(r#"{{"schedule":"{source}","nominal_ms":{nominal_ms}}}"#);
    let content = Content {
        source: source.clone(),
        headers: Vec::new(),
        content_type: Some("application/json".to_owned()),
        key: None,
        body: Bytes::from(body),
    };
    let change = Tick { solution: solution.clone(), nominal_ms: *nominal_ms, content };
    match store.submit(change).await {
        // Kept now, or before a restart, or by the other node.
        Ok(_) | Err(SubmitError::Refused(Refusal::AlreadyFired)) => plan.fired(tick),
        Err(SubmitError::Refused(
            refusal @ (Refusal::QueueFull { .. } | Refusal::DiskFull { .. }),
        )) => match plan.refused(&tick, clock.now_ms()) {
            Refused::LeftOut => {
                tracing::warn!(%solution, %source, nominal_ms, %refusal, "a tick was not taken in");
            }
            Refused::TriedAgain => {
                tracing::warn!(%solution, %source, nominal_ms, %refusal, "a tick waits for room");
            }
            Refused::TriedAgainStill => {}
        },
        // Paused or removed meanwhile, or the node stops, or is primary no more.
        Err(SubmitError::Refused(_) | SubmitError::NotPrimary | SubmitError::Closed(_)) => {}
    }
}
