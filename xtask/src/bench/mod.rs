//! The test bench: phones and a smart device behind a gateway, before an "internet" whose hosts
//! have real public addresses. It is all made of network namespaces without a link to the host.
//!
//! ```text
//! redmi-note ─┐
//! redmi-1s   ─┤         lan0 ┌─────────┐ wan0   ┌──────────┐
//! mi-4       ─┼─ switch ─────┤ gateway ├────────┤ internet │ 42.62.48.17, 2600:1f14::5, ...
//! galaxy     ─┤    (br0)     │         │        └──────────┘
//! iphone     ─┘         lan1 │         │
//! smart-plug ────────────────┤         │
//!                            └─────────┘
//! ```
//!
//! `lan0` and `lan1` are plain veths, so that native XDP works on them. Nothing survives the
//! owner: namespaces are anonymous, every process dies with the thread that started it (see
//! [`process`]), and the files of owners that were killed are swept at the next start. Several
//! benches can exist at once.
//!
//! Between the devices' ends of the links and the gateway's LAN interfaces nothing is lost or
//! added for frames that a device sends, or that are addressed to its MAC address: the switch
//! floods and learns, has no addresses and says nothing itself. That is what makes a capture at
//! the device's end comparable to the gateway's. (Devices don't talk to each other; the switch
//! would not show such frames to the gateway.)

mod disk;
pub mod iperf3;
mod link;
pub mod namespace;
pub mod plan;
pub mod process;
mod raw;
mod services;
mod workdir;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
pub use disk::SmallDisk;
pub use link::{LinkCounters, when_silent};
pub use namespace::Namespace;
use plan::{DEVICES, HOSTS, LAN0, LAN1, LANS, Lan, RESOLVER, Spec, WAN};
pub use process::Process;
pub use raw::RawSocket;
use tempfile::TempDir;

/// How to make a bench.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Leave segmentation and receive offload on at the LAN's veths, as the kernel makes them.
    /// Off, every frame on the LAN is as it would be on a wire; the link to the internet keeps
    /// its offloads, so that the gateway still forwards super-packets to its LAN interfaces.
    pub lan_offloads: bool,
    /// Bring the LAN up at once. Otherwise no frame moves on it, and the interfaces' counters are
    /// zero, until [`Bench::lan_up`].
    pub lan_up: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { lan_offloads: true, lan_up: true }
    }
}

/// A device under test, in its namespace; its interface is `eth0`.
#[derive(Debug)]
pub struct Device {
    /// Name, addresses and place.
    pub spec: &'static Spec,
    /// Where its programs run.
    pub namespace: Namespace,
}

/// The bench. Dropping it ends all its processes and removes its files.
#[derive(Debug)]
pub struct Bench {
    // Dropped in this order: programs, namespaces, files.
    services: Vec<Process>,
    devices: Vec<Device>,
    gateway: Namespace,
    switch: Namespace,
    internet: Namespace,
    dir: TempDir,
}

impl Bench {
    /// Makes namespaces, links, addresses and routes. Needs root and the programs `ip` and
    /// `ethtool`.
    ///
    /// # Errors
    /// When the kernel or one of these programs refuses.
    pub fn new(options: &Options) -> Result<Self> {
        let dir = workdir::create()?;
        let make = |name| Namespace::new(name, dir.path());
        let (gateway, switch, internet) = (make("gateway")?, make("switch")?, make("internet")?);
        let devices = DEVICES
            .iter()
            .map(|spec| Ok(Device { spec, namespace: make(spec.name)? }))
            .collect::<Result<_>>()?;
        let bench = Self { services: Vec::new(), devices, gateway, switch, internet, dir };
        bench.plug().context("cannot set up the bench")?;
        if !options.lan_offloads {
            bench.switch_off_lan_offloads()?;
        }
        if options.lan_up {
            bench.lan_up()?;
        }
        Ok(bench)
    }

    /// The gateway's namespace: `lan0`, `lan1`, `wan0`.
    pub fn gateway(&self) -> &Namespace {
        &self.gateway
    }

    /// The switch's namespace: the bridge `br0` with `uplink` to the gateway and `port0`...
    pub fn switch(&self) -> &Namespace {
        &self.switch
    }

    /// The switch's interfaces to devices.
    pub fn switch_ports(&self) -> impl Iterator<Item = String> {
        let devices = self.devices.iter().enumerate();
        devices.filter(|(_, device)| behind_switch(device)).map(|(index, _)| port(index))
    }

    /// The internet's namespace: all public addresses on `lo`, `wan0` to the gateway.
    pub fn internet(&self) -> &Namespace {
        &self.internet
    }

    /// The devices, in the order of [`plan::DEVICES`].
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// A device's namespace by its name in [`plan::DEVICES`].
    ///
    /// # Panics
    /// When there is no device of that name.
    pub fn device(&self, name: &str) -> &Namespace {
        let device = self.devices.iter().find(|device| device.spec.name == name);
        &device.unwrap_or_else(|| panic!("the bench has no device named {name}")).namespace
    }

    /// All its namespaces.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        let devices = self.devices.iter().map(|device| &device.namespace);
        [&self.gateway, &self.switch, &self.internet].into_iter().chain(devices)
    }

    /// Its directory, removed at the end.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Brings the LAN up and waits until it carries. The devices come last: none can send a frame
    /// that the gateway does not get.
    ///
    /// # Errors
    /// When the kernel refuses, or a link does not come up within five seconds.
    pub fn lan_up(&self) -> Result<()> {
        // The peer first, so that the gateway's interface has its carrier when it comes up.
        self.switch.ip("link set uplink up")?;
        self.gateway.ip("link set lan0 up")?;
        wait_for_carrier(&self.gateway, "lan0")?;
        wait_for_carrier(&self.switch, "uplink")?;
        self.switch
            .ip(&self.ports().map(|port| format!("link set {port} up\n")).collect::<String>())?;
        self.gateway.ip("link set lan1 up")?;
        wait_for_carrier(&self.gateway, "lan1")?;
        self.devices.iter().try_for_each(|device| wait_for_carrier(&device.namespace, "eth0"))
    }

    /// Takes the link between switch and gateway away.
    ///
    /// # Errors
    /// When there is none.
    pub fn unplug_lan0(&self) -> Result<()> {
        self.gateway.ip(&format!("link del {}\n", LAN0.interface))
    }

    /// Makes the link between switch and gateway anew, up, and with the gateway's addresses.
    ///
    /// # Errors
    /// When there is one.
    pub fn plug_lan0(&self) -> Result<()> {
        self.link_lan0()?;
        self.switch.ip("link set uplink up\n")?;
        self.gateway.ip(&format!("{}link set {} up\n", lan_lines(&LAN0), LAN0.interface))
    }

    /// Switches segmentation and receive offloads off on every veth of the LAN, both ends.
    ///
    /// # Errors
    /// When `ethtool` is missing or the driver refuses.
    pub fn switch_off_lan_offloads(&self) -> Result<()> {
        for lan in LANS {
            switch_off_offloads(&self.gateway, lan.interface)?;
        }
        switch_off_offloads(&self.switch, "uplink")?;
        self.ports().try_for_each(|port| switch_off_offloads(&self.switch, &port))?;
        self.devices.iter().try_for_each(|device| switch_off_offloads(&device.namespace, "eth0"))
    }

    /// Starts the services and waits until they answer: on every host of the internet HTTP
    /// (port 80, GET and POST to `/cgi-bin/upload`), TLS (port 443), iperf3 (port 5201); DNS on
    /// [`plan::RESOLVER`] and on the gateway's LAN addresses. The LAN must be up.
    ///
    /// # Errors
    /// When a program is missing or does not answer within five seconds.
    pub fn serve(&mut self) -> Result<()> {
        let services = services::start(&self.gateway, &self.internet, self.dir.path())?;
        self.services.extend(services);
        Ok(())
    }

    fn ports(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.devices.len()).filter(|&i| behind_switch(&self.devices[i])).map(port)
    }

    fn plug(&self) -> Result<()> {
        self.configure_kernel()?;
        let (gateway, switch, internet) =
            (self.gateway.pid(), self.switch.pid(), self.internet.pid());

        self.switch.ip("link add br0 type bridge mcast_snooping 0\nlink set br0 up\n")?;
        self.link_lan0()?;
        self.gateway.ip(&format!("link add wan0 type veth peer name wan0 netns {internet}\n"))?;

        for (index, device) in self.devices.iter().enumerate() {
            let mac = device.spec.mac;
            let peer = if behind_switch(device) {
                format!("name {} netns {switch}", port(index))
            } else {
                format!("name {} address {} netns {gateway}", LAN1.interface, LAN1.mac)
            };
            device.namespace.ip(&format!("link add eth0 address {mac} type veth peer {peer}\n"))?;
            if behind_switch(device) {
                self.connect(&port(index))?;
            }
            device.namespace.ip(&device_lines(device.spec))?;
        }

        self.gateway.ip(&LANS.map(lan_lines).concat())?;
        self.gateway.ip(&format!(
            "addr add {}/30 dev wan0\naddr add {}/64 dev wan0 nodad\nlink set wan0 up\n",
            WAN.gateway4, WAN.gateway6
        ))?;
        self.internet.ip(&internet_lines())?;
        self.gateway.ip(&format!(
            "route add default via {} dev wan0\nroute add default via {} dev wan0 onlink\n",
            WAN.internet4, WAN.internet6
        ))?;
        self.calm_neighbours()?;
        wait_for_carrier(&self.gateway, "wan0")
    }

    fn link_lan0(&self) -> Result<()> {
        let (Lan { interface, mac, .. }, switch) = (LAN0, self.switch.pid());
        self.gateway.ip(&format!(
            "link add {interface} address {mac} type veth peer name uplink netns {switch}\n"
        ))?;
        self.connect("uplink")
    }

    /// Makes a link a port of the switch that drops nothing: from kernel 6.16, a queue makes veth wait
    /// for a full ring.
    fn connect(&self, port: &str) -> Result<()> {
        self.switch.ip(&format!("link set {port} master br0 txqueuelen 10000\n"))?;
        self.switch.run(&["tc", "qdisc", "replace", "dev", port, "root", "pfifo"])?;
        Ok(())
    }

    /// Neighbours are resolved for real, but soon after their first use and for good, so that a
    /// bench without traffic becomes silent.
    fn calm_neighbours(&self) -> Result<()> {
        let gateway = ["lan0", "lan1", "wan0"].map(|interface| (&self.gateway, interface));
        let devices = self.devices.iter().map(|device| (&device.namespace, "eth0"));
        for (namespace, interface) in devices.chain(gateway).chain([(&self.internet, "wan0")]) {
            for family in ["ipv4", "ipv6"] {
                let key = |name| format!("net/{family}/neigh/{interface}/{name}");
                namespace.sysctl(&[
                    (&key("delay_first_probe_time"), "1"),
                    (&key("base_reachable_time_ms"), "7200000"),
                ])?;
            }
        }
        Ok(())
    }

    fn configure_kernel(&self) -> Result<()> {
        self.gateway
            .sysctl(&[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")])?;
        self.switch.sysctl(&[
            ("net/ipv6/conf/all/disable_ipv6", "1"),
            ("net/ipv6/conf/default/disable_ipv6", "1"),
        ])?;
        let hosts = self.devices.iter().map(|device| &device.namespace);
        for namespace in hosts.chain([&self.gateway, &self.internet]) {
            namespace.sysctl(&[
                ("net/ipv6/conf/default/accept_ra", "0"),
                ("net/ipv6/conf/default/autoconf", "0"),
                ("net/ipv6/conf/default/router_solicitations", "0"),
                ("net/ipv6/conf/default/dad_transmits", "0"),
            ])?;
        }
        Ok(())
    }
}

fn behind_switch(device: &Device) -> bool {
    device.spec.lan.interface == "lan0"
}

fn port(index: usize) -> String {
    format!("port{index}")
}

fn lan_lines(lan: &Lan) -> String {
    let Lan { interface, gateway4, gateway6, .. } = lan;
    format!(
        "addr add {gateway4}/24 dev {interface}\naddr add {gateway6}/64 dev {interface} nodad\n"
    )
}

fn device_lines(spec: &Spec) -> String {
    let (gateway4, gateway6) = (spec.lan.gateway4, spec.lan.gateway6);
    format!(
        "addr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\nlink set eth0 up\n\
         route add default via {gateway4} dev eth0\n\
         route add default via {gateway6} dev eth0 onlink\n",
        spec.ipv4, spec.ipv6,
    )
}

fn internet_lines() -> String {
    use std::fmt::Write as _;
    let mut lines = format!(
        "addr add {}/30 dev wan0\naddr add {}/64 dev wan0 nodad\nlink set wan0 up\n\
         addr add {RESOLVER}/32 dev lo\n",
        WAN.internet4, WAN.internet6,
    );
    // Writing to a String cannot fail.
    for host in HOSTS {
        let _ok = writeln!(lines, "addr add {}/32 dev lo", host.ipv4);
        if let Some(ipv6) = host.ipv6 {
            let _ok = writeln!(lines, "addr add {ipv6}/128 dev lo nodad");
        }
    }
    for lan in LANS {
        let _ok = writeln!(lines, "route add {} via {} dev wan0", lan.network4, WAN.gateway4);
        let _ok =
            writeln!(lines, "route add {} via {} dev wan0 onlink", lan.network6, WAN.gateway6);
    }
    lines
}

fn switch_off_offloads(namespace: &Namespace, interface: &str) -> Result<()> {
    let off = ["tso", "off", "gso", "off", "gro", "off", "tx-udp-segmentation", "off"];
    namespace.run(&[&["ethtool", "-K", interface], &off[..]].concat())?;
    Ok(())
}

fn wait_for_carrier(namespace: &Namespace, interface: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !namespace.run(&["ip", "-o", "link", "show", interface])?.contains("LOWER_UP") {
        if Instant::now() >= deadline {
            bail!("{interface} in namespace {} did not come up", namespace.name());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
