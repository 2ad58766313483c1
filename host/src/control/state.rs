//! What a solution keeps, for looking at.

use axum::{Json, extract::State, http::StatusCode};
use bytes::Bytes;

use super::{Asked, At, Shared, wire};
use crate::{
    net::problem::Problem,
    store::{
        Refusal, Store,
        row::{SolutionNo, state::state_key},
        table::Table,
    },
};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;

fn solution_no(store: &Store, name: &str) -> Result<SolutionNo, Problem> {
    let catalogue = store.catalogue().borrow().clone();
    let solution = catalogue.solution(name);
    Ok(solution.ok_or_else(|| Refusal::UnknownSolution(name.to_owned()))?.no)
}

/// Bytes as text where they are text.
pub(super) fn body(bytes: &[u8]) -> wire::Body {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    match std::str::from_utf8(bytes) {
        Ok(text) => wire::Body::Text(text.to_owned()),
        Err(_) => wire::Body::Base64(BASE64_STANDARD.encode(bytes)),
    }
}

fn entry(key: String, value: &Bytes) -> wire::StateEntry {
    wire::StateEntry { key, value: body(value) }
}

pub(super) async fn list(
    State(house): Shared,
    At(solution): At<String>,
    Asked(query): Asked<wire::StateQuery>,
) -> Result<Json<Vec<wire::StateEntry>>, Problem> {
    let no = solution_no(&house.store, &solution)?;
    let prefix = query.prefix.unwrap_or_default();
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
    let table = house.store.read()?.table(Table::State)?;
    let entries = table.state_list(no, &prefix, query.after.as_deref(), limit)?;
    Ok(Json(entries.into_iter().map(|(key, value)| entry(key, &value)).collect()))
}

pub(super) async fn show(
    State(house): Shared,
    At((solution, key)): At<(String, String)>,
) -> Result<Json<wire::StateEntry>, Problem> {
    let no = solution_no(&house.store, &solution)?;
    let value = house.store.read()?.table(Table::State)?.get_bytes(&state_key(no, &key))?;
    let value = value.ok_or_else(|| {
        let detail = format!("solution `{solution}` keeps nothing under `{key}`");
        Problem::new(StatusCode::NOT_FOUND, "unknown-key", detail)
    })?;
    Ok(Json(entry(key, &value)))
}
