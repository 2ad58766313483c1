//! As many instances at once as the pool has places: whoever comes when too few are left waits.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(super) struct Places {
    all: u32,
    /// Held for a few instructions and never across a wait of another kind.
    free: Mutex<u32>,
    given_back: Condvar,
}

/// Places in the pool for one instance, given back when dropped.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    from: &'a Places,
    count: u32,
}

impl Places {
    pub(super) fn new(count: u32) -> Self {
        Self { all: count, free: Mutex::new(count), given_back: Condvar::new() }
    }

    /// Waits for `count` places, or for all where there are not that many.
    pub(super) fn take(&self, count: u32) -> Taken<'_> {
        let count = count.min(self.all);
        let mut free = self
            .given_back
            .wait_while(self.lock(), |free| *free < count)
            .unwrap_or_else(PoisonError::into_inner);
        *free -= count;
        Taken { from: self, count }
    }

    fn lock(&self) -> MutexGuard<'_, u32> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.from.lock() += self.count;
        // All, because who waits for many must not keep the one signal from who waits for few.
        self.from.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    #[test]
    fn who_comes_late_gets_the_place_that_is_given_back() {
        let places = Places::new(2);
        let first = places.take(1);
        thread::scope(|scope| {
            let (taken, is_taken) = mpsc::channel();
            let places = &places;
            scope.spawn(move || {
                let _both = places.take(5);
                taken.send(()).unwrap();
            });
            assert!(is_taken.try_recv().is_err(), "two in one place");
            drop(first);
            is_taken.recv().unwrap();
        });
        assert_eq!(*places.lock(), 2);
    }
}
