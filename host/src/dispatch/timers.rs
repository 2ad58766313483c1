//! Messages become ready when their time has come: sleeps until the first timer is due.

use std::time::Duration;

use tokio::sync::watch;

use crate::{
    model::clock::{Clock, UnixMs},
    store::{
        ReadError, Store, SubmitError,
        change::due::{DUE_PER_CHANGE, Due},
        row::timer::read_timer_key,
        table::Table,
    },
};

/// The longest sleep, so that a clock that was set is noticed.
const NAP: Duration = Duration::from_secs(1);

pub(super) async fn run(store: Store, clock: Clock, mut stop: watch::Receiver<bool>) {
    loop {
        let wait = match fire(&store, &clock).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::error!(%error, "timers cannot be read");
                NAP
            }
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|&stop| stop) => return,
            () = tokio::time::sleep(wait) => {}
            () = store.signals().timers.notified() => {}
        }
    }
}

/// Makes everything ready that is due; returns how long to sleep.
async fn fire(store: &Store, clock: &Clock) -> Result<Duration, ReadError> {
    loop {
        let now_ms = clock.now_ms();
        let Some(first) = first_due(store)? else { return Ok(NAP) };
        if first > now_ms {
            return Ok(Duration::from_millis(first - now_ms).min(NAP));
        }
        match store.submit(Due { now_ms }).await {
            Ok(kept) if kept.answer == DUE_PER_CHANGE => {}
            Ok(_) => return Ok(Duration::ZERO),
            // This is about to stop.
            Err(SubmitError::Refused(_) | SubmitError::NotPrimary | SubmitError::Closed(_)) => {
                return Ok(NAP);
            }
        }
    }
}

/// The first row's time: the table is in the order of due times.
fn first_due(store: &Store) -> Result<Option<UnixMs>, ReadError> {
    let mut first = None;
    store.read()?.table(Table::Timers)?.scan(&[], |key, _| {
        first = Some(read_timer_key(key).ok_or(ReadError::Key("timers"))?.0);
        Ok(false)
    })?;
    Ok(first)
}
