//! Two nodes that are one: real processes that are killed, paused, cut off and wiped, while messages come.

mod accept_only;
mod address;
mod bootstrap;
mod crash;
mod drill;
mod in_sync;
mod policies;
mod ready;
mod rotate;
mod silence;
mod strangers;
mod surroundings;
mod versions;
