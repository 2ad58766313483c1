//! Messages move in the real store, and a node may die between any two steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{task::JoinSet, time::Instant};

use super::{
    Config, Upkeep,
    decide::{Facts, Move, decide, expired},
    pack::{Packed, pack},
    tally::Tally,
};
use crate::{
    contract::handler::{Effects, Request},
    model::{
        clock::Clock,
        message::{Content, MessageId},
        name::Digest,
    },
    store::{
        Change, Store,
        change::{
            accept::{Accept, Tick},
            archive::{Seal, Sweep, Swept},
            dead_letter::{DiscardDelivery, DiscardMessage},
            deliver::{CloseDelivery, Deliver, DeliverNext},
            deploy::Deploy,
            recover::Recover,
            settle::{Next, Settle, Settled},
        },
        records::Wanted,
        recover::Made,
        row::{
            Row,
            delivery::{DeliveryAttemptRow, DeliveryRow, DeliveryStatusRow, delivery_key},
            life::AttemptRow,
            outbox::{OutboxKey, OutboxRow},
            ready::{ReadyRow, read_ready_key},
            segment::{SegmentKey, SegmentRow},
        },
        segment::Record,
        table::Table,
        tests::{attempt, config, name},
    },
    tasks::Tasks,
};

const BEGAN_MS: u64 = 1_700_000_000_000;
/// Of each message.
const BODY: usize = 2_000;
/// About a quarter of what [`Fixture::fill`] makes.
const LIVE: u64 = 60_000;

struct Fixture {
    store: Store,
    clock: Clock,
    rng: StdRng,
    dir: tempfile::TempDir,
}

fn open(dir: &tempfile::TempDir, clock: &Clock) -> Store {
    Store::open(&config(dir.path()), clock.clone()).unwrap()
}

fn deploy(solution: &str, more: &str) -> Deploy {
    let manifest = format!(
        "name = \"{solution}\"\nversion = \"1\"\n[[source]]\nname = \"in\"\nkind = \"webhook\"\n\
         [[source]]\nname = \"tick\"\nkind = \"schedule\"\ncron = \"0 * * * * *\"\n{more}"
    );
    let component = Bytes::from_static(b"component");
    let digest = Digest::of(&component);
    Deploy { name: name(solution), manifest, component, digest }
}

fn request() -> Request {
    Request {
        method: "POST".into(),
        url: "http://receiver.test/".into(),
        headers: Vec::new(),
        body: Bytes::new(),
        order: None,
    }
}

impl Fixture {
    /// With a solution `a`, number 1.
    async fn new(retention: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(BEGAN_MS);
        let store = open(&dir, &clock);
        let f = Self { store, clock, rng: StdRng::seed_from_u64(7), dir };
        f.submit(deploy("a", retention)).await;
        f
    }

    async fn submit<C: Change>(&self, change: C) -> C::Answer {
        self.store.submit(change).await.unwrap().answer
    }

    fn reopen(self) -> Self {
        let Self { store, clock, rng, dir } = self;
        drop(store);
        Self { store: open(&dir, &clock), clock, rng, dir }
    }

    fn upkeep(&self) -> Upkeep {
        Upkeep::new(Config { live_bytes: LIVE }, self.store.clone(), self.clock.clone())
    }

    fn facts(&self) -> Facts {
        self.upkeep().facts()
    }

    async fn accept(&mut self) -> MessageId {
        self.clock.advance(Duration::from_millis(10));
        let accept = self.new_message();
        self.submit(accept).await
    }

    /// A body that does not shrink, under one of five keys, or none.
    fn new_message(&mut self) -> Accept {
        let mut body = vec![0; BODY];
        self.rng.fill(body.as_mut_slice());
        let number: u8 = self.rng.random_range(0..6);
        let key = (number > 0).then(|| format!("key-{number}"));
        let (source, headers) = (name("in"), Vec::new());
        let content = Content { source, headers, content_type: None, key, body: body.into() };
        Accept { solution: name("a"), content }
    }

    fn ready(&self) -> Vec<(u64, MessageId, u32)> {
        let mut rows = Vec::new();
        let take = |key: &[u8], value: &[u8]| {
            let row = ReadyRow::decode(value)?;
            rows.push((read_ready_key(key).unwrap().1, row.id(), row.attempts));
            Ok(true)
        };
        self.store.read().unwrap().table(Table::Ready).unwrap().scan(&[], take).unwrap();
        rows
    }

    async fn settle_as(&self, id: MessageId, requests: u16, next: Next) {
        let settled = self.settled(id, requests, next);
        self.submit(Settle { solution_no: 1, attempts: vec![settled], breaker: None }).await;
    }

    fn settled(&self, id: MessageId, requests: u16, next: Next) -> Settled {
        let found = self.ready().into_iter().find(|(_, of, _)| *of == id);
        let (ordinal, id, earlier) = found.unwrap();
        let outbox = (0..requests).map(|_| request()).collect();
        let attempt = AttemptRow { outbox: requests, ..attempt() };
        let effects = Effects { outbox, ..Effects::default() };
        Settled { ordinal, id, earlier, attempt, effects, next }
    }

    async fn settle(&self, id: MessageId) {
        self.settle_as(id, 0, Next::Done).await;
    }

    /// Attempts all deliveries of a message.
    async fn deliver(&self, id: MessageId, next: impl Fn(u16) -> DeliverNext) {
        let mut effects = Vec::new();
        let take = |key: &[u8], value: &[u8]| {
            effects.push((OutboxKey::from_bytes(key).unwrap(), OutboxRow::decode(value)?));
            Ok(true)
        };
        self.store.read().unwrap().table(Table::Outbox).unwrap().scan(&[], take).unwrap();
        for (key, row) in effects.into_iter().filter(|(_, row)| row.id() == id) {
            let attempt = DeliveryAttemptRow {
                started_ms: 1,
                duration_us: 2,
                status: Some(200),
                error: None,
                answer: b"ok".to_vec().into(),
            };
            let OutboxRow { method, url, solution_no, .. } = row;
            let next = next(key.index);
            self.submit(Deliver { key, id, solution_no, method, url, attempt, next }).await;
        }
    }

    /// 120 finished messages, each third with a delivery, and among them a few that are not finished.
    async fn fill(&mut self) {
        self.clock.advance(Duration::from_millis(10));
        let mut accepting = JoinSet::new();
        for _ in 0..126 {
            let (store, accept) = (self.store.clone(), self.new_message());
            // Together, so that they share commits.
            accepting.spawn(async move { store.submit(accept).await.unwrap().answer });
        }
        let mut ids = accepting.join_all().await;
        ids.sort_unstable();
        let done = ids.iter().enumerate().filter(|(number, _)| number % 21 != 20);
        let requests = |number| u16::from(number % 3 == 0);
        let attempts = done.map(|(number, id)| self.settled(*id, requests(number), Next::Done));
        let attempts = attempts.collect();
        self.submit(Settle { solution_no: 1, attempts, breaker: None }).await;
        for id in ids.into_iter().step_by(3) {
            self.deliver(id, |_| DeliverNext::Delivered).await;
        }
    }

    /// Everything that can be found, by id.
    fn all(&self) -> BTreeMap<MessageId, Record> {
        let snapshot = self.store.read().unwrap();
        let listed = snapshot.records(&Wanted::default()).unwrap();
        let listed: Vec<_> = listed.map(Result::unwrap).map(|record| record.id).collect();
        assert!(listed.is_sorted_by(|a, b| a > b), "out of order, or one of them twice");
        let found = |id| (id, snapshot.record(id).unwrap().expect("what is listed is found"));
        listed.into_iter().map(found).collect()
    }

    #[track_caller]
    fn has(&self, expected: &BTreeMap<MessageId, Record>) {
        let found = self.all();
        assert!(found == *expected, "{} found of {}", found.len(), expected.len());
        let snapshot = self.store.read().unwrap();
        for number in 1..6 {
            let key = format!("key-{number}");
            let wanted = Wanted { key: Some(&key), ..Wanted::default() };
            let mut listed: Vec<_> =
                snapshot.records(&wanted).unwrap().map(Result::unwrap).collect();
            listed.retain(|record| record.message.key.as_ref() == Some(&key));
            let with = expected.values().rev().filter(|r| r.message.key.as_ref() == Some(&key));
            let listed: Vec<_> = listed.iter().map(|record| record.id).collect();
            assert_eq!(listed, with.map(|record| record.id).collect::<Vec<_>>(), "{key}");
        }
    }

    fn segments(&self) -> Vec<(SegmentKey, SegmentRow)> {
        self.store.read().unwrap().segments().unwrap()
    }

    fn live(&self) -> u64 {
        self.store.read().unwrap().len(Table::Messages).unwrap()
    }

    fn files(&self) -> BTreeSet<PathBuf> {
        let Ok(files) = fs::read_dir(self.dir.path().join("archive")) else {
            return BTreeSet::new();
        };
        files.map(|file| file.unwrap().path()).collect()
    }

    /// Just the files that rows name, and nothing on its way.
    #[track_caller]
    fn is_tidy(&self) {
        assert_eq!(self.store.read().unwrap().len(Table::Sweeps).unwrap(), 0);
        let named = self.segments().into_iter().map(|(key, _)| self.store.archive().place(key));
        assert_eq!(self.files(), named.map(Result::unwrap).collect());
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        tally.look(&self.store.read().unwrap()).unwrap();
        tally
    }

    fn next(&self) -> Packed {
        let next = decide(&self.tally(), &self.facts()).expect("there is more than may stay");
        pack(&self.store, &next).unwrap().expect("it is there")
    }

    async fn seal(&self, packed: &Packed) {
        let ids = packed.messages.iter().map(|(id, _)| id.0).collect();
        self.submit(Seal { key: packed.key, segment: packed.row.clone(), ids }).await;
    }
}

fn finished(tally: &Tally) -> Vec<MessageId> {
    let finished = tally.finished.values().flat_map(|finished| &finished.messages);
    finished.map(|(id, _)| *id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_beyond_the_bound_moves_and_is_found() {
    let mut f = Fixture::new("").await;
    f.fill().await;
    let before = f.all();
    assert_eq!(before.len(), 126);
    let mut upkeep = f.upkeep();
    upkeep.round().await.unwrap();
    assert!(upkeep.tally.bytes() <= LIVE && upkeep.tally.bytes() > LIVE / 2);
    let segments = f.segments();
    assert!(segments.len() > 5, "{}", segments.len());
    let moved: u64 = segments.iter().map(|(_, row)| u64::from(row.messages)).sum();
    assert_eq!(f.live() + moved, 126);
    f.has(&before);
    f.is_tidy();
    let deliveries = f.store.read().unwrap().len(Table::Deliveries).unwrap();
    assert!(deliveries < 20, "deliveries stayed: {deliveries}");
    // What was late moves in its turn.
    for (_, id, _) in f.ready() {
        f.settle(id).await;
    }
    let before = f.all();
    f.fill().await;
    upkeep.round().await.unwrap();
    assert!(before.keys().all(|id| f.all()[id] == before[id]));
    assert_eq!(f.ready().len(), 6);
    f.is_tidy();
    drop(upkeep);
    let f = f.reopen();
    assert_eq!(f.all().len(), 252);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_may_die_between_any_two_steps() {
    for steps in 0..6 {
        let mut f = Fixture::new("").await;
        f.fill().await;
        let before = f.all();
        let packed = f.next();
        let (key, messages) = (packed.key, packed.messages.clone());
        assert!(messages.len() > 5);
        let half = messages.len() / 2;
        if steps >= 1 {
            f.seal(&packed).await;
        }
        if steps >= 2 {
            f.submit(Sweep { messages: messages[..half].to_vec() }).await;
        }
        if steps >= 3 {
            f.submit(Sweep { messages: messages[half..].to_vec() }).await;
        }
        if steps >= 4 {
            f.submit(Swept { key }).await;
        }
        if steps == 5 {
            // Its file was being written.
            fs::write(f.dir.path().join("archive/00000001.new"), b"half").unwrap();
        }
        let f = f.reopen();
        f.has(&before);
        f.upkeep().round().await.unwrap();
        f.has(&before);
        f.is_tidy();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_stops_when_it_is_told_and_goes_on_after_the_next_start() {
    let mut f = Fixture::new("").await;
    f.fill().await;
    let before = f.all();
    for _ in 0..3 {
        let (tasks, patience) = (Tasks::default(), Duration::from_mins(1));
        let (store, clock) = (f.store.clone(), f.clock.clone());
        let config = Config { live_bytes: LIVE };
        tasks.spawn("upkeep", |stop| super::run(config, store, clock, stop));
        tokio::task::yield_now().await;
        let began = Instant::now();
        tasks.stop(patience).await;
        assert!(began.elapsed() < patience, "it had to be aborted");
        f = f.reopen();
        f.has(&before);
    }
    f.upkeep().round().await.unwrap();
    f.has(&before);
    f.is_tidy();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_goes_wherever_it_is_and_what_is_not_finished_stays() {
    let mut f = Fixture::new("[retention]\ntime = \"10m\"\n").await;
    f.fill().await;
    f.upkeep().round().await.unwrap();
    let old: BTreeSet<_> = f.all().into_keys().collect();
    let waiting: BTreeSet<_> = f.ready().into_iter().map(|(_, id, _)| id).collect();
    let (files, segments) = (f.files(), f.segments().len());
    assert!(segments > 3);
    f.clock.advance(Duration::from_mins(9));
    f.upkeep().round().await.unwrap();
    assert_eq!(f.all().len(), 126, "not before its time");
    let young = f.accept().await;
    f.settle(young).await;
    f.clock.advance(Duration::from_mins(2));
    f.upkeep().round().await.unwrap();
    let left: BTreeSet<_> = f.all().into_keys().collect();
    assert!(left.is_subset(&old.union(&[young].into()).copied().collect()));
    assert_eq!(left, waiting.union(&[young].into()).copied().collect());
    assert_eq!(f.segments(), []);
    assert_eq!(f.files(), files, "a reader may still have them");
    f.upkeep().round().await.unwrap();
    assert_eq!(f.files(), BTreeSet::new());
    // What waited that long goes as soon as it is finished.
    for id in waiting {
        f.settle(id).await;
    }
    f.upkeep().round().await.unwrap();
    assert_eq!(f.all().into_keys().collect::<Vec<_>>(), [young]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_segments_go_when_there_are_too_many_bytes() {
    let mut f = Fixture::new("[retention]\nsize = \"1MiB\"\n").await;
    for _ in 0..6 {
        f.fill().await;
        let all = f.all();
        f.upkeep().round().await.unwrap();
        assert_eq!(f.all().len(), all.len(), "what just moved is looked at the next time");
        f.upkeep().round().await.unwrap();
        f.upkeep().round().await.unwrap();
        f.is_tidy();
    }
    let bytes: u64 = f.segments().iter().map(|(_, row)| row.bytes).sum();
    assert!(bytes <= 1 << 20 && bytes > 900 << 10, "{bytes}");
    let left: Vec<_> = f.all().into_keys().collect();
    let waiting: BTreeSet<_> = f.ready().into_iter().map(|(_, id, _)| id).collect();
    let oldest = left.iter().find(|id| !waiting.contains(id)).unwrap();
    assert!(waiting.iter().filter(|id| *id < oldest).count() > 6, "the youngest went");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_no_row_names_are_deleted_and_those_of_others_are_not() {
    let mut f = Fixture::new("").await;
    f.fill().await;
    let (before, packed) = (f.all(), f.next());
    let folder = f.dir.path().join("archive");
    assert_eq!(f.files(), [f.store.archive().place(packed.key).unwrap()].into());
    let readme = folder.join("README.txt");
    let orphans = [folder.join("00000001-x.new"), folder.join("00000009-y.seg")];
    for path in orphans.iter().chain([&readme]) {
        fs::write(path, b"what?").unwrap();
    }
    f.upkeep().round().await.unwrap();
    assert!(orphans.iter().all(|path| !path.exists()));
    assert!(readme.exists());
    fs::remove_file(readme).unwrap();
    f.has(&before);
    f.is_tidy();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_damaged_file_held_moves_once_more_while_it_is_still_live() {
    for swept in [0, 3] {
        let mut f = Fixture::new("").await;
        f.fill().await;
        let mut before = f.all();
        let packed = f.next();
        f.seal(&packed).await;
        f.submit(Sweep { messages: packed.messages[..swept].to_vec() }).await;
        let path = f.store.archive().place(packed.key).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[100] ^= 1;
        fs::write(&path, bytes).unwrap();
        let f = f.reopen();
        f.upkeep().round().await.unwrap();
        let snapshot = f.store.read().unwrap();
        for (id, _) in &packed.messages[..swept] {
            let told = snapshot.record(*id).unwrap_err().to_string();
            assert!(told.contains("is damaged"), "{told}");
            before.remove(id);
        }
        for (id, record) in &before {
            // A segment that cannot be read, and overlaps, costs nothing that is elsewhere.
            assert_eq!(snapshot.record(*id).unwrap().as_ref(), Some(record));
        }
        if swept == 0 {
            f.has(&before);
            f.is_tidy();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_finished_is_tallied() {
    let mut f = Fixture::new("").await;
    let mut tally = Tally::default();
    let look = |tally: &mut Tally, f: &Fixture| tally.look(&f.store.read().unwrap()).unwrap();
    let (late, early) = (f.accept().await, f.accept().await);
    f.settle(early).await;
    look(&mut tally, &f);
    assert_eq!(finished(&tally), [early]);
    assert!(tally.bytes() > BODY as u64);
    f.settle_as(late, 0, Next::Dead { reason: "bad".into() }).await;
    look(&mut tally, &f);
    assert_eq!(finished(&tally), [early], "an operator may still try it again");
    f.submit(DiscardMessage { id: late }).await;
    look(&mut tally, &f);
    assert_eq!(finished(&tally), [late, early], "the oldest first");

    let sender = f.accept().await;
    f.settle_as(sender, 3, Next::Done).await;
    look(&mut tally, &f);
    assert_eq!(finished(&tally), [late, early], "no delivery was tried");
    f.deliver(sender, |index| match index {
        0 => DeliverNext::Delivered,
        1 => DeliverNext::Again { due_ms: 1 },
        _ => DeliverNext::Dead { reason: "410".into() },
    })
    .await;
    look(&mut tally, &f);
    f.deliver(sender, |index| match index {
        1 => DeliverNext::Delivered,
        _ => DeliverNext::Dead { reason: "410".into() },
    })
    .await;
    look(&mut tally, &f);
    assert_eq!(finished(&tally), [late, early], "a delivery can be tried again");
    f.submit(DiscardDelivery { id: sender, index: 2 }).await;
    let bytes = tally.bytes();
    look(&mut tally, &f);
    assert_eq!(finished(&tally), [late, early, sender]);
    assert!(tally.bytes() > bytes + BODY as u64 + 90, "deliveries and attempts count");
    assert_eq!(finished(&f.tally()), finished(&tally), "looked at anew it is the same");
    assert_eq!(f.tally().bytes(), tally.bytes());

    // A tick's id has its nominal time, and may lie below what was looked at.
    let content = Content {
        source: name("tick"),
        headers: Vec::new(),
        content_type: None,
        key: None,
        body: Bytes::new(),
    };
    let tick = f.submit(Tick { solution: name("a"), nominal_ms: BEGAN_MS + 1, content }).await;
    f.settle(tick).await;
    look(&mut tally, &f);
    assert_eq!(finished(&f.tally()), [tick, late, early, sender]);
}

/// In an ordered lane, or after a failure, its turn here may come long after it was noted.
#[tokio::test(flavor = "multi_thread")]
async fn an_effect_that_the_other_node_made_is_noted_until_its_turn_has_come() {
    let mut f = Fixture::new("").await;
    let id = f.accept().await;
    f.settle_as(id, 1, Next::Done).await;
    let Request { method, url, .. } = request();
    let row = DeliveryRow { method, url, status: DeliveryStatusRow::Delivered, attempts: vec![] };
    f.submit(Recover { messages: Vec::new(), made: vec![Made { id, index: 0, row }] }).await;
    // Everything that is finished moves.
    let upkeep = || Upkeep::new(Config { live_bytes: 0 }, f.store.clone(), f.clock.clone());
    upkeep().round().await.unwrap();
    let snapshot = f.store.read().unwrap();
    let noted = snapshot.get::<DeliveryRow>(Table::Deliveries, &delivery_key(id, 0)).unwrap();
    assert!(noted.is_some_and(|row| row.status == DeliveryStatusRow::Delivered));
    assert_eq!(f.segments(), []);
    let mut keys = Vec::new();
    let outbox = snapshot.table(Table::Outbox).unwrap();
    let take = |key: &[u8], _: &[u8]| {
        keys.push(OutboxKey::from_bytes(key).unwrap());
        Ok(true)
    };
    outbox.scan(&[], take).unwrap();
    assert_eq!(keys.len(), 1);
    f.submit(CloseDelivery { key: keys[0], solution_no: 1 }).await;
    upkeep().round().await.unwrap();
    assert_eq!(f.segments().len(), 1);
}

/// A tally of messages that were made up: milliseconds after the beginning, and bytes.
fn made_up(messages: &[(u32, u64, u32)]) -> Tally {
    let mut tally = Tally::default();
    for (no, after_ms, bytes) in messages {
        let finished = tally.finished.entry(*no).or_default();
        finished.messages.push_back((MessageId::first_at(BEGAN_MS + after_ms), *bytes));
        finished.bytes += u64::from(*bytes);
    }
    tally
}

fn at(after_ms: &[u64]) -> Vec<MessageId> {
    after_ms.iter().map(|after_ms| MessageId::first_at(BEGAN_MS + after_ms)).collect()
}

#[tokio::test]
async fn the_oldest_of_who_has_most_move() {
    let f = Fixture::new("[retention]\ntime = \"10m\"\n").await;
    f.submit(deploy("b", "")).await;
    let facts = Facts { live_bytes: 1_000, ..f.facts() };
    let decided = |messages: &[(u32, u64, u32)]| {
        decide(&made_up(messages), &facts).map(|m| (m.solution_no, m.ids))
    };
    assert_eq!(decided(&[]), None);
    assert_eq!(decided(&[(1, 0, 500), (2, 1, 500)]), None, "as much may stay");
    assert_eq!(decided(&[(1, 0, 500), (2, 1, 501)]), Some((2, at(&[1]))));
    assert_eq!(decided(&[(1, 0, 5_000)]), Some((1, at(&[0]))), "one that is large, alone");
    // A quarter of what may stay, and the one that goes over it.
    let small: Vec<_> = (0..20).map(|n| (1, n, 100)).collect();
    assert_eq!(decided(&small), Some((1, at(&[0, 1, 2]))));
    // A tenth of the time that they are kept.
    let spread = [(1, 0, 100), (1, 60_000, 50), (1, 60_001, 2_000)];
    assert_eq!(decided(&spread), Some((1, at(&[0, 60_000]))));
    // One that was removed is kept for the usual time.
    assert_eq!(decided(&[(9, 0, 100), (9, 60_001, 2_000)]), Some((9, at(&[0, 60_001]))));
}

#[tokio::test]
async fn whole_segments_expire_by_time_and_by_size() {
    let f = Fixture::new("[retention]\ntime = \"10m\"\nsize = \"2MiB\"\n").await;
    f.submit(deploy("b", "")).await;
    f.submit(Deploy { manifest: "of a later version".into(), ..deploy("c", "") }).await;
    let segment = |no: u32, first: u64, last: u64, kib: u64| {
        let first = MessageId::first_at(BEGAN_MS + first);
        let row = SegmentRow {
            solution: name("a"),
            last: MessageId::first_at(BEGAN_MS + last).0,
            messages: 1,
            bytes: kib << 10,
            content: [0; 32],
        };
        (SegmentKey { solution_no: no, first }, row)
    };
    let left = |segments: &[(SegmentKey, SegmentRow)], after: Duration| {
        let now_ms = BEGAN_MS + u64::try_from(after.as_millis()).unwrap();
        let gone = expired(segments, &Facts { now_ms, ..f.facts() });
        let left = segments.iter().enumerate().filter(|(_, (key, _))| !gone.contains(key));
        left.map(|(place, _)| place).collect::<Vec<_>>()
    };
    let min = 60_000;
    let old = [segment(1, 0, min, 1), segment(1, min, 2 * min, 1), segment(2, 0, min, 1)];
    assert_eq!(left(&old, Duration::from_mins(10)), [0, 1, 2]);
    assert_eq!(left(&old, Duration::from_mins(11)), [0, 1, 2]);
    assert_eq!(left(&old, Duration::from_millis(11 * min + 1)), [1, 2], "its last is too old");
    assert_eq!(left(&old, Duration::from_hours(24 * 30)), [2]);
    assert_eq!(left(&old, Duration::from_hours(24 * 31)), [0; 0]);
    let large = [segment(1, 0, 1, 1024), segment(1, 2, 3, 1024), segment(1, 4, 5, 1024)];
    assert_eq!(left(&large, Duration::ZERO), [1, 2]);
    let later = [segment(1, 0, 1, 2049), segment(2, 0, 1, 9 << 20), segment(3, 0, 1, 9 << 20)];
    assert_eq!(left(&later, Duration::ZERO), [1, 2], "one alone may be too large");
    let ages = Duration::from_hours(24 * 36_500);
    assert_eq!(left(&later, ages), [2], "nobody knows how long they are to be kept");
}

#[tokio::test]
async fn every_message_moves_just_once() {
    let f = Fixture::new("[retention]\ntime = \"10m\"\n").await;
    f.submit(deploy("b", "")).await;
    let facts = Facts { live_bytes: 1_000, ..f.facts() };
    let mut rng = StdRng::seed_from_u64(3);
    for _ in 0..200 {
        let (mut messages, mut after_ms) = (Vec::new(), 0);
        for _ in 0..rng.random_range(0..200) {
            after_ms += rng.random_range(1..20_000);
            messages.push((rng.random_range(0..4), after_ms, rng.random_range(1..400)));
        }
        let mut tally = made_up(&messages);
        let (mut moved, bytes) = (BTreeMap::<u32, Vec<MessageId>>::new(), tally.bytes());
        while let Some(next) = decide(&tally, &facts) {
            assert!(tally.bytes() > facts.live_bytes && !next.ids.is_empty());
            let Move { solution_no, ids } = &next;
            let span = ids.last().unwrap().time_ms() - ids[0].time_ms();
            assert!(span <= if *solution_no == 1 { 60_000 } else { 3 * 24 * 3_600_000 });
            moved.entry(*solution_no).or_default().extend(ids);
            tally.moved(&next);
        }
        assert!(tally.bytes() <= facts.live_bytes && (bytes <= 1_000 || tally.bytes() > 250));
        for (no, finished) in tally.finished {
            moved.entry(no).or_default().extend(finished.messages.iter().map(|(id, _)| *id));
        }
        for (no, ids) in moved {
            let of = messages.iter().filter(|(of, ..)| *of == no).map(|(_, after, _)| *after);
            assert_eq!(ids, at(&of.collect::<Vec<_>>()));
        }
    }
}
