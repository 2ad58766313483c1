//! Puts into the program what it hands out: the SDK and the project template for `tandem new`, and for `tandem demo` the
//! example solutions, built as components.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

#[path = "build/components.rs"]
mod components;

fn main() {
    let host = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = host.parent().expect("the crate is a member of the workspace").to_path_buf();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    println!("cargo::rerun-if-changed={}", host.join("templates").display());
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");

    embed(&out.join("sdk.rs"), &sdk_files(&root));
    embed(&out.join("template.rs"), &files_below(&host.join("templates/solution")));

    components::build(&root, &components::EXAMPLES);
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
