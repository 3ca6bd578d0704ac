//! What speaks here: beside the versions of the API, so that a client of any
//! version can ask before it knows which of them is spoken.

use axum::Json;
use serde_json::{Value, json};

/// The versions of the API that this daemon speaks.
const API_VERSIONS: [&str; 1] = ["v1"];

/// Answers `GET /version`.
pub async fn version() -> Json<Value> {
    Json(json!({ "Version": env!("CARGO_PKG_VERSION"), "ApiVersions": API_VERSIONS }))
}
