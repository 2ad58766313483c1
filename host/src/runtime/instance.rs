//! Handling one message: a fresh instance, one call, and what came of it.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;
use wasmtime::{
    Store,
    component::{ComponentExportIndex, InstancePre},
};

use super::{
    attempt::Attempt,
    bindings::{Answer, Failure, HeaderRef, Message as MessageParam},
    borrowed_view,
    engine::Engine,
    epoch,
    fault::{self, Circumstances, cut},
    outside::Outside,
    reply,
};
use crate::{
    contract::{
        capability::Grants,
        handler::{Effects, Handled, Handler, Log, View},
        manifest::Limits,
    },
    model::{
        message::{Message, MessageId},
        outcome::Outcome,
    },
};

/// Bytes that one call of the host may make it allocate: a message's effects and the tables around them.
const HOST_CALL_BYTES_MAX: usize = 64 << 20;

/// How long a component may take to start when it is tried at a check.
const TRIAL_TIME: Duration = Duration::from_secs(2);

/// A component that is compiled, checked and linked.
pub(super) struct Ready {
    pub(super) engine: Engine,
    pub(super) linked: Linked,
    pub(super) grants: Arc<Grants>,
    pub(super) limits: Limits,
    /// How many places of the pool an instance takes.
    pub(super) places: u32,
}

#[derive(Clone)]
pub(super) struct Linked {
    pub(super) component: InstancePre<Attempt>,
    pub(super) handle: ComponentExportIndex,
    /// Where it waits, for a component that may wait.
    pub(super) outside: Option<Arc<Outside>>,
}

impl Handler for Ready {
    fn handle(&self, message: &Message, attempt: u32, view: &dyn View) -> Handled {
        let _places = self.engine.places().take(self.places);
        let started = Instant::now();
        let mut store = self.store(message.id, started, self.limits.time);
        let headers = headers(message);
        let id = message.id.to_string();
        let param = param(message, &id, attempt, &headers);
        let ended = borrowed_view::lend(view, || match &self.linked.outside {
            None => self.linked.compute(&mut store, param),
            Some(outside) => self.linked.wait(&mut store, param, outside, self.limits.time),
        });
        self.settle(store, ended, started)
    }

    fn may_wait(&self) -> bool {
        self.linked.outside.is_some()
    }
}

impl Ready {
    fn store(&self, message: MessageId, started: Instant, time: Duration) -> Store<Attempt> {
        let client = self.linked.outside.as_ref().map(|outside| outside.client());
        let attempt = Attempt::new(message, Arc::clone(&self.grants), self.limits.memory, client);
        let mut store = Store::new(self.engine.wasm(), attempt);
        store.limiter(|attempt| &mut attempt.limiter);
        store.set_hostcall_fuel(HOST_CALL_BYTES_MAX);
        epoch::set_deadline(&mut store, started, time);
        store
    }

    /// Starts an instance and drops it, as a check does.
    pub(super) fn try_to_start(&self, view: &dyn View) -> Result<(), String> {
        let _places = self.engine.places().take(self.places);
        let started = Instant::now();
        let mut store = self.store(MessageId([0; 16]), started, TRIAL_TIME);
        let ended = borrowed_view::lend(view, || match &self.linked.outside {
            None => self.linked.component.instantiate(&mut store).map(drop),
            Some(outside) => outside.wait_for(within(TRIAL_TIME, async {
                self.linked.component.instantiate_async(&mut store).await.map(drop)
            })),
        });
        let Err(error) = ended else { return Ok(()) };
        let outcome = self.fault(&error, TRIAL_TIME, &store.into_data());
        Err(outcome.reason().unwrap_or_default())
    }

    fn settle(
        &self,
        store: Store<Attempt>,
        ended: wasmtime::Result<Answer>,
        started: Instant,
    ) -> Handled {
        let attempt = store.into_data();
        let outcome = match ended {
            Ok(answer) => outcome_of(answer),
            Err(error) => self.fault(&error, self.limits.time, &attempt),
        };
        let is_done = matches!(outcome, Outcome::Done { .. });
        Handled {
            log: attempt.lines.take(),
            effects: if is_done { attempt.pending.into_effects() } else { Effects::default() },
            outcome,
            duration: started.elapsed(),
        }
    }

    fn fault(&self, error: &wasmtime::Error, time: Duration, attempt: &Attempt) -> Outcome {
        let look = |log: &Log| {
            let circumstances = Circumstances {
                time,
                memory_bytes: self.limits.memory,
                memory_was_refused: attempt.limiter.was_hit(),
                log,
            };
            fault::outcome(error, &circumstances)
        };
        attempt.lines.look(look)
    }
}

impl Linked {
    fn compute(
        &self,
        store: &mut Store<Attempt>,
        param: MessageParam<'_>,
    ) -> wasmtime::Result<Answer> {
        let instance = self.component.instantiate(&mut *store)?;
        let handle =
            instance.get_typed_func::<(MessageParam<'_>,), (Answer,)>(&mut *store, &self.handle)?;
        let (answer,) = handle.call(&mut *store, (param,))?;
        Ok(answer)
    }

    fn wait(
        &self,
        store: &mut Store<Attempt>,
        param: MessageParam<'_>,
        outside: &Outside,
        time: Duration,
    ) -> wasmtime::Result<Answer> {
        outside.wait_for(within(time, async {
            let instance = self.component.instantiate_async(&mut *store).await?;
            let handle = instance
                .get_typed_func::<(MessageParam<'_>,), (Answer,)>(&mut *store, &self.handle)?;
            let (answer,) = handle.call_async(&mut *store, (param,)).await?;
            Ok(answer)
        }))
    }
}

/// Code that runs is interrupted by its epoch; this ends what waits.
async fn within<T>(
    time: Duration,
    attempt: impl Future<Output = wasmtime::Result<T>>,
) -> wasmtime::Result<T> {
    match tokio::time::timeout(time, attempt).await {
        Ok(ended) => ended,
        Err(_) => Err(wasmtime::Trap::Interrupt.into()),
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready")
            .field("grants", &self.grants)
            .field("limits", &self.limits)
            .field("may_wait", &self.linked.outside.is_some())
            .finish_non_exhaustive()
    }
}

fn headers(message: &Message) -> Vec<HeaderRef<'_>> {
    message.content.headers.iter().map(|(name, value)| HeaderRef { name, value }).collect()
}

fn param<'a>(
    message: &'a Message,
    id: &'a str,
    attempt: u32,
    headers: &'a [HeaderRef<'a>],
) -> MessageParam<'a> {
    let content = &message.content;
    MessageParam {
        id,
        source: content.source.as_str(),
        time_ms: message.time_ms,
        attempt,
        headers,
        content_type: content.content_type.as_deref(),
        key: content.key.as_deref(),
        body: &content.body,
    }
}

fn outcome_of(answer: Answer) -> Outcome {
    match answer {
        Ok(None) => Outcome::Done { reply: None },
        Ok(Some(given)) => match reply::accept(given) {
            Ok(reply) => Outcome::Done { reply: Some(reply) },
            Err(fault) => Outcome::Trapped {
                reason: format!("its reply breaks the contract: {fault}"),
                backtrace: Vec::new(),
            },
        },
        Err(Failure::Retry(retry)) => Outcome::Retry {
            reason: cut(retry.reason),
            after: retry.after_ms.map(Duration::from_millis),
        },
        Err(Failure::Reject(reason)) => Outcome::Rejected { reason: cut(reason) },
        Err(Failure::Other(reason)) => Outcome::Failed { reason: cut(reason) },
    }
}
