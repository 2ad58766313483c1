//! The keys of a pair: the files that hold them, and how a second node comes to be trusted.
//!
//! The first node invites: it writes down an invitation and shows a code, which holds its address, its fingerprint and a
//! secret. The second dials that address, talks to that key and no other, and shows the secret. Each then has the
//! other's key pinned. `docs/pair-security.md` says what this protects from.

mod code;
mod folder;
mod invitation;
mod join;
mod rotation;

pub use code::{Code, CodeError};
pub use folder::{FolderError, PairFolder, Peer, Shared};
pub use invitation::Invitation;
pub use join::{JoinError, Joined, Refusal, answer_join, join};
pub use rotation::Rotation;
