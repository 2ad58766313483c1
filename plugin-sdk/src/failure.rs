//! Why a message was not handled, and what becomes of it.

use std::{error::Error, fmt, time::Duration};

#[cfg(any(target_family = "wasm", test))]
use crate::bindings::tandem::solution::types;

/// Why a message was not handled. Nothing that the attempt wrote or asked for is kept, apart from its log lines.
///
/// `?` makes any [`std::error::Error`] an [`Other`](Self::Other) with the error's text and its causes': an error of
/// serde_json, of the standard library, of a crate you use, and of this SDK (a denied grant, a bad state key, a setting
/// that is missing or of another shape). The exceptions are the readers of [`Message`](crate::Message), which
/// [reject](Self::Reject): a body that is not what the solution takes will not be next time either.
///
/// ```
/// use std::time::Duration;
/// use tandem_sdk::Failure;
///
/// fn quantity(text: &str) -> Result<u32, Failure> {
///     let quantity: u32 = text.parse().map_err(Failure::reject)?; // the sender's fault
///     let stock: u32 = std::env::var("STOCK").unwrap_or("9".into()).parse()?; // not the sender's fault
///     if quantity > stock {
///         return Err(Failure::retry(format_args!("{stock} in stock")).after(Duration::from_secs(60)));
///     }
///     Ok(quantity)
/// }
///
/// assert_eq!(quantity("x"), Err(Failure::reject("invalid digit found in string")));
/// assert_eq!(quantity("10").unwrap_err().reason(), "9 in stock");
/// ```
///
/// It is not itself a `std::error::Error`, which is what lets `?` take every error there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A passing fault: this message is tried again, `attempts` times at most.
    Retry {
        /// For the operator; kept up to 16 KiB.
        reason: String,
        /// How long to wait before the next attempt; without it `[retry]` in `solution.toml` decides.
        after: Option<Duration>,
    },
    /// The message itself is wrong: it goes to the dead letters at once, with this reason.
    Reject(String),
    /// Anything else, with this reason: tried again by the rules of `[retry]`.
    Other(String),
}

impl Failure {
    /// A passing fault: try this message again.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self::Retry { reason: reason.to_string(), after: None }
    }

    /// The message itself is wrong; trying again would not help.
    pub fn reject(reason: impl fmt::Display) -> Self {
        Self::Reject(reason.to_string())
    }

    /// Anything else.
    pub fn other(reason: impl fmt::Display) -> Self {
        Self::Other(reason.to_string())
    }

    /// Tries again after this long, in whole milliseconds. Makes a retry of an `Other`; a `Reject` stays one.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        match self {
            Self::Retry { reason, .. } | Self::Other(reason) => {
                Self::Retry { reason, after: Some(wait) }
            }
            Self::Reject(reason) => Self::Reject(reason),
        }
    }

    /// The text that the operator sees.
    pub fn reason(&self) -> &str {
        match self {
            Self::Retry { reason, .. } | Self::Reject(reason) | Self::Other(reason) => reason,
        }
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            reason.push_str(": ");
            reason.push_str(&error.to_string());
            cause = error.source();
        }
        Self::Other(reason)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Retry { .. } => "retry: ",
            Self::Reject(_) => "rejected: ",
            Self::Other(_) => "",
        })?;
        f.write_str(self.reason())
    }
}

// The raw failure is an error, as all that wit-bindgen makes of a `result`'s error; `From` would overlap with the above.
impl Failure {
    #[cfg(any(target_family = "wasm", test))]
    pub(crate) fn into_raw(self) -> types::Failure {
        match self {
            Self::Retry { reason, after } => {
                types::Failure::Retry(types::Retry { reason, after_ms: after.map(milliseconds) })
            }
            Self::Reject(reason) => types::Failure::Reject(reason),
            Self::Other(reason) => types::Failure::Other(reason),
        }
    }
}

/// Half a billion years is long enough to saturate at.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A value of the solution's own could not be written as JSON, e.g. a map whose keys are no strings.
pub(crate) fn unwritable(what: &str, error: &serde_json::Error) -> Failure {
    Failure::other(format_args!("{what} cannot be written as JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_mark_tells_the_causes() {
        #[derive(Debug)]
        struct Outer(std::num::ParseIntError);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("no quantity")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let fails = || -> Result<(), Failure> { Err(Outer("x".parse::<u8>().unwrap_err()))? };
        assert_eq!(fails(), Err(Failure::other("no quantity: invalid digit found in string")));
    }

    #[test]
    fn only_a_reject_never_waits() {
        let wait = Duration::from_millis(1500);
        let retry = Failure::Retry { reason: "busy".into(), after: Some(wait) };
        assert_eq!(Failure::retry("busy").after(wait), retry);
        assert_eq!(Failure::other("busy").after(wait), retry);
        assert_eq!(Failure::reject("bad").after(wait), Failure::reject("bad"));
        assert_eq!(
            retry.into_raw(),
            types::Failure::Retry(types::Retry { reason: "busy".into(), after_ms: Some(1500) })
        );
    }
}
