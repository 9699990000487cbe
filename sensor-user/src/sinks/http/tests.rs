mod description;
mod hostile;
mod hosts;
mod lists;
mod load;
mod page;

use std::net::Ipv4Addr;

use sensor_common::report::{ErrorAnswer, ErrorDetail, REPORT_VERSION, Report};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinHandle,
};

use super::*;
use crate::{
    config::Policy,
    model::Direction,
    sinks::{EpochTimes, Sinks},
    state::{
        Detail, Setup, State,
        fixture::{self, Far},
    },
};

struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    task: JoinHandle<std::io::Result<()>>,
}

/// A server on a free port of the loopback, whose sensor has not finished an epoch.
fn server(epoch: Duration) -> Server {
    server_with(epoch, Settings::default())
}

fn server_with(epoch: Duration, settings: Settings) -> Server {
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Arc::new(Shared::new(State::new(Setup::default()), epoch));
    let (stop, stopped) = watch::channel(false);
    let app = App::new(Arc::clone(&shared));
    let task = tokio::spawn(serve(listener, app, Arc::new(Web::new(settings)), stopped));
    Server { address, shared, stop, task }
}

impl Server {
    fn publish(&self) {
        let far = Far {
            country: fixture::country("CN"),
            address: Some("42.62.48.9".parse().unwrap()),
            ..Far::default()
        };
        let flow = fixture::flow(0, Direction::Tx, &far, 2, 200);
        Sinks::new(Arc::clone(&self.shared), fixture::lenient()).publish(
            &fixture::record(1, vec![flow]),
            &fixture::devices(),
            EpochTimes::default(),
        );
    }

    /// Status, head and body of one exchange.
    async fn exchange(&self, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
        (status, head.to_lowercase(), body.to_owned())
    }

    async fn ask(&self, method: &str, path: &str) -> (u16, String, String) {
        let rest = "HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        self.exchange(&format!("{method} {path} {rest}")).await
    }

    async fn get(&self, path: &str) -> (u16, String, String) {
        self.ask("GET", path).await
    }
}

/// The error in an answer's body.
#[track_caller]
fn problem(body: &str) -> ErrorDetail {
    let answer: ErrorAnswer = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"));
    assert_eq!(answer.version, REPORT_VERSION);
    answer.error
}

#[tokio::test]
async fn every_page_answers() {
    let server = server(Duration::from_secs(1));
    server.publish();
    assert_eq!(server.get("/healthz").await.2, "ok\n");

    let (status, head, body) = server.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("\nlabgate_epochs_total 1\n"), "{body}");
    let asked = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\naccept: text/plain;q=0.5\r\naccept: application/openmetrics-text\r\n\r\n";
    let (_, head, body) = server.exchange(asked).await;
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0;"), "{head}");
    assert!(
        body.contains("# TYPE labgate_epochs counter\n") && body.ends_with("\n# EOF\n"),
        "{body}"
    );

    let (status, head, body) = server.get("/api/v1/status").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/json"), "{head}");
    let report: Report = serde_json::from_str(&body).unwrap();
    assert_eq!(report, server.shared.snapshot().report(Detail::Prefix));
    let (_, _, body) = server.get("/api/v1/status?detail=address").await;
    let report: Report = serde_json::from_str(&body).unwrap();
    let redmi = report.devices.iter().find(|device| device.name == "redmi").unwrap();
    assert_eq!(redmi.destinations[0].address.as_deref(), Some("42.62.48.9"));

    let (status, head, body) = server.ask("HEAD", "/metrics").await;
    assert_eq!((status, body.as_str()), (200, ""), "{head}");
}

#[tokio::test]
async fn errors_are_json() {
    let server = server(Duration::from_secs(1));
    for (method, path, expected) in [
        ("GET", "/nowhere", 404),
        ("POST", "/nowhere", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/api/v1/status", 405),
        ("GET", "/api/v1/status?detail=everything", 400),
        ("GET", "/api/v1/status?details=address", 400),
        ("GET", "/readyz", 503),
    ] {
        let (status, head, body) = server.ask(method, path).await;
        assert_eq!(status, expected, "{method} {path}");
        assert!(head.contains("content-type: application/json"), "{head}");
        let error = problem(&body);
        assert!(!error.message.is_empty(), "{body}");
    }
    let (_, head, _) = server.ask("POST", "/metrics").await;
    assert!(head.contains("allow: get,head"), "{head}");
}

#[tokio::test]
async fn readiness_comes_with_the_first_epoch_and_goes_with_the_last() {
    let server = server(Duration::from_millis(20));
    let (status, _, body) = server.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("first epoch"), "{body}");
    server.publish();
    assert_eq!(server.get("/readyz").await.0, 200);
    // Five epochs of 20 ms and a second of slack.
    sleep(Duration::from_millis(1200)).await;
    let (status, _, body) = server.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("the last epoch ended"), "{body}");
    assert_eq!(server.get("/healthz").await.0, 200);
}

#[tokio::test]
async fn users_and_their_rate_are_guarded_on_every_page() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.yaml");
    let hash = bcrypt::hash("secret", 4).unwrap();
    let text = format!(
        "http_server_config: {{ headers: {{ X-Content-Type-Options: nosniff }} }}\n\
         basic_auth_users: {{ lab: {hash} }}\nrate_limit: {{ interval: 1h, burst: 6 }}\n"
    );
    std::fs::write(&path, text).unwrap();
    let server = server_with(
        Duration::from_secs(1),
        Settings::load(Some(&path), &Names::default()).unwrap(),
    );
    for page in ["/healthz", "/metrics", "/api/v1/status", "/nowhere"] {
        let (status, head, body) = server.get(page).await;
        assert_eq!(status, 401, "{page}");
        assert!(head.contains("www-authenticate: basic realm="), "{head}");
        assert!(head.contains("x-content-type-options: nosniff"), "{head}");
        assert_eq!(problem(&body).code, ErrorCode::Unauthorized);
    }
    let ask = |credentials| {
        format!(
            "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             authorization: Basic {credentials}\r\n\r\n"
        )
    };
    // `lab:secret`, and `lab:secre`; then the rate is reached.
    assert_eq!(server.exchange(&ask("bGFiOnNlY3JldA==")).await.0, 200);
    assert_eq!(server.exchange(&ask("bGFiOnNlY3Jl")).await.0, 401);
    let (status, head, _) = server.exchange(&ask("bGFiOnNlY3JldA==")).await;
    assert_eq!(status, 429);
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
}

#[tokio::test]
async fn stopping_ends_the_server_and_frees_the_port() {
    let Server { address, stop, task, shared: _shared } = server(Duration::from_secs(1));
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    idle.read_exact(&mut [0; 12]).await.unwrap();
    stop.send(true).unwrap();
    // An idle connection is closed at once, not when the grace is over.
    timeout(SHUTDOWN_GRACE / 2, task).await.expect("ends").unwrap().unwrap();
    bind(address).unwrap();
}

#[test]
fn a_port_in_use_is_one_clear_sentence() {
    let taken = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = taken.local_addr().unwrap();
    let reason = bind(address).unwrap_err().to_string();
    let expected =
        format!("{address} is in use by another program; stop it, or set another `listen` address");
    assert_eq!(reason, expected);
    let foreign = bind("192.0.2.1:9".parse().unwrap()).unwrap_err().to_string();
    assert!(foreign.starts_with("cannot listen on 192.0.2.1:9: "), "{foreign}");
}
