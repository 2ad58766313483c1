//! Builds what the tests deploy, the fixtures and the example solutions, as components.

use std::{env, path::PathBuf};

#[path = "../host/build/components.rs"]
mod components;

/// Solutions that only tests deploy.
const FIXTURES: [&str; 2] = ["probe", "lean"];

fn main() {
    let tests = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = tests.parent().expect("the crate is a member of the workspace");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../host/build");
    // Just as the program's own build script asks for them, so that nothing is built twice.
    components::build(root, &components::EXAMPLES);
    components::build(root, &FIXTURES);
}
