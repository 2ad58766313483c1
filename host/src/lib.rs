//! A message comes in, is kept, is handled by a solution, and what it asked for goes out.
//!
//! Read in this order. The floors are in `docs/architecture.md`, and a test keeps them.

// The way of a message.
pub mod ingress;
pub mod store;
pub mod dispatch;
pub mod runtime;
pub mod delivery;
pub mod upkeep;
pub mod replication;
pub mod takeover;

// The third of a pair.
pub mod witness;

// The house around it.
pub mod node;
pub mod control;
pub mod cli;

// What everything stands on.
pub mod contract;
pub mod net;
pub mod durability;
pub mod lease;
pub mod machine;
pub mod tasks;
pub mod model;

// What a fuzzer runs; no part of the program.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
