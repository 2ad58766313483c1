//! Write [Tandem](https://github.com/tandem-server/tandem) solutions in Rust: a trait, one macro, a context.
//!
//! A solution handles one message at a time. What it asks for on the way — state, requests, messages to other
//! solutions — is kept with the message's completion in one transaction, or not at all.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use tandem_sdk::prelude::*;
//!
//! tandem_sdk::solution!(Visits);
//!
//! struct Visits;
//!
//! #[derive(Serialize, Deserialize)]
//! struct Visit {
//!     page: String,
//! }
//!
//! impl Solution for Visits {
//!     fn handle(message: Message, ctx: &Context) -> Result<Option<Reply>, Failure> {
//!         let visit: Visit = message.json()?; // what is no visit is rejected, with the reason
//!         let count = ctx.state().update(&visit.page, |n: Option<u64>| n.unwrap_or(0) + 1)?;
//!         ctx.info(format_args!("{} was seen {count} times", visit.page));
//!         Reply::json(&count).map(Some)
//!     }
//! }
//!
//! // In a test, on your own computer, with `cargo test`:
//! let mut mock = MockContext::new();
//! let handled = mock.handle::<Visits>(Message::new("web").with_json(&Visit { page: "/".into() }));
//! assert_eq!(handled.reply_text(), "1");
//! assert_eq!(mock.state::<u64>("/"), Some(1));
//! ```
//!
//! A solution's crate needs this in its `Cargo.toml`, and `cargo build --release --target wasm32-wasip2` (or
//! `tandem build`) makes the component:
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib", "rlib"] # the component, and what tests link
//!
//! [dependencies]
//! tandem-sdk = "0.1"
//! ```
//!
//! # Where things are
//!
//! | to | use |
//! |---|---|
//! | read the message | [`Message`]: `json`, `form`, `text`, `header` |
//! | answer the sender | [`Reply`] |
//! | say that it went wrong | [`Failure`]: `retry`, `reject`, `other`, or `?` on any error |
//! | keep something between messages | [`State`], from [`Context::state`] |
//! | read what the operator has set | [`Context::setting`], [`Context::required_setting`] |
//! | have an HTTP request made | [`Request`] and [`Context::send`] |
//! | send a message to a solution, now or later | [`Publication`] and [`Context::publish`] |
//! | tell the operator something | [`Context::info`] and its siblings; a panic's text is logged by itself |
//! | test it natively | [`MockContext`](testing::MockContext) |
//!
//! # Unsafe code
//!
//! The only unsafe code is in the bindings that wit-bindgen generates, once, in this crate. [`solution!`] expands to
//! nothing that `#![forbid(unsafe_code)]` refuses.

mod context;
mod failure;
mod log;
mod message;
mod outbox;
mod publish;
mod reply;
mod settings;
mod state;

#[cfg(not(target_family = "wasm"))]
pub mod testing;

/// What [`Context`] stands on in a component: the host's imports.
#[cfg(target_family = "wasm")]
mod imports;

#[doc(hidden)]
pub mod bindings;
#[doc(hidden)]
pub mod export;

#[doc(inline)]
pub use bindings::tandem::solution::{
    log::Level,
    outbox::Request,
    publish::Publication,
    types::{Header, Message, Reply},
};
pub use context::Context;
pub use failure::Failure;
pub use outbox::OutboxError;
pub use publish::PublishError;
pub use settings::SettingError;
pub use state::{State, StateError};

/// What nearly every solution uses, for `use tandem_sdk::prelude::*`.
pub mod prelude {
    #[cfg(not(target_family = "wasm"))]
    pub use crate::testing::MockContext;
    pub use crate::{Context, Failure, Message, Publication, Reply, Request, Solution};
}

/// Handles messages, one at a time.
///
/// An instance lives for one message, so there is no `self`: what must outlive a message goes into
/// [state](Context::state).
pub trait Solution {
    /// Handles one message.
    ///
    /// `Ok` completes it: everything that was asked of `ctx` is kept, and a sender that waits gets the reply
    /// (`None`: an empty answer). `Err` keeps nothing, and says whether to [try again](Failure). A panic keeps nothing
    /// either; the message is tried again by the rules of `[retry]`, as after [`Failure::Other`].
    ///
    /// The same message may be handled more than once (after a crash, or because another one changed what this one had
    /// read); only one run counts.
    fn handle(message: Message, ctx: &Context) -> Result<Option<Reply>, Failure>;
}

/// Makes a type that implements [`Solution`] the one that this crate's component exports. Once per crate.
///
/// ```
/// #![forbid(unsafe_code)]
/// use tandem_sdk::prelude::*;
///
/// tandem_sdk::solution!(Quiet);
///
/// struct Quiet;
///
/// impl Solution for Quiet {
///     fn handle(_: Message, _: &Context) -> Result<Option<Reply>, Failure> {
///         Ok(None)
///     }
/// }
/// ```
#[macro_export]
macro_rules! solution {
    ($solution:ty) => {
        const _: () = {
            type Export = $crate::export::Export<$solution>;
            $crate::__export!(Export);
        };
    };
}

/// Natively there is nothing to export to; the type is checked all the same.
#[doc(hidden)]
#[macro_export]
#[cfg(not(target_family = "wasm"))]
macro_rules! __export {
    ($export:ident) => {
        const _: $crate::export::Handle = <$export as $crate::bindings::Guest>::handle;
    };
}

#[doc(hidden)]
#[macro_export]
#[cfg(target_family = "wasm")]
macro_rules! __export {
    ($export:ident) => {
        $crate::bindings::__export_solution!($export with_types_in $crate::bindings);
    };
}

/// The example in the README compiles too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
