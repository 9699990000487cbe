//! The programs behind the bench's names and addresses.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    iperf3,
    namespace::Namespace,
    plan::{GERMANY, HOSTS, LANS, RESOLVER},
    process::Process,
};

const UPLOAD: &str = "#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\n%s octets received\\n' \"$(wc -c)\"
";

pub(super) fn start(gateway: &Namespace, internet: &Namespace, dir: &Path) -> Result<Vec<Process>> {
    let (certificate, key) = make_certificate(internet, dir)?;
    let web = make_web(dir)?;
    let tls = |family| {
        let cert = ["-cert", &certificate, "-key", &key];
        let server = ["openssl", "s_server", family, "-accept", "443", "-www"];
        internet.spawn(&[&server, &cert[..]].concat())
    };
    // httpd forks for each request; in a process namespace of its own the forks die with it.
    let httpd = "unshare --fork --pid --kill-child busybox httpd -f -p [::]:80 -h";
    let httpd: Vec<_> = httpd.split(' ').collect();
    let mut services = vec![
        internet.spawn(&[&httpd[..], &[&web]].concat())?,
        tls("-4")?,
        tls("-6")?,
        iperf3::serve(internet)?,
        start_resolver(internet, &[RESOLVER], &records())?,
        start_resolver(
            gateway,
            &LANS.map(|lan| [lan.gateway4, lan.gateway6]).concat(),
            &[format!("--server={RESOLVER}")],
        )?,
    ];

    for port in [80, 443] {
        for host in [GERMANY.ipv4].into_iter().chain(GERMANY.ipv6) {
            wait_for_listener(internet, host, port, &mut services)?;
        }
    }
    wait_for_listener(internet, RESOLVER, 53, &mut services)?;
    for lan in LANS {
        for address in [lan.gateway4, lan.gateway6] {
            wait_for_listener(gateway, address, 53, &mut services)?;
        }
    }
    Ok(services)
}

fn start_resolver(namespace: &Namespace, listen: &[&str], options: &[String]) -> Result<Process> {
    let mut command = namespace.command("dnsmasq");
    command
        // `--no-daemon`: no fork, no PID file, no change of user. Nothing of the host is read.
        .args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"])
        .args(["--user=root", "--log-facility=-", "--bind-dynamic"])
        .args(listen.iter().map(|address| format!("--listen-address={address}")))
        .args(options);
    namespace.start(command)
}

fn records() -> Vec<String> {
    let record =
        |name: &str, addresses: &[&str]| format!("--host-record={name},{}", addresses.join(","));
    HOSTS
        .iter()
        .map(|host| {
            let addresses: Vec<_> = [host.ipv4].into_iter().chain(host.ipv6).collect();
            record(host.name, &addresses)
        })
        .collect()
}

fn make_certificate(namespace: &Namespace, dir: &Path) -> Result<(String, String)> {
    let path = |name| dir.join(name).display().to_string();
    let (certificate, key) = (path("certificate.pem"), path("key.pem"));
    let request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
                   -days 2 -subj /CN=bench.example";
    let request: Vec<_> = request.split_whitespace().collect();
    namespace.run(&[&request[..], &["-out", &certificate, "-keyout", &key]].concat())?;
    Ok((certificate, key))
}

fn make_web(dir: &Path) -> Result<String> {
    let web = dir.join("web");
    let upload = web.join("cgi-bin/upload");
    fs::create_dir_all(web.join("cgi-bin"))
        .and_then(|()| fs::write(web.join("index.html"), "<p>LabGate bench</p>\n"))
        .and_then(|()| fs::write(&upload, UPLOAD))
        .and_then(|()| fs::set_permissions(&upload, fs::Permissions::from_mode(0o755)))
        .context("cannot write the pages of the bench's web server")?;
    Ok(web.display().to_string())
}

fn wait_for_listener(
    namespace: &Namespace,
    host: &str,
    port: u16,
    services: &mut [Process],
) -> Result<()> {
    let address = SocketAddr::new(host.parse()?, port);
    let deadline = Instant::now() + Duration::from_secs(5);
    while namespace.enter(|| TcpStream::connect(address).is_err())? {
        for service in &mut *services {
            if let Some(status) = service.ended()? {
                bail!("{} ended ({status}); it wrote: {}", service.name(), service.output());
            }
        }
        if Instant::now() >= deadline {
            bail!("nothing listens on {address} in namespace {}", namespace.name());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
