//! Following: frames come from the node that leads. They go to this disk, and show once they are on both.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{Fatal, Leading, Writer, lock};
use crate::{
    model::position::{Chain, Position},
    store::{
        SubmitError,
        frame::{Frame, FrameError, Op},
        open::read_memory,
        replica::Replica,
        rows::{ApplyError, Rows},
        staging::{Installing, Span},
        table::Table,
    },
};

/// A frame in the journal that is not shown.
#[derive(Debug)]
pub(in crate::store) struct Waiting {
    pub position: Position,
    pub chain: Chain,
    /// The frame before it.
    pub before: Position,
    pub chain_before: Chain,
    pub frame: Bytes,
}

/// Why the store did not do what the pair asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error("{0}")]
    Refused(String),
    /// A newer program made it, and it is of no use here.
    #[error("{0}")]
    Unknown(FrameError),
    /// Nothing more can be kept until the node is started again.
    #[error("{0}")]
    Closed(String),
}

pub(in crate::store) type Then<T> = oneshot::Sender<Result<T, OrderError>>;

/// What the pair asks of the writer, in order with the changes.
pub(in crate::store) enum Order {
    /// To make frames, from now on, in that epoch. Answers where the journal ends.
    Lead { epoch: u64, replica: Option<Arc<dyn Replica>>, then: Then<Position> },
    /// To make none. Answers where the journal ends.
    Follow { then: Then<(Position, Chain)> },
    /// To keep frames that another made, and to show those up to `shown`.
    Take { frames: Vec<(Chain, Bytes)>, shown: u64, then: Then<(Position, Chain)> },
    /// To take the last frame back, which is not shown. Answers what it was.
    Cut { then: Then<Option<Bytes>> },
    /// To have the rows of another node instead of its own, and to tell first what is here.
    Install { parts: mpsc::Receiver<Installing>, spans: oneshot::Sender<Vec<Span>>, then: Then<()> },
}

impl Order {
    pub fn refuse(self, error: SubmitError) {
        let error = OrderError::Closed(error.to_string());
        // Whoever asked may have gone away.
        match self {
            Self::Lead { then, .. } => drop(then.send(Err(error))),
            Self::Follow { then } | Self::Take { then, .. } => drop(then.send(Err(error))),
            Self::Cut { then } => drop(then.send(Err(error))),
            Self::Install { then, .. } => drop(then.send(Err(error))),
        }
    }
}

impl Writer {
    pub(super) async fn obey(&mut self, order: Order) -> Result<(), Fatal> {
        match order {
            Order::Lead { epoch, replica, then } => {
                self.lead(Leading { epoch, replica })?;
                then.send(Ok(self.position)).ok();
            }
            Order::Follow { then } => {
                self.stop_leading(&mut Vec::new());
                then.send(Ok(lock(&self.journal).head())).ok();
            }
            Order::Take { then, .. } if self.leading.is_some() => {
                let why = "this node leads and takes no frames of another";
                then.send(Err(OrderError::Refused(why.to_owned()))).ok();
            }
            Order::Take { frames, shown, then } => {
                match self.take(&frames) {
                    Ok(()) => then.send(Ok(lock(&self.journal).head())).ok(),
                    Err(TakeError::Order(why)) => {
                        then.send(Err(why)).ok();
                        return Ok(());
                    }
                    Err(TakeError::Fatal(error)) => return Err(error),
                };
                self.show_waiting(shown)?;
            }
            Order::Cut { then } if self.leading.is_some() => {
                let why = "this node leads and takes nothing back";
                then.send(Err(OrderError::Refused(why.to_owned()))).ok();
            }
            Order::Cut { then } => {
                let cut = self.waiting.pop_back().map(|last| {
                    lock(&self.journal).cut_last(last.before);
                    self.position = last.before;
                    last.frame
                });
                then.send(Ok(cut)).ok();
            }
            Order::Install { parts, spans, then } => {
                let outcome = self.install(parts, spans).await?;
                then.send(outcome.map_err(OrderError::Refused)).ok();
            }
        }
        Ok(())
    }

    /// What is in the journal was kept for this: it shows before anything new is made, and if the other node counts,
    /// when that has it.
    fn lead(&mut self, leading: Leading) -> Result<(), Fatal> {
        if leading.replica.is_none() {
            self.show_waiting(u64::MAX)?;
        }
        self.reload()?;
        self.leading = Some(leading);
        Ok(())
    }

    /// Reads again what the writer knows beside the rows.
    pub(super) fn reload(&mut self) -> Result<(), Fatal> {
        let (catalogue, queued, undelivered) = read_memory(&self.db, &self.archive)?;
        self.memory.catalogue = catalogue;
        self.memory.queued.set(queued);
        self.memory.undelivered.set(undelivered);
        self.catalogue_moved = true;
        Ok(())
    }

    /// Puts frames into the journal; of those that follow each other all or, if one of them is not right, none.
    fn take(&mut self, frames: &[(Chain, Bytes)]) -> Result<(), TakeError> {
        // The other node may have begun anew, before the end, in the middle of what came together.
        let seq = |(_, frame): &(Chain, Bytes)| {
            Frame::decode(frame).map_or(0, |frame| frame.position.seq)
        };
        frames
            .chunk_by(|one, next| seq(one).checked_add(1) == Some(seq(next)))
            .try_for_each(|run| self.take_run(run))
    }

    fn take_run(&mut self, frames: &[(Chain, Bytes)]) -> Result<(), TakeError> {
        let mut position = self.position;
        let frames = self.new_ones(frames)?;
        let mut chain = lock(&self.journal).head().1;
        for (before, bytes) in frames {
            let frame = Frame::decode(bytes)?;
            let found = frame.position;
            if found.seq != position.seq + 1 || found.epoch < position.epoch {
                return Err(refused(format!("frame {found} came after {position}")));
            }
            if *before != chain {
                let why = format!("frame {found} does not continue frame {position} as it is here");
                return Err(refused(why));
            }
            // What this program does not know it does not keep: it would have to skip it later.
            frame.ops().try_for_each(|op| op.map(drop))?;
            (position, chain) = (found, before.next(bytes));
        }
        for (_, bytes) in frames {
            let Frame { position, version, .. } = Frame::decode(bytes)?;
            let (before, chain_before) = lock(&self.journal).head();
            let chain = self.append(position, bytes).map_err(Fatal::from)?;
            self.frames.keep(version);
            let frame = bytes.clone();
            self.waiting.push_back(Waiting { position, chain, before, chain_before, frame });
        }
        if !frames.is_empty() {
            self.forget_staged()?;
            lock(&self.journal).sync().map_err(Fatal::from)?;
        }
        Ok(())
    }

    /// Without those that are here already: the other node may begin before the end.
    fn new_ones<'f>(
        &self,
        mut frames: &'f [(Chain, Bytes)],
    ) -> Result<&'f [(Chain, Bytes)], TakeError> {
        let journal = lock(&self.journal);
        while let [(_, first), rest @ ..] = frames {
            let Position { seq, .. } = Frame::decode(first)?.position;
            if seq == 0 || seq > self.position.seq {
                break;
            }
            let before = journal.chain_at(seq - 1);
            if before.map(|before| before.next(first)) != journal.chain_at(seq) {
                return Err(refused(format!("frame {seq} is another here")));
            }
            frames = rest;
        }
        Ok(frames)
    }

    /// Shows what waits, up to that frame.
    pub(super) fn show_waiting(&mut self, upto: u64) -> Result<(), Fatal> {
        if self.waiting.front().is_none_or(|first| first.position.seq > upto) {
            return Ok(());
        }
        let db = self.db.clone();
        let txn = db.begin_write()?;
        let mut rows = Rows::open(&txn)?;
        let mut last = lock(&self.journal).head();
        let mut catalogue_moved = false;
        while let Some(first) = self.waiting.pop_front_if(|first| first.position.seq <= upto) {
            let frame = Frame::decode(&first.frame).map_err(ApplyError::from)?;
            catalogue_moved |= frame.ops().any(|op| op.is_ok_and(is_of_the_catalogue));
            rows.gather(frame.ops(), first.frame.len()).map_err(ApplyError::from)?;
            rows.bring_all(&first.frame).map_err(ApplyError::from)?;
            last = (first.position, first.chain);
        }
        if catalogue_moved {
            self.memory.catalogue = Arc::new(rows.catalogue(&[])?);
            self.catalogue_moved = true;
        }
        self.content.add(rows.changed());
        drop(rows);
        self.show(txn, last.0, last.1)
    }
}

fn is_of_the_catalogue(op: Op<'_>) -> bool {
    let (Op::Put { table, .. } | Op::Delete { table, .. }) = op;
    matches!(table, Table::Solutions | Table::Settings)
}

enum TakeError {
    /// The frames are at fault.
    Order(OrderError),
    Fatal(Fatal),
}

fn refused(why: String) -> TakeError {
    TakeError::Order(OrderError::Refused(why))
}

impl From<FrameError> for TakeError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Short => refused(error.to_string()),
            unknown => Self::Order(OrderError::Unknown(unknown)),
        }
    }
}

impl From<Fatal> for TakeError {
    fn from(error: Fatal) -> Self {
        Self::Fatal(error)
    }
}
