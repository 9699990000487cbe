//! What holds for every request and every answer, whatever the path.

use axum::{
    body::HttpBody as _,
    extract::Request,
    http::{HeaderValue, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use sensor_common::report::ErrorCode;

use super::{parameters::well_formed, problem::Problem};

/// Longest path and query, in bytes; a filter of everything that there is takes a tenth.
pub(super) const MAX_TARGET: usize = 4096;

/// Refuses what no path could do anything with.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    match check(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Has browsers take an answer for what it is.
pub(super) fn harden(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // What was counted a second ago is out of date, and nobody else's to keep.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

fn check(request: &Request) -> Result<(), Problem> {
    let uri = request.uri();
    let length = uri.path().len() + uri.query().map_or(0, str::len);
    if length > MAX_TARGET {
        let message = format!(
            "the path and its query are {length} bytes long; at most {MAX_TARGET} are read"
        );
        return Err(Problem::new(ErrorCode::TooLong, message));
    }
    well_formed(uri.path())?;
    if !request.body().is_end_stream() {
        let message = "the request has a body; what is asked for belongs in the URL";
        return Err(Problem::new(ErrorCode::MalformedRequest, message));
    }
    Ok(())
}
