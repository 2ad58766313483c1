//! Solutions as WebAssembly components: checked, compiled, and run on one message at a time.
//!
//! Nothing of the store is known here: a component sees state through [`View`](crate::contract::handler::View)
//! and what it asks for is handed back as [`Effects`](crate::contract::handler::Effects). Every message gets a
//! fresh instance, so nothing but those effects outlives it.
//!
//! In the order things happen: `component` refuses what cannot run here, `cache` keeps compiled code, `instance`
//! handles a message, `host_call` answers what the component asks meanwhile, `fault` says what it came to.

mod component;
mod component_fault;
mod engine;
mod import;
mod cache;
mod instance;
mod attempt;
mod borrowed_view;
mod pending;
mod host_call;
mod bindings;
mod header;
mod lines;
mod lookup;
mod outside;
mod limiter;
mod epoch;
mod pool;
mod places;
mod fault;
mod reply;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use cache::CacheError;
pub use component::Checked;
pub use component_fault::ComponentFault;
pub use engine::{Config, Engine, EngineError, LoadError};
