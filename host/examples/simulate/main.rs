//! A pair in one thread, with virtual time.
#![cfg_attr(not(test), expect(dead_code, reason = "the pair that uses it comes next"))]

mod disk;
mod network;

fn main() {}
