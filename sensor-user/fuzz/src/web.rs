//! HTTP: any octets are what a client sends.

use std::{path::Path, sync::Arc};

use labgate::sinks::http::{App, Names, Settings, Web, serve_stream};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
    runtime::{self, Runtime},
    sync::watch,
};

use crate::sample;

/// Octets on their way; an answer that is longer is read while it is written.
const PIPE: usize = 1 << 16;
/// One user, `lab` with the password `secret`, at the lowest cost that bcrypt knows.
const USERS: &str = "
basic_auth_users: {lab: $2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW}
http_server_config: {headers: {X-Frame-Options: deny}}
";

/// A sensor that has counted, without a kernel or a listener.
struct Bench {
    runtime: Runtime,
    app: App,
    open: Arc<Web>,
    guarded: Arc<Web>,
    /// The ledger, in which requests for a period look.
    _directory: TempDir,
}

thread_local! {
    static BENCH: Bench = Bench::new();
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = sample::config();
        let state = sample::state(&config, &directory.path().join("ledger.db"));
        let users = directory.path().join("web.yaml");
        std::fs::write(&users, USERS).unwrap();
        let web = |path: Option<&Path>| {
            Arc::new(Web::new(Settings::load(path, &Names::default()).unwrap()))
        };
        Self {
            runtime: runtime::Builder::new_current_thread().enable_time().build().unwrap(),
            app: App::new(sample::shared(state, &config)),
            open: web(None),
            guarded: web(Some(&users)),
            _directory: directory,
        }
    }

    /// What comes back to a client that sends this and then nothing more.
    fn exchange(&self, octets: &[u8], web: &Arc<Web>) -> Vec<u8> {
        let (client, server) = duplex(PIPE);
        let (_stop, stopped) = watch::channel(false);
        self.runtime.block_on(async {
            let (mut reader, mut writer) = tokio::io::split(client);
            let write = async {
                // The server may close before it has read everything.
                writer.write_all(octets).await.ok();
                writer.shutdown().await.ok();
            };
            let mut answer = Vec::new();
            let served = serve_stream(server, self.app.clone(), Arc::clone(web), stopped);
            let (_, _, read) = tokio::join!(served, write, reader.read_to_end(&mut answer));
            read.unwrap();
            answer
        })
    }
}

/// Sends octets to a sensor whose pages are open to everybody, and to one that asks for a password.
pub fn check(octets: &[u8]) {
    BENCH.with(|bench| {
        for (status, body) in answers(&bench.exchange(octets, &bench.open)) {
            assert!((200..500).contains(&status), "{status}: {}", String::from_utf8_lossy(body));
        }
        let may_know_the_password =
            octets.windows(5).any(|word| word.eq_ignore_ascii_case(b"basic"));
        for (status, body) in answers(&bench.exchange(octets, &bench.guarded)) {
            assert!(status < 500, "{status}: {}", String::from_utf8_lossy(body));
            assert!(status >= 400 || may_know_the_password, "{status} without a password");
        }
    });
}

/// Status and body of each answer.
fn answers(mut octets: &[u8]) -> Vec<(u16, &[u8])> {
    let mut answers = Vec::new();
    while !octets.is_empty() {
        let end = octets.windows(4).position(|end| end == b"\r\n\r\n");
        let (head, rest) = octets.split_at(end.expect("an answer has a head") + 4);
        let head = str::from_utf8(head).expect("a head is text").to_ascii_lowercase();
        let status = head.strip_prefix("http/1.1 ").or_else(|| head.strip_prefix("http/1.0 "));
        let status = status.and_then(|rest| rest.get(..3)?.parse().ok()).expect("a status");
        let header = |name| head.lines().find_map(|line| line.strip_prefix(name));
        let length = header("content-length: ").map_or(0, |length| length.parse().unwrap());
        // To HEAD, an answer says how long its body would be.
        let is_head = rest.is_empty() || rest.starts_with(b"HTTP/1.");
        let (body, next) = rest.split_at(if is_head { 0 } else { length });
        let is_json = header("content-type: ").is_some_and(|kind| kind.ends_with("json"));
        if is_json && !body.is_empty() {
            let value: serde_json::Value = serde_json::from_slice(body).expect("JSON");
            assert!(status < 400 || value.pointer("/error/code").is_some(), "{value}");
        }
        answers.push((status, body));
        octets = next;
    }
    answers
}
