//! What a solution may ask of the host while it handles a message.
//!
//! One method here for each thing that can be asked; the types that go with it are in a file for each interface.

use std::fmt;

use serde::de::DeserializeOwned;

use crate::{
    Level, OutboxError, Publication, PublishError, Request, SettingError, State, log, settings,
};

#[cfg(target_family = "wasm")]
pub(crate) use crate::imports::World;
#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::World;

/// What a solution may ask of the host while it handles a message.
///
/// State, requests and publications are kept if the message's handling succeeds, all in one transaction with its
/// completion; otherwise none of them is. Log lines are kept either way.
///
/// Tests get one from a [`MockContext`](crate::testing::MockContext).
#[derive(Debug)]
pub struct Context {
    pub(crate) world: World,
}

impl Context {
    #[cfg(target_family = "wasm")]
    pub(crate) fn imports() -> Self {
        Self { world: World }
    }

    /// What the solution keeps between messages.
    pub fn state(&self) -> State<'_> {
        State::new(self)
    }

    /// The value an operator has set for this solution, else for all solutions; `None` if neither is set.
    ///
    /// ```
    /// # use tandem_sdk::prelude::*;
    /// # let mock = MockContext::new();
    /// # let ctx = mock.context();
    /// let silent_after_seconds: u64 = ctx.setting("silent_after_seconds")?.unwrap_or(60);
    /// # Ok::<(), Failure>(())
    /// ```
    pub fn setting<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, SettingError> {
        settings::read(name, self.setting_json(name))
    }

    /// The same for a value that has to be there: without it the error says which command sets it.
    ///
    /// ```
    /// # use tandem_sdk::prelude::*;
    /// # let mock = MockContext::new();
    /// # let ctx = mock.context();
    /// let error = ctx.required_setting::<String>("crm_url").unwrap_err();
    /// assert!(error.to_string().contains("tandem settings set crm_url VALUE --solution SOLUTION"));
    /// ```
    pub fn required_setting<T: DeserializeOwned>(&self, name: &str) -> Result<T, SettingError> {
        self.setting(name)?.ok_or_else(|| SettingError::Missing { name: name.to_owned() })
    }

    /// The value as the JSON text it is kept as.
    pub fn setting_json(&self, name: &str) -> Option<String> {
        self.world.setting(name)
    }

    /// Puts a request into the outbox and returns the idempotency key it will carry.
    ///
    /// It is made after this message is done, at least once, always with that key in its `Idempotency-Key` header:
    /// there is no answer to read here. Needs a grant: `outbox = ["https://host[:port]", "setting:NAME"]`.
    /// At most 1000 in one attempt.
    ///
    /// ```
    /// # use tandem_sdk::prelude::*;
    /// # let mock = MockContext::new();
    /// # let ctx = mock.context();
    /// let lead = serde_json::json!({ "email": "ada@example.org" });
    /// let request = Request::post("https://crm.example/leads").json(&lead)?.ordered("crm");
    /// let idempotency_key = ctx.send(request)?;
    /// # Ok::<(), Failure>(())
    /// ```
    pub fn send(&self, request: Request) -> Result<String, OutboxError> {
        self.world.send(request).map_err(OutboxError::from)
    }

    /// Sends a message to a solution's source of kind `message`, once this message is done.
    ///
    /// Needs a grant: `publish = ["solution-name"]`, for oneself too. At most 1000 in one attempt.
    ///
    /// ```
    /// # use tandem_sdk::prelude::*;
    /// # use std::time::Duration;
    /// # let mock = MockContext::new();
    /// # let ctx = mock.context();
    /// let reminder = Publication::to("orders", "reminders").json(&"order-7")?;
    /// ctx.publish(reminder.after(Duration::from_secs(3600)))?;
    /// # Ok::<(), Failure>(())
    /// ```
    pub fn publish(&self, publication: Publication) -> Result<(), PublishError> {
        self.world.publish(publication).map_err(PublishError::from)
    }

    /// Logs a line at level `debug`.
    pub fn debug(&self, line: impl fmt::Display) {
        log::write(&self.world, Level::Debug, &line);
    }

    /// Logs a line at level `info`.
    ///
    /// Lines are kept with the message, whether or not the attempt succeeds. They are cut at 8 KiB, and at 1000 lines
    /// an attempt.
    ///
    /// ```
    /// # use tandem_sdk::prelude::*;
    /// # let mock = MockContext::new();
    /// # let ctx = mock.context();
    /// ctx.info("no lines");
    /// ctx.info(format_args!("{} lines", 3));
    /// ```
    pub fn info(&self, line: impl fmt::Display) {
        log::write(&self.world, Level::Info, &line);
    }

    /// Logs a line at level `warn`.
    pub fn warn(&self, line: impl fmt::Display) {
        log::write(&self.world, Level::Warn, &line);
    }

    /// Logs a line at level `error`.
    pub fn error(&self, line: impl fmt::Display) {
        log::write(&self.world, Level::Error, &line);
    }
}
