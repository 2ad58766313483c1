//! The time limit of an attempt: one thread counts ticks, and compiled code looks at the count.

use std::{io, thread, time::Duration};

use tokio::time::Instant;
use wasmtime::{Store, UpdateDeadline};

/// How often running code is looked at. A limit is met at most this much too late.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// Starts the engine's one ticker. It ends when the engine is gone.
pub(super) fn start_ticker(engine: &wasmtime::Engine) -> io::Result<()> {
    let engine = engine.weak();
    thread::Builder::new().name("wasm-ticker".to_owned()).spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            #[expect(clippy::disallowed_methods, reason = "it is the one that keeps the time")]
            thread::sleep(TICK);
        }
    })?;
    Ok(())
}

/// Interrupts what runs in `store` once `limit` has passed since `started`.
///
/// Ticks only say when to look: the clock decides, so a ticker that was kept from running delays the end of an
/// attempt but never brings it forward.
pub(super) fn set_deadline<T: 'static>(store: &mut Store<T>, started: Instant, limit: Duration) {
    store.set_epoch_deadline(ticks(limit));
    store.epoch_deadline_callback(move |_| {
        let left = limit.saturating_sub(started.elapsed());
        Ok(if left.is_zero() {
            UpdateDeadline::Interrupt
        } else {
            UpdateDeadline::Continue(ticks(left))
        })
    });
}

fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_never_none_and_round_up() {
        let ms = Duration::from_millis;
        let table = [(ms(0), 1), (ms(1), 1), (ms(10), 1), (ms(11), 2), (ms(1000), 100)];
        for (time, expected) in table {
            assert_eq!(ticks(time), expected, "{time:?}");
        }
    }
}
