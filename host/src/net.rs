//! HTTP as this house uses it, and the link between the nodes of a pair.

pub mod http_client;
pub mod http_server;
pub mod link;
pub mod listen_file;
pub mod problem;

mod accept;
