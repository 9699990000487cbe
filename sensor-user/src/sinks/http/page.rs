//! The page at `/`: how the sensor is, and where everything else is. Plain text for those who don't
//! ask for HTML.

use std::{fmt::Write as _, sync::LazyLock, time::Instant};

use askama::Template;
use axum::{
    extract::State as Extension,
    http::{HeaderMap, header},
    response::Response,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sensor_common::report::{Books, ErrorCode, Interface};
use sha2::{Digest as _, Sha256};

use super::{
    App,
    parameters::{Nothing, Parameters},
    problem::Problem,
};
use crate::state::rfc3339;

const STYLE: &str = include_str!("index.css");

/// Where else to look.
const LINKS: [(&str, &str); 9] = [
    ("/api/v1/devices", "devices with their totals"),
    ("/api/v1/destinations", "where their data goes, most bytes first"),
    ("/api/v1/alerts", "breaches of the policy"),
    ("/api/v1/books", "whether every packet is accounted for"),
    ("/api/v1/status", "all of that in one answer"),
    ("/api/v1/openapi.json", "the API's description, with all filters"),
    ("/metrics", "metrics for Prometheus"),
    ("/healthz", "whether the process answers"),
    ("/readyz", "whether it counts"),
];

/// Nothing is loaded, run, framed or sent; the page's own style is known by its hash.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
});

#[derive(Template)]
#[template(path = "index.html")]
struct Page<'a> {
    style: &'static str,
    version: &'static str,
    not_ready: Option<String>,
    time: String,
    books: Books,
    accounted: u64,
    devices: usize,
    alerts: usize,
    interfaces: Vec<Interface>,
    links: [(&'static str, &'static str); LINKS.len()],
    attribution: &'a str,
}

/// Answers `/`.
pub(super) async fn index(
    Extension(app): Extension<App>,
    _: Parameters<Nothing>,
    headers: HeaderMap,
) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    // Browsers name it; curl's */* is content with text.
    let html = accept.is_some_and(|accept| accept.contains("text/html"));
    app.render(move |app| render(app, html)).await
}

fn render(app: &App, html: bool) -> Result<Response, Problem> {
    let state = app.shared.snapshot();
    let books = state.books_answer().books;
    let page = Page {
        style: STYLE,
        version: env!("CARGO_PKG_VERSION"),
        not_ready: app.shared.ready(Instant::now()).err().map(|reason| reason.to_string()),
        time: rfc3339(state.ended()),
        accounted: books.attributed_packets
            + books.coarse_packets
            + books.overflow_packets
            + books.unparsed_packets,
        books,
        devices: state.devices().count(),
        alerts: state.alerts().count(),
        interfaces: state.interfaces_report(),
        links: LINKS,
        attribution: &state.setup().attribution,
    };
    let mut response = if html {
        let text = Template::render(&page)
            .map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?;
        app.answer("text/html; charset=utf-8", text.into_bytes())?
    } else {
        app.answer("text/plain; charset=utf-8", page.text().into_bytes())?
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::VARY, "accept"),
    ] {
        let value = value.parse().map_err(|_invalid| {
            Problem::new(ErrorCode::Internal, format!("{name} can't be sent"))
        })?;
        headers.insert(name, value);
    }
    Ok(response)
}

impl Page<'_> {
    /// The same in a few lines, for a terminal.
    fn text(&self) -> String {
        let ready = self
            .not_ready
            .as_ref()
            .map_or_else(|| "ready".to_owned(), |reason| format!("not ready: {reason}"));
        let closed = if self.books.closed { "closed" } else { "OPEN" };
        let mut text = format!(
            "LabGate {}: where does each device on the bench send its data?\n\
             {ready}; books {closed}; {} devices, {} alerts, {} packets\n\n",
            self.version, self.devices, self.alerts, self.books.seen_packets
        );
        for (path, what) in self.links {
            // Writing to a String cannot fail.
            let _ok = writeln!(text, "{path:<22} {what}");
        }
        text
    }
}
