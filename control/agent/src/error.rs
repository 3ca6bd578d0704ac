//! Errors as the API answers them: EC2's shape, a list of code, message and path.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use policy::{Fault, Faults};
use serde_json::json;

use crate::inbox::Unanswered;
use crate::push::PushError;

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

    /// The request is not what was expected.
    pub fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "InvalidParameterValue", message)
    }

    /// The switch itself could not.
    pub fn internal(error: impl std::fmt::Display) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", error.to_string())
    }
}

impl From<Unanswered> for ApiError {
    fn from(why: Unanswered) -> ApiError {
        match why {
            Unanswered::Stopping => {
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", "the switch is stopping")
            }
            Unanswered::Failed => {
                ApiError::internal("the request has failed inside the switch; its log says where")
            }
        }
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "InvalidParameterValue", rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "InvalidParameterValue", rejection.body_text())
    }
}

impl From<PushError> for ApiError {
    fn from(error: PushError) -> ApiError {
        match error {
            PushError::Invalid(faults) => ApiError { status: StatusCode::BAD_REQUEST, faults },
            PushError::UnknownAction => {
                ApiError::new(StatusCode::NOT_FOUND, "InvalidAction", "there is no action of this name")
            }
            PushError::Conflict { current } => {
                let message =
                    format!("generation {current} is in force, not the one the change was made for");
                ApiError::new(StatusCode::PRECONDITION_FAILED, "IncorrectState", message)
            }
            PushError::NotKept(message) => {
                ApiError::new(StatusCode::BAD_REQUEST, "InvalidParameterValue", message)
            }
            PushError::SelfCheck(message) | PushError::Store(message) => ApiError::internal(message),
            PushError::NotEnforced(late) => {
                let message = format!("{late}; it is stored, and in force with the others");
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "NotEnforced", message)
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Faults { errors, not_listed } = self.faults;
        (self.status, Json(json!({ "errors": errors, "not_listed": not_listed }))).into_response()
    }
}
