//! Ctrl-C and SIGTERM, none of them missed from the moment that this exists.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::Failure;

#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub fn new() -> Result<Self, Failure> {
        let take = |kind| {
            signal(kind).map_err(|e| Failure::failed("system", format!("cannot take signals: {e}")))
        };
        Ok(Self {
            interrupt: take(SignalKind::interrupt())?,
            terminate: take(SignalKind::terminate())?,
        })
    }

    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
