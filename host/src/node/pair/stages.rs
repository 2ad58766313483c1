//! The stages follow the roles: they run while this node is primary.

use std::{process::Stdio, sync::Arc};

use tokio::{
    process::{Child, Command},
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    dispatch::Dispatch,
    node::{
        config,
        term::{Stages, Term},
    },
    takeover::{self, step::Event},
};

/// What stages are started and stopped with.
pub(super) struct Follower {
    pub config: Arc<config::Pair>,
    pub stages: Stages,
    /// Tells others which dispatch there is.
    pub dispatch: watch::Sender<Option<Arc<Dispatch>>>,
    pub serving: watch::Sender<bool>,
    pub wanted: watch::Receiver<takeover::Stages>,
    pub events: mpsc::Sender<Event>,
}

impl Follower {
    /// Until `stop` says true; then the stages are stopped.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut term: Option<Term> = None;
        // In which epoch this node was primary last, until the operator's program was told that it is no more.
        let mut was_primary = None;
        let mut hooks = JoinSet::new();
        loop {
            let now = *self.wanted.borrow_and_update();
            if let takeover::Stages::On(epoch) = now {
                let term = term.get_or_insert_with(|| self.stages.begin());
                self.dispatch.send_replace(Some(term.dispatch.clone()));
                self.serving.send_replace(true);
                if was_primary.replace(epoch).is_none() {
                    run_hook(&self.config.on_promote, "promote", epoch, &mut hooks);
                }
            } else {
                self.end(term.take()).await;
                if now == takeover::Stages::Draining {
                    self.events.send(Event::Stopped).await.ok();
                } else if let Some(epoch) = was_primary.take() {
                    run_hook(&self.config.on_demote, "demote", epoch, &mut hooks);
                }
            }
            tokio::select! {
                biased;
                _ = stop.wait_for(|&stop| stop) => break,
                changed = self.wanted.changed() => if changed.is_err() { break },
                Some(_) = hooks.join_next() => {}
            }
        }
        self.end(term).await;
    }

    async fn end(&self, term: Option<Term>) {
        self.serving.send_replace(false);
        self.dispatch.send_replace(None);
        if let Some(term) = term {
            term.end().await;
        }
    }
}

/// Runs an operator's program; nothing waits for it.
fn run_hook(command: &[String], what: &'static str, epoch: u64, hooks: &mut JoinSet<()>) {
    let [program, arguments @ ..] = command else { return };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("TANDEM_EVENT", what)
        .env("TANDEM_EPOCH", epoch.to_string())
        .stdin(Stdio::null());
    match command.spawn() {
        Ok(child) => drop(hooks.spawn(see_off(child, program.clone(), what))),
        Err(error) => tracing::error!(program, %error, "on_{what} cannot be run"),
    }
}

async fn see_off(mut child: Child, program: String, what: &'static str) {
    match child.wait().await {
        Ok(status) if status.success() => {}
        Ok(status) => tracing::error!(program, %status, "on_{what} failed"),
        Err(error) => tracing::error!(program, %error, "on_{what} failed"),
    }
}
