//! Asks a running sensor: the one place that knows its URL, bounds, errors and version.

mod trust;

use std::{env, io, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Error, Result, anyhow, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    Request, StatusCode, Uri,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::ServerName;
use sensor_common::report::{ErrorAnswer, REPORT_VERSION};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime::{self, Runtime},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::terminal::printable;
use crate::{
    cli::SensorArgs,
    config::{self, WebConfig},
    files,
};

/// For connection, request and answer together.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The same where the ledger is asked: the sensor gives up before, and says why.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(40);
/// In bytes; some 2 million destinations with address detail.
const MAX_ANSWER: usize = 1 << 30;
/// In bytes; an error is a sentence.
const MAX_ERROR: usize = 64 * 1024;
/// In bytes; the password is its first line.
const MAX_PASSWORD_FILE: u64 = 64 * 1024;
/// The password of `--user`, where no file has it.
const PASSWORD: &str = "LABGATE_PASSWORD";

/// A running sensor.
#[derive(Debug)]
pub(super) struct Client {
    base: Base,
    tls: Option<Tls>,
    user: Option<User>,
    runtime: Runtime,
}

/// Where it listens.
#[derive(Debug)]
struct Base {
    /// Without a slash at its end.
    url: String,
    /// Name or address, and port.
    authority: String,
    /// Of a proxy in front of it; empty where there is none.
    path: String,
}

struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").field(&self.name).finish()
    }
}

#[derive(Debug)]
struct User {
    name: String,
    authorization: HeaderValue,
}

/// What the sensor answered, read and as it came.
#[derive(Debug)]
pub(super) struct Answer<T> {
    pub(super) value: T,
    pub(super) text: String,
}

/// Nobody was there to answer.
#[derive(Debug, thiserror::Error)]
#[error("no sensor answers at {0}; is `labgate run` running?")]
pub(super) struct NoAnswer(String);

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
    /// When a file that says where it is, or whom to trust, can't be read or makes no sense.
    pub(super) fn new(args: &SensorArgs) -> Result<Self> {
        let (url, web) = match &args.url {
            Some(url) => (url.clone(), None),
            None => configured(&args.config.config)?,
        };
        let (base, uri) = Base::parse(&url)?;
        let is_https = uri.scheme_str() == Some("https");
        let tls = is_https.then(|| Tls::new(args, web.as_ref(), &uri)).transpose()?;
        let user = args.user.as_deref().map(|name| User::new(name, args.password_file.as_deref()));
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { base, tls, user: user.transpose()?, runtime })
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
        let url = printable(&format!("{}{path}", self.base.url)).into_owned();
        let is_period = query.iter().any(|(name, _)| matches!(*name, "from" | "until"));
        let patience = if is_period { LEDGER_TIMEOUT } else { TIMEOUT };
        let asked = self.runtime.block_on(async { timeout(patience, self.ask(path, query)).await });
        let (status, body) = asked
            .map_err(|_elapsed| anyhow!("{url} has not answered within {} s", patience.as_secs()))?
            .map_err(|error| match trust::explained(&url, &error) {
                Some(reason) => anyhow!(reason),
                None => error.context(NoAnswer(url.clone())),
            })?;
        if !status.is_success() {
            let text = body.unwrap_or_default();
            return Err(self.refusal(&url, status, &String::from_utf8_lossy(&text)));
        }
        let body = body.with_context(|| format!("the answer of {url} is cut off"))?;
        let foreign = || format!("{url} answers in a form that is not labgate's");
        let text = String::from_utf8(body).with_context(foreign)?;
        let Versioned { version } = serde_json::from_str(&text).with_context(foreign)?;
        same_version(&url, version)?;
        Ok(Answer { value: serde_json::from_str(&text).with_context(foreign)?, text })
    }

    /// Status, and the body if all of it came.
    async fn ask(
        &self,
        path: &str,
        query: &[(&'static str, String)],
    ) -> Result<(StatusCode, Result<Vec<u8>>)> {
        let stream = TcpStream::connect(&self.base.authority).await?;
        let mut sender = match &self.tls {
            Some(tls) => begin(tls.connector.connect(tls.name.clone(), stream).await?).await?,
            None => begin(stream).await?,
        };
        let mut target = format!("{}{path}", self.base.path);
        for (index, (name, value)) in query.iter().enumerate() {
            target += if index == 0 { "?" } else { "&" };
            target += &format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
        }
        let mut request = Request::get(target).header(header::HOST, &self.base.authority);
        if let Some(user) = &self.user {
            request = request.header(header::AUTHORIZATION, &user.authorization);
        }
        let response = sender.send_request(request.body(Empty::new())?).await?;
        let status = response.status();
        let limit = if status.is_success() { MAX_ANSWER } else { MAX_ERROR };
        let body = Limited::new(response.into_body(), limit).collect().await;
        Ok((status, body.map(|body| body.to_bytes().into()).map_err(|error| anyhow!(error))))
    }

    /// What is wrong, in the sensor's words if they are a sensor's.
    fn refusal(&self, url: &str, status: StatusCode, text: &str) -> Error {
        if let Ok(answer) = serde_json::from_str::<ErrorAnswer>(text) {
            let said = printable(&answer.error.message);
            return match (&self.user, status) {
                (None, StatusCode::UNAUTHORIZED) => anyhow!(
                    "{url}: {said}; give them with `--user NAME`, and `--password-file FILE` or \
                     {PASSWORD} in the environment"
                ),
                (Some(user), StatusCode::UNAUTHORIZED) => {
                    let name = printable(&user.name);
                    anyhow!("{url} knows no user `{name}` with this password")
                }
                _ => anyhow!("{said}"),
            };
        }
        // Another version may have errors of another form.
        if let Ok(Versioned { version }) = serde_json::from_str(text)
            && let Err(error) = same_version(url, version)
        {
            return error;
        }
        if text.contains("this port speaks HTTPS") {
            return anyhow!("{url} speaks HTTPS, by its web configuration; ask with https://");
        }
        anyhow!("{url} answers {}; is that a labgate?", status.as_u16())
    }
}

/// Begins HTTP on a connection, which a task drives from here on.
async fn begin<S>(stream: S) -> Result<SendRequest<Empty<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // What goes wrong there is told to whoever waits for an answer.
    tokio::spawn(async { drop(connection.await) });
    Ok(sender)
}

/// Where the configuration says that the sensor listens, and the web configuration if there is one.
fn configured(path: &Path) -> Result<(String, Option<WebConfig>)> {
    let config = config::load(path)?;
    let web = config.web_config.as_deref().map(config::load_web).transpose();
    let web = web.context("`--url` says where the sensor listens without that file")?;
    let is_https = web.as_ref().is_some_and(|web| web.tls.is_some());
    let scheme = if is_https { "https" } else { "http" };
    Ok((format!("{scheme}://{}", config.listen), web))
}

impl Base {
    fn parse(url: &str) -> Result<(Self, Uri)> {
        let no_url =
            || anyhow!("`{}` is no URL of a sensor; write http://ADDRESS:PORT", printable(url));
        let uri: Uri = url.parse().map_err(|_invalid| no_url())?;
        let default_port = match uri.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            _ => return Err(no_url()),
        };
        let authority = uri.authority().filter(|_| uri.query().is_none()).ok_or_else(no_url)?;
        if authority.as_str().contains('@') {
            bail!("the URL of the sensor has a user in it; give it with `--user NAME`");
        }
        let port = authority.port_u16().unwrap_or(default_port);
        let base = Self {
            url: url.trim_end_matches('/').to_owned(),
            authority: format!("{}:{port}", authority.host()),
            path: uri.path().trim_end_matches('/').to_owned(),
        };
        Ok((base, uri))
    }
}

impl Tls {
    fn new(args: &SensorArgs, web: Option<&WebConfig>, uri: &Uri) -> Result<Self> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).context("the URL names no host")?;
        let connector = TlsConnector::from(Arc::new(trust::client_config(args, web)?));
        Ok(Self { connector, name })
    }
}

impl User {
    fn new(name: &str, password_file: Option<&Path>) -> Result<Self> {
        let password = match password_file {
            Some(path) => {
                let octets = files::read(path, MAX_PASSWORD_FILE);
                let text =
                    octets.and_then(|octets| String::from_utf8(octets).map_err(io::Error::other));
                let text = text
                    .with_context(|| format!("can't read the password file {}", path.display()))?;
                text.lines().next().unwrap_or_default().to_owned()
            }
            None => env::var(PASSWORD).ok().with_context(|| {
                format!(
                    "the password of `{}` is missing; give it with `--password-file FILE` or as \
                     {PASSWORD} in the environment",
                    printable(name)
                )
            })?,
        };
        let encoded = STANDARD.encode(format!("{name}:{password}"));
        let mut authorization = HeaderValue::try_from(format!("Basic {encoded}"))?;
        authorization.set_sensitive(true);
        Ok(Self { name: name.to_owned(), authorization })
    }
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

    fn args(url: &str) -> SensorArgs {
        SensorArgs {
            config: ConfigArg { config: "/nonexistent".into() },
            url: Some(url.to_owned()),
            ca_file: None,
            cert: None,
            key: None,
            user: None,
            password_file: None,
        }
    }

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
        let client = Client::new(&args(&url)).unwrap();
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
        assert!(https.contains("speaks HTTPS, by its web configuration"), "{https}");
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

    #[test]
    fn what_is_no_url_is_said() {
        for url in
            ["", "127.0.0.1:9469", "/api", "ftp://x/", "http://", "http://x?y=1", "http:// x"]
        {
            let error = Client::new(&args(url)).unwrap_err().to_string();
            assert!(error.contains("is no URL of a sensor; write http://"), "{url}: {error}");
        }
        let error = Client::new(&args("http://lab:secret@x/")).unwrap_err().to_string();
        assert!(error.contains("`--user NAME`") && !error.contains("secret"), "{error}");
        for (url, authority) in [
            ("http://gateway", "gateway:80"),
            ("https://[2001:db8::1]/", "[2001:db8::1]:443"),
            ("http://[::1]:9469/labgate/", "[::1]:9469"),
        ] {
            assert_eq!(Base::parse(url).unwrap().0.authority, authority);
        }
        assert_eq!(Base::parse("http://[::1]:9469/labgate/").unwrap().0.path, "/labgate");
    }
}
