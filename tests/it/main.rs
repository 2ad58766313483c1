//! Whole nodes, driven from outside: one binary, a module per theme.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod archive;
mod back_pressure;
mod command_line;
mod component_refusals;
mod connections;
mod deliveries;
mod demo;
mod effects;
mod intake;
mod kill_under_load;
mod manifest_faults;
mod misbehaviour;
mod new_project;
mod one_message;
mod operating;
mod pair;
mod pairing;
mod publishing;
mod refusals;
mod retries;
mod schedules;
mod store_at_start;
mod tidy;
mod timers;
mod witness;

/// The command under test.
const TANDEM: tandem_tests::Program =
    tandem_tests::Program(env!("CARGO_BIN_EXE_tandem-under-test"));
