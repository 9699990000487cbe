//! What set-up looks for, and where it comes from.

use super::Group;
use crate::verify::KEYRING;

/// Programs that Debian and its relatives have ready: what is looked for, the package that has
/// it, and what it is for. A path stands for itself.
pub(super) const PROGRAMS: &[(Group, &str, &str, &str)] = &[
    (Group::Build, "cc", "build-essential", "links the daemon and the eBPF linker"),
    (Group::Package, "dpkg-shlibdeps", "dpkg-dev", "finds out what the package depends on"),
    (Group::Package, "strip", "binutils", "takes debug information out of the packed daemon"),
    (Group::Package, "xz", "xz-utils", "packs the package"),
    (Group::Package, "systemd-analyze", "systemd", "checks the unit, and in the tests runs it"),
    (Group::Bench, "ip", "iproute2", "makes the bench's links and addresses"),
    (Group::Bench, "tc", "iproute2", "shows and sets what hangs on an interface"),
    (Group::Bench, "ethtool", "ethtool", "switches segmentation offload on and off"),
    (Group::Bench, "sysctl", "procps", "makes the gateway forward"),
    (Group::Bench, "ping", "iputils-ping", "makes ICMP traffic"),
    (Group::Bench, "curl", "curl", "makes the phones' HTTP and HTTPS traffic"),
    (Group::Bench, "openssl", "openssl", "serves HTTPS in the bench's internet"),
    (Group::Bench, "busybox", "busybox", "serves HTTP in the bench's internet"),
    (Group::Bench, "dnsmasq", "dnsmasq-base", "is the bench's resolver"),
    (Group::Bench, "dig", "bind9-dnsutils", "looks names up for the phones"),
    (Group::Bench, "iperf3", "iperf3", "makes fast TCP and UDP traffic"),
    (Group::Bench, "tcpdump", "tcpdump", "captures at the phones, independent of the sensor"),
    (Group::Bench, "tshark", "tshark", "counts what was captured"),
    (Group::Bench, "bpftool", "bpftool", "shows the loaded programs and maps"),
    // The package starts a service, which no test needs: `systemctl disable --now prometheus`.
    (
        Group::Test,
        "promtool",
        "prometheus",
        "checks the metrics and rules, and scrapes them (not as a service)",
    ),
    (
        Group::Test,
        "prometheus-alertmanager",
        "prometheus-alertmanager",
        "sends the alerts (not as a service)",
    ),
    (Group::Verify, KEYRING, "debian-archive-keyring", "tells Debian's kernels from others'"),
    (Group::Verify, "dpkg-deb", "dpkg", "unpacks the kernels"),
    (Group::Verify, "xz", "xz-utils", "unpacks their modules"),
    (Group::Verify, "readelf", "binutils", "finds out which libraries a machine needs"),
    (Group::Cross, "aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu", "links the daemon for arm64"),
    (Group::Cross, CROSS_LIBC, "libc6-dev-arm64-cross", "the C library that it is linked with"),
];

/// A file by which the package is known.
const CROSS_LIBC: &str = "/usr/aarch64-linux-gnu/lib/libc.so.6";
