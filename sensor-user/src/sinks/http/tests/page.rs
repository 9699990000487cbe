//! The page at `/`.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};

use super::*;

async fn browse(server: &Server) -> (u16, String, String) {
    let accept = "accept: text/html,application/xhtml+xml,*/*;q=0.8";
    server
        .exchange(&format!(
            "GET / HTTP/1.1\r\nhost: localhost\r\n{accept}\r\nconnection: close\r\n\r\n"
        ))
        .await
}

#[tokio::test]
async fn it_says_how_the_sensor_is_and_links_to_what_there_is() {
    let server = server(Duration::from_secs(1));
    let (status, _, body) = browse(&server).await;
    assert_eq!(status, 200);
    assert!(body.contains("not ready</b>: the sensor has not finished its first epoch"), "{body}");
    server.publish();
    let (_, head, body) = browse(&server).await;
    assert!(head.contains("content-type: text/html; charset=utf-8"), "{head}");
    assert!(head.contains("vary: accept"), "{head}");
    assert!(body.contains(">ready<") && body.contains(env!("CARGO_PKG_VERSION")), "{body}");
    assert!(body.contains(">closed</b>: 2 packets seen, 2 accounted for"), "{body}");
    let links: Vec<_> =
        body.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(links.len(), 9, "{links:?}");
    for link in links {
        assert_eq!(server.get(link).await.0, 200, "{link}");
    }

    // For curl and the like.
    let (_, head, body) = server.get("/").await;
    assert!(head.contains("content-type: text/plain"), "{head}");
    assert!(body.contains("\nready; books closed; 4 devices, 0 alerts, 2 packets\n"), "{body}");
    let (_, head, body) = server.ask("HEAD", "/").await;
    assert!(head.contains("content-security-policy: ") && body.is_empty(), "{head}");
}

#[tokio::test]
async fn nothing_on_it_runs_and_nothing_is_loaded() {
    let server = server(Duration::from_secs(1));
    server.shared.change(|state| {
        let attribution = "<script>alert(1)</script> & \"co\"".to_owned();
        state.set_setup(Setup { attribution, ..Setup::default() });
    });
    server.shared.cover(vec![fixture::coverage("tc", "<img src=x>")]);
    let (_, head, body) = browse(&server).await;
    assert!(body.contains("<td>lan0</td><td>tc</td><td>tcx</td><td>&#60;img src=x&#62;"), "{body}");
    assert!(body.contains("&#60;script&#62;"), "{body}");
    for tag in ["<script", "<img", "<link", "<iframe", "url(", "@import", "http"] {
        assert!(!body.contains(tag), "{tag}: {body}");
    }
    // The policy names the very style that the page has.
    let style = body.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next());
    let hash = BASE64_STANDARD.encode(Sha256::digest(style.unwrap())).to_lowercase();
    let policy = format!("content-security-policy: default-src 'none'; style-src 'sha256-{hash}';");
    assert!(head.contains(&policy), "{head}");
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
}
