//! What a solution may reach: its grants, and which import needs which.

use crate::model::name::Name;

/// `[grants]`: nothing unless it is named here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Where outbox requests may go.
    pub outbox: Vec<Target>,
    /// Where `wasi:http` look-ups may go.
    pub http: Vec<Target>,
    /// Which solutions it may publish to.
    pub publish: Vec<Name>,
}

/// A place that requests may go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `https://host[:port]`; `*.` before the host for its subdomains, `:*` for any port.
    Origin { scheme: String, host: HostPattern, port: Port },
    /// `setting:NAME`: the origin of the URL that the operator has set under this name.
    Setting(Name),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    Exactly(String),
    /// Any subdomain of it, at any depth, not the host itself.
    Below(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    Number(u16),
    Any,
}
