//! Asks a running sensor: the one place that knows its URL, bounds, errors and version.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use sensor_common::report::{ErrorAnswer, REPORT_VERSION};
use serde::{Deserialize, de::DeserializeOwned};
use ureq::Agent;

use super::terminal::printable;
use crate::{cli::SensorArgs, config};

const TIMEOUT: Duration = Duration::from_secs(10);
/// In bytes; some 2 million destinations with address detail.
const MAX_ANSWER: u64 = 1 << 30;
/// In bytes; an error is a sentence.
const MAX_ERROR: u64 = 64 * 1024;

/// A running sensor.
#[derive(Debug)]
pub(super) struct Client {
    base: String,
    agent: Agent,
}

/// What the sensor answered, read and as it came.
#[derive(Debug)]
pub(super) struct Answer<T> {
    pub(super) value: T,
    pub(super) text: String,
}

/// What all forms have in common.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Client {
    /// The sensor that the command line names, else the one of the configuration.
    ///
    /// # Errors
    ///
    /// When the configuration is needed and can't be read.
    pub(super) fn new(args: &SensorArgs) -> Result<Self> {
        let base = match &args.url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{}", config::load(&args.config.config)?.listen),
        };
        // No proxy: the sensor is this machine's own. Errors have a body that says more.
        let config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .proxy(None)
            .http_status_as_error(false);
        Ok(Self { base, agent: config.build().into() })
    }

    /// Asks for a part of the common JSON form.
    ///
    /// # Errors
    ///
    /// When no sensor answers, when it is one of another version, or with what it says is wrong.
    pub(super) fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&'static str, String)],
    ) -> Result<Answer<T>> {
        let url = printable(&format!("{}{path}", self.base)).into_owned();
        let pairs = query.iter().map(|(name, value)| (*name, value.as_str()));
        let response = self.agent.get(format!("{}{path}", self.base)).query_pairs(pairs).call();
        let mut response = response
            .with_context(|| format!("no sensor answers at {url}; is `labgate run` running?"))?;
        let status = response.status();
        let limit = if status.is_success() { MAX_ANSWER } else { MAX_ERROR };
        let text = response.body_mut().with_config().limit(limit).read_to_string();
        if !status.is_success() {
            return Err(refusal(&url, status.as_u16(), &text.unwrap_or_default()));
        }
        let text = text.with_context(|| format!("the answer of {url} is cut off"))?;
        let foreign = || format!("{url} answers in a form that is not labgate's");
        let Versioned { version } = serde_json::from_str(&text).with_context(foreign)?;
        same_version(&url, version)?;
        Ok(Answer { value: serde_json::from_str(&text).with_context(foreign)?, text })
    }
}

/// What is wrong, in the sensor's words if they are a sensor's.
fn refusal(url: &str, status: u16, text: &str) -> anyhow::Error {
    if let Ok(answer) = serde_json::from_str::<ErrorAnswer>(text) {
        return anyhow!("{}", printable(&answer.error.message));
    }
    // Another version may have errors of another form.
    if let Ok(Versioned { version }) = serde_json::from_str(text)
        && let Err(error) = same_version(url, version)
    {
        return error;
    }
    if text.contains("this port speaks HTTPS") {
        return anyhow!(
            "{url} speaks HTTPS, by `web_config`; ask it with `curl --cacert FILE --user NAME`, or run \
             this command where `listen` is plain HTTP"
        );
    }
    anyhow!("{url} answers {status}; is that a labgate?")
}

fn same_version(url: &str, version: u32) -> Result<()> {
    if version != REPORT_VERSION {
        bail!(
            "{url} speaks version {version} of the report form, this labgate version \
             {REPORT_VERSION}; use the same release for both"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{Ipv4Addr, TcpListener},
        thread,
    };

    use sensor_common::report::BooksAnswer;

    use super::*;
    use crate::cli::ConfigArg;

    /// Answers one request with the given bytes, and tells what was asked.
    fn exchange(answer: &str) -> (Result<Answer<BooksAnswer>>, String) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let answer = answer.to_owned();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let config = ConfigArg { config: "/nonexistent".into() };
        let client = Client::new(&SensorArgs { config, url: Some(url) }).unwrap();
        let query = [("since", "2026-01-01T00:00:00+05:30".to_owned()), ("a", "& =%\u{e9}".into())];
        let answer = client.get("/api/v1/books", &query);
        (answer, server.join().unwrap())
    }

    fn http(status: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    fn refused(status: &str, body: &str) -> String {
        let (answer, _) = exchange(&http(status, body));
        format!("{:#}", answer.unwrap_err())
    }

    #[test]
    fn the_query_arrives_as_it_is_meant() {
        let (_, request) = exchange(&http("200 OK", "{}"));
        let line = request.lines().next().unwrap();
        let query = line.split(['?', ' ']).nth(2).unwrap();
        let decoded = percent_encoding::percent_decode_str(query).decode_utf8().unwrap();
        assert_eq!(decoded, "since=2026-01-01T00:00:00+05:30&a=& =%\u{e9}");
        assert!(!query.contains('+'), "a + would be read as a space: {query}");
    }

    #[test]
    fn each_failure_is_one_clear_sentence() {
        let error = |version: u32, message: &str| {
            format!(
                "{{\"version\":{version},\"error\":{{\"code\":\"busy\",\"message\":\"{message}\"}}}}"
            )
        };
        // What the sensor says, without what would steer the terminal.
        let said = refused("503 Service Unavailable", &error(REPORT_VERSION, "wait\\u001b[2J"));
        assert_eq!(said, "wait?[2J");
        let old = refused("400 Bad Request", "{\"version\":1,\"error\":\"text\"}");
        assert!(old.contains("speaks version 1 of the report form"), "{old}");
        let new = refused("200 OK", "{\"version\":999,\"balance\":0}");
        assert!(new.contains("speaks version 999") && new.contains("same release"), "{new}");
        let https = refused("400 Bad Request", "this port speaks HTTPS: use https://\n");
        assert!(https.contains("speaks HTTPS, by `web_config`"), "{https}");
        for body in ["", "<html>", "[]", "{\"error\":\"text\"}"] {
            let foreign = refused("404 Not Found", body);
            assert!(foreign.ends_with("answers 404; is that a labgate?"), "{foreign}");
            let foreign = refused("200 OK", body);
            assert!(foreign.contains("not labgate's"), "{foreign}");
        }
        let (answer, _) = exchange("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{");
        assert!(format!("{:#}", answer.unwrap_err()).contains("is cut off"));
        let (answer, _) = exchange("SSH-2.0-x\r\n");
        assert!(
            format!("{:#}", answer.unwrap_err()).starts_with("no sensor answers at http://127")
        );
    }
}
