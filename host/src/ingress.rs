//! A message comes in: over HTTP by a web hook, or by the clock as a schedule's tick.

pub mod problem;
pub mod schedule;
pub mod webhook;
mod wait;
