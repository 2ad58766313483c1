//! Builds solutions of this workspace as components; for every build script that needs some.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, exit},
};

const TARGET: &str = "wasm32-wasip2";
/// What components are made of, in the workspace.
const SOURCES: [&str; 6] =
    ["example-plugins", "plugin-sdk", "tests/fixtures", "wit", "Cargo.toml", "Cargo.lock"];

/// The example solutions, in the order in which `tandem demo` deploys them: who is published to comes first.
pub const EXAMPLES: [&str; 4] = ["alerts", "uptime-watch", "order-totals", "lead-router"];

/// Builds packages of the workspace and hands the path of each component on as `TANDEM_COMPONENT_…`.
pub fn build(root: &Path, packages: &[&str]) {
    for path in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let target_dir = target_dir(&out).join("components");
    require_target();
    run_cargo(root, &target_dir, packages);
    let built = target_dir.join(TARGET).join("component");
    for package in packages {
        let name = package.to_uppercase().replace('-', "_");
        let component = built.join(format!("{}.wasm", package.replace('-', "_")));
        println!("cargo::rustc-env=TANDEM_COMPONENT_{name}={}", component.display());
    }
}

/// The outer cargo's target folder. What is built in a folder below it does not wait for the outer cargo's lock.
fn target_dir(out: &Path) -> PathBuf {
    let marked = out.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    marked.unwrap_or(out).to_path_buf()
}

/// Makes sure that rustc can compile for components; asks rustup once if it cannot.
fn require_target() {
    if has_target() {
        return;
    }
    let added = clean(Command::new("rustup")).args(["target", "add", TARGET]).status();
    if !added.is_ok_and(|status| status.success()) || !has_target() {
        refuse(&format!(
            "the Rust target {TARGET} is not installed, and `rustup target add {TARGET}` did not help. \
             Solutions (those inside `tandem demo` too) are built for it. Install it and build again."
        ));
    }
}

fn has_target() -> bool {
    let mut rustc = clean(Command::new(env::var_os("RUSTC").expect("cargo sets it")));
    let Ok(output) = rustc.args(["--print", "target-libdir", "--target", TARGET]).output() else {
        return false;
    };
    output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
}

fn run_cargo(root: &Path, target_dir: &Path, packages: &[&str]) {
    let mut cargo = clean(Command::new(env::var_os("CARGO").expect("cargo sets it")));
    cargo.current_dir(root).args([
        "build",
        "--locked",
        "--profile",
        "component",
        "--target",
        TARGET,
    ]);
    cargo.arg("--target-dir").arg(target_dir);
    for package in packages {
        cargo.args(["-p", package]);
    }
    let output =
        cargo.output().unwrap_or_else(|e| refuse(&format!("cargo cannot be started: {e}")));
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        for line in said.lines() {
            println!("cargo::error={line}");
        }
        refuse(&format!(
            "{} do not build as components; cargo's own words are above",
            packages.join(", ")
        ));
    }
}

/// Without what the outer cargo, clippy or a coverage run put into the environment: a component is built the same way
/// whoever asks.
fn clean(mut command: Command) -> Command {
    const KEPT: [&str; 6] = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
    ];
    const DROPPED: [&str; 14] = [
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_LINKER",
        "CLIPPY_ARGS",
        "CLIPPY_CONF_DIR",
        "LLVM_PROFILE_FILE",
        "MAKEFLAGS",
        "MFLAGS",
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
    ];
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let of_cargo = name.starts_with("CARGO_") || name.starts_with("__CARGO");
        let kept = KEPT.iter().any(|prefix| name.starts_with(prefix));
        if (of_cargo && !kept) || DROPPED.contains(&name) {
            command.env_remove(name);
        }
    }
    command
}

#[expect(clippy::exit, reason = "a build script ends with what cargo is told")]
fn refuse(why: &str) -> ! {
    println!("cargo::error={why}");
    exit(1)
}
