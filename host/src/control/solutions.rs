//! Solutions: shown, paused, resumed, rolled back, removed.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State, http::StatusCode};

use super::{At, Body, House, Shared, name, wire};
use crate::{
    contract::manifest::{Manifest, SourceKind, parse},
    net::problem::Problem,
    store::{
        ReadError, Refusal,
        catalogue::Solution,
        change::deploy::{Pause, Remove, Rollback},
        row::{Row, SolutionNo, dead_letter::DeadLetterRow},
        table::Table,
    },
};

/// Messages of one solution.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    queued: u64,
    dead: u64,
}

fn loads(house: &House) -> Result<BTreeMap<SolutionNo, Load>, ReadError> {
    let mut loads = BTreeMap::<SolutionNo, Load>::new();
    for (no, queued) in house.store.counters().queues.all() {
        loads.entry(no).or_default().queued = queued;
    }
    house.store.read()?.table(Table::DeadLetters)?.scan(&[], |_, value| {
        loads.entry(DeadLetterRow::decode(value)?.solution_no).or_default().dead += 1;
        Ok(true)
    })?;
    Ok(loads)
}

pub(super) fn summaries(house: &House) -> Result<Vec<wire::SolutionSummary>, ReadError> {
    let loads = loads(house)?;
    let catalogue = house.store.catalogue().borrow().clone();
    let load = |solution: &Solution| loads.get(&solution.no).copied().unwrap_or_default();
    Ok(catalogue.solutions.values().map(|s| summary(house, s, load(s))).collect())
}

fn summary(house: &House, solution: &Solution, load: Load) -> wire::SolutionSummary {
    let unavailable = || {
        solution
            .manifest
            .as_ref()
            .err()
            .cloned()
            .or_else(|| house.dispatch.borrow().as_ref()?.condition(solution.no))
    };
    let (state, reason) = match (&solution.paused, unavailable()) {
        (Some(reason), _) => ("paused", Some(reason.clone())),
        (None, Some(reason)) => ("unavailable", Some(reason)),
        (None, None) => ("running", None),
    };
    let active = solution.versions.iter().find(|version| version.revision == solution.revision);
    wire::SolutionSummary {
        name: solution.name.to_string(),
        version: solution.manifest.as_ref().map_or_else(|_| "?".to_owned(), |m| m.version.clone()),
        digest: solution.digest.to_string(),
        deployed_ms: active.map_or(0, |version| version.deployed_ms),
        state: state.to_owned(),
        reason,
        queued: load.queued,
        dead: load.dead,
    }
}

pub(super) async fn list(
    State(house): Shared,
) -> Result<Json<Vec<wire::SolutionSummary>>, Problem> {
    Ok(Json(summaries(&house)?))
}

fn find(house: &House, name: &str) -> Result<Arc<Solution>, Refusal> {
    let catalogue = house.store.catalogue().borrow().clone();
    catalogue.solution(name).cloned().ok_or_else(|| Refusal::UnknownSolution(name.to_owned()))
}

pub(super) async fn show(
    State(house): Shared,
    At(name): At<String>,
) -> Result<Json<wire::Solution>, Problem> {
    let solution = find(&house, &name)?;
    let load = loads(&house)?.get(&solution.no).copied().unwrap_or_default();
    let manifest = solution.manifest.as_ref().ok();
    let versions = solution.versions.iter().map(|version| wire::Version {
        revision: version.revision,
        version: parse::parse(&version.manifest).map_or_else(|_| "?".to_owned(), |m| m.version),
        digest: version.digest.to_string(),
        deployed_ms: version.deployed_ms,
        active: version.revision == solution.revision,
    });
    let active = solution.versions.iter().find(|version| version.revision == solution.revision);
    Ok(Json(wire::Solution {
        summary: summary(&house, &solution, load),
        description: manifest.and_then(|manifest| manifest.description.clone()),
        sources: manifest.map_or_else(Vec::new, |manifest| sources(&house, &solution, manifest)),
        grants: manifest.map_or_else(Vec::new, |manifest| manifest.grants.lines()),
        manifest: active.map_or_else(String::new, |version| version.manifest.clone()),
        versions: versions.collect(),
    }))
}

fn sources(house: &House, solution: &Solution, manifest: &Manifest) -> Vec<wire::Source> {
    let now_ms = house.clock.now_ms();
    let source = |source: &crate::contract::manifest::Source| {
        let schedule = match &source.kind {
            SourceKind::Schedule(schedule) => Some(schedule),
            _ => None,
        };
        let webhook = matches!(source.kind, SourceKind::Webhook { .. });
        wire::Source {
            name: source.name.to_string(),
            kind: source.kind.word().to_owned(),
            path: webhook.then(|| format!("/hooks/{}/{}", solution.name, source.name)),
            cron: schedule.map(|schedule| schedule.cron.clone()),
            timezone: schedule.map(|schedule| schedule.timezone.to_string()),
            next_ms: schedule.and_then(|schedule| schedule.next_after(now_ms)),
            paused: solution.paused_sources.get(&source.name).cloned(),
        }
    };
    manifest.sources.iter().map(source).collect()
}

pub(super) async fn pause(
    State(house): Shared,
    At(text): At<String>,
    Body(body): Body<wire::Pause>,
) -> Result<StatusCode, Problem> {
    let source = body.source.as_deref().map(name).transpose()?;
    let reason = body.reason.unwrap_or_else(|| "paused by an operator".to_owned());
    house.store.submit(Pause { name: name(&text)?, source, reason: Some(reason) }).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn resume(
    State(house): Shared,
    At(text): At<String>,
    Body(body): Body<wire::Pause>,
) -> Result<StatusCode, Problem> {
    let source = body.source.as_deref().map(name).transpose()?;
    house.store.submit(Pause { name: name(&text)?, source, reason: None }).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn rollback(
    State(house): Shared,
    At(text): At<String>,
    Body(body): Body<wire::Rollback>,
) -> Result<Json<wire::Solution>, Problem> {
    house.store.submit(Rollback { name: name(&text)?, revision: body.revision }).await?;
    show(State(house), At(text)).await
}

pub(super) async fn remove(
    State(house): Shared,
    At(text): At<String>,
) -> Result<StatusCode, Problem> {
    house.store.submit(Remove { name: name(&text)? }).await?;
    Ok(StatusCode::NO_CONTENT)
}
