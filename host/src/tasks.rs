//! Every task has a name, is told to stop, and is waited for. One that panics is told of.

use std::{
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle, time::Instant};

/// The tasks of a node.
#[derive(Debug)]
pub struct Tasks {
    stop: watch::Sender<bool>,
    panics: Panics,
    /// Held for a push.
    running: Mutex<Vec<(&'static str, JoinHandle<()>)>>,
}

/// The first task that panicked. Clones share it.
#[derive(Debug, Clone)]
pub struct Panics(watch::Sender<Option<&'static str>>);

impl Default for Panics {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Panics {
    /// Resolves with the name of the first task that panicked.
    pub async fn first(&self) -> &'static str {
        let mut first = self.0.subscribe();
        loop {
            if let Some(name) = *first.borrow_and_update() {
                return name;
            }
            first.changed().await.expect("its sender is here");
        }
    }
}

/// Lives as long as its task, and tells if a panic ends that.
struct Watched {
    name: &'static str,
    panics: Panics,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if thread::panicking() {
            let name = self.name;
            self.panics.0.send_if_modified(|first| {
                let is_first = first.is_none();
                first.get_or_insert(name);
                is_first
            });
        }
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::telling(Panics::default())
    }
}

impl Tasks {
    /// Tasks that are stopped by themselves, and whose panics are told where those of others are.
    pub fn telling(panics: Panics) -> Self {
        Self { stop: watch::Sender::new(false), panics, running: Mutex::default() }
    }

    /// Tells of a task that panics.
    pub fn panics(&self) -> Panics {
        self.panics.clone()
    }

    /// Starts a task. It gets a receiver that turns to true when it should end.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns tasks of a node")]
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: &'static str,
        body: impl FnOnce(watch::Receiver<bool>) -> F,
    ) {
        let (watched, body) =
            (Watched { name, panics: self.panics() }, body(self.stop.subscribe()));
        let handle = tokio::spawn(async move {
            let _watched = watched;
            body.await;
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn the_first_task_that_panics_is_told_also_by_tasks_of_their_own() {
        let tasks = Tasks::default();
        let others = Tasks::telling(tasks.panics());
        tasks.spawn("ends", |_| async {});
        others.spawn("panics", |_| async { panic!("on purpose") });
        let panics = tasks.panics();
        assert_eq!(tokio::time::timeout(PATIENCE, panics.first()).await, Ok("panics"));
        tasks.spawn("later", |_| async { panic!("on purpose") });
        tasks.stop(PATIENCE).await;
        assert_eq!(panics.first().await, "panics");
        others.stop(PATIENCE).await;
    }

    #[tokio::test]
    async fn tasks_that_end_or_are_stopped_have_not_panicked() {
        let tasks = Tasks::default();
        tasks.spawn("ends", |_| async {});
        tasks.spawn("stops", |mut stop| async move {
            stop.wait_for(|&stop| stop).await.ok();
        });
        tasks.stop(PATIENCE).await;
        assert_eq!(*tasks.panics().0.borrow(), None);
    }
}
