//! As many instances at once as the pool has places: whoever comes when all are taken waits.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(super) struct Places {
    /// Held for a few instructions and never across a wait of another kind.
    free: Mutex<u32>,
    given_back: Condvar,
}

/// A place in the pool, given back when dropped.
#[derive(Debug)]
pub(super) struct Place<'a>(&'a Places);

impl Places {
    pub(super) fn new(count: u32) -> Self {
        Self { free: Mutex::new(count), given_back: Condvar::new() }
    }

    pub(super) fn take(&self) -> Place<'_> {
        let mut free = self
            .given_back
            .wait_while(self.lock(), |free| *free == 0)
            .unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Place(self)
    }

    fn lock(&self) -> MutexGuard<'_, u32> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.lock() += 1;
        self.0.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    #[test]
    fn who_comes_late_gets_the_place_that_is_given_back() {
        let places = Places::new(1);
        let first = places.take();
        thread::scope(|scope| {
            let (taken, is_taken) = mpsc::channel();
            let places = &places;
            scope.spawn(move || {
                let _second = places.take();
                taken.send(()).unwrap();
            });
            assert!(is_taken.try_recv().is_err(), "two in one place");
            drop(first);
            is_taken.recv().unwrap();
        });
        assert_eq!(*places.lock(), 1);
    }
}
