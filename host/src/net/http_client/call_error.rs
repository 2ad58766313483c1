//! Why a request has no answer.

use std::{error::Error, io, time::Duration};

use hyper_util::client::legacy;

/// Told apart by what an operator would look at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("the server refuses connections: {0}")]
    Refused(String),
    #[error("the server's name cannot be resolved: {0}")]
    Dns(String),
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    #[error("no secure connection: {0}")]
    Tls(String),
    #[error(
        "no secure connection: this machine has no root certificates to check the server's with: {0}"
    )]
    NoRoots(String),
    #[error("no answer within {after:?}")]
    TimedOut { after: Duration },
    /// Whoever asked for it wanted it no more.
    #[error("it was given up before there was a connection")]
    GivenUp,
    #[error("no connection within the connect timeout: {0}")]
    ConnectTimedOut(String),
    #[error("the connection broke off before there was an answer: {0}")]
    BrokenOff(String),
    #[error("the answer is not HTTP: {0}")]
    NotHttp(String),
    /// The request cannot be made at all.
    #[error("the request cannot be made: {0}")]
    Unsendable(String),
}

impl CallError {
    /// Whether another attempt may go better.
    pub fn is_passing(&self) -> bool {
        !matches!(self, Self::Unsendable(_))
    }

    /// Whether the request cannot have come to the server.
    pub fn is_unsent(&self) -> bool {
        match self {
            Self::Refused(_)
            | Self::Dns(_)
            | Self::Unreachable(_)
            | Self::Tls(_)
            | Self::NoRoots(_)
            | Self::GivenUp
            | Self::ConnectTimedOut(_)
            | Self::Unsendable(_) => true,
            Self::TimedOut { .. } | Self::BrokenOff(_) | Self::NotHttp(_) => false,
        }
    }

    pub(super) fn of(error: &legacy::Error) -> Self {
        let chain = Causes::of(error);
        let reason = chain.reason();
        if error.is_connect() && chain.any(<dyn Error>::is::<rustls::Error>) {
            return Self::Tls(reason);
        }
        if error.is_connect() {
            // The connector's own type is private; its text is all there is to know it by.
            if chain.any(|cause| cause.to_string() == "dns error") {
                return Self::Dns(reason);
            }
            return match chain.io_kind() {
                Some(io::ErrorKind::ConnectionRefused) => Self::Refused(reason),
                Some(io::ErrorKind::TimedOut) => Self::ConnectTimedOut(reason),
                // During the handshake: where there is none, a connection either stands or does not.
                Some(
                    io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe,
                ) => Self::BrokenOff(reason),
                _ => Self::Unreachable(reason),
            };
        }
        match chain.0.iter().find_map(|cause| cause.downcast_ref::<hyper::Error>()) {
            Some(hyper) if hyper.is_parse() => Self::NotHttp(reason),
            Some(hyper) if hyper.is_user() => Self::Unsendable(reason),
            Some(_) => Self::BrokenOff(reason),
            None if chain.io_kind().is_some() => Self::BrokenOff(reason),
            None => Self::Unsendable(reason),
        }
    }
}

/// An error and what caused it, outermost first.
struct Causes<'e>(Vec<&'e (dyn Error + 'static)>);

impl<'e> Causes<'e> {
    fn of(error: &'e (dyn Error + 'static)) -> Self {
        let mut causes = Vec::new();
        let mut next = Some(error);
        while let Some(error) = next {
            causes.push(error);
            // An `io::Error`'s `source` skips the error that it wraps.
            next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        Self(causes)
    }

    fn any(&self, is: impl Fn(&(dyn Error + 'static)) -> bool) -> bool {
        self.0.iter().any(|cause| is(*cause))
    }

    fn io_kind(&self) -> Option<io::ErrorKind> {
        self.0.iter().rev().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind)
    }

    /// The innermost cause knows best.
    fn reason(&self) -> String {
        self.0.last().map(ToString::to_string).unwrap_or_default()
    }
}
