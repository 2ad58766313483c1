//! `tandem check`: would a node take this solution? Offline.

use std::path::PathBuf;

use serde::Serialize;

use super::{
    exit::{Exit, Failure},
    house::{self, Fault, Findings},
    output::{Output, Style},
    project::Project,
};

/// Check a solution's manifest and component, without a node
///
/// Finds everything that a node would refuse at the deployment: mistakes in solution.toml, a component that was built for
/// something else, imports that are not granted. Each fault comes with what to do about it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tandem check
  tandem check solutions/lead-router/solution.toml
  tandem check lead-router --json")]
pub struct Args {
    /// The solution's folder, or its solution.toml
    #[arg(default_value = ".")]
    path: PathBuf,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    name: Option<String>,
    version: Option<String>,
    #[serde(flatten)]
    findings: Findings,
}

pub fn run(args: &Args, output: Output) -> Result<(), Failure> {
    check(&Project::open(&args.path)?, output)
}

/// Checks and prints; a faulty solution is told on standard output and ends with [`Exit::Failed`].
pub fn check(project: &Project, output: Output) -> Result<(), Failure> {
    let report = look(project)?;
    if output.is_json() {
        output.json(&report)?;
    } else {
        lines(&report, output).into_iter().try_for_each(|line| output.line(line))?;
    }
    if report.ok { Ok(()) } else { Err(Failure::said(Exit::Failed)) }
}

fn look(project: &Project) -> Result<Report, Failure> {
    let manifest = match house::read_manifest(&project.manifest_path, &project.manifest) {
        Ok(manifest) => manifest,
        Err(faults) => {
            let findings = Findings { faults, ..Findings::default() };
            return Ok(Report { ok: false, name: None, version: None, findings });
        }
    };
    let findings = house::check_component(&manifest, &project.component()?);
    Ok(Report {
        ok: findings.faults.is_empty(),
        name: Some(manifest.name.to_string()),
        version: Some(manifest.version),
        findings,
    })
}

fn lines(report: &Report, output: Output) -> Vec<String> {
    let mut lines = Vec::new();
    for Fault { fault, fix } in &report.findings.faults {
        lines.push(format!("{} {fault}", output.paint(Style::Bad, "fault:")));
        lines.extend(fix.iter().map(|fix| format!("  next: {fix}")));
    }
    for warning in &report.findings.warnings {
        lines.push(format!("{} {warning}", output.paint(Style::Warn, "warning:")));
    }
    let name = report.name.as_deref().unwrap_or("the solution");
    let version = report.version.as_deref().map(|v| format!(" {v}")).unwrap_or_default();
    lines.push(match report.findings.faults.len() {
        0 => format!("{name}{version} is ready to be deployed"),
        1 => format!("{name}{version} would be refused: 1 fault"),
        n => format!("{name}{version} would be refused: {n} faults"),
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::{Colour, Format};

    const PLAIN: Output = Output { format: Format::Text, colour: Colour::Off };

    fn report(faults: &[(&str, Option<&str>)], warnings: &[&str]) -> Report {
        Report {
            ok: faults.is_empty(),
            name: Some("lead-router".into()),
            version: Some("1.2.0".into()),
            findings: Findings {
                faults: faults
                    .iter()
                    .map(|(fault, fix)| Fault { fault: (*fault).into(), fix: fix.map(Into::into) })
                    .collect(),
                warnings: warnings.iter().map(ToString::to_string).collect(),
                imports: Vec::new(),
            },
        }
    }

    #[test]
    fn all_faults_are_told_and_counted() {
        assert_eq!(
            lines(&report(&[("a", Some("do b")), ("c", None)], &["e"]), PLAIN),
            [
                "fault: a",
                "  next: do b",
                "fault: c",
                "warning: e",
                "lead-router 1.2.0 would be refused: 2 faults"
            ]
        );
        assert_eq!(lines(&report(&[], &[]), PLAIN), ["lead-router 1.2.0 is ready to be deployed"]);
    }
}
