//! HTTP as this house uses it, the link between the nodes of a pair, and the keys for it.

pub mod http_client;
pub mod http_server;
pub mod keys;
pub mod link;
pub mod listen_file;
pub mod problem;

mod accept;
