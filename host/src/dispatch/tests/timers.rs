//! Timers and a clock that jumps.

use super::*;
use crate::contract::handler::Publication;

const START_MS: u64 = 1_700_000_000_000;
const HOUR: Duration = Duration::from_hours(1);
const AGAIN: &str =
    "[[source]]\nname = \"again\"\nkind = \"message\"\n[grants]\npublish = [\"a\"]\n";

/// A message from outside publishes a timer of an hour.
async fn fixture(clock: &Clock, seen: &Seen) -> Fixture {
    let noted = seen.clone();
    Fixture::at(clock.clone(), AGAIN, move |message, _, _| {
        noted.note(message);
        let mut effects = Effects::default();
        if message.content.source == name("in") {
            let content = content("again", &format!("after {}", text(message)));
            effects.publish.push(Publication { solution: name("a"), content, after: Some(HOUR) });
        }
        (Outcome::Done { reply: None }, effects)
    })
    .await
}

impl Fixture {
    fn timers(&self) -> u64 {
        self.store.read().unwrap().len(Table::Timers).unwrap()
    }

    /// Longer than a timer that would fire takes to be seen, by a message that goes through.
    async fn until_it_would_have_fired(&self) {
        // The task naps for a second at most; a wake-up by a new timer makes it look at once.
        let ids = self.accept(&["probe"]).await;
        self.until_over(&ids).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_fires_once_when_the_clock_jumps() {
    let clock = Clock::manual(START_MS);
    let seen = Seen::default();
    let f = fixture(&clock, &seen).await;
    let ids = f.accept(&["first"]).await;
    f.until_over(&ids).await;
    f.until_it_would_have_fired().await;
    assert!(seen.of("after").is_empty());
    assert_eq!(f.timers(), 2);

    // A day ahead: all of it is due.
    clock.advance(24 * HOUR);
    let fired = async {
        while seen.of("after").len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), fired).await.expect("they are due");
    // Set while the clock is ahead, and due by it.
    let ids = f.accept(&["ahead"]).await;
    f.until_over(&ids).await;

    // Back, and through the hour again: what fired does not fire again, the other is not due yet.
    clock.set(START_MS + 1000);
    f.until_it_would_have_fired().await;
    clock.set(START_MS + 3_700_000);
    f.until_it_would_have_fired().await;
    let after = seen.of("after");
    assert_eq!(after.iter().filter(|text| *text == "after first").count(), 1, "{after:?}");
    assert!(!after.contains(&"after ahead".to_owned()), "{after:?}");

    clock.set(START_MS + 26 * 3_600_000);
    let fired = async {
        while seen.of("after ahead").is_empty() || f.timers() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), fired).await.expect("all are due");
    let after = seen.of("after");
    assert_eq!(after.iter().filter(|text| *text != "after probe").count(), 2, "{after:?}");
    f.stop().await;
}
