//! What the operating system gives out as chance comes from the seed as well.
//!
//! The order in which tokio wakes those who wait for one thing, the order in which a map of the standard library is
//! walked, the keys of a TLS session: all of it begins with the system's `getrandom`, which this program replaces for
//! threads that simulate.

use std::{
    cell::RefCell,
    ffi::{c_uint, c_void},
    slice, thread,
};

use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};

thread_local! {
    static CHANCE: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// Does `work` on a thread of its own, on which nothing is left to chance.
pub fn fixed<T: Send>(seed: u64, work: impl FnOnce() -> T + Send) -> T {
    let fixed = || {
        CHANCE.set(Some(StdRng::seed_from_u64(seed)));
        work()
    };
    thread::scope(|scope| scope.spawn(fixed).join().expect("what fails is written down"))
}

/// Stands in for the C library's.
///
/// # Safety
///
/// As documented there: `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "it is the C library's interface")]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    // SAFETY: whoever calls it owns the buffer and has filled nothing in yet; zeroed bytes are bytes.
    let bytes = unsafe {
        buffer.cast::<u8>().write_bytes(0, length);
        slice::from_raw_parts_mut(buffer.cast::<u8>(), length)
    };
    let is_fixed = CHANCE.try_with(|chance| {
        let mut chance = chance.borrow_mut();
        chance.as_mut().map(|chance| chance.fill_bytes(bytes)).is_some()
    });
    if is_fixed != Ok(true) {
        let flags = rustix::rand::GetRandomFlags::from_bits_retain(flags);
        if rustix::rand::getrandom(&mut *bytes, flags).is_err() {
            return -1;
        }
    }
    isize::try_from(length).unwrap_or(-1)
}
