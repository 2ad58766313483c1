//! The component's one export: the raw call, made into a call of [`Solution::handle`].

use std::marker::PhantomData;

use crate::{
    Solution,
    bindings::{Failure, Guest, Message, Reply},
};

#[derive(Debug)]
pub struct Export<S>(PhantomData<S>);

pub type Handle = fn(Message) -> Result<Option<Reply>, Failure>;

impl<S: Solution> Guest for Export<S> {
    #[cfg(target_family = "wasm")]
    fn handle(message: Message) -> Result<Option<Reply>, Failure> {
        S::handle(message, &crate::Context::imports()).map_err(crate::Failure::into_raw)
    }

    #[cfg(not(target_family = "wasm"))]
    fn handle(_: Message) -> Result<Option<Reply>, Failure> {
        unreachable!("no host calls a native build; tests call `MockContext::handle`")
    }
}
