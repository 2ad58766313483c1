//! Waiting for a state, with a deadline.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Far longer than anything takes here, also on a machine that is busy with other things.
pub const DEADLINE: Duration = Duration::from_mins(1);
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Looks until there is something; panics with `what` at the deadline.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    wait_or_say(what, || look().ok_or_else(String::new))
}

/// The same; at the deadline also with what the last look came to.
#[expect(clippy::disallowed_methods, reason = "between two looks at a state, with a deadline")]
pub fn wait_or_say<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        let why = match look() {
            Ok(found) => return found,
            Err(why) => why,
        };
        assert!(began.elapsed() < DEADLINE, "waited {DEADLINE:?} for this: {what} {why}");
        thread::sleep(BETWEEN_LOOKS);
    }
}

/// Looks until it is so; panics with `what` at the deadline.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || is_so().then_some(()));
}
