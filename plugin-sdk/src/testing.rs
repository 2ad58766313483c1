//! A host for native tests: what a solution asked for, and what is kept of it.
//!
//! The mock keeps the contract's promises (all or nothing, in key order, the limits) and runs no WebAssembly;
//! `tandem test` runs the built component in the real engine. Not there in a component.

use std::{collections::BTreeMap, fmt, sync::atomic::AtomicU64, sync::atomic::Ordering};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Context, Failure, Header, Level, Message, Publication, Reply, Request, Solution};

mod grants;
mod world;
#[cfg(test)]
mod tests;

use world::Attempt;
pub(crate) use world::World;

/// A host in a test: settings and state in, then messages, and what was kept to look at.
///
/// Handling that fails keeps nothing, as in the real host. The contract's limits (length of a key, size of a value,
/// number of requests, …) hold here too, and grants, if they are given.
///
/// ```
/// use tandem_sdk::prelude::*;
///
/// struct Forward;
///
/// impl Solution for Forward {
///     fn handle(message: Message, ctx: &Context) -> Result<Option<Reply>, Failure> {
///         ctx.state().update("n", |n: Option<u64>| n.unwrap_or(0) + 1)?;
///         let url: String = ctx.required_setting("crm_url")?;
///         ctx.send(Request::post(url).body(message.body))?;
///         Ok(None)
///     }
/// }
///
/// let mut mock = MockContext::new();
/// let handled = mock.handle::<Forward>(Message::new("web").with_json(&"ada"));
/// assert!(handled.failure().reason().contains("crm_url"));
/// assert_eq!(mock.state::<u64>("n"), None); // nothing was kept
///
/// let mut mock = MockContext::new()
///     .with_setting("crm_url", "https://crm.example/leads")
///     .with_state("n", &41)
///     .with_outbox_grants(["setting:crm_url"]);
/// let handled = mock.handle::<Forward>(Message::new("web").with_json(&"ada"));
/// assert_eq!(handled.requests, [Request::post("https://crm.example/leads").body("\"ada\"")]);
/// assert_eq!(mock.state::<u64>("n"), Some(42));
/// ```
#[derive(Debug)]
pub struct MockContext {
    ctx: Context,
    requests: Vec<Request>,
    publications: Vec<Publication>,
}

impl Default for MockContext {
    fn default() -> Self {
        Self::new()
    }
}

impl MockContext {
    /// No settings, no state, and every grant.
    pub fn new() -> Self {
        Self {
            ctx: Context { world: World::default() },
            requests: Vec::new(),
            publications: Vec::new(),
        }
    }

    /// Sets a setting.
    #[must_use]
    pub fn with_setting<T: Serialize + ?Sized>(mut self, name: &str, value: &T) -> Self {
        let value = serde_json::to_string(value).expect("a setting that can be written as JSON");
        self.ctx.world.inner().settings.insert(name.to_owned(), value);
        self
    }

    /// Sets the state that earlier messages left under a key.
    #[must_use]
    pub fn with_state<T: Serialize + ?Sized>(self, key: &str, value: &T) -> Self {
        let value = serde_json::to_vec(value).expect("a value that can be written as JSON");
        self.with_state_bytes(key, value)
    }

    /// Sets the state that earlier messages left under a key, as it is.
    #[must_use]
    pub fn with_state_bytes(mut self, key: &str, value: impl Into<Vec<u8>>) -> Self {
        self.ctx.world.inner().state.insert(key.to_owned(), value.into());
        self
    }

    /// Allows requests to these only: `outbox` of `[grants]` in `solution.toml`.
    #[must_use]
    pub fn with_outbox_grants<'a>(mut self, grants: impl IntoIterator<Item = &'a str>) -> Self {
        let grants = grants.into_iter().map(str::to_owned).collect();
        self.ctx.world.inner().outbox_grants = Some(grants);
        self
    }

    /// Allows publications to these only: `publish` of `[grants]` in `solution.toml`.
    #[must_use]
    pub fn with_publish_grants<'a>(mut self, grants: impl IntoIterator<Item = &'a str>) -> Self {
        let grants = grants.into_iter().map(str::to_owned).collect();
        self.ctx.world.inner().publish_grants = Some(grants);
        self
    }

    /// Has a solution handle a message, and keeps what it asked for if it succeeds.
    ///
    /// A panic fails the test; a test that expects one is `#[should_panic]`.
    pub fn handle<S: Solution>(&mut self, message: Message) -> Handled {
        self.ctx.world.begin(&message.id);
        let result = S::handle(message, &self.ctx);
        if let Ok(Some(reply)) = &result {
            world::check_reply(reply);
        }
        let Attempt { writes, requests, publications, log, dropped_lines, .. } =
            self.ctx.world.end();
        let mut handled =
            Handled { result, requests: vec![], publications: vec![], log, dropped_lines };
        if handled.result.is_ok() {
            self.ctx.world.keep(writes);
            self.requests.extend_from_slice(&requests);
            self.publications.extend_from_slice(&publications);
            (handled.requests, handled.publications) = (requests, publications);
        }
        handled
    }

    /// The context itself, to test a function that takes one. What is asked of it here is forgotten when the next
    /// message is handled.
    pub fn context(&self) -> &Context {
        &self.ctx
    }

    /// What is kept under a key. Panics if it is no `T`.
    pub fn state<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let value = self.state_bytes(key)?;
        Some(
            serde_json::from_slice(&value).unwrap_or_else(|error| panic!("state `{key}`: {error}")),
        )
    }

    /// What is kept under a key, as it is.
    pub fn state_bytes(&self, key: &str) -> Option<Vec<u8>> {
        self.all_state().remove(key)
    }

    /// All that is kept.
    pub fn all_state(&self) -> BTreeMap<String, Vec<u8>> {
        self.ctx.world.kept()
    }

    /// Requests of all messages that were handled, in order.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// Publications of all messages that were handled, in order.
    pub fn publications(&self) -> &[Publication] {
        &self.publications
    }
}

/// What handling one message came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handled {
    /// What the solution returned.
    pub result: Result<Option<Reply>, Failure>,
    /// What it put into the outbox; none if it failed.
    pub requests: Vec<Request>,
    /// What it published; none if it failed.
    pub publications: Vec<Publication>,
    /// What it logged, also if it failed.
    pub log: Vec<LogLine>,
    /// Lines beyond the 1000 that are kept.
    pub dropped_lines: usize,
}

impl Handled {
    /// The reply. Panics if handling failed, or there was none.
    #[track_caller]
    pub fn reply(&self) -> &Reply {
        match &self.result {
            Ok(Some(reply)) => reply,
            Ok(None) => panic!("there was no reply"),
            Err(failure) => panic!("handling failed: {failure}"),
        }
    }

    /// The reply's body as JSON. Panics if it is no `T`, too.
    #[track_caller]
    pub fn reply_json<T: DeserializeOwned>(&self) -> T {
        match serde_json::from_slice(&self.reply().body) {
            Ok(value) => value,
            Err(error) => panic!("the reply `{}`: {error}", self.reply_text()),
        }
    }

    /// The reply's body as text.
    #[track_caller]
    pub fn reply_text(&self) -> String {
        String::from_utf8_lossy(&self.reply().body).into_owned()
    }

    /// The failure. Panics if handling succeeded.
    #[track_caller]
    pub fn failure(&self) -> &Failure {
        match &self.result {
            Err(failure) => failure,
            Ok(reply) => panic!("handling succeeded: {reply:?}"),
        }
    }
}

/// One line that was logged, as long as is kept of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// What it says.
    pub text: String,
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        write!(f, "{level}: {}", self.text)
    }
}

/// Making one, in a test.
///
/// ```
/// use tandem_sdk::Message;
///
/// let message = Message::new("orders").with_json(&7).with_header("x-tenant", "acme").with_key("customer-1");
/// assert_eq!((message.attempt, message.header("x-tenant")), (1, Some("acme")));
///
/// let tick = Message::tick("every-minute", 1_767_225_660_000);
/// assert!(tick.body.is_empty());
/// ```
impl Message {
    /// An empty message from a source, with an id of its own, accepted at the beginning of 2026, attempt 1.
    pub fn new(source: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            id: format!("019b76da-a800-7000-8000-{id:012x}"),
            source: source.to_owned(),
            time_ms: 1_767_225_600_000,
            attempt: 1,
            headers: Vec::new(),
            content_type: None,
            key: None,
            body: Vec::new(),
        }
    }

    /// A tick of a schedule, at its nominal time.
    pub fn tick(source: &str, time_ms: u64) -> Self {
        Self::new(source).with_time_ms(time_ms)
    }

    /// Sets the body, and the content type to `application/json`.
    #[must_use]
    pub fn with_json<T: Serialize + ?Sized>(self, value: &T) -> Self {
        let body = serde_json::to_vec(value).expect("a body that can be written as JSON");
        self.with_body("application/json", body)
    }

    /// Sets the body and its content type.
    #[must_use]
    pub fn with_body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.content_type = Some(content_type.to_owned());
        self.body = body.into();
        self
    }

    /// Adds a header. Names are lower case.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Header::new(name, value));
        self
    }

    /// Sets the key.
    #[must_use]
    pub fn with_key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// Sets the Unix time in milliseconds at which it was accepted.
    #[must_use]
    pub fn with_time_ms(mut self, time_ms: u64) -> Self {
        self.time_ms = time_ms;
        self
    }

    /// Sets which attempt this is; 1 is the first.
    #[must_use]
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }
}
