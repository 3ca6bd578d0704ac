//! Errors as the API answers them: EC2's shape, a list of code, message and path.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use policy::{Fault, Faults};
use serde_json::json;

/// An answer that is not what was asked for.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    faults: Faults,
}

impl ApiError {
    /// One error.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        let fault = Fault { code, message: message.into(), path: String::new() };
        ApiError { status, faults: fault.into() }
    }

    /// What is wrong with a document.
    pub fn invalid(faults: Faults) -> ApiError {
        ApiError { status: StatusCode::BAD_REQUEST, faults }
    }

    /// The switch itself could not.
    pub fn internal(error: impl std::fmt::Display) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Faults { errors, not_listed } = self.faults;
        (self.status, Json(json!({ "errors": errors, "not_listed": not_listed }))).into_response()
    }
}
