//! `tandem build`: a Rust solution becomes a component.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    check,
    exit::{Exit, Failure},
    output::Output,
    project::Project,
    quantity::size,
};

const TARGET: &str = "wasm32-wasip2";

/// Build a solution written in Rust, then check it
///
/// Runs `cargo build --release --target wasm32-wasip2` in the solution's folder. What cargo says goes to standard error.
/// For other languages use their own tools and `tandem check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tandem build
  tandem build solutions/lead-router
  tandem build && tandem deploy")]
pub struct Args {
    /// The solution's folder
    #[arg(default_value = ".")]
    path: PathBuf,
}

pub fn run(args: &Args, output: Output) -> Result<(), Failure> {
    let project = Project::open(&args.path)?;
    build(&project, output)?;
    check::check(&project, output)
}

/// Builds the project's component and says where it is; for `tandem deploy --build` too.
pub fn build(project: &Project, output: Output) -> Result<(), Failure> {
    let cargo_toml = project.folder.join("Cargo.toml");
    if !cargo_toml.is_file() {
        return Err(Failure::failed(
            "no-rust-project",
            format!("{} has no Cargo.toml: `tandem build` builds Rust", project.folder.display()),
        )
        .next("build the component with its own tools, then run `tandem check`"));
    }
    require_target(&project.folder)?;
    let built = run_cargo(&project.folder)?;
    let component = project.component_path()?;
    if !is_same(&built, &component) {
        // Cargo's target folder is elsewhere: a workspace's, or CARGO_TARGET_DIR.
        copy(&built, &component)?;
    }
    let bytes = fs::metadata(&component).map_err(|e| Failure::file("read", &component, &e))?.len();
    output.note(format_args!("built {} ({})", component.display(), size(bytes)));
    Ok(())
}

fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(|e| Failure::file("make", folder, &e))?;
    }
    fs::copy(from, to).map(drop).map_err(|e| Failure::file("write", to, &e))
}

/// Builds, and says where the component is.
fn run_cargo(folder: &Path) -> Result<PathBuf, Failure> {
    let mut cargo = Command::new("cargo")
        .args(["build", "--release", "--target", TARGET])
        // What is for people goes to standard error; standard output says what was made.
        .arg("--message-format=json-render-diagnostics")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| no_rust(&e))?;
    let told = cargo.stdout.take().expect("it is piped");
    let manifest = folder.join("Cargo.toml").canonicalize().ok();
    let lines = BufReader::new(told).lines().map_while(Result::ok);
    let component = lines.filter_map(|line| component_of(&line, manifest.as_deref())).last();
    let status = cargo.wait().map_err(|e| no_rust(&e))?;
    if !status.success() {
        let what = "the solution does not build; what cargo said is above";
        return Err(Failure::failed("does-not-build", what));
    }
    component.ok_or_else(|| {
        Failure::failed("no-component-made", "cargo built the project, but that made no component")
            .next("put `crate-type = [\"cdylib\"]` under [lib] in Cargo.toml")
    })
}

/// The component in one of cargo's messages, if it is of this package.
fn component_of(message: &str, manifest: Option<&Path>) -> Option<PathBuf> {
    #[derive(serde::Deserialize)]
    struct Artifact {
        reason: String,
        manifest_path: PathBuf,
        filenames: Vec<PathBuf>,
    }
    let artifact: Artifact = serde_json::from_str(message).ok()?;
    let is_ours = artifact.reason == "compiler-artifact"
        && manifest.is_some_and(|manifest| is_same(manifest, &artifact.manifest_path));
    let is_wasm = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "wasm");
    artifact.filenames.into_iter().find(is_wasm).filter(|_| is_ours)
}

/// Refuses with the command to type if rustc cannot compile for components.
fn require_target(folder: &Path) -> Result<(), Failure> {
    let rustc = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        // A rust-toolchain.toml in the folder decides which rustc answers.
        .current_dir(folder)
        .output()
        .map_err(|e| no_rust(&e))?;
    let libraries = String::from_utf8_lossy(&rustc.stdout);
    if rustc.status.success() && Path::new(libraries.trim()).is_dir() {
        return Ok(());
    }
    Err(Failure::failed("no-wasm-target", format!("Rust has no {TARGET} target installed here"))
        .next(format!("run `rustup target add {TARGET}`")))
}

fn no_rust(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failed, "no-rust", format!("Rust cannot be run: {error}"))
        .next("install it from https://rustup.rs, or put cargo and rustc into PATH")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::{Colour, Format};

    #[test]
    fn the_component_is_found_in_what_cargo_says() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("Cargo.toml");
        fs::write(&manifest, "").unwrap();
        let message = |path: &Path, file: &str| {
            serde_json::json!({
                "reason": "compiler-artifact", "manifest_path": path, "filenames": ["/t/x.rlib", file],
            })
            .to_string()
        };
        let of = |message: &str| component_of(message, Some(&manifest));
        assert_eq!(of(&message(&manifest, "/t/x.wasm")), Some("/t/x.wasm".into()));
        assert_eq!(of(&message(&manifest, "/t/x.d")), None);
        assert_eq!(of(&message(Path::new("/other/Cargo.toml"), "/t/x.wasm")), None);
        assert_eq!(of("{\"reason\":\"build-finished\",\"success\":true}"), None);
        assert_eq!(of("no JSON"), None);
    }

    #[test]
    fn what_is_no_rust_project_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("solution.toml"), "name = \"x\"\n").unwrap();
        let project = Project::open(folder.path()).unwrap();
        let output = Output { format: Format::Text, colour: Colour::Off };
        assert_eq!(build(&project, output).unwrap_err().code, "no-rust-project");
    }
}
