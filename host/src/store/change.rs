//! What a stage may ask the store to keep: one file per kind of change. Each is all or nothing.

use super::{sequencer::Sequencer, snapshot::ReadError};
use crate::model::{message::MessageId, name::Name};

pub mod accept;
pub mod archive;
pub mod dead_letter;
pub mod deliver;
pub mod deploy;
pub mod due;
pub mod epoch;
pub mod intake;
pub mod once;
pub mod recover;
mod schedules;
pub mod setting;
pub mod settle;

/// Something to be kept.
pub trait Change: Send + 'static {
    /// What the asker learns when it is on disk.
    type Answer: Send + 'static;

    /// Whether somebody waits for it. What nobody waits for may linger a moment, so that it shares its commit with
    /// what comes next.
    const AWAITED: bool = true;

    /// Turns the change into operations on rows, seeing all changes before it. Checks first, writes then.
    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<Self::Answer, ChangeError>;
}

/// Why a change left no operations.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store cannot be read: it will be closed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What the store does not keep, and why. Texts say whose fault it is and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no solution `{0}` is deployed here; `tandem solutions` lists those that are")]
    UnknownSolution(String),
    #[error("solution `{solution}` has no source `{source_name}`{}", kinds(.known))]
    UnknownSource { solution: Name, source_name: String, known: Vec<Name> },
    #[error("source `{source_name}` of solution `{solution}` is a {kind}, not a {wanted}")]
    WrongSourceKind { solution: Name, source_name: Name, kind: &'static str, wanted: &'static str },
    #[error(
        "source `{source_name}` of solution `{solution}` is paused: {reason}; `tandem solutions resume {solution} --source {source_name}` lets it take messages again"
    )]
    SourcePaused { solution: Name, source_name: Name, reason: String },
    #[error(
        "{bound} messages of solution `{solution}` wait already, which is its bound ([limits] queue); send again later"
    )]
    QueueFull { solution: Name, bound: u64 },
    #[error(
        "{}this idempotency key came before, with another body, as message {first}; send the same body again, or another key", place(*.line))]
    KeyReused {
        first: MessageId,
        /// In a batch: which of its messages, from 1.
        line: Option<usize>,
    },
    #[error(
        "messages {earlier} and {line} of the batch have the same key and different bodies; give them different keys"
    )]
    KeyTwice { earlier: usize, line: usize },
    #[error("the disk of this node has only {} MiB left, which are kept for finishing what was accepted; free some space", free_bytes >> 20)]
    DiskFull { free_bytes: u64 },
    #[error("no message {0} is known here")]
    UnknownMessage(MessageId),
    #[error(
        "message {id} has no dead delivery {index}; `tandem messages show {id}` lists its deliveries"
    )]
    UnknownDelivery { id: MessageId, index: u16 },
    #[error("message {0} is not in the dead letters")]
    NotDead(MessageId),
    #[error("solution `{solution}` has no revision {revision}; it has {known:?}")]
    UnknownRevision { solution: Name, revision: u32, known: Vec<u32> },
    #[error("solution `{0}` has no earlier revision to go back to")]
    NothingToRollBackTo(Name),
    #[error(
        "{queued} messages of solution `{solution}` still wait; let them finish, or discard them, then remove it"
    )]
    StillQueued { solution: Name, queued: u64 },
    #[error(
        "{undelivered} requests of solution `{solution}` are not delivered yet, and its manifest says how; wait until they are delivered or dead letters (sooner with a version of fewer `[delivery] attempts`), then remove it"
    )]
    StillUndelivered { solution: Name, undelivered: u64 },
    #[error("no setting `{name}` is set for {scope}; `tandem settings list` shows what is set")]
    UnknownSetting { scope: String, name: Name },
    /// The tick is kept already: nothing to do.
    #[error("this tick was fired before")]
    AlreadyFired,
}

fn place(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!("message {line} of the batch: "))
}

fn kinds(known: &[Name]) -> String {
    match known {
        [] => String::new(),
        known => {
            let names: Vec<_> = known.iter().map(Name::as_str).collect();
            format!("; it has {}", names.join(", "))
        }
    }
}
