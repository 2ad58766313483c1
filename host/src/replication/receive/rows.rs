//! Rows of the primary that this node lacks, on their way into the store.

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{Hearing, made_later};
use crate::{
    replication::{SessionError, quarantine::Extent, wire},
    store::replicate::{Installing, OrderError, Span},
};

/// Parts of rows between the link and the store.
const AHEAD: usize = 2;

/// Rows on their way into the store.
pub(super) struct Install {
    rows: mpsc::Sender<Installing>,
    /// One task.
    done: JoinSet<Result<(), OrderError>>,
}

impl Hearing {
    /// The primary says that rows will come; `common`: the last frame that this node has in common with it.
    pub(super) fn await_rows(&mut self, epoch: u64, diverged: bool, common: u64) {
        // Asked for twice: if all that is here came from the primary, nothing is to be set aside or taken back.
        let diverged = diverged && self.agreed != Some(self.session.store.journal_head());
        // Of another moment than those that may have begun to come.
        (self.install, self.setting_aside) = (None, JoinSet::new());
        self.rows_of = Some((epoch, diverged));
        tracing::info!(
            diverged,
            "the other node's journal does not reach back far enough: taking its rows"
        );
        if diverged && self.session.store.journal_head().0.seq > 0 {
            let quarantine = self.session.quarantine.clone();
            let accepted = self.session.posture.borrow().accepted;
            let extent = if accepted { Extent::Messages } else { Extent::Store };
            self.setting_aside.spawn(quarantine.take(extent, common));
        } else {
            self.install = Some(self.begin_install());
        }
    }

    /// What was here is in the quarantine: the rows may come, if they still are to.
    pub(super) fn begin_after_setting_aside(&mut self) {
        self.install = self.rows_of.map(|_| self.begin_install());
    }

    /// Lets rows come into the store, and says what is there already.
    fn begin_install(&self) -> Install {
        let (rows, parts) = mpsc::channel(AHEAD);
        let (tell, told) = oneshot::channel::<Vec<Span>>();
        let (store, say) = (self.session.store.clone(), self.say.clone());
        let mut done = JoinSet::new();
        done.spawn(async move {
            let say_what_is_here = async {
                let Ok(spans) = told.await else { return };
                let bytes: u64 = spans.iter().map(|span| span.bytes).sum();
                tracing::info!(
                    bytes,
                    "of the other node's rows those come that are not here already"
                );
                if let Ok(holds) = wire::holds(&spans) {
                    say.send(holds).await.ok();
                }
            };
            tokio::join!(store.install(parts, tell), say_what_is_here).0
        });
        Install { rows, done }
    }

    pub(super) async fn take_rows(&mut self, payload: &[u8]) -> Result<(), SessionError> {
        let part = wire::read_rows(payload)?;
        let Some((epoch, diverged)) = self.rows_of else { return Ok(()) };
        if !self.obeys(epoch).await {
            (self.install, self.rows_of) = (None, None);
            return Ok(());
        }
        if let Installing::Done(head) = &part
            && head.position.epoch > epoch
        {
            return Err(made_later(epoch));
        }
        if let Installing::Done(head) = &part
            && !diverged
            && self.session.store.chain_at(head.position.seq) == Some(head.chain)
        {
            // Asked for twice: this node is further by now.
            (self.install, self.rows_of) = (None, None);
            let (position, chain) = self.session.store.journal_head();
            self.has(epoch, position, chain).await;
            return Ok(());
        }
        let is_last = matches!(part, Installing::Done(_));
        let Some(install) = &mut self.install else { return Ok(()) };
        // If it was refused, `done` says why.
        let took = install.rows.send(part).await.is_ok();
        if !is_last && took {
            return Ok(());
        }
        let Install { rows, mut done } = self.install.take().expect("it was looked at right here");
        drop(rows);
        let gone = || OrderError::Closed("the store is closed".to_owned());
        done.join_next().await.and_then(Result::ok).ok_or_else(gone)??;
        let (position, chain) = self.session.store.journal_head();
        self.rows_of = None;
        self.agreed = Some((position, chain));
        self.has(epoch, position, chain).await;
        tracing::info!(%position, "this node has all rows of the other");
        Ok(())
    }
}
