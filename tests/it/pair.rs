//! Two nodes that are one: real processes that are killed, paused, cut off and wiped, while messages come.

mod crash;
mod in_sync;
mod ready;
mod silence;
mod strangers;
