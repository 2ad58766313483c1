//! How host calls reach the [`View`] of the attempt that runs on this thread.
//!
//! What wasmtime keeps in a store must own all it holds, and a view is only borrowed. An attempt is polled by one
//! thread from its first instruction to its last, so the borrow is left there for as long as the attempt runs.

use std::cell::Cell;

use crate::contract::handler::View;

thread_local! {
    static CURRENT: Cell<Option<&'static dyn View>> = const { Cell::new(None) };
}

/// Puts the former view back, also when a panic passes.
struct Restore(Option<&'static dyn View>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Runs `attempt`, in which [`with`] sees `view`.
pub(super) fn lend<R>(view: &dyn View, attempt: impl FnOnce() -> R) -> R {
    #[expect(unsafe_code, reason = "a thread-local cannot name the lifetime of a borrow")]
    // SAFETY: only the lifetime is changed. The reference is in `CURRENT` alone, on this thread alone, until
    // `Restore` takes it out before this function returns, while `view` is still borrowed. `with` hands it on
    // under a lifetime of its callee's choice, so that it cannot be kept.
    let view = unsafe { std::mem::transmute::<&dyn View, &'static dyn View>(view) };
    let _restore = Restore(CURRENT.replace(Some(view)));
    attempt()
}

/// What the attempt on this thread sees.
///
/// # Panics
/// Outside [`lend`], which no host call ever is.
pub(super) fn with<R>(look: impl for<'a> FnOnce(&'a dyn View) -> R) -> R {
    look(CURRENT.get().expect("host calls happen inside an attempt, on its thread"))
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use bytes::Bytes;

    use super::*;
    use crate::contract::handler::ViewError;

    struct Named(&'static str);

    impl View for Named {
        fn state_get(&self, _key: &str) -> Result<Option<Bytes>, ViewError> {
            Ok(None)
        }

        fn state_list(
            &self,
            _prefix: &str,
            _after: Option<&str>,
            _limit: usize,
        ) -> Result<Vec<(String, Bytes)>, ViewError> {
            Ok(Vec::new())
        }

        fn setting(&self, _name: &str) -> Option<String> {
            Some(self.0.to_owned())
        }
    }

    fn seen() -> Option<String> {
        with(|view| view.setting(""))
    }

    #[test]
    fn the_innermost_view_is_seen_and_none_afterwards() {
        lend(&Named("outer"), || {
            lend(&Named("inner"), || assert_eq!(seen().unwrap(), "inner"));
            assert_eq!(seen().unwrap(), "outer");
            let panicked = catch_unwind(|| lend(&Named("broken"), || panic!("on purpose")));
            assert!(panicked.is_err());
            assert_eq!(seen().unwrap(), "outer");
        });
        assert!(catch_unwind(AssertUnwindSafe(seen)).is_err());
    }
}
