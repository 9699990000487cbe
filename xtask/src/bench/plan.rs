//! Who is on the bench: devices, networks, and the hosts of its "internet".
//!
//! The public addresses are real ones, so that every geo database has an answer; they exist only
//! inside the bench, which has no route to the outside.

/// A LAN interface of the gateway, with the networks behind it.
#[derive(Debug)]
pub struct Lan {
    /// Interface name in the gateway.
    pub interface: &'static str,
    /// MAC address of the gateway there.
    pub mac: &'static str,
    /// The gateway's IPv4 address; the network is a /24.
    pub gateway4: &'static str,
    /// The gateway's IPv6 address; the network is a /64.
    pub gateway6: &'static str,
    /// The IPv4 network.
    pub network4: &'static str,
    /// The IPv6 network (a ULA, RFC 4193).
    pub network6: &'static str,
}

/// The phones' LAN, behind a switch.
pub const LAN0: Lan = Lan {
    interface: "lan0",
    mac: "02:1a:b0:00:00:01",
    gateway4: "192.168.77.1",
    gateway6: "fd4c:6162:6761:77::1",
    network4: "192.168.77.0/24",
    network6: "fd4c:6162:6761:77::/64",
};

/// The smart device's link, without a switch.
pub const LAN1: Lan = Lan {
    interface: "lan1",
    mac: "02:1a:b0:00:00:02",
    gateway4: "192.168.78.1",
    gateway6: "fd4c:6162:6761:78::1",
    network4: "192.168.78.0/24",
    network6: "fd4c:6162:6761:78::/64",
};

/// All LANs.
pub const LANS: [&Lan; 2] = [&LAN0, &LAN1];

/// The link between gateway and internet (RFC 5737 and RFC 3849 documentation ranges).
pub(super) struct Wan {
    pub(super) gateway4: &'static str,
    pub(super) gateway6: &'static str,
    pub(super) internet4: &'static str,
    pub(super) internet6: &'static str,
}

pub(super) const WAN: Wan = Wan {
    gateway4: "203.0.113.2",
    gateway6: "2001:db8:ffff::2",
    internet4: "203.0.113.1",
    internet6: "2001:db8:ffff::1",
};

/// A device under test.
#[derive(Debug)]
pub struct Spec {
    /// Its name, also of its namespace.
    pub name: &'static str,
    /// Its MAC address, lower-case hex with colons.
    pub mac: &'static str,
    /// Its IPv4 address.
    pub ipv4: &'static str,
    /// Its IPv6 address.
    pub ipv6: &'static str,
    /// Where it is plugged in.
    pub lan: &'static Lan,
}

/// Five phones and one smart device. `iphone` and `mi-4` have random (locally administered) MAC
/// addresses, the others carry the OUI of their maker.
pub const DEVICES: [Spec; 6] = [
    Spec {
        name: "redmi-note",
        mac: "64:09:80:4e:6f:01",
        ipv4: "192.168.77.11",
        ipv6: "fd4c:6162:6761:77::11",
        lan: &LAN0,
    },
    Spec {
        name: "redmi-1s",
        mac: "f8:a4:5f:1d:53:02",
        ipv4: "192.168.77.12",
        ipv6: "fd4c:6162:6761:77::12",
        lan: &LAN0,
    },
    Spec {
        name: "mi-4",
        mac: "46:3c:91:a7:20:03",
        ipv4: "192.168.77.13",
        ipv6: "fd4c:6162:6761:77::13",
        lan: &LAN0,
    },
    Spec {
        name: "galaxy",
        mac: "8c:77:12:5a:11:04",
        ipv4: "192.168.77.14",
        ipv6: "fd4c:6162:6761:77::14",
        lan: &LAN0,
    },
    Spec {
        name: "iphone",
        mac: "da:1b:2c:3d:4e:05",
        ipv4: "192.168.77.15",
        ipv6: "fd4c:6162:6761:77::15",
        lan: &LAN0,
    },
    Spec {
        name: "smart-plug",
        mac: "10:d5:61:7b:0c:06",
        ipv4: "192.168.78.21",
        ipv6: "fd4c:6162:6761:78::21",
        lan: &LAN1,
    },
];

/// A host of the internet; all services run on every one.
#[derive(Debug)]
pub struct Host {
    /// Its DNS name.
    pub name: &'static str,
    /// Its IPv4 address.
    pub ipv4: &'static str,
    /// Its IPv6 address, if it has one.
    pub ipv6: Option<&'static str>,
}

/// The public resolver (USA); it answers for [`HOSTS`].
pub const RESOLVER: &str = "8.8.8.8";

/// In the network that the Redmi Note contacts on its own (Beijing).
pub const WATCHED: Host = Host { name: "idle.redmi.example", ipv4: "42.62.48.17", ipv6: None };

/// Where the Redmi 1S sent its owner's data (Beijing).
pub const ACCOUNT: Host = Host { name: "api.account.xiaomi.com", ipv4: "42.62.94.2", ipv6: None };

/// Mi Cloud after its move: Singapore.
pub const CLOUD_SG: Host =
    Host { name: "sg.micloud.example", ipv4: "161.117.70.5", ipv6: Some("2406:da18::5") };

/// Mi Cloud after its move: USA.
pub const CLOUD_US: Host =
    Host { name: "us.micloud.example", ipv4: "52.32.10.10", ipv6: Some("2600:1f14::5") };

/// A server in India.
pub const INDIA: Host =
    Host { name: "news.india.example", ipv4: "13.126.5.5", ipv6: Some("2405:200::7") };

/// A server in Germany.
pub const GERMANY: Host =
    Host { name: "cdn.germany.example", ipv4: "88.198.10.10", ipv6: Some("2a01:4f8::5") };

/// The smart device's cloud in China.
pub const CHINA: Host =
    Host { name: "mqtt.smart.example", ipv4: "120.92.96.35", ipv6: Some("240e:e1::9") };

/// All hosts.
pub const HOSTS: [&Host; 7] = [&WATCHED, &ACCOUNT, &CLOUD_SG, &CLOUD_US, &INDIA, &GERMANY, &CHINA];
