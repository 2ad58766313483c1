//! Who is connected, so that one that does nothing can make room for one that comes.

use std::time::Duration;

use tokio::time::Instant;

use super::phase::{Phases, WeakPhases};

/// A connection may be without its first request this long before it has to make room.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// All connections in the order in which they came, and some that have ended.
#[derive(Debug, Default)]
pub(super) struct Guests {
    list: Vec<(Instant, WeakPhases)>,
    /// From this length on, those that have ended are taken out.
    tidy_at: usize,
}

impl Guests {
    pub(super) fn add(&mut self, phases: &Phases) {
        if self.list.len() >= self.tidy_at {
            self.list.retain(|(_, guest)| guest.is_alive());
            self.tidy_at = (2 * self.list.len()).max(64);
        }
        self.list.push((Instant::now(), phases.downgrade()));
    }

    /// Asks the one that came first of those that are idle, else of those whose first request has not come.
    pub(super) fn ask_one_to_leave(&self) {
        let idle = |(_, guest): &&(Instant, WeakPhases)| guest.is_idle();
        let silent = |(came, guest): &&(Instant, WeakPhases)| {
            came.elapsed() > FIRST_REQUEST && guest.is_at_its_first_head()
        };
        let guest = self.list.iter().find(idle).or_else(|| self.list.iter().find(silent));
        if let Some((_, guest)) = guest {
            guest.ask_to_leave();
        }
    }
}
