//! `tandem build`: a Rust solution becomes a component.

use std::{
    fs,
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
    run_cargo(&project.folder)?;
    let component = project.component_path()?;
    let bytes = fs::metadata(&component)
        .map_err(|_| {
            Failure::failed(
                "wrong-component-path",
                format!("cargo built the project, but {} is not there", component.display()),
            )
            .next(format!(
                "make `component` in {} name what cargo writes to target/{TARGET}/release/",
                project.manifest_path.display()
            ))
        })?
        .len();
    output.note(format_args!("built {} ({})", component.display(), size(bytes)));
    Ok(())
}

fn run_cargo(folder: &Path) -> Result<(), Failure> {
    let status = Command::new("cargo")
        .args(["build", "--release", "--target", TARGET])
        .current_dir(folder)
        .stdin(Stdio::null())
        // Standard output is data, and cargo has none for us.
        .stdout(std::io::stderr())
        .status()
        .map_err(|e| no_rust(&e))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::failed("does-not-build", "the solution does not build; what cargo said is above"))
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
    fn what_is_no_rust_project_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("solution.toml"), "name = \"x\"\n").unwrap();
        let project = Project::open(folder.path()).unwrap();
        let output = Output { format: Format::Text, colour: Colour::Off };
        assert_eq!(build(&project, output).unwrap_err().code, "no-rust-project");
    }
}
