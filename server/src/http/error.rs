//! The one place where errors become HTTP. Internal text stays in the log.

use crate::store::StoreError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pocketci_pipeline::multipart::Fault;
use pocketci_proto::api::{ErrorBody, ErrorDetail};

/// What a caller can be told.
#[derive(Debug, Clone)]
pub(super) enum ApiError {
    NotFound { what: &'static str, name: String },
    NoSuchPath,
    WrongMethod,
    Unauthorized,
    BadSignature,
    Forbidden(String),
    Invalid(String),
    InvalidPipeline { name: String, faults: Vec<String> },
    InvalidTask { name: String, faults: Vec<String> },
    StorageFull(String),
    Paused { name: String },
    GateClosed(String),
    Conflict(String),
    Gone(String),
    QueueFull,
    Overloaded,
    TooOften { seconds: u64 },
    MethodNotHere { allow: String },
    HeadTooLarge { limit: usize },
    NotJson,
    BodyTooLarge { limit: usize },
    TooManyParts(Fault),
    BodyTooSlow,
    BodyBroken,
    Busy,
    Unavailable,
    Internal,
}

/// Seconds after which trying again makes sense.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

impl ApiError {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NotFound { .. } | Self::NoSuchPath => StatusCode::NOT_FOUND,
            Self::WrongMethod | Self::MethodNotHere { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unauthorized | Self::BadSignature => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Invalid(_) | Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::InvalidPipeline { .. } | Self::InvalidTask { .. } => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::StorageFull(_) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Paused { .. } | Self::GateClosed(_) | Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Gone(_) => StatusCode::GONE,
            Self::QueueFull | Self::TooOften { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::HeadTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BodyTooLarge { .. } | Self::TooManyParts(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Busy | Self::Unavailable | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// For programs, and for the log: unlike the message it never repeats what the caller sent.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::NotFound { what: "run", .. } => "run_not_found",
            Self::NotFound {
                what: "pipeline", ..
            } => "pipeline_not_found",
            Self::NotFound {
                what: "receipt", ..
            } => "receipt_not_found",
            Self::NotFound { .. } => "not_found",
            Self::NoSuchPath => "no_such_path",
            Self::WrongMethod | Self::MethodNotHere { .. } => "method_not_allowed",
            Self::Unauthorized => "unauthorized",
            Self::BadSignature => "invalid_signature",
            Self::Forbidden(_) => "forbidden",
            Self::Invalid(_) => "invalid_request",
            Self::InvalidPipeline { .. } => "invalid_pipeline",
            Self::InvalidTask { .. } => "invalid_task",
            Self::StorageFull(_) => "storage_full",
            Self::Paused { .. } => "pipeline_paused",
            Self::GateClosed(_) => "gate_closed",
            Self::Conflict(_) => "conflict",
            Self::Gone(_) => "gone",
            Self::QueueFull | Self::Overloaded => "queue_full",
            Self::TooOften { .. } => "rate_limited",
            Self::HeadTooLarge { .. } => "head_too_large",
            Self::NotJson => "unsupported_media_type",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::TooManyParts(_) => "too_many_parts",
            Self::BodyTooSlow => "body_too_slow",
            Self::BodyBroken => "body_broken",
            Self::Busy => "too_many_requests_at_once",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    fn message(&self) -> String {
        match self {
            Self::NotFound { what, name } => format!("no {what} {name:?} here"),
            Self::NoSuchPath => "no such path; /api/openapi.json lists all".into(),
            Self::WrongMethod => "this path does not know that method; /api/openapi.json lists them".into(),
            Self::Unauthorized => {
                "a valid token is required: send Authorization: Bearer <the server's --auth-token (CI_AUTH_TOKEN)>".into()
            }
            Self::BadSignature => "the request's signature is missing or not valid".into(),
            Self::Forbidden(message) | Self::Invalid(message) => message.clone(),
            Self::InvalidPipeline { name, faults } => {
                let plural = if faults.len() == 1 { "fault" } else { "faults" };
                format!("{name} has {} {plural}", faults.len())
            }
            Self::InvalidTask { name, faults } => {
                let plural = if faults.len() == 1 { "fault" } else { "faults" };
                format!("task {name:?} has {} {plural}", faults.len())
            }
            Self::StorageFull(why) => why.clone(),
            Self::Paused { name } => format!("pipeline {name:?} is paused; unpause it first"),
            Self::GateClosed(why) => format!("the gate cannot be decided any more: {why}"),
            Self::Conflict(why) | Self::Gone(why) => why.clone(),
            Self::MethodNotHere { allow } => format!("this webhook does not take that method, but {allow}"),
            Self::QueueFull | Self::Overloaded => "too many jobs are queued; try again later".into(),
            Self::TooOften { seconds } => format!("this webhook takes no more requests for {seconds} s"),
            Self::HeadTooLarge { limit } => format!("the request's address and headers have more than {limit} bytes"),
            Self::NotJson => "the body must be JSON: send Content-Type: application/json".into(),
            Self::BodyTooLarge { limit } => format!("the body is larger than {limit} bytes"),
            Self::TooManyParts(fault) => fault.to_string(),
            Self::BodyTooSlow => "the body did not arrive in time".into(),
            Self::BodyBroken => "the body ended before it was complete".into(),
            Self::Busy => "too many requests at once; try again".into(),
            Self::Unavailable => "the server cannot reach its database; nothing was lost, try again".into(),
            Self::Internal => "internal error; the server's log has it under this request id".into(),
        }
    }

    /// As JSON with the request's id.
    pub(super) fn render(self, request_id: &str) -> Response {
        let retry = matches!(
            self,
            Self::QueueFull | Self::Overloaded | Self::Busy | Self::Unavailable
        );
        let body = ErrorBody {
            error: ErrorDetail {
                code: self.code().to_owned(),
                message: self.message(),
                request_id: request_id.to_owned(),
                details: match &self {
                    Self::InvalidPipeline { faults, .. } | Self::InvalidTask { faults, .. } => {
                        faults.clone()
                    }
                    _ => Vec::new(),
                },
            },
        };
        let mut response = (self.status(), axum::Json(body)).into_response();
        let headers = response.headers_mut();
        if retry {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if let Self::TooOften { seconds } = &self {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
        }
        if let Self::MethodNotHere { allow } = &self
            && let Ok(allow) = HeaderValue::from_str(allow)
        {
            headers.insert(header::ALLOW, allow);
        }
        if matches!(self, Self::Unauthorized) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(
            self,
            Self::BodyTooLarge { .. } | Self::BodyTooSlow | Self::BodyBroken
        ) {
            // What is left of the body is not read.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl IntoResponse for ApiError {
    /// The body is rendered by `request_id::finish`, which knows the id.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let shown = &error as &dyn std::error::Error;
        match &error {
            StoreError::Unavailable(cause) => {
                tracing::warn!(error = shown, cause = %cause, "the store is unavailable");
                Self::Unavailable
            }
            StoreError::Internal(cause) => {
                tracing::error!(error = shown, cause = %cause, "the store failed");
                Self::Internal
            }
            StoreError::SchemaTooNew { .. } => {
                tracing::error!(error = shown, "the store failed");
                Self::Internal
            }
        }
    }
}

pub(super) async fn no_such_path() -> ApiError {
    ApiError::NoSuchPath
}

pub(super) async fn wrong_method() -> ApiError {
    ApiError::WrongMethod
}
