//! Errors as clients get them: one JSON object, [`ErrorAnswer`].

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use sensor_common::report::{ErrorAnswer, ErrorCode, ErrorDetail, REPORT_VERSION};
use utoipa::IntoResponses;

/// Longest piece of a request that an error shows, in characters.
const MAX_SHOWN: usize = 64;

/// An error to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem(ErrorDetail);

impl Problem {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(ErrorDetail { code, message: message.into(), parameter: None })
    }

    /// Names the query parameter that is to blame.
    pub(super) fn with_parameter(mut self, name: &str) -> Self {
        self.0.parameter = Some(shown(name));
        self
    }

    const fn status(&self) -> StatusCode {
        match self.0.code {
            ErrorCode::MalformedRequest
            | ErrorCode::UnknownParameter
            | ErrorCode::RepeatedParameter
            | ErrorCode::BadParameter => StatusCode::BAD_REQUEST,
            ErrorCode::TooLong => StatusCode::URI_TOO_LONG,
            ErrorCode::NotFound | ErrorCode::UnknownDevice | ErrorCode::UnknownGroup => {
                StatusCode::NOT_FOUND
            }
            ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorCode::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::NotReady | ErrorCode::Busy | ErrorCode::Stopping => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response =
            (status, Json(ErrorAnswer { version: REPORT_VERSION, error: self.0 })).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// The errors that any path may answer, for the description.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes answers; none is made of it")]
pub(super) enum Problems {
    /// The request, or a parameter of it, makes no sense here.
    #[response(status = 400)]
    BadRequest(ErrorAnswer),
    /// A user name and a password are needed, by the web configuration.
    #[response(status = 401)]
    Unauthorized(ErrorAnswer),
    /// No such path, or no device of this name.
    #[response(status = 404)]
    NotFound(ErrorAnswer),
    /// Only GET and HEAD are allowed.
    #[response(status = 405)]
    MethodNotAllowed(ErrorAnswer),
    /// The path and its query are too long.
    #[response(status = 414)]
    TooLong(ErrorAnswer),
    /// The name that was asked for is not the listener's, nor in `allowed_hosts`.
    #[response(status = 421)]
    Misdirected(ErrorAnswer),
    /// There were too many requests, by the web configuration.
    #[response(status = 429)]
    TooManyRequests(ErrorAnswer),
    /// A mistake of the sensor's own.
    #[response(status = 500)]
    Internal(ErrorAnswer),
    /// Not now; try again in a second.
    #[response(status = 503)]
    Unavailable(ErrorAnswer),
}

/// A piece of a request, as it may stand in a message: short, and on one line.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}
