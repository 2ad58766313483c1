//! `tandem new`: a project that builds, tests and deploys at once.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::model::name::Name;

use super::{
    exit::{Exit, Failure},
    output::Output,
};

/// The files of a new project, with `{{…}}` where its names go.
static TEMPLATE: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/template.rs"));
/// The SDK: it goes with the project, so that building needs no registry that has it.
static SDK: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));
const SDK_FOLDER: &str = "vendor/tandem-sdk";

/// Begin a new solution, in Rust
///
/// Writes a small solution that works, with a test, and the SDK it needs beside it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tandem new hello
  tandem new lead-router --path solutions/lead-router")]
pub struct Args {
    /// Name of the solution: a-z, 0-9, - and _, beginning with a letter
    name: String,

    /// The folder to write [default: ./NAME]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
}

pub fn run(args: &Args, output: Output) -> Result<(), Failure> {
    let name: Name = args.name.parse().map_err(|e| Failure::usage(format!("{e}")))?;
    let folder = args.path.clone().unwrap_or_else(|| PathBuf::from(name.as_str()));
    let written = write_project(&name, &folder)?;
    if output.is_json() {
        return output.json(&serde_json::json!({
            "name": name, "folder": folder, "files": written,
        }));
    }
    output.line(format_args!("wrote {} files to {}", written.len(), folder.display()))?;
    output.note(format_args!(
        "\nNext:\n  cd {}\n  cargo test        the handler, natively\n  tandem build      the component, checked\n  \
         tandem deploy     to the node of `tandem run`",
        folder.display()
    ));
    Ok(())
}

/// Writes the project and gives back the paths of its files in it.
fn write_project(name: &Name, folder: &Path) -> Result<Vec<String>, Failure> {
    refuse_what_cargo_cannot_name(name)?;
    let in_use = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
        Err(e) => return Err(Failure::file("use", folder, &e)),
    };
    if in_use {
        return Err(Failure::failed("folder-in-use", format!("{} is not empty", folder.display()))
            .next("name another folder with --path"));
    }
    let mut written = Vec::new();
    for (path, bytes) in TEMPLATE {
        let text = std::str::from_utf8(bytes).expect("our template is text");
        // A real `.gitignore` in our own tree would be obeyed there.
        let path = if *path == "gitignore" { ".gitignore" } else { path };
        written.push(path.to_owned());
        write(&folder.join(path), render(text, name).as_bytes())?;
    }
    for (path, bytes) in SDK {
        let path = format!("{SDK_FOLDER}/{path}");
        write(&folder.join(&path), bytes)?;
        written.push(path);
    }
    Ok(written)
}

fn render(text: &str, name: &Name) -> String {
    text.replace("{{name}}", name.as_str())
        .replace("{{crate_name}}", &name.as_str().replace('-', "_"))
        .replace("{{sdk}}", &format!("tandem-sdk = {{ path = \"{SDK_FOLDER}\" }}"))
}

/// A crate must not be called like a keyword or like what it is built with.
#[expect(clippy::too_many_lines, reason = "one list of all names")]
fn refuse_what_cargo_cannot_name(name: &Name) -> Result<(), Failure> {
    const TAKEN: &[&str] = &[
        "abstract",
        "as",
        "async",
        "await",
        "become",
        "box",
        "break",
        "const",
        "continue",
        "crate",
        "do",
        "dyn",
        "else",
        "enum",
        "extern",
        "false",
        "final",
        "fn",
        "for",
        "gen",
        "if",
        "impl",
        "in",
        "let",
        "loop",
        "macro",
        "match",
        "mod",
        "move",
        "mut",
        "override",
        "priv",
        "pub",
        "ref",
        "return",
        "self",
        "static",
        "struct",
        "super",
        "trait",
        "true",
        "try",
        "type",
        "typeof",
        "unsafe",
        "unsized",
        "use",
        "virtual",
        "where",
        "while",
        "yield",
        "test",
        "core",
        "std",
        "alloc",
        "proc-macro",
        "proc_macro",
        "build",
        "deps",
        "examples",
        "incremental",
        "tandem-sdk",
        "tandem_sdk",
        "serde",
        "serde_json",
    ];
    if TAKEN.contains(&name.as_str()) {
        return Err(Failure::new(
            Exit::Usage,
            "taken-name",
            format!(
                "a solution in Rust cannot be called `{name}`: Rust or Cargo uses that name itself"
            ),
        ));
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let folder = path.parent().expect("it is below the project's folder");
    fs::create_dir_all(folder).map_err(|e| Failure::file("make", folder, &e))?;
    fs::write(path, bytes).map_err(|e| Failure::file("write", path, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn a_project_has_its_names_and_the_sdk() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("lead-router");
        let written = write_project(&name("lead-router"), &folder).unwrap();
        for path in [
            "Cargo.toml",
            "solution.toml",
            "src/lib.rs",
            ".gitignore",
            "README.md",
            "vendor/tandem-sdk/Cargo.toml",
            "vendor/tandem-sdk/src/lib.rs",
            "vendor/tandem-sdk/wit/world.wit",
        ] {
            assert!(written.iter().any(|at| at == path), "{path} of {written:?}");
            assert!(folder.join(path).is_file(), "{path}");
        }
        let read = |path: &str| fs::read_to_string(folder.join(path)).unwrap();
        for (path, _) in TEMPLATE {
            let path = if *path == "gitignore" { ".gitignore" } else { path };
            assert!(!read(path).contains("{{"), "{path} has a placeholder left");
        }
        assert!(read("solution.toml").contains("name = \"lead-router\""));
        assert!(read("solution.toml").contains("lead_router.wasm"));
        // What stands in the vendored manifest must mean the same outside of our workspace.
        let sdk: toml::Table = toml::from_str(&read("vendor/tandem-sdk/Cargo.toml")).unwrap();
        assert!(!sdk.to_string().contains("workspace"), "{sdk}");
    }

    #[test]
    fn a_folder_in_use_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mine"), "").unwrap();
        let failure = write_project(&name("x"), folder.path()).unwrap_err();
        assert_eq!(failure.code, "folder-in-use");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        // An empty one is as good as none.
        fs::remove_file(folder.path().join("mine")).unwrap();
        write_project(&name("x"), folder.path()).unwrap();
    }

    #[test]
    fn names_that_rust_needs_are_refused() {
        let parent = tempfile::tempdir().unwrap();
        for taken in ["fn", "std", "tandem-sdk", "test"] {
            let folder = parent.path().join(taken);
            assert_eq!(write_project(&name(taken), &folder).unwrap_err().code, "taken-name");
            assert!(!folder.exists());
        }
    }
}
