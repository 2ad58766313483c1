//! HTTP and TLS: a client that never follows, a server that drains. What is said over them is not known here.

pub mod http_client;
pub mod http_server;
