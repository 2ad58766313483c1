//! Two nodes that are one: real processes that are killed, paused, cut off and wiped, while messages come.

mod address;
mod bootstrap;
mod crash;
mod drill;
mod in_sync;
mod ready;
mod rotate;
mod silence;
mod strangers;
mod versions;
