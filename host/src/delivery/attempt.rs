//! One attempt: read the effect, make the request, decide, write down what came of it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    decide::{Decision, decide},
    policy,
    request::build,
};
use crate::{
    contract::{handler::Request, manifest::Delivery},
    model::{
        clock::{Clock, UnixMs},
        limits::ANSWER_BYTES_KEPT,
    },
    net::http_client::{Answer, CallError, Client},
    store::{
        Catalogue, ReadError, Store, SubmitError,
        change::deliver::{Deliver, DeliverNext},
        row::{
            delivery::{DeliveryAttemptRow, DeliveryRow, delivery_key},
            outbox::{OutboxKey, OutboxRow},
        },
        table::Table,
    },
};

/// Before another try when the store could not be read or written.
const PAUSE: Duration = Duration::from_secs(5);

/// What all attempts use.
#[derive(Debug)]
pub(super) struct Shared {
    pub store: Store,
    pub client: Client,
    pub clock: Clock,
    pub catalogue: watch::Receiver<Arc<Catalogue>>,
    /// Told when a request is over, before that is on disk: its place is free for another.
    pub answered: mpsc::Sender<OutboxKey>,
}

/// What the queue is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Delivered, dead or gone.
    Over,
    Again {
        due_ms: UnixMs,
    },
}

#[derive(Debug)]
pub(super) struct Attempt {
    pub key: OutboxKey,
    pub shared: Arc<Shared>,
}

impl Attempt {
    pub async fn make(self) -> (OutboxKey, Next) {
        let key = self.key;
        let next = match self.read() {
            Ok(None) => Next::Over,
            Ok(Some((row, made))) => self.deliver(row, made).await,
            Err(error) => {
                tracing::error!(%error, "an effect cannot be read");
                self.later()
            }
        };
        (key, next)
    }

    /// The effect and how many attempts were made; none if it is gone.
    fn read(&self) -> Result<Option<(OutboxRow, u32)>, ReadError> {
        let snapshot = self.shared.store.read()?;
        let Some(row) = snapshot.get::<OutboxRow>(Table::Outbox, &self.key.to_bytes())? else {
            return Ok(None);
        };
        let key = delivery_key(row.id(), self.key.index);
        let made =
            snapshot.get::<DeliveryRow>(Table::Deliveries, &key)?.map_or(0, |d| d.attempts.len());
        Ok(Some((row, u32::try_from(made).unwrap_or(u32::MAX))))
    }

    async fn deliver(self, row: OutboxRow, made: u32) -> Next {
        let delivery = policy(&self.shared.catalogue.borrow(), &row);
        let id = row.id();
        let headers =
            row.headers.into_iter().map(|(name, value)| (name, value.into_vec())).collect();
        let OutboxRow { solution_no, method, url, body, order, .. } = row;
        let asked = Request { method, url, headers, body, order };

        let started_ms = self.shared.clock.now_ms();
        let began = Instant::now();
        let result = match build(&asked, id, &id.effect_key(self.key.index)) {
            Ok(request) => {
                self.shared.client.request(request, delivery.timeout, ANSWER_BYTES_KEPT).await
            }
            Err(error) => Err(CallError::Unsendable(error.to_string())),
        };
        let attempt = attempt_row(&result, started_ms, began.elapsed());
        // When the stage has gone, nobody needs the place.
        self.shared.answered.send(self.key).await.ok();
        let (next, told) = self.next(&result, made + 1, &delivery);
        let Request { method, url, .. } = asked;
        let change = Deliver { key: self.key, id, solution_no, method, url, attempt, next };
        match self.shared.store.submit(change).await {
            Ok(_) => told,
            Err(SubmitError::Refused(_) | SubmitError::NotPrimary | SubmitError::Closed(_)) => {
                self.later()
            }
        }
    }

    fn next(
        &self,
        result: &Result<Answer, CallError>,
        attempts: u32,
        delivery: &Delivery,
    ) -> (DeliverNext, Next) {
        let now_ms = self.shared.clock.now_ms();
        match decide(result, attempts, delivery, now_ms, rand::random()) {
            Decision::Delivered => (DeliverNext::Delivered, Next::Over),
            Decision::TryAgain { at, .. } => {
                (DeliverNext::Again { due_ms: at }, Next::Again { due_ms: at })
            }
            Decision::DeadLetter { because } => (DeliverNext::Dead { reason: because }, Next::Over),
        }
    }

    fn later(&self) -> Next {
        let pause = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
        Next::Again { due_ms: self.shared.clock.now_ms() + pause }
    }
}

fn attempt_row(
    result: &Result<Answer, CallError>,
    started_ms: UnixMs,
    took: Duration,
) -> DeliveryAttemptRow {
    let duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    match result {
        Ok(answer) => DeliveryAttemptRow {
            started_ms,
            duration_us,
            status: Some(answer.status),
            error: None,
            answer: answer.body_prefix.to_vec().into(),
        },
        Err(error) => DeliveryAttemptRow {
            started_ms,
            duration_us,
            status: None,
            error: Some(error.to_string()),
            answer: Vec::new().into(),
        },
    }
}
