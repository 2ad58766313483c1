//! What `wit/` says, as Rust: made by wasmtime's macro, which type-checks every component against it.

use wasmtime::component::{ComponentType, Lower};

mod generated {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "solution",
        // A store that cannot be read ends the attempt; no guest should go on as if a key were absent.
        imports: { "tandem:solution/state": trappable },
    });
}

pub use self::generated::{
    Solution,
    tandem::{
        self,
        solution::types::{Failure, Header, Reply},
    },
};

/// What `handle` gives back.
pub type Answer = Result<Option<Reply>, Failure>;

/// `message`, borrowed: a body goes into the component's memory without a copy in between.
#[derive(Debug, ComponentType, Lower)]
#[component(record)]
pub struct Message<'a> {
    pub id: &'a str,
    pub source: &'a str,
    #[component(name = "time-ms")]
    pub time_ms: u64,
    pub attempt: u32,
    pub headers: &'a [HeaderRef<'a>],
    #[component(name = "content-type")]
    pub content_type: Option<&'a str>,
    pub key: Option<&'a str>,
    pub body: &'a [u8],
}

/// `header`, borrowed.
#[derive(Debug, ComponentType, Lower)]
#[component(record)]
pub struct HeaderRef<'a> {
    pub name: &'a str,
    pub value: &'a [u8],
}
