//! What a solution keeps between messages.

use std::{error::Error, fmt, vec};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Context,
    bindings::tandem::solution::state::{Entry, Error as Raw},
};

/// Entries asked for at a time: with values of ordinary size, few calls and little memory.
const PAGE: u32 = 100;

/// What a solution keeps between messages: key to value, private to the solution.
///
/// Keys are 1 to 512 bytes of UTF-8, values at most 1 MiB, and all that one attempt writes and asks for at most 16 MiB
/// together. An attempt reads what it wrote itself; others see it once this message is done.
///
/// Values are JSON, so that `tandem state get` shows them; the `…_bytes` variants take them as they are.
///
/// ```
/// # use tandem_sdk::prelude::*;
/// # let mock = MockContext::new();
/// # let ctx = mock.context();
/// let state = ctx.state();
/// state.set("total/ada", &12)?;
/// state.update("total/bob", |cents: Option<u64>| cents.unwrap_or(0) + 30)?;
/// assert_eq!(state.get::<u64>("total/bob")?, Some(30));
///
/// let mut sum = 0;
/// for entry in state.list::<u64>("total/") {
///     let (_key, cents) = entry?;
///     sum += cents;
/// }
/// assert_eq!(sum, 42);
///
/// state.delete("total/ada")?;
/// assert_eq!(state.get::<u64>("total/ada")?, None);
/// # Ok::<(), Failure>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct State<'a> {
    ctx: &'a Context,
}

impl<'a> State<'a> {
    pub(crate) fn new(ctx: &'a Context) -> Self {
        Self { ctx }
    }

    /// The value of a key; `None` if there is none.
    pub fn get<T: DeserializeOwned>(self, key: &str) -> Result<Option<T>, StateError> {
        self.get_bytes(key)?.map(|value| parse(key, &value)).transpose()
    }

    /// Sets the value of a key.
    pub fn set<T: Serialize + ?Sized>(self, key: &str, value: &T) -> Result<(), StateError> {
        let value = serde_json::to_vec(value)
            .map_err(|error| StateError::Json { key: key.to_owned(), error })?;
        self.set_bytes(key, &value)
    }

    /// Replaces the value of a key by what `change` makes of it, and returns that.
    pub fn update<T: Serialize + DeserializeOwned>(
        self,
        key: &str,
        change: impl FnOnce(Option<T>) -> T,
    ) -> Result<T, StateError> {
        let value = change(self.get(key)?);
        self.set(key, &value)?;
        Ok(value)
    }

    /// Removes a key; it need not be there.
    pub fn delete(self, key: &str) -> Result<(), StateError> {
        Ok(self.ctx.world.state_delete(key)?)
    }

    /// All entries whose key starts with `prefix`, in key order, fetched a page at a time. An error ends it.
    pub fn list<T: DeserializeOwned>(
        self,
        prefix: &str,
    ) -> impl Iterator<Item = Result<(String, T), StateError>> + 'a {
        self.list_bytes(prefix).map(|entry| {
            let (key, value) = entry?;
            let value = parse(&key, &value)?;
            Ok((key, value))
        })
    }

    /// The value of a key as it is kept.
    pub fn get_bytes(self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.ctx.world.state_get(key)?)
    }

    /// Sets the value of a key as it is.
    pub fn set_bytes(self, key: &str, value: &[u8]) -> Result<(), StateError> {
        Ok(self.ctx.world.state_set(key, value)?)
    }

    /// [`list`](Self::list), with the values as they are kept.
    pub fn list_bytes(
        self,
        prefix: &str,
    ) -> impl Iterator<Item = Result<(String, Vec<u8>), StateError>> + 'a {
        Pages {
            ctx: self.ctx,
            prefix: prefix.to_owned(),
            page: Vec::new().into_iter(),
            last: None,
            ended: false,
        }
    }
}

fn parse<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, StateError> {
    serde_json::from_slice(value).map_err(|error| StateError::Json { key: key.to_owned(), error })
}

/// Entries of one page, and where the next begins.
struct Pages<'a> {
    ctx: &'a Context,
    prefix: String,
    page: vec::IntoIter<Entry>,
    last: Option<String>,
    /// No page follows.
    ended: bool,
}

impl Iterator for Pages<'_> {
    type Item = Result<(String, Vec<u8>), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.len() == 0 && !self.ended {
            match self.ctx.world.state_list(&self.prefix, self.last.as_deref(), PAGE) {
                Ok(page) => {
                    self.ended = page.len() < PAGE as usize;
                    self.last = page.last().map(|entry| entry.key.clone());
                    self.page = page.into_iter();
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error.into()));
                }
            }
        }
        self.page.next().map(|entry| Ok((entry.key, entry.value)))
    }
}

/// Why state could not be read or written.
#[derive(Debug)]
#[non_exhaustive]
pub enum StateError {
    /// Keys are 1 to 512 bytes of UTF-8; the text says what was wrong.
    InvalidKey(String),
    /// A value is at most 1 MiB; this one had so many bytes.
    ValueTooLarge(u64),
    /// All that one attempt writes and asks for is at most 16 MiB together.
    TooMuch(String),
    /// The value is not of the type that was asked for, or cannot be written as JSON.
    Json {
        /// Of which entry.
        key: String,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// Anything else.
    Other(String),
}

impl From<Raw> for StateError {
    fn from(error: Raw) -> Self {
        match error {
            Raw::InvalidKey(reason) => Self::InvalidKey(reason),
            Raw::ValueTooLarge(size) => Self::ValueTooLarge(size),
            Raw::TooMuch(reason) => Self::TooMuch(reason),
            Raw::Other(reason) => Self::Other(reason),
        }
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidKey(reason) => write!(f, "invalid state key: {reason}"),
            Self::ValueTooLarge(size) => {
                write!(f, "a state value of {size} bytes; at most 1 MiB is kept under one key")
            }
            Self::TooMuch(reason) => write!(f, "too much for one message: {reason}"),
            Self::Json { key, error } => write!(f, "state `{key}`: {error}"),
            Self::Other(reason) => write!(f, "state: {reason}"),
        }
    }
}

impl Error for StateError {}
