//! A message comes in: over HTTP by a web hook, or by the clock as a schedule's tick.

mod arrivals;
mod batch;
mod cloudevents;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod once;
pub mod problem;
mod receipt;
pub mod schedule;
mod signature;
mod wait;
pub mod webhook;
