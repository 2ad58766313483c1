//! One attempt: read the effect, make the request, decide, write down what came of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    decide::{Decision, First, decide, first},
    policy,
    request::build,
};
use crate::{
    contract::{
        handler::Request,
        manifest::{Class, Delivery},
    },
    lease::Lease,
    machine,
    model::{
        clock::{Clock, UnixMs},
        limits::ANSWER_BYTES_KEPT,
        message::MessageId,
    },
    net::http_client::{Answer, CallError, Client},
    store::{
        Catalogue, Change, ReadError, Store, SubmitError,
        change::deliver::{BeginDelivery, CloseDelivery, Deliver, DeliverNext},
        row::{
            delivery::{DeliveryAttemptRow, DeliveryRow, DeliveryStatusRow, delivery_key},
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
    /// In a pair: when requests may begin.
    pub lease: Option<Arc<Lease>>,
    /// Told when a request is over, before that is on disk: its place is free for another.
    pub answered: mpsc::Sender<OutboxKey>,
}

impl Shared {
    pub fn may_begin(&self) -> bool {
        self.lease.as_ref().is_none_or(|lease| lease.may_begin())
    }

    /// Nothing is sent when the other node may have begun to repeat it.
    async fn call(
        &self,
        request: hyper::Request<Full<Bytes>>,
        timeout: Duration,
    ) -> Result<Answer, CallError> {
        // Writing the mark has taken its time.
        if !self.may_begin() {
            return Err(CallError::GivenUp);
        }
        let late = async {
            match &self.lease {
                Some(lease) => lease.over().await,
                None => std::future::pending().await,
            }
        };
        self.client.request_before(late, request, timeout, ANSWER_BYTES_KEPT).await
    }

    /// What is told of an attempt that came to nothing by a fault of this node.
    pub fn later(&self) -> Next {
        let pause = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
        Next::Again { due_ms: self.clock.now_ms() + pause }
    }
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

/// What the store says of an effect.
struct Found {
    row: OutboxRow,
    /// Attempts that were made.
    made: u32,
    status: Option<DeliveryStatusRow>,
    /// What was asked for when it was tried last.
    before: Option<(String, String)>,
}

impl Attempt {
    pub async fn make(self) -> Next {
        match self.read() {
            Ok(None) => Next::Over,
            Ok(Some(found)) => self.deliver(found).await,
            Err(error) => {
                tracing::error!(%error, "an effect cannot be read");
                self.shared.later()
            }
        }
    }

    /// None if it is gone.
    fn read(&self) -> Result<Option<Found>, ReadError> {
        let snapshot = self.shared.store.read()?;
        let Some(row) = snapshot.get::<OutboxRow>(Table::Outbox, &self.key.to_bytes())? else {
            return Ok(None);
        };
        let key = delivery_key(row.id(), self.key.index);
        let delivery = snapshot.get::<DeliveryRow>(Table::Deliveries, &key)?;
        let made = delivery.as_ref().map_or(0, |delivery| delivery.attempts.len());
        let made = u32::try_from(made).unwrap_or(u32::MAX);
        let status = delivery.as_ref().map(|delivery| delivery.status);
        let before = delivery.map(|delivery| (delivery.method, delivery.url));
        Ok(Some(Found { row, made, status, before }))
    }

    async fn deliver(self, found: Found) -> Next {
        let Found { row, made, status, before } = found;
        let delivery = policy(&self.shared.catalogue.borrow(), &row);
        let id = row.id();
        let headers =
            row.headers.into_iter().map(|(name, value)| (name, value.into_vec())).collect();
        let OutboxRow { solution_no, method, url, body, order, .. } = row;
        let asked = Request { method, url, headers, body, order };
        let (key, method, url) = (self.key, asked.method.clone(), asked.url.clone());
        // A message that is handled again, on other state, may ask for something else.
        let is_same = before.is_some_and(|(m, u)| m == method && u == url);
        let ended = |attempt, next| Deliver { key, id, solution_no, method, url, attempt, next };
        match first(status, is_same, delivery.class) {
            First::Close => {
                return self.keep(CloseDelivery { key, solution_no }, Next::Over).await;
            }
            First::Leave { begun_ms } => {
                let why = "the node was lost before the answer was written down";
                let attempt = lost_row(begun_ms, why);
                let (next, told) = unknown(delivery.class, id, why);
                return self.keep(ended(attempt, next), told).await;
            }
            First::Make => {}
            First::Mark => {
                let (method, url) = (asked.method.clone(), asked.url.clone());
                let begin = BeginDelivery { key, id, method, url };
                match self.shared.store.submit(begin).await {
                    Ok(kept) if kept.answer => {}
                    Ok(_) => return Next::Over,
                    Err(_) => return self.shared.later(),
                }
            }
        }

        let started_ms = self.shared.clock.now_ms();
        let began = Instant::now();
        let result = match build(&asked, id, &id.effect_key(self.key.index)) {
            Ok(request) => self.shared.call(request, delivery.timeout).await,
            Err(error) => Err(CallError::Unsendable(error.to_string())),
        };
        let attempt = attempt_row(&result, started_ms, began.elapsed());
        // When the stage has gone, nobody needs the place.
        self.shared.answered.send(self.key).await.ok();
        let (next, told) = self.next(&result, id, made + 1, &delivery);
        self.keep(ended(attempt, next), told).await
    }

    async fn keep<C: Change>(&self, change: C, told: Next) -> Next {
        match self.shared.store.submit(change).await {
            Ok(_) => told,
            Err(SubmitError::Refused(_) | SubmitError::NotPrimary | SubmitError::Closed(_)) => {
                self.shared.later()
            }
        }
    }

    fn next(
        &self,
        result: &Result<Answer, CallError>,
        id: MessageId,
        attempts: u32,
        delivery: &Delivery,
    ) -> (DeliverNext, Next) {
        let now_ms = self.shared.clock.now_ms();
        match decide(result, attempts, delivery, now_ms, machine::chance()) {
            Decision::Delivered => (DeliverNext::Delivered, Next::Over),
            Decision::TryAgain { at, .. } => {
                (DeliverNext::Again { due_ms: at }, Next::Again { due_ms: at })
            }
            Decision::DeadLetter { because } => (DeliverNext::Dead { reason: because }, Next::Over),
            Decision::Unknown { because } => unknown(delivery.class, id, &because),
        }
    }
}

/// What becomes of an effect that may have been made and must not be made twice.
fn unknown(class: Class, id: MessageId, because: &str) -> (DeliverNext, Next) {
    tracing::warn!(%id, because, "whether an effect was made is not known; it is not made again");
    let next = if class == Class::Ask {
        let reason = format!(
            "{because}: whether it was done is not known; ask the receiver, then retry or discard it"
        );
        DeliverNext::Dead { reason }
    } else {
        DeliverNext::Unknown
    };
    (next, Next::Over)
}

/// An attempt of which nothing is known but that it began.
fn lost_row(started_ms: UnixMs, why: &str) -> DeliveryAttemptRow {
    DeliveryAttemptRow {
        started_ms,
        duration_us: 0,
        status: None,
        error: Some(why.to_owned()),
        answer: Vec::new().into(),
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
