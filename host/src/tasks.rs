//! Every task has a name, is told to stop, and is waited for.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle, time::Instant};

/// The tasks of a node.
#[derive(Debug)]
pub struct Tasks {
    stop: watch::Sender<bool>,
    /// Held for a push.
    running: Mutex<Vec<(&'static str, JoinHandle<()>)>>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self { stop: watch::Sender::new(false), running: Mutex::default() }
    }
}

impl Tasks {
    /// Starts a task. It gets a receiver that turns to true when it should end.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns tasks of a node")]
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: &'static str,
        body: impl FnOnce(watch::Receiver<bool>) -> F,
    ) {
        let handle = tokio::spawn(body(self.stop.subscribe()));
        self.running.lock().unwrap_or_else(PoisonError::into_inner).push((name, handle));
    }

    /// The receiver that tasks get.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Tells all tasks to end and waits for them, at most `patience`.
    pub async fn stop(&self, patience: Duration) {
        self.stop.send_replace(true);
        let until = Instant::now() + patience;
        let running =
            std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        for (name, handle) in running {
            match tokio::time::timeout_at(until, handle).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(name, %error, "a task failed"),
                Err(_) => tracing::warn!(name, "a task did not end in time"),
            }
        }
    }
}
