//! `cargo fuzz run bodies`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tandem::fuzz::bodies(input));
