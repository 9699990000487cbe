//! The web configuration: TLS and passwords of the listener, in the format of Prometheus'
//! exporter-toolkit (docs/web-configuration.md there).
//!
//! What LabGate cannot do is refused rather than ignored: who wrote it counts on it.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    diagnostic::{Diagnostic, Source, quote},
    raw::Node,
    reader::{Fields, Reader},
    tls, values,
};

/// The cost of a hash doubles its time with each step; 18 takes some seconds.
const MAX_COST: u32 = 18;

/// The web configuration, validated; what the files hold is found out by those who open them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebConfig {
    /// TLS; plain HTTP without.
    pub tls: Option<Tls>,
    /// Headers for each answer, by name.
    pub headers: Vec<(&'static str, String)>,
    /// bcrypt hashes by user name; without any, nobody is asked for a password.
    pub users: BTreeMap<String, String>,
    /// How many requests are answered.
    pub rate_limit: Option<RateLimit>,
    /// Legal but probably not meant, one sentence each, with file and line; to be logged.
    pub warnings: Vec<String>,
}

/// TLS of the listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate, with those between it and the root.
    pub cert: Pem,
    /// Its private key.
    pub key: Pem,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
    /// Who signs those.
    pub client_ca: Option<Pem>,
    /// Versions that are spoken, at least one.
    pub versions: Vec<TlsVersion>,
    /// Cipher suites of TLS 1.2 by their IANA names, most wanted first; empty for all there are.
    pub cipher_suites: Vec<&'static str>,
    /// Whether the order here counts, rather than the client's.
    pub prefer_server_cipher_suites: bool,
    /// Groups for the key exchange, most wanted first; empty for all there are.
    pub curves: Vec<Curve>,
}

/// Where something in PEM format is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pem {
    /// In a file.
    File(PathBuf),
    /// In the web configuration itself.
    Inline(String),
}

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// One that is shown must be good.
    VerifyIfGiven,
    /// They must show a good one.
    RequireAndVerify,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// A group for the key exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// RFC 7748.
    X25519,
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
}

/// A token bucket over all requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Time in which one more request is allowed.
    pub interval: Duration,
    /// Requests at once; at least 1.
    pub burst: u32,
}

const KEYS: [&str; 4] =
    ["tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"];

pub(super) const BOOLEANS: [(&str, bool); 2] = [("true", true), ("false", false)];

const HEADERS: [&str; 5] = [
    "Content-Security-Policy",
    "X-Frame-Options",
    "X-Content-Type-Options",
    "X-XSS-Protection",
    "Strict-Transport-Security",
];

/// What the document means, or everything that is wrong with it.
pub(super) fn web_config(
    source: &Source<'_>,
    document: &Node,
) -> Result<WebConfig, Vec<Diagnostic>> {
    let mut reader = Reader::new(source);
    let root = reader.root(document);
    let config = reader.fields(&root, &KEYS).map(|fields| {
        let directory = Path::new(source.name).parent().unwrap_or(Path::new(""));
        let config = WebConfig {
            tls: tls::tls(&mut reader, &fields, directory),
            headers: headers(&mut reader, &fields),
            users: users(&mut reader, &fields),
            rate_limit: rate_limit(&mut reader, &fields),
            warnings: Vec::new(),
        };
        if let Some(field) = fields.get("basic_auth_users")
            && fields.get("tls_server_config").is_none()
            && !config.users.is_empty()
        {
            let text = "without `tls_server_config` the passwords travel in clear text";
            reader.warn(&field.at, text);
        }
        config
    });
    let warnings = reader.finish()?;
    config.map(|config| WebConfig { warnings, ..config }).ok_or_else(Vec::new)
}

fn headers<'a>(reader: &mut Reader<'a>, root: &Fields<'a>) -> Vec<(&'static str, String)> {
    let field = root.get("http_server_config");
    let Some(http) = field.and_then(|field| reader.fields(field, &["http2", "headers"])) else {
        return Vec::new();
    };
    if let Some(field) = http.get("http2")
        && reader.choice(field, &BOOLEANS) == Some(true)
    {
        let label = "LabGate speaks HTTP/1.1: write `false`, or remove the line";
        reader.refuse(&field.at, "`http2` is not supported", label);
    }
    let field = http.get("headers");
    let Some(fields) = field.and_then(|field| reader.fields(field, &HEADERS)) else {
        return Vec::new();
    };
    let mut headers = Vec::new();
    for name in HEADERS {
        let Some(field) = fields.get(name) else { continue };
        if Reader::is_null(field) {
            continue;
        }
        let allowed: &[(&str, &str)] = match name {
            "X-Frame-Options" => &[("deny", "deny"), ("sameorigin", "sameorigin")],
            "X-Content-Type-Options" => &[("nosniff", "nosniff")],
            _ => &[],
        };
        let value = if allowed.is_empty() {
            reader.text(field, "write the header's value").and_then(|typed| {
                // Visible ASCII and blanks (RFC 9110, 5.5).
                let is_value = typed.text.bytes().all(|b| matches!(b, b' '..=b'~'));
                if !is_value {
                    let message = format!("{} is no header value", quote(typed.text));
                    reader.refuse(&typed.at, message, "write it in ASCII, on one line");
                }
                is_value.then(|| typed.text.to_owned())
            })
        } else {
            reader.choice(field, allowed).map(str::to_owned)
        };
        // Blank stands for none.
        headers.extend(value.filter(|value| !value.is_empty()).map(|value| (name, value)));
    }
    headers
}

fn users<'a>(reader: &mut Reader<'a>, root: &Fields<'a>) -> BTreeMap<String, String> {
    let example = "write the bcrypt hash that `htpasswd -nBC 10 NAME` prints after the colon";
    let mut users = BTreeMap::new();
    let mut places = HashMap::new();
    let Some(field) = root.get("basic_auth_users") else { return users };
    for (name, field) in reader.named(field) {
        let what = format!("user {}", quote(name.text));
        if !reader.unique(&mut places, name.text, &name.at, &what) {
            continue;
        }
        if name.text.is_empty() || name.text.contains(|c: char| c == ':' || c.is_control()) {
            let label = "write a name without `:`, which ends the name where it is sent";
            reader.refuse(&name.at, format!("{} is no user name", quote(name.text)), label);
        }
        let Some(typed) = reader.text(&field, example) else { continue };
        match typed.text.parse::<bcrypt::HashParts>() {
            Ok(hash) if hash.get_cost() > MAX_COST => {
                let message = format!("the hash's cost of {} is too high", hash.get_cost());
                let label =
                    format!("a password would take minutes to check; use at most {MAX_COST}");
                reader.refuse(&typed.at, message, label);
            }
            Ok(_) => {
                users.insert(name.text.to_owned(), typed.text.to_owned());
            }
            Err(_) => {
                let what = format!("what stands for {what} is no bcrypt hash");
                reader.refuse_secret(&typed.at, &what, example);
            }
        }
    }
    users
}

fn rate_limit<'a>(reader: &mut Reader<'a>, root: &Fields<'a>) -> Option<RateLimit> {
    let field = root.get("rate_limit")?;
    let fields = reader.fields(field, &["interval", "burst"])?;
    let interval = fields.get("interval").and_then(|field| values::interval(reader, field));
    let burst = fields
        .get("burst")
        .and_then(|field| values::number(reader, field, &(1..=1_000_000)))
        .or(fields.get("burst").is_none().then_some(1));
    let interval = interval.filter(|interval| !interval.is_zero())?;
    Some(RateLimit { interval, burst: burst? })
}
