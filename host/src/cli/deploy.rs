//! `tandem deploy`: a manifest and its component go to a node.

use std::{path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::control::wire::{Deploy, Deployed, OnStandby};

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
/// is finished by the old. Deploying what is active already changes nothing. In a pair the answer comes when both nodes have
/// it, verified and compiled; if the standby is away it says so.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tandem deploy
  tandem deploy solutions/lead-router --build
  tandem deploy --wait-standby
  tandem deploy --node https://tandem.example.com --token \"$TOKEN\"")]
pub struct Args {
    /// The solution's folder, or its solution.toml
    #[arg(default_value = ".")]
    path: PathBuf,

    /// Build it first, as `tandem build` does
    #[arg(long)]
    build: bool,

    /// Deploy nothing if the standby is away, and end with 8 if it does not have it in the end
    #[arg(long)]
    wait_standby: bool,

    #[command(flatten)]
    node: NodeArgs,
}

pub async fn run(args: Args, output: Output) -> Result<(), Failure> {
    let node = args.node.client()?;
    let project = Project::open(&args.path)?;
    if args.build {
        build::build(&project, output)?;
    }
    let answer =
        node.call(call(&project.manifest, &project.component()?, args.wait_standby)).await?;
    if output.is_json() {
        return output.line(String::from_utf8_lossy(&answer.body));
    }
    let deployed: Deployed = node.decode(&answer)?;
    for warning in &deployed.warnings {
        output.note(format_args!("{} {warning}", output.paint(Style::Warn, "warning:")));
    }
    output.line(line(&deployed, node.address()))?;
    deployed.standby.as_ref().map_or(Ok(()), |standby| output.line(standby_line(standby)))
}

/// Deploys from memory, for the demo.
pub async fn deploy(
    node: &NodeClient,
    manifest: &str,
    component: &[u8],
) -> Result<Deployed, Failure> {
    Ok(node.read(call(manifest, component, false)).await?)
}

fn call(manifest: &str, component: &[u8], wait_standby: bool) -> Call {
    let component = STANDARD.encode(component);
    let body = Deploy { manifest: manifest.to_owned(), component, wait_standby };
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

fn standby_line(standby: &OnStandby) -> String {
    let ms = |ms: u64| span_us(ms.saturating_mul(1_000));
    let node = standby.node.as_deref().map_or_else(String::new, |node| format!(" {node}"));
    let reason = standby.reason.as_deref().unwrap_or("it does not say why");
    match (standby.state.as_str(), standby.compile_ms) {
        ("ready", Some(compile_ms)) => format!(
            "the standby{node} has it too: verified and compiled in {}, ready after {}",
            ms(compile_ms),
            ms(standby.after_ms)
        ),
        ("failed", _) => format!("the standby{node} cannot run it: {reason}"),
        _ => format!("the standby{node} does not have it yet: {reason}"),
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
            standby: None,
            warnings: Vec::new(),
        };
        assert_eq!(
            line(&deployed, "http://n"),
            "lead-router 1.2.0 (0123456789ab) is revision 3 on http://n, ready in 84.0 ms"
        );
        deployed.changed = false;
        assert!(line(&deployed, "http://n").ends_with("already, as revision 3"));
        let mut standby = OnStandby {
            node: Some("8c1d".into()),
            state: "ready".into(),
            after_ms: 210,
            compile_ms: Some(61),
            reason: None,
        };
        assert_eq!(
            standby_line(&standby),
            "the standby 8c1d has it too: verified and compiled in 61.0 ms, ready after 210.0 ms"
        );
        (standby.state, standby.reason) = ("failed".into(), Some("no memory".into()));
        assert_eq!(standby_line(&standby), "the standby 8c1d cannot run it: no memory");
        (standby.state, standby.node) = ("away".into(), None);
        assert_eq!(standby_line(&standby), "the standby does not have it yet: no memory");
    }
}
