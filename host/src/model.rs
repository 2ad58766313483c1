//! The words every floor speaks: names, ids, messages, outcomes, time, limits. No I/O, no async.

pub mod clock;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod limits;
pub mod message;
pub mod name;
pub mod outcome;
pub mod pair;
pub mod position;
