//! The routes.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use policy::{ExplainError, ExplainRequest};
use serde::Deserialize;
use serde_json::Value;

use crate::error::ApiError;
use crate::push::{PushError, PushOptions};
use crate::switch::{Handle, Switch};
use crate::{metrics, views};

/// The largest document.
const MAX_BODY: usize = 64 << 20;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How deep a document may nest: more than any that means something.
const MAX_DEPTH: usize = 64;

/// The most connections that one answer lists.
const MAX_FLOWS: usize = 100_000;

#[derive(Clone)]
struct Api {
    handle: Handle,
    /// Who is at the other end of the socket.
    uid: Option<u32>,
}

/// All routes, for a peer of the socket.
pub fn router(handle: Handle, uid: Option<u32>) -> Router {
    let view = |view: fn(&Switch) -> Value| get(move |State(api): State<Api>| show(api, view));
    Router::new()
        .route("/v1/policy", put(push).get(policy))
        .route("/v1/status", view(views::status))
        .route("/v1/groups", view(views::groups))
        .route("/v1/rules", view(views::rules))
        .route("/v1/interfaces", view(views::interfaces))
        .route("/v1/prefix-lists", view(views::prefix_lists))
        .route("/v1/stale", view(views::stale))
        .route("/v1/ports", view(views::ports))
        .route("/v1/workers", view(views::workers))
        .route("/v1/drops", view(views::drops))
        .route("/v1/flows", get(flows))
        .route("/v1/explain", post(explain))
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(|| async {
            ApiError::new(StatusCode::NOT_FOUND, "InvalidAction", "there is nothing at this path")
        })
        .with_state(Api { handle, uid })
}

/// The routes that TCP has.
pub fn metrics_only(handle: Handle) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(Api { handle, uid: None })
}

/// For a peer that may not use the socket.
pub fn refusing() -> Router {
    let message =
        "this user may not use the socket: root, the daemon's user and members of the socket's group may";
    Router::new().fallback(move || async move {
        ApiError::new(StatusCode::FORBIDDEN, "UnauthorizedOperation", message)
    })
}

fn stopping<T>() -> Result<T, ApiError> {
    Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", "the switch is stopping"))
}

async fn show(api: Api, view: fn(&Switch) -> Value) -> Response {
    match api.handle.run(move |switch| view(switch)).await {
        Some(value) => Json(value).into_response(),
        None => stopping::<()>().into_response(),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PushQuery {
    partial: bool,
    wait: Option<bool>,
}

async fn push(
    State(api): State<Api>,
    Query(query): Query<PushQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let options = PushOptions {
        partial: query.partial,
        no_wait: query.wait == Some(false),
        if_generation: if_match(&headers)?,
        uid: api.uid,
    };
    let document = read_json(body).await?;
    let Some(result) = api.handle.run(move |switch| switch.push(&document, options)).await else {
        return stopping();
    };
    match result {
        Ok(pushed) => Ok(([(header::ETAG, etag(pushed.generation))], Json(pushed)).into_response()),
        Err(PushError::Invalid(faults)) => Err(ApiError::invalid(faults)),
        Err(PushError::Conflict { current }) => {
            let message = format!("generation {current} is in force, not the one the change was made for");
            Err(ApiError::new(StatusCode::PRECONDITION_FAILED, "IncorrectState", message))
        }
        Err(PushError::SelfCheck(message) | PushError::Store(message)) => Err(ApiError::internal(message)),
        Err(PushError::NotEnforced(late)) => {
            let message = format!("{late}; it is stored and in force with the others");
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "NotEnforced", message))
        }
    }
}

fn etag(generation: u64) -> String {
    format!("\"{generation}\"")
}

/// `If-Match`: the generation that must be in force.
fn if_match(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
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

/// A body of bounded size, time and depth, as JSON.
async fn read_json(body: Body) -> Result<Value, ApiError> {
    let malformed = |message: String| ApiError::new(StatusCode::BAD_REQUEST, "MalformedDocument", message);
    let bytes = match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) if is_too_large(&error) => {
            let message = format!("a document has {MAX_BODY} bytes at most");
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestLimitExceeded", message));
        }
        Ok(Err(error)) => return Err(malformed(format!("the body cannot be read: {error}"))),
        Err(_) => {
            let message = "the body did not arrive in time";
            return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "RequestExpired", message));
        }
    };
    if depth(&bytes) > MAX_DEPTH {
        return Err(malformed(format!("the document nests deeper than {MAX_DEPTH}")));
    }
    serde_json::from_slice(&bytes).map_err(|error| malformed(format!("the document is no JSON: {error}")))
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// How deep lists and objects nest, by their brackets outside of strings.
fn depth(json: &[u8]) -> usize {
    let (mut now, mut most, mut quoted, mut escaped) = (0usize, 0, false, false);
    for byte in json {
        match (quoted, escaped, byte) {
            (true, true, _) => escaped = false,
            (true, false, b'\\') => escaped = true,
            (_, _, b'"') => quoted = !quoted,
            (false, _, b'[' | b'{') => {
                now += 1;
                most = most.max(now);
            }
            (false, _, b']' | b'}') => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}

async fn policy(State(api): State<Api>) -> Result<Response, ApiError> {
    let read = |switch: &mut Switch| switch.current.as_ref().map(|c| (c.generation, c.policy.clone()));
    let Some(current) = api.handle.run(read).await else { return stopping() };
    let Some((generation, policy)) = current else {
        let message = "there is no policy yet: the switch is closed";
        return Err(ApiError::new(StatusCode::NOT_FOUND, "NoPolicy", message));
    };
    Ok(([(header::ETAG, etag(generation))], Json(policy.to_document())).into_response())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FlowQuery {
    limit: Option<usize>,
    interface: Option<String>,
    protocol: Option<u8>,
}

async fn flows(State(api): State<Api>, Query(query): Query<FlowQuery>) -> Result<Response, ApiError> {
    let limit = query.limit.unwrap_or(1000);
    if limit > MAX_FLOWS {
        let message = format!("limit: expected {MAX_FLOWS} at most");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "InvalidParameterValue", message));
    }
    let filter = views::FlowFilter { limit, interface: query.interface, protocol: query.protocol };
    match api.handle.run(move |switch| views::flows(switch, &filter)).await {
        Some(Ok(value)) => Ok(Json(value).into_response()),
        Some(Err(message)) => {
            Err(ApiError::new(StatusCode::BAD_REQUEST, "InvalidNetworkInterfaceID.NotFound", message))
        }
        None => stopping(),
    }
}

async fn explain(State(api): State<Api>, body: Body) -> Result<Response, ApiError> {
    let document = read_json(body).await?;
    let request: ExplainRequest = serde_json::from_value(document).map_err(|error| {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            "InvalidParameterValue",
            format!("no packet to explain: {error}"),
        )
    })?;
    match api.handle.run(move |switch| switch.explain(&request)).await {
        Some(Ok(explanation)) => Ok(Json(explanation).into_response()),
        Some(Err(ExplainError::Invalid(message))) => {
            Err(ApiError::new(StatusCode::BAD_REQUEST, "InvalidParameterValue", message))
        }
        Some(Err(ExplainError::Mismatch(message))) => Err(ApiError::internal(message)),
        None => stopping(),
    }
}

async fn scrape(State(api): State<Api>) -> Result<Response, ApiError> {
    let Some(text) = api.handle.run(|switch| metrics::render(switch)).await else { return stopping() };
    let text = text.map_err(ApiError::internal)?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        assert_eq!(depth(br#"{"a": [1, {"b": "[[[[ \" [[["}]}"#), 3);
        assert_eq!(depth(&[b'['; 100_000]), 100_000);
        assert_eq!(depth(b"]]]] 7"), 0);
    }

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
