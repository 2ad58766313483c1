//! Schedules over the real store, with a clock that is turned.

use std::time::Duration;

use super::*;
use crate::{
    model::{
        message::MessageId,
        name::{Digest, Name},
    },
    store::{
        self,
        change::deploy::{Deploy, Pause, Rollback},
        row::{Row, message::MessageRow},
    },
    tasks::Tasks,
};

const DAY_MS: UnixMs = 24 * 60 * 60 * 1000;
/// A full hour.
const START_MS: UnixMs = 20_000 * DAY_MS;
const MINUTE_MS: UnixMs = 60_000;

struct Node {
    store: Store,
    clock: Clock,
    tasks: Tasks,
    dir: tempfile::TempDir,
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn open(dir: &std::path::Path, clock: &Clock) -> Store {
    let config = store::Config {
        dir: dir.to_owned(),
        cache_bytes: 1 << 20,
        reserve_bytes: 0,
        journal_bytes: 1 << 20,
        kept_bytes: 0,
        checkpoint_bytes: 1 << 20,
        paired: false,
    };
    Store::open(&config, clock.clone()).unwrap()
}

impl Node {
    /// Schedules of source `tick` of solution `a` run.
    async fn new(source: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(START_MS);
        let store = open(dir.path(), &clock);
        let node = Self { store, clock, tasks: Tasks::default(), dir };
        node.deploy(source).await;
        node.start().await;
        node
    }

    /// Starts, and has followed the catalogue when it returns.
    async fn start(&self) {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        self.tasks.spawn("schedules", |stop| run(store, clock, stop));
        tokio::task::yield_now().await;
    }

    async fn deploy(&self, source: &str) {
        let manifest = format!(
            "name = \"a\"\nversion = \"1\"\n[[source]]\nname = \"tick\"\nkind = \"schedule\"\n{source}"
        );
        let (component, digest) = (Bytes::from_static(b"c"), Digest::of(b"c"));
        let deploy = Deploy { name: name("a"), manifest, component, digest };
        self.store.submit(deploy).await.unwrap();
    }

    async fn pause(&self, reason: Option<&str>) {
        let reason = reason.map(str::to_owned);
        let pause = Pause { name: name("a"), source: Some(name("tick")), reason };
        self.store.submit(pause).await.unwrap();
    }

    /// Stops, and starts again at another time.
    async fn restart_at(self, ms: UnixMs) -> Self {
        let Self { store, clock, tasks, dir } = self;
        tasks.stop(Duration::from_secs(30)).await;
        drop(store);
        clock.set(ms);
        let store = open(dir.path(), &clock);
        let node = Self { store, clock, tasks: Tasks::default(), dir };
        node.start().await;
        node
    }

    /// Minutes after [`START_MS`] of all ticks that were taken in.
    fn minutes(&self) -> Vec<u64> {
        let mut minutes = Vec::new();
        let messages = self.store.read().unwrap().table(Table::Messages).unwrap();
        messages
            .scan(&[], |key, value| {
                let row = MessageRow::decode(value)?;
                let id = MessageId::of_tick(&name("a"), &name("tick"), row.time_ms);
                assert_eq!(key, id.0);
                minutes.push((row.time_ms - START_MS) / MINUTE_MS);
                Ok(true)
            })
            .unwrap();
        minutes.sort_unstable();
        minutes
    }

    async fn until(&self, minutes: &[u64]) {
        let there = async {
            while self.minutes() != minutes {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let there = tokio::time::timeout(Duration::from_mins(1), there).await;
        there.unwrap_or_else(|_| panic!("{:?} is not {minutes:?}", self.minutes()));
    }

    fn set(&self, minute: u64) {
        self.clock.set(START_MS + minute * MINUTE_MS);
    }
}

#[tokio::test]
async fn where_a_schedule_begins_is_kept_with_its_deployment() {
    // It goes down before its first tick, and misses it.
    let node = Node::new("cron = \"*/10 * * * *\"\nmissed = \"all\"").await;
    let node = node.restart_at(START_MS + 25 * MINUTE_MS).await;
    node.until(&[10, 20]).await;
    // Another line begins when it is deployed, also if the node goes down at once.
    node.tasks.stop(Duration::from_secs(30)).await;
    node.deploy("cron = \"*/2 * * * *\"\nmissed = \"all\"").await;
    let node = node.restart_at(START_MS + 29 * MINUTE_MS).await;
    node.until(&[10, 20, 26, 28]).await;
    node.store.submit(Rollback { name: name("a"), revision: Some(1) }).await.unwrap();
    let node = node.restart_at(START_MS + 31 * MINUTE_MS).await;
    node.until(&[10, 20, 26, 28, 30]).await;
}

#[tokio::test]
async fn a_paused_source_misses_nothing() {
    let node = Node::new("cron = \"* * * * *\"\nmissed = \"all\"").await;
    node.set(1);
    node.until(&[1]).await;
    node.pause(Some("repairs")).await;
    let node = node.restart_at(START_MS + 3 * MINUTE_MS).await;
    node.set(4);
    node.pause(None).await;
    let node = node.restart_at(START_MS + 6 * MINUTE_MS).await;
    node.until(&[1, 5, 6]).await;
}

#[tokio::test]
async fn ticks_wait_for_room_and_come_in_order() {
    let node = Node::new("cron = \"* * * * *\"\nmissed = \"all\"\n[limits]\nqueue = 2").await;
    let node = node.restart_at(START_MS + 4 * MINUTE_MS).await;
    node.until(&[1, 2]).await;
    // More room. The source is the same, so the schedule goes on.
    node.deploy("cron = \"* * * * *\"\nmissed = \"all\"\n[limits]\nqueue = 3").await;
    node.clock.advance(plan::NAP);
    node.until(&[1, 2, 3]).await;
}

#[tokio::test]
async fn nothing_fires_twice_when_the_clock_jumps() {
    for missed in ["skip", "once"] {
        let node = Node::new(&format!("cron = \"0 * * * *\"\nmissed = \"{missed}\"")).await;
        node.set(60);
        node.until(&[60]).await;
        let day = 24 * 60;
        node.set(day);
        node.until(&[60, day]).await;
        node.set(120);
        let node = node.restart_at(START_MS + 180 * MINUTE_MS).await;
        // Not even if it is to begin now.
        node.pause(Some("repairs")).await;
        node.pause(None).await;
        node.set(day);
        node.set(day + 60);
        node.until(&[60, day, day + 60]).await;
    }
}
