//! Installing: another node's rows come and, once they are complete and right, are this node's.

use std::time::Duration;

use redb::WriteTransaction;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{CHECKPOINT, Fatal, Writer, lock};
use crate::store::{
    row::{
        Row,
        head::{HEAD_KEY, HeadRow, TAIL_KEY, TailRow},
    },
    staging::{self, Installing, Span, Staging},
    table::NODE,
};

/// What came in a second, or so many parts, is put on disk: a crash takes no more back.
const PARTS: usize = 16;
/// Tables that take each other's place are read once.
const SWAP: Duration = Duration::from_mins(5);

/// What is here of another node's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Staged {
    None,
    /// There may be some.
    Some,
    /// None any more: with those that were here, what came of it was wrong. The next time all come.
    Wrong,
}

impl Writer {
    /// Takes over another node's rows: until they are complete, its own are shown.
    pub(super) async fn install(
        &mut self,
        mut parts: mpsc::Receiver<Installing>,
        spans: oneshot::Sender<Vec<Span>>,
    ) -> Result<Result<(), String>, Fatal> {
        if self.leading.is_some() {
            return Ok(Err("this node leads and takes no rows of another".to_owned()));
        }
        let here = || self.counters.pulse.beat();
        let mut staging = Staging::open(&self.db, self.staged != Staged::Wrong, &here)?;
        self.staged = Staged::Some;
        // If nobody wants to know, nothing will come.
        spans.send(staging.spans()).ok();
        let head = loop {
            let (came, ended) = self.some_parts(&mut parts).await;
            let txn = self.durable()?;
            Staging::make(&txn)?;
            for part in &came {
                if let Err(why) = staging.take(&txn, part)? {
                    txn.abort()?;
                    return Ok(Err(why));
                }
            }
            txn.commit()?;
            let bytes: u64 = came.iter().map(Installing::bytes).sum();
            tracing::debug!(bytes, "more of the other node's rows are on this disk");
            match (came.last(), ended) {
                (Some(Installing::Done(head)), _) => break *head,
                (_, true) => return Ok(Err("the other node's rows broke off".to_owned())),
                (_, false) => {}
            }
        };
        self.counters.pulse.pause(SWAP);
        let content = staging.content();
        if content != head.content {
            self.forget_staged()?;
            self.staged = Staged::Wrong;
            let expected = head.content;
            return Ok(Err(format!("the rows' content hash is {content}, and not {expected}")));
        }
        self.take_place(&head)?;
        Ok(Ok(()))
    }

    /// What comes in a while, and whether that is the end.
    async fn some_parts(
        &mut self,
        parts: &mut mpsc::Receiver<Installing>,
    ) -> (Vec<Installing>, bool) {
        let mut came = Vec::new();
        let mut until = None;
        while came.len() < PARTS && !matches!(came.last(), Some(Installing::Done(_))) {
            self.counters.pulse.beat();
            let next = tokio::time::timeout(CHECKPOINT, parts.recv()).await;
            match next {
                Ok(Some(part)) => came.push(part),
                Ok(None) => return (came, true),
                Err(_) => {}
            }
            let until = *until.get_or_insert_with(|| Instant::now() + CHECKPOINT);
            if Instant::now() >= until && !came.is_empty() {
                break;
            }
        }
        (came, false)
    }

    fn durable(&self) -> Result<WriteTransaction, Fatal> {
        let mut txn = self.db.begin_write()?;
        txn.set_two_phase_commit(true);
        txn.set_quick_repair(true);
        Ok(txn)
    }

    /// The rows that came are this node's, in one transaction.
    fn take_place(&mut self, head: &HeadRow) -> Result<(), Fatal> {
        let txn = self.durable()?;
        Staging::swap(&txn)?;
        {
            let mut node = txn.open_table(NODE)?;
            node.insert(HEAD_KEY, head.encode().as_slice())?;
            // The journal begins anew behind it. What is in its file continues another chain, so it counts for nothing.
            node.insert(TAIL_KEY, TailRow::after(head).encode().as_slice())?;
        }
        txn.commit()?;
        lock(&self.journal).begin_after((head.position, head.chain));
        self.waiting.clear();
        self.staged = Staged::None;
        (self.content, self.position) = (head.content, head.position);
        self.unsettled_bytes = 0;
        self.reload()
    }

    /// Rows of another node that never were complete go: this one makes frames, or takes them, and needs none.
    pub(super) fn forget_staged(&mut self) -> Result<(), Fatal> {
        if self.staged == Staged::Some {
            self.staged = Staged::None;
            let txn = self.durable()?;
            staging::clear(&txn)?;
            txn.commit()?;
        }
        Ok(())
    }
}
