//! `cargo fuzz run frames`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tandem::fuzz::frames(input));
