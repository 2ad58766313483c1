//! What a solution is to the host: a manifest, and a handler that takes one message and gives back an outcome and effects.
//!
//! Neither the store nor wasmtime is known here.

pub mod capability;
pub mod handler;
pub mod manifest;
pub mod schedule;
pub mod toml_reader;
