//! What an operator should know of the link and what goes over it, for as long as it is so.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// What a notice is about: there is one of each at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// The other node as it introduces itself.
    Other,
    /// What the other node says of this one.
    Refusal,
    /// Frames that came.
    Frames,
    /// Rows that the other node lacks.
    Rows,
}

#[derive(Debug, Default)]
pub struct Notices(Mutex<BTreeMap<About, String>>);

impl Notices {
    pub fn set(&self, about: About, text: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(about, text.to_owned());
    }

    /// It is so no more.
    pub fn clear(&self, about: About) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&about);
    }

    pub fn list(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
