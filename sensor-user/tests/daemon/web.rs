//! TLS and passwords of the listener, by curl and openssl; and the metrics, by Prometheus itself.

use std::{
    fs,
    io::Read as _,
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::{Signal, kill};
use xtask::bench::{Bench, Namespace, Options, Process, plan::GERMANY};

use crate::sensor::{
    Config, LABGATE, PATIENCE, Sensor, launch, launch_file, one_sentence, refusal, send_udp,
};

const HTTPS: &str = "https://127.0.0.1:9469";

/// Replaces or makes a file at once.
fn put(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

/// A directory with certificates, for a namespace's programs.
struct Lab<'a> {
    namespace: &'a Namespace,
    dir: PathBuf,
}

impl<'a> Lab<'a> {
    fn new(bench: &'a Bench) -> Self {
        Self { namespace: bench.gateway(), dir: bench.dir().to_owned() }
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// A key and a certificate that is its own CA.
    fn certificate(&self, name: &str) {
        let (key, cert) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.pem")));
        let subject = format!("/CN={name}");
        let mut argv = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
                        -days 2 -addext subjectAltName=IP:127.0.0.1"
            .split_whitespace()
            .collect::<Vec<_>>();
        argv.extend(["-keyout", &key, "-out", &cert, "-subj", &subject]);
        self.namespace.run(&argv).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A key, and a certificate for a client that a CA has signed.
    fn client_certificate(&self, name: &str, ca: &str) {
        let [key, request, cert] = ["key", "csr", "pem"].map(|e| self.path(&format!("{name}.{e}")));
        let (ca_cert, ca_key) = (self.path(&format!("{ca}.pem")), self.path(&format!("{ca}.key")));
        let subject = format!("/CN={name}");
        self.namespace
            .run(&[
                "openssl",
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-keyout",
                &key,
                "-out",
                &request,
                "-subj",
                &subject,
            ])
            .unwrap();
        // rustls takes version 3 only, which openssl makes where there is an extension.
        let extensions = self.path("extensions");
        fs::write(&extensions, "extendedKeyUsage = clientAuth\n").unwrap();
        self.namespace
            .run(&[
                "openssl",
                "x509",
                "-req",
                "-in",
                &request,
                "-CA",
                &ca_cert,
                "-CAkey",
                &ca_key,
                "-CAcreateserial",
                "-days",
                "2",
                "-extfile",
                &extensions,
                "-out",
                &cert,
            ])
            .unwrap();
    }

    /// Starts a daemon with this web configuration and waits until it counts.
    fn start(&self, web: &str) -> Process {
        put(&self.dir.join("web.yaml"), web);
        let config = Config { more: "web_config: web.yaml\n".to_owned(), ..Config::default() };
        self.launch(&config.write(&self.dir))
    }

    fn launch(&self, config: &Path) -> Process {
        let mut process = launch_file(self.namespace, config);
        process.wait_for_output("counting; metrics are at https://", PATIENCE).unwrap();
        process
    }

    /// Status code, head and body; the error is curl's.
    fn curl(&self, url: &str, options: &[&str]) -> Result<(u16, String), String> {
        let mut argv = vec!["curl", "-qsS", "--include", "--max-time", "5", url];
        argv.extend(options);
        let answer = self.namespace.run(&argv).map_err(|error| error.to_string())?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.unwrap_or_else(|| panic!("no answer: {answer}")), answer.to_lowercase()))
    }

    /// Just the status code.
    fn status(&self, path: &str, options: &[&str]) -> Result<u16, String> {
        self.curl(&format!("{HTTPS}{path}"), options).map(|(status, _)| status)
    }
}

fn users(password: &str) -> String {
    format!("basic_auth_users:\n  lab: {}\n", bcrypt::hash(password, 6).unwrap())
}

#[test]
fn tls_and_passwords() {
    if !xtask::require_root("tls_and_passwords") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let lab = Lab::new(&bench);
    lab.certificate("server");
    lab.certificate("other");
    let tls = "tls_server_config: { cert_file: server.pem, key_file: server.key }\n\
               http_server_config: { headers: { X-Frame-Options: deny } }\n";
    let mut process = lab.start(&format!("{tls}{}", users("secret")));
    let ca = lab.path("server.pem");
    let with = |user| ["--cacert", &ca, "-u", user];

    for path in ["/healthz", "/metrics", "/api/v1/status", "/nowhere"] {
        let (status, head) = lab.curl(&format!("{HTTPS}{path}"), &["--cacert", &ca]).unwrap();
        assert_eq!(status, 401, "{path}");
        assert!(head.contains("\r\nwww-authenticate: basic realm="), "{head}");
        assert!(head.contains("\r\nx-frame-options: deny\r\n"), "{head}");
        assert!(!head.contains("labgate_"), "{head}");
    }
    for wrong in ["lab:", "lab:Secret", "nobody:secret", ":"] {
        assert_eq!(lab.status("/metrics", &with(wrong)), Ok(401), "{wrong}");
    }
    let (status, answer) = lab.curl(&format!("{HTTPS}/metrics"), &with("lab:secret")).unwrap();
    assert_eq!(status, 200);
    assert!(answer.contains("x-frame-options: deny") && answer.contains("labgate_seen_packets"));
    assert_eq!(lab.status("/nowhere", &with("lab:secret")), Ok(404));

    // Who comes without TLS is told; who trusts another certificate is not served.
    let (status, answer) = lab.curl("http://127.0.0.1:9469/metrics", &[]).unwrap();
    assert_eq!(status, 400);
    assert!(answer.contains("use https://"), "{answer}");
    let other = lab.path("other.pem");
    assert!(lab.status("/", &["--cacert", &other]).unwrap_err().contains("certificate"));
    for version in ["-tls1_2", "-tls1_3"] {
        let argv = ["openssl", "s_client", "-brief", "-alpn", "h2,http/1.1", version, "-connect"];
        let argv: Vec<_> = argv.into_iter().chain(["127.0.0.1:9469"]).collect();
        lab.namespace.run(&argv).unwrap_or_else(|error| panic!("{version}: {error}"));
    }
    let old = ["openssl", "s_client", "-brief", "-tls1_1", "-connect", "127.0.0.1:9469"];
    lab.namespace.run(&old).unwrap_err();

    // A file with errors changes nothing; a new password and a new certificate hold from then on.
    let web = lab.dir.join("web.yaml");
    put(&web, &format!("{tls}basic_auth_users: {{ lab: secret }}\n"));
    process.wait_for_output("user `lab` is no bcrypt hash", PATIENCE).unwrap();
    assert_eq!(lab.status("/healthz", &with("lab:secret")), Ok(200));
    put(&web, &format!("{tls}{}", users("changed")));
    process.wait_for_output("reloaded what=\"web_configuration\"", PATIENCE).unwrap();
    assert_eq!(lab.status("/healthz", &with("lab:secret")), Ok(401));
    assert_eq!(lab.status("/healthz", &with("lab:changed")), Ok(200));
    for file in ["key", "pem"] {
        fs::rename(lab.path(&format!("other.{file}")), lab.path(&format!("server.{file}")))
            .unwrap();
    }
    let trusted = |sensor: &mut Process| {
        let deadline = Instant::now() + PATIENCE;
        while lab.status("/healthz", &with("lab:changed")) != Ok(200) {
            assert!(Instant::now() < deadline, "{}", sensor.output());
            thread::sleep(Duration::from_millis(100));
        }
    };
    trusted(&mut process);

    // SIGHUP reads all of it, at once.
    put(&web, &format!("{tls}{}", users("by signal")));
    kill(process.pid(), Signal::SIGHUP).unwrap();
    process.wait_for_output("reloaded what=\"configuration\"", PATIENCE).unwrap();
    assert_eq!(lab.status("/healthz", &with("lab:by signal")), Ok(200));
    assert!(!process.output().contains("private key"), "{}", process.output());
    let status = process.stop(Signal::SIGINT, PATIENCE).unwrap();
    assert_eq!(status.code(), Some(0), "{}", process.output());
}

#[test]
fn a_client_certificate_can_be_required() {
    if !xtask::require_root("a_client_certificate_can_be_required") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let lab = Lab::new(&bench);
    for name in ["server", "ca", "stranger"] {
        lab.certificate(name);
    }
    lab.client_certificate("client", "ca");
    fs::set_permissions(lab.path("server.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let mut process = lab.start(
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n  \
         client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n  \
         min_version: TLS13\n",
    );
    assert!(process.output().contains("can get at the private key"), "{}", process.output());
    let ca = lab.path("server.pem");
    let shown = |name: &str| {
        let (cert, key) = (lab.path(&format!("{name}.pem")), lab.path(&format!("{name}.key")));
        lab.status("/healthz", &["--cacert", &ca, "--cert", &cert, "--key", &key])
    };
    assert_eq!(shown("client"), Ok(200));
    shown("stranger").unwrap_err();
    lab.status("/healthz", &["--cacert", &ca]).unwrap_err();
    let (cert, key) = (lab.path("client.pem"), lab.path("client.key"));
    let old = ["--cacert", &ca, "--cert", &cert, "--key", &key, "--tls-max", "1.2"];
    lab.status("/healthz", &old).unwrap_err();
    process.stop(Signal::SIGINT, PATIENCE).unwrap();
}

#[test]
fn a_bad_web_configuration_stops_the_start() {
    if !xtask::require_root("a_bad_web_configuration_stops_the_start") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let lab = Lab::new(&bench);
    lab.certificate("server");
    lab.certificate("other");
    let config = Config { more: "web_config: web.yaml\n".to_owned(), ..Config::default() };
    let start = || launch(&bench, bench.gateway(), &config);
    let said = one_sentence(start());
    assert!(
        said.contains("cannot read the web configuration") && said.contains("web.yaml"),
        "{said}"
    );

    let web = lab.dir.join("web.yaml");
    put(&web, "tls_server_config: { cert_fil: server.pem, key_file: server.key }\n");
    let said = refusal(start());
    assert!(said.contains("web.yaml:1:22") && said.contains("did you mean `cert_file`?"), "{said}");
    let told = |cert: &str, key: &str| {
        put(&web, &format!("tls_server_config: {{ cert_file: {cert}, key_file: {key} }}\n"));
        one_sentence(start())
    };
    let said = told("nowhere.pem", "server.key");
    assert!(
        said.contains("can't read the certificate ") && said.contains("nowhere.pem: No such"),
        "{said}"
    );
    let said = told("server.key", "server.key");
    assert!(said.contains("the certificate ") && said.contains("holds no certificate"), "{said}");
    let said = told("server.pem", "server.pem");
    assert!(said.contains("the key ") && said.contains("holds no private key"), "{said}");
    let said = told("server.pem", "other.key");
    assert!(said.contains("can't use the certificate ") && said.contains("other.key: "), "{said}");
}

/// `labgate` finds out by the configuration how the sensor is to be asked, and says what is missing.
#[test]
fn the_commands_ask_over_https() {
    if !xtask::require_root("the_commands_ask_over_https") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let lab = Lab::new(&bench);
    for name in ["server", "ca", "other"] {
        lab.certificate(name);
    }
    lab.client_certificate("client", "ca");
    let tls = "cert_file: server.pem, key_file: server.key";
    let web = |tls: &str| format!("tls_server_config: {{ {tls} }}\n{}", users("secret"));
    put(&lab.dir.join("web.yaml"), &web(tls));
    let config = Config { more: "web_config: web.yaml\n".to_owned(), ..Config::default() };
    let config = config.write(&lab.dir).display().to_string();
    let mut process = lab.launch(config.as_ref());
    put(&lab.dir.join("password"), "secret\n");
    let ask = |line: &str| {
        let output = lab.namespace.command("sh").args(["-c", line]).current_dir(&lab.dir).output();
        let output = output.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let fails = |options: &str, expected: &str| {
        let (code, said) = ask(&format!("{LABGATE} devices {options}"));
        assert!(code == Some(1) && said.contains(expected), "{options}: {said}");
    };
    let works = |line: &str| {
        let (code, said) = ask(line);
        assert!(code == Some(0) && said.contains("DB-IP"), "{line}: {said}");
    };
    let lab_user = "--user lab --password-file password";
    let by_url = format!("--url {HTTPS}");

    // The certificate is its own CA; by the configuration it is known, else it has to be named.
    works(&format!("{LABGATE} devices --config {config} {lab_user}"));
    works(&format!("LABGATE_PASSWORD=secret {LABGATE} devices --config {config} --user lab"));
    works(&format!("{LABGATE} devices {by_url} --ca-file server.pem {lab_user}"));
    fails(&format!("{by_url} --ca-file other.pem {lab_user}"), "`--ca-file`");
    fails(&format!("{by_url} {lab_user}"), "`--ca-file`");
    fails(&format!("{by_url} --ca-file nowhere.pem"), "can't read the CA nowhere.pem: No such");
    fails(&format!("{by_url} --ca-file server.key"), "the CA server.key holds no certificate");
    fails("--url http://127.0.0.1:9469", "speaks HTTPS, by its web configuration");
    fails(
        &format!("--config {config}"),
        "; give them with `--user NAME`, and `--password-file FILE`",
    );
    fails(&format!("--config {config} --user lab"), "the password of `lab` is missing");
    fails(
        &format!("--config {config} --user me --password-file password"),
        "knows no user `me` with",
    );
    fails(
        &format!("--config {config} --user lab --password-file x"),
        "can't read the password file x: No",
    );

    // The sensor asks for a certificate.
    put(
        &lab.dir.join("web.yaml"),
        &web(&format!(
            "{tls}, client_ca_file: ca.pem, client_auth_type: RequireAndVerifyClientCert"
        )),
    );
    process.wait_for_output("reloaded what=\"web_configuration\"", PATIENCE).unwrap();
    let user = format!("--config {config} {lab_user}");
    works(&format!("{LABGATE} devices {user} --cert client.pem --key client.key"));
    fails(&user, "asks for a certificate; show one with `--cert` and `--key`");
    fails(&format!("{user} --cert other.pem --key other.key"), "know the CA of `--cert`?");
    fails(&format!("{user} --cert client.pem --key other.key"), "can't use the certificate client");
    process.stop(Signal::SIGINT, PATIENCE).unwrap();

    let config = Config { more: String::new(), ..Config::default() };
    let mut process = launch_file(lab.namespace, &config.write(&lab.dir));
    process.wait_for_output("counting; metrics are at http://", PATIENCE).unwrap();
    fails(&format!("{by_url} --ca-file server.pem"), "does not speak HTTPS; ask with http://");
    process.stop(Signal::SIGINT, PATIENCE).unwrap();
}

/// Connections that never begin TLS give way to one that does, and end by themselves.
#[test]
fn silent_clients_do_not_keep_the_others_out() {
    if !xtask::require_root("silent_clients_do_not_keep_the_others_out") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let lab = Lab::new(&bench);
    lab.certificate("server");
    let mut process =
        lab.start("tls_server_config: { cert_file: server.pem, key_file: server.key }\n");
    let ca = lab.path("server.pem");
    assert_eq!(lab.status("/healthz", &["--cacert", &ca]), Ok(200));
    let silent = lab.namespace.enter(|| {
        (0..64).map(|_| TcpStream::connect("127.0.0.1:9469").unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(lab.status("/healthz", &["--cacert", &ca, "--max-time", "5"]), Ok(200));
    let began = Instant::now();
    let mut first = &silent.unwrap()[0];
    first.set_read_timeout(Some(2 * PATIENCE)).unwrap();
    assert_eq!(first.read(&mut [0]).unwrap_or(0), 0);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert_eq!(lab.status("/healthz", &["--cacert", &ca]), Ok(200));
    process.stop(Signal::SIGINT, PATIENCE).unwrap();
}

/// Prometheus' own tools have nothing to say, and Prometheus itself scrapes: with a password, over
/// HTTPS, in OpenMetrics.
#[test]
fn prometheus_takes_the_metrics() {
    if !xtask::require_root("prometheus_takes_the_metrics") {
        return;
    }
    let bench = Bench::new(&Options::default()).unwrap();
    let sensor = Sensor::start(&bench, &Config::default());
    send_udp(bench.device("redmi-1s"), GERMANY.ipv4, 9);
    sensor.settled();
    assert!(!sensor.metric("labgate_build_info").is_empty());
    let check = "curl -qsS --fail http://127.0.0.1:9469/metrics | promtool check metrics 2>&1";
    assert_eq!(bench.gateway().run(&["sh", "-c", check]).unwrap(), "");
    sensor.stop();

    let lab = Lab::new(&bench);
    lab.certificate("server");
    let tls = "tls_server_config: { cert_file: server.pem, key_file: server.key }\n";
    let mut process = lab.start(&format!("{tls}{}", users("secret")));
    let scrapes = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: labgate\n    \
         scheme: https\n    tls_config: {{ ca_file: {} }}\n    \
         basic_auth: {{ username: lab, password: secret }}\n    \
         static_configs: [{{ targets: [\"127.0.0.1:9469\"] }}]\n",
        lab.path("server.pem")
    );
    put(&lab.dir.join("prometheus.yml"), &scrapes);
    let options = [
        format!("--config.file={}", lab.path("prometheus.yml")),
        format!("--storage.tsdb.path={}", lab.path("tsdb")),
        "--web.listen-address=127.0.0.1:9090".to_owned(),
    ];
    let argv: Vec<_> =
        ["prometheus"].into_iter().chain(options.iter().map(String::as_str)).collect();
    let prometheus = lab.namespace.spawn(&argv).unwrap();
    let ask = |path: &str, parameter: &str| {
        let url = format!("http://127.0.0.1:9090/api/v1/{path}");
        let argv = ["curl", "-qsS", "--max-time", "5", "-G", &url, "--data-urlencode", parameter];
        lab.namespace.run(&argv).unwrap_or_default()
    };
    send_udp(bench.device("redmi-1s"), GERMANY.ipv4, 9);
    let exact = "query=up == 1 and on() (sum(labgate_device_bytes_total) > 0 \
                 and sum(labgate_device_bytes_total) == sum(labgate_seen_bytes_total) \
                 and sum(labgate_device_prefix_bytes_total) == sum(labgate_seen_bytes_total))";
    let deadline = Instant::now() + 3 * PATIENCE;
    while !ask("query", exact).contains("\"1\"]") {
        let targets = ask("targets", "state=active");
        assert!(Instant::now() < deadline, "{targets}\n{}", prometheus.output());
        thread::sleep(Duration::from_millis(200));
    }
    // Only OpenMetrics names a unit, and a counter's family without its suffix.
    let metadata = ask("metadata", "metric=labgate_seen_bytes");
    assert!(metadata.contains("\"unit\":\"bytes\"") && metadata.contains("counter"), "{metadata}");
    process.stop(Signal::SIGINT, PATIENCE).unwrap();
}
