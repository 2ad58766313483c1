//! Puts into the program what it hands out: the SDK and the project template for `tandem new`, and for `tandem demo` the
//! example solutions, built as components.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, exit},
};

const TARGET: &str = "wasm32-wasip2";
/// In the order in which `tandem demo` deploys them: who is published to comes first.
const EXAMPLES: [&str; 4] = ["alerts", "uptime-watch", "order-totals", "lead-router"];

fn main() {
    let host = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = host.parent().expect("the crate is a member of the workspace").to_path_buf();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for path in
        ["example-plugins", "plugin-sdk", "wit", "host/templates", "Cargo.toml", "Cargo.lock"]
    {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    println!("cargo::rerun-if-changed=build.rs");

    embed(&out.join("sdk.rs"), &sdk_files(&root));
    embed(&out.join("template.rs"), &files_below(&host.join("templates/solution")));

    let target_dir = target_dir(&out).join("components");
    require_target();
    build_examples(&root, &target_dir);
    let built = target_dir.join(TARGET).join("component");
    for example in EXAMPLES {
        let name = example.to_uppercase().replace('-', "_");
        let component = built.join(format!("{}.wasm", example.replace('-', "_")));
        println!("cargo::rustc-env=TANDEM_COMPONENT_{name}={}", component.display());
    }
}

/// What `vendor/tandem-sdk` of a new project is made of, by path in it.
fn sdk_files(root: &Path) -> Vec<(String, PathBuf)> {
    let sdk = root.join("plugin-sdk");
    let mut files = Vec::new();
    for name in ["Cargo.toml", "README.md"] {
        if sdk.join(name).is_file() {
            files.push((name.to_owned(), sdk.join(name)));
        }
    }
    for (folder, at) in [("src", sdk.join("src")), ("wit", root.join("wit"))] {
        files.extend(
            files_below(&at).into_iter().map(|(path, file)| (format!("{folder}/{path}"), file)),
        );
    }
    files
}

/// All files below a folder with their paths from there, sorted.
fn files_below(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return files };
    for path in entries.map(|entry| entry.expect("a folder that opens can be listed").path()) {
        let name = path.file_name().and_then(|name| name.to_str()).expect("our files have names");
        let name = name.to_owned();
        if path.is_dir() {
            files.extend(
                files_below(&path)
                    .into_iter()
                    .map(|(below, file)| (format!("{name}/{below}"), file)),
            );
        } else {
            files.push((name, path));
        }
    }
    files.sort();
    files
}

/// Writes a Rust expression: `&[(path, bytes), …]`.
fn embed(at: &Path, files: &[(String, PathBuf)]) {
    let mut text = String::from("&[\n");
    for (path, file) in files {
        writeln!(text, "    ({path:?}, include_bytes!({:?})),", file.display().to_string())
            .expect("a String takes all");
    }
    text.push(']');
    fs::write(at, text).expect("OUT_DIR can be written");
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
             The example solutions inside `tandem demo` are built for it. Install it and build again."
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

fn build_examples(root: &Path, target_dir: &Path) {
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
    for example in EXAMPLES {
        cargo.args(["-p", example]);
    }
    let output =
        cargo.output().unwrap_or_else(|e| refuse(&format!("cargo cannot be started: {e}")));
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        for line in said.lines() {
            println!("cargo::error={line}");
        }
        refuse(
            "the example solutions inside `tandem demo` do not build; cargo's own words are above",
        );
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
