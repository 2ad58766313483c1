//! The whole stage: a real store, real receivers, and a lease.

use std::time::Duration;

use super::super::{Config, Stage, attempt::Next, queue::Effect};
use crate::{
    model::clock::Clock,
    net::http_client::{self, Client, Roots},
    store::{Store, row::outbox::OutboxKey, tests::config},
};

const START_MS: u64 = 1_700_000_000_000;

struct Fixture {
    store: Store,
    clock: Clock,
    client: Client,
    _dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(START_MS);
        let store = Store::open(&config(dir.path()), clock.clone()).unwrap();
        let roots = Roots::Only(Vec::new());
        let client = Client::new(&http_client::Config { roots, ..http_client::Config::default() });
        Self { store, clock, client, _dir: dir }
    }

    fn stage(&self, concurrency: usize) -> Stage {
        let config = Config { concurrency, per_target: concurrency };
        let (store, client) = (self.store.clone(), self.client.clone());
        Stage::new(&config, store, client, self.clock.clone(), None)
    }
}

/// Nobody knew whose place it was, so it was never free again.
#[tokio::test]
async fn an_attempt_that_panics_frees_its_place_and_comes_again() {
    let mut stage = Fixture::new().stage(1);
    let key = |ordinal| OutboxKey { ordinal, index: 0 };
    for ordinal in [1, 2] {
        stage.queue.add(key(ordinal), Effect { origin: "a".into(), lane: None }, 0);
    }
    assert_eq!(stage.queue.next(START_MS), Some(key(1)));
    stage.begin(key(1), async { panic!("as a bug does") });
    let done = stage.attempts.join_next_with_id().await.unwrap();
    stage.take_back(done);
    assert_eq!(stage.queue.next(START_MS), Some(key(2)), "its place is free");
    stage.queue.finished(key(2), Next::Over);
    assert_eq!(stage.queue.next(START_MS), None);
    assert_eq!(stage.queue.sleep(START_MS), Some(Duration::from_secs(5)));
    assert!(stage.keys.is_empty());
}
