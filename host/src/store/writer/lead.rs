//! Leading: changes that wait become one frame, which goes to both disks and then shows.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    BYTES_PER_COMMIT, CHANGES_PER_COMMIT, FRAME_BYTES_KEPT, Fatal, Job, Release, RunJob, Sequenced,
    Sequencer, Writer, lock,
};
use crate::{
    model::{
        clock::UnixMs,
        position::{Durability, Position},
    },
    store::{
        SubmitError,
        replica::{Overtaken, Pulse, Replica},
        rows::{ApplyError, Rows},
        writer::follow::Waiting,
    },
};

/// What a writer needs to lead.
pub(super) struct Leading {
    pub epoch: u64,
    /// The other node, if there is a pair.
    pub replica: Option<Arc<dyn Replica>>,
}

impl Writer {
    /// Applies what was gathered and all that wait behind it, and commits them as one frame.
    #[expect(clippy::await_holding_invalid_type, reason = "there is no other writer to keep out")]
    pub(super) async fn commit_waiting(
        &mut self,
        queue: &mut mpsc::Receiver<Job>,
        releases: &mut Vec<Release>,
    ) -> Result<(), Fatal> {
        let Some(epoch) = self.leading.as_ref().map(|leading| leading.epoch) else {
            self.gathered.drain(..).for_each(|job| job.refuse(SubmitError::NotPrimary));
            return Ok(());
        };
        if !self.confirm_waiting(releases).await? {
            return Ok(());
        }
        self.forget_staged()?;
        self.check_disk();
        let now_ms = self.clock.now_ms();
        let position = Position { epoch, seq: self.position.seq + 1 };
        self.frame.begin(self.frames.next(), position, now_ms);
        self.memory.given = 0;

        let db = self.db.clone();
        let txn = db.begin_write()?;
        let mut rows = Rows::open(&txn)?;
        let mut next = self.gathered.pop_front();
        let mut taken = 0;
        while let Some(job) = next {
            self.sequence(job, position, now_ms, &mut rows, releases)?;
            taken += 1;
            let room = taken < CHANGES_PER_COMMIT && self.frame.len() < BYTES_PER_COMMIT;
            next = match self.gathered.pop_front() {
                None if room && self.order.is_none() => self.take_one(queue),
                gathered => gathered,
            };
        }
        if self.frame.is_empty() {
            // Every change was refused or had nothing to do.
            drop(rows);
            txn.abort()?;
            return Ok(());
        }
        let (before, chain_before) = lock(&self.journal).head();
        let replica = self.leading.as_ref().and_then(|leading| leading.replica.clone());
        // The journal knows it before the other node does, whose answer is compared with it.
        let frame = std::mem::take(&mut self.frame);
        let chain = self.append(position, frame.bytes())?;
        self.frame = frame;
        if let Some(replica) = &replica {
            replica.offer(position, Bytes::copy_from_slice(self.frame.bytes()));
        }
        rows.bring_all(self.frame.bytes()).map_err(ApplyError::from)?;
        let changed = rows.changed();
        drop(rows);
        lock(&self.journal).sync()?;
        let Ok(durability) = may_show(replica.as_deref(), position, &self.counters.pulse).await
        else {
            txn.abort()?;
            let frame = Bytes::copy_from_slice(self.frame.bytes());
            self.waiting.push_back(Waiting { position, chain, before, chain_before, frame });
            self.stop_leading(releases);
            return Ok(());
        };
        self.durability = durability;
        self.content.add(changed);
        self.show(txn, position, chain)?;
        if self.frame.len() > FRAME_BYTES_KEPT {
            self.frame.shrink(FRAME_BYTES_KEPT);
        }
        Ok(())
    }

    /// Shows what was in the journal already, when it may; says whether this writer goes on leading.
    async fn confirm_waiting(&mut self, releases: &mut Vec<Release>) -> Result<bool, Fatal> {
        let Some(last) = self.waiting.back().map(|last| last.position) else { return Ok(true) };
        let replica = self.leading.as_ref().and_then(|leading| leading.replica.clone());
        if may_show(replica.as_deref(), last, &self.counters.pulse).await.is_err() {
            self.stop_leading(releases);
            return Ok(false);
        }
        self.show_waiting(u64::MAX)?;
        self.reload()?;
        Ok(true)
    }

    fn take_one(&mut self, queue: &mut mpsc::Receiver<Job>) -> Option<Box<dyn RunJob>> {
        match queue.try_recv().ok()? {
            Job::Change(job) => Some(job),
            Job::Order(order) => {
                self.order = Some(order);
                None
            }
        }
    }

    /// Turns everybody away who waits for what is not shown, and forgets what rested on it.
    pub(super) fn stop_leading(&mut self, releases: &mut Vec<Release>) {
        self.leading = None;
        releases.drain(..).for_each(|release| release(Err(SubmitError::NotPrimary)));
        self.gathered.drain(..).for_each(|job| job.refuse(SubmitError::NotPrimary));
        self.raised = super::Raised::default();
        self.catalogue_moved = false;
        self.changes = 0;
    }

    fn sequence(
        &mut self,
        job: Box<dyn RunJob>,
        position: Position,
        now_ms: UnixMs,
        rows: &mut Rows<'_>,
        releases: &mut Vec<Release>,
    ) -> Result<(), Fatal> {
        let mark = self.frame.mark();
        self.memory.begin_change();
        let mut seq = Sequencer {
            rows,
            frame: &mut self.frame,
            memory: &mut self.memory,
            raised: &mut self.raised,
            position,
            now_ms,
        };
        match job.run(&mut seq)? {
            Sequenced::Kept(release) => releases.push(release),
            Sequenced::Refused(release) => {
                self.frame.back_to(mark);
                releases.push(release);
                return Ok(());
            }
        }
        self.changes += 1;
        rows.gather(self.frame.ops_since(mark), self.frame.len()).map_err(ApplyError::from)?;
        self.memory.take_over_counts();
        if std::mem::take(&mut self.raised.catalogue) {
            self.catalogue_moved = true;
            self.memory.catalogue = Arc::new(rows.catalogue(self.frame.bytes())?);
        }
        Ok(())
    }
}

/// Waits until the frame, which is in the journal, is where it has to be.
async fn may_show(
    replica: Option<&dyn Replica>,
    position: Position,
    pulse: &Pulse,
) -> Result<Durability, Overtaken> {
    match replica {
        None => Ok(Durability::One),
        Some(replica) => {
            pulse.beat();
            replica.wait(position, pulse).await
        }
    }
}
