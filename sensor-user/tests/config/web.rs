//! The web configuration: what arrives, and whole complaints about what does not.

use std::{path::PathBuf, time::Duration};

use labgate::config::{
    ClientAuth, Curve, Pem, RateLimit, TlsVersion, WebConfig, load_web, parse_web,
};

use super::same;

const HASH: &str = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG";

fn good(text: &str) -> WebConfig {
    parse_web(text, "etc/web.yaml").unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let got = parse_web(text, "web.yaml").expect_err("a bad web configuration").to_string();
    same(&got, expected);
}

#[test]
fn every_key_arrives() {
    let config = good(&format!(
        "tls_server_config:
  cert_file: tls/cert.pem
  key: |
    -----BEGIN PRIVATE KEY-----
  client_ca_file: /srv/ca.pem
  client_auth_type: RequireAndVerifyClientCert
  min_version: TLS12
  max_version: TLS12
  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
  curve_preferences: [CurveP384, X25519]
http_server_config:
  http2: false
  headers:
    X-Frame-Options: deny
    Content-Security-Policy: \"\"
    Strict-Transport-Security: max-age=31536000
basic_auth_users:
  prometheus: {HASH}
  0: {HASH}
rate_limit: {{ interval: 100ms, burst: 20 }}
"
    ));
    let tls = config.tls.expect("TLS");
    assert_eq!(tls.cert, Pem::File(PathBuf::from("etc/tls/cert.pem")));
    assert!(matches!(tls.key, Pem::Inline(text) if text == "-----BEGIN PRIVATE KEY-----\n"));
    assert_eq!(tls.client_ca, Some(Pem::File(PathBuf::from("/srv/ca.pem"))));
    assert_eq!(tls.client_auth, ClientAuth::RequireAndVerify);
    assert_eq!(tls.versions, [TlsVersion::Tls12]);
    assert_eq!(
        tls.cipher_suites,
        ["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]
    );
    assert!(!tls.prefer_server_cipher_suites);
    assert_eq!(tls.curves, [Curve::P384, Curve::X25519]);
    assert_eq!(
        config.headers,
        [
            ("X-Frame-Options", "deny".to_owned()),
            ("Strict-Transport-Security", "max-age=31536000".to_owned()),
        ]
    );
    assert_eq!(config.users.keys().collect::<Vec<_>>(), ["0", "prometheus"]);
    let rate_limit = RateLimit { interval: Duration::from_millis(100), burst: 20 };
    assert_eq!(config.rate_limit, Some(rate_limit));
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn the_defaults_are_those_of_the_toolkit() {
    for empty in ["{}", "", "tls_server_config:\nbasic_auth_users:\nrate_limit: {interval: 0}\n"] {
        assert_eq!(good(empty), WebConfig::default(), "{empty}");
    }
    let tls = good("tls_server_config: {cert_file: a, key_file: b}").tls.expect("TLS");
    assert_eq!(tls.versions, [TlsVersion::Tls13, TlsVersion::Tls12]);
    assert_eq!((tls.client_auth, tls.client_ca), (ClientAuth::None, None));
    assert!(tls.prefer_server_cipher_suites && tls.cipher_suites.is_empty());
    let warned = good(&format!("basic_auth_users:\n  lab: {HASH}\n"));
    assert_eq!(
        warned.warnings,
        ["etc/web.yaml:2: without `tls_server_config` the passwords travel in clear text"]
    );
}

#[test]
fn every_mistake_at_once() {
    refused(
        "tls_server_confg:\n  cert_file: a\n  client_auth_type: requireandverifyclientcert\n  min_version: TLS10\nhttp_server_config:\n  http2: true\n  headers:\n    X-Frame-Options: allow\n    Server: x\n",
        r"
error: unknown key `tls_server_confg`
 --> web.yaml:1:1
  |
1 | tls_server_confg:
  | ^^^^^^^^^^^^^^^^ did you mean `tls_server_config`?

error: `tls_server_config` has no `key_file`
 --> web.yaml:2:3
  |
2 |   cert_file: a
  |   ^^^^^^^^^ add `key_file:` with the path of a PEM file

error: `client_auth_type` cannot be `requireandverifyclientcert`
 --> web.yaml:3:21
  |
3 |   client_auth_type: requireandverifyclientcert
  |                     ^^^^^^^^^^^^^^^^^^^^^^^^^^ did you mean `RequireAndVerifyClientCert`?

error: `TLS10` is not supported
 --> web.yaml:4:16
  |
4 |   min_version: TLS10
  |                ^^^^^ that version is broken and not spoken here; write `TLS12` or `TLS13`

error: `http2` is not supported
 --> web.yaml:6:10
  |
6 |   http2: true
  |          ^^^^ LabGate speaks HTTP/1.1: write `false`, or remove the line

error: `X-Frame-Options` cannot be `allow`
 --> web.yaml:8:22
  |
8 |     X-Frame-Options: allow
  |                      ^^^^^ write one of `deny`, `sameorigin`

error: unknown key `Server`
 --> web.yaml:9:5
  |
9 |     Server: x
  |     ^^^^^^ known keys here: Content-Security-Policy, X-Frame-Options, X-Content-Type-Options, X-XSS-Protection, Strict-Transport-Security
",
    );
}

#[test]
fn what_cannot_be_honoured_is_refused() {
    refused(
        "tls_server_config:\n  cert_file: a\n  key_file: b\n  cert: c\n  client_ca_file: ca\n  client_allowed_sans: [lab]\n  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, TLS_AES_128_GCM_SHA256]\n  curve_preferences: [CurveP521]\n",
        r"
error: both `cert` and `cert_file` are given
 --> web.yaml:4:9
  |
4 |   cert: c
  |         ^ remove one of the two

error: no client is asked for a certificate that this CA signs
 --> web.yaml:5:19
  |
5 |   client_ca_file: ca
  |                   ^^ add `client_auth_type: RequireAndVerifyClientCert`, or remove it

error: `client_allowed_sans` can't be checked
 --> web.yaml:6:24
  |
6 |   client_allowed_sans: [lab]
  |                        ^ not supported; let `client_ca_file` name a CA that signs only who is allowed

error: `TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA` is not supported
 --> web.yaml:7:19
  |
7 |   cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, TLS_AES_128_GCM_SHA256]
  |                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ not spoken here; write a suite with GCM or CHACHA20

error: `TLS_AES_128_GCM_SHA256` is not supported
 --> web.yaml:7:55
  |
7 |   cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, TLS_AES_128_GCM_SHA256]
  |                                                       ^^^^^^^^^^^^^^^^^^^^^^ suites of TLS 1.3 can't be chosen, all are offered; remove it

error: `CurveP521` is not supported
 --> web.yaml:8:23
  |
8 |   curve_preferences: [CurveP521]
  |                       ^^^^^^^^^ not spoken here; write `CurveP384`, `CurveP256` or `X25519`
",
    );
    refused(
        "tls_server_config:\n  cert_file: a\n  key_file: b\n  client_auth_type: RequireAnyClientCert\n",
        r"
error: `RequireAnyClientCert` is not supported
 --> web.yaml:4:21
  |
4 |   client_auth_type: RequireAnyClientCert
  |                     ^^^^^^^^^^^^^^^^^^^^ an unverified certificate proves nothing; write `RequireAndVerifyClientCert`
",
    );
    refused(
        "tls_server_config:\n  cert_file: a\n  key_file: b\n  client_auth_type: VerifyClientCertIfGiven\n  min_version: TLS13\n  max_version: TLS12\n",
        r"
error: nothing says which certificates are good
 --> web.yaml:4:21
  |
4 |   client_auth_type: VerifyClientCertIfGiven
  |                     ^^^^^^^^^^^^^^^^^^^^^^^ add `client_ca_file:` with the CA that signs the clients' certificates

error: `max_version` is below `min_version`
 --> web.yaml:6:16
  |
6 |   max_version: TLS12
  |                ^^^^^ write `TLS13`
",
    );
}

/// Nor is the line shown on which a password or key stands.
#[test]
fn secrets_stay_secret() {
    refused(
        "basic_auth_users:\n  lab: hunter2\n",
        r"
error: line 2: what stands for user `lab` is no bcrypt hash
--> web.yaml
 = help: write the bcrypt hash that `htpasswd -nBC 10 NAME` prints after the colon
",
    );
    refused(
        &format!("basic_auth_users:\n  a:b: {}\n", HASH.replace("$10$", "$31$")),
        r"
error: `a:b` is no user name
 --> web.yaml:2:3
  |
2 |   a:b: $2y$31$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG
  |   ^^^ write a name without `:`, which ends the name where it is sent

error: the hash's cost of 31 is too high
 --> web.yaml:2:8
  |
2 |   a:b: $2y$31$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG
  |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ a password would take minutes to check; use at most 18
",
    );
    refused(
        "tls_server_config: {cert_file: a, key: MIIEvQIBADANBg}\n",
        r"
error: line 1: `key` is not in PEM format
--> web.yaml
 = help: a path goes under `key_file`
",
    );
}

#[test]
fn rate_limits() {
    refused(
        "rate_limit:\n  interval: 10\n  burst: 0\n",
        r"
error: `interval` is no duration: `10`
 --> web.yaml:2:13
  |
2 |   interval: 10
  |             ^^ add the unit: `10s` or `10ms`

error: `burst` cannot be `0`
 --> web.yaml:3:10
  |
3 |   burst: 0
  |          ^ write a whole number from 1 to 1000000
",
    );
}

#[test]
fn a_file_that_cannot_be_read() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("nowhere.yaml");
    let sentence = load_web(&path).expect_err("a missing file").to_string();
    let start = format!("cannot read the web configuration {}: No such file", path.display());
    assert!(sentence.starts_with(&start) && sentence.contains("`web_config`"), "{sentence}");
}
