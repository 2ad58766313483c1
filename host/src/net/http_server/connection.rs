//! One connection from its first byte to its end.

use std::{error::Error, pin::pin, time::Duration};

use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::rt::TokioIo;
use tokio::{sync::watch, time::Instant};

use super::{
    Client,
    phase::{Phase, Phases, Watched},
};
use crate::machine::Stream;

pub(super) struct Connection<S> {
    pub(super) stream: Stream,
    pub(super) phases: Phases,
    pub(super) service: S,
    pub(super) http: http1::Builder,
    pub(super) shutdown: watch::Receiver<bool>,
    pub(super) header_timeout: Duration,
    pub(super) idle_timeout: Duration,
}

impl<S, B> Connection<S>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Serves requests until the peer, a time limit or the node ends it.
    pub(super) async fn run(self) {
        let Self { stream, phases, service, http, mut shutdown, header_timeout, idle_timeout } =
            self;
        let guest = phases.clone();
        // One that is gone already has none.
        let client = stream.peer_addr().ok().map(|from| Client(from.ip().to_canonical()));
        let io = TokioIo::new(Watched { stream, phases: phases.clone() });
        let mut limits = Limits::new(phases.clone(), header_timeout, idle_timeout);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let phases = phases.clone();
            phases.set(Phase::Service);
            if let Some(client) = client {
                request.extensions_mut().insert(client);
            }
            let answer = service.call(request);
            async move {
                let answer = answer.await;
                phases.set(Phase::Idle);
                answer
            }
        });
        let mut connection = pin!(http.serve_connection(io, service));
        let mut stop = pin!(shutdown.wait_for(|stop| *stop));
        let mut tick = pin!(tokio::time::sleep(limits.step));
        let mut closing = false;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection broke off");
                    }
                    return;
                }
                () = guest.asked_to_leave(), if !closing => {
                    if guest.is_at_its_first_head() {
                        tracing::debug!("a connection without a request makes room for another");
                        return;
                    }
                    // A request that has come meanwhile is answered first.
                    connection.as_mut().graceful_shutdown();
                    closing = true;
                }
                _ = stop.as_mut(), if !closing => {
                    connection.as_mut().graceful_shutdown();
                    closing = true;
                }
                () = tick.as_mut() => match limits.look() {
                    Verdict::Cut => {
                        tracing::debug!("a request's head took too long: its connection is cut");
                        return;
                    }
                    verdict => {
                        // An answer whose body is still on its way goes on; an idle connection ends here.
                        if verdict == Verdict::Close && !closing {
                            connection.as_mut().graceful_shutdown();
                            closing = true;
                        }
                        tick.as_mut().reset(Instant::now() + limits.step);
                    }
                },
            }
        }
    }
}

/// Counts how long nothing has changed, in steps of half the shorter limit.
struct Limits {
    phases: Phases,
    step: Duration,
    header_steps: u32,
    idle_steps: u32,
    last: u64,
    unchanged: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    /// The connection has been idle for too long.
    Close,
    /// A request's head does not come to its end.
    Cut,
}

impl Limits {
    fn new(phases: Phases, header_timeout: Duration, idle_timeout: Duration) -> Self {
        let step = (header_timeout.min(idle_timeout) / 2).max(Duration::from_millis(1));
        let steps = |timeout: Duration| {
            u32::try_from(timeout.as_nanos().div_ceil(step.as_nanos())).unwrap_or(u32::MAX)
        };
        let last = phases.now().1;
        Self {
            phases,
            step,
            header_steps: steps(header_timeout),
            idle_steps: steps(idle_timeout),
            last,
            unchanged: 0,
        }
    }

    /// To be called after each `step`.
    fn look(&mut self) -> Verdict {
        let (phase, value) = self.phases.now();
        self.unchanged = if value == self.last { self.unchanged + 1 } else { 0 };
        self.last = value;
        match phase {
            Phase::Head if self.unchanged >= self.header_steps => Verdict::Cut,
            Phase::Idle if self.unchanged >= self.idle_steps => Verdict::Close,
            _ => Verdict::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Close, Cut, Keep};
    use super::*;

    #[test]
    fn only_what_does_not_change_runs_out() {
        let phases = Phases::default();
        let mut limits =
            Limits::new(phases.clone(), Duration::from_secs(30), Duration::from_mins(1));
        assert_eq!(limits.step, Duration::from_secs(15));
        let mut looks = |phase: Phase, count: usize| -> Vec<Verdict> {
            phases.set(phase);
            (0..count).map(|_| limits.look()).collect()
        };
        assert_eq!(looks(Phase::Head, 1), [Keep]);
        // The first look after a change starts the count: 30 s are over at the third.
        assert_eq!(looks(Phase::Service, 9), [const { Keep }; 9]);
        assert_eq!(looks(Phase::Head, 3), [Keep, Keep, Cut]);
        assert_eq!(looks(Phase::Idle, 5), [Keep, Keep, Keep, Keep, Close]);
        assert_eq!(looks(Phase::Head, 2), [Keep, Keep]);
        assert_eq!(looks(Phase::Idle, 4), [Keep, Keep, Keep, Keep]);
        assert_eq!(looks(Phase::Head, 3), [Keep, Keep, Cut]);
    }
}
