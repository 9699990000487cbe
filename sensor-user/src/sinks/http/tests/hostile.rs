//! Clients that are broken, or mean it.

use super::*;

#[tokio::test]
async fn an_oversized_head_is_refused() {
    let server = server(Duration::from_secs(1));
    let path = "x".repeat(MAX_HEAD + 1);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(format!("GET /{path}").as_bytes()).await.unwrap();
    let mut start = [0; 12];
    let answer = timeout(HEAD_TIMEOUT / 2, stream.read_exact(&mut start)).await;
    answer.expect("refused before the head's time is over").unwrap();
    assert_eq!(String::from_utf8_lossy(&start), "HTTP/1.1 431");
    assert_eq!(server.get("/healthz").await.0, 200);
}

#[tokio::test]
async fn a_client_that_sends_nothing_is_closed() {
    let server = server(Duration::from_secs(1));
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
    assert_eq!(server.get("/healthz").await.0, 200);
    let started = Instant::now();
    let mut rest = Vec::new();
    timeout(HEAD_TIMEOUT * 2, idle.read_to_end(&mut rest)).await.expect("closed").unwrap();
    assert!(started.elapsed() > HEAD_TIMEOUT / 2);
}

#[tokio::test]
async fn a_client_that_trickles_is_closed_too() {
    let server = server(Duration::from_secs(1));
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
    let trickle = async {
        while slow.write_all(b"y").await.is_ok() {
            sleep(HEAD_TIMEOUT / 20).await;
        }
    };
    timeout(HEAD_TIMEOUT * 2, trickle).await.expect("closed, although bytes keep coming");
}

/// Connections that wait for their clients, some for a head, some in the middle of one, and one that takes no answer.
#[tokio::test]
async fn idle_connections_keep_nobody_out() {
    let server = server(Duration::from_secs(1));
    let mut idle = Vec::new();
    for number in 0..2 * connections::MAX_CONNECTIONS {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: ").await.unwrap();
        }
        idle.push(stream);
    }
    for path in ["/healthz", "/metrics", "/api/v1/status"] {
        let served = timeout(HEAD_TIMEOUT / 2, server.get(path)).await;
        assert_eq!(served.expect("not kept out").0, 200, "{path}");
    }
}

/// Sends bytes as they are and reads all that comes back.
async fn raw(server: &Server, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // The server may close before it has read everything.
    stream.write_all(request).await.ok();
    let mut answer = Vec::new();
    let read = timeout(HEAD_TIMEOUT * 2, stream.read_to_end(&mut answer)).await;
    read.expect("an answer or an end in bounded time").ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn what_is_no_request_is_refused_or_closed() {
    let server = server(Duration::from_secs(1));
    let long_header = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(MAX_HEAD));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(1000));
    for (request, status) in [
        (&b"GET /\r\n"[..], Some(400)),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Some(400)),
        (b"\0\0\0\0\r\n\r\n", Some(400)),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None),
        (b"GET / HTTP/9.9\r\n\r\n", Some(400)),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", Some(400)),
        (b"GET / HTTP/1.1\r\nx: \0\r\n\r\n", Some(400)),
        (b"GET /a b HTTP/1.1\r\n\r\n", Some(400)),
        (b"GET nowhere HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", Some(421)),
        (b"GET /\xff\xfe HTTP/1.1\r\n\r\n", Some(400)),
        (b"G\xc3\x8bT / HTTP/1.1\r\n\r\n", Some(400)),
        (long_header.as_bytes(), Some(431)),
        (many_headers.as_bytes(), Some(431)),
        // Two lengths: what a proxy and a server could take for two different requests.
        (b"GET / HTTP/1.1\r\ncontent-length: 0\r\ncontent-length: 5\r\n\r\n", Some(400)),
        (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", Some(400)),
    ] {
        let answer = raw(&server, request).await;
        let start = status.map_or(String::new(), |status| format!("HTTP/1.1 {status} "));
        let shown = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        assert!(answer.starts_with(&start), "{shown:?}: {answer}");
        assert!(!answer.contains("HTTP/1.1 200"), "{shown:?}: {answer}");
    }
    assert_eq!(server.get("/healthz").await.0, 200);
}

#[tokio::test]
async fn what_no_path_takes_is_a_clear_error() {
    let server = server(Duration::from_secs(1));
    server.publish();
    let long = "x".repeat(guard::MAX_TARGET);
    for (method, target, status, code) in [
        ("GET", "/%".to_owned(), 400, ErrorCode::MalformedRequest),
        ("GET", "/%zz".to_owned(), 400, ErrorCode::MalformedRequest),
        ("GET", "/%c3%28".to_owned(), 400, ErrorCode::MalformedRequest),
        ("GET", "/%00/..%2f..%2fetc/passwd".to_owned(), 404, ErrorCode::NotFound),
        ("GET", "/api/v1/../../etc/passwd".to_owned(), 404, ErrorCode::NotFound),
        ("GET", "//api/v1/status".to_owned(), 404, ErrorCode::NotFound),
        ("GET", "/api/v1/status/".to_owned(), 404, ErrorCode::NotFound),
        ("GET", "/api/v1/alerts?device=%".to_owned(), 400, ErrorCode::MalformedRequest),
        ("GET", "/api/v1/alerts?device=%ff".to_owned(), 400, ErrorCode::MalformedRequest),
        ("GET", "/api/v1/alerts?%ff=x".to_owned(), 400, ErrorCode::MalformedRequest),
        ("GET", "/api/v1/alerts?device=%00".to_owned(), 404, ErrorCode::UnknownDevice),
        ("GET", "/api/v1/alerts?device".to_owned(), 400, ErrorCode::BadParameter),
        ("GET", "/api/v1/alerts?=".to_owned(), 400, ErrorCode::UnknownParameter),
        ("GET", format!("/{long}"), 414, ErrorCode::TooLong),
        ("GET", format!("/api/v1/alerts?device={long}"), 414, ErrorCode::TooLong),
        ("GET", format!("/api/v1/alerts?{}=x", &long[..3000]), 400, ErrorCode::UnknownParameter),
        ("OPTIONS", "*".to_owned(), 404, ErrorCode::NotFound),
        ("CONNECT", "far.example:443".to_owned(), 421, ErrorCode::Misdirected),
        ("GET", "http://far.example/nowhere".to_owned(), 421, ErrorCode::Misdirected),
        ("TRACE", "/".to_owned(), 405, ErrorCode::MethodNotAllowed),
        ("BREW", "/api/v1/status".to_owned(), 405, ErrorCode::MethodNotAllowed),
    ] {
        let (got, head, body) = server.ask(method, &target).await;
        let shown = &target[..target.len().min(40)];
        assert_eq!(got, status, "{method} {shown}: {body}");
        let error = problem(&body);
        assert_eq!(error.code, code, "{method} {shown}");
        assert!(error.message.len() < 400 && !error.message.contains(char::is_control), "{body}");
        assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    }
}

#[tokio::test]
async fn a_body_is_refused_and_never_waited_for() {
    let server = server(Duration::from_secs(1));
    for rest in ["content-length: 1000000\r\n\r\nx", "transfer-encoding: chunked\r\n\r\n5\r\nhello"]
    {
        let request =
            format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{rest}");
        let answered = timeout(HEAD_TIMEOUT / 2, server.exchange(&request)).await;
        let (status, _, body) = answered.expect("no wait for the body");
        assert_eq!((status, problem(&body).code), (400, ErrorCode::MalformedRequest), "{rest}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = server(Duration::from_secs(1));
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let last = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let requests = [one("/healthz"), one("/nowhere"), one("/readyz"), last.to_owned()].concat();
    let answer = raw(&server, requests.as_bytes()).await;
    let statuses: Vec<_> = answer.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "404", "503", "200"], "{answer}");
}

#[tokio::test]
async fn answers_that_nobody_reads_are_bounded() {
    let server = server(Duration::from_secs(1));
    let app = App::new(Arc::clone(&server.shared));
    let half = vec![b'x'; MAX_UNREAD as usize / 2 * 1024];
    let first = app.answer("text/plain", half.clone()).unwrap();
    let second = app.answer("text/plain", half).unwrap();
    let large = || vec![b'x'; SMALL_ANSWER];
    let refused = app.answer("text/plain", large()).unwrap_err().into_response();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
    app.answer("text/plain", b"small".to_vec()).expect("small ones always go out");
    drop(first);
    app.answer("text/plain", large()).unwrap();
    drop(second);
    // What is larger than the bound still goes out.
    app.answer("text/plain", vec![0; (MAX_UNREAD as usize + 1) * 1024]).unwrap();
}
