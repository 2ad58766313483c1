//! `cargo fuzz run journal`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tandem::fuzz::journal(input));
