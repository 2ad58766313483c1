//! `tandem solutions`: what is deployed on a node, and what to do with it.

use crate::control::wire::{Pause, Rollback, Solution, SolutionSummary, Source};

use super::{
    exit::Failure,
    node_client::Call,
    output::{Output, Style},
    quantity::moment,
    table::{Cell, Table},
    target::NodeArgs,
};

/// List, show, pause, resume, roll back and remove solutions
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tandem solutions
  tandem solutions show lead-router
  tandem solutions pause lead-router --reason \"the CRM is being moved\"
  tandem solutions rollback lead-router")]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,

    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the solutions (the default)
    #[command(after_help = "Examples:
  tandem solutions list
  tandem solutions list --json | jq -r '.[].name'")]
    List,

    /// Show a solution: sources, grants, versions
    #[command(after_help = "Examples:
  tandem solutions show lead-router
  tandem solutions show lead-router --manifest > solution.toml")]
    Show {
        name: String,
        /// Print only the manifest, as it was deployed
        #[arg(long)]
        manifest: bool,
    },

    /// Stop handling a solution's messages; they are still accepted and wait
    #[command(after_help = "Examples:
  tandem solutions pause lead-router
  tandem solutions pause lead-router --source webhook --reason \"duplicates from the shop\"")]
    Pause {
        name: String,
        /// Only close this source: senders are refused with 409
        #[arg(long)]
        source: Option<String>,
        /// Why, for whoever looks next
        #[arg(long)]
        reason: Option<String>,
    },

    /// Go on handling
    #[command(after_help = "Examples:
  tandem solutions resume lead-router
  tandem solutions resume lead-router --source webhook")]
    Resume {
        name: String,
        /// Only open this source again
        #[arg(long)]
        source: Option<String>,
    },

    /// Make an earlier revision active again
    #[command(after_help = "Examples:
  tandem solutions rollback lead-router
  tandem solutions rollback lead-router --revision 3")]
    Rollback {
        name: String,
        /// Which; without it the one before the active
        #[arg(long)]
        revision: Option<u32>,
    },

    /// Remove a solution
    #[command(after_help = "Examples:
  tandem solutions remove lead-router
  tandem solutions remove lead-router --json")]
    Remove { name: String },
}

pub async fn run(args: Args, output: Output) -> Result<(), Failure> {
    let node = args.node.client()?;
    let action = args.action.unwrap_or(Action::List);
    let answer = node.call(call(&action)).await?;
    if let Action::Show { manifest: true, .. } = action {
        let solution: Solution = node.decode(&answer)?;
        return output.bytes(solution.manifest.as_bytes());
    }
    if output.is_json() {
        return if answer.body.is_empty() {
            Ok(())
        } else {
            output.line(String::from_utf8_lossy(&answer.body))
        };
    }
    match action {
        Action::List => {
            let solutions: Vec<SolutionSummary> = node.decode(&answer)?;
            if solutions.is_empty() {
                output.note("no solutions yet: `tandem new NAME` begins one");
            }
            table(&solutions).print(output)
        }
        Action::Show { .. } => {
            let solution: Solution = node.decode(&answer)?;
            lines(&solution, output).into_iter().try_for_each(|line| output.line(line))
        }
        action => output.line(told(&action)),
    }
}

fn call(action: &Action) -> Call {
    match action {
        Action::List => Call::get(["solutions"]),
        Action::Show { name, .. } => Call::get(["solutions", name]),
        Action::Pause { name, source, reason } => Call::post(["solutions", name, "pause"])
            .json(&Pause { source: source.clone(), reason: reason.clone() }),
        Action::Resume { name, source } => Call::post(["solutions", name, "resume"])
            .json(&Pause { source: source.clone(), reason: None }),
        Action::Rollback { name, revision } => {
            Call::post(["solutions", name, "rollback"]).json(&Rollback { revision: *revision })
        }
        Action::Remove { name } => Call::delete(["solutions", name]),
    }
}

/// What was done, where there is nothing else to show.
fn told(action: &Action) -> String {
    match action {
        Action::Pause { name, source: Some(source), .. } => {
            format!("{name}/{source} is closed: its senders are refused until it is resumed")
        }
        Action::Pause { name, source: None, .. } => {
            format!("{name} is paused: its messages are accepted and wait")
        }
        Action::Resume { name, source: Some(source) } => format!("{name}/{source} is open"),
        Action::Resume { name, source: None } => format!("{name} is running"),
        Action::Rollback { name, revision: Some(revision) } => {
            format!("{name} is back at revision {revision}")
        }
        Action::Rollback { name, revision: None } => {
            format!("{name} is back at the revision before")
        }
        Action::Remove { name } => format!("{name} is removed"),
        Action::List | Action::Show { .. } => String::new(),
    }
}

/// The table of `tandem solutions` and of `tandem status`.
pub fn table(solutions: &[SolutionSummary]) -> Table {
    let mut table =
        Table::new(&["SOLUTION", "VERSION", "STATE", "QUEUED", "DEAD", "DEPLOYED", "WHY"]);
    for solution in solutions {
        table.row([
            Cell::plain(&solution.name),
            Cell::plain(&solution.version),
            Cell::word(&solution.state),
            Cell::plain(&solution.queued),
            Cell::plain(&solution.dead),
            Cell::plain(&moment(solution.deployed_ms)),
            Cell::plain(&solution.reason.as_deref().unwrap_or_default()),
        ]);
    }
    table
}

fn lines(solution: &Solution, output: Output) -> Vec<String> {
    let summary = &solution.summary;
    let state = output.paint(Style::of_word(&summary.state), &summary.state);
    let why = summary.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    let mut lines = vec![format!("{} {}  {state}{why}", summary.name, summary.version)];
    lines.extend(solution.description.clone());
    lines.push(format!("{} queued, {} dead", summary.queued, summary.dead));
    lines.push(String::new());

    let mut sources = Table::new(&["SOURCE", "KIND", "WHERE OR WHEN", "STATE"]);
    for source in &solution.sources {
        let state = source.paused.as_ref().map_or("open".into(), |why| format!("closed: {why}"));
        sources.row([
            Cell::plain(&source.name),
            Cell::plain(&source.kind),
            Cell::plain(&place(source)),
            Cell::plain(&state),
        ]);
    }
    lines.extend(sources.lines(output));
    lines.push(String::new());

    let grants =
        if solution.grants.is_empty() { "none".into() } else { solution.grants.join(", ") };
    lines.push(format!("grants: {grants}"));
    lines.push(String::new());

    let mut versions = Table::new(&["REVISION", "VERSION", "COMPONENT", "DEPLOYED", ""]);
    for version in &solution.versions {
        versions.row([
            Cell::plain(&version.revision),
            Cell::plain(&version.version),
            Cell::plain(&version.digest.get(..12).unwrap_or(&version.digest)),
            Cell::plain(&moment(version.deployed_ms)),
            Cell::plain(&if version.active { "active" } else { "" }),
        ]);
    }
    lines.extend(versions.lines(output));
    lines.into_iter().map(|line| line.trim_end().to_owned()).collect()
}

/// Where a source's messages come in, or when.
fn place(source: &Source) -> String {
    let next = source.next_ms.map(|at| format!(", next {}", moment(at))).unwrap_or_default();
    match (&source.path, &source.cron) {
        (Some(path), _) => format!("POST {path}"),
        (None, Some(cron)) => {
            let zone = source.timezone.as_deref().unwrap_or("UTC");
            format!("{cron} ({zone}){next}")
        }
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::output::{Colour, Format},
        control::wire::Version,
    };

    #[test]
    fn a_solution_shows_sources_grants_and_versions() {
        let version = |revision, active| Version {
            revision,
            version: format!("1.{revision}.0"),
            digest: "0123456789abcdef".into(),
            deployed_ms: 1_700_000_000_000,
            active,
        };
        let source = |name: &str, kind: &str, path: Option<&str>, cron: Option<&str>| Source {
            name: name.into(),
            kind: kind.into(),
            path: path.map(Into::into),
            cron: cron.map(Into::into),
            timezone: cron.map(|_| "Europe/Vienna".into()),
            next_ms: cron.map(|_| 1_700_000_060_000),
            paused: path.map(|_| "duplicates".into()),
        };
        let solution = Solution {
            summary: SolutionSummary {
                name: "uptime-watch".into(),
                version: "1.2.0".into(),
                digest: "0123456789abcdef".into(),
                deployed_ms: 1_700_000_000_000,
                state: "running".into(),
                reason: None,
                queued: 0,
                dead: 4,
            },
            description: Some("Notices services that fall silent.".into()),
            sources: vec![
                source("beat", "webhook", Some("/hooks/uptime-watch/beat"), None),
                source("minute", "schedule", None, Some("0 * * * * *")),
                source("self", "message", None, None),
            ],
            grants: vec!["publish alerts".into()],
            manifest: String::new(),
            versions: vec![version(1, false), version(2, true)],
        };
        let output = Output { format: Format::Text, colour: Colour::Off };
        insta::assert_snapshot!(lines(&solution, output).join("\n"), @r#"
        uptime-watch 1.2.0  running
        Notices services that fall silent.
        0 queued, 4 dead

        SOURCE  KIND      WHERE OR WHEN                                               STATE
        beat    webhook   POST /hooks/uptime-watch/beat                               closed: duplicates
        minute  schedule  0 * * * * * (Europe/Vienna), next 2023-11-14 22:14:20.000Z  open
        self    message                                                               open

        grants: publish alerts

        REVISION  VERSION  COMPONENT     DEPLOYED
        1         1.1.0    0123456789ab  2023-11-14 22:13:20.000Z
        2         1.2.0    0123456789ab  2023-11-14 22:13:20.000Z  active
        "#);
    }
}
