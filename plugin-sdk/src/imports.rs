//! What a context stands on in a component: the host's imports, one line each.
//!
//! Calls are direct, so that a component imports only the interfaces that its code can reach.
//! Natively `testing/world.rs` stands in its place, with the same functions.

use crate::bindings::tandem::solution::{
    log::{self, Level},
    outbox::{self, Request},
    publish::{self, Publication},
    settings,
    state::{self, Entry},
};

#[derive(Debug)]
pub(crate) struct World;

impl World {
    pub(crate) fn state_get(&self, key: &str) -> Result<Option<Vec<u8>>, state::Error> {
        state::get(key)
    }

    pub(crate) fn state_set(&self, key: &str, value: &[u8]) -> Result<(), state::Error> {
        state::set(key, value)
    }

    pub(crate) fn state_delete(&self, key: &str) -> Result<(), state::Error> {
        state::delete(key)
    }

    pub(crate) fn state_list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Entry>, state::Error> {
        state::list(prefix, after, limit)
    }

    pub(crate) fn setting(&self, name: &str) -> Option<String> {
        settings::get(name)
    }

    pub(crate) fn send(&self, request: Request) -> Result<String, outbox::Error> {
        outbox::send(&request)
    }

    pub(crate) fn publish(&self, publication: Publication) -> Result<(), publish::Error> {
        publish::publish(&publication)
    }

    pub(crate) fn log(&self, level: Level, line: &str) {
        log::log(level, line);
    }
}
