//! What a component may ask of the host while it handles a message: one file per interface of `wit/`.

mod state;
mod settings;
mod outbox;
mod publish;
mod log;

mod grant;

pub(super) use grant::{line, origin};

use super::{attempt::Attempt, bindings::tandem::solution::types};

/// The interface holds types only.
impl types::Host for Attempt {}
