//! `/api/v1`: the state in the common JSON form, whole or in parts.

use std::sync::LazyLock;

use axum::{
    Router,
    extract::State as Extension,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use sensor_common::report::{
    AlertList, BooksAnswer, DestinationList, DeviceList, ErrorAnswer, ErrorCode, Report,
};
use serde::Serialize;
use utoipa::OpenApi;

use super::{
    App,
    parameters::{
        AlertParameters, DestinationParameters, DeviceParameters, NoPeriod, Nothing, Parameters,
        StatusParameters, now,
    },
    problem::{Problem, Problems, shown},
};
use crate::{
    sinks::ledger::{self, LedgerError, Patience, Period},
    state::{AlertQuery, DestinationQuery, DeviceQuery, DeviceRef, State},
};

const JSON: &str = "application/json";

/// What this module serves, for the router.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/status", get(status))
        .route("/api/v1/devices", get(devices))
        .route("/api/v1/destinations", get(destinations))
        .route("/api/v1/alerts", get(alerts))
        .route("/api/v1/books", get(books))
        .route("/api/v1/openapi.json", get(description))
}

/// The description of everything that is served.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "LabGate",
        description = "Where does each device on the bench send its data? Nothing can be changed \
                       here: every path takes GET and HEAD. A parameter that is not known, or given \
                       twice, is an error. Errors are objects with a stable code; only what is no \
                       HTTP gets a bare status. Times are RFC 3339 in UTC with milliseconds; bytes are \
                       whole frames without FCS."
    ),
    paths(
        status,
        devices,
        destinations,
        alerts,
        books,
        description,
        super::serve_metrics,
        super::healthz,
        super::readyz
    ),
    components(schemas(ErrorAnswer))
)]
struct Description;

/// The whole state: devices with all their destinations, alerts, books, interfaces.
#[utoipa::path(get, path = "/api/v1/status", params(StatusParameters),
    responses((status = 200, description = "The state", body = Report), Problems))]
async fn status(
    Extension(app): Extension<App>,
    Parameters(StatusParameters { detail }): Parameters<StatusParameters>,
) -> Response {
    app.render(move |app| json(app, &app.shared.snapshot().report(detail))).await
}

/// The devices, each with its totals.
#[utoipa::path(get, path = "/api/v1/devices", params(DeviceParameters),
    responses((status = 200, description = "The devices that match", body = DeviceList), Problems))]
async fn devices(
    Extension(app): Extension<App>,
    Parameters(parameters): Parameters<DeviceParameters>,
) -> Response {
    let query = match parameters.query(&now()) {
        Ok(query) => query,
        Err(error) => return no_period(&error).into_response(),
    };
    let Some(period) = query.period else {
        let answer = move |app: &App| {
            let state = app.shared.snapshot();
            require_device(&state, query.device.as_ref())?;
            require_group(&state, query.group.as_deref())?;
            json(app, &state.device_list(&query))
        };
        return app.render(answer).await;
    };
    app.ask_ledger(move |app, patience| {
        let state = app.shared.snapshot();
        require_device(&state, query.device.as_ref())?;
        require_group(&state, query.group.as_deref())?;
        let device = query.device.as_ref().map(|device| state.resolved(device));
        let period = of_period(&state, period, device.as_ref(), patience)?;
        json(app, &period.device_list(&DeviceQuery { device, ..query }))
    })
    .await
}

/// The destinations of all devices, one row each, by bytes.
#[utoipa::path(get, path = "/api/v1/destinations", params(DestinationParameters),
    responses((status = 200, description = "The rows that match", body = DestinationList), Problems))]
async fn destinations(
    Extension(app): Extension<App>,
    Parameters(parameters): Parameters<DestinationParameters>,
) -> Response {
    let query = match parameters.query(&now()) {
        Ok(query) => query,
        Err(error) => return no_period(&error).into_response(),
    };
    let Some(period) = query.period else {
        let answer = move |app: &App| {
            let state = app.shared.snapshot();
            require_device(&state, query.device.as_ref())?;
            require_group(&state, query.group.as_deref())?;
            json(app, &state.destination_list(&query))
        };
        return app.render(answer).await;
    };
    app.ask_ledger(move |app, patience| {
        let state = app.shared.snapshot();
        require_device(&state, query.device.as_ref())?;
        require_group(&state, query.group.as_deref())?;
        let device = query.device.as_ref().map(|device| state.resolved(device));
        let period = of_period(&state, period, device.as_ref(), patience)?;
        json(app, &period.destination_list(&DestinationQuery { device, ..query }))
    })
    .await
}

/// The breaches of the policy, oldest first.
#[utoipa::path(get, path = "/api/v1/alerts", params(AlertParameters),
    responses((status = 200, description = "The alerts that match", body = AlertList), Problems))]
async fn alerts(
    Extension(app): Extension<App>,
    Parameters(parameters): Parameters<AlertParameters>,
) -> Response {
    let query = AlertQuery::from(parameters);
    app.render(move |app| {
        let state = app.shared.snapshot();
        let alerts = state.alert_list(&query);
        if alerts.matched == 0 {
            require_device(&state, query.device.as_ref())?;
        }
        json(app, &alerts)
    })
    .await
}

/// Whether everything that passed the hooks is accounted for.
#[utoipa::path(get, path = "/api/v1/books",
    responses((status = 200, description = "The books", body = BooksAnswer), Problems))]
async fn books(Extension(app): Extension<App>, _: Parameters<Nothing>) -> Response {
    app.render(|app| json(app, &app.shared.snapshot().books_answer())).await
}

/// This description, in the form of OpenAPI 3.1.
#[utoipa::path(get, path = "/api/v1/openapi.json",
    responses((status = 200, description = "The description", body = Object), Problems))]
async fn description(_: Parameters<Nothing>) -> Response {
    static TEXT: LazyLock<String> =
        LazyLock::new(|| Description::openapi().to_json().unwrap_or_default());
    ([(header::CONTENT_TYPE, JSON)], TEXT.as_str()).into_response()
}

/// What the ledger has of a period, of one device or of all.
fn of_period(
    state: &State,
    period: (u64, u64),
    device: Option<&DeviceRef>,
    patience: &Patience,
) -> Result<Period, Problem> {
    let Some(keeping) = state.keeping() else {
        let message = "the sensor keeps no ledger (`ledger: off`), so it knows of no period";
        let parameter = if period.0 == 0 { "until" } else { "since" };
        return Err(Problem::new(ErrorCode::BadParameter, message).with_parameter(parameter));
    };
    ledger::period(&keeping.path, period, device, state.setup().clone(), patience)
        .map(|period| period.known_as_in(state))
        .map_err(|error| {
            let code = match error {
                LedgerError::Stopped => ErrorCode::Busy,
                _ => ErrorCode::Internal,
            };
            Problem::new(code, format!("the ledger: {error}"))
        })
}

fn no_period(error: &NoPeriod) -> Problem {
    Problem::new(ErrorCode::BadParameter, error.to_string()).with_parameter("until")
}

fn json(app: &App, answer: &impl Serialize) -> Result<Response, Problem> {
    let text = serde_json::to_vec(answer)
        .map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?;
    app.answer(JSON, text)
}

/// A name that nobody has is a slip; a MAC address that was not seen yet may still be.
fn require_device(state: &State, device: Option<&DeviceRef>) -> Result<(), Problem> {
    let Some(device) = device else { return Ok(()) };
    // Before the first epoch no device is known.
    if device.is_mac() || state.epochs() == 0 || state.has_device(device) {
        return Ok(());
    }
    let message = format!(
        "no device has the name, address or host name `{}`; /api/v1/devices lists them",
        shown(device.typed())
    );
    Err(Problem::new(ErrorCode::UnknownDevice, message).with_parameter("device"))
}

/// A group of which there is no device and no rule is a slip, too.
fn require_group(state: &State, group: Option<&str>) -> Result<(), Problem> {
    let Some(group) = group.filter(|group| state.epochs() > 0 && !state.has_group(group)) else {
        return Ok(());
    };
    let message = format!(
        "no device is in a group `{}`, and the policy has none of that name; /api/v1/devices has them",
        shown(group)
    );
    Err(Problem::new(ErrorCode::UnknownGroup, message).with_parameter("group"))
}
