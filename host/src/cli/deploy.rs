//! `tandem deploy`: a manifest and its component go to a node.

use std::{path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::control::wire::{Deploy, Deployed};

use super::{
    build,
    exit::Failure,
    node_client::{Call, NodeClient},
    output::{Output, Style},
    project::Project,
    quantity::span_us,
    target::NodeArgs,
};

/// The node compiles the component before it answers.
const TIMEOUT: Duration = Duration::from_mins(3);

/// Deploy a solution to a node
///
/// The node checks everything before it changes anything. Messages that wait are handled by the new version; one that runs
/// is finished by the old. Deploying what is active already changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tandem deploy
  tandem deploy solutions/lead-router --build
  tandem deploy --node https://tandem.example.com --token \"$TOKEN\"")]
pub struct Args {
    /// The solution's folder, or its solution.toml
    #[arg(default_value = ".")]
    path: PathBuf,

    /// Build it first, as `tandem build` does
    #[arg(long)]
    build: bool,

    #[command(flatten)]
    node: NodeArgs,
}

pub async fn run(args: Args, output: Output) -> Result<(), Failure> {
    let node = args.node.client()?;
    let project = Project::open(&args.path)?;
    if args.build {
        build::build(&project, output)?;
    }
    let answer = node.call(call(&project.manifest, &project.component()?)).await?;
    if output.is_json() {
        return output.line(String::from_utf8_lossy(&answer.body));
    }
    let deployed: Deployed = node.decode(&answer)?;
    for warning in &deployed.warnings {
        output.note(format_args!("{} {warning}", output.paint(Style::Warn, "warning:")));
    }
    output.line(line(&deployed, node.address()))
}

/// Deploys from memory, for the demo.
pub async fn deploy(
    node: &NodeClient,
    manifest: &str,
    component: &[u8],
) -> Result<Deployed, Failure> {
    Ok(node.read(call(manifest, component)).await?)
}

fn call(manifest: &str, component: &[u8]) -> Call {
    let body = Deploy { manifest: manifest.to_owned(), component: STANDARD.encode(component) };
    Call::post(["solutions"]).json(&body).timeout(TIMEOUT)
}

fn line(deployed: &Deployed, node: &str) -> String {
    let Deployed { name, version, revision, .. } = deployed;
    let digest = deployed.digest.get(..12).unwrap_or(&deployed.digest);
    if deployed.changed {
        let ready = span_us(deployed.ready_ms.saturating_mul(1_000));
        format!("{name} {version} ({digest}) is revision {revision} on {node}, ready in {ready}")
    } else {
        format!("{name} {version} ({digest}) is active on {node} already, as revision {revision}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_is_told_in_one_line() {
        let mut deployed = Deployed {
            name: "lead-router".into(),
            version: "1.2.0".into(),
            revision: 3,
            digest: "0123456789abcdef".into(),
            changed: true,
            ready_ms: 84,
            warnings: Vec::new(),
        };
        assert_eq!(
            line(&deployed, "http://n"),
            "lead-router 1.2.0 (0123456789ab) is revision 3 on http://n, ready in 84.0 ms"
        );
        deployed.changed = false;
        assert!(line(&deployed, "http://n").ends_with("already, as revision 3"));
    }
}
