//! One who drives a store with every kind of change, one commit after the other, the same for the same seed.

use std::{sync::mpsc, time::Duration};

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::{
    disk::{Disk, Window},
    history::{Attempt, History, Rows},
};
use crate::{
    contract::handler::{Effects, Publication, Request},
    model::{
        clock::Clock,
        message::{Content, Fingerprint, MessageId, OnceKey},
        name::{Digest, Name},
        pair::StoreId,
    },
    store::{
        Change, Store, SubmitError,
        change::{
            accept::{Accept, Tick},
            dead_letter::{DiscardDelivery, DiscardMessage, RetryDelivery, RetryMessage},
            deliver::{Deliver, DeliverNext},
            deploy::{Deploy, Pause, Remove, Rollback},
            due::Due,
            epoch::BeginEpoch,
            intake::{Arrival, Intake},
            once::Once,
            setting::{SetSetting, UnsetSetting},
            settle::{Next, Settle, Settled},
        },
        row::{
            Row,
            breaker::BreakerRow,
            delivery::{DeliveryAttemptRow, read_delivery_key},
            life::{AttemptRow, OutcomeRow},
            outbox::{OutboxKey, OutboxRow},
            ready::{ReadyRow, read_ready_key},
            setting::Scope,
        },
        table::Table,
        tests::name,
    },
};

const SOLUTIONS: [&str; 3] = ["a", "b", "c"];

fn manifest(solution: &str) -> String {
    format!(
        r#"
        name = "{solution}"
        version = "1"
        [[source]]
        name = "in"
        kind = "webhook"
        [[source]]
        name = "tick"
        kind = "schedule"
        cron = "0 * * * * *"
        [[source]]
        name = "again"
        kind = "message"
        [grants]
        publish = ["a", "b", "c", "nobody"]
        [limits]
        queue = 40
        "#
    )
}

pub fn deploy(solution: &str, component: Bytes) -> Deploy {
    let (manifest, digest) = (manifest(solution), Digest::of(&component));
    Deploy { name: name(solution), manifest, component, digest }
}

pub fn accept(solution: &str, body: Bytes) -> Accept {
    Accept { solution: name(solution), content: content("in", body) }
}

fn content(source: &str, body: Bytes) -> Content {
    let headers = vec![("x-kind".to_owned(), b"test".to_vec())];
    Content { source: name(source), headers, content_type: None, key: None, body }
}

fn attempt(outcome: OutcomeRow) -> AttemptRow {
    AttemptRow { outcome, ..crate::store::tests::attempt() }
}

/// Ends an attempt well.
pub fn settle(attempt_of: Attempt, effects: Effects) -> Settle {
    let Attempt { solution_no, ordinal, id, earlier, .. } = attempt_of;
    let outcome = OutcomeRow::Done { reply: None };
    let settled =
        Settled { ordinal, id, earlier, attempt: attempt(outcome), effects, next: Next::Done };
    Settle { solution_no, attempts: vec![settled], breaker: None }
}

pub fn request(body: Bytes) -> Request {
    let url = "http://receiver.test/".to_owned();
    Request { method: "POST".to_owned(), url, headers: Vec::new(), body, order: None }
}

/// What waits for an attempt, first in line first.
pub fn ready(rows: &Rows, seq: u64) -> Vec<Attempt> {
    let rows = rows.iter().filter(|((table, _), _)| *table == Table::Ready);
    rows.map(|((_, key), value)| {
        let (solution_no, ordinal) = read_ready_key(key).unwrap();
        let row = ReadyRow::decode(value).unwrap();
        Attempt { seq, solution_no, ordinal, id: row.id(), earlier: row.attempts }
    })
    .collect()
}

/// The commit that a change is in, and the message it made.
type Answer = Result<(u64, Option<MessageId>), SubmitError>;

/// Drives one store on one disk.
pub struct Driver {
    pub store: Store,
    pub disk: Disk,
    pub clock: Clock,
    pub history: History,
    pub(super) rng: StdRng,
    /// Answers of what was handed over for the commit that is being made up.
    answers: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
}

impl Driver {
    pub fn new(store: Store, disk: Disk, clock: Clock, history: History, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self { store, disk, clock, history, rng, answers: mpsc::channel() }
    }

    /// One commit of whatever `queue` hands over; ids of messages that were accepted.
    ///
    /// The writer is held until all of it waits, so that it is one commit however threads run.
    pub fn commit(
        &mut self,
        queue: impl FnOnce(&mut Self) -> Result<(), SubmitError>,
    ) -> Result<Vec<MessageId>, SubmitError> {
        let (release, held) = mpsc::channel::<()>();
        let answers = self.answers.0.clone();
        let (holds, is_held) = mpsc::channel();
        self.store.submit_blocking(Due { now_ms: 0 }, move |result| {
            holds.send(()).unwrap();
            // Ends when the sender goes.
            held.recv().unwrap_err();
            answers.send(result.map(|kept| (kept.position.seq, None))).unwrap();
        })?;
        // Gone without a word if the store closed before.
        is_held.recv().ok();
        let acked = self.history.head();
        self.disk.set_window(Window { acked, tried: acked + 1 });
        let queued = queue(self);
        drop(release);
        // Told only when all senders are gone: ours stays, theirs go with their answers.
        let mine = std::mem::replace(&mut self.answers, mpsc::channel());
        drop(mine.0);
        let answers: Vec<_> = mine.1.iter().collect();
        queued?;
        let mut accepted = Vec::new();
        for answer in answers {
            match answer {
                Ok((seq, Some(id))) => {
                    self.history.receipts.push((id, seq));
                    accepted.push(id);
                }
                Ok(_) | Err(SubmitError::Refused(_)) => {}
                Err(closed) => return Err(closed),
            }
        }
        self.history.follow(&self.store).map_err(SubmitError::Closed)?;
        let head = self.history.head();
        assert!(head <= acked + 1, "one commit became several: {acked} {head}");
        self.disk.set_window(Window { acked: head, tried: head });
        Ok(accepted)
    }

    pub fn queue<C: Change>(&self, change: C) -> Result<(), SubmitError> {
        let answers = self.answers.0.clone();
        self.store.submit_blocking(change, move |result| {
            answers.send(result.map(|kept| (kept.position.seq, None))).unwrap();
        })
    }

    pub fn queue_new<C: Change<Answer = MessageId>>(&self, change: C) -> Result<(), SubmitError> {
        let answers = self.answers.0.clone();
        self.store.submit_blocking(change, move |result| {
            answers.send(result.map(|kept| (kept.position.seq, Some(kept.answer)))).unwrap();
        })
    }

    pub fn queue_settle(&mut self, of: Attempt, effects: Effects) -> Result<(), SubmitError> {
        self.history.attempts.push(of);
        self.queue(settle(of, effects))
    }

    /// The number that the next commit has.
    pub fn next_seq(&self) -> u64 {
        self.history.head() + 1
    }

    /// One step of the workload: mostly messages and what becomes of them.
    pub fn step(&mut self) -> Result<(), SubmitError> {
        self.clock.advance(Duration::from_millis(self.rng.random_range(0..400)));
        self.commit(|driver| match driver.rng.random_range(0..25) {
            0..=4 => driver.several_accepted(),
            5..=10 => driver.several_settled(),
            11 | 12 => driver.several_delivered(),
            13 => driver.queue(Due { now_ms: driver.clock.now_ms() }),
            14 => driver.operator_on_dead_letters(),
            15 => driver.operator_on_settings(),
            16 => driver.operator_on_solutions(),
            17 => driver.deployed(),
            18 => driver.ticked(),
            19 => driver.taken_in_once(),
            20..=23 => driver.some_archived(),
            _ => {
                driver.several_accepted()?;
                driver.several_settled()?;
                driver.some_archived()?;
                driver.several_delivered()
            }
        })
        .map(drop)
    }

    fn solution(&mut self) -> &'static str {
        SOLUTIONS.choose(&mut self.rng).expect("there are some")
    }

    fn bytes(&mut self) -> Bytes {
        let length = match self.rng.random_range(0..20) {
            0 if self.rng.random_bool(0.5) => self.rng.random_range(60_000..200_000),
            0 => self.rng.random_range(10_000..60_000),
            1..5 => self.rng.random_range(500..5_000),
            _ => self.rng.random_range(0..200),
        };
        let mut bytes = vec![0; length];
        self.rng.fill(bytes.as_mut_slice());
        bytes.into()
    }

    pub fn deploy_all(&mut self) -> Result<(), SubmitError> {
        for solution in SOLUTIONS {
            let component = self.bytes();
            self.commit(|driver| driver.queue(deploy(solution, component)))?;
        }
        Ok(())
    }

    fn several_accepted(&mut self) -> Result<(), SubmitError> {
        for _ in 0..self.rng.random_range(1..5) {
            let (solution, body) = (self.solution(), self.bytes());
            self.queue_new(accept(solution, body))?;
        }
        Ok(())
    }

    /// A batch with a few keys, which come again, also after they were forgotten.
    fn taken_in_once(&mut self) -> Result<(), SubmitError> {
        let solution = name(self.solution());
        let mut arrivals = Vec::new();
        for at in 0..self.rng.random_range(2..5) {
            let key: u8 = self.rng.random_range(0..8);
            let window = Duration::from_millis(self.rng.random_range(500..5_000));
            let (key, fingerprint) = (OnceKey([key; 32]), Fingerprint([key; 16]));
            // The first has none, so that something new is always kept.
            let once = (at > 0).then_some(Once { key, fingerprint, window });
            arrivals.push(Arrival { content: content("in", self.bytes()), once });
        }
        self.queue(Intake { solution, source: name("in"), arrivals })
    }

    fn ticked(&mut self) -> Result<(), SubmitError> {
        let nominal_ms = self.clock.now_ms() / 1000 * 1000;
        let solution = name(self.solution());
        self.queue_new(Tick { solution, nominal_ms, content: content("tick", Bytes::new()) })
    }

    pub(super) fn several_settled(&mut self) -> Result<(), SubmitError> {
        let waiting = ready(&self.history.last().rows, self.next_seq());
        let several = self.rng.random_range(1..5);
        for of in waiting.into_iter().take(several) {
            self.history.attempts.push(of);
            let (outcome, next, effects) = self.outcome();
            let Attempt { solution_no, ordinal, id, earlier, .. } = of;
            let settled =
                Settled { ordinal, id, earlier, attempt: attempt(outcome), effects, next };
            let breaker = self.breaker();
            self.queue(Settle { solution_no, attempts: vec![settled], breaker })?;
        }
        Ok(())
    }

    fn outcome(&mut self) -> (OutcomeRow, Next, Effects) {
        let reason = "the dog ate it".to_owned();
        match self.rng.random_range(0..10) {
            0 | 1 => {
                let due_ms = self.clock.now_ms() + self.rng.random_range(0..1000);
                let outcome = OutcomeRow::Retry { reason, after_ms: None };
                let holds = self.rng.random_bool(0.5);
                let next = if holds { Next::Hold { due_ms } } else { Next::Again { due_ms } };
                (outcome, next, Effects::default())
            }
            2 => {
                let outcome = OutcomeRow::Rejected { reason: reason.clone() };
                (outcome, Next::Dead { reason }, Effects::default())
            }
            _ => (OutcomeRow::Done { reply: None }, Next::Done, self.effects()),
        }
    }

    /// Now and then it opens.
    fn breaker(&mut self) -> Option<BreakerRow> {
        let until_ms = self.clock.now_ms() + 10;
        self.rng.random_ratio(1, 8).then_some(BreakerRow { failures: 20, opened: 1, until_ms })
    }

    fn effects(&mut self) -> Effects {
        let mut effects = Effects::default();
        for _ in 0..self.rng.random_range(0..4) {
            let key = format!("k{}", self.rng.random_range(0..12));
            let value = self.rng.random_ratio(3, 4).then(|| self.bytes());
            effects.state.push((key, value));
        }
        for _ in 0..self.rng.random_range(0..3) {
            let body = self.bytes();
            effects.outbox.push(request(body));
        }
        for _ in 0..self.rng.random_range(0..2) {
            let to = if self.rng.random_ratio(1, 6) { "nobody" } else { self.solution() };
            let delay = Duration::from_millis(self.rng.random_range(0..1000));
            let after = self.rng.random_ratio(1, 2).then_some(delay);
            let content = content("again", self.bytes());
            effects.publish.push(Publication { solution: name(to), content, after });
        }
        effects
    }

    fn several_delivered(&mut self) -> Result<(), SubmitError> {
        let rows = self.history.last().rows.clone();
        let dead = |id, index| rows.contains_key(&dead_key(id, index));
        let waiting: Vec<_> = rows
            .iter()
            .filter(|((table, _), _)| *table == Table::Outbox)
            .map(|((_, key), row)| (OutboxKey::from_bytes(key).unwrap(), row))
            .map(|(key, row)| (key, OutboxRow::decode(row).unwrap()))
            .filter(|(key, row)| !dead(row.id(), key.index))
            .take(self.rng.random_range(1..4))
            .collect();
        for (key, row) in waiting {
            let next = match self.rng.random_range(0..6) {
                0 => DeliverNext::Again { due_ms: self.clock.now_ms() + 10 },
                1 => DeliverNext::Dead { reason: "410 Gone".into() },
                _ => DeliverNext::Delivered,
            };
            let (id, solution_no) = (row.id(), row.solution_no);
            let OutboxRow { method, url, .. } = row;
            let attempt = delivery_attempt();
            self.queue(Deliver { key, id, solution_no, method, url, attempt, next })?;
        }
        Ok(())
    }

    fn operator_on_dead_letters(&mut self) -> Result<(), SubmitError> {
        let rows = &self.history.last().rows;
        let dead = rows.keys().filter(|(table, _)| *table == Table::DeadLetters);
        let dead: Vec<_> = dead.map(|(_, key)| key.clone()).collect();
        let Some(key) = dead.choose(&mut self.rng) else { return self.ticked() };
        let retry = self.rng.random_ratio(2, 3);
        match (<[u8; 16]>::try_from(key.as_slice()), read_delivery_key(key)) {
            (Ok(id), _) if retry => self.queue(RetryMessage { id: MessageId(id) }),
            (Ok(id), _) => self.queue(DiscardMessage { id: MessageId(id) }),
            (_, Some((id, index))) if retry => self.queue(RetryDelivery { id, index }),
            (_, Some((id, index))) => self.queue(DiscardDelivery { id, index }),
            (_, None) => panic!("{key:?} is no key of a dead letter"),
        }
    }

    fn operator_on_settings(&mut self) -> Result<(), SubmitError> {
        let scope = match self.rng.random_range(0..2) {
            0 => Scope::Global,
            _ => Scope::Solution(name(self.solution())),
        };
        let name = name(&format!("s{}", self.rng.random_range(0..3)));
        if self.rng.random_ratio(1, 3) {
            return self.queue(UnsetSetting { scope, name });
        }
        if self.rng.random_ratio(1, 4) {
            return self.queue(BeginEpoch { owner: StoreId::default() });
        }
        let json = self.rng.random_range(0..1_000_000).to_string();
        self.queue(SetSetting { scope, name, json })
    }

    fn operator_on_solutions(&mut self) -> Result<(), SubmitError> {
        let solution: Name = name(self.solution());
        let reason = self.rng.random_ratio(1, 3).then(|| "repairs".to_owned());
        match self.rng.random_range(0..4) {
            0 => self.queue(Rollback { name: solution, revision: None }),
            1 => self.queue(Pause { name: solution, source: Some(name("in")), reason }),
            2 => self.queue(Pause { name: solution, source: None, reason }),
            _ => self.queue(Remove { name: solution }),
        }
    }

    fn deployed(&mut self) -> Result<(), SubmitError> {
        let (solution, component) = (self.solution(), self.bytes());
        self.queue(deploy(solution, component))
    }
}

fn dead_key(id: MessageId, index: u16) -> (Table, Vec<u8>) {
    (Table::DeadLetters, crate::store::row::delivery::delivery_key(id, index).to_vec())
}

fn delivery_attempt() -> DeliveryAttemptRow {
    DeliveryAttemptRow {
        started_ms: 1,
        duration_us: 2,
        status: Some(200),
        error: None,
        answer: serde_bytes::ByteBuf::from(*b"ok"),
    }
}
