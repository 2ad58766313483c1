//! Settings: shown, set, unset.

use axum::{Json, extract::State, http::StatusCode};

use super::{At, Body, Shared, name, wire};
use crate::{
    net::problem::Problem,
    store::{
        change::setting::{SetSetting, UnsetSetting},
        row::setting::Scope,
    },
};

fn scope(text: &str) -> Result<Scope, Problem> {
    match text {
        "global" => Ok(Scope::Global),
        solution => Ok(Scope::Solution(name(solution)?)),
    }
}

pub(super) async fn list(State(house): Shared) -> Json<Vec<wire::Setting>> {
    let catalogue = house.store.catalogue().borrow().clone();
    let settings = catalogue.settings().map(|(scope, name, setting)| wire::Setting {
        scope: scope.word().to_owned(),
        name: name.to_string(),
        value: serde_json::from_str(&setting.json).unwrap_or_default(),
        set_ms: setting.set_ms,
    });
    Json(settings.collect())
}

pub(super) async fn set(
    State(house): Shared,
    At((in_scope, text)): At<(String, String)>,
    Body(value): Body<serde_json::Value>,
) -> Result<StatusCode, Problem> {
    let change =
        SetSetting { scope: scope(&in_scope)?, name: name(&text)?, json: value.to_string() };
    house.store.submit(change).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn unset(
    State(house): Shared,
    At((in_scope, text)): At<(String, String)>,
) -> Result<StatusCode, Problem> {
    let change = UnsetSetting { scope: scope(&in_scope)?, name: name(&text)? };
    house.store.submit(change).await?;
    Ok(StatusCode::NO_CONTENT)
}
