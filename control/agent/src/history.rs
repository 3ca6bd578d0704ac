//! The generations that the store keeps.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use nix::unistd::{Uid, User};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Api, PushQuery, etag, options};
use crate::error::ApiError;
use crate::push::Change;
use crate::store::Entry;
use crate::switch::Switch;

/// The routes.
pub fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/history", get(history))
        .route("/v1/history/{generation}", get(document))
        .route("/v1/rollback/{generation}", post(rollback))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HistoryQuery {
    limit: Option<usize>,
}

async fn history(
    State(api): State<Api>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(HistoryQuery { limit }) = query?;
    let limit = limit.unwrap_or(usize::MAX).min(1 << 20);
    let shown = api.handle.run(move |switch| shown(switch, limit)).await?.map_err(ApiError::internal)?;
    Ok(Json(shown).into_response())
}

fn shown(switch: &Switch, limit: usize) -> anyhow::Result<Value> {
    let current = switch.generation();
    let item = |entry: Entry| {
        let user = entry.uid.and_then(|uid| User::from_uid(Uid::from_raw(uid)).ok().flatten());
        json!({
            "Generation": entry.generation,
            "InForce": entry.generation == current,
            "Time": entry.time,
            "Uid": entry.uid,
            "User": user.map(|user| user.name),
            "Change": entry.change,
            "SecurityGroups": entry.counts[0],
            "Rules": entry.counts[1],
            "NetworkInterfaces": entry.counts[2],
            "Bytes": entry.bytes,
        })
    };
    let generations: Vec<Value> = switch.store.history(limit)?.into_iter().map(item).collect();
    Ok(json!({ "Generation": current, "History": generations }))
}

async fn document(
    State(api): State<Api>,
    generation: Result<Path<u64>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(generation) = generation?;
    let document = api.handle.run(move |switch| switch.kept(generation)).await??;
    Ok(([(header::ETAG, etag(generation))], Json(document)).into_response())
}

async fn rollback(
    State(api): State<Api>,
    generation: Result<Path<u64>, PathRejection>,
    query: Result<Query<PushQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Path(generation) = generation?;
    let options = options(&api, query, &headers)?;
    let pushed = api.handle.run(move |switch| switch.push(Change::Rollback(generation), options)).await??;
    Ok(([(header::ETAG, etag(pushed.generation))], Json(pushed)).into_response())
}
