//! `tls_server_config` of the web configuration, with the names that Go's crypto/tls has for things.

use std::path::Path;

use super::{
    diagnostic::quote,
    reader::{Field, Fields, Reader},
    values,
    web::{BOOLEANS, ClientAuth, Curve, Pem, Tls, TlsVersion},
};

/// What Go's names stand for; `Err` is why not.
type Choices<T> = &'static [(&'static str, Result<T, &'static str>)];

const CLIENT_AUTH: Choices<ClientAuth> = &[
    ("NoClientCert", Ok(ClientAuth::None)),
    ("VerifyClientCertIfGiven", Ok(ClientAuth::VerifyIfGiven)),
    ("RequireAndVerifyClientCert", Ok(ClientAuth::RequireAndVerify)),
    ("RequestClientCert", Err(UNVERIFIED)),
    ("RequireAnyClientCert", Err(UNVERIFIED)),
    ("RequireClientCert", Err(UNVERIFIED)),
];
const UNVERIFIED: &str =
    "an unverified certificate proves nothing; write `RequireAndVerifyClientCert`";

const VERSIONS: Choices<TlsVersion> = &[
    ("TLS12", Ok(TlsVersion::Tls12)),
    ("TLS13", Ok(TlsVersion::Tls13)),
    ("TLS11", Err(OUTDATED)),
    ("TLS10", Err(OUTDATED)),
];
const OUTDATED: &str = "that version is broken and not spoken here; write `TLS12` or `TLS13`";

const CURVES: Choices<Curve> = &[
    ("X25519", Ok(Curve::X25519)),
    ("CurveP256", Ok(Curve::P256)),
    ("CurveP384", Ok(Curve::P384)),
    ("CurveP521", Err("not spoken here; write `CurveP384`, `CurveP256` or `X25519`")),
];

const CIPHER_SUITES: Choices<&str> = &[
    suite("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    suite("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    suite("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    suite("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    suite("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    suite("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
    ("TLS_AES_128_GCM_SHA256", Err(OF_TLS13)),
    ("TLS_AES_256_GCM_SHA384", Err(OF_TLS13)),
    ("TLS_CHACHA20_POLY1305_SHA256", Err(OF_TLS13)),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", Err(CBC)),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", Err(CBC)),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", Err(CBC)),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", Err(CBC)),
];
const OF_TLS13: &str = "suites of TLS 1.3 can't be chosen, all are offered; remove it";
const CBC: &str = "not spoken here; write a suite with GCM or CHACHA20";

const fn suite(name: &'static str) -> (&'static str, Result<&'static str, &'static str>) {
    (name, Ok(name))
}

/// TLS, if anything is given for it.
pub(super) fn tls<'a>(reader: &mut Reader<'a>, root: &Fields<'a>, directory: &Path) -> Option<Tls> {
    const KEYS: [&str; 13] = [
        "cert",
        "key",
        "client_ca",
        "cert_file",
        "key_file",
        "client_ca_file",
        "client_auth_type",
        "client_allowed_sans",
        "min_version",
        "max_version",
        "cipher_suites",
        "prefer_server_cipher_suites",
        "curve_preferences",
    ];
    let field = root.get("tls_server_config")?;
    let fields = reader.fields(field, &KEYS)?;
    if fields.is_empty() {
        return None;
    }
    let mut required = |inline, file| {
        let pem = pem(reader, &fields, inline, file, directory);
        if pem.is_none() && fields.get(inline).or(fields.get(file)).is_none() {
            let label = format!("add `{file}:` with the path of a PEM file");
            reader.refuse(&fields.at, format!("`tls_server_config` has no `{file}`"), label);
        }
        pem
    };
    let (cert, key) = (required("cert", "cert_file"), required("key", "key_file"));
    let client_ca = pem(reader, &fields, "client_ca", "client_ca_file", directory);
    if let Some(field) = fields.get("client_allowed_sans") {
        let label = "not supported; let `client_ca_file` name a CA that signs only who is allowed";
        reader.refuse(&field.at, "`client_allowed_sans` can't be checked", label);
    }
    let client_auth = client_auth(reader, &fields, client_ca.is_some());
    let versions = versions(reader, &fields);
    let cipher_suites = list(reader, &fields, "cipher_suites", CIPHER_SUITES);
    let curves = list(reader, &fields, "curve_preferences", CURVES);
    let prefer_server_cipher_suites = fields
        .get("prefer_server_cipher_suites")
        .and_then(|field| reader.choice(field, &BOOLEANS))
        .unwrap_or(true);
    Some(Tls {
        cert: cert?,
        key: key?,
        client_auth,
        client_ca,
        versions,
        cipher_suites,
        prefer_server_cipher_suites,
        curves,
    })
}

/// One of the two keys under which something in PEM format may stand.
fn pem<'a>(
    reader: &mut Reader<'a>,
    fields: &Fields<'a>,
    inline: &'static str,
    file: &'static str,
    directory: &Path,
) -> Option<Pem> {
    match (fields.get(inline), fields.get(file)) {
        (None, None) => None,
        (Some(field), Some(_)) => {
            let message = format!("both `{inline}` and `{file}` are given");
            reader.refuse(&field.at, message, "remove one of the two");
            None
        }
        (Some(field), None) => {
            let example = "write the PEM text, in several lines after `|`";
            let typed = reader.text(field, example)?;
            if !typed.text.contains("-----BEGIN ") {
                let message = format!("`{inline}` is not in PEM format");
                reader.refuse_secret(&typed.at, &message, &format!("a path goes under `{file}`"));
                return None;
            }
            Some(Pem::Inline(typed.text.to_owned()))
        }
        (None, Some(field)) => {
            values::path(reader, field, "write the path of a PEM file", directory).map(Pem::File)
        }
    }
}

fn client_auth<'a>(reader: &mut Reader<'a>, fields: &Fields<'a>, has_ca: bool) -> ClientAuth {
    let field = fields.get("client_auth_type");
    let ca = fields.get("client_ca_file").or(fields.get("client_ca"));
    let chosen = field.map(|field| supported(reader, field, CLIENT_AUTH));
    match (chosen, field, ca) {
        (None | Some(Some(ClientAuth::None)), _, Some(ca)) => {
            let label = "add `client_auth_type: RequireAndVerifyClientCert`, or remove it";
            reader.refuse(&ca.at, "no client is asked for a certificate that this CA signs", label);
        }
        (Some(Some(auth)), Some(field), None) if auth != ClientAuth::None && !has_ca => {
            let label = "add `client_ca_file:` with the CA that signs the clients' certificates";
            reader.refuse(&field.at, "nothing says which certificates are good", label);
        }
        _ => {}
    }
    chosen.flatten().unwrap_or_default()
}

fn versions<'a>(reader: &mut Reader<'a>, fields: &Fields<'a>) -> Vec<TlsVersion> {
    let mut version = |key| fields.get(key).and_then(|field| supported(reader, field, VERSIONS));
    let least = version("min_version").unwrap_or(TlsVersion::Tls12);
    let most = version("max_version").unwrap_or(TlsVersion::Tls13);
    let all = [TlsVersion::Tls13, TlsVersion::Tls12];
    let versions: Vec<_> = all.into_iter().filter(|v| (least..=most).contains(v)).collect();
    if let (true, Some(field)) = (versions.is_empty(), fields.get("max_version")) {
        reader.refuse(&field.at, "`max_version` is below `min_version`", "write `TLS13`");
    }
    versions
}

/// One of Go's names; one that stands for nothing here is refused with the reason.
fn supported<'a, T: Copy>(
    reader: &mut Reader<'a>,
    field: &Field<'a>,
    choices: Choices<T>,
) -> Option<T> {
    match reader.choice(field, choices)? {
        Ok(value) => Some(value),
        Err(reason) => {
            let typed = reader.text(field, reason)?;
            reader.refuse(&typed.at, format!("{} is not supported", quote(typed.text)), reason);
            None
        }
    }
}

fn list<'a, T: Copy>(
    reader: &mut Reader<'a>,
    fields: &Fields<'a>,
    key: &str,
    choices: Choices<T>,
) -> Vec<T> {
    let Some(field) = fields.get(key) else { return Vec::new() };
    let items = reader.items(field);
    items.iter().filter_map(|item| supported(reader, item, choices)).collect()
}
