//! HTTP as this house uses it.

pub mod http_client;
pub mod http_server;
pub mod listen_file;
pub mod problem;
