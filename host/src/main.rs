//! The `tandem` command.

use std::process::ExitCode;

/// Many short-lived allocations of many threads: a message's life.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tandem::cli::main()
}
