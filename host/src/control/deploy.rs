//! Deploying: the node checks and compiles, makes the version active, and waits until its standby has it too.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use tokio::time::Instant;

use super::{Body, Shared, lines, pair::Pair, wire};
use crate::{
    contract::manifest::{Manifest, parse},
    machine,
    model::{
        name::{Digest, Name},
        pair::{Role, ready::Prepared},
    },
    net::problem::Problem,
    store::change::deploy::Deploy,
};

/// How long the standby has for its part.
const PATIENCE: Duration = Duration::from_secs(30);
/// A standby that is not there for so long is away. A link may be made anew meanwhile.
const AWAY: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// What is waited for on the standby.
struct Wanted {
    name: Name,
    revision: u32,
    digest: Digest,
}

/// Checks manifest and component, compiles, and makes the version active: all or nothing.
pub(super) async fn deploy(
    State(house): Shared,
    Body(body): Body<wire::Deploy>,
) -> Result<Json<wire::Deployed>, Problem> {
    let began = Instant::now();
    if body.wait_standby {
        refuse_without_standby(house.pair.as_ref())?;
    }
    let refused =
        |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "solution-refused", detail);
    let manifest = parse::parse(&body.manifest)
        .map_err(|errors| refused(errors.in_file("solution.toml").to_string()))?;
    let component = BASE64_STANDARD.decode(body.component.as_bytes()).map_err(|error| {
        Problem::bad_request("bad-body", format!("`component` is not base64: {error}"))
    })?;
    let component = Bytes::from(component);
    let digest = Digest::of(&component);
    // Checking and compiling take a core for as long as they take: not on a thread that serves others.
    let (engine, bytes, compiled) = (house.engine.clone(), component.clone(), manifest.clone());
    let checked = machine::blocking(move || {
        let checked =
            engine.check(&compiled, &bytes).map_err(|faults| lines(faults.iter().map(explain)))?;
        engine.load(digest, &bytes, &compiled).map_err(|error| error.to_string())?;
        Ok(checked)
    });
    let checked = checked.await.map_err(refused)?;
    let Manifest { name, version, .. } = manifest;
    let change = Deploy { name: name.clone(), manifest: body.manifest, component, digest };
    let deployed = house.store.submit(change).await?.answer;
    let ready_ms = millis(began);
    let wanted = Wanted { name: name.clone(), revision: deployed.revision, digest };
    let standby = match &house.pair {
        Some(pair) => Some(pair.wait_prepared(&wanted, began).await),
        None => None,
    };
    if let (Some(standby), true) = (&standby, body.wait_standby) {
        refuse_at_one(standby, &wanted)?;
    }
    Ok(Json(wire::Deployed {
        name: name.to_string(),
        version,
        revision: deployed.revision,
        digest: digest.to_string(),
        changed: deployed.changed,
        ready_ms,
        standby,
        warnings: checked.warnings,
    }))
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Before anything is changed.
fn refuse_without_standby(pair: Option<&Pair>) -> Result<(), Problem> {
    let why = match pair {
        None => "this node is alone: its configuration has no [pair]",
        Some(pair) if !pair.has_standby() => {
            "the standby is away; `tandem pair status` shows how the nodes are"
        }
        Some(_) => return Ok(()),
    };
    let detail = format!("nothing was deployed, because it was to be on two nodes: {why}");
    Err(Problem::new(StatusCode::CONFLICT, "standby-away", detail))
}

/// It is done here, and not there.
fn refuse_at_one(standby: &wire::OnStandby, wanted: &Wanted) -> Result<(), Problem> {
    if standby.state == "ready" {
        return Ok(());
    }
    let detail = format!(
        "{} is active as revision {} on the primary, but not ready on the standby: {}; `tandem pair status` shows when it is, \
         and `tandem solutions rollback {}` takes it back",
        wanted.name,
        wanted.revision,
        standby.reason.as_deref().unwrap_or("it does not say why"),
        wanted.name
    );
    Err(Problem::new(StatusCode::CONFLICT, "standby-not-ready", detail))
}

impl Pair {
    /// Whether there is a link to a node that is not primary.
    fn has_standby(&self) -> bool {
        let view = self.view.borrow();
        let peer = view.state.peer.as_ref();
        peer.is_some_and(|peer| peer.is_up && peer.standing.role != Role::Primary)
    }

    /// Until the standby has it, verified and compiled, or it is known that it will not have it soon.
    async fn wait_prepared(&self, wanted: &Wanted, began: Instant) -> wire::OnStandby {
        let node = self.view.borrow().state.peer.as_ref().map(|peer| peer.store.to_string());
        let told = |state: &str, compile_ms, reason: Option<String>| wire::OnStandby {
            node: node.clone(),
            state: state.to_owned(),
            after_ms: millis(began),
            compile_ms,
            reason,
        };
        let away =
            || told("away", None, Some("it is away, and gets it when it is back".to_owned()));
        if !self.has_standby() {
            return away();
        }
        let until = Instant::now() + PATIENCE;
        let mut there = Instant::now();
        let mut ready = self.other_ready.clone();
        loop {
            let found =
                find(ready.borrow_and_update().as_ref().map(|ready| &ready.components), wanted);
            if let Some(Prepared { took_ms, fault, .. }) = found {
                let state = if fault.is_some() { "failed" } else { "ready" };
                return told(state, Some(took_ms), fault);
            }
            let now = Instant::now();
            if self.has_standby() {
                there = now;
            }
            if now >= there + AWAY {
                return away();
            }
            if now >= until {
                let reason = format!("it has not said within {PATIENCE:?} that it has it");
                return told("late", None, Some(reason));
            }
            tokio::time::timeout(LOOK, ready.changed()).await.ok();
        }
    }
}

fn find(components: Option<&Vec<Prepared>>, wanted: &Wanted) -> Option<Prepared> {
    let is_wanted = |prepared: &&Prepared| {
        prepared.solution == wanted.name
            && (prepared.revision, prepared.digest) == (wanted.revision, wanted.digest)
    };
    components?.iter().find(is_wanted).cloned()
}

fn explain(fault: &crate::runtime::ComponentFault) -> String {
    match fault.fix() {
        Some(fix) => format!("{fault}\n  {fix}"),
        None => fault.to_string(),
    }
}
