//! `cargo fuzz run headers`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tandem::fuzz::headers(input));
