//! What the devices do: the cases of DESIGN's first table that this step reaches.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::bench::{
    Bench, Process,
    plan::{ACCOUNT, CHINA, CLOUD_SG, CLOUD_US, GERMANY, Host, INDIA, RESOLVER, WATCHED},
};

/// One case.
pub(super) struct Scene {
    pub(super) device: &'static str,
    pub(super) title: &'static str,
    pub(super) visits: &'static [Visit],
}

/// One exchange with a host.
pub(super) struct Visit {
    host: &'static Host,
    family: Family,
    resolver: Resolver,
    how: How,
}

enum Family {
    V4,
    V6,
}

/// Where the device finds the host's address.
enum Resolver {
    /// The gateway, as the bench offers.
    Offered,
    /// One of its own choice.
    Own(&'static str),
    /// It knows the address already.
    BuiltIn,
}

enum How {
    /// Clear-text HTTP, GET.
    Page,
    /// Clear-text HTTP, POST of what the Redmi 1S sent (dummy values).
    Upload,
    /// TLS.
    Tls,
    /// iperf3 download of this many bytes.
    Download(&'static str),
    /// iperf3 upload of this many bytes.
    Send(&'static str),
}

const fn visit(host: &'static Host, family: Family, resolver: Resolver, how: How) -> Visit {
    Visit { host, family, resolver, how }
}

use Family::{V4, V6};
use How::{Download, Page, Send, Tls, Upload};
use Resolver::{BuiltIn, Offered, Own};

/// The scenario, in order.
pub(super) const SCENES: [Scene; 6] = [
    Scene {
        device: "redmi-note",
        title: "idle, no cloud service enabled: it contacts 42.62.48.0/24 on its own",
        visits: &[visit(&WATCHED, V4, BuiltIn, Tls), visit(&WATCHED, V4, BuiltIn, Page)],
    },
    Scene {
        device: "galaxy",
        title: "stays in the allowed countries, India and Singapore",
        visits: &[
            visit(&INDIA, V4, Offered, Page),
            visit(&INDIA, V6, Offered, Tls),
            visit(&CLOUD_SG, V6, Offered, Page),
            visit(&INDIA, V4, Offered, Download("12M")),
            visit(&CLOUD_SG, V6, Offered, Send("4M")),
        ],
    },
    Scene {
        device: "iphone",
        title: "leaves the allowed countries: Germany and the USA",
        visits: &[
            visit(&INDIA, V4, Offered, Page),
            visit(&GERMANY, V6, Offered, Tls),
            visit(&CLOUD_US, V4, Offered, Page),
        ],
    },
    Scene {
        device: "redmi-1s",
        title: "phone number and IMEI in clear text to api.account.xiaomi.com in Beijing",
        visits: &[visit(&ACCOUNT, V4, Offered, Upload)],
    },
    Scene {
        device: "mi-4",
        title: "Mi Cloud after its move to Singapore and the USA",
        visits: &[
            visit(&CLOUD_SG, V4, Offered, Tls),
            visit(&CLOUD_SG, V6, Offered, Tls),
            visit(&CLOUD_US, V6, Offered, Tls),
            visit(&CLOUD_US, V4, Offered, Send("1M")),
        ],
    },
    Scene {
        device: "smart-plug",
        title: "asks a resolver of its own and calls its clouds in Germany and China",
        visits: &[
            visit(&GERMANY, V4, Own(RESOLVER), Tls),
            visit(&CHINA, V6, Own(RESOLVER), Tls),
            visit(&GERMANY, V6, Own(RESOLVER), Download("1M")),
        ],
    },
];

/// An exchange takes far less; one that hangs is a broken bench.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

impl Visit {
    /// Finds the host's address and starts the exchange on the device named `device`.
    ///
    /// # Errors
    /// When the name has no address, or the program is missing.
    pub(super) fn start(&self, bench: &Bench, device: &str) -> Result<Process> {
        let device = bench.devices().iter().find(|d| d.spec.name == device);
        let device = device.context("the scenario has a device that the bench has not")?;
        let address = match self.resolver {
            Offered => self.look_up(&device.namespace, device.spec.lan.gateway4)?,
            Own(resolver) => self.look_up(&device.namespace, resolver)?,
            BuiltIn => match self.family {
                V4 => self.host.ipv4.to_owned(),
                V6 => self.host.ipv6.context("the host has no IPv6 address")?.to_owned(),
            },
        };
        let name = self.host.name;
        let curl = |scheme: &str, port: u16, path: &str, more: &[&str]| {
            let resolve = match self.family {
                V4 => format!("{name}:{port}:{address}"),
                V6 => format!("{name}:{port}:[{address}]"),
            };
            let url = format!("{scheme}://{name}{path}");
            let common = ["curl", "-qsSk", "--fail", "--max-time", "15", "--resolve", &resolve];
            device.namespace.spawn(&[&common[..], more, &[&url]].concat())
        };
        let iperf = |bytes: &str, more: &[&str]| {
            // Paced, so that no queue of the bench overflows: a frame dropped between the
            // device's end and the gateway would be in one count and not in the other.
            let common = ["iperf3", "-c", &address, "-n", bytes, "-b", "40M"];
            device.namespace.spawn(&[&common[..], more].concat())
        };
        match self.how {
            Page => curl("http", 80, "/", &[]),
            Tls => curl("https", 443, "/", &[]),
            Upload => curl(
                "http",
                80,
                "/cgi-bin/upload",
                &[
                    "--data-urlencode",
                    "carrier=Example Telecom",
                    "--data-urlencode",
                    "phone=+910000000000",
                    "--data-urlencode",
                    "imei=000000000000000",
                    "--data-urlencode",
                    "contacts=+910000000001,+910000000002",
                ],
            ),
            Download(bytes) => iperf(bytes, &["-R"]),
            Send(bytes) => iperf(bytes, &[]),
        }
    }

    fn look_up(&self, namespace: &crate::bench::Namespace, resolver: &str) -> Result<String> {
        let kind = match self.family {
            V4 => "A",
            V6 => "AAAA",
        };
        let server = format!("@{resolver}");
        let answer =
            namespace.run(&["dig", "-r", "+short", "+time=3", &server, kind, self.host.name])?;
        match answer.lines().next() {
            Some(address) => Ok(address.to_owned()),
            None => bail!("{resolver} has no {kind} record for {}", self.host.name),
        }
    }
}
