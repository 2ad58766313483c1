//! `cargo fuzz run rows`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tandem::fuzz::rows(input));
