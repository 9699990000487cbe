//! Whom a request is for.

use super::*;
use crate::config;

fn named(more: &str) -> Server {
    let text = format!("interfaces: [{{ name: lan0 }}]\n{more}\n");
    let names = Names::new(&config::parse(&text, "config.yaml").unwrap());
    server_with(Duration::from_secs(1), Settings::load(None, &names).unwrap())
}

async fn status(server: &Server, target: &str, hosts: &[&str]) -> u16 {
    let hosts: String = hosts.iter().map(|host| format!("host: {host}\r\n")).collect();
    let request = format!("GET {target} HTTP/1.1\r\n{hosts}connection: close\r\n\r\n");
    server.exchange(&request).await.0
}

#[tokio::test]
async fn the_listener_answers_to_its_own_names_alone() {
    let server = named("allowed_hosts: [Gateway.lan., 192.0.2.7, \"2001:db8::1\"]");
    server.publish();
    for path in ["/metrics", "/api/v1/status", "/healthz", "/"] {
        assert_eq!(status(&server, path, &["localhost"]).await, 200, "{path}");
        assert_eq!(status(&server, path, &["rebound.example"]).await, 421, "{path}");
    }
    for (host, expected) in [
        ("127.0.0.1:9469", 200),
        ("LOCALHOST.:1", 200),
        ("[::1]", 200),
        ("[::ffff:127.0.0.1]:80", 200),
        ("gateway.lan", 200),
        ("gateway.LAN.:9469", 200),
        ("192.0.2.7", 200),
        ("[2001:db8::1]:9469", 200),
        ("192.0.2.8", 421),
        ("[2001:db8::2]", 421),
        ("0.0.0.0", 421),
        ("lan", 421),
        ("www.gateway.lan", 421),
        ("gateway.lan.rebound.example", 421),
        ("localhost.rebound.example", 421),
        ("127.0.0.1.rebound.example", 421),
        ("localhost@rebound.example", 421),
        ("localhost:80@rebound.example", 421),
        ("localhost,rebound.example", 421),
        ("localhost:x", 421),
        ("2130706433", 421),
        ("", 421),
    ] {
        assert_eq!(status(&server, "/healthz", &[host]).await, expected, "{host}");
    }
    // Nobody means two of them; a proxy and we might take another one for the first.
    for hosts in [&["localhost", "rebound.example"][..], &["localhost", "localhost"], &[]] {
        assert_eq!(status(&server, "/healthz", hosts).await, 400, "{hosts:?}");
    }
    for (target, host, expected) in [
        ("http://localhost/healthz", "localhost", 200),
        ("http://127.0.0.1:1/healthz", "gateway.lan", 200),
        ("http://rebound.example/healthz", "localhost", 421),
        ("http://localhost/healthz", "rebound.example", 421),
        ("http://localhost@rebound.example/healthz", "localhost", 421),
    ] {
        assert_eq!(status(&server, target, &[host]).await, expected, "{target} {host}");
    }
    let old = server.exchange("GET /healthz HTTP/1.0\r\n\r\n").await;
    assert_eq!(old.0, 421, "who does not say whom it is for");
    for method in ["HEAD", "POST", "OPTIONS"] {
        let request = format!("{method} / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        assert_eq!(server.exchange(&request).await.0, 421, "{method}");
    }
}

#[tokio::test]
async fn a_refusal_says_how_to_allow_the_name() {
    let server = named("");
    let ask = "GET /metrics HTTP/1.1\r\nhost: gw.lab:9469\r\nconnection: close\r\n\r\n";
    let (status, head, body) = server.exchange(ask).await;
    assert_eq!((status, problem(&body).code), (421, ErrorCode::Misdirected));
    assert!(problem(&body).message.contains("add it to `allowed_hosts`"), "{body}");
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
}

/// The address that the listener has, and that of the connection where it has all.
#[tokio::test]
async fn addresses_are_its_own_where_they_lead_to_it() {
    assert_eq!(status(&named("listen: 192.0.2.1:9469"), "/healthz", &["192.0.2.1"]).await, 200);
    let hosts = super::super::hosts::Hosts::default();
    let asked = |host: &str, local: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        let uri = "/".parse().unwrap();
        let local = Some(local.parse().unwrap());
        hosts.check((&uri, &headers, axum::http::Version::HTTP_11), local).is_ok()
    };
    assert!(asked("192.0.2.1:9469", "::ffff:192.0.2.1"));
    assert!(asked("[2001:db8::1]", "2001:db8::1"));
    assert!(!asked("192.0.2.2", "192.0.2.1"));
}
