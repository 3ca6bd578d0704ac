//! The compiled tables in force against the linear oracle, at leisure.

use std::collections::HashMap;
use std::time::Instant;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use policy::self_check_by;
use serde::Deserialize;
use serde_json::json;

use crate::api::Api;
use crate::bodies::MAX_DOCUMENT;
use crate::error::ApiError;

/// Packets that are asked about unless another number is given.
const SAMPLES: usize = 20_000;

/// The most.
const MAX_SAMPLES: usize = 10_000_000;

/// The routes.
pub fn routes() -> Router<Api> {
    Router::new().route("/v1/verify", post(verify))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct VerifyQuery {
    samples: Option<usize>,
}

/// Neither the workers nor the control thread wait for it.
async fn verify(
    State(api): State<Api>,
    query: Result<Query<VerifyQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(VerifyQuery { samples }) = query?;
    let samples = samples.unwrap_or(SAMPLES);
    if !(1..=MAX_SAMPLES).contains(&samples) {
        return Err(ApiError::invalid(format!("samples: expected 1 to {MAX_SAMPLES}")));
    }
    let _place = api.room.place(MAX_DOCUMENT).await?;
    let current = api
        .handle
        .run(|switch| {
            let current = switch.current.as_ref()?;
            Some((current.generation, current.book.clone(), current.snapshot.clone(), switch.names()))
        })
        .await?;
    let Some((generation, book, snapshot, names)) = current else {
        let message = "there is no policy yet: the switch is closed";
        return Err(ApiError::new(StatusCode::NOT_FOUND, "NoPolicy", message));
    };
    let check = move || {
        let start = Instant::now();
        let numbers: HashMap<&str, _> =
            names.interfaces.iter().map(|(id, name)| (name.as_str(), *id)).collect();
        let checked = self_check_by(&book, |id| numbers.get(id).copied(), &snapshot, samples);
        let (asked, mismatch) = match checked {
            Ok(asked) => (asked, None),
            Err(mismatch) => (0, Some(mismatch.to_string())),
        };
        if let Some(mismatch) = &mismatch {
            tracing::error!("verification of generation {generation}: {mismatch}");
        }
        json!({
            "Generation": generation,
            "NetworkInterfaces": book.policy().interfaces.len(),
            "PacketsAsked": asked,
            "Mismatch": mismatch,
            "Seconds": start.elapsed().as_secs_f64(),
        })
    };
    let answer = tokio::task::spawn_blocking(check).await.map_err(ApiError::internal)?;
    Ok(Json(answer).into_response())
}
