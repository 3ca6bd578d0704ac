//! The routes.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use policy::{ExplainError, ExplainRequest};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::bodies::{MAX_QUESTION, Room, in_time, read};
use crate::error::ApiError;
use crate::inbox::Handle;
use crate::push::{Change, PushOptions};
use crate::switch::Switch;
use crate::version::version;
use crate::{capture, counters, flows, history, metrics, plan, ports, trace, verify, views};

/// What every route has at hand.
#[derive(Clone)]
pub struct Api {
    pub(crate) handle: Handle,
    /// For what requests bring.
    pub(crate) room: Room,
    /// Traces that may begin.
    pub(crate) traces: Arc<Semaphore>,
    /// Who is at the other end of the socket.
    pub(crate) uid: Option<u32>,
}

impl Api {
    /// For all connections of a listener.
    pub fn new(handle: Handle) -> Api {
        let traces = Arc::new(Semaphore::new(worker::MAX_TAPS));
        Api { handle, room: Room::new(), traces, uid: None }
    }

    /// All routes, for a peer of the socket.
    pub fn router(self, uid: u32) -> Router {
        let view = |view: fn(&Switch) -> Value| get(move |State(api): State<Api>| show(api, view));
        let routes = Router::new()
            .route("/version", get(version))
            .route("/v1/policy", put(push).get(policy))
            .route("/v1/actions/{action}", post(act))
            .route("/v1/status", view(views::status))
            .route("/v1/groups", view(views::groups))
            .route("/v1/rules", view(views::rules))
            .route("/v1/interfaces", view(views::interfaces))
            .route("/v1/prefix-lists", view(views::prefix_lists))
            .route("/v1/stale", view(views::stale))
            .route("/v1/workers", view(views::workers))
            .route("/v1/drops", view(views::drops))
            .route("/v1/counters", view(counters::counters))
            .route("/v1/explain", post(explain))
            .merge(capture::routes())
            .merge(flows::routes())
            .merge(history::routes())
            .merge(plan::routes())
            .merge(ports::routes())
            .merge(trace::routes())
            .merge(verify::routes())
            .route("/v1/lint", view(views::lint))
            .merge(metrics_routes());
        with_fallbacks(routes).with_state(Api { uid: Some(uid), ..self })
    }

    /// The routes that TCP has.
    pub fn metrics_only(self) -> Router {
        with_fallbacks(metrics_routes()).with_state(self)
    }
}

fn metrics_routes() -> Router<Api> {
    Router::new().route("/metrics", get(scrape)).route("/healthz", get(|| async { "ok\n" }))
}

fn with_fallbacks(routes: Router<Api>) -> Router<Api> {
    routes
        .fallback(|| async {
            ApiError::new(StatusCode::NOT_FOUND, "InvalidAction", "there is nothing at this path")
        })
        .method_not_allowed_fallback(|| async {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "InvalidAction", "this path has no such method")
        })
}

/// For a peer that may not use the socket.
pub fn refusing() -> Router {
    let message =
        "this user may not use the socket: root, the daemon's user and members of the socket's group may";
    Router::new().fallback(move || async move {
        ApiError::new(StatusCode::FORBIDDEN, "UnauthorizedOperation", message)
    })
}

async fn show(api: Api, view: fn(&Switch) -> Value) -> Result<Response, ApiError> {
    Ok(Json(api.handle.run(move |switch| view(switch)).await?).into_response())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PushQuery {
    partial: bool,
    wait: Option<bool>,
}

async fn push(
    State(api): State<Api>,
    query: Result<Query<PushQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let options = options(&api, query, &headers)?;
    let (document, place) = api.room.read(body).await?;
    let options = PushOptions { received: Some(Instant::now()), ..options };
    let pushed = api.handle.run(move |switch| {
        let pushed = switch.push(Change::Document(&document), options);
        drop(place);
        pushed
    });
    let pushed = pushed.await??;
    Ok(([(header::ETAG, etag(pushed.generation))], Json(pushed)).into_response())
}

/// A single change, by EC2's name of it. It takes the way of a push, and answers
/// as EC2 does, with the generation that it made.
async fn act(
    State(api): State<Api>,
    UrlPath(action): UrlPath<String>,
    query: Result<Query<PushQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let options = options(&api, query, &headers)?;
    // They would hold what the connection has read.
    drop(headers);
    let (request, place) = api.room.read(body).await?;
    let mut pushed = api.handle.change(action, request, options, place).await??;
    let mut answer = std::mem::take(&mut pushed.answer);
    answer["Generation"] = pushed.generation.into();
    answer["Enforced"] = pushed.enforced.into();
    if !pushed.notices.is_empty() {
        answer["Notices"] = json!(pushed.notices);
    }
    Ok(([(header::ETAG, etag(pushed.generation))], Json(answer)).into_response())
}

pub(crate) fn options(
    api: &Api,
    query: Result<Query<PushQuery>, QueryRejection>,
    headers: &HeaderMap,
) -> Result<PushOptions, ApiError> {
    let Query(query) = query?;
    Ok(PushOptions {
        partial: query.partial,
        no_wait: query.wait == Some(false),
        if_generation: if_match(headers)?,
        uid: api.uid,
        received: None,
    })
}

pub(crate) fn etag(generation: u64) -> String {
    format!("\"{generation}\"")
}

/// `If-Match`: the generation that must be in force.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text.trim_matches('"').parse().map_err(|_| {
        let message = "If-Match: expected a generation, as the ETag of an answer has it";
        ApiError::new(StatusCode::BAD_REQUEST, "InvalidParameterValue", message)
    })?;
    Ok(Some(number))
}

async fn policy(State(api): State<Api>) -> Result<Response, ApiError> {
    let read = |switch: &mut Switch| switch.current.as_ref().map(|c| (c.generation, c.policy.clone()));
    let (generation, policy) = api.handle.run(read).await?.ok_or_else(|| {
        ApiError::new(StatusCode::NOT_FOUND, "NoPolicy", "there is no policy yet: the switch is closed")
    })?;
    Ok(([(header::ETAG, etag(generation))], Json(policy.to_document())).into_response())
}

async fn explain(State(api): State<Api>, body: Body) -> Result<Response, ApiError> {
    let question = in_time(read(body, MAX_QUESTION)).await?;
    let request: ExplainRequest = serde_json::from_slice(&question)
        .map_err(|error| ApiError::invalid(format!("no packet to explain: {error}")))?;
    match api.handle.run(move |switch| switch.explain(&request)).await? {
        Ok(explanation) => Ok(Json(explanation).into_response()),
        Err(ExplainError::Invalid(message)) => Err(ApiError::invalid(message)),
        Err(ExplainError::Mismatch(message)) => Err(ApiError::internal(message)),
    }
}

async fn scrape(State(api): State<Api>) -> Result<Response, ApiError> {
    let text = api.handle.run(|switch| metrics::render(switch)).await?.map_err(ApiError::internal)?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_match_takes_an_etag() {
        let with =
            |value: &str| if_match(&HeaderMap::from_iter([(header::IF_MATCH, value.parse().unwrap())])).ok();
        assert_eq!(with("\"7\""), Some(Some(7)));
        assert_eq!(with("7"), Some(Some(7)));
        assert_eq!(with("*"), Some(None));
        assert_eq!(with("seven"), None);
    }
}
