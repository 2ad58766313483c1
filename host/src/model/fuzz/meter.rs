//! How much memory a property holds at once, counted for each thread.

#![expect(unsafe_code, reason = "an allocator cannot be written without it; this one only counts")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// Bytes that may be held for each byte of an input.
pub const PER_BYTE: usize = 512;

#[global_allocator]
static METER: Meter = Meter;

thread_local! {
    /// Bytes that are held, and the most that was. Freed by another thread than took them, they may go below nothing.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// The system's allocator, counted.
struct Meter;

fn count(bytes: isize) {
    // While a thread ends there is nothing to count with.
    let _ = HELD.try_with(|cell| {
        let (held, most) = cell.get();
        cell.set((held + bytes, most.max(held + bytes)));
    });
}

fn bytes(layout: Layout) -> isize {
    isize::try_from(layout.size()).expect("a layout is no larger")
}

// SAFETY: everything is the system allocator's.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(bytes(layout));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(bytes(layout));
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(isize::try_from(size).unwrap_or(isize::MAX) - bytes(layout));
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-bytes(layout));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

/// The most that this thread held at once while it did that, beyond what it held before.
pub fn most_held(run: impl FnOnce()) -> usize {
    let before = HELD.with(|cell| {
        let (held, _) = cell.get();
        cell.set((held, held));
        held
    });
    run();
    let (_, most) = HELD.with(Cell::get);
    usize::try_from(most - before).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::most_held;

    #[test]
    fn what_is_held_is_counted_also_if_it_goes_again() {
        let held = most_held(|| drop(std::hint::black_box(vec![0_u8; 1 << 20])));
        assert!((1 << 20..1 << 21).contains(&held), "{held}");
        let held =
            most_held(|| (0..100).for_each(|_| drop(std::hint::black_box(vec![0_u8; 1000]))));
        assert!(held < 10_000, "{held}");
    }
}
